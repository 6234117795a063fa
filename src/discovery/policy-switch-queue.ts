/** Runs changes of policy one after another, on a replica or on a copy of one. Between two of them it gives watches time to reach their END. */

import { BODY, keyParts } from "../catalog/record/record.ts";
import type { Origin, StoredRecord } from "../catalog/record/stored-record.ts";
import { assert } from "../lib/errors.ts";
import { NEVER, type Time } from "../lib/machine.ts";
import type { Policy, RecordSource } from "../policy/set/verdict.ts";
import { mayBeSeen, type PolicySource } from "../policy/set/verdict.ts";
import { type NotifierParts, type PolicyChange, PolicyNotifier } from "./policy-notifier.ts";
import { WatchAck } from "./watch-ack.ts";

/** Number of a change in this process, from 1. */
export type ChangeNumber = number;

/** Longest time of one slice, in ms, normally and once a change has taken long. */
const SLICE_MS = 5;
const LATE_SLICE_MS = 15;
const LATE_AFTER_MS = 1500;

type Clock = Pick<Time, "monoMs">;

export interface SwitchQueueParts extends SwitchParts {
  readonly policies: PolicySource;
}

/** A copy of the replica with readers of its own, which have to be told of a change before it is complete. */
export interface SwitchObserver {
  /** A change begins; numbers of these grow. A follower that was not there then is not told of the rest of that change. */
  begins(change: ChangeNumber): void;
  /** All records follow it. */
  shows(change: ChangeNumber): void;
  /** Whether the copy has shown the last change, and told all its watches what they have to be told. */
  readonly isShown: boolean;
  /** Whether all but slow watches have got that. */
  readonly isHeard: boolean;
}

interface RunningChange {
  readonly number: ChangeNumber;
  readonly work: PolicySwitch;
  /** The start of its first slice. */
  sinceMonoMs: number | undefined;
  /** Whether it is complete here, and copies may still be at it. */
  isThrough: boolean;
}

/**
 * A policy in force is shown at once: it waits only for the change before, not for watches to be told. Putting the next policy in force
 * waits for that too. The driver calls `step` in slices of the event loop, and updates names and listeners when a change has ended. A replica calls `look`
 * when another policy may be in force. A copy calls `begin` and `show` when its feed says so.
 */
export class SwitchQueue {
  /** The copies that are there. When one is taken away, call `onFollowed`. */
  readonly followers = new Set<SwitchObserver>();
  /** Called when a follower is further than it was, or gone, and when a copy received more of its feed: `step` may have something to do again. */
  onFollowed: () => void = () => {};
  readonly #parts: SwitchQueueParts;
  readonly #watchAck: WatchAck;
  #running: RunningChange | undefined;
  /** While a change runs: another policy may have come into force since it began. */
  #isNextDue = false;
  /** The policy that the last change led to. */
  #led: Policy;
  #shown: ChangeNumber = 0;

  constructor(parts: SwitchQueueParts) {
    this.#parts = parts;
    this.#led = parts.policies.policy;
    this.#watchAck = new WatchAck(parts.fanout);
  }

  /** All records follow the policy in force, and there are no watches: nothing has to change. */
  start(): void {
    const { reads, policies } = this.#parts;
    this.#led = policies.policy;
    reads.notePolicy();
    reads.show(this.#led);
    reads.settle(this.#led);
  }

  /** Another policy may be in force. Returns the number of the change that shows it, which may already be complete. */
  look(): ChangeNumber {
    this.#parts.reads.notePolicy();
    if (this.#running === undefined) return this.#beginNext() ? this.#shown + 1 : this.#shown;
    this.#isNextDue = true;
    return this.#shown + 2;
  }

  /** The replica that a copy follows begins this change to the policy in force. The change before is complete here. */
  begin(number: ChangeNumber): void {
    assert(this.#running === undefined, "a change of policy begins before the one before is complete at this copy", { number });
    this.#begin(number, true);
  }

  /** All records of a copy follow the policy of the change. */
  show(): void {
    this.#running?.work.show();
  }

  /** Does `maxCount` units of the running change. Returns whether readers must be shown something: it is complete, or complete but for copies. */
  step(maxCount: number, time: Clock): boolean {
    const running = this.#running;
    if (running === undefined || this.isWaiting) return false;
    if (!running.isThrough) {
      if (!this.#work(running, maxCount)) return false;
      running.isThrough = true;
      // Some watches may have stopped because of a change that they were still to be told.
      this.#parts.fanout.all();
      if (this.isWaiting) return true;
    }
    this.#end(running, time);
    return true;
  }

  get isRunning(): boolean {
    return this.#running !== undefined;
  }

  /** Whether the running change waits for copies, or at a copy for the replica, so that `step` has nothing to do before `onFollowed`. */
  get isWaiting(): boolean {
    const running = this.#running;
    if (running === undefined) return false;
    return running.isThrough ? [...this.followers].some(({ isShown }) => !isShown) : running.work.isWaiting;
  }

  /** Whether some records or watches here do not follow the policy in force yet. */
  get isBusy(): boolean {
    return this.#running?.isThrough === false || !this.#parts.reads.isSettled;
  }

  /** The number of the last completed change. */
  get shown(): ChangeNumber {
    return this.#shown;
  }

  /** Longest time of a slice that begins now, in ms. */
  sliceMs({ monoMs }: Clock): number {
    const running = this.#running;
    if (running === undefined) return SLICE_MS;
    running.sinceMonoMs ??= monoMs;
    return monoMs - running.sinceMonoMs < LATE_AFTER_MS ? SLICE_MS : LATE_SLICE_MS;
  }

  /**
   * Whether another policy may be put in force: the change before is complete, and all but slow watches have been told. Ask again at
   * `nextDeadlineMs`.
   */
  isHeard(time: Clock): boolean {
    if (this.#running !== undefined) return false;
    return this.#watchAck.isOver(time, ![...this.followers].some(({ isHeard }) => !isHeard));
  }

  /** Monotonic ms at which to ask `isHeard` again. NEVER if no caller waits, and while a change runs, which must end first. */
  nextDeadlineMs(): number {
    return this.#running === undefined ? this.#watchAck.nextDeadlineMs() : NEVER;
  }

  /** Returns whether there was another policy to begin with. */
  #beginNext(): boolean {
    if (this.#led === this.#parts.policies.policy) return false;
    this.#begin(this.#shown + 1, false);
    return true;
  }

  #begin(number: ChangeNumber, isCopy: boolean): void {
    const change = { before: this.#led, after: this.#parts.policies.policy };
    this.#led = change.after;
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

// Changes from one policy to the next: touches the records whose visibility changed, then every watch is told what it may see now.

interface SwitchParts extends NotifierParts {
  /** This node's cluster. */
  readonly clusterId: string;
}

/** Whether a policy lets a record be seen: the cluster of its origin must be an owner of its namespace. */
export function isAdmitted(policy: Policy, stored: StoredRecord, clusterId: string): boolean {
  return mayBeSeen(policy, stored, sourceOf(stored), clusterId);
}

/** The source of a record. A received tombstone has only its key and its origin. */
function sourceOf({ body, traits, key, origin }: StoredRecord): RecordSource {
  if (body === BODY.ENTRY) return traits;
  return origin.clusterId === "" ? { clusterId: keyParts(key).clusterId, region: origin.region } : origin;
}

/** One change of policy, done in slices: call `step` until it returns true. */
export class PolicySwitch {
  readonly #parts: SwitchParts;
  readonly #change: PolicyChange;
  readonly #telling: PolicyNotifier;
  /**
   * The origins to touch, each up to its number at the start of the change: later records already follow the new policy. Undefined for a copy, whose
   * records are touched by the replica that it follows.
   */
  readonly #origins: { readonly origin: Origin; readonly until: number; after: number }[] | undefined;

  /** The replica's admission must already follow `after`. */
  constructor(parts: SwitchParts, change: PolicyChange, isCopy = false) {
    this.#parts = parts;
    this.#change = change;
    this.#telling = new PolicyNotifier(parts, change);
    const origins = () => [...parts.replica.origins.values()].map((origin) => ({ origin, until: origin.log.lastOrder, after: 0 }));
    this.#origins = isCopy ? undefined : origins();
  }

  /** Whether all records follow the new policy, and readers are shown what it allows. */
  get isShown(): boolean {
    return this.#telling.isShown;
  }

  /** Whether a copy must wait for `show`. */
  get isWaiting(): boolean {
    return this.#origins === undefined && !this.isShown;
  }

  /** All records follow the new policy. */
  show(): void {
    this.#telling.show();
  }

  /** Looks at about `maxCount` records, or at watches of the same cost. Returns whether everything is done. */
  step(maxCount: number): boolean {
    if (this.isShown) return this.#telling.step(maxCount);
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
