/** What a member makes of several starts of one node. */
import { expect, test } from "vitest";
import { refusalOfStart } from "../../src/fabric/links/peer-auth.ts";
import type { Teller } from "../../src/fabric/membership/authority.ts";
import type { MembershipOutput } from "../../src/fabric/membership/io-types.ts";
import { MembershipState } from "../../src/fabric/membership/state.ts";
import type { MemberUpdate } from "../../src/fabric/wire/messages.ts";
import { updateOf } from "../fakes/fabric-values.ts";
import { MEMBERSHIP_OPTIONS } from "../fakes/options.ts";

const at = (monoMs: number) => ({ monoMs, wallMs: 1_800_000_000_000 + monoMs });
const said = (address: string, start: Partial<MemberUpdate>) => updateOf("n", { address, incarnation: 5, ...start });
const FIRST = said("n:1", { boot: "a" });

function member() {
  const news = new MembershipState(updateOf("self", { address: "self:1" }), MEMBERSHIP_OPTIONS);
  const out: MembershipOutput[] = [];
  const hear = (update: MemberUpdate, from: Teller["nodeId"] = "n", path: Teller["path"] = "table") =>
    news.learn(update, { nodeId: from, path }, at(1000), out);
  hear(FIRST);
  const events = () => out.flatMap((output) => (output.kind === "event" ? [output.event.name] : []));
  return { news, out, hear, events, held: () => news.members.find("n")?.update };
}

test("a start that follows the accepted one is taken at once at its address, and where the last one left or died", () => {
  for (const end of [undefined, "left", "dead"] as const) {
    const { hear, held, events } = member();
    if (end !== undefined) hear({ ...FIRST, status: end, incarnation: 6 }, "k", "gossip");
    const next = said(end === undefined ? "n:1" : "n:2", { boot: "b", bootBefore: "a", incarnation: 9 });
    expect(hear(next)).toBeUndefined();
    expect([held(), events().includes("two_nodes_with_one_id")]).toEqual([next, false]);
  }
});

test("at another address it waits for the last one's silence: one failed probe is enough", () => {
  const { news, out, hear, held } = member();
  const moved = said("n:2", { boot: "b", bootBefore: "a", incarnation: 9 });
  hear(moved);
  expect([held()?.boot, news.doubted.length, news.boots.insteadOf({ ...moved })]).toEqual([
    "a",
    1,
    { heldStart: { boot: "a", address: "n:1" } },
  ]);
  const [older] = news.doubted;
  if (older !== undefined) news.accuse(older, "direct", [], at(2000), out);
  expect(held()).toEqual(moved);
  expect(news.boots.insteadOf({ ...moved })).toEqual({});
  // The last one comes back: it was frozen.
  expect(hear({ ...FIRST, incarnation: 99 })).toBe("start");
  expect(held()).toEqual(moved);
});

test("while the last one answers the next one is a second node, and the operator is told once", () => {
  const { news, out, hear, held, events } = member();
  hear(said("n:2", { boot: "b", bootBefore: "a", incarnation: 9 }));
  const older = news.members.find("n");
  for (const monoMs of [2000, 3000]) if (older !== undefined) news.stillThere(older, older.update, at(monoMs), out);
  expect([held()?.boot, events().filter((name) => name === "two_nodes_with_one_id")]).toEqual(["a", ["two_nodes_with_one_id"]]);
});

test("a stranger is refused and the last one looked for; that there are two is told once that one has shown that it is there", () => {
  const { news, out, hear, held, events } = member();
  const stranger = said("n:2", { boot: "x", bootBefore: "before-a", incarnation: 9 });
  expect([hear(stranger), hear(stranger), events(), news.doubted.map(({ update }) => update)]).toEqual(["start", "start", [], [FIRST]]);
  const older = news.members.find("n");
  if (older !== undefined) news.stillThere(older, older.update, at(1000), out);
  expect([hear(stranger), events(), held()]).toEqual(["start", ["two_nodes_with_one_id"], FIRST]);
});

test("a stranger at the address of the last one is refused and accused of nothing, however long it asks", () => {
  const { news, out, hear, events } = member();
  const stranger = said("n:1", { boot: "x", bootBefore: "before-a", incarnation: 9 });
  const refusals = [0, 1000, 60_000].map((monoMs) => news.learn(stranger, { nodeId: "n", path: "table" }, at(monoMs), out));
  expect([refusals, news.doubted, events()]).toEqual([["start", "start", "start"], [], []]);
  // It follows the last one after all.
  expect(hear({ ...stranger, bootBefore: "a" })).toBeUndefined();
});

test("a stranger is refused, and stays so when the last one is gone; a new generation is taken", () => {
  const { news, hear, held } = member();
  const stranger = said("n:2", { boot: "x", bootBefore: "before-a", incarnation: 9 });
  expect(hear(stranger)).toBe("start");
  hear({ ...FIRST, status: "left", incarnation: 6 });
  expect([hear({ ...stranger, incarnation: 10 }), news.refused.start, held()?.status]).toEqual(["start", 2, "left"]);
  expect([hear({ ...stranger, generation: 2, incarnation: 11 }), held()?.boot]).toEqual([undefined, "x"]);
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

test("what an older node passes on without a start keeps the start that is known; from elsewhere it has to wait", () => {
  const { news, hear, held } = member();
  hear(said("n:1", { incarnation: 8 }), "old", "gossip");
  expect(held()).toMatchObject({ boot: "a", incarnation: 8 });
  hear(said("n:2", { incarnation: 9 }), "old", "gossip");
  expect([held()?.address, news.quarantinedCount]).toEqual(["n:1", 1]);
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
  { verdict: "unsaid", isElsewhere: true, want: undefined },
] as const)("the greeting of one that is $verdict, with the last one elsewhere: $isElsewhere → $want", ({ want, ...start }) => {
  expect(refusalOfStart({ nodeId: "n", address: "n:2" }, start)?.reason).toBe(want);
});

test("a node of another cluster that was started several times meanwhile is met again, elsewhere when nobody answers at its old place", () => {
  for (const address of ["n:1", "n:2"]) {
    const { news, out, hear, held } = member();
    const abroad = (start: Partial<MemberUpdate>) => updateOf("m", { address: "m:1", incarnation: 5, clusterId: "c2", ...start });
    hear(abroad({ boot: "a" }), "m");
    const third = abroad({ boot: "c", bootBefore: "b", incarnation: 9, address: address.replace("n", "m") });
    expect(hear(third, "k", "gossip")).toBe("start");
    expect(hear(third, "m")).toBeUndefined();
    const older = news.members.find("m");
    if (address === "n:2" && older !== undefined) news.accuse(older, "direct", [], at(2000), out);
    expect([news.members.find("m")?.update, held()?.boot]).toEqual([third, "a"]);
  }
});
