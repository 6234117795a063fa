/** The patient clock of this process's event loop, and timers by it: for deadlines that judge others, and for none that limits ourselves. */
import { LOOK_MS, PatientClock } from "./patience.ts";

// One a process, as there is one event loop.
const clock = new PatientClock();
let looking: NodeJS.Timeout | undefined;

/** How much of the time until now does not count. The first call begins to watch the loop. */
export function skippedNowMs(monoMs: number): number {
  looking ??= setInterval(() => clock.skippedMs(performance.now()), LOOK_MS).unref();
  return clock.skippedMs(monoMs);
}

/** Monotonic ms in which a standstill of the loop counts at most 250. To be compared with itself only. */
export function patientNowMs(): number {
  const monoMs = performance.now();
  return monoMs - skippedNowMs(monoMs);
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
    const leftMs = dueMs - patientNowMs();
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
