/**
 * Estimates how often names were requested recently, including names that are not cached. It uses a count-min sketch whose counts are halved
 * periodically (Cormode and Muthukrishnan, 2005; Einziger, Friedman and Manes, "TinyLFU", 2017). An estimate may be too high when names share their
 * counters, but never too low.
 */
import { mix32 } from "../../lib/hash64.ts";

const ROWS = 4;
const MAX_COUNT = 255;
const MIN_COUNTERS = 16_384;
/** Counts are halved after this many requests per name that can be cached. */
const ASKS_A_NAME = 16;
const FNV_START = 0x811c9dc5;
const FNV_PRIME = 0x01000193;

export class NamePopularity {
  readonly #counts: Uint8Array;
  /** The same memory with four counts per word, so that halving all counts blocks the event loop for only milliseconds. */
  readonly #words: Uint32Array;
  readonly #mask: number;
  readonly #period: number;
  #asks = 0;
  /** Counter positions of the last name, cached because a request for a name is often followed by reading its count. */
  readonly #places = new Uint32Array(ROWS);
  #placed: string | undefined;

  /** `names` is the approximate number of names that can be cached. */
  constructor(names: number) {
    const counters = 2 ** Math.ceil(Math.log2(Math.max(MIN_COUNTERS, names * 4)));
    this.#mask = counters - 1;
    this.#counts = new Uint8Array(counters * ROWS);
    this.#words = new Uint32Array(this.#counts.buffer);
    this.#period = Math.max(MIN_COUNTERS, names) * ASKS_A_NAME;
  }

  /** Memory in bytes. */
  get bytes(): number {
    return this.#counts.length;
  }

  /** Counts one request. HOT: runs per lookup. */
  ask(name: string): void {
    const counts = this.#counts;
    const count = this.of(name);
    // Only the lowest counters are incremented, because only they may be exact.
    if (count < MAX_COUNT) for (const place of this.#places) if (counts[place] === count) counts[place] = count + 1;
    this.#asks += 1;
    if (this.#asks >= this.#period) this.#halve();
  }

  /** Returns an estimate of how often the name was requested recently. */
  of(name: string): number {
    if (this.#placed !== name) this.#place(name);
    let least = MAX_COUNT;
    for (const place of this.#places) least = Math.min(least, this.#counts[place] ?? 0);
    return least;
  }

  #place(name: string): void {
    // The hash is 32-bit FNV-1a over the code units. Two names with the same hash share all counters and therefore one count.
    let hash = FNV_START;
    for (let i = 0; i < name.length; i++) hash = Math.imul(hash ^ name.charCodeAt(i), FNV_PRIME);
    const low = mix32(hash);
    const step = mix32(low) | 1;
    for (let row = 0; row < ROWS; row++) this.#places[row] = row * (this.#mask + 1) + (((low + Math.imul(row, step)) >>> 0) & this.#mask);
    this.#placed = name;
  }

  #halve(): void {
    const words = this.#words;
    // The bit shifted out of a count moves into the adjacent count, where the mask clears it.
    for (let i = 0; i < words.length; i++) words[i] = ((words[i] ?? 0) >>> 1) & 0x7f7f7f7f;
    this.#asks = 0;
  }
}
