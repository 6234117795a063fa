/**
 * Origins that were forgotten and have not left. They may return with entries that were unregistered meanwhile, so nodes keep tombstones
 * for them, or marks where tombstones have no room (semantics.md, Orphans). No clock is involved: of two statements the one with the higher
 * number wins.
 */

import type { KeyText } from "../record/record.ts";
import type { Origin, StoredRecord } from "../record/stored-record.ts";
import { hasHash, keyHash, type LostKeys } from "./lost-keys.ts";

/** The statement about one lost origin. */
export interface LostOrigin {
  readonly nodeId: string;
  readonly generation: number;
  /** The number of the origin when it was forgotten. */
  readonly through: number;
  /** Records up to this number stay hidden; 0 for none. Tombstones are kept for the origin while this is below `through`. */
  readonly mark: number;
}

/** Most origins that are remembered, and most in one message. */
export const MAX_LOST = 1000;
/** Most keys that are remembered of all of them together: 4 MB. */
const MAX_ALL_KEYS = 1_048_576;

export class LostOrigins {
  readonly #byId = new Map<string, LostOrigin>();
  /**
   * Ids of origins that are back and may not have heard everything yet, and whether they are in a later generation, to which no mark
   * applies.
   */
  readonly #back = new Map<string, boolean>();
  /** Tombstones that ended a record of an origin that was forgotten here. */
  readonly #enders = new WeakSet<StoredRecord>();
  readonly #keys = new Map<string, LostKeys>();
  #keyCount = 0;
  #holdingCount = 0;
  #hasNewMarks = false;
  #isBackNew = false;

  get list(): readonly LostOrigin[] {
    return [...this.#byId.values()];
  }

  get size(): number {
    return this.#byId.size;
  }

  /** Whether a tombstone may be the only record that keeps an entry removed. */
  get isHolding(): boolean {
    return this.#holdingCount > 0;
  }

  markOf(id: string): number {
    return this.#byId.get(id)?.mark ?? 0;
  }

  /** Notes that the origin is forgotten here. */
  forgotten({ id, nodeId, generation, through, log }: Origin): void {
    this.#back.delete(id);
    this.note({ nodeId, generation, through: Math.max(through, log.lastOrder), mark: 0 });
  }

  /** Adds the keys of an origin's entries; those with its highest number count. They are dropped if there is no room. */
  noteKeys(id: string, keys: LostKeys): void {
    const [held, before] = [this.#byId.get(id), this.#keys.get(id)];
    if (held === undefined || held.through === held.mark || keys.through <= (before?.through ?? 0) || keys.through > held.through) return;
    if (this.#keyCount - (before?.hashes.length ?? 0) + keys.hashes.length > MAX_ALL_KEYS) return;
    this.#dropKeys(id);
    this.#keys.set(id, keys);
    this.#keyCount += keys.hashes.length;
  }

  keysOf(id: string): LostKeys | undefined {
    return this.#keys.get(id);
  }

  /** Whether more keys may be taken in. */
  get hasRoomForKeys(): boolean {
    return this.#keyCount < MAX_ALL_KEYS;
  }

  /** Whether a tombstone of that key may have ended a record of a lost origin above its mark. */
  mayNeed(key: KeyText): boolean {
    return this.#isOf(key, "maybe") || this.#isOf(key, "surely");
  }

  /** Whether a mark is needed when this tombstone goes: it ended a record of a lost origin, or its key is one of theirs. */
  needs(stored: StoredRecord): boolean {
    return this.#isOf(stored.key, "surely") || (this.#enders.has(stored) && this.#isOf(stored.key, "maybe"));
  }

  /** `maybe` includes origins whose keys are not all known. */
  #isOf(key: KeyText, how: "surely" | "maybe"): boolean {
    const hash = how === "surely" ? keyHash(key) : 0;
    for (const [id, { through, mark }] of this.#byId) {
      if (through === mark) continue;
      const keys = this.#keys.get(id);
      if (how === "maybe" ? keys === undefined || keys.through < through : keys !== undefined && hasHash(keys, hash)) return true;
    }
    return false;
  }

  /** Takes a statement about a lost origin from any node: the higher numbers win. */
  note({ nodeId, generation, through, mark }: LostOrigin): void {
    const id = `${nodeId}/${generation}`;
    const held = this.#byId.get(id);
    const [higher, highest] = [Math.max(through, mark, held?.through ?? 0), Math.max(mark, held?.mark ?? 0)];
    if (higher === 0 || (held?.through === higher && held.mark === highest)) return;
    if (highest > (held?.mark ?? 0)) this.#hasNewMarks = true;
    this.#leave(id);
    this.#byId.set(id, { nodeId, generation, through: higher, mark: highest });
    this.#holdingCount += Number(higher > highest);
    if (higher === highest) this.#dropKeys(id);
    if (this.#byId.size > MAX_LOST) this.#drop(this.#eldest());
  }

  /**
   * Tombstones can no longer be kept, so all records that the lost origins wrote before they were forgotten stay hidden instead; one origin
   * may be left out.
   */
  markAll(exceptId?: string): void {
    for (const { nodeId, generation, through } of this.list)
      if (`${nodeId}/${generation}` !== exceptId) this.note({ nodeId, generation, through, mark: through });
  }

  /** Marks an origin: it holds an entry whose end its node does not know, and the tombstone goes. */
  markAs({ nodeId, generation, through, log }: Origin): void {
    const mark = Math.max(through, log.lastOrder);
    this.note({ nodeId, generation, through: mark, mark });
  }

  /** Whether an origin came back since the last call. */
  takeBack(): boolean {
    const wasNew = this.#isBackNew;
    this.#isBackNew = false;
    return wasNew;
  }

  /** Whether there were new marks since the last call. */
  takeMarked(): boolean {
    const hadNew = this.#hasNewMarks;
    this.#hasNewMarks = false;
    return hadNew;
  }

  /** Notes that the record ended a record of an origin that is no longer here. */
  ender(stored: StoredRecord): void {
    this.#enders.add(stored);
  }

  /**
   * A record that may have ended a record of a lost origin goes. The given records with the same statement stay, so they take its place.
   */
  handOn(stored: StoredRecord, others: readonly StoredRecord[]): void {
    if (this.#enders.has(stored)) for (const other of others) this.#enders.add(other);
  }

  /**
   * A node is back and must hear all changes that it missed, also in a later generation, in which its records may continue. For a node that
   * has left, and for marks of its earlier generations, this is over.
   */
  memberChanged({ nodeId, generation }: Pick<LostOrigin, "nodeId" | "generation">, status: string): void {
    if (status === "dead") return;
    for (const [id, lost] of this.#byId) {
      if (lost.nodeId !== nodeId || lost.generation > generation) continue;
      const isLater = lost.generation < generation;
      if (status === "left" || (isLater && lost.through === lost.mark)) this.#drop(id);
      else if (lost.through > lost.mark) {
        if (!this.#back.has(id)) this.#isBackNew = true;
        this.#back.set(id, isLater);
      }
    }
  }

  /** All nodes have been in step for long, so all returned nodes have heard everything. Marks stay. */
  settle(): void {
    for (const [id, isLater] of this.#back) {
      const { nodeId, generation, mark } = this.#byId.get(id) ?? { nodeId: "", generation: 0, mark: 0 };
      this.#drop(id);
      if (mark > 0 && !isLater) this.#byId.set(id, { nodeId, generation, through: mark, mark });
    }
    this.#back.clear();
  }

  #drop(id: string): void {
    this.#leave(id);
    this.#dropKeys(id);
  }

  #dropKeys(id: string): void {
    this.#keyCount -= this.#keys.get(id)?.hashes.length ?? 0;
    this.#keys.delete(id);
  }

  #leave(id: string): void {
    const held = this.#byId.get(id);
    if (held !== undefined && held.through > held.mark) this.#holdingCount -= 1;
    this.#byId.delete(id);
  }

  /** An origin that is only marked, if there is one. */
  #eldest(): string {
    for (const [id, { through, mark }] of this.#byId) if (through === mark) return id;
    return this.#byId.keys().next().value ?? "";
  }
}
