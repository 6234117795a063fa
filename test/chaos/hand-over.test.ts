/** Real nodes with default settings that are stopped politely: what has no lease lives on (semantics.md, Stop). */
import { expect, test } from "vitest";
import { DiscoveryService } from "../../gen/waymark/discovery/v1/discovery_pb.js";
import { ClusterHome } from "../fakes/cluster-home.ts";
import { type NodeProcess, withClient } from "../fakes/node-process.ts";
import { hasStrace, slowDisk } from "../fakes/slow-disk.ts";
import { allEntries } from "../fakes/write-storm.ts";

const { register, unregister } = DiscoveryService.method;
/** All as it is by default, but for how long a stop may take: on a busy machine nobody may have taken everything after ten seconds. */
const PATIENT = { node: { stop_timeout: "2m" } };

const COUNT = 300;
const NAMES = ["a", "b", "c"] as const;
const key = (instanceId: string) => ({ namespace: "svc.shop", name: "web", instanceId });

async function startAll(home: ClusterHome): Promise<NodeProcess[]> {
  const first = await home.start("a");
  return [first, ...(await Promise.all([home.start("b", [first]), home.start("c", [first])]))];
}

async function fill(node: NodeProcess): Promise<void> {
  const entries = Array.from({ length: COUNT }, (_, i) => ({ key: key(`${i}`), targets: [{ host: "10.0.0.1", port: 80 }] }));
  await withClient(node, (client) => client.call(register, { entries, staticLease: true }));
}

function seen(node: NodeProcess): Promise<number> {
  return withClient(node, async (client) => (await allEntries(client, "svc")).length);
}

async function expectAll(nodes: readonly NodeProcess[], count: number): Promise<void> {
  for (const node of nodes) await expect.poll(() => seen(node), { message: `entries at ${node.nodeId}` }).toBe(count);
}

test("a rolling restart with default settings loses no static entry, and what is unregistered meanwhile stays gone", async () => {
  using home = new ClusterHome(PATIENT);
  const nodes = await startAll(home);
  try {
    await fill(nodes[0] as NodeProcess);
    await expectAll(nodes, COUNT);
    const taken: string[] = [];
    for (const [i, name] of NAMES.entries()) {
      const others = nodes.filter((_, j) => j !== i);
      const stopping = nodes[i]?.stop("SIGTERM");
      const gone = others[0] as NodeProcess;
      await withClient(gone, (client) => client.call(unregister, { keys: [{ ...key(`${i}`), kind: 1 }] }));
      const { stderr = "" } = (await stopping) ?? {};
      taken.push(/static entries handed over/.exec(stderr)?.[0] ?? stderr);
      await expectAll(others, COUNT - i - 1);
      nodes[i] = await home.start(name, others);
      await expectAll(nodes, COUNT - i - 1);
    }
    expect(taken).toEqual(NAMES.map(() => "static entries handed over"));
  } finally {
    for (const node of nodes) await node[Symbol.asyncDispose]();
  }
});

test("scaled down to one node, and then to none and up again, the cluster has every static entry", async () => {
  using home = new ClusterHome(PATIENT);
  const nodes = await startAll(home);
  await fill(nodes[1] as NodeProcess);
  await expectAll(nodes, COUNT);
  await nodes[1]?.stop("SIGTERM");
  await expectAll([nodes[0] as NodeProcess, nodes[2] as NodeProcess], COUNT);
  await nodes[2]?.stop("SIGTERM");
  // Not as orphans: they are its own now.
  const own = async () =>
    (await withClient(nodes[0] as NodeProcess, (client) => allEntries(client, "svc"))).filter(({ nodeId }) => nodeId === "a");
  expect(await own()).toHaveLength(COUNT);
  await nodes[0]?.stop("SIGTERM");
  await using alone = await home.start("a");
  await expectAll([alone], COUNT);
});

test("all stopped at once: nobody takes what the others have, and each has it when it is back", async () => {
  using home = new ClusterHome(PATIENT);
  const nodes = await startAll(home);
  await fill(nodes[2] as NodeProcess);
  await expectAll(nodes, COUNT);
  await Promise.all(nodes.map((node) => node.stop("SIGTERM")));
  const again = await startAll(home);
  try {
    await expectAll(again, COUNT);
  } finally {
    for (const node of again) await node[Symbol.asyncDispose]();
  }
});

test.skipIf(!hasStrace)("a node on a slow disk is waited for, as long as the stop may take", async () => {
  using home = new ClusterHome(PATIENT);
  await using leaver = await home.start("a");
  await fill(leaver);
  // Its files are made on a quick disk.
  await (await home.start("b")).stop("SIGTERM");
  // It has taken nothing before its first fsync is over: that is twice as long as a hand-over lasts in the shortest stop.
  await using taker = await home.start("b", [leaver], slowDisk(1000));
  await expectAll([taker], COUNT);
  expect((await leaver.stop("SIGTERM")).stderr).toContain("static entries handed over");
});
