/** Finds the valid word closest to a mistyped one, for messages that end in "did you mean". */

/** Edit distance with insertion, deletion, replacement, and transposition of adjacent letters, each at a cost of 1. */
function distance(a: string, b: string): number {
  let before: number[] = [];
  let above = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      const same = a[i - 1] === b[j - 1];
      let best = Math.min((above[j] ?? 0) + 1, (row[j - 1] ?? 0) + 1, (above[j - 1] ?? 0) + (same ? 0 : 1));
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]) best = Math.min(best, (before[j - 2] ?? 0) + 1);
      row.push(best);
    }
    before = above;
    above = row;
  }
  return above[b.length] ?? 0;
}

/**
 * The candidate nearest to `word`. Undefined if more than one in `alike` of the letters differs in every candidate. If there is a tie, the first
 * candidate is returned.
 */
export function findNearest(word: string, candidates: readonly string[], alike = 2): string | undefined {
  let nearest: string | undefined;
  let least = Number.POSITIVE_INFINITY;
  // A long word is shortened, because the cost grows with the product of the lengths.
  const query = word.slice(0, 128).toLowerCase();
  for (const candidate of candidates) {
    const steps = distance(query, candidate.toLowerCase());
    if (steps < least && steps * alike <= Math.max(candidate.length, 2)) {
      least = steps;
      nearest = candidate;
    }
  }
  return nearest;
}

/**
 * The end of a message about an unknown word: `; did you mean listen?`, or an empty text if no candidate is similar. `before` precedes the candidate.
 */
export function didYouMean(word: string, candidates: readonly string[], before = ""): string {
  const nearest = findNearest(word, candidates);
  return nearest === undefined ? "" : `; did you mean ${before}${nearest}?`;
}
