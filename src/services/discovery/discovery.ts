/** DiscoveryService of a node: its reads, its writes, and the nodes of the fabric. And ResolverService, which reads the same. */
import { type ClusterMapRequest, DiscoveryService, type ListPeersRequest } from "../../../gen/waymark/discovery/v1/discovery_pb.js";
import type { PeerDirectory } from "../peer-directory.ts";
import { resolverService } from "../resolver.ts";
import type { Service } from "../service.ts";
import { clusterMap, listPeers } from "./nodes.ts";
import { type ReadParts, readHandlers } from "./read-handlers.ts";
import { type WriteParts, writeHandlers } from "./write-handlers.ts";

export interface DiscoveryParts
  extends Omit<WriteParts, "dnsNames">,
    Omit<ReadParts, "caughtUp" | "dnsNames" | "endedStaticCount" | "loads" | "mesh"> {
  readonly mesh: PeerDirectory;
  readonly dnsNames: ReadParts["dnsNames"] & WriteParts["dnsNames"];
}

export interface DiscoveryServices {
  readonly discovery: Service;
  readonly resolver: Service;
}

export function discoveryServices(parts: DiscoveryParts): DiscoveryServices {
  const { loads, endings } = parts.registrar;
  const whole = { ...parts, caughtUp: undefined, loads, endedStaticCount: () => endings.endedStaticCount };
  const { handlers, routes, resolveName } = readHandlers(whole);
  const discovery: Service = {
    desc: DiscoveryService,
    handlers: {
      ...handlers,
      ...writeHandlers(parts),
      clusterMap: { kind: "unary", handle: (request: ClusterMapRequest, context) => clusterMap(whole, request, context) },
      listPeers: { kind: "unary", handle: (request: ListPeersRequest, context) => listPeers(whole, request, context) },
    },
    routes,
  };
  return { discovery, resolver: resolverService(resolveName) };
}
