/** Waiting that an interrupt ends. */
import type { Environment } from "./environment.ts";

/** Resolves after `lengthMs`, or at once when the world is interrupted. */
export function sleep({ later, interrupt }: Pick<Environment, "later" | "interrupt">, lengthMs: number): Promise<void> {
  if (interrupt.aborted) return Promise.resolve();
  return new Promise((resolve) => {
    const cancel = later(() => {
      interrupt.removeEventListener("abort", stop);
      resolve();
    }, lengthMs);
    const stop = (): void => {
      cancel();
      resolve();
    };
    interrupt.addEventListener("abort", stop, { once: true });
  });
}
