/** The neighbouring regions with which this region has no link now, and for how long something has been due there (docs/design/summaries.md, What crosses a border). */
import { SCOPE } from "../../catalog/entry/scope.ts";
import { NEVER, type Time } from "../../lib/machine.ts";
import { Patterns } from "./patterns.ts";
import type { BorderSummaries } from "./ports.ts";
import { allWhenEmpty } from "./rules.ts";

/** The export rules of the borders with a region, one for each border. */
type Exports = readonly (readonly string[])[];

interface Gap {
  /** Nothing up to this revision is due there. */
  revision: number;
  dueMonoMs: number;
}

export class Apart {
  readonly #summaries: BorderSummaries;
  readonly #gaps = new Map<string, Gap>();

  constructor(summaries: BorderSummaries) {
    this.#summaries = summaries;
  }

  /** Looks at what changed. `regions` have borders here, with these rules; this region has links with `linked`. */
  look(regions: ReadonlyMap<string, Exports>, linked: ReadonlySet<string>, { monoMs }: Time): void {
    for (const region of this.#gaps.keys()) if (!regions.has(region) || linked.has(region)) this.#gaps.delete(region);
    for (const [region, exports] of regions) {
      if (linked.has(region)) continue;
      const gap = this.#gaps.get(region) ?? { revision: this.#summaries.revision, dueMonoMs: NEVER };
      this.#gaps.set(region, gap);
      if (gap.dueMonoMs === NEVER && this.#isAnyDue(region, exports, gap)) gap.dueMonoMs = monoMs;
    }
  }

  /** The age of the oldest change, with all regions or with one. 0 when none is due. */
  lagMs({ monoMs }: Time, only?: string): number {
    let lagMs = 0;
    for (const [region, { dueMonoMs }] of this.#gaps)
      if (only === undefined || region === only) lagMs = Math.max(lagMs, monoMs - dueMonoMs);
    return lagMs;
  }

  #isAnyDue(region: string, exports: Exports, gap: Gap): boolean {
    if (gap.revision === this.#summaries.revision) return false;
    let isDue = false;
    const rules = exports.map((patterns) => new Patterns(allWhenEmpty(patterns)));
    const isLetOut = (namespace: string) => rules.some((rule) => rule.covers(namespace));
    this.#summaries.changesSince(gap.revision, ({ isBeacon, channel, source, namespace }) => {
      isDue = !isBeacon && channel === SCOPE.GLOBAL && this.#summaries.regionOf(source) !== region && isLetOut(namespace);
      return !isDue;
    });
    gap.revision = this.#summaries.revision;
    return isDue;
  }
}
