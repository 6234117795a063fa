/**
 * What do programs see of it when every node is gone? Three nodes, twenty resolvers and a thousand clients with live maps. All nodes are killed, and a
 * minute later they start again: whether a lookup failed, how long lookups took, how soon all are back, whether at once, and whether they were sent
 * everything again. About three minutes.
 * `npm run bench -- outage [--clients 1000] [--resolvers 20] [--before 20] [--away 60]`.
 */
import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { createServer } from "node:net";
import { join } from "node:path";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { durationMs } from "@bufbuild/protobuf/wkt";
import { CacheStatsRequestSchema, CacheStatsResponseSchema } from "../gen/waymark/resolver/v1/resolver_pb.js";
import { argsOf, asksForAll } from "./_args.ts";
import type { ClientsTold } from "./_clients-child.ts";
import { countOn, othersBeside, sleep, until } from "./_mesh.ts";
import { cpuMsOf, type Node, scratchDir, startNode } from "./_processes.ts";
import { startResolver } from "./_resolvers.ts";
import { type Goal, percentile, quiet, ratioGoal, report, round } from "./_results.ts";
import { Wire } from "./_wire.ts";
import { ask, exactQuery, fail, itemsIn, PATH, registerBytes } from "./_work.ts";

const DEFAULTS = { clients: 1000, resolvers: 20, before: 20, away: 60 };
const values = argsOf(DEFAULTS);
const [CLIENTS, RESOLVERS, BEFORE, AWAY] = [values.clients, values.resolvers, values.before, values.away];
const NODES = 3;
/** Processes that the clients are in. */
const PROGRAMS = 4;
/** Entries of ten services, registered at the nodes in turn. */
const ENTRIES = 100;
const SERVICES = 10;
/** Between two looks at each resolver: a lookup, and whether it has an upstream. */
const LOOK_MS = 100;
/** Whoever is not back by then never comes. */
const LATE_MS = 60_000;
/** The limits of the issue. */
const [MAX_RATIO, MAX_BACK_SECONDS, MAX_SHARE] = [1.5, 15, 0.25];
const STATS_PATH = "/waymark.resolver.v1.ResolverService/CacheStats";
const STATS = toBinary(CacheStatsRequestSchema, create(CacheStatsRequestSchema, {}));

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

/** Looks something up at a resolver all the time, and notes when it is as its upstream is. */
class Looking {
  readonly #wire: Wire;
  readonly #server: Node;
  readonly #timer: NodeJS.Timeout;
  #asked = 0;
  tookMs: number[] = [];
  failed = 0;
  backMs: number | undefined;
  resyncs = 0;

  constructor(server: Node, wire: Wire) {
    this.#server = server;
    this.#wire = wire;
    this.#timer = setInterval(() => void this.#look(), LOOK_MS);
  }

  begin(): void {
    [this.tookMs, this.failed, this.backMs] = [[], 0, undefined];
  }

  async #look(): Promise<void> {
    try {
      const startMs = performance.now();
      const answer = await this.#wire.unary(PATH.query, exactQuery(this.#asked++ % SERVICES));
      this.tookMs.push(performance.now() - startMs);
      if (itemsIn(this.#server, answer) !== ENTRIES / SERVICES) this.failed += 1;
      const stats = fromBinary(CacheStatsResponseSchema, await this.#wire.unary(STATS_PATH, STATS));
      this.resyncs = Object.values(stats.resyncs).reduce((sum, count) => sum + Number(count), 0);
      const isBack = stats.upstream !== "" && stats.lag !== undefined && durationMs(stats.lag) === 0;
      if (isBack) this.backMs ??= Date.now();
    } catch {
      this.failed += 1;
    }
  }

  stop(): void {
    clearInterval(this.#timer);
    this.#wire.close();
  }
}

/** What clients and resolvers met in a window of time. */
async function tellings(programs: readonly Program[], lookings: readonly Looking[]) {
  const clients = await Promise.all(programs.map((program) => program.read()));
  const sum = (of: (one: ClientsTold) => number) => clients.reduce((total, one) => total + of(one), 0);
  const asked = lookings.flatMap(({ tookMs }) => tookMs);
  return {
    lookups: sum(({ lookups }) => lookups),
    failed: sum((one) => one.failed),
    p50Us: sum(({ p50Us }) => p50Us) / PROGRAMS,
    p99Us: sum(({ p99Us }) => p99Us) / PROGRAMS,
    snapshots: sum((one) => one.snapshots),
    lowestVersion: Math.min(...clients.map((one) => one.lowestVersion)),
    backMs: [...clients.flatMap(({ heardMs }) => heardMs), ...lookings.flatMap(({ backMs }) => backMs ?? [])],
    cameMs: [...clients.flatMap(({ cameMs }) => cameMs), ...lookings.flatMap(({ backMs }) => backMs ?? [])],
    asked: asked.length,
    refused: lookings.reduce((total, one) => total + one.failed, 0),
    resolverP50Ms: percentile(asked, 0.5),
    resolverP99Ms: percentile(asked, 0.99),
    resyncs: lookings.reduce((total, { resyncs }) => total + resyncs, 0),
  };
}

const places: Place[] = [];
for (let i = 0; i < NODES; i++)
  places.push({ name: `bench-outage-${i}`, dataDir: scratchDir("outage"), grpc: await keptPort(), fabric: await keptPort() });
// The first makes the cluster. Later each has the others as its seeds.
let nodes: readonly Node[] = await Promise.all(places.map((place, i) => startAt(place, i === 0 ? [] : places.slice(0, 1))));
await untilReady(nodes);
for (let k = 0; k < ENTRIES; k++) await ask(nodes[k % NODES] ?? fail(), PATH.register, registerBytes(k, k + 1, { version: 0 }));
await until(async () => (await Promise.all(nodes.map(countOn))).every((count) => count === ENTRIES), "all nodes hold all entries");
const resolvers: Node[] = [];
for (let r = 0; r < RESOLVERS; r++) resolvers.push(await startResolver({ name: `bench-outage-r${r}`, upstreams: nodes }));
const addresses = places.map(({ grpc }) => `127.0.0.1:${grpc}`).join(",");
const programs = Array.from({ length: PROGRAMS }, () => new Program(addresses, Math.ceil(CLIENTS / PROGRAMS)));
await Promise.all(programs.map((program) => program.ready()));
const lookings = await Promise.all(resolvers.map(async (resolver) => new Looking(resolver, await Wire.open(resolver.grpc))));
const total = Math.ceil(CLIENTS / PROGRAMS) * PROGRAMS + RESOLVERS;
const begin = async () => {
  await Promise.all(programs.map((program) => program.begin()));
  for (const looking of lookings) looking.begin();
};
console.error(`${NODES} nodes, ${RESOLVERS} resolvers and ${total - RESOLVERS} clients`);

// The first window is for the programs to be compiled.
await sleep(BEFORE * 1000);
await begin();
const others = othersBeside([...nodes, ...resolvers, ...programs]);
await sleep(BEFORE * 1000);
const othersBefore = others();
const before = await tellings(programs, lookings);
for (const { pid } of nodes) process.kill(pid, "SIGKILL");
await Promise.all(nodes.map((node) => node.stop("SIGKILL")));
await begin();
const othersAway = othersBeside([...resolvers, ...programs]);
await sleep(AWAY * 1000);
const othersThen = Math.max(othersBefore, othersAway());
const away = await tellings(programs, lookings);
await begin();
nodes = await Promise.all(
  places.map((place) =>
    startAt(
      place,
      places.filter((other) => other !== place),
    ),
  ),
);
await untilReady(nodes);
const readyMs = Date.now();
await until(async () => (await tellings(programs, lookings)).backMs.length >= total, "all are back", LATE_MS);
const back = await tellings(programs, lookings);
await ask(nodes[0] ?? fail(), PATH.register, registerBytes(0, 1, { version: 1 }));
await until(async () => (await tellings(programs, lookings)).lowestVersion === 1, "every map shows a change", LATE_MS);
const after = await tellings(programs, lookings);

for (const looking of lookings) looking.stop();
for (const program of programs) await program.stop();
for (const server of [...resolvers, ...nodes]) await server.stop("SIGKILL");

/** Seconds since the nodes were ready, in order. */
const sinceReady = (ms: readonly number[]) => ms.map((at) => (at - readyMs) / 1000).toSorted((a, b) => a - b);
/** How many of these come in the fullest second. */
const fullestOf = (seconds: readonly number[]) =>
  Math.max(...seconds.map((from, i) => seconds.findLastIndex((second) => second < from + 1) - i + 1));
const backSeconds = sinceReady(back.backMs);
const fullest = fullestOf(sinceReady(back.cameMs));
const failedLookups = away.failed + away.refused + after.failed + after.refused;
const anew = back.snapshots + back.resyncs - away.resyncs;
const who = `${(total - RESOLVERS).toLocaleString("en-US")} clients and ${RESOLVERS} resolvers`;
const outage = `all nodes killed for ${AWAY} s`;
const beside = { beside: "the same before that", oursName: "while all are gone", theirsName: "before" };

const goals: readonly Goal[] = [
  { name: `${outage}: lookups that failed`, value: failedLookups, unit: "lookups", atMost: 0 },
  quiet(
    ratioGoal({
      name: `${outage}: a choice from a live map, p99 over that of before`,
      shown: { work: `${outage}: a choice from the live map of a client, p99`, unit: "µs", ...beside },
      ratio: away.p99Us / before.p99Us,
      ours: away.p99Us,
      theirs: before.p99Us,
      atMost: MAX_RATIO,
    }),
    othersThen,
  ),
  quiet(
    ratioGoal({
      name: `${outage}: a query at a resolver, p99 over that of before`,
      shown: { work: `${outage}: a query at a resolver, p99`, unit: "ms", ...beside },
      ratio: away.resolverP99Ms / before.resolverP99Ms,
      ours: away.resolverP99Ms,
      theirs: before.resolverP99Ms,
      atMost: MAX_RATIO,
    }),
    othersThen,
  ),
  {
    name: `${who} after ${outage}: the last is back`,
    value: backSeconds.at(-1),
    unit: "s",
    atMost: MAX_BACK_SECONDS,
    shown: {
      work: `${who} after ${outage}: from when the nodes are ready until the last is back`,
      unit: "s",
      ours: backSeconds.at(-1) ?? fail(),
    },
  },
  {
    name: `${who} after ${outage}: the share that comes in the fullest second`,
    value: fullest / total,
    unit: "of all",
    atMost: MAX_SHARE,
    shown: { work: `${who} after ${outage}: the share that comes in the fullest second`, unit: "of all", ours: fullest / total },
  },
  { name: `${who} after ${outage}: those that were sent everything again`, value: anew, unit: "snapshots", atMost: 0 },
];

report({
  name: "outage",
  isKept: asksForAll(values, DEFAULTS),
  tables: {
    lookups: [
      { when: "before", ...lookupRow(before) },
      { when: "all nodes are gone", ...lookupRow(away) },
      { when: "they start, and all come back", ...lookupRow(after) },
    ],
    "coming back": [
      {
        "clients and resolvers": total,
        "the first after s": round(backSeconds[0] ?? Number.NaN),
        "the middle one": percentile(backSeconds, 0.5),
        "the last": round(backSeconds.at(-1) ?? Number.NaN),
        "come in the fullest second": fullest,
        "are told in the fullest one": fullestOf(backSeconds),
        "snapshots of clients": back.snapshots,
        "of resolvers": back.resyncs - away.resyncs,
        "others' share of the machine before it": round(othersThen),
      },
    ],
  },
  goals,
  notes: [
    `Real processes on this machine's cores: ${NODES} nodes, ${RESOLVERS} resolvers that follow one of them, and ${PROGRAMS} programs with ${Math.ceil(CLIENTS / PROGRAMS)} clients each. Each client has the addresses of the nodes, another one first, and a live map of ${ENTRIES} entries; it does not look for resolvers, which would have spared it the outage.`,
    "The nodes get SIGKILL in one moment, and start again together, with their data directories and at their ports. They are ready when each says so at `/readyz`. A client is back when its watch is told something, a resolver when it has an upstream and lags behind it by nothing; a time below zero is before the last node was ready. A client comes with the call by which it is back: a node that is not ready yet may take that call, and says something when it is.",
    `A lookup fails when a map has nothing to choose from, or when a resolver refuses a query or misses an entry. Each program makes 25 choices in 10 ms, each resolver is asked once in ${LOOK_MS} ms; the p99 of choices is the mean of the programs'. At the end an entry changes, and every map shows that.`,
  ],
});

function lookupRow(of: Awaited<ReturnType<typeof tellings>>) {
  return {
    "choices from maps": of.lookups,
    "failed choices": of.failed,
    "p50 µs": round(of.p50Us),
    "p99 µs": round(of.p99Us),
    "queries at resolvers": of.asked,
    "failed queries": of.refused,
    "p50 ms": of.resolverP50Ms,
    "p99 ms": of.resolverP99Ms,
  };
}
