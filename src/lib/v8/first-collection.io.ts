/** What loading the program has left is given back once, before a node serves anybody. */
import { getHeapStatistics, setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";

/** Up to so much heap a collection of all takes less than a tenth of a second. A node that has read many entries has more, and begins at once. */
const MAX_HEAP_BYTES = 64 * 1024 * 1024;

function isCollector(value: unknown): value is NodeJS.GCFunction {
  return typeof value === "function";
}

/**
 * Collects all garbage and gives its pages back to the system, where the heap is small. V8 does neither by itself in a node that is idle, as
 * docs/decisions/0011 has it. Only the collection that V8 makes before it gives up makes the young generation small again: a usual one leaves
 * an empty node as large as it was.
 */
export function collectFirst(): void {
  if (getHeapStatistics().used_heap_size > MAX_HEAP_BYTES) return;
  setFlagsFromString("--expose-gc");
  const collect: unknown = runInNewContext("gc");
  setFlagsFromString("--no-expose-gc");
  if (isCollector(collect)) collect({ type: "major", execution: "sync", flavor: "last-resort" });
}
