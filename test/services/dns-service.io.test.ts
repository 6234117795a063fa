/** DnsService over a real node's inside: what is registered is answered, listed, described and gone, for each caller what it may see. */
import assert from "node:assert/strict";
import { create, type DescMethodUnary, fromBinary, type MessageInitShape, type MessageShape } from "@bufbuild/protobuf";
import { durationFromMs } from "@bufbuild/protobuf/wkt";
import fc from "fast-check";
import { expect, onTestFinished, test } from "vitest";
import { EntryKind, HealthStatus } from "../../gen/waymark/catalog/v1/entry_pb.js";
import { DiscoveryService } from "../../gen/waymark/discovery/v1/discovery_pb.js";
import { DnsService } from "../../gen/waymark/dns/v1/dns_pb.js";
import type { Settings } from "../../src/config/settings.ts";
import { WaymarkError } from "../../src/lib/errors.ts";
import { runThrough } from "../../src/lib/machine.ts";
import { anonymousCaller, type Caller } from "../../src/policy/identity/caller.ts";
import type { NamespaceRule } from "../../src/policy/set/rules.ts";
import { requestCheckOf } from "../../src/services/contract.ts";
import { type DiscoveryInside, startDiscovery } from "../fakes/discovery-service.ts";
import { runs } from "../fakes/effort.ts";
import { rule, set } from "../fakes/policies.ts";

const ANN: Caller = { ...anonymousCaller("local", "127.0.0.1"), principal: "ann", tenant: "green", isAuthenticated: true };
const BEN: Caller = { ...ANN, principal: "ben", tenant: "blue" };
const OPERATOR: Caller = { ...ANN, principal: "op", tenant: "", roles: ["mesh.operate"] };
const m = DnsService.method;

class Bench {
  readonly inside: DiscoveryInside;

  constructor(inside: DiscoveryInside) {
    this.inside = inside;
  }

  /** As listeners do it: the rules of requests come first. */
  async call<I extends DescMethodUnary["input"], O extends DescMethodUnary["output"]>(
    method: DescMethodUnary<I, O>,
    request: MessageInitShape<I>,
    caller: Caller = ANN,
    laterMs = 0,
  ): Promise<MessageShape<O>> {
    const { service, names } = this.inside;
    const handler = (method.parent.typeName === DnsService.typeName ? names : service).handlers[method.localName];
    assert(handler?.kind === "unary");
    const message = create(method.input, request);
    const { monoMs, wallMs } = this.inside.now();
    requestCheckOf(method.input, this.inside.settings.limits)(message);
    const said = await handler.handle(message as never, {
      caller,
      time: { monoMs: monoMs + laterMs, wallMs: wallMs + laterMs },
      requestId: "",
    });
    return said instanceof Uint8Array ? fromBinary(method.output, said) : (said as MessageShape<O>);
  }

  async policy(rules: readonly NamespaceRule[]): Promise<void> {
    const { core } = this.inside;
    const { policies } = core;
    const terms = { expectedNumber: 0, stage: undefined, principal: "op", reason: "", changeTicket: "" };
    policies.commit(runThrough(policies.stamped(set(rules, { defaultAllow: true }), terms, this.inside.now().wallMs)), 100);
    await core.switchPolicy();
  }

  register(endpoint: MessageInitShape<(typeof m)["registerName"]["input"]>, caller = ANN) {
    return this.call(m.registerName, endpoint, caller);
  }

  async answers(name: string, recordType = "A", caller = ANN): Promise<readonly string[]> {
    const { rcode, answers } = await this.call(m.resolveName, { name, recordType }, caller);
    return [rcode, ...answers];
  }
}

async function open(changed?: (settings: Settings) => Settings, zones?: readonly string[]): Promise<Bench> {
  const inside = await startDiscovery(zones, undefined, undefined, changed);
  onTestFinished(() => inside.stop());
  return new Bench(inside);
}

const WEB = { name: "web", namespace: "svc.prod", protocol: "HTTP", port: 8080, targets: ["192.0.2.1", "2001:db8::1"] };
const asEndpoint = (value: object) => ({ registration: { case: "endpoint" as const, value: { ...WEB, ...value } }, staticLease: true });
const asAlias = (name: string, key: object = { namespace: "svc.prod", name: "web", instanceId: "dns:http:8080" }) => ({
  registration: { case: "name" as const, value: { name, key } },
});

async function refusal(call: Promise<unknown>): Promise<string> {
  try {
    await call;
  } catch (error) {
    assert(error instanceof WaymarkError, String(error));
    return [error.reason, ...(error.details.violations ?? []).map(({ field }) => field)].join(" ");
  }
  return "accepted";
}

test("an endpoint becomes a SERVICE entry with all that was said of it, and DNS answers it", async () => {
  const bench = await open();
  const told = { aliases: ["shop.svc.prod"], tags: ["t"], capabilities: ["c"], metadata: { k: "v" }, scope: 3 };
  const { fqdns, leaseId, ttl } = await bench.register(asEndpoint({ ...told, priority: 3, weight: 7, ttl: durationFromMs(20_000) }));
  expect(fqdns).toEqual(["web.svc.prod.waymark", "_svc._tcp.web.svc.prod.waymark", "shop.svc.prod.waymark"]);
  expect(leaseId).not.toBe("");
  expect(ttl).toBeUndefined();
  const { items } = await bench.call(DiscoveryService.method.catalogQuery, { namespace: "svc.prod" });
  expect(items).toMatchObject([
    {
      key: { kind: EntryKind.SERVICE, namespace: "svc.prod", name: "web", instanceId: "dns:http:8080", clusterId: "local" },
      targets: WEB.targets.map((host) => ({ host, port: 8080, protocol: "http", priority: 3, weight: 7 })),
      ttl: { seconds: 20n },
      ...told,
    },
  ]);
  expect(await bench.answers("web.svc.prod.waymark")).toEqual(["NOERROR", "web.svc.prod.waymark. 20 IN A 192.0.2.1"]);
  expect(await bench.answers("WEB.svc.prod.waymark.", "aaaa")).toEqual(["NOERROR", "web.svc.prod.waymark. 20 IN AAAA 2001:db8::1"]);
  expect(await bench.answers("shop.svc.prod.waymark", "CNAME")).toEqual([
    "NOERROR",
    "shop.svc.prod.waymark. 20 IN CNAME web.svc.prod.waymark.",
  ]);
});

test("RegisterName tells only names that lead to the entry for its caller, each once", async () => {
  const bench = await open();
  const fqdnsOf = async (value: object, caller?: Caller) => (await bench.register(asEndpoint(value), caller)).fqdns;
  await bench.register(asEndpoint({ name: "db" }));
  const long = { name: "N".repeat(128), namespace: Array.from({ length: 3 }, () => "n".repeat(60)).join(".") };
  expect(await fqdnsOf({ ...long, aliases: ["short.svc.prod"] })).toEqual([]);
  // Real names, names of nodes and addresses, and an alias of a service that comes first take what an alias asks for.
  const lost = ["db.svc.prod", "_svc._tcp.db.svc.prod", "ghost.node", "1-2-3-4.addr.node", "x.addr.node"];
  const own = ["web.svc.prod.waymark", "_svc._tcp.web.svc.prod.waymark"];
  await bench.register(asEndpoint({ name: "api", aliases: ["both.svc.prod"] }));
  const kept = ["www.svc.prod", "w1.web.svc.prod", "_x._tcp.www.svc.prod"];
  expect(await fqdnsOf({ aliases: [...lost, "both.svc.prod", "web.svc.prod", ...kept] })).toEqual([
    ...own,
    ...kept.map((alias) => `${alias}.waymark`),
  ]);
  expect((await bench.register(asAlias("WWW.svc.prod.Waymark"))).fqdns).toEqual(["www.svc.prod.waymark"]);
  expect((await bench.register(asAlias("ghost.node"))).fqdns).toEqual([]);
  // The policy lets nobody of this tenant write there.
  await bench.policy([rule("pay", { visibilityTenants: ["blue"] })]);
  expect((await bench.register(asAlias("web.pay"))).fqdns).toEqual([]);
  // The zone itself is no alias.
  const admin: Caller = { ...ANN, roles: ["mesh.admin"] };
  expect(await fqdnsOf({ aliases: ["waymark"] }, admin)).toEqual([...own, "waymark.waymark"]);
  expect((await bench.answers("waymark.waymark"))[1]).toContain(" CNAME web.svc.prod.waymark.");
});

test("each name of RegisterName is answered with its entry, whatever was registered before it", async () => {
  const bench = await open();
  const names = ["web", "db", "Web", "w.x", "b32-a", "_http", "node", "L".repeat(120)];
  const spaces = ["svc.prod", "web.svc.prod", "prod", "addr", `${"n".repeat(63)}.${"n".repeat(63)}`];
  const aliases = [
    "web.svc.prod",
    "_svc._tcp.web.svc.prod",
    "_svc._udp.x.prod",
    "w1.web.svc.prod",
    "db.prod.waymark",
    "n1.node",
    "a.b.addr",
  ];
  const drawn = fc.record({
    name: fc.constantFrom(...names),
    namespace: fc.constantFrom(...spaces),
    port: fc.integer({ min: 1, max: 3 }),
    protocol: fc.constantFrom("tcp", "udp"),
    aliases: fc.uniqueArray(fc.constantFrom(...aliases), { maxLength: 3 }),
  });
  let number = 0;
  await fc.assert(
    fc.asyncProperty(drawn, async (value) => {
      number += 1;
      const host = `10.${number >> 16}.${(number >> 8) & 255}.${number & 255}`;
      const { fqdns } = await bench.register(asEndpoint({ ...value, targets: [host] }));
      for (const fqdn of fqdns) {
        const asked = await Promise.all(["A", "SRV"].map((recordType) => bench.call(m.resolveName, { name: fqdn, recordType })));
        const records = asked.flatMap(({ answers, additional }) => [...answers, ...additional]);
        expect(`${fqdn} ${records.some((text) => text.endsWith(` A ${host}`)) ? host : records.join()}`).toBe(`${fqdn} ${host}`);
      }
    }),
    { numRuns: runs(60) },
  );
});

test("the same name, protocol and port replace; another port is another instance", async () => {
  const bench = await open();
  await bench.register(asEndpoint({}));
  await bench.register(asEndpoint({ protocol: "http", targets: ["192.0.2.9"] }));
  expect(await bench.answers("web.svc.prod.waymark")).toEqual(["NOERROR", "web.svc.prod.waymark. 30 IN A 192.0.2.9"]);
  await bench.register(asEndpoint({ port: 8081, targets: ["192.0.2.10"] }));
  expect(await bench.answers("web.svc.prod.waymark")).toHaveLength(3);
});

test("unregistering removes 1, then 0, and the name is gone at once", async () => {
  const bench = await open();
  await bench.register(asEndpoint({}));
  const { name, namespace, port } = WEB;
  expect(await bench.call(m.unregisterName, { name, namespace, protocol: "http", port })).toMatchObject({ removed: 1 });
  expect(await bench.answers("web.svc.prod.waymark")).toEqual(["NXDOMAIN"]);
  expect(await bench.call(m.unregisterName, { name, namespace, protocol: "http", port })).toMatchObject({ removed: 0 });
});

test("a lease keeps an endpoint as it keeps any entry", async () => {
  const bench = await open();
  const { staticLease: _, ...leased } = asEndpoint({});
  const { leaseId, ttl } = await bench.register({ ...leased, leaseTtl: durationFromMs(5000) });
  expect(ttl).toMatchObject({ seconds: 5n });
  const more = await bench.register({ ...asEndpoint({ name: "api" }), staticLease: false, leaseId });
  expect(more.leaseId).toBe(leaseId);
  expect(await bench.call(DiscoveryService.method.unregister, { leaseId })).toMatchObject({ removed: 2 });
});

test.for<[what: string, request: MessageInitShape<(typeof m)["registerName"]["input"]>, want: string]>([
  ["an empty name", asEndpoint({ name: "" }), "invalid_argument endpoint.name"],
  ["port 70000", asEndpoint({ port: 70_000 }), "invalid_argument endpoint.port"],
  ["port 0", asEndpoint({ port: 0 }), "invalid_argument endpoint.port"],
  ["ttl -1", asEndpoint({ ttl: { seconds: -1n, nanos: 0 } }), "invalid_argument endpoint.ttl"],
  [
    "a host name in the metadata that is an address",
    asEndpoint({ metadata: { "waymark.dns.cname": "192.0.2.1" } }),
    'invalid_argument endpoint.metadata["waymark.dns.cname"]',
  ],
  ["no targets", asEndpoint({ targets: [] }), "invalid_argument endpoint.targets"],
  ["a target that is no host", asEndpoint({ targets: ["a b"] }), "invalid_argument endpoint.targets[0]"],
  ["an alias with an empty label", asEndpoint({ aliases: ["a..b"] }), "invalid_argument endpoint.aliases[0]"],
  ["an alias of one label", asEndpoint({ aliases: ["web"] }), "discovery_access_denied"],
  ["a ttl beside a static lease", { ...asEndpoint({}), leaseTtl: durationFromMs(5000) }, "invalid_argument lease_ttl"],
  ["a control namespace", asEndpoint({ namespace: "discovery.nodes" }), "invalid_argument endpoint.namespace"],
  ["nothing", {}, "invalid_argument endpoint"],
  ["an alias of nothing", asAlias("www.svc.prod"), "not_found"],
  ["an alias with an empty name", asAlias(""), "invalid_argument name.name"],
  ["an alias with a lease", { ...asAlias("www.svc.prod"), staticLease: true }, "invalid_argument static_lease"],
])("RegisterName refuses %s", async ([, request, want]) => {
  const bench = await open();
  expect(await refusal(bench.register(request))).toBe(want);
});

test("a namespace of others is refused, and so is an entry of another principal", async () => {
  const bench = await open();
  await bench.register(asEndpoint({}));
  expect(await refusal(bench.register(asEndpoint({}), BEN))).toBe("discovery_access_denied");
  expect(await refusal(bench.register(asAlias("www.svc.prod"), BEN))).toBe("discovery_access_denied");
  await bench.policy([rule("svc.prod", { visibilityTenants: ["green"] })]);
  expect(await refusal(bench.register(asEndpoint({ name: "new" }), BEN))).toBe("discovery_access_denied");
  // What is hidden from a caller is told as what is not there.
  expect(await refusal(bench.register(asAlias("www.svc.prod"), BEN))).toBe("not_found");
  const { name, namespace, port } = WEB;
  expect(await bench.call(m.unregisterName, { name, namespace, protocol: "http", port }, BEN)).toMatchObject({ removed: 0 });
});

test("a refusal has the fields of the request and the bounds of this node", async () => {
  const bench = await open();
  const told = (call: Promise<unknown>) =>
    call.then(
      () => "accepted",
      (error: unknown) => (error instanceof WaymarkError ? error.message : String(error)),
    );
  const rule128 = "must be 1 to 128 characters of [A-Za-z0-9._:/@+-]";
  expect(await told(bench.register(asEndpoint({ name: "a b" })))).toBe(`invalid_argument: endpoint.name: "a b" (3 characters) ${rule128}`);
  expect(await told(bench.register(asEndpoint({ name: "n".repeat(129) })))).toContain(`(129 characters) ${rule128}`);
  expect(await told(bench.register(asEndpoint({ tags: ["n".repeat(1001)] })))).toContain(`(1001 characters) ${rule128}`);
  expect(await told(bench.register(asEndpoint({ namespace: "A" })))).toMatch(/ 63 characters per label and 200 in total$/);
  await bench.register(asEndpoint({}));
  const { name, namespace, port } = WEB;
  const removed = (fields: object) => told(bench.call(m.unregisterName, { name, namespace, protocol: "http", port, ...fields }, BEN));
  expect(await removed({})).toMatch(/^discovery_access_denied: permission denied: \S+ \(name\) is registered by another principal/);
  expect(await removed({ name: "n".repeat(200) })).toContain(`invalid_argument: name: `);
});

test("an alias is added to an entry under the lease that it has, and taken from it alone", async () => {
  const bench = await open();
  const { leaseId } = await bench.register(asEndpoint({ aliases: ["shop.svc.prod"] }));
  const added = await bench.register(asAlias("WWW.svc.prod.waymark"));
  expect(added).toMatchObject({ fqdns: ["www.svc.prod.waymark"], leaseId });
  await bench.register(asAlias("www.svc.prod.waymark."));
  const { items } = await bench.call(DiscoveryService.method.catalogQuery, { namespace: "svc.prod" });
  expect(items.map(({ aliases }) => aliases)).toEqual([["shop.svc.prod", "WWW.svc.prod.waymark"]]);
  expect(await bench.answers("www.svc.prod.waymark")).toEqual([
    "NOERROR",
    "www.svc.prod.waymark. 30 IN CNAME web.svc.prod.waymark.",
    "web.svc.prod.waymark. 30 IN A 192.0.2.1",
  ]);
  expect(await refusal(bench.call(m.unregisterName, { name: "www.svc.prod" }, BEN))).toBe("discovery_access_denied");
  expect(await bench.call(m.unregisterName, { name: "www.svc.prod" })).toMatchObject({ removed: 1 });
  expect(await bench.call(m.unregisterName, { name: "www.svc.prod" })).toMatchObject({ removed: 0 });
  expect(await bench.answers("www.svc.prod.waymark")).toEqual(["NXDOMAIN"]);
  expect((await bench.answers("shop.svc.prod.waymark"))[0]).toBe("NOERROR");
});

test("an alias that others have as well is taken from the caller's own entry, and one of what is hidden is not there", async () => {
  const bench = await open();
  const both = { aliases: ["first.svc.prod", "second.svc.prod"] };
  await bench.register(asEndpoint(both));
  await bench.register(asEndpoint({ ...both, name: "zoo" }), BEN);
  await bench.register(asEndpoint({ name: "dark", namespace: "svc.secret", aliases: ["third.svc.prod"] }));
  await bench.policy([rule("svc.secret", { visibilityTenants: ["green"] })]);
  const take = async (name: string, caller: Caller) => (await bench.call(m.unregisterName, { name }, caller)).removed;
  expect([await take("first.svc.prod", ANN), await take("second.svc.prod", BEN)]).toEqual([1, 1]);
  const leadsTo = async (name: string) => (await bench.answers(name, "CNAME"))[1]?.split(" ").at(-1);
  expect([await leadsTo("first.svc.prod.waymark"), await leadsTo("second.svc.prod.waymark")]).toEqual([
    "zoo.svc.prod.waymark.",
    "web.svc.prod.waymark.",
  ]);
  // As of an alias that nobody has.
  expect([await take("third.svc.prod", BEN), await take("fourth.svc.prod", BEN)]).toEqual([0, 0]);
  expect(await leadsTo("third.svc.prod.waymark")).toBe("dark.svc.secret.waymark.");
});

test("an alias that was registered in full, in any zone, is taken by its name below the zones, and by its name in another one", async () => {
  const bench = await open(undefined, ["waymark", "corp"]);
  await bench.register(asEndpoint({}));
  for (const [registered, unregistered] of [
    ["pay.svc.prod.corp", "pay.svc.prod"],
    ["PAY.svc.prod.corp.", "pay.svc.prod.waymark."],
    ["pay.svc.prod.waymark", "pay.svc.prod.corp"],
    ["pay.svc.prod", "pay.svc.prod.corp"],
  ] as const) {
    await bench.register(asAlias(registered));
    const { removed } = await bench.call(m.unregisterName, { name: unregistered });
    const answers = [await bench.answers("pay.svc.prod.corp"), await bench.answers("pay.svc.prod.waymark")];
    expect({ registered, removed, answers }).toEqual({ registered, removed: 1, answers: [["NXDOMAIN"], ["NXDOMAIN"]] });
  }
});

test("an alias changes nothing else of its entry, not even an order about its maintenance", async () => {
  const bench = await open();
  const key = { namespace: "svc.prod", name: "web", instanceId: "1" };
  const entry = { key, targets: [{ host: "192.0.2.1", port: 1 }], health: HealthStatus.DEGRADED, tags: ["t"] };
  await bench.call(DiscoveryService.method.register, { entries: [entry], staticLease: true });
  await bench.call(DiscoveryService.method.setMaintenance, { keys: [key], on: true, reason: "disks" });
  await bench.register(asAlias("www.svc.prod", key));
  await bench.call(DiscoveryService.method.setMaintenance, { keys: [key], on: false });
  const { items } = await bench.call(DiscoveryService.method.catalogQuery, { namespace: "svc.prod" });
  expect(items).toMatchObject([{ tags: ["t"], aliases: ["www.svc.prod"], health: HealthStatus.DEGRADED }]);
});

test("a list has the names of the catalog that the caller may see, page by page, also those that DNS cannot carry", async () => {
  const bench = await open();
  const long = "L".repeat(128);
  const deep = Array.from({ length: 3 }, () => "n".repeat(60)).join(".");
  for (const port of [1, 2, 3]) await bench.register(asEndpoint({ port, aliases: [`p${port}.web.svc.prod`] }));
  for (const name of ["db", "eel", "fox", "gnu"]) await bench.register(asEndpoint({ name, namespace: "svc.secret" }));
  await bench.register(asEndpoint({ name: long, namespace: deep }));
  const key = { kind: EntryKind.FUNCTION, namespace: "svc.prod", name: "sum", instanceId: "1" };
  const topic = { kind: EntryKind.TOPIC, namespace: "svc.prod", name: "news", instanceId: "1" };
  const detail = { case: "topic" as const, value: { patterns: ["a"] } };
  await bench.call(DiscoveryService.method.register, { entries: [{ key }, { key: topic, detail }], staticLease: true });
  await bench.policy([rule("svc.secret", { visibilityTenants: ["green"] })]);
  const listed = async (caller: Caller, limit: number, namespacePrefix = "") => {
    const found: string[] = [];
    for (let pageToken = "", page = 0; page < 50; page++) {
      const answer = await bench.call(m.listNames, { limit, pageToken, namespacePrefix }, caller);
      expect(answer.names.length).toBeLessThanOrEqual(limit);
      for (const { namespace, name, reachable, unreachableReason } of answer.names) {
        found.push(`${namespace}/${name}`);
        expect(reachable).toBe(name !== long);
        expect(unreachableReason === "").toBe(reachable);
      }
      pageToken = answer.nextPageToken;
      if (pageToken === "") return found.filter((text) => !text.startsWith("discovery."));
    }
    return ["endless"];
  };
  const whole = [`${deep}/${long}`, "svc.prod/sum", "svc.prod/web", "svc.secret/db", "svc.secret/eel", "svc.secret/fox", "svc.secret/gnu"];
  for (const limit of [1, 2, 3, 100]) expect(await listed(ANN, limit)).toEqual(whole);
  expect(await listed(BEN, 2)).toEqual(whole.slice(0, 3));
  expect(await listed(ANN, 2, "svc.prod")).toEqual(whole.slice(1, 3));
  expect(await refusal(bench.call(m.listNames, { pageToken: "x" }))).toBe("invalid_argument page_token");
  const { nextPageToken } = await bench.call(m.listNames, { limit: 1 });
  expect(await refusal(bench.call(m.listNames, { limit: 1, pageToken: nextPageToken, namespacePrefix: "svc" }))).toMatch(
    /^invalid_argument/,
  );
});

test("a name is described by its name in DNS, by an alias, and by its place in the catalog; what is hidden is not found", async () => {
  const bench = await open();
  await bench.register(asEndpoint({ aliases: ["shop.svc.prod"] }));
  const web = { kind: EntryKind.SERVICE, namespace: "svc.prod", name: "web", aliases: ["shop.svc.prod"], reachable: true };
  for (const asked of [
    { name: "web.svc.prod.waymark." },
    { name: "WEB.svc.prod" },
    { name: "_svc._tcp.web.svc.prod" },
    { name: "shop.svc.prod.waymark" },
    { name: "web", namespace: "svc.prod" },
  ]) {
    const { name, entries, hasMore } = await bench.call(m.describeName, asked);
    expect({ name, count: entries.length, hasMore }).toMatchObject({ name: web, count: 1, hasMore: false });
  }
  // An alias of two is described by the one to which it leads.
  await bench.register(asEndpoint({ name: "zoo", aliases: ["shop.svc.prod"] }));
  const shop = await bench.call(m.describeName, { name: "shop.svc.prod" });
  expect(shop.name).toMatchObject({ name: "web", fqdns: ["web.svc.prod.waymark", "_svc._tcp.web.svc.prod.waymark"] });
  await bench.register(asEndpoint({ name: "own", aliases: ["OWN.svc.prod.waymark.", "other.svc.prod"] }));
  expect((await bench.call(m.describeName, { name: "own.svc.prod" })).name).toMatchObject({ aliases: ["other.svc.prod"] });
  // It has no SRV records, as it has neither targets nor a node to be reached through.
  const outside = { key: { namespace: "svc.prod", name: "ext", instanceId: "1" }, metadata: { "waymark.dns.cname": "db.example" } };
  await bench.call(DiscoveryService.method.register, { entries: [outside], staticLease: true });
  expect((await bench.call(m.describeName, { name: "ext.svc.prod" })).name).toMatchObject({ fqdns: ["ext.svc.prod.waymark"] });
  for (const name of ["no.svc.prod", "svc", "..", "waymark", "_rpc._tcp.web.svc.prod"])
    expect(await refusal(bench.call(m.describeName, { name }))).toBe("not_found");
  expect(await refusal(bench.call(m.describeName, { name: "web", kind: EntryKind.QUEUE }))).toBe("invalid_argument namespace");
  await bench.policy([rule("svc.prod", { visibilityTenants: ["green"] })]);
  expect(await refusal(bench.call(m.describeName, { name: "web.svc.prod" }, BEN))).toBe("not_found");
  expect(await refusal(bench.call(m.describeName, { name: "shop.svc.prod" }, BEN))).toBe("not_found");
});

test("ResolveName answers for the caller's own view, and for any with mesh.operate", async () => {
  const bench = await open();
  await bench.register(asEndpoint({}));
  await bench.policy([rule("svc.prod", { visibilityTenants: ["green"] })]);
  const name = "web.svc.prod.waymark";
  const viewer = (tenantId: string) => ({ name, viewer: { tenantId, clusterId: "" } });
  expect((await bench.call(m.resolveName, { name }, ANN)).rcode).toBe("NOERROR");
  const denials = bench.inside.metrics.counter("discovery_policy_denials_total", { action: "query", reason: "viewer_denied" });
  const before = denials.value;
  const hidden = await bench.call(m.resolveName, { name, explain: true }, BEN);
  expect([hidden.rcode, denials.value - before]).toEqual(["NXDOMAIN", 1]);
  const absent = await bench.call(m.resolveName, { name: "abc.svc.prod.waymark", explain: true }, BEN);
  // What the policy says is for operators.
  const policyOf = async (caller: Caller, tenantId = "") => {
    const { reasons } = await bench.call(m.resolveName, { ...viewer(tenantId), explain: true }, caller);
    return reasons.flatMap(({ topic, detail }) => (topic === "policy" ? [detail] : []));
  };
  expect([await policyOf(BEN), await policyOf(ANN)]).toEqual([[], []]);
  expect(await policyOf(OPERATOR, "blue")).toMatchObject([expect.stringContaining("namespace svc.prod is hidden")]);
  const plain = (text: unknown) =>
    JSON.stringify(text, (_, value: unknown) => (typeof value === "bigint" ? `${value}` : value)).replaceAll("abc", "web");
  expect(plain(absent)).toBe(plain(hidden));
  expect(await refusal(bench.call(m.resolveName, viewer("green"), BEN))).toBe("discovery_access_denied");
  expect((await bench.call(m.resolveName, viewer("green"), OPERATOR)).rcode).toBe("NOERROR");
  const { rcode, reasons } = await bench.call(m.resolveName, { ...viewer("blue"), explain: true }, OPERATOR);
  expect(rcode).toBe("NXDOMAIN");
  const verdict = "namespace svc.prod is hidden from this viewer (viewer_denied, rule svc.prod)";
  expect(reasons.find(({ topic }) => topic === "policy")?.detail).toBe(verdict);
  expect((await bench.call(m.resolveName, viewer("green"), ANN)).rcode).toBe("NOERROR");
});

const view = (prefix: string, more: Partial<Settings["dns"]["views"][number]>): Settings["dns"]["views"][number] => ({
  listener: undefined,
  prefixes: [prefix],
  tenant: undefined,
  cluster: undefined,
  region: undefined,
  zone: undefined,
  answerLimit: undefined,
  ...more,
});

/** Three views: of the tenant green at a place, one of it over TCP alone, and one with a limit where the tests call from. */
const withViews = (settings: Settings): Settings => ({
  ...settings,
  dns: {
    ...settings.dns,
    views: [
      view("10.20.0.0/16", { tenant: "green", region: "eu", zone: "eu-1" }),
      view("10.30.0.0/16", { tenant: "green", listener: "tcp" }),
      view("127.0.0.0/8", { answerLimit: 2 }),
    ],
  },
});

test("with mesh.operate ResolveName answers as the gateway answers an asker at an address: rights, place and limit of its view", async () => {
  const bench = await open(withViews);
  for (let port = 1; port <= 5; port++) await bench.register(asEndpoint({ port, targets: [`192.0.2.${port}`] }));
  await bench.policy([rule("svc.prod", { visibilityTenants: ["green"] })]);
  const ask = (request: MessageInitShape<(typeof m)["resolveName"]["input"]>, caller = OPERATOR) =>
    bench.call(m.resolveName, request, caller);
  const name = "web.svc.prod.waymark";
  const from = async (address: string, listener = "") => {
    const { rcode, answers } = await ask({ name, source: { address, listener } });
    return `${rcode} ${answers.length}`;
  };
  expect(await from("10.20.7.1")).toBe("NOERROR 5");
  expect(await from("::ffff:10.20.7.1", "tcp")).toBe("NOERROR 5");
  expect(await from("10.30.0.1", "tcp")).toBe("NOERROR 5");
  expect(await from("10.30.0.1")).toBe("NXDOMAIN 0");
  expect(await from("10.40.0.1")).toBe("NXDOMAIN 0");
  // With a viewer the rights are those of the viewer, as those of a credential over TLS.
  const asGreen = { name, viewer: { tenantId: "green", clusterId: "" }, source: { address: "127.0.0.9" } };
  expect((await ask(asGreen)).answers).toHaveLength(2);
  // Without a source it is the caller's own address, and the caller's own rights.
  expect((await ask({ name }, ANN)).answers).toHaveLength(2);
  expect((await ask({ name }, { ...ANN, address: "10.20.7.1" })).answers).toHaveLength(5);
  expect((await ask({ name }, { ...BEN, address: "10.20.7.1" })).rcode).toBe("NXDOMAIN");
  const srv = { name: "_svc._tcp.web.svc.prod.waymark", recordType: "SRV", source: { address: "10.20.7.1" }, explain: true };
  const { answers, reasons } = await ask(srv);
  // Nobody is at that place, so all are two steps away.
  expect(answers.map((text) => text.split(" ")[4])).toEqual(Array.from({ length: 5 }, () => "2000"));
  expect(reasons[0]?.detail).toBe("cluster local, tenant green, region eu, zone eu-1; source 10.20.7.1 (over udp) matches dns.views[0]");
});

test("ResolveName tells the serial of the view of an address, and that of everybody to a caller with rights of its own", async () => {
  const bench = await open(withViews);
  const serial = async (request: MessageInitShape<(typeof m)["resolveName"]["input"]>, caller = OPERATOR) => {
    const { answers, authority } = await bench.call(m.resolveName, { recordType: "SOA", ...request }, caller);
    return [...answers, ...authority][0]?.split(" ").at(-5);
  };
  const [there, not] = ["waymark", "nope.waymark"];
  const at = (address: string, listener = "") => ({ source: { address, listener } });
  expect([await serial({ name: there, ...at("10.20.7.1") }), await serial({ name: not, ...at("10.20.7.1") })]).toEqual(["8", "8"]);
  expect([await serial({ name: there, ...at("10.30.0.1", "tcp") }), await serial({ name: there, ...at("10.30.0.1") })]).toEqual(["9", "7"]);
  expect([await serial({ name: there }, ANN), await serial({ name: there }, { ...ANN, address: "10.20.7.1" })]).toEqual(["7", "7"]);
});

test("a sample of a set is drawn by the weights of its targets, and a CNAME before it is no part of it", async () => {
  const bench = await open((settings) => ({ ...settings, dns: { ...settings.dns, answerLimit: 1 } }));
  await bench.register(asEndpoint({ targets: ["192.0.2.1"], aliases: ["shop.svc.prod"] }));
  await bench.register(asEndpoint({ port: 8081, targets: ["192.0.2.2"], weight: 5 }));
  const { answers } = await bench.call(m.resolveName, { name: "_svc._tcp.web.svc.prod.waymark", recordType: "SRV" });
  expect(answers).toEqual(["_svc._tcp.web.svc.prod.waymark. 30 IN SRV 0 5 8081 192-0-2-2.addr.node.waymark."]);
  const { reasons } = await bench.call(m.resolveName, { name: "web.svc.prod.waymark", explain: true });
  expect(reasons.find(({ topic }) => topic === "tier")?.detail).toBe(
    "2 HEALTHY; the answer has 1 of 2 records (limited by dns.answer_limit)",
  );
  const outside = await bench.call(m.resolveName, { name: "web.example", explain: true });
  expect(outside.reasons.find(({ topic }) => topic === "name")?.detail).toBe("web.example is outside the zones of this server: waymark");
  const [rcode, cname, ...more] = await bench.answers("shop.svc.prod.waymark");
  expect([rcode, cname?.split(" ")[3], more.length]).toEqual(["NOERROR", "CNAME", 1]);
  // What clients prefer takes the room of the rest.
  for (const priority of [5, 0]) await bench.register(asEndpoint({ name: "api", port: 9000 + priority, targets: ["192.0.2.1"], priority }));
  expect((await bench.answers("_svc._tcp.api.svc.prod.waymark", "SRV")).map((text) => text.split(" ")[4])).toEqual([undefined, "0"]);
});

test("ResolveName says where the set has more records than it tells, as the gateway does with TC", async () => {
  const bench = await open();
  for (let i = 0; i < 70; i++) {
    const targets = Array.from({ length: 64 }, (_, k) => ({ host: "192.0.2.1", port: 1 + 64 * i + k, protocol: "tcp" }));
    const key = { namespace: "svc.prod", name: "web", kind: EntryKind.SERVICE, instanceId: `i${i}` };
    await bench.call(DiscoveryService.method.register, { entries: [{ key, targets }], staticLease: true });
  }
  const told = async (recordType: string, name: string) => {
    const { answers, truncated, reasons } = await bench.call(m.resolveName, { name: `${name}.waymark`, recordType, explain: true });
    return [answers.length, truncated, reasons.find(({ topic }) => topic === "tier")?.detail];
  };
  const [records, isCut, why] = await told("SRV", "_svc._tcp.web.svc.prod");
  expect([records, isCut, why]).toEqual([4_060, true, "70 HEALTHY; the answer has 4060 records, and more records exist"]);
  expect(await told("A", "web.svc.prod")).toEqual([1, false, "70 HEALTHY; the answer has 1 record"]);
  expect(await told("SRV", "web.svc.prod")).toEqual([0, false, "70 HEALTHY; the answer has 0 records"]);
});

test("a source that the gateway refuses is REFUSED here too, with the extended error", async () => {
  const bench = await open((settings) => ({ ...withViews(settings), tenants: { ...settings.tenants, anonymous: "none" } }));
  await bench.register(asEndpoint({}));
  const refused = { name: "web.svc.prod.waymark", source: { address: "10.40.0.1" }, explain: true };
  const { rcode, extendedErrors, authoritative, reasons } = await bench.call(m.resolveName, refused, OPERATOR);
  expect({ rcode, extendedErrors, authoritative }).toEqual({ rcode: "REFUSED", extendedErrors: ["18 (Prohibited)"], authoritative: false });
  expect(reasons.map(({ detail }) => detail)).toEqual([
    "source 10.40.0.1 (over udp) matches no row in dns.views; sources without a view are refused",
  ]);
  const seen = await bench.call(m.resolveName, { ...refused, source: { address: "10.20.0.1" } }, OPERATOR);
  expect(seen).toMatchObject({ rcode: "NOERROR", extendedErrors: [] });
  expect(await refusal(bench.call(m.resolveName, refused, ANN))).toBe("discovery_access_denied");
});

test("explain tells view, alias, policy, health, TTL and how long caches may hold what is in maintenance", async () => {
  const bench = await open();
  await bench.register(asEndpoint({ aliases: ["shop.svc.prod"], ttl: durationFromMs(300_000) }));
  await bench.register(asEndpoint({ port: 8081, ttl: durationFromMs(10_000) }));
  const key = { namespace: "svc.prod", name: "web", instanceId: "dns:http:8081" };
  await bench.call(DiscoveryService.method.setMaintenance, { keys: [key], on: true });
  const asked = { name: "shop.svc.prod.waymark", recordType: "A", explain: true };
  const { reasons } = await bench.call(m.resolveName, asked, OPERATOR);
  const drained = async (laterMs: number) =>
    (await bench.call(m.resolveName, asked, OPERATOR, laterMs)).reasons.find(({ topic }) => topic === "maintenance")?.detail;
  expect(await drained(7_000)).toMatch(/^dns:http:8081 is in maintenance: caches may keep its records for another [123] s$/);
  expect(await drained(10_000)).toBe("dns:http:8081 is in maintenance: its records have expired from all caches");
  // By another clock.
  expect(await drained(-60_000)).toBe("dns:http:8081 is in maintenance: caches may keep its records for another 10 s");
  expect(reasons.map(({ topic, detail }) => `${topic}: ${detail.replace(/ (9|10) s more/, " 10 s more")}`)).toEqual([
    "view: cluster local, no tenant; source 127.0.0.1 (as a query over DNS over TLS) matches no row in dns.views",
    "alias: shop.svc.prod.waymark resolves to web.svc.prod.waymark (CNAME)",
    "policy: namespace svc.prod is visible to this viewer (policy_disabled)",
    "name: web.svc.prod.waymark resolves to 1 entry with 2 targets",
    "tier: 1 HEALTHY, 1 MAINTENANCE; the answer has 2 records",
    "ttl: 60 s: the TTL of the entries is 300 s, bounded by dns.min_ttl 1 s and dns.max_ttl 60 s",
    "maintenance: dns:http:8081 is in maintenance: caches may keep its records for another 10 s",
  ]);
});

test("explain names twenty entries in maintenance, and counts the others", async () => {
  const bench = await open();
  const counts: unknown[] = [];
  for (let port = 1; port <= 21; port++) {
    await bench.register(asEndpoint({ port }));
    const keys = [{ namespace: "svc.prod", name: "web", instanceId: `dns:http:${port}` }];
    await bench.call(DiscoveryService.method.setMaintenance, { keys, on: true });
    if (port < 20) continue;
    const { reasons } = await bench.call(m.resolveName, { name: "web.svc.prod.waymark", explain: true });
    const told = reasons.filter(({ topic }) => topic === "maintenance").map(({ detail }) => detail);
    counts.push([told.length, told.filter((detail) => !detail.startsWith("dns:http:"))]);
  }
  expect(counts).toEqual([
    [20, []],
    [21, ["1 more are in maintenance"]],
  ]);
});

test("explain tells the entries of an alias that is the name of one instance, and of a node nothing of a namespace", async () => {
  const bench = await open();
  await bench.register(asEndpoint({ aliases: ["w1.web.svc.prod"] }));
  const told = async (asked: string) => {
    const { reasons } = await bench.call(m.resolveName, { name: `${asked}.waymark`, explain: true }, OPERATOR);
    return reasons.map(({ topic, detail }) => `${topic}: ${detail}`).slice(1);
  };
  expect((await told("w1.web.svc.prod")).find((text) => text.startsWith("tier"))).toBe("tier: 1 HEALTHY; the answer has 1 record");
  expect((await told("ghost.node")).filter((text) => text.startsWith("policy"))).toEqual([]);
});

test.each([
  { recordType: "SRV", name: "web.svc.prod", told: ["SRV records are at _svc._tcp.web.svc.prod.waymark"] },
  { recordType: "SRV", name: "_svc._tcp.web.svc.prod", told: [] },
  { recordType: "A", name: "web.svc.prod", told: [] },
])("explain of $recordType of $name tells where the SRV records are: $told", async ({ recordType, name, told }) => {
  const bench = await open();
  await bench.register(asEndpoint({}));
  const { reasons } = await bench.call(m.resolveName, { name: `${name}.waymark`, recordType, explain: true }, OPERATOR);
  expect(reasons.map(({ detail }) => detail).filter((detail) => detail.startsWith("SRV"))).toEqual(told);
});

test("explain says of an alias that leads nowhere that DNS cannot carry the entry, and of a name above others that they are below it", async () => {
  const bench = await open();
  const [name, namespace] = ["N".repeat(128), Array.from({ length: 3 }, () => "n".repeat(60)).join(".")];
  await bench.register(asEndpoint({ name, namespace, aliases: ["short.svc.x"] }));
  const told = async (asked: string) => {
    const { rcode, reasons } = await bench.call(m.resolveName, { name: `${asked}.waymark`, explain: true });
    return `${rcode} ${reasons.find(({ topic }) => topic === "name")?.detail}`;
  };
  expect(await told("short.svc.x")).toMatch(
    /^NOERROR short\.svc\.x\.waymark is an alias of n{60}\.\S+\/N{128}, which has no valid DNS name: its DNS name would have \d+ characters \(max 253\)$/,
  );
  expect(await told("svc.x")).toBe("NOERROR svc.x.waymark has no A records, but there are names below it");
});

test("explain says of an address why it has no names, and of a block that addresses are below it", async () => {
  const bench = await open((settings) => ({ ...settings, dns: { ...settings.dns, reverseZones: ["192.0.2.0/24", "198.51.0.0/16"] } }));
  await bench.register(asEndpoint({ targets: ["192.0.2.1"] }));
  await bench.call(DiscoveryService.method.setMaintenance, {
    keys: [{ namespace: "svc.prod", name: "web", instanceId: "dns:http:8080" }],
    on: true,
  });
  const told = async (name: string) => {
    const { rcode, reasons } = await bench.call(m.resolveName, { name, recordType: "PTR", explain: true });
    return `${rcode} ${reasons.find(({ topic }) => topic === "name")?.detail}`;
  };
  expect(await told("1.2.0.192.in-addr.arpa")).toBe(
    "NOERROR 1.2.0.192.in-addr.arpa currently has no names: its entries are in maintenance, or healthier entries of the same name are preferred",
  );
  expect(await told("100.51.198.in-addr.arpa")).toBe("NOERROR 100.51.198.in-addr.arpa has no PTR records, but there are names below it");
});

test("what lies below a longer zone is no name of an entry: it is not listed, promised or led to", async () => {
  const bench = await open(undefined, ["waymark", "corp.waymark"]);
  const { fqdns } = await bench.register(asEndpoint({ name: "pay", namespace: "svc.corp", aliases: ["pp.shop"] }));
  const own = ["pay.svc.corp.corp.waymark", "_svc._tcp.pay.svc.corp.corp.waymark"];
  expect(fqdns).toEqual([...own, "pp.shop.corp.waymark"]);
  const { names } = await bench.call(m.listNames, { namespacePrefix: "svc.corp" });
  expect(names).toMatchObject([{ fqdns: own, reachable: true }]);
  const { rcode, reasons } = await bench.call(m.resolveName, { name: "pp.shop.waymark", explain: true });
  expect(`${rcode} ${reasons.find(({ topic }) => topic === "name")?.detail}`).toBe(
    "NOERROR pp.shop.waymark is an alias of svc.corp/pay, which has no valid DNS name: its DNS name would belong to the zone corp.waymark",
  );
});

test("explain names the services whose alias a name is without leading to them, and none that the caller may not see", async () => {
  const bench = await open();
  await bench.register(asEndpoint({ aliases: ["both.svc.prod"] }));
  await bench.register(asEndpoint({ name: "zoo", aliases: ["both.svc.prod", "web.svc.prod"] }));
  await bench.register(asEndpoint({ name: "dark", namespace: "svc.secret", aliases: ["web.svc.prod"] }));
  await bench.policy([rule("svc.secret", { visibilityTenants: ["green"] })]);
  const told = async (name: string, caller: Caller) => {
    const { reasons } = await bench.call(m.resolveName, { name: `${name}.svc.prod.waymark`, explain: true }, caller);
    return reasons.flatMap(({ topic, detail }) =>
      topic === "alias" ? (/ is also an alias of (\S+), but does not resolve to it: /.exec(detail)?.[1] ?? detail) : [],
    );
  };
  expect(await told("both", BEN)).toEqual(["both.svc.prod.waymark resolves to web.svc.prod.waymark (CNAME)", "svc.prod/zoo"]);
  expect(await told("web", BEN)).toEqual(["svc.prod/zoo"]);
  expect(await told("web", ANN)).toEqual(["svc.prod/zoo", "svc.secret/dark"]);
  expect(await told("zoo", ANN)).toEqual([]);
});

test("explain says that an orphaned entry makes the TTL short", async () => {
  const bench = await open();
  await bench.register(asEndpoint({}));
  const { replica } = bench.inside.core;
  replica.setLife(replica.self, "orphaned");
  const { reasons } = await bench.call(m.resolveName, { name: "web.svc.prod.waymark", recordType: "A", explain: true });
  expect(reasons.filter(({ topic }) => topic === "ttl").map(({ detail }) => detail)).toEqual([
    "5 s: the TTL of the entries is 30 s, bounded by dns.min_ttl 1 s and dns.max_ttl 60 s; at most dns.stale_ttl 5 s, because an entry is ORPHANED",
  ]);
});

test.for<[asked: object, want: string]>([
  [{ name: "a..b" }, "invalid_argument name"],
  [{ name: `${"a".repeat(64)}.waymark` }, "invalid_argument name"],
  [{ name: [63, 63, 63, 61].map((length) => "a".repeat(length)).join(".") }, "accepted"],
  [{ name: [63, 63, 63, 62].map((length) => "a".repeat(length)).join(".") }, "invalid_argument name"],
  [{ name: "a b.waymark" }, "invalid_argument name"],
  // The sign for kelvin, whose lower case is a letter of ASCII (RFC 4343 knows no other letters).
  [{ name: "web.svc.prod.waymar\u212a" }, "invalid_argument name"],
  [{ name: "waymark", recordType: "NONSENSE" }, "invalid_argument record_type"],
  [{ name: "waymark", recordType: "TYPE70000" }, "invalid_argument record_type"],
  [{ name: "waymark", recordType: "TYPE33" }, "accepted"],
  [{ name: "a$b.waymark" }, "accepted"],
  [{ name: "." }, "accepted"],
  [{ name: "waymark", source: { address: "" } }, "invalid_argument source.address"],
  [{ name: "waymark", source: { address: "10.0.0" } }, "invalid_argument source.address"],
  [{ name: "waymark", source: { address: "10.0.0.1", listener: "smoke" } }, "invalid_argument source.listener"],
])("ResolveName of %j is %s", async ([asked, want]) => {
  const bench = await open();
  expect(await refusal(bench.call(m.resolveName, asked, OPERATOR))).toBe(want);
});

test("records of every type have the text of zone files", async () => {
  const bench = await open();
  const metadata = { note: 'say "hé" \\' };
  await bench.register(
    asEndpoint({ targets: ["192.0.2.1", "2001:db8::", "::1", "1:0:0:2::3", "2001:db8::1:0:0:1", "host.example"], metadata }),
  );
  const of = async (name: string, recordType: string) => {
    const { answers, authority, additional } = await bench.call(m.resolveName, { name: `${name}waymark`, recordType });
    return [...answers, ...authority, ...additional].toSorted();
  };
  expect((await of("_svc._tcp.web.svc.prod.", "SRV")).filter((text) => !/ (A|AAAA) /.test(text))).toContain(
    "_svc._tcp.web.svc.prod.waymark. 30 IN SRV 0 1 8080 host.example.",
  );
  const addresses = await of("web.svc.prod.", "AAAA");
  expect(addresses.map((text) => text.split(" ").at(-1))).toEqual(["1:0:0:2::3", "2001:db8::", "2001:db8::1:0:0:1", "::1"]);
  expect((await of("web.svc.prod.", "TXT")).join("\n")).toMatch(/"namespace=svc\.prod" .* "note=say \\"h\\195\\169\\" \\\\"$/);
  expect((await of("", "SOA")).join("\n")).toMatch(/^waymark\. \d+ IN SOA \S+\. \S+\. \d+ \d+ \d+ \d+ \d+$/m);
  expect((await of("web.svc.prod.", "ANY")).join("\n")).toContain('HINFO "RFC8482" ""');
  await bench.register(asEndpoint({ name: "site", protocol: "grpc", port: 8443, targets: ["192.0.2.1", "2001:db8::"] }));
  expect(await of("site.svc.prod.", "HTTPS")).toContain('site.svc.prod.waymark. 30 IN HTTPS 1 . alpn="h2" no-default-alpn port=8443');
  const bindings = (await of("_svc._tcp.site.svc.prod.", "SVCB")).filter((text) => text.includes("SVCB"));
  expect(bindings.map((text) => text.replace(/.* SVCB 1 \S+ /, ""))).toEqual([
    'mandatory=port alpn="h2" port=8443 ipv4hint=192.0.2.1',
    'mandatory=port alpn="h2" port=8443 ipv6hint=2001:db8::',
  ]);
});
