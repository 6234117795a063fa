/** Nodes with a shared control store in etcd, as operators meet them. Each node has its own address, so that DNS answers show which node they name. */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Peer } from "../gen/waymark/catalog/v1/peer_pb.js";
import { PeerService } from "../gen/waymark/control/v1/peer_pb.js";
import { type Client, connect } from "../src/client/index.ts";
import { until } from "./_mesh.ts";
import { type Node, type Running, scratchDir, startNode } from "./_processes.ts";
import { fail } from "./_work.ts";
import type { EtcdCluster } from "./adapters/etcd.ts";

export interface OperatorFleet {
  readonly nodes: readonly Node[];
  /** `host:port` of each node. */
  readonly servers: readonly string[];
  readonly client: Client;
  /** The nodes, and the members of etcd. */
  readonly processes: readonly Running[];
}

export const idOf = (i: number): string => `operators-${i}`;
export const hostOf = (i: number): string => `127.0.0.${11 + i}`;

/** Waits until each node sees that all are ready. */
export async function startFleet(etcd: EtcdCluster, count: number): Promise<OperatorFleet> {
  const config = join(scratchDir("operators"), "node.json");
  writeFileSync(config, JSON.stringify({ store: { kind: "etcd", endpoints: etcd.endpoints } }));
  const nodes: Node[] = [];
  for (let i = 0; i < count; i++) {
    const seeds = nodes.slice(0, 1).flatMap(({ listeners }) => ["--join", listeners["fabric"] ?? fail()]);
    const args = ["--config", config, "--cluster-id", "bench-operators", "--node-id", idOf(i), "--host", hostOf(i), ...seeds];
    nodes.push(await startNode({ dataDir: scratchDir(idOf(i)), isFree: true, isPlain: true, args }));
  }
  const servers = nodes.map(({ grpc }) => `${grpc.host}:${grpc.port}`);
  const client = connect({ servers, findServers: false });
  const seesAll = async (server: string) => {
    const { peers } = await client.callAt(server, PeerService.method.list, {});
    return peers.length === count && peers.every(({ serving, linked, isSelf }) => serving && (linked || isSelf));
  };
  await until(async () => (await Promise.all(servers.map(seesAll))).every(Boolean), "all nodes are ready");
  return { nodes, servers, client, processes: [...nodes, ...etcd.members] };
}

/** A member, as another node or the member itself sees it. */
export async function peerOf({ client, servers }: OperatorFleet, of: number, asked: number): Promise<Peer> {
  const { peer } = await client.callAt(servers[asked] ?? fail(), PeerService.method.get, { nodeId: idOf(of) });
  return peer ?? fail();
}
