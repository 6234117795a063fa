/** Keeps the rotation state of many names, for a server that has a name's entries only while it answers. */
import { TIERS } from "./health-tiers.ts";
import { LEVELS, LevelScheduler } from "./locality-levels.ts";
import type { RotationState } from "./rotation.ts";

/** The rotation state of one name, for callers in one location. */
export class NameRotation {
  readonly levels = new LevelScheduler();
  /** Rotation state of each pool, by rank. */
  readonly pools = new Array<RotationState | undefined>(TIERS * LEVELS).fill(undefined);
  /** The position of the first turn in key order, in [0, 1). */
  readonly start: number;

  constructor(start: number) {
    this.start = start;
  }

  /** Size of this state: the number of weights with rotation state, plus one. */
  get size(): number {
    let size = 1;
    for (const turns of this.pools) size += turns?.size ?? 0;
    return size;
  }
}

/** Difference between the start positions of consecutive names. The multiples of this number, modulo 1, are evenly spread over [0, 1). */
const GOLDEN_RATIO = (Math.sqrt(5) - 1) / 2;

/** The rotation state of the most recently requested names. `most` is the maximum sum of their sizes. */
export class RotationCache {
  readonly #most: number;
  /** Rotation state by name, with the least recently used first. */
  readonly #byName = new Map<string, NameRotation>();
  #size = 0;
  #forgotten = 0;

  constructor(most: number) {
    this.#most = most;
  }

  /** Runs `act`, which changes the rotation state of a name, and returns its result. */
  use<T>(name: string, act: (turns: NameRotation) => T): T {
    const cached = this.#byName.get(name);
    // A name whose state was evicted must not start with the first endpoint each time.
    const turns = cached ?? new NameRotation((this.#forgotten * GOLDEN_RATIO) % 1);
    if (cached !== undefined) this.#drop(name, cached);
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
