/** Changes of policy one after another, and between two of them a time in which watches come to their END. */
import type { Time } from "../lib/machine.ts";
import type { PolicyEngine } from "../policy/versions/engine.ts";
import { PolicySwitch, type SwitchParts } from "./policy-switch.ts";

/** Changes of one process life, counted from 1. */
export type ChangeNumber = number;

/** Longest time one slice may take, in ms, and once a change has taken long. */
const SLICE_MS = 5;
const LATE_SLICE_MS = 15;
const LATE_AFTER_MS = 1500;
/** After a change, watches have this long to hear it out before the next begins, and only while some of them come further. */
const HEARING_MS = 10_000;
const STILL_MS = 1000;
/** Between two looks at whether they have. */
const LOOK_MS = 20;

type Clock = Pick<Time, "monoMs">;

export interface SwitchQueueParts extends SwitchParts {
  readonly policies: Pick<PolicyEngine, "takeChanged">;
}

/** How many watches have not heard the last change out, and the sum of where they stand. */
interface Unheard {
  readonly count: number;
  readonly places: number;
}

/** After a change: what watches have to have been told of, and until when they have time. */
interface Hearing {
  readonly revision: number;
  readonly untilMonoMs: number;
  /** Since somebody waits: what was seen at the last look, and when a watch was seen to come further. */
  wait: { readonly unheard: Unheard; readonly lookedMonoMs: number; readonly movedMonoMs: number } | undefined;
}

/**
 * What is in force is shown at once: it waits for the change before, not for who hears of it. What is to be put in force next waits for
 * that too. The driver calls `step` in slices of the event loop, and brings names and listeners up to date when one has ended.
 */
export class SwitchQueue {
  readonly #parts: SwitchQueueParts;
  #running: { readonly work: PolicySwitch; readonly sinceMonoMs: number } | undefined;
  /** While one runs: another policy may have come into force since it began. */
  #isNextDue = false;
  #shown: ChangeNumber = 0;
  #hearing: Hearing | undefined;

  constructor(parts: SwitchQueueParts) {
    this.#parts = parts;
  }

  /** Another policy may be in force. Returns the number of the change with which it is shown, which may be over already. */
  look(time: Clock): ChangeNumber {
    if (this.#running === undefined) return this.#begin(time) ? this.#shown + 1 : this.#shown;
    this.#isNextDue = true;
    return this.#shown + 2;
  }

  /** Does so many units of the change that runs; returns whether it has ended with them. */
  step(maxCount: number, time: Clock): boolean {
    if (this.#running?.work.step(maxCount) !== true) return false;
    this.#running = undefined;
    this.#shown += 1;
    this.#hearing = { revision: this.#parts.replica.revision, untilMonoMs: time.monoMs + HEARING_MS, wait: undefined };
    // Some may have stood still at what they were still to be told.
    this.#parts.fanout.all();
    if (this.#isNextDue && !this.#begin(time)) this.#shown += 1;
    this.#isNextDue = false;
    return true;
  }

  get isRunning(): boolean {
    return this.#running !== undefined;
  }

  /** The number of the last change that is over. */
  get shown(): ChangeNumber {
    return this.#shown;
  }

  /** Longest time that the slice which begins now may take, in ms. */
  sliceMs({ monoMs }: Clock): number {
    const sinceMonoMs = this.#running?.sinceMonoMs ?? monoMs;
    return monoMs - sinceMonoMs < LATE_AFTER_MS ? SLICE_MS : LATE_SLICE_MS;
  }

  /** Whether another policy may be put in force: the change before is through, and heard by everybody who is not slow. Ask again at `nextDeadlineMs`. */
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

  /** Monotonic ms at which whoever waits asks `isHeard` again; undefined when nobody waits, and while a change runs, which has to end first. */
  nextDeadlineMs(): number | undefined {
    const wait = this.#hearing?.wait;
    return wait === undefined || this.#running !== undefined ? undefined : wait.lookedMonoMs + LOOK_MS;
  }

  /** Returns whether there was another policy to begin with. */
  #begin({ monoMs }: Clock): boolean {
    const change = this.#parts.policies.takeChanged();
    if (change !== undefined) this.#running = { work: new PolicySwitch(this.#parts, change), sinceMonoMs: monoMs };
    return change !== undefined;
  }

  #unheard(revision: number): Unheard {
    const { fanout, replica } = this.#parts;
    let [count, places] = [0, 0];
    for (const { isTelling, lagRevisions } of fanout.watchers()) {
      const place = replica.revision - lagRevisions;
      if (!isTelling && place >= revision) continue;
      count += 1;
      places += place;
    }
    return { count, places };
  }
}
