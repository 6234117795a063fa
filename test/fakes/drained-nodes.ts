/** Real nodes that operators drain: the view of a member, and readers that see whether an entry is ever absent. */
import { DiscoveryDelta_Action as Action } from "../../gen/waymark/catalog/v1/delta_pb.js";
import type { Peer } from "../../gen/waymark/catalog/v1/peer_pb.js";
import { Snapshot } from "../../gen/waymark/catalog/v1/watch_pb.js";
import { PeerService } from "../../gen/waymark/control/v1/peer_pb.js";
import { DiscoveryService } from "../../gen/waymark/discovery/v1/discovery_pb.js";
import { type Client, connect } from "../../src/client/index.ts";
import type { NodeProcess } from "./node-process.ts";

/** A client of these nodes, which does not look for others. */
export function clientOf(servers: readonly NodeProcess[]): Client {
  return connect({ servers: servers.map(({ grpc }) => grpc), findServers: false });
}

export async function peerOf(client: Client, nodeId: string): Promise<Peer> {
  const { peer } = await client.call(PeerService.method.get, { nodeId });
  if (peer === undefined) throw new Error(`no member ${nodeId}`);
  return peer;
}

/** A raw watch of namespaces: the node of each entry, and each change after the snapshot. */
export class EntryReader {
  readonly nodes = new Map<string, string>();
  readonly changes: string[] = [];
  isCurrent = false;
  portableCursor = "";
  readonly ended: Promise<string>;

  constructor(client: Client, namespacePrefix: string) {
    this.ended = this.#read(client, namespacePrefix).catch((error: unknown) => String(error));
  }

  async #read(client: Client, namespacePrefix: string): Promise<string> {
    for await (const { deltas, snapshot, portableCursor } of client.stream(DiscoveryService.method.catalogWatch, { namespacePrefix })) {
      for (const { action, payload } of deltas) {
        const key = payload.case === "entry" ? payload.value.key : payload.case === "removed" ? payload.value : undefined;
        const id = `${key?.namespace}/${key?.instanceId}`;
        if (this.isCurrent) this.changes.push(`${Action[action]} ${id}`);
        if (payload.case === "entry") this.nodes.set(id, payload.value.nodeId);
        else this.nodes.delete(id);
      }
      if (snapshot === Snapshot.END) this.isCurrent = true;
      if (portableCursor !== "") this.portableCursor = portableCursor;
    }
    return "";
  }
}
