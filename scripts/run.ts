/** Runs the project's tools as child processes, from the project's folder and with its own binaries first on the path. */
import { spawn } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { delimiter, join } from "node:path";
import { fileURLToPath } from "node:url";

/** The project's folder, without a final slash. */
export const ROOT = fileURLToPath(new URL("..", import.meta.url)).replace(/\/$/, "");

export interface Ran {
  /** Exit code; 1 when the process was ended by a signal or could not be started. */
  readonly code: number;
  /** What it wrote, both streams in the order they came; empty when `live`. */
  readonly output: string;
}

export interface RunOptions {
  /** Folder to run in; the project's when absent. */
  readonly cwd?: string;
  /** Added to this process's environment. */
  readonly env?: Readonly<Record<string, string>>;
  /** The child writes to our own terminal instead of into `output`. */
  readonly live?: boolean;
}

/** Runs `command` to its end. Never rejects: a command that cannot be started is a failed one that says so. */
export function run(command: string, args: readonly string[], options: RunOptions = {}): Promise<Ran> {
  // Beside our own packages: the Go tools that .ci/run, or a developer who follows it, put into the cache.
  const path = [join(ROOT, "node_modules", ".bin"), join(ROOT, ".cache", "go-bin"), process.env["PATH"] ?? ""].join(delimiter);
  return new Promise((resolve) => {
    const child = spawn(command, args, {
      cwd: options.cwd ?? ROOT,
      env: { ...process.env, ...options.env, PATH: path },
      stdio: options.live === true ? ["ignore", "inherit", "inherit"] : ["ignore", "pipe", "pipe"],
    });
    let output = "";
    const collect = (chunk: Buffer) => {
      output += chunk.toString("utf8");
    };
    child.stdout?.on("data", collect);
    child.stderr?.on("data", collect);
    child.on("error", (error) => resolve({ code: 1, output: `cannot run ${command}: ${error.message}\n` }));
    child.on("close", (code) => resolve({ code: code ?? 1, output }));
  });
}

/** Seconds of CPU that children of this process have taken until they ended, with theirs; 0 where the system does not tell. */
export function childCpuSeconds(): number {
  if (!existsSync("/proc/self/stat")) return 0;
  // The name, in brackets, may hold spaces. What follows begins with field 3; 16 and 17 are user and system time in ticks of 10 ms.
  const fields = readFileSync("/proc/self/stat", "utf8")
    .replace(/^.*\) /s, "")
    .split(" ");
  return (Number(fields[13]) + Number(fields[14])) / 100;
}

/** Runs `command` and returns its output; throws with that output when it fails. */
export async function mustRun(command: string, args: readonly string[], options: RunOptions = {}): Promise<string> {
  const ran = await run(command, args, options);
  if (ran.code !== 0) throw new Error(`${command} ${args.join(" ")} failed with code ${ran.code}\n${ran.output}`);
  return ran.output;
}
