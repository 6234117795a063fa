import { expect, test } from "vitest";
import { encodeRecord, STORE_KEY } from "../../../src/control/leadership/records.ts";
import { WaymarkError } from "../../../src/lib/errors.ts";
import { checkOwner, publishPolicy, SharedPolicy } from "../../../src/node/control/shared-policy.io.ts";
import { openMemoryStore } from "../../../src/store/control/sqlite.io.ts";
import { version } from "../../fakes/policy-versions.ts";
import { until } from "../../fakes/until.ts";

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

test("a node uses no policy from a store of another cluster, or of none, and puts none there", async () => {
  await using store = openMemoryStore();
  await expect(checkOwner(store, "prod")).rejects.toMatchObject({ reason: "store_unavailable", message: /is new/ });
  await store.compareAndSwap(STORE_KEY, 0, encodeRecord({ clusterId: "prod", id: "s", epoch: 1 }));
  await checkOwner(store, "prod");
  const [there, here] = [version(2, "b"), version(1, "a")];
  await publishPolicy(store, 2, there.bytes);
  const faults: unknown[] = [];
  const adopted: number[] = [];
  const ports = {
    store,
    place: () => here.head,
    encoded: async () => here.bytes,
    adopt: async ({ number }: { readonly number: number }) => void adopted.push(number),
    onFault: (error: unknown) => faults.push(error),
  };
  const foreign = new SharedPolicy({ ...ports, clusterId: "test" });
  void foreign.run();
  await until("the foreign node says why", () => faults.length > 0);
  expect(String(faults[0])).toContain("the control store belongs to the cluster prod");
  expect(adopted).toEqual([]);
  foreign.close();
  const own = new SharedPolicy({ ...ports, clusterId: "prod" });
  void own.run();
  await until("the own node adopts it", () => adopted.length > 0);
  own.close();
});
