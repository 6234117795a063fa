/** The neighbouring regions with which this region has no link now, and for how long something has been due there (docs/design/summaries.md, What crosses a border). */
import { SCOPE } from "../../catalog/entry/scope.ts";
import { NEVER, type Time } from "../../lib/machine.ts";
import type { BorderSummaries } from "./ports.ts";

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

  /** Looks at what changed. `regions` have borders here; this region has links with `linked`. */
  look(regions: ReadonlySet<string>, linked: ReadonlySet<string>, { monoMs }: Time): void {
    for (const region of this.#gaps.keys()) if (!regions.has(region) || linked.has(region)) this.#gaps.delete(region);
    for (const region of regions) {
      if (linked.has(region)) continue;
      const gap = this.#gaps.get(region) ?? { revision: this.#summaries.revision, dueMonoMs: NEVER };
      this.#gaps.set(region, gap);
      if (gap.dueMonoMs === NEVER && this.#isAnyDue(region, gap)) gap.dueMonoMs = monoMs;
    }
  }

  /** The age of the oldest change. 0 when none is due. */
  lagMs({ monoMs }: Time): number {
    let lagMs = 0;
    for (const { dueMonoMs } of this.#gaps.values()) lagMs = Math.max(lagMs, monoMs - dueMonoMs);
    return lagMs;
  }

  #isAnyDue(region: string, gap: Gap): boolean {
    let isDue = false;
    this.#summaries.changesSince(gap.revision, ({ isBeacon, channel, source }) => {
      isDue = !isBeacon && channel === SCOPE.GLOBAL && this.#summaries.regionOf(source) !== region;
      return !isDue;
    });
    gap.revision = this.#summaries.revision;
    return isDue;
  }
}
