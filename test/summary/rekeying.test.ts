/** A cluster that signs with another key says again what it says (docs/design/summaries.md, Changing a key). */
import { expect, test } from "vitest";
import { HEALTH } from "../../src/catalog/record/record.ts";
import { Policy } from "../../src/policy/set/verdict.ts";
import { Rekeying } from "../../src/summary/building/rekeying.ts";
import { rule, set } from "../fakes/policies.ts";
import { SummaryWorld } from "../fakes/summary-world.ts";

const DENYING = new Policy(set([rule("svc", { allowSummaries: false })]), 1);
const IDS = ["a", "b"] as const;
const MINUTE = 60_000;

/** A cluster that has told its services, of which the last is withdrawn again. */
function settled({ ids = IDS, count = 40 }: { readonly ids?: readonly string[]; readonly count?: number } = {}): SummaryWorld {
  const world = new SummaryWorld(ids);
  const names = Array.from({ length: count }, (_, i) => `s${i}`);
  for (const name of names) world.put({ name });
  world.run(10_000);
  world.remove({ name: `s${count - 1}` });
  world.run(MINUTE * 2);
  world.told();
  return world;
}

/** How many a node holds under each key. */
function keysOf(world: SummaryWorld, id = "a"): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const { keyId } of world.node(id).sent.values()) counts[keyId] = (counts[keyId] ?? 0) + 1;
  return counts;
}

test("all that is held is signed again once, withdrawals too, in slices and as it was", () => {
  const world = settled({ ids: ["a"], count: 500 });
  const before = [...world.node("a").sent.values()].map((sent) => ({ ...sent, keyId: "", generatedWallMs: 0 }));
  world.mostAtOnce = 0;
  world.node("a").keyId = "key-2";
  world.run(100);
  expect(keysOf(world)).toEqual({ "key-2": 500 });
  const after = [...world.node("a").sent.values()].map((sent) => ({ ...sent, keyId: "", generatedWallMs: 0 }));
  expect(after).toEqual(before);
  expect(world.mostAtOnce).toBeLessThan(25);
  world.run(MINUTE * 60);
  expect(world.drafts.filter(({ cause }) => cause === "rekeyed")).toHaveLength(500);
  expect(world.drafts.slice(501).filter(({ cause }) => cause !== "rekeyed")).toEqual([]);
});

test("what was just sent is signed again when its hold-down is over, and what changes then waits as long", () => {
  const world = settled({ ids: ["a"], count: 2 });
  world.put({ name: "s0", health: HEALTH.CRITICAL });
  world.run(1000);
  world.node("a").keyId = "key-2";
  world.put({ name: "s0", health: HEALTH.HEALTHY });
  world.run(MINUTE);
  const sent = world.drafts.filter(({ facts }) => facts.serviceId === "s0").slice(1);
  expect(sent.map(({ cause }) => cause)).toEqual(expect.arrayContaining(["changed"]));
  for (const [i, { atMs }] of sent.entries()) if (i > 0) expect(atMs - (sent[i - 1]?.atMs ?? 0)).toBeGreaterThanOrEqual(5000);
  expect(keysOf(world)).toEqual({ "key-2": 2 });
  expect(world.live()).toEqual(["s0 global 1 healthy r1 0-0"]);
});

test("two exporters with different keys sign each its own share, and no more", () => {
  const world = settled();
  world.node("a").keyId = "key-2";
  world.run(MINUTE * 30);
  const { "key-1": old = 0, "key-2": young = 0 } = keysOf(world);
  expect(old + young).toBe(40);
  expect(Math.min(old, young)).toBeGreaterThan(10);
  const rekeyed = world.drafts.filter(({ cause }) => cause === "rekeyed");
  expect(rekeyed).toHaveLength(young);
  expect(new Set(rekeyed.map(({ by }) => by))).toEqual(new Set(["a"]));
  // The other one follows.
  world.node("b").keyId = "key-2";
  world.run(100);
  expect(keysOf(world)).toEqual({ "key-2": 40 });
});

test("what a lost exporter signed is signed again after a minute, and one that comes and goes has that done ever more rarely", () => {
  const world = settled();
  world.node("b").keyId = "key-2";
  world.run(1000);
  const only = (members: string[]) => world.follow({ members, standing: "exporting" }, members);
  only(["b"]);
  world.run(MINUTE - 100, ({ id }) => id === "b");
  expect(Object.keys(keysOf(world)).toSorted()).toEqual(["key-1", "key-2"]);
  world.run(200, ({ id }) => id === "b");
  expect(keysOf(world)).toEqual({ "key-2": 40 });
  const before = world.drafts.length;
  for (let n = 0; n < 60; n++) {
    only([...IDS]);
    world.run(MINUTE * 1.5);
    only(["b"]);
    world.run(MINUTE * 1.5, ({ id }) => id === "b");
  }
  // Three hours, in which one of the two had 120 times what the other one had signed.
  expect(world.drafts.length - before).toBeLessThan(40 * 2);
  world.run(MINUTE * 61, ({ id }) => id === "b");
  expect(keysOf(world)).toEqual({ "key-2": 40 });
  // However often that was, an hour is enough. A next key begins anew.
  const aSpeaks = (n: number) => {
    only([...IDS]);
    for (let i = 0; i < 39; i++) world.put({ name: `s${i}`, health: n % 2 === 0 ? HEALTH.CRITICAL : HEALTH.HEALTHY });
    world.run(10_000);
    expect(keysOf(world)["key-1"]).toBeGreaterThan(10);
    only(["b"]);
  };
  for (let n = 0; n < 8; n++) {
    aSpeaks(n);
    world.run(MINUTE * 61, ({ id }) => id === "b");
    expect(keysOf(world)).toEqual({ "key-2": 40 });
  }
  aSpeaks(8);
  world.node("b").keyId = "key-3";
  world.run(MINUTE * 1.2, ({ id }) => id === "b");
  expect(keysOf(world)).toEqual({ "key-3": 40 });
});

test("two nodes that both take themselves for the only exporter say each other's words again once a minute at most", () => {
  const world = settled();
  for (const id of IDS) world.follow({ members: [id], standing: "exporting" }, [id]);
  world.node("b").keyId = "key-2";
  world.run(MINUTE * 30);
  expect(world.told().length).toBeLessThanOrEqual(40 * 31);
});

test("what counts no more here, because the old key does not, is said as if for the first time", () => {
  const world = settled({ ids: ["a"], count: 10 });
  // They were just counted, and nothing is to be looked at again.
  for (let i = 0; i < 9; i++) world.put({ name: `s${i}` });
  world.run(1000);
  world.node("a").keyId = "key-2";
  world.node("a").sent.clear();
  world.run(MINUTE * 2);
  expect(world.live()).toHaveLength(9);
  expect(keysOf(world)).toEqual({ "key-2": 9 });
});

test("withdrawals of what the policy denies are signed again, too", () => {
  const world = settled();
  world.setPolicy(DENYING);
  world.run(MINUTE);
  world.node("b").keyId = "key-2";
  world.follow({ members: ["b"], standing: "exporting" }, ["b"]);
  world.run(MINUTE * 2, ({ id }) => id === "b");
  expect([keysOf(world), world.live(), world.node("b").builder.serviceCount]).toEqual([{ "key-2": 40 }, [], 0]);
});

test("a node that may see only a part signs nothing again, and what the policy denies is taken back instead", () => {
  const world = settled({ ids: ["a"], count: 3 });
  world.follow({ members: ["a"], standing: "withholding" });
  world.node("a").keyId = "key-2";
  world.run(MINUTE);
  expect(keysOf(world)).toEqual({ "key-1": 3 });
  world.setPolicy(DENYING);
  world.follow({ members: ["a"], standing: "exporting" });
  world.run(MINUTE * 2);
  expect(world.told().toSorted()).toEqual(["s0 global denied gone", "s1 global denied gone", "s2 global rekeyed gone"]);
  expect(world.node("a").builder.serviceCount).toBe(0);
});

test("exporters that come and go make nothing wait for longer, as long as nothing of them was signed again", () => {
  const sent = { exporter: "b" } as Parameters<Rekeying["dueMonoMs"]>[0];
  const rekeying = new Rekeying({ nodeId: "a", holdDownMs: 5000 }, "key-2");
  const dueAfterMs = (monoMs: number) => {
    rekeying.handedOver();
    rekeying.begin("key-2", { monoMs, wallMs: 0 });
    return rekeying.dueMonoMs(sent, 0) - monoMs;
  };
  expect(dueAfterMs(0)).toBe(MINUTE);
  rekeying.done(sent);
  expect([1, 2, 3].map((hours) => dueAfterMs(hours * 60 * MINUTE))).toEqual([2 * MINUTE, 2 * MINUTE, 2 * MINUTE]);
  for (let n = 0; n < 10; n++) {
    rekeying.done(sent);
    dueAfterMs(0);
  }
  expect(dueAfterMs(0)).toBe(60 * MINUTE);
});
