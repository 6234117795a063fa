/** The entry point of the command line. This file passes on argv, handles signals and sets the exit code. */

import { openEnvironment } from "../cli/environment.io.ts";
import type { ServeRequest } from "../cli/environment.ts";
import { runCli } from "../cli/run.ts";
import { letHangUpEnd } from "./sighup.ts";

const interrupt = new AbortController();
let signals = 0;

function onSignal(signal: NodeJS.Signals): void {
  signals += 1;
  // The first signal requests the command to end. The second signal ends the process immediately.
  if (signals > 1) process.exit(signal === "SIGINT" ? 130 : 143);
  interrupt.abort();
}

process.on("SIGINT", onSignal);
process.on("SIGTERM", onSignal);
// A reader such as `head` may close the pipe early, which is not an error.
process.stdout.on("error", () => process.exit(0));

/** Maximum time that the process keeps running after its command has ended, in ms. A node has closed everything by then. */
const CLOSE_MS = 1000;

async function serve(request: ServeRequest): Promise<void> {
  // Loaded only here, because importing the server's code would double the start time of client commands.
  const { serveNode } = await import("./serve.ts");
  try {
    await serveNode(request, { version: environment.version, interrupt: interrupt.signal });
  } finally {
    // A thread, a socket or a reader of stderr that does not respond must not keep the process alive, because its parent is waiting for the exit
    // code.
    setTimeout(() => process.exit(), CLOSE_MS).unref();
  }
}

const environment = await openEnvironment({
  interrupt: interrupt.signal,
  runsNoNode: letHangUpEnd,
  serve,
  labels: {
    encode: async (text) => (await import("../dns/names/labels.ts")).encodeLabel(text),
    decode: async (label) => (await import("../dns/names/labels.ts")).decodeLabel(label),
  },
  fileWarnings: async (settings) => (await import("../node/files/file-warnings.io.ts")).fileWarnings(settings),
  fileFaults: async (settings) => (await import("../node/files/file-faults.io.ts")).fileFaults(settings),
  announceKey: async (request) => (await import("./keys.ts")).announceKey(request),
  copyStore: async (settings) => (await import("./store.ts")).copyStore(settings),
  certificates: () => import("./identity.ts"),
  readPolicy: async (text) => (await import("./policy.ts")).readPolicy(text),
  writePolicy: async (policy, format) => (await import("./policy.ts")).writePolicy(policy, format),
  verifyAudit: async (text) => (await import("./policy.ts")).verifyAudit(text),
});
process.exitCode = await runCli(process.argv.slice(2), environment);
// The command has ended, so the next signal ends the process.
signals = 1;
// The lookup of a server's name cannot be cancelled, and keeps the process running until it gets an answer.
if (process.stdout.writableLength === 0) setTimeout(() => process.exit(), CLOSE_MS).unref();
