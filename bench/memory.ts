/**
 * What memory does an entry take, and a node without any? Resident memory of a node with a data directory beside etcd, each as users run it,
 * some time after everything was registered: nobody is told to collect garbage. `npm run bench -- memory [--sizes 100000,1000000]
 * [--settle-seconds 60]`; it takes about four minutes. What lives in our node after a collection stands beside it.
 */
import { argsOf } from "./_args.ts";
import { pinSelf, type Running, scratchDir, startNode } from "./_processes.ts";
import { type Goal, report, round } from "./_results.ts";
import { fail, loadNode } from "./_work.ts";
import { loadEtcd, sizesOf, startEtcd } from "./adapters/etcd.ts";

const values = argsOf({ sizes: [100_000, 1_000_000], "settle-seconds": 60 });
const SIZES = values.sizes;
const SETTLE_MS = values["settle-seconds"] * 1000;
const MIB = 1024 * 1024;

interface Row {
  readonly who: string;
  readonly entries: number;
  readonly "RSS MiB": number;
  readonly "RSS all in, B an entry": number | string;
}

function rowOf(who: string, entries: number, rssKiB: number): Row {
  const bytes = rssKiB * 1024;
  return { who, entries, "RSS MiB": round(bytes / MIB), "RSS all in, B an entry": entries === 0 ? "-" : round(bytes / entries) };
}

interface Pair {
  readonly entries: number;
  readonly servers: readonly Running[];
}

async function filled(entries: number): Promise<Pair> {
  console.error(`${entries} entries`);
  const [node, etcd] = [await startNode({ dataDir: scratchDir("memory"), isPlain: true }), await startEtcd()];
  if (entries > 0) {
    await loadNode(node, entries);
    const sizes = await sizesOf(node, etcd);
    if (etcd !== undefined) await loadEtcd(etcd, entries, sizes);
  }
  return { entries, servers: etcd === undefined ? [node] : [node, etcd] };
}

/** All sizes wait together: what one process keeps does not change what another keeps. */
async function measure(sizes: readonly number[]): Promise<readonly Row[]> {
  const pairs: Pair[] = [];
  for (const entries of sizes) pairs.push(await filled(entries));
  await new Promise((resolve) => setTimeout(resolve, SETTLE_MS));
  const rows = pairs.flatMap(({ entries, servers }) => servers.map((server) => rowOf(server.name, entries, server.rssKiB())));
  for (const { servers } of pairs) for (const server of servers) await server.stop("SIGKILL");
  return rows;
}

/** What lives after a collection: V8's heap, and buffers outside it. */
async function living(entries: number) {
  const node = await startNode({ dataDir: scratchDir("memory") });
  await node.probe("gc");
  const before = await node.probe("gc");
  await loadNode(node, entries);
  await node.probe("gc");
  const after = await node.probe("gc");
  const { entryBytes } = await sizesOf(node, undefined);
  await node.stop("SIGKILL");
  return {
    entries,
    "entry bytes": entryBytes,
    "heap B": round((after.heapBytes - before.heapBytes) / entries),
    "buffers B": round((after.externalBytes - before.externalBytes) / entries),
    "RSS MiB": round(after.rssBytes / MIB),
  };
}

pinSelf();
const rows = await measure([0, ...SIZES]);
const lives: Awaited<ReturnType<typeof living>>[] = [];
for (const entries of SIZES) lives.push(await living(entries));

function rssOf(who: Running["name"], entries: number): number | undefined {
  return rows.find((row) => row.who === who && row.entries === entries)?.["RSS MiB"];
}

function ratioGoal(entries: number, atLeast: number): Goal {
  const [ours, theirs] = [rssOf("waymark", entries), rssOf("etcd", entries)];
  const work = `memory for ${entries.toLocaleString("en-US")} entries on disk`;
  const beside = "etcd, the same entries";
  const goal = { name: `${work}, beside ${beside}`, unit: "×", atLeast };
  if (ours === undefined || theirs === undefined)
    return { ...goal, value: undefined, note: "not measured: the peer is not installed, or this size was not asked for" };
  return { ...goal, value: theirs / ours, shown: { work, beside, unit: "MiB resident", ours, theirs } };
}

/** Our own limit; etcd stands beside it to be seen. */
function emptyGoal(): Goal {
  const [ours, theirs] = [rssOf("waymark", 0) ?? fail(), rssOf("etcd", 0)];
  const shown = {
    work: "memory of an empty node",
    unit: "MiB resident",
    ours,
    ...(theirs !== undefined && { beside: "etcd, empty", theirs }),
  };
  return { name: "resident memory of an empty node", value: ours, unit: "MiB", atMost: round((140 * 1e6) / MIB), shown };
}

report({
  name: "memory",
  isKept: SIZES.length > 1 && SETTLE_MS >= 60_000,
  tables: { "resident memory": rows.map((row) => ({ ...row })), "what lives in our node after a collection, beyond an empty one": lives },
  goals: [ratioGoal(100_000, 0.6), ratioGoal(1_000_000, 1.1), emptyGoal()],
  notes: [
    "Ten instances a service, one target, two tags, registered 1,000 a request through gRPC with static leases; etcd gets them one a put. As many bytes an entry at both.",
    `All in is the whole process's resident memory over the entries, ${SETTLE_MS / 1000} s or more after the last was registered. Nobody is told to collect garbage.`,
    "For etcd: pages of its database file that it has mapped are resident only while the system leaves them there. For us: it keeps history.",
  ],
});
