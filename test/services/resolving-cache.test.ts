/** The calls about the cache of a resolver: what they say, and what they leave in the audit log. */
import assert from "node:assert/strict";
import { toJson } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import { CacheStatsResponseSchema, ResolverService } from "../../gen/waymark/resolver/v1/resolver_pb.js";
import { WaymarkError } from "../../src/lib/errors.ts";
import { Metrics } from "../../src/lib/metrics/metrics.ts";
import type { AuditEvent } from "../../src/policy/audit/record.ts";
import type { OperationOutcome, OperationRequest } from "../../src/resolver/maintenance/cache-operations.ts";
import type { ResolverStatistics } from "../../src/resolver/maintenance/statistics.ts";
import { resolverServices } from "../../src/services/resolving/services.ts";

const STATISTICS: ResolverStatistics = {
  entryCount: 12,
  followedCount: 2,
  hitCount: 9,
  missCount: 3,
  staleCount: 1,
  negativeCount: 2,
  ageMs: 1500,
  cursor: "c",
  lagMs: 0,
  resyncs: { operator: 1, digest: 2, gap: 0, policy: 0 },
  heldCount: 4,
  unheldCount: 0,
  sizeBytes: 5000.5,
  evictedCount: 6,
  upstream: "127.0.0.1:1",
  upstreamChangeCount: 1,
  upstreamFaults: { cluster: 0, region: 0, loop: 0, chain: 0, policy: 0, garbled: 0 },
};
const CALLER = { principal: "ann", tenant: "ops", address: "127.0.0.1" } as never;
const CONTEXT = { caller: CALLER, time: { monoMs: 1, wallMs: 7 }, requestId: "r" };

function cacheWith(outcome: OperationOutcome, changes: Partial<ResolverStatistics> = {}) {
  const [events, asked]: [AuditEvent[], Omit<OperationRequest, "onOutcome">[]] = [[], []];
  const parts = {
    statistics: () => ({ ...STATISTICS, ...changes }),
    act: ({ onOutcome: told, ...request }: OperationRequest) => {
      asked.push(request);
      told(outcome);
    },
    audit: { record: (event: AuditEvent) => void events.push(event) },
    servedBy: "r1",
  };
  // These calls ask nothing of the rest.
  const rest = { metrics: new Metrics(), ports: {}, reads: {}, identity: { nodeId: "r1" }, upstreams: [] };
  const resolver = resolverServices({ ...rest, cache: parts } as never).find(({ desc }) => desc === ResolverService);
  assert(resolver !== undefined);
  const call = async (name: string, request: object) => {
    const handler = resolver.handlers[name];
    assert(handler?.kind === "unary", name);
    return handler.handle(request as never, CONTEXT);
  };
  const page = async (path: string) => resolver.routes?.find((route) => route.path === path)?.answer?.({}, CONTEXT);
  return { events, asked, call, page };
}

const SAID = {
  entries: "12",
  hits: "9",
  misses: "3",
  staleServes: "1",
  negativeHits: "2",
  hitRate: 0.75,
  age: "1.500s",
  cursor: "c",
  lag: "0s",
  resyncs: { operator: "1", digest: "2", gap: "0", policy: "0" },
  held: "4",
  bytes: "5001",
  evictions: "6",
  upstream: "127.0.0.1:1",
};

test("statistics are the same by the call and by HTTP; what is unknown is absent", async () => {
  const { call, page } = cacheWith({ entryCount: 0 });
  const said = await call("cacheStats", {});
  expect(toJson(CacheStatsResponseSchema, said as never)).toEqual(SAID);
  expect(await page("/discovery/cache")).toEqual({ kind: "page", page: SAID });
  expect(await page("/discovery/lag")).toEqual({ kind: "page", page: { servedBy: "r1", upstream: "127.0.0.1:1", lag: "0s" } });
  const unknown = cacheWith({ entryCount: 0 }, { lagMs: undefined, ageMs: undefined, hitCount: 0, upstream: "" });
  expect(await unknown.page("/discovery/lag")).toEqual({ kind: "page", page: { servedBy: "r1", upstream: "" } });
  const bare = toJson(CacheStatsResponseSchema, (await unknown.call("cacheStats", {})) as never);
  expect(Object.keys(bare as object).filter((name) => ["age", "lag", "hitRate"].includes(name))).toEqual([]);
});

test.each(["resync", "prewarm", "evict"] as const)("%s says how many entries, and who did it stands in the audit log", async (act) => {
  const { call, asked, events } = cacheWith({ entryCount: 5 });
  expect(await call(act, { namespaces: ["svc"] })).toMatchObject({ entries: 5n });
  await call(act, { namespaces: [] });
  expect(asked).toEqual([
    { act, namespaces: ["svc"] },
    { act, namespaces: [] },
  ]);
  const event = { kind: "admin", atWallMs: 7, principal: "ann", tenant: "ops", action: `cache.${act}`, outcome: "allowed" };
  expect(events).toMatchObject([
    { ...event, namespace: "svc", detail: "5 entries in svc" },
    { ...event, namespace: "", detail: "5 entries in all namespaces" },
  ]);
});

test("an act that is refused is refused to the caller, and stands in the audit log with its reason", async () => {
  const { call, events } = cacheWith({ error: new WaymarkError("quota_exceeded", "no room") });
  await expect(call("prewarm", { namespaces: ["a", "b"] })).rejects.toMatchObject({ reason: "quota_exceeded" });
  expect(events).toMatchObject([{ outcome: "denied", reason: "quota_exceeded", detail: "failed for a, b" }]);
});
