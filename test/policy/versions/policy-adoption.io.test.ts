import { expect, test } from "vitest";
import type { PolicySet } from "../../../src/policy/set/rules.ts";
import { checksumOf } from "../../../src/policy/set/rules.ts";
import { isNewer } from "../../../src/policy/versions/version.ts";
import { openMemoryStore } from "../../../src/store/control/sqlite.io.ts";
import type { ControlStore } from "../../../src/store/control/store.ts";
import { containing, rule, set } from "../../fakes/policies.ts";
import { ANN, Bench, TERMS } from "../../fakes/policy-bench.ts";
import { version } from "../../fakes/policy-versions.ts";

function only(tenant: string): PolicySet {
  return set([rule("svc.a", { visibilityTenants: [tenant] })], { version: tenant });
}

function node(nodeId: string, store: ControlStore = openMemoryStore(), clusterId = "eu-1"): Bench {
  return new Bench(store, { nodeId, clusterId });
}

const VIA = { nodeId: "m", clusterId: "eu-2" };

/** What the links do: the newest version of one is offered to the other. */
async function send(from: Bench, to: Bench) {
  const { place } = from.engine;
  const bytes = await from.run(from.policyStore.encoded(place.number));
  if (bytes === undefined) throw new Error("nothing to send");
  return to.run(to.policyStore.adopt(place, bytes, VIA));
}

function losersOf({ engine }: Bench) {
  return engine.history().filter(({ isSuperseded }) => isSuperseded);
}

test("another node's version is stored, audited and in force, with the same epoch in cursors, and again after a restart", async () => {
  const [a, store] = [node("a"), openMemoryStore()];
  const b = node("b", store);
  await a.apply(only("red"));
  await a.apply(only("blue"), { reason: "for the market" });
  expect(await send(a, b)).toEqual({ isAdopted: true });
  expect(b.engine.policy.epoch).toBe(a.engine.policy.epoch);
  expect(b.engine.status).toEqual(a.engine.status);
  expect(b.engine.place).toEqual(a.engine.place);
  expect([b.changeCount, b.durableCount]).toEqual([1, 1]);
  expect(b.events).toMatchObject([
    {
      kind: "policy",
      principal: "ann",
      action: "policy.adopt",
      reason: "adopted",
      before: "",
      after: a.engine.place.checksum,
      detail: "version 2 with 1 rule, adopted from node a through node m of cluster eu-2; for the market",
    },
  ]);
  const again = node("b", store);
  await again.restore();
  expect(again.engine.status).toEqual(b.engine.status);
  expect(await send(a, again)).toEqual({ isAdopted: false, fault: "" });
});

test("after adopting, the next version is applied on top, and expected numbers hold", async () => {
  const [a, b] = [node("a"), node("b")];
  for (const tenant of ["red", "blue", "green"]) await a.apply(only(tenant));
  await b.apply(only("red"));
  await send(a, b);
  await expect(b.apply(only("blue"), { expectedNumber: 1 })).rejects.toThrow("version_conflict");
  await b.apply(only("blue"), { expectedNumber: 3 });
  expect(b.engine.place).toMatchObject({ number: 4, nodeId: "b" });
  expect(await send(b, a)).toEqual({ isAdopted: true });
  expect(a.engine.status).toMatchObject({ inForce: { number: 4 }, conflict: "" });
});

test("of two versions of one number the later wins at both nodes, and the loser is kept, flagged and audited", async () => {
  const [a, store] = [node("a"), openMemoryStore()];
  const b = node("b", store);
  await b.apply(only("red"));
  a.wallMs += 1000;
  await a.apply(only("blue"));
  expect(isNewer(a.engine.place, b.engine.place)).toBe(true);
  expect(await send(b, a)).toEqual({ isAdopted: false, fault: "" });
  const lost = b.engine.place;
  expect(await send(a, b)).toEqual({ isAdopted: true });
  expect(b.engine.place).toEqual(a.engine.place);
  const conflict = "version 1 of ann on b was superseded by version 1 of ann on a, which is not based on it";
  expect(b.engine.status).toMatchObject({ inForce: { version: "blue" }, conflict });
  expect(b.events.slice(1)).toMatchObject([
    { action: "policy.adopt" },
    { action: "policy.supersede", principal: "ann", before: lost.checksum, after: a.engine.place.checksum, detail: conflict },
  ]);
  const [winner, loser] = b.engine.history();
  expect([winner, loser]).toMatchObject([
    { number: 1, isSuperseded: false, facts: { nodeId: "a" } },
    { number: 1, isSuperseded: true, facts: { nodeId: "b", checksum: lost.checksum } },
  ]);
  if (loser?.facts === undefined) throw new Error("there is a loser");
  expect((await b.run(b.policyStore.loadSuperseded(loser.facts))).set).toEqual(only("red"));
  const again = node("b", store);
  await again.restore();
  expect(again.engine.status).toEqual(b.engine.status);
  expect(again.engine.history()).toEqual(b.engine.history());
  await again.apply(only("green"));
  expect(again.engine.status.conflict).toBe("");
});

test("a version is read for another node while it is the newest, and not any more when another is", async () => {
  const a = node("a");
  await a.apply(only("red"));
  expect(await a.run(a.policyStore.encoded(1))).toBeInstanceOf(Uint8Array);
  await a.apply(only("blue"));
  expect(await a.run(a.policyStore.encoded(1))).toBeUndefined();
});

test("two histories that parted are found apart, also where one has gone further", async () => {
  const [a, b] = [node("a"), node("b")];
  await a.apply(only("red"));
  await send(a, b);
  await b.apply(only("blue"));
  await a.apply(only("green"));
  await a.apply(only("yellow"));
  expect(await send(a, b)).toEqual({ isAdopted: true });
  expect(b.engine.status).toMatchObject({
    inForce: { number: 3, version: "yellow" },
    conflict: "version 2 of ann on b was superseded by version 3 of ann on a, which is not based on it",
  });
  expect(b.engine.history().map(({ number }) => number)).toEqual([3, 2, 1]);
});

test("the same set applied at two nodes, as from one policy file, is no conflict", async () => {
  const [a, b] = [node("a"), node("b")];
  await a.apply(only("red"));
  await b.apply(only("red"));
  await send(a, b);
  await send(b, a);
  expect(a.engine.place).toEqual(b.engine.place);
  expect([a.engine.status.conflict, b.engine.status.conflict]).toEqual(["", ""]);
  expect([losersOf(a), losersOf(b)]).toEqual([[], []]);
});

test("what a joining node's policy file says gives way to what somebody applied in the cluster, and wins over nothing", async () => {
  const [a, b] = [node("a"), node("b")];
  await a.apply(only("red"));
  b.wallMs += 5000;
  const file = { ok: true, set: only("blue"), checksum: checksumOf(only("blue")) } as const;
  await b.run(b.file.apply("p.yaml", file));
  expect(b.engine.status.inForce?.version).toBe("blue");
  expect([await send(b, a), await send(a, b)]).toMatchObject([{ isAdopted: false }, { isAdopted: true }]);
  expect(b.engine.status.inForce?.version).toBe("red");
  // It is what it was, also when it is read again; an edit is news.
  await b.run(b.file.apply("p.yaml", file));
  expect(b.engine.newestNumber).toBe(1);
  const edited = { ok: true, set: only("green"), checksum: checksumOf(only("green")) } as const;
  await b.run(b.file.apply("p.yaml", edited));
  expect(await send(b, a)).toEqual({ isAdopted: true });
  expect(a.engine.place).toMatchObject({ number: 2, nodeId: "b" });
});

test("each node decides by the stage itself, and one that knows nothing else takes what the cluster has", async () => {
  const [a, b, newcomer] = [node("a"), node("b", openMemoryStore(), "us-1"), node("c", openMemoryStore(), "us-1")];
  await a.apply(only("red"));
  await send(a, b);
  const stage = { by: "clusters", clusterIds: ["eu-1"] } as const;
  await a.run(a.policyStore.apply(ANN, { set: only("blue"), terms: { ...TERMS, stage }, isDryRun: false }));
  await send(a, b);
  await send(a, newcomer);
  expect([a, b, newcomer].map(({ engine }) => engine.inForce?.number)).toEqual([2, 1, 2]);
  expect([a, b, newcomer].map(({ engine }) => engine.place.number)).toEqual([2, 2, 2]);
});

test("what cannot be read, is another version than offered, or has errors is refused, and nothing changes", async () => {
  const [a, b] = [node("a"), node("b")];
  await a.apply(only("red"));
  const { place } = a.engine;
  const bytes = await a.run(a.policyStore.encoded(1));
  if (bytes === undefined) throw new Error("there is a version");
  const cut = bytes.slice(0, -5);
  expect(await b.run(b.policyStore.adopt(place, cut, VIA))).toEqual({ isAdopted: false, fault: "it was modified or truncated" });
  expect(await b.run(b.policyStore.adopt({ ...place, hlc: 1 }, bytes, VIA))).toMatchObject({
    fault: containing("differs from the offered version"),
  });
  expect(await b.run(b.policyStore.adopt({ ...place, number: 2 }, bytes, VIA))).toMatchObject({
    fault: containing("contains version 1"),
  });
  // No node takes a namespace with a space.
  const bad = version(1, "not ok");
  expect(await b.run(b.policyStore.adopt(bad.head, bad.bytes, VIA))).toMatchObject({ isAdopted: false, fault: containing("rules[0]") });
  expect([b.engine.newestNumber, b.events, await a.run(a.policyStore.encoded(2))]).toEqual([0, [], undefined]);
});

test("a newest version that cannot be read here is had again from others", async () => {
  const [a, store] = [node("a"), openMemoryStore()];
  const b = node("b", store);
  await a.apply(only("red"));
  await send(a, b);
  const { items } = await store.list("policy/versions/");
  const [item] = items;
  if (item === undefined) throw new Error("there is a row");
  await store.compareAndSwap(item.key, item.version, item.value.slice(0, 70));
  const again = node("b", store);
  await again.restore();
  expect(again.engine.isDenied).toBe(true);
  expect(await send(a, again)).toEqual({ isAdopted: true });
  expect(again.engine.status).toMatchObject({ inForce: { number: 1 }, degraded: "", conflict: "" });
});

test("an apply and an adoption that race leave one version of the number, and the other is refused or superseded", async () => {
  const [a, b] = [node("a"), node("b")];
  a.wallMs += 1000;
  await a.apply(only("red"));
  const results = await Promise.allSettled([b.apply(only("blue")), send(a, b)]);
  expect(results[1].status).toBe("fulfilled");
  expect(b.engine.place).toEqual(a.engine.place);
  expect(losersOf(b).length).toBe(results[0].status === "fulfilled" ? 1 : 0);
});

test("superseded versions are bounded: the oldest go", async () => {
  const store = openMemoryStore();
  const b = node("b", store);
  const a = node("a");
  for (let i = 0; i < 14; i++) {
    a.wallMs += 1000;
    await b.apply(only(`b${i}`));
    await a.apply(only(`a${i}`));
    await send(a, b);
  }
  expect(losersOf(b)).toHaveLength(10);
  expect((await store.list("policy/superseded/")).items).toHaveLength(10);
});

test("the highest numbers that are taken are found again in order, and the next one is applied on top", async () => {
  const store = openMemoryStore();
  const [a, b] = [node("a"), node("b", store)];
  await b.apply(only("red"));
  await a.apply(only("blue"));
  for (const number of [999_999_999_999, 1_000_000_000_000, 2 ** 52 - 1]) {
    const far = version(number, "far", 1, 1);
    expect(await b.run(b.policyStore.adopt(far.head, far.bytes, VIA))).toEqual({ isAdopted: true });
  }
  await b.apply(only("green"));
  const again = node("b", store);
  await again.restore();
  expect(again.engine.history().map(({ number }) => number)).toEqual([2 ** 52, 2 ** 52 - 1, 1_000_000_000_000]);
});
