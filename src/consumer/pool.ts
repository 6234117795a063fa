/** Keeps the endpoints of one tier and level, and chooses among them (semantics.md, Selection). */
import { fnv64, type Hash64, mixedFraction } from "../lib/hash64.ts";
import type { Time } from "../lib/machine.ts";
import { type Candidate, type Endpoint, mostEjected } from "./endpoint.ts";
import { headroomOf, keepProbability, LOAD_NUMBERS, noteLoad } from "./load-score.ts";
import { SELECT_POLICY, type SelectPolicy } from "./locality-levels.ts";
import { type RotationState, WeightedRotation } from "./rotation.ts";

/** How a pool chooses. */
export interface PoolOptions {
  readonly policy: SelectPolicy;
  /** The position of the first turn in key order, in [0, 1). */
  readonly start: number;
}

/** Weight of a new latency in the average that represents the typical latency. */
const TYPICAL_GAIN = 1 / 16;

/** The endpoints of one tier and level. Put, remove, eject and readmit cost O(log n). */
export class EndpointPool<C extends Candidate> {
  // HOT: the fields that a choice reads are first, in one cache line.
  readonly #policy: SelectPolicy;
  #knownCount = 0;
  /** The members that can be chosen, in no particular order. */
  readonly #members: Endpoint<C>[] = [];
  /** The load of each member (`noteLoad`). This is a plain array, because V8 stores a short typed array far from its object. */
  readonly #loads: number[] = [];
  /** Undefined while all weights are equal. */
  #weights: WeightTree | undefined;
  #totalWeight = 0;
  /** The typical latency of the service in this level. 0 before the first successful call. */
  #typicalMs = 0;
  /** For HASH: the two halves of each member's hash, each a small integer. */
  readonly #hashes: number[] = [];
  /** Number of members that report too many errors, including ejected members. */
  #faultyCount = 0;
  /** Ejected members, ordered by the end of the ejection, latest first. */
  readonly #ejected: Endpoint<C>[] = [];
  readonly #rotation: WeightedRotation<Endpoint<C>> | undefined;

  /** `earlier` is another pool's rotation state, from which this pool continues. */
  constructor({ policy, start }: PoolOptions, earlier?: RotationState) {
    this.#policy = policy;
    if (policy === SELECT_POLICY.LOAD_AWARE || policy === SELECT_POLICY.ROUND_ROBIN) this.#rotation = new WeightedRotation(start, earlier);
  }

  /** Number of endpoints that can be chosen. */
  get size(): number {
    return this.#members.length;
  }

  /** The rotation state, from which another pool can continue. */
  get turns(): RotationState | undefined {
    return this.#rotation?.turns;
  }

  /** Whether the pool chooses by load and not by rotation. */
  get isByLoad(): boolean {
    return this.#policy === SELECT_POLICY.LOAD_AWARE && this.#knownCount > 0;
  }

  /** Monotonic time at which the next ejection ends. */
  get nextReturnMs(): number {
    return this.#ejected.at(-1)?.ejectedUntilMs ?? Number.POSITIVE_INFINITY;
  }

  put(endpoint: Endpoint<C>): void {
    if (endpoint.isFaulty) this.#faultyCount += 1;
    if (endpoint.ejectedUntilMs > 0) this.#hold(endpoint);
    else this.#add(endpoint);
  }

  remove(endpoint: Endpoint<C>): void {
    if (endpoint.isFaulty) this.#faultyCount -= 1;
    if (endpoint.index === -1) this.#ejected.splice(this.#ejected.indexOf(endpoint), 1);
    else this.#take(endpoint);
  }

  /** Updates the load numbers of an endpoint after its load has changed. `wasKnown` is the previous value of the endpoint's `isKnown`. */
  noteLoad(endpoint: Endpoint<C>, wasKnown: boolean): void {
    if (endpoint.index === -1) return;
    this.#knownCount += Number(endpoint.isKnown) - Number(wasKnown);
    this.#writeLoad(endpoint);
  }

  /** Ejects a member, if enough members of the level remain. Returns whether the member was ejected. */
  eject(endpoint: Endpoint<C>, nowMonoMs: number): boolean {
    if (this.#ejected.length >= mostEjected(this.size + this.#ejected.length)) return false;
    this.#take(endpoint);
    endpoint.eject(nowMonoMs);
    this.#hold(endpoint);
    return true;
  }

  /**
   * Ejects a member that reports too many errors, if enough members of the level remain, or readmits it. If more than half of the level reports
   * too many errors, no member is ejected for errors, because the others could not serve all calls.
   */
  judge(endpoint: Endpoint<C>, time: Time): void {
    const total = this.size + this.#ejected.length;
    const before = Number(endpoint.isFaulty);
    this.#sort(endpoint, () => endpoint.judge(time));
    this.#faultyCount += Number(endpoint.isFaulty) - before;
    if (this.#faultyCount * 2 > total) {
      for (const one of this.#ejected.filter(({ isFaulty }) => isFaulty)) this.#sort(one, () => one.clearErrorEjection());
    } else if (endpoint.index !== -1 && endpoint.ejectedUntilMs > time.monoMs && this.#ejected.length < mostEjected(total)) {
      this.#take(endpoint);
      this.#hold(endpoint);
      return;
    }
    if (endpoint.index !== -1) endpoint.clearErrorEjection();
  }

  /** Moves an ejected member to its new position after its ejection has changed. */
  #sort(endpoint: Endpoint<C>, change: () => void): void {
    if (endpoint.index !== -1) return change();
    this.#ejected.splice(this.#ejected.indexOf(endpoint), 1);
    change();
    if (endpoint.ejectedUntilMs > 0) this.#hold(endpoint);
    else this.#add(endpoint);
  }

  /**
   * Readmits members whose ejection has ended. If too many are still ejected, because members were removed, also readmits the members over the
   * limit.
   */
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

  /** Records the latency of a successful call. */
  noteLatency(latencyMs: number): void {
    this.#typicalMs = this.#typicalMs === 0 ? latencyMs : this.#typicalMs + (latencyMs - this.#typicalMs) * TYPICAL_GAIN;
  }

  /** Chooses a member according to the policy, which must not be HASH. Undefined if the pool is empty. `random` returns numbers in [0, 1). */
  choose(time: Time, random: () => number): Endpoint<C> | undefined {
    switch (this.#policy) {
      case SELECT_POLICY.LOAD_AWARE:
        return this.#knownCount === 0 ? this.#rotation?.next() : this.#betterOfTwo(time, random);
      case SELECT_POLICY.ROUND_ROBIN:
        return this.#rotation?.next();
      case SELECT_POLICY.RANDOM:
      case SELECT_POLICY.HASH:
        return this.#members[this.#draw(random())];
    }
  }

  /**
   * Returns the member for a hash key, excluding the members in `avoid`. `hash` is the hash of the key. Cost: one step per member.
   */
  byHash(hash: Hash64, avoid: ReadonlySet<Endpoint<C>> | undefined): Endpoint<C> | undefined {
    let best: Endpoint<C> | undefined;
    let lowest = Number.POSITIVE_INFINITY;
    for (let i = 0; i < this.#members.length; i++) {
      const score = rendezvous(hash, this.#hashes[i * 2] ?? 0, this.#hashes[i * 2 + 1] ?? 0);
      if (score > lowest) continue;
      const member = this.#members[i];
      if (member === undefined || avoid?.has(member) === true) continue;
      if (score === lowest && best !== undefined && best.key < member.key) continue;
      best = member;
      lowest = score;
    }
    return best;
  }

  /** Returns any member that is not in `avoid`. */
  other(avoid: ReadonlySet<Endpoint<C>>): Endpoint<C> | undefined {
    return this.#members.find((member) => !avoid.has(member));
  }

  /**
   * Draws two different members by weight (Mitzenmacher, The Power of Two Choices in Randomized Load Balancing, 2001). Returns the first member or,
   * if the second has more headroom, with some probability the second. A member's share of the calls corresponds to its weight, minus the calls that
   * it loses to others, plus the calls that others lose to it.
   */
  #betterOfTwo(time: Time, random: () => number): Endpoint<C> | undefined {
    const first = this.#draw(random());
    if (this.#members.length < 2) return this.#members[first];
    const second = this.#drawOther(first, random());
    const moment = { time, typicalMs: this.#typicalMs, meanWeight: this.#totalWeight / this.#members.length };
    const kept = keepProbability(
      headroomOf(this.#loads, first * LOAD_NUMBERS, moment),
      headroomOf(this.#loads, second * LOAD_NUMBERS, moment),
    );
    return this.#members[kept < 1 && random() >= kept ? second : first];
  }

  /** Draws the index of a member, by weight. */
  #draw(drawn: number): number {
    return this.#weights === undefined ? Math.floor(drawn * this.#members.length) : this.#weights.draw(drawn);
  }

  /** Draws the index of a different member, by weight. */
  #drawOther(index: number, drawn: number): number {
    if (this.#weights !== undefined) return this.#weights.drawOther(drawn, index, this.#members[index]?.weight ?? 0);
    const other = Math.floor(drawn * (this.#members.length - 1));
    return other < index ? other : other + 1;
  }

  #add(endpoint: Endpoint<C>): void {
    const { weight } = endpoint;
    const index = this.#members.length;
    if (this.#weights === undefined && index > 0 && weight !== this.#members[0]?.weight) this.#weights = weightsOf(this.#members);
    endpoint.index = index;
    this.#members.push(endpoint);
    this.#weights?.add(index, weight);
    this.#totalWeight += weight;
    this.#rotation?.put(endpoint);
    if (endpoint.isKnown) this.#knownCount += 1;
    if (this.#policy === SELECT_POLICY.LOAD_AWARE) this.#writeLoad(endpoint);
    if (this.#policy === SELECT_POLICY.HASH) this.#hashes.push(...halvesOf(endpoint.key));
  }

  #take(endpoint: Endpoint<C>): void {
    const { index, weight } = endpoint;
    const last = this.#members.pop();
    if (last === undefined) return;
    this.#totalWeight -= weight;
    this.#weights?.add(index, -weight);
    if (last !== endpoint) {
      this.#weights?.add(last.index, -last.weight);
      this.#weights?.add(index, last.weight);
      this.#members[index] = last;
      move(this.#loads, LOAD_NUMBERS, last.index, index);
      move(this.#hashes, 2, last.index, index);
      last.index = index;
    }
    endpoint.index = -1;
    if (this.#loads.length > 0) this.#loads.length = this.#members.length * LOAD_NUMBERS;
    if (this.#hashes.length > 0) this.#hashes.length = this.#members.length * 2;
    if (this.#members.length === 0) this.#weights = undefined;
    this.#rotation?.remove(endpoint);
    if (endpoint.isKnown) this.#knownCount -= 1;
  }

  #writeLoad({ index, reports, seen, weight }: Endpoint<C>): void {
    noteLoad(this.#loads, index * LOAD_NUMBERS, { reports, seen, weight });
  }

  #hold(endpoint: Endpoint<C>): void {
    const at = this.#ejected.findIndex((one) => one.ejectedUntilMs <= endpoint.ejectedUntilMs);
    this.#ejected.splice(at === -1 ? this.#ejected.length : at, 0, endpoint);
  }
}

/**
 * The score of an endpoint for a hash key, from the hash of that key and the two halves of the endpoint's hash. The endpoint with the lowest score is
 * chosen (rendezvous hashing, Thaler and Ravishankar, 1998), so a change affects only the keys of the endpoint that was added or removed.
 */
export function rendezvous(keyHash: Hash64, high: number, low: number): number {
  return mixedFraction(keyHash.high ^ high, keyHash.low ^ low);
}

/** The hash of an endpoint's key, in halves that are small integers. */
export function halvesOf(key: string): readonly [number, number] {
  const { high, low } = fnv64(key);
  return [high | 0, low | 0];
}

/** Moves the `width` numbers of one member to the position of another. */
function move(numbers: number[], width: number, from: number, to: number): void {
  if (numbers.length > 0) numbers.copyWithin(to * width, from * width, (from + 1) * width);
}

function weightsOf(members: readonly { readonly weight: number }[]): WeightTree {
  const tree = new WeightTree();
  for (const [index, { weight }] of members.entries()) tree.add(index, weight);
  return tree;
}

const START_CAPACITY = 4;

/**
 * Weights by index. An index is drawn in proportion to its weight. Implemented as a binary indexed tree (Fenwick, 1994): changes and draws cost O(log
 * n). Weights are whole numbers, so sums are exact.
 */
export class WeightTree {
  /**
   * `#sums[i]`, for i from 1, is the sum of the weights of the `i & -i` indices that end with i - 1. The length is a power of two plus one.
   */
  #sums = new Float64Array(START_CAPACITY + 1);
  #total = 0;

  get total(): number {
    return this.#total;
  }

  /** Adds to an index's weight, which is initially 0. */
  add(index: number, weight: number): void {
    while (index >= this.#sums.length - 1) this.#grow();
    this.#total += weight;
    for (let i = index + 1; i < this.#sums.length; i += i & -i) this.#sums[i] = (this.#sums[i] ?? 0) + weight;
  }

  /** Returns the index for a number in [0, 1). Each index covers a part of that range in proportion to its weight. */
  draw(drawn: number): number {
    // HOT: runs twice per choice.
    let left = drawn * this.#total;
    let index = 0;
    for (let step = this.#sums.length - 1; step > 0; step >>>= 1) {
      const sum = this.#sums[index + step];
      if (sum === undefined || sum > left) continue;
      left -= sum;
      index += step;
    }
    return index;
  }

  /** Like `draw`, but never returns this index. `weight` is the weight of the index. */
  drawOther(drawn: number, index: number, weight: number): number {
    let before = 0;
    for (let i = index; i > 0; i -= i & -i) before += this.#sums[i] ?? 0;
    const left = drawn * (this.#total - weight);
    return this.draw((left < before ? left : left + weight) / this.#total);
  }

  #grow(): void {
    const sums = new Float64Array((this.#sums.length - 1) * 2 + 1);
    sums.set(this.#sums);
    sums[sums.length - 1] = this.#total;
    this.#sums = sums;
  }
}
