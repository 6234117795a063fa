/**
 * How soon have shards owners again after an owner or its node was killed, beside mutexes of etcd's own client on the same members of etcd? How soon do
 * clients see a move, what does a planned drain cost its callers, and how many plans balance a set? About twelve minutes; `--quick` takes three.
 * `npm run bench -- shards [--quick] [--kills 20] [--outages 8] [--moves 60] [--drains 8] [--joins 2] [--calls 2000] [--calm 60]`.
 */
import { loadavg } from "node:os";
import { durationFromMs } from "@bufbuild/protobuf/wkt";
import { argsOf, asksForAll } from "./_args.ts";
import { othersBeside, sleep } from "./_mesh.ts";
import { peerProgram } from "./_peers.ts";
import type { Running } from "./_processes.ts";
import { type Goal, MAX_OTHERS, paired, percentile, quiet, ratioGoal, ratioOf, report, round, spread } from "./_results.ts";
import { CALL_MS, drainOwners, getTimes, joinOwner, PHASES, planTimes, routeTimes, watchedMoves } from "./_shard-cases.ts";
import { nodeId, ShardFleet } from "./_shard-fleet.ts";
import { type KilledRound, OwnerGroup } from "./_shard-owners.ts";
import { WORK_MS } from "./_shard-work.ts";
import { EtcdCluster } from "./adapters/etcd.ts";
import { etcdMutexes } from "./adapters/etcd-mutexes.ts";

const DEFAULTS = {
  quick: false,
  kills: 20,
  outages: 8,
  moves: 60,
  drains: 8,
  joins: 2,
  calls: 2000,
  calm: 60,
  clients: 1000,
  shards: 1000,
};
const QUICK = { kills: 2, outages: 1, moves: 10, drains: 1, joins: 1, calls: 300, calm: 5 };
const values = argsOf(DEFAULTS);
const sizes = values.quick ? { ...values, ...QUICK } : values;
const [MEMBERS, NODES, PROCESSES, OWNERS_PER_PROCESS] = [3, 3, 10, 5];
const OWNERS = PROCESSES * OWNERS_PER_PROCESS;
const NAMESPACE = "kills";
const CALM_LOOK_MS = 2000;
/** So that a set is balanced again soon after a kill, when nothing is measured. */
const PARALLEL_MOVES = 100;
/** Time between two looks of the controller at the balance of a set. */
const BALANCE_MS = 5000;
const DRAIN = { shards: 120, intervalMs: 100 };

const etcd = await EtcdCluster.start(MEMBERS);
if (etcd === undefined) throw new Error("needs etcd: npm run bench -- --install");
const fleet = await ShardFleet.start(etcd, NODES);
const servers = [...etcd.members, fleet.running];

/** The load of the machine before each series. */
const loads: { readonly series: string; readonly "load average before": number; readonly "others' share of the machine before": number }[] =
  [];

/** Waits until other programs use little of the machine, at most `--calm` seconds. */
async function calm(series: string, running: readonly Pick<Running, "cpuMs">[]): Promise<void> {
  const endMs = performance.now() + sizes.calm * 1000;
  let share = 1;
  while (share > MAX_OTHERS && performance.now() < endMs) {
    const others = othersBeside(running);
    await sleep(CALM_LOOK_MS);
    share = others();
  }
  loads.push({ series, "load average before": round(loadavg()[0] ?? Number.NaN), "others' share of the machine before": round(share) });
  console.error(`${series}: others use ${Math.round(share * 100)} % of the machine, load average ${loadavg()[0]}`);
}

/** Logs the figures of a part when it is over. */
function show<T>(part: string, figures: T): T {
  console.error(`${part}: ${JSON.stringify(figures)}`);
  return figures;
}

await fleet.apply(NAMESPACE, { count: sizes.shards, cooldown: durationFromMs(0), maxParallelMoves: PARALLEL_MOVES });
const ours = new OwnerGroup(fleet.owners(NAMESPACE, OWNERS_PER_PROCESS), sizes.shards);
await ours.start(PROCESSES);

await calm("calls", [...servers, ...ours.processes]);
const callOthers = othersBeside([...servers, ...ours.processes]);
const getMs = await getTimes(fleet, NAMESPACE, sizes.calls, sizes.shards);
const routeUs = await routeTimes(fleet, NAMESPACE);
const plans = planTimes(sizes.shards, OWNERS);
const callShare = callOthers();
show("Get p50, p99 ms", [percentile(getMs, 0.5), percentile(getMs, 0.99)]);
show("route p50, p99 µs", [percentile(routeUs, 0.5), percentile(routeUs, 0.99)]);

const program = peerProgram("etcd-mutexes");
const theirs =
  program === undefined
    ? undefined
    : new OwnerGroup(etcdMutexes(program, { endpoints: etcd.endpoints, shards: sizes.shards, processes: PROCESSES }), sizes.shards);
await theirs?.start(PROCESSES);

/** A round of ours, with the delays (ms) from the signal to the first and the last change of the controller. */
interface OurRound extends KilledRound {
  readonly firstChangeMs: number;
  readonly lastChangeMs: number;
  /** Number of changes of the controller. A change has at most 48 shards. */
  readonly changes: number;
  readonly wasController: boolean;
}

function phasesOf(killed: KilledRound, wasController: boolean): OurRound {
  const made = fleet.changes(NAMESPACE, killed.killedMs);
  const times = made.map(({ atMs }) => atMs);
  const changes = new Set(made.map(({ epoch }) => epoch)).size;
  const [firstMs, lastMs] = [Math.min(...times), Math.max(...times)].map((ms) => ms - killed.killedMs);
  const phases = { ...killed, firstChangeMs: firstMs ?? Number.NaN, lastChangeMs: lastMs ?? Number.NaN, changes, wasController };
  const { tookMs, firstChangeMs, lastChangeMs, others } = phases;
  show("killed", {
    shards: tookMs.length,
    changes,
    firstChangeMs,
    lastChangeMs,
    allMs: Math.max(...tookMs),
    wasController,
    others: round(others),
  });
  return phases;
}

let killCount = 0;

async function killOwner(): Promise<OurRound> {
  const i = killCount++ % PROCESSES;
  const killed = await ours.killOne(i, [...servers, ...(theirs?.processes ?? [])]);
  const phases = phasesOf(killed, false);
  await ours.complete(i);
  return phases;
}

async function killHolder(group: OwnerGroup): Promise<KilledRound> {
  const i = killCount++ % PROCESSES;
  const killed = await group.killOne(i, [...servers, ...ours.processes]);
  show("mutexes, killed", { shards: killed.tookMs.length, allMs: Math.max(...killed.tookMs), others: round(killed.others) });
  await group.complete(i);
  return killed;
}

/**
 * The node whose share of the shards is nearest to a third is killed. It is started again when nothing is measured, and so are the owners, because they
 * would stay with the nodes that remained.
 */
async function killNode(): Promise<OurRound> {
  let [i, wasController] = [0, false];
  const lost = async () => {
    const shards = await Promise.all(Array.from({ length: NODES }, (_, k) => fleet.shardsOf(NAMESPACE, k)));
    const fromThird = ({ length }: readonly number[]) => Math.abs(length - sizes.shards / NODES);
    i = shards.reduce((best, held, k) => (fromThird(held) < fromThird(shards[best] ?? []) ? k : best), 0);
    return shards[i] ?? [];
  };
  const kill = () => {
    wasController = fleet.controller === nodeId(i);
    fleet.killNode(i);
  };
  const phases = phasesOf(await ours.losing([...servers, ...(theirs?.processes ?? [])], lost, kill), wasController);
  await fleet.startNode(i);
  await ours.stop();
  await ours.start(PROCESSES);
  await sleep(BALANCE_MS);
  return phases;
}

const holder = theirs === undefined ? undefined : () => killHolder(theirs);
await calm("an owner is killed", [...servers, ...ours.processes, ...(theirs?.processes ?? [])]);
for (const node of fleet.nodes) await node.probe("watch");
const kills = await paired<OurRound, KilledRound>(sizes.kills, killOwner, holder);
const heldMs = await Promise.all(fleet.nodes.map(async (node) => (await node.probe("read")).maxHeldCpuMs));
show("longest CPU work of a node in one turn while owners were killed, ms", heldMs);
await calm("a node is killed", [...servers, ...ours.processes, ...(theirs?.processes ?? [])]);
const outages = await paired<OurRound, KilledRound>(sizes.outages, killNode, holder);
await theirs?.stop();
await ours.stop();

await calm("moves", servers);
const watched = await watchedMoves(fleet, sizes.clients, sizes.moves, servers);
show("moves seen by clients, p50, p99 ms", [percentile(watched.tookMs, 0.5), percentile(watched.tookMs, 0.99)]);
await calm("an owner joins", servers);
const joins = [];
for (let i = 0; i < sizes.joins; i++) joins.push(show("an owner joined", await joinOwner(fleet, i, sizes.shards)));
await calm("drains", servers);
const drained = await drainOwners(fleet, { ...DRAIN, drains: sizes.drains }, servers);
show("drained", { ...drained, rounds: [], gapsMs: spread(drained.gapsMs), phases: [] });
await fleet.stop();

const PEER = "etcd's Go client, one concurrency.Mutex for each shard, with a TTL of 3 s, on the same etcd";
type Rounds = readonly KilledRound[];
/** The time of a round is that of its last shard. */
const allSeconds = (rounds: Rounds) => rounds.map(({ tookMs }) => Math.max(...tookMs) / 1000);
const othersIn = (...series: readonly Rounds[]) => {
  const all = series.flat().map(({ others }) => others);
  return all.reduce((sum, share) => sum + share, 0) / all.length;
};

interface KillSeries {
  readonly event: string;
  readonly a: readonly OurRound[];
  readonly b: Rounds;
}

function killGoals({ event, a, b }: KillSeries): readonly Goal[] {
  const [our, their] = [allSeconds(a), allSeconds(b)];
  const shown = { work: `${event} is killed (SIGKILL): time until all shards have an owner that may act`, unit: "s" };
  const slowest: Goal = {
    name: `${event} killed: all shards have owners again, p99`,
    value: percentile(our, 0.99),
    unit: "s",
    atMost: 6,
    shown: { ...shown, work: `${shown.work}, p99`, ours: spread(our) },
  };
  const ratio = ratioGoal({
    name: `${event} killed: ours over a mutex of etcd for each shard`,
    shown: { ...shown, beside: PEER },
    ratio: ratioOf(our, their),
    ours: spread(our),
    theirs: their.length === 0 ? undefined : spread(their),
    atMost: 1.2,
  });
  return [quiet(slowest, othersIn(a, b)), quiet(ratio, othersIn(a, b))];
}

function killRows({ event, a, b }: KillSeries) {
  const rows = [["waymark", a] as const, ["etcd, concurrency.Mutex", b] as const];
  return rows
    .filter(([, rounds]) => rounds.length > 0)
    .map(([who, rounds]) => {
      const [all, each] = [allSeconds(rounds), rounds.flatMap(({ tookMs }) => tookMs)];
      return {
        event: `${event} is killed`,
        who,
        rounds: all.length,
        "shards per round": round(each.length / all.length),
        "all shards, s": spread(all),
        "a shard, p50 s": percentile(each, 0.5) / 1000,
        "a shard, p99 s": percentile(each, 0.99) / 1000,
        "others' share of the machine": round(othersIn(a, b)),
      };
    });
}

const series: readonly KillSeries[] = [
  { event: "an owner", ...kills },
  { event: "a node", ...outages },
];
const before = drained.rounds.map((each) => spread(each.before).median);
const during = drained.rounds.map((each) => spread(each.during).median);
const slower = during.map((ms, i) => 100 * Math.abs(ms / (before[i] ?? Number.NaN) - 1));
const mostMoves = Math.max(...joins.flatMap((join) => join.plans)) / sizes.shards;

report({
  name: "shards",
  isKept: asksForAll(values, DEFAULTS),
  tables: {
    "time until all shards have an owner that may act": series.flatMap(killRows),
    "phases of a kill": series.map(({ event, a }) => ({
      event: `${event} is killed`,
      "first change, s": spread(a.map(({ firstChangeMs }) => firstChangeMs / 1000)),
      "last change, s": spread(a.map(({ lastChangeMs }) => lastChangeMs / 1000)),
      "all owners act, s": spread(allSeconds(a)),
      changes: spread(a.map(({ changes }) => changes)),
      "killed controllers": a.filter(({ wasController }) => wasController).length,
    })),
    "calls and plans": [
      { call: "Get", samples: getMs.length, p50: `${percentile(getMs, 0.5)} ms`, p99: `${percentile(getMs, 0.99)} ms` },
      { call: "route", samples: routeUs.length, p50: `${percentile(routeUs, 0.5)} µs`, p99: `${percentile(routeUs, 0.99)} µs` },
      ...plans.map(({ plan, moves, tookMs }) => ({
        call: `plan: ${plan} (${moves} moves)`,
        samples: tookMs.length,
        p50: `${percentile(tookMs, 0.5)} ms`,
        p99: `${percentile(tookMs, 0.99)} ms`,
      })),
    ],
    "moves seen by clients": [
      {
        clients: sizes.clients,
        moves: sizes.moves,
        "p50 ms": percentile(watched.tookMs, 0.5),
        "p99 ms": percentile(watched.tookMs, 0.99),
        "most ms": Math.max(...watched.tookMs),
        "others' share of the machine": round(watched.others),
      },
    ],
    "an owner joins three others": joins.map(({ plans: made, seconds, imbalance, shards }) => ({
      shards,
      plans: made.length,
      "moves of each plan": made.join(", "),
      "balanced after, s": round(seconds),
      "most shards of an owner, in fair shares": round(imbalance),
    })),
    "drains under load": drained.rounds.map(({ tookMs }, i) => ({
      drain: i + 1,
      "took s": round(tookMs / 1000),
      "median latency before, ms": round(before[i] ?? Number.NaN),
      "median latency during, ms": round(during[i] ?? Number.NaN),
      "others' share of the machine": round(drained.others),
    })),
    "phases of a hand-over": PHASES.map((phase) => {
      const tookMs = drained.phases.map((each) => each[phase]);
      return { phase, shards: tookMs.length, "p50 ms": percentile(tookMs, 0.5), "p99 ms": percentile(tookMs, 0.99) };
    }),
    "load of the machine": loads,
  },
  goals: [
    quiet(
      {
        name: "Get, p99",
        value: percentile(getMs, 0.99),
        unit: "ms",
        atMost: 5,
        shown: { work: `Get of one of ${sizes.shards} shards, a call every ${CALL_MS} ms: latency, p99`, unit: "ms", ours: spread(getMs) },
      },
      callShare,
    ),
    quiet(
      {
        name: "route in the client, p50",
        value: percentile(routeUs, 0.5),
        unit: "µs",
        atMost: 5,
        shown: { work: `route of a key among ${sizes.shards} shards: time, p50`, unit: "µs", ours: percentile(routeUs, 0.5) },
      },
      callShare,
    ),
    quiet(
      {
        name: "longest plan, and longest time for which a plan blocks the event loop",
        value: Math.max(...plans.flatMap(({ tookMs }) => tookMs)),
        unit: "ms",
        atMost: 20,
      },
      callShare,
    ),
    { name: "longest CPU work of a node in one turn while owners are killed", value: Math.max(...heldMs), unit: "ms", atMost: 20 },
    ...series.flatMap(killGoals),
    quiet(
      {
        name: "clients see a move, p99",
        value: percentile(watched.tookMs, 0.99),
        unit: "ms",
        atMost: 250,
        shown: {
          work: `a shard moves: time until the maps of ${sizes.clients} clients show it, p99`,
          unit: "ms",
          ours: spread(watched.tookMs),
        },
      },
      watched.others,
    ),
    quiet(
      {
        name: "planned drain under load: gap of a shard, p99",
        value: percentile(drained.gapsMs, 0.99),
        unit: "ms",
        atMost: 500,
        shown: {
          work: "an owner gives up its shards under load: time between the effects of both owners beyond the interval, p99",
          unit: "ms",
          ours: spread(drained.gapsMs),
        },
      },
      drained.others,
    ),
    quiet(
      { name: "planned drain under load: change of the median latency of items", value: spread(slower).median, unit: "%", atMost: 20 },
      drained.others,
    ),
    { name: "planned drain under load: lost items", value: drained.lost, unit: "items", atMost: 0 },
    { name: "planned drain under load: doubled items", value: drained.doubled, unit: "items", atMost: 0 },
    { name: "an owner joins three others: plans", value: Math.max(...joins.map((join) => join.plans.length)), unit: "plans", atMost: 3 },
    { name: "an owner joins three others: largest plan", value: round(100 * mostMoves), unit: "% of the shards", atMost: 10 },
    {
      name: "an owner joins three others: most shards of an owner",
      value: round(Math.max(...joins.map((join) => join.imbalance))),
      unit: "fair shares",
      atMost: 1.1,
    },
  ],
  notes: [
    `All are real processes on this machine's cores: ${MEMBERS} members of etcd with its default settings and their data on disk, ${NODES} Waymark nodes, ${PROCESSES} processes with ${OWNERS_PER_PROCESS} owners each, and ${PROCESSES} processes of the Go program.`,
    "A killed process is one of ten. In Waymark it has five owners, whose shards the controller places by a plan. In the Go program it has one session with a mutex for each of its shards; the standby of each shard was chosen in advance and waits with Lock. Each side reports by its own clock when it may act, and all processes have the same clock: owners print the time when onOwn is called, and the Go program when Lock returns. The times begin immediately before the signal.",
    "The two sides take turns in the order A B B A, while the other side is idle. A process is killed at a random point of a second, at least 1.5 s after the last move. The time of a round is the time of its last shard.",
    "The killed node is the node whose share of the shards is nearest to a third. Its owners remain alive and attach to another node. After each round, all owners are started again, so that they are attached to all nodes. The rounds are compared with the same kills of the Go program, each of a tenth of the shards.",
    `A plan is a single call in the process of this benchmark, so its time is the time for which it blocks the event loop. The goal of the issue is 200 ms for a plan and 20 ms for a block; the smaller one applies. The CPU work of nodes is measured by a probe in them, and contains all their work: plans of ${sizes.shards} shards and ${OWNERS} owners, changes, watches and garbage collections.`,
    "The delay of a move at a client begins with the time of the log line of the controller, which it writes when etcd has answered, and ends when the client has applied the message of its stream. The shard moves between two owners, one of which leaves.",
    `Before an owner is drained, each of ${DRAIN.shards} shards gets an item every ${DRAIN.intervalMs} ms. Items are sent with call, over TCP, to the owner in the client's map; the owner works for ${WORK_MS} ms without CPU time, as in a transaction of a database, appends the effect to a log that rejects smaller fences, and then answers. A drain waits for work that has begun. The gap of a shard is the time between the last effect of one owner and the first of the next beyond the interval. The latency of an item includes its retries. ${drained.items} items were sent, and the log rejected ${drained.rejected} effects.`,
    `Each series waits for a moment in which other programs use at most ${MAX_OTHERS * 100} % of the machine, for at most ${sizes.calm} s.`,
  ],
});
for (const member of etcd.members) await member.stop("SIGKILL");
