/** The table by which a member decides whose word counts; `authority.test.ts` shows what follows from it. */
import { expect, test } from "vitest";
import { needsProbe } from "../../../src/fabric/membership/update-authority.ts";
import { updateOf } from "../../fakes/fabric-values.ts";

test.each([
  { start: "new", by: "others", isAsked: false, isAskedHere: false },
  { start: "unnamed", by: "others", isAsked: true, isAskedHere: false },
  { start: "same", by: "others", isAsked: true, isAskedHere: false },
  { start: "follows", by: "others", isAsked: true, isAskedHere: true },
  { start: "unnamed", by: "itself", isAsked: true, isAskedHere: false },
  { start: "same", by: "itself", isAsked: false, isAskedHere: false },
  { start: "follows", by: "itself", isAsked: true, isAskedHere: false },
] as const)("a word of $by that a node moved, in a start that is $start: whether the old address is asked", ({ start, by, ...want }) => {
  const held = updateOf("n", { address: "n:1" });
  const updateSource = { nodeId: by === "itself" ? "n" : "m", path: "gossip", clusterId: "c1" } as const;
  const asked = (address: string) => needsProbe(updateOf("n", { address }), updateSource, held, start);
  expect([asked("n:2"), asked("n:1")]).toEqual([want.isAsked, want.isAskedHere]);
});
