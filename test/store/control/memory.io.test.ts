import fc from "fast-check";
import { expect, test } from "vitest";
import { openMemoryStore } from "../../../src/store/control/sqlite.io.ts";
import { MAX_VALUE_BYTES, STORE_BOUNDS } from "../../../src/store/control/store.ts";
import { storeContract } from "../../contract/store.ts";
import { ControlMap } from "../../fakes/control-map.ts";

storeContract("memory", {
  runs: 200,
  maxValueBytes: MAX_VALUE_BYTES,
  hasBounds: true,
  forgets: "maxRemovals",
  open: (bounds) => Promise.resolve(openMemoryStore(bounds)),
});

const bytes = (text: string) => new TextEncoder().encode(text);

test("revisions are consecutive: each change of a transaction has its own, and a refused or empty transaction has none", async () => {
  await using store = openMemoryStore();
  const put = (key: string) => ({ key, value: bytes("x") });
  const remove = (key: string) => ({ key, value: undefined });
  expect(await store.transact([], [put("a"), put("b")])).toEqual({ isCommitted: true, revision: 2, versions: [1, 2] });
  expect(await store.transact([{ key: "a", version: 7 }], [put("a")])).toEqual({ isCommitted: false, revision: 2, versions: [1] });
  expect(await store.transact([], [remove("c")])).toEqual({ isCommitted: true, revision: 2, versions: [0] });
  expect(await store.transact([], [remove("a"), remove("c"), put("b")])).toEqual({ isCommitted: true, revision: 4, versions: [3, 0, 4] });
  expect(await store.compareAndSwap("b", 4, undefined)).toEqual({ isSwapped: true, version: 5 });
});

test("a watch reports only the newest of several changes of a key", async () => {
  await using store = openMemoryStore();
  using watch = store.watch("");
  await watch.next();
  for (const version of [0, 1, 2]) await store.compareAndSwap("a", version, bytes(`${version}`));
  expect((await watch.next())?.changes).toEqual([{ key: "a", version: 3, item: { key: "a", value: bytes("2"), version: 3 } }]);
});

test("a transaction with more removals than are remembered makes earlier watches start over", async () => {
  await using store = openMemoryStore({ ...STORE_BOUNDS, maxRemovals: 1 });
  const keys = ["a", "b", "c", "d"];
  await store.transact(
    [],
    keys.map((key) => ({ key, value: bytes(key) })),
  );
  await store.transact(
    [],
    ["a", "b", "c"].map((key) => ({ key, value: undefined })),
  );
  using before = store.watch("", 4);
  expect(await before.next()).toMatchObject({ isReset: true, changes: [{ key: "d" }], revision: 7 });
  using between = store.watch("", 5);
  expect(await between.next()).toMatchObject({ isReset: true, changes: [{ key: "d" }], revision: 7 });
  using after = store.watch("", 6);
  expect(await after.next()).toMatchObject({ isReset: false, changes: [{ key: "c" }], revision: 7 });
});

test("an item that is created again no longer counts as a removal", async () => {
  await using store = openMemoryStore({ ...STORE_BOUNDS, maxRemovals: 1 });
  for (const value of [bytes("1"), undefined, bytes("2")]) await store.transact([], [{ key: "a", value }]);
  await store.transact([], [{ key: "b", value: bytes("1") }]);
  await store.transact([], [{ key: "b", value: undefined }]);
  using watch = store.watch("", 4);
  expect(await watch.next()).toMatchObject({ isReset: false, changes: [{ key: "b", version: 5, item: undefined }] });
});

test("the simulator's map answers as the store does", async () => {
  const key = fc.constantFrom("a", "a/b", "a/c", "b");
  const condition = fc.record({ key, lag: fc.constantFrom(0, 0, 0, 1) });
  const change = fc.record({ key, value: fc.option(fc.uint8Array({ maxLength: 3 }), { nil: undefined }) });
  const transaction = fc.record({
    conditions: fc.array(condition, { maxLength: 2 }),
    changes: fc.uniqueArray(change, { minLength: 1, maxLength: 3, selector: (each) => each.key }),
  });
  await fc.assert(
    fc.asyncProperty(fc.array(transaction, { maxLength: 30 }), async (transactions) => {
      const map = new ControlMap();
      await using store = openMemoryStore();
      for (const { conditions, changes } of transactions) {
        const named = conditions.map(({ key: wanted, lag }) => ({ key: wanted, version: (map.get(wanted)?.version ?? 0) + lag }));
        expect(map.transact(named, changes)).toEqual(await store.transact(named, changes));
        for (const { key: changed } of changes) expect(map.get(changed)).toEqual(await store.get(changed));
      }
      const version = map.get("a")?.version ?? 0;
      expect(map.compareAndSwap("a", version, bytes("x"))).toEqual(await store.compareAndSwap("a", version, bytes("x")));
      for (const page of [{}, { after: "a", limit: 1 }]) expect(map.list("a", page)).toEqual(await store.list("a", page));
    }),
  );
});
