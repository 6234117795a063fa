/** The catalog as DNS reads it: what policy hides from an anonymous caller, and what of it each answer reports. */
import { durationFromMs } from "@bufbuild/protobuf/wkt";
import { expect, test } from "vitest";
import { HealthStatus } from "../../../gen/waymark/catalog/v1/entry_pb.js";
import { EntryStamper } from "../../../src/catalog/entry/codec.ts";
import { HEALTH, KIND, type OriginStatus } from "../../../src/catalog/record/record.ts";
import { TraitsPool } from "../../../src/catalog/record/traits.ts";
import { DnsNames } from "../../../src/discovery/dns-names.ts";
import { CatalogReads } from "../../../src/discovery/reads.ts";
import { encodeLabel } from "../../../src/dns/names/labels.ts";
import { setsAt } from "../../../src/dns/plan/answer.ts";
import { DEFAULT_VIEW } from "../../../src/dns/subject/subject.ts";
import { dnsCatalog } from "../../../src/dns/views/catalog.ts";
import { CredentialViews } from "../../../src/dns/views/credential-views.ts";
import type { ViewerOfView } from "../../../src/dns/views/views.ts";
import { anonymousCaller } from "../../../src/policy/identity/caller.ts";
import { NO_POLICY, Policy } from "../../../src/policy/set/verdict.ts";
import { type NodeFactsToPublish, nodeEntry } from "../../../src/services/node-entry.ts";
import { decodedChars, largeFields } from "../../fakes/decoded-text.ts";
import { entryView, TEST_DNS_SETTINGS } from "../../fakes/dns-catalog.ts";
import { BOUNDS } from "../../fakes/options.ts";
import { rule, set } from "../../fakes/policies.ts";
import { at, draftAt, Registry, WALL } from "../../fakes/registry.ts";
import { ask, newResponder } from "../asking.ts";

const NODE = { nodeId: "a", clusterId: "c1", region: "r1", boot: "b1" };
/** Only the tenant blue sees `svc`, and a caller of DNS has no tenant. */
const HIDING = new Policy(set([rule("svc", { visibilityTenants: ["blue"] })], { defaultAllow: true }), 1);
const CROWD = 4_200;
const stamper = new EntryStamper({ bounds: BOUNDS, traits: new TraitsPool(16) });

function open(names: readonly string[]) {
  const r = new Registry();
  const entries = names.map((instanceId) =>
    draftAt({ kind: KIND.SERVICE, namespace: "svc", name: "web", instanceId }, { aliases: instanceId === "0" ? ["shop.example"] : [] }),
  );
  r.register("ann", entries, at(0), { isStatic: true });
  const policies = { policy: NO_POLICY };
  const reads = new CatalogReads(r.replica, NODE, { policies, onDenied: () => {} });
  let readCount = 0;
  const readEntry = reads.entry.bind(reads);
  reads.entry = (record) => {
    readCount += 1;
    return readEntry(record);
  };
  const dnsNames = new DnsNames(r.replica, ["waymark"]);
  dnsNames.refresh();
  const self = entryView({ kind: KIND.SERVICE, namespace: "discovery.resolvers", name: "a", instanceId: "a" });
  const sources = { reads, replica: r.replica, dnsNames, identity: NODE, policies, self };
  const catalog = dnsCatalog(() => 0, sources);
  const viewing = (viewer: ViewerOfView) => dnsCatalog(() => 0, sources, undefined, viewer);
  const change = (policy: Policy): void => {
    policies.policy = policy;
    reads.show(policy);
    reads.settle(policy);
  };
  const putNode = (name: string, facts: Partial<NodeFactsToPublish> = {}, clusterId = NODE.clusterId) => {
    const entry = nodeEntry({ nodeId: name, name: undefined, roles: [], resources: [], labels: {}, dnsZones: [], listeners: {}, ...facts });
    const stamp = { ...NODE, clusterId, zone: "z1", tenantId: "", receivedWallMs: WALL };
    r.register("root", [stamper.entryOfNode(entry, stamp)], at(0), { isStatic: true });
  };
  const put = (
    key: { readonly name: string; readonly namespace?: string; readonly instanceId?: string },
    entry: Parameters<typeof draftAt>[1],
  ) => r.register("ann", [draftAt({ kind: KIND.SERVICE, namespace: "svc", instanceId: "i1", ...key }, entry)], at(0), { isStatic: true });
  const turn = (life: OriginStatus) => r.replica.setLife(r.replica.self, life);
  return { catalog, viewing, change, put, putNode, turn, readCount: () => readCount };
}

const target = (host: string) => ({ host, port: 80, protocol: "tcp" });

test("a set is whole or TC is set, however many instances a name has, unless there is a limit of answers", () => {
  const { put, viewing } = open([]);
  for (const [name, count] of Object.entries({ web: 4_097, api: 4_080, db: 1_300 }))
    for (let i = 0; i < count; i++) put({ name, instanceId: `${i}` }, { targets: [target(`10.0.${i >> 8}.${i & 255}`)] });
  const told = (type: "A" | "ANY" | "SRV" | "TXT", name: string, answerLimit?: number) => {
    const catalog = viewing({ view: { ...DEFAULT_VIEW, answerLimit }, caller: anonymousCaller("c1", "") });
    const { answers, isTruncated } = ask(newResponder(), catalog, type, `${type === "SRV" ? "_svc._tcp." : ""}${name}.svc.waymark`);
    return [answers.length, isTruncated];
  };
  // Some more addresses fit into no message.
  expect(told("A", "api")).toEqual([4_080, false]);
  expect(told("SRV", "api")).toEqual([1_376, true]);
  expect(told("SRV", "db")).toEqual([1_300, false]);
  // Of more instances than may fit there is a sample.
  expect(told("A", "web")).toEqual([820, true]);
  expect(told("SRV", "web")).toEqual([820, true]);
  expect(told("ANY", "web")).toEqual([1, false]);
  expect(told("A", "web", 20)).toEqual([20, false]);
  expect(told("SRV", "web", 20)).toEqual([20, false]);
  // Even where it has fewer records than the limit allows.
  expect(told("A", "web", 4_096)).toEqual([820, false]);
  // Facts have no limit of answers.
  expect(told("TXT", "web", 20)).toEqual([1, true]);
});

test("for large entries, a TXT query reads only a bounded number and sets TC, and an address query reads all", () => {
  const { put, viewing, readCount } = open([]);
  const tags = Array.from({ length: 60 }, (_, k) => `${k}-`.padEnd(120, "x"));
  for (let i = 0; i < 1_000; i++)
    put({ name: "web", instanceId: `${i}` }, { tags: [...tags, `own-${i}`], targets: [target(`10.0.${i >> 8}.${i & 255}`)] });
  const catalog = viewing({ view: DEFAULT_VIEW, caller: anonymousCaller("c1", "") });
  const told = (type: "A" | "TXT", name: string) => {
    const before = readCount();
    const { isTruncated } = ask(newResponder(), catalog, type, name);
    return [readCount() - before, isTruncated];
  };
  expect(told("A", "web.svc.waymark")).toEqual([1_000, false]);
  for (const name of ["web.svc.waymark", "_svc._tcp.web.svc.waymark"]) {
    const [count, isTruncated] = told("TXT", name);
    expect(count).toBeLessThan(150);
    expect(isTruncated).toBe(true);
  }
});

test("of large entries, only a question for texts decodes more than targets and what orders them", () => {
  const { put, viewing } = open([]);
  const count = 1_000;
  for (let i = 0; i < count; i++)
    put({ name: "web", instanceId: `${i}` }, { ...largeFields(), targets: [{ ...target(`10.0.${i >> 8}.${i & 255}`), protocol: "http" }] });
  const catalog = viewing({ view: DEFAULT_VIEW, caller: anonymousCaller("c1", "") });
  const asked = (type: "A" | "AAAA" | "HTTPS" | "PTR" | "SRV" | "SVCB" | "TXT", name: string) => {
    let answerCount = 0;
    const chars = decodedChars(() => {
      answerCount = ask(newResponder(), catalog, type, name).answers.length;
    });
    return { answerCount, isLight: chars / count < 150 };
  };
  for (const type of ["A", "AAAA", "HTTPS", "SVCB"] as const)
    expect(asked(type, "web.svc.waymark")).toEqual({ answerCount: type === "A" ? count : 0, isLight: true });
  expect(asked("SRV", "_svc._tcp.web.svc.waymark")).toEqual({ answerCount: count, isLight: true });
  expect(asked("PTR", "_svc._tcp.web.svc.waymark")).toEqual({ answerCount: 500, isLight: true });
  expect(asked("TXT", "web.svc.waymark").isLight).toBe(false);
});

test("the sets of a name in a transfer are those of the turn in which it was read, whatever changes while they are sent", () => {
  const { put, catalog } = open([]);
  const putWith = (tag: string) => put({ name: "web" }, { tags: [tag], targets: [target("10.0.0.1")] });
  putWith("before");
  const strings: string[] = [];
  for (const records of setsAt("web.svc.waymark", "waymark", { catalog, settings: TEST_DNS_SETTINGS })) {
    for (const record of records) if (record.type === "TXT") strings.push(...record.data.strings);
    // The slab gives the bytes of the first of these to the last.
    for (const tag of ["during", "later1"]) putWith(tag);
  }
  expect(strings).toContain("tags=before");
});

test.each([
  { hosts: 10, type: "A", told: 700, isTruncated: false },
  { hosts: 10, type: "SRV", told: 1_398, isTruncated: true },
  { hosts: 64, type: "A", told: 4_060, isTruncated: true },
] as const)("of more targets than are read, at $hosts hosts an instance, $type tells $told, and TC: $isTruncated", (row) => {
  const { put, catalog } = open([]);
  for (let i = 0; i < 70; i++) {
    const targets = Array.from({ length: 64 }, (_, k) => ({ ...target(`10.0.${i}.${k % row.hosts}`), port: 1 + k }));
    put({ name: "web", instanceId: `${i}` }, { targets });
  }
  const answer = ask(newResponder(), catalog, row.type, `${row.type === "SRV" ? "_svc._tcp." : ""}web.svc.waymark`);
  expect([answer.answers.length, answer.isTruncated]).toEqual([row.told, row.isTruncated]);
});

test("what was drained is in no record either once its node is away", () => {
  const { catalog, put, turn } = open([]);
  const targets = [{ host: "192.0.2.1", port: 80, protocol: "tcp" }];
  put({ name: "web" }, { health: HealthStatus.MAINTENANCE, targets, aliases: ["shop.example"] });
  put({ name: "api" }, { health: HealthStatus.HEALTHY, targets });
  const responder = newResponder();
  const told = () =>
    (["A", "SRV", "SVCB"] as const).map((type) => {
      const start = type === "A" ? "" : "_svc._tcp.";
      const countOf = (name: string) => ask(responder, catalog, type, `${start}${name}.svc.waymark`).answers.length;
      return [type, countOf("web"), countOf("api")];
    });
  const want = [
    ["A", 0, 1],
    ["SRV", 0, 1],
    ["SVCB", 0, 1],
  ];
  expect(told()).toEqual(want);
  turn("orphaned");
  expect(told()).toEqual(want);
  turn("live");
  expect(told()).toEqual(want);
});

test("of views that have one index, one after the other, none gets what was planned for another", () => {
  const { viewing, change } = open(["0"]);
  change(HIDING);
  const responder = newResponder();
  const views = new CredentialViews(1, viewing);
  const rcodeOf = (tenant: string) =>
    ask(responder, views.find({ ...anonymousCaller("c1", ""), tenant }, DEFAULT_VIEW), "A", "web.svc.waymark").rcode;
  const rcodes = ["blue", ...Array.from({ length: 300 }, (_, i) => `t${i}`), "blue"].map(rcodeOf);
  expect([rcodes[0], rcodes.at(-1)]).toEqual(["NOERROR", "NOERROR"]);
  expect(new Set(rcodes.slice(1, -1))).toEqual(new Set(["NXDOMAIN"]));
});

test("the name of the serving resolver is its own, and a node's as soon as a node has that id", () => {
  const { catalog, putNode } = open(["0"]);
  const namespacesOf = (name: string) => catalog.find(KIND.NODE, "discovery.nodes", name).map(({ key }) => key.namespace);
  expect([namespacesOf("a"), namespacesOf("b"), catalog.find(KIND.SERVICE, "discovery.nodes", "a")]).toEqual([
    ["discovery.resolvers"],
    [],
    [],
  ]);
  putNode("a");
  expect(namespacesOf("a")).toEqual(["discovery.nodes"]);
});

test("gateways of a zone are nodes of this cluster that say that they serve it, where others reach them", () => {
  const { catalog, putNode, turn } = open(["0"]);
  const listening = (dns: string, grpc = dns) => ({ dns: { host: dns, port: 53 }, grpc: { host: grpc, port: 17_420 } });
  putNode("n1", { dnsZones: ["mesh", "waymark"], listeners: listening("10.9.0.1") });
  putNode("n2", { dnsZones: ["mesh"], listeners: listening("10.9.0.2") });
  putNode("n3", { dnsZones: ["waymark"], listeners: listening("10.9.0.3") }, "c2");
  putNode("n4", { dnsZones: ["waymark"], listeners: { grpc: { host: "10.9.0.4", port: 17_420 } } });
  putNode("n5", { dnsZones: ["waymark"], listeners: listening("127.0.0.1", "10.9.0.5") });
  putNode("n6", { dnsZones: ["waymark"], listeners: listening("127.0.0.1") });
  const idsOf = (zone: string) => catalog.gateways(zone).map(({ key }) => key.name);
  expect([idsOf("waymark"), idsOf("mesh"), idsOf("other")]).toEqual([["n1", "n6"], ["n1", "n2"], []]);
  // As many zones as metadata hold are told, and never a part of one.
  putNode("n7", { dnsZones: Array.from({ length: 300 }, (_, i) => `zone${i}`), listeners: listening("10.9.0.7") });
  expect([idsOf("zone100"), idsOf("zone299"), idsOf("zone1")]).toEqual([["n7"], [], ["n7"]]);
  for (let i = 10; i < 30; i++) putNode(`n${i}`, { dnsZones: ["waymark"], listeners: listening(`10.9.0.${i}`) });
  expect(idsOf("waymark")).toEqual(["n1", "n10", "n11", "n12", "n13", "n14", "n15", "n16"]);
  // Of a node that is away nobody knows whether it answers.
  turn("orphaned");
  expect(idsOf("waymark")).toEqual([]);
});

test("the services of a namespace are those that show something, and of a hidden namespace none", () => {
  const { catalog, change, put, turn } = open(["0", "1"]);
  put({ name: "dns", instanceId: "a" }, { targets: [{ host: "10.0.0.1", port: 53, protocol: "udp" }] });
  put({ name: "dns", instanceId: "b" }, { ttl: durationFromMs(5_000), targets: [{ host: "10.0.0.1", port: 53, protocol: "tcp" }] });
  put({ name: "dns", instanceId: "c" }, { health: HealthStatus.DEGRADED, targets: [{ host: "10.0.0.1", port: 53, protocol: "tcp" }] });
  put({ name: "away", instanceId: "a" }, { health: HealthStatus.MAINTENANCE });
  put({ name: "bare", instanceId: "a" }, { health: HealthStatus.MAINTENANCE, targets: [] });
  put({ name: "web", namespace: "svc.eu" }, {});
  const items = [
    { name: "dns", transports: ["udp", "tcp"] },
    { name: "web", transports: ["tcp"] },
  ];
  const ttlSources = [undefined, 5_000].map((ttlMs) => ({ health: HEALTH.HEALTHY, ttlMs }));
  const unwell = { health: HEALTH.DEGRADED, ttlMs: undefined };
  expect(catalog.services("svc")).toEqual({ items, isCut: false, ttlSources: [...ttlSources, unwell], hasDrained: true });
  expect(catalog.services("sv")).toEqual({ items: [], isCut: false });
  turn("orphaned");
  expect(catalog.services("svc")).toMatchObject({ items, ttlSources: ttlSources.map(({ ttlMs }) => ({ health: HEALTH.ORPHANED, ttlMs })) });
  turn("live");
  expect(catalog.find(KIND.SERVICE, "svc", "dns", undefined, "b").map(({ key }) => key.instanceId)).toEqual(["b"]);
  expect(catalog.find(KIND.SERVICE, "svc", "web", undefined, "b")).toEqual([]);
  for (let i = 0; i < 498; i++) put({ name: `many${i}` }, {});
  expect(catalog.services("svc")).toMatchObject({ isCut: false });
  put({ name: "one-more" }, {});
  expect(catalog.services("svc")).toMatchObject({ isCut: true });
  expect(catalog.services("svc").items).toHaveLength(500);
  expect(catalog.takeHidden()).toEqual([]);
  change(HIDING);
  expect(catalog.services("svc")).toEqual(catalog.services("absent"));
  expect(catalog.takeHidden()).toEqual(["svc"]);
});

test("a hidden name and a hidden alias are absent, and each is reported with one answer and not with the next", () => {
  const { catalog, change } = open(["0", "1"]);
  expect(catalog.find(KIND.SERVICE, "svc", "web")).toHaveLength(2);
  expect(catalog.findAlias("shop.example", "waymark")).toHaveLength(1);
  expect(catalog.takeHidden()).toEqual([]);
  change(HIDING);
  expect(catalog.find(KIND.SERVICE, "svc", "web")).toEqual([]);
  expect(catalog.hasNameUnder("svc", "waymark")).toBe(false);
  expect(catalog.takeHidden()).toEqual(["svc"]);
  expect(catalog.takeHidden()).toEqual([]);
  expect(catalog.findAlias("shop.example", "waymark")).toEqual([]);
  expect(catalog.takeHidden()).toEqual(["svc"]);
  expect(catalog.takeHidden()).toEqual([]);
});

test("an alias that is called as a hidden namespace, or lies in it, is hidden as that is", () => {
  const { catalog, change, put } = open([]);
  const aliases = ["own.dark", "x.own.dark", "dark.example"];
  put({ name: "web" }, { aliases });
  catalog.changes.catchUp();
  const found = () => aliases.map((alias) => [catalog.findAlias(alias, "waymark").length, ...catalog.takeHidden()]);
  expect(found()).toEqual([[1], [1], [1]]);
  change(new Policy(set([rule("own.dark", { visibilityTenants: ["blue"] })], { defaultAllow: true }), 1));
  expect(found()).toEqual([[0, "own.dark"], [0, "own.dark"], [1]]);
});

test("records of instances go along with a list of all of them, and with none of some", () => {
  const told = (count: number) => {
    const { catalog } = open(Array.from({ length: count }, (_, i) => `${i}`));
    const { answers, additional } = ask(newResponder(), catalog, "PTR", "_svc._tcp.web.svc.waymark");
    return [answers.length > 0, additional.length > 0];
  };
  expect([told(3), told(CROWD)]).toEqual([
    [true, true],
    [true, false],
  ]);
});

test("the version of the catalog changes with the policy, so that no answer outlives it", () => {
  const { catalog, change } = open(["0"]);
  const before = catalog.version;
  change(HIDING);
  expect(catalog.version).toBeGreaterThan(before);
});

test("a crowded name gives a sample, said once, and another one the next time", () => {
  const { catalog } = open(Array.from({ length: CROWD }, (_, i) => `${i}`));
  const ids = () => catalog.find(KIND.SERVICE, "svc", "web").map(({ key }) => key.instanceId);
  const first = ids();
  expect(first.length).toBeLessThan(CROWD);
  expect([catalog.takeSampled(), catalog.takeSampled()]).toEqual([true, false]);
  expect(ids()).not.toEqual(first);
});

test("NS names a gateway from when it says that it is one, and none whose node is away", () => {
  const { catalog, putNode, turn } = open([]);
  const responder = newResponder();
  const servers = () => ask(responder, catalog, "NS", "waymark").answers.map((line) => line.split(" ").at(-1));
  const listeners = { dns: { host: "10.9.0.2", port: 53 }, grpc: { host: "10.9.0.2", port: 17_420 } };
  expect(servers()).toEqual(["n1.node.waymark."]);
  putNode("n2", { dnsZones: ["waymark"], listeners });
  expect(servers()).toContain("n2.node.waymark.");
  turn("orphaned");
  expect(servers()).toEqual(["n1.node.waymark."]);
});

test("names above those of a crowded service, of which somebody may make up any number, cost none of its entries", () => {
  const { catalog, readCount } = open(Array.from({ length: 1000 }, (_, i) => `${i}`));
  const responder = newResponder();
  const endOf = (i: number, place: "name" | "port") =>
    encodeLabel(`A${"b".repeat(40)}${i}`, place)
      ?.split(".")
      .at(-1) ?? "";
  const names = Array.from({ length: 20 }, (_, i) => [`${endOf(i, "port")}._tcp.web.svc`, `${endOf(i, "name")}._svc._tcp.web.svc`]).flat();
  for (const name of ["_tcp.web.svc", ...names])
    expect([name, ask(responder, catalog, "A", `${name}.waymark`).rcode]).toEqual([name, "NOERROR"]);
  expect(readCount()).toBe(0);
  for (const name of ["_sctp.web.svc", `${endOf(1, "port")}._sctp.web.svc`, `${endOf(1, "name")}._svc._tcp.db.svc`])
    expect([name, ask(responder, catalog, "A", `${name}.waymark`).rcode]).toEqual([name, "NXDOMAIN"]);
});

test("gateways of other zones are looked into up to a bound, behind which no more are found, and those of other clusters not", () => {
  const { catalog, putNode } = open([]);
  const listeners = { dns: { host: "10.9.0.1", port: 53 }, grpc: { host: "10.9.0.1", port: 17_420 } };
  for (let i = 0; i < 255; i++) putNode(`n${i}`, { dnsZones: ["corp"], listeners });
  for (let i = 0; i < 300; i++) putNode(`a${i}`, { dnsZones: ["waymark"], listeners }, "c2");
  putNode("z", { dnsZones: ["waymark"], listeners });
  const found = () => catalog.gateways("waymark").map(({ key }) => key.name);
  expect(found()).toEqual(["z"]);
  putNode("o", { dnsZones: ["corp"], listeners });
  expect(found()).toEqual([]);
});
