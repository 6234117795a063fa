/** A world for the command line: files and terminals in memory. */
import { readFile } from "node:fs/promises";
import type { Environment, ServeRequest } from "../../src/cli/environment.ts";
import { runCli } from "../../src/cli/run.ts";
import * as certificates from "../../src/main/identity.ts";
import { announceKey } from "../../src/main/keys.ts";
import { readPolicy, verifyAudit, writePolicy } from "../../src/main/policy.ts";
import { copyStore } from "../../src/main/store.ts";
import { fileFaults } from "../../src/node/files/file-faults.io.ts";
import { fileWarnings } from "../../src/node/files/file-warnings.io.ts";

export interface Ran {
  readonly exit: number;
  readonly stdout: string;
  readonly stderr: string;
}

export interface WorldOptions {
  readonly files?: Readonly<Record<string, string>>;
  readonly env?: Readonly<Record<string, string>>;
  readonly isTty?: boolean;
  /** What the user types when asked. Absent, there is no terminal to ask on. */
  readonly typed?: string;
  readonly interrupt?: AbortSignal;
  /** As the world's; absent, no time passes. */
  readonly later?: Environment["later"];
  readonly serve?: (request: ServeRequest) => Promise<void>;
  /** Told of each write to standard output. */
  readonly onStdout?: (text: string) => void;
  /** Told of each write to standard error. */
  readonly onStderr?: (text: string) => void;
}

/** Runs a command line in memory. */
export async function waymark(argv: readonly string[], options: WorldOptions = {}): Promise<Ran> {
  const { files = {}, env = {}, isTty = false } = options;
  const written = { stdout: "", stderr: "" };
  const world: Environment = {
    version: "0.0.0-test",
    env,
    stdout: {
      write: (text) => {
        written.stdout += text;
        options.onStdout?.(text);
      },
      isTty,
    },
    stderr: {
      write: (text) => {
        written.stderr += text;
        options.onStderr?.(text);
      },
      isTty,
    },
    runsNoNode: () => {},
    interrupt: options.interrupt ?? new AbortController().signal,
    later: options.later ?? (() => () => {}),
    readText: async (path) => {
      const text = files[path];
      if (text === undefined) throw new Error("there is no such file");
      return text;
    },
    ask:
      options.typed === undefined
        ? undefined
        : async (question) => {
            written.stderr += `${question}${options.typed}\n`;
            return options.typed ?? "";
          },
    readOwn: (path) => readFile(path, "utf8"),
    labels: {
      encode: async (text) => (text === "bad name" ? undefined : `l-${text}`),
      decode: async (label) => (label.startsWith("l-") ? label.slice(2) : undefined),
    },
    fileWarnings: async (settings) => fileWarnings(settings),
    fileFaults,
    announceKey: async (asked) => announceKey(asked),
    copyStore,
    certificates: async () => certificates,
    readPolicy: async (text) => readPolicy(text),
    writePolicy: async (policy, format) => writePolicy(policy, format),
    verifyAudit: async (text) => verifyAudit(text),
    serve: options.serve ?? (async () => {}),
  };
  const exit = await runCli(argv, world);
  return { exit, ...written };
}
