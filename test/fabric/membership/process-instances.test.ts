import { expect, test } from "vitest";
import { ProcessInstances } from "../../../src/fabric/membership/process-instances.ts";
import type { MemberUpdate, ProcessInstance } from "../../../src/fabric/wire/messages.ts";
import { updateOf } from "../../fakes/fabric-values.ts";

const said = (nodeId: string, start: ProcessInstance & { readonly generation?: number }, address = "n:1") =>
  updateOf(nodeId, { ...start, address });

/** By the node's own word. */
function accept(boots: ProcessInstances, update: MemberUpdate): void {
  boots.accept(update);
  boots.prove(update, { monoMs: 0, wallMs: 0 });
}

test.each([
  { what: "a start that follows the last one", start: { boot: "c", bootBefore: "b" }, want: "follows" },
  { what: "the last one itself", start: { boot: "b", bootBefore: "a" }, want: "same" },
  { what: "one that began from a copy that was made before the last one", start: { boot: "x", bootBefore: "a" }, want: "stranger" },
  { what: "the one before the last", start: { boot: "a" }, want: "stranger" },
  { what: "one that follows none", start: { boot: "x" }, want: "stranger" },
  { what: "one of a new generation", start: { boot: "x", generation: 9 }, want: "new" },
  { what: "an older node's word", start: {}, want: "unsaid" },
] as const)("$what → $want", ({ start, want }) => {
  const boots = new ProcessInstances(10, "c1");
  accept(boots, said("n", { boot: "b", bootBefore: "a" }));
  expect(boots.verdict(said("n", start), true)).toBe(want);
});

test("whom nobody remembers is taken, whatever it follows: a seed with an empty table locks no node out", () => {
  expect(new ProcessInstances(10, "c1").verdict(said("n", { boot: "b", bootBefore: "a" }), true)).toBe("new");
});

test("a word without a start does not make the last one forgotten; a new generation without one does", () => {
  const boots = new ProcessInstances(10, "c1");
  accept(boots, said("n", { boot: "b" }));
  accept(boots, said("n", {}, "n:2"));
  expect(boots.find("n")).toMatchObject({ boot: "b", address: "n:2" });
  accept(boots, said("n", { generation: 9 }));
  expect(boots.find("n")).toBeUndefined();
});

test("who asks is told of another start under its id, and not of its own; who says no start is told nothing", () => {
  const boots = new ProcessInstances(10, "c1");
  accept(boots, said("n", { boot: "b" }));
  expect(boots.insteadOf({ nodeId: "n", generation: 1, boot: "x" })).toEqual({ heldStart: { boot: "b", address: "n:1" } });
  for (const boot of ["b", undefined]) expect(boots.insteadOf({ nodeId: "n", generation: 1, ...(boot && { boot }) })).toEqual({});
});

test("what a node says itself settles what only others said of it; once it said so, another start is a stranger", () => {
  const boots = new ProcessInstances(10, "c1");
  const [own, madeUp] = [said("n", { boot: "b", bootBefore: "a" }), said("n", { boot: "x", bootBefore: "b" })];
  accept(boots, own);
  boots.accept(madeUp);
  expect([boots.verdict(own, false), boots.verdict(own, true)]).toEqual(["stranger", "new"]);
  expect(boots.list()).toEqual([]);
  accept(boots, own);
  expect(boots.verdict(said("n", { boot: "copy", bootBefore: "a" }), true)).toBe("stranger");
  boots.accept(madeUp);
  boots.prove({ nodeId: "n", generation: 1, boot: "x" }, { monoMs: 0, wallMs: 0 });
  expect(boots.verdict(own, true)).toBe("stranger");
});

test("a start that others told of is remembered over a restart once it has asked something itself: it was told then that it is the one", () => {
  const boots = new ProcessInstances(10, "c1");
  accept(boots, said("n", { boot: "a" }));
  boots.accept(said("n", { boot: "b", bootBefore: "a" }));
  expect(boots.list()).toEqual([]);
  boots.heard({ nodeId: "n", generation: 1, boot: "b" }, { monoMs: 0, wallMs: 0 });
  const restarted = new ProcessInstances(10, "c1", boots.list());
  expect(restarted.verdict(said("n", { boot: "copy", bootBefore: "a" }), true)).toBe("stranger");
});

test("at most so many are remembered: those that were heard of last", () => {
  const boots = new ProcessInstances(2, "c1");
  for (const nodeId of ["a", "b", "a", "c"]) accept(boots, said(nodeId, { boot: "1" }));
  expect(["a", "b", "c"].map((nodeId) => boots.find(nodeId) !== undefined)).toEqual([true, false, true]);
  // Also after a restart with room for fewer.
  expect(new ProcessInstances(1, "c1", boots.list()).list().map(({ nodeId }) => nodeId)).toEqual(["c"]);
});

test("what is remembered goes over a restart", () => {
  const boots = new ProcessInstances(10, "c1");
  for (const boot of ["a", "b"]) accept(boots, said("n", { boot }));
  accept(boots, said("without-a-disk", {}));
  expect(boots.list()).toEqual([{ nodeId: "n", generation: 1, boot: "b", address: "n:1" }]);
  const restarted = new ProcessInstances(10, "c1", boots.list());
  expect(restarted.verdict(said("n", { boot: "x", bootBefore: "a" }), true)).toBe("stranger");
  expect(restarted.verdict(said("n", { boot: "c", bootBefore: "b" }), true)).toBe("follows");
});

test("an operator is told of a second node with one id, and where both are, once a minute", () => {
  const boots = new ProcessInstances(10, "c1");
  accept(boots, said("n", { boot: "b" }));
  const second = said("n", { boot: "x" }, "n:2");
  const detail = { address: "n:2", otherAddress: "n:1" };
  expect(boots.second(second, { monoMs: 0, wallMs: 0 })).toMatchObject([{ event: { name: "two_nodes_with_one_id", detail } }]);
  // That the first one is heard of again meanwhile, as it is every second, makes no difference.
  boots.accept(said("n", { boot: "b" }));
  expect(boots.second(second, { monoMs: 59_999, wallMs: 0 })).toEqual([]);
  expect(boots.second(second, { monoMs: 60_000, wallMs: 0 })).toHaveLength(1);
});

const atMs = (monoMs: number) => ({ monoMs, wallMs: monoMs });
const startOfN = (boot: string) => ({ nodeId: "n", generation: 1, boot });

test("a stranger is a second node once the accepted start has shown that it is there too; one that is alone only lasts", () => {
  const boots = new ProcessInstances(10, "c1");
  accept(boots, said("n", { boot: "b" }));
  expect([0, 100, 4999, 5000].map((monoMs) => boots.meet(startOfN("x"), atMs(monoMs)))).toEqual(["first", "unsure", "unsure", "lasting"]);
  boots.postpone(1000);
  expect(boots.meet(startOfN("x"), atMs(5999))).toBe("unsure");
  boots.heard(startOfN("x"), atMs(5999));
  expect(boots.meet(startOfN("x"), atMs(6000))).toBe("lasting");
  boots.heard(startOfN("b"), atMs(7000));
  expect([7000, 66_999, 67_000].map((monoMs) => boots.meet(startOfN("x"), atMs(monoMs)))).toEqual(["two", "two", "lasting"]);
  // What is known of one stranger says nothing of how long the next one lasts.
  expect([67_000, 67_001].map((monoMs) => boots.meet(startOfN("y"), atMs(monoMs)))).toEqual(["first", "unsure"]);
});

test("two copies that speak in turn are second nodes too; of a stranger that is taken after all nothing is left", () => {
  const boots = new ProcessInstances(10, "c1");
  accept(boots, said("n", { boot: "b" }));
  boots.meet(startOfN("x"), atMs(0));
  boots.prove(startOfN("b"), atMs(1));
  expect(["y", "y", "x", "x"].map((boot) => boots.meet(startOfN(boot), atMs(2)))).toEqual(["unsure", "two", "unsure", "two"]);
  accept(boots, said("n", { boot: "x", bootBefore: "b" }));
  expect(boots.meet(startOfN("y"), atMs(3))).toBe("first");
  expect(boots.meet(startOfN("y"), atMs(4))).toBe("unsure");
});

test("at most so many strangers are remembered: those that were met last", () => {
  const boots = new ProcessInstances(2, "c1");
  for (const nodeId of ["a", "b", "c"]) boots.meet({ nodeId, generation: 1, boot: "x" }, atMs(0));
  expect(["c", "b", "a"].map((nodeId) => boots.meet({ nodeId, generation: 1, boot: "x" }, atMs(1)))).toEqual(["unsure", "unsure", "first"]);
});

test("the start that was accepted is heard when it asks, whatever else is said of it then; a copy is not, nor is the next start before it asks", () => {
  const at = (monoMs: number) => ({ monoMs, wallMs: monoMs });
  const boots = new ProcessInstances(10, "c1");
  accept(boots, said("n", { boot: "b" }));
  boots.heard({ nodeId: "n", generation: 1, boot: "copy" }, at(100));
  expect(boots.isHeard("n", 1000, at(100))).toBe(false);
  boots.heard({ nodeId: "n", generation: 1, boot: "b" }, at(100));
  // Its question brought a newer word of its own, or its probes failed meanwhile.
  accept(boots, said("n", { boot: "b" }));
  accept(boots, said("n", {}));
  expect([boots.isHeard("n", 1000, at(1099)), boots.isHeard("n", 1000, at(1100))]).toEqual([true, false]);
  accept(boots, said("n", { boot: "c", bootBefore: "b" }, "n:2"));
  expect(boots.isHeard("n", 1000, at(100))).toBe(false);
});

test("a node of another cluster that was started several times meanwhile is taken by its own word, and only by that", () => {
  const boots = new ProcessInstances(10, "c2", [{ nodeId: "n", generation: 1, boot: "a", address: "n:1" }]);
  const third = said("n", { boot: "c", bootBefore: "b" });
  expect([boots.verdict(third, false), boots.verdict(third, true)]).toEqual(["stranger", "follows"]);
});

test("a new generation of the same start begins anew: it has said nothing and asked nothing", () => {
  const boots = new ProcessInstances(10, "c1");
  accept(boots, said("n", { boot: "b" }));
  boots.heard({ nodeId: "n", generation: 1, boot: "b" }, { monoMs: 100, wallMs: 100 });
  boots.accept(said("n", { boot: "b", generation: 2 }));
  expect([boots.isHeard("n", 1000, { monoMs: 100, wallMs: 100 }), boots.list()]).toEqual([false, []]);
});

test("a stranger that takes one name after the other lasts as one that keeps its name; after a pause it is a new one", () => {
  const boots = new ProcessInstances(10, "c1");
  accept(boots, said("n", { boot: "b" }));
  const meet = (boot: string, monoMs: number) => boots.meet({ nodeId: "n", generation: 1, boot }, { monoMs, wallMs: 0 });
  expect([0, 1000, 4000, 4999, 5000, 9000].map((monoMs, i) => meet(`x${i}`, monoMs))).toEqual([
    "first",
    "unsure",
    "unsure",
    "unsure",
    "lasting",
    "lasting",
  ]);
  expect([meet("y", 14_000), meet("y", 18_000), meet("y", 30_000)]).toEqual(["first", "unsure", "lasting"]);
});
