/** Runs changes of policy one after another. Between two of them it gives watches time to reach their END. */
import { NEVER, type Time } from "../lib/machine.ts";
import type { PolicyEngine } from "../policy/versions/engine.ts";
import { PolicySwitch, type SwitchParts } from "./policy-switch.ts";

/** Number of a change in this process, from 1. */
export type ChangeNumber = number;

/** Longest time of one slice, in ms, normally and once a change has taken long. */
const SLICE_MS = 5;
const LATE_SLICE_MS = 15;
const LATE_AFTER_MS = 1500;
/** Longest time after a change that the next one waits for watches, and only while some of them make progress. */
const HEARING_MS = 10_000;
const STILL_MS = 1000;
/** Time between two looks at that progress. */
const LOOK_MS = 20;

type Clock = Pick<Time, "monoMs">;

export interface SwitchQueueParts extends SwitchParts {
  readonly policies: Pick<PolicyEngine, "takeChanged">;
}

/** Number of watches that have not been told the last change completely, and the sum of their positions. */
interface Unheard {
  readonly count: number;
  readonly places: number;
}

/** After a change: the revision that watches must reach, and the time that they have for it. */
interface Hearing {
  readonly revision: number;
  readonly untilMonoMs: number;
  /** While a caller waits: the state at the last look, and the time at which a watch last made progress. */
  wait: { readonly unheard: Unheard; readonly lookedMonoMs: number; readonly movedMonoMs: number } | undefined;
}

/**
 * A policy in force is shown at once: it waits only for the change before, not for watches to be told. Putting the next policy in force
 * waits for that too. The driver calls `step` in slices of the event loop, and updates names and listeners when a change has ended.
 */
export class SwitchQueue {
  readonly #parts: SwitchQueueParts;
  #running: { readonly work: PolicySwitch; readonly sinceMonoMs: number } | undefined;
  /** While a change runs: another policy may have come into force since it began. */
  #isNextDue = false;
  #shown: ChangeNumber = 0;
  #hearing: Hearing | undefined;

  constructor(parts: SwitchQueueParts) {
    this.#parts = parts;
  }

  /** Another policy may be in force. Returns the number of the change that shows it, which may already be complete. */
  look(time: Clock): ChangeNumber {
    if (this.#running === undefined) return this.#begin(time) ? this.#shown + 1 : this.#shown;
    this.#isNextDue = true;
    return this.#shown + 2;
  }

  /** Does `maxCount` units of the running change. Returns whether it has ended. */
  step(maxCount: number, time: Clock): boolean {
    if (this.#running?.work.step(maxCount) !== true) return false;
    this.#running = undefined;
    this.#shown += 1;
    this.#hearing = { revision: this.#parts.replica.revision, untilMonoMs: time.monoMs + HEARING_MS, wait: undefined };
    // Some watches may have stopped because of a change that they were still to be told.
    this.#parts.fanout.all();
    if (this.#isNextDue && !this.#begin(time)) this.#shown += 1;
    this.#isNextDue = false;
    return true;
  }

  get isRunning(): boolean {
    return this.#running !== undefined;
  }

  /** The number of the last completed change. */
  get shown(): ChangeNumber {
    return this.#shown;
  }

  /** Longest time of a slice that begins now, in ms. */
  sliceMs({ monoMs }: Clock): number {
    const sinceMonoMs = this.#running?.sinceMonoMs ?? monoMs;
    return monoMs - sinceMonoMs < LATE_AFTER_MS ? SLICE_MS : LATE_SLICE_MS;
  }

  /**
   * Whether another policy may be put in force: the change before is complete, and all but slow watches have been told. Ask again at
   * `nextDeadlineMs`.
   */
  isHeard({ monoMs }: Clock): boolean {
    if (this.#running !== undefined) return false;
    const hearing = this.#hearing;
    if (hearing === undefined) return true;
    const unheard = this.#unheard(hearing.revision);
    const before = hearing.wait;
    const isMoved = before === undefined || unheard.count < before.unheard.count || unheard.places > before.unheard.places;
    const movedMonoMs = isMoved ? monoMs : before.movedMonoMs;
    hearing.wait = { unheard, lookedMonoMs: monoMs, movedMonoMs };
    if (unheard.count > 0 && monoMs < Math.min(hearing.untilMonoMs, movedMonoMs + STILL_MS)) return false;
    this.#hearing = undefined;
    return true;
  }

  /** Monotonic ms at which to ask `isHeard` again. NEVER if no caller waits, and while a change runs, which must end first. */
  nextDeadlineMs(): number {
    const wait = this.#hearing?.wait;
    return wait === undefined || this.#running !== undefined ? NEVER : wait.lookedMonoMs + LOOK_MS;
  }

  /** Returns whether there was another policy to begin with. */
  #begin({ monoMs }: Clock): boolean {
    const change = this.#parts.policies.takeChanged();
    if (change !== undefined) this.#running = { work: new PolicySwitch(this.#parts, change), sinceMonoMs: monoMs };
    return change !== undefined;
  }

  #unheard(revision: number): Unheard {
    let [count, places] = [0, 0];
    for (const { feed } of this.#parts.fanout.watchers()) {
      if (!feed.isTelling && feed.revision >= revision) continue;
      count += 1;
      places += feed.revision;
    }
    return { count, places };
  }
}
