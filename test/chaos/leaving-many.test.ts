/** Real nodes with default settings, of which one has 100,000 static entries and is stopped politely (semantics.md, Stop). */
import { expect, test } from "vitest";
import { DiscoveryService } from "../../gen/waymark/discovery/v1/discovery_pb.js";
import { ClusterHome } from "../fakes/cluster-home.ts";
import { type NodeProcess, withClient } from "../fakes/node-process.ts";
import { allEntries } from "../fakes/write-storm.ts";

const { register } = DiscoveryService.method;
const COUNT = 100_000;
const BATCH = 1000;
const WAIT = { timeout: 300_000 };

function fill(node: NodeProcess): Promise<void> {
  return withClient(node, async (client) => {
    for (let from = 0; from < COUNT; from += BATCH) {
      const key = (i: number) => ({ namespace: "svc.shop", name: "web", instanceId: `${from + i}` });
      const entries = Array.from({ length: BATCH }, (_, i) => ({ key: key(i), targets: [{ host: "10.0.0.1", port: 80 }] }));
      await client.call(register, { entries, staticLease: true }, { timeoutMs: 60_000 });
    }
  });
}

async function seenAt(node: NodeProcess): Promise<number> {
  return withClient(node, async (client) => new Set((await allEntries(client, "svc")).map(({ key }) => key?.instanceId)).size);
}

test("100,000 static entries are handed over within the stop's time, or the node says that it restarts: others show all of them", async () => {
  using home = new ClusterHome({ limits: { max_request_entries: BATCH } });
  await using a = await home.start("a");
  const leaver = await home.start("b", [a]);
  await using c = await home.start("c", [a]);
  await fill(leaver);
  for (const node of [a, c]) await expect.poll(() => seenAt(node), WAIT).toBe(COUNT);
  const startMs = performance.now();
  const { stderr } = await leaver.stop("SIGTERM");
  const tookMs = Math.round(performance.now() - startMs);
  const line = stderr.split("\n").find((each) => each.includes("static_entries_")) ?? stderr;
  console.error(`stopped after ${tookMs} ms: ${line}`);
  expect(line).toMatch(/static_entries_(handed_over|left)/);
  const counts = [/"takenCount":(\d+)/, /"leftCount":(\d+)/].map((count) => Number(count.exec(line)?.[1]));
  expect((counts[0] ?? 0) + (counts[1] ?? 0)).toBe(COUNT);
  for (const node of [a, c]) await expect.poll(() => seenAt(node), WAIT).toBe(COUNT);
}, 900_000);
