/** Calls to other members: what rides along with them, and what comes back. */
import { expect, test } from "vitest";
import { askedNode } from "../../../src/fabric/membership/calls.ts";
import { nodeRef } from "../../fakes/fabric-values.ts";
import { MemberBench, said } from "../membership-bench.ts";

/** Knows `a` to `c`, and probes whom it is told to doubt. */
function bench(): MemberBench {
  const made = new MemberBench({ isSilent: true });
  made.hear([said("a"), said("b"), said("c")]);
  return made;
}

function probe(made: MemberBench, nodeId: string) {
  made.probes.length = 0;
  made.give({ kind: "linkBroken", nodeId });
  const call = made.probes.find(({ to }) => to === `${nodeId}:1`);
  if (call?.request.kind !== "probe") throw new Error("no probe");
  return { call, updates: call.request.updates };
}

test("calls are counted, and each is answered once", () => {
  const made = bench();
  const [a, b] = [probe(made, "a").call, probe(made, "b").call];
  made.answer(a, { kind: "probe", from: nodeRef("a"), updates: [] });
  made.answer(a, undefined);
  made.answer(b, undefined);
  expect(made.machine.stats().traffic).toMatchObject({ answered: 1, failed: 1, refused: 0 });
});

test("the buddy system: a suspect hears first that it is one", () => {
  const made = bench();
  const from = nodeRef("c");
  made.ask({ kind: "probe", from, targetNodeId: "self", updates: [said("b", "suspect", { accuser: "c" }), said("d"), said("e")] });
  // It looks for itself at once.
  const told = made.probes.find(({ to }) => to === "b:1");
  if (told?.request.kind !== "probe") throw new Error("no probe");
  expect(told.request.updates[0]).toMatchObject({ nodeId: "b", status: "suspect" });
  expect(told.request.updates.length).toBeGreaterThan(1);
});

test("an answer by another than the one meant is none: what it tells is not heard", () => {
  const made = bench();
  const answer = (from: string) => {
    const { call } = probe(made, "a");
    made.answer(call, { kind: "probe", from: nodeRef(from), updates: [said("z")] });
    return made.held("z") !== undefined;
  };
  expect(answer("b")).toBe(false);
  made.runUntil(2000);
  expect(answer("a")).toBe(true);
});

test("no more updates of a message are read than the bound says; the rest is counted", () => {
  const made = new MemberBench({ isSilent: true });
  const updates = Array.from({ length: 300 }, (_, i) => said(`n${i}`));
  made.ask({ kind: "probe", from: nodeRef("a"), targetNodeId: "self", updates });
  expect(made.machine.listed()).toHaveLength(256);
  expect(made.machine.stats().refused.tooMany).toBe(44);
});

test("an answer counts as that of the node that was asked only where one node was asked for itself", () => {
  expect(askedNode({ kind: "gossip", nodeId: "a" })).toBe("a");
  expect(askedNode({ kind: "check", nodeId: "b" })).toBe("b");
  expect(askedNode({ kind: "pushPull", address: "10.0.0.1:17421", isJoin: true, step: "whole" })).toBeUndefined();
});
