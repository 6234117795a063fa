/** What a region holds through the neighbours of all its clusters, and so what of it each neighbour is told. */
import type { Reach } from "../../wire/messages.ts";
import { type Counting, type HeardSince, missingOf } from "./heard-rules.ts";
import { type Held, through, toldTo, unknownThrough } from "./reach.ts";

export class RegionReach {
  readonly #region: string;
  #held: readonly Held[] = [];
  /** What that was summed from. */
  #text = "";
  /** By the region that is told, and the rule for it. */
  readonly #told = new Map<string, readonly Reach[]>();
  /** Moves when neighbours may have to be told something else. */
  revision = 0;

  constructor(region: string) {
    this.#region = region;
  }

  /** Follows what the nodes of all clusters of the region heard. */
  follow(countings: readonly Counting[], since: HeardSince): void {
    const rules = countings.flatMap((counting) => counting.rules);
    const missing = missingOf({ rules, unheard: countings.flatMap((counting) => counting.unheard) }, since);
    const text = JSON.stringify([
      rules.map(({ region, exports, reached }) => [region, exports, reached]),
      missing.map(({ region }) => region),
    ]);
    if (text === this.#text) return;
    this.#text = text;
    this.#held = [...rules.flatMap(through), ...missing.flatMap(({ region }) => unknownThrough(region))];
    this.revision += 1;
    this.#told.clear();
  }

  /** What a neighbour of this region is told by these export rules. */
  toldTo(region: string, exports: readonly string[]): readonly Reach[] {
    const key = JSON.stringify([region, exports]);
    const told = this.#told.get(key) ?? toldTo(this.#held, this.#region, region, exports);
    this.#told.set(key, told);
    return told;
  }
}
