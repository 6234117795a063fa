/** Implements DiscoveryService.Resolve, which returns the best endpoint of a service and alternatives. */
import { create, toBinary } from "@bufbuild/protobuf";
import { durationFromMs } from "@bufbuild/protobuf/wkt";
import { EntryKeySchema } from "../../../gen/waymark/catalog/v1/entry_pb.js";
import { HealthBand } from "../../../gen/waymark/catalog/v1/summary_pb.js";
import {
  type Explanation,
  ExplanationSchema,
  type Redirect,
  RedirectSchema,
  type ResolveRequest,
  ResolveResponseSchema,
} from "../../../gen/waymark/discovery/v1/discovery_pb.js";
import { decodeMessage } from "../../catalog/entry/codec.ts";
import { findKind } from "../../catalog/entry/kinds.ts";
import { NODES_NAMESPACE } from "../../catalog/entry/names.ts";
import type { EntryView } from "../../catalog/entry/view.ts";
import { type CatalogRecord, type KeyText, KIND, type Kind, keyParts } from "../../catalog/record/record.ts";
import { isHosted } from "../../consumer/health-tiers.ts";
import { SELECT_POLICY, type SelectPolicy, type ZoneLocality } from "../../consumer/locality-levels.ts";
import { type NameRotation, RotationCache } from "../../consumer/rotation-cache.ts";
import { MAX_EXPLAINED, type SelectionBasis, type SelectResult, select } from "../../consumer/select.ts";
import { explainVersion, samplingOf, versionTest, withHosts } from "../../discovery/candidates.ts";
import type { CatalogReads, ExplainedEntry } from "../../discovery/reads.ts";
import type { LoadReports } from "../../discovery/registrar/load-reports.ts";
import { BestClusters, type ClusterRequest } from "../../discovery/summaries/best-clusters.ts";
import type { SummaryReads } from "../../discovery/summaries/summary-reads.ts";
import { invalid, WaymarkError } from "../../lib/errors.ts";
import type { MetricSeries, Metrics } from "../../lib/metrics/metrics.ts";
import { viewerOf } from "../../policy/identity/caller.ts";
import { BAND, type Band } from "../../summary/summary.ts";
import type { CallContext, MethodHandler } from "../service.ts";
import type { PeerDirectory } from "./answer-age.ts";
import { freshness } from "./nodes.ts";
import type { DiscoveryBytes } from "./response-bytes.ts";

export interface ResolveParts {
  readonly reads: CatalogReads;
  readonly bytes: DiscoveryBytes;
  readonly loads: Pick<LoadReports, "of">;
  readonly identity: { readonly nodeId: string; readonly region: string; readonly zone: string };
  readonly mesh: Pick<PeerDirectory, "ageMs" | "unreachable">;
  readonly checkCaughtUp: () => void;
  readonly allowsViewerOverride: boolean;
  readonly random: () => number;
  readonly metrics: Metrics;
  /** Finds the cluster to which callers are redirected if no local entry can be chosen. Absent if callers are never redirected. */
  readonly redirects?: ClusterRedirects | undefined;
}

const DEFAULT_ALTERNATIVES = 4;
const NODE_NAME = { kind: KIND.NODE, namespace: NODES_NAMESPACE };

interface FoundEntry {
  readonly key: KeyText;
  readonly view: EntryView & { readonly isHosted?: boolean };
  readonly record: CatalogRecord;
}

/**
 * Largest total size of the rotations that a thread caches. One unit of size is a few dozen bytes, and the rotation of most names has a size of two
 * or three.
 */
const MOST_TURNS = 50_000;

export function resolveHandler(parts: ResolveParts): MethodHandler {
  const book = new RotationCache(MOST_TURNS);
  const counted = (by: SelectionBasis) => parts.metrics.counter("discovery_resolve_choices_total", { by });
  const choices = { load: counted("load"), turn: counted("turn"), random: counted("random"), hash: counted("hash") };
  // A single counter is used for all services. The counter selects the parts of names with many entries in turn, so its initial value does not
  // matter.
  let turn = 0;
  return {
    kind: "unary",
    handle: (request: ResolveRequest, context: CallContext) => {
      turn = (turn + 1) % 0x4000_0000;
      return resolve(parts, { request, context, turn, book, choices });
    },
  };
}

interface ResolveInput {
  readonly request: ResolveRequest;
  readonly context: CallContext;
  readonly turn: number;
  readonly book: RotationCache;
  readonly choices: Readonly<Record<SelectionBasis, MetricSeries>>;
}

function resolve(parts: ResolveParts, { request, context, turn, book, choices }: ResolveInput) {
  const { reads, bytes, loads, allowsViewerOverride } = parts;
  const { namespace } = request;
  const kind = findKind(request.kind) ?? KIND.SERVICE;
  const options = optionsOf(request, parts);
  const isFit = versionTest(kind, request.versionRange);
  const unfit = new Set<CatalogRecord>();
  const suits = (record: CatalogRecord): boolean => {
    if (isFit?.(record.traits.version) !== false) return true;
    if (unfit.size < MAX_EXPLAINED) unfit.add(record);
    return false;
  };
  const read = (record: CatalogRecord): FoundEntry => {
    const load = loads.of(record.key);
    const view = reads.entry(record);
    return { key: record.key, record, view: load === undefined ? view : { ...view, load } };
  };
  const nodes = { sampling: samplingOf({ ...options, turn }), read: (record: CatalogRecord) => reads.entry(record) };
  const viewer = viewerOf(context.caller, request.viewer, allowsViewerOverride);
  const asked = { sampling: samplingOf({ ...options, turn }), suits: isFit && suits, read };
  const { found: own, ranks } = reads.find(viewer, { kind, namespace, name: request.name }, asked);
  const found = isHosted(kind) ? throughHosts(own, (name) => reads.find(viewer, { ...NODE_NAME, name }, nodes).found) : own;
  const hiddenBy = { ...reads.hiddenBy(viewer, [request]) };
  const named = turnsName(request, kind, { found, place: options });
  const choose = (turns: NameRotation) => select(found, { ...options, turns, time: context.time, counts: ranks });
  // A name without entries has no rotation, so it uses no space in the cache.
  const choice = found.length === 0 ? undefined : book.use(named, choose);
  const [best, ...others] = choice?.ranked ?? [];
  if (choice === undefined || best === undefined) {
    // An error has no age, so callers could not distinguish an entry that is missing on this node from an entry that does not exist.
    parts.checkCaughtUp();
    const name = { kind, namespace, name: request.name };
    const sought = { caller: viewer, name, visited: request.visitedClusters, region: options.region, time: context.time };
    const redirect = parts.redirects?.find(sought);
    if (redirect === undefined) throw refusal(request, found.length > 0, unfit.size > 0);
    const explanation = request.explain ? explained(choice, [...unfit].map(read), request.versionRange) : [];
    return create(ResolveResponseSchema, { redirect, ...freshness(parts, context), explanation, hiddenBy });
  }
  if (choice.by !== undefined) choices[choice.by].inc();
  return create(ResolveResponseSchema, {
    entry: decodeMessage(bytes.entry(best.record)),
    ...(choice.target !== undefined && { target: { ...choice.target } }),
    alternatives: others.map((other) => decodeMessage(bytes.entry(other.record))),
    ...freshness(parts, context),
    hiddenBy,
    explanation: request.explain ? explained(choice, [...unfit].map(read), request.versionRange) : [],
  });
}

/** Adds the endpoints of the host nodes, because clients call functions and queues through the nodes that host them. */
function throughHosts(found: readonly FoundEntry[], findNode: (nodeId: string) => readonly EntryView[]): readonly FoundEntry[] {
  const views = withHosts(
    found.map(({ view }) => view),
    findNode,
  );
  return found.map((one, i) => ({ ...one, view: { ...(views[i] ?? one.view), isHosted: true } }));
}

function refusal({ name, namespace, versionRange }: ResolveRequest, isAny: boolean, isAnyUnfit: boolean): WaymarkError {
  const fits = isAnyUnfit ? ` with a version in ${versionRange}` : "";
  if (isAny) return new WaymarkError("in_maintenance", `every entry named ${name} in ${namespace}${fits} is in maintenance`);
  return new WaymarkError("not_found", `no entry named ${name} in ${namespace}${fits}`);
}

/**
 * Returns the cache key for a request's rotation. Requests that choose among different entries must not share a rotation. Otherwise, if two callers
 * alternate their requests, one of them would always get the same entry. A region or zone without entries is left out of the key, because callers can
 * send any value and the cache is small.
 */
function turnsName(
  request: ResolveRequest,
  kind: Kind,
  { found, place }: { readonly found: readonly FoundEntry[]; readonly place: ZoneLocality },
): string {
  const { namespace, name, versionRange } = request;
  const region = found.some(({ view }) => view.region === place.region) ? place.region : "";
  const zone = found.some(({ view }) => view.zone === place.zone) ? place.zone : "";
  return [kind, namespace, name, versionRange, region, zone].join("\0");
}

function explained({ explained: ranked = [] }: Partial<SelectResult<FoundEntry>> = {}, unfit: readonly FoundEntry[], range: string) {
  return [...ranked, ...unfit.map((one) => explainVersion(one, range))].slice(0, MAX_EXPLAINED).map(explanationOf);
}

function optionsOf(request: ResolveRequest, parts: ResolveParts) {
  const policy = policyOf(request.policy);
  if (policy === SELECT_POLICY.HASH && request.hashKey === "") throw invalid("hash_key", "is required with policy HASH");
  return {
    policy,
    region: request.prefer?.region || parts.identity.region,
    zone: request.prefer?.zone || parts.identity.zone,
    hashKey: request.hashKey,
    random: parts.random,
    limit: 1 + (request.limit === 0 ? DEFAULT_ALTERNATIVES : request.limit),
    explain: request.explain,
  };
}

function policyOf(policy: number): SelectPolicy {
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- the contract's rules reject other values
  return policy === 0 ? SELECT_POLICY.LOAD_AWARE : (policy as SelectPolicy);
}

// Explanations why records are or are not in an answer, as messages.

function explanationOf({ key, kept, reason, detail }: ExplainedEntry): Explanation {
  return create(ExplanationSchema, { ...(key && { key: create(EntryKeySchema, keyParts(key)) }), kept, reason, detail });
}

export function encodeExplanations(all: readonly ExplainedEntry[]): readonly Uint8Array[] {
  return all.map((one) => toBinary(ExplanationSchema, explanationOf(one)));
}

// Answers of Resolve that redirect to another cluster, because no local entry can be chosen (docs/design/summaries.md, Reading).

const BANDS: Readonly<Record<Band, HealthBand>> = {
  [BAND.HEALTHY]: HealthBand.HEALTHY,
  [BAND.DEGRADED]: HealthBand.DEGRADED,
  [BAND.CRITICAL]: HealthBand.CRITICAL,
};
/** Largest number of URLs in a redirect. */
const MAX_URLS = 16;

export class ClusterRedirects {
  readonly #clusters: BestClusters;

  constructor(summaries: SummaryReads) {
    this.#clusters = new BestClusters(summaries);
  }

  /** Returns the redirect. Undefined if there is no known cluster that the caller may see and use. */
  find(request: ClusterRequest): Redirect | undefined {
    const { best } = this.#clusters.find(request);
    if (best === undefined) return undefined;
    const { source, urls, region, band, isStale } = best;
    const ttl = durationFromMs(best.ttlMs);
    return create(RedirectSchema, { clusterId: source, urls: urls.slice(0, MAX_URLS), region, band: BANDS[band], ttl, stale: isStale });
  }
}
