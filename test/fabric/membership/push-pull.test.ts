import { expect, test } from "vitest";
import { MemberCalls } from "../../../src/fabric/membership/calls.ts";
import type { MembershipOutput } from "../../../src/fabric/membership/io-types.ts";
import { PushPull } from "../../../src/fabric/membership/push-pull.ts";
import { MembershipState } from "../../../src/fabric/membership/state.ts";
import { UPDATE_REFUSALS } from "../../../src/fabric/membership/update-rules.ts";
import type { CallResponse, MemberUpdate } from "../../../src/fabric/wire/messages.ts";
import type { Time } from "../../../src/lib/machine.ts";
import { Rng } from "../../../src/lib/rng.ts";
import { MEMBERSHIP_OPTIONS } from "../../fakes/options.ts";
import { factsOf } from "../membership-world.ts";

type Call = Extract<MembershipOutput, { readonly kind: "call" }>;

function at(monoMs: number): Time {
  return { monoMs, wallMs: monoMs };
}

function said(nodeId: string, status: MemberUpdate["status"] = "alive"): MemberUpdate {
  return { ...factsOf(nodeId), status, incarnation: 1, accuser: "" };
}

class Bench {
  readonly state: MembershipState;
  readonly memberCalls: MemberCalls;
  readonly exchange: PushPull;

  constructor(name = "self") {
    this.state = new MembershipState(factsOf(name), MEMBERSHIP_OPTIONS);
    this.state.self.begin(1000);
    this.memberCalls = new MemberCalls(this.state, MEMBERSHIP_OPTIONS);
    this.exchange = new PushPull(this.memberCalls, new Rng("exchange"), MEMBERSHIP_OPTIONS);
    this.exchange.begin(at(0));
  }

  learn(updates: readonly MemberUpdate[]): void {
    this.memberCalls.hear(updates, { nodeId: "a", path: "gossip" }, at(0), []);
  }

  /** Ticks at every deadline until then. */
  runUntil(endMs: number): readonly (Call & { readonly atMs: number })[] {
    const calls: (Call & { readonly atMs: number })[] = [];
    for (let atMs = this.exchange.nextDeadlineMs(); atMs <= endMs; atMs = this.exchange.nextDeadlineMs()) {
      const out: MembershipOutput[] = [];
      this.exchange.tick(at(atMs), out);
      for (const output of out) if (output.kind === "call") calls.push({ ...output, atMs });
    }
    return calls;
  }

  answer(call: Call | undefined, response: CallResponse | undefined, atMs: number, refusal?: string): readonly MembershipOutput[] {
    if (call === undefined) throw new Error("no call");
    const purpose = this.memberCalls.finish(call.call, response)?.purpose;
    const out: MembershipOutput[] = [];
    if (purpose?.kind === "pushPull") this.exchange.answered(purpose, { response, refusal }, at(atMs), out);
    return out;
  }
}

test("seeds are asked at once, and again with growing waits until one answers with a table", () => {
  const bench = new Bench();
  bench.exchange.join(["a:1", "self:1"], at(0));
  const [first] = bench.runUntil(0);
  expect(first).toMatchObject({ to: "a:1", request: { kind: "pushPull", isJoin: true } });
  bench.answer(first, undefined, 10);
  let lastMs = 0;
  for (let i = 0; i < 8; i++) {
    const atMs = bench.exchange.nextDeadlineMs();
    for (const call of bench.runUntil(atMs)) bench.answer(call, undefined, atMs);
    lastMs = atMs;
  }
  expect(lastMs).toBeLessThan(40_000);
  expect(bench.exchange.hasJoined).toBe(false);
  const [late] = bench.runUntil(lastMs + 6000);
  bench.answer(late, { kind: "pushPull", from: { nodeId: "a", generation: 1 }, members: [said("a"), said("b")] }, lastMs + 6010);
  expect(bench.exchange.hasJoined).toBe(true);
  expect(bench.state.members.listed).toHaveLength(2);
  // Told to a newcomer, known to all: not gossiped on.
  expect(bench.state.broadcasts.size).toBe(0);
});

test("this node's own address among its seeds is nobody to ask or to wait for", () => {
  const bench = new Bench();
  bench.exchange.join(["self:1"], at(0));
  expect([bench.runUntil(60_000), bench.exchange.areSeedsHeard]).toEqual([[], true]);
  bench.exchange.join(["a:1", "self:1"], at(60_000));
  const calls = bench.runUntil(60_000);
  expect(calls.map(({ to }) => to)).toEqual(["a:1"]);
  bench.answer(calls[0], undefined, 60_010);
  expect(bench.exchange.areSeedsHeard).toBe(true);
});

test("whoever is given other seeds asks those, and waits for none of the earlier ones", () => {
  const bench = new Bench();
  bench.exchange.join(["a:1", "b:1", "c:1", "d:1", "e:1"], at(0));
  for (const call of bench.runUntil(0)) bench.answer(call, undefined, 1);
  bench.exchange.join(["x:1"], at(10));
  const calls = bench.runUntil(10);
  expect(calls.map(({ to }) => to)).toEqual(["x:1"]);
  bench.answer(calls[0], undefined, 20);
  expect(bench.exchange.areSeedsHeard).toBe(true);
});

test("who turned this node away is asked again in each round, among however many seeds, and told of each time until it does not", () => {
  const bench = new Bench();
  const seeds = Array.from({ length: 60 }, (_, i) => `s${i}:1`);
  bench.exchange.join(seeds, at(0));
  const [first, ...others] = bench.runUntil(0);
  expect(bench.answer(first, undefined, 1, "another token")).toEqual([{ kind: "turnedAway", address: first?.to, why: "another token" }]);
  expect(bench.exchange.areSeedsHeard).toBe(false);
  for (const call of others) expect(bench.answer(call, undefined, 1)).toEqual([]);
  expect(bench.exchange.areSeedsHeard).toBe(false);
  let askedMs = 0;
  while (bench.exchange.nextDeadlineMs() < 60_000) {
    const atMs = bench.exchange.nextDeadlineMs();
    const calls = bench.runUntil(atMs);
    expect(new Set(calls.map(({ to }) => to)).size).toBe(calls.length);
    for (const call of calls) {
      const isRefuser = call.to === first?.to;
      if (isRefuser) expect(atMs - askedMs).toBeLessThan(10_000);
      if (isRefuser) askedMs = atMs;
      expect(bench.answer(call, undefined, atMs, isRefuser ? "another token" : undefined)).toHaveLength(isRefuser ? 1 : 0);
    }
  }
  expect(askedMs).toBeGreaterThan(50_000);
  expect(bench.exchange.areSeedsHeard).toBe(true);
});

test("each of many seeds is asked within seconds, also when the first ones answered; those that are members by then are not", () => {
  const bench = new Bench();
  const seeds = Array.from({ length: 60 }, (_, i) => `s${i}:1`);
  bench.exchange.join(seeds, at(0));
  const asked: string[] = [];
  const answer = (call: Call & { readonly atMs: number }) => {
    asked.push(call.to);
    // A table of two: its own node, and one of another seed.
    const nodeId = call.to.slice(0, -2);
    const members = [said(nodeId), said(`s${(Number(nodeId.slice(1)) + 30) % 60}`)];
    bench.answer(call, { kind: "pushPull", from: { nodeId, generation: 1 }, members }, call.atMs);
  };
  while (bench.exchange.nextDeadlineMs() < 8_000)
    for (const call of bench.runUntil(bench.exchange.nextDeadlineMs())) if (call.request.kind === "pushPull") answer(call);
  expect(bench.exchange.areSeedsHeard).toBe(true);
  expect(bench.state.members.listed).toHaveLength(60);
  expect(new Set(asked).size).toBeLessThan(40);
});

test("seeds that do not answer for seconds take no turn from others: all are asked, and an exchange is left for whoever greets", () => {
  const bench = new Bench();
  bench.exchange.join(
    Array.from({ length: 10 }, (_, i) => `s${i}:1`),
    at(0),
  );
  const open: (Call & { readonly atMs: number })[] = [];
  const asked = new Set<string>();
  for (let atMs = 0; atMs < 25_000; atMs += 100) {
    for (const call of open.filter((each) => each.atMs <= atMs - 5_000)) {
      open.splice(open.indexOf(call), 1);
      bench.answer(call, undefined, atMs);
    }
    for (const call of bench.runUntil(atMs)) open.push(call);
    for (const { to } of open) asked.add(to);
    // Later an unlisted seed is tried now and then as well.
    if (atMs < 7_000) expect(open.length).toBeLessThanOrEqual(3);
  }
  expect(asked.size).toBe(10);
  expect(bench.exchange.areSeedsHeard).toBe(true);
});

test("a seed that is this node itself under another name does not turn it away", () => {
  const bench = new Bench();
  const { ref, update } = bench.state.self;
  const request = { kind: "pushPull", from: ref, isJoin: true, members: [update] } as const;
  const response = bench.exchange.askedByTwin(request, at(0), []);
  expect(response).toEqual({ kind: "pushPull", from: ref, members: [] });
  bench.exchange.join(["localhost:1"], at(0));
  const [call] = bench.runUntil(0);
  expect(bench.answer(call, response, 1)).toEqual([]);
  expect(bench.exchange.hasJoined).toBe(false);
});

test("after joining tables are exchanged soon, then ever more rarely", () => {
  const bench = new Bench();
  bench.exchange.join(["a:1"], at(0));
  const [join] = bench.runUntil(0);
  bench.answer(join, { kind: "pushPull", from: { nodeId: "a", generation: 1 }, members: [said("a")] }, 10);
  const times: number[] = [];
  for (let i = 0; i < 12; i++) {
    const atMs = bench.exchange.nextDeadlineMs();
    for (const call of bench.runUntil(atMs)) {
      times.push(atMs);
      bench.answer(call, { kind: "pushPull", from: { nodeId: "a", generation: 1 }, members: [] }, atMs);
    }
  }
  expect(times[0]).toBeLessThan(1500);
  expect(times.filter((ms) => ms < 20_000).length).toBeGreaterThanOrEqual(3);
  const [before = 0, last = 0] = times.slice(-2);
  expect(last - before).toBeGreaterThan(20_000);
});

test("in its turn a member is sent a digest: it answers nothing to an equal one, else its table, and then gets the rest", () => {
  const [left, right] = [new Bench(), new Bench("other")];
  left.learn([said("other"), said("a")]);
  right.learn([said("self"), said("a")]);
  const ask = (): { readonly call: Call; readonly answer: CallResponse; readonly atMs: number } => {
    const atMs = left.exchange.nextDeadlineMs();
    const [call] = left.runUntil(atMs);
    if (call?.request.kind !== "pushPull") return ask();
    expect(call.request.members).toHaveLength(1);
    const out: MembershipOutput[] = [];
    right.exchange.asked(1, call.request, at(atMs), out);
    const [answer] = out;
    if (answer?.kind !== "answer" || answer.response?.kind !== "pushPull") throw new Error("no answer");
    return { call, answer: answer.response, atMs };
  };
  // Own first words differ from what was learned: the first exchange ends that.
  for (const isFirst of [true, false]) {
    if (!isFirst) right.learn([said("b")]);
    left.learn(isFirst ? [said("c")] : []);
    const { call, answer, atMs } = ask();
    if (answer.kind !== "pushPull") throw new Error("no table");
    expect(answer.members.length).toBeGreaterThan(0);
    const [rest] = left.answer(call, answer, atMs).filter(({ kind }) => kind === "call");
    if (rest?.kind !== "call" || rest.request.kind !== "pushPull") throw new Error("no rest");
    right.exchange.asked(2, rest.request, at(atMs), []);
    expect(rest.request.members.map(({ nodeId }) => nodeId)).toEqual(isFirst ? ["self", "c"] : ["self"]);
  }
  const { call, answer, atMs } = ask();
  expect(answer).toMatchObject({ members: [] });
  expect(left.answer(call, answer, atMs)).toEqual([]);
});

test("Why: who came when a node was gone hears that it left entries behind, though all that is listed is known to it", () => {
  const [knowing, newcomer] = [new Bench("other"), new Bench()];
  knowing.learn([said("self"), said("a"), { ...said("kept", "dead"), keepsEntries: true }]);
  newcomer.learn([knowing.state.self.update, said("a")]);
  knowing.learn([newcomer.state.self.update]);
  const [call] = newcomer.runUntil(60_000);
  if (call?.request.kind !== "pushPull") throw new Error("no exchange");
  const out: MembershipOutput[] = [];
  knowing.exchange.asked(1, call.request, at(call.atMs), out);
  expect(out).toMatchObject([
    { response: { members: [{ nodeId: "other" }, { nodeId: "a" }, { nodeId: "kept", status: "dead", keepsEntries: true }] } },
  ]);
});

test("an exchange that failed is made good soon, with somebody else", () => {
  const bench = new Bench();
  bench.learn([said("a"), said("b")]);
  const [call] = bench.runUntil(40_000);
  expect(bench.exchange.nextDeadlineMs()).toBeGreaterThan(0);
  if (call === undefined) throw new Error("no exchange");
  bench.answer(call, undefined, call.atMs + 5000);
  const soon = bench.runUntil(call.atMs + 5000 + 1500);
  expect(soon.some(({ request }) => request.kind === "pushPull")).toBe(true);
});

test("an unlisted seed is tried again now and then, also when others are known", () => {
  const bench = new Bench();
  bench.learn([said("a")]);
  bench.exchange.join(["a:1", "lost:1"], at(0));
  const calls = bench.runUntil(0);
  for (const call of calls) bench.answer(call, { kind: "pushPull", from: { nodeId: "a", generation: 1 }, members: [] }, 1);
  const later: string[] = [];
  for (let i = 0; i < 40; i++) {
    const atMs = bench.exchange.nextDeadlineMs();
    for (const call of bench.runUntil(atMs)) {
      later.push(call.to);
      bench.answer(call, { kind: "pushPull", from: { nodeId: "a", generation: 1 }, members: [] }, atMs);
    }
  }
  expect(later.filter((to) => to === "lost:1").length).toBeGreaterThan(5);
});

test.each([
  { what: "ours, alone", ours: 9, others: 0, cluster: {} },
  { what: "ours, beside many of another cluster", ours: 9, others: 60, cluster: {} },
  { what: "another cluster, which all others' nodes look for together", ours: 27, others: 9, cluster: { clusterId: "other" } },
])("about one attempt for each of the dead is made by all together: one of $what", ({ ours, others, cluster }) => {
  const bench = new Bench();
  bench.learn(Array.from({ length: ours }, (_, i) => said(`n${i}`)));
  bench.learn(Array.from({ length: others }, (_, i) => ({ ...said(`f${i}`), clusterId: "other" })));
  bench.learn([said("gone"), said("gone", "dead")].map((update) => ({ ...update, ...cluster })));
  let attempts = 0;
  for (let i = 0; i < 1200; i++) {
    const atMs = bench.exchange.nextDeadlineMs();
    for (const call of bench.runUntil(atMs)) {
      if (call.to === "gone:1") attempts += 1;
      bench.answer(call, { kind: "pushPull", from: { nodeId: "n0", generation: 1 }, members: [] }, atMs);
    }
  }
  // Three of four deadlines are of this kind; one in ten of them finds the dice so.
  expect(attempts).toBeGreaterThan(40);
  expect(attempts).toBeLessThan(160);
});

test("told that it is dead, a node says at once that it is not", () => {
  const bench = new Bench();
  bench.exchange.join(["a:1"], at(0));
  const [join] = bench.runUntil(0);
  const members = [said("a"), { ...said("self", "dead"), incarnation: 99 }];
  const [again] = bench
    .answer(join, { kind: "pushPull", from: { nodeId: "a", generation: 1 }, members }, 10)
    .filter(({ kind }) => kind === "call");
  expect(again).toMatchObject({ kind: "call", to: "a:1", request: { kind: "probe", updates: [{ nodeId: "self", incarnation: 100 }] } });
});

test("a hello of somebody unknown leads to an exchange; of a listed member it does not", () => {
  const bench = new Bench();
  bench.learn([said("a"), said("b"), said("b", "dead")]);
  const out: MembershipOutput[] = [];
  bench.exchange.heardOf({ nodeId: "a", generation: 1, address: "a:1" }, at(0), out);
  expect(out).toEqual([]);
  bench.exchange.heardOf({ nodeId: "b", generation: 1, address: "b:1" }, at(0), out);
  bench.exchange.heardOf({ nodeId: "c", generation: 1, address: "c:1" }, at(0), out);
  expect(out.map((output) => (output.kind === "call" ? output.to : ""))).toEqual(["b:1", "c:1"]);
  for (let i = 0; i < 20; i++) bench.exchange.heardOf({ nodeId: `x${i}`, generation: 1, address: `x${i}:1` }, at(0), out);
  expect(out).toHaveLength(4);
});

test("the end stops everything", () => {
  const bench = new Bench();
  bench.exchange.join(["a:1"], at(0));
  bench.exchange.end();
  expect(bench.exchange.nextDeadlineMs()).toBe(Number.POSITIVE_INFINITY);
});

test.each([
  { what: "of ours", from: { clusterId: factsOf("x").clusterId }, isHeard: true },
  { what: "of another cluster", from: { clusterId: "other" }, isHeard: false },
  { what: "that names no cluster and is held for one of another", from: {}, isHeard: false },
])("which start goes under our id is for nodes of our cluster to say: one $what is heard: $isHeard", ({ from, isHeard }) => {
  const bench = new Bench();
  bench.learn([{ ...said("x"), clusterId: "other" }]);
  const answer = {
    kind: "probe",
    from: { nodeId: "x", generation: 1, ...from },
    updates: [],
    heldStart: { boot: "ff", address: "y:1" },
  } as const;
  bench.exchange.heldStart({ kind: "pushPull", address: "x:1", isJoin: false, step: "whole" }, answer, at(1000), []);
  expect(bench.state.standing.dispute(() => true, at(60_000)) !== undefined).toBe(isHeard);
});

test("an own answer, by a seed that is another name of our address, does not say that others take this start", () => {
  const state = new MembershipState({ ...factsOf("self"), boot: "b2", bootBefore: "b1" }, MEMBERSHIP_OPTIONS, {
    earlierBoots: ["b1"],
  });
  state.self.begin(1000);
  const exchange = new PushPull(new MemberCalls(state, MEMBERSHIP_OPTIONS), new Rng("exchange"), MEMBERSHIP_OPTIONS);
  const purpose = { kind: "pushPull", address: "self.example:1", isJoin: true, step: "whole" } as const;
  exchange.heldStart(purpose, { kind: "pushPull", from: state.self.ref, members: [] }, at(1000), []);
  const from = { nodeId: "m", generation: 1, boot: "m1", clusterId: state.self.update.clusterId };
  const held = { boot: "b1", address: "old:1" };
  exchange.heldStart({ ...purpose, address: "m:1" }, { kind: "pushPull", from, members: [], heldStart: held }, at(1001), []);
  expect(state.standing.dispute(() => true, at(1001))).toEqual({ nodeIds: ["m"], otherAddress: "old:1" });
});

const YEAR_2100_S = Date.UTC(2100, 0) / 1000;

test.each([
  { what: "is refused as years ahead by a clock that was set since", why: UPDATE_REFUSALS.ahead, wallMs: 5000, incarnation: 5 },
  {
    what: "is refused as years ahead while its clock still is",
    why: UPDATE_REFUSALS.ahead,
    wallMs: YEAR_2100_S * 1000,
    incarnation: YEAR_2100_S,
  },
  { what: "is refused for something else", why: UPDATE_REFUSALS.list, wallMs: 5000, incarnation: YEAR_2100_S },
  { what: "is taken", why: undefined, wallMs: 5000, incarnation: YEAR_2100_S },
])("a node that began to count in the year 2100 and $what goes on from $incarnation", ({ why, wallMs, incarnation }) => {
  const state = new MembershipState(factsOf("self"), MEMBERSHIP_OPTIONS);
  state.self.begin(YEAR_2100_S * 1000);
  const exchange = new PushPull(new MemberCalls(state, MEMBERSHIP_OPTIONS), new Rng("exchange"), MEMBERSHIP_OPTIONS);
  const from = { nodeId: "m", generation: 1, clusterId: "c1" };
  const response = { kind: "pushPull", from, members: [said("m")], ...(why !== undefined && { ownUpdateRefused: why }) } as const;
  exchange.answered({ kind: "pushPull", address: "m:1", isJoin: false, step: "whole" }, { response }, { monoMs: 9000, wallMs }, []);
  expect(state.self.update.incarnation).toBe(incarnation);
  const told = state.broadcasts.take({ maxBytes: 1000, limit: 9 }).filter(({ nodeId }) => nodeId === "self");
  expect(told.map((update) => update.incarnation)).toEqual(incarnation === 5 ? [5] : []);
});
