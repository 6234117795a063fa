/** Which namespaces a side of a border exports, and what both sides therefore compare (docs/design/summaries.md, What crosses a border). */
import { TokenBucket } from "../../../lib/buckets/token-bucket.ts";
import type { Time } from "../../../lib/machine.ts";
import type { DigestFilter } from "../../../summary/held/digests.ts";
import type { Border } from "../border.ts";
import type { BorderSummaries } from "../options.ts";
import { type BorderOptions } from "../options.ts";
import { EVERYTHING, Patterns } from "./patterns.ts";

/** The patterns of `import` or `export` in the settings, of which an empty list stands for all. Export rules are told to the other side so. */
export function allWhenEmpty(settings: readonly string[]): readonly string[] {
  return settings.length === 0 ? [EVERYTHING] : settings;
}

/**
 * Whether the import rules let summaries of a source and namespace be shown. A border that names the source decides. Of other sources it is enough that
 * one border lets them in. Without borders all are shown. What comes back is asked often.
 */
export function importRule(borders: readonly Pick<Border, "clusterId" | "imports">[]): (source: string, namespace: string) => boolean {
  const all = borders.map(({ clusterId, imports }) => ({ clusterId, patterns: new Patterns(allWhenEmpty(imports)) }));
  const bySource = Map.groupBy(all, ({ clusterId }) => clusterId);
  return (source, namespace) => all.length === 0 || (bySource.get(source) ?? all).some(({ patterns }) => patterns.covers(namespace));
}

interface Used {
  readonly filter: DigestFilter;
  /** Links whose neighbours told it. */
  count: number;
  isOfSettings: boolean;
}

/**
 * Filters of digests. Links with the same rules share one, so that its sums are kept once. Those of the settings stay, because every link of their border needs
 * them again; those that neighbours told stay while a link uses them, because neighbours make them up.
 */
export class Filters {
  readonly #summaries: Pick<BorderSummaries, "letGo" | "regionOf">;
  readonly #options: Pick<BorderOptions, "newRulesBurst" | "newRulesEveryMs">;
  readonly #byText = new Map<string, Used>();
  readonly #texts = new Map<DigestFilter, string>();
  /** By the region of the neighbour: what it may still make up. */
  readonly #allowed = new Map<string, TokenBucket>();

  constructor(summaries: Pick<BorderSummaries, "letGo" | "regionOf">, options: Pick<BorderOptions, "newRulesBurst" | "newRulesEveryMs">) {
    this.#summaries = summaries;
    this.#options = options;
  }

  /** What passes the patterns, which the settings have, and is not of this region. */
  ofSettings(patterns: readonly string[], without: string): DigestFilter {
    const used = this.#use(patterns, without);
    used.isOfSettings = true;
    return used.filter;
  }

  /** The same for rules that a region tells, to be let go once. Undefined when it has made up so many lately that these must wait. */
  obtain(patterns: readonly string[], without: string, by: string, { monoMs }: Time): DigestFilter | undefined {
    const { newRulesBurst, newRulesEveryMs } = this.#options;
    if (!this.#byText.has(textOf(patterns, without))) {
      const allowed = this.#allowed.get(by) ?? new TokenBucket(newRulesBurst, newRulesEveryMs);
      this.#allowed.set(by, allowed);
      if (!allowed.has(monoMs)) return undefined;
      allowed.take(monoMs);
    }
    const used = this.#use(patterns, without);
    used.count += 1;
    return used.filter;
  }

  /** A link that a neighbour's filter was obtained for uses it no longer. */
  letGo(filter: DigestFilter): void {
    const text = this.#texts.get(filter) ?? "";
    const used = this.#byText.get(text);
    if (used === undefined) return;
    used.count -= 1;
    if (used.count > 0 || used.isOfSettings) return;
    this.#byText.delete(text);
    this.#texts.delete(filter);
    this.#summaries.letGo(filter);
  }

  #use(patterns: readonly string[], without: string): Used {
    const text = textOf(patterns, without);
    const used = this.#byText.get(text) ?? { filter: this.#made(patterns, without), count: 0, isOfSettings: false };
    this.#byText.set(text, used);
    this.#texts.set(used.filter, text);
    return used;
  }

  #made(patterns: readonly string[], without: string): DigestFilter {
    const exported = new Patterns(patterns);
    return {
      passes: (source, namespace) => {
        const region = this.#summaries.regionOf(source);
        return region !== undefined && region !== without && exported.covers(namespace);
      },
    };
  }
}

function textOf(patterns: readonly string[], without: string): string {
  return [without, ...patterns].join("\n");
}
