/** The command `serve` in this process: a node from ready to stopped. */
import { once } from "node:events";
import { flushCompileCache } from "node:module";
import { setFlagsFromString } from "node:v8";
import type { ServeRequest } from "./cli/world.ts";
import { openLog } from "./lib/log.io.ts";
import { parseLogScopes } from "./lib/log-scopes.ts";
import { startNode } from "./node.ts";

/**
 * How V8 shall collect garbage; docs/decisions/0011 has the measurements.
 *
 * It learns where objects that live long are made, and makes those to come straight in the old generation. It learns that
 * wrongly of HTTP/2 streams: one of these old and dead objects then keeps its call until the next full collection, so that
 * every call outlives the young generation. At 10,000 calls a second a collection of it took 23 ms, four times a second,
 * and a full one 100 ms; without this 3 ms and 20.
 *
 * Node makes nearly each header value of a call a string outside the heap, which only a full collection frees, all at once:
 * 1.5 µs a call since the last one, 0.8 with what bin/waymark sets. So one begins when the old generation grew by half, not by
 * three times its size; it then has as much room again to mark beside the event loop. And none is made only because 100 s
 * passed without: that one compacts all pages, 0.35 s on a small node and 1 s on one with a million entries.
 */
const V8_FLAGS = [
  "--no-allocation-site-pretenuring",
  "--heap-growing-percent=100",
  "--incremental-marking-soft-trigger=50",
  "--incremental-marking-hard-trigger=80",
  "--memory-reducer-gc-count=0",
];

for (const flag of V8_FLAGS) setFlagsFromString(flag);

export interface ServeOptions {
  readonly version: string;
  /** Aborts when the node is to stop. */
  readonly interrupt: AbortSignal;
}

/** Runs a node until `interrupt` aborts. Throws when it cannot start. */
export async function serveNode({ effective, beforeReady, onReady }: ServeRequest, { version, interrupt }: ServeOptions): Promise<void> {
  const { settings } = effective;
  const { logLevel, logScopes, logFormat } = settings.observability;
  const log = openLog({ level: logLevel, scopes: parseLogScopes(logScopes.join(",")), format: logFormat });
  const node = await startNode({ settings, log, version, beforeReady, interrupt });
  const reload = (): void => node.reload();
  process.on("SIGHUP", reload);
  // Node keeps what it compiled when it ends, which kill -9 does not let it; the first start pays for this, later ones have it.
  flushCompileCache();
  if (!interrupt.aborted) onReady(node);
  if (!interrupt.aborted) await once(interrupt, "abort");
  process.off("SIGHUP", reload);
  await node.stop();
  log.flush();
}
