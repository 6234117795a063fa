/**
 * Finds the readers that a change concerns by its name. Ten thousand readers that follow fifty names each are told of a change by the few that
 * follow its name, and find it without looking at the others since (semantics.md, Watch 12).
 */
import type { Filter } from "../query/filter.ts";
import type { StoredRecord } from "../record/stored-record.ts";
import type { Replica } from "../replica/replica.ts";

/** Most touches that are kept for a reader. With more since its position it looks at the log of all changes. */
const MAX_TOUCHES = 64;

/** A reader whose filter has names. */
export interface NamedReader {
  readonly options: { readonly filter: Pick<Filter, "names"> };
  mayHoldNamespace(namespace: string): boolean;
  /** Only the index writes it. */
  touches: NamedTouches | undefined;
}

interface Touch {
  readonly stored: StoredRecord;
  readonly revision: number;
  /** Touches up to this revision were offered before. An earlier touch of the same record, after it, was not offered. */
  readonly after: number;
}

/** The touches of one reader's names, oldest first. */
export class NamedTouches {
  readonly #index: NameIndex;
  readonly #touches: Touch[] = [];
  /** Every touch after this revision, and up to that of the index, is here. */
  #since: number;

  constructor(index: NameIndex, since: number) {
    this.#index = index;
    this.#since = since;
  }

  /** Returns whether it is the first of those that are offered together. */
  add(touch: Touch): boolean {
    if (touch.revision <= this.#since) return true;
    const isFirst = this.#touches.at(-1)?.after !== touch.after;
    this.#touches.push(touch);
    // Half of them at once: to shift each costs more than all the rest.
    if (this.#touches.length > MAX_TOUCHES) this.#since = this.#touches.splice(0, MAX_TOUCHES / 2).at(-1)?.revision ?? this.#since;
    return isFirst;
  }

  /** The revision up to which no key of these names was touched after `from`; `from` itself if that is unknown. */
  quietThrough(from: number): number {
    if (!this.#covers(from)) return from;
    const next = this.#touches[this.#indexAfter(from)];
    return next === undefined ? this.#index.through : Math.max(from, next.after);
  }

  /** As `Replica.changesSince`, of these names only. Returns false, and visits nothing, if not all of them are known. */
  visitSince(from: number, visit: (stored: StoredRecord, revision: number) => boolean): boolean {
    if (!this.#covers(from) || this.#index.through < this.#index.replica.revision) return false;
    for (let i = this.#indexAfter(from); i < this.#touches.length; i++) {
      const touch = this.#touches[i];
      if (touch === undefined) break;
      const { stored, revision } = touch;
      // A record that was touched again since then comes later.
      if (stored.revision === revision && !visit(stored, revision)) break;
    }
    return true;
  }

  /** From the end, since a reader has been told nearly all of them. HOT: bench/fleet.ts. */
  #indexAfter(from: number): number {
    let index = this.#touches.length;
    while ((this.#touches[index - 1]?.revision ?? 0) > from) index -= 1;
    return index;
  }

  #covers(from: number): boolean {
    return from >= this.#since && from >= this.#index.lostThrough;
  }
}

export class NameIndex {
  readonly replica: Replica;
  readonly #byName = new Map<string, Set<NamedReader>>();
  readonly #readers = new Set<NamedReader>();
  #through: number;
  #lostThrough = 0;

  constructor(replica: Replica) {
    this.replica = replica;
    this.#through = replica.revision;
  }

  /** Touches up to this revision were offered. */
  get through(): number {
    return this.#through;
  }

  /** Of touches up to this revision some are unknown: their records were dropped before they were offered. */
  get lostThrough(): number {
    return this.#lostThrough;
  }

  /** From now on the reader is offered the touches of its names. */
  add(reader: NamedReader): void {
    this.#readers.add(reader);
    reader.touches = new NamedTouches(this, this.replica.revision);
    for (const name of reader.options.filter.names) {
      const readers = this.#byName.get(name);
      if (readers === undefined) this.#byName.set(name, new Set([reader]));
      else readers.add(reader);
    }
  }

  remove(reader: NamedReader): void {
    this.#readers.delete(reader);
    reader.touches = undefined;
    for (const name of reader.options.filter.names) {
      const readers = this.#byName.get(name);
      if (readers?.delete(reader) === true && readers.size === 0) this.#byName.delete(name);
    }
  }

  /** Offers the touches since the last call to the readers of their names, and tells which readers they concern. */
  offer(concerns: (reader: NamedReader) => void): void {
    if (this.#readers.size > 0) this.#offerSince(this.#through, concerns);
    this.#through = this.replica.revision;
  }

  #offerSince(after: number, concerns: (reader: NamedReader) => void): void {
    if (this.replica.collectedRevision > after) {
      this.#lostThrough = this.replica.collectedRevision;
      for (const reader of this.#readers) concerns(reader);
    }
    this.replica.changesSince(after, (stored, revision) => {
      const readers = this.#byName.get(stored.name);
      if (readers === undefined) return true;
      const touch = { stored, revision, after };
      for (const reader of readers) {
        if (!reader.mayHoldNamespace(stored.namespace)) continue;
        if (reader.touches?.add(touch) === true) concerns(reader);
      }
      return true;
    });
  }
}
