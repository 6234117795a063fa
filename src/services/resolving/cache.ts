/** The calls of ResolverService that concern the cache of a resolver: its statistics and its operations. Each operation writes an audit record. */
import { create, type JsonValue, type Message, toJson } from "@bufbuild/protobuf";
import { type Duration, DurationSchema, durationFromMs } from "@bufbuild/protobuf/wkt";
import {
  type CacheStatsResponse,
  CacheStatsResponseSchema,
  type EvictRequest,
  EvictResponseSchema,
  type PrewarmRequest,
  PrewarmResponseSchema,
  type ResyncRequest,
  ResyncResponseSchema,
} from "../../../gen/waymark/resolver/v1/resolver_pb.js";
import { WaymarkError } from "../../lib/errors.ts";
import type { Time } from "../../lib/machine.ts";
import { counted } from "../../lib/text/visible-text.ts";
import { type AuditSink, accessEvent } from "../../policy/audit/record.ts";
import type { CacheOperation, OperationRequest } from "../../resolver/maintenance/cache-operations.ts";
import { hitRatio, type ResolverStatistics } from "../../resolver/maintenance/statistics.ts";
import type { CallContext, HttpRoute, ServiceDefinition } from "../service.ts";

export interface CacheParts {
  readonly statistics: (time: Time) => ResolverStatistics;
  readonly act: (request: OperationRequest) => void;
  readonly audit: Pick<AuditSink, "record">;
  /** The id of this resolver. */
  readonly servedBy: string;
}

export function cacheHandlers(parts: CacheParts): ServiceDefinition["handlers"] {
  const { statistics } = parts;
  const acted = (act: CacheOperation, namespaces: readonly string[], context: CallContext) => actOn(parts, { act, namespaces }, context);
  return {
    cacheStats: { kind: "unary", handle: (_request, { time }) => statsOf(statistics(time)) },
    resync: {
      kind: "unary",
      handle: async ({ namespaces }: ResyncRequest, context) =>
        create(ResyncResponseSchema, { entries: await acted("resync", namespaces, context) }),
    },
    prewarm: {
      kind: "unary",
      handle: async ({ namespaces }: PrewarmRequest, context) =>
        create(PrewarmResponseSchema, { entries: await acted("prewarm", namespaces, context) }),
    },
    evict: {
      kind: "unary",
      handle: async ({ namespaces }: EvictRequest, context) =>
        create(EvictResponseSchema, { entries: await acted("evict", namespaces, context) }),
    },
  };
}

/** Returns the routes `GET /discovery/cache` and `GET /discovery/lag`. On a node, `GET /discovery/lag` returns the state of replication. */
export function cacheRoutes({ statistics, servedBy }: CacheParts): readonly HttpRoute[] {
  const rpc = "cacheStats";
  return [
    {
      path: "/discovery/cache",
      parameters: [],
      rpc,
      answer: (_asked, { time }) => ({
        kind: "page",
        page: toJson(CacheStatsResponseSchema, statsOf(statistics(time)), { alwaysEmitImplicit: true }),
      }),
    },
    {
      path: "/discovery/lag",
      parameters: [],
      rpc,
      answer: (_asked, { time }) => {
        const { lagMs, upstream } = statistics(time);
        const lag = lagMs !== undefined && { lag: toJson(DurationSchema, spanOf(lagMs)) };
        const page: JsonValue = { servedBy, upstream, ...lag };
        return { kind: "page", page };
      },
    },
  ];
}

/** Runs an operation on the cache. Resolves with the number of affected entries. Rejects with the operation's error. */
async function actOn(
  { act: begin, audit }: CacheParts,
  { act, namespaces }: Pick<OperationRequest, "act" | "namespaces">,
  { caller, time }: CallContext,
): Promise<bigint> {
  const namespace = namespaces.length === 1 ? (namespaces[0] ?? "") : "";
  const whole = namespaces.length === 0 ? "all namespaces" : namespaces.join(", ");
  const note = (outcome: "allowed" | "denied", reason: string, result: string) => {
    const event = { action: `cache.${act}`, namespace, outcome, reason, rule: "", detail: `${result} ${whole}` };
    audit.record({ ...accessEvent(caller, event, time), kind: "admin" });
  };
  const { promise, resolve, reject } = Promise.withResolvers<number>();
  begin({ act, namespaces, onOutcome: (outcome) => ("error" in outcome ? reject(outcome.error) : resolve(outcome.entryCount)) });
  try {
    const entryCount = await promise;
    note("allowed", "", `${counted(entryCount, "entry", "entries")} in`);
    return BigInt(entryCount);
  } catch (error) {
    note("denied", error instanceof WaymarkError ? error.reason : "", "failed for");
    throw error;
  }
}

/**
 * The fields that all answers about the cache have in common. Because of this type, `statsOf` does not compile if a new field is missing, which would
 * otherwise be 0.
 */
type AlwaysReported = Exclude<keyof CacheStatsResponse, keyof Message | "age" | "lag">;

function statsOf(statistics: ResolverStatistics) {
  const { entryCount, hitCount, missCount, staleCount, negativeCount, heldCount, sizeBytes, evictedCount } = statistics;
  const { ageMs, lagMs, cursor, upstream, resyncs } = statistics;
  const told = {
    entries: BigInt(entryCount),
    hits: BigInt(hitCount),
    misses: BigInt(missCount),
    staleServes: BigInt(staleCount),
    negativeHits: BigInt(negativeCount),
    hitRate: hitRatio(statistics),
    cursor,
    resyncs: Object.fromEntries(Object.entries(resyncs).map(([reason, count]) => [reason, BigInt(count)])),
    held: BigInt(heldCount),
    bytes: BigInt(Math.round(sizeBytes)),
    evictions: BigInt(evictedCount),
    upstream,
  } satisfies Record<AlwaysReported, unknown>;
  return create(CacheStatsResponseSchema, {
    ...told,
    ...(ageMs !== undefined && { age: spanOf(ageMs) }),
    ...(lagMs !== undefined && { lag: spanOf(lagMs) }),
  });
}

function spanOf(lengthMs: number): Duration {
  return durationFromMs(Math.max(0, Math.round(lengthMs)));
}
