import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { durationFromMs } from "@bufbuild/protobuf/wkt";
import { expect, test } from "vitest";
import { DiscoveryDelta_Action, DiscoveryDelta_Cause } from "../../../gen/waymark/catalog/v1/delta_pb.js";
import { EntryKind, HealthStatus } from "../../../gen/waymark/catalog/v1/entry_pb.js";
import { Snapshot } from "../../../gen/waymark/catalog/v1/watch_pb.js";
import { CatalogWatchResponseSchema } from "../../../gen/waymark/discovery/v1/discovery_pb.js";
import { type LiveChange, LiveEntries } from "../../../src/client/live/live-entries.ts";
import { GUARD_DEFAULTS } from "../../../src/consumer/mass-loss-guard.ts";
import { type FollowEvent, readEntryPayload, WatchFollower } from "../../../src/consumer/watch-follower.ts";
import { Rng } from "../../../src/lib/rng.ts";

type Message = MessageInitShape<typeof CatalogWatchResponseSchema>;

const STALE_AFTER_MS = 9000;
const { UNREGISTERED, EXPIRED, ORIGIN_AWAY, NO_MATCH } = DiscoveryDelta_Cause;
let deltas = 0;

/** `web/1` is instance 1 of the name web. */
function keyOf(instance: string) {
  const [name = "", instanceId = ""] = instance.split("/");
  return { kind: EntryKind.SERVICE, namespace: "svc", name, instanceId, clusterId: "c1" };
}

const put = (instance: string, note = "", health = HealthStatus.HEALTHY) => ({
  action: DiscoveryDelta_Action.UPDATE,
  deltaId: `n/1/${(deltas += 1)}`,
  payload: { case: "entry" as const, value: { key: keyOf(instance), metadata: { note }, health } },
});

const remove = (instance: string, cause: DiscoveryDelta_Cause = UNREGISTERED) => ({
  action: DiscoveryDelta_Action.REMOVE,
  deltaId: `n/1/${(deltas += 1)}`,
  cause,
  payload: { case: "removed" as const, value: keyOf(instance) },
});

/** A map and the follower that feeds it. */
class World {
  readonly map: LiveEntries;
  readonly follower = new WatchFollower("", { tellsUnknown: true, seen: readEntryPayload });
  nowMs = 1000;

  constructor(minKept?: number) {
    this.map = new LiveEntries({ staleAfterMs: STALE_AFTER_MS, ...(minKept !== undefined && { minKept }) });
  }

  get time() {
    return { monoMs: this.nowMs, wallMs: 0 };
  }

  told(message: Message): readonly string[] {
    const events: FollowEvent[] = [];
    this.follower.message(create(CatalogWatchResponseSchema, message), events);
    return events.flatMap((event) => said(this.map.take(event, this.time)));
  }

  snapshot(...instances: readonly string[]): readonly string[] {
    this.told({ snapshot: Snapshot.BEGIN, deltas: instances.map((instance) => put(instance)) });
    return this.told({ snapshot: Snapshot.END, portableCursor: "p" });
  }

  /** What shows, held entries in brackets. */
  shows(): readonly string[] {
    return [...this.map.entries()]
      .map(({ key, health }) => {
        const text = `${key?.name ?? ""}/${key?.instanceId ?? ""}`;
        return health === HealthStatus.ORPHANED ? `(${text})` : text;
      })
      .toSorted();
  }
}

function said(changes: readonly LiveChange[]): readonly string[] {
  return changes.map((change) => {
    const { key, health } = change.entry;
    const word = change.kind === "remove" ? `gone, ${change.cause}` : change.isNew ? "new" : "changed";
    return `${word} ${key?.name ?? ""}/${key?.instanceId ?? ""}${health === HealthStatus.ORPHANED ? " held" : ""}`;
  });
}

test("nothing shows before the first snapshot is complete, and then everything at once", () => {
  const world = new World();
  expect(world.told({ snapshot: Snapshot.BEGIN, deltas: [put("web/1")] })).toEqual([]);
  expect([world.map.isReady, world.shows()]).toEqual([false, []]);
  expect(world.told({ snapshot: Snapshot.CONTINUE, deltas: [put("web/2")] })).toEqual([]);
  expect(world.told({ snapshot: Snapshot.END })).toEqual(["new web/1", "new web/2"]);
  expect([world.map.isReady, world.map.size]).toEqual([true, 2]);
});

test("a later snapshot shows only when it is complete: until then the map is the old one", () => {
  const world = new World();
  world.snapshot("web/1", "web/2");
  world.told({ snapshot: Snapshot.BEGIN, deltas: [put("web/3"), put("web/1", "new")] });
  expect([world.shows(), world.map.get(messageKey("web/1"))?.metadata]).toEqual([["web/1", "web/2"], { note: "" }]);
  expect(world.told({ snapshot: Snapshot.END })).toEqual(["new web/3", "changed web/1", "gone, absent web/2"]);
  expect(world.shows()).toEqual(["web/1", "web/3"]);
});

test("a snapshot that is cut shows nothing until the next stream has caught up", () => {
  const world = new World();
  world.snapshot("web/1");
  world.told({ snapshot: Snapshot.BEGIN, deltas: [put("web/2"), put("web/3")] });
  world.follower.broken(0, { isAway: true });
  world.follower.open("other");
  expect(world.told({ deltas: [put("web/2", "newer"), remove("web/3")] })).toEqual(["new web/2"]);
  expect(world.shows()).toEqual(["web/1", "web/2"]);
  expect(world.told({ bookmark: true, portableCursor: "q" })).toEqual([]);
  expect(world.map.get(messageKey("web/2"))?.metadata).toEqual({ note: "newer" });
});

test("changes outside of snapshots show at once", () => {
  const world = new World();
  world.snapshot("web/1");
  expect(world.told({ deltas: [put("web/2"), put("web/1"), remove("web/9")] })).toEqual(["new web/2", "changed web/1"]);
  expect(world.told({ deltas: [remove("web/1")] })).toEqual(["gone, unregistered web/1"]);
});

test.each([
  { cause: EXPIRED, name: "expired", isHeld: true },
  { cause: UNREGISTERED, name: "unregistered", isHeld: false },
  { cause: ORIGIN_AWAY, name: "origin_away", isHeld: false },
  { cause: NO_MATCH, name: "no_match", isHeld: false },
  { cause: DiscoveryDelta_Cause.UNSPECIFIED, name: "unknown", isHeld: false },
])("when all entries of a name are gone because of $name, they are held: $isHeld", ({ cause, isHeld }) => {
  const world = new World();
  world.snapshot("web/1", "web/2", "web/3");
  world.told({ deltas: ["web/1", "web/2", "web/3"].map((instance) => remove(instance, cause)) });
  expect(world.shows()).toEqual(isHeld ? ["(web/1)", "(web/2)", "(web/3)"] : []);
  expect(world.map.freshness(world.time).isStale).toBe(isHeld);
});

test("an entry that is held shows ORPHANED, and one that was in maintenance shows that still", () => {
  const world = new World();
  world.told({
    snapshot: Snapshot.BEGIN,
    deltas: [put("web/1"), put("web/2", "", HealthStatus.MAINTENANCE), put("web/3", "", HealthStatus.CRITICAL)],
  });
  world.told({ snapshot: Snapshot.END });
  world.told({ deltas: ["web/1", "web/2", "web/3"].map((instance) => remove(instance, EXPIRED)) });
  expect([...world.map.entries()].map(({ key, health }) => `${key?.instanceId} ${HealthStatus[health]}`).toSorted()).toEqual([
    "1 ORPHANED",
    "2 MAINTENANCE",
    "3 ORPHANED",
  ]);
});

test("a full snapshot without most of a name's entries holds them, a scoped one does not", () => {
  const full = new World();
  full.snapshot("web/1", "web/2", "web/3", "db/1");
  full.snapshot("db/1");
  expect(full.shows()).toEqual(["(web/1)", "(web/2)", "(web/3)", "db/1"]);
  const scoped = new World();
  scoped.snapshot("web/1", "web/2", "web/3");
  scoped.told({ snapshot: Snapshot.BEGIN, replaces: ["svc"] });
  expect(scoped.told({ snapshot: Snapshot.END }).toSorted()).toEqual(["web/1", "web/2", "web/3"].map((one) => `gone, withdrawn ${one}`));
  expect(scoped.shows()).toEqual([]);
});

test("a held entry comes back by a put, ends when it is unregistered, and goes after five minutes", () => {
  const world = new World();
  world.snapshot("web/1", "web/2", "web/3", "web/4", "web/5");
  world.told({ deltas: ["web/1", "web/2", "web/3"].map((instance) => remove(instance, EXPIRED)) });
  expect([world.shows(), world.map.size]).toEqual([["(web/1)", "(web/2)", "(web/3)", "web/4", "web/5"], 5]);
  expect(world.told({ deltas: [put("web/1")] })).toEqual(["changed web/1"]);
  expect(world.told({ deltas: [remove("web/2"), remove("web/9")] })).toEqual(["gone, unregistered web/2 held"]);
  world.nowMs = world.map.nextDeadlineMs() - 1;
  expect(said(world.map.tick(world.time))).toEqual([]);
  world.nowMs += 1;
  expect(world.nowMs).toBe(1000 + GUARD_DEFAULTS.holdMs);
  expect(said(world.map.tick(world.time))).toEqual(["gone, expired web/3 held"]);
  expect([world.shows(), world.map.freshness(world.time).heldCount]).toEqual([["web/1", "web/4", "web/5"], 0]);
});

/** Instances of some names in turns: the first of each name, then the second of each. */
function inTurns(nameCount: number, instanceCount: number, first = 0): readonly string[] {
  return Array.from({ length: nameCount * instanceCount }, (_, i) => `db${i % nameCount}/${first + Math.floor(i / nameCount)}`);
}

test("a map of any size holds all of it when all of it expires; what comes meanwhile and is lost too takes the place of what is held for longest", () => {
  const world = new World(10);
  const all = inTurns(10, 6);
  world.snapshot(...all);
  world.told({ deltas: all.map((instance) => remove(instance, EXPIRED)) });
  expect([world.map.size, world.map.freshness(world.time).heldCount]).toEqual([60, 60]);
  world.nowMs += 60_000;
  const next = inTurns(10, 6, 6);
  world.told({ deltas: next.map((instance) => put(instance)) });
  expect(world.map.freshness(world.time).heldCount).toBe(60);
  const changes = world.told({ deltas: next.map((instance) => remove(instance, EXPIRED)) });
  expect(world.map.freshness(world.time).heldCount).toBe(60);
  expect(world.shows()).toEqual(next.map((instance) => `(${instance})`).toSorted());
  expect(changes.filter((change) => /^gone, expired .* held$/.test(change))).toHaveLength(60);
});

test("the age is what the server said and the time since; silence makes the map stale", () => {
  const world = new World();
  expect(world.map.freshness(world.time)).toEqual({ ageMs: Infinity, isStale: true, unreachable: undefined, heldCount: 0, servedBy: "" });
  world.told({ snapshot: Snapshot.BEGIN });
  world.told({ snapshot: Snapshot.END, age: durationFromMs(500), servedBy: "n1" });
  world.nowMs += STALE_AFTER_MS;
  expect(world.map.freshness(world.time)).toEqual({
    ageMs: 500 + STALE_AFTER_MS,
    isStale: false,
    unreachable: undefined,
    heldCount: 0,
    servedBy: "n1",
  });
  world.nowMs += 1;
  expect(world.map.freshness(world.time).isStale).toBe(true);
  world.told({ bookmark: true, age: durationFromMs(10), servedBy: "n2" });
  expect(world.map.freshness(world.time)).toEqual({ ageMs: 10, isStale: false, unreachable: undefined, heldCount: 0, servedBy: "n2" });
  // A resolver that is cut off says so.
  world.told({ bookmark: true, age: durationFromMs(20), stale: true, servedBy: "n2" });
  expect(world.map.freshness(world.time)).toEqual({ ageMs: 20, isStale: true, unreachable: undefined, heldCount: 0, servedBy: "n2" });
});

test("over random streams with breaks, what shows at each bookmark is what the server has, and held entries", () => {
  for (let seed = 0; seed < 40; seed++) {
    const rng = new Rng(`live ${seed}`);
    const world = new World();
    const server = new Map<string, ReturnType<typeof put>>();
    const keys = Array.from({ length: 6 }, (_, i) => `${i < 3 ? "web" : "db"}/${i}`);
    const isShown = () => world.shows().filter((text) => !text.startsWith("("));
    const resync = () => {
      const all = [...server.values()];
      const before = world.shows();
      world.told({ snapshot: Snapshot.BEGIN, deltas: all.slice(0, 2) });
      if (world.map.isReady) expect(world.shows()).toEqual(before);
      if (rng.int(3) === 0) {
        world.follower.broken(0, { isAway: true });
        return;
      }
      world.told({ snapshot: Snapshot.END, deltas: all.slice(2), portableCursor: `p${seed}` });
      expect(isShown()).toEqual([...server.keys()].toSorted());
    };
    resync();
    for (let step = 0; step < 60; step++) {
      world.nowMs += rng.int(10_000);
      world.map.tick(world.time);
      const key = keys[rng.int(keys.length)] ?? "";
      const isPut = rng.int(2) === 0;
      const change = isPut ? put(key) : remove(key, rng.int(2) === 0 ? EXPIRED : UNREGISTERED);
      if (isPut) server.set(key, change as ReturnType<typeof put>);
      else server.delete(key);
      if (rng.int(5) === 0) resync();
      else if (world.map.isReady) world.told({ deltas: [change] });
    }
    for (let i = 0; i < 20; i++) resync();
    expect(isShown()).toEqual([...server.keys()].toSorted());
  }
});

function messageKey(instance: string) {
  return { $typeName: "waymark.catalog.v1.EntryKey" as const, ...keyOf(instance) };
}

test("when the last entry of a kind goes, those of other kinds with the same name stay", () => {
  const map = new LiveEntries({ staleAfterMs: STALE_AFTER_MS });
  const world = new World();
  const kinds = [EntryKind.SERVICE, EntryKind.NODE, EntryKind.FUNCTION];
  const key = (kind: EntryKind) => ({ ...keyOf("web/1"), kind });
  const tell = (changes: NonNullable<Message["deltas"]>) => {
    const events: FollowEvent[] = [];
    for (const more of [{ deltas: changes }, { bookmark: true, portableCursor: "p" }])
      world.follower.message(create(CatalogWatchResponseSchema, more), events);
    for (const event of events) map.take(event, world.time);
  };
  tell(kinds.map((kind) => ({ ...put("web/1"), payload: { case: "entry", value: { key: key(kind) } } })));
  expect(map.size).toBe(3);
  tell([{ ...remove("web/1"), payload: { case: "removed", value: key(EntryKind.SERVICE) } }]);
  expect(new Set([...map.entries()].map((entry) => entry.key?.kind))).toEqual(new Set([EntryKind.NODE, EntryKind.FUNCTION]));
});
