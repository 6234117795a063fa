import { expect, test } from "vitest";
import { IdentityDispute } from "../../../src/fabric/membership/identity-dispute.ts";
import { updateOf } from "../../fakes/fabric-values.ts";

const at = (monoMs: number) => ({ monoMs, wallMs: 1_000_000 + monoMs });
const peer = (nodeId: string) => ({ nodeId, boot: `boot-of-${nodeId}`, address: `${nodeId}:1` });
const all = () => true;
const EARLIER = { boot: "mine-before", address: "old:1" };
const STRANGER = { boot: "x", address: "x:1" };

test("a start that nobody has accepted yet waits for whoever holds an earlier one of its own", () => {
  const standing = new IdentityDispute(["mine-before"]);
  expect(standing.dispute(all, at(0))).toBeUndefined();
  expect(standing.receive(peer("m"), EARLIER, at(0))).toBe(true);
  expect(standing.dispute(all, at(0))).toEqual({ nodeIds: ["m"], otherAddress: "old:1" });
  expect(standing.receive(peer("m"), undefined, at(10))).toBe(false);
  expect(standing.dispute(all, at(10))).toBeUndefined();
});

test("an accepted start is patient with who has not heard of it yet, and not with who holds another's", () => {
  const standing = new IdentityDispute(["mine-before"]);
  standing.receive(peer("m"), undefined, at(0));
  standing.receive(peer("late"), EARLIER, at(0));
  expect(standing.dispute(all, at(4999))).toBeUndefined();
  expect(standing.dispute(all, at(5000))?.nodeIds).toEqual(["late"]);
  standing.receive(peer("late"), undefined, at(5000));
  standing.receive(peer("k"), STRANGER, at(5000));
  expect(standing.dispute(all, at(5000))).toEqual({ nodeIds: ["k"], otherAddress: "x:1" });
});

test("only the word of members counts, and of those that are forgotten none", () => {
  const standing = new IdentityDispute([]);
  standing.receive(peer("m"), STRANGER, at(0));
  expect(standing.dispute(() => false, at(0))).toBeUndefined();
  standing.forget("m");
  expect(standing.dispute(all, at(0))).toBeUndefined();
});

test("an older node's answer accepts nothing", () => {
  const standing = new IdentityDispute(["mine-before"]);
  standing.receive({ nodeId: "older", address: "older:1" }, undefined, at(0));
  standing.receive(peer("m"), EARLIER, at(0));
  expect(standing.dispute(all, at(0))).toBeDefined();
});

test("who holds another start is asked again: soon at first, then once a second", () => {
  const standing = new IdentityDispute([]);
  standing.receive(peer("m"), STRANGER, at(0));
  const askedAt: number[] = [];
  for (let monoMs = 0; monoMs <= 3100; monoMs = Math.max(monoMs + 1, standing.nextDeadlineMs())) {
    if (standing.takeDue(at(monoMs)).length === 0) continue;
    askedAt.push(monoMs);
    expect(standing.receive(peer("m"), STRANGER, at(monoMs))).toBe(false);
  }
  expect(askedAt).toEqual([100, 200, 300, 400, 500, 600, 700, 800, 900, 1000, 2000, 3000]);
});

test("the other one under our id is believed for as long as it answers", () => {
  const standing = new IdentityDispute([]);
  standing.receive({ nodeId: "self", boot: "x", address: "x:1" }, STRANGER, at(0));
  standing.unanswered("self", "elsewhere:1");
  expect(standing.dispute(all, at(0))).toBeDefined();
  standing.unanswered("self", "x:1");
  expect(standing.dispute(all, at(0))).toBeUndefined();
});

test("a second node that asked under our id is one for a minute", () => {
  const standing = new IdentityDispute([]);
  expect(standing.secondAddress(at(0))).toBeUndefined();
  standing.second("y:1", at(0));
  expect([standing.secondAddress(at(59_999)), standing.secondAddress(at(60_000))]).toEqual(["y:1", undefined]);
});

test("who accepts a start while another holds an earlier one makes it no accepted one: it waits for both", () => {
  const standing = new IdentityDispute(["mine-before"]);
  standing.receive(peer("late"), EARLIER, at(0));
  standing.receive(peer("m"), undefined, at(10));
  expect(standing.dispute(all, at(20))?.nodeIds).toEqual(["late"]);
});

test("where the other one is, is known of whoever says it", () => {
  const standing = new IdentityDispute([]);
  standing.receive(peer("m"), { boot: "x", address: "" }, at(0));
  standing.receive(peer("k"), STRANGER, at(0));
  expect(standing.dispute(all, at(0))).toEqual({ nodeIds: ["m", "k"], otherAddress: "x:1" });
});

test("who does not take what this node says of itself is named until it does, or is no member any more; news of it are told once", () => {
  const standing = new IdentityDispute([]);
  const told = (nodeId: string, why: string) => standing.refusedBy(nodeId, why)?.event.name;
  expect([told("m", "17 roles"), told("m", "17 roles")]).toEqual(["own_update_refused", undefined]);
  expect([told("k", ""), told("k", "17 roles")]).toEqual([undefined, "own_update_refused"]);
  expect(standing.refusers((nodeId) => nodeId !== "k")).toEqual([{ nodeId: "m", why: "17 roles" }]);
  standing.forget("m");
  expect(standing.refusers(all).map(({ nodeId }) => nodeId)).toEqual(["k"]);
  expect([told("k", ""), standing.refusers(all)]).toEqual(["own_update_taken", []]);
});

test("an operator hears of another under the own id once a minute, and at once that it is gone, but that once only", () => {
  const standing = new IdentityDispute([]);
  const own = { address: "self:1", toldBy: "m" };
  const isTold = (status: "alive" | "dead", monoMs: number) =>
    standing.conflict(updateOf("self", { status }), own, at(monoMs)) !== undefined;
  expect([isTold("alive", 0), isTold("alive", 59_999)]).toEqual([true, false]);
  expect([isTold("dead", 59_999), isTold("dead", 60_000), isTold("alive", 60_001)]).toEqual([true, false, false]);
  expect(isTold("alive", 119_999)).toBe(true);
});

test.each([
  { listed: 1, most: 1, atOnce: 1 },
  { listed: 2, most: 2, atOnce: 2 },
  { listed: 3, most: 2, atOnce: 3 },
  { listed: 5, most: 3, atOnce: 3 },
  { listed: 10, most: 6, atOnce: 6 },
  { listed: 200, most: 20, atOnce: 20 },
])(
  "a node that stood still beside $listed others is confirmed by $atOnce at once, by $most after a round, and at the end by nobody",
  (row) => {
    const { listed, most, atOnce } = row;
    const standing = new IdentityDispute([]);
    standing.onWake(at(0));
    const isUnconfirmed = (monoMs: number) => standing.isUnconfirmed(listed, 500, at(monoMs));
    for (let n = 1; n <= listed; n++) {
      expect([isUnconfirmed(499), isUnconfirmed(4999), isUnconfirmed(5000)]).toEqual([n - 1 < atOnce, n - 1 < most, false]);
      standing.confirmed(`n${n}`, 0);
    }
    expect(IdentityDispute.askedOf(listed)).toBeGreaterThanOrEqual(most);
  },
);

test("an answer to what was asked before the standstill confirms nothing: it was given before another start can have been taken", () => {
  const standing = new IdentityDispute([]);
  standing.onWake(at(1000));
  standing.confirmed("n1", 999);
  expect(standing.isUnconfirmed(1, 500, at(1000))).toBe(true);
  standing.confirmed("n1", 1000);
  expect(standing.isUnconfirmed(1, 500, at(1000))).toBe(false);
});

test("that it does not follow a start of its own that others remember is no refusal; that it follows another's is one, and so is all else", () => {
  const standing = new IdentityDispute(["mine-before"]);
  const why =
    "it is not a successor of the last accepted process instance with its id: start it with --new-generation when no other node uses this id";
  expect(standing.lastingRefusal({ ownUpdateRefused: why, heldStart: EARLIER })).toBe("");
  expect(standing.lastingRefusal({ ownUpdateRefused: why, heldStart: STRANGER })).toBe(why);
  expect(standing.lastingRefusal({ ownUpdateRefused: why })).toBe(why);
  expect(standing.lastingRefusal({ ownUpdateRefused: "17 roles", heldStart: EARLIER })).toBe("17 roles");
  expect(standing.lastingRefusal({ heldStart: EARLIER })).toBe("");
});
