/**
 * Decides which checks change their state, and when. A state change waits briefly for others, because the node doubts itself when most checks change at the
 * same time. Each owner is judged by its own checks, so that one owner's programs cannot hold back the checks of another. A doubt about all checks needs
 * state changes of most owners, and several owners.
 */
import { assert } from "../../lib/errors.ts";
import { NEVER } from "../../lib/machine.ts";
import { type CheckEvidence, SelfPreservation } from "./self-preservation.ts";
import type { CheckOutcome } from "./threshold.ts";
import type { WatchedCheck } from "./watched-checks.ts";

/** How long a turn waits for others that turn at once with it, in ms. */
const GATHER_MS = 1000;
/** With fewer owners, two owners whose programs are down would already be most of them. */
const MIN_OWNERS = 4;

const NONE: readonly WatchedCheck[] = [];

/** A doubt has begun or ended. */
export interface SelfPreservationChange extends CheckEvidence {
  /** Undefined for a doubt about the checks of all owners; its evidence counts owners. */
  readonly owner: string | undefined;
  readonly isSelfPreserving: boolean;
}

const NO_CHANGES: readonly SelfPreservationChange[] = [];

/** The checks of one owner. */
class OwnerStateChanges {
  readonly owner: string;
  readonly doubt = new SelfPreservation();
  /** In the order in which they became due. */
  readonly due = new Set<WatchedCheck>();
  watchCount = 0;
  checkCount = 0;
  changingCount = 0;

  constructor(owner: string) {
    this.owner = owner;
  }

  get nextDeadlineMs(): number {
    if (this.doubt.isSelfPreserving) return this.doubt.untilMonoMs;
    // A set keeps the order in which its items came, so the first one is due first.
    const [first] = this.due;
    return first?.dueMonoMs === undefined ? NEVER : first.dueMonoMs + GATHER_MS;
  }
}

export class StateChanges {
  readonly #owners = new Map<string, OwnerStateChanges>();
  /** Owners with due state changes, or with a doubt. */
  readonly #pending = new Set<OwnerStateChanges>();
  /** Number of owners that have checks with a known state, and the owners among them most of whose checks waver or changed recently. */
  #knownCount = 0;
  readonly #changing = new Set<OwnerStateChanges>();
  readonly #common = new SelfPreservation(MIN_OWNERS);
  #selfPreservationCount = 0;
  readonly #changes: SelfPreservationChange[] = [];
  /** Undefined when it must be computed again. */
  #nextMs: number | undefined = NEVER;

  /** Whether a doubt holds back any check, and the number of doubts that have begun. */
  get doubt(): { readonly isSelfPreserving: boolean; readonly count: number } {
    const isSelfPreserving = this.#common.isSelfPreserving || [...this.#pending].some(({ doubt }) => doubt.isSelfPreserving);
    return { isSelfPreserving, count: this.#selfPreservationCount };
  }

  /** Number of checks of an owner, of all kinds. */
  countOf(owner: string): number {
    return this.#owners.get(owner)?.watchCount ?? 0;
  }

  /** The doubts that began or ended since the last call. */
  takeChanges(): readonly SelfPreservationChange[] {
    // HOT: once per input of the node.
    return this.#changes.length === 0 ? NO_CHANGES : this.#changes.splice(0);
  }

  added(watch: WatchedCheck): void {
    const { owner } = watch.entry;
    let turns = this.#owners.get(owner);
    if (turns === undefined) {
      turns = new OwnerStateChanges(owner);
      this.#owners.set(owner, turns);
    }
    turns.watchCount += 1;
    this.#count(turns, watch, 1);
  }

  dropped(watch: WatchedCheck): void {
    const turns = this.#of(watch);
    turns.due.delete(watch);
    turns.watchCount -= 1;
    this.#count(turns, watch, -1);
    if (turns.watchCount === 0) this.#drop(turns);
    else this.#settle(turns);
  }

  conclude(watch: WatchedCheck, outcome: CheckOutcome, monoMs: number): void {
    const turns = this.#of(watch);
    this.#count(turns, watch, -1);
    watch.threshold.conclude(outcome);
    this.#count(turns, watch, 1);
    this.#look(turns, monoMs);
    this.#lookAtCommon(monoMs);
    if (watch.threshold.due === undefined) {
      watch.dueMonoMs = undefined;
      turns.due.delete(watch);
    } else {
      watch.dueMonoMs ??= monoMs;
      turns.due.add(watch);
    }
    this.#settle(turns);
  }

  /** Lets checks turn, and returns them. */
  turn(monoMs: number): readonly WatchedCheck[] {
    if (this.nextDeadlineMs() > monoMs) return NONE;
    // State changes count for a while, so an owner may stop wavering without a new outcome.
    for (const turns of new Set([...this.#pending, ...this.#changing])) this.#look(turns, monoMs);
    this.#lookAtCommon(monoMs);
    const turned = [...this.#pending].flatMap((turns) => this.#turnOf(turns, monoMs));
    for (const turns of this.#pending) this.#settle(turns);
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

  #turnOf(turns: OwnerStateChanges, monoMs: number): readonly WatchedCheck[] {
    const ready = [...turns.due].filter(({ dueMonoMs = NEVER }) => monoMs >= dueMonoMs + GATHER_MS);
    if (ready.length === 0 || !this.#mayTurn(turns, monoMs)) return NONE;
    for (const watch of ready) {
      const wasKnown = watch.threshold.isKnown && isEvidence(watch);
      turns.due.delete(watch);
      this.#count(turns, watch, -1);
      watch.threshold.turn();
      this.#count(turns, watch, 1);
      watch.dueMonoMs = undefined;
      if (wasKnown) turns.doubt.turned(monoMs);
    }
    return ready;
  }

  #mayTurn(turns: OwnerStateChanges, monoMs: number): boolean {
    if (!this.#common.isSelfPreserving && !this.#common.mayTurn(this.#evidence, monoMs)) {
      this.#changed(undefined, true, this.#evidence);
      // Their checks waver for the same reason, which must not cause a second doubt.
      for (const each of this.#owners.values()) each.doubt.disarm();
    }
    if (this.#common.isSelfPreserving || turns.doubt.isSelfPreserving) return false;
    if (turns.doubt.mayTurn(turns, monoMs)) return true;
    this.#changed(turns.owner, true, turns);
    return false;
  }

  #changed(owner: string | undefined, isSelfPreserving: boolean, { checkCount, changingCount }: CheckEvidence): void {
    if (isSelfPreserving) this.#selfPreservationCount += 1;
    this.#changes.push({ owner, isSelfPreserving, checkCount, changingCount });
  }

  /** Owners, each of which counts once. */
  get #evidence(): CheckEvidence {
    return { checkCount: this.#knownCount, changingCount: this.#changing.size };
  }

  #look(turns: OwnerStateChanges, monoMs: number): void {
    const { doubt, owner } = turns;
    if (doubt.look(turns, monoMs)) this.#changed(owner, false, turns);
    if (turns.checkCount > 0 && doubt.isMost(turns)) this.#changing.add(turns);
    else this.#changing.delete(turns);
  }

  #lookAtCommon(monoMs: number): void {
    if (this.#common.look(this.#evidence, monoMs)) this.#changed(undefined, false, this.#evidence);
  }

  #drop(turns: OwnerStateChanges): void {
    const { owner, doubt } = turns;
    this.#owners.delete(owner);
    this.#changing.delete(turns);
    this.#pending.delete(turns);
    this.#nextMs = undefined;
    if (doubt.isSelfPreserving) this.#changed(owner, false, turns);
  }

  #settle(turns: OwnerStateChanges): void {
    if (turns.due.size > 0 || turns.doubt.isSelfPreserving) this.#pending.add(turns);
    else this.#pending.delete(turns);
    this.#nextMs = undefined;
  }

  #of({ entry: { owner } }: WatchedCheck): OwnerStateChanges {
    const turns = this.#owners.get(owner);
    assert(turns !== undefined, "a check is added before it turns", { owner });
    return turns;
  }

  #count(turns: OwnerStateChanges, watch: WatchedCheck, by: 1 | -1): void {
    if (!isEvidence(watch) || !watch.threshold.isKnown) return;
    const wasKnown = turns.checkCount > 0;
    turns.checkCount += by;
    if (watch.threshold.isChanging) turns.changingCount += by;
    this.#knownCount += Number(turns.checkCount > 0) - Number(wasKnown);
  }
}

/** An alias turns with the other entry, so it says nothing of this node. */
function isEvidence({ check }: WatchedCheck): boolean {
  return check.probe.case !== "alias";
}
