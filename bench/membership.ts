/**
 * How long until everybody knows that a machine has vanished, that a process was killed or stands still, and how many healthy processes are called
 * dead while others freeze in bursts? Twelve nodes of ours beside as many processes of HashiCorp memberlist with its settings for a network, and
 * with those for one machine, all at the same time. Each process has a network namespace of its own, which needs root. Machines vanish first, then
 * processes are killed, then some are stopped for good; a group is one smaller after each. About four minutes.
 * `npm run bench -- membership [--nodes 12] [--rounds 3] [--kills 2] [--burst-seconds 20]`.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { canNamespaces, NetWorld } from "../test/fakes/net-world.ts";
import { argsOf, asksForAll } from "./_args.ts";
import { othersBeside, sleep } from "./_mesh.ts";
import { peerProgram } from "./_peers.ts";
import { cpuMsOf, NODE_ENV, NODE_OPTIONS, scratchDir } from "./_processes.ts";
import { type Goal, quiet, ratioGoal, ratioOf, report, round, type Spread, spread } from "./_results.ts";
import { fail } from "./_work.ts";
import { type MemberKind, memberlist } from "./adapters/memberlist.ts";

const DEFAULTS = { nodes: 12, rounds: 3, kills: 2, "burst-seconds": 20 };
const values = argsOf(DEFAULTS);
const [NODES, ROUNDS, KILLS, BURST_SECONDS] = [values.nodes, values.rounds, values.kills, values["burst-seconds"]];
const ROOT = fileURLToPath(new URL("..", import.meta.url));
const WAIT_MS = 120_000;
const FROZEN_MS = 3000;
const AWAKE_MS = 500;
/** After the start: nodes that were late while all started are slower to suspect, until as many probes as that score has steps went well. */
const CALM_MS = 10_000;
/** After the last burst: a suspicion ends in a death or is refuted by then. */
const SETTLE_MS = 15_000;
/** Its machine vanishes, the process is killed, which closes its connections, or it is stopped for good, and its system goes on answering. */
type End = "vanishes" | "is killed" | "stands still";

/** What a process said of another. */
interface Said {
  readonly by: string;
  readonly of: string;
  readonly isDead: boolean;
  readonly atMs: number;
}

const ANY_PORTS = ["--grpc-port", "0", "--http-port", "0", "--dns-port", "0", "--fabric-port", "0"];

/** A fabric beyond loopback wants one. */
const TOKEN_FILE = join(scratchDir("membership"), "fabric.token");
writeFileSync(TOKEN_FILE, randomBytes(32).toString("hex"), { mode: 0o600 });

const WAYMARK: MemberKind = {
  name: "waymark",
  prefix: "w",
  command: [
    process.execPath,
    ...NODE_OPTIONS,
    join(ROOT, "dist", "src", "main.js"),
    "serve",
    "--ephemeral",
    "--log-level",
    "info",
    "-o",
    "json",
  ],
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

/** Killed when this process ends, however it does. */
const started = new Set<ChildProcess>();
process.on("exit", () => started.forEach((child) => child.kill("SIGKILL")));

class Group {
  readonly #kind: MemberKind;
  readonly #world: NetWorld;
  readonly #children = new Map<string, ChildProcess>();
  /** Stopped for good. */
  readonly #silent: ChildProcess[] = [];
  readonly #alive = new Map<string, Set<string>>();
  readonly said: Said[] = [];
  /** CPU time of those that were killed. */
  #goneMs = 0;

  constructor(kind: MemberKind, world: NetWorld) {
    this.#kind = kind;
    this.#world = world;
  }

  get names(): readonly string[] {
    return [...this.#children.keys()];
  }

  async start(): Promise<void> {
    const [first = "", ...others] = namesOf(this.#kind);
    const seed = await this.#spawn(first, undefined);
    await Promise.all(others.map((name) => this.#spawn(name, seed)));
    await this.#until(() => this.names.every((name) => this.#holds(name) === NODES - 1), "everybody knows everybody");
  }

  /** CPU time of all that were started, so far. */
  cpuMs(): number {
    const living = [...this.#children.values(), ...this.#silent].filter(
      ({ exitCode, signalCode }) => exitCode === null && signalCode === null,
    );
    return living.reduce((sum, { pid }) => sum + cpuMsNow(pid), this.#goneMs);
  }

  signal(name: string, signal: NodeJS.Signals): void {
    this.#children.get(name)?.kill(signal);
  }

  /** Ends it, and gives the time until all others say that it is dead. */
  async end(name: string, how: End): Promise<number> {
    const child = this.#children.get(name) ?? fail();
    if (how === "is killed") this.#goneMs += cpuMsNow(child.pid);
    else this.#silent.push(child);
    this.#children.delete(name);
    const startMs = performance.now();
    if (how === "vanishes") this.#world.unplug(name);
    else child.kill(how === "is killed" ? "SIGKILL" : "SIGSTOP");
    await this.#until(() => this.names.every((other) => this.#alive.get(other)?.has(name) === false), `${name} is dead to all`);
    const lastMs = Math.max(...this.said.filter(({ of, isDead, atMs }) => of === name && isDead && atMs > startMs).map(({ atMs }) => atMs));
    return lastMs - startMs;
  }

  stop(): void {
    for (const child of [...this.#children.values(), ...this.#silent]) child.kill("SIGKILL");
  }

  #holds(name: string): number {
    const alive = this.#alive.get(name);
    return alive === undefined ? 0 : alive.size - (alive.has(name) ? 1 : 0);
  }

  async #spawn(name: string, seed: string | undefined): Promise<string> {
    const flags = this.#kind.flags(name, this.#world.addressOf(name), seed);
    const [command = "", ...args] = [...this.#world.wrapperOf(name), ...this.#kind.command, ...flags];
    const child = spawn(command, args, { stdio: ["pipe", "pipe", "pipe"], env: { ...process.env, ...NODE_ENV } });
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

/** 0 of a process that has just ended. */
function cpuMsNow(pid = 0): number {
  try {
    return cpuMsOf(pid);
  } catch {
    return 0;
  }
}

function namesOf({ prefix }: MemberKind): readonly string[] {
  return Array.from({ length: NODES }, (_, i) => `${prefix}${i}`);
}

/** Of several ends in one round. */
function mean(tookMs: readonly number[]): number {
  return tookMs.reduce((sum, ms) => sum + ms, 0) / tookMs.length;
}

/** Each the mean of the ends of a round. */
interface Measured {
  readonly vanishedMs: number;
  readonly killedMs: number;
  readonly silentMs: number;
}

/** One machine after the other. The group is one smaller after each, and is measured alike for everybody. */
async function measure(group: Group): Promise<Measured> {
  const names = group.names.toReversed();
  const ends = async (how: End) => {
    const tookMs: number[] = [];
    for (let i = 0; i < KILLS; i++) tookMs.push(await group.end(names.shift() ?? fail(), how));
    return mean(tookMs);
  };
  return { vanishedMs: await ends("vanishes"), killedMs: await ends("is killed"), silentMs: await ends("stands still") };
}

/** Who was called dead while a third froze in bursts. */
interface Burst {
  /** Times that a process said of one that was never frozen that it is dead. */
  readonly falseDeaths: number;
  /** The same of those that were frozen, and lived. */
  readonly frozenDeaths: number;
}

/** A third freezes and wakes in bursts (the experiment of Lifeguard, arXiv 1707.00788 §V). */
async function burst(group: Group): Promise<Burst> {
  const frozen = group.names.slice(1, 1 + Math.floor(NODES / 3));
  const startMs = performance.now();
  while (performance.now() - startMs < BURST_SECONDS * 1000) {
    for (const name of frozen) group.signal(name, "SIGSTOP");
    await sleep(FROZEN_MS);
    for (const name of frozen) group.signal(name, "SIGCONT");
    await sleep(AWAKE_MS);
  }
  await sleep(SETTLE_MS);
  const deaths = group.said.filter(({ isDead, atMs }) => isDead && atMs > startMs);
  const frozenDeaths = deaths.filter(({ of }) => frozen.includes(of)).length;
  return { falseDeaths: deaths.length - frozenDeaths, frozenDeaths };
}

interface InOneWorld<T> {
  /** Of each kind. */
  readonly results: readonly T[];
  /** What others than all groups and this process took of the machine meanwhile, 0 to 1. */
  readonly others: number;
}

/** One round of all, at the same time: what is awaited are timers of seconds, and all meet the same neighbours. */
async function inOneWorld<T>(kinds: readonly MemberKind[], work: (group: Group) => Promise<T>): Promise<InOneWorld<T>> {
  using world = new NetWorld(kinds.flatMap(namesOf));
  const groups = kinds.map((kind) => new Group(kind, world));
  try {
    for (const group of groups) await group.start();
    await sleep(CALM_MS);
    const others = othersBeside(groups);
    const results = await Promise.all(groups.map(work));
    return { results, others: others() };
  } finally {
    for (const group of groups) group.stop();
  }
}

const program = peerProgram("memberlist");
const kinds = program === undefined ? [WAYMARK] : [WAYMARK, memberlist(program, "LAN"), memberlist(program, "Local")];
if (!canNamespaces()) throw new Error("needs network namespaces: root, and `ip`");
if (NODES < 3 * KILLS + 2) throw new Error("two have to be left when all kills are done: --nodes or --kills");
const { results: bursts } = await inOneWorld(kinds, burst);
console.error("the bursts are over");
const rounds: InOneWorld<Measured>[] = [];
for (let r = 0; r < ROUNDS; r++) rounds.push(await inOneWorld(kinds, measure));
/** In the worst of the rounds. */
const others = Math.max(0, ...rounds.map((each) => each.others));
const timesOf = (kind: number, timeOf: (measured: Measured) => number) =>
  rounds.map(({ results }) => {
    const of = results[kind];
    return of === undefined ? fail() : timeOf(of);
  });

/** The network's settings are what programs that use memberlist run with, ours too are for a network. */
function goalOf(what: string, work: string, timeOf: (measured: Measured) => number): Goal {
  const [ours, theirs] = [timesOf(0, timeOf), kinds.length > 1 ? timesOf(1, timeOf) : []];
  const seconds = (times: readonly number[]): Spread => spread(times.map((ms) => ms / 1000));
  const goal = ratioGoal({
    name: `time until all know ${what}, ours over memberlist's with DefaultLANConfig`,
    shown: { work, beside: "HashiCorp memberlist, DefaultLANConfig", unit: "s" },
    ratio: ratioOf(ours, theirs),
    ours: seconds(ours),
    theirs: seconds(theirs),
    atMost: 1,
  });
  return quiet(goal, others);
}

/** How many live when the first and when the last of those is ended that come after so many others: "12 or 11". */
function livingAfter(ended: number): string {
  return Array.from({ length: KILLS }, (_, i) => NODES - ended - i).join(" or ");
}

const columns = (kind: number) => ({
  [`time until all know: vanished machine, with ${livingAfter(0)} alive, ms`]: spread(timesOf(kind, ({ vanishedMs }) => round(vanishedMs))),
  [`kill -9, with ${livingAfter(KILLS)} alive`]: spread(timesOf(kind, ({ killedMs }) => round(killedMs))),
  [`stopped process, with ${livingAfter(2 * KILLS)} alive`]: spread(timesOf(kind, ({ silentMs }) => round(silentMs))),
  "healthy reported dead": bursts[kind]?.falseDeaths,
  "stopped reported dead": bursts[kind]?.frozenDeaths,
});
report({
  name: "membership",
  isKept: NODES === DEFAULTS.nodes && asksForAll(values, DEFAULTS),
  tables: {
    [`${NODES} processes each`]: kinds.map(({ name }, i) => ({
      program: name,
      ...columns(i),
      "others' share of the machine": round(others),
    })),
  },
  goals: [
    goalOf(
      "that a machine has vanished",
      `a machine of the ${livingAfter(0)} that are alive vanishes (packets dropped, no reset): time until all others know`,
      ({ vanishedMs }) => vanishedMs,
    ),
    goalOf(
      "of a kill -9",
      `a process of the ${livingAfter(KILLS)} that are left of ${NODES} is killed, and its system closes its connections: time until all others know`,
      ({ killedMs }) => killedMs,
    ),
  ],
  notes: [
    `A time ends when the log line that reports the death reaches this process. Each round is the mean of ${KILLS} machines that vanish, of ${KILLS} kills, and of ${KILLS} processes that are stopped for good, one after the other in a fresh group. None comes back, so a machine vanishes while ${livingAfter(0)} are alive, a process is killed while ${livingAfter(KILLS)} are, and one is stopped while ${livingAfter(2 * KILLS)} are, in every group alike.`,
    "A machine vanishes when its end in the network namespace is taken down: its packets are lost, and no connection is closed or reset, as with the loss of a machine. A kill closes all connections. A stopped process (SIGSTOP) closes none, and its system continues to acknowledge.",
    "Both use their defaults, which are the same: a probe each second, half a second for the answer, then a suspicion timeout of four probes multiplied by the logarithm of the number of members, which starts six times as long and shrinks as other members confirm the suspicion.",
    `Before the rounds, in a separate group, a third of the processes is stopped for ${FROZEN_MS} ms and runs for ${AWAKE_MS} ms, repeatedly for ${BURST_SECONDS} s. Each report of one process that another one is dead counts.`,
    "The Waymark processes are complete nodes with a catalog and links. A broken link makes a node probe that member immediately; a kill breaks all links, and a silent process breaks none. The peers are memberlist and nothing else.",
  ],
});
