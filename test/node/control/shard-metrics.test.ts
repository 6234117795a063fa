/** The metrics of shards over real maps. */
import { expect, test } from "vitest";
import type { ShardRow } from "../../../src/control/shards/maps.ts";
import { Metrics } from "../../../src/lib/metrics/metrics.ts";
import { hasRoom, ShardMetrics } from "../../../src/node/control/shard-metrics.ts";
import { KeptShards } from "../../fakes/kept-shards.ts";

const TIME = { monoMs: 5000, wallMs: 1_770_000_001_000 };

/** The set of `orders` with 4 shards: a owns 0 and 1, b drains 2, and 3 has no owner. */
function observed() {
  const source = new KeptShards();
  const metrics = new Metrics();
  const shardMetrics = new ShardMetrics(metrics, source.maps);
  source.apply("orders");
  source.own("orders", "a", { slots: 4 });
  source.own("orders", "b", { slots: 1 });
  source.change("orders", [
    { id: 0, owner: "a", number: 41 },
    { id: 1, owner: "a", number: 42, mode: "paused" },
    { id: 2, owner: "b", number: 43, next: "a", isDraining: true },
  ]);
  const values = (name: Parameters<Metrics["seriesOf"]>[0]) => {
    const series = [...metrics.seriesOf(name)].filter(({ value }) => value > 0);
    return Object.fromEntries(series.map(({ labels, value }) => [Object.values(labels).join(" "), value]));
  };
  return { source, metrics, shardMetrics, values };
}

test("each shard is counted once, by its status or as one without an owner", () => {
  const { source, shardMetrics, values } = observed();
  shardMetrics.observe(TIME);
  expect(values("mesh_shards")).toEqual({ "orders active": 1, "orders paused": 1, "orders draining": 1, "orders unowned": 1 });
  source.change("orders", [{ id: 3, mode: "disabled" }]);
  shardMetrics.observe(TIME);
  expect(values("mesh_shards")).toEqual({ "orders active": 1, "orders paused": 1, "orders draining": 1, "orders disabled": 1 });
});

test("the gauges have the largest load and the fullest slots, and follow owners that come and go", () => {
  const { source, shardMetrics, values } = observed();
  shardMetrics.observe(TIME);
  // Each of two owners should have 2 of the 4 shards. The shard that moves counts for its next owner.
  expect([values("mesh_shard_imbalance_ratio"), values("mesh_shard_slots_used_ratio")]).toEqual([{ orders: 1.5 }, { orders: 1 }]);
  source.own("orders", "c", { weight: 2 });
  source.own("orders", "b", { slots: 0 });
  shardMetrics.observe(TIME);
  expect([values("mesh_shard_imbalance_ratio"), values("mesh_shard_slots_used_ratio")]).toEqual([{ orders: 3 }, { orders: 0.5 }]);
});

test("the state of a set is 1 for one state", () => {
  const { source, shardMetrics, values } = observed();
  shardMetrics.observe(TIME);
  expect(values("mesh_rebalance_state")).toEqual({ "orders steady": 1 });
  source.plan("orders", "2-aa");
  shardMetrics.observe(TIME);
  expect(values("mesh_rebalance_state")).toEqual({ "orders rebalance-pending": 1 });
  source.plan("orders", "2-aa", { state: "running", moves: [{ from: "b", to: "a", ids: new Set([2]) }] });
  shardMetrics.observe(TIME);
  expect(values("mesh_rebalance_state")).toEqual({ "orders draining": 1 });
});

test("a set that has not changed is not computed again", () => {
  const { source, metrics, shardMetrics, values } = observed();
  shardMetrics.observe(TIME);
  metrics.set("mesh_shards", { namespace: "orders", status: "active" }, 99);
  shardMetrics.observe(TIME);
  expect(values("mesh_shards")).toMatchObject({ "orders active": 99 });
  source.own("orders", "a", { slots: 4, weight: 2 });
  shardMetrics.observe(TIME);
  expect(values("mesh_shards")).toMatchObject({ "orders active": 1 });
});

interface Change {
  readonly what: string;
  readonly before: Partial<ShardRow>;
  readonly after: Partial<ShardRow>;
  readonly want: Readonly<Record<string, number>>;
  readonly handover?: number;
}
const MOVING = { owner: "a", next: "b", isDraining: true } as const;

test.each<Change>([
  { what: "a move begins", before: { owner: "a" }, after: { owner: "a", next: "b" }, want: {} },
  { what: "a move drains", before: { owner: "a", next: "b" }, after: MOVING, want: {} },
  { what: "a plan moves a shard", before: MOVING, after: { owner: "b" }, want: { "plan done": 1 }, handover: 1 },
  { what: "an owner leaves", before: { ...MOVING, owner: "l" }, after: { owner: "b" }, want: { "leaving done": 1 }, handover: 1 },
  { what: "an owner has left", before: { ...MOVING, owner: "x" }, after: { owner: "b" }, want: { "leaving done": 1 }, handover: 1 },
  { what: "the next owner is late", before: { owner: "a", next: "b" }, after: { owner: "a" }, want: { "plan failed": 1 } },
  { what: "an owner ends", before: { owner: "x" }, after: { owner: "b" }, want: { "ended done": 1 } },
  { what: "an owner ends, and no other accepts the shard", before: { owner: "x" }, after: {}, want: { "ended failed": 1 } },
  { what: "a shard gets its first owner", before: {}, after: { owner: "b" }, want: { "unowned done": 1 } },
  { what: "an owner attaches again", before: { owner: "a" }, after: { owner: "a", term: 9 }, want: {} },
  { what: "an operator disables a shard", before: MOVING, after: { mode: "disabled" }, want: {} },
])("moves are counted by reason and outcome: $what", ({ before, after, want, handover = 0 }) => {
  const { source, metrics, shardMetrics, values } = observed();
  source.own("orders", "l", { isLeaving: true });
  const row = { ...source.row("orders", 3), sinceMs: 4000 };
  shardMetrics.count("orders", { ...row, ...before }, { ...row, ...after }, TIME);
  expect(values("mesh_shard_moves_total")).toEqual(want);
  expect(metrics.histogram("mesh_shard_handover_ms", {}).sum).toBe(handover * 1000);
});

test("an owner has room unless it leaves, is degraded, or uses all its slots", () => {
  const { source } = observed();
  const room = () => hasRoom(source.map("orders"), source.maps.owners("orders"), TIME);
  expect(room()).toBe(true);
  source.own("orders", "a", { slots: 3 });
  expect(room()).toBe(false);
  source.own("orders", "a", { slots: 4, health: "degraded" });
  expect(room()).toBe(false);
  source.own("orders", "a", { isLeaving: true });
  expect(room()).toBe(false);
});
