/** Node's ticks stay as cheap as they are at the start. */
import { createHook } from "node:async_hooks";

let kept: object | undefined;

/**
 * Keeps one tick of `process.nextTick` for as long as the process lives. V8 makes a tick fast while it remembers the shapes that a tick goes
 * through, and a garbage collection forgets every shape that no object has. After that, Node 24 needs ten times as long for each tick, for
 * good: 245 ns instead of 24, and a query takes about ten ticks. Whether this happens depends on when the first full collection comes: a
 * node with a policy file was slow, and one without was not. docs/decisions/0011 has the measurements.
 */
export function keepTick(): void {
  const hook = createHook({
    init: (_id, type, _trigger, resource) => {
      if (type === "TickObject") kept ??= resource;
    },
  });
  hook.enable();
  process.nextTick(() => {});
  hook.disable();
}
