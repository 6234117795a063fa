/**
 * The bookmarks of its upstream that a resolver remembers, each with the revision at which it held exactly that. With them it gives its own readers
 * cursors that are good everywhere, and takes cursors from everywhere (semantics.md, Resolver 7). A resolver hears of the view of a key only, and not of
 * every change at its origin, so the logs of origins by which a node does the same are not here.
 */

import type { Replica } from "../../catalog/replica/replica.ts";
import type { CursorOrigin, PortableCursor } from "../../catalog/watch/cursor.ts";
import { portableCursorText, withoutBarePlace } from "../../catalog/watch/cursor.ts";
import { type CursorCoverage, type CursorGap, type CursorSource, MAX_WAIT_MS, WithheldKeys } from "../../catalog/watch/cursor-gap.ts";
import type { WatchChange, WatchReader } from "../../catalog/watch/reader.ts";
import type { Time } from "../../lib/machine.ts";

/** Most bookmarks that are remembered. With one each second these are some minutes. */
const MAX_BOOKMARKS = 256;
/** Most origins in all of them together, some 100 bytes each. */
const MAX_ORIGINS = 50_000;
const ORIGIN_BYTES = 100;

interface WatchBookmark {
  readonly cursor: PortableCursor;
  readonly origins: ReadonlyMap<string, CursorOrigin>;
  readonly revision: number;
}

export class WatchBookmarks implements CursorSource {
  readonly #replica: Replica;
  /** Oldest first. The state at each follows from that at the one before by what was touched in between. */
  #list: WatchBookmark[] = [];
  #originCount = 0;
  /** How many there have been. */
  notedCount = 0;
  /** Whether the upstream's last bookmark is of everything that is held. */
  #isWhole = true;

  constructor(replica: Replica) {
    this.#replica = replica;
  }

  /** All that is followed is now as it was at the cursor. */
  note(noted: PortableCursor): void {
    if (!this.#isWhole) return;
    // Its own readers may go on at any node, where nothing is LOCAL.
    const cursor = withoutBarePlace(noted);
    this.notedCount += 1;
    const { revision } = this.#replica;
    // At one revision the first is good for the most readers that come, and the last for those that go.
    if (this.#list.at(-2)?.revision === revision) this.#drop(this.#list.pop());
    const origins = byId(cursor);
    this.#list.push({ cursor, origins, revision });
    this.#originCount += origins.size;
    while (this.#list.length > MAX_BOOKMARKS || (this.#originCount > MAX_ORIGINS && this.#list.length > 1)) this.#drop(this.#list.shift());
  }

  /** A snapshot begins. It does not tell of what came and went before, so what was held earlier leads nowhere. */
  clear(): void {
    this.#list = [];
    this.#originCount = 0;
  }

  /** Memory in bytes, about. */
  get bytes(): number {
    return (this.#list.length + this.#originCount) * ORIGIN_BYTES;
  }

  /** While several watches are open, no bookmark is of everything that is held. */
  setWhole(isWhole: boolean): void {
    this.#isWhole = isWhole;
  }

  /** Whether what is held is what the upstream held at its last bookmark. */
  get isAtBookmark(): boolean {
    return this.#isWhole && this.#list.at(-1)?.revision === this.#replica.revision;
  }

  /** The state at the last bookmark, by the id of the origin. */
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

  /** The revision of the newest bookmark that the cursor's reader is past in everything. */
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
 * Of two places of one upstream the one from which both readers lose nothing when they go on together: the earlier one. Undefined if none is, because
 * the state of an origin changed in between.
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

/** Whether a reader that knows `known` was told at least what a place with these origins holds, under the same lives. */
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
  /** Undefined if no remembered bookmark is before the cursor. */
  readonly from: number | undefined;
}

class BookmarkGap implements CursorGap {
  readonly #cursor: PortableCursor;
  readonly #parts: GapParts;
  readonly #told: ReadonlyMap<string, number>;
  readonly #sinceMonoMs: number;
  readonly from: number;
  readonly held: WithheldKeys;
  readonly isFilled = true;

  constructor(cursor: PortableCursor, parts: GapParts, { monoMs }: Time) {
    this.#cursor = cursor;
    this.#parts = parts;
    this.#told = new Map(cursor.origins.map((origin) => [idOf(origin), origin.seq]));
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

  /** Whether what the cursor knows was dropped anywhere is the upstream's to find out; from here it looks as if it never came. */
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
    const told = this.#told.get(origin.id) ?? 0;
    const held = this.#parts.bookmarks.origins.get(origin.id);
    if (seq > told || (held !== undefined && knownOf(held) >= told)) {
      this.held.delete(key);
      return true;
    }
    this.held.add(key);
    return false;
  }
}
