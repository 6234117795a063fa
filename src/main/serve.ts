/** The command `serve` in this process: runs a node from start to stop. */
import { once } from "node:events";
import { flushCompileCache } from "node:module";
import { setFlagsFromString } from "node:v8";
import type { ServeRequest } from "../cli/environment.ts";
import { openLog } from "../lib/log.io.ts";
import { parseLogScopes } from "../lib/log-scopes.ts";
import { collectWhenIdle } from "../lib/v8/first-collection.io.ts";
import { V8_FLAGS } from "../lib/v8/flags.ts";
import { lowerWorkerPriority } from "../lib/v8/worker-priority.io.ts";
import { startNode } from "../node/node.io.ts";
import { startResolver } from "../node/resolver/resolver-node.io.ts";
import type { RunningNode } from "../node/starting.io.ts";
import { heedHangUp } from "./sighup.ts";

for (const flag of V8_FLAGS) setFlagsFromString(flag);

/** Period for which a node must be idle before it collects garbage for the first time. */
const COLLECTION_PERIOD_MS = 1000;

export interface ServeOptions {
  readonly version: string;
  /** Aborts when the node must stop. */
  readonly interrupt: AbortSignal;
}

/** Runs a node until `interrupt` aborts, even before the node is ready. Throws if it cannot start. */
export async function serveNode(request: ServeRequest, { version, interrupt }: ServeOptions): Promise<void> {
  const { effective, beforeReady, onReady } = request;
  const { settings, origins } = effective;
  const { logLevel, logScopes, logFormat } = settings.observability;
  const log = openLog({ level: logLevel, scopes: parseLogScopes(logScopes.join(",")), format: logFormat });
  let node: RunningNode;
  try {
    const onceStarted = async (grpc: string): Promise<void> => {
      await beforeReady?.(grpc);
      // Node writes its compile cache when the process exits, but not after kill -9. Writing the cache now costs time at the first start and saves
      // time at later starts.
      flushCompileCache();
    };
    const start = settings.node.mode === "resolver" ? startResolver : startNode;
    node = await start({ settings, origins, log, version, beforeReady: onceStarted, interrupt, onOpened: heedHangUp });
  } catch (error) {
    if (!interrupt.aborted || error !== interrupt.reason) throw error;
    await log.end();
    return;
  }
  if (!interrupt.aborted) onReady(node);
  // While a node starts, its own threads wait for the code that V8's threads compile.
  lowerWorkerPriority();
  collectWhenIdle(COLLECTION_PERIOD_MS);
  if (!interrupt.aborted) await once(interrupt, "abort");
  // A node that is stopping does not reread its files.
  heedHangUp(() => {});
  await node.stop();
  await log.end();
}
