/** Touches that many records are owed at once (semantics.md, Watch 11). */
import { expect, test } from "vitest";
import { BODY, HEALTH, type KeyText, KIND, keyText, type OriginStatus, viewHealth } from "../../../src/catalog/record/record.ts";
import type { Origin, StoredRecord } from "../../../src/catalog/record/stored-record.ts";
import { startNewGeneration } from "../../../src/catalog/replica/new-generation.ts";
import { ENTRIES, TouchSweeps } from "../../../src/catalog/replica/touch-sweeps.ts";
import { WatchFeed } from "../../../src/catalog/watch/feed.ts";
import { NAME_INDEX_BOUNDS, NameIndex } from "../../../src/catalog/watch/name-index.ts";
import { ACTION } from "../../../src/catalog/watch/reader.ts";
import { timeOf } from "../../fakes/history.ts";
import { FabricComponent, KEYS } from "../../fakes/mesh.ts";
import { FILTERS, Readers } from "../../fakes/stream.ts";

const T = timeOf(40, 0);

/** A node that knows entries 1 to 16 of n2. */
function known(): { readonly node: FabricComponent; readonly origin: Origin; readonly other: FabricComponent } {
  const [node, other] = [new FabricComponent("n1"), new FabricComponent("n2")];
  KEYS.forEach((key, n) => other.put(key, n, timeOf(n, 1)));
  other.commit(timeOf(20, 1));
  node.copy(other, "n2/1", timeOf(21, 0));
  const origin = node.replica.origins.get("n2/1");
  if (origin === undefined) throw new Error("n1 knows n2");
  return { node, origin, other };
}

/** One entry of n2 is put again, and then n2 is an orphan: what is seen of that entry has changed, and it is not touched for it yet. */
function orphanWithNews({ node, origin, other }: ReturnType<typeof known>): KeyText {
  const [key] = KEYS;
  if (key === undefined) throw new Error("there are keys");
  other.put(key, 1, timeOf(30, 1));
  other.commit(timeOf(31, 1));
  node.copy(other, "n2/1", timeOf(32, 0));
  origin.life = "orphaned";
  node.replica.sweeps.scheduleTouch(origin, ENTRIES);
  return key;
}

/** A watch with one of the filters, and what it holds. */
function watchOf(
  node: FabricComponent,
  filter: number,
): { readonly held: Set<string>; readonly told: string[]; readonly read: (isReady: boolean) => void } {
  const feed = new WatchFeed(
    new Readers({ denied: new Set(), epoch: 0 }).of(node, filter),
    { from: undefined, bookmarkIntervalMs: 1e9 },
    T,
  );
  const held = new Set<string>();
  const told: string[] = [];
  const read = (isReady: boolean) => {
    for (let message = feed.next(T, 1e6, isReady); message !== undefined; message = feed.next(T, 1e6, isReady))
      for (const { action, record } of message.changes) {
        told.push(record.key);
        held[action === ACTION.REMOVE ? "delete" : "add"](record.key);
      }
  };
  return { held, told, read };
}

const BY_NAMES = FILTERS.findIndex(({ names }) => names.length > 0);
const BLUE = FILTERS.findIndex(({ tags }) => tags.includes("blue"));
const ORPHANED = FILTERS.findIndex(({ healthMask }) => (healthMask & (1 << HEALTH.ORPHANED)) !== 0);
const HEALTHY = FILTERS.findIndex(({ healthMask }) => healthMask === 1 << HEALTH.HEALTHY);

/** What the other one ended comes here, and nothing is owed any more. */
function comesToRest(node: FabricComponent, other: FabricComponent): void {
  other.commit(timeOf(34, 1));
  node.copy(other, other.replica.self.id, timeOf(35, 0));
  while (node.replica.sweep(3, T));
}

test("a mark hides in slices; a life that changes meanwhile is swept from the first record on", () => {
  const { node, origin } = known();
  const { replica } = node;
  origin.markedSeq = origin.through;
  replica.sweeps.scheduleTouch(origin, { after: 0, until: origin.markedSeq, withEnds: false });
  replica.sweep(3, timeOf(30, 0));
  expect([replica.lookup.size, replica.sweeps.isOwed, replica.sweeps.isOwedTo(origin)]).toEqual([KEYS.length - 3, true, true]);
  const { revision } = replica;
  origin.life = "orphaned";
  replica.sweeps.scheduleTouch(origin, ENTRIES);
  while (replica.sweep(3, timeOf(31, 0)));
  expect([replica.lookup.size, replica.sweeps.isOwed, replica.revision - revision]).toEqual([0, false, 1 + KEYS.length]);
});

test("only what lies in the span is touched, tombstones only where asked for, and what was owed twice is unsure", () => {
  const { node, origin } = known();
  const [first] = origin.log.list();
  if (first === undefined) throw new Error("there are records");
  node.replica.withdraw(first, timeOf(30, 0));
  expect(first.body).toBe(BODY.EXPIRED);
  const touched: [number, "sure" | "unsure"][] = [];
  const sweeps = new TouchSweeps(
    {
      winner: (stored) => stored,
      touch: (stored: StoredRecord, { between }) => touched.push([stored.seq, between === "unsure" ? between : "sure"]),
      withdraw: () => undefined,
    },
    () => 7,
  );
  sweeps.scheduleTouch(origin, { after: 0, until: 3, withEnds: false });
  expect([sweeps.step(2, T), sweeps.isOwed]).toEqual([2, true]);
  expect([sweeps.step(10, T), sweeps.isOwed]).toEqual([1, false]);
  expect(touched.splice(0)).toEqual([
    [2, "sure"],
    [3, "sure"],
  ]);
  sweeps.scheduleTouch(origin, { after: 0, until: 2, withEnds: true });
  sweeps.scheduleTouch(origin, { after: 14, until: 15, withEnds: false });
  sweeps.step(2, T);
  expect(touched).toEqual([
    [1, "unsure"],
    [2, "unsure"],
  ]);
});

test("who was told of a record between a change of life and its touch is told again, though the life changed back by then", () => {
  const all = known();
  const { node, origin } = all;
  const { replica } = node;
  const feed = new WatchFeed(new Readers({ denied: new Set(), epoch: 0 }).of(node, 0), { from: undefined, bookmarkIntervalMs: 1e9 }, T);
  const held = new Map<string, number>();
  const read = (isReady: boolean) => {
    for (let message = feed.next(T, 1e6, isReady); message !== undefined; message = feed.next(T, 1e6, isReady))
      for (const { record } of message.changes) held.set(record.key, viewHealth(record));
  };
  read(true);
  const key = orphanWithNews(all);
  read(false);
  expect(held.get(key)).toBe(HEALTH.ORPHANED);
  while (replica.sweep(3, T));
  origin.life = "live";
  replica.sweeps.scheduleTouch(origin, ENTRIES);
  while (replica.sweep(3, T));
  read(true);
  const view = replica.view(key);
  expect(view && held.get(key)).toBe(view && viewHealth(view));
});

test("who was told of a record between a change of life and its touch is told that it is gone, though it went before the touch", () => {
  const all = known();
  const { node, other } = all;
  const { replica } = node;
  const { held, read } = watchOf(node, ORPHANED);
  read(true);
  const key = orphanWithNews(all);
  read(false);
  expect(held.has(key)).toBe(true);
  other.end(key, BODY.UNREGISTERED, timeOf(33, 1));
  other.commit(timeOf(34, 1));
  node.copy(other, "n2/1", timeOf(35, 0));
  while (replica.sweep(3, T));
  read(true);
  expect(held.has(key)).toBe(false);
});

test("who looked before the change of life, and not in between, is told nothing of what is seen as before", () => {
  const { node, origin } = known();
  const { replica } = node;
  const feed = new WatchFeed(new Readers({ denied: new Set(), epoch: 0 }).of(node, 0), { from: undefined, bookmarkIntervalMs: 1e9 }, T);
  const told: string[] = [];
  const read = () => {
    for (let message = feed.next(T, 1e6, true); message !== undefined; message = feed.next(T, 1e6, true))
      for (const { record } of message.changes) told.push(record.key);
  };
  read();
  expect(told.splice(0)).toHaveLength(KEYS.length);
  for (const life of ["orphaned", "live"] as const) {
    origin.life = life;
    replica.sweeps.scheduleTouch(origin, ENTRIES);
    while (replica.sweep(3, T));
  }
  read();
  expect(told).toEqual([]);
});

test("who looked before two changes of life, and not in between, is told only of what is seen otherwise, though nothing was touched between them", () => {
  const { node, origin, other } = known();
  const watches = [0, BLUE, ORPHANED].map((filter) => watchOf(node, filter));
  for (const { read, told } of watches) {
    read(true);
    told.length = 0;
  }
  for (const life of ["orphaned", "live"] as const) live(node, origin, life);
  const [key] = KEYS;
  if (key === undefined) throw new Error("there are keys");
  other.end(key, BODY.UNREGISTERED, timeOf(33, 1));
  comesToRest(node, other);
  for (const { read } of watches) read(true);
  expect(watches.map(({ told }) => told)).toEqual([[key], [key], []]);
});

test.each([
  ["in the same round", () => undefined],
  ["in rounds of their own", (offer: () => void) => offer()],
])("who was not woken between two changes of life is told nothing of what is seen as before, its names being offered %s", (_, between) => {
  const { node, origin } = known();
  const { replica } = node;
  const reader = new Readers({ denied: new Set(), epoch: 0 }).of(node, BY_NAMES);
  const feed = new WatchFeed(reader, { from: undefined, bookmarkIntervalMs: 1e9 }, T);
  const read = () => {
    const told: string[] = [];
    for (let message = feed.next(T, 1e6, true); message !== undefined; message = feed.next(T, 1e6, true))
      told.push(...message.changes.map(({ record }) => record.key));
    return told;
  };
  expect(read()).not.toEqual([]);
  const index = new NameIndex(replica, NAME_INDEX_BOUNDS);
  const offer = () => index.offer(() => undefined);
  index.add(reader);
  for (const life of ["orphaned", "live"] as const) {
    origin.life = life;
    replica.sweeps.scheduleTouch(origin, ENTRIES);
    // Its touches come only after the end of this round.
    if (life === "orphaned") offer();
    while (replica.sweep(3, T)) between(offer);
  }
  offer();
  expect(read()).toEqual([]);
});

/** Another life, which its records are not touched for yet. */
function live(node: FabricComponent, origin: Origin, life: OriginStatus): void {
  origin.life = life;
  node.replica.sweeps.scheduleTouch(origin, ENTRIES);
}

type Known = ReturnType<typeof known>;

test.each<readonly [string, (all: Known, key: KeyText) => void]>([
  [
    "it is ended",
    ({ node, other }, key) => {
      other.end(key, BODY.UNREGISTERED, timeOf(33, 1));
      other.commit(timeOf(34, 1));
      node.copy(other, "n2/1", timeOf(35, 0));
    },
  ],
  [
    "it is put again with other tags",
    ({ node, other }, key) => {
      other.put(key, 1, timeOf(33, 1));
      other.commit(timeOf(34, 1));
      node.copy(other, "n2/1", timeOf(35, 0));
    },
  ],
  [
    "a whole transfer does not list it",
    ({ node }, key) => {
      const [stored] = node.replica.records(key);
      if (stored !== undefined) node.replica.withdraw(stored, timeOf(35, 0));
    },
  ],
])("who was told of what is no longer hidden, before its touch, is told that it is gone when %s before that", (_, change) => {
  const all = known();
  const { node, origin, other } = all;
  const [key] = KEYS;
  if (key === undefined) throw new Error("there are keys");
  live(node, origin, "hidden");
  while (node.replica.sweep(3, T));
  const watch = watchOf(node, BLUE);
  watch.read(true);
  // It comes while its origin is hidden, and nobody has looked at it yet when that is so no more.
  other.put(key, 0, timeOf(30, 1));
  other.commit(timeOf(31, 1));
  node.copy(other, "n2/1", timeOf(32, 0));
  live(node, origin, "live");
  watch.read(false);
  expect(watch.held.has(key)).toBe(true);
  change(all, key);
  while (node.replica.sweep(3, T));
  watch.read(true);
  expect(watch.held.has(key)).toBe(false);
});

test("who was told of an entry between two changes of life and its touch is told that it is gone, though it went before the touch", () => {
  const all = known();
  const { node, origin, other } = all;
  live(node, origin, "orphaned");
  while (node.replica.sweep(3, T));
  const watch = watchOf(node, HEALTHY);
  watch.read(true);
  const [key] = KEYS;
  if (key === undefined) throw new Error("there are keys");
  other.put(key, 0, timeOf(30, 1));
  other.commit(timeOf(31, 1));
  node.copy(other, "n2/1", timeOf(32, 0));
  live(node, origin, "live");
  watch.read(false);
  expect(watch.held.has(key)).toBe(true);
  live(node, origin, "orphaned");
  other.end(key, BODY.UNREGISTERED, timeOf(33, 1));
  comesToRest(node, other);
  watch.read(true);
  expect(watch.held.has(key)).toBe(false);
});

test("who was told of another origin's record of the key, before the touch of the one that hid it, is told that it is gone", () => {
  const { node, origin } = known();
  const third = new FabricComponent("n3");
  const [key] = KEYS;
  if (key === undefined) throw new Error("there are keys");
  // n2's entry is newer, and is none of the watch's.
  const watch = watchOf(node, BLUE + 1);
  watch.read(true);
  third.put(key, 1, timeOf(0, 0), 1);
  third.commit(timeOf(31, 1));
  node.copy(third, "n3/1", timeOf(32, 0));
  live(node, origin, "hidden");
  watch.read(false);
  expect(watch.held.has(key)).toBe(true);
  third.end(key, BODY.EXPIRED, timeOf(33, 1));
  comesToRest(node, third);
  watch.read(true);
  expect(watch.held.has(key)).toBe(false);
});

test("who was told in a page of what is hidden, before its touch, is told that it is gone", () => {
  const { node, origin } = known();
  live(node, origin, "hidden");
  const watch = watchOf(node, ORPHANED);
  watch.read(false);
  expect(watch.held.size).toBe(KEYS.length);
  while (node.replica.sweep(3, T));
  watch.read(true);
  expect(watch.held.size).toBe(0);
});

test("while touches are owed to one origin, it is known what was seen of the others' records: what came and went is told to nobody", () => {
  const { node, origin } = known();
  const third = new FabricComponent("n3");
  const key = keyText({ kind: KIND.SERVICE, namespace: "svc", name: "db", instanceId: "9", clusterId: "c1" });
  live(node, origin, "orphaned");
  const watch = watchOf(node, 0);
  watch.read(false);
  watch.told.length = 0;
  third.put(key, 0, timeOf(30, 1));
  third.commit(timeOf(31, 1));
  node.copy(third, "n3/1", timeOf(32, 0));
  third.end(key, BODY.UNREGISTERED, timeOf(33, 1));
  third.commit(timeOf(34, 1));
  node.copy(third, "n3/1", timeOf(35, 0));
  watch.read(false);
  expect(watch.told).toEqual([]);
});

test("an origin without records is owed nothing", () => {
  const { node } = known();
  node.replica.sweeps.scheduleTouch(node.replica.origin("n3", 1), ENTRIES);
  expect([node.replica.sweeps.isOwed, node.replica.sweep(1, timeOf(30, 0))]).toEqual([false, false]);
});

/** Of two origins of a key, n1 itself has a new generation and n2 another life; who is to be touched for that is not touched yet. */
function renamedBeside(first: "n1" | "n2", hlc?: number) {
  const all = known();
  const { node, origin } = all;
  const [key] = KEYS;
  if (key === undefined) throw new Error("there are keys");
  live(node, origin, "hidden");
  while (node.replica.sweep(3, T));
  node.put(key, 0, timeOf(30, 0), hlc);
  node.commit(timeOf(30, 0));
  const watch = watchOf(node, 0);
  watch.read(true);
  watch.told.length = 0;
  if (first === "n2") live(node, origin, "orphaned");
  startNewGeneration(node.replica, 2);
  if (first === "n1") live(node, origin, "orphaned");
  return { ...all, key, watch };
}

test.each(["n1", "n2"] as const)(
  "who was told of a record whose origin is in a new generation is told again, where another origin of its key is owed a touch at once: %s is first",
  (first) => {
    const { node, key, watch } = renamedBeside(first);
    expect(node.replica.records(key)).toHaveLength(2);
    while (node.replica.sweep(1, T));
    watch.read(true);
    expect(watch.told).toContain(key);
  },
);

test.each(["n1", "n2"] as const)("so it is where the other record of its key goes before either is touched: %s is first", (first) => {
  // That one is the newer of the two.
  const { node, other, key, watch } = renamedBeside(first, 1);
  other.end(key, BODY.EXPIRED, timeOf(33, 1));
  comesToRest(node, other);
  watch.read(true);
  expect(watch.told).toContain(key);
});
