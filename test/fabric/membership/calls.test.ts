import { expect, test } from "vitest";
import { MemberCalls } from "../../../src/fabric/membership/calls.ts";
import type { MembershipOutput } from "../../../src/fabric/membership/io-types.ts";
import { MembershipState } from "../../../src/fabric/membership/state.ts";
import type { MemberUpdate } from "../../../src/fabric/wire/messages.ts";
import { MEMBERSHIP_OPTIONS } from "../../fakes/options.ts";
import { factsOf } from "../membership-world.ts";

const TIME = { monoMs: 0, wallMs: 0 };

function said(nodeId: string, status: MemberUpdate["status"] = "alive"): MemberUpdate {
  return { ...factsOf(nodeId), status, incarnation: 1, accuser: "" };
}

function memberCalls(): MemberCalls {
  return new MemberCalls(new MembershipState(factsOf("self"), MEMBERSHIP_OPTIONS), MEMBERSHIP_OPTIONS);
}

test("calls are counted, and each is answered once", () => {
  const made = memberCalls();
  const out: MembershipOutput[] = [];
  made.probe({ kind: "gossip", nodeId: "a" }, said("a"), 500, TIME, out);
  made.probe({ kind: "gossip", nodeId: "b" }, said("b"), 500, TIME, out);
  const calls = out.flatMap((output) => (output.kind === "call" ? [output] : []));
  expect(calls.map(({ call, to }) => [call, to])).toEqual([
    [1, "a:1"],
    [2, "b:1"],
  ]);
  expect(made.finish(1, undefined)?.purpose).toEqual({ kind: "gossip", nodeId: "a" });
  expect(made.finish(1, undefined)).toBeUndefined();
  expect(made.finish(77, undefined)).toBeUndefined();
  made.finish(2, { kind: "probe", from: { nodeId: "b", generation: 1 }, updates: [] });
  expect(made.traffic).toEqual({ answered: 1, failed: 1, taken: 0, refused: 0 });
});

test("the buddy system: a suspect hears first that it is one", () => {
  const made = memberCalls();
  made.hear([said("a"), said("b"), said("b", "suspect"), said("c")], { nodeId: "c", path: "gossip" }, TIME, []);
  const out: MembershipOutput[] = [];
  made.probe({ kind: "gossip", nodeId: "b" }, said("b"), 500, TIME, out);
  const [first] = out;
  if (first?.kind !== "call" || first.request.kind !== "probe") throw new Error("no probe");
  expect(first.request.updates.map(({ nodeId, status }) => `${nodeId} ${status}`)).toEqual(["b suspect", "c alive", "a alive"]);
});

test("an answer by another than the one meant is none", () => {
  const made = memberCalls();
  const response = { kind: "probe", from: { nodeId: "b", generation: 1 }, updates: [said("c")] } as const;
  expect(made.hearProbe("a", response, TIME, [])).toBe(false);
  expect(made.state.members.size).toBe(0);
  expect(made.hearProbe("b", response, TIME, [])).toBe(true);
  expect(made.state.members.size).toBe(1);
});

test("no more updates of a message are read than the bound says; the rest is counted", () => {
  const made = memberCalls();
  const updates = Array.from({ length: 300 }, (_, i) => said(`n${i}`));
  made.hear(updates, { nodeId: "a", path: "gossip" }, TIME, []);
  expect(made.state.members.size).toBe(256);
  expect(made.state.refused.tooMany).toBe(44);
});
