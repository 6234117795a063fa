/**
 * Entries that a resolver goes on serving although its upstream says that they are gone: too many of one name expired at once to be believed (semantics.md,
 * Resolver 16). Lookups find them beside what is followed, as ORPHANED, so that everybody chooses them last.
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

/** An entry that an earlier run held. The place in the record says nothing. */
export interface RestoredEntry {
  readonly record: CatalogRecord;
  readonly bytes: Uint8Array;
}

/** An entry that is held. */
export interface RetentionEnd {
  readonly endsMonoMs: number;
  /** The `mark` with which it began. */
  readonly mark: number;
}

export interface RetainedEntriesParts {
  /** What is followed. An entry that is lost is still in it when `gone` is told. */
  readonly lookup: EntryIndex;
  /** The slab of what is followed: answers are made from one. */
  readonly slab: Slab;
  readonly bounds: GuardOptions;
  /** Whether the policy in force lets an entry be seen. What it hides is not held. */
  readonly admits: (record: CatalogRecord) => boolean;
}

export class RetainedEntries implements WatchedChanges {
  /** The entries that are held, for lookups. */
  readonly lookup = new EntryIndex();
  readonly #parts: RetainedEntriesParts;
  /** What it keeps has its bytes in the slab. */
  readonly #guard: MassLossGuard<CatalogRecord>;
  /** In the order in which the holds began. */
  readonly #holds = new Map<KeyText, RetentionEnd>();
  /** Counts the changes of what is held. */
  mark = 0;
  /** Keys that came to be held, or are held no longer, since that was last asked. */
  #touched = new Set<KeyText>();

  constructor(parts: RetainedEntriesParts) {
    this.#parts = parts;
    this.#guard = new MassLossGuard(parts.bounds, (record) => this.#forgotten(record));
  }

  /** Entries that are held, and that are remembered because they may have to be. */
  get keptCount(): number {
    return this.#guard.keptCount;
  }

  /** Entries that were to be held, and were let go before their time because there was no room. */
  get unheldCount(): number {
    return this.#guard.unheldCount;
  }

  /** How long an entry is held, in ms. */
  get holdMs(): number {
    return this.#parts.bounds.holdMs;
  }

  /** The hold of a key. Undefined: it is not held. */
  holdOf(key: KeyText): RetentionEnd | undefined {
    return this.#holds.get(key);
  }

  /** The keys of which the hold began after this mark, in that order. Cost: all that are held. */
  heldSince(mark: number): readonly KeyText[] {
    return [...this.#holds].filter(([, hold]) => hold.mark > mark).map(([key]) => key);
  }

  /** Holds an entry that is not followed and that an earlier run held, until then: see `MassLossGuard.resume`. */
  resume({ record, bytes }: RestoredEntry, endsMonoMs: number): void {
    const { key } = record;
    const entry = { ...record, at: this.#parts.slab.put(bytes), sizeBytes: bytes.length };
    this.#guard.resumeHold({ name: nameOfKey(key), key, entry }, endsMonoMs);
    this.#hold(entry, endsMonoMs);
  }

  /** Whether there are keys that came to be held, or are held no longer, since `takeTouched`. */
  get isTouched(): boolean {
    return this.#touched.size > 0;
  }

  takeTouched(): ReadonlySet<KeyText> {
    const touched = this.#touched;
    if (touched.size > 0) this.#touched = new Set();
    return touched;
  }

  /** An entry goes. To be called before it is taken out of what is followed. */
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

  /** A key that is not followed is told to be gone. That it expired once more changes nothing; and one that was not lost here is none that its name had. */
  ended(key: KeyText, cause: ChangeCause, { monoMs }: Time): void {
    const name = nameOfKey(key);
    if (cause !== CAUSE.EXPIRED && this.#guard.has(name, key)) this.#guard.noteEnd(name, key, monoMs);
  }

  /** The entry is there. */
  put(key: KeyText): void {
    this.#guard.noteReturn(nameOfKey(key), key);
  }

  /** Another policy is in force. What it hides is held no longer, and not again when another one shows it. Cost: all that are held. */
  policyChanged(): void {
    this.#release((record) => !this.#parts.admits(record));
  }

  /**
   * Nothing but what is below these prefixes is followed from now on. What becomes of the rest is not heard, so it is held no longer, and not again when it is followed anew. Cost: all that
   * are held.
   */
  keepBelow(prefixes: NamespacePrefixes): void {
    this.#release(({ namespace }) => !prefixes.covers(namespace));
  }

  /** Lets go what was held long enough. */
  tick({ monoMs }: Time): void {
    this.#guard.tick(monoMs);
  }

  nextDeadlineMs(): number {
    return this.#guard.nextDeadlineMs();
  }

  /** Lets go what is kept for longest, because its room is needed. Returns whether there was anything. */
  letOldestGo(): boolean {
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

/** The record as it was seen, under an origin that is away, with its bytes elsewhere in the slab. */
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
