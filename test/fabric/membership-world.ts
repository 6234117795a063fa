/** Many `Membership` machines under one virtual clock: calls with loss and delay, crashes, freezes, partitions. Small and fast. */

import type { CallId } from "../../src/fabric/io-types.ts";
import { updateSizeBytes } from "../../src/fabric/membership/broadcast-queue.ts";
import { Membership, type MembershipInput } from "../../src/fabric/membership/membership.ts";
import type { MembershipOptions } from "../../src/fabric/membership/options.ts";
import type { MembershipOutput, MembershipStateParts } from "../../src/fabric/membership/process-instances.ts";
import type { FabricCallRequest, FabricCallResponse, MemberFacts, MemberStatus, PeerIdentity } from "../../src/fabric/wire/messages.ts";
import { Rng } from "../../src/lib/rng.ts";
import { MEMBERSHIP_OPTIONS } from "../fakes/options.ts";

export interface WorldOptions {
  readonly seed: string;
  readonly lossRatio?: number;
  /** A message takes from the first to the second, evenly. */
  readonly delayMs?: readonly [number, number];
  readonly options?: Partial<MembershipOptions>;
}

export interface WorldNode {
  readonly facts: MemberFacts;
  machine: Membership;
  state: "up" | "frozen" | "down";
  /** What came while frozen. */
  readonly backlog: MembershipInput[];
  wakeAtMs: number;
  side: number;
}

interface Event {
  atMs: number;
  order: number;
  run: () => void;
}

const PROOF: PeerIdentity = { address: "127.0.0.1:1", isLoopback: true, certificate: undefined, clusterToken: "" };

export function factsOf(name: string, over: Partial<MemberFacts> = {}): MemberFacts {
  return {
    nodeId: name,
    generation: 1,
    address: `${name}:1`,
    clusterId: "c1",
    region: "r1",
    zone: "z1",
    version: "0.1.0",
    protocolVersions: [2],
    transports: ["h2"],
    roles: [],
    labels: {},
    healthScore: 0,
    ...over,
  };
}

/** A change of a member as one node saw it. */
export interface Seen {
  readonly atMs: number;
  readonly by: string;
  readonly nodeId: string;
  readonly status: MemberStatus;
  readonly before: MemberStatus | undefined;
}

export class World {
  readonly nodes = new Map<string, WorldNode>();
  /** Who is reached at an address. */
  readonly at = new Map<string, WorldNode>();
  readonly seen: Seen[] = [];
  readonly events: { readonly by: string; readonly name: string }[] = [];
  nowMs = 1_000_000;
  /** By how much wall clocks are ahead, by node. */
  readonly skewMs = new Map<string, number>();
  messageCount = 0;
  sizeBytes = 0;
  eventCount = 0;
  lossRatio: number;
  isPartitioned = false;
  /** Keeps `seen`; an hour of a large group fills memory. */
  isWatched = true;
  falseDeaths = 0;
  /** Suspicions that began at anybody. */
  suspicionCount = 0;
  #hash = 0;
  readonly #rng: Rng;
  readonly #net: Rng;
  readonly #o: WorldOptions;
  readonly #heap: Event[] = [];
  #order = 0;

  constructor(o: WorldOptions) {
    this.#o = o;
    this.lossRatio = o.lossRatio ?? 0;
    this.#rng = new Rng(o.seed);
    this.#net = this.#rng.fork("network");
  }

  /** Stands for everything that happened, in order. */
  get traceHash(): string {
    return (this.#hash >>> 0).toString(16);
  }

  start(name: string, over: Partial<MemberFacts> = {}, parts: MembershipStateParts = {}): WorldNode {
    const facts = factsOf(name, over);
    const machine = new Membership(
      facts,
      this.#rng.fork(`${name}/${facts.generation}/${this.nowMs}`),
      { ...MEMBERSHIP_OPTIONS, ...this.#o.options },
      parts,
    );
    const node: WorldNode = { facts, machine, state: "up", backlog: [], wakeAtMs: Number.POSITIVE_INFINITY, side: 0 };
    this.nodes.set(name, node);
    this.at.set(facts.address, node);
    this.give(node, { kind: "tick" });
    return node;
  }

  /** N nodes that each know the seeds. */
  startMany(count: number, seeds: (index: number) => readonly string[]): WorldNode[] {
    const nodes: WorldNode[] = [];
    for (let i = 0; i < count; i++) {
      const node = this.start(`n${i}`);
      this.give(node, { kind: "join", addresses: seeds(i).map((seed) => `${seed}:1`) });
      nodes.push(node);
    }
    return nodes;
  }

  crash(node: WorldNode): void {
    node.state = "down";
    if (this.at.get(node.facts.address) === node) this.at.delete(node.facts.address);
  }

  freeze(node: WorldNode, forMs: number): void {
    node.state = "frozen";
    this.#at(forMs, () => {
      if (node.state !== "frozen") return;
      node.state = "up";
      // As the kernel has it: timers and sockets are all ready at once, timers first.
      this.give(node, { kind: "tick" });
      for (const input of node.backlog.splice(0)) this.give(node, input);
    });
  }

  give(node: WorldNode, input: MembershipInput): void {
    if (node.state === "down") return;
    if (node.state === "frozen") {
      node.backlog.push(input);
      return;
    }
    this.eventCount += 1;
    const out: MembershipOutput[] = [];
    node.machine.handle(input, { monoMs: this.nowMs, wallMs: this.nowMs + (this.skewMs.get(node.facts.nodeId) ?? 0) }, out);
    for (const order of out) this.#carryOut(node, order);
    this.#wake(node);
  }

  /** Runs until then, or until the condition holds (looked at each `stepMs`); gives whether it did. */
  runFor(forMs: number, until?: () => boolean, stepMs = 100): boolean {
    const endMs = this.nowMs + forMs;
    let checkMs = this.nowMs;
    for (;;) {
      const next = this.#heap[0];
      const nextMs = Math.min(next?.atMs ?? endMs, endMs);
      for (; checkMs <= nextMs; checkMs += stepMs) {
        this.nowMs = Math.max(this.nowMs, checkMs);
        if (until?.() === true) return true;
      }
      if (next === undefined || next.atMs > endMs) break;
      this.#pop();
      this.nowMs = next.atMs;
      next.run();
    }
    this.nowMs = endMs;
    return until?.() ?? true;
  }

  /** Every node that is up lists exactly the others that are up. */
  isConverged(): boolean {
    let upCount = 0;
    for (const node of this.nodes.values()) if (node.state !== "down") upCount += 1;
    for (const node of this.nodes.values()) {
      if (node.state !== "up") continue;
      const { alive, suspect } = node.machine.counts();
      if (alive + suspect !== upCount - 1) return false;
    }
    return true;
  }

  /** How many of the nodes that are up hold the member in this status. */
  countWho(nodeId: string, status: MemberStatus | undefined): number {
    let count = 0;
    for (const node of this.nodes.values()) {
      if (node.state === "up" && node.facts.nodeId !== nodeId && node.machine.find(nodeId)?.status === status) count += 1;
    }
    return count;
  }

  #carryOut(node: WorldNode, order: MembershipOutput): void {
    switch (order.kind) {
      case "call":
        this.#call(node, order.call, order.to, order.request, order.timeoutMs);
        return;
      case "answer":
        this.#answer(node, order.call, order.response);
        return;
      case "memberChanged": {
        const { nodeId, status, incarnation } = order.update;
        this.#mark(nodeId.length + incarnation + status.length);
        if (status === "dead" && order.before !== undefined && this.nodes.get(nodeId)?.state === "up") this.falseDeaths += 1;
        if (status === "suspect") this.suspicionCount += 1;
        if (this.isWatched) this.seen.push({ atMs: this.nowMs, by: node.facts.nodeId, nodeId, status, before: order.before });
        return;
      }
      case "event":
        if (this.isWatched) this.events.push({ by: node.facts.nodeId, name: order.event.name });
        return;
      case "memberForgotten":
      case "turnedAway":
      case "letIn":
      case "ownIdUsed":
    }
  }

  // Calls under way at the asked: how to get the response back. Ids are ours.
  readonly #asked = new Map<CallId, (response: FabricCallResponse | undefined) => void>();
  #nextAsked = 1;

  #call(node: WorldNode, call: CallId, to: string, request: FabricCallRequest, timeoutMs: number): void {
    let isDone = false;
    const { machine } = node;
    const finish = (response: FabricCallResponse | undefined): void => {
      if (isDone) return;
      isDone = true;
      if (node.machine === machine) this.give(node, { kind: "answered", call, response });
    };
    this.#at(timeoutMs, () => finish(undefined));
    this.#travel(node, to, request, (target) => {
      if (target === undefined) {
        // Nobody listens there: refused at once, if the host is up; here it is silence.
        return;
      }
      const id = this.#nextAsked++;
      this.#asked.set(id, (response) => {
        this.#asked.delete(id);
        if (response === undefined) finish(undefined);
        else this.#travel(target, node.facts.address, response, () => finish(response));
      });
      this.give(target, { kind: "asked", call: id, request, identity: PROOF });
    });
  }

  #answer(_node: WorldNode, call: CallId, response: FabricCallResponse | undefined): void {
    this.#asked.get(call)?.(response);
  }

  #travel(
    from: WorldNode,
    to: string,
    what: FabricCallRequest | FabricCallResponse,
    arrive: (target: WorldNode | undefined) => void,
  ): void {
    this.messageCount += 1;
    this.sizeBytes += messageSizeBytes(what);
    const isLost = this.#net.next() < this.lossRatio;
    const [leastMs, mostMs] = this.#o.delayMs ?? [1, 20];
    const delayMs = leastMs + this.#net.next() * (mostMs - leastMs);
    if (isLost) return;
    this.#at(delayMs, () => {
      const target = this.at.get(to);
      if (target !== undefined && this.isPartitioned && target.side !== from.side) return;
      arrive(target);
    });
  }

  #wake(node: WorldNode): void {
    const atMs = node.machine.nextDeadlineMs();
    if (atMs >= node.wakeAtMs) return;
    node.wakeAtMs = atMs;
    const { machine } = node;
    this.#at(Math.max(0, atMs - this.nowMs), () => {
      if (node.wakeAtMs === atMs) node.wakeAtMs = Number.POSITIVE_INFINITY;
      if (node.machine !== machine || node.state !== "up") return;
      if (node.machine.nextDeadlineMs() <= this.nowMs) this.give(node, { kind: "tick" });
      else this.#wake(node);
    });
  }

  #mark(n: number): void {
    this.#hash = (Math.imul(this.#hash ^ n, 0x01000193) ^ Math.floor(this.nowMs * 16)) | 0;
  }

  #at(inMs: number, run: () => void): void {
    const event = { atMs: this.nowMs + inMs, order: this.#order++, run };
    const heap = this.#heap;
    let place = heap.push(event) - 1;
    while (place > 0) {
      const up = (place - 1) >> 1;
      const parent = heap[up];
      if (parent === undefined || isBefore(parent, event)) break;
      heap[place] = parent;
      place = up;
    }
    heap[place] = event;
  }

  #pop(): void {
    const heap = this.#heap;
    const last = heap.pop();
    if (last === undefined || heap.length === 0) return;
    let place = 0;
    for (;;) {
      let child = place * 2 + 1;
      let least = heap[child];
      if (least === undefined) break;
      const right = heap[child + 1];
      if (right !== undefined && isBefore(right, least)) {
        least = right;
        child += 1;
      }
      if (isBefore(last, least)) break;
      heap[place] = least;
      place = child;
    }
    heap[place] = last;
  }
}

function isBefore(a: Event, b: Event): boolean {
  return a.atMs < b.atMs || (a.atMs === b.atMs && a.order < b.order);
}

/** HTTP/2 and gRPC framing of a unary call, and ids. */
const MESSAGE_BYTES = 60;

function messageSizeBytes(what: FabricCallRequest | FabricCallResponse): number {
  const updates = what.kind === "maintain" ? [] : what.kind === "pushPull" ? what.members : what.updates;
  let size = MESSAGE_BYTES;
  for (const update of updates) size += updateSizeBytes(update);
  return size;
}
