/** Waiting that an abort ends. */
import { setTimeout as wait } from "node:timers/promises";

/** Resolves after `waitMs`, or when the signal is aborted. */
export async function pause(waitMs: number, signal?: AbortSignal): Promise<void> {
  try {
    await wait(waitMs, undefined, { ...(signal && { signal }) });
  } catch (error) {
    if (signal?.aborted !== true) throw error;
  }
}
