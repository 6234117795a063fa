/** Groups of candidates for one scope, as real processes: how their leaders are ended, and when a successor may act. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { othersBeside, sleep, until } from "./_mesh.ts";
import { cpuMsOf, NODE_ENV, type Running } from "./_processes.ts";
import { fail } from "./_work.ts";

type Line = Readonly<Record<string, unknown>>;

/** A program that campaigns, and how its output is read. */
export interface CandidateKind {
  readonly who: string;
  readonly command: (group: string, name: string) => readonly string[];
  /** Whether the line reports that the process campaigns. */
  readonly isStanding: (line: Line) => boolean;
  /** Whether the line reports that the process is no longer the leader. */
  readonly isLost: (line: Line, name: string) => boolean;
  /** The wall time (ms) from which the process may act as the leader, if the line reports it. */
  readonly electedMs: (line: Line, name: string) => number | undefined;
}

/** How a leader is ended. */
export type EndSignal = "SIGKILL" | "SIGTERM";

/** The time between two renewals on both sides: leaders are ended at a random point of it. */
const RENEWAL_MS = 1000;
/** Before a leader is ended, all candidates have seen it renew its session. */
const SETTLE_MS = 1500;
const WAIT_MS = 60_000;

/** Killed when this process ends. */
const started = new Set<ChildProcess>();
process.on("exit", () => started.forEach((child) => child.kill("SIGKILL")));

class Candidate {
  readonly name: string;
  electedMs = Number.NEGATIVE_INFINITY;
  readonly #child: ChildProcess;
  #isStanding = false;
  #cpuMs = 0;

  constructor(kind: CandidateKind, group: string, name: string) {
    this.name = name;
    const [command = "", ...args] = kind.command(group, name);
    this.#child = spawn(command, args, { stdio: ["ignore", "pipe", "pipe"], env: { ...process.env, ...NODE_ENV } });
    started.add(this.#child);
    const read = (text: string): void => {
      if (!text.startsWith("{")) return;
      const line = JSON.parse(text) as Line;
      this.#isStanding ||= kind.isStanding(line);
      if (kind.isLost(line, name)) this.electedMs = Number.NEGATIVE_INFINITY;
      this.electedMs = kind.electedMs(line, name) ?? this.electedMs;
    };
    for (const stream of [this.#child.stdout ?? fail(), this.#child.stderr ?? fail()]) createInterface({ input: stream }).on("line", read);
  }

  async standing(): Promise<void> {
    await until(() => this.#isStanding, `${this.name} campaigns`, WAIT_MS);
  }

  /** After it has ended, the last value that was read. */
  cpuMs(): number {
    try {
      this.#cpuMs = cpuMsOf(this.#child.pid ?? 0);
    } catch {
      // It has ended.
    }
    return this.#cpuMs;
  }

  async end(signal: EndSignal): Promise<void> {
    this.cpuMs();
    const ended = once(this.#child, "exit");
    this.#child.kill(signal);
    await ended;
    started.delete(this.#child);
  }
}

/** The candidates for one scope. */
export class ElectionGroup {
  readonly kind: CandidateKind;
  readonly name: string;
  #candidates: readonly Candidate[] = [];
  #missing: string | undefined;

  constructor(kind: CandidateKind, name: string) {
    this.kind = kind;
    this.name = name;
  }

  async start(count: number): Promise<void> {
    this.#candidates = Array.from({ length: count }, (_, i) => new Candidate(this.kind, this.name, `${this.name}-${i}`));
    await Promise.all(this.#candidates.map((candidate) => candidate.standing()));
    await this.led();
  }

  async led(): Promise<void> {
    await until(() => this.#leader.electedMs > 0, `${this.name} has a leader`, WAIT_MS);
  }

  get candidates(): readonly Candidate[] {
    return this.#candidates;
  }

  get #leader(): Candidate {
    return this.#candidates.reduce((newest, each) => (each.electedMs > newest.electedMs ? each : newest));
  }

  /** Ends the leader. Gives the time in ms from the signal until a successor may act. */
  async endLeader(signal: EndSignal): Promise<number> {
    const leader = this.#leader;
    this.#candidates = this.#candidates.filter((each) => each !== leader);
    this.#missing = leader.name;
    const signalledMs = Date.now();
    const ended = leader.end(signal);
    await until(() => this.#leader.electedMs >= signalledMs, `${this.name} has a successor`, WAIT_MS);
    const tookMs = this.#leader.electedMs - signalledMs;
    await ended;
    return tookMs;
  }

  /** Starts the leader that was ended last as a candidate. */
  async complete(): Promise<void> {
    if (this.#missing === undefined) return;
    const candidate = new Candidate(this.kind, this.name, this.#missing);
    this.#missing = undefined;
    this.#candidates = [...this.#candidates, candidate];
    await candidate.standing();
  }

  async stop(): Promise<void> {
    await Promise.all(this.#candidates.map((candidate) => candidate.end("SIGKILL")));
  }
}

export interface EndOptions {
  readonly signal: EndSignal;
  /** Called when all leaders are ended at the same time. Absent: each is ended at a random time of its own. */
  readonly atOnce?: (() => Promise<void>) | undefined;
  /** Other processes that belong to the benchmark. */
  readonly helpers: readonly Pick<Running, "cpuMs">[];
}

/** The times (ms) until successors may act, one for each group. */
export interface EndedRound {
  readonly tookMs: readonly number[];
  /** What other programs used of the machine meanwhile, 0 to 1. */
  readonly others: number;
}

/** Ends the leader of each group, and makes the groups complete again afterwards, when nothing is measured. */
export async function endLeaders(groups: readonly ElectionGroup[], { signal, atOnce, helpers }: EndOptions): Promise<EndedRound> {
  await Promise.all(groups.map((group) => group.led()));
  await sleep(SETTLE_MS);
  await Promise.all(groups.map((group) => group.led()));
  if (atOnce !== undefined) await sleep(Math.random() * RENEWAL_MS);
  const others = othersBeside([...helpers, ...groups.flatMap(({ candidates }) => candidates)]);
  const ends = groups.map(async (group) => {
    if (atOnce === undefined) await sleep(Math.random() * RENEWAL_MS);
    return group.endLeader(signal);
  });
  const [tookMs] = await Promise.all([Promise.all(ends), atOnce?.()]);
  const round = { tookMs, others: others() };
  await Promise.all(groups.map((group) => group.complete()));
  return round;
}
