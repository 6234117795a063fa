/** The client against a real cluster of three nodes, from the first call until every node has been killed and is back. The tests run in this order. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type Client, connect } from "../../src/client/index.ts";
import { type NodeProcess, startNodeProcess } from "../fakes/node-process.ts";
import { until } from "../fakes/until.ts";

const HOME = mkdtempSync(join(tmpdir(), "waymark-client-"));
const CONFIG = join(HOME, "node.json");
writeFileSync(
  CONFIG,
  JSON.stringify({
    fabric: { interval: "400ms", ping_timeout: "250ms", join_timeout: "20s" },
    observability: { log_level: "warn" },
  }),
);

const NAMES = ["a", "b", "c"] as const;
const nodes = new Map<string, NodeProcess>();

function nodeAt(name: string): NodeProcess {
  const node = nodes.get(name);
  if (node === undefined) throw new Error(`no node ${name}`);
  return node;
}

/** Starts a node, at the addresses that it had before. */
async function start(name: string): Promise<void> {
  const before = nodes.get(name)?.listeners ?? {};
  const ports = ["grpc", "fabric"].flatMap((listener) => {
    const port = before[listener]?.split(":").at(-1);
    return port === undefined ? [] : [`--${listener}-port`, port];
  });
  const others = [...nodes.values()].filter((node) => node !== nodes.get(name)).map(({ listeners }) => listeners["fabric"] ?? "");
  const joins = others.length === 0 ? [] : ["--join", others.join()];
  nodes.set(name, await startNodeProcess(["--node-id", name, "--config", CONFIG, "--data-dir", join(HOME, name), ...ports, ...joins]));
}

let client: Client;

beforeAll(async () => {
  for (const name of NAMES) await start(name);
  client = connect({ servers: [nodeAt("a").grpc], refreshMs: 1000 });
});

afterAll(async () => {
  client.close();
  for (const node of nodes.values()) await node[Symbol.asyncDispose]();
  rmSync(HOME, { recursive: true, force: true });
});

test("from one seed the client finds all nodes, and goes on when the seed is killed", async () => {
  await client.discovery.catalogQuery({});
  await until("all nodes are found", () => client.servers.length === NAMES.length);
  expect(client.server).toBe(nodeAt("a").grpc);
  await until("calls go on without the seed", async () => {
    await nodeAt("a").stop("SIGKILL");
    await client.discovery.catalogQuery({});
    return client.server !== nodeAt("a").grpc;
  });
  expect(client.servers).toHaveLength(NAMES.length);
});
