/** When a node may answer, and how old what it says is. */
import { expect, test } from "vitest";
import { DataFreshness } from "../../src/fabric/data-freshness.ts";
import { Heartbeats } from "../../src/fabric/heartbeats.ts";
import { FabricReadiness } from "../../src/fabric/readiness.ts";
import { NEVER } from "../../src/lib/machine.ts";
import { READINESS_OPTIONS } from "../fakes/options.ts";

const { joinTimeoutMs, refusedMs, quietMs, catchUpTimeoutMs } = READINESS_OPTIONS;

/** One peer, which was ready when it greeted. */
const ONE = { count: 1, readyCount: 1, wantedCount: 3 };

function at(monoMs: number): { readonly monoMs: number; readonly wallMs: number } {
  return { monoMs, wallMs: 0 };
}

const heartbeats = new Heartbeats(() => undefined);
const membership = { members: () => [], find: () => undefined };
const NOBODY = { nodeId: "me", heartbeats, clusterId: "c1", membership, holdsOf: () => false, roster: { away: new Map(), version: 0 } };

/** `startAgeMs`: how old its snapshot is at 0. */
function readiness(hasSeeds: boolean, startAgeMs?: number, freshness = new DataFreshness(NOBODY)): FabricReadiness {
  const asOfMonoMs = startAgeMs === undefined ? undefined : -startAgeMs;
  const made = new FabricReadiness(READINESS_OPTIONS, { hasSeeds, asOfMonoMs, freshness, mayBeBehind: () => true });
  made.tick({ hasPeers: false, areSeedsHeard: true }, at(0));
  return made;
}

test("without seeds a node is the first, and ready", () => {
  expect(readiness(false).read(at(0))).toEqual({ isReady: true, reason: "alone", detail: "started alone", ageMs: 0, isInStep: true });
});

test("with seeds it waits for one, and serves alone when none answers in time", () => {
  const joining = readiness(true);
  expect(joining.nextDeadlineMs()).toBe(joinTimeoutMs);
  joining.tick({ hasPeers: false, areSeedsHeard: true }, at(joinTimeoutMs - 1));
  expect(joining.read(at(joinTimeoutMs - 1))).toMatchObject({ isReady: false, reason: "joining" });
  joining.tick({ hasPeers: false, areSeedsHeard: true }, at(joinTimeoutMs));
  expect(joining.read(at(joinTimeoutMs))).toMatchObject({ isReady: true, reason: "alone" });
});

const AWAY = { kind: "turnedAway", address: "10.0.0.1:17421", why: "another cluster token" } as const;

test("Why: who is turned away is not alone: it does not serve as long as somebody there refuses it, and says who and why", () => {
  const joining = readiness(true);
  joining.met(AWAY, at(joinTimeoutMs - 1));
  joining.tick({ hasPeers: false, areSeedsHeard: true }, at(joinTimeoutMs));
  const said = joining.read(at(joinTimeoutMs));
  expect(said).toMatchObject({ isReady: false, reason: "refused" });
  for (const part of [AWAY.address, AWAY.why, "without seeds"]) expect(said.detail).toContain(part);
  // Refused again and again, and then no more.
  joining.met(AWAY, at(60_000));
  expect(joining.nextDeadlineMs()).toBe(60_000 + refusedMs);
  joining.tick({ hasPeers: false, areSeedsHeard: true }, at(60_000 + refusedMs - 1));
  expect(joining.isReady).toBe(false);
  joining.tick({ hasPeers: false, areSeedsHeard: true }, at(60_000 + refusedMs));
  expect(joining.read(at(60_000 + refusedMs))).toMatchObject({ isReady: true, reason: "alone", detail: "started alone" });
});

test("as long as a seed may still answer it does not take itself for alone, but for very many that are silent it does not wait for ever", () => {
  const joining = readiness(true);
  joining.tick({ hasPeers: false, areSeedsHeard: false }, at(joinTimeoutMs));
  expect([joining.isReady, joining.nextDeadlineMs()]).toEqual([false, joinTimeoutMs + catchUpTimeoutMs]);
  const patient = readiness(true);
  patient.tick({ hasPeers: false, areSeedsHeard: false }, at(joinTimeoutMs + catchUpTimeoutMs));
  expect(patient.isReady).toBe(true);
  joining.met(AWAY, at(joinTimeoutMs + 10));
  joining.tick({ hasPeers: false, areSeedsHeard: true }, at(joinTimeoutMs + 10));
  expect([joining.isReady, joining.nextDeadlineMs()]).toEqual([false, joinTimeoutMs + 10 + refusedMs]);
});

test("a standstill does not make it alone: who refuses could not be asked", () => {
  const joining = readiness(true);
  joining.met(AWAY, at(1000));
  joining.postpone(100_000);
  joining.tick({ hasPeers: false, areSeedsHeard: true }, at(101_000 + refusedMs - 1));
  expect(joining.isReady).toBe(false);
});

test("a standstill is no time in which all that are starting were heard", () => {
  const starting = readiness(true);
  starting.tick({ hasPeers: true, areSeedsHeard: true }, at(0));
  starting.caughtUpWith({ count: 1, readyCount: 0, wantedCount: 1 }, at(10));
  starting.postpone(60_000);
  expect(starting.nextDeadlineMs()).toBe(at(joinTimeoutMs + 60_000).monoMs);
});

test("a refusal is forgotten once that address lets it in, and by no other", () => {
  const node = readiness(true);
  const letIn = (address: string, monoMs: number) => node.met({ kind: "letIn", address }, at(monoMs));
  node.met(AWAY, at(100));
  letIn("10.0.0.2:17421", 150);
  node.tick({ hasPeers: true, areSeedsHeard: true }, at(200));
  expect(node.read(at(200)).detail).toContain(`turned away by ${AWAY.address}`);
  letIn(AWAY.address, 250);
  expect(node.read(at(250)).detail).not.toContain("turned away");
  // It left again: whoever has let it in is not in the way of serving alone.
  node.tick({ hasPeers: false, areSeedsHeard: true }, at(300));
  expect([node.read(at(300)).reason, node.nextDeadlineMs()]).toEqual(["joining", 300 + joinTimeoutMs]);
});

test("a member that takes it in is enough, whoever else refuses; who was ready stays so when it is refused, and says it", () => {
  const node = readiness(true);
  node.met(AWAY, at(100));
  node.tick({ hasPeers: true, areSeedsHeard: true }, at(200));
  expect(node.read(at(200))).toMatchObject({
    isReady: false,
    reason: "catching_up",
    detail: expect.stringContaining(AWAY.address) as string,
  });
  node.caughtUpWith(ONE, at(300));
  expect(node.read(at(300))).toMatchObject({ isReady: true, reason: "caught_up" });
  for (const ready of [node, readiness(false)]) {
    ready.met(AWAY, at(50_000));
    expect(ready.read(at(50_001))).toMatchObject({
      isReady: true,
      detail: expect.stringContaining(`turned away by ${AWAY.address}`) as string,
    });
    expect(ready.read(at(50_000 + refusedMs)).detail).not.toContain("turned away");
  }
});

test("alone with a snapshot it is ready, and as old as the snapshot until it is in step with somebody", () => {
  const warm = readiness(true, 50_000);
  warm.tick({ hasPeers: false, areSeedsHeard: true }, at(joinTimeoutMs));
  expect(warm.read(at(joinTimeoutMs))).toMatchObject({ isReady: true, reason: "alone", ageMs: 50_000 + joinTimeoutMs });
  warm.caughtUpWith(ONE, at(2000));
  expect(warm.read(at(60_000)).ageMs).toBe(0);
});

test("who has found a peer waits for what it has, as long as there is one", () => {
  const joining = readiness(true, 0);
  joining.tick({ hasPeers: true, areSeedsHeard: true }, at(100));
  joining.tick({ hasPeers: true, areSeedsHeard: true }, at(60_000));
  expect(joining.read(at(60_000))).toMatchObject({ isReady: false, reason: "catching_up", ageMs: 60_000 });
  joining.tick({ hasPeers: false, areSeedsHeard: true }, at(61_000));
  joining.tick({ hasPeers: false, areSeedsHeard: true }, at(61_000 + joinTimeoutMs));
  expect(joining.isReady).toBe(true);
});

test("once in step with a peer it is ready for good, also when it had started alone", () => {
  for (const hasSeeds of [true, false]) {
    const node = readiness(hasSeeds);
    node.tick({ hasPeers: true, areSeedsHeard: true }, at(100));
    node.caughtUpWith(ONE, at(100));
    expect(node.read(at(100))).toMatchObject({ isReady: true, reason: "caught_up", detail: "in step with all peers" });
    node.tick({ hasPeers: false, areSeedsHeard: true }, at(200));
    expect(node.read(at(200))).toMatchObject({ isReady: true, reason: "caught_up", detail: "alone now" });
  }
});

test("what it says of itself goes by who is there now: it started alone until it knows somebody, whatever it has heard from that one yet", () => {
  const node = readiness(false);
  node.tick({ hasPeers: true, areSeedsHeard: true }, at(100));
  expect(node.read(at(100))).toMatchObject({ isReady: true, reason: "alone", detail: "catching up with its first peers" });
  node.tick({ hasPeers: false, areSeedsHeard: true }, at(200));
  expect(node.read(at(200)).detail).toBe("started alone");
});

test.each([
  ["one that was ready", ONE, 0],
  ["all, when none was ready", { count: 3, readyCount: 0, wantedCount: 3 }, joinTimeoutMs],
  ["some, when none was ready", { count: 1, readyCount: 0, wantedCount: 3 }, joinTimeoutMs + catchUpTimeoutMs],
])("Why: when all start at once an empty view must not pass for the truth: caught up with %s", (_what, caughtUp, readyMs) => {
  const node = readiness(true);
  node.tick({ hasPeers: true, areSeedsHeard: true }, at(0));
  node.caughtUpWith({ count: 0, readyCount: 0, wantedCount: 3 }, at(0));
  expect(node.nextDeadlineMs()).toBe(NEVER);
  if (readyMs > 0) {
    node.caughtUpWith(caughtUp, at(readyMs - 1));
    expect([node.isReady, node.nextDeadlineMs()]).toEqual([false, readyMs]);
    // Links lost meanwhile: there is nothing to wait for.
    node.caughtUpWith({ ...caughtUp, count: 0 }, at(readyMs - 1));
    expect(node.nextDeadlineMs()).toBe(NEVER);
  }
  node.caughtUpWith(caughtUp, at(readyMs));
  expect(node.read(at(readyMs)).reason).toBe("caught_up");
});

test("a node that started from a snapshot says how old that is until it has caught up", () => {
  const parts = { hasSeeds: true, asOfMonoMs: -30_000, freshness: new DataFreshness(NOBODY), mayBeBehind: () => true };
  const unbegun = new FabricReadiness(READINESS_OPTIONS, parts);
  expect(unbegun.read(at(2000)).ageMs).toBe(32_000);
  // The start itself took a while: in that time others went on.
  unbegun.tick({ hasPeers: false, areSeedsHeard: true }, at(5000));
  expect(unbegun.read(at(6000)).ageMs).toBe(36_000);
  const warm = readiness(true, 30_000);
  expect(warm.read(at(2000)).ageMs).toBe(32_000);
  warm.caughtUpWith(ONE, at(2000));
  expect(warm.read(at(2000)).ageMs).toBe(0);
});

test("a peer that was heard of before this node caught up counts from the snapshot, and without one from 1970, until it is in step", () => {
  const [startWallMs, time] = [1_760_000_000_000, (monoMs: number) => ({ monoMs, wallMs: 1_760_000_000_000 + monoMs })];
  for (const startAgeMs of [undefined, 30_000]) {
    const freshness = new DataFreshness(NOBODY);
    const node = readiness(true, startAgeMs, freshness);
    const lackedMs = 2000 + (startAgeMs ?? startWallMs);
    expect(node.read(time(2000)).ageMs).toBe(lackedMs);
    freshness.want(["a", "b"], node.knownMonoMs(time(1000)), time(1000));
    freshness.inStep("a", 2000);
    node.caughtUpWith(ONE, time(2000));
    expect(node.read(time(2000))).toMatchObject({ isReady: true, ageMs: lackedMs, isInStep: false, detail: "not in step with b" });
    freshness.inStep("b", 2500);
    expect(node.read(time(2500))).toMatchObject({ ageMs: 500, isInStep: true });
    // Heard of later, it is taken for a new one.
    freshness.want(["a", "b", "c"], node.knownMonoMs(time(3000)), time(3000));
    expect(node.read(time(3000)).ageMs).toBe(1000);
  }
});

test("every moment of silence is age; out of step is who was silent for longer than a peer in step ever is", () => {
  const freshness = new DataFreshness(NOBODY);
  const node = readiness(false, undefined, freshness);
  freshness.want(["a", "b", "c", "d", "e", "f", "g"], 1000, at(1000));
  expect(node.read(at(1000 + quietMs))).toMatchObject({ ageMs: quietMs, isInStep: true, detail: "started alone" });
  const detail = "not in step with a, b, c, d, e and 2 more";
  expect(node.read(at(11_000))).toMatchObject({ ageMs: 10_000, isInStep: false, detail });
});

test("a snapshot has an age only while it holds something that may be written elsewhere", () => {
  let mayBeBehind = true;
  const freshness = new DataFreshness(NOBODY);
  const lone = new FabricReadiness(READINESS_OPTIONS, { hasSeeds: false, asOfMonoMs: -60_000, freshness, mayBeBehind: () => mayBeBehind });
  lone.tick({ hasPeers: false, areSeedsHeard: true }, at(0));
  expect(lone.read(at(1000))).toMatchObject({ isReady: true, ageMs: 61_000, isInStep: false });
  mayBeBehind = false;
  expect(lone.read(at(2000))).toMatchObject({ isReady: true, ageMs: 0, isInStep: true });
});
