/** What a node does while another start goes under its id, or most others refuse its word (semantics.md, Two nodes with one id; Names and bounds). */
import { expect, test } from "vitest";
import type { Dispute } from "../../../src/fabric/membership/own-standing.ts";
import { checkWrites, isFaultless, lookAtRefusers, OwnStart, type Standing, startOfNode } from "../../../src/node/fabric/standing.ts";

const DISPUTE = { nodeIds: ["m", "k"], otherAddress: "x:1" };

function open(isReady = true) {
  const said: string[] = [];
  const state = { isReady, isDraining: false, clockFault: "", startFault: "", isRefused: false, joinFault: "" };
  const core = {
    identity: { nodeId: "n", listeners: { fabric: "n:1" } },
    state,
    hooks: { onFault: () => said.push(`fault: ${state.startFault === "" ? "none" : "some"}`) },
    fanout: { end: () => said.push("watches end") },
  } as unknown as ConstructorParameters<typeof OwnStart>[0];
  const start = new OwnStart(core, { tell: ({ name }) => said.push(name), onWon: () => said.push("won") });
  /** What it does when it looks, and somebody disputes its start or nobody does. */
  const look = (monoMs: number, isDisputed: boolean) => {
    said.length = 0;
    start.look({ dispute: () => (isDisputed ? DISPUTE : undefined), isUnconfirmed: () => false }, { monoMs, wallMs: 0 });
    return [...said];
  };
  return { state, look };
}

test("it takes no writes at once, ends its watches, and says so after two seconds, once; then it may write again", () => {
  const { state, look } = open();
  expect([look(0, false), isFaultless(state)]).toEqual([[], true]);
  expect(look(100, true)).toEqual(["fault: some", "watches end"]);
  expect(isFaultless(state)).toBe(false);
  expect(() => checkWrites(state)).toThrow("another start of n at x:1 goes under its id (m and 1 more accepted it)");
  expect([look(2099, true), look(2100, true), look(4000, true)]).toEqual([[], ["own_start_refused"], []]);
  expect(look(5099, false)).toEqual(["fault: none", "own_start_accepted"]);
  expect(look(9000, false)).toEqual([]);
  expect(isFaultless(state)).toBe(true);
});

test("a dispute that is over before it was told of is not told of; each counts from its own beginning", () => {
  const { look } = open();
  expect([look(0, true), look(1999, false)].flat()).toEqual(["fault: some", "watches end", "fault: none"]);
  expect([look(3000, true), look(4999, true), look(5000, true)]).toEqual([["fault: some", "watches end"], [], ["own_start_refused"]]);
});

test("after five seconds another may have written under the same numbers, so that it goes on under new ones", () => {
  for (const [lastedMs, isWon] of [
    [4999, false],
    [5000, true],
  ] as const) {
    const { look } = open();
    look(100, true);
    expect(look(100 + lastedMs, false).includes("won")).toBe(isWon);
  }
});

test("a node that is not ready yet ends no watch: nobody was told anything", () => {
  expect(open(false).look(0, true)).toEqual(["fault: some"]);
});

test("what a node says of its start is what its directory says, and nothing without one", () => {
  const startOf = (earlierBoots: readonly string[] | undefined) =>
    startOfNode({ restored: { boot: "c", earlierBoots } } as unknown as Parameters<typeof startOfNode>[0]);
  expect([startOf(["b", "a"]), startOf([]), startOf(undefined)]).toEqual([{ boot: "c", bootBefore: "b" }, { boot: "c" }, {}]);
});

const TIME = { monoMs: 1000, wallMs: 0 };
function started(standing: { isUnconfirmed: boolean; dispute: Dispute | undefined }) {
  const state = { isReady: false, isDraining: false, clockFault: "", startFault: "" };
  const core = { identity: { nodeId: "n", listeners: {} }, state, hooks: { onFault: () => undefined }, fanout: { watchers: () => [] } };
  // Of the core only these four are asked.
  const start = new OwnStart(core as unknown as ConstructorParameters<typeof OwnStart>[0], {
    tell: () => undefined,
    onWon: () => undefined,
  });
  const membership: Standing = { dispute: () => standing.dispute, isUnconfirmed: () => standing.isUnconfirmed };
  return { start, membership };
}

test("nothing waits in normal operation", () => {
  const { start, membership } = started({ isUnconfirmed: false, dispute: undefined });
  expect(start.confirmed(membership, TIME)).toBeUndefined();
});

test("after a standstill a write waits until others have answered, and is acknowledged then", async () => {
  const standing = { isUnconfirmed: true, dispute: undefined };
  const { start, membership } = started(standing);
  const write = start.confirmed(membership, TIME);
  start.look(membership, TIME);
  expect(await Promise.race([write, Promise.resolve("nobody has answered")])).toBe("nobody has answered");
  standing.isUnconfirmed = false;
  start.look(membership, TIME);
  expect(await write).toBeUndefined();
});

test("of a start that is remembered at this node's own address nobody says that one of two is to be stopped", () => {
  for (const [otherAddress, wanted] of [
    ["n:1", "another start of n at this same address goes under its id (m accepted it)"],
    ["x:1", "stop one of the two"],
    ["", "stop one of the two"],
  ] as const) {
    const state = { isReady: false, isDraining: false, clockFault: "", startFault: "" };
    const core = {
      identity: { nodeId: "n", listeners: { fabric: "n:1" } },
      state,
      hooks: { onFault: () => undefined },
      fanout: { watchers: () => [] },
    };
    // Of the core only these four are asked.
    const parts = { tell: () => undefined, onWon: () => undefined };
    const start = new OwnStart(core as unknown as ConstructorParameters<typeof OwnStart>[0], parts);
    start.look({ dispute: () => ({ nodeIds: ["m"], otherAddress }), isUnconfirmed: () => false }, TIME);
    expect(state.startFault).toContain(wanted);
    expect(state.startFault.includes("stop one") || otherAddress === "n:1").toBe(true);
  }
});

test("a write that waits is refused when another start goes under this id, and so is one that was under way before that was known", async () => {
  const standing: { isUnconfirmed: boolean; dispute: Dispute | undefined } = { isUnconfirmed: true, dispute: undefined };
  const { start, membership } = started(standing);
  const waiting = start.confirmed(membership, TIME);
  standing.dispute = DISPUTE;
  start.look(membership, TIME);
  await expect(waiting).rejects.toThrow("not_ready: another start of n at x:1 goes under its id");
  standing.isUnconfirmed = false;
  await expect(start.confirmed(membership, TIME)).rejects.toThrow("not_ready");
});

test("more than half of the others must refuse what a node says of itself before it is not ready; it is told of each change once", () => {
  const { state } = open();
  const told: boolean[] = [];
  const core = { state, hooks: { onFault: () => told.push(isFaultless(state)) } } as unknown as Parameters<typeof lookAtRefusers>[0];
  const look = (refuserCount: number, alive: number, suspect: number) => {
    const refusers = Array.from({ length: refuserCount }, (_, i) => ({ nodeId: `n${i}`, why: "too long" }));
    lookAtRefusers(core, { refusers: () => refusers, counts: () => ({ alive, suspect, left: 0, dead: 0, quarantined: 0 }) });
    return isFaultless(state);
  };
  expect([look(0, 0, 0), look(1, 1, 1), look(2, 2, 1), look(2, 2, 1), look(2, 3, 1), look(1, 1, 0), look(0, 0, 0)]).toEqual([
    true,
    true,
    false,
    false,
    true,
    false,
    true,
  ]);
  expect(told).toEqual([false, true, false, true]);
  expect(() => checkWrites(state)).not.toThrow();
});
