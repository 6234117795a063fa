/** Touches that many records are owed at once (semantics.md, Watch 11). */
import { expect, test } from "vitest";
import type { Cell, Origin } from "../../src/catalog/cell.ts";
import { Feed } from "../../src/catalog/feed.ts";
import { ACTION } from "../../src/catalog/reader.ts";
import { BODY, HEALTH, type KeyText, viewHealth } from "../../src/catalog/record.ts";
import { ENTRIES, Sweeps } from "../../src/catalog/sweeps.ts";
import { timeOf } from "../fakes/history.ts";
import { KEYS, MeshNode } from "../fakes/mesh.ts";
import { FILTERS, Readers } from "../fakes/stream.ts";

const T = timeOf(40, 0);

/** A node that knows entries 1 to 16 of n2. */
function known(): { readonly node: MeshNode; readonly origin: Origin; readonly other: MeshNode } {
  const [node, other] = [new MeshNode("n1"), new MeshNode("n2")];
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
  node.replica.sweeps.owe(origin, ENTRIES);
  return key;
}

test("a mark hides in slices; a life that changes meanwhile is swept from the first record on", () => {
  const { node, origin } = known();
  const { replica } = node;
  origin.markedSeq = origin.through;
  replica.sweeps.owe(origin, { after: 0, until: origin.markedSeq, withEnds: false });
  replica.sweep(3, timeOf(30, 0));
  expect([replica.lookup.size, replica.sweeps.isOwed, replica.sweeps.isOwedTo(origin)]).toEqual([KEYS.length - 3, true, true]);
  const { revision } = replica;
  origin.life = "orphaned";
  replica.sweeps.owe(origin, ENTRIES);
  while (replica.sweep(3, timeOf(31, 0)));
  expect([replica.lookup.size, replica.sweeps.isOwed, replica.revision - revision]).toEqual([0, false, 1 + KEYS.length]);
});

test("only what lies in the span is touched, tombstones only where asked for, and what was owed twice is unsure", () => {
  const { node, origin } = known();
  const [first] = origin.log.list();
  if (first === undefined) throw new Error("there are records");
  node.replica.withdraw(first, timeOf(30, 0));
  expect(first.body).toBe(BODY.EXPIRED);
  const touched: [number, string][] = [];
  const sweeps = new Sweeps({ touch: (cell: Cell, before) => touched.push([cell.seq, before]), withdraw: () => undefined }, () => 7);
  sweeps.owe(origin, { after: 0, until: 3, withEnds: false });
  expect([sweeps.step(2, T), sweeps.isOwed]).toEqual([2, true]);
  expect([sweeps.step(10, T), sweeps.isOwed]).toEqual([1, false]);
  expect(touched.splice(0)).toEqual([
    [2, "seen"],
    [3, "seen"],
  ]);
  sweeps.owe(origin, { after: 0, until: 2, withEnds: true });
  sweeps.owe(origin, { after: 14, until: 15, withEnds: false });
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
  const feed = new Feed(new Readers({ denied: new Set(), epoch: 0 }).of(node, 0), { from: undefined, bookmarkIntervalMs: 1e9 }, T);
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
  replica.sweeps.owe(origin, ENTRIES);
  while (replica.sweep(3, T));
  read(true);
  const view = replica.view(key);
  expect(view && held.get(key)).toBe(view && viewHealth(view));
});

test("who was told of a record between a change of life and its touch is told that it is gone, though it went before the touch", () => {
  const all = known();
  const { node, other } = all;
  const { replica } = node;
  const orphans = FILTERS.findIndex(({ healthMask }) => (healthMask & (1 << HEALTH.ORPHANED)) !== 0);
  const feed = new Feed(new Readers({ denied: new Set(), epoch: 0 }).of(node, orphans), { from: undefined, bookmarkIntervalMs: 1e9 }, T);
  const held = new Set<string>();
  const read = (isReady: boolean) => {
    for (let message = feed.next(T, 1e6, isReady); message !== undefined; message = feed.next(T, 1e6, isReady))
      for (const { action, record } of message.changes) held[action === ACTION.REMOVE ? "delete" : "add"](record.key);
  };
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
  const feed = new Feed(new Readers({ denied: new Set(), epoch: 0 }).of(node, 0), { from: undefined, bookmarkIntervalMs: 1e9 }, T);
  const told: string[] = [];
  const read = () => {
    for (let message = feed.next(T, 1e6, true); message !== undefined; message = feed.next(T, 1e6, true))
      for (const { record } of message.changes) told.push(record.key);
  };
  read();
  expect(told.splice(0)).toHaveLength(KEYS.length);
  for (const life of ["orphaned", "live"] as const) {
    origin.life = life;
    replica.sweeps.owe(origin, ENTRIES);
    while (replica.sweep(3, T));
  }
  read();
  expect(told).toEqual([]);
});

test("an origin without records is owed nothing", () => {
  const { node } = known();
  node.replica.sweeps.owe(node.replica.origin("n3", 1), ENTRIES);
  expect([node.replica.sweeps.isOwed, node.replica.sweep(1, timeOf(30, 0))]).toEqual([false, false]);
});
