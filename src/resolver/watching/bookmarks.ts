/**
 * The recent bookmarks from a resolver's upstream, each with the local revision that has exactly the same state. The resolver uses bookmarks to issue
 * portable cursors and to resume readers that present such a cursor (semantics.md, Resolver 7). A node compares cursors with the logs of source
 * nodes. A resolver does not have such logs, because it receives the current record of each key instead of every change.
 */

import type { Replica } from "../../catalog/replica/replica.ts";
import type { CursorOrigin, PortableCursor } from "../../catalog/watch/cursor.ts";
import { portableCursorText, withoutBarePlace } from "../../catalog/watch/cursor.ts";
import { type CursorCoverage, type CursorGap, type CursorSource, MAX_WAIT_MS, WithheldKeys } from "../../catalog/watch/cursor-gap.ts";
import type { WatchChange, WatchReader } from "../../catalog/watch/reader.ts";
import type { Time } from "../../lib/machine.ts";

/** Maximum number of bookmarks. At one bookmark per second, they cover about four minutes. */
const MAX_BOOKMARKS = 256;
/** Maximum total number of source nodes in all bookmarks, about 100 bytes each. */
const MAX_ORIGINS = 50_000;
const ORIGIN_BYTES = 100;

interface WatchBookmark {
  readonly cursor: PortableCursor;
  readonly origins: ReadonlyMap<string, CursorOrigin>;
  readonly revision: number;
}

export class WatchBookmarks implements CursorSource {
  readonly #replica: Replica;
  /** Oldest first. Each state results from the previous state and the keys touched since then. */
  #list: WatchBookmark[] = [];
  #originCount = 0;
  /** Number of bookmarks recorded since the start. */
  notedCount = 0;
  /** Whether the upstream's last bookmark covers all followed entries. */
  #isWhole = true;

  constructor(replica: Replica) {
    this.#replica = replica;
  }

  /** Records that all followed entries now match this cursor. */
  note(noted: PortableCursor): void {
    if (!this.#isWhole) return;
    // Readers of this resolver may resume on any node, so the cursor must not contain data that only one node can use.
    const cursor = withoutBarePlace(noted);
    this.notedCount += 1;
    const { revision } = this.#replica;
    // If several bookmarks have the same revision, keep the first one, from which the most readers can resume, and the last one, which most departing
    // readers receive.
    if (this.#list.at(-2)?.revision === revision) this.#drop(this.#list.pop());
    const origins = byId(cursor);
    this.#list.push({ cursor, origins, revision });
    this.#originCount += origins.size;
    while (this.#list.length > MAX_BOOKMARKS || (this.#originCount > MAX_ORIGINS && this.#list.length > 1)) this.#drop(this.#list.shift());
  }

  /**
   * Removes all bookmarks, because a snapshot begins. A snapshot does not list keys that were added and removed before it, so readers cannot resume
   * from an earlier state.
   */
  clear(): void {
    this.#list = [];
    this.#originCount = 0;
  }

  /** Approximate memory in bytes. */
  get bytes(): number {
    return (this.#list.length + this.#originCount) * ORIGIN_BYTES;
  }

  /** Sets whether one watch covers all followed entries. While several watches are open, no bookmark covers all followed entries. */
  setWhole(isWhole: boolean): void {
    this.#isWhole = isWhole;
  }

  /** Whether the followed entries match the upstream's last bookmark. */
  get isAtBookmark(): boolean {
    return this.#isWhole && this.#list.at(-1)?.revision === this.#replica.revision;
  }

  /** The state at the last bookmark, by source node and generation. */
  get origins(): ReadonlyMap<string, CursorOrigin> {
    return this.#list.at(-1)?.origins ?? NONE;
  }

  readonly portableCursor = (readerHash: string, policyEpoch: string): string => {
    const last = this.#list.at(-1);
    if (last === undefined || !this.isAtBookmark || last.cursor.policyEpoch !== policyEpoch) return "";
    return portableCursorText({ ...last.cursor, readerHash });
  };

  gap(cursor: PortableCursor, reader: WatchReader, time: Time): CursorGap {
    return new BookmarkGap(cursor, { reader, bookmarks: this, from: this.#before(cursor) }, time);
  }

  /** Returns the revision of the newest bookmark that the cursor's reader has reached for all source nodes. */
  #before(from: PortableCursor): number | undefined {
    const cursor = withoutBarePlace(from);
    const known = byId(cursor);
    const isBefore = ({ origins, cursor: { local, policyEpoch, clusterId } }: WatchBookmark) =>
      local === cursor.local && policyEpoch === cursor.policyEpoch && clusterId === cursor.clusterId && isPast(known, origins);
    return this.#list.findLast(isBefore)?.revision;
  }

  #drop(bookmark: WatchBookmark | undefined): void {
    this.#originCount -= bookmark?.origins.size ?? 0;
  }
}

/**
 * Returns the earlier of two cursors from one upstream. Two watches can be continued as one watch from this cursor without losing changes. Returns
 * undefined if neither cursor is earlier, because the state of a source node changed in between.
 */
export function earlierOf(a: PortableCursor, b: PortableCursor): PortableCursor | undefined {
  const [inA, inB] = [byId(a), byId(b)];
  if (isPast(inB, inA)) return a;
  return isPast(inA, inB) ? b : undefined;
}

function byId({ origins }: PortableCursor): ReadonlyMap<string, CursorOrigin> {
  return new Map(origins.map((origin) => [idOf(origin), origin]));
}

const NONE: ReadonlyMap<string, CursorOrigin> = new Map();

function idOf({ nodeId, generation }: CursorOrigin): string {
  return `${nodeId}/${generation}`;
}

/** Returns whether a reader that knows `known` has received at least the state in `origins`, with the same incarnations. */
function isPast(known: ReadonlyMap<string, CursorOrigin>, origins: ReadonlyMap<string, CursorOrigin>): boolean {
  for (const [id, { seq, life }] of origins) {
    const its = known.get(id);
    if (its === undefined ? seq > 0 : knownOf(its) < seq || its.life !== life) return false;
  }
  return true;
}

function knownOf({ seq, settled = seq }: CursorOrigin): number {
  return settled;
}

interface GapParts {
  readonly reader: WatchReader;
  readonly bookmarks: WatchBookmarks;
  /** Revision of the newest bookmark before the cursor. Undefined if there is no such bookmark. */
  readonly from: number | undefined;
}

class BookmarkGap implements CursorGap {
  readonly #cursor: PortableCursor;
  readonly #parts: GapParts;
  readonly #sentSeqs: ReadonlyMap<string, number>;
  readonly #sinceMonoMs: number;
  readonly from: number;
  readonly held: WithheldKeys;
  readonly isFilled = true;

  constructor(cursor: PortableCursor, parts: GapParts, { monoMs }: Time) {
    this.#cursor = cursor;
    this.#parts = parts;
    this.#sentSeqs = new Map(cursor.origins.map((origin) => [idOf(origin), origin.seq]));
    this.#sinceMonoMs = monoMs;
    this.from = parts.from ?? parts.reader.replica.revision;
    this.held = new WithheldKeys(parts.reader);
  }

  get isOfPolicy(): boolean {
    return this.#cursor.policyEpoch === this.#parts.reader.options.policyEpoch();
  }

  isTellable(): boolean {
    return this.isOfPolicy && this.#parts.from !== undefined;
  }

  /**
   * Returns how the cursor relates to the entries on this resolver. Only the upstream can detect that changes covered by the cursor were dropped
   * everywhere. To a resolver, such changes look as if they had not arrived yet.
   */
  coverage({ monoMs }: Time, isReady: boolean): CursorCoverage {
    const { origins } = this.#parts.bookmarks;
    for (const origin of this.#cursor.origins) {
      const held = origins.get(idOf(origin));
      if (held !== undefined && knownOf(held) >= origin.seq) continue;
      return isReady && monoMs - this.#sinceMonoMs >= MAX_WAIT_MS ? "lost" : "behind";
    }
    return "covered";
  }

  take(): WatchChange[] {
    return [];
  }

  maySend({ record: { origin, seq, key } }: WatchChange): boolean {
    const sentSeq = this.#sentSeqs.get(origin.id) ?? 0;
    const held = this.#parts.bookmarks.origins.get(origin.id);
    if (seq > sentSeq || (held !== undefined && knownOf(held) >= sentSeq)) {
      this.held.delete(key);
      return true;
    }
    this.held.add(key);
    return false;
  }
}
