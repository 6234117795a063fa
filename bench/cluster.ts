/**
 * What does a region of ours cost? Five nodes: how long until a change is seen on every node, what it costs them, how soon a newcomer has
 * everything, and what nodes that have nothing to say cost. About three minutes.
 * `npm run bench -- cluster [--nodes 5] [--entries 100000] [--rate 200] [--seconds 6] [--rounds 3] [--idle 65] [--newcomers 3] [--churn 0]`;
 * with `--churn 300` a tenth of the entries changes every minute for that many seconds: a third of them ends, and as many others come.
 */
import { readFileSync } from "node:fs";
import { argsOf, asksForAll } from "./_args.ts";
import { type Changes, changeAtRate, openMesh, othersIn, seenAt } from "./_changes.ts";
import { countOn, cpuMs, ENDED, othersBeside, sleep, startMember, startMembers, textOf, until, waymarkMesh } from "./_mesh.ts";
import type { Node } from "./_processes.ts";
import { type Goal, percentile, quiet, report, round, spread } from "./_results.ts";
import { Wire } from "./_wire.ts";
import { drive, PATH, registerBytes, registerNumbers, unregisterBytes } from "./_work.ts";

const DEFAULTS = {
  nodes: 5,
  entries: 100_000,
  rate: 200,
  seconds: 6,
  rounds: 3,
  // Longer than the most seldom things a node does by itself: push-pull (30 s) and the snapshot (60 s).
  idle: 65,
  newcomers: 3,
  churn: 0,
};
const values = argsOf(DEFAULTS);
const [NODES, ENTRIES, RATE, SECONDS, ROUNDS, IDLE, NEWCOMERS, CHURN] = [
  values.nodes,
  values.entries,
  values.rate,
  values.seconds,
  values.rounds,
  values.idle,
  values.newcomers,
  values.churn,
];
const BATCH = 100;
/** The keys that change: those with this tag, which is what the watches ask for. */
const CHANGING = { keys: 1000, tag: "pool-0" };
if (ENTRIES < CHANGING.keys || ENTRIES % BATCH !== 0) throw new Error(`--entries: at least ${CHANGING.keys}, in hundreds`);
const MIB = 1024 * 1024;

/** Bytes that went over loopback so far, headers and all. */
function loopbackBytes(): number {
  return Number(/lo:\s*(\d+)/.exec(readFileSync("/proc/net/dev", "utf8"))?.[1] ?? Number.NaN);
}

async function load(nodes: readonly Node[]): Promise<Map<string, number>> {
  await Promise.all(
    nodes.map((node, i) => {
      const mine = Array.from({ length: ENTRIES / BATCH }, (_, b) => b * BATCH).filter((first) => (first / BATCH) % NODES === i);
      const message = (b: number) => registerBytes(mine[b] ?? 0, (mine[b] ?? 0) + BATCH, { version: 0 });
      return drive(node, PATH.register, { count: mine.length, inFlight: 2, message });
    }),
  );
  await until(async () => (await Promise.all(nodes.map(countOn))).every((count) => count === ENTRIES), "all nodes hold all entries");
  return new Map(Array.from({ length: ENTRIES }, (_, k) => [textOf(k), 0]));
}

/** Whether its edge says that it is ready to serve. */
async function isReady(node: Node): Promise<boolean> {
  const answer = await fetch(`http://${node.listeners["http"]}/readyz`);
  await answer.arrayBuffer();
  return answer.status === 200;
}

/** A fresh node, from its process's start until it holds everything and says that it is ready; seconds, and what it holds wrong. */
async function newcome(nodes: readonly Node[], written: Map<string, number>, name: string) {
  const [spawnMs, others] = [performance.now(), othersBeside(nodes)];
  const node = await startMember(nodes, name);
  await until(async () => (await countOn(node)) === ENTRIES && (await isReady(node)), "the newcomer holds all entries and is ready");
  const wholeSeconds = (performance.now() - spawnMs) / 1000;
  const othersShare = others(node.cpuMs());
  const opened = await openMesh(waymarkMesh([node]), written);
  const wrong = opened.seen.wrong();
  opened.close();
  await node.stop();
  return { wholeSeconds, lineSeconds: node.startMs / 1000, wrong, othersShare };
}

/** Each node's memory, looked at once a second; what was most in each minute is kept. */
class Memory {
  readonly #nodes: readonly Node[];
  readonly #rows: { readonly minute: number; readonly mib: number[] }[] = [];
  readonly #timer: NodeJS.Timeout;
  readonly #startMs = performance.now();
  readonly before: readonly number[];

  constructor(nodes: readonly Node[]) {
    this.#nodes = nodes;
    this.before = nodes.map((node) => node.rssKiB() / 1024);
    this.#timer = setInterval(() => this.#look(), 1000);
  }

  /** One row a minute, one column a node. */
  stop(): readonly Readonly<Record<string, unknown>>[] {
    clearInterval(this.#timer);
    this.#look();
    const columns = (mib: readonly number[]) => Object.fromEntries(mib.map((value, i) => [`node ${i}`, round(value)]));
    return [
      { minute: "before", ...columns(this.before) },
      ...this.#rows.map(({ minute, mib }) => ({ minute: String(minute), ...columns(mib) })),
    ];
  }

  get most(): number {
    return Math.max(...this.before, ...this.#rows.flatMap(({ mib }) => mib));
  }

  /** The most that a node had over what it had before. */
  get growth(): number {
    return Math.max(...this.before.map((before, i) => Math.max(...this.#rows.map(({ mib }) => mib[i] ?? 0)) / before));
  }

  #look(): void {
    const minute = 1 + Math.floor((performance.now() - this.#startMs) / 60_000);
    const seen = this.#nodes.map((node) => node.rssKiB() / 1024);
    const row = this.#rows.at(-1);
    if (row?.minute !== minute) this.#rows.push({ minute, mib: seen });
    else seen.forEach((mib, i) => (row.mib[i] = Math.max(mib, row.mib[i] ?? 0)));
  }
}

/** What lives in the nodes after a collection, MiB. */
async function heapsMiB(nodes: readonly Node[]): Promise<readonly number[]> {
  const probed = await Promise.all(nodes.map((node) => node.probe("gc")));
  return probed.map(({ heapBytes, externalBytes }) => (heapBytes + externalBytes) / MIB);
}

/** A tenth of the entries a minute gets another version or, every third of them, ends while another one comes. */
async function churn(nodes: readonly Node[], written: Map<string, number>) {
  let snapshots = 0;
  const watching = await openMesh(waymarkMesh(nodes, { onSnapshot: () => snapshots++ }), written);
  const { seen } = watching;
  await sleep(2000);
  const heapBefore = await heapsMiB(nodes);
  const memory = new Memory(nodes);
  const wires = await Promise.all(nodes.map((node) => Wire.open(node.grpc)));
  const slots = Array.from({ length: ENTRIES }, (_, k) => k);
  const [startMs, batchMs] = [performance.now(), 60_000 / (ENTRIES / 10 / BATCH)];
  let [changed, ended, nextKey] = [0, 0, ENTRIES];
  for (let b = 0; b * batchMs < CHURN * 1000; b++) {
    const [dueMs, first, version] = [startMs + b * batchMs, (b * 7919 * BATCH) % ENTRIES, 1000 + b];
    await sleep(Math.max(0, dueMs - performance.now()));
    const numbers = slots.slice(first, first + BATCH);
    const ending = numbers.filter((_, i) => (i + b) % 3 === 0);
    const now = numbers.map((k, i) => ((i + b) % 3 === 0 ? nextKey++ : k));
    slots.splice(first, now.length, ...now);
    for (const k of ending) seen.due(textOf(k), ENDED, dueMs);
    for (const k of now) seen.due(textOf(k), version, dueMs);
    const wire = wires[(first / BATCH) % nodes.length];
    await Promise.all([
      wire?.unary(PATH.unregister, unregisterBytes(ending)),
      wire?.unary(PATH.register, registerNumbers(now, { version })),
    ]);
    changed += now.length;
    ended += ending.length;
  }
  const tookSeconds = (performance.now() - startMs) / 1000;
  for (const wire of wires) wire.close();
  const missing = await seen.whole();
  const rows = memory.stop();
  const heapAfter = await heapsMiB(nodes);
  const counts = await Promise.all(nodes.map(countOn));
  watching.close();
  return {
    growth: memory.growth,
    rows,
    row: {
      seconds: round(tookSeconds),
      changed: changed - ended,
      ended,
      came: ended,
      "entries at the end": written.size,
      "nodes with another number": counts.filter((count) => count !== written.size).length,
      "wrong entries in a watch": seen.wrong(),
      missing: missing,
      "snapshots after the first": snapshots - nodes.length,
      "on the last p99 ms": percentile(seen.lastMs, 0.99),
      "RSS MiB, most": round(memory.most),
      "heap MiB before, most": round(Math.max(...heapBefore)),
      "heap MiB after, most": round(Math.max(...heapAfter)),
    },
  };
}

// Heaps are looked at under churn, by a probe in each node.
const nodes = await startMembers(NODES, { isPlain: CHURN === 0 });
/** Of nodes that joined while there was nothing to fetch. */
const emptyStart = spread(nodes.slice(NODES > 1 ? 1 : 0).map(({ startMs }) => startMs / 1000));

const [loadCpu, loadStartMs] = [cpuMs(nodes), performance.now()];
const written = await load(nodes);
const loadSeconds = (performance.now() - loadStartMs) / 1000;
const loadCpuUs = ((cpuMs(nodes) - loadCpu) * 1000) / (ENTRIES * NODES);
console.error(`${ENTRIES} entries on ${NODES} nodes after ${round(loadSeconds)} s`);

await sleep(5000);
const [idleCpu, idleBytes, idleStartMs] = [cpuMs(nodes), loopbackBytes(), performance.now()];
const othersWhileIdle = othersBeside(nodes);
await sleep(IDLE * 1000);
const idleMs = performance.now() - idleStartMs;
/** Their messages cross the loopback interface too. */
const idleOthers = othersWhileIdle();
const idle = {
  nodes: NODES,
  seconds: round(idleMs / 1000),
  "CPU % of a core, per node": round(((cpuMs(nodes) - idleCpu) / idleMs / NODES) * 100),
  "bytes a second sent, per node": round(((loopbackBytes() - idleBytes) / idleMs / NODES) * 1000),
};

const mesh = waymarkMesh(nodes, { tags: [CHANGING.tag] });
const opened = await openMesh(mesh, written);
const how = { perSecond: RATE, keys: CHANGING.keys, inRow: BATCH };
await changeAtRate(opened, { ...how, seconds: SECONDS });
const rounds: Changes[] = [];
for (let r = 0; r < ROUNDS; r++) rounds.push(await changeAtRate(opened, { ...how, seconds: SECONDS }));
const changing = new Set(Array.from({ length: CHANGING.keys }, (_, k) => textOf(k)));
const steady = {
  nodes: NODES,
  entries: ENTRIES,
  "changes a second": RATE,
  "changes per round": RATE * SECONDS,
  "seen on a node p50 ms": seenAt(rounds, 0.5),
  "p99 ms": seenAt(rounds, 0.99),
  "on the last p99 ms": seenAt(rounds, 0.99, "lastMs"),
  missing: opened.seen.missing,
  "wrong entries in a watch": opened.seen.wrong((key) => changing.has(key)),
  "CPU µs per change and node, in total": spread(rounds.map(({ cpuUs }) => cpuUs)),
  "others' share of the machine": round(othersIn(rounds)),
};
opened.close();

const came = [];
for (let i = 0; i < NEWCOMERS; i++) came.push(await newcome(nodes, written, `bench-newcomer-${i}`));
const wholeSeconds = spread(came.map((each) => each.wholeSeconds));
const newcomers = {
  entries: ENTRIES,
  newcomers: NEWCOMERS,
  "from process start to all entries and ready s": wholeSeconds,
  "to its ready line s": spread(came.map(({ lineSeconds }) => lineSeconds)),
  "start of an empty node s": emptyStart,
  "in addition to an empty node's start s": spread(came.map((each) => each.wholeSeconds - emptyStart.median)),
  "wrong entries": came.reduce((sum, { wrong }) => sum + wrong, 0),
};

const churned = CHURN > 0 ? await churn(nodes, written) : undefined;
for (const node of nodes) await node.stop("SIGKILL");

const churnGoals = (): readonly Goal[] => {
  if (churned === undefined) return [];
  const { row, growth } = churned;
  const none = (
    name: "nodes with another number" | "wrong entries in a watch" | "missing" | "snapshots after the first",
    unit: string,
  ): Goal => ({
    name: `churn: ${name}`,
    value: row[name],
    unit,
    atMost: 0,
  });
  return [
    none("nodes with another number", "nodes"),
    none("wrong entries in a watch", "entries"),
    none("missing", "writes"),
    none("snapshots after the first", "snapshots"),
    { name: "churn: most memory of a node over before it", value: round(growth), unit: "×", atMost: 1.5 },
  ];
};
const goals: readonly Goal[] = [
  quiet(
    {
      name: `a change at ${RATE} a second seen on ${NODES} nodes, p99`,
      value: steady["on the last p99 ms"].median,
      unit: "ms",
      atMost: 250,
      shown: {
        work: `${RATE} changes a second to ${NODES} nodes on one machine: time from when a change is due until the last node shows it, p99`,
        unit: "ms",
        ours: steady["on the last p99 ms"],
      },
    },
    othersIn(rounds),
  ),
  { name: "changes that a watch did not show", value: steady["missing"], unit: "changes", atMost: 0 },
  {
    name: "entries that differ between a watch and the written data",
    value: steady["wrong entries in a watch"],
    unit: "entries",
    atMost: 0,
  },
  quiet(
    {
      name: `a new node has ${ENTRIES} entries and is ready, its process's start included`,
      value: wholeSeconds.median,
      unit: "s",
      atMost: 5,
      shown: {
        work: `a new node joins: time from the start of its process until it has all ${ENTRIES} entries and is ready`,
        unit: "s",
        ours: wholeSeconds,
      },
    },
    Math.max(0, ...came.map(({ othersShare }) => othersShare)),
  ),
  quiet(
    {
      name: "CPU of an idle node",
      value: idle["CPU % of a core, per node"],
      unit: "%",
      atMost: 2,
      shown: {
        work: `a node of ${NODES} with ${ENTRIES} entries that do not change`,
        unit: "% of a core",
        ours: idle["CPU % of a core, per node"],
      },
    },
    idleOthers,
  ),
  quiet(
    {
      name: "bytes a second of an idle node",
      value: idle["bytes a second sent, per node"],
      unit: "B",
      atMost: 5000,
      shown: {
        work: `a node of ${NODES} with ${ENTRIES} entries that do not change: bytes that it sends to the others`,
        unit: "bytes a second",
        ours: idle["bytes a second sent, per node"],
      },
    },
    idleOthers,
  ),
  ...churnGoals(),
];
report({
  name: NODES === 5 ? "cluster" : `cluster-${NODES}`,
  isKept: asksForAll(values, DEFAULTS),
  tables: {
    "changes visible on all nodes": [steady],
    "a new node": [newcomers],
    "idle nodes": [idle],
    loading: [{ entries: ENTRIES, nodes: NODES, seconds: round(loadSeconds), "CPU µs per entry and node": round(loadCpuUs) }],
    ...(churned !== undefined && { churn: [churned.row], "RSS under churn, most in each minute, MiB": churned.rows }),
  },
  goals,
  notes: [
    "The nodes are real processes with journals on this machine's cores. The load and all watches run in one more process on the same cores.",
    "Changes are sent on a schedule, whether or not earlier ones have been answered. A change is timed from its scheduled time (not from when it was sent) until its delta, or the delta of a later change of the same entry, arrives in a watch of a node. CPU time is the total of all nodes, with journal and watches. One round runs before the rounds that count.",
    "The time of a new node starts before its process does, and ends when it counts all entries and `/readyz` answers 200, polled every 20 ms. Afterwards a watch of the node is compared with the written data. The start of an empty node is the median of the nodes that joined before there were entries.",
    "The idle time is longer than the interval of push-pulls (30 s) and of snapshots of the replica (60 s).",
    "Churn: a tenth of the entries change per minute; two thirds of them get a new version, and one third ends and is replaced by as many new keys. Each write is searched in a watch of everything on every node, and at the end each watch is compared with the written data. RSS includes memory that no collection has freed yet; heaps are measured after a collection.",
    "Bytes are counted by the loopback interface, with TCP and IP headers and acknowledgements: the total that all nodes send to each other, divided by their number.",
  ],
});
