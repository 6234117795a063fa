/**
 * What a node says of itself to clients of another: what it has, and how busy it is.
 * @module-tag night
 */
import { Resolver } from "node:dns/promises";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { afterAll, expect, test } from "vitest";
import { Scope } from "../../gen/waymark/catalog/v1/entry_pb.js";
import { DiscoveryService } from "../../gen/waymark/discovery/v1/discovery_pb.js";
import { type NodeProcess, startNodeProcess } from "../fakes/node-process.ts";
import { until } from "../fakes/until.ts";

const HOME = mkdtempSync(join(tmpdir(), "waymark-facts-"));
afterAll(() => rmSync(HOME, { recursive: true, force: true }));

function config(name: string, node: object): readonly string[] {
  const path = join(HOME, `${name}.json`);
  writeFileSync(path, JSON.stringify({ node: { id: name, ...node }, fabric: { interval: "400ms", ping_timeout: "250ms" } }));
  return ["--ephemeral", "--config", path];
}

const clientOf = (node: NodeProcess) => createClient(DiscoveryService, createGrpcTransport({ baseUrl: `http://${node.grpc}` }));

test("each gateway names those of its cluster as name servers, and no longer those that have stopped", async () => {
  await using one = await startNodeProcess(config("one", {}));
  const resolver = new Resolver();
  resolver.setServers([one.listeners["dns"] ?? ""]);
  const servers = async () => (await resolver.resolveNs("waymark")).toSorted();
  expect(await servers()).toEqual(["one.node.waymark"]);
  {
    await using two = await startNodeProcess([...config("two", {}), "--join", one.listeners["fabric"] ?? ""]);
    await until("both are named", async () => (await servers()).length === 2);
    expect(await servers()).toEqual(["one.node.waymark", "two.node.waymark"]);
    expect(await resolver.resolve4("two.node.waymark")).toEqual(["127.0.0.1"]);
    expect((await two.stop()).exit).toBe(0);
  }
  await until("one is alone", async () => (await servers()).length === 1);
  expect(await servers()).toEqual(["one.node.waymark"]);
});

test("nodes are found by their resources, and a peer's load has clients and latency, not only utilisation", async () => {
  await using big = await startNodeProcess(config("big", { name: "the big one", resources: ["gpu", "ssd"] }));
  await using small = await startNodeProcess([...config("small", { resources: ["ssd"] }), "--join", big.listeners["fabric"] ?? ""]);
  const client = clientOf(small);
  const found = async (...resources: string[]) =>
    (await client.clusterMap({ resources })).nodes.map(({ key }) => key?.name ?? "").toSorted((a, b) => (a < b ? -1 : 1));
  await until("both are found", async () => (await found()).length === 2);
  expect(await found("ssd")).toEqual(["big", "small"]);
  expect(await found("gpu")).toEqual(["big"]);
  expect(await found("gpu", "ssd")).toEqual(["big"]);
  expect(await found("tape")).toEqual([]);
  const within = async (scope: Scope) => (await client.clusterMap({ scope })).nodes.length;
  expect(await within(Scope.LOCAL)).toBe(1);
  for (const scope of [Scope.UNSPECIFIED, Scope.ZONE, Scope.REGION, Scope.GLOBAL])
    expect(`${scope}: ${await within(scope)}`).toBe(`${scope}: 2`);
  expect((await client.clusterMap({ resources: ["gpu"] })).nodes[0]?.metadata).toEqual({
    "waymark.dns.zones": "waymark",
    "waymark.node.name": "the big one",
  });
  const map = await small.run(["discovery", "cluster-map", "--resource", "gpu", "-o", "json"]);
  expect(JSON.parse(map.stdout)).toMatchObject({ nodes: [{ key: { name: "big" }, resources: ["gpu", "ssd"] }] });

  // A report every five seconds says who called since the one before.
  const loadOfBig = async () => (await client.listPeers({})).peers.find(({ nodeId }) => nodeId === "big")?.load;
  await until("its load is told", async () => {
    await clientOf(big).catalogQuery({});
    return ((await loadOfBig())?.activeClients ?? 0) > 0;
  });
  const load = await loadOfBig();
  expect(load?.latencyMs).toBeGreaterThan(0);
});
