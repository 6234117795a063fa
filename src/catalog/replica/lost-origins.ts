/**
 * Origins that were forgotten and have not left: they may come back with what was unregistered while they were away, so tombstones are
 * kept for them; and marks, where no tombstone could be (semantics.md, Orphans). No clock is in any of it: of two words the higher wins.
 */

import type { KeyText } from "../record/record.ts";
import type { Origin, StoredRecord } from "../record/stored-record.ts";
import { hasHash, keyHash, type LostKeys } from "./lost-keys.ts";

/** What is told of one. */
export interface LostOrigin {
  readonly nodeId: string;
  readonly generation: number;
  /** Its number when it was forgotten. */
  readonly through: number;
  /** What it wrote up to here stays hidden; 0: nothing. Tombstones are kept for it while this is below `through`. */
  readonly mark: number;
}

/** Origins remembered so; also the most that a message tells of. */
export const MAX_LOST = 1000;
/** Keys remembered of all of them together: 4 MB. */
const MAX_ALL_KEYS = 1_048_576;

export class LostOrigins {
  readonly #byId = new Map<string, LostOrigin>();
  /** Ids of those that are there again and may not have heard everything yet, and whether they are in a later generation, to which no mark goes over. */
  readonly #back = new Map<string, boolean>();
  /** Tombstones that ended a record of one that was forgotten here. */
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

  /** Whether a tombstone may be the only one that keeps something gone. */
  get isHolding(): boolean {
    return this.#holdingCount > 0;
  }

  markOf(id: string): number {
    return this.#byId.get(id)?.mark ?? 0;
  }

  /** It is forgotten here. */
  forgotten({ id, nodeId, generation, through, log }: Origin): void {
    this.#back.delete(id);
    this.note({ nodeId, generation, through: Math.max(through, log.lastOrder), mark: 0 });
  }

  /** Keys that one had entries of: those of its highest number count. Dropped where there is no room for more. */
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

  /** Whether a tombstone of that key may have ended a record of one, above its mark. */
  mayNeed(key: KeyText): boolean {
    return this.#isOf(key, "maybe") || this.#isOf(key, "surely");
  }

  /** Whether it is to be marked that this tombstone goes: it ended a record of one, or its key is one of theirs. */
  needs(stored: StoredRecord): boolean {
    return this.#isOf(stored.key, "surely") || (this.#enders.has(stored) && this.#isOf(stored.key, "maybe"));
  }

  /** `maybe`: of one whose keys are not all known. */
  #isOf(key: KeyText, how: "surely" | "maybe"): boolean {
    const hash = how === "surely" ? keyHash(key) : 0;
    for (const [id, { through, mark }] of this.#byId) {
      if (through === mark) continue;
      const keys = this.#keys.get(id);
      if (how === "maybe" ? keys === undefined || keys.through < through : keys !== undefined && hasHash(keys, hash)) return true;
    }
    return false;
  }

  /** A word about one, from whomever: the higher numbers win. */
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

  /** Tombstones cannot be kept any more: all that those wrote before they were forgotten stays hidden instead; but for one. */
  markAll(exceptId?: string): void {
    for (const { nodeId, generation, through } of this.list)
      if (`${nodeId}/${generation}` !== exceptId) this.note({ nodeId, generation, through, mark: through });
  }

  /** It holds something that its node does not know to be gone, and the tombstone goes. */
  markAs({ nodeId, generation, through, log }: Origin): void {
    const mark = Math.max(through, log.lastOrder);
    this.note({ nodeId, generation, through: mark, mark });
  }

  /** Whether somebody came back since the last call. */
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

  /** That stored record ended a record of an origin that is gone from here. */
  ender(stored: StoredRecord): void {
    this.#enders.add(stored);
  }

  /** A record goes that may have ended something of one, and these, which say the same, stay: now they may have. */
  handOn(stored: StoredRecord, others: readonly StoredRecord[]): void {
    if (this.#enders.has(stored)) for (const other of others) this.#enders.add(other);
  }

  /**
   * A node that is there is to hear what it missed, in a later generation too: what it had may go on in that one. One that has left, and a mark of
   * what a node was before, is over.
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

  /** Everybody has been in step for long: who was back has heard everything. Marks stay. */
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

  /** One that is only marked, if there is one. */
  #eldest(): string {
    for (const [id, { through, mark }] of this.#byId) if (through === mark) return id;
    return this.#byId.keys().next().value ?? "";
  }
}
