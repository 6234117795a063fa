/**
 * What memory does an entry take, and a node without any? Resident memory of a node with a data directory beside etcd, each as users run it,
 * some time after everything was registered: nobody is told to collect garbage. `npm run bench -- memory [--sizes 100000,1000000]
 * [--settle-seconds 60]`. What lives in our node after a collection stands beside it.
 */
import { parseArgs } from "node:util";
import { pinSelf, type Running, scratchDir, startNode } from "./_processes.ts";
import { type Goal, report, round } from "./_results.ts";
import { loadNode } from "./_work.ts";
import { loadEtcd, sizesOf, startEtcd } from "./adapters/etcd.ts";

const { values } = parseArgs({
  options: { sizes: { type: "string", default: "100000,1000000" }, "settle-seconds": { type: "string", default: "60" } },
});
const SIZES = values.sizes.split(",").map(Number);
const SETTLE_MS = Number(values["settle-seconds"]) * 1000;
const MIB = 1024 * 1024;

interface Row {
  readonly who: string;
  readonly entries: number;
  readonly "RSS MiB": number;
  readonly "RSS all in, B an entry": number | string;
}

function settled(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, SETTLE_MS));
}

function rowOf(who: string, entries: number, rssKiB: number): Row {
  const bytes = rssKiB * 1024;
  return { who, entries, "RSS MiB": round(bytes / MIB), "RSS all in, B an entry": entries === 0 ? "-" : round(bytes / entries) };
}

async function measure(entries: number): Promise<readonly Row[]> {
  console.error(`${entries} entries`);
  const [node, etcd] = [await startNode({ dataDir: scratchDir("memory"), isPlain: true }), await startEtcd()];
  if (entries > 0) {
    await loadNode(node, entries);
    const sizes = await sizesOf(node, etcd);
    if (etcd !== undefined) await loadEtcd(etcd, entries, sizes);
  }
  await settled();
  const servers: readonly Running[] = etcd === undefined ? [node] : [node, etcd];
  const rows = servers.map((server) => rowOf(server.name, entries, server.rssKiB()));
  for (const server of servers) await server.stop("SIGKILL");
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
const rows: Row[] = [];
for (const entries of [0, ...SIZES]) rows.push(...(await measure(entries)));
const lives: Awaited<ReturnType<typeof living>>[] = [];
for (const entries of SIZES) lives.push(await living(entries));

function rssOf(who: Running["name"], entries: number): number | undefined {
  return rows.find((row) => row.who === who && row.entries === entries)?.["RSS MiB"];
}

function ratioGoal(entries: number, atLeast: number): Goal {
  const [ours, theirs] = [rssOf("waymark", entries), rssOf("etcd", entries)];
  const isMeasured = ours !== undefined && theirs !== undefined;
  return {
    name: `etcd's resident memory over ours, ${entries} entries on disk`,
    value: isMeasured ? theirs / ours : undefined,
    unit: "×",
    atLeast,
    ...(!isMeasured && { note: "not measured: the peer is not installed, or this size was not asked for" }),
  };
}

report({
  name: "memory",
  isKept: SIZES.length > 1 && SETTLE_MS >= 60_000,
  tables: { "resident memory": rows.map((row) => ({ ...row })), "what lives in our node after a collection, beyond an empty one": lives },
  goals: [
    ratioGoal(100_000, 0.6),
    ratioGoal(1_000_000, 1.1),
    { name: "resident memory of an empty node", value: rssOf("waymark", 0), unit: "MiB", atMost: round((140 * 1e6) / MIB) },
  ],
  notes: [
    "Ten instances a service, one target, two tags, registered 1,000 a request through gRPC with static leases; etcd gets them one a put. As many bytes an entry at both.",
    `All in is the whole process's resident memory over the entries, ${SETTLE_MS / 1000} s after the last was registered. Nobody is told to collect garbage.`,
    "For etcd: pages of its database file that it has mapped are resident only while the system leaves them there. For us: it keeps history.",
  ],
});
