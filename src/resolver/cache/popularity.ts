/**
 * How often names were asked for lately, also names that are not kept: a count-min sketch whose counts are halved from time to time (Cormode and
 * Muthukrishnan, 2005; Einziger, Friedman and Manes, "TinyLFU", 2017). An answer may be too high when names share their counters, never too low.
 */
import { mix32 } from "../../lib/hash64.ts";

const ROWS = 4;
const MAX_COUNT = 255;
const MIN_COUNTERS = 16_384;
/** Counts are halved after so many asks for each name that may be kept. */
const ASKS_A_NAME = 16;
const FNV_START = 0x811c9dc5;
const FNV_PRIME = 0x01000193;

export class NamePopularity {
  readonly #counts: Uint8Array;
  /** The same memory, four counts a word: so all of it is halved in milliseconds, though nothing else can run meanwhile. */
  readonly #words: Uint32Array;
  readonly #mask: number;
  readonly #period: number;
  #asks = 0;
  /** The places of the name that was looked up last: who asks for a name often asks how often it was asked for. */
  readonly #places = new Uint32Array(ROWS);
  #placed: string | undefined;

  /** `names`: about how many names are kept at most. */
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

  /** Counts one ask. HOT: once a lookup. */
  ask(name: string): void {
    const counts = this.#counts;
    const count = this.of(name);
    // Only the lowest counters rise, since only they may be exact.
    if (count < MAX_COUNT) for (const place of this.#places) if (counts[place] === count) counts[place] = count + 1;
    this.#asks += 1;
    if (this.#asks >= this.#period) this.#halve();
  }

  /** About how often the name was asked for lately. */
  of(name: string): number {
    if (this.#placed !== name) this.#place(name);
    let least = MAX_COUNT;
    for (const place of this.#places) least = Math.min(least, this.#counts[place] ?? 0);
    return least;
  }

  #place(name: string): void {
    // FNV-1a of the code units, in 32 bits: two names that share all places are only asked for together.
    let hash = FNV_START;
    for (let i = 0; i < name.length; i++) hash = Math.imul(hash ^ name.charCodeAt(i), FNV_PRIME);
    const low = mix32(hash);
    const step = mix32(low) | 1;
    for (let row = 0; row < ROWS; row++) this.#places[row] = row * (this.#mask + 1) + (((low + Math.imul(row, step)) >>> 0) & this.#mask);
    this.#placed = name;
  }

  #halve(): void {
    const words = this.#words;
    // The bit that a count loses comes to its neighbour, where it is cleared.
    for (let i = 0; i < words.length; i++) words[i] = ((words[i] ?? 0) >>> 1) & 0x7f7f7f7f;
    this.#asks = 0;
  }
}
