/**
 * Finds the readers to which a change is relevant, by the change's name. If ten thousand readers watch fifty names each, a change is offered only to
 * the few that watch its name, and these readers need not examine all other changes (semantics.md, Watch 12).
 */
import type { EntryFilter } from "../query/filter.ts";
import type { StoredRecord } from "../record/stored-record.ts";
import type { Replica } from "../replica/replica.ts";

/**
 * Maximum number of touches that are stored for one reader. If there are more touches after the reader's position, it reads the log of all changes.
 */
const MAX_TOUCHES = 64;

/** Maximum number of names that one reader may have. Adding this many names blocks the event loop for as long as encoding a watch message does. */
const MAX_READER_NAMES = 1000;
/** Maximum number of names for all readers together, at about 50 bytes each. A name is counted once for each reader. */
const MAX_NAMES = 1_048_576;
/** Number of names of removed readers that are deleted in one step. A step is done for each further reader that is removed, and by each `tidy`. */
const REMOVED_AT_A_TIME = 64;
const TIDIED_AT_A_TIME = 8192;
/**
 * Maximum number of changes and touches that are offered in one turn of the event loop, which needs two to five ms. HOT: bench/fleet.ts.
 */
const OFFERED_AT_A_TIME = 4096;
/** Factor by which the next turn offers more touches while changes arrive faster than they are offered. */
const FASTER = 2;
/**
 * Factor by which the next turn offers less if changes arrive no faster than they are offered. The factor is so close to 1 that the index catches up
 * before it falls behind again.
 */
const SLOWER = 0.95;

/** A reader whose filter contains names. */
export interface NamedReader {
  readonly options: { readonly filter: Pick<EntryFilter, "names"> };
  mayHoldNamespace(namespace: string): boolean;
  /** Only the index may set this field. */
  touches: NamedTouches | undefined;
}

interface NameTouch {
  readonly stored: StoredRecord;
  readonly revision: number;
  /**
   * Touches up to this revision were offered in earlier rounds. If the same record was touched earlier but after this revision, that touch was not
   * offered.
   */
  readonly after: number;
  /** The last revision, at most `after`, that is before every change that was pending for the key. */
  readonly settled: number;
}

/** The touches of one reader's names, oldest first. */
export class NamedTouches {
  readonly #index: NameIndex;
  readonly #touches: NameTouch[] = [];
  /** The list contains every touch after this revision, up to the index's revision. */
  #since: number;

  constructor(index: NameIndex, since: number) {
    this.#index = index;
    this.#since = since;
  }

  /** Returns whether this is the reader's first touch in the current round. */
  add(touch: NameTouch): boolean {
    if (touch.revision <= this.#since) return true;
    const isFirst = this.#touches.at(-1)?.after !== touch.after;
    this.#touches.push(touch);
    // Half of the touches are removed in one step, because removing them one at a time would cost more than all other work.
    if (this.#touches.length > MAX_TOUCHES) this.#since = this.#touches.splice(0, MAX_TOUCHES / 2).at(-1)?.revision ?? this.#since;
    return isFirst;
  }

  /** Returns a revision such that no key with these names was touched after `from` and up to it. Returns `from` itself if no higher one is known. */
  quietThrough(from: number): number {
    if (!this.#covers(from)) return from;
    const next = this.#touches[this.#indexAfter(from)];
    return Math.max(from, next === undefined ? this.#index.through : next.after);
  }

  /**
   * Like `quietThrough`, but the revision is before all pending changes of the touched keys. A stream that has not read may take it as its position:
   * a later position would mean that the stream may have received a view between a pending change and its touch (semantics.md, Watch 2).
   */
  skipThrough(from: number): number {
    if (!this.#covers(from) || this.#index.isBehind) return from;
    let through = this.#index.through;
    for (let i = this.#indexAfter(from); i < this.#touches.length; i++) through = Math.min(through, this.#touches[i]?.settled ?? through);
    return Math.max(from, through);
  }

  /** Like `Replica.changesSince`, but only for these names. If not all touches are known, returns false without visiting any. */
  visitSince(from: number, visit: (stored: StoredRecord, revision: number) => boolean): boolean {
    if (!this.#covers(from) || this.#index.through < this.#index.replica.revision) return false;
    for (let i = this.#indexAfter(from); i < this.#touches.length; i++) {
      const touch = this.#touches[i];
      if (touch === undefined) break;
      const { stored, revision } = touch;
      // A record that was touched again is now at a later position in the list.
      if (stored.revision === revision && !visit(stored, revision)) break;
    }
    return true;
  }

  /** Searches from the end, because a reader has usually received nearly all touches. HOT: bench/fleet.ts. */
  #indexAfter(from: number): number {
    let index = this.#touches.length;
    while ((this.#touches[index - 1]?.revision ?? 0) > from) index -= 1;
    return index;
  }

  #covers(from: number): boolean {
    return from >= this.#since && from >= this.#index.lostThrough;
  }
}

export interface NameIndexBounds {
  readonly maxReaderNames: number;
  readonly maxNames: number;
  readonly offeredAtATime: number;
}

export const NAME_INDEX_BOUNDS: NameIndexBounds = {
  maxReaderNames: MAX_READER_NAMES,
  maxNames: MAX_NAMES,
  offeredAtATime: OFFERED_AT_A_TIME,
};

export class NameIndex {
  readonly replica: Replica;
  readonly #bounds: NameIndexBounds;
  /** Readers by name. A set for each name would need nine times as much memory as a single reader, and most names have only one reader. */
  readonly #byName = new Map<string, NamedReader | Set<NamedReader>>();
  readonly #readers = new Set<NamedReader>();
  /** Removed readers, each with the number of names that have already been deleted. */
  readonly #removed = new Map<NamedReader, number>();
  #nameCount = 0;
  #through: number;
  /** Touches up to this revision have been offered in the current round. */
  #offered: number;
  /** Number of revisions that the last slice had to offer, if it was too short for all of them. */
  #behind = Number.POSITIVE_INFINITY;
  /** Factor by which the next slice is larger than usual. */
  #pace = 1;
  #lostThrough = 0;

  constructor(replica: Replica, bounds: NameIndexBounds = NAME_INDEX_BOUNDS) {
    this.replica = replica;
    this.#bounds = bounds;
    this.#through = replica.revision;
    this.#offered = this.#through;
  }

  /**
   * Touches up to this revision have been offered. This revision advances at the end of a round, which offers touches until none is left. If a record
   * is touched again during a round, it is skipped at its old position and must still be offered at its new one.
   */
  get through(): number {
    return this.#through;
  }

  /** Some touches up to this revision are unknown, because their records were dropped before they could be offered. */
  get lostThrough(): number {
    return this.#lostThrough;
  }

  /** Number of stored names, each counted once per reader. Names of removed readers are included until they are deleted. */
  get nameCount(): number {
    return this.#nameCount;
  }

  /** Starts to offer the touches of its names to this reader. Returns false without any change if there is no room for the names. */
  add(reader: NamedReader): boolean {
    const { names } = reader.options.filter;
    if (names.length > this.#bounds.maxReaderNames) return false;
    this.#finish(reader);
    if (this.#nameCount + names.length > this.#bounds.maxNames) return false;
    this.#readers.add(reader);
    reader.touches = new NamedTouches(this, this.replica.revision);
    for (const name of names) this.#addName(name, reader);
    this.#nameCount += names.length;
    return true;
  }

  /** Stops offering touches to the reader. If thousands of readers are removed in one turn, most of their names are deleted in later turns. */
  remove(reader: NamedReader): void {
    if (!this.#readers.delete(reader)) return;
    reader.touches = undefined;
    this.#removed.set(reader, 0);
    this.tidy(REMOVED_AT_A_TIME);
  }

  /** Deletes some of the names of removed readers. Must be called occasionally. */
  tidy(maxCount = TIDIED_AT_A_TIME): void {
    let left = maxCount;
    for (const [reader, from] of this.#removed) {
      if (left === 0) return;
      left -= this.#takeOut(reader, from, left);
    }
  }

  /** Deletes the remaining names of a removed reader that is being added again. */
  #finish(reader: NamedReader): void {
    const from = this.#removed.get(reader);
    if (from !== undefined) this.#takeOut(reader, from, Number.POSITIVE_INFINITY);
  }

  /** Returns how many names were deleted. */
  #takeOut(reader: NamedReader, from: number, maxCount: number): number {
    const { names } = reader.options.filter;
    const to = Math.min(names.length, from + maxCount);
    for (let i = from; i < to; i++) this.#removeName(names[i] ?? "", reader);
    this.#nameCount -= to - from;
    if (to === names.length) this.#removed.delete(reader);
    else this.#removed.set(reader, to);
    return to - from;
  }

  #addName(name: string, reader: NamedReader): void {
    const known = this.#byName.get(name);
    if (known === undefined) this.#byName.set(name, reader);
    else if (known instanceof Set) known.add(reader);
    else if (known !== reader) this.#byName.set(name, new Set([known, reader]));
  }

  #removeName(name: string, reader: NamedReader): void {
    const known = this.#byName.get(name);
    if (known === reader || (known instanceof Set && known.delete(reader) && known.size === 0)) this.#byName.delete(name);
  }

  /** Whether some touches still have to be offered. */
  get isBehind(): boolean {
    return this.#readers.size > 0 && this.#through < this.replica.revision;
  }

  /**
   * Offers touches to the readers of their names, and calls `concerns` for each reader to which they are relevant. Each call offers only as many
   * touches as fit into one turn of the event loop. The caller must call again until `isBehind` is false. A reader that waits until then needs to
   * read only once to get all its changes.
   */
  offer(concerns: (reader: NamedReader) => void): void {
    if (this.isBehind && !this.#offerSome(concerns)) return;
    this.#through = this.replica.revision;
    this.#offered = this.#through;
    this.#behind = Number.POSITIVE_INFINITY;
  }

  /** Returns whether all touches have been offered. */
  #offerSome(concerns: (reader: NamedReader) => void): boolean {
    const { collectedRevision, revision: newest } = this.replica;
    if (collectedRevision > Math.max(this.#offered, this.#lostThrough)) {
      this.#lostThrough = collectedRevision;
      for (const reader of this.#readers) concerns(reader);
    }
    let left = this.#bounds.offeredAtATime * this.#keepPace(newest - this.#offered);
    let isAll = true;
    this.replica.changesSince(this.#offered, (stored, revision) => {
      isAll = left > 0;
      if (!isAll) return false;
      left -= 1 + this.#offerOne(stored, revision, concerns);
      this.#offered = revision;
      return true;
    });
    return isAll;
  }

  /** Adapts the size of slices, so that watches are eventually notified even if changes arrive very fast. */
  #keepPace(behind: number): number {
    this.#pace = behind > this.#behind ? this.#pace * FASTER : Math.max(1, this.#pace * SLOWER);
    this.#behind = behind;
    return this.#pace;
  }

  /** Returns the number of readers that watch the touch's name. */
  #offerOne(stored: StoredRecord, revision: number, concerns: (reader: NamedReader) => void): number {
    const { name, namespace } = stored;
    const known = this.#byName.get(name);
    if (known === undefined) return 0;
    const after = this.#through;
    const settled = Math.min(after, this.replica.past.pendingSince(revision, after) - 1);
    const touch = { stored, revision, after, settled };
    const notify = (reader: NamedReader) => {
      // A removed reader has no list of touches.
      if (reader.mayHoldNamespace(namespace) && reader.touches?.add(touch) === true) concerns(reader);
    };
    if (!(known instanceof Set)) {
      notify(known);
      return 1;
    }
    for (const reader of known) notify(reader);
    return known.size;
  }
}
