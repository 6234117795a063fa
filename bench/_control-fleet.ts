/** Nodes that share only a control store: their work at rest, the delay of a policy, and what clients see while the store is down. */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { create, toBinary } from "@bufbuild/protobuf";
import { ApplyPolicyRequestSchema } from "../gen/waymark/policy/v1/policy_pb.js";
import { askDns } from "./_dns.ts";
import { MAX_WAIT_MS } from "./_lookings.ts";
import { cpuMs, othersBeside, sleep, until } from "./_mesh.ts";
import { listenerOf, type Node, scratchDir, startNode } from "./_processes.ts";
import { percentile } from "./_results.ts";
import { Wire } from "./_wire.ts";
import { exactQuery, fail, INSTANCES, itemsIn, NAMESPACE, PATH, registerBytes } from "./_work.ts";
import type { EtcdCluster } from "./adapters/etcd.ts";

const CLUSTER = "bench-fleet";
const APPLY_PATH = "/waymark.policy.v1.PolicyService/ApplyPolicy";
const QUERY = exactQuery(0);
const QUESTION = { name: `service-0.${NAMESPACE}.waymark`, type: "A" } as const;
/** Time between two reads of a node while a policy is on its way. */
export const LOOK_MS = 3;
/** Time between two pairs of a query and a question. Each pair goes to the next node. */
export const LOAD_MS = 10;

/** A scope in the store: the session of its holder, and the number of its fence. */
type Holders = ReadonlyMap<string, string>;

interface Range {
  readonly header: { readonly revision: string };
  readonly kvs?: readonly { readonly key: string; readonly value: string }[];
}

export class ControlFleet {
  readonly nodes: readonly Node[];
  readonly #etcd: EtcdCluster;
  readonly #wires: Wire[];
  #appliedCount = 0;

  private constructor(etcd: EtcdCluster, nodes: readonly Node[], wires: Wire[]) {
    this.#etcd = etcd;
    this.nodes = nodes;
    this.#wires = wires;
  }

  /** Each node is a candidate for each scope, and has ten entries of its own. Waits until each scope has a leader. */
  static async start(etcd: EtcdCluster, count: number, scopes: number): Promise<ControlFleet> {
    const config = join(scratchDir("control-fleet"), "node.json");
    const names = Array.from({ length: scopes }, (_, i) => `custom/${NAMESPACE}/job-${i}`);
    const settings = {
      node: { cluster_id: CLUSTER },
      store: { kind: "etcd", endpoints: etcd.endpoints },
      fabric: { enabled: false },
      leadership: { scopes: names },
    };
    writeFileSync(config, JSON.stringify(settings));
    const options = (i: number) => ({ isFree: true, isPlain: true, args: ["--config", config, "--node-id", `fleet-${i}`] });
    const nodes = await Promise.all(Array.from({ length: count }, (_, i) => startNode(options(i))));
    const wires = await Promise.all(nodes.map(({ grpc }) => Wire.open(grpc)));
    for (const wire of wires) await wire.unary(PATH.register, registerBytes(0, INSTANCES));
    const fleet = new ControlFleet(etcd, nodes, wires);
    await until(async () => (await fleet.holders()).size === scopes + 1, "each scope has a leader");
    return fleet;
  }

  /** Opens the connections again, because a node closes connections that are idle. */
  async connect(): Promise<void> {
    for (const [i, wire] of this.#wires.entries()) {
      wire.close();
      this.#wires[i] = await Wire.open((this.nodes[i] ?? fail()).grpc);
    }
  }

  async stop(): Promise<void> {
    for (const wire of this.#wires) wire.close();
    await Promise.all(this.nodes.map((node) => node.stop()));
  }

  /** The scopes whose leader has a session. */
  async holders(): Promise<Holders> {
    const sessions = new Set((await this.#range("sessions/")).keys());
    const held = new Map<string, string>();
    for (const [scope, value] of await this.#range("leaders/")) {
      const { session, number } = JSON.parse(value) as { readonly session: string; readonly number: number };
      if (sessions.has(session)) held.set(scope, `${session} ${number}`);
    }
    return held;
  }

  /** Writes per node and second that etcd counts while nothing happens, and CPU time in parts of a core. */
  async atRest(seconds: number) {
    const read = async () => ({
      revision: Number((await this.#etcd.post<Range>("kv/range", { key: base64("x") })).header.revision),
      nodeMs: cpuMs(this.nodes),
      etcdMs: cpuMs(this.#etcd.members),
      atMs: performance.now(),
    });
    const before = await read();
    const others = othersBeside([...this.nodes, ...this.#etcd.members]);
    await sleep(seconds * 1000);
    const after = await read();
    const tookMs = after.atMs - before.atMs;
    return {
      writes: (after.revision - before.revision) / this.nodes.length / (tookMs / 1000),
      nodeCores: (after.nodeMs - before.nodeMs) / tookMs / this.nodes.length,
      etcdCores: (after.etcdMs - before.etcdMs) / tookMs / this.#etcd.members.length,
      others: others(),
    };
  }

  /** Applies a policy on one node. Gives the time (ms) from the request until the answers of all nodes follow the policy. */
  async applyPolicy(): Promise<number> {
    const isOpen = this.#appliedCount % 2 === 1;
    const wire = this.#wires[this.#appliedCount % this.#wires.length] ?? fail();
    this.#appliedCount += 1;
    const policy = { version: `bench-${this.#appliedCount}`, defaultAllow: isOpen, rules: [] };
    const wanted = isOpen ? INSTANCES : 0;
    const startMs = performance.now();
    const applied = wire.unary(APPLY_PATH, toBinary(ApplyPolicyRequestSchema, create(ApplyPolicyRequestSchema, { policy })));
    await Promise.all([applied, ...this.#wires.map((each, i) => this.#showing(each, i, wanted))]);
    return performance.now() - startMs;
  }

  async #showing(wire: Wire, i: number, wanted: number): Promise<void> {
    const node = this.nodes[i] ?? fail();
    for (;;) {
      const found = await wire.unary(PATH.query, QUERY).then(
        (answer) => itemsIn(node, answer),
        () => 0,
      );
      if (found === wanted) return;
      await sleep(LOOK_MS);
    }
  }

  /** Queries and questions to all nodes in turn while `work` runs. */
  async load(work: () => Promise<void>) {
    const lookups = { queries: new Lookups(), questions: new Lookups() };
    let sent = 0;
    const timer = setInterval(() => {
      const i = sent++ % this.nodes.length;
      const node = this.nodes[i] ?? fail();
      lookups.queries.add(async () => itemsIn(node, await (this.#wires[i] ?? fail()).unary(PATH.query, QUERY)) === INSTANCES);
      lookups.questions.add(async () => (await askDns(listenerOf(node, "dns"), QUESTION, MAX_WAIT_MS)).answers?.length === INSTANCES);
    }, LOAD_MS);
    await work();
    clearInterval(timer);
    await lookups.queries.ended();
    await lookups.questions.ended();
    return lookups;
  }

  async #range(prefix: string): Promise<ReadonlyMap<string, string>> {
    const start = `/waymark/${CLUSTER}/${prefix}`;
    const { kvs = [] } = await this.#etcd.post<Range>("kv/range", { key: base64(start), range_end: base64(`${start.slice(0, -1)}0`) });
    return new Map(kvs.map(({ key, value }) => [text(key).slice(start.length), text(value)]));
  }
}

/** Lookups of one kind. */
class Lookups {
  readonly #open = new Set<Promise<void>>();
  readonly tookMs: number[] = [];
  /** Refused, incomplete, or not answered in time. */
  failed = 0;

  add(look: () => Promise<boolean>): void {
    const looking = this.#look(look).finally(() => this.#open.delete(looking));
    this.#open.add(looking);
  }

  async ended(): Promise<void> {
    await Promise.all(this.#open);
  }

  get row() {
    const { tookMs, failed } = this;
    return { asked: tookMs.length, failed, "p50 ms": percentile(tookMs, 0.5), "p99 ms": percentile(tookMs, 0.99) };
  }

  async #look(look: () => Promise<boolean>): Promise<void> {
    const startMs = performance.now();
    const isGood = await Promise.race([look().catch(() => false), sleep(MAX_WAIT_MS).then(() => false)]);
    this.tookMs.push(performance.now() - startMs);
    if (!isGood) this.failed += 1;
  }
}

function base64(key: string): string {
  return Buffer.from(key).toString("base64");
}

function text(bytes: string): string {
  return Buffer.from(bytes, "base64").toString();
}
