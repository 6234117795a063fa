/** Random numbers: seeded numbers for machines, which are the same for the same seed, and unpredictable numbers from the system. */
import { assert } from "./errors.ts";
import { mix32 } from "./hash64.ts";

/**
 * Seeded random numbers, with a separate stream for each component. The generator is sfc32 (Chris Doty-Humphrey, PractRand): 128 bits of state,
 * period about 2^128, not for secrets.
 */
export class Rng {
  readonly #seed: string;
  #a: number;
  #b: number;
  #c: number;
  #counter = 1;

  constructor(seed: string | number) {
    this.#seed = String(seed);
    const [a, b, c] = seedWords(this.#seed);
    this.#a = a;
    this.#b = b;
    this.#c = c;
    // The first outputs still resemble the seed.
    for (let i = 0; i < 12; i++) this.uint32();
  }

  /** A stream that depends only on this stream's seed and on the name, never on numbers that were drawn before. */
  fork(name: string): Rng {
    return new Rng(`${this.#seed}/${name}`);
  }

  /** A whole number, 0 ≤ n < 2^32. */
  uint32(): number {
    const sum = (this.#a + this.#b + this.#counter) | 0;
    this.#counter = (this.#counter + 1) | 0;
    this.#a = this.#b ^ (this.#b >>> 9);
    this.#b = (this.#c + (this.#c << 3)) | 0;
    this.#c = (((this.#c << 21) | (this.#c >>> 11)) + sum) | 0;
    return sum >>> 0;
  }

  /** A number x with 53 random bits, 0 ≤ x < 1. */
  next(): number {
    const high = this.uint32() >>> 5;
    const low = this.uint32() >>> 6;
    return (high * 2 ** 26 + low) / 2 ** 53;
  }

  /** A whole number, 0 ≤ x < n, for 1 ≤ n ≤ 2^53. */
  int(n: number): number {
    assert(Number.isSafeInteger(n) && n >= 1, "the argument of rng.int is not a positive whole number", { n });
    return Math.floor(this.next() * n);
  }
}

/** Three well-mixed words from a seed text (MurmurHash3's 32-bit finalizer over FNV-1a with three offsets). */
function seedWords(seed: string): [number, number, number] {
  return [hashText(seed, 0x811c9dc5), hashText(seed, 0x9e3779b9), hashText(seed, 0x85ebca6b)];
}

function hashText(text: string, offset: number): number {
  let hash = offset;
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193);
  return mix32(hash) | 0;
}

/**
 * Number of random words that are requested from the system in one call, because a request for four bytes costs more than a microsecond, and a
 * request for four thousand bytes costs only a little more.
 */
const WORDS = 1024;

/**
 * Draws unpredictable numbers x, 0 ≤ x < 1, from the words that `fill` writes. A DNS answer with a thousand addresses draws a thousand numbers.
 */
export function draws(fill: (words: Uint32Array) => void): () => number {
  const words = new Uint32Array(WORDS);
  let next = WORDS;
  return () => {
    if (next === WORDS) {
      fill(words);
      next = 0;
    }
    return (words[next++] ?? 0) / 0x1_0000_0000;
  };
}

/** Returns the items in random order. `random` returns numbers from 0 to below 1. */
export function inRandomOrder<T>(items: readonly T[], random: () => number): readonly T[] {
  const drawn = items.map((item) => ({ item, order: random() }));
  return drawn.toSorted((a, b) => a.order - b.order).map(({ item }) => item);
}
