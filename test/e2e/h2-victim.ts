/** The listener under attack in a process of its own, and a well-behaved client that measures what the attack costs it. */
import { type ChildProcess, spawn } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { type ClientHttp2Session, connect, type IncomingHttpHeaders } from "node:http2";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { askMemory, type Held } from "../fakes/memory.ts";
import type { AttackResult } from "./h2-attacks.ts";
import { QUERY } from "./h2-frames.ts";

const path = (file: string) => fileURLToPath(new URL(file, import.meta.url));

/**
 * Its memory can be asked for, and V8's young generation, which is never given back, is the same on every machine: left
 * to itself it grows with the machine's memory, to 120 MB of nothing on one of 24 GB.
 */
const YOUNG_MIB = 16;

async function firstLine(child: ChildProcess): Promise<unknown> {
  if (child.stdout === null) throw new Error("the child has no stdout");
  for await (const line of createInterface({ input: child.stdout })) return JSON.parse(line);
  throw new Error(`the child ended without a line, code ${child.exitCode}`);
}

/** p99 and worst of a well-behaved client's calls, in ms. */
export interface Latency {
  readonly count: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly maxMs: number;
}

export class Victim {
  readonly port: number;
  readonly #child: ChildProcess;
  readonly #pid: number;
  readonly #client: ClientHttp2Session;

  private constructor(child: ChildProcess, at: { readonly port: number; readonly pid: number }) {
    this.#child = child;
    this.#pid = at.pid;
    this.port = at.port;
    this.#client = connect(`http://127.0.0.1:${at.port}`);
    this.#client.on("error", () => {});
  }

  /** `listener` is the file in test/fakes, and `args` are what it is started with. It is warm. */
  static start(listener: "grpc" | "edge" | "fabric" = "grpc", ...args: readonly string[]): Promise<Victim> {
    return Victim.startWith(YOUNG_MIB, listener, ...args);
  }

  /** `youngMiB` is the most that V8's young generation may grow to, in MiB. */
  static async startWith(youngMiB: number, listener: "grpc" | "edge" | "fabric", ...args: readonly string[]): Promise<Victim> {
    const flags = ["--expose-gc", `--max-semi-space-size=${youngMiB}`];
    const child = spawn(process.execPath, [...flags, path(`../fakes/${listener}-child.ts`), ...args], {
      stdio: ["ignore", "pipe", "ignore", "ipc"],
    });
    const victim = new Victim(child, (await firstLine(child)) as { port: number; pid: number });
    for (let i = 0; i < 300; i++) await victim.query();
    return victim;
  }

  get isAlive(): boolean {
    return this.#child.exitCode === null && this.#child.signalCode === null;
  }

  /** Resident memory of the listener's process, in MiB. */
  rssMiB(): number {
    const line = /VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${this.#pid}/status`, "utf8"));
    return Number(line?.[1] ?? Number.NaN) / 1_024;
  }

  /** What it holds after a full garbage collection. */
  held(): Promise<Held> {
    return askMemory(this.#child);
  }

  /** Open files of the listener's process: its connections and a few more. */
  openFileCount(): number {
    return readdirSync(`/proc/${this.#pid}/fd`).length;
  }

  /** One small call; resolves to its latency in ms, infinite when it was not answered OK. */
  query(): Promise<number> {
    return new Promise((resolve) => {
      const began = performance.now();
      const stream = this.#client.request({ ":method": "POST", ":path": QUERY, "content-type": "application/grpc", te: "trailers" });
      let isOk = false;
      stream.on("trailers", (trailers: IncomingHttpHeaders) => {
        isOk = trailers["grpc-status"] === "0";
      });
      stream.on("data", () => {});
      stream.on("error", () => {});
      stream.on("close", () => resolve(isOk ? performance.now() - began : Number.POSITIVE_INFINITY));
      stream.end(Buffer.alloc(5));
    });
  }

  /** Calls every 3 ms or so, until `over` and at least `leastMs`. */
  async latency(leastMs: number, over: Promise<unknown> = Promise.resolve()): Promise<Latency> {
    const times: number[] = [];
    const end = performance.now() + leastMs;
    const state = { isOver: false };
    void over.finally(() => {
      state.isOver = true;
    });
    while (!state.isOver || performance.now() < end) {
      times.push(await this.query());
      await new Promise((resolve) => setTimeout(resolve, 3));
    }
    times.sort((a, b) => a - b);
    const at = (share: number) => times[Math.min(times.length - 1, Math.floor(times.length * share))] ?? Number.NaN;
    return { count: times.length, p50Ms: at(0.5), p99Ms: at(0.99), maxMs: at(1) };
  }

  /** Lets another process attack; resolves to how its last round ended. Rejects when it never reached the listener: then it was no attack. */
  async attacked(name: string, seconds = 0): Promise<AttackResult> {
    const child = spawn(process.execPath, [path("h2-attacker-child.ts"), String(this.port), name, String(seconds)], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    const result = (await firstLine(child)) as AttackResult & { readonly reachedCount: number };
    if (result.reachedCount === 0) throw new Error(`${name}: no round of it reached the listener`);
    return result;
  }

  stop(): void {
    this.#client.destroy();
    this.#child.kill("SIGKILL");
  }
}
