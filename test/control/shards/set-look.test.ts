import { expect, test } from "vitest";
import { planMoves } from "../../../src/control/shards/plan.ts";
import { liveOwners, planInput } from "../../../src/control/shards/rebalancing.ts";
import { SetLook } from "../../../src/control/shards/set-look.ts";
import { KeptShards } from "../../fakes/kept-shards.ts";

const LEASE_MS = 3000;

/** The first look of a controller at the set. */
function lookAt(shards: KeptShards, noticedMs = new Map<string, number>()): SetLook {
  const owners = shards.maps.owners("orders");
  const look = new SetLook({
    map: shards.map("orders"),
    owners,
    live: liveOwners(owners, () => false),
    leaseMs: LEASE_MS,
    storeEpoch: 7,
    revision: 20,
    noticedMs,
    attachedMs: undefined,
    time: { monoMs: 1000, wallMs: 1_770_000_000_000 },
  });
  look.decide();
  return look;
}

test("an owner that drops its last shard and detaches is followed by the owner that has prepared, without a wait", () => {
  const shards = new KeptShards();
  shards.apply("orders", { count: 1 });
  shards.change("orders", [{ id: 0, owner: "a", number: 5, isDraining: true, next: "b" }]);
  shards.own("orders", "b", { prepared: new Set([0]) });
  const look = lookAt(shards);
  expect(look.rows.get(0)).toMatchObject({ owner: "b", next: "", isDraining: false });
  // The record of the earlier owner must still not exist.
  expect([...look.free]).toEqual(["a"]);
});

test("a shard that was disabled while it drained has no owner after its owner has detached", () => {
  const shards = new KeptShards();
  shards.apply("orders", { count: 1 });
  shards.change("orders", [{ id: 0, owner: "a", number: 5, isDraining: true, next: "b", mode: "disabled" }]);
  shards.own("orders", "b");
  const noticed = new Map([["a", 0]]);
  expect(lookAt(shards, noticed).rows.get(0)).toMatchObject({ owner: "", next: "", isDraining: false, mode: "disabled" });
});

test("an owner without a record can have attached again, so its shards wait a moment for the record", () => {
  const shards = new KeptShards();
  shards.apply("orders", { count: 1 });
  shards.change("orders", [{ id: 0, owner: "a", number: 5 }]);
  shards.own("orders", "b");
  const look = lookAt(shards);
  expect(look.rows.size).toBe(0);
  expect(look.dueMs).toBe(1000 + LEASE_MS / 12);
});

test.each([
  [true, ["b"]],
  [false, []],
])("a paused shard moves only because its owner leaves (%s)", (isLeaving, expected) => {
  const shards = new KeptShards();
  shards.apply("orders", { count: 1, cooldownMs: 0 });
  shards.change("orders", [{ id: 0, owner: "a", number: 5, mode: "paused" }]);
  shards.own("orders", "a", { held: new Set([0]), isLeaving, weight: 0.001 });
  shards.own("orders", "b");
  const live = liveOwners(shards.maps.owners("orders"), () => false);
  const time = { monoMs: 1000, wallMs: 1_770_000_000_000 };
  const input = planInput(shards.map("orders"), live, { out: new Set(), homeless: new Set() }, time);
  expect(planMoves(input, { isForced: true }).map(({ to }) => to)).toEqual(expected);
});
