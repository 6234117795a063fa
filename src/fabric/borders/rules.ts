/** Which namespaces a side of a border exports, and what both sides therefore compare (docs/design/summaries.md, What crosses a border). */
import { namespaceCovers } from "../../catalog/entry/names.ts";
import { BELOW } from "../../policy/set/rules.ts";
import type { Border } from "./border.ts";
import type { BorderSummaries, DigestFilter } from "./ports.ts";

/** The pattern that covers every namespace. An empty list of patterns means nothing on the wire, and everything in the settings. */
const EVERYTHING = "*";

/** The export rule of the settings, as it is told to the other side. */
export function toldExports(settings: readonly string[]): readonly string[] {
  return settings.length === 0 ? [EVERYTHING] : settings;
}

/**
 * Whether the import rules let summaries of a source and namespace be shown. A border that names the source decides. Of other sources it is enough that
 * one border lets them in. Without borders all are shown.
 */
export function isImported(borders: readonly Pick<Border, "clusterId" | "imports">[], source: string, namespace: string): boolean {
  const own = borders.filter(({ clusterId }) => clusterId === source);
  const asked = own.length > 0 ? own : borders;
  return asked.length === 0 || asked.some(({ imports }) => imports.length === 0 || isExported(imports, namespace));
}

/** Whether patterns cover a namespace: `p` covers p and those below it, `p.*` only those below it. */
export function isExported(patterns: readonly string[], namespace: string): boolean {
  return patterns.some((pattern) => {
    if (pattern === EVERYTHING) return true;
    if (!pattern.endsWith(BELOW)) return namespaceCovers(pattern, namespace);
    const above = pattern.slice(0, -BELOW.length);
    return namespace.length > above.length && namespaceCovers(above, namespace);
  });
}

/** Filters kept. Neighbours make them up, so the one that was asked for longest ago goes. */
const MAX_FILTERS = 64;

/** Filters of digests. Links with the same rules share one, so that its sums are kept once. */
export class Filters {
  readonly #regionOf: BorderSummaries["regionOf"];
  readonly #byText = new Map<string, DigestFilter>();

  constructor(regionOf: BorderSummaries["regionOf"]) {
    this.#regionOf = regionOf;
  }

  get size(): number {
    return this.#byText.size;
  }

  /** What passes the patterns and is not of this region. */
  obtain(patterns: readonly string[], without: string): DigestFilter {
    const text = [without, ...patterns].join("\n");
    const known = this.#byText.get(text);
    const filter = known ?? this.#made(patterns, without);
    this.#byText.delete(text);
    for (const [oldest] of this.#byText) if (this.#byText.size >= MAX_FILTERS) this.#byText.delete(oldest);
    this.#byText.set(text, filter);
    return filter;
  }

  #made(patterns: readonly string[], without: string): DigestFilter {
    const passing = new Map<string, boolean>();
    return {
      passes: (source, namespace) => {
        const region = this.#regionOf(source);
        if (region === undefined || region === without) return false;
        const known = passing.get(namespace);
        if (known !== undefined) return known;
        if (passing.size >= MAX_NAMESPACES) passing.clear();
        const isPassing = isExported(patterns, namespace);
        passing.set(namespace, isPassing);
        return isPassing;
      },
    };
  }
}

/** Verdicts on namespaces that a filter remembers. */
const MAX_NAMESPACES = 10_000;
