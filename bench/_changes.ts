/** Changes at a steady rate to a mesh, and one watch at each node that is held against them: how late, and whether whole. */
import { cpuMs, ENDED, type Mesh, type MeshNode, othersBeside, sleep } from "./_mesh.ts";
import { percentile, type Spread, spread } from "./_results.ts";
import { fail } from "./_work.ts";

/** How long watches may take to show the last of the changes before they count as never seen. */
const LATE_MS = 30_000;
/** Calls that may be open on one connection. A change that is due meanwhile waits, and its wait counts. */
const MAX_OPEN = 100;

/** A write, and how many watches have yet to show it. */
interface Stamp {
  readonly version: number;
  /** When the schedule had it, whether or not it could be sent then. */
  readonly dueMs: number;
  left: number;
}

/** What was written, and what each watch has told of it. */
export class Seen {
  /** From due until a watch showed it, one a write and watch. */
  tookMs: number[] = [];
  /** From due until the last watch showed it, one a write. */
  lastMs: number[] = [];
  /** The entries that there should be: key to version. */
  readonly #written: Map<string, number>;
  /** What each watch holds. */
  readonly #held: readonly Map<string, number>[];
  readonly #stamps = new Map<string, Stamp[]>();

  constructor(watches: number, written = new Map<string, number>()) {
    this.#written = written;
    this.#held = Array.from({ length: watches }, () => new Map<string, number>());
  }

  /** Before the entry is sent with this version (or taken out: `ENDED`), which was due at `dueMs` of `performance.now()`. */
  due(key: string, version: number, dueMs: number): void {
    if (version === ENDED) this.#written.delete(key);
    else this.#written.set(key, version);
    const stamps = this.#stamps.get(key) ?? [];
    stamps.push({ version, dueMs, left: this.#held.length });
    this.#stamps.set(key, stamps);
  }

  /** A watch may skip what was replaced before it was sent (one delta a key and message): the later one shows both. */
  heard(watch: number, key: string, version: number): void {
    const held = this.#held[watch] ?? fail();
    const before = held.get(key) ?? -1;
    if (version === ENDED) held.delete(key);
    else held.set(key, version);
    const stamps = this.#stamps.get(key);
    if (stamps === undefined) return;
    const nowMs = performance.now();
    for (const stamp of stamps) {
      if (stamp.version <= before || stamp.version > version) continue;
      this.tookMs.push(nowMs - stamp.dueMs);
      stamp.left -= 1;
      if (stamp.left === 0) this.lastMs.push(nowMs - stamp.dueMs);
    }
    const open = stamps.filter(({ left }) => left > 0);
    if (open.length === 0) this.#stamps.delete(key);
    else this.#stamps.set(key, open);
  }

  /** Writes that some watch has not shown, neither themselves nor by what replaced them. */
  get missing(): number {
    return [...this.#stamps.values()].reduce((sum, stamps) => sum + stamps.length, 0);
  }

  /** Waits until every watch has shown everything, but no longer than it may take; gives what is missing then. */
  async whole(): Promise<number> {
    const endMs = performance.now() + LATE_MS;
    while (this.missing > 0 && performance.now() < endMs) await sleep(20);
    return this.missing;
  }

  /** Entries, all watches together, that are not held as written: absent, there though ended, or of another version. */
  wrong(isWatched: (key: string) => boolean = () => true): number {
    const wanted = [...this.#written].filter(([key]) => isWatched(key));
    let wrong = 0;
    for (const held of this.#held) {
      for (const [key, version] of wanted) if (held.get(key) !== version) wrong += 1;
      for (const key of held.keys()) if (!this.#written.has(key) || !isWatched(key)) wrong += 1;
    }
    return wrong;
  }
}

/** A mesh with a connection and a watch at each node. */
export interface OpenMesh {
  readonly mesh: Mesh;
  readonly nodes: readonly MeshNode[];
  readonly seen: Seen;
  close(): void;
}

/** Opens a watch at each node; `written` is what there should be already. */
export async function openMesh(mesh: Mesh, written?: Map<string, number>): Promise<OpenMesh> {
  const seen = new Seen(mesh.servers.length, written);
  const nodes = await Promise.all(mesh.servers.map((server) => mesh.open(server)));
  await Promise.all(nodes.map((node, i) => node.watch((key, version) => seen.heard(i, key, version))));
  return { mesh, nodes, seen, close: () => nodes.forEach((node) => node.close()) };
}

/** One round. */
export interface Changes {
  /** Of all nodes together, a change and node. */
  readonly cpuUs: number;
  /** From when a change was due until a watch had it; one a change and node. */
  readonly seenMs: readonly number[];
  /** The same until the last watch had it; one a change. */
  readonly lastMs: readonly number[];
  /** Changes that some watch has not shown in time. */
  readonly missing: number;
  /** What others than the nodes and this process took of the machine, 0 to 1. */
  readonly others: number;
}

export interface ChangeOptions {
  readonly perSecond: number;
  readonly seconds: number;
  /** Keys that change in turn, each always at the same node. */
  readonly keys: number;
  /** How many keys in a row change at one node, before those of the next. */
  readonly inRow?: number;
  /** Idle meanwhile, and no strangers. */
  readonly beside?: readonly Mesh[];
}

/** Above every version that was written so far. */
let version = 0;

/** Sends what is due, whether or not earlier changes are answered (`MAX_OPEN`), and waits until every watch has shown every change. */
export async function changeAtRate({ mesh, nodes, seen }: OpenMesh, options: ChangeOptions): Promise<Changes> {
  const { perSecond, seconds, keys, inRow = 1, beside = [] } = options;
  const total = perSecond * seconds;
  [seen.tookMs, seen.lastMs] = [[], []];
  const others = othersBeside([mesh, ...beside].flatMap(({ servers }) => servers));
  const [beforeMs, startMs] = [cpuMs(mesh.servers), performance.now()];
  const dueMs = (i: number) => startMs + (i * 1000) / perSecond;
  await new Promise<void>((resolve, reject) => {
    let [sent, answered] = [0, 0];
    const onAnswer = () => {
      answered += 1;
      if (answered === total) resolve();
    };
    const turn = () => {
      for (; sent < total && dueMs(sent) <= performance.now() && sent < answered + MAX_OPEN; sent++) {
        const k = sent % keys;
        if (k === 0) version += 1;
        seen.due(mesh.textOf(k), version, dueMs(sent));
        const node = nodes[Math.floor(k / inRow) % nodes.length] ?? fail();
        node.change(k, version).then(onAnswer, reject);
      }
      // A timer, though it adds up to a millisecond: looking all the time would take a core from the nodes.
      if (sent < total) setTimeout(turn, Math.max(1, dueMs(sent) - performance.now()));
    };
    turn();
  });
  const missing = await seen.whole();
  const cpuUs = ((cpuMs(mesh.servers) - beforeMs) * 1000) / (total * nodes.length);
  return { cpuUs, seenMs: seen.tookMs, lastMs: seen.lastMs, missing, others: others() };
}

/** A percentile of each round, as a spread. */
export function seenAt(rounds: readonly Changes[], share: number, of: "seenMs" | "lastMs" = "seenMs"): Spread {
  return spread(rounds.map((round) => percentile(round[of], share)));
}

/** The most that others took in a round. */
export function othersIn(rounds: readonly Changes[]): number {
  return Math.max(0, ...rounds.map(({ others }) => others));
}
