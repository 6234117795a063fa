/**
 * What does it cost to tell many of a small change? 1 to 10,000 watchers beside etcd's, one change at a time, in a steady
 * stream, and of changes that each concern one of them; how long the event loop is held; what a watcher that stops reading costs. `npm run bench -- watch
 * [--watchers 1,100,1000,10000] [--rounds 5] [--stalled 10000]`.
 */
import { parseArgs } from "node:util";
import { type Node, neighbourShare, pinSelf, type Running, scratchDir, startNode } from "./_processes.ts";
import { type Goal, paired, percentile, quiet, ratioOf, report, round, spread } from "./_results.ts";
import { type Closer, openStalled, Watchers } from "./_watchers.ts";
import { drive, fail, loadNode, PATH, registerBytes } from "./_work.ts";
import { loadEtcd, type Sizes, sizesOf, startEtcd } from "./adapters/etcd.ts";

const { values } = parseArgs({
  options: {
    watchers: { type: "string", default: "1,100,1000,10000" },
    rounds: { type: "string", default: "5" },
    stalled: { type: "string", default: "10000" },
  },
});
const COUNTS = values.watchers.split(",").map(Number);
const ROUNDS = Number(values.rounds);
const STALLED = Number(values.stalled);
/** Deliveries in one round, about. */
const ROUND_EVENTS = { "one by one": 50_000, steady: 1_000_000, "a filter each": 4000 } as const;
const MAX_CHANGES = { "one by one": 300, steady: 4000, "a filter each": 4000 } as const;
const IN_FLIGHT = 32;
const STALL_CHANGES = 100_000;
const STALL_WINDOW_BYTES = 65_535;
/** Few enough that what they have been sent and not taken does not look like an attack (grpc/server/connection-limits.ts). */
const STALLED_A_CONNECTION = 32;

type Mode = keyof typeof ROUND_EVENTS;

interface Round {
  readonly cpuMs: number;
  readonly events: number;
  readonly seconds: number;
  readonly tookMs: readonly number[];
}

/** Keys that change in turn: few where ten thousand streams first want a snapshot of all of them. */
function keysFor(watchers: number): number {
  return watchers >= 10_000 ? 100 : 1000;
}

async function oneRound(server: Running, watchers: Watchers, count: number, mode: Mode): Promise<Round> {
  console.error(`${server.name}: ${count} watchers, ${mode}`);
  if (mode === "a filter each") return ownRound(server, watchers, count);
  const changes = Math.max(10, Math.min(MAX_CHANGES[mode], Math.round(ROUND_EVENTS[mode] / count)));
  const keys = Math.min(keysFor(count), changes);
  const [cpuMs, events, startMs] = [server.cpuMs(), watchers.delivered, performance.now()];
  let tookMs: readonly number[] = [];
  if (mode === "one by one") tookMs = await watchers.oneByOne(changes, keys);
  else for (let done = 0; done < changes; done += keys) await watchers.wave(keys, IN_FLIGHT);
  const seconds = (performance.now() - startMs) / 1000;
  return { cpuMs: server.cpuMs() - cpuMs, events: watchers.delivered - events, seconds, tookMs };
}

/** Each change is news to one watcher. */
async function ownRound(server: Running, watchers: Watchers, count: number): Promise<Round> {
  const [cpuMs, events, startMs] = [server.cpuMs(), watchers.delivered, performance.now()];
  for (let done = 0; done < ROUND_EVENTS["a filter each"]; done += count) await watchers.ownWave(IN_FLIGHT);
  const seconds = (performance.now() - startMs) / 1000;
  return { cpuMs: server.cpuMs() - cpuMs, events: watchers.delivered - events, seconds, tookMs: [] };
}

interface Pair {
  readonly node: Node;
  readonly etcd: Running | undefined;
  readonly ours: Watchers;
  readonly theirs: Watchers | undefined;
}

async function fanOut({ node, etcd, ours, theirs }: Pair, count: number, mode: Mode) {
  await oneRound(node, ours, count, mode);
  if (etcd !== undefined && theirs !== undefined) await oneRound(etcd, theirs, count, mode);
  const rounds = await paired(
    ROUNDS,
    () => oneRound(node, ours, count, mode),
    etcd === undefined || theirs === undefined ? undefined : () => oneRound(etcd, theirs, count, mode),
  );
  // In rounds of its own: looking at the loop costs as much as a change to few watchers.
  await node.probe("watch");
  for (let i = 0; i < ROUNDS; i++) await oneRound(node, ours, count, mode);
  const loop = await node.probe("read");
  const perCpu = (r: Round) => r.events / (r.cpuMs / 1000);
  const perSecond = (r: Round) => r.events / r.seconds;
  const took = (list: readonly Round[], p: number) => {
    const all = list.flatMap((r) => r.tookMs);
    return all.length === 0 ? "-" : percentile(all, p);
  };
  return {
    watchers: count,
    changes: mode,
    "events a CPU-second": spread(rounds.a.map(perCpu)),
    "etcd's a CPU-second": rounds.b.length === 0 ? "-" : spread(rounds.b.map(perCpu)),
    ratio: ratioOf(rounds.a.map(perCpu), rounds.b.map(perCpu)) ?? "no verdict: needs etcd",
    "events a second": spread(rounds.a.map(perSecond)),
    "etcd's a second": rounds.b.length === 0 ? "-" : spread(rounds.b.map(perSecond)),
    "to the last p50 ms": took(rounds.a, 0.5),
    "p99 ms": took(rounds.a, 0.99),
    "etcd's p50 ms": took(rounds.b, 0.5),
    "etcd's p99 ms": took(rounds.b, 0.99),
    "etcd's refusals": theirs?.refusals ?? "-",
    "loop held by CPU ms": round(loop.maxHeldCpuMs),
    "loop late ms": round(loop.maxDelayMs),
  };
}

type Row = Awaited<ReturnType<typeof fanOut>> & { readonly "others' share of the core": number };

async function allModes(count: number): Promise<readonly Row[]> {
  const [node, etcd] = [await startNode({ dataDir: scratchDir("watch") }), await startEtcd()];
  const keys = keysFor(count);
  await loadNode(node, keys);
  const sizes = await sizesOf(node, etcd);
  if (etcd !== undefined) await loadEtcd(etcd, keys, sizes);
  const rows: Row[] = [];
  for (const modes of [["one by one", "steady"], ["a filter each"]] as const) {
    const isOwn = modes[0] === "a filter each";
    // One watcher has one filter either way.
    if (isOwn && count === 1) continue;
    console.error(`opening ${count} watchers`);
    const ours = await Watchers.open(node, sizes, count, { isOwn });
    const theirs = etcd === undefined ? undefined : await Watchers.open(etcd, sizes, count, { isOwn });
    for (const mode of modes) rows.push(await rowOf({ node, etcd, ours, theirs }, count, mode));
    ours.close();
    theirs?.close();
  }
  await Promise.all([node.stop(), etcd?.stop()]);
  return rows;
}

async function rowOf(pair: Pair, count: number, mode: Mode): Promise<Row> {
  const measured: Awaited<ReturnType<typeof fanOut>>[] = [];
  const others = await neighbourShare([pair.node, pair.etcd], async () => {
    measured.push(await fanOut(pair, count, mode));
  });
  const [row = fail()] = measured;
  return { ...row, "others' share of the core": round(others) };
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

function goalsOf(rows: readonly Row[], stall: Awaited<ReturnType<typeof stalled>> | undefined): readonly Goal[] {
  const goals: Goal[] = [];
  for (const row of rows) {
    const others = row["others' share of the core"];
    const { ratio, changes } = row;
    if (row.watchers === 1000 && changes !== "a filter each") {
      const name = `events a CPU-second over etcd's, 1,000 watchers, ${changes}`;
      if (typeof ratio === "string") goals.push({ name, value: undefined, unit: "×", atLeast: 1, note: ratio });
      else goals.push({ name, value: ratio.median, unit: "×", atLeast: 1 });
      const value = row["events a second"].median;
      goals.push(quiet({ name: `events a second, 1,000 watchers, ${changes}`, value, unit: "a second", atLeast: 150_000 }, others));
    }
    if (row.watchers !== 10_000 || changes !== "one by one") continue;
    const p99 = row["p99 ms"];
    if (typeof p99 === "number")
      goals.push(quiet({ name: "one change to the last of 10,000 watchers, p99", value: p99, unit: "ms", atMost: 100 }, others));
    const held = row["loop held by CPU ms"];
    goals.push({ name: "event loop held by CPU work meanwhile, most", value: held, unit: "ms", atMost: 10 });
  }
  if (stall !== undefined) {
    const value = stall["heap beyond idle KiB"];
    goals.push({ name: "heap of a stalled watcher beyond an idle one", value, unit: "KiB", atMost: 64 });
    goals.push({ name: "RSS of an idle watch stream", value: (stall["idle RSS KiB"] * 1024) / 1000, unit: "KB", atMost: 25 });
  }
  return goals;
}

pinSelf();
const rows: Row[] = [];
for (const count of COUNTS) rows.push(...(await allModes(count)));
const stall = STALLED > 0 ? await stalled() : undefined;
report({
  name: "watch",
  tables: { "fan-out of small changes": rows, ...(stall !== undefined && { "streams that stop reading": [stall] }) },
  goals: goalsOf(rows, stall),
  notes: [
    "One client of our own for both peers, which reads frames from the socket's bytes; 100 streams a connection; windows never close, so neither peer waits for WINDOW_UPDATE.",
    "One by one: the next change is sent when the last watcher has the one before. Steady: 32 changes under way at any time, all of different keys, so that none may be merged. CPU time includes taking the changes in.",
    `Stalled: ${STALL_CHANGES.toLocaleString("en-US")} changes while nothing is read beyond the first ${STALL_WINDOW_BYTES} bytes of each stream; heap is V8's heap and buffers after a collection, less what the changes cost without watchers. RSS grows with the young generation too, by up to 64 MB whatever is opened: a thousand streams would show little else.`,
    "Both write each change to disk before they tell of it. All watchers have one filter, but in rows with a filter each: there each follows a service of its own (etcd: a prefix), so that a change is one event, and an event's cost is that of the change with it.",
    "For etcd: no filters, no cursors to make. For us: etcd tells of each change in a message of its own, where ours gathers what came within 2 ms.",
  ],
});
