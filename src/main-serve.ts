/** The command `serve` in this process: a node from ready to stopped. */
import { once } from "node:events";
import { flushCompileCache } from "node:module";
import { setFlagsFromString } from "node:v8";
import type { ServeRequest } from "./cli/world.ts";
import { openLog } from "./lib/log.io.ts";
import { parseLogScopes } from "./lib/log-scopes.ts";
import { startNode } from "./node.ts";

/**
 * V8 learns where objects that live long are made, and makes those to come straight in the old generation. It learns that
 * wrongly of HTTP/2 streams: one of these old and dead objects then keeps its call until the next full collection, so that
 * every call outlives the young generation. At 10,000 calls a second a collection of it took 23 ms, four times a second,
 * and a full one 100 ms; without this 3 ms and 20.
 */
setFlagsFromString("--no-allocation-site-pretenuring");

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
