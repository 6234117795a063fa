/** Writes held entries to a copy on disk while they change, and restores them for the rest of their hold (semantics.md, Resolver 16). */
import type { NamespacePrefixes } from "../../catalog/query/prefixes.ts";
import { BODY, type CatalogRecord, deltaId, type KeyText } from "../../catalog/record/record.ts";
import type { Slab } from "../../catalog/record/slab.ts";
import type { Replica } from "../../catalog/replica/replica.ts";
import { malformedFile } from "../../lib/file-blocks.ts";
import type { Time } from "../../lib/machine.ts";
import { misplaced } from "../../lib/protowire.ts";
import type { RestoredEntry, RetainedEntries } from "../cache/retained-entries.ts";
import type { WatchDelta } from "../codec.ts";
import type { WatchedCatalog } from "../watching/watched-catalog.ts";
import { type CopiedRetention, type CopyState, entryRoom, readHeldBlock } from "./codec.ts";

/**
 * Maximum number of entries in a copy: `TIMES` the number of entries that can be cached, plus `MORE`. The factor allows for entries that change while
 * the copy is created, which are written again.
 */
const TIMES = 2;
const MORE = 10_000;
/** Number of entries restored between two yields. */
const HELD_A_SLICE = 1000;

/** Returns the held entries in parts, and finds entries whose hold ended after they were returned. */
export class RetainedEntriesCopy {
  readonly #slab: Pick<Slab, "view">;
  readonly #held: RetainedEntries;
  /** Keys that have not been returned yet, and the mark up to which keys were listed. */
  #keys: Iterator<KeyText> = [].values();
  #listedMark = 0;
  /** Monotonic time of the end of each returned hold. */
  readonly #given = new Map<KeyText, number>();

  /** `slab` is the slab of the followed entries, which also contains the bytes of held entries. */
  constructor(held: RetainedEntries, slab: Pick<Slab, "view">) {
    this.#slab = slab;
    this.#held = held;
  }

  /**
   * Returns the next held entries, about this many bytes, or an empty list when all entries have been returned. Entries whose hold began again are
   * returned again.
   */
  take(roomBytes: number, time: Time): readonly CopiedRetention[] {
    const holds: CopiedRetention[] = [];
    for (let leftBytes = roomBytes; leftBytes > 0; ) {
      const next = this.#keys.next();
      if (next.done === true) {
        if (this.#listedMark === this.#held.mark) break;
        this.#keys = this.#held.heldSince(this.#listedMark).values();
        this.#listedMark = this.#held.mark;
        continue;
      }
      const hold = this.#copied(next.value, time);
      if (hold === undefined) continue;
      holds.push(hold);
      leftBytes -= entryRoom(hold);
    }
    return holds;
  }

  /** Returns the keys of returned entries whose hold ended early. */
  released({ monoMs }: Time): readonly KeyText[] {
    return [...this.#given].filter(([key, endsMonoMs]) => endsMonoMs > monoMs && this.#held.holdOf(key) === undefined).map(([key]) => key);
  }

  /** Encodes the end of a hold as wall-clock time, because monotonic time is valid only within a process. */
  #copied(key: KeyText, { monoMs, wallMs }: Time): CopiedRetention | undefined {
    const [record, hold] = [this.#held.lookup.find(key), this.#held.holdOf(key)];
    if (record === undefined || hold === undefined) return undefined;
    const { endsMonoMs } = hold;
    this.#given.set(key, endsMonoMs);
    const shown = this.#slab.view(record.at, record.sizeBytes);
    return { deltaId: deltaId(record), shown, endsWallMs: Math.max(0, Math.floor(wallMs + endsMonoMs - monoMs)) };
  }
}

/** The held entries in a copy. */
interface RetainedInCopy {
  /** Held entries as block payloads. */
  readonly held: readonly Uint8Array[];
  readonly state: Pick<CopyState, "released" | "savedWallMs">;
}

/** The resolver components into which a copy is restored. */
export interface RestoreTarget {
  readonly replica: Replica;
  readonly followed: WatchedCatalog;
  readonly held: RetainedEntries;
  /** Prefixes of the copy that are restored. */
  readonly kept: NamespacePrefixes;
  readonly maxEntries: number;
  /** Whether the current data is within the bounds. */
  readonly fits: () => boolean;
}

/** Throws `invalid_argument` if a copy has more entries than this resolver could have written. */
export function checkCount(count: number, maxEntries: number): void {
  if (count > maxEntries * TIMES + MORE) throw malformedFile("number of entries", count);
}

/** A held entry in a copy and the remaining time of its hold. */
interface RestoredRetention {
  readonly kept: RestoredEntry;
  readonly leftMs: number;
}

/**
 * Restores the held entries in a copy that are not currently followed. Must be called after the followed entries in the copy were restored. Throws
 * `invalid_argument` for an invalid copy, before any entry is held. Entries for which there is no room are released and counted.
 */
export function* restoreRetained(copy: RetainedInCopy, parts: RestoreTarget, time: Time): Generator<void> {
  const { held, fits } = parts;
  const holds = yield* readHolds(copy, parts, time);
  const inOrder = [...holds.values()].toSorted((a, b) => a.leftMs - b.leftMs);
  for (const [i, { kept, leftMs }] of inOrder.entries()) {
    held.resume(kept, time.monoMs + leftMs);
    if (i % HELD_A_SLICE === 0) yield;
  }
  // Followed entries have priority.
  while (!fits() && held.releaseOldest());
}

function* readHolds(
  { held, state }: RetainedInCopy,
  parts: RestoreTarget,
  { wallMs }: Time,
): Generator<void, ReadonlyMap<string, RestoredRetention>> {
  const { replica, followed, kept, maxEntries } = parts;
  const holds = new Map<string, RestoredRetention>();
  // If the wall clock was set back, the elapsed time is unknown. It is treated as zero, and no hold becomes longer.
  const nowWallMs = Math.max(wallMs, state.savedWallMs);
  let count = 0;
  for (const payload of held) {
    const deltas = readHeldBlock(payload);
    count += deltas.length;
    checkCount(count, maxEntries);
    for (const { endsWallMs, ...delta } of deltas) {
      const entry = keptEntry(delta, followed);
      const { key, namespace } = entry.record;
      const leftMs = Math.min(endsWallMs - nowWallMs, parts.held.holdMs);
      // The last occurrence is used, because an entry whose hold began again while the copy was created occurs several times in the copy.
      if (leftMs > 0 && kept.covers(namespace) && !isFollowed(replica, key)) holds.set(key, { kept: entry, leftMs });
      else holds.delete(key);
    }
    yield;
  }
  for (const key of state.released) holds.delete(key);
  return holds;
}

/**
 * Decodes a held entry with the checks for entries from an upstream. The record is not a `StoredRecord`, so owners' rules are applied when it is
 * read.
 */
function keptEntry({ nodeId, generation, seq, change }: WatchDelta, followed: WatchedCatalog): RestoredEntry {
  if ("key" in change) throw misplaced("a retained entry is a removal");
  const { entry, stamped } = followed.read(change.entry);
  const { key, namespace, name, kind, scope, health, traits, contentBytes } = stamped;
  const origin = { id: `${nodeId}/${generation}`, nodeId, generation, life: "orphaned" as const };
  const numbers = { seq, hlc: 0, firstSeq: seq, filterSeq: seq, revision: 0 };
  const place = { at: 0, sizeBytes: entry.length, contentBytes };
  const content = { key, namespace, name, kind, scope, reach: scope, health, traits };
  const record: CatalogRecord = { ...content, ...numbers, ...place, origin, body: BODY.ENTRY, principal: "" };
  return { record, bytes: Uint8Array.from(entry) };
}

/** Returns whether the key has a followed entry, even if owners' rules hide it. */
function isFollowed(replica: Replica, key: KeyText): boolean {
  return replica.records(key).some(({ body }) => body === BODY.ENTRY);
}
