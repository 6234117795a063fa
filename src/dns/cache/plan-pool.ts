/** Plans within bounds of their own. What was found again since it was last looked at stays for another round; of the others the oldest go first. */

import type { Time } from "../../lib/machine.ts";
import type { AnswerPlan } from "../plan/answer.ts";
import { DependencyIndex, type PlanDependency } from "../subject/dependency-index.ts";
import type { RemoteDependencies } from "../subject/remote-lookup.ts";
import { planBytes } from "./plan-size.ts";

/** The bytes have room for at least this many plans: no single plan takes more than an eighth of them. */
export const LEAST_PLANS = 8;

/** What is kept of the bounds when they are passed. */
const FILLED = 127 / 128;

/** What the encoder keeps of a plan, so that it need not make it again. */
export interface PreparedAnswer {
  /** Of memory. */
  readonly sizeBytes: number;
}

export interface PooledPlan<P extends PreparedAnswer> {
  readonly key: string;
  /** Gone once it is prepared: its records take ten times the memory. It stays where other plans are made from it. */
  plan: AnswerPlan | undefined;
  /** Of the plan. */
  readonly signed: AnswerPlan["signed"];
  /** Hidden namespaces that the answer leaves out. */
  readonly hidden: readonly string[];
  prepared: P | undefined;
  /** How many more answers may be drawn. The plan of an alias shares it with the name that the alias leads to. */
  readonly sample: { answersLeft: number };
  /** With what is prepared of it. */
  sizeBytes: number;
  /** Whether other plans are made from it, those of aliases, or a sample is used up in common with them. */
  isShared: boolean;
  /** Whether it was found again since it was last looked at to make room. */
  isUsed: boolean;
  /** What it rests on. */
  readonly facts: readonly PlanDependency[];
  /** The version of the facts in which it was last seen that they hold. */
  seenVersion: number;
  /** The version of its view. */
  readonly viewVersion: number;
  /** It is over then, by either clock. Undefined: never. */
  readonly over: Time | undefined;
  /** What it tells of elsewhere. */
  readonly told: readonly RemoteDependencies[];
  readonly followed: readonly string[];
}

export interface PoolBounds {
  readonly maxPlans: number;
  readonly maxBytes: number;
}

export class PlanPool<P extends PreparedAnswer> {
  readonly #bounds: PoolBounds;
  readonly #byKey = new Map<string, PooledPlan<P>>();
  /** What its plans rest on. */
  readonly facts = new DependencyIndex();
  #plansBytes = 0;
  /** Plans that made room for others, or found none. */
  droppedCount = 0;

  constructor(bounds: PoolBounds) {
    this.#bounds = bounds;
  }

  /** Memory of the plans and of what they rest on. */
  get sizeBytes(): number {
    return this.#plansBytes + this.facts.sizeBytes;
  }

  /** Whether some would have to make room for one more. */
  get isFull(): boolean {
    return this.#byKey.size >= this.#bounds.maxPlans * FILLED;
  }

  find(key: string): PooledPlan<P> | undefined {
    return this.#byKey.get(key);
  }

  /** Takes the place of a plan under this key. */
  keep(made: PooledPlan<P>): void {
    const { maxPlans, maxBytes } = this.#bounds;
    this.drop(made.key);
    if (made.sizeBytes * LEAST_PLANS > maxBytes) {
      this.droppedCount += 1;
      this.facts.release(made.facts);
      return;
    }
    this.#makeRoom({ maxPlans: maxPlans - 1, maxBytes: maxBytes - made.sizeBytes });
    this.#byKey.set(made.key, made);
    this.#plansBytes += made.sizeBytes;
  }

  /** Keeps what is prepared of a plan of this pool instead of the plan, if there is room. */
  prepare(kept: PooledPlan<P>, prepared: P): void {
    const spared = kept.isShared || kept.plan === undefined ? 0 : planBytes(kept.plan);
    const moreBytes = prepared.sizeBytes - (kept.prepared?.sizeBytes ?? 0) - spared;
    if ((kept.sizeBytes + moreBytes) * LEAST_PLANS > this.#bounds.maxBytes) return;
    kept.prepared = prepared;
    if (!kept.isShared) kept.plan = undefined;
    kept.sizeBytes += moreBytes;
    this.#plansBytes += moreBytes;
    this.#makeRoom(this.#bounds);
  }

  drop(key: string): void {
    const kept = this.#byKey.get(key);
    if (kept === undefined) return;
    this.#plansBytes -= kept.sizeBytes;
    this.#byKey.delete(key);
    this.facts.release(kept.facts);
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
