/**
 * Operators of simulated nodes. Each node has the machine of the operators' records, on a store that the nodes share, and follows them as the product
 * does (`src/node/control/component.io.ts`). Requests, answers and watches take time.
 */
import type { KeyText } from "../../src/catalog/record/record.ts";
import type { OrderId } from "../../src/control/leadership/io-types.ts";
import { StoreRequests } from "../../src/control/leadership/requests.ts";
import { type ControlInput, type ControlOutput, type PeerChange, type PeerOrder, Peers } from "../../src/control/peers/peers.ts";
import { ACTIVE_NODE, decodePeer, PEER_GUARD, PEERS } from "../../src/control/peers/records.ts";
import { isListed } from "../../src/fabric/membership/members.ts";
import type { MemberUpdate } from "../../src/fabric/wire/messages.ts";
import { Rng } from "../../src/lib/rng.ts";
import { desiredOf } from "../../src/services/peers/peer-message.ts";
import { SharedStore, WATCH_START } from "../fakes/shared-store.ts";
import type { Checks } from "./checks.ts";
import type { OperatorStep } from "./plan.ts";
import type { SimNode, SimProcess } from "./sim-node.ts";
import type { World } from "./world.ts";

/** Longest time until a message is at the store, or at a node. */
const MESSAGE_MS = 120;
/** An operator tries a change again, when another one was made at the same time. */
const AGAIN_MS = 400;
const MAX_TRIES = 10;

interface OperatorParts {
  readonly world: World;
  readonly nodes: readonly SimNode[];
  readonly checks: Checks;
  readonly seed: string;
}

/** The control plane of one process. */
interface Desk {
  readonly process: SimProcess;
  readonly peers: Peers;
  readonly orders: Map<OrderId, (refusal: string) => void>;
  position: typeof WATCH_START;
  /** The watch reports its steps in their order. */
  reportedMs: number;
}

export class Operators {
  readonly store = new SharedStore();
  /** How often orders ended in each way. */
  readonly ends = new Map<string, number>();
  readonly #parts: OperatorParts;
  readonly #rng: Rng;
  readonly #desks = new Map<SimProcess, Desk>();
  /** The nodes that each process was told to forget, until they start again. */
  readonly #forgotten = new Map<SimProcess, Set<string>>();
  #orders = 0;

  constructor(parts: OperatorParts) {
    this.#parts = parts;
    this.#rng = new Rng(`operators/${parts.seed}`);
  }

  /** What operators want a node to be, by the store. */
  wanted(nodeId: string) {
    return decodePeer(this.store.valueOf(PEERS + nodeId) ?? new Uint8Array());
  }

  // ---- what processes tell ----

  started(process: SimProcess): void {
    for (const old of this.#desks.keys()) if (old.isStopped) this.#desks.delete(old);
    for (const nodeIds of this.#forgotten.values()) nodeIds.delete(process.node.name);
    this.#forgotten.set(process, new Set());
    const requests = new StoreRequests();
    const shards = {
      handle: (input: ControlInput, time: ReturnType<SimProcess["time"]>, out: ControlOutput[]) => {
        if (input.kind === "transacted") requests.answered(input.request, input.result, time, out as never);
      },
      nextDeadlineMs: () => Number.POSITIVE_INFINITY,
    };
    const peers = new Peers({ shards, machine: { requests, storeFault: "" }, isOwnStore: false });
    const desk: Desk = { process, peers, orders: new Map(), position: WATCH_START, reportedMs: 0 };
    this.#desks.set(process, desk);
    this.#later(process, () => this.#input(desk, { kind: "tick" }));
  }

  memberChanged(process: SimProcess, { nodeId }: MemberUpdate): void {
    const desk = this.#desks.get(process);
    if (desk?.peers.record(nodeId)?.value?.isForgotten === true) this.#later(process, () => this.#followed(desk, nodeId), 0);
  }

  /** What a process was told to forget does not come back before its node does. */
  look(process: SimProcess, key: KeyText): void {
    const nodeIds = this.#forgotten.get(process);
    if (nodeIds === undefined || nodeIds.size === 0) return;
    const { nodeId = "" } = process.replica.view(key)?.origin ?? {};
    this.#parts.checks.holds(!nodeIds.has(nodeId), "forgotten", () => `${process.node.name} shows ${key} of ${nodeId}, which it forgot`);
  }

  // ---- what operators do ----

  take(step: OperatorStep, tries = 0): void {
    const { world, nodes } = this.#parts;
    const again = () => {
      if (tries < MAX_TRIES) world.after(AGAIN_MS * (1 + this.#rng.next()), () => this.take(step, tries + 1));
    };
    const process = nodes[step.by]?.process ?? nodes.find((node) => node.process !== undefined && !node.isFrozen)?.process;
    const desk = process && this.#desks.get(process);
    if (desk === undefined) return again();
    this.#later(desk.process, () => {
      const order = ++this.#orders;
      desk.orders.set(order, (refusal) => {
        this.ends.set(refusal, (this.ends.get(refusal) ?? 0) + 1);
        if (refusal === "version_conflict" || refusal === "store_unavailable" || refusal === "alive") again();
      });
      const nodeId = nodes[step.node]?.name ?? "";
      const status = desk.process.fabric.membership.find(nodeId)?.status;
      if (step.operation === "forget" && status !== undefined && isListed(status)) return this.#ended(desk, order, "alive");
      this.#input(desk, { kind: "changePeer", order, change: this.#orderOf(desk, step, nodeId) });
    });
  }

  #orderOf(desk: Desk, { operation, deadlineMs = 600_000 }: OperatorStep, nodeId: string): PeerOrder {
    const isOut = operation === "cordon" || operation === "drain";
    const change: PeerChange = isOut
      ? { kind: operation, isForced: false, deadlineMs, readyCount: this.#readyCount(desk, nodeId) }
      : { kind: operation };
    const common = { reason: "", ticket: "", expectedVersion: undefined, requestId: "", isDryRun: false };
    return { nodeId, change, actor: "ann", ...common };
  }

  /** As `PeerOperations` counts. */
  #readyCount({ process, peers }: Desk, nodeId: string): number {
    const control = { record: (id: string) => peers.record(id) };
    const members = process.fabric.membership.members();
    return members.filter((member) => {
      const isReady = member.status === "alive" && member.isServing === true;
      return member.nodeId !== nodeId && isReady && desiredOf(member, control) === "active";
    }).length;
  }

  #ended({ orders }: Desk, order: OrderId, refusal: string): void {
    orders.get(order)?.(refusal);
    orders.delete(order);
  }

  // ---- the machine, its store and its node ----

  #input(desk: Desk, input: ControlInput): void {
    const out: ControlOutput[] = [];
    desk.peers.handle(input, desk.process.time(), out);
    for (const output of out) this.#carryOut(desk, output);
  }

  #carryOut(desk: Desk, output: ControlOutput): void {
    const { world } = this.#parts;
    if (output.kind === "watch") this.#report(desk);
    else if (output.kind === "ordered") this.#ended(desk, output.order, output.refusal?.reason ?? "done");
    else if (output.kind === "peerChanged") this.#followed(desk, output.nodeId);
    else if (output.kind === "transact") {
      const { request, conditions, changes } = output;
      world.after(this.#delayMs(), () => {
        const result = this.store.transact(conditions, changes);
        this.#checkInService();
        for (const each of this.#desks.values()) this.#report(each);
        this.#later(desk.process, () => this.#input(desk, { kind: "transacted", request, result }));
      });
    } else throw new Error(`the records of nodes gave ${output.kind}`);
  }

  /** The watch of a process reads what is new, and reports it in time. */
  #report(desk: Desk): void {
    const { world } = this.#parts;
    const found = this.store.read(PEERS, desk.position);
    if (found === undefined) return;
    desk.position = found.position;
    desk.reportedMs = Math.max(desk.reportedMs, world.nowMs + this.#delayMs());
    this.#later(
      desk.process,
      () => this.#input(desk, { kind: "changed", prefix: PEERS, changes: found.step }),
      desk.reportedMs - world.nowMs,
    );
  }

  /** As `NodeLeadership` follows the records. */
  #followed(desk: Desk, nodeId: string): void {
    const { process, peers } = desk;
    const record = peers.record(nodeId)?.value;
    const { desired, drain, labels } = record ?? ACTIVE_NODE;
    if (nodeId === process.node.name) process.input({ kind: "desired", desired, drain, labels });
    if (record?.isForgotten !== true) return;
    if (process.lists(nodeId)) this.#input(desk, { kind: "peerAlive", nodeId });
    else {
      if (this.#parts.nodes.find(({ name }) => name === nodeId)?.isUp === false) this.#forgotten.get(process)?.add(nodeId);
      process.input({ kind: "forget", nodeId });
    }
  }

  #later(process: SimProcess, run: () => void, ms = this.#delayMs()): void {
    process.pause(ms, run);
  }

  #delayMs(): number {
    return 1 + this.#rng.int(MESSAGE_MS);
  }

  /** Some node is in service, because no operation is forced. */
  #checkInService(): void {
    const { nodes, checks } = this.#parts;
    const isIn = nodes.some(({ name }) => (this.wanted(name)?.desired ?? "active") === "active");
    checks.holds(isIn, "in service", () => `no node is in service after ${new TextDecoder().decode(this.store.valueOf(PEER_GUARD))}`);
  }
}
