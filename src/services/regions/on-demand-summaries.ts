/**
 * SummaryQuery and SummaryWatch on a node without cluster keys. Answers to queries are computed on demand from the node's own cluster, and watches
 * are rejected.
 */
import { create } from "@bufbuild/protobuf";
import { durationFromMs, timestampFromMs } from "@bufbuild/protobuf/wkt";
import type { EntryKind } from "../../../gen/waymark/catalog/v1/entry_pb.js";
import { type HealthBand, ServiceSummarySchema } from "../../../gen/waymark/catalog/v1/summary_pb.js";
import {
  type SummaryQueryRequest,
  type SummaryQueryResponse,
  SummaryQueryResponseSchema,
} from "../../../gen/waymark/discovery/v1/summary_pb.js";
import { SCOPE } from "../../catalog/entry/scope.ts";
import { pageLimit } from "../../catalog/query/query.ts";
import type { CatalogReads } from "../../discovery/reads.ts";
import { OnDemandSummaries } from "../../discovery/summaries/on-demand-summaries.ts";
import { WaymarkError } from "../../lib/errors.ts";
import { type Caller, viewerOf } from "../../policy/identity/caller.ts";
import type { PolicySource } from "../../policy/set/verdict.ts";
import { channelTtlMs, type SummaryFacts } from "../../summary/summary.ts";
import type { PeerDirectory } from "../discovery/answer-age.ts";
import { freshness, wireScope } from "../discovery/nodes.ts";
import { type SummaryMethod, summaryFilter } from "../discovery/summaries.ts";
import { summaryRoute } from "../discovery/summary-route.ts";
import type { CallContext, MethodHandler } from "../service.ts";

export interface OnDemandParts {
  readonly reads: CatalogReads;
  readonly policies: PolicySource;
  readonly identity: { readonly nodeId: string; readonly clusterId: string };
  readonly mesh: Pick<PeerDirectory, "ageMs" | "unreachable">;
  readonly allowsViewerOverride: boolean;
  /** `summary.ttl`. */
  readonly summaryTtlMs: number;
  /** Yields to other work on this thread. */
  readonly pause: () => Promise<void>;
  readonly onRead: (caller: Caller, namespace: string) => void;
}

export function onDemandSummaryHandlers(parts: OnDemandParts) {
  const counted = new OnDemandSummaries(parts.reads, parts.policies);
  const query = (request: SummaryQueryRequest, context: CallContext) => answer(parts, counted, request, context);
  const handlers: Readonly<Record<SummaryMethod, MethodHandler>> = {
    summaryQuery: { kind: "unary", handle: query },
    summaryWatch: { kind: "server_streaming", open: () => refuse("this node does not store summaries, so they cannot be watched") },
  };
  return { handlers, routes: [summaryRoute(query)] };
}

function refuse(why: string): never {
  throw new WaymarkError("summaries_disabled", `${why}: set summary.keys, summary.signing_key_file or fabric.borders on this node`);
}

async function answer(
  parts: OnDemandParts,
  counted: OnDemandSummaries,
  request: SummaryQueryRequest,
  context: CallContext,
): Promise<SummaryQueryResponse> {
  const filter = { ...summaryFilter(request), names: request.serviceId === "" ? [] : [request.serviceId] };
  if (request.forResolver) refuse("this node has no signed summaries for resolvers");
  if (filter.summaries?.channel === SCOPE.GLOBAL) refuse("this node has no cluster keys, which it needs to sign summaries of scope GLOBAL");
  const caller = viewerOf(context.caller, request.viewer, parts.allowsViewerOverride);
  const asked = { filter, token: request.pageToken, limit: pageLimit(request.limit) };
  const counting = counted.page(caller, asked, context.time.wallMs);
  let step = counting.next();
  for (; step.done !== true; step = counting.next()) await parts.pause();
  const { items, nextToken: nextPageToken } = step.value;
  parts.onRead(context.caller, filter.namespace);
  return create(SummaryQueryResponseSchema, {
    items: items.map((facts) => summaryOf(parts, facts, context.time.wallMs)),
    nextPageToken,
    hiddenBy: { ...parts.reads.hiddenBy(caller, items) },
    generatedAt: timestampFromMs(context.time.wallMs),
    ...freshness(parts, context),
  });
}

/** Encodes a summary with the same fields as a signed summary, except number, key and signature. */
function summaryOf({ identity, summaryTtlMs }: OnDemandParts, facts: SummaryFacts, wallMs: number) {
  const { latency } = facts;
  // oxlint-disable-next-line typescript/no-unsafe-enum-assignment -- kinds and health levels have the same numbers in the proto
  const [kind, healthBand]: [EntryKind, HealthBand] = [facts.kind, facts.band];
  return create(ServiceSummarySchema, {
    namespace: facts.namespace,
    serviceId: facts.serviceId,
    kind,
    regions: [...facts.regions],
    endpointCount: facts.endpointCount,
    healthBand,
    ...((latency.minMs > 0 || latency.maxMs > 0) && { latencyBandMs: { min: latency.minMs, max: latency.maxMs } }),
    ttl: durationFromMs(channelTtlMs(summaryTtlMs, facts.channel)),
    generatedAt: timestampFromMs(wallMs),
    sourceCluster: identity.clusterId,
    scope: wireScope(facts.channel),
    exporter: identity.nodeId,
    ...(facts.notAfterWallMs !== undefined && { notAfter: timestampFromMs(facts.notAfterWallMs) }),
    noStale: facts.noStale,
    policyVersion: facts.policyVersion,
    policyNumber: BigInt(facts.policyNumber),
    policyRule: facts.policyRule,
  });
}
