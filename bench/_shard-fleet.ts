/** Nodes with a control store in etcd that serve the shards of namespaces: their moves as the log reports them, their plans, and calls to them. */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { MessageInitShape } from "@bufbuild/protobuf";
import { RebalanceService, RebalanceState } from "../gen/waymark/control/v1/rebalance_pb.js";
import { ShardService, type ShardSettingsSchema } from "../gen/waymark/control/v1/shard_pb.js";
import { type Client, connect } from "../src/client/index.ts";
import { freePort, NODE_OPTIONS, type Node, type Running, scratchDir, startNode } from "./_processes.ts";
import type { OwnerKind } from "./_shard-owners.ts";
import { fail } from "./_work.ts";
import type { EtcdCluster } from "./adapters/etcd.ts";

const CLUSTER = "bench-shards";
const SERVICE = "owner";
const CHILD = fileURLToPath(new URL("_shard-owners-child.ts", import.meta.url));
/** A page of a list. */
const PAGE = 1000;

/** A change of a shard, as the log of the controller reports it. */
export interface LoggedChange {
  readonly namespace: string;
  readonly id: number;
  readonly what: "draining" | "owned" | "prepared";
  readonly epoch: number;
  /** Wall time of the line, in ms. */
  readonly atMs: number;
}

/** A plan, and the number of its moves. */
export interface MadePlan {
  readonly hasEnded: boolean;
  readonly moves: number;
}

const CHANGE = /^shard (?<namespace>\S+)\/(?<id>\d+) (?<what>owned|prepared|draining) (?:by|from) /;

export class ShardFleet {
  readonly client: Client;
  readonly #changes: LoggedChange[] = [];
  /** Id of the node that assigns shards. */
  controller = "";
  readonly #config: string;
  readonly #ports: readonly { readonly grpc: number; readonly fabric: number }[];
  #nodes: readonly (Node | undefined)[] = [];
  readonly #cpuMs = new Map<Node, number>();

  private constructor(etcd: EtcdCluster, ports: readonly { readonly grpc: number; readonly fabric: number }[]) {
    this.#ports = ports;
    this.#config = join(scratchDir("shards"), "node.json");
    const settings = {
      node: { cluster_id: CLUSTER },
      store: { kind: "etcd", endpoints: etcd.endpoints },
    };
    writeFileSync(this.#config, JSON.stringify(settings));
    this.client = connect({ servers: [...this.servers], findServers: false });
  }

  static async start(etcd: EtcdCluster, count: number): Promise<ShardFleet> {
    const ports: { grpc: number; fabric: number }[] = [];
    for (let i = 0; i < count; i++) ports.push({ grpc: await freePort(), fabric: await freePort() });
    const fleet = new ShardFleet(etcd, ports);
    for (let i = 0; i < count; i++) await fleet.startNode(i);
    return fleet;
  }

  /** `host:port` of each node, beginning with the given one. */
  serversFrom(i: number): readonly string[] {
    const { servers } = this;
    return [...servers.slice(i % servers.length), ...servers.slice(0, i % servers.length)];
  }

  get servers(): readonly string[] {
    return this.#ports.map(({ grpc }) => `127.0.0.1:${grpc}`);
  }

  get nodes(): readonly Node[] {
    return this.#nodes.filter((node) => node !== undefined);
  }

  /** The changes of the shards of a namespace since a wall time (ms). */
  changes(namespace: string, sinceMs: number, what: LoggedChange["what"] = "owned"): readonly LoggedChange[] {
    return this.#changes.filter((change) => change.namespace === namespace && change.atMs >= sinceMs && change.what === what);
  }

  /** The CPU time of all nodes so far, of those that have ended up to their end. */
  get running(): Pick<Running, "cpuMs"> {
    return {
      cpuMs: () => {
        for (const node of this.nodes) this.#cpuMs.set(node, node.cpuMs());
        return this.#cpuMs.values().reduce((sum, ms) => sum + ms, 0);
      },
    };
  }

  /** A node starts on the same ports again. */
  async startNode(i: number): Promise<void> {
    const { grpc, fabric } = this.#ports[i] ?? fail();
    const joins = this.#ports.filter((_, k) => k !== i && this.#nodes[k] !== undefined).map(({ fabric: port }) => `127.0.0.1:${port}`);
    const own = [
      "--grpc-port",
      String(grpc),
      "--fabric-port",
      String(fabric),
      "--node-id",
      nodeId(i),
      "--log-level",
      "info",
      "--log-scopes",
      "shards=debug",
    ];
    const args = ["--config", this.#config, ...own, ...(joins.length > 0 ? ["--join", joins.join(",")] : [])];
    const node = await startNode({ isFree: true, args, onLog: (line) => this.#read(line) });
    this.#nodes = this.#ports.map((_, k) => (k === i ? node : this.#nodes[k]));
  }

  /** Does not wait until the process has ended. */
  killNode(i: number): void {
    const node = this.#nodes[i] ?? fail();
    this.#cpuMs.set(node, node.cpuMs());
    this.#nodes = this.#nodes.map((each) => (each === node ? undefined : each));
    process.kill(node.pid, "SIGKILL");
  }

  /** The shards of a namespace whose owner is attached to a node. */
  async shardsOf(namespace: string, i: number): Promise<readonly number[]> {
    const { shards } = await this.client.call(ShardService.method.list, { namespace, limit: PAGE });
    return shards.filter(({ nodeId: id }) => id === nodeId(i)).map(({ id }) => id);
  }

  async apply(namespace: string, settings: Omit<MessageInitShape<typeof ShardSettingsSchema>, "$typeName">): Promise<void> {
    await this.client.call(ShardService.method.apply, { namespace, settings: { service: SERVICE, ...settings } });
  }

  /** The owners of a process of a benchmark: `NAMESPACE-PROCESS-OWNER`. */
  owners(namespace: string, ownersPerProcess: number, logPort?: number): OwnerKind {
    const instances = (i: number) => Array.from({ length: ownersPerProcess }, (_, k) => instanceOf(namespace, i, k)).join(",");
    const log = logPort === undefined ? [] : [String(logPort)];
    const program = [process.execPath, ...NODE_OPTIONS, CHILD];
    const command = (i: number) => [...program, this.serversFrom(i).join(","), namespace, SERVICE, instances(i), ...log];
    return { who: "waymark", command, leastShare: 0.5 };
  }

  /** The plans of a namespace, oldest first. */
  async plans(namespace: string): Promise<readonly MadePlan[]> {
    const { plans } = await this.client.call(RebalanceService.method.listPlans, { namespace });
    return plans.map(({ state, moves }) => ({ hasEnded: state >= RebalanceState.COMPLETED, moves: moves.length })).toReversed();
  }

  async stop(): Promise<void> {
    this.client.close();
    await Promise.all(this.nodes.map((node) => node.stop()));
  }

  #read(text: string): void {
    if (!text.startsWith("{")) {
      console.error(text);
      return;
    }
    const line = JSON.parse(text) as Readonly<Record<string, unknown>>;
    const { namespace, id, what } = CHANGE.exec(String(line["msg"]))?.groups ?? {};
    const atMs = Date.parse(String(line["time"]));
    if (namespace !== undefined)
      this.#changes.push({ namespace, id: Number(id), what: what as LoggedChange["what"], epoch: Number(line["epoch"]), atMs });
    if (line["msg"] === "leader elected" && line["scope"] === "global-control") this.controller = String(line["nodeId"]);
    if (line["level"] === "error") console.error(text);
  }
}

export function nodeId(i: number): string {
  return `shards-${i}`;
}

export function instanceOf(namespace: string, process: number, owner: number): string {
  return `${namespace}-${process}-${owner}`;
}
