/**
 * Origins that were forgotten although their nodes have not left the cluster. They may return with entries that were unregistered in the meantime, so
 * nodes keep tombstones for them, or marks if there is no room for tombstones (semantics.md, Orphans). No clock is involved: if two statements
 * differ, the one with the higher number has precedence.
 */

import type { KeyText } from "../record/record.ts";
import type { Origin, StoredRecord } from "../record/stored-record.ts";
import { hasHash, keyHash, type LostKeys } from "./lost-keys.ts";

/** A statement about one lost origin. */
export interface LostOrigin {
  readonly nodeId: string;
  readonly generation: number;
  /** The seq of the origin when it was forgotten. */
  readonly through: number;
  /** Records up to this seq remain hidden; 0 for none. Tombstones are kept for the origin while this is below `through`. */
  readonly mark: number;
}

/** Maximum number of lost origins that are remembered, and also that one message contains. */
export const MAX_LOST = 1000;
/** Maximum number of keys that are remembered for all lost origins together; they use 4 MB. */
const MAX_ALL_KEYS = 1_048_576;

export class LostOrigins {
  readonly #byId = new Map<string, LostOrigin>();
  /**
   * Ids of origins that have returned and may lack some changes. The value is true for an origin whose node is in a later generation, to which no
   * mark applies.
   */
  readonly #back = new Map<string, boolean>();
  /** Tombstones that ended a record of an origin, which was then forgotten on this node. */
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

  /** Notes that this node has forgotten the origin. */
  forgotten({ id, nodeId, generation, through, log }: Origin): void {
    this.#back.delete(id);
    this.note({ nodeId, generation, through: Math.max(through, log.lastOrder), mark: 0 });
  }

  /**
   * Adds the keys of an origin's entries. Keys from the origin's highest seq replace earlier keys. If there is no room, the keys are dropped.
   */
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

  /** Whether more keys can be remembered. */
  get hasRoomForKeys(): boolean {
    return this.#keyCount < MAX_ALL_KEYS;
  }

  /** Whether a tombstone of that key may have ended a record of a lost origin above its mark. */
  mayNeed(key: KeyText): boolean {
    return this.#isOf(key, "maybe") || this.#isOf(key, "surely");
  }

  /** Whether a mark is needed when this tombstone is dropped: it ended a record of a lost origin, or a lost origin has its key. */
  needs(stored: StoredRecord): boolean {
    return this.#isOf(stored.key, "surely") || (this.#enders.has(stored) && this.#isOf(stored.key, "maybe"));
  }

  /** Whether a lost origin has this key (`surely`), or may have it because its keys are not all known (`maybe`). */
  #isOf(key: KeyText, how: "surely" | "maybe"): boolean {
    const hash = how === "surely" ? keyHash(key) : 0;
    for (const [id, { through, mark }] of this.#byId) {
      if (through === mark) continue;
      const keys = this.#keys.get(id);
      if (how === "maybe" ? keys === undefined || keys.through < through : keys !== undefined && hasHash(keys, hash)) return true;
    }
    return false;
  }

  /** Merges a statement about a lost origin from any node. Higher numbers have precedence. */
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
   * Marks all lost origins, because there is no more room for their tombstones: all records that these origins wrote before they were forgotten
   * remain hidden. One origin can be excluded.
   */
  markAll(exceptId?: string): void {
    for (const { nodeId, generation, through } of this.list)
      if (`${nodeId}/${generation}` !== exceptId) this.note({ nodeId, generation, through, mark: through });
  }

  /** Marks an origin whose node does not know that one of its entries has ended, because the tombstone is being dropped. */
  markAs({ nodeId, generation, through, log }: Origin): void {
    const mark = Math.max(through, log.lastOrder);
    this.note({ nodeId, generation, through: mark, mark });
  }

  /** Whether any origin has returned since the last call. */
  takeBack(): boolean {
    const wasNew = this.#isBackNew;
    this.#isBackNew = false;
    return wasNew;
  }

  /** Whether any marks have been added since the last call. */
  takeMarked(): boolean {
    const hadNew = this.#hasNewMarks;
    this.#hasNewMarks = false;
    return hadNew;
  }

  /** Notes that a tombstone ended a record of an origin that this replica no longer has. */
  ender(stored: StoredRecord): void {
    this.#enders.add(stored);
  }

  /**
   * Transfers the role of a tombstone that is being dropped: if it may have ended a record of a lost origin, the given records with the
   * same end take over that role.
   */
  handOn(stored: StoredRecord, others: readonly StoredRecord[]): void {
    if (this.#enders.has(stored)) for (const other of others) this.#enders.add(other);
  }

  /**
   * Handles a membership change. A node that returned must receive all changes that it missed, even in a later generation, in which its records may
   * continue. The statement about a node that has left is dropped, as are marks of its earlier generations.
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

  /** Stops waiting for returned nodes, because all nodes have been in sync for long enough to have received all changes. Marks are kept. */
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

  /** Returns an origin that has only a mark, or else the oldest origin. */
  #eldest(): string {
    for (const [id, { through, mark }] of this.#byId) if (through === mark) return id;
    return this.#byId.keys().next().value ?? "";
  }
}
