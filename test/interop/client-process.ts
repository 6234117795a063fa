/** A client in another language, run against a real node that is restarted when the client asks for it. */
import { spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { ROOT } from "../../scripts/run.ts";
import { type NodeProcess, startNodeProcess } from "../fakes/node-process.ts";

/** One stretch of a watch: how it began and what it told. */
interface Part {
  readonly began_with_snapshot: boolean;
  readonly told: Readonly<Record<"messages" | "creates" | "updates" | "removes" | "snapshots" | "bookmarks" | "digests", number>>;
  readonly held: number;
}

interface Refusal {
  /** As the language's library spells it. */
  readonly code: string;
  readonly reason: string;
  readonly fields: readonly string[];
  /** From RetryInfo; -1 without one. */
  readonly retry_ms: number;
}

/** What the clients print last; the same names in every language. */
export interface Summary {
  readonly event: "done";
  readonly node_id: string;
  readonly registered: number;
  readonly same_lease: boolean;
  readonly pages: number;
  readonly paged: number;
  readonly bad_entry: Refusal;
  readonly bad_token: Refusal;
  readonly bad_cursor: Refusal;
  readonly resolved: string;
  readonly first: Part;
  readonly short: Part;
  readonly cut: Refusal;
  readonly farewell: boolean;
  readonly re_registered: boolean;
  readonly portable: Part;
  readonly foreign_short: Part;
  readonly renewals: number;
  readonly lease_outlived: boolean;
  readonly unregistered: number;
  readonly left: number;
}

export interface Restart {
  readonly signal: "SIGKILL" | "SIGTERM";
  /** Without a disk the node comes back knowing nothing, as a new generation of the same node id. */
  readonly isEphemeral: boolean;
}

/** Runs a client through its scenario; rejects with what it wrote to stderr when it fails. */
export async function runClient(command: readonly string[], restart: Restart): Promise<Summary> {
  const folder = mkdtempSync(join(tmpdir(), "waymark-interop-"));
  const flags = restart.isEphemeral ? ["--ephemeral", "--node-id", "interop"] : ["--data-dir", folder];
  let node = await startNodeProcess(flags);
  try {
    return await converse([...command, "--address", node.grpc], async () => {
      node = await restarted(node, restart.signal, flags);
      return node.grpc;
    });
  } finally {
    await node[Symbol.asyncDispose]();
    rmSync(folder, { recursive: true, force: true });
  }
}

async function restarted(node: NodeProcess, signal: Restart["signal"], flags: readonly string[]): Promise<NodeProcess> {
  const ended = await node.stop(signal);
  if (signal === "SIGTERM" && ended.exit !== 0) throw new Error(`the node ended with ${ended.exit}: ${ended.stderr}`);
  return startNodeProcess(flags);
}

async function converse([file = "", ...args]: readonly string[], onRestart: () => Promise<string>): Promise<Summary> {
  const child = spawn(file, args, { cwd: ROOT, stdio: ["pipe", "pipe", "pipe"] });
  let said = "";
  // A chunk may end inside a character.
  child.stderr.setEncoding("utf8").on("data", (text: string) => (said += text));
  try {
    for await (const line of createInterface({ input: child.stdout })) {
      const event = JSON.parse(line) as Summary | { readonly event: "restart" };
      if (event.event === "done") return event;
      child.stdin.write(`${await onRestart()}\n`);
    }
  } finally {
    child.kill("SIGKILL");
  }
  throw new Error(`the client ended without its summary: ${said}`);
}

/** `InvalidArgument`, `INVALID_ARGUMENT` and `invalid_argument` are one word in three languages. */
export function plainCode(code: string): string {
  return code.replaceAll("_", "").toLowerCase();
}
