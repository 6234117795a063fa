/** The routes of a namespace: what messages and files do to them, and how old they are. */
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { durationFromMs } from "@bufbuild/protobuf/wkt";
import { expect, test } from "vitest";
import { ShardEventKind, ShardSchema, ShardServiceWatchResponseSchema, ShardStatus } from "../../../gen/waymark/control/v1/shard_pb.js";
import { ShardRoutes } from "../../../src/client/shards/shard-routes.ts";
import { shardOfKey } from "../../../src/lib/shard-key.ts";

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
        const out: { readonly isChanged: boolean }[] = [];
        routes.message(create(ShardServiceWatchResponseSchema, init), out as never);
        return out.map(({ isChanged }) => isChanged);
      }),
    at: (ms: number) => {
      nowMs = ms;
    },
  };
}

test("a snapshot and a change become visible with their last message", () => {
  const { routes, read } = setUp();
  const { shards, ...rest } = snapshot(5n);
  expect([read({ kind: ShardEventKind.SNAPSHOT, shards }), routes.isRead, routes.resumeEpoch]).toEqual([[], false, 0n]);
  expect([read(rest), routes.resumeEpoch]).toEqual([[true], 5n]);
  expect(routes.route(KEY)).toEqual({ id: ID, owner: "a", target: "a:1", epoch: 5, metadata: `orders;${ID};5`, ageMs: 0 });
  read({ kind: ShardEventKind.CHANGE, shards: [row("b", 6n)] });
  expect(routes.route(KEY).owner).toBe("a");
  read({ kind: ShardEventKind.CHANGE, set: set(6n) });
  expect([routes.route(KEY).target, routes.resumeEpoch]).toEqual(["b:1", 6n]);
});

test("an unfinished snapshot is forgotten with its stream, and a snapshot replaces all", () => {
  const { routes, read } = setUp();
  read(snapshot(5n), { kind: ShardEventKind.SNAPSHOT, shards: [row("b", 9n)] });
  routes.broken(0, {});
  read({ kind: ShardEventKind.CHANGE, epoch: 6n, set: set(6n) });
  expect(routes.route(KEY)).toMatchObject({ owner: "a", epoch: 5 });
  read({ kind: ShardEventKind.SNAPSHOT, epoch: 2n, set: set(2n) });
  expect(routes.route(KEY)).toMatchObject({ owner: "", target: "", epoch: 0, metadata: `orders;${ID};0` });
});

test("routes have no age while the stream is open and the store answers, and grow older otherwise", () => {
  const { routes, read, at } = setUp();
  read(snapshot(5n));
  at(9000);
  expect(routes.route(KEY).ageMs).toBe(0);
  routes.broken(0, {});
  at(9400);
  expect(routes.route(KEY).ageMs).toBe(400);
  expect(read({ kind: ShardEventKind.HEARTBEAT, epoch: 5n, age: durationFromMs(70) })).toEqual([false]);
  at(9500);
  expect(routes.route(KEY).ageMs).toBe(170);
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
  read({ kind: ShardEventKind.CHANGE, epoch: 7n, set: set(7n), shards: [row("a", 7n)] });
  expect(routes.route(KEY).owner).toBe("a");
});

test("a file restores the routes, with its age", () => {
  const { routes, read } = setUp();
  read(snapshot(5n, "b"));
  const restored = setUp();
  restored.routes.restore(routes.encode(), 3000);
  expect([restored.routes.route(KEY), restored.routes.resumeEpoch]).toEqual([{ ...routes.route(KEY), ageMs: 3000 }, 5n]);
});

test("a damaged file and the file of another namespace are rejected", () => {
  const { routes, read } = setUp();
  read(snapshot(5n));
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

test("a reader of too many owners asks for a snapshot, which clears them", () => {
  const { routes, read } = setUp();
  read(snapshot(5n));
  const many = Array.from({ length: 1000 }, (_, i) => ({ instance: `i${i}`, target: "" }));
  read({ kind: ShardEventKind.CHANGE, epoch: 6n, set: set(6n), owners: many });
  expect(routes.resumeEpoch).toBe(0n);
  read(snapshot(6n));
  expect(routes.resumeEpoch).toBe(6n);
});
