import { expect, test } from "vitest";
import { encodeRecord, STORE_KEY } from "../../../src/control/leadership/records.ts";
import { WaymarkError } from "../../../src/lib/errors.ts";
import type { LogFields } from "../../../src/lib/log.io.ts";
import { publishPolicy, SharedPolicy } from "../../../src/node/control/shared-policy.io.ts";
import { isSamePlace } from "../../../src/policy/versions/version.ts";
import { openMemoryStore } from "../../../src/store/control/sqlite.io.ts";
import type { ControlStore } from "../../../src/store/control/store.ts";
import { rule, set } from "../../fakes/policies.ts";
import { Bench } from "../../fakes/policy-bench.ts";
import { type Version, version } from "../../fakes/policy-versions.ts";
import { until } from "../../fakes/until.ts";

async function ownedStore(): Promise<ControlStore> {
  const store = openMemoryStore();
  await store.compareAndSwap(STORE_KEY, 0, encodeRecord({ clusterId: "prod", id: "s", epoch: 1 }));
  return store;
}

/** A node that shares its policy through a store. */
class PolicyNode extends Bench {
  readonly faults: unknown[] = [];
  readonly shared: SharedPolicy;

  constructor(store: ControlStore, nodeId: string, clusterId = "prod") {
    super(openMemoryStore(), { nodeId, clusterId });
    const { policyStore, tasks, faults } = this;
    const log = { debug: ({ err }: LogFields) => void faults.push(err), error: ({ fault }: LogFields) => void faults.push(fault) };
    this.shared = new SharedPolicy({ store, clusterId, policyStore, tasks, log });
    this.onHead = () => this.shared.wake();
    this.publish = (bytes) => this.shared.publish(bytes);
  }

  /** As if another node had sent the version over a link. */
  async receive({ head, bytes }: Version): Promise<void> {
    await this.run(this.policyStore.adopt(head, bytes, { nodeId: "m", clusterId: "eu-2" }));
  }

  has({ head }: Version): boolean {
    return isSamePlace(this.engine.place, head);
  }

  begin(): this {
    void this.shared.run();
    return this;
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

test("if two nodes had different versions with one number before they shared the store, both apply the newer one", async () => {
  await using store = await ownedStore();
  const [older, newer] = [version(1, "a", 1, 10), version(1, "b", 1, 20)];
  using first = new PolicyNode(store, "a");
  using second = new PolicyNode(store, "b");
  await first.receive(older);
  first.begin();
  await until("the older one is in the store", async () => (await store.list("policy")).items.length > 0);
  await second.receive(newer);
  second.begin();
  await until("the first has the newer one", () => first.has(newer));
  expect(second.has(newer)).toBe(true);
});

test("a version that is applied, or that a node has received elsewhere, comes to all nodes, in parts if it is large", async () => {
  await using store = await ownedStore();
  using first = new PolicyNode(store, "a").begin();
  using second = new PolicyNode(store, "b").begin();
  await first.apply(set([rule("svc.a")]));
  await until("the second has the version", () => second.engine.newestNumber === 1);
  expect(second.engine.place).toEqual(first.engine.place);
  const large = version(2, "c", 5000);
  await second.receive(large);
  await until("the first has the version", () => first.has(large));
  expect((await store.list("policy-parts/")).items).toHaveLength(3);
  expect([first.faults, second.faults]).toEqual([[], []]);
});

test("a version with a lower number than the store's is refused, so that its caller reads the newest one first", async () => {
  await using store = openMemoryStore();
  for (const number of [1, 19]) expect(await publishPolicy(store, version(number).bytes)).toBe(true);
  expect(await publishPolicy(store, version(2, "b").bytes)).toBe(false);
});

test("a version that the store has lost is put there again", async () => {
  await using store = await ownedStore();
  using first = new PolicyNode(store, "a").begin();
  await first.apply(set([rule("svc.a")]));
  const { items } = await store.list("policy");
  await store.transact(
    [],
    items.map(({ key }) => ({ key, value: undefined })),
  );
  await until("the store has a version", async () => (await store.get("policy/newest")) !== undefined);
  expect((await store.list("policy")).items.map(({ key }) => key)).toEqual(items.map(({ key }) => key));
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

test("a node neither reads nor writes the policy in a store of another cluster, or in one that no cluster has used", async () => {
  await using store = openMemoryStore();
  using own = new PolicyNode(store, "a").begin();
  await expect(own.apply(set([]))).rejects.toMatchObject({ reason: "store_unavailable" });
  await own.receive(version(1, "a"));
  await until("the node says why", () => own.faults.length > 0);
  expect(String(own.faults[0])).toContain("it is new; try again");
  expect((await store.list("policy")).items).toEqual([]);
  await store.compareAndSwap(STORE_KEY, 0, encodeRecord({ clusterId: "prod", id: "s", epoch: 1 }));
  await until("the node puts its version there", async () => (await store.list("policy")).items.length > 0);
  using foreign = new PolicyNode(store, "b", "test").begin();
  await until("the foreign node says why", () => foreign.faults.length > 0);
  expect(String(foreign.faults[0])).toContain("it belongs to the cluster prod; set another store.prefix");
  expect(foreign.engine.newestNumber).toBe(0);
});
