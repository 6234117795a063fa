/** Watches how long the event loop of this process is held: while it is held, nobody is answered and no lease is renewed. */
import { performance } from "node:perf_hooks";
import type { Log } from "../lib/log.io.ts";
import type { Metrics } from "../lib/metrics/metrics.ts";
import type { NodeComponent } from "./components.io.ts";
import { LOOK_MS, LoopBlocks } from "./loop-blocks.ts";

/**
 * Watches from `start` on: while a catalog is loaded nobody is there who could be kept waiting. `monitorEventLoopDelay` of Node would do the
 * same for the same cost, but forgets what begins just after it was read and reset.
 */
export function watchEventLoop(log: Pick<Log, "warn">, metrics: Metrics): NodeComponent {
  const blocks = new LoopBlocks(metrics.histogram("waymark_event_loop_block_ms", {}));
  let timer: NodeJS.Timeout | undefined;
  const look = () => {
    const warning = blocks.look(performance.now());
    if (warning !== undefined)
      log.warn({ ...warning }, "the event loop was held, or the process stood still; meanwhile this thread answered nobody");
  };
  return {
    start: () => {
      look();
      timer = setInterval(look, LOOK_MS).unref();
    },
    stop: () => clearInterval(timer),
  };
}
