/** Whose reports are accepted about whom: what nodes of another cluster, and others at all, may make a member believe. */
import { expect, test } from "vitest";
import type { MemberUpdate } from "../../../src/fabric/wire/messages.ts";
import { nodeRef, updateOf } from "../../fakes/fabric-values.ts";
import { MemberBench, type Telling } from "../membership-bench.ts";

const WALL_MS = Date.UTC(2027, 0);
const WALL_S = WALL_MS / 1000;
const TEN_YEARS_S = 10 * 365 * 86_400;

/** A node of cluster c1 that knows `a` and `b` of its own cluster and `evil` of another one, each by its own word. */
function member() {
  const bench = new MemberBench({ facts: updateOf("self", { address: "self:1" }), wallMs: WALL_MS, isSilent: true });
  const own = (nodeId: string, more: Partial<MemberUpdate> = {}) =>
    updateOf(nodeId, { address: `${nodeId}:1`, incarnation: WALL_S, boot: `${nodeId}-1`, ...more });
  const hear = (update: MemberUpdate, from: string, more: Omit<Telling, "from"> = {}) => bench.hear([update], { from, ...more }).join();
  for (const nodeId of ["a", "b"]) hear(own(nodeId), nodeId);
  hear(own("evil", { clusterId: "other" }), "evil", { clusterId: "other" });
  bench.outputs.length = 0;
  return { bench, own, hear, held: (nodeId: string) => bench.held(nodeId) };
}

/** What it did but answer. */
function deeds({ outputs }: MemberBench): readonly unknown[] {
  return outputs.filter(({ kind }) => kind !== "answer");
}

test.each<{ readonly what: string; readonly lie: Partial<MemberUpdate> }>([
  { what: "is dead", lie: { status: "dead" } },
  { what: "is suspected", lie: { status: "suspect", accuser: "evil" } },
  { what: "has left", lie: { status: "left" } },
  { what: "was started again", lie: { boot: "made-up", bootBefore: "a-1" } },
  { what: "lives on in a later generation", lie: { generation: 2, boot: "made-up" } },
  { what: "moved", lie: { address: "elsewhere:1" } },
  { what: "is of the other cluster", lie: { clusterId: "other" } },
])("a node of another cluster is not believed that one of ours $what", ({ lie }) => {
  for (const telling of [{ clusterId: "other" }, {}]) {
    const { bench, own, hear, held } = member();
    expect(hear(own("a", { incarnation: WALL_S + 5, ...lie }), "evil", telling)).toBe("border");
    expect([held("a"), bench.machine.stats().refused.border, deeds(bench)]).toEqual([own("a"), 1, []]);
  }
});

test("what a node of another cluster tells of others is heard, and of a node of ours that is new that one is asked itself", () => {
  const { bench, own, hear, held } = member();
  const theirs = own("evil-2", { clusterId: "other" });
  expect([hear(theirs, "evil", { clusterId: "other" }), held("evil-2")]).toEqual(["", theirs]);
  bench.outputs.length = 0;
  expect([hear(own("c"), "evil"), held("c")]).toEqual(["border", undefined]);
  expect(deeds(bench)).toMatchObject([{ kind: "call", to: "c:1", request: { kind: "pushPull" } }]);
  for (let i = 0; i < 20; i++) hear(own(`c${i}`), "evil");
  expect(deeds(bench).length).toBe(4);
});

test("in the first table of all another cluster's node is believed that there are others of ours: a newcomer must not take itself for all of it", () => {
  const bench = new MemberBench({ facts: updateOf("self", { address: "self:1" }), wallMs: WALL_MS, isSilent: true });
  const { own } = member();
  const [join] = bench.join(["evil:1"]);
  const members = [own("evil", { clusterId: "other" }), own("d"), own("d", { status: "dead", incarnation: WALL_S + 1 })];
  bench.answer(join, { kind: "pushPull", from: { ...nodeRef("evil"), clusterId: "other" }, members });
  expect([bench.held("d"), bench.machine.stats().refused.border]).toEqual([own("d"), 1]);
});

test("of this node another cluster may say that it is dead, which is contradicted; not that it lives in another generation or place", () => {
  const { bench, hear } = member();
  const update = bench.self;
  const incarnation = update.incarnation + 5;
  expect(hear({ ...update, incarnation, status: "dead" }, "evil")).toBe("");
  expect(bench.self.incarnation).toBe(incarnation + 1);
  bench.outputs.length = 0;
  expect(hear({ ...update, incarnation: incarnation + 9, generation: 2, status: "dead" }, "evil")).toBe("border");
  expect(hear({ ...update, incarnation: incarnation + 9, address: "elsewhere:1" }, "evil")).toBe("border");
  expect([deeds(bench), bench.self.incarnation]).toEqual([[], incarnation + 1]);
});

test("of a new start others are not believed: the address is asked, and answers in that start, or in the old one", () => {
  for (const isTrue of [true, false]) {
    const { bench, own, hear, held } = member();
    const next = own("a", { boot: "a-2", bootBefore: "a-1", incarnation: WALL_S + 9 });
    expect([hear(next, "b"), held("a")?.boot, bench.probes.map(({ to }) => to)]).toEqual(["", "a-1", ["a:1"]]);
    bench.answerProbes("a:1", { nodeId: "a", generation: 1, boot: isTrue ? "a-2" : "a-1" });
    expect([held("a")?.boot, bench.machine.counts().conflicts]).toEqual([isTrue ? "a-2" : "a-1", 0]);
    expect(bench.events()).toEqual([]);
  }
});

test("a made-up start at its address is not taken for its silence; elsewhere it is, and the node's own word takes it back", () => {
  const { bench, own, hear, held } = member();
  bench.runUntil(2000);
  hear(own("a", { boot: "made-up", bootBefore: "a-1", incarnation: WALL_S + 5 }), "b");
  bench.failUntil(() => held("a")?.status === "suspect");
  expect(held("a")?.boot).toBe("a-1");
  hear(own("a", { incarnation: WALL_S + 6 }), "a");
  bench.runUntil(bench.nowMs + 2000);
  hear(own("a", { boot: "made-up", bootBefore: "a-1", incarnation: WALL_S + 7, address: "elsewhere:1" }), "b");
  bench.failUntil(() => held("a")?.boot === "made-up");
  expect(hear(own("a", { incarnation: WALL_S + 8 }), "b")).toBe("start");
  expect([hear(own("a", { incarnation: WALL_S + 8 }), "a"), held("a")?.boot]).toEqual(["", "a-1"]);
});

test("there is no word of others that a node cannot contradict: the highest they may say is below what it may", () => {
  const { bench, own, hear, held } = member();
  const highest = WALL_S + TEN_YEARS_S + 1800;
  expect(hear(own("a", { incarnation: highest + 1 }), "b")).toBe("ahead");
  expect(hear(own("a", { incarnation: highest }), "b")).toBe("");
  expect(hear(own("a", { incarnation: highest + 1 }), "a")).toBe("");
  expect(held("a")?.incarnation).toBe(highest + 1);
  // It hears what is held of itself, whatever that is.
  expect(hear({ ...bench.self, status: "dead", incarnation: highest + 1 }, "b")).toBe("");
  expect(bench.self.incarnation).toBe(highest + 2);
});
