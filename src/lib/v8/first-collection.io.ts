/** Frees the garbage from loading the program, once, before a node serves its first client. */
import { getHeapStatistics, setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";

/**
 * Largest heap for this collection, so that it blocks for less than a tenth of a second. A node that has read many entries has a larger
 * heap and skips it.
 */
const MAX_HEAP_BYTES = 64 * 1024 * 1024;

function isCollector(value: unknown): value is NodeJS.GCFunction {
  return typeof value === "function";
}

/**
 * Collects all garbage and returns its pages to the system, if the heap is small. V8 does neither by itself in an idle node
 * (docs/decisions/0011). The young generation shrinks only in the kind of collection that V8 runs as a last resort before it runs out of memory.
 * After an ordinary collection, an empty node is as large as before.
 */
export function collectFirst(): void {
  if (getHeapStatistics().used_heap_size > MAX_HEAP_BYTES) return;
  setFlagsFromString("--expose-gc");
  const collect: unknown = runInNewContext("gc");
  setFlagsFromString("--no-expose-gc");
  if (isCollector(collect)) collect({ type: "major", execution: "sync", flavor: "last-resort" });
}
