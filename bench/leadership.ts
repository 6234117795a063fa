/**
 * How soon may a successor act after a leader has ended, beside etcd's own election recipe on the same members of etcd? How much does leadership write
 * at rest, how soon is a policy in force on all nodes, and what do clients see while the store is down? About twenty minutes; `--quick` takes three.
 * `npm run bench -- leadership [--quick] [--kills 50] [--failovers 8] [--stops 12] [--policies 300] [--rest 60] [--down 60] [--calm 120]`.
 */
import { writeFileSync } from "node:fs";
import { loadavg } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { argsOf, asksForAll } from "./_args.ts";
import { ControlFleet, LOAD_MS, LOOK_MS } from "./_control-fleet.ts";
import { type CandidateKind, ElectionGroup, type EndedRound, endLeaders } from "./_elections.ts";
import { MAX_WAIT_MS } from "./_lookings.ts";
import { othersBeside, sleep, until } from "./_mesh.ts";
import { peerProgram } from "./_peers.ts";
import { NODE_OPTIONS, type Running, scratchDir } from "./_processes.ts";
import { type Goal, MAX_OTHERS, paired, percentile, quiet, ratioGoal, ratioOf, report, round, type Spread, spread } from "./_results.ts";
import { fail } from "./_work.ts";
import { EtcdCluster } from "./adapters/etcd.ts";
import { etcdElection } from "./adapters/etcd-election.ts";

const DEFAULTS = { quick: false, kills: 50, failovers: 8, stops: 12, policies: 300, rest: 60, down: 60, calm: 120 };
const values = argsOf(DEFAULTS);
const sizes = values.quick ? { kills: 4, failovers: 2, stops: 2, policies: 30, rest: 10, down: 15, calm: 10 } : values;
const ROOT = fileURLToPath(new URL("..", import.meta.url));
const [MEMBERS, GROUPS, CANDIDATES, NODES, SCOPES] = [3, 6, 3, 10, 1000];
const CALM_LOOK_MS = 2000;
/** Before the work at rest is counted, and after the store is back: several leases. */
const SETTLE_MS = 12_000;
const LOAD_BEFORE_SECONDS = 10;

const etcd = await EtcdCluster.start(MEMBERS);
if (etcd === undefined) throw new Error("needs etcd: npm run bench -- --install");

/** Nodes that share only the control store. Their lists of endpoints begin with different members, as the balancer of etcd's client chooses. */
function waymark(endpoints: readonly string[]): CandidateKind {
  const folder = scratchDir("leadership");
  const configs = endpoints.map((_, i) => {
    const file = join(folder, `${i}.json`);
    const turned = [...endpoints.slice(i), ...endpoints.slice(0, i)];
    writeFileSync(file, JSON.stringify({ store: { kind: "etcd", endpoints: turned }, fabric: { enabled: false } }));
    return file;
  });
  const ports = ["--grpc-port", "0", "--http-port", "0", "--dns-port", "0"];
  const program = [process.execPath, ...NODE_OPTIONS, join(ROOT, "dist", "src", "main.js"), "serve", "--ephemeral", ...ports];
  return {
    who: "waymark",
    command: (group, name) => {
      const config = configs[Number(name.at(-1)) % configs.length] ?? fail();
      return [...program, "--config", config, "--cluster-id", group, "--node-id", name, "--log-level", "info", "-o", "json"];
    },
    isStanding: ({ msg }) => msg === "node is ready",
    isLost: ({ msg, nodeId }, name) => msg === "this node lost a scope" && nodeId === name,
    electedMs: ({ msg, nodeId, time }, name) => (msg === "leader elected" && nodeId === name ? Date.parse(String(time)) : undefined),
  };
}

async function groupsOf(kind: CandidateKind, prefix: string): Promise<readonly ElectionGroup[]> {
  const groups = Array.from({ length: GROUPS }, (_, i) => new ElectionGroup(kind, `${prefix}-${i}`));
  for (const group of groups) await group.start(CANDIDATES);
  return groups;
}

/** The load of the machine before each series. */
const loads: { readonly series: string; readonly "load average before": number; readonly "others' share of the machine before": number }[] =
  [];

/** Waits until other programs use little of the machine, at most `--calm` seconds. */
async function calm(series: string, servers: () => readonly Pick<Running, "cpuMs">[]): Promise<void> {
  const endMs = performance.now() + sizes.calm * 1000;
  let share = 1;
  while (share > MAX_OTHERS && performance.now() < endMs) {
    const others = othersBeside(servers());
    await sleep(CALM_LOOK_MS);
    share = others();
  }
  loads.push({ series, "load average before": round(loadavg()[0] ?? Number.NaN), "others' share of the machine before": round(share) });
  console.error(`${series}: others use ${Math.round(share * 100)} % of the machine`);
}

type Rounds = readonly EndedRound[];

interface Series {
  readonly ours: Rounds;
  readonly theirs: Rounds;
}

const secondsOf = (rounds: Rounds) => rounds.flatMap(({ tookMs }) => tookMs.map((ms) => ms / 1000));
const mediansOf = (rounds: Rounds) => rounds.map(({ tookMs }) => spread(tookMs).median);
/** Of all rounds. */
const othersIn = ({ ours: a, theirs: b }: Series) => {
  const all = [...a, ...b].map(({ others }) => others);
  return all.reduce((sum, share) => sum + share, 0) / all.length;
};

function rowsOf(event: string, series: Series) {
  return (
    [
      ["waymark", series.ours],
      ["etcd, concurrency.Election", series.theirs],
    ] as const
  )
    .filter(([, rounds]) => rounds.length > 0)
    .map(([who, rounds]) => {
      const seconds = secondsOf(rounds);
      return {
        event,
        who,
        samples: seconds.length,
        "p50 s": percentile(seconds, 0.5),
        "p99 s": percentile(seconds, 0.99),
        "least s": round(Math.min(...seconds)),
        "most s": round(Math.max(...seconds)),
        "others' share of the machine": round(othersIn(series)),
      };
    });
}

const program = peerProgram("etcd-election");
const ours = await groupsOf(waymark(etcd.endpoints), "ours");
const theirs = program === undefined ? [] : await groupsOf(etcdElection(program, etcd.endpoints), "theirs");
const candidates = () => [...ours, ...theirs].flatMap((group) => group.candidates);

/** The two sides in turn, each with all its groups. */
async function inTurn(
  series: string,
  rounds: number,
  endAll: (groups: readonly ElectionGroup[], idle: readonly ElectionGroup[]) => Promise<EndedRound>,
): Promise<Series> {
  await calm(series, () => [...(etcd?.members ?? []), ...candidates()]);
  const { a, b } = await paired(rounds, () => endAll(ours, theirs), program === undefined ? undefined : () => endAll(theirs, ours));
  const measured = { ours: a, theirs: b };
  for (const row of rowsOf(series, measured)) console.error(JSON.stringify(row));
  return measured;
}

const idleOf = (groups: readonly ElectionGroup[]) => groups.flatMap((group) => group.candidates);

/** The leaders of all groups and the leader of etcd, which is started again afterwards. */
async function killWithEtcd(cluster: EtcdCluster, groups: readonly ElectionGroup[], idle: readonly ElectionGroup[]): Promise<EndedRound> {
  const i = await cluster.leader();
  const member = cluster.members[i] ?? fail();
  const helpers = [...cluster.members.filter((each) => each !== member), ...idleOf(idle)];
  const ended = await endLeaders(groups, { signal: "SIGKILL", helpers, atOnce: () => member.stop("SIGKILL") });
  await cluster.restart(i);
  await until(
    () =>
      cluster.leader().then(
        () => true,
        () => false,
      ),
    "etcd has a leader",
  );
  return ended;
}

const failovers = await inTurn("kill -9, also of etcd's leader", sizes.failovers, (groups, idle) => killWithEtcd(etcd, groups, idle));
const stops = await inTurn("clean stop", sizes.stops, (groups, idle) =>
  endLeaders(groups, { signal: "SIGTERM", helpers: [...etcd.members, ...idleOf(idle)] }),
);
const kills = await inTurn("kill -9", sizes.kills, (groups, idle) =>
  endLeaders(groups, { signal: "SIGKILL", helpers: [...etcd.members, ...idleOf(idle)] }),
);
for (const group of [...ours, ...theirs]) await group.stop();

const fleet = await ControlFleet.start(etcd, NODES, SCOPES);
const fleetServers = () => [...etcd.members, ...fleet.nodes];
await sleep(SETTLE_MS);
await calm("at rest", fleetServers);
const atRest = await fleet.atRest(sizes.rest);
await calm("policy", fleetServers);
await fleet.connect();
const policyOthers = othersBeside(fleetServers());
const appliedMs: number[] = [];
for (let i = 0; i < sizes.policies; i++) appliedMs.push(await fleet.applyPolicy());
const policyShare = policyOthers();

/** The store is down for a while, under a light load on all nodes. */
async function outage(how: "paused" | "killed") {
  await calm(`store ${how}`, fleetServers);
  await fleet.connect();
  const holders = await fleet.holders();
  const before = await fleet.load(() => sleep(LOAD_BEFORE_SECONDS * 1000));
  const pids = etcd?.members.map(({ pid }) => pid) ?? [];
  const down = await fleet.load(async () => {
    if (how === "paused") for (const pid of pids) process.kill(pid, "SIGSTOP");
    else await Promise.all(etcd?.members.map((member) => member.stop("SIGKILL")) ?? []);
    await sleep(sizes.down * 1000);
    if (how === "paused") for (const pid of pids) process.kill(pid, "SIGCONT");
    else await etcd?.restartAll();
    await sleep(SETTLE_MS);
  });
  await until(async () => (await fleet.holders()).size === SCOPES + 1, "each scope has a leader again");
  const now = await fleet.holders();
  const kept = [...holders].filter(([scope, holder]) => now.get(scope) === holder).length;
  return { how, before, down, kept, scopes: holders.size };
}

const outages = [await outage("paused"), await outage("killed")];
await fleet.stop();

const PEER = "etcd's Go client, concurrency.Election with a TTL of 3 s, on the same etcd";

interface WantedTime {
  readonly name: string;
  readonly work: string;
  readonly series: Series;
  readonly share: number;
  readonly atMost: number;
}

/** A limit for our own time. */
function timeGoal({ name, work, series, share, atMost }: WantedTime): Goal {
  const seconds = secondsOf(series.ours);
  const shown = { work, unit: "s", ours: spread(seconds) };
  return quiet({ name, value: percentile(seconds, share), unit: "s", atMost, shown }, othersIn(series));
}

function medianGoal({ name, work, series, atMost }: Omit<WantedTime, "share">): Goal {
  const secondsSpread = (rounds: Rounds): Spread => spread(secondsOf(rounds));
  const goal = ratioGoal({
    name,
    shown: { work, beside: PEER, unit: "s" },
    ratio: ratioOf(mediansOf(series.ours), mediansOf(series.theirs)),
    ours: secondsSpread(series.ours),
    theirs: series.theirs.length === 0 ? undefined : secondsSpread(series.theirs),
    atMost,
  });
  return quiet(goal, othersIn(series));
}

const killed = "the leader is killed (SIGKILL) at a random time";
const killedBoth = "the leader and the leader of etcd are killed (SIGKILL) at the same time";
const times: readonly Goal[] = [
  timeGoal({
    name: "kill -9 of the leader: time until a successor may act, p99",
    work: `${killed}: time until a successor may act, p99`,
    series: kills,
    share: 0.99,
    atMost: 4,
  }),
  medianGoal({
    name: "kill -9 of the leader: ours over etcd's",
    work: `${killed}: time until a successor may act`,
    series: kills,
    atMost: 1,
  }),
  timeGoal({
    name: "etcd's leader killed too: longest time until a successor may act",
    work: `${killedBoth}: longest time until a successor may act`,
    series: failovers,
    share: 1,
    atMost: 5,
  }),
  medianGoal({
    name: "etcd's leader killed too: ours over etcd's",
    work: `${killedBoth}: time until a successor may act`,
    series: failovers,
    atMost: 0.8,
  }),
  timeGoal({
    name: "clean stop of the leader: longest time until a successor may act",
    work: "the leader stops (SIGTERM): longest time until a successor may act",
    series: stops,
    share: 1,
    atMost: 0.5,
  }),
];
const policySeconds = appliedMs.map((ms) => ms / 1000);

report({
  name: "leadership",
  isKept: asksForAll(values, DEFAULTS),
  tables: {
    "time until a successor may act": [
      ...rowsOf("kill -9", kills),
      ...rowsOf("kill -9, also of etcd's leader", failovers),
      ...rowsOf("clean stop", stops),
    ],
    "nodes at rest": [
      {
        nodes: NODES,
        scopes: SCOPES,
        "store writes per node and second": round(atRest.writes),
        "cores per node": round(atRest.nodeCores),
        "cores per member of etcd": round(atRest.etcdCores),
        "others' share of the machine": round(atRest.others),
      },
    ],
    "time until a policy is in force on all nodes": [
      {
        nodes: NODES,
        policies: appliedMs.length,
        "p50 s": percentile(policySeconds, 0.5),
        "p99 s": percentile(policySeconds, 0.99),
        "most s": round(Math.max(...policySeconds)),
        "others' share of the machine": round(policyShare),
      },
    ],
    [`lookups while the store is down for ${sizes.down} s`]: outages.flatMap(({ how, before, down }) =>
      (["queries", "questions"] as const).flatMap((kind) => [
        { store: how, when: "before", of: kind === "queries" ? "queries" : "DNS questions", ...before[kind].row },
        { store: how, when: "down", of: kind === "queries" ? "queries" : "DNS questions", ...down[kind].row },
      ]),
    ),
    "scopes after the store was down": outages.map(({ how, kept, scopes }) => ({ store: how, scopes, "same holder and fence": kept })),
    "load of the machine": loads,
  },
  goals: [
    ...times,
    {
      name: `${SCOPES} scopes on ${NODES} nodes at rest: writes to the store per node and second`,
      value: round(atRest.writes),
      unit: "writes/s",
      atMost: 1.5,
    },
    quiet(
      {
        name: "a policy is in force on all nodes, p99",
        value: percentile(policySeconds, 0.99),
        unit: "s",
        atMost: 1,
        shown: {
          work: `a policy is applied on one of ${NODES} nodes that share only etcd: time until all nodes apply it, p99`,
          unit: "s",
          ours: spread(policySeconds),
        },
      },
      policyShare,
    ),
    ...outages.flatMap(({ how, down, kept, scopes }): readonly Goal[] => [
      { name: `store ${how}: failed queries`, value: down.queries.failed, unit: "queries", atMost: 0 },
      { name: `store ${how}: failed DNS questions`, value: down.questions.failed, unit: "questions", atMost: 0 },
      { name: `store ${how}: scopes that keep holder and fence`, value: round((100 * kept) / scopes), unit: "%", atLeast: 95 },
    ]),
  ],
  notes: [
    `All are real processes on this machine's cores: ${MEMBERS} members of etcd with its default settings and their data on disk, ${GROUPS} groups of ${CANDIDATES} Waymark nodes, and as many groups of ${CANDIDATES} candidates with etcd's election recipe. Each group has a scope or an election of its own. The nodes share only etcd: they have no fabric. The two sides take turns in the order A B B A; a round ends the leader of each group of one side, while the other side is idle.`,
    "Each candidate reports by its own clock when it may act, and all processes have the same clock: the Go program prints the time when `Campaign` returns, and a node logs the time when it reads its election from its watch on etcd. The times begin immediately before the signal. A session outlives its process by at most 3 s on both sides: that is the default of `leadership.lease`, and the TTL of etcd's session.",
    `Leaders are killed at independent random times, at least 1.5 s after their group was complete, so that the renewals have no common phase. The p99 of ${sizes.kills * GROUPS} kills is exceeded by at most ${Math.floor(sizes.kills * GROUPS * 0.01)} of them. Ratios compare the medians of each round. Leaders that are killed together with the leader of etcd die at one time, so their group's times are not independent. The goal for them is therefore the longest time.`,
    "The lists of endpoints of the nodes begin with different members, so that a killed member interrupts about a third of the nodes, as with the balancer of etcd's client. etcd's sessions start again with their full TTL when etcd elects a leader, because their remaining time is not stored; this protects them from a slow election. A node's sessions are ordinary keys, and candidates measure their age.",
    `The ${NODES} nodes of the other tables are candidates for all ${SCOPES} scopes, and share one cluster id. Writes are counted by etcd's revision. They are the renewals of the sessions: etcd's own leases are renewed without a write.`,
    `Policies are applied on the nodes in turn, and alternately hide and show a namespace. A policy is in force when exact queries on all nodes show it. Each node is queried again ${LOOK_MS} ms after its answer.`,
    `While the store is down, one query and one DNS question are sent every ${LOAD_MS} ms, to the nodes in turn. A lookup fails if it is refused, incomplete, or not answered within ${MAX_WAIT_MS / 1000} s. The load continues for ${SETTLE_MS / 1000} s after the store is back. The members of etcd are paused (SIGSTOP), so that connections stay open and no request is answered, and then killed and started again. A scope keeps its holder if it has the same session and fence afterwards, and the session exists.`,
    `Each series waits for a moment in which other programs use at most ${MAX_OTHERS * 100} % of the machine, for at most ${sizes.calm} s.`,
  ],
});
for (const member of etcd.members) await member.stop("SIGKILL");
