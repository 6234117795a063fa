/** A read worker of a simulated node: a copy of the replica with rooms of its own, which clients read at as they do at the node. */
import type { Fanout } from "../../src/discovery/fanout.ts";
import type { CatalogReads } from "../../src/discovery/reads.ts";
import { NEVER } from "../../src/lib/machine.ts";
import type { Rng } from "../../src/lib/rng.ts";
import type { PolicySource } from "../../src/policy/set/verdict.ts";
import { Copy } from "../fakes/copies.ts";
import type { SimNode, SimProcess } from "./sim-node.ts";
import { SimWaking } from "./waking.ts";

/** Where clients read: at a node itself, or at a copy of its replica. */
export interface Place {
  readonly name: string;
  readonly node: SimNode;
  readonly process: SimProcess;
  readonly replica: SimProcess["replica"];
  readonly reads: CatalogReads;
  readonly fanout: Fanout;
  readonly policies: PolicySource;
  readonly waking: SimWaking;
  /** Whether some records or watches may not follow the policy in force. */
  readonly isSwitching: boolean;
  readonly isGone: boolean;
  /** What the node knows is known here too. */
  refresh(): void;
}

/** The node itself, as a place. */
export function placeOf(process: SimProcess): Place {
  const { node, replica, reads, fanout, policies, waking } = process;
  return {
    name: node.name,
    node,
    process,
    replica,
    reads,
    fanout,
    policies,
    waking,
    get isSwitching() {
      return process.switches.isRunning;
    },
    get isGone() {
      return process.isStopped;
    },
    refresh: () => {},
  };
}

/** Longest time between two slices of a change of policy. */
const SLICE_APART_MS = 4;
/** Records that a copy is given in one turn while it is made. */
const COPY_SLICE = 5;

export class SimCopy implements Place {
  readonly name: string;
  readonly node: SimNode;
  readonly process: SimProcess;
  readonly waking: SimWaking;
  readonly #copy: Copy;
  readonly #rng: Rng;
  #isGone = false;
  #isSlicing = false;

  constructor(process: SimProcess, number: number) {
    const { node } = process;
    const { clusterId, region } = node.options;
    this.node = node;
    this.process = process;
    this.name = `copy ${number} at ${node.name}`;
    this.#rng = node.parts.rng.fork(`${this.name} in life ${node.life}`);
    const onAgain = () => this.waking.kick();
    this.#copy = new Copy(process, { pastTouches: node.pastTouches, clusterId, region, boot: process.boot, onAgain });
    this.waking = new SimWaking(process, this.#copy.rooms.fanout, () => this.#isGone);
    this.waking.lookForBookmarks();
  }

  get replica() {
    return this.#copy.replica;
  }

  get reads() {
    return this.#copy.rooms.reads;
  }

  get fanout() {
    return this.#copy.rooms.fanout;
  }

  get policies() {
    return this.#copy.rooms.policies;
  }

  get loads() {
    return this.#copy.rooms.loads;
  }

  get isWhole(): boolean {
    return this.#copy.isWhole;
  }

  get isGone(): boolean {
    return this.#isGone || this.process.isStopped;
  }

  get isSwitching(): boolean {
    return this.#copy.rooms.switches.isRunning || !this.reads.isSettled;
  }

  refresh(): void {
    if (this.isGone) return;
    this.#copy.hear(COPY_SLICE);
    if (!this.#isSlicing) this.#slice();
  }

  close(): void {
    this.#isGone = true;
    this.#copy.close();
  }

  /** Tells its watches of a change of policy in slices, between which anything may happen. */
  #slice(): void {
    const { switches } = this.#copy.rooms;
    const isAtWork = () => switches.isRunning && !switches.isWaiting;
    if (this.isGone) return;
    for (let n = this.#rng.int(3); n > 0 && isAtWork(); n--) if (switches.step(1 + this.#rng.int(4), this.process.time())) this.#shown();
    this.#isSlicing = isAtWork();
    if (this.#isSlicing) this.process.pause(1 + this.#rng.int(SLICE_APART_MS), () => this.#slice());
  }

  #shown(): void {
    const { feed, rooms } = this.#copy;
    this.waking.kick();
    feed.shown(rooms.switches.shown);
    this.#hear(rooms.switches.shown);
  }

  #hear(change: number): void {
    const { feed, rooms } = this.#copy;
    if (this.isGone || rooms.switches.shown !== change) return;
    if (rooms.switches.isAcknowledged(this.process.time())) return feed.delivered(change);
    const lookMonoMs = rooms.switches.nextDeadlineMs();
    if (lookMonoMs !== NEVER) this.process.pause(lookMonoMs - this.process.time().monoMs, () => this.#hear(change));
  }
}
