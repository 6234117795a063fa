/** The turns of many names, for a server that has the entries of a name only while it answers. */
import { TIERS } from "./health-tiers.ts";
import { LEVELS, LevelScheduler } from "./locality-levels.ts";
import type { RotationState } from "./rotation.ts";

/** The turns of one name, seen from one place. */
export class NameRotation {
  readonly levels = new LevelScheduler();
  /** By rank: the turns of that pool. */
  readonly pools = new Array<RotationState | undefined>(TIERS * LEVELS).fill(undefined);
  /** In [0, 1): where in key order the first turn is. */
  readonly start: number;

  constructor(start: number) {
    this.start = start;
  }

  /** Number of weights whose turns it holds, and one. */
  get size(): number {
    let size = 1;
    for (const turns of this.pools) size += turns?.size ?? 0;
    return size;
  }
}

/** Step of the first turn from name to name. Its multiples fall evenly into any number of parts. */
const GOLDEN_RATIO = (Math.sqrt(5) - 1) / 2;

/** The turns of the names asked for last. `most` bounds the sum of their sizes. */
export class RotationCache {
  readonly #most: number;
  /** Least recently used first. */
  readonly #byName = new Map<string, NameRotation>();
  #size = 0;
  #forgotten = 0;

  constructor(most: number) {
    this.#most = most;
  }

  /** The result of an act that changes the turns of a name. */
  use<T>(name: string, act: (turns: NameRotation) => T): T {
    const held = this.#byName.get(name);
    // A name whose turns were forgotten must not begin with the first endpoint each time.
    const turns = held ?? new NameRotation((this.#forgotten * GOLDEN_RATIO) % 1);
    if (held !== undefined) this.#drop(name, held);
    const result = act(turns);
    this.#byName.set(name, turns);
    this.#size += turns.size;
    for (const [oldest, of] of this.#byName) {
      if (this.#size <= this.#most) break;
      this.#drop(oldest, of);
      this.#forgotten += 1;
    }
    return result;
  }

  #drop(name: string, turns: NameRotation): void {
    this.#byName.delete(name);
    this.#size -= turns.size;
  }
}
