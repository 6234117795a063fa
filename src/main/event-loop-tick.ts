/** Keeps the ticks of Node as fast as they are when the process starts. */
import { createHook } from "node:async_hooks";

let kept: object | undefined;

/**
 * Keeps one tick object of `process.nextTick` for the lifetime of the process. Ticks are fast while V8 remembers the object shapes that they use, and
 * a garbage collection drops every shape that no object has. After that, Node 24 permanently needs ten times as long for each tick: 245 ns instead of
 * 24 ns. A query uses about ten ticks. Whether this happens depends on the time of the first full collection: for example, a node with a policy file
 * was slow, and a node without one was not. docs/decisions/0011 has the measurements.
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
