/** Issue "Bad input": every bound, through gRPC and HTTP/JSON of a real node; nothing refused is stored. */
import { once } from "node:events";
import { connect as connectHttp2 } from "node:http2";
import { connect as connectTcp } from "node:net";
import { create, fromJson, type JsonObject, type JsonValue, toBinary } from "@bufbuild/protobuf";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { EntrySchema } from "../../gen/waymark/catalog/v1/entry_pb.js";
import { CatalogWatchRequestSchema, DiscoveryService, RegisterRequestSchema } from "../../gen/waymark/discovery/v1/discovery_pb.js";
import { connect } from "../../src/client/connect.io.ts";
import { RequestError } from "../../src/client/request-error.ts";
import { askHttp, type GrpcDoor, goodEntry, textOf } from "../fakes/node.ts";
import type { NodeProcess } from "../fakes/node-process.ts";
import { startStillNode } from "../fakes/still-node.ts";

let node: NodeProcess;
let grpc: GrpcDoor;
let leaseId = "";

beforeAll(async () => {
  ({ node, grpc } = await startStillNode([]));
  const stored = [1, 2, 3].map((i) => goodEntry({}, { name: "kept", instanceId: `kept-${i}` }));
  const { response } = await grpc.ask("register", { entries: stored, ttl: "3600s" });
  leaseId = textOf(response["leaseId"]);
});

afterAll(async () => {
  grpc[Symbol.dispose]();
  if (!node.command.isRunning) throw new Error(`the node ended: ${node.command.stderr}`);
  await node.stop();
});

const http = (): string => node.listeners["http"] ?? "";
const x = (count: number): string => "x".repeat(count);
const many = (count: number, item: (i: number) => JsonValue = (i) => `item-${i}`): JsonValue[] =>
  Array.from({ length: count }, (_, i) => item(i));
const pairs = (count: number, value = "v"): JsonObject => Object.fromEntries(Array.from({ length: count }, (_, i) => [`k-${i}`, value]));
const keyOf = (over: JsonObject = {}): JsonObject => ({ namespace: "svc.market", name: "web", instanceId: "web-1", ...over });

type Rpc = Parameters<GrpcDoor["ask"]>[0];
interface Bad {
  readonly rule: string;
  readonly request: JsonValue;
  /** Path that BadRequest must name. */
  readonly field: string;
}

/** Refused by both listeners with INVALID_ARGUMENT and the field; the catalog is as before. */
function refuses(rpc: Rpc, cases: readonly Bad[]): void {
  test.each(cases)(`${rpc} refuses $rule`, async ({ request, field }) => {
    const before = await grpc.revision();
    const viaGrpc = await grpc.ask(rpc, request);
    expect(viaGrpc).toMatchObject({ code: "INVALID_ARGUMENT", reason: "invalid_argument" });
    expect(viaGrpc.message).toMatch(/^invalid_argument: /);
    expect(viaGrpc.fields).toContain(field);
    const viaHttp = await askHttp(http(), rpc, request);
    expect(viaHttp).toMatchObject({ status: 400, code: "INVALID_ARGUMENT", reason: "invalid_argument", fields: viaGrpc.fields });
    expect(await grpc.revision()).toBe(before);
  });
}

const entry = (rule: string, field: string, over: JsonObject, key: JsonObject = {}): Bad => ({
  rule,
  // A good one before it, so that "nothing stored" means something.
  request: { entries: [goodEntry({}, { instanceId: "good" }), goodEntry(over, key)] },
  field: `entries[1].${field}`,
});
const target = (over: JsonObject): JsonObject => ({ host: "10.0.0.1", port: 80, ...over });

describe("Names and bounds", () => {
  refuses("register", [
    entry("a namespace without labels", "key.namespace", {}, { namespace: "" }),
    entry("upper case in a namespace", "key.namespace", {}, { namespace: "Svc" }),
    entry("a label that starts with a hyphen", "key.namespace", {}, { namespace: "svc.-a" }),
    entry("a label that ends in a hyphen", "key.namespace", {}, { namespace: "svc.a-" }),
    entry("an empty label", "key.namespace", {}, { namespace: "svc..a" }),
    entry("a label of 64 characters", "key.namespace", {}, { namespace: x(64) }),
    entry("a namespace of 201 characters", "key.namespace", {}, { namespace: `${"abcd.".repeat(40)}a` }),
    entry("the control plane's namespace", "key.namespace", {}, { namespace: "discovery" }),
    entry("the namespace of the nodes", "key.namespace", {}, { namespace: "discovery.nodes", kind: "ENTRY_KIND_NODE" }),
    entry("a namespace below the control plane's", "key.namespace", {}, { namespace: "discovery.a.b" }),
    entry("the namespace node", "key.namespace", {}, { namespace: "node" }),
    entry("no name", "key.name", {}, { name: "" }),
    entry("a name of 129 characters", "key.name", {}, { name: x(129) }),
    entry("a name with a space", "key.name", {}, { name: "a b" }),
    entry("no instance id", "key.instance_id", {}, { instanceId: "" }),
    entry("an instance id of 129 characters", "key.instance_id", {}, { instanceId: x(129) }),
    entry("an instance id with a newline", "key.instance_id", {}, { instanceId: "a\n" }),
    entry("a cluster id of 65 characters", "key.cluster_id", {}, { clusterId: x(65) }),
    entry("a kind this version does not know", "key.kind", {}, { kind: 9 }),
    entry("a scope this version does not know", "scope", { scope: 9 }),
    entry("a health status this version does not know", "health", { health: 9 }),
    entry("ORPHANED from a client", "health", { health: "HEALTH_STATUS_ORPHANED" }),
    entry("a zone of 65 characters", "zone", { zone: x(65) }),
    ...["tags", "capabilities", "resources"].flatMap((list) => [
      entry(`65 ${list}`, list, { [list]: many(65) }),
      entry(`one of the ${list} with 129 characters`, `${list}[0]`, { [list]: [x(129)] }),
      entry(`an empty one among ${list}`, `${list}[1]`, { [list]: ["a", ""] }),
      entry(`the same twice among ${list}`, `${list}[1]`, { [list]: ["a", "a"] }),
    ]),
    entry("65 metadata pairs", "metadata", { metadata: pairs(65) }),
    entry("a metadata key of 64 characters", `metadata["${x(64)}"]`, { metadata: { [x(64)]: "v" } }),
    entry("an empty metadata key", 'metadata[""]', { metadata: { "": "v" } }),
    entry("a metadata value of 1,025 bytes", 'metadata["k"]', { metadata: { k: x(1025) } }),
    entry("a metadata value of 513 two-byte characters", 'metadata["k"]', { metadata: { k: "é".repeat(513) } }),
    entry("65 targets", "targets", { targets: many(65, (i) => target({ port: i + 1 })) }),
    entry("two targets of one name", "targets[1].name", { targets: [target({ name: "a" }), target({ name: "a" })] }),
    entry("a target without a host", "targets[0].host", { targets: [{ port: 80 }] }),
    entry("a host that is neither address nor name", "targets[0].host", { targets: [target({ host: "300.1.1.1" })] }),
    entry("port 65536", "targets[0].port", { targets: [target({ port: 65536 })] }),
    entry("weight 65536", "targets[0].weight", { targets: [target({ weight: 65536 })] }),
    entry("an error rate above 1", "load.error_rate", { load: { errorRate: 1.01 } }),
    entry("a utilization that is no number", "load.utilization", { load: { utilization: "NaN" } }),
    entry("an advisory ttl above 24 h", "ttl", { ttl: "86401s" }),
    entry("a negative advisory ttl", "ttl", { ttl: "-1s" }),
    entry("a version that is not semantic", "function.version", { function: { version: "1.x" } }),
    entry("a detail of another kind", "queue", { queue: {} }, { kind: "ENTRY_KIND_TOPIC" }),
    entry("a latitude above 90", "cache.latitude", { cache: { latitude: 90.5 } }),
    {
      rule: "an entry above 16 KiB",
      request: { entries: [goodEntry({ metadata: pairs(17, x(1000)) })] },
      field: "entries[0]",
    },
    { rule: "no key", request: { entries: [{ targets: [] }] }, field: "entries[0].key" },
    { rule: "no entries", request: {}, field: "entries" },
    { rule: "1,001 entries", request: { entries: many(1001, (i) => goodEntry({}, { instanceId: `i${i}` })) }, field: "entries" },
    { rule: "one key twice", request: { entries: [goodEntry(), goodEntry({ tags: ["a"] })] }, field: "entries[1].key" },
    { rule: "a lease ttl below 1 s", request: { entries: [goodEntry()], ttl: "0.999s" }, field: "ttl" },
    { rule: "a lease ttl above 24 h", request: { entries: [goodEntry()], ttl: "86400.001s" }, field: "ttl" },
    { rule: "a negative lease ttl", request: { entries: [goodEntry()], ttl: "-5s" }, field: "ttl" },
    { rule: "a static lease with a ttl", request: { entries: [goodEntry()], ttl: "30s", staticLease: true }, field: "ttl" },
    { rule: "a lease id of 257 characters", request: { entries: [goodEntry()], leaseId: x(257) }, field: "lease_id" },
    { rule: "an idempotency key of 129 characters", request: { entries: [goodEntry()], idempotencyKey: x(129) }, field: "idempotency_key" },
  ]);

  refuses("renew", [
    { rule: "1,001 leases", request: { leaseIds: many(1001) }, field: "lease_ids" },
    { rule: "an empty lease id", request: { leaseIds: [""] }, field: "lease_ids[0]" },
    { rule: "a lease id of 257 characters", request: { leaseIds: ["a", x(257)] }, field: "lease_ids[1]" },
    { rule: "1,001 reports", request: { reports: many(1001, () => ({ key: keyOf() })) }, field: "reports" },
    { rule: "a report without a key", request: { reports: [{ health: "HEALTH_STATUS_HEALTHY" }] }, field: "reports[0].key" },
    {
      rule: "ORPHANED in a report",
      request: { reports: [{ key: keyOf({ name: "kept", instanceId: "kept-1" }), health: 5 }] },
      field: "reports[0].health",
    },
    { rule: "an unknown health in a report", request: { reports: [{ key: keyOf(), health: 9 }] }, field: "reports[0].health" },
    {
      rule: "a negative latency in a report",
      request: { reports: [{ key: keyOf(), load: { latencyMs: -1 } }] },
      field: "reports[0].load.latency_ms",
    },
    { rule: "a bad key in a report", request: { reports: [{ key: keyOf({ name: "" }) }] }, field: "reports[0].key.name" },
  ]);

  refuses("unregister", [
    { rule: "neither lease_id nor keys", request: {}, field: "lease_id" },
    { rule: "a lease id of 257 characters", request: { leaseId: x(257) }, field: "lease_id" },
    { rule: "1,001 keys", request: { keys: many(1001, () => keyOf()) }, field: "keys" },
    { rule: "a bad key", request: { keys: [keyOf(), keyOf({ namespace: "A" })] }, field: "keys[1].namespace" },
    { rule: "a bad key of a lease", request: { leaseId: "a/b", keys: [keyOf({ namespace: "A" })] }, field: "keys[0].namespace" },
  ]);

  // Bounded by what the protocol allows any node to hold, not by what this one lets its clients register.
  const filters: readonly Bad[] = [
    { rule: "a bad namespace", request: { namespace: "A" }, field: "namespace" },
    { rule: "a namespace of 241 characters", request: { namespace: `${"abcd.".repeat(48)}a` }, field: "namespace" },
    { rule: "a bad prefix", request: { namespacePrefix: "svc." }, field: "namespace_prefix" },
    { rule: "a prefix beside the namespace", request: { namespace: "svc.market", namespacePrefix: "svc.mark" }, field: "namespace_prefix" },
    { rule: "a prefix below the namespace", request: { namespace: "svc", namespacePrefix: "svc.market" }, field: "namespace_prefix" },
    { rule: "1,001 names", request: { names: many(1001) }, field: "names" },
    { rule: "an empty name", request: { names: ["a", ""] }, field: "names[1]" },
    { rule: "an unset kind", request: { kinds: [0] }, field: "kinds[0]" },
    { rule: "an unknown kind", request: { kinds: [9] }, field: "kinds[0]" },
    { rule: "17 kinds", request: { kinds: many(17, () => 1) }, field: "kinds" },
    { rule: "an unknown scope", request: { scope: 9 }, field: "scope" },
    ...["capabilities", "tags", "resources"].flatMap((list) => [
      { rule: `65 ${list}`, request: { [list]: many(65) }, field: list },
      { rule: `a bad one among ${list}`, request: { [list]: ["a b"] }, field: `${list}[0]` },
    ]),
    { rule: "a cluster id of 257 characters", request: { clusterId: x(257) }, field: "cluster_id" },
    { rule: "a region with a space", request: { region: "a b" }, field: "region" },
    { rule: "an unknown health", request: { health: [1, 9] }, field: "health[1]" },
    { rule: "a viewer's cluster of 257 characters", request: { viewer: { clusterId: x(257) } }, field: "viewer.cluster_id" },
    { rule: "a viewer's tenant of 257 characters", request: { viewer: { tenantId: x(257) } }, field: "viewer.tenant_id" },
  ];

  refuses("catalogQuery", [
    ...filters,
    { rule: "a negative limit", request: { limit: -1 }, field: "limit" },
    { rule: "a negative staleness", request: { maxStaleness: "-1s" }, field: "max_staleness" },
    { rule: "a forged page token", request: { pageToken: "Zm9yZ2Vk" }, field: "page_token" },
    { rule: "a page token of 8,193 characters", request: { pageToken: x(8193) }, field: "page_token" },
  ]);

  refuses("resolve", [
    { rule: "no namespace", request: { name: "web" }, field: "namespace" },
    { rule: "a bad namespace", request: { namespace: "A", name: "web" }, field: "namespace" },
    { rule: "no name", request: { namespace: "svc" }, field: "name" },
    { rule: "an unknown kind", request: { namespace: "svc", name: "web", kind: 9 }, field: "kind" },
    { rule: "an unknown policy", request: { namespace: "svc", name: "web", policy: 9 }, field: "policy" },
    { rule: "HASH without a key", request: { namespace: "svc", name: "web", policy: "RESOLVE_POLICY_HASH" }, field: "hash_key" },
    { rule: "a hash key of 1,025 bytes", request: { namespace: "svc", name: "web", hashKey: x(1025) }, field: "hash_key" },
    {
      rule: "a hash key of 513 two-byte characters",
      request: { namespace: "svc", name: "web", hashKey: "é".repeat(513) },
      field: "hash_key",
    },
    {
      rule: "a version range that is none",
      request: { namespace: "svc", name: "web", kind: 2, versionRange: "one" },
      field: "version_range",
    },
    { rule: "a version range of 129 characters", request: { namespace: "svc", name: "web", versionRange: x(129) }, field: "version_range" },
    { rule: "a negative limit", request: { namespace: "svc", name: "web", limit: -1 }, field: "limit" },
    { rule: "a limit of 101", request: { namespace: "svc", name: "web", limit: 101 }, field: "limit" },
    {
      rule: "a preference with a bad region",
      request: { namespace: "svc", name: "web", prefer: { region: "a b" } },
      field: "prefer.region",
    },
  ]);

  refuses("clusterMap", [
    { rule: "an unknown scope", request: { scope: 9 }, field: "scope" },
    { rule: "a bad namespace", request: { namespaceFilter: "A" }, field: "namespace_filter" },
    { rule: "65 capabilities", request: { capabilities: many(65) }, field: "capabilities" },
    { rule: "a negative limit", request: { limit: -1 }, field: "limit" },
    { rule: "a forged page token", request: { pageToken: "AAAA" }, field: "page_token" },
  ]);

  refuses("listPeers", [
    { rule: "an unknown scope", request: { scope: 9 }, field: "scope" },
    { rule: "a bad region", request: { region: "a b" }, field: "region" },
    { rule: "a negative limit", request: { limit: -1 }, field: "limit" },
    { rule: "a forged page token", request: { pageToken: "AAAA" }, field: "page_token" },
  ]);

  refuses("namespaceStatus", [
    { rule: "no namespace", request: {}, field: "namespace" },
    { rule: "a bad namespace", request: { namespace: "a b" }, field: "namespace" },
  ]);

  test.each([
    ...filters,
    { rule: "a bookmark interval below 1 s", request: { bookmarkInterval: "0.5s" }, field: "bookmark_interval" },
    { rule: "a bookmark interval above 10 s", request: { bookmarkInterval: "11s" }, field: "bookmark_interval" },
    { rule: "a digest of a filter that has none", request: { names: ["web"], withDigest: true }, field: "with_digest" },
    { rule: "a forged cursor", request: { cursor: "forged" }, field: "cursor" },
    { rule: "a forged short cursor", request: { cursor: "s1.boot.1.1" }, field: "cursor" },
    { rule: "a forged portable cursor", request: { cursor: "p1.AAAAAAAAAAAA" }, field: "cursor" },
    { rule: "a cursor of 65,537 characters", request: { cursor: `p1.${x(65_534)}` }, field: "cursor" },
  ])("catalogWatch refuses $rule", async ({ request, field }) => {
    const refusal = await watchRefusal(fromJson(CatalogWatchRequestSchema, request));
    expect(refusal).toMatchObject({ code: "INVALID_ARGUMENT", reason: "INVALID_ARGUMENT" });
    expect(refusal?.violations.map((violation) => violation.field)).toContain(field);
  });

  test("a namespace and a prefix that covers it are taken together", async () => {
    const alone = await grpc.ask("catalogQuery", { namespace: "svc.market" });
    expect(alone.response["items"]).not.toEqual([]);
    for (const namespacePrefix of ["svc", "svc.market"]) {
      const both = await grpc.ask("catalogQuery", { namespace: "svc.market", namespacePrefix });
      expect(both).toMatchObject({ code: "OK", response: { items: alone.response["items"] } });
    }
  });

  test("what stands on every bound is taken", async () => {
    const full = goodEntry(
      {
        tags: many(64),
        capabilities: [x(128)],
        metadata: { ...pairs(62), [x(63)]: "é".repeat(512), b: x(1024) },
        targets: many(64, (i) => target({ name: i === 0 ? "" : `p${i}`, port: i === 0 ? 65_535 : i - 1 })),
        ttl: "86400s",
      },
      { namespace: `${"abcd.".repeat(39)}abcde`, name: x(128), instanceId: x(128) },
    );
    const { code, message, response } = await grpc.ask("register", { entries: [full], ttl: "86400s", idempotencyKey: x(128) });
    expect(message).toBe("");
    expect(code).toBe("OK");
    expect(await grpc.ask("unregister", { leaseId: response["leaseId"] ?? "" })).toMatchObject({ response: { removed: 1 } });
    const thousand = many(1000, (i) => goodEntry({}, { name: "thousand", instanceId: `i${i}` }));
    const stored = await grpc.ask("register", { entries: thousand, ttl: "60s" });
    expect(stored.code).toBe("OK");
    const more = await grpc.ask("register", {
      entries: [goodEntry({}, { name: "thousand", instanceId: "last" })],
      leaseId: stored.response["leaseId"] ?? "",
    });
    expect(more.code).toBe("OK");
    const page = await grpc.ask("catalogQuery", { names: ["thousand"], limit: 5000 });
    expect(page.response["items"]).toHaveLength(1000);
    expect(page.response["nextPageToken"]).toBeTypeOf("string");
    const rest = await grpc.ask("catalogQuery", { names: ["thousand"], limit: 5000, pageToken: page.response["nextPageToken"] ?? "" });
    expect(rest.response["items"]).toHaveLength(1);
    await grpc.ask("unregister", { leaseId: stored.response["leaseId"] ?? "" });
  });
});

async function watchRefusal(request: ReturnType<typeof create<typeof CatalogWatchRequestSchema>>) {
  const client = connect({ servers: [node.grpc] });
  try {
    for await (const _ of client.stream(DiscoveryService.method.catalogWatch, request)) throw new Error("was not refused");
    throw new Error("ended without a refusal");
  } catch (error) {
    if (error instanceof RequestError) return error.facts;
    throw error;
  } finally {
    client.close();
  }
}

describe("Page tokens and cursors", () => {
  const page = async (request: JsonObject) => grpc.ask("catalogQuery", request);

  test("a page token is refused with another filter, truncated, changed, and by another method", async () => {
    const { response } = await page({ names: ["kept"], limit: 1 });
    const token = textOf(response["nextPageToken"]);
    expect(await page({ names: ["kept"], limit: 2, pageToken: token })).toMatchObject({ code: "OK" });
    const flipped = `${token.slice(0, -1)}${token.endsWith("A") ? "B" : "A"}`;
    for (const request of [
      { names: ["other"], pageToken: token },
      { namespace: "svc.market", names: ["kept"], pageToken: token },
      { names: ["kept"], pageToken: token.slice(0, -3) },
      { names: ["kept"], pageToken: flipped },
    ])
      expect(await page(request)).toMatchObject({ code: "INVALID_ARGUMENT", fields: ["page_token"] });
    expect(await grpc.ask("clusterMap", { pageToken: token })).toMatchObject({ code: "INVALID_ARGUMENT", fields: ["page_token"] });
  });

  test("a cursor is refused truncated or changed, and honoured whole", async () => {
    const { response } = await page({ names: ["kept"] });
    const cursor = textOf(response["cursor"]);
    const start = cursor.slice(0, cursor.lastIndexOf("."));
    for (const bad of [cursor.slice(0, -1), `${cursor}0`, start, cursor.replace(/\.[^.]+\.([^.]+)$/, ".zzzz.$1")])
      expect(await watchRefusal(create(CatalogWatchRequestSchema, { cursor: bad }))).toMatchObject({
        reason: "INVALID_ARGUMENT",
        violations: [{ field: "cursor" }],
      });
    const after = await grpc.ask("register", {
      entries: [goodEntry({ tags: ["later"] }, { name: "kept", instanceId: "kept-1" })],
      leaseId,
    });
    const client = connect({ servers: [node.grpc] });
    for await (const message of client.stream(DiscoveryService.method.catalogWatch, { names: ["kept"], cursor })) {
      expect(message).toMatchObject({ snapshot: 0, revision: BigInt(textOf(after.response["revision"])), deltas: [{}] });
      break;
    }
    client.close();
  });
});

describe("What is not there", () => {
  test.each([
    { rpc: "unregister", request: { leaseId: "nowhere/none" } },
    { rpc: "unregister", request: { leaseId: "nowhere/none", keys: [keyOf()] } },
    { rpc: "register", request: { entries: [goodEntry()], leaseId: "nowhere/none" } },
  ] satisfies readonly { rpc: Rpc; request: JsonValue }[])(
    "$rpc with an unknown lease is NOT_FOUND and stores nothing",
    async ({ rpc, request }) => {
      const before = await grpc.revision();
      expect(await grpc.ask(rpc, request)).toMatchObject({ code: "NOT_FOUND", reason: "lease_not_found" });
      expect(await askHttp(http(), rpc, request)).toMatchObject({ status: 404, code: "NOT_FOUND", reason: "lease_not_found" });
      expect(await grpc.revision()).toBe(before);
    },
  );

  test("renew reports an unknown lease as expired and renews the others", async () => {
    const { response } = await grpc.ask("renew", { leaseIds: ["nowhere/none", leaseId] });
    expect(response).toEqual({ expiredLeaseIds: ["nowhere/none"], ttl: "3600s" });
  });

  test("a report on an entry that is not there is NOT_FOUND", async () => {
    const report = { reports: [{ key: keyOf({ name: "absent" }), health: "HEALTH_STATUS_HEALTHY" }] };
    expect(await grpc.ask("renew", report)).toMatchObject({ code: "NOT_FOUND", reason: "not_found" });
  });

  test("unregister of an absent key removes nothing and is no error", async () => {
    const { code, response } = await grpc.ask("unregister", { keys: [keyOf({ name: "absent" })] });
    expect({ code, removed: response["removed"] ?? 0 }).toEqual({ code: "OK", removed: 0 });
  });

  test("resolve of an absent service is NOT_FOUND", async () => {
    expect(await grpc.ask("resolve", { namespace: "svc.market", name: "absent" })).toMatchObject({
      code: "NOT_FOUND",
      reason: "not_found",
    });
  });

  test("resolve of a service that is all in maintenance is FAILED_PRECONDITION", async () => {
    const entries = [goodEntry({ health: "HEALTH_STATUS_MAINTENANCE" }, { name: "closed" })];
    const { response } = await grpc.ask("register", { entries, ttl: "3600s" });
    const asked = { namespace: "svc.market", name: "closed" };
    expect(await grpc.ask("resolve", asked)).toMatchObject({ code: "FAILED_PRECONDITION", reason: "in_maintenance" });
    expect(await askHttp(http(), "resolve", asked)).toMatchObject({ code: "FAILED_PRECONDITION", reason: "in_maintenance" });
    await grpc.ask("unregister", { leaseId: response["leaseId"] ?? "" });
  });

  test("summaries of scope GLOBAL need a setting, and the refusal names it", async () => {
    const refused = await grpc.ask("summaryQuery", { scope: "SCOPE_GLOBAL" });
    expect(refused).toMatchObject({ code: "FAILED_PRECONDITION", reason: "summaries_disabled" });
    expect(JSON.stringify(refused)).toContain("summary.keys");
  });
});

describe("JSON", () => {
  test.each([
    { rule: "a number where a text belongs", rpc: "catalogQuery", body: { namespace: 5 }, field: "namespace" },
    { rule: "a text where a number belongs", rpc: "catalogQuery", body: { limit: "many" }, field: "limit" },
    { rule: "a fraction where a whole number belongs", rpc: "catalogQuery", body: { limit: 1.5 }, field: "limit" },
    { rule: "a number beyond 32 bits", rpc: "catalogQuery", body: { limit: 2 ** 31 }, field: "limit" },
    { rule: "an object where a list belongs", rpc: "catalogQuery", body: { names: {} }, field: "names" },
    { rule: "a number in a list of texts", rpc: "catalogQuery", body: { names: ["a", 1] }, field: "names[1]" },
    { rule: "a duration without its unit", rpc: "register", body: { entries: [goodEntry()], ttl: "30" }, field: "ttl" },
    { rule: "an unknown field", rpc: "catalogQuery", body: { namspace: "svc" }, field: "namspace" },
    {
      rule: "an unknown field deep down",
      rpc: "register",
      body: { entries: [goodEntry({ targets: [{ host: "a", prt: 1 }] })] },
      field: "entries[0].targets[0].prt",
    },
    { rule: "an unknown enum name", rpc: "catalogQuery", body: { scope: "SCOPE_PLANET" }, field: "scope" },
    { rule: "an unknown enum name in a list", rpc: "catalogQuery", body: { kinds: ["ENTRY_KIND_SERVICE", "SERVICE"] }, field: "kinds[1]" },
    {
      rule: "an unknown health of an entry",
      rpc: "register",
      body: { entries: [goodEntry({ health: "FINE" })] },
      field: "entries[0].health",
    },
    { rule: "a list instead of a request", rpc: "catalogQuery", body: [], field: "request" },
    { rule: "half a request", rpc: "register", body: '{"entries":[{"key":{"name', field: "request" },
    { rule: "no JSON at all", rpc: "catalogQuery", body: "namespace=svc", field: "request" },
  ] as const)("is refused with $rule", async ({ rpc, body, field }) => {
    const before = await grpc.revision();
    const answer = await askHttp(http(), rpc, body as JsonValue);
    expect(answer).toMatchObject({ status: 400, code: "INVALID_ARGUMENT", reason: "invalid_argument" });
    expect(answer.fields).toContain(field);
    expect(await grpc.revision()).toBe(before);
  });
});

/** A gRPC call by hand: what is sent and when it ends is the test's. */
async function rawGrpc(rpc: string, body: Uint8Array, headers: Readonly<Record<string, string>> = {}): Promise<Record<string, string>> {
  const session = connectHttp2(`http://${node.grpc}`);
  try {
    const stream = session.request({
      ":method": "POST",
      ":path": `/${DiscoveryService.typeName}/${rpc}`,
      "content-type": "application/grpc",
      te: "trailers",
      ...headers,
    });
    const said: Record<string, string> = {};
    const note = (fields: Readonly<Record<string, unknown>>): void => {
      for (const [name, value] of Object.entries(fields)) if (typeof value === "string") said[name] = value;
    };
    stream.on("response", note);
    stream.on("trailers", note);
    stream.resume();
    stream.end(body);
    await once(stream, "close", { signal: AbortSignal.timeout(30_000) });
    return said;
  } finally {
    session.close();
  }
}

function framed(message: Uint8Array, sizeBytes = message.length): Buffer {
  const head = Buffer.alloc(5);
  head.writeUInt32BE(sizeBytes, 1);
  return Buffer.concat([head, message]);
}

describe("Deadlines and sizes", () => {
  test.each([
    { timeout: "99999999H", code: "0" },
    { timeout: "99999999S", code: "0" },
    { timeout: "0m", code: "4" },
    { timeout: "1n", code: "4" },
    { timeout: "-1S", code: "3" },
    { timeout: "999999999S", code: "3" },
    { timeout: "1 S", code: "3" },
    { timeout: "soon", code: "3" },
  ])("gRPC with the deadline $timeout ends with status $code", async ({ timeout, code }) => {
    expect(await rawGrpc("ServerInfo", framed(new Uint8Array()), { "grpc-timeout": timeout })).toMatchObject({ "grpc-status": code });
  });

  test.each([
    { timeout: "9999999999", status: 200 },
    { timeout: "99999999999", status: 400 },
    { timeout: "-1", status: 400 },
    { timeout: "soon", status: 400 },
  ])("HTTP with the deadline $timeout ends with $status", async ({ timeout, status }) => {
    const answer = await askHttp(http(), "serverInfo", {}, { "connect-timeout-ms": timeout });
    expect(answer.status).toBe(status);
  });

  const huge = toBinary(RegisterRequestSchema, create(RegisterRequestSchema, { idempotencyKey: x(5 * 1024 * 1024) }));

  test("5 MiB over gRPC is refused as over the size bound", async () => {
    const before = await grpc.revision();
    expect(await grpc.send(DiscoveryService.method.register, huge)).toMatchObject({ code: "RESOURCE_EXHAUSTED", reason: "quota_exceeded" });
    expect(await grpc.revision()).toBe(before);
  });

  test("5 MiB over HTTP is refused as over the size bound", async () => {
    const answer = await askHttp(http(), "register", { idempotencyKey: x(5 * 1024 * 1024) });
    expect(answer).toMatchObject({ status: 429, code: "RESOURCE_EXHAUSTED", reason: "quota_exceeded" });
    expect(answer.message).toMatch(/^quota_exceeded: message too large: it has \d+ bytes, and the limit is 4194304$/);
  });

  test("a frame that promises 4 GiB is refused before it is read", async () => {
    expect(await rawGrpc("Register", framed(new Uint8Array(8), 2 ** 32 - 1))).toMatchObject({ "grpc-status": "8" });
  });

  test("half a request over gRPC is refused and stores nothing", async () => {
    const before = await grpc.revision();
    const whole = toBinary(
      RegisterRequestSchema,
      create(RegisterRequestSchema, { entries: [create(EntrySchema, { key: { namespace: "svc", name: "half", instanceId: "1" } })] }),
    );
    // Ended inside the frame; and a whole frame around half a message.
    expect(await rawGrpc("Register", framed(whole.subarray(0, 9), whole.length))).toMatchObject({ "grpc-status": "3" });
    expect(await rawGrpc("Register", framed(whole.subarray(0, 9)))).toMatchObject({ "grpc-status": "3" });
    // A unary call without a message is not that method's at all: gRPC's own clients answer it so.
    expect(await rawGrpc("Register", new Uint8Array())).toMatchObject({ "grpc-status": "12" });
    expect(await grpc.revision()).toBe(before);
  });

  test("half a request over HTTP, then a closed connection, stores nothing", async () => {
    const before = await grpc.revision();
    const [host = "", port = ""] = http().split(":");
    const socket = connectTcp(Number(port), host);
    await once(socket, "connect");
    const body = JSON.stringify({ entries: [goodEntry({}, { name: "half" })] });
    socket.write(
      `POST /${DiscoveryService.typeName}/Register HTTP/1.1\r\nhost: ${host}\r\ncontent-type: application/json\r\ncontent-length: ${body.length}\r\n\r\n`,
    );
    socket.end(body.slice(0, -2));
    await once(socket.resume(), "close", { signal: AbortSignal.timeout(30_000) });
    expect(await grpc.revision()).toBe(before);
  });
});
