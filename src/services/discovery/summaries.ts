/** Implements DiscoveryService.SummaryQuery and SummaryWatch, which read the summaries that clusters publish about their services. */

import { fromBinary } from "@bufbuild/protobuf";
import {
  type SummaryQueryRequest,
  SummaryQueryResponseSchema,
  type SummaryWatchRequest,
} from "../../../gen/waymark/discovery/v1/summary_pb.js";
import { SCOPE, type Scope } from "../../catalog/entry/scope.ts";
import { ANY, type EntryFilter, isNamespaceOnly } from "../../catalog/query/filter.ts";
import { pageLimit } from "../../catalog/query/query.ts";
import type { CatalogRecord } from "../../catalog/record/record.ts";
import type { SummaryReads } from "../../discovery/summaries/summary-reads.ts";
import { invalid } from "../../lib/errors.ts";
import { textsRoom } from "../../lib/protowire.ts";
import { type Caller, viewerOf } from "../../policy/identity/caller.ts";
import { SUMMARISED_MASK } from "../../summary/keys.ts";
import type { IngressNode } from "../../summary/summary.ts";
import type { CallContext, MethodHandler, NodeIdentity, StreamSource } from "../service.ts";
import { demandResolver } from "../service.ts";
import { answerAge } from "./answer-age.ts";
import { maskOf, prefixOf, resolvedOf, scopeOf, sorted } from "./filter.ts";
import type { ReadParts } from "./read-handlers.ts";
import { DiscoveryBytes, withHiddenBy } from "./response-bytes.ts";
import { heardBytes, SummaryItems, summaryAnswer } from "./summary-bytes.ts";
import { summaryRoute } from "./summary-route.ts";
import { WatchOpener } from "./watch-opener.ts";

export interface SummaryServiceParts
  extends Pick<
    ReadParts,
    | "allowsViewerOverride"
    | "checkStart"
    | "checkVia"
    | "followedAge"
    | "isPaused"
    | "isTls"
    | "mesh"
    | "metrics"
    | "now"
    | "onRead"
    | "random"
    | "via"
  > {
  readonly summaries: SummaryReads;
  readonly identity: Pick<NodeIdentity, "boot" | "nodeId">;
  /** Whether this node has caught up with the summaries of its region. */
  readonly isReady: () => boolean;
}

export type SummaryMethod = "summaryQuery" | "summaryWatch";

/** Distinguishes page tokens of summaries from page tokens of other lists. */
const SALT = "summaries";
const DEFAULT_INGRESS = 4;
/** Largest size of the ingress URLs in one page, in bytes. A page ends early at this limit. One cluster may publish up to 64 KiB. */
const MAX_INGRESS_BYTES = 1024 * 1024;
const NO_INGRESS: ReadonlyMap<string, readonly string[]> = new Map();

export function summaryHandlers(parts: SummaryServiceParts) {
  const methods = new SummaryMethods(parts);
  const handlers: Readonly<Record<SummaryMethod, MethodHandler>> = {
    summaryQuery: { kind: "unary", handle: (request: SummaryQueryRequest, context) => methods.query(request, context) },
    summaryWatch: { kind: "server_streaming", open: (request: SummaryWatchRequest, context) => methods.watch(request, context) },
  };
  const answer = (request: SummaryQueryRequest, context: CallContext) =>
    fromBinary(SummaryQueryResponseSchema, methods.query(request, context));
  return { handlers, routes: [summaryRoute(answer)] };
}

class SummaryMethods {
  readonly #parts: SummaryServiceParts;
  readonly #items: SummaryItems;
  readonly #opener: WatchOpener;

  constructor(parts: SummaryServiceParts) {
    const { summaries, identity, metrics } = parts;
    const { reads, sources, fanout } = summaries;
    const { slab } = reads.replica;
    this.#parts = parts;
    this.#items = new SummaryItems(slab, (record) => sources.isStale(record));
    this.#opener = new WatchOpener(
      { ...parts, reads, caughtUp: undefined },
      {
        ...parts,
        fanout,
        // Summaries do not have a load.
        bytes: new DiscoveryBytes(slab, { of: () => undefined }, this.#items),
        nodeId: identity.nodeId,
        ageOf: parts.followedAge ?? ((time) => answerAge(parts, { time })),
        via: parts.via ?? (() => []),
        heard: (time) => heardBytes(sources.ages(time)),
        policyEpoch: () => reads.policyEpoch,
        // The HLC field of a summary contains its version and not a time, so there is no lag to measure.
        deltaLag: { observe: () => {} },
        dropped: metrics.counter("discovery_delta_dropped_total", {}),
        release: (released) => reads.release(released),
      },
    );
  }

  query(request: SummaryQueryRequest, context: CallContext): Uint8Array {
    const { summaries, identity, allowsViewerOverride, onRead, via } = this.#parts;
    const { reads } = summaries;
    if (request.forResolver) this.#checkResolver(request, context.caller);
    const filter = { ...summaryFilter(request), names: request.serviceId === "" ? [] : [request.serviceId] };
    const caller = viewerOf(context.caller, request.viewer, allowsViewerOverride);
    const asked = { filter, token: request.pageToken, isExplained: false, salt: SALT };
    let page = reads.page(caller, { ...asked, limit: pageLimit(request.limit) });
    const { ingress, kept } = this.#ingressOf(page.records, request);
    if (kept < page.records.length) page = reads.page(caller, { ...asked, limit: kept });
    const answer = summaryAnswer(this.#items, {
      records: page.records,
      ingress,
      nextToken: page.nextToken,
      revision: reads.replica.revision,
      servedBy: identity.nodeId,
      age: answerAge(this.#parts, context),
      generatedWallMs: context.time.wallMs,
      resolved: request.forResolver ? { policyEpoch: reads.policyEpoch, via: via?.() ?? [] } : undefined,
    });
    onRead(context.caller, filter.namespace);
    return withHiddenBy(answer, page.hiddenBy);
  }

  watch(request: SummaryWatchRequest, context: CallContext): StreamSource {
    this.#parts.checkStart();
    if (request.forResolver) this.#checkResolver(request, context.caller);
    const filter = summaryFilter(request);
    if (request.withDigest && !isNamespaceOnly(filter))
      throw invalid("with_digest", "must not be set with filters other than namespace and namespace_prefix");
    if (request.forResolver && (!isNamespaceOnly(filter) || filter.namespace !== "" || filter.prefix !== ""))
      throw invalid(
        "for_resolver",
        "must not be set with fields other than namespace_prefixes, cursor, bookmark_interval, with_digest and via",
      );
    const { cursor, bookmarkInterval, viewer, withDigest } = request;
    return this.#opener.open({ filter, cursor, bookmarkInterval, viewer, withDigest, isNamesOnly: false }, context);
  }

  /** Throws for a caller without the role for resolvers, for an unencrypted remote connection, and for an invalid chain of resolvers. */
  #checkResolver({ via }: Pick<SummaryQueryRequest, "via">, caller: Caller): void {
    const { summaries, isTls, checkVia } = this.#parts;
    demandResolver(caller, isTls);
    summaries.reads.checkResolved();
    checkVia?.(via);
  }

  /**
   * Returns the ingress URLs of the clusters on a page, and how many records fit on the page together with these URLs. At least one record always
   * fits.
   */
  #ingressOf(records: readonly CatalogRecord[], request: SummaryQueryRequest) {
    if (!request.includeIngress) return { ingress: NO_INGRESS, kept: records.length };
    const ingress = new Map<string, readonly string[]>();
    const seen = new Set<string>();
    let sizeBytes = 0;
    for (const [i, { traits }] of records.entries()) {
      if (seen.has(traits.clusterId)) continue;
      seen.add(traits.clusterId);
      const urls = urlsOf(this.#parts.summaries.sources.ingressOf(traits.clusterId), request);
      if (urls.length === 0) continue;
      sizeBytes += textsRoom(urls);
      if (sizeBytes > MAX_INGRESS_BYTES && i > 0) return { ingress, kept: i };
      ingress.set(traits.clusterId, urls);
    }
    return { ingress, kept: records.length };
  }
}

/** Returns the URLs of the nodes that match the request, up to the limit in the request. */
function urlsOf(nodes: readonly IngressNode[], request: SummaryQueryRequest): readonly string[] {
  const { ingressCapabilities, ingressTags, ingressLimit } = request;
  const least = scopeOf(request.ingressScope);
  const isWanted = ({ scope, capabilities, tags }: IngressNode) =>
    scope >= least && ingressCapabilities.every((term) => capabilities.includes(term)) && ingressTags.every((term) => tags.includes(term));
  const urls = nodes.filter(isWanted).flatMap((node) => node.urls);
  return [...new Set(urls)].slice(0, ingressLimit === 0 ? DEFAULT_INGRESS : ingressLimit);
}

/** Returns the filter in a request. Throws `invalid_argument` for incompatible fields. */
export function summaryFilter(request: SummaryQueryRequest | SummaryWatchRequest): EntryFilter {
  const { namespace, namespacePrefix, kinds, regions } = request;
  const kindMask = maskOf(kinds);
  if (kindMask !== 0 && (kindMask & SUMMARISED_MASK) === 0)
    throw invalid("kinds", "must include SERVICE, FUNCTION, TOPIC, QUEUE or CACHE: other kinds have no summaries");
  const scope = scopeOf(request.scope);
  // There is no channel narrower than ZONE.
  const channel: Scope = scope > SCOPE.ZONE ? scope : SCOPE.UNSET;
  const summaries = channel === SCOPE.UNSET && regions.length === 0 ? undefined : { channel, regions: sorted(regions) };
  return { ...ANY, namespace, prefix: prefixOf(namespacePrefix, namespace), kindMask, summaries, resolved: resolvedOf(request) };
}
