/** Real nodes with default settings that are stopped politely: what has no lease lives on (semantics.md, Stop). */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { DiscoveryService } from "../../gen/waymark/discovery/v1/discovery_pb.js";
import { connect } from "../../src/client/index.ts";
import { type NodeProcess, startNodeProcess } from "../fakes/node-process.ts";
import { allEntries } from "../fakes/write-storm.ts";

const { register, unregister } = DiscoveryService.method;
const HOME = mkdtempSync(join(tmpdir(), "waymark-hand-over-"));
afterAll(() => rmSync(HOME, { recursive: true, force: true }));

const COUNT = 300;
const NAMES = ["a", "b", "c"] as const;
const key = (instanceId: string) => ({ namespace: "svc.shop", name: "web", instanceId });

async function using<T>(node: NodeProcess, use: (client: ReturnType<typeof connect>) => Promise<T>): Promise<T> {
  const client = connect({ servers: [node.grpc] });
  try {
    return await use(client);
  } finally {
    client.close();
  }
}

function start(home: string, name: string, seeds: readonly (NodeProcess | undefined)[]): Promise<NodeProcess> {
  const joins = seeds.flatMap((seed) => (seed === undefined ? [] : ["--join", seed.listeners["fabric"] ?? ""]));
  return startNodeProcess(["--node-id", name, "--data-dir", join(HOME, home, name), ...joins]);
}

async function startAll(home: string): Promise<NodeProcess[]> {
  const first = await start(home, "a", []);
  return [first, ...(await Promise.all([start(home, "b", [first]), start(home, "c", [first])]))];
}

async function fill(node: NodeProcess): Promise<void> {
  const entries = Array.from({ length: COUNT }, (_, i) => ({ key: key(`${i}`), targets: [{ host: "10.0.0.1", port: 80 }] }));
  await using(node, (client) => client.call(register, { entries, static: true }));
}

function seen(node: NodeProcess): Promise<number> {
  return using(node, async (client) => (await allEntries(client, "svc")).length);
}

async function expectAll(nodes: readonly NodeProcess[], count: number): Promise<void> {
  for (const node of nodes) await expect.poll(() => seen(node), { timeout: 20_000, message: `entries at ${node.nodeId}` }).toBe(count);
}

test("a rolling restart with default settings loses no static entry, and what is unregistered meanwhile stays gone", async () => {
  const nodes = await startAll("rolling");
  try {
    await fill(nodes[0] as NodeProcess);
    await expectAll(nodes, COUNT);
    const taken: string[] = [];
    for (const [i, name] of NAMES.entries()) {
      const others = nodes.filter((_, j) => j !== i);
      const stopping = nodes[i]?.stop("SIGTERM");
      const gone = others[0] as NodeProcess;
      await using(gone, (client) => client.call(unregister, { keys: [{ ...key(`${i}`), kind: 1 }] }));
      const { stderr = "" } = (await stopping) ?? {};
      taken.push(/static entries handed over/.exec(stderr)?.[0] ?? stderr);
      await expectAll(others, COUNT - i - 1);
      nodes[i] = await start("rolling", name, others);
      await expectAll(nodes, COUNT - i - 1);
    }
    expect(taken).toEqual(NAMES.map(() => "static entries handed over"));
  } finally {
    for (const node of nodes) await node[Symbol.asyncDispose]();
  }
}, 120_000);

test("scaled down to one node, and then to none and up again, the cluster has every static entry", async () => {
  const nodes = await startAll("down");
  await fill(nodes[1] as NodeProcess);
  await expectAll(nodes, COUNT);
  await nodes[1]?.stop("SIGTERM");
  await expectAll([nodes[0] as NodeProcess, nodes[2] as NodeProcess], COUNT);
  await nodes[2]?.stop("SIGTERM");
  // Not as orphans: they are its own now.
  const own = async () =>
    (await using(nodes[0] as NodeProcess, (client) => allEntries(client, "svc"))).filter(({ nodeId }) => nodeId === "a");
  expect(await own()).toHaveLength(COUNT);
  await nodes[0]?.stop("SIGTERM");
  await using alone = await start("down", "a", []);
  await expectAll([alone], COUNT);
}, 120_000);

test("all stopped at once: nobody takes what the others have, and each has it when it is back", async () => {
  const nodes = await startAll("all");
  await fill(nodes[2] as NodeProcess);
  await expectAll(nodes, COUNT);
  await Promise.all(nodes.map((node) => node.stop("SIGTERM")));
  const again = await startAll("all");
  try {
    await expectAll(again, COUNT);
  } finally {
    for (const node of again) await node[Symbol.asyncDispose]();
  }
}, 120_000);
