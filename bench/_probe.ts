/**
 * Loaded into a measured node (`--import`), not part of it: answers over the parent's channel how long its event loop was
 * held, and what its heap is after a collection. It looks at the loop rarely but while it watches it.
 */
import { monitorEventLoopDelay } from "node:perf_hooks";

/** How often the loop is looked at, in ms: what a held loop adds is measured beyond this. */
const LOOK_MS = 1;
/** The same while nobody asked for more: two thousandths of a core. */
const RARELY_MS = 5;

/** "watch" starts a new look at the loop, "read" ends it; "begin" forgets how long it was held so far; "gc" collects garbage first. */
export type ProbeOrder = "begin" | "watch" | "read" | "gc";

export interface Probed {
  /** Longest time between two looks beyond LOOK_MS, by the clock: neighbours on the core count too. */
  readonly maxDelayMs: number;
  readonly p99DelayMs: number;
  /** Most CPU time the main thread spent between two looks since the last "watch" or "begin": what held the loop whatever the neighbours do. */
  readonly maxHeldCpuMs: number;
  readonly heapBytes: number;
  /** Buffers outside V8's heap. */
  readonly externalBytes: number;
  readonly rssBytes: number;
}

let delay: ReturnType<typeof monitorEventLoopDelay> | undefined;
let timer: NodeJS.Timeout | undefined;
let heldUs = 0;

function threadCpuUs(): number {
  const { user, system } = process.threadCpuUsage();
  return user + system;
}

function look(everyMs: number): void {
  clearInterval(timer);
  let lastUs = threadCpuUs();
  timer = setInterval(() => {
    const nowUs = threadCpuUs();
    heldUs = Math.max(heldUs, nowUs - lastUs);
    lastUs = nowUs;
  }, everyMs).unref();
}

function watchLoop(): void {
  delay = monitorEventLoopDelay({ resolution: LOOK_MS });
  delay.enable();
  look(LOOK_MS);
}

process.on("message", (order: ProbeOrder) => {
  delay?.disable();
  if (order === "gc") global.gc?.();
  const memory = process.memoryUsage();
  const probed: Probed = {
    maxDelayMs: Math.max(0, (delay?.max ?? 0) / 1e6 - LOOK_MS),
    p99DelayMs: Math.max(0, (delay?.percentile(99) ?? 0) / 1e6 - LOOK_MS),
    maxHeldCpuMs: heldUs / 1000,
    heapBytes: memory.heapUsed,
    externalBytes: memory.external,
    rssBytes: memory.rss,
  };
  if (order === "watch" || order === "begin") heldUs = 0;
  if (order === "watch") watchLoop();
  else look(RARELY_MS);
  process.send?.(probed);
});
process.channel?.unref();
