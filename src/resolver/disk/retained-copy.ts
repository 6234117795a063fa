/**
 * Held entries in a copy on disk (semantics.md, Resolver 16): what of them is written while they change, and how a start holds them for the rest of their time.
 */
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

/** An entry that changed while the copy was made is in it once more. */
const TIMES = 2;
const MORE = 10_000;
/** Entries that are held again between two pauses. */
const HELD_A_SLICE = 1000;

/** Gives what is held in parts, and notes what of it is held no longer. */
export class RetainedEntriesCopy {
  readonly #slab: Pick<Slab, "view">;
  readonly #held: RetainedEntries;
  /** Keys that are to be given, and the mark up to which they were listed. */
  #keys: Iterator<KeyText> = [].values();
  #listedMark = 0;
  /** When the hold of each key ends that was given, in monotonic ms. */
  readonly #given = new Map<KeyText, number>();

  /** `slab`: that of what is followed, which has the bytes of held entries too. */
  constructor(held: RetainedEntries, slab: Pick<Slab, "view">) {
    this.#slab = slab;
    this.#held = held;
  }

  /** The next of about so many bytes. None: all that is held now was given. What is held anew comes again. */
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

  /** What was given and is held no longer, though its time is not over. */
  released({ monoMs }: Time): readonly KeyText[] {
    return [...this.#given].filter(([key, endsMonoMs]) => endsMonoMs > monoMs && this.#held.holdOf(key) === undefined).map(([key]) => key);
  }

  /** Monotonic time does not outlive a process, so the end is told by the wall clock. */
  #copied(key: KeyText, { monoMs, wallMs }: Time): CopiedRetention | undefined {
    const [record, hold] = [this.#held.lookup.find(key), this.#held.holdOf(key)];
    if (record === undefined || hold === undefined) return undefined;
    const { endsMonoMs } = hold;
    this.#given.set(key, endsMonoMs);
    const shown = this.#slab.view(record.at, record.sizeBytes);
    return { deltaId: deltaId(record), shown, endsWallMs: Math.max(0, Math.floor(wallMs + endsMonoMs - monoMs)) };
  }
}

/** What a copy says of what is held. */
interface RetainedInCopy {
  /** Payloads of blocks. */
  readonly held: readonly Uint8Array[];
  readonly state: Pick<CopyState, "released" | "savedWallMs">;
}

/** What a copy is restored into. */
export interface RestoreTarget {
  readonly replica: Replica;
  readonly followed: WatchedCatalog;
  readonly held: RetainedEntries;
  /** Of what the copy holds only this is wanted. */
  readonly kept: NamespacePrefixes;
  readonly maxEntries: number;
  /** Whether what is here now fits into the bounds. */
  readonly fits: () => boolean;
}

/** Throws `invalid_argument` for more entries than a copy of what may be here can have. */
export function checkCount(count: number, maxEntries: number): void {
  if (count > maxEntries * TIMES + MORE) throw malformedFile("entries", count);
}

/** An entry that a copy held, and for how long it is to be held from now on. */
interface RestoredRetention {
  readonly kept: RestoredEntry;
  readonly leftMs: number;
}

/**
 * Holds what a copy held, unless it is followed by now. To be called when the entries of the copy are here. Throws `invalid_argument` for what no version
 * writes, before anything is held; what is too much for this resolver is not held, and counted.
 */
export function* restoreRetained(copy: RetainedInCopy, parts: RestoreTarget, time: Time): Generator<void> {
  const { held, fits } = parts;
  const holds = yield* readHolds(copy, parts, time);
  const inOrder = [...holds.values()].toSorted((a, b) => a.leftMs - b.leftMs);
  for (const [i, { kept, leftMs }] of inOrder.entries()) {
    held.resume(kept, time.monoMs + leftMs);
    if (i % HELD_A_SLICE === 0) yield;
  }
  // What is followed is worth more.
  while (!fits() && held.letOldestGo());
}

function* readHolds(
  { held, state }: RetainedInCopy,
  parts: RestoreTarget,
  { wallMs }: Time,
): Generator<void, ReadonlyMap<string, RestoredRetention>> {
  const { replica, followed, kept, maxEntries } = parts;
  const holds = new Map<string, RestoredRetention>();
  // A clock that was set back says nothing of the time since then: no hold is longer for it than it would have been.
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
      // What was held anew while the copy was made is in it once more.
      if (leftMs > 0 && kept.covers(namespace) && !isFollowed(replica, key)) holds.set(key, { kept: entry, leftMs });
      else holds.delete(key);
    }
    yield;
  }
  for (const key of state.released) holds.delete(key);
  return holds;
}

/** Checked as an entry of an upstream is. Its record is no stored one, so the owners' rules are judged when it is read. */
function keptEntry({ nodeId, generation, seq, change }: WatchDelta, followed: WatchedCatalog): RestoredEntry {
  if ("key" in change) throw misplaced("a removal among the held entries");
  const { entry, stamped } = followed.read(change.entry);
  const { key, namespace, name, kind, scope, health, traits, contentBytes } = stamped;
  const origin = { id: `${nodeId}/${generation}`, nodeId, generation, life: "orphaned" as const };
  const numbers = { seq, hlc: 0, firstSeq: seq, filterSeq: seq, revision: 0 };
  const place = { at: 0, sizeBytes: entry.length, contentBytes };
  const said = { key, namespace, name, kind, scope, reach: scope, health, traits };
  const record: CatalogRecord = { ...said, ...numbers, ...place, origin, body: BODY.ENTRY, principal: "" };
  return { record, bytes: Uint8Array.from(entry) };
}

/** Whether there is an entry of the key, also if the owners' rules hide it. */
function isFollowed(replica: Replica, key: KeyText): boolean {
  return replica.records(key).some(({ body }) => body === BODY.ENTRY);
}
