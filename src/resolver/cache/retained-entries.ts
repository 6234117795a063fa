/**
 * Entries that a resolver continues to serve although its upstream reported them as gone, because too many entries with one name expired at the same
 * time (semantics.md, Resolver 16). Lookups return these held entries as ORPHANED, in addition to the followed entries, so that clients choose them
 * last.
 */

import { EntryIndex } from "../../catalog/query/entry-index.ts";
import { instanceCount } from "../../catalog/query/instances.ts";
import type { NamespacePrefixes } from "../../catalog/query/prefixes.ts";
import { type CatalogRecord, type KeyText, keyParts, nameOfKey } from "../../catalog/record/record.ts";
import type { Slab } from "../../catalog/record/slab.ts";
import { CAUSE, type ChangeCause } from "../../catalog/watch/change-cause.ts";
import { type GuardOptions, MassLossGuard } from "../../consumer/mass-loss-guard.ts";
import type { Time } from "../../lib/machine.ts";
import type { WatchedChanges } from "../watching/watched-catalog.ts";

/** An entry that was held by an earlier process. The slab position in the record is not used. */
export interface RestoredEntry {
  readonly record: CatalogRecord;
  readonly bytes: Uint8Array;
}

/** The hold of an entry. */
export interface RetentionEnd {
  readonly endsMonoMs: number;
  /** Value of `mark` when the hold began. */
  readonly mark: number;
}

export interface RetainedEntriesParts {
  /** The followed entries. A lost entry is still among the followed entries when `gone` is called. */
  readonly lookup: EntryIndex;
  /** The slab of the followed entries, because answers are built from one slab. */
  readonly slab: Slab;
  readonly bounds: GuardOptions;
  /** Returns whether the current policy shows an entry. Hidden entries are not held. */
  readonly admits: (record: CatalogRecord) => boolean;
}

export class RetainedEntries implements WatchedChanges {
  /** The held entries, for lookups. */
  readonly lookup = new EntryIndex();
  readonly #parts: RetainedEntriesParts;
  /** The mass-loss guard. The bytes of its remembered entries are in the slab. */
  readonly #guard: MassLossGuard<CatalogRecord>;
  /** Holds by key, in the order in which they began. */
  readonly #holds = new Map<KeyText, RetentionEnd>();
  /** Number of changes to the held entries. */
  mark = 0;
  /** Keys whose hold began or ended since the last call of `takeTouched`. */
  #touched = new Set<KeyText>();

  constructor(parts: RetainedEntriesParts) {
    this.#parts = parts;
    this.#guard = new MassLossGuard(parts.bounds, (record) => this.#forgotten(record));
  }

  /** Number of entries that are held, or remembered because they may need to be held. */
  get keptCount(): number {
    return this.#guard.keptCount;
  }

  /** Number of entries whose hold ended early or did not begin because there was no room. */
  get unheldCount(): number {
    return this.#guard.unheldCount;
  }

  /** Duration of a hold, in ms. */
  get holdMs(): number {
    return this.#parts.bounds.holdMs;
  }

  /** Returns the hold of a key. Returns undefined if the key is not held. */
  holdOf(key: KeyText): RetentionEnd | undefined {
    return this.#holds.get(key);
  }

  /**
   * Returns the keys whose hold began after this mark, in the order in which their holds began. The cost is proportional to the number of held
   * entries.
   */
  heldSince(mark: number): readonly KeyText[] {
    return [...this.#holds].filter(([, hold]) => hold.mark > mark).map(([key]) => key);
  }

  /** Resumes an earlier process's hold of an entry that is not followed, until this monotonic time. See `MassLossGuard.resume`. */
  resume({ record, bytes }: RestoredEntry, endsMonoMs: number): void {
    const { key } = record;
    const entry = { ...record, at: this.#parts.slab.put(bytes), sizeBytes: bytes.length };
    this.#guard.resumeHold({ name: nameOfKey(key), key, entry }, endsMonoMs);
    this.#hold(entry, endsMonoMs);
  }

  /** Whether holds began or ended since the last call of `takeTouched`. */
  get isTouched(): boolean {
    return this.#touched.size > 0;
  }

  takeTouched(): ReadonlySet<KeyText> {
    const touched = this.#touched;
    if (touched.size > 0) this.#touched = new Set();
    return touched;
  }

  /** Records that a followed entry ended. Must be called before the entry is removed from the followed entries. */
  gone(record: CatalogRecord, cause: ChangeCause, { monoMs }: Time): void {
    const name = nameOfKey(record.key);
    if (cause !== CAUSE.EXPIRED) {
      this.#guard.noteEnd(name, record.key, monoMs);
      return;
    }
    const { lookup, slab, admits } = this.#parts;
    const at = slab.put(Uint8Array.from(slab.view(record.at, record.sizeBytes)));
    const left = instanceCount(lookup, keyParts(record.key)) - 1;
    for (const { entry } of this.#guard.noteLoss({ name, key: record.key, entry: copyOf(record, at) }, left, monoMs))
      if (admits(entry)) this.#hold(entry, monoMs + this.holdMs);
  }

  /**
   * Records that the upstream reported the end of an entry that is not present. A repeated expiry has no effect. A key that was not lost on this
   * resolver was not counted for its name, so its end is not counted either.
   */
  ended(key: KeyText, cause: ChangeCause, { monoMs }: Time): void {
    const name = nameOfKey(key);
    if (cause !== CAUSE.EXPIRED && this.#guard.has(name, key)) this.#guard.noteEnd(name, key, monoMs);
  }

  /** Records that an entry is present. */
  put(key: KeyText): void {
    this.#guard.noteReturn(nameOfKey(key), key);
  }

  /**
   * Releases held entries that a new policy hides. The entries are not held again when a later policy shows them. The cost is proportional to the
   * number of held entries.
   */
  policyChanged(): void {
    this.#release((record) => !this.#parts.admits(record));
  }

  /**
   * Releases held entries that are not below a currently followed prefix, because their changes are no longer received. The entries are not held
   * again when their prefix is followed again. The cost is proportional to the number of held entries.
   */
  keepBelow(prefixes: NamespacePrefixes): void {
    this.#release(({ namespace }) => !prefixes.covers(namespace));
  }

  /** Releases entries whose hold has ended. */
  tick({ monoMs }: Time): void {
    this.#guard.tick(monoMs);
  }

  nextDeadlineMs(): number {
    return this.#guard.nextDeadlineMs();
  }

  /** Releases the entry that was kept longest, to make room. Returns whether an entry was released. */
  releaseOldest(): boolean {
    return this.#guard.releaseOldest() !== undefined;
  }

  #release(isOver: (record: CatalogRecord) => boolean): void {
    if (this.lookup.size === 0) return;
    const over: KeyText[] = [];
    const records = this.lookup.cursor();
    for (let record = records.next(); record !== undefined; record = records.next()) if (isOver(record)) over.push(record.key);
    for (const key of over) this.#guard.noteReturn(nameOfKey(key), key);
  }

  #hold(record: CatalogRecord, endsMonoMs: number): void {
    this.lookup.put(record);
    this.#touched.add(record.key);
    this.mark += 1;
    this.#holds.set(record.key, { endsMonoMs, mark: this.mark });
  }

  #forgotten(record: CatalogRecord): void {
    if (this.lookup.find(record.key) === record) {
      this.lookup.remove(record);
      this.#touched.add(record.key);
      this.#holds.delete(record.key);
      this.mark += 1;
    }
    this.#parts.slab.free(record.at, record.sizeBytes);
  }
}

/** Copies a record, marking its source node as unreachable and changing its slab position. */
function copyOf(record: CatalogRecord, at: number): CatalogRecord {
  const { key, namespace, name, kind, seq, hlc, firstSeq, filterSeq, revision, body, scope, reach, health, traits, principal } = record;
  const { id, nodeId, generation } = record.origin;
  const origin = { id, nodeId, generation, life: "orphaned" as const };
  const { sizeBytes, contentBytes } = record;
  // biome-ignore format: a line a group
  return {
    key, namespace, name, kind, seq, hlc, firstSeq, filterSeq, revision, body, scope, reach, health, traits, principal,
    origin, at, sizeBytes, contentBytes,
  };
}
