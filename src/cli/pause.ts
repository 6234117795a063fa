/** Waiting that an interrupt ends. */
import type { World } from "./world.ts";

/** Resolves after `lengthMs`, or at once when the world is interrupted. */
export function sleep({ later, interrupt }: Pick<World, "later" | "interrupt">, lengthMs: number): Promise<void> {
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
