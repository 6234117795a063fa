/**
 * How long until a node that was killed is ready again? `npm run bench -- restart [--sizes 10000,100000,1000000]
 * [--rounds 3]`: time from spawn to the ready line, with everything registered before read back from the journal.
 */
import { parseArgs } from "node:util";
import { type Node, neighbourShare, pinSelf, scratchDir, startNode } from "./_processes.ts";
import { type Goal, quiet, report, round, spread } from "./_results.ts";
import { ask, exactQuery, fail, itemsIn, loadNode, PATH } from "./_work.ts";

const { values } = parseArgs({
  options: { sizes: { type: "string", default: "10000,100000,1000000" }, rounds: { type: "string", default: "3" } },
});
const ROUNDS = Number(values.rounds);

async function measure(entries: number) {
  const dataDir = scratchDir("restart");
  let node: Node = await startNode({ dataDir });
  const emptyMs = node.startMs;
  await loadNode(node, entries);
  const readyMs: number[] = [];
  const cpuMs: number[] = [];
  let others = 0;
  for (let i = 0; i < ROUNDS; i++) {
    await node.stop("SIGKILL");
    const share = await neighbourShare([], async () => {
      node = await startNode({ dataDir });
    });
    others = Math.max(others, share - node.cpuMs() / node.startMs);
    readyMs.push(node.startMs);
    cpuMs.push(node.cpuMs());
    if (itemsIn(node, await ask(node, PATH.query, exactQuery(entries / 10 - 1))) !== 10) fail();
  }
  const rssMiB = round(node.rssKiB() / 1024);
  await node.stop();
  return {
    entries,
    "ready after ms": spread(readyMs),
    "CPU ms": spread(cpuMs),
    "empty node ms": round(emptyMs),
    "RSS MiB": rssMiB,
    "others' share of the core": round(Math.max(0, others)),
  };
}

pinSelf();
const rows = [];
for (const entries of values.sizes.split(",").map(Number)) rows.push(await measure(entries));
const at100k = rows.find((row) => row.entries === 100_000);
const goal: Goal = {
  name: "ready after kill -9 with 100,000 entries",
  value: at100k === undefined ? undefined : at100k["ready after ms"].median / 1000,
  unit: "s",
  atMost: 2,
};
report({
  name: "restart",
  tables: { "time to ready": rows },
  goals: [quiet(goal, at100k?.["others' share of the core"] ?? 0)],
  notes: [
    "From spawn to the ready line: Node itself and our modules (about what the empty node took), then the journal. The process is killed with SIGKILL first.",
  ],
});
