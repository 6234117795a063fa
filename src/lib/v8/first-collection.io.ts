/** Frees the garbage from loading the program once, as soon as a node that has started is idle. */
import { getHeapStatistics, setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";

/**
 * Largest heap for which this collection runs, so that it blocks for less than a tenth of a second. A node that has read many entries has a larger
 * heap and skips the collection.
 */
const MAX_HEAP_BYTES = 64 * 1024 * 1024;

/** Largest share of a period in which the event loop of an idle node is busy. */
const IDLE_SHARE = 0.1;

function isCollector(value: unknown): value is NodeJS.GCFunction {
  return typeof value === "function";
}

/**
 * If the heap is small, collects all garbage and returns its pages to the system. V8 does neither on its own in an idle node (docs/decisions/0011).
 * The young generation shrinks only in the kind of collection that V8 runs as a last resort before it runs out of memory. An ordinary collection does
 * not make an empty node any smaller.
 */
export function collectFirst(): void {
  if (getHeapStatistics().used_heap_size > MAX_HEAP_BYTES) return;
  setFlagsFromString("--expose-gc");
  const collect: unknown = runInNewContext("gc");
  setFlagsFromString("--no-expose-gc");
  if (isCollector(collect)) collect({ type: "major", execution: "sync", flavor: "last-resort" });
}

/** Calls `collectFirst` after the first period in which the event loop was idle, because a client that calls meanwhile waits for the collection. */
export function collectWhenIdle(periodMs: number): void {
  let before = performance.eventLoopUtilization();
  const timer = setInterval(() => {
    const { utilization } = performance.eventLoopUtilization(before);
    before = performance.eventLoopUtilization();
    if (utilization > IDLE_SHARE) return;
    clearInterval(timer);
    collectFirst();
  }, periodMs).unref();
}
