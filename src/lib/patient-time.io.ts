/** The patient clock of this process's event loop, and timers by it: for deadlines that judge others, and for none that limits ourselves. */
import { LOOK_MS, type Patience, PatientClock } from "./patience.ts";

// One a process, as there is one event loop.
const clock = new PatientClock();
let looking: NodeJS.Timeout | undefined;

/** The clock, which is watched from now on. */
export function patienceOfLoop(): Patience {
  looking ??= setInterval(() => clock.nowMs(performance.now()), LOOK_MS).unref();
  return clock;
}

/** Monotonic ms in which a standstill of the loop counts at most 250: deadlines are set by it, and compared with `patientDueMs`. */
export function patientNowMs(): number {
  return patienceOfLoop().nowMs(performance.now());
}

/** Up to which of those ms deadlines are due: just after a standstill not yet up to now. */
export function patientDueMs(): number {
  return patienceOfLoop().dueMs(performance.now());
}

/** Whether the loop stood still until a moment ago: what others sent meanwhile may not be read yet. */
export function isJustAwake(): boolean {
  patientNowMs();
  return clock.isJustAwake;
}

export interface PatientTimeout {
  /** It is due the whole delay from now. */
  refresh(): void;
  clear(): void;
}

/** As `setTimeout`, by the patient clock: what ran out while the loop stood still has what was left of it. */
export function patientTimeout(callback: () => void, delayMs: number): PatientTimeout {
  let dueMs = patientNowMs() + delayMs;
  let timer: NodeJS.Timeout;
  const look = () => {
    const leftMs = dueMs - patientDueMs();
    if (leftMs < 1) callback();
    else timer = setTimeout(look, leftMs);
  };
  timer = setTimeout(look, delayMs);
  return {
    refresh: () => {
      dueMs = patientNowMs() + delayMs;
    },
    clear: () => clearTimeout(timer),
  };
}
