/**
 * Where does the time of a path go? Samples of a node's threads while one kind of work runs, by part of the program and by function:
 * `npm run bench -- profile [--seconds 4] [--only "exact query"]`. About two and a half minutes. The profiles lie in .cache/profiles afterwards, for
 * Chrome's developer tools.
 */
import { mkdirSync, readdirSync, readFileSync, renameSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { argsOf, asksForAll } from "./_args.ts";
import { HttpWire } from "./_http.ts";
import { countOn, until } from "./_mesh.ts";
import { listenerOf, type Node, pinSelf, scratchDir, startNode } from "./_processes.ts";
import { grpcAsked, paced } from "./_rates.ts";
import { nodeLeases, renew } from "./_renewals.ts";
import { report, round } from "./_results.ts";
import { OWN_FILTER_SERVICES, Watchers } from "./_watchers.ts";
import { drive, exactJson, exactQuery, fail, INSTANCES, loadNode, PATH, pageQuery, registerBytes, scattered } from "./_work.ts";
import { sizesOf } from "./adapters/etcd.ts";

const DEFAULTS = { seconds: 4, only: "" };
const values = argsOf(DEFAULTS);
const SECONDS = values.seconds;
const ROOT = fileURLToPath(new URL("..", import.meta.url));
const KEPT = join(ROOT, ".cache", "profiles");
const ENTRIES = 10_000;
const WATCHES = 1000;
/** Between two samples, in µs. */
const INTERVAL_US = 250;
const TOP_FUNCTIONS = 12;
/** Units of work between two looks at the clock. */
const STEP = 256;
/** Calls that come alone, as in the low rate of bench/query.ts. */
const LONE_PER_SECOND = 3000;
/** What a node reads that starts: enough that Node's own start is the smaller part. */
const STORED = 200_000;
/** Renewed in turn. */
const LEASES = 1000;

interface Load {
  /** Does some hundred units of work; returns how many. `i` counts the calls. */
  readonly work: (i: number) => Promise<number>;
  readonly close: () => Promise<unknown> | void;
}

interface Path {
  readonly name: string;
  /** Absent: the start of a node on what another one has stored is sampled. */
  readonly open?: (node: Node) => Promise<Load>;
}

type Open = NonNullable<Path["open"]>;

function calls(path: string, inFlight: number, message: (i: number) => Uint8Array, units = 1): Open {
  return (node) =>
    Promise.resolve({
      work: async (at) => {
        await drive(node, path, { count: STEP, inFlight, connections: Math.min(4, inFlight), message: (i) => message(at * STEP + i) });
        return STEP * units;
      },
      close: () => {},
    });
}

/** The same call at a low rate, each alone. Its service is always the same, since what is sampled is what a lone call costs. */
const lone: Open = (node) => {
  const asked = grpcAsked(node, PATH.query, () => exactQuery(7));
  return Promise.resolve({
    work: async () => (await paced(asked, LONE_PER_SECOND, 1 / 4)).tookMs.length,
    close: () => {},
  });
};

/** The same query through HTTP/JSON over 64 connections with one request under way on each. */
const json: Open = async (node) => {
  const wires = await Promise.all(Array.from({ length: 64 }, () => HttpWire.open(listenerOf(node, "http"))));
  return {
    work: async (at) => {
      let next = 0;
      const asking = async (wire: HttpWire) => {
        while (next < STEP) await wire.request({ path: PATH.query, body: exactJson(scattered(at * STEP + next++, ENTRIES / INSTANCES)) });
      };
      await Promise.all(wires.map(asking));
      return STEP;
    },
    close: () => wires.forEach((wire) => wire.close()),
  };
};

/** Leases renewed over one stream, one a message. */
const renewals: Open = async (node) => {
  const { messages } = await nodeLeases(node, { count: LEASES, from: ENTRIES, version: 1 });
  return {
    work: async () => {
      await renew(node, messages, 1);
      return messages.length;
    },
    close: () => {},
  };
};

/** Changes that another node takes in and this one receives. */
const received: Open = async (node) => {
  const args = ["--node-id", "profile-source", "--join", node.listeners["fabric"] ?? fail()];
  const source = await startNode({ dataDir: scratchDir("profile-source"), isPlain: true, isFree: true, args });
  const first = await countOn(node);
  await drive(source, PATH.register, { count: ENTRIES / 100, inFlight: 4, message: (i) => sourceEntries(i) });
  await until(async () => (await countOn(node)) === first + ENTRIES, "the node has what the other one took in");
  return {
    work: async (at) => {
      await drive(source, PATH.register, { count: STEP / 32, inFlight: 8, message: (i) => sourceEntries(at * 8 + i, at * 8 + i + 1) });
      return (STEP / 32) * 100;
    },
    close: () => source.stop(),
  };
};

/** A hundred entries that only the other node has, anew with each version. */
function sourceEntries(i: number, version = 0): Uint8Array {
  const from = ENTRIES + ((i * 100) % ENTRIES);
  return registerBytes(from, from + 100, { version });
}

function watched(filters: "one" | "own"): Open {
  return async (node) => {
    const watchers = await Watchers.open(node, await sizesOf(node, undefined), WATCHES, filters);
    const keys = filters === "own" ? OWN_FILTER_SERVICES * INSTANCES : WATCHES;
    return {
      work: async () => {
        const before = watchers.delivered;
        await watchers.oneByOne(10, keys);
        return watchers.delivered - before;
      },
      close: () => watchers.close(),
    };
  };
}

/** Entry `i` anew, over and over. */
function rewritten(i: number, batch: number): Uint8Array {
  const from = (i * batch) % ENTRIES;
  return registerBytes(from, from + batch, { version: i });
}

const PATHS: readonly Path[] = [
  { name: "exact query", open: calls(PATH.query, 64, (i) => exactQuery(scattered(i, ENTRIES / INSTANCES))) },
  { name: "exact query, each alone, 3,000 a second", open: lone },
  { name: "exact query through HTTP/JSON", open: json },
  { name: "page of 100", open: calls(PATH.query, 64, () => pageQuery(100)) },
  { name: "an entry on disk, 100 a request", open: calls(PATH.register, 8, (i) => rewritten(i, 100), 100) },
  { name: "an entry on disk, 64 requests under way", open: calls(PATH.register, 64, (i) => rewritten(i, 1)) },
  { name: "an entry on disk, one request at a time", open: calls(PATH.register, 1, (i) => rewritten(i, 1)) },
  { name: "a renewed lease, one a message", open: renewals },
  { name: "an entry that another node took in, 100 a request", open: received },
  { name: "a delivery, one filter for 1,000 watches", open: watched("one") },
  { name: "a delivery, 1,000 watches with a filter each", open: watched("own") },
  { name: `an entry that is read at the start, of ${STORED.toLocaleString("en-US")}` },
];

/** A profile as V8 writes it; times in µs of the monotonic clock. */
interface Profile {
  readonly nodes: readonly {
    readonly id: number;
    readonly callFrame: { readonly functionName: string; readonly url: string; readonly lineNumber: number };
  }[];
  readonly startTime: number;
  readonly samples: readonly number[];
  readonly timeDeltas: readonly number[];
}

type Frame = Profile["nodes"][number]["callFrame"];

function partOf({ functionName, url }: Frame): string {
  if (functionName === "(garbage collector)") return "garbage collection";
  if (functionName === "(program)") return "native code and the system";
  const own = /\/(src|gen)\/(\w+)/.exec(url.replace(/.*\/node_modules\//, "node_modules/"));
  if (own !== null) return own[1] === "gen" ? "gen" : `src/${own[2] ?? ""}`;
  const library = /^.*\/node_modules\/((?:@[^/]+\/)?[^/]+)/.exec(url)?.[1];
  if (library !== undefined) return library;
  return /^node:internal\/(http2|streams?|js_stream)|^node:(net|stream)|stream_base/.test(url) ? "Node's http2 and streams" : "Node, V8";
}

/** µs by what is sampled, of the time from `fromUs` to `toUs` without that in which the thread slept. */
function busyUs({ nodes, startTime, samples, timeDeltas }: Profile, fromUs: number, toUs: number): ReadonlyMap<Frame, number> {
  const frames = new Map(nodes.map(({ id, callFrame }) => [id, callFrame]));
  const spent = new Map<Frame, number>();
  let nowUs = startTime;
  for (const [i, id] of samples.entries()) {
    // A sample stands for the time until the next one.
    nowUs += timeDeltas[i] ?? 0;
    const frame = frames.get(id);
    if (nowUs < fromUs || nowUs > toUs || frame === undefined || frame.functionName === "(idle)") continue;
    spent.set(frame, (spent.get(frame) ?? 0) + Math.max(0, timeDeltas[i + 1] ?? 0));
  }
  return spent;
}

function shares<K>(spent: ReadonlyMap<Frame, number>, keyOf: (frame: Frame) => K): readonly (readonly [K, number])[] {
  const sums = new Map<K, number>();
  for (const [frame, us] of spent) sums.set(keyOf(frame), (sums.get(keyOf(frame)) ?? 0) + us);
  return [...sums].toSorted(([, a], [, b]) => b - a);
}

function monotonicUs(): number {
  return Number(process.hrtime.bigint() / 1000n);
}

interface Sampled {
  readonly parts: readonly Readonly<Record<string, unknown>>[];
  readonly functions: readonly Readonly<Record<string, unknown>>[];
}

function placeOf({ functionName: name, url, lineNumber }: Frame): string {
  const file = url.replace(/.*\/(src|gen|node_modules)\//, "$1/");
  return file === "" ? name : `${name === "" ? "(anonymous)" : name} ${file}:${lineNumber + 1}`;
}

/** A time that was sampled, and the CPU time of the whole process for a unit of work in it. */
interface Span {
  readonly fromUs: number;
  readonly toUs: number;
  readonly cpuUs: number;
}

async function whileWorking(flags: readonly string[], open: Open): Promise<Span> {
  const node = await startNode({ dataDir: scratchDir("profile-data"), nodeFlags: flags, program: "src" });
  await loadNode(node, ENTRIES);
  const { work, close } = await open(node);
  let [turn, units] = [0, 0];
  const during = async (seconds: number) => {
    units = 0;
    const endMs = performance.now() + seconds * 1000;
    while (performance.now() < endMs) units += await work(turn++);
  };
  await during(SECONDS / 2);
  const [fromUs, fromCpuMs] = [monotonicUs(), node.cpuMs()];
  await during(SECONDS);
  const [toUs, cpuUs] = [monotonicUs(), ((node.cpuMs() - fromCpuMs) * 1000) / units];
  await close();
  await node.stop();
  return { fromUs, toUs, cpuUs };
}

async function whileStarting(flags: readonly string[]): Promise<Span> {
  const dataDir = scratchDir("profile-data");
  const before = await startNode({ dataDir, isPlain: true });
  await loadNode(before, STORED);
  await before.stop("SIGKILL");
  const fromUs = monotonicUs();
  const node = await startNode({ dataDir, nodeFlags: flags, program: "src" });
  const [toUs, cpuUs] = [monotonicUs(), (node.cpuMs() * 1000) / STORED];
  await node.stop();
  return { fromUs, toUs, cpuUs };
}

/** A profile's name is `CPU.<date>.<time>.<process>.<thread>.<count>.cpuprofile`, and Node gives the main thread the number 0. */
function threadOf(file: string): string {
  const number = file.split(".").at(4);
  return number === "0" ? "main" : `thread ${number}`;
}

async function sampled({ name, open }: Path): Promise<Sampled> {
  console.error(name);
  const dir = scratchDir("profile");
  const flags = ["--cpu-prof", `--cpu-prof-dir=${dir}`, `--cpu-prof-interval=${INTERVAL_US}`];
  const { fromUs, toUs, cpuUs } = open === undefined ? await whileStarting(flags) : await whileWorking(flags, open);
  mkdirSync(KEPT, { recursive: true });
  const threads = readdirSync(dir)
    .filter((file) => file.endsWith(".cpuprofile"))
    .map((file, i) => {
      const kept = join(KEPT, `${name.replaceAll(/\W+/g, "-")}-${i}.cpuprofile`);
      renameSync(join(dir, file), kept);
      return { thread: threadOf(file), spent: busyUs(JSON.parse(readFileSync(kept, "utf8")) as Profile, fromUs, toUs) };
    })
    .map((one) => ({ ...one, busyMs: [...one.spent.values()].reduce((sum, us) => sum + us, 0) / 1000 }))
    .filter(({ busyMs }) => busyMs > 0)
    .toSorted((a, b) => b.busyMs - a.busyMs);
  const allMs = threads.reduce((sum, { busyMs }) => sum + busyMs, 0);
  const percent = (us: number) => round(us / 10 / allMs);
  return {
    parts: threads.flatMap(({ thread, spent }) =>
      shares(spent, partOf)
        .filter(([, us]) => percent(us) >= 0.5)
        .map(([part, us]) => ({
          path: name,
          thread,
          part,
          "% of the samples": percent(us),
          "µs a unit": round((percent(us) * cpuUs) / 100),
        })),
    ),
    functions: threads.flatMap(({ thread, spent }) =>
      shares(spent, placeOf)
        .slice(0, TOP_FUNCTIONS)
        .filter(([, us]) => percent(us) >= 1)
        .map(([what, us]) => ({ path: name, thread, function: what, "% of the samples": percent(us) })),
    ),
  };
}

const chosen = PATHS.filter(({ name }) => name.includes(values.only));
if (chosen.length === 0) {
  console.error(
    `no path has ${JSON.stringify(values.only)} in its name; there are: ${PATHS.map(({ name }) => JSON.stringify(name)).join(", ")}`,
  );
  process.exit(2);
}
pinSelf();
const all: Sampled[] = [];
for (const path of chosen) all.push(await sampled(path));
report({
  name: "profile",
  isKept: asksForAll(values, DEFAULTS),
  tables: { "by part of the program": all.flatMap(({ parts }) => parts), "by function": all.flatMap(({ functions }) => functions) },
  goals: [],
  notes: [
    `Samples each ${INTERVAL_US} µs of every thread of a node that runs from its sources, at full load unless the path says otherwise; time in which a thread waits for events is left out. Sampling costs time itself, and a thread that waits for its core or its disk counts as busy, so use the shares.`,
    "µs a unit: the share of the CPU time of the whole process for an entry, a call or a delivery.",
    "The profiles themselves lie in .cache/profiles, one file a thread, named after the path: open them in Chrome's developer tools.",
    "An entry that another node took in: the node that receives it is sampled, the other one runs on whatever core there is. An entry that is read at the start: from the process's start until it is ready, Node's own start and our modules included, and the sources are turned into JavaScript meanwhile, which dist need not.",
    "Native code holds the HTTP/2 library of Node, SQLite and calls of the system.",
  ],
});
