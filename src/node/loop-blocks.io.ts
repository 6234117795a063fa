/** Watches how long the event loop of this process is held: while it is held, nobody is answered and no lease is renewed. */
import { monitorEventLoopDelay } from "node:perf_hooks";
import type { Log } from "../lib/log.io.ts";
import type { Metrics } from "../lib/metrics/metrics.ts";
import type { Component } from "./components.io.ts";
import { LoopBlocks, RESOLUTION_MS, SECOND_MS } from "./loop-blocks.ts";

/** Starts at once, because loading a catalog may hold the loop too. */
export function watchEventLoop(log: Pick<Log, "warn">, metrics: Metrics): Component {
  const blocks = new LoopBlocks(metrics.histogram("waymark_event_loop_block_ms", {}));
  const delays = monitorEventLoopDelay({ resolution: RESOLUTION_MS });
  delays.enable();
  const timer = setInterval(() => {
    const warning = blocks.second(delays.max / 1e6);
    delays.reset();
    if (warning !== undefined)
      log.warn({ ...warning }, "the event loop was held, or the process stood still; meanwhile nobody was answered");
  }, SECOND_MS);
  timer.unref();
  return {
    stop: () => {
      clearInterval(timer);
      delays.disable();
    },
  };
}
