/** Waiting that an interrupt ends. */
import { setTimeout as wait } from "node:timers/promises";

/** Resolves after `lengthMs`, or at once when `signal` aborts. */
export async function sleep(lengthMs: number, signal: AbortSignal): Promise<void> {
  try {
    await wait(lengthMs, undefined, { signal });
  } catch (error) {
    if (!signal.aborted) throw error;
  }
}
