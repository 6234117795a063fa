import { expect, test } from "vitest";
import { UnreadAnswers } from "../../src/grpc/server/unread-answers.ts";

const KIB = 1024;
const MIB = 1024 * KIB;

interface Holder {
  readonly name: string;
  readonly address: string;
  readonly unreadBytes: number;
  readonly count?: number;
  /** How long ago the client last read something. */
  readonly sinceMs: number;
}

/** Unread answers within 16 MiB, of clients that last read before these times, and the names of the answers that were cut. */
function budgetWith(holders: readonly Holder[]) {
  const cut: string[] = [];
  let nowMs = 0;
  const budget = new UnreadAnswers({ maxUnreadBytes: 16 * MIB, progressTimeoutMs: 30_000 }, { nowMs: () => nowMs });
  for (const { name, address, unreadBytes, count = 1, sinceMs } of holders.toSorted((a, b) => b.sinceMs - a.sinceMs)) {
    nowMs = 100_000 - sinceMs;
    for (let i = 0; i < count; i++) budget.add(unreadBytes, address, () => cut.push(name));
  }
  nowMs = 100_000;
  return { budget, cut };
}

const reader = { name: "reader", address: "192.0.2.1", unreadBytes: MIB, sinceMs: 300 };
const holder = { name: "holder", address: "192.0.2.9" };

test.each<{ readonly name: string; readonly holders: readonly Holder[] }>([
  { name: "a client that reads nothing", holders: [{ ...holder, unreadBytes: MIB, count: 15, sinceMs: 20_000 }] },
  { name: "a client that has just requested large answers", holders: [{ ...holder, unreadBytes: 7.5 * MIB, count: 2, sinceMs: 0 }] },
  {
    name: "a client with many small answers that reads a little of each",
    holders: [{ ...holder, unreadBytes: 16 * KIB, count: 960, sinceMs: 0 }],
  },
  {
    name: "a client at the address of the reader with large answers",
    holders: [{ ...holder, address: reader.address, unreadBytes: 7.5 * MIB, count: 2, sinceMs: 0 }],
  },
  {
    name: "a client at the address of the reader that reads nothing of small answers",
    holders: [{ ...holder, address: reader.address, unreadBytes: 16 * KIB, count: 960, sinceMs: 5_000 }],
  },
  {
    name: "clients at many addresses that read nothing",
    holders: Array.from({ length: 60 }, (_, i) => ({ ...holder, address: `198.51.100.${i}`, unreadBytes: MIB / 4, sinceMs: 5_000 })),
  },
])("$name is cut before a client that reads slowly", ({ holders }) => {
  const { budget, cut } = budgetWith([reader, ...holders]);
  expect([budget.bytes, cut]).toEqual([16 * MIB, []]);
  budget.add(MIB / 2, "192.0.2.2", () => cut.push("newcomer"));
  expect(new Set(cut)).toEqual(new Set(["holder"]));
  expect(budget.bytes).toBeLessThanOrEqual(16 * MIB);
});

test("among the answers of one client, the answer that its client has not read for longest is cut first", () => {
  const all = { address: "192.0.2.9", unreadBytes: 8 * MIB };
  const { budget, cut } = budgetWith([
    { ...all, name: "older", sinceMs: 9_000 },
    { ...all, name: "newer", sinceMs: 2_000 },
  ]);
  budget.add(1, "192.0.2.9", () => cut.push("newest"));
  expect([cut, budget.bytes]).toEqual([["older"], 8 * MIB + 1]);
});

test("the largest answer is cut when it comes, and the only answer is kept whatever its size", () => {
  const { budget, cut } = budgetWith([reader]);
  budget.add(40 * MIB, "192.0.2.9", () => cut.push("largest"));
  expect([cut, budget.bytes]).toEqual([["largest"], MIB]);
  const { budget: empty } = budgetWith([]);
  const only = empty.add(40 * MIB, "192.0.2.9", () => cut.push("only"));
  expect([cut, empty.bytes]).toEqual([["largest"], 40 * MIB]);
  only.end();
  expect(empty.bytes).toBe(0);
});

test("a connection grows, makes progress and ends; it is cut after the time without progress, and only while it has unread bytes", () => {
  let nowMs = 0;
  const cut: string[] = [];
  const budget = new UnreadAnswers({ maxUnreadBytes: MIB, progressTimeoutMs: 30_000 }, { nowMs: () => nowMs });
  const idle = budget.open("192.0.2.1", () => cut.push("idle"));
  const slow = budget.open("192.0.2.2", () => cut.push("slow"));
  const stuck = budget.open("192.0.2.3", () => cut.push("stuck"));
  for (const connection of [idle, slow, stuck]) connection.grow(1000);
  expect(budget.bytes).toBe(3000);
  idle.progress(1000);
  nowMs = 20_000;
  slow.progress(0);
  stuck.grow(500); // Another answer is no progress.
  expect(budget.bytes).toBe(2500);
  budget.check(29_999);
  expect(cut).toEqual([]);
  budget.check(30_000);
  expect([cut, budget.bytes]).toEqual([["stuck"], 1000]);
  // After a cut, the connection still reports what it closes.
  stuck.grow(1);
  stuck.progress(1501);
  stuck.end();
  slow.end();
  nowMs = 90_000;
  idle.grow(7);
  budget.check(100_000);
  expect([cut, budget.bytes]).toEqual([["stuck"], 7]);
});
