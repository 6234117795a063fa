/**
 * How long until everybody knows that a process was killed, and how many healthy processes are called dead while others freeze
 * in bursts? Ours beside HashiCorp memberlist, one after the other, as many real processes each: `npm run bench -- membership
 * [--nodes 12] [--rounds 3] [--kills 3] [--burst-seconds 30]`. Without Go only ours.
 */
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { hasTool, scratchDir } from "./_processes.ts";
import { type Goal, paired, ratioOf, report, round, spread } from "./_results.ts";

const { values } = parseArgs({
  options: {
    nodes: { type: "string", default: "12" },
    rounds: { type: "string", default: "3" },
    kills: { type: "string", default: "3" },
    "burst-seconds": { type: "string", default: "30" },
  },
});
const [NODES, ROUNDS, KILLS, BURST_SECONDS] = [
  Number(values.nodes),
  Number(values.rounds),
  Number(values.kills),
  Number(values["burst-seconds"]),
];
const ROOT = fileURLToPath(new URL("..", import.meta.url));
const WAIT_MS = 120_000;
const FROZEN_MS = 3000;
const AWAKE_MS = 500;
/** Above this spread between rounds the machine was measured, not the programs. */
const MAX_SPREAD = 0.15;

/** What a process said of another. */
interface Said {
  readonly by: string;
  readonly of: string;
  readonly isDead: boolean;
  readonly atMs: number;
}

interface Kind {
  readonly name: "waymark" | "memberlist";
  readonly command: readonly string[];
  flags(name: string, seed: string | undefined): readonly string[];
  /** The address to join by, when the line tells it. */
  addressIn(line: Readonly<Record<string, unknown>>): string | undefined;
  saidIn(line: Readonly<Record<string, unknown>>): { readonly of: string; readonly isDead: boolean } | undefined;
}

const ANY_PORTS = ["--grpc-port", "0", "--http-port", "0", "--dns-port", "0", "--fabric-port", "0"];

const WAYMARK: Kind = {
  name: "waymark",
  command: [process.execPath, join(ROOT, "src", "main.ts"), "serve", "--ephemeral", "--log-level", "info", "-o", "json"],
  flags: (name, seed) => [...ANY_PORTS, "--node-id", name, ...(seed === undefined ? [] : ["--join", seed])],
  addressIn: (line) => (line["msg"] === "node is ready" ? String(line["fabric"]) : undefined),
  saidIn: ({ msg, nodeId, status }) =>
    typeof msg === "string" && msg.startsWith("member is ") ? { of: String(nodeId), isDead: status === "dead" } : undefined,
};

function memberlist(program: string): Kind {
  return {
    name: "memberlist",
    command: [program],
    flags: (name, seed) => ["-name", name, ...(seed === undefined ? [] : ["-join", seed])],
    addressIn: ({ what, address }) => (what === "ready" ? String(address) : undefined),
    saidIn: ({ what, node }) => (what === "join" || what === "leave" ? { of: String(node), isDead: what === "leave" } : undefined),
  };
}

/** Killed when this process ends, however it does. */
const started = new Set<ChildProcess>();
process.on("exit", () => started.forEach((child) => child.kill("SIGKILL")));

class Group {
  readonly #kind: Kind;
  readonly #children = new Map<string, ChildProcess>();
  readonly #alive = new Map<string, Set<string>>();
  readonly said: Said[] = [];

  constructor(kind: Kind) {
    this.#kind = kind;
  }

  get names(): readonly string[] {
    return [...this.#children.keys()];
  }

  async start(): Promise<void> {
    const seed = await this.#spawn("n0", undefined);
    await Promise.all(Array.from({ length: NODES - 1 }, (_, i) => this.#spawn(`n${i + 1}`, seed)));
    await this.#until(() => this.names.every((name) => this.#holds(name) === NODES - 1), "everybody knows everybody");
  }

  signal(name: string, signal: NodeJS.Signals): void {
    this.#children.get(name)?.kill(signal);
  }

  /** Kills it; gives the time until all others say so. */
  async kill(name: string): Promise<number> {
    const startMs = performance.now();
    this.signal(name, "SIGKILL");
    this.#children.delete(name);
    await this.#until(() => this.names.every((other) => this.#alive.get(other)?.has(name) === false), `${name} is dead to all`);
    const lastMs = Math.max(...this.said.filter(({ of, isDead, atMs }) => of === name && isDead && atMs > startMs).map(({ atMs }) => atMs));
    return lastMs - startMs;
  }

  stop(): void {
    for (const child of this.#children.values()) child.kill("SIGKILL");
  }

  #holds(name: string): number {
    const alive = this.#alive.get(name);
    return alive === undefined ? 0 : alive.size - (alive.has(name) ? 1 : 0);
  }

  async #spawn(name: string, seed: string | undefined): Promise<string> {
    const [command = "", ...args] = [...this.#kind.command, ...this.#kind.flags(name, seed)];
    const child = spawn(command, args, { stdio: ["pipe", "pipe", "pipe"] });
    started.add(child);
    this.#children.set(name, child);
    const alive = new Set<string>();
    this.#alive.set(name, alive);
    const ready = new Promise<string>((resolve) => {
      const read = (text: string): void => {
        if (!text.startsWith("{")) return;
        const line = JSON.parse(text) as Readonly<Record<string, unknown>>;
        const address = this.#kind.addressIn(line);
        if (address !== undefined) resolve(address);
        const said = this.#kind.saidIn(line);
        if (said === undefined) return;
        if (said.isDead) alive.delete(said.of);
        else alive.add(said.of);
        this.said.push({ by: name, ...said, atMs: performance.now() });
      };
      for (const stream of [child.stdout, child.stderr]) createInterface({ input: stream }).on("line", read);
    });
    const ended = once(child, "exit").then(() => "");
    const address = await Promise.race([ready, ended]);
    if (address === "") throw new Error(`${this.#kind.name} ${name} ended before it was ready`);
    return address;
  }

  async #until(isTrue: () => boolean, what: string): Promise<void> {
    const startMs = performance.now();
    while (!isTrue()) {
      if (performance.now() - startMs > WAIT_MS) throw new Error(`${this.#kind.name}: waited ${WAIT_MS} ms: ${what}`);
      await sleep(20);
    }
  }
}

function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

interface Measured {
  readonly detectMs: number;
  /** Times that a process said of one that was never frozen that it is dead. */
  readonly falseDeaths: number;
  /** The same of those that were frozen, and lived. */
  readonly frozenDeaths: number;
}

async function measure(kind: Kind): Promise<Measured> {
  const group = new Group(kind);
  try {
    await group.start();
    await sleep(3000);
    // A third freezes and wakes in bursts (the experiment of Lifeguard, arXiv 1707.00788 §V).
    const frozen = group.names.slice(1, 1 + Math.floor(NODES / 3));
    const startMs = performance.now();
    while (performance.now() - startMs < BURST_SECONDS * 1000) {
      for (const name of frozen) group.signal(name, "SIGSTOP");
      await sleep(FROZEN_MS);
      for (const name of frozen) group.signal(name, "SIGCONT");
      await sleep(AWAKE_MS);
    }
    await sleep(15_000);
    const deaths = group.said.filter(({ isDead, atMs }) => isDead && atMs > startMs);
    const frozenDeaths = deaths.filter(({ of }) => frozen.includes(of)).length;
    const tookMs: number[] = [];
    for (let i = 1; i <= KILLS; i++) tookMs.push(await group.kill(`n${NODES - i}`));
    return { detectMs: spread(tookMs).median, falseDeaths: deaths.length - frozenDeaths, frozenDeaths };
  } finally {
    group.stop();
  }
}

function buildMemberlist(): Kind | undefined {
  if (!hasTool("go")) return undefined;
  const program = join(scratchDir("memberlist"), "memberlist");
  execFileSync("go", ["build", "-o", program, "."], { cwd: join(ROOT, "bench", "memberlist"), stdio: "inherit" });
  return memberlist(program);
}

const peer = buildMemberlist();
const { a: ours, b: theirs } = await paired(ROUNDS, () => measure(WAYMARK), peer === undefined ? undefined : () => measure(peer));
const ratio = ratioOf(
  ours.map(({ detectMs }) => detectMs),
  theirs.map(({ detectMs }) => detectMs),
);
const isSteady = ratio !== undefined && (ratio.max - ratio.min) / ratio.median <= MAX_SPREAD;
const goal: Goal = {
  name: "time until all know of a kill -9, ours over memberlist's",
  value: isSteady || (ratio !== undefined && ratio.max <= 1) ? ratio?.median : undefined,
  unit: "×",
  atMost: 1,
  ...(ratio !== undefined && !isSteady && { note: `spread ${round((ratio.max - ratio.min) / ratio.median)} is above ${MAX_SPREAD}` }),
};
const rowOf = (name: string, rounds: readonly Measured[]) => ({
  program: name,
  "all know of a kill -9 after ms": spread(rounds.map(({ detectMs }) => round(detectMs))),
  "healthy called dead": spread(rounds.map(({ falseDeaths }) => falseDeaths)),
  "frozen called dead": spread(rounds.map(({ frozenDeaths }) => frozenDeaths)),
});
report({
  name: "membership",
  tables: { [`${NODES} processes`]: [rowOf("waymark", ours), ...(theirs.length === 0 ? [] : [rowOf("memberlist", theirs)])] },
  goals: [goal],
  notes: [
    `Times are taken when the line that says so reaches this process; each round takes the middle of ${KILLS} kills.`,
    `A third of the processes is stopped for ${FROZEN_MS} ms and runs for ${AWAKE_MS} ms, again and again for ${BURST_SECONDS} s; each time that one process says of another that it is dead counts.`,
    "Ours are whole nodes with a catalog and links (a broken link makes a member be probed at once, and a kill breaks all of them; a machine that vanishes does not); theirs are memberlist with DefaultLANConfig and nothing else.",
  ],
});
