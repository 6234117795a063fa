/** The mesh's numbers at a scrape, read from real fabrics in virtual time. */
import { expect, test } from "vitest";
import type { LinkFrame, MemberUpdate } from "../../../src/fabric/wire/messages.ts";
import type { Time } from "../../../src/lib/machine.ts";
import { Metrics } from "../../../src/lib/metrics/metrics.ts";
import { observeFabric } from "../../../src/node/fabric/metrics.ts";
import { nodeRef } from "../../fakes/fabric-values.ts";
import { FabricWorld, greetingOf, type WorldNode } from "../../fakes/fabric-world.ts";
import { FABRIC_OPTIONS } from "../../fakes/options.ts";

const ROWS = [
  { direction: "sent", kind: "policyHead", frameCount: 2, sizeBytes: 30 },
  { direction: "sent", kind: "policyPart", frameCount: 3, sizeBytes: 500 },
  { direction: "received", kind: "pushPull", frameCount: 1, sizeBytes: 70 },
] as const;

function scraped(count: number) {
  const world = new FabricWorld();
  const options = { lifecycle: { ...FABRIC_OPTIONS.lifecycle, orphanGraceMs: 20_000 } };
  const nodes = Array.from({ length: count }, (_, i) => world.start({ nodeId: `n${i}`, seeds: i === 0 ? [] : ["n0:1"], options }));
  world.runUntil(() => nodes.every((node) => node.upLinks().length === count - 1), 10_000);
  for (const node of nodes) node.put(node.spec.nodeId);
  world.run(5000);
  const metrics = new Metrics();
  const [node] = nodes;
  if (node === undefined) throw new Error("no node");
  // Of the driver only these three are asked.
  const driver = { counts: () => ({ connections: 3, refusedCalls: 4 }), stats: () => ROWS };
  const machine = { ageMs: (time: Time) => node.fabric.readiness.read(time).ageMs, refusedCount: 5 };
  metrics.onCollect(() => observeFabric({ metrics, fabric: node.fabric, driver, machine, now: () => world.time() }));
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
  // About as long as peers that are in step are silent.
  const { mesh_replication_lag_seconds: ageSeconds = 0 } = scrape("mesh_replication_lag");
  expect(ageSeconds).toBeGreaterThan(0);
  expect(ageSeconds).toBeLessThan(1.5);
  const exchanged = scrape("mesh_vector_exchanges");
  expect(exchanged["mesh_vector_exchanges_total equal"]).toBeGreaterThan(5);
});

const PROOF = { address: "9.9.9.9:9", isLoopback: true, certificate: undefined, clusterToken: "secret" } as const;

/** Somebody probes the node as if it were another of that id. */
function probed(
  world: FabricWorld,
  node: WorldNode,
  targetNodeId: string,
  clusterToken: string,
  updates: readonly MemberUpdate[] = [],
): void {
  const request = { kind: "probe" as const, from: nodeRef("m", 1, "r1"), targetNodeId, updates };
  node.fabric.handle({ kind: "asked", call: 9999, request, identity: { ...PROOF, clusterToken } }, world.time(), []);
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

test("what others sent and was not taken is counted by what it was, and news about members by what is wrong with it", () => {
  const { world, node, scrape } = scraped(2);
  const before = { "mesh_refused_total own_call": 4, "mesh_refused_total stranger": 5 };
  expect(scrape("mesh_refused_total")).toEqual(before);
  probed(world, node, "n0", "guessed");
  const link = world.strangerOpens(node);
  const give = (frame: LinkFrame) => world.input(node, { kind: "received", link, frame });
  give({ kind: "hello", hello: greetingOf("m") });
  give({ kind: "unknown" });
  give({ kind: "policyHead", head: { number: -1, hlc: 0, nodeId: "m", checksum: "" } });
  const self = { nodeId: "n0", generation: node.replica.self.generation };
  const frame = { ...self, after: 0, through: 9, floor: 0, isComplete: false, isLast: true, records: [] };
  give({ kind: "records", clusterId: "c1", region: "r1", frame });
  give({ kind: "linked", nodeIds: Array.from({ length: 300 }, (_, i) => `n${i}`) });
  const refused = { call: 1, unknown_frame: 1, policy: 1, origin: 1, peer: 1 };
  const named = Object.entries(refused).map(([what, count]) => [`mesh_refused_total ${what}`, count]);
  expect(scrape("mesh_refused_total")).toEqual({ ...before, ...Object.fromEntries(named) });

  const facts = { ...greetingOf("x"), transports: ["h2"], roles: [], labels: {}, healthScore: 0, status: "alive" as const, accuser: "" };
  const updates: readonly MemberUpdate[] = [
    { ...facts, incarnation: 1e14 },
    { ...facts, incarnation: 1, zone: "z".repeat(257) },
    { ...facts, incarnation: 1, address: "n0:1" },
  ];
  probed(world, node, "n0", "secret", updates);
  expect(scrape("mesh_refused_updates")).toEqual({
    "mesh_refused_updates_total ahead": 1,
    "mesh_refused_updates_total text": 1,
    "mesh_refused_updates_total own_address": 1,
  });
});

test("records are counted as they come and go, origins as they are fetched, sent whole and compared; seeds as they are asked", () => {
  const { world, nodes, node, scrape } = scraped(3);
  const counted = () => ({ ...scrape("mesh_records"), ...scrape("mesh_applied"), ...scrape("mesh_whole"), ...scrape("mesh_origin") });
  const before = counted();
  expect(before).toMatchObject({ "mesh_records_total sent": 2, "mesh_records_total received": 2, mesh_applied_records_total: 2 });
  world.start({ nodeId: "late", seeds: ["n0:1"] });
  world.run(2000);
  const after = counted();
  expect(after["mesh_records_total sent"]).toBeGreaterThan(2);
  world.run(300_000);
  expect(scrape("mesh_digest")["mesh_digest_exchanges_total equal"]).toBeGreaterThan(5);
  expect(scrape("mesh_digest")).not.toHaveProperty("mesh_digest_exchanges_total differed");
  const { stats } = node.fabric.replication;
  Object.assign(stats, { digestsDifferent: 2, repairs: 3, originsAsked: 4, originsGiven: 5, originsHeldBack: 6, wholeTransfers: 7 });
  expect(scrape("mesh_digest")["mesh_digest_exchanges_total differed"]).toBe(2);
  expect(scrape("mesh_origin")).toEqual({
    mesh_origin_repairs_total: 3,
    "mesh_origin_fetches_total asked": 4,
    "mesh_origin_fetches_total given": 5,
    "mesh_origin_fetches_total held_back": 6,
  });
  expect(scrape("mesh_whole")).toEqual({ mesh_whole_transfers_total: 7 });
  expect(scrape("mesh_join")).toEqual({});
  expect(nodes[1]?.fabric.membership.stats().joinAttempts).toBe(1);
});

test("a node that is called dead contradicts, and a newcomer at another's address waits: both are counted", () => {
  const { world, node, scrape } = scraped(2);
  const own = node.fabric.membership.find("n0");
  if (own === undefined) throw new Error("no self");
  const taken = { ...greetingOf("x", { address: "n1:1" }), transports: ["h2"], roles: [], labels: {}, healthScore: 0 };
  probed(world, node, "n0", "secret", [
    { ...own, status: "dead", accuser: "m" },
    { ...taken, status: "alive", incarnation: 1, accuser: "" },
  ]);
  expect(scrape("mesh_refutations")).toEqual({ mesh_refutations_total: 1 });
  expect(scrape("mesh_member_conflicts")).toEqual({ mesh_member_conflicts: 1 });
});

test("an origin whose node died is counted as orphaned, then as hidden, and no longer when it is back", () => {
  const { world, nodes, scrape } = scraped(4);
  const dying = nodes[3];
  if (dying === undefined) throw new Error("no node");
  world.kill(dying, "machine");
  world.runUntil(() => scrape("mesh_gossip_members")["mesh_gossip_members suspect"] === 1, 30_000);
  expect([scrape("mesh_gossip_queue_updates"), scrape("mesh_gossip_fanout")]).toEqual([
    { mesh_gossip_queue_updates: 1 },
    { mesh_gossip_fanout: 3 },
  ]);
  world.runUntil(() => scrape("mesh_gossip_members")["mesh_gossip_members dead"] === 1, 60_000);
  expect(scrape("mesh_gossip_members")).toEqual({ "mesh_gossip_members alive": 3, "mesh_gossip_members dead": 1 });
  expect(scrape("mesh_orphan")).toEqual({ "mesh_orphans orphaned": 1 });
  world.run(21_000);
  expect(scrape("mesh_orphan")).toEqual({ "mesh_orphans hidden": 1 });
  world.start({ nodeId: "n3", seeds: ["n0:1"], disk: dying });
  world.runUntil(() => Object.keys(scrape("mesh_orphan")).length === 0, 30_000);
});

test("an origin whose node stopped with entries that nobody took is counted as kept, until it is back", () => {
  const { world, nodes, scrape } = scraped(3);
  const stopping = nodes[2];
  const own = stopping?.fabric.membership.find("n2");
  if (stopping === undefined || own === undefined) throw new Error("no node");
  expect(scrape("mesh_kept")).toEqual({});
  world.input(stopping, { kind: "facts", facts: { ...own, keepsEntries: true } });
  world.input(stopping, { kind: "stop", reason: "restart" });
  world.run(500);
  world.kill(stopping);
  world.run(60_000);
  expect(scrape("mesh_kept")).toEqual({ mesh_kept_origins: 1 });
  expect(scrape("mesh_orphans")).toEqual({ "mesh_orphans orphaned": 1 });
  world.start({ nodeId: "n2", seeds: ["n0:1"], disk: stopping });
  world.runUntil(() => Object.keys(scrape("mesh_kept")).length === 0, 30_000);
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
