/**
 * The difference between the state of a reader whose cursor comes from another server and the state of this server: the changes that the reader still
 * needs, and the changes that must not be sent yet (semantics.md, Watch 3 and 4). A node computes this difference from the logs of its origins
 * (`resume.ts`). A resolver uses the bookmarks that it remembers instead.
 */
import type { Time } from "../../lib/machine.ts";
import { matches } from "../query/filter.ts";
import type { KeyText } from "../record/record.ts";
import type { PortableCursor } from "./cursor.ts";
import { ACTION, type WatchChange, type WatchReader } from "./reader.ts";

/**
 * The state of this server compared with a cursor. `behind`: it may still receive changes that the reader already has. `covered`: it knows all of
 * those changes. `lost`: the cursor covers changes that are no longer known on any node.
 */
export type CursorCoverage = "behind" | "covered" | "lost";

export interface CursorGap {
  /** The reader gets all changes after this revision, in addition to the changes that `take` returns. */
  readonly from: number;
  /** Whether `take` has returned all changes. */
  readonly isFilled: boolean;
  /** Whether the policy is the same as when the reader received its entries. */
  readonly isOfPolicy: boolean;
  readonly held: WithheldKeys;
  /** Whether the difference can still be sent. If not, the reader needs a snapshot. */
  isTellable(): boolean;
  coverage(time: Time, isReady: boolean): CursorCoverage;
  /** Returns the next part of the difference, with at least one change if any is left. */
  take(budgetBytes: number): WatchChange[];
  /** Whether the reader cannot have a newer state of this key than this server. All other keys are checked again when this server has caught up. */
  maySend(change: WatchChange): boolean;
}

/** Time to wait for changes that a cursor covers but no live node sends. After that time, the changes are considered lost. */
export const MAX_WAIT_MS = 60_000;
/**
 * Maximum number of keys that are withheld while this server is behind. If more keys are withheld, the reader gets a snapshot when this server has
 * caught up.
 */
const MAX_HELD_KEYS = 10_000;

/** Keys for which a reader may have a newer state than this server. */
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

  /** Returns some of the withheld keys, in their current view. An empty list means that no withheld key is left. */
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

/** Provides portable cursors for readers on a server that is not a node. */
export interface CursorSource {
  /**
   * Returns a cursor that is valid everywhere, for a reader whose state equals a query result on this server. Empty if no such cursor exists at the
   * moment.
   */
  readonly portableCursor: (hash: string, policyEpoch: string) => string;
  gap(cursor: PortableCursor, reader: WatchReader, time: Time): CursorGap;
}
