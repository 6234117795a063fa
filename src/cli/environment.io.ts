/** Implements the environment for a real command line: this process's terminals, files and signals. */
import { constants, createReadStream, openSync, readFileSync } from "node:fs";
import { readFile, stat } from "node:fs/promises";
import { Socket } from "node:net";
import { join } from "node:path";
import { addAbortSignal, type Readable } from "node:stream";
import { fileURLToPath } from "node:url";
import { later } from "../lib/stall-aware-time.io.ts";
import type { Environment, Terminal } from "./environment.ts";

/** Folder that contains package.json and the files that are read at run time: the checkout, or `dist` in the package. */
const FOLDER = fileURLToPath(new URL("../..", import.meta.url));

/** Reads at most `maxBytes` and stops on interrupt, because the file may be a pipe or an endless device. */
async function readStream(stream: Readable, maxBytes: number, interrupt: AbortSignal): Promise<string> {
  const chunks: Buffer[] = [];
  let sizeBytes = 0;
  try {
    for await (const chunk of addAbortSignal(interrupt, stream)) {
      const bytes = Buffer.isBuffer(chunk) ? chunk : Buffer.from(String(chunk));
      sizeBytes += bytes.length;
      if (sizeBytes > maxBytes) throw new Error(`the file is larger than ${maxBytes} bytes`);
      chunks.push(bytes);
    }
  } catch (error) {
    if (interrupt.aborted) throw new Error("interrupted", { cause: error });
    throw error;
  }
  return Buffer.concat(chunks).toString("utf8");
}

async function readText(path: string, maxBytes: number, interrupt: AbortSignal): Promise<string> {
  if (path === "-") return readStream(process.stdin, maxBytes, interrupt);
  const stats = await stat(path);
  if (stats.isDirectory()) throw new Error("it is a directory, not a file");
  if (stats.size > maxBytes) throw new Error(`the file is ${stats.size} bytes, more than the limit of ${maxBytes}`);
  return readStream(stats.isFIFO() ? openPipe(path) : createReadStream(path), maxBytes, interrupt);
}

/** Opens a pipe as a socket, so that waiting for a writer happens in the event loop. A thread that waits would prevent the process from exiting. */
function openPipe(path: string): Readable {
  return new Socket({ fd: openSync(path, constants.O_RDONLY | constants.O_NONBLOCK), readable: true, writable: false });
}

async function ask(question: string, interrupt: AbortSignal): Promise<string> {
  process.stderr.write(question);
  const { createInterface } = await import("node:readline");
  // Not in raw mode, so that Ctrl+C still interrupts the command.
  const lines = createInterface({ input: process.stdin, terminal: false, signal: interrupt });
  const { value } = await lines[Symbol.asyncIterator]().next();
  lines.close();
  return value ?? "";
}

function terminal(stream: NodeJS.WriteStream): Terminal {
  return { write: (text) => void stream.write(text), isTty: stream.isTTY };
}

/** Creates the environment. `own` contains the parts that only the entry point can provide. */
export async function openEnvironment(
  own: Pick<
    Environment,
    | "interrupt"
    | "runsNoNode"
    | "serve"
    | "labels"
    | "readPolicy"
    | "writePolicy"
    | "verifyAudit"
    | "fileWarnings"
    | "fileFaults"
    | "announceKey"
    | "copyStore"
    | "certificates"
  >,
): Promise<Environment> {
  const facts: unknown = JSON.parse(readFileSync(join(FOLDER, "package.json"), "utf8"));
  const version = typeof facts === "object" && facts !== null && "version" in facts ? String(facts.version) : "unknown";
  return {
    ...own,
    version,
    env: process.env,
    stdout: terminal(process.stdout),
    stderr: terminal(process.stderr),
    later,
    readText: (path, maxBytes) => readText(path, maxBytes, own.interrupt),
    ...(process.stdin.isTTY && process.stderr.isTTY && { ask: (question) => ask(question, own.interrupt) }),
    readOwn: (path) => readFile(join(FOLDER, path), "utf8"),
  };
}
