import { expect, test } from "vitest";
import { WaymarkError } from "../../../src/lib/errors.ts";
import type { PolicySet } from "../../../src/policy/set/rules.ts";
import { checksumOf } from "../../../src/policy/set/rules.ts";
import type { FileText } from "../../../src/policy/versions/policy-file.ts";
import { openMemoryStore } from "../../../src/store/control/sqlite.io.ts";
import type { ControlStore } from "../../../src/store/control/store.ts";
import { containing, rule, set } from "../../fakes/policies.ts";
import { ANN, Bench, TERMS } from "../../fakes/policy-bench.ts";

function only(tenant: string): PolicySet {
  return set([rule("svc.a", { visibilityTenants: [tenant] })], { version: tenant });
}

function file(one: PolicySet): FileText {
  return { ok: true, set: one, checksum: checksumOf(one) };
}

test("an applied set is in force, stored, and its audit record on disk before the answer", async () => {
  const store = openMemoryStore();
  const bench = new Bench(store);
  const applied = await bench.apply(only("blue"), { reason: "for the market", changeTicket: "T-7" });
  expect(applied).toMatchObject({ number: 1, plan: { changes: [{ namespace: "svc.a", effect: "withdraw" }] }, warnings: [] });
  expect(bench.engine.inForce?.version).toBe("blue");
  expect(bench.events).toEqual([
    expect.objectContaining({
      atWallMs: 5000,
      kind: "policy",
      principal: "ann",
      tenant: "ops",
      source: "192.0.2.1",
      action: "policy.apply",
      outcome: "allowed",
      before: "",
      after: bench.engine.inForce?.checksum,
      detail: "version 1 with 1 rule; for the market",
      ticket: "T-7",
    }),
  ]);
  expect(bench.durableCount).toBe(1);
  const again = new Bench(store);
  await again.restore();
  expect(again.engine.status).toEqual(bench.engine.status);
});

test("a dry run says what would change, keeps to the expected number, and changes nothing", async () => {
  const store = openMemoryStore();
  const bench = new Bench(store);
  await bench.apply(only("blue"));
  const dry = await bench.apply(only("red"), { expectedNumber: 1 }, true);
  expect(dry).toMatchObject({
    number: 1,
    plan: { changes: [{ effect: "hide", entries: 2, viewers: [{ tenant: "blue" }] }, { effect: "show" }] },
  });
  await expect(bench.apply(only("red"), { expectedNumber: 2 }, true)).rejects.toThrow("version_conflict");
  expect([bench.engine.newestNumber, bench.events.length]).toEqual([1, 1]);
  expect((await store.list("policy/")).items).toHaveLength(1);
});

test("a set with errors is refused whole; warnings come with the answer", async () => {
  const bench = new Bench(openMemoryStore());
  await expect(bench.apply(set([rule("ok"), rule("not ok")]))).rejects.toThrow("invalid_argument: policy.rules[1].namespace");
  expect(bench.engine.newestNumber).toBe(0);
  const { warnings } = await bench.apply(set([rule("a", { owners: ["eu-9"] })]));
  expect(warnings).toMatchObject([{ path: "rules[0].owners[0]", severity: "warning" }]);
});

test("of applies that race one wins and the others get version_conflict, whoever they ask", async () => {
  const store = openMemoryStore();
  const [one, two] = [new Bench(store), new Bench(store)];
  const results = await Promise.allSettled([one.apply(only("blue")), one.apply(only("red")), two.apply(only("green"))]);
  const refused = results.filter((result) => result.status === "rejected").map(({ reason }) => (reason as WaymarkError).reason);
  expect(refused).toEqual(["version_conflict", "version_conflict"]);
  // Who lost knows the winner from now on, and the next apply succeeds.
  expect(one.engine.status.newest?.version).toBe(two.engine.status.newest?.version ?? one.engine.status.newest?.version);
  await one.apply(only("red"));
  expect(one.engine.newestNumber).toBe(2);
});

test("an apply whose answer from the store was lost is found by the next one", async () => {
  const store = openMemoryStore();
  const lossy: ControlStore = {
    get: (key) => store.get(key),
    list: (prefix, page) => store.list(prefix, page),
    transact: (conditions, changes) => store.transact(conditions, changes),
    watch: (prefix) => store.watch(prefix),
    compact: (revision) => store.compact(revision),
    close: () => store.close(),
    [Symbol.asyncDispose]: () => store.close(),
    compareAndSwap: async (key, version, value) => {
      await store.compareAndSwap(key, version, value);
      throw new WaymarkError("store_unavailable", "the answer was lost");
    },
  };
  const bench = new Bench(lossy);
  await expect(bench.apply(only("blue"))).rejects.toThrow("store_unavailable");
  expect(bench.engine.newestNumber).toBe(0);
  const whole = new Bench(store);
  await expect(whole.apply(only("red"))).rejects.toThrow("version_conflict");
  expect(whole.engine.inForce?.version).toBe("blue");
  await whole.apply(only("red"));
  expect(whole.engine.inForce).toMatchObject({ number: 2, version: "red" });
});

test("a rollback is a new version with the old content, everywhere, and is audited with both checksums", async () => {
  const bench = new Bench(openMemoryStore());
  await bench.apply(only("blue"));
  await bench.apply(only("red"));
  const [blue, red] = bench.events.map(({ after }) => after);
  const held = bench.events.length;
  const dry = await bench.run(bench.policyStore.rollback(ANN, { toNumber: 0, terms: TERMS, isDryRun: true }));
  expect([bench.engine.newestNumber, bench.events.length]).toEqual([2, held]);
  const done = await bench.run(bench.policyStore.rollback(ANN, { toNumber: 0, terms: TERMS }));
  expect([dry.number, done.number, dry.plan]).toEqual([2, 3, done.plan]);
  expect(bench.engine.inForce).toMatchObject({ number: 3, version: "blue", reason: "rollback to version 1", checksum: blue });
  expect(bench.events.at(-1)).toMatchObject({ action: "policy.rollback", reason: "rolled_back", before: red, after: blue });
  await expect(bench.run(bench.policyStore.rollback(ANN, { toNumber: 1, terms: { ...TERMS, expectedNumber: 2 } }))).rejects.toThrow(
    "version_conflict",
  );
});

test("versions that are no longer kept leave the store, and cannot be rolled back to", async () => {
  const store = openMemoryStore();
  const bench = new Bench(store);
  for (const tenant of ["a", "b", "c", "d", "e"]) await bench.apply(only(tenant));
  expect((await store.list("policy/versions/")).items.map(({ key }) => Number(key.split("/").at(-1)))).toEqual([3, 4, 5]);
  await expect(bench.run(bench.policyStore.rollback(ANN, { toNumber: 1, terms: TERMS }))).rejects.toThrow("not_found");
  await expect(bench.run(bench.policyStore.load(1))).rejects.toThrow("no longer kept");
});

test("a store that is away at the start means that everything is denied", async () => {
  const store = openMemoryStore();
  await store.close();
  const bench = new Bench(store);
  await bench.restore();
  expect(bench.engine.status).toMatchObject({ isEnabled: true, degraded: containing("the policy cannot be read: store_unavailable") });
  expect(bench.engine.policy.viewer("svc.a", { clusterId: "eu-1", tenant: "blue" }).allowed).toBe(false);
});

test("the policy file is applied when it says something new, and leaves alone what was applied since", async () => {
  const store = openMemoryStore();
  const bench = new Bench(store);
  await bench.run(bench.file.apply("p.yaml", file(only("blue"))));
  expect(bench.engine.inForce).toMatchObject({ number: 1, version: "blue", principal: "policy file" });
  await bench.apply(only("red"));
  await bench.run(bench.file.apply("p.yaml", file(only("blue"))));
  const again = new Bench(store);
  await again.restore();
  await again.run(again.file.apply("p.yaml", file(only("blue"))));
  expect(again.engine.inForce?.version).toBe("red");
  await again.run(again.file.apply("p.yaml", file(only("green"))));
  expect(again.engine.inForce).toMatchObject({ number: 3, version: "green" });
  // What is in force already is not applied once more.
  await again.apply(only("blue"));
  await again.run(again.file.apply("p.yaml", file(only("blue"))));
  expect(again.engine.newestNumber).toBe(4);
});

test("a policy file that is broken changes nothing and is told; with no policy before it everything is denied", async () => {
  const bench = new Bench(openMemoryStore());
  await bench.run(bench.file.apply("p.yaml", { ok: false, fault: "line 3: broken" }));
  expect(bench.engine.status.degraded).toBe("policy file p.yaml: line 3: broken; all requests are denied");
  await bench.run(bench.file.apply("p.yaml", file(only("blue"))));
  await bench.run(bench.file.apply("p.yaml", { ok: false, fault: "line 3: broken" }));
  expect(bench.engine.status).toMatchObject({
    inForce: { version: "blue" },
    degraded: containing("line 3: broken; version 1 is in force"),
  });
  await bench.run(bench.file.apply("p.yaml", file(only("blue"))));
  expect(bench.engine.status.degraded).toBe("");
});

test("a policy file that did not change is applied all the same when no stored version can be read", async () => {
  const store = openMemoryStore();
  const before = new Bench(store);
  await before.run(before.file.apply("p.yaml", file(only("blue"))));
  const [item] = (await store.list("policy/versions/")).items;
  await store.compareAndSwap(item?.key ?? "", item?.version ?? 0, new Uint8Array(9));
  const bench = new Bench(store);
  await bench.restore();
  expect(bench.engine.isDenied).toBe(true);
  await bench.run(bench.file.apply("p.yaml", file(only("blue"))));
  expect(bench.engine.status).toMatchObject({ inForce: { number: 2, version: "blue" }, degraded: "" });
});

/** Owns svc.a, and may read all. */
const OWEN = { principal: "owen", tenant: "a", address: "192.0.2.2", owns: (namespace: string) => namespace === "svc.a", mayRead: true };

function both(a: string, b: string): PolicySet {
  return set([rule("svc.a", { visibilityTenants: [a] }), rule("svc.b", { visibilityTenants: [b] })]);
}

test("an owner puts in force and takes back what differs in its own rules, and nothing else", async () => {
  const bench = new Bench(openMemoryStore());
  const owner = (one: PolicySet, terms: Partial<typeof TERMS> = {}, isDryRun = false) =>
    bench.run(bench.policyStore.apply(OWEN, { set: one, terms: { ...TERMS, ...terms }, isDryRun }));
  await expect(owner(both("blue", "red"))).rejects.toThrow("discovery_access_denied");
  await bench.apply(both("blue", "red"));
  expect(await owner(both("green", "red"))).toMatchObject({ number: 2 });
  await expect(owner(both("blue", "green"))).rejects.toThrow("it owns: the set changes the rule svc.b");
  // A dry run tells what is in the catalog, so it needs the same.
  await expect(owner(both("blue", "green"), {}, true)).rejects.toThrow("discovery_access_denied");
  await expect(owner(both("blue", "red"), { expectedNumber: 1 })).rejects.toThrow("version_conflict");
  expect((await bench.run(bench.policyStore.rollback(OWEN, { toNumber: 0, terms: TERMS }))).number).toBe(3);
  expect(bench.engine.inForce?.set).toEqual(both("blue", "red"));
  await bench.apply(both("blue", "green"));
  await expect(bench.run(bench.policyStore.rollback(OWEN, { toNumber: 0, terms: TERMS }))).rejects.toThrow("discovery_access_denied");
  expect(bench.engine.newestNumber).toBe(4);
  expect(bench.events.map(({ principal }) => principal)).toEqual(["ann", "owen", "owen", "ann"]);
});

test("an owner who may not read policy is not told which rule is in the way", async () => {
  const bench = new Bench(openMemoryStore());
  await bench.apply(both("blue", "red"));
  const blind = { ...OWEN, mayRead: false };
  const refused = bench.run(bench.policyStore.apply(blind, { set: both("blue", "green"), terms: TERMS, isDryRun: true }));
  await expect(refused).rejects.toThrow("it owns: the set changes other rules");
});

test("an owner does not put in force everywhere what a stage has put in force elsewhere", async () => {
  const bench = new Bench(openMemoryStore());
  await bench.apply(both("blue", "red"));
  const stage = { by: "clusters", clusterIds: ["us-1"] } as const;
  await bench.run(bench.policyStore.apply(ANN, { set: both("blue", "green"), terms: { ...TERMS, stage }, isDryRun: false }));
  expect(bench.engine.inForce?.number).toBe(1);
  for (const b of ["red", "green"]) {
    const refused = bench.run(bench.policyStore.apply(OWEN, { set: both("red", b), terms: TERMS, isDryRun: false }));
    await expect(refused).rejects.toThrow("discovery_access_denied");
  }
});

test("of an owner and an admin at the same time, the owner does not overwrite what it was not compared with", async () => {
  const bench = new Bench(openMemoryStore());
  await bench.apply(both("blue", "red"));
  const late = bench.run(bench.policyStore.apply(OWEN, { set: both("green", "red"), terms: TERMS, isDryRun: false }));
  const first = bench.run(bench.policyStore.apply(ANN, { set: both("blue", "green"), terms: TERMS, isDryRun: false }));
  const results = await Promise.allSettled([late, first]);
  expect(results.filter(({ status }) => status === "fulfilled")).toHaveLength(1);
  // Whoever won, the other's rule is what it was before or what the winner said.
  const pair = bench.engine.inForce?.set;
  expect([both("green", "red"), both("blue", "green")]).toContainEqual(pair);
});

test("a version is stored when the change before is through, and establishing is done when every door shows it", async () => {
  const bench = new Bench(openMemoryStore());
  await bench.run(bench.file.apply("p.yaml", file(only("blue"))));
  const [heard, shown] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
  Object.assign(bench, { heard: heard.promise, shown: shown.promise });
  let isDone = false;
  const establishing = bench.run(bench.policyStore.establish()).then(() => (isDone = true));
  const turns = () => new Promise((resolve) => setImmediate(resolve));
  await turns();
  expect(bench.engine.place.hlc).toBe(0);
  heard.resolve();
  await turns();
  expect([bench.engine.place.hlc > 0, isDone]).toEqual([true, false]);
  shown.resolve();
  await establishing;
});
