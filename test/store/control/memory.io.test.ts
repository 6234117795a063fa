import fc from "fast-check";
import { expect, test } from "vitest";
import { openMemoryStore } from "../../../src/store/control/sqlite.io.ts";
import { storeContract } from "../../contract/store.ts";
import { ControlMap } from "../../fakes/control-map.ts";

storeContract("memory", { runs: 200, open: (bounds) => Promise.resolve(openMemoryStore(bounds)) });

test("the simulator's map answers as the store does", async () => {
  const key = fc.constantFrom("a", "a/b", "a/c", "b");
  const swap = fc.record({ key, lag: fc.constantFrom(0, 0, 0, 1), value: fc.option(fc.uint8Array({ maxLength: 3 }), { nil: undefined }) });
  await fc.assert(
    fc.asyncProperty(fc.array(swap, { maxLength: 30 }), async (swaps) => {
      const map = new ControlMap();
      await using store = openMemoryStore();
      for (const { key: wanted, lag, value } of swaps) {
        const expected = (map.get(wanted)?.version ?? 0) + lag;
        expect(map.compareAndSwap(wanted, expected, value)).toEqual(await store.compareAndSwap(wanted, expected, value));
        expect(map.get(wanted)).toEqual(await store.get(wanted));
      }
      for (const page of [{}, { after: "a", limit: 1 }]) expect(map.list("a", page)).toEqual(await store.list("a", page));
    }),
  );
});
