/** The mesh's numbers at a scrape, read from real fabrics in virtual time. */
import { expect, test } from "vitest";
import type { FabricDriver } from "../src/fabric/driver.io.ts";
import { FABRIC_DEFAULTS } from "../src/fabric/fabric-options.ts";
import { Metrics } from "../src/lib/metrics.ts";
import { observeMesh } from "../src/node-mesh-metrics.ts";
import { FabricWorld, type WorldNode } from "./fakes/fabric-world.ts";

const ROWS = [
  { direction: "sent", kind: "policyHead", frameCount: 2, sizeBytes: 30 },
  { direction: "sent", kind: "policyPart", frameCount: 3, sizeBytes: 500 },
  { direction: "received", kind: "pushPull", frameCount: 1, sizeBytes: 70 },
] as const;

function scraped(count: number) {
  const world = new FabricWorld();
  const options = { lives: { ...FABRIC_DEFAULTS.lives, orphanGraceMs: 20_000 } };
  const nodes = Array.from({ length: count }, (_, i) => world.start({ nodeId: `n${i}`, seeds: i === 0 ? [] : ["n0:1"], options }));
  world.runUntil(() => nodes.every((node) => node.upLinks().length === count - 1), 10_000);
  for (const node of nodes) node.put(node.spec.nodeId);
  world.run(5000);
  const metrics = new Metrics();
  const [node] = nodes;
  if (node === undefined) throw new Error("no node");
  // Of the driver only these two are asked.
  const driver = { counts: () => ({ connections: 3 }), stats: () => ROWS } as unknown as FabricDriver;
  observeMesh({ metrics, fabric: node.fabric, driver, now: () => world.time() });
  /** Name with labels to value, of what is not 0. */
  const scrape = (prefix: string): Readonly<Record<string, number>> => {
    const found: Record<string, number> = {};
    for (const family of metrics.collect()) {
      if (!family.name.startsWith(prefix) || !("series" in family)) continue;
      for (const { labels, value } of family.series.values())
        if (value !== 0) found[[family.name, ...Object.values(labels)].join(" ")] = value;
    }
    return found;
  };
  return { world, nodes, node, scrape };
}

test("members by status, this node among the alive; links by state; frames and bytes by kind, the policy's together", () => {
  const { scrape } = scraped(3);
  expect(scrape("mesh_gossip_members")).toEqual({ "mesh_gossip_members alive": 3 });
  expect(scrape("mesh_links")).toEqual({ "mesh_links up": 2 });
  expect(scrape("mesh_link_frames")).toEqual({
    "mesh_link_frames_total sent policy": 5,
    "mesh_link_frames_total received push_pull": 1,
  });
  expect(scrape("mesh_link_bytes")).toEqual({
    "mesh_link_bytes_total sent policy": 530,
    "mesh_link_bytes_total received push_pull": 70,
  });
  expect(scrape("waymark_connections")).toMatchObject({ "waymark_connections fabric": 3 });
  expect(scrape("mesh_replication_lag")).toEqual({});
  const exchanged = scrape("mesh_vector_exchanges");
  expect(exchanged["mesh_vector_exchanges_total equal"]).toBeGreaterThan(5);
});

const PROOF = { address: "9.9.9.9:9", isLoopback: true, certificate: undefined, clusterToken: "secret" } as const;

/** Somebody probes the node as if it were another of that id. */
function probed(world: FabricWorld, node: WorldNode, targetNodeId: string, clusterToken: string): void {
  const request = { kind: "probe" as const, from: { nodeId: "m", generation: 1 }, targetNodeId, updates: [] };
  node.fabric.handle({ kind: "asked", call: 9999, request, proof: { ...PROOF, clusterToken } }, world.time(), []);
}

test("calls are counted by how they ended: a stranger's and one that is meant for another are refused", () => {
  const { world, nodes, node, scrape } = scraped(2);
  const quiet = scrape("mesh_gossip_messages");
  expect(Object.keys(quiet)).toEqual(["mesh_gossip_messages_total sent ok", "mesh_gossip_messages_total received ok"]);
  expect(Math.min(...Object.values(quiet))).toBeGreaterThan(5);
  probed(world, node, "n0", "guessed");
  probed(world, node, "other", "secret");
  probed(world, node, "n0", "secret");
  expect(scrape("mesh_gossip_messages")).toEqual({
    ...quiet,
    "mesh_gossip_messages_total received ok": (quiet["mesh_gossip_messages_total received ok"] ?? 0) + 1,
    "mesh_gossip_messages_total received refused": 2,
  });
  const [, other] = nodes;
  if (other === undefined) throw new Error("no node");
  world.kill(other, "machine");
  world.run(5000);
  expect(scrape("mesh_gossip_messages")["mesh_gossip_messages_total sent failed"]).toBeGreaterThan(2);
});

test("an origin whose node died is counted as orphaned, then as hidden, and no longer when it is back", () => {
  const { world, nodes, scrape } = scraped(4);
  const dying = nodes[3];
  if (dying === undefined) throw new Error("no node");
  world.kill(dying, "machine");
  world.runUntil(() => scrape("mesh_gossip_members")["mesh_gossip_members suspect"] === 1, 30_000);
  world.runUntil(() => scrape("mesh_gossip_members")["mesh_gossip_members dead"] === 1, 60_000);
  expect(scrape("mesh_gossip_members")).toEqual({ "mesh_gossip_members alive": 3, "mesh_gossip_members dead": 1 });
  expect(scrape("mesh_orphan")).toEqual({ "mesh_orphans orphaned": 1 });
  world.run(21_000);
  expect(scrape("mesh_orphan")).toEqual({ "mesh_orphans hidden": 1 });
  world.start({ nodeId: "n3", seeds: ["n0:1"], disk: dying });
  world.runUntil(() => Object.keys(scrape("mesh_orphan")).length === 0, 30_000);
});

test("a cluster of which most vanished is counted as protected, and a silent peer is lag in seconds", () => {
  const { world, nodes, scrape } = scraped(5);
  for (const node of nodes.slice(2)) world.kill(node, "machine");
  world.run(4500);
  const { mesh_replication_lag_seconds: lagSeconds = 0 } = scrape("mesh_replication_lag");
  expect(lagSeconds).toBeGreaterThan(4);
  expect(lagSeconds).toBeLessThan(6);
  world.runUntil(() => scrape("mesh_orphan_protected")["mesh_orphan_protected"] === 1, 60_000);
  expect(scrape("mesh_orphans")).toEqual({ "mesh_orphans orphaned": 3 });
});
