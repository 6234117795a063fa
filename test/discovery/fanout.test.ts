/** Fan-out: who is woken by a change, once each, in order. */
import fc from "fast-check";
import { expect, test } from "vitest";
import { Fanout, type WatchStream } from "../../src/discovery/fanout.ts";

interface Follows {
  readonly namespace?: string;
  readonly prefix?: string;
}

function watcher(name: string, follows: Follows, bookmarkDueMonoMs = 0): WatchStream & { readonly name: string } {
  const feed = { reader: { options: { filter: { namespace: "", prefix: "", ...follows } } }, bookmarkDueMonoMs };
  return { name, feed, isReady: false, wake: () => {}, stop: () => {} } as never;
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

test("whatever changed, those are woken who follow one of the namespaces, in no order that matters, once each", () => {
  const name = fc.array(fc.constantFrom("a", "b", "ab", "a-b"), { minLength: 1, maxLength: 4 }).map((labels) => labels.join("."));
  const follows = fc.oneof(fc.record({ namespace: name }), fc.record({ prefix: name }), fc.constant({}));
  fc.assert(
    fc.property(
      fc.array(follows, { maxLength: 12 }),
      fc.array(fc.nat(11), { maxLength: 4 }),
      fc.array(name, { minLength: 1, maxLength: 4 }),
      (all, gone, changed) => {
        const fanout = new Fanout();
        const watchers = all.map((each, i) => watcher(String(i), each));
        for (const each of watchers) fanout.add(each);
        const left = watchers.filter((_, i) => !gone.includes(i));
        for (const each of watchers) if (!left.includes(each)) fanout.remove(each);
        fanout.changed(changed);
        const concerns = ({ feed }: WatchStream) => {
          const { namespace, prefix } = feed.reader.options.filter;
          const isIn = (one: string) => one === namespace || (prefix !== "" && `${one}.`.startsWith(`${prefix}.`));
          return (namespace === "" && prefix === "") || changed.some(isIn);
        };
        const woken = taken(fanout);
        expect(new Set(woken)).toEqual(new Set(left.filter(concerns).map((each) => each.name)));
        expect(new Set(woken).size, "once each").toBe(woken.length);
      },
    ),
  );
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
  fanout.add(watcher("now", {}, 100));
  fanout.add(watcher("later", {}, 101));
  fanout.due(100);
  expect(taken(fanout)).toEqual(["now"]);
});

test("everybody is readied when the node's readiness changes, and a removed one's place is nobody's", () => {
  const fanout = new Fanout();
  const [exact, prefix] = [watcher("exact", { namespace: "a" }), watcher("prefix", { prefix: "a" })];
  for (const each of [exact, prefix, watcher("all", {})]) fanout.add(each);
  fanout.all();
  expect(taken(fanout)).toEqual(["exact", "prefix", "all"]);
  for (const each of [exact, prefix]) fanout.remove(each);
  fanout.changed(["a", "a.b"]);
  fanout.all();
  expect(taken(fanout)).toEqual(["all"]);
});

test("who is to end is told so and then woken: nothing is written in the middle of somebody else's turn", () => {
  const said: string[] = [];
  const fanout = new Fanout(() => said.push("kick"));
  for (const name of ["one", "two"]) {
    fanout.add({ ...watcher(name, {}), stop: () => said.push(`${name} stops`), wake: () => said.push(`${name} wakes`) });
  }
  fanout.end();
  expect(said).toEqual(["one stops", "two stops", "kick"]);
  expect(taken(fanout)).toEqual(["one", "two"]);
});

test("when all are to end, so is one that comes later", () => {
  const fanout = new Fanout();
  const stopped: string[] = [];
  const named = (name: string) => ({ ...watcher(name, {}), stop: () => void stopped.push(name) });
  fanout.add(named("before"));
  expect(stopped).toEqual([]);
  fanout.end();
  fanout.add(named("after"));
  expect(stopped).toEqual(["before", "after"]);
});
