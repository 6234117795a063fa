/** Whose word counts about whom: what nodes of another cluster, and others at all, may make a member believe. */
import { expect, test } from "vitest";
import { isOfOurs, isToBeAsked, type Teller } from "../../../src/fabric/membership/authority.ts";
import type { MembershipOutput } from "../../../src/fabric/membership/io-types.ts";
import { MembershipState } from "../../../src/fabric/membership/state.ts";
import type { MemberUpdate } from "../../../src/fabric/wire/messages.ts";
import { updateOf } from "../../fakes/fabric-values.ts";
import { MEMBERSHIP_OPTIONS } from "../../fakes/options.ts";

const WALL_MS = Date.UTC(2027, 0);
const at = (monoMs: number) => ({ monoMs, wallMs: WALL_MS + monoMs });
const WALL_S = WALL_MS / 1000;
const TEN_YEARS_S = 10 * 365 * 86_400;

/** A node of cluster c1 that knows `a` and `b` of its own cluster and `evil` of another one, each by its own word. */
function member() {
  const state = new MembershipState(updateOf("self", { address: "self:1" }), MEMBERSHIP_OPTIONS);
  state.self.begin(WALL_MS);
  const out: MembershipOutput[] = [];
  const own = (nodeId: string, more: Partial<MemberUpdate> = {}) =>
    updateOf(nodeId, { address: `${nodeId}:1`, incarnation: WALL_S, boot: `${nodeId}-1`, ...more });
  const hear = (update: MemberUpdate, from: string, more: Partial<Teller> = {}) =>
    state.learn(update, { nodeId: from, path: "gossip", ...more }, at(1000), out);
  for (const nodeId of ["a", "b"]) hear(own(nodeId), nodeId);
  hear(own("evil", { clusterId: "other" }), "evil", { clusterId: "other" });
  out.length = 0;
  return { state, out, own, hear, held: (nodeId: string) => state.members.find(nodeId)?.update };
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
  for (const said of [{ clusterId: "other" }, {}]) {
    const { state, out, own, hear, held } = member();
    expect(hear(own("a", { incarnation: WALL_S + 5, ...lie }), "evil", said)).toBe("border");
    expect([held("a"), state.refused.border, state.broadcasts.has("a"), out]).toEqual([own("a"), 1, true, []]);
  }
});

test("what a node of another cluster tells of others is heard, and of a node of ours that is new that one is asked itself", () => {
  const { state, own, hear, held } = member();
  const theirs = own("evil-2", { clusterId: "other" });
  expect([hear(theirs, "evil", { clusterId: "other" }), held("evil-2")]).toEqual([undefined, theirs]);
  const ours = own("c");
  expect([hear(ours, "evil"), held("c"), state.untold]).toEqual(["border", undefined, [ours]]);
  // In the first table of all it is taken: a newcomer must not take itself for its whole cluster.
  expect([hear(own("d"), "evil", { path: "newcomer" }), hear(own("a", { status: "dead" }), "evil", { path: "newcomer" })]).toEqual([
    undefined,
    "border",
  ]);
  for (let i = 0; i < 20; i++) hear(own(`c${i}`), "evil");
  expect(state.untold.length).toBe(8);
});

test("of this node another cluster may say that it is dead, which is contradicted; not that it lives in another generation or place", () => {
  const { state, out, hear } = member();
  const { update } = state.self;
  const incarnation = update.incarnation + 5;
  expect(hear({ ...update, incarnation, status: "dead" }, "evil")).toBeUndefined();
  expect(state.self.update.incarnation).toBe(incarnation + 1);
  out.length = 0;
  expect(hear({ ...update, incarnation: incarnation + 9, generation: 2, status: "dead" }, "evil")).toBe("border");
  expect(hear({ ...update, incarnation: incarnation + 9, address: "elsewhere:1" }, "evil")).toBe("border");
  expect([out, state.self.update.incarnation]).toEqual([[], incarnation + 1]);
});

test("of a new start others are not believed: the address is asked, and answers in that start, or in the old one", () => {
  for (const isTrue of [true, false]) {
    const { state, out, own, hear, held } = member();
    const next = own("a", { boot: "a-2", bootBefore: "a-1", incarnation: WALL_S + 9 });
    expect([hear(next, "b"), held("a")?.boot, state.doubted.length]).toEqual([undefined, "a-1", 1]);
    const [asked] = state.doubted;
    if (asked !== undefined) state.stillThere(asked, { ...next, boot: isTrue ? "a-2" : "a-1" }, at(1001), out);
    expect([held("a")?.boot, state.quarantinedCount]).toEqual([isTrue ? "a-2" : "a-1", 0]);
    expect(out.some((output) => output.kind === "event")).toBe(false);
  }
});

test("a made-up start at its address is not taken for its silence; elsewhere it is, and the node's own word takes it back", () => {
  const { state, out, own, hear, held } = member();
  const a = state.members.find("a");
  if (a === undefined) throw new Error("a is known");
  hear(own("a", { boot: "made-up", bootBefore: "a-1", incarnation: WALL_S + 5 }), "b");
  state.accuse(a, "direct", [], at(1001), out);
  expect(held("a")).toMatchObject({ boot: "a-1", status: "suspect" });
  hear(own("a", { incarnation: WALL_S + 6 }), "a");
  hear(own("a", { boot: "made-up", bootBefore: "a-1", incarnation: WALL_S + 7, address: "elsewhere:1" }), "b");
  state.accuse(a, "direct", [], at(1002), out);
  expect(held("a")).toMatchObject({ boot: "made-up" });
  expect(hear(own("a", { incarnation: WALL_S + 8 }), "b")).toBe("start");
  expect([hear(own("a", { incarnation: WALL_S + 8 }), "a"), held("a")?.boot]).toEqual([undefined, "a-1"]);
});

test("there is no word of others that a node cannot contradict: the highest they may say is below what it may", () => {
  const { state, own, hear, held } = member();
  const highest = WALL_S + 1 + TEN_YEARS_S + 1800;
  expect(hear(own("a", { incarnation: highest + 1 }), "b")).toBe("ahead");
  expect(hear(own("a", { incarnation: highest }), "b")).toBeUndefined();
  expect(hear(own("a", { incarnation: highest + 1 }), "a")).toBeUndefined();
  expect(held("a")?.incarnation).toBe(highest + 1);
  // It hears what is held of itself, whatever that is.
  const { update } = state.self;
  expect(hear({ ...update, status: "dead", incarnation: highest + 1 }, "b")).toBeUndefined();
  expect(state.self.update.incarnation).toBe(highest + 2);
});

test.each([
  { what: "says so itself", says: "c1", held: "c2", want: true },
  { what: "names another", says: "c2", held: "c1", want: false },
  { what: "names none, and is held for one of ours", says: undefined, held: "c1", want: true },
  { what: "names none, and is held for one of another", says: undefined, held: "c2", want: false },
  { what: "names none, and nobody knows it", says: undefined, held: undefined, want: true },
])("a node is of our own cluster, or not, that $what", ({ says, held, want }) => {
  expect(isOfOurs({ clusterId: says }, held === undefined ? undefined : updateOf("n", { clusterId: held }), "c1")).toBe(want);
});

test.each([
  { start: "new", by: "others", isAsked: false, isAskedHere: false },
  { start: "unsaid", by: "others", isAsked: true, isAskedHere: false },
  { start: "same", by: "others", isAsked: true, isAskedHere: false },
  { start: "follows", by: "others", isAsked: true, isAskedHere: true },
  { start: "unsaid", by: "itself", isAsked: true, isAskedHere: false },
  { start: "same", by: "itself", isAsked: false, isAskedHere: false },
  { start: "follows", by: "itself", isAsked: true, isAskedHere: false },
] as const)("a word of $by that a node moved, in a start that is $start: whether the old address is asked", ({ start, by, ...want }) => {
  const held = updateOf("n", { address: "n:1" });
  const teller = { nodeId: by === "itself" ? "n" : "m", path: "gossip" } as const;
  const asked = (address: string) => isToBeAsked(updateOf("n", { address }), teller, held, start);
  expect([asked("n:2"), asked("n:1")]).toEqual([want.isAsked, want.isAskedHere]);
});
