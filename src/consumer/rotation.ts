/**
 * Smooth weighted round robin: each member gets turns in proportion to its weight, evenly spread (nginx's algorithm, commit 52327e0627f4). Members
 * with equal weight share a *lane*, in which turns follow key order. A turn therefore costs one step per weight and not one step per member.
 */
import { type Keyed, KeyOrder } from "./key-order.ts";

/** The position of a lane, which alone determines the lane's next turn. */
export interface LaneState {
  /**
   * nginx's `current_weight` of the member that is next in the lane. The members before it in key order have had their turn in this round.
   */
  readonly current: number;
  /** The key of the member that had the last turn. Empty if the first key is next. */
  readonly lastKey: string;
}

/** The rotation state by weight. It can outlive the members, and can be continued with members that are added later. */
export type RotationState = ReadonlyMap<number, LaneState>;

interface WeightLane<M extends Keyed> {
  readonly weight: number;
  readonly members: KeyOrder<M>;
  current: number;
  /** Whether the lane has not had a turn yet. */
  isNew: boolean;
}

/** A weighted rotation. Put and remove cost O(log n), and a turn costs O(number of different weights). */
export class WeightedRotation<M extends Keyed & { readonly weight: number }> {
  /** The position of a lane's first turn in key order, in [0, 1). */
  readonly #start: number;
  #earlier: RotationState | undefined;
  readonly #lanes: WeightLane<M>[] = [];
  /** The members of the only lane. Undefined if there are several or none. */
  #only: KeyOrder<M> | undefined;
  #totalWeight = 0;
  #hasNewLane = false;

  /** `earlier` is the state of another rotation, from which this rotation continues. */
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

  /** Returns the member whose turn it is. Returns undefined if there are none. */
  next(): M | undefined {
    // HOT: runs once per choice (bench/resolve.ts). Usually, all weights are equal.
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
    // When the last member of a lane has had its turn, all members have had the same number of turns, so the next member starts with the same
    // value.
    if (best.members.isAtEnd) best.current -= this.#totalWeight;
    return chosen;
  }

  /** The rotation state, from which another rotation can continue. */
  get turns(): RotationState {
    const turns = new Map<number, LaneState>();
    for (const { weight, current, members, isNew } of this.#lanes) {
      if (!isNew) turns.set(weight, { current, lastKey: members.current()?.key ?? "" });
    }
    return turns;
  }

  /** Sets the positions of the new lanes. */
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
