/** Fair turns: a burst of one waits behind itself, in order, and never in front of another. */
import { expect, test } from "vitest";
import { FairScheduler, type SchedulerShare } from "../../src/grpc/server/connection-limits.ts";

function world(each: number, all = 100, behind?: FairScheduler) {
  const ends: (() => void)[] = [];
  const turns = new FairScheduler({ each, all, ...(behind && { behind }) }, (end) => void ends.push(end));
  const done: string[] = [];
  const act = (share: SchedulerShare, what: string) => {
    if (turns.mayAct(share)) done.push(what);
    else turns.wait(share, () => void done.push(what));
  };
  return { turns, done, act, endTurn: () => ends.shift()?.(), isScheduled: () => ends.length > 0 };
}

test("what fits the turn is done at once, the rest in the next turns, in order", () => {
  const { turns, done, act, endTurn, isScheduled } = world(2);
  const one = turns.join();
  for (const what of ["a", "b", "c", "d", "e"]) act(one, what);
  expect(done).toEqual(["a", "b"]);
  endTurn();
  expect(done).toEqual(["a", "b", "c", "d"]);
  act(one, "f");
  expect(done).toEqual(["a", "b", "c", "d"]);
  endTurn();
  expect(done).toEqual(["a", "b", "c", "d", "e", "f"]);
  endTurn();
  expect(isScheduled()).toBe(false);
});

test("another's call does not wait for a burst", () => {
  const { turns, done, act } = world(2);
  const busy = turns.join();
  const other = turns.join();
  for (let i = 0; i < 100; i++) act(busy, "busy");
  act(other, "other");
  expect(done).toEqual(["busy", "busy", "other"]);
});

test("an idle share costs nothing: nothing is scheduled, and its next turn is whole", () => {
  const { turns, done, act, endTurn, isScheduled } = world(1);
  const one = turns.join();
  act(one, "a");
  endTurn();
  expect(isScheduled()).toBe(false);
  act(one, "b");
  expect(done).toEqual(["a", "b"]);
});

test("several bursts take turns, together no longer than one, and the first act of another still does not wait", () => {
  const { turns, done, act, endTurn, isScheduled } = world(4, 4);
  const busy = ["a", "b", "c"].map((name) => ({ name, share: turns.join() }));
  for (const { name, share } of busy) for (let i = 0; i < 8; i++) act(share, name);
  expect(done.join("")).toBe("aaaabc");
  endTurn();
  expect(done.splice(0, 6)).toHaveLength(6);
  expect(done.join("")).toBe("aaaa");
  act(turns.join(), "x");
  endTurn();
  endTurn();
  endTurn();
  expect(done.join("")).toBe("aaaaxbbbbccccbbbc".slice(0, done.length));
  while (isScheduled()) endTurn();
  expect(done.toSorted().join("")).toBe("aaaabbbbbbbcccccccx");
});

test("an act never overtakes those of its share that wait, also where a turn had no room for the share", () => {
  const { turns, done, act, endTurn, isScheduled } = world(2, 2);
  const [busy, late] = [turns.join(), turns.join()];
  for (const what of ["a", "b", "c", "d"]) act(busy, what);
  for (const what of ["1", "2", "3"]) act(late, what);
  endTurn();
  act(late, "4");
  while (isScheduled()) endTurn();
  expect(done.filter((what) => what >= "a").join("")).toBe("abcd");
  expect(done.filter((what) => what < "a").join("")).toBe("1234");
});

test("behind another scheduler, the first act of a share waits too, and each turn has as many acts as it has room for", () => {
  const { turns, done, act, endTurn, isScheduled } = world(2, 3, world(2).turns);
  const shares = ["a", "b", "c", "d", "e"].map((name) => ({ name, share: turns.join() }));
  for (const { name, share } of shares) act(share, name);
  expect(done.join("")).toBe("abc");
  endTurn();
  expect(done.join("")).toBe("abcde");
  for (const { name, share } of shares) act(share, name);
  expect(done.join("")).toBe("abcdea");
  endTurn();
  expect(done.join("")).toBe("abcdeadeb");
  while (isScheduled()) endTurn();
  expect(done.join("")).toBe("abcdeadebc");
});

test("behind a busy scheduler, a turn has room for as many acts as that one had", () => {
  const first = world(2);
  const { turns, done, act } = world(2, 3, first.turns);
  for (let i = 0; i < 5; i++) first.act(first.turns.join(), "first");
  first.endTurn();
  for (let i = 0; i < 9; i++) act(turns.join(), "x");
  expect(done.join("")).toBe("xxxxx");
});
