/** Chance that nobody foresees, for what draws often: a DNS answer of a thousand addresses draws a thousand numbers. */

/** Asking the system for four bytes costs more than a microsecond, for four thousand little more. */
const WORDS = 1024;

/** Numbers from 0 to below 1, made of what `fill` writes. */
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
