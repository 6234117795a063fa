/** Real nodes of which one is killed and stays away for longer than `origin_forget`, the shortest there is (semantics.md, Orphans). */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { durationFromMs } from "@bufbuild/protobuf/wkt";
import { afterAll, expect, test } from "vitest";
import { DiscoveryService } from "../../gen/waymark/discovery/v1/discovery_pb.js";
import { connect } from "../../src/client/index.ts";
import { type NodeProcess, startNodeProcess } from "../fakes/node-process.ts";
import { allEntries } from "../fakes/write-storm.ts";

const { register, unregister } = DiscoveryService.method;
const HOME = mkdtempSync(join(tmpdir(), "waymark-lost-origin-"));
afterAll(() => rmSync(HOME, { recursive: true, force: true }));
const key = (name: string, i: number) => ({ namespace: "svc.shop", name, instanceId: `${i}`, kind: 1 });
const MIN_TOMBSTONES = 100;

async function using<T>(node: NodeProcess, use: (client: ReturnType<typeof connect>) => Promise<T>): Promise<T> {
  const client = connect({ servers: [node.grpc] });
  try {
    return await use(client);
  } finally {
    client.close();
  }
}

function put(node: NodeProcess, name: string, count: number): Promise<unknown> {
  const entries = Array.from({ length: count }, (_, i) => ({ key: key(name, i), targets: [{ host: "10.0.0.1", port: 80 }] }));
  return using(node, (client) => client.call(register, { entries, static: true }));
}

function takeOut(node: NodeProcess, name: string, count: number): Promise<unknown> {
  return using(node, (client) => client.call(unregister, { keys: Array.from({ length: count }, (_, i) => key(name, i)) }));
}

function names(node: NodeProcess): Promise<readonly string[]> {
  return using(node, async (client) => [...new Set((await allEntries(client, "svc")).map((entry) => entry.key?.name ?? ""))].toSorted());
}

/** Three nodes; the last one is killed, and some of its entries are taken out while it is away and then forgotten. */
async function away(home: string, meanwhile: (nodes: readonly [NodeProcess, NodeProcess]) => Promise<void>) {
  const config = join(HOME, `${home}.json`);
  const catalog = { tombstone_ttl: "1s", min_tombstones: MIN_TOMBSTONES };
  writeFileSync(config, JSON.stringify({ fabric: { origin_forget: "1m", orphan_grace: "5s", snapshot_interval: "2s" }, catalog }));
  const start = (name: string, seeds: readonly NodeProcess[]) => {
    const joins = seeds.flatMap((seed) => ["--join", seed.listeners["fabric"] ?? ""]);
    return startNodeProcess(["--config", config, "--node-id", name, "--data-dir", join(HOME, home, name), ...joins]);
  };
  await using a = await start("a", []);
  await using b = await start("b", [a]);
  const lost = await start("c", [a, b]);
  try {
    await put(lost, "gone", 3);
    await put(lost, "there", 3);
    for (const node of [a, b]) await expect.poll(() => names(node), { timeout: 20_000 }).toEqual(["gone", "there"]);
  } finally {
    await lost.stop("SIGKILL");
  }
  await takeOut(a, "gone", 3);
  await Promise.all([a, b].map((node) => node.command.errorLine(/origin forgotten/, 120_000)));
  await meanwhile([a, b]);
  await using back = await start("c", [b]);
  // Everybody is to have heard of everything before it is looked at.
  await put(back, "late", 1);
  for (const node of [a, b, back]) await expect.poll(() => names(node), { timeout: 30_000, message: node.nodeId }).toContain("late");
  return { all: await Promise.all([a, b, back].map(settledNames)), ended: back.command.stderr.split("static entry ended").length - 1 };
}

/** What a node shows once that has been the same for a while. */
async function settledNames(node: NodeProcess): Promise<readonly string[]> {
  let [seen, count] = ["", 0];
  await expect
    .poll(
      async () => {
        const now = (await names(node)).join();
        count = now === seen ? count + 1 : 0;
        seen = now;
        return count;
      },
      { timeout: 60_000, interval: 200 },
    )
    .toBeGreaterThan(15);
  return seen.split(",");
}

test("what was unregistered while its node was away for longer than origin_forget stays gone, the rest is back", {
  timeout: 300_000,
}, async () => {
  const { all } = await away("kept", async ([, b]) => {
    // Half a minute after everybody is together old tombstones go by age: those of leases that ran out, too.
    const entries = Array.from({ length: 5 }, (_, i) => ({ key: key("brief", i), targets: [{ host: "10.0.0.1", port: 80 }] }));
    await using(b, (client) => client.call(register, { entries, ttl: durationFromMs(1000) }));
    await expect.poll(() => tombstones(b), { timeout: 20_000 }).toBeGreaterThanOrEqual(5);
    await expect.poll(() => tombstones(b), { timeout: 90_000 }).toBeLessThanOrEqual(3);
  });
  expect(all).toEqual([
    ["late", "there"],
    ["late", "there"],
    ["late", "there"],
  ]);
});

test("where tombstones for it had no room, a mark keeps it all hidden, and its node reports the rest", { timeout: 300_000 }, async () => {
  const { all, ended } = await away("marked", async ([a, b]) => {
    for (const node of [a, b]) {
      await put(node, `many-${node.nodeId}`, 4 * MIN_TOMBSTONES);
      await takeOut(node, `many-${node.nodeId}`, 4 * MIN_TOMBSTONES);
    }
    for (const node of [a, b]) await expect.poll(() => tombstones(node), { timeout: 60_000 }).toBeLessThanOrEqual(MIN_TOMBSTONES);
  });
  expect(all).toEqual([["late"], ["late"], ["late"]]);
  expect(ended).toBe(6);
});

async function tombstones(node: NodeProcess): Promise<number> {
  const response = await fetch(`http://${node.listeners["http"]}/metrics`);
  return Number(/^waymark_catalog_tombstones\S* (\d+)/m.exec(await response.text())?.[1] ?? "-1");
}
