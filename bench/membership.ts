/**
 * How long until everybody knows that a machine has vanished, that a process was killed or stands still, and how many healthy processes are called
 * dead while others freeze in bursts? Each process has a network namespace of its own, which needs root. Ours beside HashiCorp memberlist with its settings for a network and those for one machine, one after the other, as many
 * real processes each: `npm run bench -- membership [--nodes 12] [--rounds 3] [--kills 2] [--burst-seconds 30]`.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { canNamespaces, NetWorld } from "../test/fakes/net-world.ts";
import { peerProgram } from "./_peers.ts";
import { scratchDir } from "./_processes.ts";
import { type Goal, paired, ratioOf, report, round, spread } from "./_results.ts";

const { values } = parseArgs({
  options: {
    nodes: { type: "string", default: "12" },
    rounds: { type: "string", default: "3" },
    kills: { type: "string", default: "2" },
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

/** Its machine vanishes, the process is killed, which closes its connections, or it is stopped for good, and its system goes on answering. */
type End = "vanishes" | "is killed" | "stands still";

/** What a process said of another. */
interface Said {
  readonly by: string;
  readonly of: string;
  readonly isDead: boolean;
  readonly atMs: number;
}

interface Kind {
  readonly name: string;
  readonly command: readonly string[];
  flags(name: string, host: string, seed: string | undefined): readonly string[];
  /** The address to join by, when the line tells it. */
  addressIn(line: Readonly<Record<string, unknown>>): string | undefined;
  saidIn(line: Readonly<Record<string, unknown>>): { readonly of: string; readonly isDead: boolean } | undefined;
}

const ANY_PORTS = ["--grpc-port", "0", "--http-port", "0", "--dns-port", "0", "--fabric-port", "0"];

/** A fabric beyond loopback wants one. */
const TOKEN_FILE = join(scratchDir("membership"), "fabric.token");
writeFileSync(TOKEN_FILE, randomBytes(32).toString("hex"), { mode: 0o600 });

const WAYMARK: Kind = {
  name: "waymark",
  command: [process.execPath, join(ROOT, "dist", "src", "main.js"), "serve", "--ephemeral", "--log-level", "info", "-o", "json"],
  flags: (name, host, seed) => [
    ...ANY_PORTS,
    "--host",
    host,
    "--insecure",
    "--cluster-token-file",
    TOKEN_FILE,
    "--node-id",
    name,
    ...(seed === undefined ? [] : ["--join", seed]),
  ],
  addressIn: (line) => (line["msg"] === "node is ready" ? String(line["fabric"]) : undefined),
  saidIn: ({ msg, nodeId, status }) =>
    typeof msg === "string" && msg.startsWith("member is ") ? { of: String(nodeId), isDead: status === "dead" } : undefined,
};

function memberlist(program: string, config: "LAN" | "Local"): Kind {
  return {
    name: `memberlist, Default${config}Config`,
    command: config === "Local" ? [program, "-local"] : [program],
    flags: (name, host, seed) => ["-name", name, "-bind", host, ...(seed === undefined ? [] : ["-join", seed])],
    addressIn: ({ what, address }) => (what === "ready" ? String(address) : undefined),
    saidIn: ({ what, node }) => (what === "join" || what === "leave" ? { of: String(node), isDead: what === "leave" } : undefined),
  };
}

/** Killed when this process ends, however it does. */
const started = new Set<ChildProcess>();
process.on("exit", () => started.forEach((child) => child.kill("SIGKILL")));

class Group {
  readonly #kind: Kind;
  readonly #world: NetWorld;
  readonly #children = new Map<string, ChildProcess>();
  /** Stopped for good. */
  readonly #silent: ChildProcess[] = [];
  readonly #alive = new Map<string, Set<string>>();
  readonly said: Said[] = [];

  constructor(kind: Kind) {
    this.#kind = kind;
    this.#world = new NetWorld(Array.from({ length: NODES }, (_, i) => nameOf(i)));
  }

  get names(): readonly string[] {
    return [...this.#children.keys()];
  }

  async start(): Promise<void> {
    const seed = await this.#spawn(nameOf(0), undefined);
    await Promise.all(Array.from({ length: NODES - 1 }, (_, i) => this.#spawn(nameOf(i + 1), seed)));
    await this.#until(() => this.names.every((name) => this.#holds(name) === NODES - 1), "everybody knows everybody");
  }

  signal(name: string, signal: NodeJS.Signals): void {
    this.#children.get(name)?.kill(signal);
  }

  /** Ends it, and gives the time until all others say that it is dead. */
  async end(name: string, how: End): Promise<number> {
    const startMs = performance.now();
    if (how === "vanishes") this.#world.unplug(name);
    else this.signal(name, how === "is killed" ? "SIGKILL" : "SIGSTOP");
    const child = this.#children.get(name);
    if (child !== undefined) this.#silent.push(child);
    this.#children.delete(name);
    await this.#until(() => this.names.every((other) => this.#alive.get(other)?.has(name) === false), `${name} is dead to all`);
    const lastMs = Math.max(...this.said.filter(({ of, isDead, atMs }) => of === name && isDead && atMs > startMs).map(({ atMs }) => atMs));
    return lastMs - startMs;
  }

  stop(): void {
    for (const child of [...this.#children.values(), ...this.#silent]) child.kill("SIGKILL");
    this.#world[Symbol.dispose]();
  }

  #holds(name: string): number {
    const alive = this.#alive.get(name);
    return alive === undefined ? 0 : alive.size - (alive.has(name) ? 1 : 0);
  }

  async #spawn(name: string, seed: string | undefined): Promise<string> {
    const flags = this.#kind.flags(name, this.#world.addressOf(name), seed);
    const [command = "", ...args] = [...this.#world.wrapperOf(name), ...this.#kind.command, ...flags];
    const child = spawn(command, args, { stdio: ["pipe", "pipe", "pipe"] });
    started.add(child);
    this.#children.set(name, child);
    const alive = new Set<string>();
    this.#alive.set(name, alive);
    let lastLine = "it said nothing";
    const ready = new Promise<string>((resolve) => {
      const read = (text: string): void => {
        lastLine = text;
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
    if (address === "") throw new Error(`${this.#kind.name} ${name} ended before it was ready: ${lastLine}`);
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

function nameOf(i: number): string {
  return `n${i}`;
}

interface Measured {
  readonly vanishedMs: number;
  readonly killedMs: number;
  readonly silentMs: number;
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
    const ends = async (how: End, from: number) => {
      const tookMs: number[] = [];
      for (let i = from; i < from + KILLS; i++) tookMs.push(await group.end(nameOf(NODES - i), how));
      return spread(tookMs).median;
    };
    const vanishedMs = await ends("vanishes", 1);
    const killedMs = await ends("is killed", 1 + KILLS);
    const silentMs = await ends("stands still", 1 + 2 * KILLS);
    return { vanishedMs, killedMs, silentMs, falseDeaths: deaths.length - frozenDeaths, frozenDeaths };
  } finally {
    group.stop();
  }
}

const program = peerProgram("memberlist");
const peers = program === undefined ? [] : [memberlist(program, "LAN"), memberlist(program, "Local")];
async function measurePeers(): Promise<readonly Measured[]> {
  const all: Measured[] = [];
  for (const peer of peers) all.push(await measure(peer));
  return all;
}
if (!canNamespaces()) throw new Error("needs network namespaces: root, and `ip`");
if (NODES < 3 * KILLS + 2) throw new Error("two have to be left when all kills are done: --nodes or --kills");
const { a: ours, b: rounds } = await paired(ROUNDS, () => measure(WAYMARK), peers.length === 0 ? undefined : measurePeers);
const theirs = peers.map((_, i) => rounds.flatMap((measured) => measured[i] ?? []));
/** The network's settings are what programs that use memberlist run with, ours too are for a network. */
function goalOf(what: string, timeOf: (measured: Measured) => number): Goal {
  const ratio = ratioOf(ours.map(timeOf), (theirs[0] ?? []).map(timeOf));
  const isSteady = ratio !== undefined && (ratio.max - ratio.min) / ratio.median <= MAX_SPREAD;
  return {
    name: `time until all know ${what}, ours over memberlist's with DefaultLANConfig`,
    value: isSteady || (ratio !== undefined && ratio.max <= 1) ? ratio?.median : undefined,
    unit: "×",
    atMost: 1,
    ...(ratio === undefined && { note: "not measured: the peer is not installed" }),
    ...(ratio !== undefined && !isSteady && { note: `spread ${round((ratio.max - ratio.min) / ratio.median)} is above ${MAX_SPREAD}` }),
  };
}
const rowOf = (name: string, measured: readonly Measured[]) => ({
  program: name,
  "all know of a machine that vanished after ms": spread(measured.map(({ vanishedMs }) => round(vanishedMs))),
  "of a kill -9": spread(measured.map(({ killedMs }) => round(killedMs))),
  "of one that stands still": spread(measured.map(({ silentMs }) => round(silentMs))),
  "healthy called dead": spread(measured.map(({ falseDeaths }) => falseDeaths)),
  "frozen called dead": spread(measured.map(({ frozenDeaths }) => frozenDeaths)),
});
report({
  name: "membership",
  tables: { [`${NODES} processes`]: [rowOf("waymark", ours), ...peers.map(({ name }, i) => rowOf(name, theirs[i] ?? []))] },
  goals: [goalOf("that a machine has vanished", ({ vanishedMs }) => vanishedMs), goalOf("of a kill -9", ({ killedMs }) => killedMs)],
  notes: [
    `Times are taken when the line that says so reaches this process; each round takes the middle of ${KILLS} machines that vanish, of ${KILLS} kills, and of ${KILLS} that are stopped for good.`,
    "A machine vanishes when its cable is drawn: its packets are lost, and no connection is closed. A kill closes all of them, and one that stands still closes none while its system goes on acknowledging.",
    `A third of the processes is stopped for ${FROZEN_MS} ms and runs for ${AWAKE_MS} ms, again and again for ${BURST_SECONDS} s; each time that one process says of another that it is dead counts.`,
    "Ours are whole nodes with a catalog and links (a broken link makes a member be probed at once, and a kill breaks all of them; one that falls silent breaks none); theirs are memberlist and nothing else.",
  ],
});
