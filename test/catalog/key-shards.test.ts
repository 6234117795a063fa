/** Keys are spread over many maps, so that none of them becomes large. */
import { expect, test } from "vitest";
import { KeyShards, shardOf } from "../../src/catalog/key-shards.ts";
import { type KeyText, KIND, keyText } from "../../src/catalog/record/record.ts";

function key(name: string, instanceId: string): KeyText {
  return keyText({ kind: KIND.SERVICE, namespace: "svc.market", name, instanceId, clusterId: "c1" });
}

test.each<{ what: string; keyOf: (i: number) => KeyText }>([
  { what: "numbered instances", keyOf: (i) => key("n", `i${i}`) },
  { what: "numbered names", keyOf: (i) => key(`n${i}`, "1") },
  { what: "host names", keyOf: (i) => key("web", `host-${i}.example.net`) },
])("no map has more than three times its part of many keys: $what", ({ keyOf }) => {
  const counts = new Map<number, number>();
  for (let i = 0; i < 20_000; i++) counts.set(shardOf(keyOf(i)), (counts.get(shardOf(keyOf(i))) ?? 0) + 1);
  expect(Math.max(...counts.values())).toBeLessThan((3 * 20_000) / 64);
});

test("it is a map", () => {
  const shards = new KeyShards<KeyText, number>();
  const [a, b] = [key("a", "1"), key("b", "1")];
  shards.replace(a, undefined);
  expect(shards.get(a)).toBeUndefined();
  shards.replace(a, 1);
  shards.replace(a, 2);
  shards.replace(b, 3);
  expect([shards.get(a), shards.get(b)]).toEqual([2, 3]);
  shards.replace(a, undefined);
  shards.replace(a, undefined);
  expect([shards.get(a), shards.get(b)]).toEqual([undefined, 3]);
  shards.replace(b, undefined);
  expect(shards.get(b)).toBeUndefined();
});

test("it is a map when the few have become many, and when hardly any of these is left", () => {
  const shards = new KeyShards<KeyText, number>();
  const model = new Map<KeyText, number>();
  const put = (i: number, value: number | undefined) => {
    const at = key(`n${i}`, "1");
    shards.replace(at, value);
    if (value === undefined) model.delete(at);
    else model.set(at, value);
  };
  const check = () => {
    expect([shards.size, [...shards.keys()].toSorted()]).toEqual([model.size, [...model.keys()].toSorted()]);
    for (const [at, value] of model) expect(shards.get(at)).toBe(value);
  };
  for (let i = 0; i < 1024; i++) put(i, i);
  check();
  for (let i = 1000; i < 3000; i++) put(i, -i);
  check();
  for (let i = 0; i < 2999; i++) put(i, undefined);
  check();
});

test("what was asked for last is told as it is since, in each of its states and while the few become many", () => {
  const shards = new KeyShards<KeyText, number>();
  const asked = key("asked", "1");
  const twin = key("asked", "1");
  shards.replace(key("other", "1"), 0);
  for (const value of [undefined, 1, 2, undefined, 3]) {
    shards.replace(asked, value);
    expect([shards.get(asked), shards.get(twin), shards.size]).toEqual([value, value, value === undefined ? 1 : 2]);
  }
  for (let i = 0; i < 3000; i++) {
    shards.replace(key(`n${i}`, "1"), i);
    expect([shards.get(asked), shards.get(key(`n${i}`, "1"))]).toEqual([3, i]);
  }
  expect(shards.get(key("n3000", "1"))).toBeUndefined();
  shards.replace(key("n3000", "1"), 3000);
  expect([shards.get(key("n3000", "1")), shards.size]).toEqual([3000, 3003]);
});

test.each([1023, 1024, 1025, 1026])("with %i keys the last one can be changed and taken out at once", (count) => {
  const shards = new KeyShards<KeyText, number>();
  for (let i = 1; i <= count; i++) for (const value of [i, -i]) shards.replace(key(`n${i}`, "1"), value);
  for (let i = 1; i <= count; i++) expect(shards.get(key(`n${i}`, "1"))).toBe(-i);
  for (let i = 1; i <= count; i++) for (const value of [i, undefined]) shards.replace(key(`x${i}`, "1"), value);
  expect([shards.size, [...shards.keys()].filter((at) => at === key(`n${count}`, "1") || at.includes("x")).length]).toEqual([count, 1]);
});
