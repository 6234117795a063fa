/** A property: a transferred zone has what the same view is answered about all names that there may be, and nothing else, each once. */
import { create } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import { EntrySchema, type HealthStatus } from "../../../gen/waymark/catalog/v1/entry_pb.js";
import { EntryStamper } from "../../../src/catalog/entry/codec.ts";
import { DNS_ZONES_KEY, NODES_NAMESPACE } from "../../../src/catalog/entry/names.ts";
import { KIND } from "../../../src/catalog/record/record.ts";
import { TraitsPool } from "../../../src/catalog/record/traits.ts";
import { DnsNames } from "../../../src/discovery/dns-names.ts";
import { CatalogReads } from "../../../src/discovery/reads.ts";
import { type DnsName, formatName } from "../../../src/dns/names/names.ts";
import { ZoneTransfers } from "../../../src/dns/transfer/transfers.io.ts";
import { dnsCatalog } from "../../../src/dns/views/catalog.ts";
import { viewersOf } from "../../../src/dns/views/views.ts";
import { parseAddress, parseBlock, reverseName } from "../../../src/lib/addresses.ts";
import { openLog } from "../../../src/lib/log.io.ts";
import { Metrics } from "../../../src/lib/metrics/metrics.ts";
import { Rng } from "../../../src/lib/rng.ts";
import { Policy } from "../../../src/policy/set/verdict.ts";
import { TEST_DNS_SETTINGS } from "../../fakes/dns-catalog.ts";
import { responseText } from "../../fakes/dns-text.ts";
import { sized } from "../../fakes/effort.ts";
import { BOUNDS, SETTINGS } from "../../fakes/options.ts";
import { rule, set } from "../../fakes/policies.ts";
import { at, draftAt, Registry, WALL } from "../../fakes/registry.ts";
import { type AskedType, ask, newResponder, questionBytes } from "../asking.ts";

const NODE = { nodeId: "a", clusterId: "c1", region: "r1", boot: "b1" };
const KEY = { name: "k", algorithm: "hmac-sha256", secret: Buffer.from("0123456789abcdef"), viewIndex: 0 } as const;
const POLICY = new Policy(set([rule("red.svc", { visibilityTenants: ["red"] })], { defaultAllow: true }), 1);
const REVERSE = "10.in-addr.arpa";
/** A zone below another one has the names below it. */
const LONGER = "a.svc.waymark";
const LONGEST = `x.${LONGER}`;
const LONGER_REVERSE = `1.${REVERSE}`;

const NAMESPACES = ["svc", "red.svc", "a.svc"];
const NAMES = ["web", "api", "Odd/name", "x".repeat(70)];
const IDS = ["1", "Two", "b"];
const PORTS = ["", "http", "svc", "rpc"];
const HOSTS = ["10.0.0.1", "10.0.0.2", "10.1.0.1", "2001:db8::1", "192.0.2.7", "db.example.com"];
/** As long as an alias may be, so that no zone has room for it. */
const LONG_ALIAS = ["l", "m", "n"]
  .map((letter) => letter.repeat(63))
  .concat("o".repeat(61))
  .join(".");
const ALIASES = ["x.svc", "web.svc", "pod.web.svc", "y.red.svc", "z.svc.waymark", "deep.er.a.svc", LONG_ALIAS];
const KINDS = [KIND.SERVICE, KIND.SERVICE, KIND.SERVICE, KIND.FUNCTION, KIND.QUEUE];
const HEALTHS: readonly HealthStatus[] = [1, 1, 2, 3, 4];
const TRANSPORTS = ["tcp", "udp", "sctp"] as const;
const TYPES: readonly AskedType[] = ["A", "NS", "CNAME", "PTR", "TXT", "AAAA", "SRV", "SVCB", "HTTPS"];

/** `named`: names of entries that are there, which one may claim as an alias in vain. */
function drawn(rng: Rng, named: string[]) {
  const one = <T>(items: readonly T[]): T => items[rng.uint32() % items.length] as T;
  const some = <T>(items: readonly T[], most: number): T[] => Array.from({ length: rng.uint32() % (most + 1) }, () => one(items));
  const ports = [...new Set(some(PORTS.slice(1), 2)), "", ""].slice(0, rng.uint32() % 4);
  const key = { kind: one(KINDS), namespace: one(NAMESPACES), name: one(NAMES), instanceId: one(IDS) };
  const claimed = named.length === 0 ? [] : some(named, 1);
  if (/^[a-z]{3}$/.test(key.name)) named.push(`${key.name}.${key.namespace}`);
  return draftAt(key, {
    targets: ports.map((name) => ({ host: one(HOSTS), port: 80 + (rng.uint32() % 3), protocol: one(["tcp", "udp", "https"]), name })),
    health: one(HEALTHS),
    aliases: [...new Set([...some(ALIASES, 2), ...claimed])],
    tags: some(["t1", "t2"], 1),
  });
}

/** A node with a gateway. */
function gateway(zones: readonly string[]) {
  const targets = [{ host: "192.0.2.9", port: 53, protocol: "udp", name: "dns" }];
  const key = { kind: KIND.NODE, namespace: NODES_NAMESPACE, name: "n", instanceId: "n" };
  const entry = create(EntrySchema, { key, targets, health: 1, metadata: { [DNS_ZONES_KEY]: zones.join(" ") } });
  const stamper = new EntryStamper({ bounds: BOUNDS, traits: new TraitsPool() });
  return stamper.entryOfNode(entry, { ...NODE, zone: "z1", tenantId: "", receivedWallMs: WALL });
}

/** All names that entries of these parts may give. */
function candidates(zone: string): readonly string[] {
  if (zone.endsWith(REVERSE)) return [zone, ...HOSTS.flatMap((host) => parseAddress(host) ?? []).map(reverseName)];
  const forms = NAMESPACES.flatMap((namespace) =>
    NAMES.flatMap((name): readonly DnsName[] => [
      { form: "direct", name, namespace },
      ...TRANSPORTS.flatMap((transport): readonly DnsName[] => [
        ...[KIND.SERVICE, KIND.FUNCTION, KIND.QUEUE].map((kind) => ({ form: "located", kind, transport, name, namespace }) as const),
        ...PORTS.slice(1).map((port) => ({ form: "located", kind: KIND.SERVICE, transport, port, name, namespace }) as const),
        ...IDS.map((instanceId) => ({ form: "instance", transport, instanceId, name, namespace }) as const),
      ]),
    ]),
  );
  const names = forms.flatMap((form) => formatName(form, zone) ?? []);
  const mpreg = names.flatMap((name) => (name.startsWith("_rpc.") ? [name.replace("_rpc", "_mpreg")] : []));
  const domains = [...NAMESPACES.map((namespace) => `${namespace}.${zone}`), ...names.filter((name) => !name.startsWith("_"))];
  // One that ends in the zone is both: in full, and below the zone.
  const aliases = ALIASES.flatMap((alias) => [...(alias.endsWith(`.${zone}`) ? [alias] : []), `${alias}.${zone}`]).filter(
    (name) => name.length <= 253,
  );
  const node = formatName({ form: "node", nodeId: "n" }, zone) ?? "";
  return [zone, node, ...names, ...mpreg, ...aliases, ...domains.map((domain) => `_services._dns-sd._udp.${domain}`)];
}

const isOfAddress = (line: string): boolean => /^\S+\.addr\.node\./.test(line);
/** Names of addresses belong to no entry, and have one TTL. That of others is the least of an answer, which may show a part of the entries. */
const compared = (line: string): string => (isOfAddress(line) ? line : line.replace(/^(\S+) \d+ /, "$1 "));
const areSoa = (line: string): boolean => / SOA /.test(line);

test.each([
  { zone: "waymark", zones: ["waymark"], cuts: [], rounds: sized(8, 2) },
  { zone: REVERSE, zones: ["waymark"], cuts: [], rounds: 8 },
  { zone: "waymark", zones: ["waymark", LONGER, LONGEST], cuts: [LONGER], rounds: sized(2, 1) },
  { zone: "waymark", zones: ["waymark", "addr.node.waymark"], cuts: ["addr.node.waymark"], rounds: sized(2, 1) },
  { zone: LONGER, zones: ["waymark", LONGER, LONGEST], cuts: [LONGEST], rounds: sized(2, 1) },
  { zone: LONGEST, zones: ["waymark", LONGER, LONGEST], cuts: [], rounds: 1 },
  { zone: REVERSE, zones: ["waymark", LONGER_REVERSE], cuts: [LONGER_REVERSE], rounds: 2 },
  { zone: REVERSE, zones: ["waymark"], reverseZones: [REVERSE, LONGER_REVERSE], cuts: [LONGER_REVERSE], rounds: 2 },
  { zone: LONGER_REVERSE, zones: ["waymark"], reverseZones: [REVERSE, LONGER_REVERSE], cuts: [], rounds: 2 },
])("of $zones the transferred zone $zone is what is answered about all its names, in each view, and the cuts $cuts", async (drawing) => {
  const { zone, zones, cuts, reverseZones = [REVERSE], rounds } = drawing;
  const all = [...zones, ...reverseZones];
  const settings = { ...TEST_DNS_SETTINGS, zones, reverseZones };
  const isIn = (owner: string) =>
    all.filter((each) => `.${owner}`.endsWith(`.${each}.`)).toSorted((a, b) => b.length - a.length)[0] === zone;
  for (let round = 0; round < rounds; round++) {
    const rng = new Rng(`transfer ${round}`);
    const r = new Registry();
    const named: string[] = [];
    for (let i = rng.uint32() % 12; i >= 0; i--) r.register("ann", [drawn(rng, named)], at(0), { isStatic: true });
    r.register("root", [gateway(all)], at(0), { isStatic: true });
    const policies = { policy: POLICY };
    const reads = new CatalogReads(r.replica, NODE, { policies, onDenied: () => {} });
    const blocks = [parseBlock("10.0.0.0/8") ?? []].flat();
    const viewers = viewersOf(
      { views: [], transferKeys: [{ tenant: "red", cluster: undefined, region: undefined, zone: undefined }] },
      NODE,
    );
    const transfers = new ZoneTransfers({
      reads,
      policies,
      clusterId: NODE.clusterId,
      zones,
      blocks,
      catalog: SETTINGS.catalog,
      viewers,
      settings,
      serialOf: () => 7,
      metrics: new Metrics(),
      log: openLog({ level: "silent", scopes: new Map(), format: "json" }).child("dns"),
    });
    const dnsNames = new DnsNames(r.replica, zones, blocks);
    dnsNames.refresh();
    for (const viewer of viewers) {
      const sources = { reads, replica: r.replica, dnsNames, identity: NODE, policies };
      const catalog = dnsCatalog(() => 0, sources, undefined, viewer);
      const responder = newResponder({ settings });
      const answered = new Set<string>();
      const hosts = new Set<string>();
      for (const name of candidates(zone))
        for (const type of TYPES) {
          const { answers, additional } = ask(responder, catalog, type, name);
          for (const line of [...answers, ...additional]) {
            const [owner = ""] = line.split(" ");
            if (isIn(owner) && isOfAddress(line)) hosts.add(owner.slice(0, -1));
            else if (isIn(owner)) answered.add(compared(line));
          }
        }
      // Beside a record they have its TTL.
      for (const host of hosts)
        for (const type of ["A", "AAAA"] as const) for (const line of ask(responder, catalog, type, host).answers) answered.add(line);
      const signing = {
        key: KEY,
        keyName: "k",
        algorithm: KEY.algorithm,
        requestMac: Buffer.alloc(32),
        timeSigned: 0,
        error: 0,
        other: Buffer.alloc(0),
        isUnsigned: false,
      };
      const request = {
        id: 1,
        question: questionBytes(252, zone).slice(12),
        opt: new Uint8Array(),
        isPadded: false,
        zone,
        signing,
        viewIndex: viewer.view.index,
      };
      const sent: string[] = [];
      for await (const message of transfers.start(request, "127.0.0.1"))
        sent.push(
          ...responseText(message)
            .split("\n")
            .flatMap((line) => (line.startsWith("answer") ? [compared(line.slice(11))] : [])),
        );
      const isOwn = (line: string) => isIn(line.split(" ")[0] ?? "");
      // Where a longer zone begins stand its name servers, as it tells them itself, and their addresses if they are named below.
      const delegations = cuts.flatMap((cut) => {
        const { answers, additional } = ask(responder, catalog, "NS", cut);
        return [...answers, ...additional.filter((line) => line.split(" ")[0]?.endsWith(`.${cut}.`))].map(compared);
      });
      expect(sent.filter((line) => !isOwn(line)).toSorted()).toEqual(delegations.toSorted());
      const types = delegations.map((line) => line.replace(/^\S+ (?:\d+ )?/, "").split(" ")[0]);
      expect(types).toEqual(cuts.flatMap((cut) => (reverseZones.includes(cut) ? ["NS", "NS"] : ["NS", "NS", "A"])));
      const records = sent.filter((line) => !areSoa(line) && isOwn(line));
      expect([round, viewer.view.index, records.toSorted()]).toEqual([
        round,
        viewer.view.index,
        [...answered].filter((line) => !areSoa(line)).toSorted(),
      ]);
      expect([sent[0], sent.at(-1)].map((line) => areSoa(line ?? ""))).toEqual([true, true]);
    }
  }
});
