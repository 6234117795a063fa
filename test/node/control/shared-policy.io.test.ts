import { expect, test } from "vitest";
import { encodeStore, STORE_KEY } from "../../../src/control/leadership/records.ts";
import { WaymarkError } from "../../../src/lib/errors.ts";
import { publishPolicy, SharedPolicy, type SharedPolicyPorts } from "../../../src/node/control/shared-policy.io.ts";
import { isNewer, NO_PLACE } from "../../../src/policy/versions/version.ts";
import { openMemoryStore } from "../../../src/store/control/sqlite.io.ts";
import type { ControlStore } from "../../../src/store/control/store.ts";
import { type Version, version } from "../../fakes/policy-versions.ts";
import { until } from "../../fakes/until.ts";

async function ownedStore(): Promise<ControlStore> {
  const store = openMemoryStore();
  await store.compareAndSwap(STORE_KEY, 0, encodeStore({ clusterId: "prod", id: "s", epoch: 1 }));
  return store;
}

/** A node whose policy is only its newest version. */
class PolicyNode {
  newest: Version | undefined;
  readonly faults: unknown[] = [];
  readonly shared: SharedPolicy;

  constructor(store: ControlStore, newest?: Version, ports: Partial<SharedPolicyPorts> = {}) {
    this.newest = newest;
    this.shared = new SharedPolicy({
      store,
      clusterId: "prod",
      place: () => this.newest?.head ?? NO_PLACE,
      encoded: async () => this.newest?.bytes,
      adopt: async (head, bytes) => {
        if (isNewer(head, this.newest?.head ?? NO_PLACE)) this.newest = { head, bytes };
      },
      onFault: (error) => this.faults.push(error),
      ...ports,
    });
    void this.shared.run();
  }

  has({ head, bytes }: Version): boolean {
    return this.newest?.head.checksum === head.checksum && Buffer.compare(this.newest.bytes, bytes) === 0;
  }

  [Symbol.dispose](): void {
    this.shared.close();
  }
}

test("of two versions of one number that are applied at the same time, the first in the store wins, even if the second is newer", async () => {
  await using store = openMemoryStore();
  const [older, newer] = [version(1, "a", 1, 10), version(1, "b", 1, 20)];
  expect(await publishPolicy(store, older.bytes)).toBe(true);
  expect(await publishPolicy(store, newer.bytes)).toBe(false);
  // A request whose answer was lost is repeated.
  expect(await publishPolicy(store, older.bytes)).toBe(true);
  expect(await publishPolicy(store, version(3).bytes)).toBe(true);
  expect(await publishPolicy(store, version(2).bytes)).toBe(false);
});

test("of two versions of one number that nodes had before they shared the store, the newer one is in force on both", async () => {
  await using store = await ownedStore();
  const [older, newer] = [version(1, "a", 1, 10), version(1, "b", 1, 20)];
  using first = new PolicyNode(store, older);
  await until("the older one is in the store", async () => (await store.list("policy")).items.length > 0);
  using second = new PolicyNode(store, newer);
  await until("the first has the newer one", () => first.has(newer));
  expect(second.has(newer)).toBe(true);
});

test("a version that is applied, or that a node has received elsewhere, comes to all nodes, in parts if it is large", async () => {
  await using store = await ownedStore();
  using first = new PolicyNode(store, version(1));
  using second = new PolicyNode(store);
  await until("the second has the version", () => second.has(version(1)));
  const large = version(2, "n1", 5000);
  expect(await first.shared.publish(large.bytes)).toBe(true);
  for (const node of [first, second]) await until("it is in force", () => node.has(large));
  expect((await store.list("policy-parts/")).items).toHaveLength(3);
  first.newest = version(3);
  first.shared.wake();
  await until("the second has the third version", () => second.has(version(3)));
});

test("the store keeps only the newest version, and a failure to remove an earlier one does not refuse the new one", async () => {
  await using store = openMemoryStore();
  for (let number = 1; number <= 3; number++) expect(await publishPolicy(store, version(number).bytes)).toBe(true);
  expect((await store.list("policy")).items).toHaveLength(2);
  const list = () => Promise.reject(new WaymarkError("store_unavailable", "it is away"));
  const broken = {
    get: store.get.bind(store),
    transact: store.transact.bind(store),
    compareAndSwap: store.compareAndSwap.bind(store),
    list,
  };
  expect(await publishPolicy(broken, version(4).bytes)).toBe(true);
});

test("a node uses no policy from a store of another cluster, or of none, and puts none there", async () => {
  await using store = openMemoryStore();
  using own = new PolicyNode(store, version(1, "a"));
  await until("the node says why", () => own.faults.length > 0);
  expect(String(own.faults[0])).toContain("the control store is new");
  await expect(own.shared.publish(version(2).bytes)).rejects.toMatchObject({ reason: "store_unavailable" });
  await store.compareAndSwap(STORE_KEY, 0, encodeStore({ clusterId: "prod", id: "s", epoch: 1 }));
  await until("the node puts its version there", async () => (await store.list("policy")).items.length > 0);
  using foreign = new PolicyNode(store, undefined, { clusterId: "test" });
  await until("the foreign node says why", () => foreign.faults.length > 0);
  expect(String(foreign.faults[0])).toContain("the control store belongs to the cluster prod");
  expect(foreign.newest).toBeUndefined();
});
