/** Patterns of namespaces, compiled once: a namespace costs a search in a sorted list, however many patterns a neighbour tells. */
import { BELOW } from "../../policy/set/rules.ts";

/** The pattern that covers every namespace. An empty list of patterns means nothing on the wire, and everything in the settings. */
export const EVERYTHING = "*";
/** Ends each label, so that `svc.market` covers `svc.market.eu` and not `svc.marketing`. */
const END = ".";

interface Prefix {
  /** With its end. */
  readonly text: string;
  /** The namespace itself is not covered, only what is below it. */
  readonly isBelow: boolean;
}

export class Patterns {
  readonly #coversAll: boolean;
  /** Sorted. None is within another one, so of all that stand before a namespace only the last can cover it. */
  readonly #prefixes: readonly Prefix[];

  /** `p` covers p and the namespaces below it, `p.*` only those below it, and `*` everything. */
  constructor(patterns: readonly string[]) {
    let coversAll = false;
    const all: Prefix[] = [];
    for (const pattern of patterns) {
      const isBelow = pattern.endsWith(BELOW);
      const name = isBelow ? pattern.slice(0, -BELOW.length) : pattern;
      if (pattern === EVERYTHING || name === "") coversAll = true;
      else all.push({ text: name + END, isBelow });
    }
    this.#coversAll = coversAll;
    this.#prefixes = coversAll ? [] : outermost(all);
  }

  covers(namespace: string): boolean {
    if (this.#coversAll) return true;
    const text = namespace + END;
    const last = this.#prefixes[this.#countUpTo(text) - 1];
    return last !== undefined && text.startsWith(last.text) && !(last.isBelow && text.length === last.text.length);
  }

  /** How many prefixes do not come behind the text. */
  #countUpTo(text: string): number {
    let [low, high] = [0, this.#prefixes.length];
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.#prefixes[middle]?.text ?? "") <= text) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

/** Those that are within no other one, sorted. */
function outermost(prefixes: readonly Prefix[]): readonly Prefix[] {
  const kept: Prefix[] = [];
  // Of two with the same text the one that covers more is first.
  const sorted = prefixes.toSorted((a, b) => (a.text === b.text ? Number(a.isBelow) - Number(b.isBelow) : a.text < b.text ? -1 : 1));
  for (const prefix of sorted) {
    const last = kept.at(-1);
    if (last === undefined || !prefix.text.startsWith(last.text)) kept.push(prefix);
  }
  return kept;
}
