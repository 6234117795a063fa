/** What is hidden and what is absent cost the same work, so that the time does not tell them apart. How long it takes is measured in `test/nightly/dns-timing.test.ts`. */
import { expect, test } from "vitest";
import { KIND } from "../../../src/catalog/record/record.ts";
import { DnsNames } from "../../../src/discovery/dns-names.ts";
import { CatalogReads } from "../../../src/discovery/reads.ts";
import { DnsResponder } from "../../../src/dns/server/responder.ts";
import { dnsCatalog } from "../../../src/dns/views/catalog.ts";
import { onlyView } from "../../../src/dns/views/query-client.ts";
import { Policy, type PolicyVerdict } from "../../../src/policy/set/verdict.ts";
import { SECRET_SETTINGS, secretCatalogs } from "../../fakes/dns-secrets.ts";
import { queryBytes } from "../../fakes/dns-text.ts";
import { SETTINGS } from "../../fakes/options.ts";
import { rule, set } from "../../fakes/policies.ts";
import { at, draftAt, Registry } from "../../fakes/registry.ts";

/** Words of one length: one that only others may see, and one that nobody has. */
const [HIDDEN, ABSENT] = ["rubyred", "emerald"];
const FORMS = [
  "web.@",
  "nope.@",
  "_svc._tcp.web.@",
  "_svc._tcp.nope.@",
  "_http._tcp.web.@",
  "_rpc._tcp.sum.@",
  "_queue._tcp.jobs.deep.below.@",
  "x.web.@",
  "www.@",
  "a.longer.name.below.web.@",
  "@-i1._svc._tcp.web.@",
  "_services._dns-sd._udp.@",
  "_services._dns-sd._udp.web.@",
  "deep.below.@",
  "@",
];

test.each(["A", "SRV", "TXT", "PTR", "SOA", "CNAME", "ANY"])(
  "questions for %s of hidden and of absent names make the same looks at the catalog, and the same bytes",
  (type) => {
    const looks: string[] = [];
    const [anonymous] = secretCatalogs((what) => looks.push(what));
    if (anonymous === undefined) throw new Error("there is an anonymous view");
    const work = (form: string, word: string) => {
      const responder = new DnsResponder({
        settings: SECRET_SETTINGS,
        planBytes: SETTINGS.dns.planBytes,
        random: () => 0.5,
        serialOf: () => 7,
      });
      const query = queryBytes({ name: `${form.replaceAll("@", word)}.waymark`, type });
      return ["planned", "kept"].map((when) => {
        looks.length = 0;
        const { bytes, rcode } = responder.respond(query, "udp", () => onlyView(anonymous)) ?? { bytes: new Uint8Array(), rcode: "" };
        return { form, when, rcode, looks: looks.toSorted().join(" "), bytes: Buffer.from(bytes).toString("latin1").replaceAll(word, "@") };
      });
    };
    for (const form of FORMS) expect(work(form, HIDDEN)).toEqual(work(form, ABSENT));
  },
);

/** A policy that counts how often it was asked. */
class CountingPolicy extends Policy {
  count = 0;

  override viewer(...about: Parameters<Policy["viewer"]>): PolicyVerdict {
    this.count += 1;
    return super.viewer(...about);
  }
}

test.each([
  { what: "namespaces", name: "@", namespaces: (n: number) => `t${n}.rubyred`, aliases: [] },
  { what: "namespaces in a hidden one", name: "below.@", namespaces: (n: number) => `t${n}.below.rubyred`, aliases: [] },
  { what: "aliases", name: "@.open", namespaces: (n: number) => `t${n}.rubyred`, aliases: ["x.rubyred.open"] },
  { what: "carriers of an alias", name: "@.open", namespaces: (n: number) => `t${n}.rubyred`, aliases: ["rubyred.open"] },
])("a name with 400 hidden $what at it or below it takes as many verdicts as an absent one", ({ name, namespaces, aliases }) => {
  const policy = new CountingPolicy(set([rule("open", {})], { defaultAllow: false }), 1);
  const r = new Registry();
  const drafts = Array.from({ length: 400 }, (_, n) =>
    draftAt({ kind: KIND.SERVICE, namespace: namespaces(n), name: "web", instanceId: "1" }, { aliases }),
  );
  r.register("ann", [draftAt({ kind: KIND.SERVICE, namespace: "open", name: "web", instanceId: "1" }, {}), ...drafts], at(0), {
    isStatic: true,
  });
  r.flush(at(0));
  const node = { nodeId: "n1", clusterId: "c1", region: "r1", boot: "b1" };
  const [policies, dnsNames] = [{ policy }, new DnsNames(r.replica, ["waymark"])];
  dnsNames.refresh();
  const reads = new CatalogReads(r.replica, node, { policies, onDenied: () => undefined });
  const view = onlyView(dnsCatalog(() => 0, { reads, replica: r.replica, dnsNames, identity: node, policies }));
  const asked = (word: string) => {
    const responder = new DnsResponder({
      settings: SECRET_SETTINGS,
      planBytes: SETTINGS.dns.planBytes,
      random: () => 0.5,
      serialOf: () => 7,
    });
    const before = policy.count;
    const reply = responder.respond(queryBytes({ name: `${name.replace("@", word)}.waymark`, type: "A" }), "udp", () => view);
    return { rcode: reply?.rcode, count: policy.count - before };
  };
  // What is seen is listed once, when it is found out that much is hidden.
  asked(HIDDEN);
  const [hidden, absent] = [asked(HIDDEN), asked(ABSENT)];
  expect([hidden.rcode, absent.rcode]).toEqual(["NXDOMAIN", "NXDOMAIN"]);
  // That one is hidden is noticed, for the audit.
  expect(hidden.count - absent.count).toBeLessThanOrEqual(1);
});
