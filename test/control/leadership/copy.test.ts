/** A copy has the same items as the store, even if the watch omits, repeats, forgets or pages changes. */
import * as fc from "fast-check";
import { expect, test } from "vitest";
import { StoreCopy } from "../../../src/control/leadership/copy.ts";
import { SharedStore, WATCH_START } from "../../fakes/shared-store.ts";

const KEYS = ["a/1", "a/2", "a/3", "a/4"];

function decode(bytes: Uint8Array): number | undefined {
  return bytes[0] === 0 ? undefined : bytes[0];
}

interface Seen {
  readonly version: number;
  readonly value: number | undefined;
}

/** A store, a copy of it, and what a reader of the copy's changes knows. */
class Model {
  readonly store = new SharedStore();
  readonly copy = new StoreCopy<number>(decode);
  readonly told = new Map<string, Seen>();
  position = WATCH_START;
  nowMs = 0;

  put(key: string, value: number | undefined): void {
    this.store.put(key, value === undefined ? undefined : Uint8Array.of(value));
  }

  /** Takes one step of the watch. Returns whether there was one. */
  take(limit: number): boolean {
    const found = this.store.read("a/", this.position, limit);
    if (found === undefined) return false;
    this.position = found.position;
    this.nowMs += 1;
    for (const { key, before, after } of this.copy.take(found.step, this.nowMs)?.changes ?? []) {
      if (before?.version !== this.told.get(key)?.version) throw new Error(`${key} was not at version ${before?.version}`);
      if (after === undefined) this.told.delete(key);
      else this.told.set(key, { version: after.version, value: after.value });
    }
    return true;
  }

  /** The items of the store, of the copy, and of the reader. */
  get sides() {
    const valueOf = (key: string) => decode(this.store.valueOf(key) ?? new Uint8Array());
    const store = this.store.keys("a/").map((key) => [key, { version: this.store.versionOf(key), value: valueOf(key) }]);
    const copy = [...this.copy.items].map(([key, { version, value }]) => [key, { version, value }]);
    return [store, copy, [...this.told]].map((items): unknown => Object.fromEntries(items));
  }
}

test("a copy equals the store when the watch has nothing more, and its changes tell a reader the same", () => {
  const step = fc.oneof(
    {
      weight: 4,
      arbitrary: fc.record({
        kind: fc.constant("put" as const),
        key: fc.constantFrom(...KEYS),
        value: fc.option(fc.nat(3), { nil: undefined }),
      }),
    },
    { weight: 4, arbitrary: fc.record({ kind: fc.constant("take" as const), limit: fc.integer({ min: 1, max: 3 }) }) },
    { weight: 1, arbitrary: fc.constantFrom({ kind: "compact" as const }, { kind: "backup" as const }, { kind: "restore" as const }) },
  );
  fc.assert(
    fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
      const model = new Model();
      let backup = model.store.state;
      for (const each of steps) {
        if (each.kind === "put") model.put(each.key, each.value);
        else if (each.kind === "take") model.take(each.limit);
        else if (each.kind === "compact") model.store.compact(model.store.revision);
        else if (each.kind === "backup") {
          backup = model.store.state;
          // No version is used again after a restore.
          model.store.revision += 1000;
        } else {
          while (model.take(3));
          model.store.restore(backup);
          model.position = WATCH_START;
          model.store.revision += 100;
          backup = model.store.state;
        }
      }
      while (model.take(2));
      const [store, copy, told] = model.sides;
      expect([copy, told]).toEqual([store, store]);
    }),
  );
});

test("a watch that starts over changes nothing before it has reported all items, and keeps the age of those that are unchanged", () => {
  const model = new Model();
  for (const key of KEYS) model.put(key, 1);
  expect([model.take(3), model.copy.revision, model.copy.items.size]).toEqual([true, undefined, 0]);
  expect([model.take(3), model.copy.revision, model.copy.items.size]).toEqual([true, 4, 4]);
  const since = model.copy.items.get("a/2")?.sinceMs;
  model.put("a/3", undefined);
  model.put("a/4", 2);
  model.store.compact(model.store.revision);
  model.take(1);
  expect(model.copy.items.get("a/4")?.value).toBe(1);
  while (model.take(1));
  expect([...model.copy.items].map(([key, { value }]) => [key, value])).toEqual([
    ["a/1", 1],
    ["a/2", 1],
    ["a/4", 2],
  ]);
  expect(model.copy.items.get("a/2")?.sinceMs).toBe(since);
});

test("a copy changes only at a current step, because earlier steps omit items that changed again later", () => {
  const model = new Model();
  model.put("a/1", 1);
  model.take(1);
  model.put("a/2", 1);
  model.put("a/3", 1);
  model.put("a/2", 2);
  model.take(1);
  expect([model.copy.revision, model.copy.items.has("a/2")]).toEqual([1, false]);
  model.take(1);
  expect([model.copy.revision, model.copy.items.has("a/2")]).toEqual([4, true]);
});

test("a late step takes back no item that an answer has shown since, and the next steps go on", () => {
  const model = new Model();
  model.put("a/1", 1);
  model.take(10);
  model.put("a/1", 2);
  const late = model.store.read("a/", model.position, 10);
  model.put("a/1", 3);
  const version = model.store.versionOf("a/1");
  model.copy.items.set("a/1", { version, value: 3, sinceMs: 1 });
  expect(late && model.copy.take(late.step, 2)?.changes).toEqual([]);
  expect([model.copy.items.get("a/1")?.value, model.copy.revision]).toEqual([3, version - 1]);
  model.put("a/1", undefined);
  model.position = late?.position ?? model.position;
  const next = model.store.read("a/", model.position, 10);
  expect(next && model.copy.take(next.step, 3)?.changes.map(({ after }) => after)).toEqual([undefined]);
  expect(model.copy.items.size).toBe(0);
});
