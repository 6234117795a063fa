/**
 * Smooth weighted round robin: each member has as many turns as its weight, evenly spread (nginx's algorithm, commit 52327e0627f4). Members of one weight
 * share a *lane*, in which they have their turns in key order, so a turn costs one step for each weight and not one for each member.
 */
import { type Keyed, KeyOrder } from "./key-order.ts";

/** Where a lane stands. It says all that its next turn depends on. */
export interface LaneState {
  /** nginx's `current_weight` of the member whose turn is next in the lane. Those before it in key order have had their turn of this round. */
  readonly current: number;
  /** The key that had the last turn. Empty if the next one is that of the first key. */
  readonly lastKey: string;
}

/** The turns so far, by weight. They may be kept where members are not, and go on with members that are put anew. */
export type RotationState = ReadonlyMap<number, LaneState>;

interface WeightLane<M extends Keyed> {
  readonly weight: number;
  readonly members: KeyOrder<M>;
  current: number;
  /** Whether it had no turn yet. */
  isNew: boolean;
}

/** Put and remove cost O(log n), and a turn O(number of different weights). */
export class WeightedRotation<M extends Keyed & { readonly weight: number }> {
  /** In [0, 1): where in key order the first turn of a lane is. */
  readonly #start: number;
  #earlier: RotationState | undefined;
  readonly #lanes: WeightLane<M>[] = [];
  /** The members of the only lane. Undefined if there are more, or none. */
  #only: KeyOrder<M> | undefined;
  #totalWeight = 0;
  #hasNewLane = false;

  /** `earlier` are the turns of another rotation to go on from. */
  constructor(start: number, earlier: RotationState | undefined) {
    this.#start = start;
    this.#earlier = earlier;
  }

  put(member: M): void {
    const { weight } = member;
    let lane = this.#lanes.find((one) => one.weight === weight);
    if (lane === undefined) {
      lane = { weight, members: new KeyOrder(), current: 0, isNew: true };
      this.#lanes.push(lane);
      this.#hasNewLane = true;
      this.#only = this.#lanes.length === 1 ? lane.members : undefined;
    }
    lane.members.put(member);
    this.#totalWeight += weight;
  }

  /** Removes a member. */
  remove(member: M): void {
    const index = this.#lanes.findIndex((one) => one.weight === member.weight);
    const lane = this.#lanes[index];
    if (lane === undefined) return;
    lane.members.remove(member);
    this.#totalWeight -= member.weight;
    if (lane.members.size > 0) return;
    this.#lanes.splice(index, 1);
    this.#only = this.#lanes.length === 1 ? this.#lanes[0]?.members : undefined;
  }

  /** The member whose turn it is. Undefined if there are none. */
  next(): M | undefined {
    // HOT: once a choice (bench/resolve.ts). Mostly all weights are equal.
    if (this.#hasNewLane) this.#place();
    if (this.#only !== undefined) return this.#only.next();
    let best: WeightLane<M> | undefined;
    for (let i = 0; i < this.#lanes.length; i++) {
      const lane = this.#lanes[i];
      if (lane === undefined) continue;
      lane.current += lane.weight;
      if (best === undefined || lane.current > best.current) best = lane;
      else if (lane.current === best.current && isBefore(lane.members.peek(), best.members.peek())) best = lane;
    }
    if (best === undefined) return undefined;
    const chosen = best.members.next();
    // When the last member of a lane has had its turn, all have had as many, and the next one stands where the last one does.
    if (best.members.isAtEnd) best.current -= this.#totalWeight;
    return chosen;
  }

  /** The turns so far, for another rotation to go on from. */
  get turns(): RotationState {
    const turns = new Map<number, LaneState>();
    for (const { weight, current, members, isNew } of this.#lanes) {
      if (!isNew) turns.set(weight, { current, lastKey: members.current()?.key ?? "" });
    }
    return turns;
  }

  /** Gives the new lanes their place. */
  #place(): void {
    this.#hasNewLane = false;
    for (const lane of this.#lanes) {
      if (!lane.isNew) continue;
      lane.isNew = false;
      const earlier = this.#earlier?.get(lane.weight);
      lane.current = earlier?.current ?? 0;
      if (earlier === undefined) lane.members.placeBefore(Math.floor(this.#start * lane.members.size));
      else lane.members.placeAfter(earlier.lastKey);
    }
    this.#earlier = undefined;
  }
}

function isBefore(one: Keyed | undefined, other: Keyed | undefined): boolean {
  return one !== undefined && other !== undefined && one.key < other.key;
}
