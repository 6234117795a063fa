/** What is hidden and what is absent cost the same work, so that the time does not tell them apart. How long it takes is measured in `test/nightly/dns-timing.test.ts`. */
import { expect, test } from "vitest";
import { Responder } from "../../../src/dns/server/responder.ts";
import { onlyView } from "../../../src/dns/views/asker.ts";
import { SECRET_SETTINGS, secretCatalogs } from "../../fakes/dns-secrets.ts";
import { queryBytes } from "../../fakes/dns-text.ts";
import { SETTINGS } from "../../fakes/options.ts";

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
      const responder = new Responder({
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
