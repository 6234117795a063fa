/**
 * Smooth weighted round robin: each member has as many turns as its weight, spread evenly (nginx's algorithm, commit 52327e0627f4). Members of one weight
 * share a *lane*, in which they have their turns in key order, so a turn costs one step for each weight and not for each member.
 */
import { type Keyed, KeyOrder } from "./key-order.ts";

/** Where a lane stands. It says all that the next turn depends on. */
export interface LaneState {
  /** nginx's `current_weight` of the member whose turn is next in this lane. The members before it in key order have had their turn of this round. */
  current: number;
  /** The key that had the last turn. Empty before the first. */
  lastKey: string;
}

interface Lane<M extends Keyed> {
  readonly weight: number;
  readonly members: KeyOrder<M>;
  readonly state: LaneState;
}

/** The turns so far, by weight. They may be kept where members are not, and go on with members that are put anew. */
export type Turns = Map<number, LaneState>;

/** Put and remove cost O(log n), and a turn O(number of different weights). */
export class Rotation<M extends Keyed & { readonly weight: number }> {
  readonly #turns: Turns;
  readonly #start: number;
  readonly #lanes: Lane<M>[] = [];
  #totalWeight = 0;

  /** `turns` is changed by each turn. `start`, in [0, 1), says where in key order the first turn of a lane is. */
  constructor(turns: Turns, start: number) {
    this.#turns = turns;
    this.#start = start;
  }

  put(member: M): void {
    const { weight } = member;
    let lane = this.#lanes.find((one) => one.weight === weight);
    if (lane === undefined) {
      let state = this.#turns.get(weight);
      if (state === undefined) this.#turns.set(weight, (state = { current: 0, lastKey: "" }));
      lane = { weight, members: new KeyOrder(), state };
      this.#lanes.push(lane);
    }
    lane.members.put(member);
    this.#totalWeight += weight;
  }

  remove(member: M): void {
    const index = this.#lanes.findIndex((one) => one.weight === member.weight);
    const lane = this.#lanes[index];
    if (lane === undefined) return;
    lane.members.remove(member);
    this.#totalWeight -= member.weight;
    if (lane.members.size > 0) return;
    this.#lanes.splice(index, 1);
    this.#turns.delete(member.weight);
  }

  /** The member whose turn it is. Undefined if there are none. */
  next(): M | undefined {
    // HOT: once a choice; without allocation.
    let best: Lane<M> | undefined;
    let chosen: M | undefined;
    for (let i = 0; i < this.#lanes.length; i++) {
      const lane = this.#lanes[i];
      if (lane === undefined) continue;
      const { state, members, weight } = lane;
      state.current += weight;
      const head = state.lastKey === "" ? members.at(Math.floor(this.#start * members.size)) : members.after(state.lastKey);
      if (head === undefined) continue;
      const isBest =
        best === undefined ||
        chosen === undefined ||
        state.current > best.state.current ||
        (state.current === best.state.current && head.key < chosen.key);
      if (!isBest) continue;
      best = lane;
      chosen = head;
    }
    if (best === undefined || chosen === undefined) return undefined;
    best.state.lastKey = chosen.key;
    // The members of a lane have equal counts of turns when the last of them has had its turn: only then does the next one stand behind.
    if (best.members.last() === chosen) best.state.current -= this.#totalWeight;
    return chosen;
  }
}
