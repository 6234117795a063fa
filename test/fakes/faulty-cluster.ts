/** Real nodes in processes of their own, each reached by the others through a gate of the fault net; clients talk to them directly. */

import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { JsonObject } from "@bufbuild/protobuf";
import { FaultNet } from "./fault-net.ts";
import { statusWord } from "./member.ts";
import { GrpcDoor, textOf } from "./node.ts";
import { type NodeProcess, startNodeProcess } from "./node-process.ts";
import { until } from "./until.ts";

export interface ClusterOptions {
  readonly count: number;
  readonly seed: string;
  /** Of the fabric, over what makes these tests short. */
  readonly fabric?: JsonObject;
}

export interface ClusterNode {
  readonly name: string;
  readonly process: NodeProcess;
  readonly door: GrpcDoor;
}

/** What runs a node with more than its usual flags. */
export interface Run {
  readonly flags?: readonly string[];
  readonly wrapper?: readonly string[];
}

export class FaultyCluster implements AsyncDisposable {
  readonly names: readonly string[];
  readonly net: FaultNet;
  readonly #home = mkdtempSync(join(tmpdir(), "waymark-faults-"));
  readonly #gates = new Map<string, number>();
  readonly #running = new Map<string, ClusterNode>();
  /** Those that run, but are left alone. */
  readonly #aside = new Set<string>();
  readonly #config: string;
  /** Ports a node had before: its clients find it there again. */
  readonly #doors = new Map<string, string>();

  private constructor({ count, seed, fabric = {} }: ClusterOptions) {
    this.names = Array.from({ length: count }, (_, i) => `n${i + 1}`);
    this.net = new FaultNet(seed);
    this.#config = this.file("node.json", {
      fabric: { interval: "400ms", ping_timeout: "250ms", join_timeout: "3s", snapshot_interval: "1s", ...fabric },
      node: { cluster_id: "c1" },
    });
  }

  /** Opens the gates; nothing runs yet. */
  static async open(options: ClusterOptions): Promise<FaultyCluster> {
    const cluster = new FaultyCluster(options);
    for (const name of cluster.names) cluster.#gates.set(name, await cluster.net.gate(name, hostOf(name)));
    return cluster;
  }

  /** All of them, started at once, when each knows all others. */
  static async start(options: ClusterOptions): Promise<FaultyCluster> {
    const cluster = await FaultyCluster.open(options);
    try {
      await cluster.run(...cluster.names);
      await cluster.meet();
      return cluster;
    } catch (error) {
      // Nobody has it yet who would end what runs.
      await cluster[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** Writes a file that is gone when the cluster is. */
  file(name: string, content: JsonObject | string): string {
    const path = join(this.#home, name);
    writeFileSync(path, typeof content === "string" ? content : JSON.stringify(content));
    return path;
  }

  /** Where others reach a node: the gate. */
  gateOf(name: string): string {
    return `127.0.0.1:${this.#gates.get(name)}`;
  }

  /** Where a node really listens for others. */
  fabricOf(name: string): string {
    return `${hostOf(name)}:${this.#gates.get(name)}`;
  }

  async run(...names: readonly string[]): Promise<void> {
    await Promise.all(names.map((name) => this.runWith(name, {})));
  }

  async runWith(name: string, { flags = [], wrapper = [] }: Run): Promise<ClusterNode> {
    const door = this.#doors.get(name);
    const own = (flag: string, value: string) => (flags.includes(flag) ? [] : [flag, value]);
    const self = ["--node-id", name, ...own("--config", this.#config), "--data-dir", join(this.#home, name), "--on-stop", "keep"];
    const where = ["--host", hostOf(name), "--advertise-host", "127.0.0.1", "--fabric-port", String(this.#gates.get(name))];
    const seeds = own("--join", this.names.map((each) => this.gateOf(each)).join());
    const ports = door === undefined ? [] : ["--grpc-port", door];
    const process = await startNodeProcess([...self, ...where, ...seeds, ...ports, ...flags], wrapper, (pid) => this.net.isIn(name, pid));
    this.#doors.set(name, process.grpc.split(":")[1] ?? "0");
    const node = { name, process, door: new GrpcDoor(process.grpc) };
    this.#running.set(name, node);
    return node;
  }

  async kill(...names: readonly string[]): Promise<void> {
    await Promise.all(names.map((name) => this.#end(name, "SIGKILL")));
  }

  /** A stop in good order, as in a rolling restart: its entries stay. */
  async stop(name: string): Promise<void> {
    await this.#end(name, "SIGTERM");
  }

  loseDisk(name: string): void {
    rmSync(join(this.#home, name), { recursive: true });
  }

  at(name: string): ClusterNode {
    const node = this.#running.get(name);
    if (node === undefined) throw new Error(`${name} does not run`);
    return node;
  }

  /** Those to be asked. */
  get running(): readonly ClusterNode[] {
    return [...this.#running.values()].filter(({ name }) => !this.#aside.has(name));
  }

  /** From now on nobody is to ask it anything. */
  leaveAside(name: string): void {
    this.#aside.add(name);
  }

  takeBack(name: string): void {
    this.#aside.delete(name);
  }

  /** Waits until each that runs knows all others that run as alive, and has caught up. */
  async meet(): Promise<void> {
    for (const { name } of this.running) {
      const others = this.running.flatMap((other) => (other.name === name ? [] : [`${other.name} alive`]));
      await until(`${name} knows ${others.join()}`, async () => {
        const peers = await this.peersOf(name);
        return peers.join() === others.toSorted().join() ? [] : peers;
      });
    }
  }

  /** `id status` of those a node lists. */
  async peersOf(name: string): Promise<readonly string[]> {
    const { response } = await this.at(name).door.ask("listPeers", {});
    return ((response["peers"] ?? []) as { nodeId: string; status: string }[])
      .map(({ nodeId, status }) => `${nodeId} ${statusWord(status)}`)
      .toSorted();
  }

  async metrics(name: string): Promise<string> {
    return (await fetch(`http://${this.at(name).process.listeners["http"]}/metrics`)).text();
  }

  /** Everything below `svc` that a node holds, page by page: name to the entry as it is told. */
  async dump(name: string): Promise<ReadonlyMap<string, JsonObject>> {
    const { door } = this.at(name);
    const found = new Map<string, JsonObject>();
    for (let pageToken = "", page = 0; page === 0 || pageToken !== ""; page++) {
      const { code, message, response } = await door.ask("catalogQuery", { namespacePrefix: "svc", limit: 500, pageToken });
      if (code !== "OK") throw new Error(`${name} answers ${code}: ${message}`);
      for (const item of (response["items"] ?? []) as JsonObject[]) found.set(textOf((item["key"] as JsonObject)["name"]), item);
      pageToken = textOf(response["nextPageToken"]);
    }
    return found;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.kill(...this.#running.keys());
    await this.net[Symbol.asyncDispose]();
    rmSync(this.#home, { recursive: true, force: true });
  }

  async #end(name: string, signal: NodeJS.Signals): Promise<void> {
    const { process, door } = this.at(name);
    this.#running.delete(name);
    door[Symbol.dispose]();
    await process.stop(signal);
  }
}

/** Each node has an address of the loopback to itself. */
function hostOf(name: string): string {
  return `127.0.1.${name.slice(1)}`;
}
