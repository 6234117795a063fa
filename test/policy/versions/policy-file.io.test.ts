/** The policy file of a node beside its cluster's policy: a beginning gives way, an edit of a member is news. */
import { expect, test } from "vitest";
import { WaymarkError } from "../../../src/lib/errors.ts";
import { Hlc } from "../../../src/lib/hlc.ts";
import type { PolicySet } from "../../../src/policy/set/rules.ts";
import { checksumOf } from "../../../src/policy/set/rules.ts";
import { encodeVersion } from "../../../src/policy/versions/codec.ts";
import { openMemoryStore } from "../../../src/store/control/sqlite.io.ts";
import type { ControlStore } from "../../../src/store/control/store.ts";
import { containing, rule, set } from "../../fakes/policies.ts";
import { Bench } from "../../fakes/policy-bench.ts";

function only(team: string): PolicySet {
  return set([rule("svc.a", { visibilityTenants: [team] })], { version: team });
}

const fileOf = (team: string) => ({ ok: true, set: only(team), checksum: checksumOf(only(team)) }) as const;

function node(nodeId: string, store = openMemoryStore()): Bench {
  return new Bench(store, { nodeId, clusterId: "eu-1" });
}

/** Offers what is newest at one node to another, as a link does; whether it was taken. */
async function send(from: Bench, to: Bench): Promise<boolean> {
  const { newest } = from.engine;
  if (newest === undefined) return false;
  return (await to.run(to.policyStore.adopt(from.engine.place, encodeVersion(newest), { nodeId: "n", clusterId: "eu-1" }))).isAdopted;
}

test("the file of a node that was never let in is a beginning, also when it is edited and the node restarted: it gives way", async () => {
  const store = openMemoryStore();
  const [a, b] = [node("a"), node("b", store)];
  await a.apply(only("red"));
  b.file.awaitCluster();
  await b.run(b.file.apply("p.yaml", fileOf("blue")));
  const again = node("b", store);
  await again.restore();
  expect(await again.run(again.file.wasReady())).toBe(false);
  again.file.awaitCluster();
  await again.run(again.file.apply("p.yaml", fileOf("green")));
  expect(again.engine.inForce).toMatchObject({ number: 1, hlc: 0, version: "green" });
  expect([await send(again, a), await send(a, again)]).toEqual([false, true]);
  // Edited since, before it was let in.
  await again.run(again.file.letIn("p.yaml", fileOf("white"), false));
  expect([a, again].map(({ engine }) => engine.inForce?.version)).toEqual(["red", "red"]);
  await again.run(again.file.apply("p.yaml", fileOf("white")));
  expect(again.engine.newestNumber).toBe(1);
  await again.run(again.file.apply("p.yaml", fileOf("black")));
  expect(again.engine.inForce).toMatchObject({ number: 2, version: "black" });
  expect(await again.run(again.file.wasReady())).toBe(true);
});

test("what a node began with is a version as any other once it is ready: the beginning of a newcomer never wins over it", async () => {
  const [a, z] = [node("a"), node("z")];
  await a.run(a.file.apply("p.yaml", fileOf("strict")));
  await a.run(a.file.letIn("p.yaml", fileOf("strict"), false));
  expect(a.engine.inForce).toMatchObject({ number: 1, hlc: expect.any(Number) as number, version: "strict" });
  expect(a.engine.place.hlc).toBeGreaterThan(0);
  z.file.awaitCluster();
  await z.run(z.file.apply("p.yaml", fileOf("open")));
  expect([await send(z, a), await send(a, z)]).toEqual([false, true]);
  // The same node, whose disk was lost and whose file says something else now.
  const wiped = node("a");
  wiped.file.awaitCluster();
  await wiped.run(wiped.file.apply("p.yaml", fileOf("open")));
  expect([await send(wiped, z), await send(z, wiped)]).toEqual([false, true]);
});

test("a new node that serves alone, and did not reach those that it was to join, has a beginning however often it is edited, until it meets them", async () => {
  const store = openMemoryStore();
  const [cluster, a] = [node("c"), node("a", store)];
  await cluster.apply(only("red"));
  a.file.awaitCluster();
  await a.run(a.file.apply("p.yaml", fileOf("old")));
  await a.run(a.file.letIn("p.yaml", fileOf("new"), true));
  await a.run(a.file.apply("p.yaml", fileOf("newer")));
  expect([a.engine.inForce?.version, a.engine.place]).toMatchObject(["newer", { number: 1, hlc: 0 }]);
  const again = node("a", store);
  await again.restore();
  expect(await again.run(again.file.wasReady())).toBe(false);
  again.file.awaitCluster();
  await again.run(again.file.letIn("p.yaml", fileOf("newest"), true));
  expect(again.engine.place).toMatchObject({ number: 1, hlc: 0 });
  expect([await send(again, cluster), await send(cluster, again)]).toEqual([false, true]);
  // Now it has met them.
  await again.run(again.file.again("p.yaml", fileOf("newest"), false));
  expect(again.engine.inForce?.version).toBe("red");
  await again.run(again.file.apply("p.yaml", fileOf("edited")));
  expect(again.engine.inForce).toMatchObject({ number: 2, version: "edited" });
});

test("what a new node began with alone is edited once it has met others, who have no policy: that is news", async () => {
  const a = node("a");
  a.file.awaitCluster();
  await a.run(a.file.apply("p.yaml", fileOf("old")));
  await a.run(a.file.letIn("p.yaml", fileOf("old"), true));
  await a.run(a.file.again("p.yaml", fileOf("edited"), false));
  expect(a.engine.inForce).toMatchObject({ number: 2, version: "edited" });
});

test("an edit of a member that serves alone for a while is news", async () => {
  const a = node("a");
  await a.run(a.file.apply("p.yaml", fileOf("old")));
  await a.run(a.file.letIn("p.yaml", fileOf("old"), true));
  await a.run(a.file.apply("p.yaml", fileOf("edited")));
  expect(a.engine.inForce).toMatchObject({ number: 2, version: "edited" });
});

test("an edit that waited until the node was ready is news where the cluster has nothing else", async () => {
  const a = node("a");
  a.file.awaitCluster();
  await a.run(a.file.apply("p.yaml", fileOf("old")));
  await a.run(a.file.letIn("p.yaml", fileOf("edited"), false));
  expect(a.engine.inForce).toMatchObject({ number: 2, version: "edited" });
});

test("a file that could not be read at the start is applied when the node is ready, where there is no policy", async () => {
  const a = node("a");
  a.file.awaitCluster();
  await a.run(a.file.apply("p.yaml", { ok: false, fault: "line 3: broken" }));
  expect(a.engine.status.degraded).toBe("policy file p.yaml: line 3: broken; all requests are denied");
  await a.run(a.file.letIn("p.yaml", fileOf("mended"), false));
  expect(a.engine.status).toMatchObject({ inForce: { version: "mended" }, degraded: "" });
});

test("a file that says what it said last time is put in force all the same where no version is left", async () => {
  const [store, rest] = [openMemoryStore(), openMemoryStore()];
  const before = node("n1", store);
  await before.run(before.file.apply("p.yaml", fileOf("file")));
  const { items } = await store.list("policy/");
  for (const { key, value } of items) if (!key.startsWith("policy/versions/")) await rest.compareAndSwap(key, 0, value);
  const again = node("n1", rest);
  await again.restore();
  await again.run(again.file.apply("p.yaml", fileOf("file")));
  expect(again.engine.inForce?.version).toBe("file");
});

test("a beginning overwrites nothing that the store has and that could not be read for a moment", async () => {
  const store = openMemoryStore();
  const before = node("n1", store);
  await before.run(before.file.apply("p.yaml", fileOf("file")));
  for (const team of ["two", "three"]) await before.apply(only(team));
  let isFailing = true;
  const whole = store.list.bind(store);
  const list: ControlStore["list"] = async (...asked) => {
    if (!isFailing) return whole(...asked);
    isFailing = false;
    throw new WaymarkError("store_unavailable", "a moment");
  };
  Object.assign(store, { list });
  const again = node("n1", store);
  await again.restore();
  expect(again.engine.status.degraded).toEqual(containing("a moment"));
  await again.run(again.file.apply("p.yaml", fileOf("file")));
  expect(again.engine.inForce).toMatchObject({ number: 3, version: "three" });
});

test("an edit that is told while the node is let in counts after that: what was read first is never put in force last", async () => {
  const a = node("a");
  a.file.awaitCluster();
  await a.run(a.file.apply("p.yaml", fileOf("old")));
  const letIn = a.run(a.file.letIn("p.yaml", fileOf("mended"), false));
  // SIGHUP tells of the edit at once.
  await Promise.all([letIn, a.run(a.file.again("p.yaml", fileOf("edited"), false))]);
  expect([a.engine.inForce?.version, a.engine.newestNumber]).toEqual(["edited", 3]);
});

test("of a new node an edit that is told before it is let in is nothing", async () => {
  const a = node("a");
  a.file.awaitCluster();
  await a.run(a.file.apply("p.yaml", fileOf("old")));
  expect(await a.run(a.file.again("p.yaml", fileOf("edited"), true))).toBe(false);
  expect(a.engine.inForce?.version).toBe("old");
  await a.run(a.file.letIn("p.yaml", fileOf("old"), true));
  expect(await a.run(a.file.again("p.yaml", fileOf("edited"), true))).toBe(true);
  expect(a.engine).toMatchObject({ inForce: { version: "edited" }, place: { number: 1, hlc: 0 } });
});

test("what a node began with gets the stamp of when it was ready: of two such the later wins", async () => {
  const a = node("a");
  await a.run(a.file.apply("p.yaml", fileOf("old")));
  await a.run(a.file.letIn("p.yaml", fileOf("old"), false));
  expect(a.engine.place.hlc).toBe(new Hlc().stampEnd(0, a.wallMs));
});

test("what a node began with gets its stamp once, and another's beginning gets none here", async () => {
  const [a, z] = [node("a"), node("z")];
  await a.run(a.file.apply("p.yaml", fileOf("old")));
  expect(await send(a, z)).toBe(true);
  await z.run(z.policyStore.establish());
  expect(z.engine.place).toEqual(a.engine.place);
  await a.run(a.policyStore.establish());
  const { place } = a.engine;
  a.wallMs += 1000;
  await a.run(a.policyStore.establish());
  expect(a.engine.place).toEqual(place);
});

test("an edit between the start of a node that was ready before and its being ready is put in force", async () => {
  const a = node("a");
  await a.run(a.file.apply("p.yaml", fileOf("old")));
  await a.run(a.file.letIn("p.yaml", fileOf("old"), false));
  await a.run(a.file.letIn("p.yaml", fileOf("edited"), false));
  expect(a.engine.inForce?.version).toBe("edited");
});

test("a store that is away does not say that this node was ready before", async () => {
  const store = openMemoryStore();
  const a = node("a", store);
  store.get = () => Promise.reject(new WaymarkError("store_unavailable", "away"));
  expect(await a.run(a.file.wasReady())).toBe(false);
});

test("a store that is away for one reading of the file keeps none that follows from being applied", async () => {
  const store = openMemoryStore();
  const a = node("a", store);
  a.file.awaitCluster();
  await a.run(a.file.apply("p.yaml", fileOf("old")));
  const swap = store.compareAndSwap.bind(store);
  let isAway = true;
  store.compareAndSwap = (key, ...rest) =>
    isAway && key === "policy/let-in" ? Promise.reject(new WaymarkError("store_unavailable", "away")) : swap(key, ...rest);
  await expect(a.run(a.file.letIn("p.yaml", fileOf("old"), false))).rejects.toThrow("away");
  isAway = false;
  await a.run(a.file.apply("p.yaml", fileOf("new")));
  expect(a.engine.inForce?.version).toBe("new");
});

test("a file that is broken is shown at every door at once", async () => {
  const a = node("a");
  await a.run(a.file.apply("p.yaml", { ok: false, fault: "line 3: broken" }));
  expect([a.changeCount, a.engine.status.degraded]).toEqual([1, "policy file p.yaml: line 3: broken; all requests are denied"]);
});
