/** Fan-out: who is woken by a change, once each, in order. */
import { expect, test } from "vitest";
import { Fanout, type Watcher } from "../../src/discovery/fanout.ts";

function watcher(name: string, follows: Partial<Pick<Watcher, "namespace" | "prefix">>): Watcher & { readonly name: string } {
  return {
    name,
    namespace: "",
    prefix: "",
    dueMonoMs: 0,
    lagRevisions: 0,
    isReady: false,
    ...follows,
    wake: () => {},
    stop: () => {},
  } as never;
}

function taken(fanout: Fanout): readonly unknown[] {
  const names: unknown[] = [];
  for (let next = fanout.take(); next !== undefined; next = fanout.take()) names.push("name" in next ? next.name : "");
  return names;
}

test("a change wakes those who follow its namespace, a prefix of it, or everything", () => {
  const fanout = new Fanout();
  fanout.add(watcher("exact", { namespace: "svc.market" }));
  fanout.add(watcher("other", { namespace: "svc.billing" }));
  fanout.add(watcher("prefix", { prefix: "svc" }));
  fanout.add(watcher("half a label", { prefix: "sv" }));
  fanout.add(watcher("all", {}));
  fanout.changed(["svc.market"]);
  expect(taken(fanout)).toEqual(["exact", "prefix", "all"]);
  expect(fanout.readyCount).toBe(0);
});

test("a watcher is woken once however much changed, and again by what changes after", () => {
  const fanout = new Fanout();
  fanout.add(watcher("one", { namespace: "a" }));
  fanout.changed(["a", "a"]);
  fanout.changed(["a"]);
  expect(taken(fanout)).toEqual(["one"]);
  fanout.changed(["a"]);
  expect(taken(fanout)).toEqual(["one"]);
});

test("one that becomes ready while others are woken comes after them", () => {
  const fanout = new Fanout();
  for (const name of ["a", "b", "c"]) fanout.add(watcher(name, { namespace: name }));
  fanout.changed(["a", "b", "c"]);
  expect(fanout.take()).toMatchObject({ name: "a" });
  fanout.changed(["a"]);
  expect(fanout.readyCount).toBe(3);
  expect(taken(fanout)).toEqual(["b", "c", "a"]);
});

test("one that was removed is not woken", () => {
  const fanout = new Fanout();
  const [gone, left] = [watcher("gone", {}), watcher("left", {})];
  fanout.add(gone);
  fanout.add(left);
  fanout.changed(["a"]);
  fanout.remove(gone);
  expect(taken(fanout)).toEqual(["left"]);
  expect(fanout.size).toBe(1);
});

test("a bookmark readies those whose time has come", () => {
  const fanout = new Fanout();
  fanout.add({ ...watcher("now", {}), dueMonoMs: 100 });
  fanout.add({ ...watcher("later", {}), dueMonoMs: 101 });
  fanout.due(100);
  expect(taken(fanout)).toEqual(["now"]);
});
