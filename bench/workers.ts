/**
 * What do read workers add? One node with `--workers 0`, 1 and 2: exact queries of ten entries, keys at random, one under way on each of at
 * least 64 connections, in rounds that go through all nodes there and back. Where the machine has four cores or more, nodes and load run on
 * whatever core there is. With fewer, a node has one core, and only the CPU time of a query says something.
 * `npm run bench -- workers [--workers 0,1,2] [--rounds 7] [--seconds 2] [--connections 64]`.
 */
import { once } from "node:events";
import { cpus } from "node:os";
import { parseArgs } from "node:util";
import { isMainThread, parentPort, Worker, workerData } from "node:worker_threads";
import { type Node, pinSelf, startNode } from "./_processes.ts";
import { type Goal, ratioOf, report, round, spread } from "./_results.ts";
import { Wire } from "./_wire.ts";
import { ask, exactQuery, fail, INSTANCES, itemsIn, loadNode, PATH, scattered } from "./_work.ts";

const { values } = parseArgs({
  options: {
    workers: { type: "string", default: "0,1,2" },
    rounds: { type: "string", default: "7" },
    seconds: { type: "string", default: "2" },
    connections: { type: "string", default: "64" },
  },
});
const ROUNDS = Number(values.rounds);
const SECONDS = Number(values.seconds);
const CONNECTIONS = Number(values.connections);
const ENTRIES = 100_000;
const IS_WIDE = cpus().length >= 4;
/** Threads that ask: half the cores, so that the node has the others. */
const LOADERS = Math.max(1, cpus().length >> 1);

interface Door {
  readonly grpc: Node["grpc"];
  readonly connections: number;
}

/** In a thread: opens its connections, and at each order, which names the first query, asks until the time is over. Says how many were answered. */
async function serveLoad({ grpc, connections }: Door): Promise<void> {
  const wires = await Promise.all(Array.from({ length: connections }, () => Wire.open(grpc)));
  parentPort?.on("message", (first: number) => {
    const endMs = performance.now() + SECONDS * 1000;
    let count = 0;
    const asking = async (wire: Wire) => {
      while (performance.now() < endMs) await wire.unary(PATH.query, exactQuery(scattered(first + count++, ENTRIES / INSTANCES)));
    };
    void Promise.all(wires.map(asking)).then(() => parentPort?.postMessage(count, []));
  });
  parentPort?.postMessage("open", []);
}

interface Side {
  readonly workers: number;
  readonly node: Node;
  readonly loaders: readonly Worker[];
  readonly cpuUs: number[];
  readonly perSecond: number[];
}

/** Undefined where the node does not take the flag. */
async function open(workers: number): Promise<Side | undefined> {
  const args = workers === 0 ? [] : ["--workers", `${workers}`];
  const node = await startNode({ args, isPlain: true, isFree: IS_WIDE }).catch((error: unknown) => {
    if (workers === 0) throw error;
    console.error(`--workers ${workers} is not measured: ${error instanceof Error ? error.message : "the node did not start"}`);
  });
  if (node === undefined) return undefined;
  await loadNode(node, ENTRIES);
  if (itemsIn(node, await ask(node, PATH.query, exactQuery(1))) !== INSTANCES) fail();
  const door: Door = { grpc: node.grpc, connections: Math.ceil(CONNECTIONS / LOADERS) };
  const loaders = Array.from(
    { length: LOADERS },
    () => new Worker(new URL(import.meta.url), { workerData: door, argv: process.argv.slice(2) }),
  );
  await Promise.all(loaders.map((loader) => once(loader, "message")));
  return { workers, node, loaders, cpuUs: [], perSecond: [] };
}

/** So that no two threads or rounds ask for the same. */
let first = 0;

async function measure({ node, loaders, cpuUs, perSecond }: Side): Promise<void> {
  const beforeMs = node.cpuMs();
  const answers = loaders.map((loader) => {
    loader.postMessage((first += 1_000_003), []);
    return once(loader, "message") as Promise<[number]>;
  });
  const count = (await Promise.all(answers)).reduce((sum, [each]) => sum + each, 0);
  cpuUs.push(((node.cpuMs() - beforeMs) * 1000) / count);
  perSecond.push(count / SECONDS);
}

async function compare(): Promise<void> {
  if (!IS_WIDE) pinSelf();
  const sides = (await Promise.all(values.workers.split(",").map((workers) => open(Number(workers))))).filter((side) => side !== undefined);
  // The first round does not count: Node compiles what has run often enough.
  for (let r = 0; r <= ROUNDS; r++) for (const side of r % 2 === 0 ? sides : sides.toReversed()) await measure(side);
  const lone = sides.find(({ workers }) => workers === 0);
  const counted = (figures: readonly number[] = []) => figures.slice(1);
  const rows = sides.map(({ workers, node, cpuUs, perSecond }) => ({
    workers,
    "queries a second": spread(counted(perSecond)),
    "of a lone node": ratioOf(counted(perSecond), counted(lone?.perSecond)),
    "CPU µs a query": spread(counted(cpuUs)),
    "CPU of a lone node": ratioOf(counted(cpuUs), counted(lone?.cpuUs)),
    "RSS MiB": round(node.rssKiB() / 1024),
  }));
  for (const { loaders } of sides) await Promise.all(loaders.map((loader) => loader.terminate()));
  for (const { node } of sides) await node.stop("SIGKILL");
  const row = (workers: number) => rows.find((each) => each.workers === workers);
  const [wide, worker] = [IS_WIDE ? row(2)?.["of a lone node"]?.median : undefined, row(1)?.["CPU of a lone node"]?.median];
  const goals: readonly Goal[] = [
    { name: "queries a second with two workers", value: wide, unit: "×", atLeast: 1.7, ...(!IS_WIDE && { note: "needs four cores" }) },
    { name: "CPU of a query at a worker", value: worker, unit: "×", atMost: 1.1 },
  ];
  const notes = [`${ENTRIES} entries. The load is ${LOADERS} threads of this program with ${CONNECTIONS} connections together.`];
  report({ name: "workers", isKept: sides.length >= 3 && ROUNDS >= 5, tables: { "exact query of ten entries": rows }, goals, notes });
}

if (isMainThread) await compare();
else await serveLoad(workerData as Door);
