/**
 * What does it cost to tell many of a small change? 1 to 10,000 watchers beside those of etcd, NATS and a bare node:http2 server, one change at a
 * time and in a steady stream, by one filter for all or one each, and of changes that each concern one of them; how long the event loop is held;
 * what a watcher that stops reading costs. `npm run bench -- watch [--watchers 1,1000,10000] [--rounds 5] [--stalled 10000]`; it takes about four
 * minutes. Ten thousand watchers are compared one change at a time, the others in a steady stream too; more counts say how a cost grows.
 */
import { argsOf, asksForAll } from "./_args.ts";
import { type Node, neighbourShare, pinSelf, type Running, scratchDir, startEcho, startNode } from "./_processes.ts";
import { type Goal, percentile, quiet, ratioGoal, ratioOf, report, round, spread } from "./_results.ts";
import { type Closer, type Filters, OWN_FILTER_SERVICES, openStalled, Watchers } from "./_watchers.ts";
import { drive, fail, INSTANCES, loadNode, PATH, registerBytes } from "./_work.ts";
import { loadEtcd, type Sizes, sizesOf, startEtcd } from "./adapters/etcd.ts";
import { startNats } from "./adapters/nats.ts";

const DEFAULTS = { watchers: [1, 1000, 10_000], rounds: 5, stalled: 10_000 };
const values = argsOf(DEFAULTS);
const COUNTS = values.watchers;
const ROUNDS = values.rounds;
const STALLED = values.stalled;
/** Rounds before those that count: Node compiles what has run often enough. */
const WARM_ROUNDS = 2;
const IN_FLIGHT = 32;
const STALL_CHANGES = 100_000;
const STALL_WINDOW_BYTES = 65_535;
/** Few enough that what they have been sent and not taken does not look like an attack (grpc/server/connection-limits.ts). */
const STALLED_A_CONNECTION = 32;
/** From so many watches on, changes go one at a time, and NATS is not asked. */
const MANY = 10_000;

/** How changes come, and what each watch asks for. */
interface Mode {
  readonly name: string;
  readonly filters: Filters;
  readonly changes: "one by one" | "steady" | "one each";
  /** Deliveries in one round, about, and changes at most. */
  readonly roundEvents: number;
  readonly maxChanges: number;
  /** Compared where so many watches are open. */
  readonly isAt: (watchers: number) => boolean;
}

const MODES: readonly Mode[] = [
  { name: "one by one, one filter", filters: "one", changes: "one by one", roundEvents: 50_000, maxChanges: 300, isAt: () => true },
  { name: "steady, one filter", filters: "one", changes: "steady", roundEvents: 500_000, maxChanges: 4000, isAt: (n) => n < MANY },
  {
    name: "one by one, each its own filter",
    filters: "own",
    changes: "one by one",
    roundEvents: 50_000,
    maxChanges: 300,
    isAt: (n) => n > 1 && n < MANY,
  },
  {
    name: "steady, each its own filter",
    filters: "own",
    changes: "steady",
    roundEvents: 500_000,
    maxChanges: 4000,
    isAt: (n) => n > 1 && n < MANY,
  },
  // One watcher has one filter either way. The last, since it needs most entries: before it, each watch begins with a snapshot of them all.
  { name: "a service each", filters: "service", changes: "one each", roundEvents: 4000, maxChanges: 4000, isAt: (n) => n > 1 },
];

interface Round {
  readonly cpuMs: number;
  readonly events: number;
  readonly seconds: number;
  readonly tookMs: readonly number[];
}

/** Keys that change in turn: few where ten thousand streams first want a snapshot of all of them, and where each filter names them. */
function keysFor(watchers: number, { filters }: Mode): number {
  if (filters === "own") return OWN_FILTER_SERVICES * INSTANCES;
  if (filters === "service") return watchers * INSTANCES;
  return watchers >= MANY ? 100 : 1000;
}

async function oneRound(server: Running, watchers: Watchers, count: number, mode: Mode): Promise<Round> {
  const changes = Math.max(10, Math.min(mode.maxChanges, Math.round(mode.roundEvents / count)));
  const keys = Math.min(keysFor(count, mode), changes);
  const [cpuMs, events, startMs] = [server.cpuMs(), watchers.delivered, performance.now()];
  let tookMs: readonly number[] = [];
  if (mode.changes === "one by one") tookMs = await watchers.oneByOne(changes, keys);
  else if (mode.changes === "steady") for (let done = 0; done < changes; done += keys) await watchers.wave(keys, IN_FLIGHT);
  else for (let done = 0; done < mode.roundEvents; done += count) await watchers.ownWave(IN_FLIGHT);
  const seconds = (performance.now() - startMs) / 1000;
  return { cpuMs: server.cpuMs() - cpuMs, events: watchers.delivered - events, seconds, tookMs };
}

interface Side {
  readonly server: Running;
  readonly watchers: Watchers;
}

async function fanOut(sides: readonly Side[], node: Node, count: number, mode: Mode) {
  console.error(`${count} watchers, ${mode.name}`);
  const [ours = fail(), ...peers] = sides;
  const round1 = ({ server, watchers }: Side) => oneRound(server, watchers, count, mode);
  for (let r = 0; r < WARM_ROUNDS; r++) for (const side of sides) await round1(side);
  const results = new Map<Side, Round[]>(sides.map((side) => [side, []]));
  for (let r = 0; r < ROUNDS; r++) {
    for (const side of r % 2 === 0 ? sides : sides.toReversed()) results.get(side)?.push(await round1(side));
  }
  // In rounds of its own: looking at the loop costs as much as a change to few watchers.
  await node.probe("watch");
  for (let i = 0; i < ROUNDS; i++) await round1(ours);
  const loop = await node.probe("read");
  const perCpu = (side: Side) => (results.get(side) ?? []).map((r) => r.events / (r.cpuMs / 1000));
  const cpuUs = (side: Side) => spread((results.get(side) ?? []).map((r) => (r.cpuMs * 1000) / r.events));
  const told = (side: Side) => {
    const rounds = results.get(side) ?? [];
    const took = rounds.flatMap(({ tookMs }) => tookMs);
    return {
      watchers: count,
      changes: mode.name,
      who: side.server.name,
      "events per CPU-second": spread(perCpu(side)),
      "CPU µs per event": cpuUs(side),
      "peer's CPU ÷ ours": side === ours ? "-" : (ratioOf(perCpu(ours), perCpu(side)) ?? "-"),
      "events a second": spread(rounds.map((r) => r.events / r.seconds)),
      "until the last p50 ms": took.length === 0 ? "-" : percentile(took, 0.5),
      "p99 ms": took.length === 0 ? "-" : percentile(took, 0.99),
      refusals: side.watchers.refusals,
      "loop blocked by CPU ms": side === ours ? round(loop.maxHeldCpuMs) : "-",
      "loop delay ms": side === ours ? round(loop.maxDelayMs) : "-",
    };
  };
  return [told(ours), ...peers.map(told)];
}

type Row = Awaited<ReturnType<typeof fanOut>>[number] & { readonly "others' share of the core": number };

async function allModes(count: number): Promise<readonly Row[]> {
  const [node, etcd] = [await startNode({ dataDir: scratchDir("watch") }), await startEtcd()];
  let loaded = INSTANCES;
  await loadNode(node, loaded);
  const sizes = await sizesOf(node, etcd);
  if (etcd !== undefined) await loadEtcd(etcd, loaded, sizes);
  // A change in a message of ours: the entry, and some bytes of the cursor with it.
  const echo = await startEcho(32, sizes.entryBytes);
  const nats = count < MANY ? await startNats() : undefined;
  const rows: Row[] = [];
  for (const mode of MODES.filter(({ isAt }) => isAt(count))) {
    const keys = keysFor(count, mode);
    if (keys > loaded) {
      await loadNode(node, keys, loaded);
      if (etcd !== undefined) await loadEtcd(etcd, keys, sizes, loaded);
      loaded = keys;
    }
    const isForAll = mode.filters !== "service";
    const servers: readonly Running[] = [node, etcd, mode.filters === "one" ? nats : undefined, isForAll ? echo : undefined].filter(
      (server) => server !== undefined,
    );
    const sides: Side[] = [];
    for (const server of servers) sides.push({ server, watchers: await Watchers.open(server, sizes, count, mode.filters) });
    const measured: Awaited<ReturnType<typeof fanOut>> = [];
    const others = await neighbourShare(servers, async () => {
      measured.push(...(await fanOut(sides, node, count, mode)));
    });
    rows.push(...measured.map((row) => ({ ...row, "others' share of the core": round(others) })));
    for (const { watchers } of sides) watchers.close();
  }
  await Promise.all([node.stop(), etcd?.stop(), nats?.stop(), echo.stop()]);
  return rows;
}

/** Many changes of the same hundred keys, as fast as they are taken. */
async function churn(node: Node): Promise<void> {
  await drive(node, PATH.register, { count: STALL_CHANGES / 100, inFlight: 2, message: (i) => registerBytes(0, 100, { version: i }) });
}

/** Heap, buffers and RSS of a fresh node after `work`, while what it returns is open. */
async function memoryAfter(work: (node: Node, sizes: Sizes) => Promise<Closer | undefined>) {
  const node = await startNode();
  await loadNode(node, 100);
  const opened = await work(node, await sizesOf(node, undefined));
  await new Promise((resolve) => setTimeout(resolve, 1500));
  await node.probe("gc");
  const { heapBytes, externalBytes, rssBytes } = await node.probe("gc");
  opened?.close();
  await node.stop("SIGKILL");
  return { heap: heapBytes + externalBytes, rss: rssBytes };
}

async function stalled() {
  const quietly = await memoryAfter(() => Promise.resolve(undefined));
  const churned = await memoryAfter((node) => churn(node).then(() => undefined));
  const idle = await memoryAfter((node, sizes) => Watchers.open(node, sizes, STALLED));
  const stuck = await memoryAfter(async (node) => {
    const opened = await openStalled(node, STALLED, { windowBytes: STALL_WINDOW_BYTES, perConnection: STALLED_A_CONNECTION });
    await churn(node);
    return opened;
  });
  const perStream = (more: number, less: number) => round((more - less) / 1024 / STALLED);
  return {
    streams: STALLED,
    "idle heap KiB": perStream(idle.heap, quietly.heap),
    "idle RSS KiB": perStream(idle.rss, quietly.rss),
    "stalled heap KiB": perStream(stuck.heap, churned.heap),
    "stalled RSS KiB": perStream(stuck.rss, churned.rss),
    "heap beyond idle KiB": perStream(stuck.heap - churned.heap, idle.heap - quietly.heap),
  };
}

/** What is wanted: so many times the peer's events a CPU-second at least. */
interface Wanted {
  readonly watchers: number;
  readonly changes: string;
  readonly work: string;
  readonly who: "etcd" | "nats" | "echo";
  readonly atLeast: number;
  /** The issue has no bound for it. */
  readonly isOurWish?: boolean;
}

const WORK = {
  one: "one change sent to 1,000 watches with one filter, 100 per connection",
  own: "one change sent to 1,000 watches, each with its own filter, 100 per connection",
  steadyOne: "a steady stream of changes sent to 1,000 watches with one filter, 100 per connection",
  steadyOwn: "a steady stream of changes sent to 1,000 watches, each with its own filter, 100 per connection",
  service: "changes of 1,000 services, each sent to the one watch that follows it, 100 per connection",
  single: "one change sent to a single watch",
} as const;
const [ONE, OWN] = ["one by one, one filter", "one by one, each its own filter"];
const [STEADY_ONE, STEADY_OWN] = ["steady, one filter", "steady, each its own filter"];
/** At most one and a half times what a bare write to each takes. */
const BARE = round(1 / 1.5);

const WANTED: readonly Wanted[] = [
  { watchers: 1000, changes: ONE, work: WORK.one, who: "etcd", atLeast: 1.5 },
  { watchers: 1000, changes: ONE, work: WORK.one, who: "nats", atLeast: 1, isOurWish: true },
  { watchers: 1000, changes: ONE, work: WORK.one, who: "echo", atLeast: BARE },
  { watchers: 1000, changes: OWN, work: WORK.own, who: "etcd", atLeast: 1 },
  { watchers: 1000, changes: OWN, work: WORK.own, who: "echo", atLeast: BARE },
  { watchers: 1000, changes: STEADY_ONE, work: WORK.steadyOne, who: "etcd", atLeast: 6.5 },
  { watchers: 1000, changes: STEADY_OWN, work: WORK.steadyOwn, who: "etcd", atLeast: 3 },
  { watchers: 1000, changes: STEADY_ONE, work: WORK.steadyOne, who: "nats", atLeast: 1 },
  { watchers: 1000, changes: "a service each", work: WORK.service, who: "etcd", atLeast: 1, isOurWish: true },
  { watchers: 1, changes: ONE, work: WORK.single, who: "etcd", atLeast: 1, isOurWish: true },
  { watchers: 1, changes: ONE, work: WORK.single, who: "nats", atLeast: 1, isOurWish: true },
];

/** Peers as a reader meets them. */
const BESIDE = {
  etcd: "etcd, a watch each; each change goes through Raft (ours does not)",
  nats: "NATS, a subscription each; nothing is stored (ours is on disk)",
  echo: "a bare node:http2 server, a write to each watch; nothing is stored (ours is on disk)",
} as const;

/** Of the benchmark's watches, or of one that was not asked for. */
type Find = (watchers: number, changes: string, who: Running["name"]) => Row | undefined;

function besideGoal(find: Find, { watchers, changes, work, who, atLeast, isOurWish = false }: Wanted): Goal {
  const [ours, theirs] = [find(watchers, changes, "waymark"), find(watchers, changes, who)];
  const beside = BESIDE[who];
  return ratioGoal({
    name: `${work}, beside ${beside}`,
    shown: { work, beside, unit: "µs of CPU per change and watch" },
    ratio: theirs?.["peer's CPU ÷ ours"],
    ours: ours?.["CPU µs per event"],
    theirs: theirs?.["CPU µs per event"],
    atLeast,
    note: isOurWish ? "our own target" : undefined,
    missing: "not measured: the peer is not installed, or so many watches were not asked for",
  });
}

/** Our own limits with 10,000 watches. */
function manyGoals(many: Row): readonly Goal[] {
  const told = (value: number | string) => (typeof value === "number" ? value : undefined);
  const p99 = {
    name: "time until a change reaches the last of 10,000 watchers, p99",
    value: told(many["p99 ms"]),
    unit: "ms",
    atMost: 100,
  };
  return [
    quiet(p99, many["others' share of the core"]),
    {
      name: "longest blocking of the event loop by CPU work meanwhile",
      value: told(many["loop blocked by CPU ms"]),
      unit: "ms",
      atMost: 10,
    },
  ];
}

function goalsOf(all: readonly Row[], stall: Awaited<ReturnType<typeof stalled>>): readonly Goal[] {
  const find: Find = (watchers, changes, who) => all.find((row) => row.watchers === watchers && row.changes === changes && row.who === who);
  const many = find(MANY, "one by one, one filter", "waymark");
  return [
    ...WANTED.map((wanted) => besideGoal(find, wanted)),
    ...(many === undefined ? [] : manyGoals(many)),
    { name: "heap of a stalled watcher beyond an idle one", value: stall["heap beyond idle KiB"], unit: "KiB", atMost: 64 },
    { name: "RSS of an idle watch stream", value: (stall["idle RSS KiB"] * 1024) / 1000, unit: "KB", atMost: 25 },
  ];
}

pinSelf();
const rows: Row[] = [];
for (const count of COUNTS) rows.push(...(await allModes(count)));
const stall = await stalled();
report({
  name: "watch",
  isKept: asksForAll(values, DEFAULTS),
  tables: { "fan-out of small changes": rows, "streams that stop reading": [stall] },
  goals: goalsOf(rows, stall),
  notes: [
    "Our driver reads frames from the bytes of the socket, and sends all data of one event loop turn in one write, to every peer. There are 100 watches per connection. Windows never close, so no peer waits for WINDOW_UPDATE.",
    "One by one is the low rate: the next change is sent when the last watch has received the previous one. Steady is the full rate: 32 changes in flight at any time, all of different keys, so that none can be merged. Between the two, only the number of changes that arrive together differs. CPU time includes accepting the changes.",
    "One filter: every watch asks for the namespace. Each its own filter: each asks for the ten services that change, and for one more name that no other watch asks for; in etcd, each has a range with its own end. A service each: each follows its own service (in etcd, a prefix), so that a change is one event, and the cost of an event includes its change.",
    `Stalled: ${STALL_CHANGES.toLocaleString("en-US")} changes while nothing is read beyond the first ${STALL_WINDOW_BYTES} bytes of each stream. Heap is V8's heap and buffers after a collection, less the cost of the changes without watches. RSS grows with V8's young generation too, by up to 64 MB independent of the streams, so a thousand streams would not show their own size.`,
    "Waymark and etcd write each change to disk before they deliver it, etcd through Raft with one member. NATS and the bare server (echo) store nothing. Peer's CPU ÷ ours: above 1, the peer uses more CPU time for the same work.",
    "In favour of etcd and NATS: they create no cursors; NATS, without JetStream, stores nothing, and a subject is its only filter. In Waymark's favour: they send each change in a separate message, while Waymark batches the changes of 2 ms.",
  ],
});
