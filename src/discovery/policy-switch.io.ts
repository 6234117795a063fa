/** Runs a change of policy in slices of the event loop, one change after another. */
import { performance } from "node:perf_hooks";

/** Longest time one slice may take. */
const SLICE_MS = 5;
/** Records or watches looked at between two looks at the clock. */
const STEP_COUNT = 256;

/** Calls `step` until it returns true, never holding the loop for long; resolves then. */
export function runSlices(step: (maxCount: number) => boolean): Promise<void> {
  return new Promise((resolve) => {
    const slice = () => {
      const end = performance.now() + SLICE_MS;
      while (performance.now() < end) if (step(STEP_COUNT)) return resolve();
      setImmediate(slice);
    };
    slice();
  });
}
