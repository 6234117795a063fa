/** Reads which servers there are from the answers of a server: nodes from `ClusterMap`, resolvers from the entries of their namespace. */
import type { Entry } from "../../../gen/waymark/catalog/v1/entry_pb.js";
import { hostPort } from "../../lib/addresses.ts";
import { UNKNOWN_LOAD } from "../../reading/load.ts";
import { parseServer } from "../connect-options.ts";
import type { FoundServer } from "./servers.ts";

/** Where resolvers register themselves. */
export const RESOLVERS_NAMESPACE = "discovery.resolvers";
/** A node that its operator wants clients to use. */
const INGRESS_ROLE = "ingress";

/** The nodes for clients: those with the role `ingress`, or all of them when none has it. Entries without a gRPC address are left out. */
export function nodesFor(entries: readonly Entry[]): readonly FoundServer[] {
  const ingress = entries.filter(({ capabilities }) => capabilities.includes(INGRESS_ROLE));
  return serversOf(ingress.length > 0 ? ingress : entries, "node");
}

export function resolversFor(entries: readonly Entry[]): readonly FoundServer[] {
  return serversOf(entries, "resolver");
}

/** Most urls that a refusal is read for. */
const MAX_URLS = 4;

/** The nodes that a resolver names when it refuses a write: urls with spaces between, each `host:port` or `grpc://host:port` (`grpcs` with TLS). Others are left out. */
export function nodesNamedIn(urls: string): readonly string[] {
  const addresses = urls.split(" ", MAX_URLS).map((url) => parseServer(url.replace(/^grpcs?:\/\//, "")));
  return addresses.filter((address) => address !== undefined);
}

function serversOf(entries: readonly Entry[], kind: FoundServer["kind"]): readonly FoundServer[] {
  return entries.flatMap(({ targets, region, zone, load }) => {
    const target = targets.find(({ name }) => name === "grpc") ?? targets.find(({ name, protocol }) => name === "" && protocol === "grpc");
    const server = target && parseServer(hostPort(target.host, target.port));
    if (server === undefined) return [];
    return [{ server, region, zone, load: load?.utilization ?? UNKNOWN_LOAD, kind }];
  });
}
