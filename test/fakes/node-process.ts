/** A real node in its own process, and the real command line against it. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { type Client, connect } from "../../src/client/index.ts";
import { until } from "./until.ts";

/** The pack of `program-setup.ts`; the sources where no test runner made one. */
export const WAYMARK = process.env["PROGRAM_OF_TESTS"] ?? "bin/waymark";
// Many short processes run the same sources: compiling them once halves the time of these tests.
const NODE_COMPILE_CACHE = "node_modules/.cache/compile";
/** Of five nodes that start at once on a busy machine. */
const START_MS = 120_000;

export interface Finished {
  readonly exit: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Those that were not seen to end. A test that runs out of time disposes of nothing: then its process ends them when it ends, by itself or by one of two signals. */
const running = new Set<ChildProcess>();
function endAll(): void {
  for (const child of running) child.kill("SIGKILL");
}
process.on("exit", endAll);
for (const signal of ["SIGTERM", "SIGHUP"] as const) {
  process.once(signal, () => {
    endAll();
    process.kill(process.pid, signal);
  });
}

/** A started command: what it said so far, and its end. */
export class CommandProcess implements AsyncDisposable {
  readonly #child: ChildProcess;
  readonly #ended: Promise<number>;
  readonly #said = { stdout: "", stderr: "" };
  /** It has ended, and everything it said is here: its end alone can be known before its last words. */
  #isOver = false;

  /** `wrapper` is put before the command, as `strace` is: one that leaves the process id to the command. `program` is another version's. */
  constructor(argv: readonly string[], input = "", wrapper: readonly string[] = [], program = WAYMARK) {
    // Settings of whoever runs the tests are not part of them.
    const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith("WAYMARK_")));
    const [command = program, ...rest] = [...wrapper, program, ...argv];
    this.#child = spawn(command, rest, { stdio: ["pipe", "pipe", "pipe"], env: { ...env, NODE_COMPILE_CACHE } });
    running.add(this.#child);
    // A chunk may end inside a character.
    this.#child.stdout?.setEncoding("utf8").on("data", (text: string) => (this.#said.stdout += text));
    this.#child.stderr?.setEncoding("utf8").on("data", (text: string) => (this.#said.stderr += text));
    // A program may end before it reads its input. Its exit says whether that is a fault, not the broken pipe.
    this.#child.stdin?.on("error", () => undefined).end(input);
    this.#ended = new Promise((resolve) => {
      const over = (exit: number): void => {
        this.#isOver = true;
        running.delete(this.#child);
        resolve(exit);
      };
      this.#child.once("close", (code: number | null) => over(code ?? -1));
      // It could not be started, or a signal could not be sent: only the first of them is an end.
      this.#child.on("error", (error) => {
        this.#said.stderr += `${error.message}\n`;
        if (this.#child.pid === undefined) over(-1);
      });
    });
  }

  get stdout(): string {
    return this.#said.stdout;
  }

  get stderr(): string {
    return this.#said.stderr;
  }

  get pid(): number {
    return this.#child.pid ?? 0;
  }

  get isRunning(): boolean {
    return this.#child.exitCode === null && this.#child.signalCode === null;
  }

  kill(signal: NodeJS.Signals): void {
    this.#child.kill(signal);
  }

  async finished(): Promise<Finished> {
    return { exit: await this.#ended, stdout: this.stdout, stderr: this.stderr };
  }

  /** Waits until standard output has a line that matches; fails with all that was said. */
  async line(pattern: RegExp, withinMs = START_MS): Promise<string> {
    return this.#line("stdout", pattern, withinMs);
  }

  /** As `line`, of standard error. */
  async errorLine(pattern: RegExp, withinMs = START_MS): Promise<string> {
    return this.#line("stderr", pattern, withinMs);
  }

  async #line(from: "stdout" | "stderr", pattern: RegExp, withinMs: number): Promise<string> {
    const signal = AbortSignal.timeout(withinMs);
    for (;;) {
      const found = this.#said[from]
        .split("\n")
        .slice(0, -1)
        .find((each) => pattern.test(each));
      if (found !== undefined) return found;
      if (signal.aborted || this.#isOver) throw new Error(`no line like ${pattern.source}; stdout: ${this.stdout}; stderr: ${this.stderr}`);
      // Either a chunk, the end, or the deadline; each ends in another look.
      await Promise.race([once(this.#child[from] ?? this.#child, "data", { signal }), this.#ended]).catch(() => {});
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.isRunning) this.kill("SIGKILL");
    await this.#ended;
  }
}

/** Flags of `serve`, and a free port for each listener of which they say none. */
export function onFreePorts(flags: readonly string[]): readonly string[] {
  const free = ["--grpc-port", "--http-port", "--dns-port", "--fabric-port"].filter((flag) => !flags.includes(flag));
  return [...free.flatMap((flag) => [flag, "0"]), ...flags];
}

/** Runs a command to its end. */
export async function waymarkProcess(argv: readonly string[], input?: string): Promise<Finished> {
  return new CommandProcess(argv, input).finished();
}

/** The one line of `serve -o json`, the same in all versions. */
interface ReadyLine {
  readonly node_id: string;
  readonly listeners: Readonly<Record<string, string>>;
}

export class NodeProcess implements AsyncDisposable {
  readonly command: CommandProcess;
  readonly nodeId: string;
  readonly listeners: Readonly<Record<string, string>>;

  constructor(command: CommandProcess, ready: ReadyLine) {
    this.command = command;
    this.nodeId = ready.node_id;
    this.listeners = ready.listeners;
  }

  /** `host:port` of the gRPC listener. */
  get grpc(): string {
    return this.listeners["grpc"] ?? "";
  }

  /** Runs a command against this node. */
  async run(argv: readonly string[], input?: string): Promise<Finished> {
    return waymarkProcess([...argv, "--server", this.grpc], input);
  }

  async stop(signal: NodeJS.Signals = "SIGTERM"): Promise<Finished> {
    this.command.kill(signal);
    return this.command.finished();
  }

  /** Pauses the process (SIGSTOP) for `forMs`, and for longer if `meanwhile` takes longer. */
  async paused(forMs: number, meanwhile: () => Promise<void> = async () => {}): Promise<void> {
    const endMonoMs = performance.now() + forMs;
    this.command.kill("SIGSTOP");
    try {
      await meanwhile();
      await until("the pause is over", () => performance.now() >= endMonoMs, 2 * forMs);
    } finally {
      this.command.kill("SIGCONT");
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.command[Symbol.asyncDispose]();
  }
}

/** Asks a node something with a client of its own. */
export async function withClient<T>(node: NodeProcess, use: (client: Client) => Promise<T>): Promise<T> {
  const client = connect({ servers: [node.grpc], findServers: false });
  try {
    return await use(client);
  } finally {
    client.close();
  }
}

/**
 * Starts a node on free ports, or on those the flags say, and waits until it is ready; `onSpawn` gets its process id before it does anything.
 * A port that a node had before may be anybody's by now, for a connection that lasts a moment: then it is tried again.
 */
export async function startNodeProcess(
  flags: readonly string[],
  wrapper: readonly string[] = [],
  onSpawn: (pid: number) => void = () => {},
  program: string = WAYMARK,
): Promise<NodeProcess> {
  for (const endMonoMs = performance.now() + START_MS; ; ) {
    const command = new CommandProcess(["serve", "-o", "json", ...onFreePorts(flags)], "", wrapper, program);
    onSpawn(command.pid);
    try {
      return new NodeProcess(command, JSON.parse(await command.line(/"event":"(?:not_)?ready"/)) as ReadyLine);
    } catch (error) {
      // Nobody else would stop it.
      await command[Symbol.asyncDispose]();
      if (!command.stderr.includes("address already in use") || performance.now() > endMonoMs) throw error;
    }
  }
}
