/**
 * What does a query cost? Exact service (10 entries), prefix page of 100, by tag, at growing catalogs, beside etcd's
 * serializable range of as many bytes. `npm run bench -- query [--sizes 10000,100000] [--rounds 5] [--seconds 2]`; add
 * 1000000 to the sizes for the third size (etcd then takes a minute to fill).
 */
import { execFile } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs, promisify } from "node:util";
import { grpcFrame } from "./_frames.ts";
import { openLoop } from "./_open-loop.ts";
import { hasTool, neighbourShareOfBoth, pinSelf, type Running, startEtcd, startNode } from "./_processes.ts";
import { type Goal, paired, percentile, quiet, ratioOf, report, round, spread } from "./_results.ts";
import {
  ask,
  drive,
  etcdRange,
  exactQuery,
  itemsIn,
  loadEtcd,
  loadNode,
  NAMESPACE,
  PATH,
  prefixQuery,
  sizesOf,
  tagQuery,
} from "./_work.ts";

const { values } = parseArgs({
  options: {
    sizes: { type: "string", default: "10000,100000" },
    rounds: { type: "string", default: "5" },
    seconds: { type: "string", default: "2" },
  },
});
const SIZES = values.sizes.split(",").map(Number);
const ROUNDS = Number(values.rounds);
const SECONDS = Number(values.seconds);
/** A look at fewer sizes, or for less time, leaves the kept result as it is. */
const IS_WHOLE = new Set(SIZES).size > 1 && ROUNDS >= 5 && SECONDS >= 2;
const CONNECTIONS = 4;
const STREAMS = 16;
const SERVICE = 500;

interface Shape {
  readonly name: string;
  readonly items: number;
  readonly ours: Uint8Array;
  readonly theirs: Uint8Array | undefined;
}

const SHAPES: readonly Shape[] = [
  { name: "exact", items: 10, ours: exactQuery(SERVICE), theirs: etcdRange(`/${NAMESPACE}/service-${SERVICE}/`) },
  { name: "prefix page of 100", items: 100, ours: prefixQuery(100), theirs: etcdRange(`/${NAMESPACE}/`, 100) },
  // etcd has no such query: it would read the whole prefix.
  { name: "by tag, 10 of 1,000", items: 10, ours: tagQuery(1, 10), theirs: undefined },
];

interface Round {
  /** Server's CPU time a request, in µs. */
  readonly cpuUs: number;
  readonly perSecond: number;
}

const run = promisify(execFile);

/** Closed loop at full speed: h2load where it is installed, because it costs the load's core least, else our own driver. */
async function full(server: Running, path: string, message: Uint8Array, count: number): Promise<Round> {
  const before = server.cpuMs();
  const seconds = hasTool("h2load") ? await h2load(server, path, message, count) : await ownLoad(server, path, message, count);
  return { cpuUs: ((server.cpuMs() - before) * 1000) / count, perSecond: count / seconds };
}

function ownLoad(server: Running, path: string, message: Uint8Array, count: number): Promise<number> {
  return drive(server, path, { count, inFlight: CONNECTIONS * STREAMS, connections: CONNECTIONS, message: () => message });
}

async function h2load(server: Running, path: string, message: Uint8Array, count: number): Promise<number> {
  const folder = mkdtempSync(join(tmpdir(), "waymark-bench-"));
  const body = join(folder, "body");
  writeFileSync(body, grpcFrame(message));
  const { host, port } = server.grpc;
  const args = ["-c", String(CONNECTIONS), "-m", String(STREAMS), "-n", String(count), "-d", body];
  const { stdout } = await run("h2load", [...args, "-Hcontent-type: application/grpc", "-Hte: trailers", `http://${host}:${port}${path}`]);
  rmSync(folder, { recursive: true });
  if (!stdout.includes(`${count} succeeded`)) throw new Error(stdout);
  const [, time = "", unit = ""] = /finished in ([\d.]+)(us|ms|s|m),/.exec(stdout) ?? [];
  return Number(time) * { us: 1e-6, ms: 1e-3, s: 1, m: 60 }[unit as "s"];
}

/** Requests that take about SECONDS: found with few first, for a request may cost a thousand times another. */
async function calibrate(server: Running, path: string, message: Uint8Array): Promise<number> {
  const first = await full(server, path, message, 200);
  const { perSecond } = await full(server, path, message, Math.max(200, Math.round(first.perSecond / 2)));
  const count = Math.max(200, Math.round((perSecond * SECONDS) / 100) * 100);
  // Not measured: Node compiles what has run often enough.
  await full(server, path, message, count);
  return count;
}

async function measure(node: Running, etcd: Running | undefined, { name, items, ours, theirs }: Shape, entries: number) {
  console.error(`${entries} entries: ${name}`);
  const peer = theirs === undefined ? undefined : etcd;
  const oursAnswer = await ask(node, PATH.query, ours);
  const theirsAnswer = peer === undefined || theirs === undefined ? undefined : await ask(peer, PATH.etcdRange, theirs);
  if (itemsIn(node, oursAnswer) !== items) throw new Error(`${name}: ${itemsIn(node, oursAnswer)} items`);
  if (peer !== undefined && theirsAnswer !== undefined && itemsIn(peer, theirsAnswer) !== items) throw new Error(`${name}: etcd's items`);
  const oursCount = await calibrate(node, PATH.query, ours);
  const theirsRound =
    peer === undefined || theirs === undefined
      ? undefined
      : (
          (count: number) => () =>
            full(peer, PATH.etcdRange, theirs, count)
        )(await calibrate(peer, PATH.etcdRange, theirs));
  const rounds = await paired(ROUNDS, () => full(node, PATH.query, ours, oursCount), theirsRound);
  const perCpuSecond = ({ cpuUs }: Round) => 1e6 / cpuUs;
  return {
    entries,
    query: name,
    "answer bytes": oursAnswer.length,
    "etcd's": theirsAnswer?.length ?? "-",
    "CPU µs": spread(rounds.a.map((r) => r.cpuUs)),
    "etcd's CPU µs": peer === undefined ? "-" : spread(rounds.b.map((r) => r.cpuUs)),
    "ratio a CPU-second":
      ratioOf(rounds.a.map(perCpuSecond), rounds.b.map(perCpuSecond)) ??
      (theirs === undefined ? "etcd has no such query" : "no verdict: needs etcd"),
    "a second": spread(rounds.a.map((r) => r.perSecond)),
  };
}

/**
 * The rate at which the server uses half a core, found in the open loop itself: there a request is alone in its read and its
 * write, and costs more than one of the sixteen that a closed loop sends together.
 */
async function halfRate(server: Running, path: string, message: Uint8Array, cpuUs: number): Promise<number> {
  let perSecond = 1e6 / cpuUs / 4;
  // The first of them also warms up.
  for (let i = 0; i < 3; i++) {
    const cpuMs = server.cpuMs();
    await openLoop(server, path, { message, perSecond, seconds: SECONDS, connections: CONNECTIONS });
    perSecond = 500 / ((server.cpuMs() - cpuMs) / (perSecond * SECONDS));
  }
  return Math.round(perSecond);
}

/** Latency at half load, from when each request should have been sent. */
async function halfLoad(server: Running, path: string, message: Uint8Array, cpuUs: number, entries: number) {
  const perSecond = await halfRate(server, path, message, cpuUs);
  let tookMs: readonly number[] = [];
  const [cpuMs, startMs] = [server.cpuMs(), performance.now()];
  const others = await neighbourShareOfBoth(server, async () => {
    tookMs = await openLoop(server, path, { message, perSecond, seconds: SECONDS * 2, connections: CONNECTIONS });
  });
  const share = (server.cpuMs() - cpuMs) / (performance.now() - startMs);
  return {
    entries,
    peer: server.name,
    "a second": perSecond,
    "server's share of its core": round(share),
    "CPU µs a request": round((share * 1e6) / perSecond),
    "p50 ms": percentile(tookMs, 0.5),
    "p99 ms": percentile(tookMs, 0.99),
    "p99.9 ms": percentile(tookMs, 0.999),
    "others' share of a core": round(others),
  };
}

pinSelf();
const cost: Awaited<ReturnType<typeof measure>>[] = [];
const latency: Awaited<ReturnType<typeof halfLoad>>[] = [];
for (const entries of SIZES) {
  const [node, etcd] = [await startNode(), await startEtcd()];
  await loadNode(node, Math.min(entries, 1000));
  const sizes = await sizesOf(node, etcd);
  await loadNode(node, entries, 1000);
  if (etcd !== undefined) await loadEtcd(etcd, entries, sizes);
  for (const shape of SHAPES) {
    if (shape.name.startsWith("by tag") && entries < 2000) continue;
    const row = await measure(node, etcd, shape, entries);
    cost.push(row);
    if (shape.name !== "exact" || shape.theirs === undefined) continue;
    latency.push(await halfLoad(node, PATH.query, shape.ours, row["CPU µs"].median, entries));
    const etcdUs = row["etcd's CPU µs"];
    if (etcd !== undefined && typeof etcdUs !== "string")
      latency.push(await halfLoad(etcd, PATH.etcdRange, shape.theirs, etcdUs.median, entries));
  }
  await Promise.all([node.stop(), etcd?.stop()]);
}

const exact = cost.filter((row) => row.query === "exact");
const ratios = exact.flatMap((row) => (typeof row["ratio a CPU-second"] === "string" ? [] : row["ratio a CPU-second"].median));
const p99 = latency.filter((row) => row.peer === "waymark").map((row) => row["p99 ms"]);
const others = Math.max(...latency.map((row) => row["others' share of a core"]));
/** One size says nothing of how the cost grows. */
function growth(): readonly Goal[] {
  const [first, last] = [exact[0], exact.at(-1)];
  if (first === undefined || last === undefined || first.entries === last.entries) return [];
  const name = `exact query, CPU at ${last.entries} entries over that at ${first.entries}`;
  return [{ name, value: last["CPU µs"].median / first["CPU µs"].median, unit: "×", atMost: 1.5 }];
}
const goals: readonly Goal[] = [
  {
    name: "exact query, requests a CPU-second over etcd's (least of the sizes)",
    value: ratios.length === 0 ? undefined : Math.min(...ratios),
    unit: "×",
    atLeast: 1.2,
    ...(ratios.length === 0 && { note: "no verdict: needs etcd" }),
  },
  quiet({ name: "exact query, p99 at half load (most of the sizes)", value: Math.max(...p99), unit: "ms", atMost: 5 }, others),
  ...growth(),
];
report({
  name: "query",
  isKept: IS_WHOLE,
  tables: { "CPU time a request at full load": cost, "latency at half load": latency },
  goals,
  notes: [
    `Closed loop of ${CONNECTIONS} connections × ${STREAMS} streams by ${hasTool("h2load") ? "h2load" : "our own driver"} for cost; open loop at the rate that takes half of the server's core for latency, counted from when a request was due.`,
    "Values in etcd are shorter than our entries by what its own keys and revisions take, so that answers are equally long.",
    "etcd counts all keys of a range, also beyond its limit: its page of a prefix costs more the more there are.",
    "For etcd: it decodes no filter and checks no scope. For us: it keeps everything on disk and keeps history; our node ran --ephemeral, which a query does not touch.",
    "Full load asks for one service again and again, 64 requests under way: they share reads and writes, ours more than etcd's. At half load a request comes alone; the ratio there is that of the CPU time a request beside it.",
    "No TLS on either side. etcd runs with GOMAXPROCS=1.",
  ],
});
