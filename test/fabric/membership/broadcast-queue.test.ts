import { expect, test } from "vitest";
import { BroadcastQueue, retransmitLimit, updateSizeBytes } from "../../../src/fabric/membership/broadcast-queue.ts";
import type { MemberUpdate } from "../../../src/fabric/wire/messages.ts";
import { factsOf } from "../membership-world.ts";

function update(nodeId: string, incarnation = 1): MemberUpdate {
  return { ...factsOf(nodeId), status: "alive", incarnation, accuser: "" };
}

const PLENTY = { maxBytes: 100_000, limit: 2 };

function names(updates: readonly MemberUpdate[]): readonly string[] {
  return updates.map(({ nodeId, incarnation }) => `${nodeId}@${incarnation}`);
}

test.each([
  { memberCount: 1, want: 4 },
  { memberCount: 9, want: 4 },
  { memberCount: 12, want: 8 },
  { memberCount: 200, want: 12 },
  { memberCount: 1000, want: 16 },
])("among $memberCount an update is sent $want times", ({ memberCount, want }) => {
  expect(retransmitLimit(4, memberCount)).toBe(want);
});

test("newest first, each until its budget is spent, then silence", () => {
  const queue = new BroadcastQueue();
  queue.add(update("a"));
  queue.add(update("b"));
  expect(names(queue.take(PLENTY))).toEqual(["b@1", "a@1"]);
  queue.add(update("c"));
  expect(names(queue.take(PLENTY))).toEqual(["c@1", "b@1", "a@1"]);
  expect(names(queue.take(PLENTY))).toEqual(["c@1"]);
  expect(queue.size).toBe(0);
  expect(queue.take(PLENTY)).toEqual([]);
});

test("a newer update of a member takes the place of the older, with a new budget", () => {
  const queue = new BroadcastQueue();
  queue.add(update("a"));
  queue.add(update("b"));
  queue.take(PLENTY);
  queue.add(update("a", 2));
  expect(names(queue.take(PLENTY))).toEqual(["a@2", "b@1"]);
  expect(names(queue.take(PLENTY))).toEqual(["a@2"]);
});

test("no more bytes than a message may have, but at least one update; the rest follows", () => {
  const queue = new BroadcastQueue();
  for (let i = 0; i < 10; i++) queue.add(update(`n${i}`));
  const sizeBytes = updateSizeBytes(update("n0"));
  expect(names(queue.take({ maxBytes: sizeBytes * 3, limit: 1 }))).toEqual(["n9@1", "n8@1", "n7@1"]);
  expect(names(queue.take({ maxBytes: 1, limit: 1 }))).toEqual(["n6@1"]);
  let left = 0;
  while (queue.size > 0) left += queue.take({ maxBytes: sizeBytes * 4, limit: 1 }).length;
  expect(left).toBe(6);
});

test("an update larger than a message goes in its turn, one in a message, however much news comes after it", () => {
  const queue = new BroadcastQueue();
  const borders = Array.from({ length: 64 }, (_, i) => ({ region: `region-${i}`, links: 1 }));
  const budget = { maxBytes: updateSizeBytes(update("a")) * 4, limit: 3 };
  for (const nodeId of ["large1", "large2"]) queue.add({ ...update(nodeId), borders });
  const told: (readonly string[])[] = [];
  for (let i = 0; i < 8; i++) {
    queue.add(update("a", i));
    told.push(names(queue.take(budget)));
  }
  const large = ["large2", "large2", "large2", "large1", "large1", "large1"].map((nodeId, i) => [`a@${i}`, `${nodeId}@1`]);
  expect(told).toEqual([...large, ["a@6"], ["a@7"]]);
});

test("what the other must hear first comes first and only once", () => {
  const queue = new BroadcastQueue();
  const first = update("a");
  expect(queue.take(PLENTY, first)).toEqual([first]);
  queue.add(first);
  queue.add(update("b"));
  expect(names(queue.take(PLENTY, first))).toEqual(["a@1", "b@1"]);
});

test("a response repeats nothing that was just said, and costs no budget", () => {
  const queue = new BroadcastQueue();
  queue.add(update("a"));
  queue.add(update("b", 2));
  for (let i = 0; i < 5; i++) expect(names(queue.peek(10_000, [update("a"), update("b")]))).toEqual(["b@2"]);
  expect(queue.size).toBe(2);
  queue.drop("a");
  expect(queue.has("a")).toBe(false);
  expect(names(queue.peek(10_000, []))).toEqual(["b@2"]);
});

test("the size of an update grows with everything it says", () => {
  const plain = updateSizeBytes(update("a"));
  const full = { ...update("a"), labels: { rack: "7" }, roles: ["edge"], transports: ["h2", "h3"], accuser: "somebody" };
  expect(updateSizeBytes(full)).toBe(plain + 4 + 1 + 6 + 6 + 4 + 8);
});
