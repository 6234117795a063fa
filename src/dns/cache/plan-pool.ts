/**
 * A bounded pool of plans with second-chance eviction. A plan used since the last eviction pass is kept for one more pass, and the other plans are
 * evicted oldest first.
 */

import type { Time } from "../../lib/machine.ts";
import type { AnswerPlan } from "../plan/answer.ts";
import { DependencyIndex, type PlanDependency } from "../subject/dependency-index.ts";
import type { RemoteDependencies } from "../subject/remote-lookup.ts";
import { planBytes } from "./plan-size.ts";

/** The pool has room for at least this many plans, because a single plan can use at most an eighth of the memory limit. */
export const LEAST_PLANS = 8;

/** An eviction pass reduces usage to this fraction of the limits. */
const FILLED = 127 / 128;

/** The encoded form of a plan, which the encoder keeps so that it does not encode the plan again. */
export interface PreparedAnswer {
  /** Memory in bytes. */
  readonly sizeBytes: number;
}

export interface PooledPlan<P extends PreparedAnswer> {
  readonly key: string;
  /**
   * Removed when the plan is prepared, because the records use ten times as much memory as the prepared form. Kept if other plans are built from this
   * plan.
   */
  plan: AnswerPlan | undefined;
  readonly signed: AnswerPlan["signed"];
  /** Hidden namespaces that are omitted from the answer. */
  readonly hidden: readonly string[];
  prepared: P | undefined;
  /** Number of answers that can still be drawn. The plan of an alias shares this counter with the plan of its canonical name. */
  readonly sample: { answersLeft: number };
  /** The size includes the prepared form. */
  sizeBytes: number;
  /** Whether the plans of aliases are built from this plan or share its sample counter. */
  isShared: boolean;
  /** Whether the plan was used since the last eviction pass. */
  isUsed: boolean;
  /** The catalog facts that the plan depends on. */
  readonly facts: readonly PlanDependency[];
  /** The version at which the facts were last verified. */
  seenVersion: number;
  /** The version of the plan's view. */
  readonly viewVersion: number;
  /** When the plan expires, according to either clock. Undefined if it never expires. */
  readonly over: Time | undefined;
  /** The remote lookups that the plan depends on. */
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
  /** The dependencies of all plans in the pool. */
  readonly facts = new DependencyIndex();
  #plansBytes = 0;
  /** Number of plans that were evicted or were too large to cache. */
  droppedCount = 0;

  constructor(bounds: PoolBounds) {
    this.#bounds = bounds;
  }

  /** Memory used by the plans and their dependencies. */
  get sizeBytes(): number {
    return this.#plansBytes + this.facts.sizeBytes;
  }

  /** Returns whether adding a plan would evict others. */
  get isFull(): boolean {
    return this.#byKey.size >= this.#bounds.maxPlans * FILLED;
  }

  find(key: string): PooledPlan<P> | undefined {
    return this.#byKey.get(key);
  }

  /** Adds a plan, replacing any plan with the same key. */
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

  /** Replaces a plan of this pool by its prepared form, if there is room. */
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
   * HOT: runs per question when the pool cannot hold all distinct questions (`bench/dns.ts`, 100,000 distinct questions). Its cost is proportional to
   * the evicted plans and the plans used since the last pass, each of which is skipped at most once.
   */
  #makeRoom({ maxPlans, maxBytes }: PoolBounds): void {
    if (this.#byKey.size <= maxPlans && this.sizeBytes <= maxBytes) return;
    let spareCount = this.#byKey.size;
    // More plans are evicted than necessary. Iterating over a Map visits the slots of deleted entries first, so evicting plans one by one would scan
    // those slots each time.
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
