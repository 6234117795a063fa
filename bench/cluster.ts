/**
 * How long until a change is seen on every node, what it costs them, how soon a newcomer has everything, and what nodes
 * that have nothing to say cost. `npm run bench -- cluster [--nodes 5] [--entries 100000] [--rate 200] [--seconds 20]
 * [--idle 75] [--newcomers 3] [--churn 0]`; with `--churn 300` a tenth of the entries changes every minute for that many
 * seconds: a third of them ends, and as many others come.
 */
import { readFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { NamespaceStatusRequestSchema, NamespaceStatusResponseSchema } from "../gen/waymark/discovery/v1/discovery_pb.js";
import { MeshWatchers, Written } from "./_mesh-watchers.ts";
import { type Node, scratchDir, startNode } from "./_processes.ts";
import { type Goal, percentile, report, round, spread } from "./_results.ts";
import { Wire } from "./_wire.ts";
import { ask, drive, NAMESPACE, PATH, registerBytes, registerNumbers, unregisterBytes } from "./_work.ts";

const { values } = parseArgs({
  options: {
    nodes: { type: "string", default: "5" },
    entries: { type: "string", default: "100000" },
    rate: { type: "string", default: "200" },
    seconds: { type: "string", default: "20" },
    // Longer than the most seldom things a node does by itself: push-pull (30 s) and the snapshot (60 s).
    idle: { type: "string", default: "75" },
    newcomers: { type: "string", default: "3" },
    churn: { type: "string", default: "0" },
  },
});
const [NODES, ENTRIES, RATE, SECONDS, IDLE, NEWCOMERS, CHURN] = [
  Number(values.nodes),
  Number(values.entries),
  Number(values.rate),
  Number(values.seconds),
  Number(values.idle),
  Number(values.newcomers),
  Number(values.churn),
];
const BATCH = 100;
/** The keys that change: those with this tag, which is what the watches ask for. */
const CHANGING = 1000;
if (ENTRIES < CHANGING || ENTRIES % BATCH !== 0) throw new Error(`--entries: at least ${CHANGING}, in hundreds`);
const SYNC_MS = 120_000;
/** How long a watch may take to show the last of the changes before they count as never seen. */
const SEEN_MS = 30_000;
/** Open calls on one connection at most, as in _open-loop.ts: what is due meanwhile waits, and its wait counts. */
const MAX_OPEN = 100;
const MIB = 1024 * 1024;

async function countOn(node: Node): Promise<number> {
  const request = toBinary(NamespaceStatusRequestSchema, create(NamespaceStatusRequestSchema, { namespace: NAMESPACE }));
  return Number(fromBinary(NamespaceStatusResponseSchema, await ask(node, PATH.status, request)).endpointCount);
}

async function until(isTrue: () => Promise<boolean>, what: string): Promise<number> {
  const startMs = performance.now();
  while (!(await isTrue())) {
    if (performance.now() - startMs > SYNC_MS) throw new Error(`waited ${SYNC_MS} ms: ${what}`);
    await sleep(20);
  }
  return performance.now() - startMs;
}

/** Waits until it holds, but not for longer; whether it does. */
async function within(ms: number, isTrue: () => boolean): Promise<boolean> {
  const endMs = performance.now() + ms;
  while (!isTrue() && performance.now() < endMs) await sleep(50);
  return isTrue();
}

function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

async function join(seeds: readonly Node[], name: string): Promise<Node> {
  const [seed] = seeds;
  const to = seed === undefined ? [] : ["--join", seed.listeners["fabric"] ?? ""];
  return startNode({ dataDir: scratchDir(name), isFree: true, args: ["--node-id", name, ...to] });
}

/** Bytes that went over loopback so far, headers and all. */
function loopbackBytes(): number {
  return Number(/lo:\s*(\d+)/.exec(readFileSync("/proc/net/dev", "utf8"))?.[1] ?? Number.NaN);
}

function cpuMs(nodes: readonly Node[]): number {
  return nodes.reduce((sum, node) => sum + node.cpuMs(), 0);
}

/** Changes at a steady rate, whether or not earlier ones are answered; each key always at the same node. */
async function change(nodes: readonly Node[], watchers: MeshWatchers, written: Written): Promise<number> {
  const wires = await Promise.all(nodes.map((node) => Wire.open(node.grpc)));
  const total = RATE * SECONDS;
  const startMs = performance.now();
  await new Promise<void>((resolve, reject) => {
    let [sent, answered] = [0, 0];
    const dueMs = (i: number) => startMs + (i * 1000) / RATE;
    const onAnswer = () => {
      answered += 1;
      if (answered === total) resolve();
    };
    const turn = () => {
      for (; sent < total && dueMs(sent) <= performance.now() && sent < answered + MAX_OPEN * wires.length; sent++) {
        const [k, version] = [sent % CHANGING, 1 + Math.floor(sent / CHANGING)];
        watchers.due(k, version, dueMs(sent));
        written.put([k], version);
        wires[Math.floor(k / BATCH) % nodes.length]?.unary(PATH.register, registerBytes(k, k + 1, { version })).then(onAnswer, reject);
      }
      // A timer, though it adds up to a millisecond: looking all the time would take a core from the nodes.
      if (sent < total) setTimeout(turn, Math.max(1, dueMs(sent) - performance.now()));
    };
    turn();
  });
  for (const wire of wires) wire.close();
  return total;
}

async function load(nodes: readonly Node[], written: Written): Promise<void> {
  written.put(Array(ENTRIES).keys(), 0);
  await Promise.all(
    nodes.map((node, i) => {
      const mine = Array.from({ length: Math.ceil(ENTRIES / BATCH) }, (_, b) => b * BATCH).filter(
        (first) => (first / BATCH) % nodes.length === i,
      );
      const message = (b: number) => registerBytes(mine[b] ?? 0, Math.min(ENTRIES, (mine[b] ?? 0) + BATCH), { version: 0 });
      return drive(node, PATH.register, { count: mine.length, inFlight: 2, message });
    }),
  );
}

/** Whether its edge says that it is ready to serve. */
async function isReady(node: Node): Promise<boolean> {
  const answer = await fetch(`http://${node.listeners["http"]}/readyz`);
  await answer.arrayBuffer();
  return answer.status === 200;
}

/** A fresh node, from its process's start until it holds everything and says that it is ready; seconds, and what it holds wrong. */
async function newcome(nodes: readonly Node[], written: Written, name: string) {
  const spawnMs = performance.now();
  const node = await join(nodes, name);
  await until(async () => (await countOn(node)) === ENTRIES && (await isReady(node)), "the newcomer holds all entries and is ready");
  const wholeSeconds = (performance.now() - spawnMs) / 1000;
  const watch = new MeshWatchers();
  await watch.open([node], []);
  const wrong = watch.wrong(written);
  watch.close();
  await node.stop();
  return { wholeSeconds, lineSeconds: node.startMs / 1000, wrong };
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
    const storedRecords = (mib: readonly number[]) => Object.fromEntries(mib.map((value, i) => [`node ${i}`, round(value)]));
    return [
      { minute: "before", ...storedRecords(this.before) },
      ...this.#rows.map(({ minute, mib }) => ({ minute: String(minute), ...storedRecords(mib) })),
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
async function churn(nodes: readonly Node[], written: Written) {
  const watching = new MeshWatchers();
  await watching.open(nodes, []);
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
    written.end(ending);
    written.put(now, version);
    for (const k of ending) watching.dueToEnd(k, dueMs);
    for (const k of now) watching.due(k, version, dueMs);
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
  await within(SEEN_MS, () => watching.missing === 0);
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
      ended: ended,
      came: ended,
      "entries at the end": written.entries.size,
      "nodes with another number": counts.filter((count) => count !== written.entries.size).length,
      "entries wrong in a watch": watching.wrong(written),
      "never seen": watching.missing,
      "snapshots after the first": watching.snapshots - nodes.length,
      "on the last p99 ms": percentile(watching.lastMs, 0.99),
      "RSS MiB, most": round(memory.most),
      "heap MiB before, most": round(Math.max(...heapBefore)),
      "heap MiB after, most": round(Math.max(...heapAfter)),
    },
  };
}

const nodes: Node[] = [];
for (let i = 0; i < NODES; i++) nodes.push(await join(nodes, `bench-${i}`));
const written = new Written();
/** Of nodes that joined while there was nothing to fetch. */
const emptyStart = spread(nodes.slice(NODES > 1 ? 1 : 0).map(({ startMs }) => startMs / 1000));

const loadCpu = cpuMs(nodes);
const loadStartMs = performance.now();
await load(nodes, written);
await until(async () => (await Promise.all(nodes.map(countOn))).every((count) => count === ENTRIES), "all nodes hold all entries");
const loadSeconds = (performance.now() - loadStartMs) / 1000;
const loadCpuUs = ((cpuMs(nodes) - loadCpu) * 1000) / (ENTRIES * NODES);
console.error(`${ENTRIES} entries on ${NODES} nodes after ${round(loadSeconds)} s`);

await sleep(5000);
const [idleCpu, idleBytes, idleStartMs] = [cpuMs(nodes), loopbackBytes(), performance.now()];
await sleep(IDLE * 1000);
const idleMs = performance.now() - idleStartMs;
const idle = {
  nodes: NODES,
  seconds: round(idleMs / 1000),
  "CPU % of a core, a node": round(((cpuMs(nodes) - idleCpu) / idleMs / NODES) * 100),
  "bytes a second sent, a node": round(((loopbackBytes() - idleBytes) / idleMs / NODES) * 1000),
};

const watchers = new MeshWatchers();
await watchers.open(nodes, ["pool-0"]);
await sleep(2000);
const changeCpu = cpuMs(nodes);
const changes = await change(nodes, watchers, written);
await sleep(1000);
const changeCpuUs = ((cpuMs(nodes) - changeCpu) * 1000) / (changes * NODES);
await within(SEEN_MS, () => watchers.missing === 0);
const steady = {
  nodes: NODES,
  entries: ENTRIES,
  "changes a second": RATE,
  changes,
  "seen on a node p50 ms": percentile(watchers.tookMs, 0.5),
  "p99 ms": percentile(watchers.tookMs, 0.99),
  "on the last p99 ms": percentile(watchers.lastMs, 0.99),
  "never seen": watchers.missing,
  "entries wrong in a watch": watchers.wrong(written, (k) => k < CHANGING),
  "CPU µs a change a node, all in": round(changeCpuUs),
};
watchers.close();

const came = [];
for (let i = 0; i < NEWCOMERS; i++) came.push(await newcome(nodes, written, `bench-newcomer-${i}`));
const newcomerRow = {
  entries: ENTRIES,
  newcomers: NEWCOMERS,
  "from process start to all entries and ready s": spread(came.map(({ wholeSeconds }) => wholeSeconds)),
  "to its ready line s": spread(came.map(({ lineSeconds }) => lineSeconds)),
  "an empty node's own start s": emptyStart,
  "beyond an empty node's start s": spread(came.map(({ wholeSeconds }) => wholeSeconds - emptyStart.median)),
  "entries wrong": came.reduce((sum, { wrong }) => sum + wrong, 0),
};

const churned = CHURN > 0 ? await churn(nodes, written) : undefined;
for (const node of nodes) await node.stop("SIGKILL");

const churnGoals = (): readonly Goal[] => {
  if (churned === undefined) return [];
  const { row, growth } = churned;
  const none = (
    name: "nodes with another number" | "entries wrong in a watch" | "never seen" | "snapshots after the first",
    unit: string,
  ): Goal => ({
    name: `churn: ${name}`,
    value: row[name],
    unit,
    atMost: 0,
  });
  return [
    none("nodes with another number", "nodes"),
    none("entries wrong in a watch", "entries"),
    none("never seen", "writes"),
    none("snapshots after the first", "snapshots"),
    { name: "churn: most memory of a node over before it", value: round(growth), unit: "×", atMost: 1.5 },
  ];
};
const wholeSeconds = newcomerRow["from process start to all entries and ready s"];
const goals: readonly Goal[] = [
  { name: `a change at ${RATE} a second seen on ${NODES} nodes, p99`, value: steady["on the last p99 ms"], unit: "ms", atMost: 250 },
  { name: "changes that a watch never showed", value: steady["never seen"], unit: "changes", atMost: 0 },
  {
    name: `a newcomer has ${ENTRIES} entries and is ready, its process's start included`,
    value: wholeSeconds.median,
    unit: "s",
    atMost: 5,
  },
  { name: "CPU of a node with nothing to say", value: idle["CPU % of a core, a node"], unit: "%", atMost: 2 },
  { name: "bytes a second of a node with nothing to say", value: idle["bytes a second sent, a node"], unit: "B", atMost: 5000 },
  ...churnGoals(),
];
report({
  name: NODES === 5 ? "cluster" : `cluster-${NODES}`,
  tables: {
    "changes seen everywhere": [steady],
    "a newcomer": [newcomerRow],
    "nothing to say": [idle],
    loading: [{ entries: ENTRIES, nodes: NODES, seconds: round(loadSeconds), "CPU µs an entry a node": round(loadCpuUs) }],
    ...(churned !== undefined && { churn: [churned.row], "RSS under churn, most in each minute, MiB": churned.rows }),
  },
  goals,
  notes: [
    "Real processes with journals on this machine's two cores, the load and all watches in one more process on the same cores.",
    "Changes are sent when the schedule has them, whether or not earlier ones are answered, and timed from when the schedule had them (not from when they were sent) to the delta in a watch of a node; what replaced a change shows it too. All CPU time of all nodes, journal and watches included.",
    "A newcomer's time starts before its process does and ends when it counts all entries and `/readyz` says 200, looked at every 20 ms; afterwards a watch of it is held against what was written. What an empty node needs to start is the median of the nodes that joined before there were entries.",
    "Nothing to say lasts longer than the time between push-pulls (30 s) and between snapshots of the replica (60 s).",
    "Churn: of a tenth of the entries a minute, two thirds get a new version, one third ends and as many new keys come; each write is looked for in a watch of everything at every node, and at the end each watch is held against what was written. RSS includes what no collection has freed yet, the heaps are after one.",
    "Bytes as the loopback interface counts them, TCP and IP headers and acknowledgements included.",
  ],
});
