/** Five nodes with a shared control store in etcd, as operators meet them. Each node has its own address, so that DNS answers show which node they name. */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Peer } from "../gen/waymark/catalog/v1/peer_pb.js";
import { PeerService } from "../gen/waymark/control/v1/peer_pb.js";
import { type Client, connect } from "../src/client/index.ts";
import { until } from "./_mesh.ts";
import { type Node, type Running, scratchDir, startNode } from "./_processes.ts";
import { fail } from "./_work.ts";
import type { EtcdCluster } from "./adapters/etcd.ts";

const CLUSTER = "bench-operators";
const FIRST_HOST = 11;

export class OperatorFleet {
  readonly client: Client;
  readonly nodes: readonly Node[];
  readonly #etcd: EtcdCluster;

  private constructor(etcd: EtcdCluster, nodes: readonly Node[]) {
    this.#etcd = etcd;
    this.nodes = nodes;
    this.client = connect({ servers: [...this.servers], findServers: false });
  }

  /** Waits until each node sees that all are ready. */
  static async start(etcd: EtcdCluster, count: number): Promise<OperatorFleet> {
    const config = join(scratchDir("operators"), "node.json");
    writeFileSync(config, JSON.stringify({ node: { cluster_id: CLUSTER }, store: { kind: "etcd", endpoints: etcd.endpoints } }));
    const nodes: Node[] = [];
    for (let i = 0; i < count; i++) {
      const [seed] = nodes;
      const seeds = seed === undefined ? [] : ["--join", seed.listeners["fabric"] ?? fail()];
      const args = ["--config", config, "--node-id", idOf(i), "--host", hostOf(i), ...seeds];
      nodes.push(await startNode({ dataDir: scratchDir(idOf(i)), isFree: true, isPlain: true, args }));
    }
    const fleet = new OperatorFleet(etcd, nodes);
    await until(async () => (await Promise.all(nodes.map((_, i) => fleet.#seesAll(i)))).every(Boolean), "all nodes are ready");
    return fleet;
  }

  /** `host:port` of each node. */
  get servers(): readonly string[] {
    return this.nodes.map(({ grpc }) => `${grpc.host}:${grpc.port}`);
  }

  /** All processes of the fleet. */
  get processes(): readonly Running[] {
    return [...this.nodes, ...this.#etcd.members];
  }

  /** A member, as another node or the member itself sees it. */
  async peer(of: number, asked: number): Promise<Peer> {
    const { peer } = await this.client.callAt(this.servers[asked] ?? fail(), PeerService.method.get, { nodeId: idOf(of) });
    return peer ?? fail();
  }

  kill(i: number): void {
    process.kill((this.nodes[i] ?? fail()).pid, "SIGKILL");
  }

  async stop(): Promise<void> {
    this.client.close();
    await Promise.all(this.nodes.map((node) => node.stop("SIGKILL")));
  }

  async #seesAll(i: number): Promise<boolean> {
    const { peers } = await this.client.callAt(this.servers[i] ?? fail(), PeerService.method.list, {});
    return peers.length === this.nodes.length && peers.every(({ serving, linked, isSelf }) => serving && (linked || isSelf));
  }
}

export function idOf(i: number): string {
  return `operators-${i}`;
}

/** Address of a node. */
export function hostOf(i: number): string {
  return `127.0.0.${FIRST_HOST + i}`;
}
