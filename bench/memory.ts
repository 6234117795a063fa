/**
 * What memory does an entry take, all in? RSS of the node after registering through the API and a collection.
 * `npm run bench -- memory [--sizes 10000,100000,1000000] [--durable-sizes 100000]`.
 */
import { parseArgs } from "node:util";
import { pinSelf, scratchDir, startNode } from "./_processes.ts";
import { type Goal, report, round } from "./_results.ts";
import { loadNode } from "./_work.ts";
import { sizesOf } from "./adapters/etcd.ts";

const { values } = parseArgs({
  options: {
    sizes: { type: "string", default: "10000,100000,1000000" },
    "durable-sizes": { type: "string", default: "100000" },
  },
});
const MIB = 1024 * 1024;

function listOf(text: string): readonly number[] {
  return text === "" ? [] : text.split(",").map(Number);
}

async function measure(entries: number, isDurable: boolean) {
  const node = await startNode(isDurable ? { dataDir: scratchDir("memory") } : {});
  await node.probe("gc");
  const before = await node.probe("gc");
  await loadNode(node, entries);
  const loadedRss = node.rssKiB() * 1024;
  await node.probe("gc");
  const after = await node.probe("gc");
  const { entryBytes } = await sizesOf(node, undefined);
  await node.stop("SIGKILL");
  const heap = after.heapBytes - before.heapBytes;
  const buffers = after.externalBytes - before.externalBytes;
  return {
    entries,
    kept: isDurable ? "on disk" : "in memory",
    "entry bytes": entryBytes,
    "RSS all in, B an entry": round(after.rssBytes / entries),
    "before collecting": round(loadedRss / entries),
    "RSS beyond an empty node": round((after.rssBytes - before.rssBytes) / entries),
    "heap B": round(heap / entries),
    "buffers B": round(buffers / entries),
    "RSS MiB": round(after.rssBytes / MIB),
  };
}

pinSelf();
const rows = [];
for (const entries of listOf(values.sizes)) rows.push(await measure(entries, false));
for (const entries of listOf(values["durable-sizes"])) rows.push(await measure(entries, true));
const million = rows.find((row) => row.entries >= 1_000_000);
const goals: readonly Goal[] = [
  {
    name: "RSS an entry at 1,000,000, all in",
    value: million?.["RSS all in, B an entry"],
    unit: "B",
    atMost: 700,
    ...(million === undefined && { note: "no verdict: run with --sizes 1000000" }),
  },
];
report({
  name: "memory",
  tables: { "resident memory": rows },
  goals,
  notes: [
    "Ten instances a service, one target, two tags, registered 1,000 a request through gRPC with static leases.",
    "All in is the whole process's RSS over the entries; buffers are the slab and what else lies outside V8's heap. RSS is read after a collection, and before it as well.",
  ],
});
