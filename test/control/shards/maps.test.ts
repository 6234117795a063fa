/** Maps of shards: the epoch that a node knows although its watches are not in order, the rows, and the owners. */
import fc from "fast-check";
import { expect, test } from "vitest";
import { StoreCopy } from "../../../src/control/leadership/copy.ts";
import { decodeLeader, encodeRecord, LEADERS, type LeaderRecord } from "../../../src/control/leadership/records.ts";
import { ShardMap, ShardMaps, statusOf } from "../../../src/control/shards/maps.ts";
import {
  NO_LOAD,
  OWNERS,
  ownerJson,
  ownerKey,
  PLANS,
  rowKey,
  SHARD_SETS,
  type ShardSetRecord,
} from "../../../src/control/shards/records.ts";
import { leaderRecord } from "../../fakes/driven-leadership.ts";
import { SETTINGS } from "../../fakes/shard-lab.ts";
import { SharedStore, WATCH_START, type WatchPosition } from "../../fakes/shared-store.ts";

const SHARD = {
  epoch: 1,
  mode: "active",
  isDraining: false,
  isThrottled: false,
  next: "",
  weight: 1,
  hint: "",
  ticket: "",
  changedWallMs: 0,
  movedWallMs: 0,
} as const;

/** A store, and maps whose watches report when a test says so. */
class MapWorld {
  readonly store = new SharedStore();
  readonly #leaders = new StoreCopy<LeaderRecord>(decodeLeader);
  readonly maps = new ShardMaps(this.#leaders.items);
  readonly #positions = new Map<string, WatchPosition>();
  nowMs = 0;

  /** Changes a row, which gets the next epoch of the set. */
  change(id: number, epoch: number, owner = "a", fields: Partial<typeof SHARD> | { readonly next: string } = {}): void {
    const fence = { failoverVersion: 0, storeEpoch: 7, number: epoch };
    const record = leaderRecord({ holderId: owner, session: "n1/1-b", fence, shard: { ...SHARD, ...fields, epoch } });
    this.store.put(rowKey("orders", id), encodeRecord(record));
    this.apply(epoch, { rowsEpoch: epoch });
  }

  apply(epoch: number, fields: Partial<ShardSetRecord> = {}): void {
    const head = {
      ...SETTINGS,
      count: 4,
      rowsEpoch: 0,
      checksum: "",
      oldestEpoch: 1,
      frozenUntilWallMs: 0,
      isDeleted: false,
      ...fields,
      epoch,
    };
    this.store.put(`${SHARD_SETS}orders`, encodeRecord(head));
  }

  /** Reports the changes below a prefix, with at most `limit` of them in a step. Returns the namespaces of the last step. */
  report(prefix: string, limit = 1000, maxSteps = 1000): readonly string[] {
    let touched: ReadonlySet<string> = new Set<string>();
    for (let count = 0; count < maxSteps; count++) {
      const found = this.store.read(prefix, this.#positions.get(prefix) ?? WATCH_START, limit);
      if (found === undefined) break;
      this.#positions.set(prefix, found.position);
      this.nowMs += 1;
      if (prefix === LEADERS) this.#leaders.take(found.step, this.nowMs);
      touched = this.maps.take(prefix, found.step, this.nowMs);
    }
    return [...touched];
  }

  restart(): void {
    this.#positions.clear();
  }

  get map(): ShardMap {
    return this.maps.map("orders") ?? expect.fail("there is no map");
  }
}

function owned({ rows }: ShardMap): readonly string[] {
  return rows.map(({ owner }) => owner);
}

test("a set without rows has active shards without owners", () => {
  const world = new MapWorld();
  world.apply(1);
  expect([world.maps.map("orders"), world.maps.isRead]).toEqual([undefined, false]);
  expect(world.report(SHARD_SETS)).toEqual(["orders"]);
  expect([world.maps.namespaces, world.map.epoch, owned(world.map)]).toEqual([["orders"], 1, ["", "", "", ""]]);
  expect(world.map.rows[3]).toMatchObject({ id: 3, version: 0, mode: "active", epoch: 0, reason: "the shard never had an owner" });
  for (const prefix of [OWNERS, PLANS]) world.report(prefix);
  expect(world.maps.isRead).toBe(false);
  world.report(LEADERS);
  expect(world.maps.isRead).toBe(true);
});

test("the epoch rises when the rows of all changes before it are known, in any order of the watches", () => {
  const world = new MapWorld();
  world.apply(1);
  for (const prefix of [SHARD_SETS, LEADERS]) world.report(prefix);
  expect(world.map.epoch).toBe(1);
  world.change(0, 2);
  world.report(SHARD_SETS);
  expect([world.map.epoch, owned(world.map)]).toEqual([1, ["", "", "", ""]]);
  world.report(LEADERS);
  expect([world.map.epoch, owned(world.map)]).toEqual([2, ["a", "", "", ""]]);
  world.change(1, 3, "b");
  world.report(LEADERS);
  expect([world.map.epoch, world.map.set.value.epoch, owned(world.map)]).toEqual([3, 2, ["a", "b", "", ""]]);
  world.apply(4, { rowsEpoch: 3 });
  world.report(SHARD_SETS);
  expect(world.map.epoch).toBe(4);
});

test("the epoch of a set without its rows does not fall", () => {
  const world = new MapWorld();
  world.apply(1);
  world.change(0, 2);
  for (const prefix of [LEADERS, SHARD_SETS]) world.report(prefix);
  expect(world.map.epoch).toBe(2);
  world.change(0, 3);
  world.apply(4, { rowsEpoch: 3 });
  world.report(SHARD_SETS);
  expect(world.map.epoch).toBe(2);
  world.report(LEADERS);
  expect(world.map.epoch).toBe(4);
});

test("the epoch falls if the store was set up again", () => {
  const world = new MapWorld();
  world.apply(1);
  world.change(0, 9);
  for (const prefix of [LEADERS, SHARD_SETS]) world.report(prefix);
  expect(world.map.epoch).toBe(9);
  world.store.restore({ revision: 0, changes: new Map() });
  world.apply(1);
  world.restart();
  for (const prefix of [SHARD_SETS, LEADERS]) world.report(prefix);
  expect([world.map.epoch, owned(world.map)]).toEqual([1, ["", "", "", ""]]);
});

test("rows change with the last step of a watch, because earlier steps can omit items", () => {
  const world = new MapWorld();
  world.apply(1);
  world.report(SHARD_SETS);
  world.report(LEADERS);
  for (const id of [0, 1, 2]) world.change(id, 2);
  expect(world.report(LEADERS, 1, 2)).toEqual([]);
  expect(owned(world.map)).toEqual(["", "", "", ""]);
  expect(world.report(LEADERS, 1)).toEqual(["orders"]);
  expect(owned(world.map)).toEqual(["a", "a", "a", ""]);
});

test("a watch that starts over reads all rows again, and keeps those that are the same", () => {
  const world = new MapWorld();
  world.apply(1);
  for (const id of [0, 1]) world.change(id, 2);
  for (const prefix of [LEADERS, SHARD_SETS]) world.report(prefix);
  const { rows } = world.map;
  world.store.put(rowKey("orders", 1), undefined);
  world.restart();
  expect(world.report(LEADERS)).toEqual(["orders"]);
  expect(owned(world.map)).toEqual(["a", "", "", ""]);
  expect(world.map.rows[0]).toBe(rows[0]);
});

test("a set that is removed or cannot be read has no map, and a row that cannot be read has no owner but its version", () => {
  const world = new MapWorld();
  world.apply(1);
  world.change(0, 2);
  world.store.put(rowKey("orders", 1), new TextEncoder().encode("?"));
  for (const prefix of [LEADERS, SHARD_SETS]) world.report(prefix);
  expect(world.map.rows[1]).toMatchObject({ owner: "", version: world.store.versionOf(rowKey("orders", 1)) });
  for (const value of [new TextEncoder().encode("?"), undefined]) {
    world.store.put(`${SHARD_SETS}orders`, value);
    world.report(SHARD_SETS);
    expect(world.maps.map("orders")).toBeUndefined();
  }
  expect(world.maps.namespaces).toEqual([]);
});

test("a row without a session has no owner, and its status is `draining` during a hand-over", () => {
  const world = new MapWorld();
  world.apply(1);
  world.change(0, 2, "a", { next: "b" });
  const fence = { failoverVersion: 0, storeEpoch: 7, number: 3 };
  const freed = leaderRecord({ holderId: "a", session: "", fence, shard: { ...SHARD, epoch: 3, mode: "disabled" } });
  world.store.put(rowKey("orders", 1), encodeRecord(freed));
  for (const prefix of [LEADERS, SHARD_SETS]) world.report(prefix);
  expect(world.map.rows.map(statusOf)).toEqual(["active", "disabled", "active", "active"]);
  expect(statusOf({ isDraining: true, mode: "paused" })).toBe("draining");
  expect([owned(world.map), world.map.rows[1]?.fence.number]).toEqual([["a", "", "", ""], 3]);
  expect(["a", "b", "c"].map((name) => world.map.rowsOf(name).map(({ id }) => id))).toEqual([[0], [0], []]);
});

test("the checksum is the start of SHA-256 over the lines of all shards", () => {
  const world = new MapWorld();
  world.apply(1);
  world.report(SHARD_SETS);
  // for id in 0 1 2 3; do echo "$id  0.0.0 active"; done | sha256sum
  expect(world.map.checksum).toBe("f2f24f349169f83a");
  const before = world.map.checksum;
  world.change(1, 2);
  for (const prefix of [LEADERS, SHARD_SETS]) world.report(prefix);
  expect(world.map.checksum).not.toBe(before);
});

test("a map that follows changes is the same as a map that is made of its rows", () => {
  fc.assert(
    fc.property(
      fc.array(fc.record({ id: fc.nat(3), owner: fc.constantFrom("a", "b"), prefix: fc.constantFrom(LEADERS, SHARD_SETS) })),
      (changes) => {
        const world = new MapWorld();
        world.apply(1);
        for (const prefix of [LEADERS, SHARD_SETS]) world.report(prefix);
        for (const [i, { id, owner, prefix }] of changes.entries()) {
          world.change(id, i + 2, owner);
          world.report(prefix);
          const made = new ShardMap("orders", world.map.set, [...world.map.rows]);
          expect(world.map.checksum).toBe(made.checksum);
          for (const name of ["", "a", "b"]) expect(world.map.rowsOf(name)).toEqual(made.rowsOf(name));
        }
        for (const prefix of [LEADERS, SHARD_SETS]) world.report(prefix);
        const last = new Map(changes.map(({ id, owner }) => [id, owner]));
        expect(owned(world.map)).toEqual([0, 1, 2, 3].map((id) => last.get(id) ?? ""));
      },
    ),
  );
});

test("owners are known by namespace, and their removal touches the namespace", () => {
  const world = new MapWorld();
  const record = { session: "n1/1-b", nodeId: "n1", created: 0, principal: "", target: "a:80", weight: 1, zone: "", region: "", slots: 0 };
  const json = ownerJson({ ...record, isLeaving: false, health: "healthy", load: NO_LOAD, prepared: new Set(), held: new Set([1, 2]) });
  world.store.put(ownerKey("orders", "a"), encodeRecord(json));
  expect(world.report(OWNERS)).toEqual(["orders"]);
  const version = world.store.versionOf(ownerKey("orders", "a"));
  expect(world.maps.owners("orders").get("a")).toMatchObject({ version, value: { created: version, held: new Set([1, 2]) } });
  expect(world.maps.owners("other").size).toBe(0);
  world.store.put(ownerKey("orders", "a"), undefined);
  expect([world.report(OWNERS), world.maps.owners("orders").size]).toEqual([["orders"], 0]);
});

test("an instance whose id contains a slash is an owner of its own", () => {
  const world = new MapWorld();
  const record = { session: "n1/1-b", nodeId: "n1", created: 0, principal: "", target: "", weight: 1, zone: "", region: "", slots: 0 };
  for (const instance of ["a", "a/b"]) {
    const facts = { ...record, target: instance, isLeaving: false, health: "healthy" as const, load: NO_LOAD };
    world.store.put(ownerKey("orders", instance), encodeRecord(ownerJson({ ...facts, prepared: new Set(), held: new Set() })));
  }
  world.report(OWNERS);
  const targets = [...world.maps.owners("orders")].map(([instance, { value }]) => [instance, value?.target]);
  expect(targets).toEqual([
    ["a", "a"],
    ["a/b", "a/b"],
  ]);
});
