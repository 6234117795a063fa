/** Runs the project's tools as child processes, from the project's folder and with its own binaries first on the path. */
import { spawn } from "node:child_process";
import { delimiter, join } from "node:path";
import { fileURLToPath } from "node:url";

/** The project's folder, without a final slash. */
export const ROOT = fileURLToPath(new URL("..", import.meta.url)).replace(/\/$/, "");

/** A shell runs the command, because it can say how much CPU its children took. */
const TIMED = '"$@" 3>&-; code=$?; times >&3; exit $code';
const LIVE = ["ignore", "inherit", "inherit"] as const;
const PIPED = ["ignore", "pipe", "pipe"] as const;

export interface Ran {
  /** Exit code; 1 when the process was ended by a signal or could not be started. */
  readonly code: number;
  /** What it wrote, both streams in the order they came; empty when `live`. */
  readonly output: string;
  /** Seconds of CPU that it took, with all processes that it started and waited for. */
  readonly cpuSeconds: number;
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
    const child = spawn("sh", ["-c", TIMED, "sh", command, ...args], {
      cwd: options.cwd ?? ROOT,
      env: { ...process.env, ...options.env, PATH: path },
      stdio: [...(options.live === true ? LIVE : PIPED), "pipe"],
    });
    let [output, times] = ["", ""];
    const collect = (chunk: Buffer) => {
      output += chunk.toString("utf8");
    };
    child.stdout?.on("data", collect);
    child.stderr?.on("data", collect);
    child.stdio[3]?.on("data", (chunk: Buffer) => {
      times += chunk.toString("utf8");
    });
    child.on("error", (error) => resolve({ code: 1, output: `cannot run ${command}: ${error.message}\n`, cpuSeconds: 0 }));
    child.on("close", (code) => resolve({ code: code ?? 1, output, cpuSeconds: secondsOf(times) }));
  });
}

/** The sum of what the shell's `times` says of its children, on its second line: `1m2.34s 0m0.56s`. */
function secondsOf(times: string): number {
  const ofChildren = (times.split("\n")[1] ?? "").matchAll(/(\d+)m([\d.]+)s/g);
  return [...ofChildren].reduce((sum, [, minutes, seconds]) => sum + Number(minutes) * 60 + Number(seconds), 0);
}

/** Runs `command` and returns its output; throws with that output when it fails. */
export async function mustRun(command: string, args: readonly string[], options: RunOptions = {}): Promise<string> {
  const ran = await run(command, args, options);
  if (ran.code !== 0) throw new Error(`${command} ${args.join(" ")} failed with code ${ran.code}\n${ran.output}`);
  return ran.output;
}
