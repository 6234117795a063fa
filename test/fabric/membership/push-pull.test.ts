/** Meeting others, as a member does it: seeds, exchanges of tables, and finding those again who were called dead. */
import { expect, test } from "vitest";
import type { FabricCallResponse } from "../../../src/fabric/wire/messages.ts";
import { nodeRef } from "../../fakes/fabric-values.ts";
import { type Call, MemberBench, type Output, said } from "../membership-bench.ts";
import { factsOf } from "../membership-world.ts";

function pushPulls(out: readonly Output[]): readonly Extract<Output, { readonly kind: "call" }>[] {
  return out.flatMap((output) => (output.kind === "call" && output.request.kind === "pushPull" ? [output] : []));
}

function tableOf(nodeId: string, members: Extract<FabricCallResponse, { kind: "pushPull" }>["members"] = []): FabricCallResponse {
  return { kind: "pushPull", from: nodeRef(nodeId), members };
}

/** Where this node was turned away, and why. */
function refusals(out: readonly Output[]): readonly unknown[] {
  return out.filter(({ kind }) => kind === "turnedAway");
}

/** A node that has joined by `a`. */
function joined(): MemberBench {
  const bench = new MemberBench();
  const [join] = bench.join(["a:1"]);
  bench.answer(join, tableOf("a", [said("a")]), 10);
  return bench;
}

test("seeds are asked at once, and again with growing waits until one answers with a table", () => {
  const bench = new MemberBench();
  const [first] = bench.join(["a:1", "self:1"]);
  expect(first).toMatchObject({ to: "a:1", request: { kind: "pushPull", isJoin: true } });
  bench.answer(first, undefined, 10);
  const asked = [0];
  while (asked.length < 8) {
    const call = bench.nextCall();
    asked.push(call.atMs);
    bench.answer(call, undefined);
  }
  const waits = asked.slice(1).map((ms, i) => ms - (asked[i] ?? 0));
  expect(Math.max(...waits)).toBeGreaterThan(4 * (waits[0] ?? 0));
  expect(bench.nowMs).toBeLessThan(40_000);
  expect(bench.machine.hasJoined).toBe(false);
  const late = bench.nextCall();
  expect(late.atMs - bench.nowMs).toBeLessThan(6000);
  bench.answer(late, tableOf("a", [said("a"), said("b")]));
  expect(bench.machine.hasJoined).toBe(true);
  expect(bench.machine.listed()).toHaveLength(2);
  // Told to a newcomer, known to all: not gossiped on.
  expect(bench.machine.isQuiet).toBe(true);
});

test("this node's own address among its seeds is nobody to ask or to wait for", () => {
  const bench = new MemberBench();
  bench.join(["self:1"]);
  expect([bench.runUntil(60_000), bench.machine.areSeedsTried]).toEqual([[], true]);
  const calls = bench.join(["a:1", "self:1"]);
  expect(calls.map(({ to }) => to)).toEqual(["a:1"]);
  bench.answer(calls[0], undefined, 60_010);
  expect(bench.machine.areSeedsTried).toBe(true);
});

test("whoever is given other seeds asks those, and waits for none of the earlier ones", () => {
  const bench = new MemberBench();
  for (const call of bench.join(["a:1", "b:1", "c:1", "d:1", "e:1"])) bench.answer(call, undefined, 1);
  const calls = bench.join(["x:1"], 10);
  expect(calls.map(({ to }) => to)).toEqual(["x:1"]);
  bench.answer(calls[0], undefined, 20);
  expect(bench.machine.areSeedsTried).toBe(true);
});

test("who turned this node away is asked again in each round, among however many seeds, and told of each time until it does not", () => {
  const bench = new MemberBench();
  const [first, ...others] = bench.join(Array.from({ length: 60 }, (_, i) => `s${i}:1`));
  expect(refusals(bench.answer(first, undefined, 1, "another token"))).toEqual([
    { kind: "turnedAway", address: first?.to, why: "another token" },
  ]);
  expect(bench.machine.areSeedsTried).toBe(false);
  for (const call of others) expect(refusals(bench.answer(call, undefined, 1))).toEqual([]);
  expect(bench.machine.areSeedsTried).toBe(false);
  let askedMs = 0;
  while (bench.nowMs < 60_000) {
    const calls = bench.step();
    expect(new Set(calls.map(({ to }) => to)).size).toBe(calls.length);
    for (const call of calls) {
      const isRefuser = call.to === first?.to;
      if (isRefuser) expect(call.atMs - askedMs).toBeLessThan(10_000);
      if (isRefuser) askedMs = call.atMs;
      expect(refusals(bench.answer(call, undefined, call.atMs, isRefuser ? "another token" : undefined))).toHaveLength(isRefuser ? 1 : 0);
    }
  }
  expect(askedMs).toBeGreaterThan(50_000);
  expect(bench.machine.areSeedsTried).toBe(true);
});

test("each of many seeds is asked within seconds, also when the first ones answered; those that are members by then are not", () => {
  const bench = new MemberBench();
  const asked: string[] = [];
  const answer = (call: Call) => {
    asked.push(call.to);
    // A table of two: its own node, and one of another seed.
    const nodeId = call.to.slice(0, -2);
    bench.answer(call, tableOf(nodeId, [said(nodeId), said(`s${(Number(nodeId.slice(1)) + 30) % 60}`)]));
  };
  for (const call of bench.join(Array.from({ length: 60 }, (_, i) => `s${i}:1`))) answer(call);
  while (bench.nowMs < 8_000) for (const call of bench.step()) answer(call);
  expect(bench.machine.areSeedsTried).toBe(true);
  expect(bench.machine.listed()).toHaveLength(60);
  expect(new Set(asked).size).toBeLessThan(40);
});

test("seeds that do not answer for seconds take no turn from others: all are asked, and an exchange is left for whoever greets", () => {
  const bench = new MemberBench();
  const open: Call[] = [...bench.join(Array.from({ length: 10 }, (_, i) => `s${i}:1`))];
  const asked = new Set(open.map(({ to }) => to));
  for (let atMs = 0; atMs < 25_000; atMs += 100) {
    for (const call of bench.runUntil(atMs)) open.push(call);
    for (const call of open.filter((each) => each.atMs <= atMs - 5_000)) {
      open.splice(open.indexOf(call), 1);
      bench.answer(call, undefined, atMs);
    }
    for (const { to } of open) asked.add(to);
    // Later an unlisted seed is tried now and then as well.
    if (atMs < 7_000) expect(open.length).toBeLessThanOrEqual(3);
  }
  expect(asked.size).toBe(10);
  expect(bench.machine.areSeedsTried).toBe(true);
});

test("a seed that is this node itself under another name does not turn it away", () => {
  const bench = new MemberBench();
  const [call] = bench.join(["localhost:1"]);
  if (call === undefined) throw new Error("a seed is asked");
  const response = bench.ask(call.request);
  expect(response).toEqual({ kind: "pushPull", from: call.request.from, members: [] });
  expect(bench.answer(call, response, 1)).toEqual([{ kind: "letIn", address: "localhost:1" }]);
  expect(bench.machine.hasJoined).toBe(false);
});

test("after joining tables are exchanged soon, then ever more rarely", () => {
  const bench = joined();
  const times: number[] = [];
  while (bench.nowMs < 240_000)
    for (const call of bench.step()) {
      times.push(call.atMs);
      bench.answer(call, tableOf("a"));
    }
  expect(times[0]).toBeLessThan(1500);
  expect(times.filter((ms) => ms < 20_000).length).toBeGreaterThanOrEqual(3);
  const [before = 0, last = 0] = times.slice(-2);
  expect(last - before).toBeGreaterThan(20_000);
});

test("in its turn a member is sent a digest: it answers nothing to an equal one, else its table, and then gets the rest", () => {
  const [left, right] = [new MemberBench(), new MemberBench({ facts: factsOf("other") })];
  left.hear([said("other"), said("a")]);
  right.hear([said("self"), said("a")]);
  const ask = () => {
    const call = left.nextCall();
    if (call.request.kind !== "pushPull") throw new Error("no exchange");
    expect(call.request.members).toHaveLength(1);
    const answer = right.ask(call.request);
    if (answer?.kind !== "pushPull") throw new Error("no answer");
    return { call, answer };
  };
  // Own first words differ from what was learned: the first exchange ends that.
  for (const isFirst of [true, false]) {
    if (!isFirst) right.hear([said("b")]);
    left.hear(isFirst ? [said("c")] : []);
    const { call, answer } = ask();
    expect(answer.members.length).toBeGreaterThan(0);
    const [rest] = pushPulls(left.answer(call, answer));
    if (rest?.request.kind !== "pushPull") throw new Error("no rest");
    expect(rest.request.members.map(({ nodeId }) => nodeId)).toEqual(isFirst ? ["self", "c"] : ["self"]);
    left.answer({ ...rest, atMs: left.nowMs }, right.ask(rest.request));
  }
  const { call, answer } = ask();
  expect(answer).toMatchObject({ members: [] });
  expect(pushPulls(left.answer(call, answer))).toEqual([]);
});

test("Why: who came when a node was gone hears that it left entries behind, though all that is listed is known to it", () => {
  const [knowing, newcomer] = [new MemberBench({ facts: factsOf("other") }), new MemberBench()];
  knowing.hear([said("self"), said("a"), said("kept", "dead", { keepsEntries: true })]);
  newcomer.hear([knowing.self, said("a")]);
  knowing.hear([newcomer.self]);
  expect(knowing.ask(newcomer.nextCall().request)).toMatchObject({
    members: [{ nodeId: "other" }, { nodeId: "a" }, { nodeId: "kept", status: "dead", keepsEntries: true }],
  });
});

test("an exchange that failed is made good soon, with somebody else", () => {
  const bench = new MemberBench();
  bench.hear([said("a"), said("b")]);
  const call = bench.nextCall();
  bench.runUntil(call.atMs + 5000);
  bench.answer(call, undefined);
  expect(bench.runUntil(bench.nowMs + 1500)).not.toEqual([]);
});

test("an unlisted seed is tried again now and then, also when others are known", () => {
  const bench = new MemberBench();
  bench.hear([said("a")]);
  for (const call of bench.join(["a:1", "lost:1"])) bench.answer(call, tableOf("a"), 1);
  const later: string[] = [];
  while (bench.nowMs < 240_000)
    for (const call of bench.step()) {
      later.push(call.to);
      bench.answer(call, tableOf("a"));
    }
  expect(later.filter((to) => to === "lost:1").length).toBeGreaterThan(5);
});

test.each([
  { what: "ours, alone", ours: 9, others: 0, cluster: {} },
  { what: "ours, beside many of another cluster", ours: 9, others: 60, cluster: {} },
  { what: "another cluster, which all others' nodes look for together", ours: 27, others: 9, cluster: { clusterId: "other" } },
])("about one attempt for each of the dead is made by all together: one of $what", ({ ours, others, cluster }) => {
  // Seldom enough that probes are not all that happens.
  const bench = new MemberBench({ options: { intervalMs: 100_000 } });
  bench.hear(Array.from({ length: ours }, (_, i) => said(`n${i}`)));
  bench.hear(
    Array.from({ length: others }, (_, i) => said(`f${i}`, "alive", { clusterId: "other" })),
    { from: "f0", clusterId: "other" },
  );
  const [updateSource, told] = [{ from: "gone", ...cluster }, cluster];
  bench.hear([said("gone", "alive", told), said("gone", "dead", told)], updateSource);
  let attempts = 0;
  // Ten seconds are between two times that this node may try.
  while (bench.nowMs < 9_000_000)
    for (const call of bench.step()) {
      if (call.to === "gone:1") attempts += 1;
      bench.answer(call, tableOf("n0"));
    }
  // One in ten times finds the dice so.
  expect(attempts).toBeGreaterThan(40);
  expect(attempts).toBeLessThan(160);
});

test("told that it is dead, a node says at once that it is not", () => {
  const bench = new MemberBench();
  const [join] = bench.join(["a:1"]);
  const probed: Call[] = [];
  bench.onProbe = (call) => {
    probed.push(call);
    return undefined;
  };
  bench.answer(join, tableOf("a", [said("a"), said("self", "dead", { incarnation: 99 })]));
  expect(probed[0]).toMatchObject({ to: "a:1", request: { kind: "probe", updates: [{ nodeId: "self", incarnation: 100 }] } });
});

test("a hello of somebody unknown leads to an exchange; of a listed member it does not", () => {
  const bench = new MemberBench();
  bench.hear([said("a"), said("b"), said("b", "dead")]);
  const greet = (nodeId: string) =>
    pushPulls(bench.give({ kind: "linkUp", member: { nodeId, generation: 1, address: `${nodeId}:1` } })).map(({ to }) => to);
  expect(["a", "b", "c"].map(greet)).toEqual([[], ["b:1"], ["c:1"]]);
  expect(Array.from({ length: 20 }, (_, i) => greet(`x${i}`)).flat()).toHaveLength(2);
});

test("the end stops everything", () => {
  const bench = joined();
  bench.give({ kind: "leave" });
  expect(bench.runUntil(300_000)).toEqual([]);
  expect(bench.machine.nextDeadlineMs()).toBeGreaterThan(300_000);
});

test.each([
  { what: "of ours", from: { clusterId: factsOf("x").clusterId }, isHeard: true },
  { what: "of another cluster", from: { clusterId: "other" }, isHeard: false },
])("which start goes under our id is for nodes of our cluster to say: one $what is heard: $isHeard", ({ from, isHeard }) => {
  const bench = new MemberBench();
  bench.hear([said("x", "alive", { clusterId: "other" })], { from: "x", clusterId: "other" });
  bench.onProbe = () => ({
    kind: "probe",
    from: { ...nodeRef("x"), ...from },
    updates: [],
    heldStart: { boot: "ff", address: "y:1" },
  });
  bench.runUntil(60_000);
  expect(bench.machine.dispute(bench.time()) !== undefined).toBe(isHeard);
});

test("an own answer, by a seed that is another name of our address, does not say that others take this start", () => {
  const facts = { ...factsOf("self"), boot: "b2", bootBefore: "b1" };
  const bench = new MemberBench({ facts, parts: { earlierBoots: ["b1"] } });
  const [own, other] = bench.join(["self.example:1", "m:1"]).toSorted((a, b) => (a.to > b.to ? -1 : 1));
  if (own === undefined) throw new Error("a seed is asked");
  bench.answer(own, { kind: "pushPull", from: own.request.from, members: [] });
  const from = { ...nodeRef("m"), boot: "m1" };
  const members = [said("m", "alive", { boot: "m1" })];
  bench.answer(other, { kind: "pushPull", from, members, heldStart: { boot: "b1", address: "old:1" } }, 1);
  expect(bench.machine.dispute(bench.time())).toEqual({ nodeIds: ["m"], otherAddress: "old:1" });
});

const YEAR_2100_S = Date.UTC(2100, 0) / 1000;

/** As another node words it that it does not take what a node says of itself. */
function refusalWords(more: Parameters<typeof said>[2]): string {
  const answer = new MemberBench().ask({
    kind: "pushPull",
    from: nodeRef("a"),
    isJoin: false,
    members: [said("a", "alive", more)],
  });
  return (answer?.kind === "pushPull" ? answer.ownUpdateRefused : undefined) ?? "";
}

const AHEAD = refusalWords({ incarnation: YEAR_2100_S });
const LIST = refusalWords({ roles: Array.from({ length: 1000 }, (_, i) => `r${i}`) });

test.each([
  { what: "is refused as years ahead by a clock that was set since", why: AHEAD, wallMs: 5000, isRecounted: true },
  { what: "is refused as years ahead while its clock still is", why: AHEAD, wallMs: YEAR_2100_S * 1000, isRecounted: false },
  { what: "is refused for something else", why: LIST, wallMs: 5000, isRecounted: false },
  { what: "is taken", why: undefined, wallMs: 5000, isRecounted: false },
])("a node that began to count in the year 2100 and $what counts from now on: $isRecounted", ({ why, wallMs, isRecounted }) => {
  expect(why).not.toBe("");
  const bench = new MemberBench({ wallMs: YEAR_2100_S * 1000 });
  const [call] = bench.join(["m:1"]);
  bench.aheadMs = wallMs;
  const told: number[] = [];
  bench.onProbe = ({ request }) => {
    if (request.kind === "probe")
      told.push(...request.updates.flatMap(({ nodeId, incarnation }) => (nodeId === "self" ? [incarnation] : [])));
    return undefined;
  };
  const from = nodeRef("m");
  bench.answer(call, { kind: "pushPull", from, members: [said("m")], ...(why !== undefined && { ownUpdateRefused: why }) });
  expect(bench.self.incarnation).toBe(isRecounted ? wallMs / 1000 : YEAR_2100_S);
  bench.runUntil(400);
  expect(new Set(told)).toEqual(new Set(isRecounted ? [wallMs / 1000] : []));
});
