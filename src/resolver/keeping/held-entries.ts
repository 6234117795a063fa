/**
 * Entries that a resolver goes on serving although its upstream says that they are gone: too many of one name expired at once to be believed (semantics.md,
 * Resolver 16). Lookups find them beside what is followed, as ORPHANED, so that everybody chooses them last.
 */
import { instanceCount } from "../../catalog/query/instances.ts";
import { Lookup } from "../../catalog/query/lookup.ts";
import { type CatalogRecord, type KeyText, keyParts, nameOfKey } from "../../catalog/record/record.ts";
import type { Slab } from "../../catalog/record/slab.ts";
import { CAUSE, type Cause } from "../../catalog/watch/cause.ts";
import type { Time } from "../../lib/machine.ts";
import { Guard, type GuardOptions } from "../../reading/guard.ts";
import type { FollowedChanges } from "../following/followed.ts";

/** What is remembered of a lost entry. */
export interface KeptEntry {
  readonly record: CatalogRecord;
  readonly bytes: Uint8Array;
}

/** An entry that is held. */
export interface Hold {
  readonly endsMonoMs: number;
  /** The `mark` with which it began. */
  readonly mark: number;
}

export interface HeldEntriesParts {
  /** What is followed. An entry that is lost is still in it when `gone` is told. */
  readonly lookup: Lookup;
  /** The slab of what is followed: answers are made from one. */
  readonly slab: Slab;
  readonly bounds: GuardOptions;
}

export class HeldEntries implements FollowedChanges {
  /** The entries that are held, for lookups. */
  readonly lookup = new Lookup();
  readonly #parts: HeldEntriesParts;
  readonly #guard: Guard<KeptEntry>;
  /** In the order in which the holds began. */
  readonly #holds = new Map<KeyText, Hold>();
  #unfitCount = 0;
  /** Counts the changes of what is held. */
  mark = 0;

  constructor(parts: HeldEntriesParts) {
    this.#parts = parts;
    this.#guard = new Guard(parts.bounds);
  }

  /** Entries that are held, and that are remembered because they may have to be. */
  get keptCount(): number {
    return this.#guard.keptCount;
  }

  /** Entries that were not remembered, because there were too many. */
  get droppedCount(): number {
    return this.#guard.droppedCount + this.#unfitCount;
  }

  /** How long an entry is held, in ms. */
  get holdMs(): number {
    return this.#parts.bounds.holdMs;
  }

  /** The hold of a key. Undefined: it is not held. */
  holdOf(key: KeyText): Hold | undefined {
    return this.#holds.get(key);
  }

  /** The keys of which the hold began after this mark, in that order. Cost: all that are held. */
  heldSince(mark: number): readonly KeyText[] {
    return [...this.#holds].filter(([, hold]) => hold.mark > mark).map(([key]) => key);
  }

  /** Holds an entry that is not followed and that an earlier run held, until then: see `Guard.resume`. */
  resume(entry: KeptEntry, endsMonoMs: number): void {
    const { key } = entry.record;
    if (this.#guard.resume({ name: nameOfKey(key), key, entry }, endsMonoMs)) this.#hold(entry, endsMonoMs);
  }

  /** For what is held there is no room: none of it is held any more. */
  giveUp(): void {
    this.#unfitCount += this.#holds.size;
    for (const key of this.#holds.keys()) if (this.#guard.returned(nameOfKey(key), key)) this.#release(key);
  }

  /** An entry goes. To be called before it is taken out of what is followed. */
  gone(record: CatalogRecord, cause: Cause, { monoMs }: Time): void {
    const name = nameOfKey(record.key);
    if (cause !== CAUSE.EXPIRED) {
      if (this.#guard.ended(name, record.key, monoMs)) this.#release(record.key);
      return;
    }
    const { lookup, slab } = this.#parts;
    const bytes = Uint8Array.from(slab.view(record.at, record.sizeBytes));
    const left = instanceCount(lookup, keyParts(record.key)) - 1;
    for (const held of this.#guard.lost({ name, key: record.key, entry: { record: copyOf(record), bytes } }, left, monoMs))
      this.#hold(held.entry, monoMs + this.holdMs);
  }

  /** A key that is not followed is told to be gone. That it expired once more changes nothing. */
  ended(key: KeyText, cause: Cause, { monoMs }: Time): void {
    if (cause !== CAUSE.EXPIRED && this.#guard.ended(nameOfKey(key), key, monoMs)) this.#release(key);
  }

  /** The entry is there. */
  put(key: KeyText): void {
    if (this.#guard.returned(nameOfKey(key), key)) this.#release(key);
  }

  /** Lets go what was held long enough. */
  tick({ monoMs }: Time): void {
    for (const { entry } of this.#guard.tick(monoMs)) this.#release(entry.record.key);
  }

  nextDeadlineMs(): number {
    return this.#guard.nextDeadlineMs();
  }

  #hold({ record, bytes }: KeptEntry, endsMonoMs: number): void {
    this.lookup.put({ ...record, at: this.#parts.slab.put(bytes), sizeBytes: bytes.length });
    this.mark += 1;
    this.#holds.set(record.key, { endsMonoMs, mark: this.mark });
  }

  #release(key: KeyText): void {
    const record = this.lookup.find(key);
    if (record === undefined) return;
    this.lookup.remove(record);
    this.#holds.delete(key);
    this.mark += 1;
    this.#parts.slab.free(record.at, record.sizeBytes);
  }
}

/** The record as it was seen, under an origin that is away. */
function copyOf(record: CatalogRecord): CatalogRecord {
  const { key, namespace, name, kind, seq, hlc, firstSeq, filterSeq, revision, body, scope, reach, health, traits, principal } = record;
  const { id, nodeId, generation } = record.origin;
  const origin = { id, nodeId, generation, life: "orphaned" as const };
  const { at, sizeBytes, contentBytes } = record;
  // biome-ignore format: a line a group
  return {
    key, namespace, name, kind, seq, hlc, firstSeq, filterSeq, revision, body, scope, reach, health, traits, principal,
    origin, at, sizeBytes, contentBytes,
  };
}
