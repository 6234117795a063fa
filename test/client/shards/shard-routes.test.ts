/** The routes of a namespace: what messages and files do to them, and how old they are. */
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { durationFromMs } from "@bufbuild/protobuf/wkt";
import { expect, test } from "vitest";
import { ShardEventKind, ShardSchema, ShardServiceWatchResponseSchema, ShardStatus } from "../../../gen/waymark/control/v1/shard_pb.js";
import { ShardRoutes } from "../../../src/client/shards/shard-routes.ts";
import { shardOfKey } from "../../../src/lib/shard-key.ts";

const HEARTBEAT = { kind: ShardEventKind.HEARTBEAT };
type Init = MessageInitShape<typeof ShardServiceWatchResponseSchema>;
const COUNT = 4;
const KEY = "customer-17";
const ID = shardOfKey("orders", COUNT, KEY);
const set = (epoch: bigint, count = COUNT) => ({ namespace: "orders", epoch, settings: { count } });
const owners = ["a", "b"].map((instance) => ({ instance, target: `${instance}:1` }));
const row = (owner: string, epoch: bigint, status = ShardStatus.ACTIVE) => ({ namespace: "orders", id: ID, owner, epoch, status });
const snapshot = (epoch: bigint, owner = "a") => ({
  kind: ShardEventKind.SNAPSHOT,
  epoch,
  set: set(epoch),
  shards: [row(owner, epoch)],
  owners,
});

function setUp() {
  let nowMs = 100;
  const routes = new ShardRoutes("orders", () => nowMs);
  return {
    routes,
    read: (...messages: readonly Init[]) =>
      messages.flatMap((init) => {
        const out: { readonly kind: "changed" | "synced" }[] = [];
        routes.message(create(ShardServiceWatchResponseSchema, init), out);
        return out.map(({ kind }) => kind);
      }),
    at: (ms: number) => {
      nowMs = ms;
    },
  };
}

test("the routes are known, and a stream resumes after an epoch, when the last message of a snapshot or change has arrived", () => {
  const { routes, read } = setUp();
  const { shards, ...rest } = snapshot(5n);
  expect([read({ kind: ShardEventKind.SNAPSHOT, shards, owners }, HEARTBEAT), routes.isRead, routes.resumeEpoch]).toEqual([[], false, 0n]);
  expect([read(rest, HEARTBEAT), routes.resumeEpoch]).toEqual([["changed", "synced"], 5n]);
  expect(routes.route(KEY)).toEqual({ id: ID, owner: "a", target: "a:1", epoch: 5, metadata: `orders;${ID};5`, ageMs: 0 });
  read({ kind: ShardEventKind.CHANGE, shards: [row("b", 6n)], owners });
  expect([routes.route(KEY).target, routes.resumeEpoch]).toEqual(["b:1", 5n]);
  read({ kind: ShardEventKind.CHANGE, set: set(6n) });
  expect(routes.resumeEpoch).toBe(6n);
});

test("a shard that is not known has no owner, and a snapshot replaces shards of later epochs", () => {
  const { routes, read } = setUp();
  read({ kind: ShardEventKind.SNAPSHOT, epoch: 9n, set: set(9n), shards: [row("b", 9n)] });
  expect(routes.route(KEY)).toMatchObject({ owner: "b", target: "", epoch: 9 });
  read({ ...snapshot(2n), shards: [row("", 0n)] });
  expect([routes.route(KEY), routes.resumeEpoch]).toMatchObject([{ owner: "", target: "", metadata: `orders;${ID};0` }, 2n]);
  const empty = setUp();
  empty.read({ kind: ShardEventKind.SNAPSHOT, epoch: 2n, set: set(2n) });
  expect(empty.routes.route(KEY)).toMatchObject({ owner: "", target: "", epoch: 0, metadata: `orders;${ID};0` });
});

test("a route is as old as the last heartbeat, plus the age that it reports, whatever else arrives", () => {
  const { routes, read, at } = setUp();
  read(snapshot(5n));
  expect(routes.route(KEY).ageMs).toBe(Number.POSITIVE_INFINITY);
  read(HEARTBEAT);
  at(9000);
  expect(routes.route(KEY).ageMs).toBe(8900);
  routes.broken(0, {});
  at(9400);
  // The server of the next stream may have an old copy itself.
  read({ kind: ShardEventKind.CHANGE, epoch: 6n, set: set(6n), shards: [row("b", 6n)] });
  expect(routes.route(KEY).ageMs).toBe(9300);
  expect(read({ kind: ShardEventKind.HEARTBEAT, epoch: 6n, age: durationFromMs(70) })).toEqual(["synced"]);
  at(9500);
  expect(routes.route(KEY).ageMs).toBe(170);
});

test("a change without settings keeps the known ones, also in the file", () => {
  const { routes, read } = setUp();
  read(snapshot(5n), { kind: ShardEventKind.CHANGE, epoch: 6n, set: { namespace: "orders", epoch: 6n }, shards: [row("b", 6n)], owners });
  expect([routes.route(KEY).owner, routes.resumeEpoch, read(HEARTBEAT)]).toEqual(["b", 6n, ["synced"]]);
  const restored = setUp();
  restored.routes.restore(routes.encode(), 0);
  expect(restored.routes.route(KEY)).toMatchObject({ owner: "b", target: "b:1" });
  expect(read({ kind: ShardEventKind.CHANGE, epoch: 7n, set: { ...set(7n), settings: { count: 8 } } })).toEqual(["changed"]);
  expect(routes.route(KEY).id).toBe(shardOfKey("orders", 8, KEY));
  expect(setUp().read({ kind: ShardEventKind.SNAPSHOT, epoch: 6n, set: { namespace: "orders", epoch: 6n } })).toEqual([]);
});

test("a shard is settled when it has changed and has an owner that stays, or when it is disabled", () => {
  const { routes, read } = setUp();
  const isSettledAs = (owner: string, status = ShardStatus.ACTIVE) => {
    read({ kind: ShardEventKind.CHANGE, epoch: 6n, set: set(6n), shards: [row(owner, 6n, status)] });
    return [5, 6].map((after) => routes.isSettled(ID, after));
  };
  expect(isSettledAs("a")).toEqual([true, false]);
  expect(isSettledAs("a", ShardStatus.PAUSED)[0]).toBe(true);
  expect(isSettledAs("a", ShardStatus.DRAINING)[0]).toBe(false);
  expect(isSettledAs("")[0]).toBe(false);
  expect(isSettledAs("", ShardStatus.DISABLED)[0]).toBe(true);
});

test("only a newer state with a known owner is learned, and the stream replaces it", () => {
  const { routes, read } = setUp();
  read(snapshot(5n));
  const learn = (owner: string, epoch: bigint) => {
    routes.learn(create(ShardSchema, row(owner, epoch)));
    return routes.route(KEY).owner;
  };
  expect([learn("b", 5n), learn("stranger", 6n), learn("b", 1000n)]).toEqual(["a", "a", "b"]);
  expect(routes.route(KEY).target).toBe("b:1");
  read({ kind: ShardEventKind.CHANGE, epoch: 7n, set: set(7n), shards: [row("a", 7n)] });
  expect(routes.route(KEY).owner).toBe("a");
});

test("a file restores the routes, with its age", () => {
  const { routes, read } = setUp();
  read(snapshot(5n, "b"), { kind: ShardEventKind.HEARTBEAT, age: durationFromMs(70) });
  const restored = setUp();
  restored.routes.restore(routes.encode(), 3000);
  expect([restored.routes.route(KEY), restored.routes.resumeEpoch]).toEqual([{ ...routes.route(KEY), ageMs: 3070 }, 5n]);
});

test("a damaged file and the file of another namespace are rejected", () => {
  const { routes, read } = setUp();
  read(snapshot(5n), HEARTBEAT);
  const file = routes.encode();
  const target = setUp().routes;
  for (const at of [0, 40, file.length - 1]) {
    const damaged = Uint8Array.from(file);
    damaged[at] = (damaged[at] ?? 0) ^ 1;
    expect(() => target.restore(damaged, 0)).toThrow("its checksum is wrong");
  }
  expect(() => target.restore(file.subarray(0, 20), 0)).toThrow("its checksum is wrong");
  expect(() => new ShardRoutes("other", () => 0).restore(file, 0)).toThrow("it does not contain the shards of other");
  expect(target.isRead).toBe(false);
});

test("a set with an impossible number of shards is ignored", () => {
  const { routes, read } = setUp();
  for (const count of [0, 10_001]) expect(read({ ...snapshot(5n), set: set(5n, count) })).toEqual([]);
  expect(routes.isRead).toBe(false);
});

test("the addresses of instances that own no shard are forgotten when there are too many", () => {
  const { routes, read } = setUp();
  read(snapshot(5n));
  const many = Array.from({ length: 999 }, (_, i) => ({ instance: `i${i}`, target: "" }));
  read({ kind: ShardEventKind.CHANGE, epoch: 6n, set: set(6n), owners: many });
  routes.learn(create(ShardSchema, row("b", 6n)));
  expect(routes.route(KEY).owner).toBe("a");
  expect(routes.route(KEY).target).toBe("a:1");
});
