/** What a member makes of several starts of one node. */
import { expect, test } from "vitest";
import { refusalOfStart } from "../../src/fabric/links/peer-auth.ts";
import type { MemberUpdate } from "../../src/fabric/wire/messages.ts";
import { nodeRef, updateOf } from "../fakes/fabric-values.ts";
import { MemberBench, type Telling } from "./membership-bench.ts";

const said = (address: string, start: Partial<MemberUpdate>) => updateOf("n", { address, incarnation: 5, ...start });
const FIRST = said("n:1", { boot: "a" });

function member() {
  const bench = new MemberBench({ facts: updateOf("self", { address: "self:1" }), wallMs: 1_800_000_000_000, isSilent: true });
  const hear = (update: MemberUpdate, from = "n", path: Telling["path"] = "table") => bench.hear([update], { from, path }).join();
  hear(FIRST);
  /** What the start of `update` is told when it asks. */
  const heldInsteadOf = ({ nodeId, generation, boot }: MemberUpdate) => {
    const from = { ...nodeRef(nodeId, generation), ...(boot !== undefined && { boot }) };
    const answer = bench.ask({ kind: "probe", from, targetNodeId: "self", updates: [] });
    return answer?.kind === "probe" ? answer.heldStart : undefined;
  };
  return { bench, hear, heldInsteadOf, events: () => bench.events(), held: () => bench.held("n") };
}

/** The first start is asked, and answers. */
function isThere(bench: MemberBench): void {
  bench.give({ kind: "linkBroken", nodeId: "n" });
  bench.answerProbes("n:1", { nodeId: "n", generation: 1, boot: "a" });
}

test("a start that follows the accepted one is taken at once at its address, and where the last one left or died", () => {
  for (const end of [undefined, "left", "dead"] as const) {
    const { hear, held, events } = member();
    if (end !== undefined) hear({ ...FIRST, status: end, incarnation: 6 }, "k", "gossip");
    const next = said(end === undefined ? "n:1" : "n:2", { boot: "b", bootBefore: "a", incarnation: 9 });
    expect(hear(next)).toBe("");
    expect([held(), events().includes("two_nodes_with_one_id")]).toEqual([next, false]);
  }
});

test("at another address it waits for the last one's silence: one failed probe is enough", () => {
  const { bench, hear, held, heldInsteadOf } = member();
  const moved = said("n:2", { boot: "b", bootBefore: "a", incarnation: 9 });
  hear(moved);
  expect([held()?.boot, bench.probes.map(({ to }) => to)]).toEqual(["a", ["n:1"]]);
  expect(heldInsteadOf(moved)).toEqual({ boot: "a", address: "n:1" });
  bench.failUntil(() => held()?.boot === "b");
  expect(held()).toEqual(moved);
  expect(heldInsteadOf(moved)).toBeUndefined();
  // The last one comes back: it was frozen.
  expect(hear({ ...FIRST, incarnation: 99 })).toBe("start");
  expect(held()).toEqual(moved);
});

test("while the last one answers the next one is a second node, and the operator is told once", () => {
  const { bench, hear, held, events } = member();
  hear(said("n:2", { boot: "b", bootBefore: "a", incarnation: 9 }));
  for (let n = 0; n < 2; n++) isThere(bench);
  expect([held()?.boot, events().filter((name) => name === "two_nodes_with_one_id")]).toEqual(["a", ["two_nodes_with_one_id"]]);
});

test("a stranger is refused and the last one looked for; that there are two is told once that one has shown that it is there", () => {
  const { bench, hear, held, events } = member();
  const stranger = said("n:2", { boot: "x", bootBefore: "before-a", incarnation: 9 });
  expect([hear(stranger), hear(stranger), events(), bench.probes.map(({ to }) => to)]).toEqual(["start", "start", [], ["n:1"]]);
  isThere(bench);
  expect([hear(stranger), events(), held()]).toEqual(["start", ["two_nodes_with_one_id"], FIRST]);
});

test("a stranger at the address of the last one is refused and accused of nothing, however long it asks", () => {
  const { bench, hear, events } = member();
  const stranger = said("n:1", { boot: "x", bootBefore: "before-a", incarnation: 9 });
  expect([hear(stranger), bench.probes]).toEqual(["start", []]);
  // It is what answers there.
  bench.onProbe = () => ({ kind: "probe", from: { ...nodeRef("n"), boot: "x" }, updates: [] });
  for (const monoMs of [1000, 60_000]) {
    bench.runUntil(monoMs);
    expect([hear(stranger), events()]).toEqual(["start", []]);
  }
  // It follows the last one after all.
  expect(hear({ ...stranger, bootBefore: "a" })).toBe("");
});

test("a stranger is refused, and stays so when the last one is gone; a new generation is taken", () => {
  const { bench, hear, held } = member();
  const stranger = said("n:2", { boot: "x", bootBefore: "before-a", incarnation: 9 });
  expect(hear(stranger)).toBe("start");
  hear({ ...FIRST, status: "left", incarnation: 6 });
  expect([hear({ ...stranger, incarnation: 10 }), bench.machine.stats().refused.start, held()?.status]).toEqual(["start", 2, "left"]);
  expect([hear({ ...stranger, generation: 2, incarnation: 11 }), held()?.boot]).toEqual(["", "x"]);
});

test("old news of an earlier start is no second node", () => {
  const { hear, events, held } = member();
  hear(said("n:1", { boot: "b", bootBefore: "a", incarnation: 9 }));
  expect([hear({ ...FIRST, incarnation: 10, status: "suspect", accuser: "k" }, "k", "gossip"), events(), held()?.status]).toEqual([
    "start",
    [],
    "alive",
  ]);
});

test("what is passed on without a start keeps the start that is known; from elsewhere it has to wait", () => {
  const { bench, hear, held } = member();
  hear(said("n:1", { incarnation: 8 }), "old", "gossip");
  expect(held()).toMatchObject({ boot: "a", incarnation: 8 });
  hear(said("n:2", { incarnation: 9 }), "old", "gossip");
  expect([held()?.address, bench.machine.counts().conflicts]).toEqual(["n:1", 1]);
});

test.each([
  { standing: "first", want: "not_needed" },
  { standing: "unsure", want: "not_needed" },
  { standing: "lasting", want: "duplicate_node" },
  { standing: "two", want: "duplicate_node" },
] as const)("the greeting of a stranger of which is known: $standing → $want", ({ standing, want }) => {
  const refusal = refusalOfStart({ nodeId: "n", address: "n:2" }, { verdict: "stranger", standing });
  expect(refusal).toMatchObject({ reason: want });
});

test.each([
  { verdict: "follows", isElsewhere: true, want: "not_needed" },
  { verdict: "follows", isElsewhere: false, want: undefined },
  { verdict: "same", isElsewhere: true, want: undefined },
  { verdict: "new", isElsewhere: true, want: undefined },
  { verdict: "unnamed", isElsewhere: true, want: undefined },
] as const)("the greeting of one that is $verdict, with the last one elsewhere: $isElsewhere → $want", ({ want, ...start }) => {
  expect(refusalOfStart({ nodeId: "n", address: "n:2" }, start)?.reason).toBe(want);
});

test("a node of another cluster that was started several times meanwhile is met again, elsewhere when nobody answers at its old place", () => {
  for (const address of ["m:1", "m:2"]) {
    const { bench, hear, held } = member();
    const abroad = (start: Partial<MemberUpdate>) => updateOf("m", { address: "m:1", incarnation: 5, clusterId: "c2", ...start });
    hear(abroad({ boot: "a" }), "m");
    const third = abroad({ boot: "c", bootBefore: "b", incarnation: 9, address });
    expect(hear(third, "k", "gossip")).toBe("start");
    expect(hear(third, "m")).toBe("");
    bench.failUntil(() => bench.held("m")?.boot === "c");
    expect([bench.held("m"), held()?.boot]).toEqual([third, "a"]);
  }
});
