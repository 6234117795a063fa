import { create } from "@bufbuild/protobuf";
import { durationFromMs } from "@bufbuild/protobuf/wkt";
import fc from "fast-check";
import { expect, test } from "vitest";
import { DiscoveryDelta_Action as Action } from "../../gen/waymark/catalog/v1/delta_pb.js";
import { Scope } from "../../gen/waymark/catalog/v1/entry_pb.js";
import type { ServiceSummary } from "../../gen/waymark/catalog/v1/summary_pb.js";
import { Snapshot } from "../../gen/waymark/catalog/v1/watch_pb.js";
import { CatalogWatchResponseSchema } from "../../gen/waymark/discovery/v1/discovery_pb.js";
import { type FollowEvent, readEntryPayload, readSummaryPayload, WatchFollower } from "../../src/consumer/watch-follower.ts";
import { Rng } from "../../src/lib/rng.ts";

type Init = NonNullable<Parameters<typeof create<typeof CatalogWatchResponseSchema>>[1]>;
type Delta = NonNullable<Init["deltas"]>[number];

const AWAY = { isAway: true };
const keyOf = (name: string, namespace = "a") => ({ kind: 1, namespace, name, instanceId: "1", clusterId: "c" });

function put(name: string, seq: number, { namespace = "a", health = 1 } = {}): Delta {
  return {
    deltaId: `n/1/${seq}`,
    action: Action.UPDATE,
    revision: BigInt(seq),
    payload: { case: "entry", value: { key: keyOf(name, namespace), health } },
  };
}

function remove(name: string, seq: number): Delta {
  return { deltaId: `n/1/${seq}`, action: Action.REMOVE, revision: BigInt(seq), payload: { case: "removed", value: keyOf(name) } };
}

/** What the reader is told, one word an event. */
function told(follower: WatchFollower, init: Init): readonly string[] {
  const events: FollowEvent[] = [];
  follower.message(create(CatalogWatchResponseSchema, init), events);
  return events.map((event) => {
    switch (event.kind) {
      case "put":
        return `${event.isNew ? "new" : "changed"} ${event.key.name}`;
      case "remove":
        return `gone ${event.key.name}`;
      case "synced":
        return `synced ${event.heldCount}`;
    }
  });
}

function synced(...names: readonly string[]): WatchFollower {
  const follower = new WatchFollower("", { seen: readEntryPayload });
  told(follower, { snapshot: Snapshot.BEGIN, deltas: names.map((name, at) => put(name, at + 1)) });
  told(follower, { snapshot: Snapshot.END, portableCursor: "p1" });
  return follower;
}

test("a snapshot tells what is there and gives a cursor only at its end", () => {
  const follower = new WatchFollower("", { seen: readEntryPayload });
  expect(told(follower, { snapshot: Snapshot.BEGIN, deltas: [put("x", 1)], cursor: "inside" })).toEqual(["new x"]);
  expect(follower.open("n2")).toBe("");
  const other = synced("y");
  expect(other.open("n2")).toBe("p1");
});

test("what a server says of its data is told with the bookmark; an age that it does not name is no age", () => {
  const follower = synced("x");
  const events: FollowEvent[] = [];
  for (const init of [{ age: durationFromMs(1500), stale: true, servedBy: "edge" }, {}])
    follower.message(create(CatalogWatchResponseSchema, { bookmark: true, ...init }), events);
  expect(events).toMatchObject([
    { kind: "synced", ageMs: 1500, isStale: true, servedBy: "edge" },
    { kind: "synced", ageMs: Number.POSITIVE_INFINITY, isStale: false },
  ]);
});

test("a second snapshot tells only what differs, and what is gone", () => {
  const follower = synced("x", "y", "z");
  told(follower, { snapshot: Snapshot.BEGIN });
  expect(told(follower, { snapshot: Snapshot.CONTINUE, deltas: [put("x", 1), put("y", 9)] })).toEqual(["changed y"]);
  expect(told(follower, { snapshot: Snapshot.END, portableCursor: "p2" })).toEqual(["gone z", "synced 2"]);
});

test("a scoped snapshot takes away only in the namespaces it replaces", () => {
  const follower = new WatchFollower("", { seen: readEntryPayload });
  told(follower, { snapshot: Snapshot.BEGIN, deltas: [put("x", 1, { namespace: "a" }), put("y", 2, { namespace: "b" })] });
  told(follower, { snapshot: Snapshot.END, portableCursor: "p" });
  told(follower, { snapshot: Snapshot.BEGIN, replaces: ["b"] });
  expect(told(follower, { snapshot: Snapshot.END })).toEqual(["gone y", "synced 1"]);
});

test("a snapshot cut before its end counts for nothing but what it put", () => {
  const follower = synced("x", "y");
  told(follower, { snapshot: Snapshot.BEGIN, deltas: [put("x", 1)] });
  follower.broken(0, AWAY);
  expect(follower.open("n1")).toBe("p1");
  expect(told(follower, { bookmark: true, portableCursor: "p2" })).toEqual(["synced 2"]);
});

test.each([
  { name: "the same record again", delta: put("x", 1), want: [] },
  { name: "the same record with another health", delta: put("x", 1, { health: 5 }), want: ["changed x"] },
  { name: "a newer record", delta: put("x", 7), want: ["changed x"] },
  { name: "a removal", delta: remove("x", 7), want: ["gone x"] },
  { name: "a removal of what was never there", delta: remove("w", 7), want: [] },
])("$name is told as $want", ({ delta, want }) => {
  expect(told(synced("x"), { deltas: [delta] })).toEqual(want);
});

test("a reader that asks for it is told removals of what it does not have", () => {
  const follower = new WatchFollower("", { tellsUnknown: true, seen: readEntryPayload });
  told(follower, { snapshot: Snapshot.BEGIN });
  told(follower, { snapshot: Snapshot.END });
  expect(told(follower, { deltas: [remove("w", 7)] })).toEqual(["gone w"]);
});

test("after a start from a cursor, removals of what an earlier run may hold are told", () => {
  const follower = new WatchFollower("p0", { seen: readEntryPayload });
  expect(told(follower, { deltas: [remove("w", 7)] })).toEqual(["gone w"]);
});

test("the short cursor goes on at the server that gave it while it lives, the portable one everywhere else", () => {
  const follower = synced("x");
  follower.open("n1");
  told(follower, { cursor: "s2", deltas: [put("x", 2)] });
  follower.broken(0, { isAway: false });
  expect(follower.open("n1")).toBe("s2");
  told(follower, { cursor: "s3", portableCursor: "p3", bookmark: true });
  expect(follower.open("n1")).toBe("s3");
  follower.broken(0, AWAY);
  expect(follower.open("n1")).toBe("p3");
  told(follower, { cursor: "s4", deltas: [put("x", 3)] });
  expect(follower.open("n2")).toBe("p3");
  expect(follower.open("n1")).toBe("p3");
});

test("what a lost server told and no other knows leads to a snapshot; what is told again does not", () => {
  const follower = synced("x", "y");
  follower.open("n1");
  told(follower, { cursor: "s2", deltas: [put("x", 7), put("z", 8), remove("y", 9)] });
  follower.broken(0, AWAY);
  expect(follower.open("n2")).toBe("p1");
  expect(told(follower, { deltas: [put("x", 7), remove("y", 9)] })).toEqual([]);
  expect(told(follower, { cursor: "s9", portableCursor: "p9", bookmark: true })).toEqual([]);
  expect([follower.hasUnconfirmed, follower.open("n2"), follower.hasUnconfirmed]).toEqual([true, "", false]);
  told(follower, { snapshot: Snapshot.BEGIN, deltas: [put("x", 7)] });
  expect(told(follower, { snapshot: Snapshot.END, portableCursor: "p10" })).toEqual(["gone z", "synced 1"]);
  expect([follower.hasUnconfirmed, follower.open("n3")]).toEqual([false, "p10"]);
  expect(told(follower, { bookmark: true, portableCursor: "p11" })).toEqual(["synced 1"]);
});

test("waits grow from break to break, obey the server, and begin anew after a message", () => {
  const follower = synced("x");
  const waits = [follower.broken(1, AWAY), follower.broken(1, AWAY), follower.broken(1, { isAway: true, retryMs: 60_000 })];
  expect(waits).toEqual([250, 500, 60_000]);
  told(follower, { bookmark: true });
  expect(follower.broken(1, AWAY)).toBe(250);
});

test("P3: folding what is told equals what the server has, for any cuts and repetitions", () => {
  const step = fc.record({ name: fc.constantFrom("x", "y", "z"), isPut: fc.boolean(), isCut: fc.boolean(), isFull: fc.boolean() });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
      const follower = new WatchFollower("", { seen: readEntryPayload });
      const server = new Map<string, number>();
      const reader = new Set<string>();
      const feed = (init: Init): void => {
        for (const line of told(follower, init)) {
          const [verb = "", name = ""] = line.split(" ");
          if (verb === "gone") reader.delete(name);
          else if (verb !== "synced") reader.add(name);
        }
      };
      const full = (): void => {
        const puts = [...server].map(([name, seq]) => put(name, seq));
        feed({ snapshot: Snapshot.BEGIN, deltas: puts.slice(0, 1) });
        feed({ snapshot: Snapshot.END, deltas: puts.slice(1), portableCursor: "p" });
      };
      full();
      let seq = 0;
      for (const { name, isPut, isCut, isFull } of steps) {
        seq += 1;
        if (isPut) server.set(name, seq);
        else server.delete(name);
        if (isCut) {
          follower.broken(0, AWAY);
          full();
        } else if (isFull) full();
        else feed({ deltas: [isPut ? put(name, seq) : remove(name, seq)], cursor: `s${seq}` });
        expect([...reader].toSorted()).toEqual([...server.keys()].toSorted());
      }
    }),
  );
});

test.each([20_000, 60_000, 300_000])(
  "a thousand readers that lost all servers for %i ms come back within 13 s, few in one second",
  (outageMs) => {
    const backMs = Array.from({ length: 1000 }, (_, i) => {
      const rng = new Rng(`reader ${i}`);
      const follower = new WatchFollower("", { seen: readEntryPayload });
      let nowMs = 0;
      while (nowMs < outageMs) nowMs += follower.broken(rng.next(), AWAY);
      return nowMs - outageMs;
    });
    expect(Math.max(...backMs)).toBeLessThan(13_000);
    const perSecond = Array.from({ length: 13 }, (_, second) => backMs.filter((ms) => Math.floor(ms / 1000) === second).length);
    expect(Math.max(...perSecond)).toBeLessThanOrEqual(outageMs < 60_000 ? 250 : 150);
  },
);

test("a doubt leads to a snapshot also where the server gave a cursor of its own before its first bookmark", () => {
  const follower = synced("x");
  follower.open("n1");
  told(follower, { cursor: "s2", deltas: [put("z", 8)] });
  follower.broken(0, AWAY);
  follower.open("n2");
  told(follower, { cursor: "s3", deltas: [put("y", 9)] });
  told(follower, { cursor: "s4", portableCursor: "p4", bookmark: true });
  expect([follower.hasUnconfirmed, follower.open("n2")]).toEqual([true, ""]);
});

test("of summaries a scoped snapshot tells only those whose source was lost or found, and what their keys' removals name", () => {
  const follower = new WatchFollower("", { seen: readSummaryPayload });
  const events: FollowEvent<ServiceSummary>[] = [];
  const summary = (sourceCluster: string, stale: boolean, scope = Scope.GLOBAL): Delta => ({
    deltaId: `n/1/${sourceCluster}`,
    action: Action.CREATE,
    payload: { case: "summary", value: { kind: 1, namespace: "a", serviceId: "web", sourceCluster, scope, stale } },
  });
  const tell = (init: Init): readonly string[] => {
    events.length = 0;
    follower.message(create(CatalogWatchResponseSchema, init), events);
    return events.map((event) => (event.kind === "synced" ? "synced" : `${event.kind} ${event.key.instanceId} ${event.key.clusterId}`));
  };
  expect(tell({ snapshot: Snapshot.BEGIN, deltas: [summary("us", false), summary("ap", false)] })).toEqual([
    "put global us",
    "put global ap",
  ]);
  expect(tell({ snapshot: Snapshot.END })).toEqual(["synced"]);
  tell({
    snapshot: Snapshot.BEGIN,
    replaces: ["a"],
    deltas: [summary("us", true), summary("ap", false), summary("eu", false, Scope.REGION)],
  });
  expect(events).toMatchObject([
    { kind: "put", isNew: false, entry: { stale: true, sourceCluster: "us" } },
    { kind: "put", isNew: true, key: { instanceId: "region" } },
  ]);
  expect(tell({ snapshot: Snapshot.END })).toEqual(["synced"]);
  const removed = { kind: 1, namespace: "a", name: "web", instanceId: "region", clusterId: "eu" };
  const gone: Delta = { deltaId: "n/1/9", action: Action.REMOVE, payload: { case: "removed", value: removed } };
  expect(tell({ deltas: [gone, gone] })).toEqual(["remove region eu"]);
});
