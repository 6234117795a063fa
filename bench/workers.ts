/**
 * What do read workers add? One node with `--workers 0`, 1 and 2: exact queries of ten entries, keys at random, one under way on each of at
 * least 64 connections, in rounds that go through all nodes there and back. Where the machine has four cores or more, nodes and load run on
 * whatever core there is. With fewer, a node has one core, and only the CPU time of a query says something. Beside it: what a durable
 * registration costs that reaches the node through a worker. `npm run bench -- workers [--workers 0,1,2] [--rounds 7] [--seconds 2]
 * [--connections 64]`; it takes about a minute and a half.
 */
import { once } from "node:events";
import { cpus } from "node:os";
import { isMainThread, parentPort, Worker, workerData } from "node:worker_threads";
import { argsOf, asksForAll } from "./_args.ts";
import { type Node, pinSelf, scratchDir, startNode } from "./_processes.ts";
import { type Goal, ratioGoal, ratioOf, report, round, spread } from "./_results.ts";
import { inRounds, type Side as WriteSide } from "./_rounds.ts";
import { Wire } from "./_wire.ts";
import { ask, drive, exactQuery, fail, INSTANCES, itemsIn, loadNode, PATH, registerBytes, scattered } from "./_work.ts";

const DEFAULTS = { workers: [0, 1, 2], rounds: 7, seconds: 2, connections: 64 };
const values = argsOf(DEFAULTS);
const ROUNDS = values.rounds;
/** Rounds before those that count: Node compiles what has run often enough. */
const WARM_ROUNDS = 2;
const SECONDS = values.seconds;
const CONNECTIONS = values.connections;
const ENTRIES = 100_000;
/** Entries of a node whose registrations are measured. */
const WRITTEN = 10_000;
const IS_WIDE = cpus().length >= 4;
/** Threads that ask: half the cores, so that the node has the others. */
const LOADERS = Math.max(1, cpus().length >> 1);

interface Load {
  readonly grpc: Node["grpc"];
  readonly connections: number;
}

/** In a thread: opens its connections, and at each order, which names the first query, asks until the time is over. Says how many were answered. */
async function serveLoad({ grpc, connections }: Load): Promise<void> {
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
  const load: Load = { grpc: node.grpc, connections: Math.ceil(CONNECTIONS / LOADERS) };
  const loaders = Array.from(
    { length: LOADERS },
    () => new Worker(new URL(import.meta.url), { workerData: load, argv: process.argv.slice(2) }),
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

/** New content for entries that are there, each batch on disk before its answer. */
function registering(measured: Node, batch: number, inFlight: number): WriteSide {
  let next = 0;
  const message = () => {
    const from = scattered(next++, WRITTEN / batch) * batch;
    return registerBytes(from, from + batch, { version: next });
  };
  const work = async (count: number) => {
    const requests = Math.ceil(count / batch);
    await drive(measured, PATH.register, { count: requests, inFlight, connections: 4, message });
    return requests * batch;
  };
  return { measured, work };
}

/** CPU a registration at a node with one worker over that at one without. */
async function writes() {
  const filled = async (args: readonly string[]) => {
    const node = await startNode({ args, dataDir: scratchDir("workers"), isPlain: true });
    await loadNode(node, WRITTEN);
    return node;
  };
  const [plain, worker] = [await filled([]), await filled(["--workers", "1"])];
  const rows = [];
  for (const [work, batch, inFlight] of [
    ["a durable registration, one entry per request, 64 under way", 1, 64],
    ["an entry of a durable registration of 100, 8 under way", 100, 8],
  ] as const) {
    const [through = [], without = []] = await inRounds(
      [registering(worker, batch, inFlight), registering(plain, batch, inFlight)],
      ROUNDS,
    );
    rows.push({
      work,
      "CPU µs through a worker": spread(through),
      "CPU µs without": spread(without),
      "relative to no workers": ratioOf(through, without),
    });
  }
  for (const node of [plain, worker]) await node.stop("SIGKILL");
  return rows;
}

async function queries() {
  if (!IS_WIDE) pinSelf();
  const sides = (await Promise.all(values.workers.map(open))).filter((side) => side !== undefined);
  for (let r = 0; r < WARM_ROUNDS + ROUNDS; r++) for (const side of r % 2 === 0 ? sides : sides.toReversed()) await measure(side);
  const lone = sides.find(({ workers }) => workers === 0);
  const counted = (figures: readonly number[] = []) => figures.slice(WARM_ROUNDS);
  const rows = sides.map(({ workers, node, cpuUs, perSecond }) => ({
    workers,
    "queries a second": spread(counted(perSecond)),
    "relative to no workers": ratioOf(counted(perSecond), counted(lone?.perSecond)),
    "CPU µs per query": spread(counted(cpuUs)),
    "CPU relative to no workers": ratioOf(counted(cpuUs), counted(lone?.cpuUs)),
    "RSS MiB": round(node.rssKiB() / 1024),
  }));
  for (const { loaders } of sides) await Promise.all(loaders.map((loader) => loader.terminate()));
  for (const { node } of sides) await node.stop("SIGKILL");
  return rows;
}

function goalsOf(rows: Awaited<ReturnType<typeof queries>>): readonly Goal[] {
  const [none, one, two] = [0, 1, 2].map((workers) => rows.find((row) => row.workers === workers));
  const beside = "Waymark without workers";
  const missing = "not measured: the node does not take the flag, or so many workers were not asked for";
  return [
    ratioGoal({
      name: "exact queries a second with two workers over those without",
      shown: {
        work: "exact queries on a node with two read workers",
        beside,
        unit: "queries a second",
        isMoreBetter: true,
        oursName: "two workers",
        theirsName: "without workers",
      },
      ratio: IS_WIDE ? two?.["relative to no workers"] : undefined,
      ours: IS_WIDE ? two?.["queries a second"] : undefined,
      theirs: none?.["queries a second"],
      atLeast: 1.7,
      missing: IS_WIDE ? missing : `not measured: it needs four cores, and this machine has ${cpus().length}`,
    }),
    ratioGoal({
      name: "CPU of an exact query at a worker relative to no workers",
      shown: {
        work: "an exact query on a node with one read worker",
        beside,
        unit: "µs of CPU per request",
        oursName: "a worker",
        theirsName: "without workers",
      },
      ratio: one?.["CPU relative to no workers"],
      ours: one?.["CPU µs per query"],
      theirs: none?.["CPU µs per query"],
      atMost: 1.1,
      missing,
    }),
  ];
}

async function compare(): Promise<void> {
  const rows = await queries();
  report({
    name: "workers",
    isKept: rows.length >= DEFAULTS.workers.length && asksForAll(values, DEFAULTS),
    tables: { "exact query of ten entries": rows, "durable registration through a worker": await writes() },
    goals: goalsOf(rows),
    notes: [
      `There are ${ENTRIES} entries. The load is ${LOADERS} threads of this program with ${CONNECTIONS} connections together.`,
      "A worker forwards a registration to the main thread, and answers when its own copy has the change. Two nodes with data directories run on one core, with new content for existing entries, in alternating rounds.",
    ],
  });
}

if (isMainThread) await compare();
else await serveLoad(workerData as Load);
