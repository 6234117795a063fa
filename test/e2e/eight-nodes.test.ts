/**
 * Eight real nodes that find each other by one of them, or by hubs; and after some have left and died nobody of those is listed anywhere.
 * @module-tag night
 */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { GrpcDoor } from "../fakes/node.ts";
import { type NodeProcess, startNodeProcess } from "../fakes/node-process.ts";
import { until } from "../fakes/until.ts";

const HOME = mkdtempSync(join(tmpdir(), "waymark-eight-"));
afterAll(() => rmSync(HOME, { recursive: true, force: true }));

const CONFIG = join(HOME, "node.json");
const fabric = { interval: "400ms", ping_timeout: "250ms", join_timeout: "3s" };
writeFileSync(CONFIG, JSON.stringify({ fabric, observability: { log_level: "error" } }));

/** With fewer links than there are others. */
const SPARSE = join(HOME, "sparse.json");
writeFileSync(SPARSE, JSON.stringify({ fabric: { ...fabric, max_links: 3 }, observability: { log_level: "error" } }));

const COUNT = 8;

async function start(i: number, seed: NodeProcess | undefined, port = "0", config = CONFIG): Promise<NodeProcess> {
  const joins = seed === undefined ? [] : ["--join", seed.listeners["fabric"] ?? ""];
  const self = ["--node-id", `n${i}`, "--cluster-id", "c1", "--data-dir", join(HOME, `n${i}`), "--config", config];
  return startNodeProcess([...self, "--fabric-port", port, ...joins]);
}

/** Each of these lists exactly the others, by the rpc that clients ask and by the map of the cluster. */
async function listEachOther(nodes: readonly NodeProcess[]): Promise<void> {
  const ids = nodes.map(({ nodeId }) => nodeId).toSorted();
  for (const node of nodes) {
    using door = new GrpcDoor(node.grpc);
    await until(`${node.nodeId} lists ${ids.join()}`, async () => {
      const { response: peers } = await door.ask("listPeers", {});
      const { response: map } = await door.ask("clusterMap", {});
      const listed = ((peers["peers"] ?? []) as { nodeId: string }[]).map(({ nodeId }) => nodeId);
      const mapped = ((map["nodes"] ?? []) as { nodeId: string }[]).map(({ nodeId }) => nodeId).toSorted();
      const isRight = [...listed, node.nodeId].toSorted().join() === ids.join() && mapped.join() === ids.join();
      return isRight ? [] : [`peers ${listed.join()}`, `map ${mapped.join()}`];
    });
  }
}

test.each([
  { shape: "a star", seedOf: () => 0 },
  { shape: "two hubs", seedOf: (i: number) => (i === 1 ? 0 : i % 2) },
])("$shape of eight: all list all; after leaves, deaths and returns nobody who is gone is listed", async ({ seedOf }) => {
  const nodes: NodeProcess[] = [];
  try {
    nodes.push(await start(0, undefined));
    nodes.push(await start(1, nodes[0]));
    nodes.push(...(await Promise.all([2, 3, 4, 5, 6, 7].map((i) => start(i, nodes[seedOf(i)])))));
    expect(nodes).toHaveLength(COUNT);
    await listEachOther(nodes);
    const [left, died] = [nodes.slice(6), nodes.slice(4, 6)];
    await Promise.all(left.map((node) => node.stop("SIGTERM")));
    await Promise.all(died.map((node) => node.stop("SIGKILL")));
    await listEachOther(nodes.slice(0, 4));
    const port = died[0]?.listeners["fabric"]?.split(":")[1];
    nodes[4] = await start(4, nodes[1], port);
    await listEachOther(nodes.slice(0, 5));
  } finally {
    await Promise.all(nodes.map((node) => node[Symbol.asyncDispose]()));
    for (const { nodeId } of nodes) rmSync(join(HOME, nodeId), { recursive: true, force: true });
  }
});

/** Counters of a node, and the bytes of its links by kind. */
async function countersOf(node: NodeProcess): Promise<(name: string) => number> {
  const text = await (await fetch(`http://${node.listeners["http"]}/metrics`)).text();
  const lines = text.split("\n").filter((line) => !line.startsWith("#"));
  return (name) => {
    const sum = lines.filter((line) => line.startsWith(name)).reduce((total, line) => total + Number(line.split(" ").at(-1)), 0);
    return sum;
  };
}

async function sumOf(nodes: readonly NodeProcess[], name: string): Promise<number> {
  const counters = await Promise.all(nodes.map(countersOf));
  return counters.reduce((sum, of) => sum + of(name), 0);
}

/** How many of these names a node shows. */
async function shownAt(node: NodeProcess, tag: string): Promise<number> {
  using door = new GrpcDoor(node.grpc);
  const { response } = await door.ask("catalogQuery", { namespacePrefix: "svc", tags: [tag] });
  return ((response["items"] ?? []) as unknown[]).length;
}

test("eight with three links: a change at each every second arrives about once at every other, and what is said about it is less", async () => {
  const nodes: NodeProcess[] = [];
  try {
    nodes.push(await start(0, undefined, "0", SPARSE));
    nodes.push(...(await Promise.all([1, 2, 3, 4, 5, 6, 7].map((i) => start(i, nodes[0], "0", SPARSE)))));
    await listEachOther(nodes);
    const register = async (round: number) => {
      await Promise.all(
        nodes.map(async (node) => {
          using door = new GrpcDoor(node.grpc);
          const key = { namespace: "svc", name: "api", instanceId: node.nodeId };
          const entry = { key, tags: [`t${round}`], targets: [{ host: "10.0.0.1", port: 80 }] };
          const { code, message } = await door.ask("register", { entries: [entry], staticLease: true });
          expect(`${code} ${message}`).toBe("OK ");
        }),
      );
    };
    const everywhere = (round: number) =>
      Promise.all(
        nodes.map((node) =>
          until(`${node.nodeId} shows round ${round}`, async () => {
            const count = await shownAt(node, `t${round}`);
            return count === COUNT ? [] : [`${count} of ${COUNT}`];
          }),
        ),
      );
    await register(0);
    await everywhere(0);
    const names = [
      'mesh_records_total{direction="received"}',
      "mesh_applied_records_total",
      "mesh_whole_transfers_total",
      'mesh_link_bytes_total{direction="received",kind="records"}',
      'mesh_link_bytes_total{direction="received",kind="vector"}',
    ] as const;
    const sums = () => Promise.all(names.map((name) => sumOf(nodes, name)));
    const before = await sums();
    for (let round = 1; round <= 10; round++) {
      await register(round);
      await everywhere(round);
    }
    const after = await sums();
    const [received, applied, wholeTransfers, recordBytes, vectorBytes] = after.map((sum, i) => sum - before[i]!);
    console.log("eight with three links:", { received, applied, wholeTransfers, recordBytes, vectorBytes });
    expect(wholeTransfers).toBe(0);
    expect(applied).toBeGreaterThanOrEqual(10 * COUNT * (COUNT - 1));
    expect(received! / applied!).toBeLessThanOrEqual(1.5);
    expect(vectorBytes).toBeLessThanOrEqual(recordBytes!);
  } finally {
    await Promise.all(nodes.map((node) => node[Symbol.asyncDispose]()));
    for (const { nodeId } of nodes) rmSync(join(HOME, nodeId), { recursive: true, force: true });
  }
});
