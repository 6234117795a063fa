/** P17 and the cursors of resolvers with generated histories: the streams of P3, which also read at resolvers and move between these and nodes. `test/nightly` plays more of them. */
import { expect, test } from "vitest";
import { runs } from "../../fakes/effort.ts";
import { playAny, playBusy, playFound, type TurnRow } from "../../fakes/resolver-histories.ts";

test("P17: a resolver holds at its bookmarks what its upstream holds, and a stream that moves to or from it what a query there answers", () => {
  expect(playAny(runs(100))).toBeGreaterThan(runs(500));
});

test("so it is where few keys change all the time, and streams come and go with fresh cursors", () => {
  expect(playBusy(runs(100))).toBeGreaterThan(runs(300));
});

/** What the nightly test found. */
const LOST_NEWEST: readonly TurnRow[] = [
  ["put", 0, 0, 0, 0, "move", 0, 75],
  ["put", 1, 0, 0, 1, "learn", 0, 0],
  ["put", 0, 0, 0, 0, "drain", 0, 91],
  ["put", 1, 0, 0, 1, "move", 0, 0],
  ["restart", 1, 0, 0, 0, "drain", 1, 77],
  ["abort", 0, 0, 0, 0, "farewell", 0, 0],
  ["copy", 0, 0, 0, 0, "farewell", 0, 0],
];

test("a watch of a resolver gets the older record of a key, when the newest one was lost with the disk of the upstream", () => {
  const [, stream] = playFound(LOST_NEWEST, [0, 0, 5]);
  expect([...stream!.held.values()]).toEqual(["svc|db|1|1|c1 n2/1/1 5"]);
});

const FORGOTTEN: readonly TurnRow[] = [
  ["put", 1, 0, 12, 26, "nothing", 0, 0],
  ["put", 0, 0, 0, 95, "learn", 0, 0],
  ["end", 0, 0, 12, 81, "nothing", 0, 0],
  ["copy", 0, 1, 0, 0, "nothing", 0, 0],
  ["restart", 0, 0, 0, 0, "nothing", 0, 0],
  ["copy", 1, 0, 0, 75, "nothing", 0, 0],
  ["put", 0, 0, 0, 0, "reconnect", 0, 75],
  ["put", 0, 0, 0, 0, "learn", 0, 0],
  ["put", 0, 0, 0, 0, "learn", 0, 25],
  ["forget", 1, 0, 0, 4, "nothing", 0, 0],
  ["forget", 0, 0, 0, 46, "nothing", 0, 0],
  ["put", 0, 0, 0, 0, "nothing", 0, 22],
];

const COLLECTED: readonly TurnRow[] = [
  ["put", 0, 0, 0, 0, "farewell", 0, 46],
  ["put", 2, 0, 0, 0, "drain", 0, 1],
  ["end", 2, 0, 0, 139, "move", 0, 1],
  ["put", 1, 0, 0, 1, "move", 0, 1],
  ["copy", 2, 1, 0, 0, "drain", 0, 1],
  ["restart", 1, 0, 0, 46, "drain", 0, 1],
  ["collect", 2, 0, 0, 24, "drain", 0, 1],
  ["abort", 0, 0, 0, 0, "drain", 0, 1],
  ["put", 0, 0, 1, 0, "drain", 0, 1],
];

test.each([
  ["is forgotten with its origin", FORGOTTEN, [0, 0, 0]],
  ["is collected", COLLECTED, [0, 0, 5]],
])("an unregistered entry stays away from resolvers when the tombstone %s", (_, rows, filters) => {
  for (const stream of playFound(rows, filters)) expect([...stream.held.values()].join()).not.toContain("n2/1/1");
});

const EMPTY_SNAPSHOT: readonly TurnRow[] = [
  ["copy", 2, 0, 0, 0, "nothing", 0, 0],
  ["restart", 0, 0, 0, 0, "nothing", 0, 0],
  ["put", 0, 0, 0, 0, "refilter", 2, 74],
  ["put", 0, 0, 0, 0, "learn", 0, 0],
  ["put", 2, 0, 1, 1, "drain", 2, 0],
  ["restart", 2, 0, 0, 1, "nothing", 0, 0],
  ["put", 0, 0, 0, 1, "drain", 2, 0],
  ["put", 0, 0, 0, 0, "move", 2, 77],
  ["put", 0, 0, 0, 0, "nothing", 0, 0],
];

test("a watch that got an empty snapshot without a cursor from a resolver gets its entries again from a node", () => {
  const stream = playFound(EMPTY_SNAPSHOT, [0, 0, 0])[2]!;
  expect([...stream.held.values()]).toEqual(["svc|db|1|2|c1 n3/1/1 1"]);
});

const CHANGED_FILTER: readonly TurnRow[] = [
  ["put", 0, 0, 0, 0, "refilter", 2, 146],
  ["put", 0, 0, 8, 7, "drain", 2, 0],
  ["copy", 0, 2, 0, 1, "nothing", 0, 0],
  ["put", 0, 0, 0, 0, "refilter", 2, 0],
  ["put", 0, 0, 0, 0, "pull", 2, 64],
  ["put", 0, 0, 0, 0, "refilter", 2, 2],
  ["put", 0, 0, 0, 0, "nothing", 0, 0],
];

test("a watch that asked for another filter in between, and got a part of that snapshot, begins with a snapshot", () => {
  const stream = playFound(CHANGED_FILTER, [0, 0, 0])[2]!;
  expect([...stream.held.values()]).toEqual(["svc|db|1|1|c1 n1/1/6 1"]);
});
