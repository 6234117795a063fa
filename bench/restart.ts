/**
 * What does it take until a process that was killed is ready again? CPU time and time by the clock, from spawn until it answers, with everything
 * registered before read back, beside etcd in the same rounds. `npm run bench -- restart [--sizes 100000,1000000] [--rounds 5]`; it takes about three
 * minutes.
 */
import { argsOf, asksForAll } from "./_args.ts";
import { neighbourShare, pinSelf, type Running, scratchDir, startNode } from "./_processes.ts";
import { type Goal, paired, quiet, ratioGoal, ratioOf, report, round, spread } from "./_results.ts";
import { ask, exactQuery, fail, INSTANCES, itemsIn, loadNode, PATH } from "./_work.ts";
import { loadEtcd, sizesOf, startEtcd } from "./adapters/etcd.ts";
import { ETCD_PATH, etcdExact } from "./adapters/etcd-messages.ts";

const DEFAULTS = { sizes: [100_000, 1_000_000], rounds: 5 };
const values = argsOf(DEFAULTS);
const SIZES = values.sizes;
const ROUNDS = values.rounds;

interface Start {
  readonly cpuMs: number;
  readonly readyMs: number;
}

/** CPU time of processes that are gone. */
let goneMs = 0;

/** Kills it and starts it again. The last service must be there. */
async function again(running: Running, start: () => Promise<Running>, answers: (server: Running) => Promise<Buffer>) {
  goneMs += running.cpuMs();
  await running.stop("SIGKILL");
  const server = await start();
  const cpuMs = server.cpuMs();
  if (itemsIn(server, await answers(server)) !== INSTANCES) fail();
  return { server, started: { cpuMs, readyMs: server.startMs } };
}

async function measure(entries: number) {
  console.error(`${entries} entries`);
  const [ourDir, theirDir] = [scratchDir("restart"), scratchDir("restart-etcd")];
  const startOurs = (): Promise<Running> => startNode({ dataDir: ourDir, isPlain: true });
  const startTheirs = async (): Promise<Running> => (await startEtcd({ dataDir: theirDir })) ?? fail();
  let node = await startOurs();
  const emptyMs = node.startMs;
  const first = await startEtcd({ dataDir: theirDir });
  let etcd = first;
  await loadNode(node, entries);
  if (etcd !== undefined) await loadEtcd(etcd, entries, await sizesOf(node, etcd));
  const last = entries / INSTANCES - 1;
  const ours = async (): Promise<Start> => {
    const { server, started } = await again(node, startOurs, (at) => ask(at, PATH.query, exactQuery(last)));
    node = server;
    return started;
  };
  const theirs = async (): Promise<Start> => {
    const { server, started } = await again(etcd ?? fail(), startTheirs, (at) => ask(at, ETCD_PATH.range, etcdExact(last)));
    etcd = server;
    return started;
  };
  let rounds: { readonly a: readonly Start[]; readonly b: readonly Start[] } = { a: [], b: [] };
  const ownMs = () => goneMs + node.cpuMs() + (etcd?.cpuMs() ?? 0);
  const [beforeMs, startMs] = [ownMs(), performance.now()];
  const inUse = await neighbourShare([], async () => {
    rounds = await paired(ROUNDS, ours, first === undefined ? undefined : theirs);
  });
  const others = Math.max(0, inUse - (ownMs() - beforeMs) / (performance.now() - startMs));
  await Promise.all([node.stop(), etcd?.stop()]);
  const cpuMs = (starts: readonly Start[]) => starts.map((start) => start.cpuMs);
  const readyMs = (starts: readonly Start[]) => starts.map((start) => start.readyMs);
  const none = rounds.b.length === 0;
  return {
    entries,
    "CPU ms": spread(cpuMs(rounds.a)),
    "etcd's CPU ms": none ? "not measured" : spread(cpuMs(rounds.b)),
    "ours ÷ etcd's": none ? undefined : ratioOf(cpuMs(rounds.a), cpuMs(rounds.b)),
    "ready after ms": spread(readyMs(rounds.a)),
    "etcd's ready after ms": none ? "not measured" : spread(readyMs(rounds.b)),
    "ready after, ours ÷ etcd's": none ? undefined : ratioOf(readyMs(rounds.a), readyMs(rounds.b)),
    "empty node ms": round(emptyMs),
    "others' share of the core": round(others),
  };
}

pinSelf();
const rows: Awaited<ReturnType<typeof measure>>[] = [];
for (const entries of SIZES) rows.push(await measure(entries));

const ETCD = "etcd, restarted on its data; it elects itself first (Raft, which Waymark does not use)";

/** What is compared, by the columns of the rows. */
interface Compared {
  /** Of the work, and of the goal after it. */
  readonly words: readonly [work: string, goal: string];
  readonly unit: string;
  readonly ratio: "ours ÷ etcd's" | "ready after, ours ÷ etcd's";
  readonly ours: "CPU ms" | "ready after ms";
  readonly theirs: "etcd's CPU ms" | "etcd's ready after ms";
  readonly isByClock: boolean;
}

const CPU: Compared = {
  words: ["", ": our CPU time over etcd's"],
  unit: "ms of CPU until it answers",
  ratio: "ours ÷ etcd's",
  ours: "CPU ms",
  theirs: "etcd's CPU ms",
  isByClock: false,
};
/** What an operator waits for. The goal is that of the CPU time. */
const WAIT: Compared = {
  words: [": duration", ", ours ÷ etcd's"],
  unit: "ms until it answers",
  ratio: "ready after, ours ÷ etcd's",
  ours: "ready after ms",
  theirs: "etcd's ready after ms",
  isByClock: true,
};

function goalAt(entries: number, atMost: number, { words, unit, isByClock, ...columns }: Compared): Goal {
  const row = rows.find((each) => each.entries === entries);
  const work = `start after kill -9 with ${entries.toLocaleString("en-US")} entries${words[0]}`;
  const goal = ratioGoal({
    name: `${work}${words[1]}`,
    shown: { work, beside: ETCD, unit },
    ratio: row?.[columns.ratio],
    ours: row?.[columns.ours],
    theirs: row?.[columns.theirs],
    atMost,
    missing: "not measured: the peer is not installed, or this size was not asked for",
  });
  return isByClock && row !== undefined ? quiet(goal, row["others' share of the core"]) : goal;
}

report({
  name: "restart",
  isKept: asksForAll(values, DEFAULTS),
  tables: { "CPU time until ready": rows },
  goals: [CPU, WAIT].flatMap((compared) => [goalAt(100_000, 3, compared), goalAt(1_000_000, 2.5, compared)]),
  notes: [
    "The time is from spawn until the program answers. It includes Node itself and our modules (about the time of an empty node), and then the journal. For etcd it includes the snapshot, the rest of the log, and its election: a single member elects itself leader before it answers a linearizable range, which is the query that is awaited. A Waymark node has no election. Each process is killed with SIGKILL first, and its data does not change between the rounds.",
    "CPU time is the total of all threads of the process.",
  ],
});
