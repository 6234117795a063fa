/** Builds three services of a node: DiscoveryService, with reads, writes and the nodes of the fabric; ResolverService; and the writes of DnsService. */
import { type ClusterMapRequest, DiscoveryService, type ListPeersRequest } from "../../../gen/waymark/discovery/v1/discovery_pb.js";
import { DnsService } from "../../../gen/waymark/dns/v1/dns_pb.js";
import { ResolverService } from "../../../gen/waymark/resolver/v1/resolver_pb.js";
import type { Leases } from "../../catalog/leases.ts";
import type { SummaryReads } from "../../discovery/summaries/summary-reads.ts";
import { DEFAULT_VIEW } from "../../dns/subject/subject.ts";
import { type DnsSources, dnsCatalog } from "../../dns/views/catalog.ts";
import { WaymarkError } from "../../lib/errors.ts";
import type { Caller } from "../../policy/identity/caller.ts";
import { registrationHandlers } from "../dns/registrations.ts";
import { type OnDemandParts, onDemandSummaryHandlers } from "../regions/on-demand-summaries.ts";
import type { HandlersOf, MethodHandler, ServiceDefinition } from "../service.ts";
import type { PeerDirectory } from "./answer-age.ts";
import { clusterMap, listPeers, type NodeListParts } from "./nodes.ts";
import { type ReadParts, readHandlers } from "./read-handlers.ts";
import { ClusterRedirects } from "./resolve.ts";
import { summaryHandlers } from "./summaries.ts";
import { type WriteParts, writeHandlers } from "./write-handlers.ts";

export interface DiscoveryParts
  extends Omit<WriteParts, "dnsNames">,
    Pick<OnDemandParts, "pause" | "summaryTtlMs">,
    Omit<ReadParts, "caughtUp" | "dnsNames" | "endedStaticCount" | "loads" | "mesh"> {
  readonly mesh: PeerDirectory;
  readonly dnsNames: ReadParts["dnsNames"] & WriteParts["dnsNames"] & DnsSources["dnsNames"];
  readonly policies: DnsSources["policies"];
  readonly leases: Leases;
  /** The DNS zones. */
  readonly zones: readonly string[];
  /**
   * The stored summaries, and whether this node has caught up with the summaries of its region. Absent if the node computes summaries of its own
   * cluster on demand. Such a node does not redirect callers.
   */
  readonly summaries?:
    | {
        readonly reads: SummaryReads;
        readonly isReady: () => boolean;
        readonly exportsOf: NonNullable<ReadParts["exportsOf"]>;
        readonly ingress: NonNullable<NodeListParts["ingress"]>;
      }
    | undefined;
}

export interface DiscoveryServices {
  readonly discovery: ServiceDefinition;
  readonly resolver: ServiceDefinition;
  /** The writes of DnsService. The listeners add its reads. */
  readonly dns: ServiceDefinition;
}

export function discoveryServices(parts: DiscoveryParts): DiscoveryServices {
  const { loads, entryRemovals } = parts.registrar;
  const { summaries } = parts;
  const redirects = summaries && new ClusterRedirects(summaries.reads);
  const whole = {
    ...parts,
    caughtUp: undefined,
    loads,
    endedStaticCount: () => entryRemovals.endedStaticCount,
    redirects,
    exportsOf: summaries?.exportsOf,
    ingress: summaries?.ingress,
  };
  const { handlers, routes, resolveName } = readHandlers(whole);
  const written = writeHandlers(parts);
  const ofSummaries =
    summaries === undefined
      ? onDemandSummaryHandlers(parts)
      : summaryHandlers({ ...parts, summaries: summaries.reads, isReady: summaries.isReady });
  summaries?.reads.follow(parts.fanout);
  const discovery: ServiceDefinition = {
    desc: DiscoveryService,
    handlers: {
      ...handlers,
      ...written.handlers,
      ...ofSummaries.handlers,
      clusterMap: { kind: "unary", handle: (request: ClusterMapRequest, context) => clusterMap(whole, request, context) },
      listPeers: { kind: "unary", handle: (request: ListPeersRequest, context) => listPeers(whole, request, context) },
    } satisfies HandlersOf<typeof DiscoveryService>,
    routes: [...routes, ...ofSummaries.routes],
  };
  const sources = { ...parts, replica: parts.reads.replica };
  const catalogOf = (caller: Caller) => dnsCatalog(parts.random, sources, undefined, { view: DEFAULT_VIEW, caller });
  const names = registrationHandlers({ ...parts, writes: written.writes, catalogOf });
  return { discovery, resolver: resolverService(resolveName), dns: { desc: DnsService, handlers: names } };
}

// ResolverService on a node supports only the lookup of a name. All other calls concern the cache of a resolver, and resolvers have their own
// handlers for them.

/** Returns ResolverService with `resolve` as the handler of `Resolve`. */
export function resolverService(resolve: MethodHandler): ServiceDefinition {
  const disabled: MethodHandler = { kind: "unary", handle: refuse };
  const handlers: HandlersOf<typeof ResolverService> = {
    resolve,
    cacheStats: disabled,
    resync: disabled,
    prewarm: disabled,
    evict: disabled,
  };
  return {
    desc: ResolverService,
    handlers,
    routes: [{ path: "/discovery/cache", parameters: [], rpc: "cacheStats", answer: refuse }],
  };
}

function refuse(): never {
  throw new WaymarkError("resolver_disabled", "this server is a node and has no resolver cache: send the call to a resolver");
}
