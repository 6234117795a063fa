/** What a node does while another start goes under its id (semantics.md, Two nodes with one id). */
import { expect, test } from "vitest";
import { instanceOfNode, OwnInstance } from "../../../src/node/core/write-eligibility.ts";

const DISPUTE = { nodeIds: ["m", "k"], otherAddress: "x:1" };

function open() {
  const start = new OwnInstance("n");
  /** What it says when it looks, and somebody disputes its start or nobody does. */
  const look = (monoMs: number, isDisputed: boolean) => {
    const { event, isLost, isContested } = start.look(isDisputed ? DISPUTE : undefined, "n:1", { monoMs, wallMs: 0 });
    return [event?.event.name, isLost === true ? "lost" : undefined, isContested === true ? "contested" : undefined].filter(Boolean);
  };
  return { start, look };
}

test("it takes no writes at once, and says so after two seconds, once a dispute; then it may write again", () => {
  const { start, look } = open();
  expect([look(0, false), start.fault]).toEqual([[], ""]);
  expect(look(100, true)).toEqual(["lost"]);
  expect(start.refusal?.message).toContain("not_ready: another process with node id n at x:1 was accepted by m and 1 more");
  expect([look(2099, true), look(2100, true), look(4000, true)]).toEqual([[], ["own_start_refused"], []]);
  expect(look(5099, false)).toEqual(["own_start_accepted"]);
  expect(look(9000, false)).toEqual([]);
  expect(start.refusal).toBeUndefined();
  expect([look(10_000, true), look(12_000, true), look(13_000, false)]).toEqual([["lost"], ["own_start_refused"], ["own_start_accepted"]]);
});

test("a dispute that is over before it was told of is not told of; each counts from its own beginning", () => {
  const { look } = open();
  expect([look(0, true), look(1999, false)].flat()).toEqual(["lost"]);
  expect([look(3000, true), look(4999, true), look(5000, true)]).toEqual([["lost"], [], ["own_start_refused"]]);
});

test("after five seconds another may have written under the same numbers, so that it goes on under new ones", () => {
  for (const [lastedMs, isContested] of [
    [4999, false],
    [5000, true],
  ] as const) {
    const { look } = open();
    look(100, true);
    expect(look(100 + lastedMs, false).includes("contested")).toBe(isContested);
  }
});

test("what a node says of its start is what its directory says, and nothing without one", () => {
  const startOf = (earlierBoots: readonly string[] | undefined) => instanceOfNode({ boot: "c", earlierBoots });
  expect([startOf(["b", "a"]), startOf([]), startOf(undefined)]).toEqual([{ boot: "c", bootBefore: "b" }, { boot: "c" }, {}]);
});

test.each([
  ["n:1", "another process instance of n at the same address was accepted by m"],
  ["x:1", "stop one of the two"],
  ["", "stop one of the two"],
])("of a start that is remembered at this node's own address nobody says that one of two is to be stopped: %j", (otherAddress, wanted) => {
  const start = new OwnInstance("n");
  start.look({ nodeIds: ["m"], otherAddress }, "n:1", { monoMs: 1000, wallMs: 0 });
  expect(start.fault).toContain(wanted);
  expect(start.fault.includes("stop one") || otherAddress === "n:1").toBe(true);
});
