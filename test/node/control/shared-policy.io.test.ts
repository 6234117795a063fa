import { expect, test } from "vitest";
import { WaymarkError } from "../../../src/lib/errors.ts";
import { publishPolicy } from "../../../src/node/control/shared-policy.io.ts";
import { openMemoryStore } from "../../../src/store/control/sqlite.io.ts";
import { version } from "../../fakes/policy-versions.ts";

test("of two versions of one number that are applied at the same time, the first in the store wins, even if the second is newer", async () => {
  await using store = openMemoryStore();
  const [older, newer] = [version(1, "a", 1, 10), version(1, "b", 1, 20)];
  expect(await publishPolicy(store, 1, older.bytes)).toBe(true);
  expect(await publishPolicy(store, 1, newer.bytes)).toBe(false);
  // A request whose answer was lost is repeated.
  expect(await publishPolicy(store, 1, older.bytes)).toBe(true);
});

test("a node that had a newer version of a number before it shared the store replaces the older one, and never the reverse", async () => {
  await using store = openMemoryStore();
  const [older, newer] = [version(1, "a", 1, 10), version(1, "b", 1, 20)];
  await publishPolicy(store, 1, older.bytes);
  expect(await publishPolicy(store, 1, newer.bytes, { replacesOlder: true })).toBe(true);
  expect(await publishPolicy(store, 1, older.bytes, { replacesOlder: true })).toBe(false);
});

test("the store keeps 16 versions, and a failure to remove an earlier one does not refuse the new one", async () => {
  await using store = openMemoryStore();
  for (let number = 1; number <= 17; number++) expect(await publishPolicy(store, number, version(number).bytes)).toBe(true);
  expect((await store.list("policy/")).items).toHaveLength(16);
  const list = () => Promise.reject(new WaymarkError("store_unavailable", "it is away"));
  const broken = {
    get: store.get.bind(store),
    transact: store.transact.bind(store),
    compareAndSwap: store.compareAndSwap.bind(store),
    list,
  };
  expect(await publishPolicy(broken, 18, version(18).bytes)).toBe(true);
});
