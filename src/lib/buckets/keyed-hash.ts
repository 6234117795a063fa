/**
 * HalfSipHash-2-4 (Aumasson and Bernstein), 64 bits, for tables whose keys are chosen by clients. A client that does not know the hash key cannot
 * find two texts with the same hash. FNV (`hash64.ts`) does not guarantee this, even with a secret start value.
 */
import type { Hash64 } from "../hash64.ts";

/** 64 random bits, as two 32-bit numbers. They must stay secret within the process. */
export type HashKey = readonly [low: number, high: number];

/** Hash of the text's UTF-16 code units, starting with the low byte of each. HOT: runs for each rate-limited call if threads share the limits. */
export function keyedHash(text: string, [keyLow, keyHigh]: HashKey): Hash64 {
  let a = keyLow | 0;
  let b = keyHigh ^ 0xee;
  let c = keyLow ^ 0x6c796765;
  let d = keyHigh ^ 0x74656462;
  let low = 0;
  // The last word contains the length. It is followed by two steps without a word, each of which produces half of the hash.
  const last = text.length >> 1;
  for (let i = 0; i <= last + 2; i += 1) {
    const word = i <= last ? wordOf(text, i) : 0;
    d ^= word;
    if (i === last + 1) c ^= 0xee;
    if (i === last + 2) b ^= 0xdd;
    for (let round = i <= last ? 2 : 4; round > 0; round -= 1) {
      a = (a + b) | 0;
      b = rotated(b, 5) ^ a;
      a = rotated(a, 16);
      c = (c + d) | 0;
      d = rotated(d, 8) ^ c;
      a = (a + d) | 0;
      d = rotated(d, 7) ^ a;
      c = (c + b) | 0;
      b = rotated(b, 13) ^ c;
      c = rotated(c, 16);
    }
    a ^= word;
    if (i === last + 1) low = b ^ d;
  }
  return { low: low >>> 0, high: (b ^ d) >>> 0 };
}

/** Two code units, or the rest of the text and eight bits of its length in bytes. */
function wordOf(text: string, i: number): number {
  const at = 2 * i;
  if (at + 1 < text.length) return text.charCodeAt(at) | (text.charCodeAt(at + 1) << 16);
  return (at < text.length ? text.charCodeAt(at) : 0) | (text.length << 25);
}

function rotated(word: number, bits: number): number {
  return (word << bits) | (word >>> (32 - bits));
}
