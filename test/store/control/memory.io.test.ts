import fc from "fast-check";
import { expect, test } from "vitest";
import { openMemoryStore } from "../../../src/store/control/sqlite.io.ts";
import { MAX_VALUE_BYTES } from "../../../src/store/control/store.ts";
import { storeContract } from "../../contract/store.ts";
import { ControlMap } from "../../fakes/control-map.ts";

storeContract("memory", {
  runs: 200,
  maxValueBytes: MAX_VALUE_BYTES,
  hasBounds: true,
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

test("a watch starts over if its reader does not read more than 1000 changes or 4 MiB, also while it reads its first page", async () => {
  await using store = openMemoryStore();
  const putMany = (count: number, value: Uint8Array) =>
    store.transact(
      [],
      Array.from({ length: count }, (_, at) => ({ key: `k${at}`, value })),
    );
  using watch = store.watch("");
  await watch.next();
  await putMany(4, new Uint8Array(1024 * 1024 - 2));
  expect(await watch.next()).toMatchObject({ isReset: false, isCurrent: true, changes: { length: 4 } });
  await putMany(5, new Uint8Array(1024 * 1024 - 2));
  expect(await watch.next()).toMatchObject({ isReset: true, isCurrent: true, changes: { length: 5 } });
  using starting = store.watch("");
  const first = starting.next();
  await putMany(5, new Uint8Array(1024 * 1024));
  expect(await first).toMatchObject({ isReset: true, isCurrent: true, changes: { length: 5 }, revision: 14 });
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
