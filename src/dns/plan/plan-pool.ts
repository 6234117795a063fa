/** Plans within bounds of their own. What was found again since it was last looked at stays for another round; of the others the oldest go first. */
import type { Plan } from "./answer.ts";
import type { Fact } from "./facts.ts";

/** The bytes have room for at least this many plans: no single plan takes more than an eighth of them. */
export const LEAST_PLANS = 8;

/** What is kept of the bounds when they are passed. */
const FILLED = 127 / 128;

/** What the encoder keeps of a plan, so that it need not make it again. */
export interface PreparedAnswer {
  /** Of memory. */
  readonly sizeBytes: number;
}

export interface Kept<P extends PreparedAnswer> {
  readonly key: string;
  readonly plan: Plan;
  /** Hidden namespaces that the answer leaves out. */
  readonly hidden: readonly string[];
  prepared: P | undefined;
  /** How many more answers may be drawn. The plan of an alias shares it with the name that the alias leads to. */
  readonly sample: { answersLeft: number };
  /** With what is prepared of it. */
  sizeBytes: number;
  /** Whether it was found again since it was last looked at to make room. */
  isUsed: boolean;
  /** What it rests on. */
  readonly facts: readonly Fact[];
  /** The turn of the facts in which it was last seen that they hold. */
  seenTurn: number;
  /** The turn of its view. */
  readonly viewTurn: number;
  /** The turn of what it told of elsewhere. Undefined: it told nothing of it. */
  readonly askedTurn: number | undefined;
  readonly followed: readonly string[];
}

export interface PoolBounds {
  readonly maxPlans: number;
  readonly maxBytes: number;
}

export class PlanPool<P extends PreparedAnswer> {
  readonly #bounds: PoolBounds;
  readonly #onDropped: (kept: Kept<P>) => void;
  readonly #byKey = new Map<string, Kept<P>>();
  sizeBytes = 0;
  /** Plans that made room for others, or found none. */
  droppedCount = 0;

  /** `onDropped` is told of each plan that is kept no longer. */
  constructor(bounds: PoolBounds, onDropped: (kept: Kept<P>) => void) {
    this.#bounds = bounds;
    this.#onDropped = onDropped;
  }

  find(key: string): Kept<P> | undefined {
    return this.#byKey.get(key);
  }

  /** Takes the place of a plan under this key. */
  keep(made: Kept<P>): void {
    const { maxPlans, maxBytes } = this.#bounds;
    this.drop(made.key);
    if (made.sizeBytes * LEAST_PLANS > maxBytes) {
      this.droppedCount += 1;
      this.#onDropped(made);
      return;
    }
    this.#makeRoom({ maxPlans: maxPlans - 1, maxBytes: maxBytes - made.sizeBytes });
    this.#byKey.set(made.key, made);
    this.sizeBytes += made.sizeBytes;
  }

  /** Keeps what is prepared of a plan of this pool, if there is room. */
  prepare(kept: Kept<P>, prepared: P | undefined): void {
    const moreBytes = (prepared?.sizeBytes ?? 0) - (kept.prepared?.sizeBytes ?? 0);
    if ((kept.sizeBytes + moreBytes) * LEAST_PLANS > this.#bounds.maxBytes) return;
    kept.prepared = prepared;
    kept.sizeBytes += moreBytes;
    this.sizeBytes += moreBytes;
    this.#makeRoom(this.#bounds);
  }

  drop(key: string): void {
    const kept = this.#byKey.get(key);
    if (kept === undefined) return;
    this.sizeBytes -= kept.sizeBytes;
    this.#byKey.delete(key);
    this.#onDropped(kept);
  }

  clear(): void {
    for (const key of this.#byKey.keys()) this.drop(key);
  }

  /**
   * HOT: for each question where there are more of them than room (`bench/dns.ts`, 100,000 different questions). Cost: the plans that go, and those that were found again
   * since the last time. Each is passed over once at most.
   */
  #makeRoom({ maxPlans, maxBytes }: PoolBounds): void {
    if (this.#byKey.size <= maxPlans && this.sizeBytes <= maxBytes) return;
    let spareCount = this.#byKey.size;
    // Some more than is needed: a walk through a Map begins with the places of all that was deleted, so one walk for each plan would pass them again and again.
    const [enough, enoughBytes] = [Math.ceil(maxPlans * FILLED), Math.ceil(maxBytes * FILLED)];
    for (const [key, kept] of this.#byKey) {
      if (this.#byKey.size <= enough && this.sizeBytes <= enoughBytes) return;
      if (kept.isUsed && spareCount > 0) {
        spareCount -= 1;
        kept.isUsed = false;
        this.#byKey.delete(key);
        this.#byKey.set(key, kept);
        continue;
      }
      this.drop(key);
      this.droppedCount += 1;
    }
  }
}
