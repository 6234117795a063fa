/** Eight real nodes that find each other by one of them, or by hubs; and after some have left and died nobody of those is listed anywhere. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { eventually } from "../fakes/faulty-cluster.ts";
import { GrpcDoor } from "../fakes/node.ts";
import { type NodeProcess, startNodeProcess } from "../fakes/node-process.ts";

const HOME = mkdtempSync(join(tmpdir(), "waymark-eight-"));
afterAll(() => rmSync(HOME, { recursive: true, force: true }));

const CONFIG = join(HOME, "node.json");
const fabric = { interval: "400ms", ping_timeout: "250ms", join_timeout: "3s" };
writeFileSync(CONFIG, JSON.stringify({ fabric, observability: { log_level: "error" } }));

const COUNT = 8;

async function start(i: number, seed: NodeProcess | undefined, port = "0"): Promise<NodeProcess> {
  const joins = seed === undefined ? [] : ["--join", seed.listeners["fabric"] ?? ""];
  const self = ["--node-id", `n${i}`, "--cluster-id", "c1", "--data-dir", join(HOME, `n${i}`), "--config", CONFIG];
  return startNodeProcess([...self, "--fabric-port", port, ...joins]);
}

/** Each of these lists exactly the others, by the rpc that clients ask and by the map of the cluster. */
async function listEachOther(nodes: readonly NodeProcess[]): Promise<void> {
  const ids = nodes.map(({ nodeId }) => nodeId).toSorted();
  for (const node of nodes) {
    using door = new GrpcDoor(node.grpc);
    await eventually(`${node.nodeId} lists ${ids.join()}`, async () => {
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
])(
  "$shape of eight: all list all; after leaves, deaths and returns nobody who is gone is listed",
  async ({ seedOf }) => {
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
  },
  120_000,
);
