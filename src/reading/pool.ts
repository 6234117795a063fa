/** The endpoints of one tier and level, and the choice among them. */
import { type Hash64, mixedFraction } from "../lib/hash64.ts";
import { type Candidate, type Endpoint, mostEjected } from "./endpoint.ts";
import { SELECT_POLICY, type SelectPolicy } from "./levels.ts";
import { type Moment, roomOf } from "./load.ts";
import { Rotation, type Turns } from "./rotation.ts";
import { WeightTree } from "./weight-tree.ts";

/** How a pool chooses. */
export interface PoolOptions {
  readonly policy: SelectPolicy;
  /** In [0, 1): where in key order the first turn is. */
  readonly start: number;
}

/** What a choice takes from outside. */
export interface Draw extends Moment {
  /** A random number in [0, 1) for each call. */
  readonly random: () => number;
}

/** Put, remove, eject and readmit cost O(log n). */
export class Pool<C extends Candidate> {
  readonly #policy: SelectPolicy;
  /** Those that may be chosen, in no order. */
  readonly #members: Endpoint<C>[] = [];
  /** Latest return first. */
  readonly #ejected: Endpoint<C>[] = [];
  readonly #weights = new WeightTree();
  readonly #rotation: Rotation<Endpoint<C>> | undefined;
  #knownCount = 0;

  /** `turns` is changed by each turn. */
  constructor({ policy, start }: PoolOptions, turns: Turns = new Map()) {
    this.#policy = policy;
    if (policy === SELECT_POLICY.LOAD_AWARE || policy === SELECT_POLICY.ROUND_ROBIN) this.#rotation = new Rotation(turns, start);
  }

  /** Number of endpoints that may be chosen. */
  get size(): number {
    return this.#members.length;
  }

  /** Whether its choices are made by load, and not in turn. */
  get isByLoad(): boolean {
    return this.#policy === SELECT_POLICY.LOAD_AWARE && this.#knownCount > 0;
  }

  /** Monotonic time at which the next ejection ends. */
  get nextReturnMs(): number {
    return this.#ejected.at(-1)?.ejectedUntilMs ?? Number.POSITIVE_INFINITY;
  }

  put(endpoint: Endpoint<C>): void {
    if (endpoint.ejectedUntilMs > 0) this.#hold(endpoint);
    else this.#add(endpoint);
  }

  remove(endpoint: Endpoint<C>): void {
    if (endpoint.index === -1) this.#ejected.splice(this.#ejected.indexOf(endpoint), 1);
    else this.#take(endpoint);
  }

  /** What is known of a member's load has changed from nothing to something. */
  noteKnown(): void {
    this.#knownCount += 1;
  }

  /** Ejects a member, if that leaves enough of the level. Returns whether it did. */
  eject(endpoint: Endpoint<C>, nowMonoMs: number): boolean {
    if (this.#ejected.length >= mostEjected(this.size + this.#ejected.length)) return false;
    this.#take(endpoint);
    endpoint.eject(nowMonoMs);
    this.#hold(endpoint);
    return true;
  }

  /** Readmits those whose ejection has ended, and, of the others, those that are too many after members went. */
  readmit(nowMonoMs: number): void {
    for (;;) {
      const first = this.#ejected.at(-1);
      if (first === undefined) return;
      const isOver = this.#ejected.length > mostEjected(this.size + this.#ejected.length);
      if (!isOver && first.ejectedUntilMs > nowMonoMs) return;
      this.#ejected.pop();
      first.readmit(nowMonoMs);
      this.#add(first);
    }
  }

  /** Chooses by the policy, except HASH. Undefined if the pool is empty. */
  choose(draw: Draw): Endpoint<C> | undefined {
    switch (this.#policy) {
      case SELECT_POLICY.LOAD_AWARE:
        return this.#knownCount === 0 ? this.#rotation?.next() : this.#betterOfTwo(draw);
      case SELECT_POLICY.ROUND_ROBIN:
        return this.#rotation?.next();
      case SELECT_POLICY.RANDOM:
      case SELECT_POLICY.HASH:
        return this.#members[this.#weights.draw(draw.random())];
    }
  }

  /** The member that a hash key leads to, of those that are not in `avoid`: rendezvous hashing, so a change moves only the keys of the member that came or went. */
  byHash(hash: Hash64, avoid: ReadonlySet<Endpoint<C>> | undefined): Endpoint<C> | undefined {
    let best: Endpoint<C> | undefined;
    let lowest = Number.POSITIVE_INFINITY;
    for (const member of this.#members) {
      const fraction = mixedFraction(hash.high ^ member.hashHigh, hash.low ^ member.hashLow);
      if (fraction > lowest || (fraction === lowest && best !== undefined && member.key > best.key)) continue;
      if (avoid?.has(member) === true) continue;
      best = member;
      lowest = fraction;
    }
    return best;
  }

  /** Any member that is not in `avoid`. */
  other(avoid: ReadonlySet<Endpoint<C>>): Endpoint<C> | undefined {
    return this.#members.find((member) => !avoid.has(member));
  }

  /**
   * The better of two that are drawn by weight (Mitzenmacher, The Power of Two Choices in Randomized Load Balancing, 2001). The same one may be drawn
   * twice, so even the most loaded is chosen now and then: load never excludes.
   */
  #betterOfTwo(draw: Draw): Endpoint<C> | undefined {
    const first = this.#members[this.#weights.draw(draw.random())];
    const second = this.#members[this.#weights.draw(draw.random())];
    if (first === undefined || second === undefined || first === second) return first ?? second;
    return this.#room(second, draw) > this.#room(first, draw) ? second : first;
  }

  /** An endpoint with twice the weight stands twice the calls in flight. */
  #room({ candidate, seen, weight }: Endpoint<C>, draw: Draw): number {
    const room = roomOf(candidate.view.load, seen, draw);
    return seen === undefined ? room : room / (1 + (seen.inFlightCount * this.#weights.total) / (this.#members.length * weight));
  }

  #add(endpoint: Endpoint<C>): void {
    endpoint.index = this.#members.length;
    this.#members.push(endpoint);
    this.#weights.add(endpoint.index, endpoint.weight);
    this.#rotation?.put(endpoint);
    if (endpoint.isKnown) this.#knownCount += 1;
  }

  #take(endpoint: Endpoint<C>): void {
    const { index, weight } = endpoint;
    const last = this.#members.pop();
    if (last === undefined) return;
    this.#weights.add(index, -weight);
    if (last !== endpoint) {
      this.#weights.add(last.index, -last.weight);
      this.#weights.add(index, last.weight);
      this.#members[index] = last;
      last.index = index;
    }
    endpoint.index = -1;
    this.#rotation?.remove(endpoint);
    if (endpoint.isKnown) this.#knownCount -= 1;
  }

  #hold(endpoint: Endpoint<C>): void {
    const at = this.#ejected.findIndex((one) => one.ejectedUntilMs <= endpoint.ejectedUntilMs);
    this.#ejected.splice(at === -1 ? this.#ejected.length : at, 0, endpoint);
  }
}
