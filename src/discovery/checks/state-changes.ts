/**
 * Decides which checks change their state, and when. A state change waits briefly for others, because the node enters self-preservation
 * when most checks change at the same time. Each owner is judged by its own checks, so one owner's programs cannot delay state changes for another.
 * Self-preservation of all checks requires several owners, most of which have checks that change state.
 */
import { assert } from "../../lib/errors.ts";
import { NEVER } from "../../lib/machine.ts";
import { type CheckEvidence, SelfPreservation } from "./self-preservation.ts";
import type { CheckOutcome } from "./threshold.ts";
import type { WatchedCheck } from "./watched-checks.ts";

/** Time for which a due state change waits for simultaneous changes, in ms. */
const GATHER_MS = 1000;
/** Minimum number of owners. With fewer owners, two owners whose programs are down would be a majority. */
const MIN_OWNERS = 4;

const NONE: readonly WatchedCheck[] = [];

/** The beginning or end of self-preservation. */
export interface SelfPreservationChange extends CheckEvidence {
  /** Undefined if self-preservation applies to the checks of all owners. In this case, the numbers refer to owners. */
  readonly owner: string | undefined;
  readonly isSelfPreserving: boolean;
}

const NO_CHANGES: readonly SelfPreservationChange[] = [];

/** The checks of one owner. */
class OwnerStateChanges {
  readonly owner: string;
  readonly doubt = new SelfPreservation();
  /** Checks whose state change is due, in the order in which they became due. */
  readonly due = new Set<WatchedCheck>();
  watchCount = 0;
  checkCount = 0;
  changingCount = 0;

  constructor(owner: string) {
    this.owner = owner;
  }

  get nextDeadlineMs(): number {
    if (this.doubt.isSelfPreserving) return this.doubt.untilMonoMs;
    // A set keeps the insertion order, so the first item is due first.
    const [first] = this.due;
    return first?.dueMonoMs === undefined ? NEVER : first.dueMonoMs + GATHER_MS;
  }
}

export class StateChanges {
  readonly #owners = new Map<string, OwnerStateChanges>();
  /** Owners with due state changes, or in self-preservation. */
  readonly #pending = new Set<OwnerStateChanges>();
  /** Number of owners that have checks with a known state. */
  #knownCount = 0;
  /** Owners for which the outcomes of most checks contradict their state, or most checks changed state recently. */
  readonly #changing = new Set<OwnerStateChanges>();
  readonly #common = new SelfPreservation(MIN_OWNERS);
  #selfPreservationCount = 0;
  readonly #changes: SelfPreservationChange[] = [];
  /** Undefined if it must be computed again. */
  #nextMs: number | undefined = NEVER;

  /** Whether self-preservation is delaying any state change, and how many times it has begun. */
  get doubt(): { readonly isSelfPreserving: boolean; readonly count: number } {
    const isSelfPreserving = this.#common.isSelfPreserving || [...this.#pending].some(({ doubt }) => doubt.isSelfPreserving);
    return { isSelfPreserving, count: this.#selfPreservationCount };
  }

  /** Returns the number of checks of an owner, of all kinds. */
  countOf(owner: string): number {
    return this.#owners.get(owner)?.watchCount ?? 0;
  }

  /** Returns the changes of self-preservation since the last call. */
  takeChanges(): readonly SelfPreservationChange[] {
    // HOT: once per input of the node.
    return this.#changes.length === 0 ? NO_CHANGES : this.#changes.splice(0);
  }

  added(watch: WatchedCheck): void {
    const { owner } = watch.entry;
    let changes = this.#owners.get(owner);
    if (changes === undefined) {
      changes = new OwnerStateChanges(owner);
      this.#owners.set(owner, changes);
    }
    changes.watchCount += 1;
    this.#count(changes, watch, 1);
  }

  dropped(watch: WatchedCheck): void {
    const changes = this.#of(watch);
    changes.due.delete(watch);
    changes.watchCount -= 1;
    this.#count(changes, watch, -1);
    if (changes.watchCount === 0) this.#drop(changes);
    else this.#settle(changes);
  }

  conclude(watch: WatchedCheck, outcome: CheckOutcome, monoMs: number): void {
    const changes = this.#of(watch);
    this.#count(changes, watch, -1);
    watch.threshold.conclude(outcome);
    this.#count(changes, watch, 1);
    this.#look(changes, monoMs);
    this.#lookAtCommon(monoMs);
    if (watch.threshold.due === undefined) {
      watch.dueMonoMs = undefined;
      changes.due.delete(watch);
    } else {
      watch.dueMonoMs ??= monoMs;
      changes.due.add(watch);
    }
    this.#settle(changes);
  }

  /** Applies due state changes, and returns their checks. */
  turn(monoMs: number): readonly WatchedCheck[] {
    if (this.nextDeadlineMs() > monoMs) return NONE;
    // Past state changes are no longer counted after some time, so the fraction of changing checks can fall without a new outcome.
    for (const changes of new Set([...this.#pending, ...this.#changing])) this.#look(changes, monoMs);
    this.#lookAtCommon(monoMs);
    const turned = [...this.#pending].flatMap((changes) => this.#applyDue(changes, monoMs));
    for (const changes of this.#pending) this.#settle(changes);
    return turned;
  }

  /** Monotonic ms. HOT: once per input of the node. */
  nextDeadlineMs(): number {
    this.#nextMs ??= this.#deadline();
    return this.#nextMs;
  }

  #deadline(): number {
    if (this.#common.isSelfPreserving) return this.#common.untilMonoMs;
    let nextMs = NEVER;
    for (const { nextDeadlineMs } of this.#pending) nextMs = Math.min(nextMs, nextDeadlineMs);
    return nextMs;
  }

  #applyDue(changes: OwnerStateChanges, monoMs: number): readonly WatchedCheck[] {
    const ready = [...changes.due].filter(({ dueMonoMs = NEVER }) => monoMs >= dueMonoMs + GATHER_MS);
    if (ready.length === 0 || !this.#mayTurn(changes, monoMs)) return NONE;
    for (const watch of ready) {
      const wasKnown = watch.threshold.isKnown && isEvidence(watch);
      changes.due.delete(watch);
      this.#count(changes, watch, -1);
      watch.threshold.turn();
      this.#count(changes, watch, 1);
      watch.dueMonoMs = undefined;
      if (wasKnown) changes.doubt.turned(monoMs);
    }
    return ready;
  }

  #mayTurn(changes: OwnerStateChanges, monoMs: number): boolean {
    if (!this.#common.isSelfPreserving && !this.#common.mayTurn(this.#evidence, monoMs)) {
      this.#changed(undefined, true, this.#evidence);
      // These checks change state for the same reason, so they must not start self-preservation a second time.
      for (const each of this.#owners.values()) each.doubt.disarm();
    }
    if (this.#common.isSelfPreserving || changes.doubt.isSelfPreserving) return false;
    if (changes.doubt.mayTurn(changes, monoMs)) return true;
    this.#changed(changes.owner, true, changes);
    return false;
  }

  #changed(owner: string | undefined, isSelfPreserving: boolean, { checkCount, changingCount }: CheckEvidence): void {
    if (isSelfPreserving) this.#selfPreservationCount += 1;
    this.#changes.push({ owner, isSelfPreserving, checkCount, changingCount });
  }

  /** Evidence about owners, with each owner counted once. */
  get #evidence(): CheckEvidence {
    return { checkCount: this.#knownCount, changingCount: this.#changing.size };
  }

  #look(changes: OwnerStateChanges, monoMs: number): void {
    const { doubt, owner } = changes;
    if (doubt.look(changes, monoMs)) this.#changed(owner, false, changes);
    if (changes.checkCount > 0 && doubt.isMost(changes)) this.#changing.add(changes);
    else this.#changing.delete(changes);
  }

  #lookAtCommon(monoMs: number): void {
    if (this.#common.look(this.#evidence, monoMs)) this.#changed(undefined, false, this.#evidence);
  }

  #drop(changes: OwnerStateChanges): void {
    const { owner, doubt } = changes;
    this.#owners.delete(owner);
    this.#changing.delete(changes);
    this.#pending.delete(changes);
    this.#nextMs = undefined;
    if (doubt.isSelfPreserving) this.#changed(owner, false, changes);
  }

  #settle(changes: OwnerStateChanges): void {
    if (changes.due.size > 0 || changes.doubt.isSelfPreserving) this.#pending.add(changes);
    else this.#pending.delete(changes);
    this.#nextMs = undefined;
  }

  #of({ entry: { owner } }: WatchedCheck): OwnerStateChanges {
    const changes = this.#owners.get(owner);
    assert(changes !== undefined, "a check changed state before it was added", { owner });
    return changes;
  }

  #count(changes: OwnerStateChanges, watch: WatchedCheck, by: 1 | -1): void {
    if (!isEvidence(watch) || !watch.threshold.isKnown) return;
    const wasKnown = changes.checkCount > 0;
    changes.checkCount += by;
    if (watch.threshold.isChanging) changes.changingCount += by;
    this.#knownCount += Number(changes.checkCount > 0) - Number(wasKnown);
  }
}

/** An alias follows another entry, so its state is not evidence about this node. */
function isEvidence({ check }: WatchedCheck): boolean {
  return check.probe.case !== "alias";
}
