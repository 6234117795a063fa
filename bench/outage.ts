/**
 * What do programs see of it when every node is gone? Three nodes, twenty resolvers and a thousand clients with live maps. All nodes are killed, and a
 * minute later they start again: whether a lookup failed, how long lookups took, how soon all are back, whether at once, and whether they were sent
 * everything again. Then all nodes are frozen for a while, so that connections stay open and nothing comes. About four minutes.
 * `npm run bench -- outage [--clients 1000] [--resolvers 20] [--before 20] [--away 60] [--frozen 20]`.
 */
import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { createServer } from "node:net";
import { cpus } from "node:os";
import { join } from "node:path";
import { argsOf, asksForAll } from "./_args.ts";
import type { ClientsTold } from "./_clients-child.ts";
import { FAR_NAMESPACES, farBytes, LOOK_MS, Looking, MAX_WAIT_MS, toldOf } from "./_lookings.ts";
import { countOn, cpuMs, othersBeside, sleep, until } from "./_mesh.ts";
import { cpuMsOf, type Node, scratchDir, startNode } from "./_processes.ts";
import { startResolver } from "./_resolvers.ts";
import { type Goal, percentile, quiet, ratioGoal, report, round } from "./_results.ts";
import { ask, fail, PATH, registerBytes } from "./_work.ts";

const DEFAULTS = { clients: 1000, resolvers: 20, before: 20, away: 60, frozen: 20 };
const values = argsOf(DEFAULTS);
const [CLIENTS, RESOLVERS, BEFORE, AWAY, FROZEN] = [values.clients, values.resolvers, values.before, values.away, values.frozen];
const NODES = 3;
/** Processes that the clients are in. */
const PROGRAMS = 4;
/** Entries of ten services, registered at the nodes in turn. */
const ENTRIES = 100;
const SERVICES = 10;
/** Whoever is not back by then never comes. */
const LATE_MS = 60_000;
/** After everybody has heard of the nodes: whoever doubts what it has, or the other nodes, does so by then. */
const SETTLE_MS = 10_000;
/** Between two looks whether all are back: a look costs the clients some of their time. */
const POLL_MS = 200;
/** The limits of the issue. */
const [MAX_RATIO, MAX_BACK_SECONDS, MAX_SHARE] = [1.5, 15, 0.25];

/**
 * A port that stays free while nobody listens there: the system gives ports above these to connections, one of which could then have the port of a node
 * that is to start again.
 */
async function keptPort(): Promise<number> {
  for (;;) {
    const port = 12_000 + Math.floor(Math.random() * 18_000);
    const server = createServer().listen(port, "127.0.0.1");
    const isFree = await Promise.race([once(server, "listening").then(() => true), once(server, "error").then(() => false)]);
    if (!isFree) continue;
    server.close();
    await once(server, "close");
    return port;
  }
}

interface Place {
  readonly name: string;
  readonly dataDir: string;
  readonly grpc: number;
  readonly fabric: number;
}

function startAt({ name, dataDir, grpc, fabric }: Place, seeds: readonly Place[]): Promise<Node> {
  const to = seeds.length === 0 ? [] : ["--join", seeds.map((seed) => `127.0.0.1:${seed.fabric}`).join(",")];
  const args = ["--node-id", name, "--grpc-port", `${grpc}`, "--fabric-port", `${fabric}`, ...to];
  return startNode({ dataDir, isFree: true, isPlain: true, args });
}

async function isReady(node: Node): Promise<boolean> {
  const answer = await fetch(`http://${node.listeners["http"]}/readyz`);
  await answer.arrayBuffer();
  return answer.status === 200;
}

async function untilReady(nodes: readonly Node[]): Promise<void> {
  await until(async () => (await Promise.all(nodes.map(isReady))).every(Boolean), "all nodes are ready", LATE_MS);
}

/** A process with clients. */
class Program {
  readonly #child: ChildProcess;

  constructor(servers: string, count: number) {
    this.#child = fork(join(import.meta.dirname, "_clients-child.ts"), [servers, `${count}`]);
    process.on("exit", () => this.#child.kill("SIGKILL"));
    this.#child.on("exit", (code) => {
      if (code !== 0) throw new Error(`a program with clients ended with code ${code}`);
    });
  }

  cpuMs(): number {
    return cpuMsOf(this.#child.pid ?? 0);
  }

  async ready(): Promise<void> {
    await once(this.#child, "message");
  }

  async begin(): Promise<void> {
    this.#child.send("begin");
    await once(this.#child, "message");
  }

  async read(): Promise<ClientsTold> {
    this.#child.send("read");
    const [told] = (await once(this.#child, "message")) as [ClientsTold];
    return told;
  }

  async stop(): Promise<void> {
    this.#child.disconnect();
    await once(this.#child, "exit");
  }
}

/** Takes as much of a core as a node does. */
class StandIn {
  readonly #child: ChildProcess;

  private constructor(child: ChildProcess) {
    this.#child = child;
    process.on("exit", () => this.#child.kill("SIGKILL"));
  }

  static async start(cores: number): Promise<StandIn> {
    const child = fork(join(import.meta.dirname, "_busy-child.ts"), [`${cores}`]);
    await once(child, "message");
    return new StandIn(child);
  }

  cpuMs(): number {
    return cpuMsOf(this.#child.pid ?? 0);
  }

  async stop(): Promise<void> {
    this.#child.disconnect();
    await once(this.#child, "exit");
  }
}

/** What clients and resolvers met in a window of time. */
async function tellings(programs: readonly Program[], lookings: readonly Looking[]) {
  const clients = await Promise.all(programs.map((program) => program.read()));
  const sum = (of: (one: ClientsTold) => number) => clients.reduce((total, one) => total + of(one), 0);
  const lookingBackMs = lookings.flatMap(({ backMs }) => backMs ?? []);
  return {
    lookups: sum(({ lookups }) => lookups),
    failed: sum((one) => one.failed),
    p50Us: sum(({ p50Us }) => p50Us) / PROGRAMS,
    p99Us: sum(({ p99Us }) => p99Us) / PROGRAMS,
    followed: toldOf(lookings.map(({ followed }) => followed)),
    fetched: toldOf(lookings.map(({ fetched }) => fetched)),
    snapshots: sum((one) => one.snapshots),
    lowestVersion: Math.min(...clients.map((one) => one.lowestVersion)),
    backMs: [...clients.flatMap(({ heardMs }) => heardMs), ...lookingBackMs],
    cameMs: [...clients.flatMap(({ cameMs }) => cameMs), ...lookingBackMs],
    resyncs: lookings.reduce((total, { resyncs }) => total + resyncs, 0),
  };
}
type Told = Awaited<ReturnType<typeof tellings>>;

/** The parts of the benchmark that take time of the cores. A node that is gone is not among them. */
interface Parts {
  readonly nodes: readonly Node[];
  readonly standIns: readonly StandIn[];
}

const places: Place[] = [];
for (let i = 0; i < NODES; i++)
  places.push({ name: `bench-outage-${i}`, dataDir: scratchDir("outage"), grpc: await keptPort(), fabric: await keptPort() });
// The first makes the cluster. Later each has the others as its seeds.
let nodes: readonly Node[] = await Promise.all(places.map((place, i) => startAt(place, i === 0 ? [] : places.slice(0, 1))));
await untilReady(nodes);
// Before the entries: who has all of these has those too.
for (let i = 0; i < FAR_NAMESPACES; i++) await ask(nodes[i % NODES] ?? fail(), PATH.register, farBytes(i));
for (let k = 0; k < ENTRIES; k++) await ask(nodes[k % NODES] ?? fail(), PATH.register, registerBytes(k, k + 1, { version: 0 }));
await until(async () => (await Promise.all(nodes.map(countOn))).every((count) => count === ENTRIES), "all nodes hold all entries");
const resolvers: Node[] = [];
for (let r = 0; r < RESOLVERS; r++) resolvers.push(await startResolver({ name: `bench-outage-r${r}`, upstreams: nodes }));
const addresses = places.map(({ grpc }) => `127.0.0.1:${grpc}`).join(",");
const programs = Array.from({ length: PROGRAMS }, () => new Program(addresses, Math.ceil(CLIENTS / PROGRAMS)));
await Promise.all(programs.map((program) => program.ready()));
const lookings = await Promise.all(resolvers.map((resolver, r) => Looking.open(resolver, SERVICES, r * 5)));
const total = Math.ceil(CLIENTS / PROGRAMS) * PROGRAMS + RESOLVERS;
const begin = async () => {
  await Promise.all(programs.map((program) => program.begin()));
  for (const looking of lookings) looking.begin();
};
console.error(`${NODES} nodes, ${RESOLVERS} resolvers and ${total - RESOLVERS} clients`);

/** A window of time: what programs met in it, what each part took of the cores, and what share of all cores others took. */
async function windowOf(seconds: number, { nodes: present, standIns }: Parts) {
  await begin();
  const parts = { nodes: present, "replacement load": standIns, resolvers, "programs with clients": programs };
  const others = othersBeside(Object.values(parts).flat());
  const startMs = performance.now();
  const own = process.cpuUsage();
  const spentMs = Object.values(parts).map(cpuMs);
  await sleep(seconds * 1000);
  const tookMs = performance.now() - startMs;
  const cores = Object.entries(parts).map(([who, of], i) => [who, (cpuMs(of) - (spentMs[i] ?? fail())) / tookMs] as const);
  const { user, system } = process.cpuUsage(own);
  const share = others();
  const busy = { ...Object.fromEntries(cores), "this program": (user + system) / 1000 / tookMs, others: share * cpus().length };
  return { busy, nodeCores: cores[0]?.[1] ?? fail(), others: share, told: await tellings(programs, lookings) };
}

/** From when nodes are woken until everybody has heard of them, and of a change that is made then, and a while more. */
async function comingBack(wake: () => Promise<void>, version: number) {
  await begin();
  await wake();
  const readyMs = Date.now();
  const isWhole = async (is: (told: Told) => boolean) => {
    await sleep(POLL_MS);
    return is(await tellings(programs, lookings));
  };
  await until(() => isWhole(({ backMs }) => backMs.length >= total), "all are back", LATE_MS);
  await ask(nodes[0] ?? fail(), PATH.register, registerBytes(0, 1, { version }));
  await until(() => isWhole(({ lowestVersion }) => lowestVersion === version), "every map shows a change", LATE_MS);
  await sleep(SETTLE_MS);
  return { readyMs, told: await tellings(programs, lookings) };
}

// The first window is for the programs to be compiled.
await sleep(BEFORE * 1000);
const before = await windowOf(BEFORE, { nodes, standIns: [] });
for (const { pid } of nodes) process.kill(pid, "SIGKILL");
await Promise.all(nodes.map((node) => node.stop("SIGKILL")));
const idle = await windowOf(AWAY / 2, { nodes: [], standIns: [] });
const stand = () => Promise.all(Array.from({ length: NODES }, () => StandIn.start(before.nodeCores / NODES)));
let standIns = await stand();
const away = await windowOf(AWAY / 2, { nodes: [], standIns });
await Promise.all(standIns.map((one) => one.stop()));
const back = await comingBack(async () => {
  nodes = await Promise.all(
    places.map((place) =>
      startAt(
        place,
        places.filter((other) => other !== place),
      ),
    ),
  );
  await untilReady(nodes);
}, 1);

standIns = await stand();
const frozeMs = Date.now();
for (const { pid } of nodes) process.kill(pid, "SIGSTOP");
const frozen = await windowOf(FROZEN, { nodes, standIns });
await Promise.all(standIns.map((one) => one.stop()));
const thawed = await comingBack(async () => {
  for (const { pid } of nodes) process.kill(pid, "SIGCONT");
}, 2);

for (const looking of lookings) looking.stop();
for (const program of programs) await program.stop();
for (const resolver of resolvers) await resolver.stop("SIGKILL");
// Not asked how their loops were held: the answer would be for how long they were frozen.
for (const { pid } of nodes) process.kill(pid, "SIGKILL");
await Promise.all(nodes.map((node) => node.stop("SIGKILL")));

/** Seconds since the nodes were ready, in order. */
const sinceReady = (ms: readonly number[], readyMs: number) => ms.map((at) => (at - readyMs) / 1000).toSorted((a, b) => a - b);
/** How many of these come in the fullest second. */
const fullestOf = (seconds: readonly number[]) =>
  Math.max(0, ...seconds.map((from, i) => seconds.findLastIndex((second) => second < from + 1) - i + 1));
/** Over several windows. */
const sumOf = (tolds: readonly Told[], of: (told: Told) => number) => tolds.reduce((sum, told) => sum + of(told), 0);
const backSeconds = sinceReady(back.told.backMs, back.readyMs);
const fullest = fullestOf(sinceReady(back.told.cameMs, back.readyMs));
const killedTolds = [idle.told, away.told, back.told];
const frozenTolds = [frozen.told, thawed.told];
const anew = back.told.snapshots + back.told.resyncs - away.told.resyncs;
const anewThawed = thawed.told.snapshots + thawed.told.resyncs - frozen.told.resyncs;
const elsewhere = sumOf([before.told, ...killedTolds, ...frozenTolds], (told) => told.followed.elsewhere + told.fetched.elsewhere);
const who = `${(total - RESOLVERS).toLocaleString("en-US")} clients and ${RESOLVERS} resolvers`;
const outage = `all nodes killed for ${AWAY} s`;
const freeze = `all nodes paused for ${FROZEN} s`;

type Window = Awaited<ReturnType<typeof windowOf>>;

/** The p99 of one kind of lookup without the nodes, over that of before. */
interface Compared {
  readonly act: string;
  readonly what: string;
  readonly work: string;
  readonly unit: string;
  readonly oursName: string;
  /** Of the windows without nodes, of which the slower counts. */
  readonly windows: readonly Window[];
  readonly p99Of: (told: Told) => number;
}

function p99Goal({ act, what, work, unit, oursName, windows, p99Of }: Compared): Goal {
  const [ours, theirs] = [Math.max(...windows.map(({ told }) => p99Of(told))), p99Of(before.told)];
  const shown = { work: `${act}: ${work}, p99`, unit, beside: "the same before the outage", oursName, theirsName: "before" };
  const name = `${act}: ${what}, p99 compared with before`;
  return quiet(
    ratioGoal({ name, shown, ratio: ours / theirs, ours, theirs, atMost: MAX_RATIO }),
    Math.max(before.others, ...windows.map(({ others }) => others)),
  );
}

/** The goals of one act by the clock. */
function p99Goals(act: Pick<Compared, "act" | "oursName" | "windows">): readonly Goal[] {
  const query = { unit: "ms", what: "a query to a resolver", work: "a query to a resolver" };
  const name = `${query.what} for a fetched name`;
  return [
    p99Goal({
      ...act,
      what: "a choice from a live map",
      work: "a choice from the live map of a client",
      unit: "µs",
      p99Of: ({ p99Us }) => p99Us,
    }),
    p99Goal({ ...act, ...query, p99Of: ({ followed }) => followed.p99Ms }),
    p99Goal({ ...act, ...query, what: name, work: name, p99Of: ({ fetched }) => fetched.p99Ms }),
  ];
}

const goals: readonly Goal[] = [
  {
    name: `${outage}: lookups that failed`,
    value: sumOf(killedTolds, ({ failed, followed }) => failed + followed.failed),
    unit: "lookups",
    atMost: 0,
  },
  {
    name: `${outage}: lookups that failed, of names that resolvers had fetched`,
    value: sumOf(killedTolds, ({ fetched }) => fetched.failed),
    unit: "lookups",
    atMost: 0,
  },
  ...p99Goals({ act: outage, oursName: "while all are down", windows: [idle, away] }),
  {
    name: `${who} after ${outage}: the last has reconnected`,
    value: backSeconds.at(-1),
    unit: "s",
    atMost: MAX_BACK_SECONDS,
    shown: {
      work: `${who} after ${outage}: time from ready nodes until the last has reconnected`,
      unit: "s",
      ours: backSeconds.at(-1) ?? fail(),
    },
  },
  {
    name: `${who} after ${outage}: the share that reconnects in the busiest second`,
    value: fullest / total,
    unit: "of all",
    atMost: MAX_SHARE,
    shown: { work: `${who} after ${outage}: the share that reconnects in the busiest second`, unit: "of all", ours: fullest / total },
  },
  { name: `${who} after ${outage}: those that received everything again`, value: anew, unit: "snapshots", atMost: 0 },
  {
    name: `${freeze}: lookups that failed`,
    value: sumOf(frozenTolds, ({ failed, followed, fetched }) => failed + followed.failed + fetched.failed),
    unit: "lookups",
    atMost: 0,
  },
  ...p99Goals({ act: freeze, oursName: "while all are paused", windows: [frozen] }),
  { name: `${who} after ${freeze}: those that received everything again`, value: anewThawed, unit: "snapshots", atMost: 0 },
];

const STAND_IN = "replaced by other load";
const windows = {
  before: before.told,
  "all nodes are down": idle.told,
  [`all nodes are down, ${STAND_IN}`]: away.told,
  "nodes start, all reconnect": back.told,
  [`all nodes are paused, ${STAND_IN}`]: frozen.told,
  "nodes resume": thawed.told,
};

report({
  name: "outage",
  isKept: elsewhere === 0 ? asksForAll(values, DEFAULTS) : `${elsewhere} answers of resolvers came from elsewhere than the tables say`,
  tables: {
    "choices of clients": Object.entries(windows).map(([when, told]) => ({
      when,
      choices: told.lookups,
      failed: told.failed,
      "p50 µs": round(told.p50Us),
      "p99 µs": round(told.p99Us),
    })),
    "queries to resolvers": Object.entries(windows).flatMap(([when, { followed, fetched }]) => [
      { when, of: "followed namespaces", ...queriesOf(followed) },
      { when, of: "fetched names", ...queriesOf(fetched) },
    ]),
    "busy cores": [
      busyRow("before", before),
      busyRow("all nodes are down", idle),
      busyRow(`all nodes are down, ${STAND_IN}`, away),
      busyRow(`all nodes are paused, ${STAND_IN}`, frozen),
    ],
    reconnecting: [backRow("kill", back, away.told), backRow("pause", thawed, frozen.told, frozeMs)],
  },
  goals,
  notes: [
    `All are real processes on this machine's cores: ${NODES} nodes, ${RESOLVERS} resolvers that follow one of them, and ${PROGRAMS} programs with ${Math.ceil(CLIENTS / PROGRAMS)} clients each. Each client has the addresses of the nodes, in different orders, and a live map of ${ENTRIES} entries. Clients do not use the resolvers, which would have hidden the outage from them.`,
    'The nodes get SIGKILL at the same time, and start again together, with their data directories and on their ports. They are ready when each reports so at `/readyz`. A client has reconnected when its watch receives a message; a resolver has when it has an upstream and no lag. A time below zero is before the last node was ready. The column "with a new call" counts the calls with which clients and resolvers reconnected: a node that is not ready yet can accept such a call, and sends its first message when it is ready.',
    `After all have reconnected, the nodes get SIGSTOP at the same time, and SIGCONT ${FROZEN} s later. Meanwhile, connections to them open and stay open, but no call is answered. A watch that survives this is continued without a new call, and is not counted as one that reconnects.`,
    `A node that is down leaves its share of the cores to the measured programs. Therefore, in the second half of the outage, and while the nodes are paused, ${NODES} processes use the CPU time that the nodes used before, in short periods at random times. In the first half, no process does. The p99 of the outage is the p99 of the slower half.`,
    `A lookup fails if a map has nothing to choose from, or if a resolver refuses a query, misses an entry, or needs more than ${MAX_WAIT_MS / 1000} s. Each program makes 25 choices every 10 ms; the p99 of choices is the mean of the programs. Each resolver is asked every ${LOOK_MS} ms for one name in the namespace that it follows, and for one of ${FAR_NAMESPACES} names, of all kinds, in as many namespaces that it does not follow; each answer names its source. These entries have scope ZONE, so a fetched answer would be too old to be served after 45 s if an upstream were reachable. After all have reconnected, an entry changes, every map must show the change, and ${SETTLE_MS / 1000} s more are observed.`,
  ],
});

function queriesOf({ asked, failed, p50Ms, p99Ms }: Told["followed"]) {
  return { queries: asked, failed, "p50 ms": p50Ms, "p99 ms": p99Ms };
}

function busyRow(when: string, { busy }: Window) {
  return { when, ...Object.fromEntries(Object.entries(busy).map(([name, cores]) => [name, round(cores)])) };
}

/** `since`: calls that were made before do not come. */
function backRow(after: string, { told, readyMs }: Awaited<ReturnType<typeof comingBack>>, gone: Told, since = 0) {
  const seconds = sinceReady(told.backMs, readyMs);
  return {
    after,
    "clients and resolvers": total,
    "first after s": round(seconds[0] ?? Number.NaN),
    median: percentile(seconds, 0.5),
    "the last": round(seconds.at(-1) ?? Number.NaN),
    "with a new call": told.cameMs.filter((ms) => ms >= since).length,
    "of these in the busiest second": fullestOf(
      sinceReady(
        told.cameMs.filter((ms) => ms >= since),
        readyMs,
      ),
    ),
    "notified in the busiest second": fullestOf(seconds),
    "snapshots of clients": told.snapshots,
    "of resolvers": told.resyncs - gone.resyncs,
  };
}
