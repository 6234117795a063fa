/**
 * Runs policy changes one after another, on a replica or on a copy of a replica. Between two changes, it gives watches time to reach their END.
 */

import { BODY, keyParts } from "../catalog/record/record.ts";
import type { Origin, StoredRecord } from "../catalog/record/stored-record.ts";
import { assert } from "../lib/errors.ts";
import { NEVER, type Time } from "../lib/machine.ts";
import type { Policy, RecordSource } from "../policy/set/verdict.ts";
import { mayBeSeen, type PolicySource } from "../policy/set/verdict.ts";
import { type NotifierParts, type PolicyChange, PolicyNotifier } from "./policy-notifier.ts";
import { WatchAck } from "./watch-ack.ts";

/** Number of a change in this process, starting at 1. */
export type ChangeNumber = number;

/** Maximum duration of a slice, in ms: normally, and after a change has run for LATE_AFTER_MS. */
const SLICE_MS = 5;
const LATE_SLICE_MS = 15;
const LATE_AFTER_MS = 1500;

type Clock = Pick<Time, "monoMs">;

export interface SwitchQueueParts extends SwitchParts {
  readonly policies: PolicySource;
}

/** A copy of the replica that has its own readers. A change is complete only when each copy has notified its readers. */
export interface SwitchObserver {
  /**
   * Called when a change begins. Change numbers increase. Followers that are added during a change are not notified of the rest of that change.
   */
  begins(change: ChangeNumber): void;
  /** Called when all records follow the new policy. */
  shows(change: ChangeNumber): void;
  /** Whether the copy has shown the last change, and has notified all its watches. */
  readonly isShown: boolean;
  /** Whether all watches except slow ones have received the change. */
  readonly isAcknowledged: boolean;
}

interface RunningChange {
  readonly number: ChangeNumber;
  readonly work: PolicySwitch;
  /** The time at which the first slice of the change began. */
  sinceMonoMs: number | undefined;
  /** Whether the change is complete on this replica, even if copies are still working. */
  isThrough: boolean;
}

/**
 * A policy that is in force is shown immediately: the change waits for the previous change, but not for watches to be notified. The next policy is
 * not put in force until the watches have been notified. The driver calls `step` in slices on the event loop, and updates names and listeners when a
 * change has ended. A replica calls `look` when another policy may be in force. A copy calls `begin` and `show` when its feed requires it.
 */
export class SwitchQueue {
  /** The current copies. `onFollowed` must be called when a follower is removed. */
  readonly followers = new Set<SwitchObserver>();
  /** Called when a follower has made progress or was removed, or when a copy has received more of its feed, because `step` may have work again. */
  onFollowed: () => void = () => {};
  readonly #parts: SwitchQueueParts;
  readonly #watchAck: WatchAck;
  #running: RunningChange | undefined;
  /** Whether another policy may have been put in force since the running change began. */
  #isNextDue = false;
  /** The new policy of the last change. */
  #target: Policy;
  #shown: ChangeNumber = 0;

  constructor(parts: SwitchQueueParts) {
    this.#parts = parts;
    this.#target = parts.policies.policy;
    this.#watchAck = new WatchAck(parts.fanout);
  }

  /** Must be called if all records follow the policy in force and there are no watches, so there is nothing to change. */
  start(): void {
    const { reads, policies } = this.#parts;
    this.#target = policies.policy;
    reads.notePolicy();
    reads.show(this.#target);
    reads.settle(this.#target);
  }

  /**
   * Must be called when another policy may be in force. Returns the number of the change that shows this policy. The change may already be complete.
   */
  look(): ChangeNumber {
    this.#parts.reads.notePolicy();
    if (this.#running === undefined) return this.#beginNext() ? this.#shown + 1 : this.#shown;
    this.#isNextDue = true;
    return this.#shown + 2;
  }

  /**
   * Called when the replica that this copy follows begins this change to the policy in force. The previous change must be complete on this copy.
   */
  begin(number: ChangeNumber): void {
    assert(this.#running === undefined, "the previous policy change is not complete on this copy", { number });
    this.#begin(number, true);
  }

  /** Called when the new policy has been applied to all records of a copy. */
  show(): void {
    this.#running?.work.show();
  }

  /**
   * Performs up to `maxCount` units of the running change. Returns whether readers must see the change, because it is complete, possibly except for
   * copies.
   */
  step(maxCount: number, time: Clock): boolean {
    const running = this.#running;
    if (running === undefined || this.isWaiting) return false;
    if (!running.isThrough) {
      if (!this.#work(running, maxCount)) return false;
      running.isThrough = true;
      // Some watches may have paused until they were notified of this change.
      this.#parts.fanout.all();
      if (this.isWaiting) return true;
    }
    this.#end(running, time);
    return true;
  }

  get isRunning(): boolean {
    return this.#running !== undefined;
  }

  /** Whether the running change is waiting for copies or, on a copy, for the replica. `step` then has no work until `onFollowed`. */
  get isWaiting(): boolean {
    const running = this.#running;
    if (running === undefined) return false;
    return running.isThrough ? [...this.followers].some(({ isShown }) => !isShown) : running.work.isWaiting;
  }

  /** Whether some records or watches do not follow the policy in force yet. */
  get isBusy(): boolean {
    return this.#running?.isThrough === false || !this.#parts.reads.isSettled;
  }

  /** The number of the last completed change. */
  get shown(): ChangeNumber {
    return this.#shown;
  }

  /** Returns the maximum duration of a slice that begins now, in ms. */
  sliceMs({ monoMs }: Clock): number {
    const running = this.#running;
    if (running === undefined) return SLICE_MS;
    running.sinceMonoMs ??= monoMs;
    return monoMs - running.sinceMonoMs < LATE_AFTER_MS ? SLICE_MS : LATE_SLICE_MS;
  }

  /**
   * Whether another policy may be put in force: the previous change is complete, and all watches except slow ones have been notified. If false, call
   * this method again at `nextDeadlineMs`.
   */
  isAcknowledged(time: Clock): boolean {
    if (this.#running !== undefined) return false;
    return this.#watchAck.isOver(time, ![...this.followers].some(({ isAcknowledged }) => !isAcknowledged));
  }

  /**
   * Monotonic ms at which to call `isAcknowledged` again. NEVER if no caller is waiting, or while a change is running, because the change must end
   * first.
   */
  nextDeadlineMs(): number {
    return this.#running === undefined ? this.#watchAck.nextDeadlineMs() : NEVER;
  }

  /** Begins a change if another policy is in force. Returns whether a change began. */
  #beginNext(): boolean {
    if (this.#target === this.#parts.policies.policy) return false;
    this.#begin(this.#shown + 1, false);
    return true;
  }

  #begin(number: ChangeNumber, isCopy: boolean): void {
    const change = { before: this.#target, after: this.#parts.policies.policy };
    this.#target = change.after;
    for (const follower of this.followers) follower.begins(number);
    this.#running = { number, work: new PolicySwitch(this.#parts, change, isCopy), sinceMonoMs: undefined, isThrough: false };
  }

  #work({ work, number }: RunningChange, maxCount: number): boolean {
    const wasShown = work.isShown;
    const isDone = work.step(maxCount);
    if (work.isShown && !wasShown) for (const follower of this.followers) follower.shows(number);
    return isDone;
  }

  #end({ number }: RunningChange, time: Clock): void {
    this.#running = undefined;
    this.#shown = number;
    this.#watchAck.begin(this.#parts.replica.revision, time);
    if (this.#isNextDue && !this.#beginNext()) this.#shown += 1;
    this.#isNextDue = false;
  }
}

// A change from one policy to the next first touches the records whose visibility changed. It then notifies every watch of changes in the
// namespaces that the watch may see.

interface SwitchParts extends NotifierParts {
  /** This node's cluster. */
  readonly clusterId: string;
}

/** Whether a policy makes a record visible: the cluster of the record's origin must be an owner of its namespace. */
export function isAdmitted(policy: Policy, stored: StoredRecord, clusterId: string): boolean {
  return mayBeSeen(policy, stored, sourceOf(stored), clusterId);
}

/** Returns the source of a record. A received tombstone contains only its key and its origin. */
function sourceOf({ body, traits, key, origin }: StoredRecord): RecordSource {
  if (body === BODY.ENTRY) return traits;
  return origin.clusterId === "" ? { clusterId: keyParts(key).clusterId, region: origin.region } : origin;
}

/** One policy change, which is performed in slices: call `step` until it returns true. */
export class PolicySwitch {
  readonly #parts: SwitchParts;
  readonly #change: PolicyChange;
  readonly #notifier: PolicyNotifier;
  /**
   * The origins whose records must be touched, each up to its last seq at the start of the change. Later records already follow the new policy.
   * Undefined for a copy, because the original replica touches the records.
   */
  readonly #origins: { readonly origin: Origin; readonly until: number; after: number }[] | undefined;

  /** The replica's admission must already follow `after`. */
  constructor(parts: SwitchParts, change: PolicyChange, isCopy = false) {
    this.#parts = parts;
    this.#change = change;
    this.#notifier = new PolicyNotifier(parts, change);
    const origins = () => [...parts.replica.origins.values()].map((origin) => ({ origin, until: origin.log.lastOrder, after: 0 }));
    this.#origins = isCopy ? undefined : origins();
  }

  /** Whether all records follow the new policy and readers see everything that the new policy allows. */
  get isShown(): boolean {
    return this.#notifier.isShown;
  }

  /** Whether a copy must wait for `show`. */
  get isWaiting(): boolean {
    return this.#origins === undefined && !this.isShown;
  }

  /** Called when all records follow the new policy. */
  show(): void {
    this.#notifier.show();
  }

  /** Processes about `maxCount` records, or watches of the same cost. Returns whether the change is done. */
  step(maxCount: number): boolean {
    if (this.isShown) return this.#notifier.step(maxCount);
    if (this.isWaiting) return false;
    if (this.#touchSome(maxCount)) this.show();
    return false;
  }

  /** Returns whether all records follow the new policy. */
  #touchSome(maxCount: number): boolean {
    const { replica, clusterId } = this.#parts;
    const { before, after } = this.#change;
    const [place] = this.#origins ?? [];
    if (place === undefined) return true;
    const changed: StoredRecord[] = [];
    let left = maxCount;
    place.origin.log.forEachSince(place.after, (stored, seq) => {
      if (seq > place.until) return false;
      place.after = seq;
      if (stored.body === BODY.ENTRY && isAdmitted(before, stored, clusterId) !== isAdmitted(after, stored, clusterId))
        changed.push(stored);
      left -= 1;
      return left > 0;
    });
    for (const stored of changed) replica.touch(stored);
    if (left > 0) this.#origins?.shift();
    return false;
  }
}
