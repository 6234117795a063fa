/** The two tables by which a member decides whose word counts; `authority.test.ts` shows what follows from them. */
import { expect, test } from "vitest";
import { isOfOurs, isToBeAsked } from "../../../src/fabric/membership/authority.ts";
import { updateOf } from "../../fakes/fabric-values.ts";

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
