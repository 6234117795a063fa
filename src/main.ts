/** Entry point: argv to the command line, signals to stop, the exit code. */
import { once } from "node:events";
import { runCli } from "./cli/run.ts";
import { openWorld } from "./cli/world.io.ts";
import type { ServeRequest } from "./cli/world.ts";
import { decodeLabel, encodeLabel } from "./dns/names.ts";
import { openLog } from "./lib/log.io.ts";
import { parseLogScopes } from "./lib/log-scopes.ts";
import { startNode } from "./node.ts";

const interrupt = new AbortController();
let signals = 0;

function onSignal(signal: NodeJS.Signals): void {
  signals += 1;
  // The first asks, the second does not wait.
  if (signals > 1) process.exit(signal === "SIGINT" ? 130 : 143);
  interrupt.abort();
}

process.on("SIGINT", onSignal);
process.on("SIGTERM", onSignal);
// A reader such as `head` that has seen enough is no error.
process.stdout.on("error", () => process.exit(0));

async function serve({ effective, beforeReady, onReady }: ServeRequest): Promise<void> {
  const { settings } = effective;
  const { logLevel, logScopes, logFormat } = settings.observability;
  const log = openLog({ level: logLevel, scopes: parseLogScopes(logScopes.join(",")), format: logFormat });
  const node = await startNode({ settings, log, version: world.version, beforeReady });
  const reload = (): void => node.reload();
  process.on("SIGHUP", reload);
  onReady(node);
  if (!interrupt.signal.aborted) await once(interrupt.signal, "abort");
  process.off("SIGHUP", reload);
  await node.stop();
  log.flush();
}

const world = await openWorld({ interrupt: interrupt.signal, serve, labels: { encode: encodeLabel, decode: decodeLabel } });
process.exitCode = await runCli(process.argv.slice(2), world);
