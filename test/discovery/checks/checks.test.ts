/** The checks of entries, on virtual time. */
import fc from "fast-check";
import { afterEach, expect, test } from "vitest";
import { FAILURE } from "../../../src/catalog/entry/checks.ts";
import { BODY, HEALTH } from "../../../src/catalog/record/record.ts";
import { MAX_IN_FLIGHT, type StartProbe } from "../../../src/discovery/checks/checks.ts";
import { failed } from "../../../src/discovery/checks/threshold.ts";
import { WaymarkError } from "../../../src/lib/errors.ts";
import { StallTracker } from "../../../src/lib/stall-aware-clock.ts";
import { runs } from "../../fakes/effort.ts";
import { at, keyOf } from "../../fakes/registry.ts";
import { type CheckInit, WatchedWorld, watchedEntry } from "../../fakes/watched-entries.ts";

const { HEALTHY, DEGRADED, CRITICAL, MAINTENANCE, UNSET } = HEALTH;
const seconds = (count: number) => ({ seconds: BigInt(count) });
const TCP = { probe: { case: "tcp", value: {} } } as const;
const FAST: CheckInit = { ...TCP, interval: seconds(1), failing: 2 };
const TTL: CheckInit = { interval: seconds(10), probe: { case: "ttl", value: {} } };
const aliasOf = (name: string): CheckInit => ({
  interval: seconds(1),
  failing: 1,
  probe: { case: "alias", value: { key: { namespace: "svc", name, instanceId: "1" } } },
});
const DOWN = failed(FAILURE.REFUSED);
/** Longer than a turn waits for others. */
const SETTLED_MS = 5000;

let world = new WatchedWorld();
afterEach(() => {
  world = new WatchedWorld();
});

test("an entry shows what it reports until a check has a result, and the worst of both from then on", () => {
  world.register(watchedEntry("a", [FAST]));
  expect(world.seen("a")).toMatchObject({ health: HEALTHY, reportedHealth: HEALTHY, states: [] });
  world.run(SETTLED_MS);
  expect(world.seen("a")).toMatchObject({ health: HEALTHY, states: [HEALTHY] });
  world.found.set("a.local", failed(FAILURE.STATUS, 503));
  world.run(SETTLED_MS);
  expect(world.seen("a")).toMatchObject({
    health: CRITICAL,
    reportedHealth: HEALTHY,
    checkStates: [{ health: CRITICAL, failure: FAILURE.STATUS, httpStatus: 503 }],
  });
  world.found.delete("a.local");
  world.run(SETTLED_MS);
  expect(world.seen("a")).toMatchObject({ health: HEALTHY, states: [HEALTHY] });
});

test.each([
  { reported: HEALTHY, isUp: true, shown: HEALTHY },
  { reported: HEALTHY, isUp: false, shown: CRITICAL },
  { reported: DEGRADED, isUp: true, shown: DEGRADED },
  { reported: DEGRADED, isUp: false, shown: CRITICAL },
  { reported: CRITICAL, isUp: true, shown: CRITICAL },
  { reported: CRITICAL, isUp: false, shown: CRITICAL },
  { reported: MAINTENANCE, isUp: true, shown: MAINTENANCE },
  { reported: MAINTENANCE, isUp: false, shown: MAINTENANCE },
])("neither hides the other: reported $reported with a check that passes ($isUp) shows $shown", ({ reported, isUp, shown }) => {
  if (!isUp) world.found.set("a.local", DOWN);
  world.register(watchedEntry("a", [FAST]));
  world.run(SETTLED_MS);
  world.report("a", reported);
  expect(world.seen("a")).toMatchObject({ health: shown, reportedHealth: reported });
  world.run(SETTLED_MS);
  expect(world.seen("a")).toMatchObject({ health: shown, reportedHealth: reported });
  // The report is taken back, and what the check found is left.
  world.report("a", HEALTHY);
  expect(world.seen("a")).toMatchObject({ health: isUp ? HEALTHY : CRITICAL, reportedHealth: HEALTHY });
});

test("a report of load leaves both as they are", () => {
  world.found.set("a.local", DOWN);
  world.register(watchedEntry("a", [FAST]));
  world.run(SETTLED_MS);
  const before = world.changeCount;
  world.report("a", undefined, 0.9);
  expect(world.changeCount).toBe(before + 1);
  expect(world.seen("a")).toMatchObject({ health: CRITICAL, reportedHealth: HEALTHY, states: [CRITICAL] });
});

test("the worst of several checks counts, in their order", () => {
  const targets = ["x", "y"].map((name) => ({ name, host: `${name}.local`, port: 80 }));
  world.found.set("y.local", DOWN);
  world.register(
    watchedEntry(
      "a",
      [
        { ...FAST, target: "x" },
        { ...FAST, target: "y" },
      ],
      { targets },
    ),
  );
  world.run(SETTLED_MS);
  expect(world.seen("a")).toMatchObject({ health: CRITICAL, states: [HEALTHY, CRITICAL] });
});

test("a record changes only when a check turns", () => {
  world.register(watchedEntry("a", [FAST]));
  world.run(SETTLED_MS);
  const before = world.changeCount;
  world.run(600_000);
  expect(world.probed.length).toBeGreaterThan(500);
  expect(world.changeCount).toBe(before);
  world.found.set("a.local", DOWN);
  world.run(600_000);
  expect(world.changeCount).toBe(before + 1);
});

test("an identical registration changes nothing, hides no failure and renews", () => {
  world.found.set("a.local", DOWN);
  const entry = () => watchedEntry("a", [FAST, TTL]);
  world.register(entry());
  world.run(SETTLED_MS);
  const before = world.changeCount;
  for (let i = 0; i < 10; i++) {
    world.register(entry());
    world.run(9000);
  }
  expect(world.changeCount).toBe(before + 1);
  expect(world.seen("a")).toMatchObject({ health: CRITICAL, states: [CRITICAL, HEALTHY] });
});

test("a new registration keeps what is known of checks that are the same, and knows nothing of others", () => {
  world.found.set("a.local", DOWN);
  world.register(watchedEntry("a", [FAST]));
  world.run(SETTLED_MS);
  world.register(watchedEntry("a", [{ ...FAST, failing: 9 }, FAST], { tags: ["new"] }));
  expect(world.seen("a")).toMatchObject({ health: CRITICAL, states: [UNSET, CRITICAL] });
  // Another target is another check.
  world.register(watchedEntry("a", [FAST], { targets: [{ host: "b.local", port: 80 }] }));
  expect(world.seen("a")).toMatchObject({ health: HEALTHY, states: [] });
  world.run(SETTLED_MS);
  expect(world.seen("a")).toMatchObject({ health: HEALTHY, states: [HEALTHY] });
});

test("checks end with their entry, and with the registration that leaves them out", () => {
  world.register(watchedEntry("a", [FAST]), watchedEntry("b", [FAST]));
  world.run(SETTLED_MS);
  world.unregister("a");
  world.register(watchedEntry("b", []));
  const { length } = world.probed;
  world.run(60_000);
  expect(world.probed).toHaveLength(length);
  expect(world.seen("a")).toBeUndefined();
  expect(world.seen("b")).toMatchObject({ health: HEALTHY, reportedHealth: UNSET, states: [] });
  expect([world.checks.counts(), world.checks.nextDeadlineMs()]).toEqual([
    { passing: 0, failing: 0, unknown: 0, unwatched: 0 },
    Number.POSITIVE_INFINITY,
  ]);
  // The outcome of a probe that was under way when its entry ended, and one that nobody asked for.
  world.register(watchedEntry("a", [FAST]));
  world.held = [];
  world.run(SETTLED_MS);
  world.unregister("a");
  for (const order of [...world.held, { ...world.held[0], id: 99_999 } as StartProbe]) world.answer(order);
  world.run(SETTLED_MS);
  expect([world.checks.inFlightCount, world.checks.nextDeadlineMs()]).toEqual([0, Number.POSITIVE_INFINITY]);
});

test("a program renews its own check with any report; without one it fails, and the lease has no part in that", () => {
  world.register(watchedEntry("a", [TTL]));
  for (let i = 0; i < 5; i++) {
    world.run(9000);
    world.report("a", i % 2 === 0 ? undefined : HEALTHY);
  }
  expect(world.seen("a")).toMatchObject({ health: HEALTHY, states: [HEALTHY] });
  world.run(10_000 + SETTLED_MS);
  expect(world.seen("a")).toMatchObject({ health: CRITICAL, checkStates: [{ failure: FAILURE.NOT_RENEWED }] });
  world.report("a", HEALTHY);
  world.run(SETTLED_MS);
  expect(world.seen("a")).toMatchObject({ health: HEALTHY, reportedHealth: HEALTHY, states: [HEALTHY] });
});

test("a program that reports that it is unwell renews its check, and shows what it reports", () => {
  world.register(watchedEntry("a", [TTL]));
  world.report("a", CRITICAL);
  world.run(SETTLED_MS);
  expect(world.seen("a")).toMatchObject({ health: CRITICAL, reportedHealth: CRITICAL, states: [HEALTHY] });
});

test("the time in which this node stood still is not a program's fault", () => {
  const stallClock = new StallTracker();
  world = new WatchedWorld({ stallClock: stallClock });
  stallClock.nowMs(0);
  world.register(watchedEntry("a", [TTL]));
  world.report("a", HEALTHY);
  for (; world.ms < 9000; world.ms += 100) stallClock.nowMs(world.ms);
  world.step();
  world.ms += 60_000;
  world.step();
  world.step();
  world.ms += 200;
  world.step();
  world.report("a", HEALTHY);
  expect(world.seen("a")).toMatchObject({ health: HEALTHY });
  expect(world.checks.totals.failed).toBe(0);
});

test("an alias goes by the other entry, without its aliases", () => {
  world.register(watchedEntry("db", [FAST]), watchedEntry("a", [aliasOf("db")]));
  world.run(SETTLED_MS);
  expect(world.seen("a")).toMatchObject({ health: HEALTHY, states: [HEALTHY] });
  world.report("db", DEGRADED);
  world.run(SETTLED_MS);
  expect(world.seen("a")).toMatchObject({ health: DEGRADED, reportedHealth: HEALTHY, states: [DEGRADED] });
  world.found.set("db.local", DOWN);
  world.run(SETTLED_MS);
  expect(world.seen("a")).toMatchObject({ health: CRITICAL, checkStates: [{ failure: FAILURE.ALIAS }] });
  world.unregister("db");
  world.register(watchedEntry("db", []));
  world.run(SETTLED_MS);
  expect(world.seen("a")).toMatchObject({ health: HEALTHY });
  world.unregister("db");
  world.run(SETTLED_MS);
  expect(world.seen("a")).toMatchObject({ health: CRITICAL });
});

test("two entries that are aliases of each other, accepted at two nodes at once, are well again when their programs are", () => {
  world.register(watchedEntry("a", [aliasOf("b"), FAST]), watchedEntry("b", [aliasOf("a"), FAST]));
  world.found.set("a.local", DOWN);
  world.run(SETTLED_MS);
  expect([world.seen("a")?.health, world.seen("b")?.health]).toEqual([CRITICAL, CRITICAL]);
  expect(world.seen("a")?.states).toEqual([HEALTHY, CRITICAL]);
  world.found.clear();
  world.run(SETTLED_MS);
  expect([world.seen("a")?.health, world.seen("b")?.health]).toEqual([HEALTHY, HEALTHY]);
});

test("an alias concludes nothing while this node has not caught up, and nothing of an entry whose node is away", () => {
  world.isCaughtUp = false;
  world.register(watchedEntry("a", [aliasOf("db")]));
  world.run(SETTLED_MS);
  expect(world.seen("a")?.states).toEqual([]);
  world.isCaughtUp = true;
  world.r.hear("db", BODY.ENTRY, 100, at(world.ms));
  const origin = world.r.replica.origin("b", 1);
  origin.life = "orphaned";
  world.run(SETTLED_MS);
  expect(world.seen("a")?.states).toEqual([]);
  origin.life = "live";
  world.run(SETTLED_MS);
  expect(world.seen("a")?.states).toEqual([HEALTHY]);
});

test(`at most ${MAX_IN_FLIGHT} probes are under way, and every check has its turn`, () => {
  const names = Array.from({ length: 2 * MAX_IN_FLIGHT + 50 }, (_, i) => `n${i}`);
  world.register(...names.map((name) => watchedEntry(name, [TCP])));
  world.held = [];
  world.run(2000);
  expect(world.checks.inFlightCount).toBe(MAX_IN_FLIGHT);
  let most = 0;
  for (let i = 0; i < world.held.length; i++) {
    const order = world.held[i];
    if (order !== undefined) world.answer(order);
    world.held.push(...world.step());
    most = Math.max(most, world.checks.inFlightCount);
  }
  expect(most).toBe(MAX_IN_FLIGHT);
  expect(new Set(world.probed.map(({ host }) => host)).size).toBe(names.length);
});

test("an entry that ends while its check waits for its turn is not probed", () => {
  const names = Array.from({ length: MAX_IN_FLIGHT + 10 }, (_, i) => `n${i}`);
  world.register(...names.map((name) => watchedEntry(name, [TCP])));
  world.held = [];
  world.run(2000);
  const waiting = names.filter((name) => !world.probed.some(({ host }) => host === `${name}.local`));
  expect([waiting.length, world.checks.waitingCount]).toEqual([10, 10]);
  for (const name of waiting) world.unregister(name);
  for (const order of world.held.splice(0)) world.answer(order);
  expect([world.step().length, world.checks.waitingCount]).toEqual([0, 0]);
});

test("probes of one check lie an interval apart, give or take a tenth, and those of checks that began together drift apart", () => {
  world.register(...["a", "b", "c"].map((name) => watchedEntry(name, [TCP])));
  world.run(300_000);
  const times = (name: string) => world.probed.filter(({ host }) => host === `${name}.local`).map(({ ms }) => ms);
  for (const name of ["a", "b", "c"]) {
    const all = times(name);
    expect(all[0]).toBeLessThanOrEqual(1000);
    const apart = all.slice(1).map((ms, i) => ms - (all[i] ?? 0));
    for (const ms of apart) expect(Math.abs(ms - 10_000)).toBeLessThanOrEqual(1000);
    expect(new Set(apart.map(Math.round)).size).toBeGreaterThan(10);
  }
});

test("a probe that takes longer than the interval is not run twice at once", () => {
  world.register(watchedEntry("a", [FAST]));
  world.held = [];
  world.run(60_000);
  expect(world.held).toHaveLength(1);
  for (const order of world.held.splice(0)) world.answer(order);
  world.run(1);
  expect(world.held).toHaveLength(1);
});

test("after a restart an entry shows what was recorded, until its checks have other results, which are spread over the interval", () => {
  const names = Array.from({ length: 20 }, (_, i) => `n${i}`);
  world.found.set("n0.local", DOWN);
  world.register(...names.map((name) => watchedEntry(name, [{ ...TCP, failing: 1 }])));
  world.run(15_000);
  world.report("n1", DEGRADED);
  const before = names.map((name) => world.seen(name));
  expect(before.slice(0, 3).map((each) => each?.health)).toEqual([CRITICAL, DEGRADED, HEALTHY]);
  const restartMs = world.ms;
  world.restart();
  expect(names.map((name) => world.seen(name))).toEqual(before);
  const [changes, probes] = [world.changeCount, world.probed.length];
  world.run(15_000);
  expect([world.changeCount, names.map((name) => world.seen(name))]).toEqual([changes, before]);
  const firsts = world.probed.slice(probes, probes + names.length).map(({ ms }) => ms - restartMs);
  expect(Math.max(...firsts) - Math.min(...firsts)).toBeGreaterThan(5000);
  // The client's own word was kept as well.
  world.found.clear();
  world.run(20_000);
  expect(names.slice(0, 3).map((name) => world.seen(name)?.health)).toEqual([HEALTHY, DEGRADED, HEALTHY]);
});

test("a node that runs no checks shows what clients report of entries that it had kept, and counts them", () => {
  world.found.set("a.local", DOWN);
  world.register(watchedEntry("a", [FAST]), watchedEntry("b", [TTL]));
  world.report("b", DEGRADED);
  world.run(SETTLED_MS);
  expect([world.seen("a")?.health, world.seen("b")?.states]).toEqual([CRITICAL, [HEALTHY]]);
  world.r.restart(at(world.ms));
  world = new WatchedWorld({ isEnabled: false }, world.r);
  world.run(60_000);
  expect(world.probed).toEqual([]);
  expect(world.seen("a")).toMatchObject({ health: HEALTHY, reportedHealth: HEALTHY, states: [] });
  expect(world.seen("b")).toMatchObject({ health: DEGRADED, reportedHealth: DEGRADED, states: [] });
  expect(world.checks.counts()).toEqual({ passing: 0, failing: 0, unknown: 0, unwatched: 2 });
  world.report("b", HEALTHY);
  expect(world.seen("b")).toMatchObject({ health: HEALTHY, states: [] });
});

test("what the journal refuses, or the clock, is written again", () => {
  world.register(watchedEntry("a", [FAST]));
  world.run(SETTLED_MS);
  world.found.set("a.local", DOWN);
  world.isJournalFailing = true;
  world.run(SETTLED_MS);
  expect(world.seen("a")?.health).toBe(HEALTHY);
  world.isJournalFailing = false;
  world.beforeWrite = () => {
    throw new WaymarkError("clock_skew", "off");
  };
  world.run(SETTLED_MS);
  expect(world.seen("a")?.health).toBe(HEALTHY);
  world.beforeWrite = () => {};
  world.run(SETTLED_MS);
  expect(world.seen("a")?.health).toBe(CRITICAL);
});

test("outcomes of probes that a standstill of this node may have spoilt say nothing", () => {
  world.register(watchedEntry("a", [{ ...FAST, failing: 1 }]));
  world.run(SETTLED_MS);
  world.held = [];
  world.run(2000);
  world.checks.onProcessPause();
  world.found.set("a.local", DOWN);
  for (const order of world.held.splice(0)) world.answer(order);
  world.run(500);
  expect(world.checks.totals.failed).toBe(0);
  world.run(1000);
  for (const order of world.held.splice(0)) world.answer(order);
  expect(world.checks.totals.failed).toBe(1);
});

test("a node that drains probes nobody any more", () => {
  world.register(watchedEntry("a", [FAST, TTL]));
  world.checks.end();
  world.run(60_000);
  expect([world.probed, world.checks.nextDeadlineMs(), world.seen("a")?.health]).toEqual([[], Number.POSITIVE_INFINITY, HEALTHY]);
});

/** How many entries show CRITICAL. */
const criticalCount = (names: readonly string[]) => names.filter((name) => world.seen(name)?.health === CRITICAL).length;

test.each([
  { failing: 1, checkCount: 10, downCount: 6, doubts: true },
  { failing: 3, checkCount: 10, downCount: 6, doubts: true },
  { failing: 3, checkCount: 10, downCount: 5, doubts: false },
  { failing: 3, checkCount: 9, downCount: 9, doubts: false },
  { failing: 3, checkCount: 300, downCount: 200, doubts: true },
])(
  "with $downCount of $checkCount programs down at once and a threshold of $failing, the node doubts itself: $doubts",
  ({ failing, checkCount, downCount, doubts }) => {
    const names = Array.from({ length: checkCount }, (_, i) => `n${i}`);
    world.register(...names.map((name) => watchedEntry(name, [{ ...TCP, interval: seconds(1), failing, passing: failing }])));
    world.run(SETTLED_MS);
    for (const name of names.slice(0, downCount)) world.found.set(`${name}.local`, DOWN);
    world.run(SETTLED_MS);
    expect([world.checks.doubt.isSelfPreserving, criticalCount(names)]).toEqual([doubts, doubts ? 0 : downCount]);
    // A fault that stays is believed, and the doubt does not begin again.
    world.run(35_000);
    expect([world.checks.doubt.isSelfPreserving, criticalCount(names), world.checks.doubt.count]).toEqual([
      false,
      downCount,
      doubts ? 1 : 0,
    ]);
    // That they are all back at once, after a while, is another reason for a doubt.
    world.run(60_000);
    world.found.clear();
    world.run(SETTLED_MS);
    expect([world.checks.doubt.count, criticalCount(names)]).toEqual(doubts ? [2, downCount] : [0, 0]);
    world.run(35_000);
    expect(criticalCount(names)).toBe(0);
  },
);

test("a fault of the node that ends within the doubt leaves no trace", () => {
  const names = Array.from({ length: 20 }, (_, i) => `n${i}`);
  world.register(...names.map((name) => watchedEntry(name, [FAST])));
  world.run(SETTLED_MS);
  const before = world.changeCount;
  for (const name of names) world.found.set(`${name}.local`, failed(FAILURE.TIMEOUT));
  world.run(20_000);
  expect(world.checks.doubt.isSelfPreserving).toBe(true);
  world.found.clear();
  world.run(60_000);
  expect([world.changeCount, world.checks.doubt.isSelfPreserving, criticalCount(names)]).toEqual([before, false, 0]);
  // The next fault is another one.
  for (const name of names) world.found.set(`${name}.local`, failed(FAILURE.TIMEOUT));
  world.run(SETTLED_MS);
  expect([world.checks.doubt.isSelfPreserving, world.checks.doubt.count, criticalCount(names)]).toEqual([true, 2, 0]);
});

test("programs that go down one after the other within ten seconds are as many at once", () => {
  const names = Array.from({ length: 12 }, (_, i) => `n${i}`);
  world.register(...names.map((name) => watchedEntry(name, [{ ...FAST, failing: 1 }])));
  world.run(SETTLED_MS);
  for (const name of names) {
    world.found.set(`${name}.local`, DOWN);
    world.run(1500);
  }
  expect(world.checks.doubt.isSelfPreserving).toBe(true);
  expect(criticalCount(names)).toBeLessThanOrEqual(6);
});

test("checks of which nothing is known yet are no evidence, neither for a doubt nor against one", () => {
  const [old, fresh] = [12, 40].map((length, which) => Array.from({ length }, (_, i) => `${"of".charAt(which)}${i}`));
  world.register(...(old ?? []).map((name) => watchedEntry(name, [FAST])));
  world.run(SETTLED_MS);
  for (const name of fresh ?? []) world.found.set(`${name}.local`, DOWN);
  world.register(...(fresh ?? []).map((name) => watchedEntry(name, [{ ...FAST, failing: 10 }])));
  world.run(2000);
  for (const name of (old ?? []).slice(0, 8)) world.found.set(`${name}.local`, DOWN);
  world.run(SETTLED_MS);
  expect([world.checks.doubt.isSelfPreserving, criticalCount(old ?? [])]).toEqual([true, 0]);
});

test("aliases of one entry turn with it, and are no reason for a doubt", () => {
  const names = Array.from({ length: 20 }, (_, i) => `n${i}`);
  world.register(watchedEntry("db", [FAST]), ...names.map((name) => watchedEntry(name, [aliasOf("db")])));
  world.run(SETTLED_MS);
  world.found.set("db.local", DOWN);
  world.run(2 * SETTLED_MS);
  expect([world.checks.doubt.count, criticalCount(names)]).toEqual([0, names.length]);
});

test("new entries whose programs are still starting are no reason for a doubt", () => {
  const names = Array.from({ length: 20 }, (_, i) => `n${i}`);
  for (const name of names) world.found.set(`${name}.local`, DOWN);
  world.register(...names.map((name) => watchedEntry(name, [FAST])));
  world.run(SETTLED_MS);
  expect([world.checks.doubt.count, criticalCount(names)]).toEqual([0, names.length]);
});

test("whatever happens, at rest every entry shows the worst of the last report and of what its programs do", () => {
  const name = fc.constantFrom("a", "b", "c");
  const event = fc.oneof(
    fc.record({ do: fc.constant("up" as const), name }),
    fc.record({ do: fc.constant("down" as const), name }),
    fc.record({ do: fc.constant("report" as const), name, health: fc.constantFrom(HEALTHY, DEGRADED, CRITICAL, MAINTENANCE) }),
    fc.record({ do: fc.constant("register" as const), name }),
    fc.record({ do: fc.constant("restart" as const), name }),
    fc.record({ do: fc.constant("refuse" as const), name }),
    fc.record({ do: fc.constant("wait" as const), name, ms: fc.integer({ min: 1, max: 5000 }) }),
  );
  fc.assert(
    fc.property(fc.array(event, { maxLength: 40 }), (events) => {
      world = new WatchedWorld();
      const reported = new Map<string, number>();
      const register = (of: string) => {
        world.register(watchedEntry(of, [FAST]));
        if (!world.isJournalFailing) reported.set(of, HEALTHY);
      };
      for (const of of ["a", "b", "c"]) register(of);
      for (const each of events) {
        world.isJournalFailing = false;
        if (each.do === "up") world.found.delete(`${each.name}.local`);
        else if (each.do === "down") world.found.set(`${each.name}.local`, DOWN);
        else if (each.do === "report") {
          world.report(each.name, each.health);
          reported.set(each.name, each.health);
        } else if (each.do === "register") register(each.name);
        else if (each.do === "restart") world.restart();
        else if (each.do === "wait") world.run(each.ms);
        else {
          world.isJournalFailing = true;
          world.run(1500);
        }
      }
      world.isJournalFailing = false;
      world.run(2 * SETTLED_MS);
      for (const of of ["a", "b", "c"]) {
        const found = world.found.has(`${of}.local`) ? CRITICAL : HEALTHY;
        expect(world.seen(of)).toMatchObject({
          health: Math.max(reported.get(of) ?? 0, found),
          reportedHealth: reported.get(of),
          states: [found],
        });
      }
      expect(world.r.replica.own(keyOf("a"))?.revision).toBeGreaterThan(0);
    }),
    { numRuns: runs(100) },
  );
});
