/** Finds the nodes of the server's cluster, for commands that call each node at its own address and with the caller's credential. */
import { type Peer, PeerStatus } from "../../gen/waymark/catalog/v1/peer_pb.js";
import { PeerService } from "../../gen/waymark/control/v1/peer_pb.js";
import { DiscoveryService } from "../../gen/waymark/discovery/v1/discovery_pb.js";
import type { ClientCalls } from "../client/calls.ts";
import { RequestError } from "../client/request-error.ts";
import { nodesNamedIn, serverOf } from "../client/servers/server-list.ts";
import { enumWord } from "../lib/enum-words.ts";
import { MAX_PAGE, pagesOf } from "./pages.ts";

/** A node of the cluster. */
export interface ClusterNode {
  readonly nodeId: string;
  readonly status: PeerStatus;
  /** `host:port`. Undefined if the address is unknown, for example because the node is dead. */
  readonly server: string | undefined;
  /** Why the address is unknown. */
  readonly fault: string;
}

/** A node that did not answer. */
export interface FailedNode {
  readonly node: string;
  readonly error: string;
}

/** Returns all members of the server's cluster, including dead ones. Throws a `RequestError`. */
export async function clusterNodes(client: ClientCalls): Promise<readonly ClusterNode[]> {
  const servers = new Map<string, string | undefined>();
  const { clusterMap } = DiscoveryService.method;
  let clusterId = "";
  for await (const page of pagesOf((pageToken) => client.call(clusterMap, { limit: MAX_PAGE, pageToken }))) {
    ({ clusterId } = page);
    for (const entry of page.nodes) servers.set(entry.nodeId, serverOf(entry));
  }
  const members: Peer[] = [];
  const { list } = PeerService.method;
  for await (const page of pagesOf((pageToken) => client.call(list, { clusterId, limit: MAX_PAGE, pageToken })))
    members.push(...page.peers);
  return members.map(({ nodeId, isSelf, status, urls }) => {
    // The address at which the command has reached the server works, unlike perhaps the address that the server advertises.
    const server = isSelf ? client.server : (servers.get(nodeId) ?? nodesNamedIn(urls.join(" "))[0]);
    return { nodeId, status, server, fault: `no address is known; the member is ${enumWord(PeerStatus, status)}` };
  });
}

/**
 * Calls `ask` for all nodes at the same time. Returns the answers, and the nodes that did not answer. Throws the `RequestError` of a node if no node
 * answered.
 */
export async function askNodes<T>(nodes: readonly ClusterNode[], ask: (server: string) => Promise<T>) {
  const answers: { readonly node: string; readonly answer: T }[] = [];
  const failed: FailedNode[] = [];
  let failure: RequestError | undefined;
  await Promise.all(
    nodes.map(async ({ nodeId: node, server, fault }) => {
      try {
        if (server === undefined) failed.push({ node, error: fault });
        else answers.push({ node, answer: await ask(server) });
      } catch (error) {
        if (!(error instanceof RequestError)) throw error;
        failure = error;
        failed.push({ node, error: error.message });
      }
    }),
  );
  if (answers.length === 0 && failure !== undefined) throw failure;
  return { answers, failed: failed.toSorted((a, b) => (a.node < b.node ? -1 : 1)) };
}
