/**
 * Loaded into a measured node (`--import`), not part of it: answers over the parent's channel how long its event loop was
 * held, and what its heap is after a collection.
 */
import { monitorEventLoopDelay } from "node:perf_hooks";

/** How often the loop is looked at, in ms: what a held loop adds is measured beyond this. */
const LOOK_MS = 1;

export interface Probed {
  /** Longest time between two looks beyond LOOK_MS, by the clock: neighbours on the core count too. */
  readonly maxDelayMs: number;
  readonly p99DelayMs: number;
  /** Most CPU time the main thread spent between two looks: what held the loop whatever the neighbours do. */
  readonly maxHeldCpuMs: number;
  readonly heapBytes: number;
  readonly externalBytes: number;
  readonly rssBytes: number;
}

const delay = monitorEventLoopDelay({ resolution: LOOK_MS });
delay.enable();
let held = 0;
let lastUs = threadCpuUs();

function threadCpuUs(): number {
  const { user, system } = process.threadCpuUsage();
  return user + system;
}

setInterval(() => {
  const nowUs = threadCpuUs();
  held = Math.max(held, nowUs - lastUs);
  lastUs = nowUs;
}, LOOK_MS).unref();

process.on("message", (order: unknown) => {
  if (order === "gc") global.gc?.();
  if (order === "reset") {
    delay.reset();
    held = 0;
  }
  const memory = process.memoryUsage();
  const probed: Probed = {
    maxDelayMs: Math.max(0, delay.max / 1e6 - LOOK_MS),
    p99DelayMs: Math.max(0, delay.percentile(99) / 1e6 - LOOK_MS),
    maxHeldCpuMs: held / 1000,
    heapBytes: memory.heapUsed,
    externalBytes: memory.external + memory.arrayBuffers,
    rssBytes: memory.rss,
  };
  process.send?.(probed);
});
process.channel?.unref();
