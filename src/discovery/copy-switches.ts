/**
 * The changes of policy at a copy of the replica. Its records are touched by the replica that it follows; what its own readers see, and its own
 * watches are told, changes here.
 */
import { assert } from "../lib/errors.ts";
import { NEVER, type Time } from "../lib/machine.ts";
import { NO_POLICY, type Policy } from "../policy/set/verdict.ts";
import type { PolicySource } from "../policy/set/visibility.ts";
import { Hearing } from "./hearing.ts";
import { PolicyTelling, type TellingParts } from "./policy-telling.ts";
import { type ChangeNumber, sliceMs } from "./switch-queue.ts";

type Clock = Pick<Time, "monoMs">;

export interface CopySwitchesParts extends TellingParts {
  readonly policies: PolicySource;
}

/** Driven as a `SwitchQueue` is. Numbers are those of the replica's. */
export class CopySwitches {
  /** To be called when more of the feed was heard: `step` may have something to do again. */
  onFollowed: () => void = () => {};
  readonly #parts: CopySwitchesParts;
  readonly #hearing: Hearing;
  /** The policy that the last change led to. */
  #told: Policy = NO_POLICY;
  #running: { readonly number: ChangeNumber; readonly telling: PolicyTelling; sinceMonoMs: number | undefined } | undefined;
  #shown: ChangeNumber = 0;

  constructor(parts: CopySwitchesParts) {
    this.#parts = parts;
    this.#hearing = new Hearing(parts.fanout);
  }

  /** The copy is whole: all its records follow the policy in force. */
  start(): void {
    const { reads, policies } = this.#parts;
    this.#told = policies.policy;
    reads.show(this.#told);
    reads.settle(this.#told);
  }

  /** A change to the policy in force begins. The change before is complete here. */
  begin(number: ChangeNumber): void {
    assert(this.#running === undefined, "a change of policy begins before the one before is complete at this copy", { number });
    const change = { before: this.#told, after: this.#parts.policies.policy };
    this.#told = change.after;
    this.#running = { number, telling: new PolicyTelling(this.#parts, change), sinceMonoMs: undefined };
  }

  /** All records follow the policy of the change. */
  show(): void {
    this.#running?.telling.show();
  }

  /** As `SwitchQueue.look`; changes begin elsewhere. */
  look(_time: Clock): ChangeNumber {
    return this.#running?.number ?? this.#shown;
  }

  step(maxCount: number, time: Clock): boolean {
    const running = this.#running;
    if (running === undefined || this.isWaiting || !running.telling.step(maxCount)) return false;
    this.#running = undefined;
    this.#shown = running.number;
    this.#hearing.begin(this.#parts.replica.revision, time);
    this.#parts.fanout.all();
    return true;
  }

  get isRunning(): boolean {
    return this.#running !== undefined;
  }

  /** Whether records are still to be touched for the change. */
  get isWaiting(): boolean {
    return this.#running?.telling.isShown === false;
  }

  get shown(): ChangeNumber {
    return this.#shown;
  }

  sliceMs(time: Clock): number {
    if (this.#running !== undefined) this.#running.sinceMonoMs ??= time.monoMs;
    return sliceMs(this.#running?.sinceMonoMs, time);
  }

  isHeard(time: Clock): boolean {
    return this.#running === undefined && this.#hearing.isOver(time);
  }

  nextDeadlineMs(): number {
    return this.#running === undefined ? this.#hearing.nextDeadlineMs() : NEVER;
  }
}
