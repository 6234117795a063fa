/**
 * What stands between a reader with a cursor of another place and the readers of this one: what it must still be told, and what it may not be told
 * yet (semantics.md, Watch 3 and 4). A node finds that in the logs of its origins (`resume.ts`); a resolver has a memory of bookmarks instead.
 */
import type { Time } from "../../lib/machine.ts";
import { matches } from "../query/filter.ts";
import type { KeyText } from "../record/record.ts";
import type { PortableCursor } from "./cursor.ts";
import { ACTION, type WatchChange, type WatchReader } from "./reader.ts";

/**
 * How this place compares with a cursor: `behind` while it may still learn the reader's changes, `covered` once it knows them, `lost` if the
 * cursor knows changes that no node knows any more.
 */
export type CursorCoverage = "behind" | "covered" | "lost";

export interface CursorGap {
  /** The reader is told everything since this revision, beside what `take` gives. */
  readonly from: number;
  /** Whether `take` has given everything. */
  readonly isFilled: boolean;
  /** Whether the policy is still the one under which the reader was told its entries. */
  readonly isOfPolicy: boolean;
  readonly held: WithheldKeys;
  /** Whether the difference can still be told; otherwise the reader needs a snapshot. */
  isTellable(): boolean;
  coverage(time: Time, isReady: boolean): CursorCoverage;
  /** The next part of the difference, at least one change if there is any. */
  take(budgetBytes: number): WatchChange[];
  /** Whether the reader cannot have a newer state of the key. Other keys are looked at again once this place has caught up. */
  maySend(change: WatchChange): boolean;
}

/** How long to wait for changes that a cursor knows and no living node tells. After that they count as lost. */
export const MAX_WAIT_MS = 60_000;
/** Most keys that are kept back while behind. Above it the reader gets a snapshot once this place has caught up. */
const MAX_HELD_KEYS = 10_000;

/** Keys of which a reader may have a newer state than this place. */
export class WithheldKeys {
  readonly #reader: WatchReader;
  readonly #keys = new Set<KeyText>();
  isOverflown = false;

  constructor(reader: WatchReader) {
    this.#reader = reader;
  }

  add(key: KeyText): void {
    if (this.#keys.size >= MAX_HELD_KEYS) this.isOverflown = true;
    else this.#keys.add(key);
  }

  delete(key: KeyText): void {
    this.#keys.delete(key);
  }

  /** Keys that were kept back, as they are seen now. An empty list means that none is left. */
  take(budgetBytes: number): WatchChange[] {
    const changes: WatchChange[] = [];
    const { replica, options, node } = this.#reader;
    let left = budgetBytes;
    for (const key of this.#keys) {
      const [any] = replica.records(key);
      if (any === undefined || !this.#reader.mayHoldKey(any) || !options.allowed(any.namespace)) {
        this.#keys.delete(key);
        continue;
      }
      const winner = replica.view(key);
      const isPut = winner !== undefined && matches(options.filter, winner, node);
      const change: WatchChange = isPut
        ? { action: ACTION.UPDATE, record: winner, revision: winner.revision }
        : { action: ACTION.REMOVE, record: any, revision: any.revision, cause: this.#reader.causeOf(any) };
      left -= this.#reader.sizeOf(change);
      if (left < 0 && changes.length > 0) break;
      this.#keys.delete(key);
      changes.push(change);
    }
    return changes;
  }
}

/** Where the readers of a place stand that is no node. */
export interface CursorSource {
  /** A cursor that is good everywhere, for a reader that holds what a query here answers. Empty if this is at no such place. */
  readonly portableCursor: (hash: string, policyEpoch: string) => string;
  gap(cursor: PortableCursor, reader: WatchReader, time: Time): CursorGap;
}
