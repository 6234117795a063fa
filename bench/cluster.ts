/**
 * How long until a change is seen on every node, what it costs them, how soon a newcomer has everything, and what nodes
 * that have nothing to say cost. `npm run bench -- cluster [--nodes 5] [--entries 100000] [--rate 200] [--seconds 20]
 * [--idle 20] [--churn 0]`; with `--churn 300` a tenth of the entries is replaced every minute for that many seconds.
 */
import { readFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import {
  CatalogWatchRequestSchema,
  CatalogWatchResponse_Snapshot,
  CatalogWatchResponseSchema,
  NamespaceStatusRequestSchema,
  NamespaceStatusResponseSchema,
} from "../gen/waymark/discovery/v1/discovery_pb.js";
import { type Node, scratchDir, startNode } from "./_processes.ts";
import { type Goal, percentile, report, round } from "./_results.ts";
import { Wire } from "./_wire.ts";
import { ask, drive, NAMESPACE, PATH, registerBytes } from "./_work.ts";

const { values } = parseArgs({
  options: {
    nodes: { type: "string", default: "5" },
    entries: { type: "string", default: "100000" },
    rate: { type: "string", default: "200" },
    seconds: { type: "string", default: "20" },
    idle: { type: "string", default: "20" },
    churn: { type: "string", default: "0" },
  },
});
const [NODES, ENTRIES, RATE, SECONDS, IDLE, CHURN] = [
  Number(values.nodes),
  Number(values.entries),
  Number(values.rate),
  Number(values.seconds),
  Number(values.idle),
  Number(values.churn),
];
const BATCH = 100;
/** The keys that change: those with this tag, which is what the watches ask for. */
const CHANGING = 1000;
const STATUS = PATH.query.replace("CatalogQuery", "NamespaceStatus");
const SYNC_MS = 120_000;

async function countOn(node: Node): Promise<number> {
  const request = toBinary(NamespaceStatusRequestSchema, create(NamespaceStatusRequestSchema, { namespace: NAMESPACE }));
  return Number(fromBinary(NamespaceStatusResponseSchema, await ask(node, STATUS, request)).endpointCount);
}

async function until(isTrue: () => Promise<boolean>, what: string): Promise<number> {
  const startMs = performance.now();
  while (!(await isTrue())) {
    if (performance.now() - startMs > SYNC_MS) throw new Error(`waited ${SYNC_MS} ms: ${what}`);
    await sleep(20);
  }
  return performance.now() - startMs;
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

/** When each watch heard of each change: what is folded, and how long it took to be told. */
class Watchers {
  readonly tookMs: number[] = [];
  readonly lastMs: number[] = [];
  readonly #wires: Wire[] = [];
  readonly #sent = new Map<string, { readonly atMs: number; left: number }>();
  readonly #held: Map<string, string>[] = [];
  readonly #count: number;
  snapshots = 0;

  constructor(count: number) {
    this.#count = count;
  }

  async open(nodes: readonly Node[], tags: readonly string[]): Promise<void> {
    const request = toBinary(CatalogWatchRequestSchema, create(CatalogWatchRequestSchema, { namespace: NAMESPACE, tags: [...tags] }));
    const greeted = nodes.map(async (node) => {
      const wire = await Wire.open(node.grpc);
      this.#wires.push(wire);
      const held = new Map<string, string>();
      this.#held.push(held);
      return new Promise<void>((resolve, reject) => {
        const stream = wire.stream(PATH.watch, {
          onMessage: (bytes, start, end) => {
            if (this.#heard(held, bytes.subarray(start, end))) resolve();
          },
          onEnd: (why) => reject(new Error(`a watch ended: ${why}`)),
        });
        stream.send(request);
        stream.end();
      });
    });
    await Promise.all(greeted);
  }

  /** Returns whether the snapshot is complete. */
  #heard(held: Map<string, string>, bytes: Uint8Array): boolean {
    const message = fromBinary(CatalogWatchResponseSchema, bytes);
    const nowMs = performance.now();
    for (const { payload } of message.deltas) {
      if (payload.case === "removed") held.delete(`${payload.value.name}/${payload.value.instanceId}`);
      if (payload.case !== "entry") continue;
      const { key, metadata } = payload.value;
      const name = `${key?.name}/${key?.instanceId}`;
      const version = metadata["v"] ?? "0";
      held.set(name, version);
      const sent = this.#sent.get(`${name} ${version}`);
      if (sent === undefined) continue;
      this.tookMs.push(nowMs - sent.atMs);
      sent.left -= 1;
      if (sent.left === 0) this.lastMs.push(nowMs - sent.atMs);
    }
    if (message.snapshot === CatalogWatchResponse_Snapshot.END) this.snapshots += 1;
    return message.snapshot === CatalogWatchResponse_Snapshot.END;
  }

  sent(k: number, version: number): void {
    this.#sent.set(`service-${Math.floor(k / 10)}/i-${k % 10} ${version}`, { atMs: performance.now(), left: this.#count });
  }

  get missing(): number {
    return [...this.#sent.values()].filter(({ left }) => left > 0).length;
  }

  /** Whether all watches hold the same. */
  get areEqual(): boolean {
    const texts = this.#held.map((held) => JSON.stringify([...held].toSorted(([a], [b]) => (a < b ? -1 : 1))));
    return texts.every((text) => text === texts[0]);
  }

  close(): void {
    for (const wire of this.#wires) wire.close();
  }
}

/** Changes at a steady rate, whether or not earlier ones are answered; each key always at the same node. */
async function change(nodes: readonly Node[], watchers: Watchers, seconds: number): Promise<number> {
  const wires = await Promise.all(nodes.map((node) => Wire.open(node.grpc)));
  const startMs = performance.now();
  const calls: Promise<unknown>[] = [];
  const total = RATE * seconds;
  for (let i = 0; i < total; i++) {
    const due = startMs + (i * 1000) / RATE;
    if (due > performance.now()) await sleep(due - performance.now());
    const k = i % CHANGING;
    const version = 1 + Math.floor(i / CHANGING);
    const wire = wires[Math.floor(k / BATCH) % nodes.length];
    watchers.sent(k, version);
    if (wire !== undefined) calls.push(wire.unary(PATH.register, registerBytes(k, k + 1, { version })));
  }
  await Promise.all(calls);
  for (const wire of wires) wire.close();
  return total;
}

async function load(nodes: readonly Node[], from: number, to: number, version = 0): Promise<void> {
  await Promise.all(
    nodes.map((node, i) => {
      const mine = Array.from({ length: Math.ceil((to - from) / BATCH) }, (_, b) => from + b * BATCH).filter(
        (first) => (first / BATCH) % nodes.length === i,
      );
      const message = (b: number) => registerBytes(mine[b] ?? 0, (mine[b] ?? 0) + BATCH, { version });
      return drive(node, PATH.register, { count: mine.length, inFlight: 2, message });
    }),
  );
}

const nodes: Node[] = [];
for (let i = 0; i < NODES; i++) nodes.push(await join(nodes, `bench-${i}`));
const emptyStartMs = nodes.at(-1)?.startMs ?? Number.NaN;

const loadCpu = cpuMs(nodes);
const loadStartMs = performance.now();
await load(nodes, 0, ENTRIES);
const counts = async () => Promise.all(nodes.map(countOn));
await until(async () => (await counts()).every((count) => count === ENTRIES), "all nodes hold all entries");
const loadSeconds = (performance.now() - loadStartMs) / 1000;
const loadCpuUs = ((cpuMs(nodes) - loadCpu) * 1000) / (ENTRIES * NODES);
console.error(`${ENTRIES} entries on ${NODES} nodes after ${round(loadSeconds)} s`);

await sleep(5000);
const [idleCpu, idleBytes, idleStartMs] = [cpuMs(nodes), loopbackBytes(), performance.now()];
await sleep(IDLE * 1000);
const idleMs = performance.now() - idleStartMs;
const idle = {
  nodes: NODES,
  "CPU % of a core, a node": round(((cpuMs(nodes) - idleCpu) / idleMs / NODES) * 100),
  "bytes a second sent, a node": round(((loopbackBytes() - idleBytes) / idleMs / NODES) * 1000),
};

const watchers = new Watchers(NODES);
await watchers.open(nodes, ["pool-0"]);
await sleep(2000);
const changeCpu = cpuMs(nodes);
const changes = await change(nodes, watchers, SECONDS);
await sleep(1000);
const changeCpuUs = ((cpuMs(nodes) - changeCpu) * 1000) / (changes * NODES);
const steady = {
  nodes: NODES,
  entries: ENTRIES,
  "changes a second": RATE,
  "seen on a node p50 ms": percentile(watchers.tookMs, 0.5),
  "p99 ms": percentile(watchers.tookMs, 0.99),
  "on the last p99 ms": percentile(watchers.lastMs, 0.99),
  "never seen": watchers.missing,
  "CPU µs a change a node, all in": round(changeCpuUs),
  "equal at the end": String(watchers.areEqual),
};
watchers.close();

const newcomer = await join(nodes, "bench-newcomer");
await until(async () => (await countOn(newcomer)) === ENTRIES, "the newcomer holds all entries");
const newcomerRow = {
  entries: ENTRIES,
  "from spawn to ready s": round(newcomer.startMs / 1000),
  "an empty newcomer s": round(emptyStartMs / 1000),
  "syncing s": round((newcomer.startMs - emptyStartMs) / 1000),
};
await newcomer.stop();

/** Replaces a tenth of all entries a minute, for a while: by other versions, a hundred at a time. */
async function churn() {
  const watching = new Watchers(NODES);
  await watching.open(nodes, []);
  const before = nodes.map((node) => node.rssKiB());
  const [startMs, a100Ms] = [performance.now(), 60_000 / (ENTRIES / 10 / BATCH)];
  let changed = 0;
  while (performance.now() - startMs < CHURN * 1000) {
    const first = ((changed / BATCH) * 7919 * BATCH) % ENTRIES;
    const node = nodes[(first / BATCH) % nodes.length];
    if (node !== undefined) await ask(node, PATH.register, registerBytes(first, first + BATCH, { version: 1000 + changed }));
    changed += BATCH;
    await sleep(Math.max(0, startMs + (changed / BATCH) * a100Ms - performance.now()));
  }
  await sleep(2000);
  const growth = nodes.map((node, i) => (node.rssKiB() - (before[i] ?? 0)) / 1024);
  const row = {
    seconds: CHURN,
    changed,
    "RSS grew MiB, most": round(Math.max(...growth)),
    "RSS MiB, most": round(Math.max(...nodes.map((node) => node.rssKiB() / 1024))),
    "watches equal": String(watching.areEqual),
    "snapshots a watch": round(watching.snapshots / NODES),
  };
  watching.close();
  return row;
}
const churned = CHURN > 0 ? [await churn()] : [];
for (const node of nodes) await node.stop("SIGKILL");

const goals: readonly Goal[] = [
  { name: `a change at ${RATE} a second seen on ${NODES} nodes, p99`, value: steady["on the last p99 ms"], unit: "ms", atMost: 250 },
  { name: `a newcomer has ${ENTRIES} entries`, value: newcomerRow["syncing s"], unit: "s", atMost: 5 },
  { name: "CPU of a node with nothing to say", value: idle["CPU % of a core, a node"], unit: "%", atMost: 2 },
  { name: "bytes a second of a node with nothing to say", value: idle["bytes a second sent, a node"], unit: "B", atMost: 5000 },
];
report({
  name: NODES === 5 ? "cluster" : `cluster-${NODES}`,
  tables: {
    "changes seen everywhere": [steady],
    "a newcomer": [newcomerRow],
    "nothing to say": [idle],
    loading: [{ entries: ENTRIES, nodes: NODES, seconds: round(loadSeconds), "CPU µs an entry a node": round(loadCpuUs) }],
    ...(churned.length > 0 && { churn: churned }),
  },
  goals,
  notes: [
    "Real processes with journals on this machine's two cores, the load and all watches in one more process on the same cores.",
    "From when a change was due at its node to its delta in a watch of a node; all CPU time of all nodes, journal and watches included.",
    "Bytes as the loopback interface counts them, TCP and IP headers and acknowledgements included.",
  ],
});
