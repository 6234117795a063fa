/** From a portable cursor to deltas, at any node, also one that is behind the cursor (semantics.md, Watch 3 and 4). */
import type { Cell, Origin } from "./cell.ts";
import type { PortableCursor } from "./cursor.ts";
import { matches } from "./filter.ts";
import { ACTION, type Change, type Reader } from "./reader.ts";
import type { KeyText } from "./record.ts";
import type { Replica } from "./replica.ts";

/** Keys kept back while behind; above it the reader gets a snapshot once this node has caught up. */
const MAX_HELD_KEYS = 10_000;

/** Whether the difference to this cursor can be told; otherwise the reader needs a snapshot. */
export function resumable(cursor: PortableCursor, reader: Reader): boolean {
  const { options, node, replica } = reader;
  if (cursor.clusterId !== node.clusterId || cursor.readerHash !== options.hash || cursor.policyEpoch !== options.policyEpoch) return false;
  return cursor.origins.every((known) => {
    const id = `${known.nodeId}/${known.generation}`;
    const origin = replica.origins.get(id);
    // Tombstones at or below the floor may be missing here: what was removed cannot be told.
    return origin === undefined ? !replica.forgotten.has(id) : origin.floor <= known.seq;
  });
}

/** Whether the cursor knows of something that this replica does not know. */
export function isAhead(cursor: PortableCursor, replica: Replica): boolean {
  return cursor.origins.some(({ nodeId, generation, seq }) => (replica.origins.get(`${nodeId}/${generation}`)?.through ?? 0) < seq);
}

interface Stretch {
  readonly origin: Origin;
  after: number;
  /** What the reader thinks of the origin's life differs: its keys are told again. */
  readonly isLifeChanged: boolean;
}

export class ResumeGap {
  readonly #reader: Reader;
  /** Origin id to the seq the reader has. */
  readonly #known = new Map<string, number>();
  readonly #stretches: Stretch[] = [];
  readonly #held = new Set<KeyText>();
  isOverflown = false;

  constructor(cursor: PortableCursor, reader: Reader) {
    this.#reader = reader;
    const lives = new Map<string, string>();
    for (const known of cursor.origins) {
      const id = `${known.nodeId}/${known.generation}`;
      this.#known.set(id, known.seq);
      lives.set(id, known.life);
    }
    for (const origin of reader.replica.origins.values()) {
      const life = lives.get(origin.id);
      if (life === undefined && origin.life === "hidden") continue;
      const isLifeChanged = life !== undefined && life !== origin.life;
      const after = isLifeChanged ? 0 : (this.#known.get(origin.id) ?? 0);
      this.#stretches.push({ origin, after, isLifeChanged });
    }
  }

  get isFilled(): boolean {
    return this.#stretches.length === 0;
  }

  /** Whether the reader knows of something that this node does not know yet. */
  isBehind(): boolean {
    const { origins } = this.#reader.replica;
    for (const [id, seq] of this.#known) if ((origins.get(id)?.through ?? 0) < seq) return true;
    return false;
  }

  /** The next part of the difference, at least one change unless there is none. */
  take(budgetBytes: number): Change[] {
    const changes: Change[] = [];
    const told = new Set<KeyText>();
    let left = budgetBytes;
    for (let stretch = this.#stretches[0]; stretch !== undefined; stretch = this.#stretches[0]) {
      const { origin, isLifeChanged } = stretch;
      let isCut = false;
      origin.log.forEachSince(stretch.after, (cell, seq) => {
        const change = told.has(cell.key) ? undefined : this.#changeOf(cell, isLifeChanged);
        if (change !== undefined && this.maySend(change)) {
          left -= this.#reader.sizeOf(change);
          isCut = left < 0 && changes.length > 0;
          if (isCut) return false;
          changes.push(change);
          if (cell.peers !== undefined) told.add(cell.key);
        }
        stretch.after = seq;
        return true;
      });
      if (isCut) break;
      this.#stretches.shift();
    }
    return changes;
  }

  /** Whether the reader cannot have anything newer than this; what it may have is looked at again once caught up. */
  maySend(change: Change): boolean {
    const { origin, seq } = change.record;
    const known = this.#known.get(origin.id) ?? 0;
    if (seq > known || (this.#reader.replica.origins.get(origin.id)?.through ?? 0) >= known) return true;
    if (this.#held.size >= MAX_HELD_KEYS) this.isOverflown = true;
    else this.#held.add(change.record.key);
    return false;
  }

  /** Keys kept back, as they are seen now; an empty list says that none is left. */
  takeHeld(budgetBytes: number): Change[] {
    const changes: Change[] = [];
    const { replica, options, node } = this.#reader;
    let left = budgetBytes;
    for (const key of this.#held) {
      if (left <= 0) break;
      this.#held.delete(key);
      const [any] = replica.records(key);
      if (any === undefined || !this.#reader.mayHoldKey(any) || !options.allowed(any.namespace)) continue;
      const winner = replica.view(key);
      const isPut = winner !== undefined && matches(options.filter, winner, node);
      const change: Change = isPut
        ? { action: ACTION.UPDATE, record: winner, revision: winner.revision }
        : { action: ACTION.REMOVE, record: any, revision: any.revision };
      left -= this.#reader.sizeOf(change);
      changes.push(change);
    }
    return changes;
  }

  #changeOf(cell: Cell, isLifeChanged: boolean): Change | undefined {
    const { replica, options, node } = this.#reader;
    if (!options.allowed(cell.namespace) || !this.#reader.mayHoldKey(cell)) return undefined;
    const winner = replica.view(cell.key);
    if (winner !== undefined && matches(options.filter, winner, node)) {
      const isNew = winner.firstSeq > (this.#known.get(winner.origin.id) ?? 0);
      return { action: isNew ? ACTION.CREATE : ACTION.UPDATE, record: winner, revision: cell.revision };
    }
    // filter_seq: the reader never had what did not match before its cursor either.
    const couldHave = winner !== cell || isLifeChanged || winner.filterSeq > (this.#known.get(cell.origin.id) ?? 0);
    return couldHave ? { action: ACTION.REMOVE, record: cell, revision: cell.revision } : undefined;
  }
}
