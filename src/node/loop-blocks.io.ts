/** Measures how long the event loop of this process is blocked. While the loop is blocked, requests are not answered and leases are not renewed. */
import { performance } from "node:perf_hooks";
import type { Log } from "../lib/log.io.ts";
import type { Metrics } from "../lib/metrics/metrics.ts";
import type { NodeComponent } from "./components.io.ts";
import { LOOK_MS, LoopBlocks } from "./loop-blocks.ts";

/**
 * Measuring begins at `start`, because no client can be waiting while the catalog is being loaded. `monitorEventLoopDelay` of Node.js has the same
 * cost but misses a block that begins right after its values are read and reset.
 */
export function watchEventLoop(log: Pick<Log, "warn">, metrics: Metrics): NodeComponent {
  const blocks = new LoopBlocks(metrics.histogram("waymark_event_loop_block_ms", {}));
  let timer: NodeJS.Timeout | undefined;
  const look = () => {
    const warning = blocks.look(performance.now());
    if (warning !== undefined) log.warn({ ...warning }, `event loop blocked for ${warning.blockMs} ms; requests may have been delayed`);
  };
  return {
    start: () => {
      look();
      timer = setInterval(look, LOOK_MS).unref();
    },
    stop: () => clearInterval(timer),
  };
}
