/** Starts and stops what is measured, alone on core 0; load comes from this process on core 1. */
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { cpus } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { setFlagsFromString } from "node:v8";
import type { Probed, ProbeOrder } from "./_probe.ts";
import type { Address } from "./_wire.ts";

const ROOT = fileURLToPath(new URL("..", import.meta.url));
const SERVER_CORE = "0";
const LOAD_CORE = "1";
/** The options that bin/waymark gives Node, and the program as users run it. */
export const NODE_OPTIONS = ["--disable-warning=DEP0123", "--max-semi-space-size=4"] as const;
const PROGRAM = { dist: join("dist", "src", "main.js"), src: join("src", "main.ts") } as const;
/** Flags with their values, unless a benchmark gives them others. */
const NODE_ARGS = [
  ["--grpc-port", "0"],
  ["--http-port", "0"],
  ["--dns-port", "0"],
  ["--fabric-port", "0"],
  ["--log-level", "warn"],
  ["-o", "json"],
] as const;

/** How long a node may take to say how its loop was held. */
const ANSWER_MS = 1000;
/** The same of its metrics, which it gathers first: it is asked under load. */
const SCRAPE_MS = 5000;
/** Of each node that was stopped, the longest time for which its event loop was held by CPU work, in ms, as the probe in it says. */
const probedMs: number[] = [];
/** The same of each that ran without the probe, by the clock, as its own metric says: the end of the bucket, Infinity beyond the last. */
const toldMs: number[] = [];

/** The longest that the probe has seen in any node, in ms of CPU; undefined where none had it. */
export function longestHoldMs(): number | undefined {
  return probedMs.length === 0 ? undefined : Math.max(...probedMs);
}

/** What `report` tells of the event loops of all nodes of ours that were measured and asked before they were stopped. */
export function loopNotes(): readonly string[] {
  const nodes = ({ length }: readonly number[]) => (length === 1 ? "a node" : `${length} nodes`);
  const probed = `CPU work blocked the event loop of ${nodes(probedMs)} for at most ${Math.max(...probedMs).toPrecision(3)} ms at a time, garbage collections included, since the node was ready or last measured.`;
  const most = Math.max(...toldMs);
  const own = Number.isFinite(most) ? `at most ${most} ms` : "more than ten seconds";
  const plain = `The event loop of ${nodes(toldMs)} without the benchmark's probe was blocked for ${own} at a time, loading included, by the node's own metric waymark_event_loop_block_ms. The metric uses the clock, so other programs on the core count; the value is the upper bound of its bucket; and it can be up to 20 ms too short.`;
  return [...(probedMs.length > 0 ? [probed] : []), ...(toldMs.length > 0 ? [plain] : [])];
}

/** What bin/waymark sets. */
export const NODE_ENV = { GLIBC_TUNABLES: "glibc.malloc.mxfast=0" };

export interface Running {
  readonly name: "waymark" | "etcd" | "consul" | "nats" | "coredns" | "knot" | "step-ca" | "echo";
  readonly pid: number;
  /** Where it is asked: by gRPC, Consul by HTTP. */
  readonly grpc: Address;
  /** From spawn to ready. */
  readonly startMs: number;
  /** CPU time so far, all threads. */
  cpuMs(): number;
  rssKiB(): number;
  /** What of it is the process's own: no page of a file that it has mapped (its program, a database), and nothing that it shares. */
  rssAnonKiB(): number;
  stop(signal?: NodeJS.Signals): Promise<void>;
}

export interface Node extends Running {
  /** Listener name to `host:port`. */
  readonly listeners: Readonly<Record<string, string>>;
  /** What the probe in the process says. */
  probe(order: ProbeOrder): Promise<Probed>;
}

export interface NodeOptions {
  /** Absent: `--ephemeral`. */
  readonly dataDir?: string;
  readonly nodeFlags?: readonly string[];
  readonly args?: readonly string[];
  /** Without the probe and without `--expose-gc`, as users run it. */
  readonly isPlain?: boolean;
  /** On whatever core there is, where several nodes are measured. */
  readonly isFree?: boolean;
  /** Checkout whose dist runs; this one when absent. */
  readonly root?: string;
  /** What users run when absent. A profile of the sources names their files. */
  readonly program?: keyof typeof PROGRAM;
  /** Called with each line of the log. Absent: the log goes where this process's does. */
  readonly onLog?: (line: string) => void;
}

/** Where a node listens; no host and port 0 where it has no such listener. */
export function listenerOf({ listeners }: Pick<Node, "listeners">, name: string): Address {
  const [host = "", port = ""] = (listeners[name] ?? "").split(":");
  return { host, port: Number(port) };
}

/** Whether a tool is on the path. */
export function hasTool(name: string): boolean {
  try {
    execFileSync("which", [name], { stdio: "ignore" });
    return true;
  } catch {
    return false;
  }
}

/** Puts this process, and what it starts, on the load's core, and keeps its collections as short as the node's (src/lib/v8/flags.ts). */
export function pinSelf(): void {
  setFlagsFromString("--no-allocation-site-pretenuring");
  if (hasTool("taskset")) execFileSync("taskset", ["-a", "-p", "-c", LOAD_CORE, String(process.pid)], { stdio: "ignore" });
}

/** What others took of the server's core while `work` ran, 0 to 1: above a tenth, latencies say little. */
export async function neighbourShare(servers: readonly (Pick<Running, "cpuMs"> | undefined)[], work: () => Promise<void>): Promise<number> {
  return shareWhile(work, [othersOn(SERVER_CORE, () => servers.reduce((sum, server) => sum + (server?.cpuMs() ?? 0), 0))]);
}

/**
 * The same of the server's core or of the load's, whichever is more: where latency is measured here. `helping`: processes of the benchmark that share
 * the load's core, and are no strangers.
 */
export async function neighbourShareOfBoth(
  server: Running,
  work: () => Promise<void>,
  helping: readonly Pick<Running, "cpuMs">[] = [],
): Promise<number> {
  const loadMs = () => helping.reduce((sum, each) => sum + each.cpuMs(), selfMs());
  return shareWhile(work, [othersOn(SERVER_CORE, () => server.cpuMs()), othersOn(LOAD_CORE, loadMs)]);
}

async function shareWhile(work: () => Promise<void>, spentMs: readonly (() => number)[]): Promise<number> {
  const startMs = performance.now();
  await work();
  const tookMs = performance.now() - startMs;
  return Math.max(0, ...spentMs.map((spent) => spent() / tookMs));
}

/** CPU time others spend on a core from now on. */
function othersOn(core: string, ownMs: () => number): () => number {
  const [busyMs, cpuMs] = [coreBusyMs(core), ownMs()];
  return () => coreBusyMs(core) - busyMs - (ownMs() - cpuMs);
}

function selfMs(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1000;
}

/** All but idle and waiting for disks. */
function coreBusyMs(core: string): number {
  const line = new RegExp(`^cpu${core} (.*)$`, "m").exec(readFileSync("/proc/stat", "utf8"))?.[1] ?? "";
  return line.split(" ").reduce((sum, ticks, i) => (i === 3 || i === 4 || i > 7 ? sum : sum + Number(ticks) * 10), 0);
}

/** A directory on the project's own disk, gone when the benchmark is over. */
export function scratchDir(name: string): string {
  const parent = join(ROOT, ".cache", "bench");
  mkdirSync(parent, { recursive: true });
  const made = mkdtempSync(join(parent, `${name}-`));
  process.on("exit", () => rmSync(made, { recursive: true, force: true }));
  return made;
}

/** A command as it runs on the core of what is measured. */
export function onServerCore(command: string, args: readonly string[]): readonly [string, readonly string[]] {
  return hasTool("taskset") ? ["taskset", ["-c", SERVER_CORE, command, ...args]] : [command, args];
}

/** The same on whatever core there is: a child takes over where this process is pinned. */
function onAnyCore(command: string, args: readonly string[]): readonly [string, readonly string[]] {
  return hasTool("taskset") ? ["taskset", ["-c", `0-${cpus().length - 1}`, command, ...args]] : [command, args];
}

/** Starts a node and waits for its ready line. */
export async function startNode({
  dataDir,
  nodeFlags = [],
  args = [],
  isPlain = false,
  isFree = false,
  root = ROOT,
  program = "dist",
  onLog,
}: NodeOptions = {}): Promise<Node> {
  const nodeArgs = [
    ...(isPlain ? [] : ["--expose-gc", "--import", join(ROOT, "bench", "_probe.ts")]),
    ...nodeFlags,
    ...NODE_OPTIONS,
    join(root, PROGRAM[program]),
    "serve",
    ...(dataDir === undefined ? ["--ephemeral"] : ["--data-dir", dataDir]),
    ...NODE_ARGS.flatMap(([flag, value]) => (args.includes(flag) ? [] : [flag, value])),
    ...args,
  ];
  const [command, all] = (isFree ? onAnyCore : onServerCore)(process.execPath, nodeArgs);
  const startedMs = performance.now();
  const stderr = onLog === undefined ? "inherit" : "pipe";
  const child = spawn(command, all, { stdio: ["ignore", "pipe", stderr, "ipc"], env: { ...process.env, ...NODE_ENV } });
  if (child.stderr !== null && onLog !== undefined) createInterface({ input: child.stderr }).on("line", onLog);
  const line = await firstLine(child);
  const startMs = performance.now() - startedMs;
  const ready = JSON.parse(line) as { readonly listeners: Readonly<Record<string, string>> };
  const probe = async (order: ProbeOrder) => {
    const answer = once(child, "message");
    child.send(order);
    const [probed] = (await answer) as [Probed];
    return probed;
  };
  if (!isPlain) await probe("begin");
  const running = runningOf("waymark", child, { grpc: listenerOf(ready, "grpc"), startMs });
  return {
    ...running,
    listeners: ready.listeners,
    probe,
    async stop(signal) {
      // A node that was ended or frozen does not say it any more.
      const late = AbortSignal.timeout(ANSWER_MS);
      const probed =
        isPlain || !child.connected ? undefined : await Promise.race([probe("read"), once(late, "abort"), once(child, "exit")]);
      // A node whose sources are profiled is held by that too.
      if (probed !== undefined && "maxHeldCpuMs" in probed && program === "dist") probedMs.push(probed.maxHeldCpuMs);
      const held = isPlain ? await ownHoldMs(ready.listeners["http"]) : undefined;
      if (held !== undefined) toldMs.push(held);
      await running.stop(signal);
    },
  };
}

/** What a node's own metric says of its loop so far: the end of the highest bucket that counted, in ms. Undefined: it serves no metrics, or has counted nothing. */
async function ownHoldMs(http: string | undefined): Promise<number | undefined> {
  try {
    const answer = await fetch(`http://${http}/metrics`, { signal: AbortSignal.timeout(SCRAPE_MS) });
    const text = await answer.text();
    const buckets = [...text.matchAll(/^waymark_event_loop_block_ms_bucket\{.*?le="([^"]+)"\} (\d+)$/gm)];
    const all = Math.max(0, ...buckets.map(([, , count]) => Number(count)));
    const ends = buckets.filter(([, , count]) => Number(count) === all).map(([, end]) => (end === "+Inf" ? Infinity : Number(end)));
    return all === 0 ? undefined : Math.min(...ends);
  } catch {
    // It was frozen, or has ended.
    return undefined;
  }
}

/**
 * Starts a bare node:http2 server that answers each message with `answerBytes`, and writes `changeBytes` to each watch for one: what no gRPC
 * answer of ours can be cheaper than.
 */
export async function startEcho(answerBytes: number, changeBytes = 0): Promise<Running> {
  const [command, args] = onServerCore(process.execPath, [join(ROOT, "bench", "_echo-child.ts"), String(answerBytes), String(changeBytes)]);
  const startedMs = performance.now();
  const child = spawn(command, args, { stdio: ["ignore", "pipe", "inherit"], env: { ...process.env, ...NODE_ENV } });
  const grpc = { host: "127.0.0.1", port: Number(await firstLine(child)) };
  return runningOf("echo", child, { grpc, startMs: performance.now() - startedMs });
}

/** Starts a bare node:dgram socket that answers each question with as many bytes as we do: what no DNS answer of ours can be cheaper than. */
export async function startDnsEcho(bytesOfA: number, bytesOfSrv: number): Promise<Running> {
  const [command, args] = onServerCore(process.execPath, [join(ROOT, "bench", "_dns-echo-child.ts"), String(bytesOfA), String(bytesOfSrv)]);
  const startedMs = performance.now();
  const child = spawn(command, args, { stdio: ["ignore", "pipe", "inherit"], env: { ...process.env, ...NODE_ENV } });
  const grpc = { host: "127.0.0.1", port: Number(await firstLine(child)) };
  return runningOf("echo", child, { grpc, startMs: performance.now() - startedMs });
}

/** Starts PeerService over so many members, of which so many change in a second. */
export async function startMemberTable(members: number, perSecond: number): Promise<Running & { readonly http: Address }> {
  const [command, args] = onServerCore(process.execPath, [
    ...NODE_OPTIONS,
    join(ROOT, "bench", "_members-child.ts"),
    String(members),
    String(perSecond),
  ]);
  const startedMs = performance.now();
  const child = spawn(command, args, { stdio: ["ignore", "pipe", "inherit"], env: { ...process.env, ...NODE_ENV } });
  const { http, grpc } = JSON.parse(await firstLine(child)) as { readonly http: number; readonly grpc: number };
  const at = (port: number) => ({ host: "127.0.0.1", port });
  return { ...runningOf("waymark", child, { grpc: at(grpc), startMs: performance.now() - startedMs }), http: at(http) };
}

/** A child that is measured. It ends with this process. */
export function runningOf(name: Running["name"], child: ChildProcess, at: Pick<Running, "grpc" | "startMs">): Running {
  const pid = child.pid ?? 0;
  const exited = once(child, "exit");
  // One a process that is measured: ten members and their directories are no leak.
  process.setMaxListeners(100);
  const onExit = () => child.kill("SIGKILL");
  process.on("exit", onExit);
  return {
    name,
    pid,
    ...at,
    cpuMs: () => cpuMsOf(pid),
    rssKiB: () => statusKiB(pid, "VmRSS"),
    rssAnonKiB: () => statusKiB(pid, "RssAnon"),
    async stop(signal = "SIGTERM") {
      process.off("exit", onExit);
      child.kill(signal);
      await exited;
    },
  };
}

function statusKiB(pid: number, field: "VmRSS" | "RssAnon"): number {
  return Number(new RegExp(`^${field}:\\s+(\\d+)`, "m").exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1]);
}

/** Of all threads that live, as the scheduler counts it in ns: `/proc/PID/stat` counts in 10 ms, too coarse for short rounds. */
export function cpuMsOf(pid: number): number {
  let ns = 0;
  for (const thread of readdirSync(`/proc/${pid}/task`)) {
    try {
      ns += Number(readFileSync(`/proc/${pid}/task/${thread}/schedstat`, "utf8").split(" ")[0]);
    } catch {
      // The thread has ended since the list was read.
    }
  }
  return ns / 1e6;
}

/** What the node prints when it is ready; its output is read on, so that it never waits for us. */
function firstLine(child: ChildProcess): Promise<string> {
  return new Promise((resolve, reject) => {
    let text = "";
    child.stdout?.on("data", (chunk: Buffer) => {
      if (text.includes("\n")) return;
      text += chunk.toString("utf8");
      if (text.includes("\n")) resolve(text.split("\n")[0] ?? "");
    });
    child.once("exit", (code) => reject(new Error(`the node ended with code ${code} before it was ready`)));
  });
}

/** A port that nothing listens at, for a program that cannot be told to take any. */
export async function freePort(): Promise<number> {
  const { port, release } = await heldPort();
  await release();
  return port;
}

export interface HeldPort {
  readonly port: number;
  /** From then on the program that it is for may listen there. */
  readonly release: () => Promise<void>;
}

/** The same, which no other program gets meanwhile that asks for any port. */
export async function heldPort(): Promise<HeldPort> {
  // Whoever calls before that is sent away, and holds up nobody.
  const server = createServer((socket) => socket.destroy()).listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  const release = async () => {
    if (!server.listening) return;
    server.close();
    await once(server, "close");
  };
  return { port: typeof address === "object" && address !== null ? address.port : 0, release };
}
