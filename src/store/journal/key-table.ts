/**
 * Finds the number (a seq or a lease number) that is stored for a name, by a hash of the name. The table uses 12 bytes per slot in typed arrays. The
 * table is not an index on disk, because the random pages of an index would multiply the bytes written per batch. The hash only finds candidates, and
 * the caller compares them with the stored name, so a collision costs a lookup but never loses data.
 */
import { mix32 } from "../../lib/hash64.ts";

const EMPTY = 0;
const DELETED = -1;
const MIN_SLOTS = 1024;
/** If a larger share of the slots is used, the table grows. */
const MAX_FILL_RATIO = 0.7;

/**
 * Returns a seeded FNV-1a hash with a final mix, over the bytes from `from` to `to`. The seed prevents clients from choosing names with colliding
 * hashes.
 */
export function hashBytes(bytes: Uint8Array, seed: number, from = 0, to = bytes.length): number {
  let hash = (seed ^ 0x811c9dc5) | 0;
  // HOT: runs for each row that is written or replayed.
  for (let i = from; i < to; i++) hash = Math.imul(hash ^ (bytes[i] ?? 0), 0x01000193);
  return mix32(hash);
}

interface SlotUndo {
  readonly slot: number;
  readonly hash: number;
  readonly value: number;
}

/** A hash table with open addressing and linear probing. All values are positive safe integers. All changes since `begin` can be rolled back. */
export class KeyTable {
  #hashes = new Uint32Array(MIN_SLOTS);
  #values = new Float64Array(MIN_SLOTS);
  /** Number of slots that are not EMPTY. */
  #used = 0;
  #size = 0;
  #undo: SlotUndo[] = [];

  /** Number of names. */
  get size(): number {
    return this.#size;
  }

  /** Starts a group of changes with at most `additions` new names. Slots do not move until the next `begin`. */
  begin(additions: number): void {
    this.#undo = [];
    if (this.#used + additions > this.#values.length * MAX_FILL_RATIO) this.#grow(this.#size + additions);
  }

  /** Reverts all changes since `begin`. */
  rollback(): void {
    for (const { slot, hash, value } of this.#undo.toReversed()) this.#write(slot, hash, value);
    this.#undo = [];
  }

  /** Replaces the candidate that `isSame` confirms with `value`, or adds `value` if there is none. Returns whether a candidate was replaced. */
  replace(hash: number, value: number, isSame: (candidate: number) => boolean): boolean {
    const slot = this.#find(hash, isSame);
    this.#record(slot);
    const isReplaced = (this.#values[slot] ?? EMPTY) > 0;
    this.#write(slot, hash, value);
    return isReplaced;
  }

  /** Removes the candidate that `isSame` confirms. Returns its value, or undefined if there is no such candidate. */
  remove(hash: number, isSame: (candidate: number) => boolean): number | undefined {
    const slot = this.#find(hash, isSame);
    const value = this.#values[slot] ?? EMPTY;
    if (value <= 0) return undefined;
    this.#record(slot);
    this.#write(slot, hash, DELETED);
    return value;
  }

  /** Returns the candidate that `isSame` confirms. */
  find(hash: number, isSame: (candidate: number) => boolean): number | undefined {
    const value = this.#values[this.#find(hash, isSame)] ?? EMPTY;
    return value > 0 ? value : undefined;
  }

  /** Adds a name that is known to be absent, without the possibility of a rollback. Used to fill the table. */
  add(hash: number, value: number): void {
    if (this.#used + 1 > this.#values.length * MAX_FILL_RATIO) this.#grow(this.#size + 1);
    this.#write(
      this.#find(hash, () => false),
      hash,
      value,
    );
  }

  /** Returns the slot of the confirmed candidate, or the empty slot that ends the search. */
  #find(hash: number, isSame: (candidate: number) => boolean): number {
    const mask = this.#values.length - 1;
    for (let slot = hash & mask; ; slot = (slot + 1) & mask) {
      const value = this.#values[slot] ?? EMPTY;
      if (value === EMPTY) return slot;
      if (value > 0 && this.#hashes[slot] === hash && isSame(value)) return slot;
    }
  }

  #record(slot: number): void {
    this.#undo.push({ slot, hash: this.#hashes[slot] ?? 0, value: this.#values[slot] ?? EMPTY });
  }

  #write(slot: number, hash: number, value: number): void {
    const before = this.#values[slot] ?? EMPTY;
    this.#used += Number(value !== EMPTY) - Number(before !== EMPTY);
    this.#size += Number(value > 0) - Number(before > 0);
    this.#hashes[slot] = hash;
    this.#values[slot] = value;
  }

  #grow(names: number): void {
    let slots = MIN_SLOTS;
    while (names > slots * MAX_FILL_RATIO * 0.75) slots *= 2;
    const [hashes, values] = [this.#hashes, this.#values];
    this.#hashes = new Uint32Array(slots);
    this.#values = new Float64Array(slots);
    this.#used = 0;
    this.#size = 0;
    for (let slot = 0; slot < values.length; slot++) {
      const value = values[slot] ?? EMPTY;
      const hash = hashes[slot] ?? 0;
      if (value > 0)
        this.#write(
          this.#find(hash, () => false),
          hash,
          value,
        );
    }
  }
}
