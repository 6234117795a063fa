/**
 * Stores byte strings in a few large buffers. An entry of 150 bytes needs 459 bytes in its own Buffer, but only 160 bytes in a slab. Block sizes are
 * multiples of 16 bytes. Free blocks are chained through their own bytes, so an empty slab uses no heap, however full it was before.
 */
import { assert } from "../../lib/errors.ts";

const CHUNK_BYTES = 1_048_576;
const UNIT_BYTES = 16;
const UNITS_PER_CHUNK = CHUNK_BYTES / UNIT_BYTES;
const WORDS_PER_UNIT = UNIT_BYTES / 4;
/** Maximum number of chunks, 32 GiB in total. Addresses remain below 2^31, so that V8 treats them as small integers. */
const MAX_CHUNKS = 32_768;
/** Large enough for an entry of 16 KiB with load and times. */
const DEFAULT_MAX_BYTES = 65_536;
/** Below this size a loop is faster than `set`, which costs 45 ns for any size; measured on Node 24. */
const LOOP_BYTES = 32;
const NONE = -1;
/** The words of a free block: the next free block of its size, the previous one, and its size in units. */
const NEXT = 0;
const PREVIOUS = 1;
const UNITS = 2;

interface SlabChunk {
  readonly bytes: Uint8Array;
  readonly words: Int32Array;
  /** Number of units in use. */
  liveUnits: number;
}

export interface SlabStats {
  readonly chunks: number;
  /** Total size of the blocks in use, including rounding. */
  readonly usedBytes: number;
  readonly freeBytes: number;
}

export class Slab {
  readonly #maxUnits: number;
  readonly #chunks: SlabChunk[] = [];
  /** Empty chunks that can be divided into blocks again. */
  readonly #empty: number[] = [];
  /** The first free block of each size, by size in units. */
  readonly #heads: Int32Array;
  /** The chunk that is being divided, and the next unit in it. */
  #current = NONE;
  #cut = UNITS_PER_CHUNK;
  #usedUnits = 0;

  /** Accepts byte strings of up to `maxBytes`, at most one chunk of 1 MiB. */
  constructor(maxBytes = DEFAULT_MAX_BYTES) {
    assert(maxBytes >= 1 && maxBytes <= CHUNK_BYTES, "the maximum block size of a slab is less than 1 byte or larger than a chunk", {
      maxBytes,
    });
    this.#maxUnits = unitsOf(maxBytes);
    this.#heads = new Int32Array(this.#maxUnits + 1).fill(NONE);
  }

  /** Stores a copy of at least 1 byte. Returns its address, a small integer that is valid until `free`. */
  put(bytes: Uint8Array): number {
    const size = bytes.length;
    const units = unitsOf(size);
    assert(size > 0 && units <= this.#maxUnits, "the slab cannot store a value of this size", {
      size,
      maxBytes: this.#maxUnits * UNIT_BYTES,
    });
    const at = this.#take(units);
    const chunk = this.#chunk(at);
    chunk.liveUnits += units;
    this.#usedUnits += units;
    const start = offsetOf(at);
    if (size <= LOOP_BYTES) for (let i = 0; i < size; i++) chunk.bytes[start + i] = bytes[i] ?? 0;
    else chunk.bytes.set(bytes, start);
    return at;
  }

  /** Frees a byte string. `at` is the address that `put` returned, and `sizeBytes` is the size of the stored bytes. */
  free(at: number, sizeBytes: number): void {
    const units = unitsOf(sizeBytes);
    const chunk = this.#chunk(at);
    assert(units <= chunk.liveUnits, "a slab block was freed twice or with the wrong size", { at, sizeBytes });
    chunk.liveUnits -= units;
    this.#usedUnits -= units;
    this.#link(at, units);
    const index = chunkOf(at);
    if (chunk.liveUnits === 0 && index !== this.#current) this.#empty.push(this.#unlinkAll(index));
  }

  /** Copies a stored byte string to `target` at `offset`. Returns the offset after it. */
  copyTo(at: number, sizeBytes: number, target: Uint8Array, offset: number): number {
    const { bytes } = this.#chunk(at);
    const start = offsetOf(at);
    // HOT: runs for each entry of every answer and delta.
    if (sizeBytes <= LOOP_BYTES) for (let i = 0; i < sizeBytes; i++) target[offset + i] = bytes[start + i] ?? 0;
    else target.set(bytes.subarray(start, start + sizeBytes), offset);
    return offset + sizeBytes;
  }

  /** Returns a view of the stored bytes. The caller must read them before they are freed, and must not keep the view. */
  view(at: number, sizeBytes: number): Uint8Array {
    const start = offsetOf(at);
    return this.#chunk(at).bytes.subarray(start, start + sizeBytes);
  }

  /** Whether the first `sizeBytes` stored at `at` are exactly `bytes`. */
  equals(at: number, sizeBytes: number, bytes: Uint8Array): boolean {
    if (sizeBytes !== bytes.length) return false;
    const stored = this.#chunk(at).bytes;
    const start = offsetOf(at);
    for (let i = 0; i < sizeBytes; i++) if (stored[start + i] !== bytes[i]) return false;
    return true;
  }

  stats(): SlabStats {
    const chunks = this.#chunks.length;
    const usedBytes = this.#usedUnits * UNIT_BYTES;
    return { chunks, usedBytes, freeBytes: chunks * CHUNK_BYTES - usedBytes };
  }

  /**
   * Allocates a block of this many units. It uses the first of these that is available: a free block of this size, undivided space, the front of a
   * larger free block, or a new chunk.
   */
  #take(units: number): number {
    const head = this.#heads[units] ?? NONE;
    if (head !== NONE) return this.#takeFree(head, units);
    if (this.#cut + units > UNITS_PER_CHUNK) {
      const larger = this.#empty.length === 0 ? this.#findLarger(units) : NONE;
      if (larger !== NONE) return this.#takeFree(larger, units);
      this.#nextChunk();
    }
    const at = this.#current * UNITS_PER_CHUNK + this.#cut;
    this.#cut += units;
    return at;
  }

  #findLarger(units: number): number {
    for (let size = units + 1; size <= this.#maxUnits; size++) {
      const head = this.#heads[size] ?? NONE;
      if (head !== NONE) return head;
    }
    return NONE;
  }

  /** Uses the front of a free block. The remaining units become a smaller free block. */
  #takeFree(at: number, units: number): number {
    const size = this.#chunk(at).words[wordOf(at) + UNITS] ?? 0;
    this.#unlink(at, size);
    if (size > units) this.#link(at + units, size - units);
    return at;
  }

  #nextChunk(): void {
    if (this.#current !== NONE) this.#retire(this.#current);
    const empty = this.#empty.pop();
    if (empty !== undefined) this.#current = empty;
    else {
      assert(this.#chunks.length < MAX_CHUNKS, "the slab already has the maximum number of chunks", { chunks: this.#chunks.length });
      const buffer = new ArrayBuffer(CHUNK_BYTES);
      this.#current = this.#chunks.length;
      this.#chunks.push({ bytes: new Uint8Array(buffer), words: new Int32Array(buffer), liveUnits: 0 });
    }
    this.#cut = 0;
  }

  /** Turns the undivided rest of the current chunk into a free block, or marks the whole chunk as free if it is empty. */
  #retire(index: number): void {
    const base = index * UNITS_PER_CHUNK;
    if (this.#cut < UNITS_PER_CHUNK) this.#link(base + this.#cut, UNITS_PER_CHUNK - this.#cut);
    if (this.#chunk(base).liveUnits === 0) this.#empty.push(this.#unlinkAll(index));
  }

  /** Removes all blocks of an empty chunk from their lists, so that the chunk can be divided again for other sizes. */
  #unlinkAll(index: number): number {
    const base = index * UNITS_PER_CHUNK;
    const { words } = this.#chunk(base);
    for (let unit = 0; unit < UNITS_PER_CHUNK; ) {
      const units = words[unit * WORDS_PER_UNIT + UNITS] ?? 0;
      assert(units > 0, "a slab chunk is not completely divided into blocks", { index, unit });
      this.#unlink(base + unit, units);
      unit += units;
    }
    return index;
  }

  #link(at: number, units: number): void {
    const { words } = this.#chunk(at);
    const word = wordOf(at);
    words[word + UNITS] = units;
    words[word + PREVIOUS] = NONE;
    // Only a block at the end of a chunk can be larger than any request. Such a block is listed under the largest size and used piece by piece.
    const listed = Math.min(units, this.#maxUnits);
    const next = this.#heads[listed] ?? NONE;
    words[word + NEXT] = next;
    if (next !== NONE) this.#chunk(next).words[wordOf(next) + PREVIOUS] = at;
    this.#heads[listed] = at;
  }

  #unlink(at: number, units: number): void {
    const { words } = this.#chunk(at);
    const word = wordOf(at);
    const next = words[word + NEXT] ?? NONE;
    const previous = words[word + PREVIOUS] ?? NONE;
    if (previous === NONE) this.#heads[Math.min(units, this.#maxUnits)] = next;
    else this.#chunk(previous).words[wordOf(previous) + NEXT] = next;
    if (next !== NONE) this.#chunk(next).words[wordOf(next) + PREVIOUS] = previous;
  }

  #chunk(at: number): SlabChunk {
    const chunk = this.#chunks[chunkOf(at)];
    assert(chunk !== undefined, "the address is not in this slab", { at });
    return chunk;
  }
}

function unitsOf(sizeBytes: number): number {
  return (sizeBytes + UNIT_BYTES - 1) >>> 4;
}

function chunkOf(at: number): number {
  return at >>> 16;
}

function offsetOf(at: number): number {
  return (at & 0xffff) << 4;
}

function wordOf(at: number): number {
  return (at & 0xffff) * WORDS_PER_UNIT;
}
