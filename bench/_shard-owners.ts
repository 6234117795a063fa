/** Processes that own shards, ours or a peer's: who may act for each shard, and how long shards stay without an owner after a kill. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { othersBeside, sleep, until } from "./_mesh.ts";
import { cpuMsOf, type Running } from "./_processes.ts";
import { fail } from "./_work.ts";

/** A line of an owner. Times are of the system's clock, in ms. */
interface OwnerLine {
  readonly what: "attached" | "left" | "lost" | "owns" | "ready";
  readonly id: number;
  readonly atMs: number;
  /** Instance that owns the shard. Absent where a process is one owner. */
  readonly owner?: string;
}

/** Programs that own shards. */
export interface OwnerKind {
  readonly who: string;
  readonly command: (index: number) => readonly string[];
  /** A process that was started again owns at least this share of an equal part of the shards when its group is complete. */
  readonly leastShare: number;
  /** Sent once to each process that has its part of the shards. */
  readonly onComplete?: string;
  /** Sent to all other processes until the process that was started again has its part. */
  readonly giveBack?: string;
}

const WAIT_MS = 90_000;
/** The time between two renewals on both sides: owners are killed at a random point of it. */
const RENEWAL_MS = 1000;
/** Before an owner is killed, no shard has moved for this time, and all have renewed their sessions. */
const QUIET_MS = 1500;
/** Time between two requests to give shards back. */
const GIVE_BACK_MS = 1000;

/** Killed when this process ends. */
const started = new Set<ChildProcess>();
process.on("exit", () => started.forEach((child) => child.kill("SIGKILL")));

export class OwnerProcess {
  /** The shards for which the process may act, and since when. */
  readonly owned = new Map<number, OwnerLine>();
  /** The last line of each instance that is not about a shard. */
  readonly said = new Map<string, OwnerLine["what"]>();
  lastMs = 0;
  isReady = false;
  readonly #child: ChildProcess;
  #isEnded = false;
  #cpuMs = 0;

  constructor([command = "", ...args]: readonly string[]) {
    this.#child = spawn(command, args, { stdio: ["pipe", "pipe", "inherit"] });
    started.add(this.#child);
    createInterface({ input: this.#child.stdout ?? fail() }).on("line", (text) => this.#read(JSON.parse(text) as OwnerLine));
    this.#child.on("exit", (code) => {
      if (!this.#isEnded) throw new Error(`an owner has ended with code ${code}: ${command} ${args.join(" ")}`);
    });
  }

  #read(line: OwnerLine): void {
    const { what, id, owner = "", atMs } = line;
    if (what === "owns") this.owned.set(id, line);
    else if (what !== "lost") this.said.set(owner, what);
    else if (this.owned.get(id)?.owner === line.owner) this.owned.delete(id);
    this.lastMs = atMs;
  }

  send(order: string): void {
    this.#child.stdin?.write(`${order}\n`);
  }

  async saying(owner: string, what: OwnerLine["what"]): Promise<void> {
    await until(() => this.said.get(owner) === what, `${owner} ${what}`, WAIT_MS);
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

  async kill(): Promise<void> {
    this.cpuMs();
    this.#isEnded = true;
    const ended = once(this.#child, "exit");
    this.#child.kill("SIGKILL");
    await ended;
    started.delete(this.#child);
  }
}

/** How long shards stayed without an owner that may act. */
export interface KilledRound {
  /** Of each shard, in ms since the signal. */
  readonly tookMs: readonly number[];
  /** Wall time of the signal, in ms. */
  readonly killedMs: number;
  /** What other programs used of the machine meanwhile, 0 to 1. */
  readonly others: number;
}

export class OwnerGroup {
  readonly kind: OwnerKind;
  readonly #shards: number;
  #processes: readonly OwnerProcess[] = [];

  constructor(kind: OwnerKind, shards: number) {
    this.kind = kind;
    this.#shards = shards;
  }

  get processes(): readonly OwnerProcess[] {
    return this.#processes;
  }

  async start(count: number): Promise<void> {
    this.#processes = Array.from({ length: count }, (_, i) => new OwnerProcess(this.kind.command(i)));
    await this.owned();
    for (const process of this.#processes) this.#complete(process);
    await this.quiet();
  }

  /** Waits until each shard has an owner. */
  async owned(): Promise<void> {
    await until(() => this.#owners().size === this.#shards, `all shards have owners (${this.kind.who})`, WAIT_MS);
  }

  /** Waits until each shard has an owner and none has moved for a while. */
  async quiet(): Promise<void> {
    await this.owned();
    await until(() => this.#isQuiet, `no shard moves (${this.kind.who})`, WAIT_MS);
    await this.owned();
  }

  get #isQuiet(): boolean {
    return Date.now() - Math.max(...this.#processes.map(({ lastMs }) => lastMs)) > QUIET_MS;
  }

  /** The newest owner of each shard. */
  #owners(): ReadonlyMap<number, OwnerLine> {
    const owners = new Map<number, OwnerLine>();
    for (const { owned } of this.#processes)
      for (const [id, line] of owned) if (line.atMs >= (owners.get(id)?.atMs ?? 0)) owners.set(id, line);
    return owners;
  }

  /** Wall time (ms) since which the newest owner of a shard may act. 0 if there is none. */
  ownedMs(id: number): number {
    return this.#owners().get(id)?.atMs ?? 0;
  }

  /** Number of shards by instance. */
  counts(): ReadonlyMap<string, number> {
    const counts = new Map<string, number>();
    for (const { owner = "" } of this.#owners().values()) counts.set(owner, (counts.get(owner) ?? 0) + 1);
    return counts;
  }

  /** Kills a process at a random time, and waits until other processes may act for all its shards. */
  async killOne(i: number, helpers: readonly Pick<Running, "cpuMs">[]): Promise<KilledRound> {
    const victim = this.#processes[i] ?? fail();
    const kill = () => {
      this.#processes = this.#processes.filter((each) => each !== victim);
      void victim.kill();
    };
    return this.losing(helpers, async () => [...victim.owned.keys()], kill);
  }

  /** Runs `kill` at a random time when no shard moves, and waits until the shards that `lost` returned have owners again. */
  async losing(helpers: readonly Pick<Running, "cpuMs">[], lost: () => Promise<readonly number[]>, kill: () => void): Promise<KilledRound> {
    let ids: readonly number[];
    // A plan can begin meanwhile, and its shards would not be lost.
    do {
      await this.quiet();
      await sleep(Math.random() * RENEWAL_MS);
      ids = await lost();
    } while (!this.#isQuiet);
    const others = othersBeside([...helpers, ...this.#processes]);
    const killedMs = Date.now();
    kill();
    let owners = this.#owners();
    const isOwned = () => {
      owners = this.#owners();
      return ids.every((id) => (owners.get(id)?.atMs ?? 0) >= killedMs);
    };
    await until(isOwned, `all shards have owners again (${this.kind.who})`, WAIT_MS);
    return { tookMs: ids.map((id) => (owners.get(id)?.atMs ?? 0) - killedMs), killedMs, others: others() };
  }

  /** Starts the process that was killed, and waits until it has its part of the shards. */
  async complete(index: number): Promise<void> {
    const others = this.#processes;
    const process = new OwnerProcess(this.kind.command(index));
    this.#processes = others.toSpliced(index, 0, process);
    const least = (this.kind.leastShare * this.#shards) / this.#processes.length;
    await until(
      async () => {
        if (process.owned.size >= least) return true;
        if (this.kind.giveBack !== undefined) {
          for (const other of others) other.send(this.kind.giveBack);
          await sleep(GIVE_BACK_MS);
        }
        return false;
      },
      `a process that was started again has its shards (${this.kind.who})`,
      WAIT_MS,
    );
    this.#complete(process);
  }

  #complete(process: OwnerProcess): void {
    if (this.kind.onComplete !== undefined) process.send(this.kind.onComplete);
  }

  async stop(): Promise<void> {
    await Promise.all(this.#processes.map((process) => process.kill()));
  }
}
