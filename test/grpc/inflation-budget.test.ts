/** What is inflated together is bounded, who gained most waits longest, and everything charged is given back. */
import fc from "fast-check";
import { expect, test } from "vitest";
import { InflationBudget, type InflationClaim, type InflationLimits, type InflationTicket } from "../../src/grpc/wire/inflation-budget.ts";

const LIMITS: InflationLimits = {
  maxBytes: 1_000_000,
  gainPerSecond: 100_000,
  burstBytes: 400_000,
  workPerSecond: 100_000,
  workBurstBytes: 200_000,
  maxWaiting: 3,
  maxWaitingEach: 3,
  maxWaitingBytes: 50_000,
  waitMs: 2_000,
};
const BOMB = { wireBytes: 400, inflatedBytes: 400_000 };
const decided: string[] = [];

function claim(owner: object, size: { readonly wireBytes: number; readonly inflatedBytes: number }, name = ""): InflationClaim {
  return { owner, ...size, decided: (isGranted) => void decided.push(`${name} ${isGranted ? "granted" : "refused"}`) };
}

test("a message that gains little goes on at once, whatever waits, within the bytes that may be held", () => {
  const budget = new InflationBudget(LIMITS);
  const [bomber, honest] = [{}, {}];
  for (let i = 0; i < 4; i++) budget.claim(claim(bomber, BOMB), 0);
  const tickets = [1, 2, 3].map(() => budget.claim(claim(honest, { wireBytes: 20_000, inflatedBytes: 250_000 }), 0));
  expect(tickets.map(({ state }) => state)).toEqual(["granted", "granted", "waiting"]);
  expect(budget.usedBytes).toBeLessThanOrEqual(LIMITS.maxBytes);
});

test("what gains much waits for what may be gained, the cheapest connection's first; the dearest is refused, and so is who waited too long", () => {
  decided.length = 0;
  const budget = new InflationBudget(LIMITS);
  const [bomber, other, late] = [{}, {}, {}];
  const first = budget.claim(claim(bomber, BOMB), 0);
  expect(first.state).toBe("granted");
  const seconds = ["b1", "b2", "b3"].map((name) => budget.claim(claim(bomber, BOMB, name), 0).state);
  expect(seconds).toEqual(["waiting", "waiting", "waiting"]);
  expect(budget.claim(claim(bomber, BOMB, "b4"), 0).state).toBe("over");
  expect(budget.claim(claim(other, { wireBytes: 100, inflatedBytes: 100_000 }, "other"), 0).state).toBe("waiting");
  expect(decided).toEqual(["b3 refused"]);
  budget.check(999);
  budget.check(1_000);
  expect(decided).toEqual(["b3 refused", "other granted"]);
  expect(budget.claim(claim(late, BOMB, "late"), 1_500).state).toBe("waiting");
  budget.check(2_000);
  expect(decided.slice(2)).toEqual(["b1 refused", "b2 refused"]);
  budget.check(3_499);
  expect(decided.slice(4)).toEqual([]);
  budget.check(5_000);
  expect([decided.slice(4), budget.waitingCount]).toEqual([["late refused"], 0]);
});

test("a connection whose messages gain nothing, as fast as they may come, does not keep another one's longer message from being read", () => {
  decided.length = 0;
  const budget = new InflationBudget({ ...LIMITS, maxWaitingBytes: 500_000 });
  const [steady, honest] = [{}, {}];
  const short = { wireBytes: 10_000, inflatedBytes: 10_000 };
  for (let i = 0; i < 20; i++) budget.claim(claim(steady, short), 0);
  expect(budget.claim(claim(honest, { wireBytes: 150_000, inflatedBytes: 150_000 }, "long"), 0).state).toBe("waiting");
  for (let monoMs = 100; monoMs < 2000; monoMs += 100) {
    budget.check(monoMs);
    budget.claim(claim(steady, short), monoMs);
  }
  expect(decided.filter((word) => word.startsWith("long"))).toEqual(["long granted"]);
});

test("a message that is longer than what may be saved up, or may wait, is read all the same, and others after it as soon as after the longest other", () => {
  decided.length = 0;
  const budget = new InflationBudget(LIMITS);
  const long = { wireBytes: 2_000_000, inflatedBytes: 2_000_000 };
  expect(budget.claim(claim({}, long), 0).state).toBe("granted");
  expect(budget.claim(claim({}, long, "second"), 0).state).toBe("waiting");
  budget.check(1_999);
  expect(decided).toEqual([]);
});

test("a crowd that waited too long is refused a few at a time, and not by what is given back", () => {
  decided.length = 0;
  const budget = new InflationBudget({ ...LIMITS, maxWaiting: 256, maxWaitingEach: 256 });
  const bomber = {};
  const first = budget.claim(claim(bomber, BOMB), 0);
  for (let i = 0; i < 256; i++) budget.claim({ ...claim(bomber, BOMB, "bomb"), wireBytes: 100 }, 0);
  budget.release(first, 2_000);
  const refusals = () => decided.filter((each) => each === "bomb refused").length;
  expect(refusals()).toBe(0);
  const perCheck: number[] = [];
  for (let before = 0; budget.waitingCount > 0; before = refusals()) {
    budget.check(2_000);
    if (refusals() === before) break;
    perCheck.push(refusals() - before);
  }
  expect(Math.max(...perCheck)).toBeLessThanOrEqual(8);
  expect(budget.waitingCount).toBe(0);
});

test("what one connection has beyond its places is refused at once, and others still wait for their turn", () => {
  const budget = new InflationBudget({ ...LIMITS, maxWaiting: 100, maxWaitingEach: 2 });
  const [bomber, other] = [{}, {}];
  const states = Array.from({ length: 5 }, () => budget.claim(claim(bomber, BOMB), 0).state);
  expect(states).toEqual(["granted", "waiting", "waiting", "over", "over"]);
  expect([budget.isCrowdedBy(bomber), budget.isCrowdedBy(other)]).toEqual([true, false]);
  expect(budget.claim(claim(other, BOMB), 0).state).toBe("waiting");
  for (let i = 0; i < 4; i++) budget.check(60_000);
  expect([budget.isCrowdedBy(bomber), budget.waitingCount]).toEqual([false, 0]);
});

test("a message over every bound is let through alone, so that a large limit of messages can be used", () => {
  const budget = new InflationBudget(LIMITS);
  const huge = { wireBytes: 10_000, inflatedBytes: 5_000_000 };
  expect(budget.claim(claim({}, huge), 0).state).toBe("granted");
  expect(budget.claim(claim({}, { wireBytes: 10_000, inflatedBytes: 10_000 }), 0).state).toBe("waiting");
});

test("whatever is claimed, decided and released in whatever order: the bytes held are those granted, and none at the end", () => {
  const step = fc.record({
    owner: fc.integer({ min: 0, max: 3 }),
    wireBytes: fc.integer({ min: 1, max: 30_000 }),
    ratio: fc.integer({ min: 1, max: 1_000 }),
    afterMs: fc.integer({ min: 0, max: 700 }),
    release: fc.option(fc.nat(20), { nil: undefined }),
  });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
      const budget = new InflationBudget(LIMITS);
      const owners = [{}, {}, {}, {}];
      const tickets: InflationTicket[] = [];
      let monoMs = 0;
      for (const { owner, wireBytes, ratio, afterMs, release } of steps) {
        monoMs += afterMs;
        tickets.push(budget.claim(claim(owners[owner] ?? {}, { wireBytes, inflatedBytes: wireBytes * ratio }), monoMs));
        const gone = release === undefined ? undefined : tickets[release];
        if (gone !== undefined) budget.release(gone, monoMs);
        const granted = tickets.filter(({ state }) => state === "granted");
        expect(budget.usedBytes).toBe(granted.reduce((sum, { claim: { inflatedBytes } }) => sum + inflatedBytes, 0));
        if (granted.length > 1) expect(budget.usedBytes).toBeLessThanOrEqual(LIMITS.maxBytes);
        expect(budget.waitingCount).toBe(tickets.filter(({ state }) => state === "waiting").length);
        expect(budget.waitingCount).toBeLessThanOrEqual(LIMITS.maxWaiting);
      }
      for (const ticket of tickets) budget.release(ticket, monoMs);
      expect([budget.usedBytes, budget.waitingCount]).toEqual([0, 0]);
    }),
  );
});

test("what gains nothing waits for the bytes that may be held, also behind more of its connection than may wait", () => {
  const budget = new InflationBudget({ ...LIMITS, maxWaiting: 10, maxWaitingEach: 1 });
  const owner = {};
  const plain = { wireBytes: 20_000, inflatedBytes: 300_000 };
  const states = [1, 2, 3, 4, 5].map(() => budget.claim(claim(owner, plain), 0).state);
  expect(states).toEqual(["granted", "granted", "granted", "waiting", "waiting"]);
  expect(budget.claim(claim(owner, BOMB), 0).state).toBe("over");
});

test("what came is paid for whatever it becomes: who makes us read much waits, behind who makes us read less, and small messages go on", () => {
  decided.length = 0;
  const budget = new InflationBudget({ ...LIMITS, maxWaitingBytes: 1_000_000 });
  const [reader, other] = [{}, {}];
  const long = { wireBytes: 150_000, inflatedBytes: 150_000 };
  expect(budget.claim(claim(reader, long), 0).state).toBe("granted");
  expect(budget.claim(claim(reader, long, "long"), 0).state).toBe("waiting");
  expect(budget.claim(claim(other, { wireBytes: 60_000, inflatedBytes: 300_000 }, "other"), 0).state).toBe("waiting");
  expect(budget.claim(claim(reader, { wireBytes: 1_024, inflatedBytes: 16_000 }), 0).state).toBe("granted");
  budget.check(99);
  expect(decided).toEqual([]);
  budget.check(100);
  expect(decided).toEqual(["other granted"]);
  budget.check(1_599);
  expect(decided).toEqual(["other granted"]);
  budget.check(1_600);
  expect(decided).toEqual(["other granted", "long granted"]);
});
