/** Patterns of namespaces, compiled once: a namespace costs a search in a sorted list, however many patterns a neighbour tells. */
import { BELOW } from "../../../policy/set/rules.ts";

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
      const prefix = prefixOf(pattern);
      if (prefix === undefined) coversAll = true;
      else all.push(prefix);
    }
    this.#coversAll = coversAll;
    this.#prefixes = coversAll ? [] : outermost(all);
  }

  covers(namespace: string): boolean {
    return this.#coversAll || this.#has(namespace + END, false);
  }

  /** Whether it covers all that the pattern covers. */
  includes(pattern: string): boolean {
    if (this.#coversAll) return true;
    const prefix = prefixOf(pattern);
    return prefix !== undefined && this.#has(prefix.text, prefix.isBelow);
  }

  /** The fewest patterns that cover the same, sorted. */
  get list(): readonly string[] {
    if (this.#coversAll) return [EVERYTHING];
    return this.#prefixes.map(({ text, isBelow }) => text.slice(0, -END.length) + (isBelow ? BELOW : ""));
  }

  #has(text: string, isBelow: boolean): boolean {
    const last = this.#prefixes[this.#countUpTo(text) - 1];
    return last !== undefined && text.startsWith(last.text) && (isBelow || !last.isBelow || text.length > last.text.length);
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

/** What both cover. Of two patterns one is within the other, or they have nothing in common. */
export function meet(some: readonly string[], other: Patterns): readonly string[] {
  const one = new Patterns(some);
  return new Patterns([...one.list.filter((pattern) => other.includes(pattern)), ...other.list.filter((pattern) => one.includes(pattern))])
    .list;
}

/** Undefined of a pattern that covers everything. */
function prefixOf(pattern: string): Prefix | undefined {
  const isBelow = pattern.endsWith(BELOW);
  const name = isBelow ? pattern.slice(0, -BELOW.length) : pattern;
  return pattern === EVERYTHING || name === "" ? undefined : { text: name + END, isBelow };
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
