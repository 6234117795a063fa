/** Real nodes of which one is killed and stays away for longer than `origin_forget`, the shortest there is (semantics.md, Orphans). */
import { durationFromMs } from "@bufbuild/protobuf/wkt";
import { type ExpectStatic, test } from "vitest";
import { DiscoveryService } from "../../gen/waymark/discovery/v1/discovery_pb.js";
import { ClusterHome } from "../fakes/cluster-home.ts";
import { type NodeProcess, withClient } from "../fakes/node-process.ts";
import { allEntries } from "../fakes/write-storm.ts";

const { register, unregister } = DiscoveryService.method;
const key = (name: string, i: number) => ({ namespace: "svc.shop", name, instanceId: `${i}`, kind: 1 });
const MIN_TOMBSTONES = 100;
/** For what takes half a minute and more on a quiet machine. */
const WAIT = { timeout: 300_000 };

function put(node: NodeProcess, name: string, count: number): Promise<unknown> {
  const entries = Array.from({ length: count }, (_, i) => ({ key: key(name, i), targets: [{ host: "10.0.0.1", port: 80 }] }));
  return withClient(node, (client) => client.call(register, { entries, staticLease: true }));
}

function takeOut(node: NodeProcess, name: string, count: number): Promise<unknown> {
  return withClient(node, (client) => client.call(unregister, { keys: Array.from({ length: count }, (_, i) => key(name, i)) }));
}

function names(node: NodeProcess): Promise<readonly string[]> {
  return withClient(node, async (client) =>
    [...new Set((await allEntries(client, "svc")).map((entry) => entry.key?.name ?? ""))].toSorted(),
  );
}

interface Away {
  /** Of the test itself: two of them run beside each other. */
  readonly expect: ExpectStatic;
  /** Entries that are taken out. */
  readonly goneCount?: number;
  readonly meanwhile: (nodes: readonly [NodeProcess, NodeProcess]) => Promise<void>;
  /** What is there everywhere at the end, and how many of its static entries the one that was away says to have ended. */
  readonly left: readonly string[];
  readonly endedCount: number;
}

/** Three nodes; the last one is killed, and some of its entries are taken out while it is away and then forgotten. */
async function away({ expect, goneCount = 3, meanwhile, left, endedCount }: Away): Promise<void> {
  const catalog = { tombstone_ttl: "1s", min_tombstones: MIN_TOMBSTONES };
  using home = new ClusterHome({ fabric: { origin_forget: "1m", orphan_grace: "5s", snapshot_interval: "2s" }, catalog });
  await using a = await home.start("a");
  await using b = await home.start("b", [a]);
  const lost = await home.start("c", [a, b]);
  try {
    await put(lost, "gone", goneCount);
    await put(lost, "there", 3);
    for (const node of [a, b]) await expect.poll(() => names(node)).toEqual(["gone", "there"]);
  } finally {
    await lost.stop("SIGKILL");
  }
  await takeOut(a, "gone", goneCount);
  await Promise.all([a, b].map((node) => node.command.errorLine(/origin forgotten/, 300_000)));
  await meanwhile([a, b]);
  await using back = await home.start("c", [b]);
  // Everybody is to have heard of everything before it is looked at.
  await put(back, "late", 1);
  const shown = () => Promise.all([a, b, back].map(names));
  await expect.poll(shown, WAIT).toEqual([left, left, left]);
  await expect.poll(() => back.command.stderr.split("static entry ended").length - 1).toBe(endedCount);
  // And so it stays.
  for (let look = 0; look < 15; look++) {
    await new Promise((resolve) => setTimeout(resolve, 200));
    expect(await shown()).toEqual([left, left, left]);
  }
}

test.concurrent("what was unregistered while its node was away for longer than origin_forget stays gone, the rest is back", async ({
  expect,
}) => {
  const meanwhile = async ([, b]: readonly [NodeProcess, NodeProcess]) => {
    // Half a minute after everybody is together old tombstones go by age: those of leases that ran out, too.
    const entries = Array.from({ length: 5 }, (_, i) => ({ key: key("brief", i), targets: [{ host: "10.0.0.1", port: 80 }] }));
    await withClient(b, (client) => client.call(register, { entries, ttl: durationFromMs(1000) }));
    await expect.poll(() => tombstones(b)).toBeGreaterThanOrEqual(5);
    await expect.poll(() => tombstones(b), WAIT).toBeLessThanOrEqual(3);
  };
  await away({ expect, meanwhile, left: ["late", "there"], endedCount: 3 });
});

test.concurrent("other entries that come and go meanwhile, more than there is room for, hide nothing of it", async ({ expect }) => {
  const meanwhile = async (nodes: readonly [NodeProcess, NodeProcess]) => {
    for (const node of nodes) {
      await put(node, `many-${node.nodeId}`, 4 * MIN_TOMBSTONES);
      await takeOut(node, `many-${node.nodeId}`, 4 * MIN_TOMBSTONES);
    }
    for (const node of nodes) await expect.poll(() => tombstones(node), WAIT).toBeLessThanOrEqual(MIN_TOMBSTONES);
  };
  await away({ expect, meanwhile, left: ["late", "there"], endedCount: 3 });
});

test.concurrent("where tombstones for it had no room, a mark keeps it all hidden, and its node reports the rest", async ({ expect }) => {
  const meanwhile = async (nodes: readonly [NodeProcess, NodeProcess]) => {
    for (const node of nodes) await expect.poll(() => tombstones(node), WAIT).toBeLessThanOrEqual(MIN_TOMBSTONES);
  };
  const goneCount = 4 * MIN_TOMBSTONES;
  await away({ expect, goneCount, meanwhile, left: ["late"], endedCount: goneCount + 3 });
});

async function tombstones(node: NodeProcess): Promise<number> {
  const response = await fetch(`http://${node.listeners["http"]}/metrics`);
  return Number(/^waymark_catalog_tombstones\S* (\d+)/m.exec(await response.text())?.[1] ?? "-1");
}
