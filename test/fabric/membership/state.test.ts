/** What a member believes of others and of itself, by what it is told. */
import fc from "fast-check";
import { expect, test } from "vitest";
import { ForeignPeers } from "../../../src/fabric/links/foreign-peers.ts";
import type { MemberStatus, MemberUpdate } from "../../../src/fabric/wire/messages.ts";
import { Rng } from "../../../src/lib/rng.ts";
import { nodeRef } from "../../fakes/fabric-values.ts";
import { MEMBERSHIP_OPTIONS } from "../../fakes/options.ts";
import { type BenchSpec, type Call, MemberBench, said as saidOf } from "../membership-bench.ts";
import { factsOf } from "../membership-world.ts";

function said(nodeId: string, status: MemberStatus, over: Partial<MemberUpdate> = {}): MemberUpdate {
  return saidOf(nodeId, status, { incarnation: 5, accuser: status === "suspect" ? "accuser" : "", ...over });
}

/** A node whose probes wait; `probed` has them. */
function silent(spec: BenchSpec = {}): { readonly bench: MemberBench; readonly probed: Call[] } {
  const bench = new MemberBench({ wallMs: 5000, isSilent: true, ...spec });
  return { bench, probed: bench.probes };
}

/** Events since the last time. */
function taken(bench: MemberBench): readonly string[] {
  const names = bench.events();
  bench.outputs.length = 0;
  return names;
}

test("any updates in any order, also twice, end in the same table", () => {
  const updates = fc.array(
    fc
      .record({
        nodeId: fc.constantFrom("a", "b", "c", "d"),
        status: fc.constantFrom<MemberStatus>("alive", "suspect", "dead", "left"),
        incarnation: fc.nat(4),
        generation: fc.nat(2),
        accuser: fc.constantFrom("x", "y"),
      })
      .map(({ nodeId, status, ...rest }) => said(nodeId, status, rest)),
    { maxLength: 30 },
  );
  const tableOf = (all: readonly MemberUpdate[]): unknown => {
    const { bench } = silent();
    bench.hear(all);
    return bench.machine
      .members()
      .filter(({ nodeId }) => nodeId !== "self")
      .map((update) => `${update.nodeId} ${update.status} ${update.generation}.${update.incarnation}`)
      .toSorted();
  };
  fc.assert(
    fc.property(updates, fc.nat(), (all, salt) => {
      const rng = new Rng(salt);
      const shuffled = [...all, ...all]
        .map((update) => ({ update, place: rng.next() }))
        .toSorted((a, b) => a.place - b.place)
        .map(({ update }) => update);
      expect(tableOf(shuffled)).toEqual(tableOf(all));
    }),
  );
});

test("a suspicion is confirmed by others, ends in death, and says who accused by which path", () => {
  const bench = new MemberBench({ options: { verifyCount: 0 } });
  bench.hear(["a", "x", "y", "z"].map((nodeId) => said(nodeId, "alive")));
  bench.runUntil(1000);
  bench.hear([said("a", "suspect", { accuser: "x" })]);
  expect(bench.machine.explain("a")?.deadlineMonoMs).toBeCloseTo(1000 + 24_000, 0);
  bench.runUntil(2000);
  bench.hear([said("a", "suspect", { accuser: "y" }), said("a", "suspect", { accuser: "y" })]);
  bench.runUntil(3000);
  // It does not answer, and those that are asked to try say that it does not.
  const answered = bench.onProbe;
  bench.onProbe = (call) => {
    if (call.request.kind === "probeIndirect") return { kind: "probeIndirect", isAcknowledged: false, updates: [] };
    return call.to === "a:1" ? undefined : answered(call);
  };
  const [first] = bench.calls({ kind: "linkBroken", nodeId: "a" });
  for (const again of bench.answer(first, undefined)) if (again.kind === "call") bench.answer({ ...again, atMs: bench.nowMs }, undefined);
  expect(bench.machine.explain("a")?.deadlineMonoMs).toBe(5000);
  bench.runUntil(4999);
  expect(bench.held("a")?.status).toBe("suspect");
  bench.runUntil(5000);
  expect(bench.held("a")?.status).toBe("dead");
  expect(bench.events().filter((name) => name === "member_dead")).toHaveLength(1);
  const evidence = bench.machine.explain("a")?.evidence.map(({ via, ...rest }) => ({ ...rest, via: via.toSorted() }));
  const of = { status: "suspect", incarnation: 5 } as const;
  expect(evidence).toEqual([
    { ...of, atWallMs: 2000, accuser: "x", path: "gossip", via: ["teller"] },
    { ...of, atWallMs: 3000, accuser: "y", path: "gossip", via: ["teller"] },
    { ...of, atWallMs: 4000, accuser: "self", path: "indirect", via: ["x", "y", "z"] },
    { ...of, atWallMs: 6000, status: "dead", accuser: "x", path: "timeout", via: ["self", "x", "y"] },
  ]);
});

test("whom a table calls dead gets the time to contradict; whom gossip calls dead is dead", () => {
  const { bench } = silent({ options: { verifyCount: 0 } });
  bench.hear([said("a", "alive"), said("b", "alive")]);
  bench.hear([said("a", "dead")], { path: "table" });
  bench.hear([said("b", "dead")]);
  expect(bench.held("a")).toMatchObject({ status: "suspect", accuser: "teller" });
  expect(bench.held("b")?.status).toBe("dead");
  bench.hear([said("a", "alive", { incarnation: 6 })]);
  expect(bench.held("a")?.status).toBe("alive");
});

test("somebody unknown who is gone is remembered, and not told on", () => {
  const { bench } = silent();
  bench.hear([said("a", "dead")], { path: "table" });
  expect(bench.held("a")?.status).toBe("dead");
  expect(bench.machine.isQuiet).toBe(true);
  // So that an old word does not bring it back.
  bench.hear([said("a", "alive", { incarnation: 4 })]);
  expect(bench.held("a")?.status).toBe("dead");
});

test("an old word about somebody long dead makes that known again", () => {
  const bench = new MemberBench({ options: { healthUpdateMs: 1e9 } });
  bench.hear([said("k", "alive"), said("a", "alive"), said("a", "dead")]);
  bench.runUntil(30_000);
  expect(bench.machine.isQuiet).toBe(true);
  bench.hear([said("a", "alive")]);
  expect(bench.machine.isQuiet).toBe(true);
  bench.runUntil(90_000);
  bench.hear([said("a", "alive")]);
  expect(bench.machine.isQuiet).toBe(false);
  expect(bench.held("a")?.status).toBe("dead");
});

test("the dead are forgotten after their time, not before, and it is told", () => {
  const bench = new MemberBench({ options: { deadForgetMs: 600_000 } });
  bench.hear([said("a", "alive"), said("a", "dead")]);
  bench.runUntil(599_000);
  expect(bench.held("a")).toBeDefined();
  expect(bench.outputs.filter(({ kind }) => kind === "memberForgotten")).toEqual([]);
  bench.runUntil(720_000);
  expect(bench.held("a")).toBeUndefined();
  expect(bench.outputs.filter(({ kind }) => kind === "memberForgotten")).toEqual([{ kind: "memberForgotten", nodeId: "a" }]);
});

test("more members than the bound are refused and counted, and so are bad updates", () => {
  const { bench } = silent({ options: { maxMembers: 3 } });
  bench.hear([said("a", "alive"), said("b", "alive"), said("c", "dead"), said("d", "alive"), said("e", "alive")]);
  expect(bench.machine.members()).toHaveLength(1 + 3);
  bench.hear([said("f", "alive", { incarnation: -1 }), said("", "alive"), said("g", "alive", { address: "self:1" })]);
  expect(bench.machine.stats().refused).toMatchObject({ full: 3, number: 1, text: 1 });
  const { bench: roomy } = silent();
  expect(roomy.hear([said("g", "alive", { address: "self:1" })])).toEqual(["ownAddress"]);
  expect(roomy.machine.members()).toHaveLength(1);
});

test("said to be dead or suspect, a node contradicts and trusts itself less; an echo of its own word changes nothing", () => {
  const { bench } = silent();
  bench.hear([said("self", "alive", { incarnation: 5 })]);
  expect([bench.machine.stats().refutationCount, bench.machine.isQuiet]).toEqual([0, true]);
  bench.hear([said("self", "suspect", { incarnation: 5 })]);
  expect(bench.self).toMatchObject({ status: "alive", incarnation: 6 });
  expect(bench.machine.stats().healthScore).toBe(1);
  expect(taken(bench)).toEqual(["contradicted_own_death"]);
  bench.hear([said("self", "dead", { incarnation: 5 })]);
  expect(bench.self.incarnation).toBe(6);
  bench.hear([said("self", "left", { incarnation: 40 })]);
  expect(bench.self.incarnation).toBe(41);
  expect(bench.machine.isQuiet).toBe(false);
});

test("a node that left does not come back because others say so", () => {
  const { bench } = silent();
  bench.give({ kind: "leave" });
  bench.hear([said("self", "suspect", { incarnation: 50 })]);
  expect(bench.self.status).toBe("left");
  bench.give({ kind: "facts", facts: factsOf("self", { zone: "z2" }) });
  expect(bench.self.zone).toBe("z1");
});

test("the own id in a later generation is a conflict, told once a minute, and not contradicted", () => {
  const { bench } = silent();
  const twin = said("self", "alive", { generation: 2, address: "twin:1" });
  bench.hear([twin, twin, twin]);
  expect(taken(bench)).toEqual(["own_id_used_by_another"]);
  expect(bench.machine.stats().refutationCount).toBe(0);
  bench.runUntil(61_000);
  bench.hear([twin]);
  expect(taken(bench)).toEqual(["own_id_used_by_another"]);
  bench.hear([said("self", "alive", { generation: 0 })]);
  expect(taken(bench)).toEqual([]);
});

test("a newcomer with the address of a listed member waits until that one is gone", () => {
  const { bench, probed } = silent();
  bench.hear([said("old", "alive", { address: "x:1" })]);
  bench.hear([said("new", "alive", { address: "x:1" })]);
  expect(taken(bench)).toEqual(["address_of_another_member"]);
  expect(bench.held("new")).toBeUndefined();
  expect(bench.machine.counts().conflicts).toBe(1);
  expect(probed.map(({ request }) => request.kind === "probe" && request.targetNodeId)).toContain("new");
  bench.hear([said("old", "left", { address: "x:1" })]);
  expect(bench.held("new")?.status).toBe("alive");
  expect(bench.machine.counts().conflicts).toBe(0);
});

test("a newcomer that answers at the address is listed at once, and the older member is suspect", () => {
  const { bench, probed } = silent();
  bench.hear([said("old", "alive", { address: "x:1" }), said("new", "alive", { address: "x:1" })]);
  const check = probed.find(({ request }) => request.kind === "probe" && request.targetNodeId === "new");
  bench.answer(check, { kind: "probe", from: nodeRef("new"), updates: [] }, 10);
  expect(bench.held("new")).toMatchObject({ status: "alive", address: "x:1" });
  expect(bench.held("old")?.status).toBe("suspect");
});

/** Probes of `a` so far are answered by its first life. */
function answerFirst(bench: MemberBench, probed: Call[], boot?: string): void {
  const from = { ...nodeRef("a"), ...(boot !== undefined && { boot }) };
  for (const call of probed.splice(0)) if (call.to === "a:1") bench.answer(call, { kind: "probe", from, updates: [] });
}

test("a newer life of a listed member elsewhere waits, and goes with its own death", () => {
  const { bench, probed } = silent();
  bench.hear([said("a", "alive")]);
  const twin = said("a", "alive", { generation: 2, address: "twin:1" });
  bench.hear([twin]);
  expect(taken(bench)).toEqual([]);
  expect(probed.map(({ to }) => to)).toContain("a:1");
  answerFirst(bench, probed);
  for (const call of bench.calls({ kind: "linkBroken", nodeId: "a" })) probed.push(call);
  answerFirst(bench, probed);
  const events = bench.outputs.flatMap((output) => (output.kind === "event" ? [output.event] : []));
  expect(events).toMatchObject([{ name: "two_nodes_with_one_id", detail: { address: "twin:1", otherAddress: "a:1" } }]);
  expect(bench.held("a")?.generation).toBe(1);
  bench.hear([{ ...twin, status: "dead" }]);
  expect(bench.machine.counts().conflicts).toBe(0);
  bench.hear([twin, said("a", "dead")]);
  expect(bench.held("a")).toMatchObject({ generation: 2, status: "alive" });
});

test("a start that waited for its last one to be gone, and said so itself, is remembered over a restart once it is taken", () => {
  const { bench } = silent();
  bench.hear([said("a", "alive", { boot: "first" })], { from: "a" });
  bench.hear([said("a", "alive", { boot: "second", bootBefore: "first", address: "there:1", incarnation: 6 })], { from: "a" });
  expect(bench.machine.acceptedStarts()).toMatchObject([{ boot: "first" }]);
  bench.hear([said("a", "dead", { boot: "first" })]);
  expect(bench.held("a")).toMatchObject({ status: "alive", address: "there:1" });
  expect(bench.machine.acceptedStarts()).toMatchObject([{ boot: "second", address: "there:1" }]);
});

test("a start that waited, and that only others told of, is taken and not remembered over a restart", () => {
  const { bench } = silent();
  bench.hear([said("a", "alive", { boot: "first" })], { from: "a" });
  bench.hear([said("a", "alive", { boot: "second", bootBefore: "first", address: "there:1", incarnation: 6 })], { from: "b" });
  bench.hear([said("a", "dead", { boot: "first" })]);
  expect(bench.held("a")).toMatchObject({ status: "alive", address: "there:1" });
  expect(bench.machine.acceptedStarts()).toEqual([]);
});

test("a newer life elsewhere is told of as a second node when the older one asks or answers, and not when that one is silent", () => {
  const twin = said("a", "alive", { generation: 2, address: "twin:1", boot: "b" });
  const older = { ...nodeRef("a"), boot: "a" };
  const told = (then: (bench: MemberBench, probed: Call[]) => void) => {
    const { bench, probed } = silent();
    bench.hear([said("a", "alive", { boot: "a" }), twin]);
    then(bench, probed);
    return [taken(bench), bench.held("a")?.generation];
  };
  const ask = (bench: MemberBench, from: typeof older) => bench.ask({ kind: "probe", from, targetNodeId: "self", updates: [] });
  expect(told((bench) => ask(bench, older))).toEqual([["two_nodes_with_one_id"], 1]);
  expect(told((bench) => ask(bench, { ...older, generation: 2, boot: "b" }))).toEqual([[], 1]);
  expect(told((bench, probed) => answerFirst(bench, probed, "a"))).toEqual([["two_nodes_with_one_id"], 1]);
  const silence = told((bench, probed) => {
    for (const call of probed.splice(0)) bench.answer(call, undefined);
    while (bench.held("a")?.generation === 1 && bench.nowMs < 3000) bench.step();
  });
  expect(silence).toEqual([[], 2]);
});

/** Tells it everybody at once, in a table. */
function know(bench: MemberBench, updates: readonly MemberUpdate[]): void {
  bench.ask({ kind: "pushPull", from: nodeRef("teller"), isJoin: false, members: updates });
}

test.each([4, 12, 100])("of %i nodes as many as are wanted check a suspicion they hear of, and not the same ones each time", (count) => {
  const ids = Array.from({ length: count }, (_, i) => `n${i}`);
  const lookersAt = (incarnation: number) =>
    ids.filter((selfId) => {
      if (selfId === "n0" || selfId === "n1") return false;
      const { bench, probed } = silent({ facts: factsOf(selfId) });
      know(
        bench,
        ids.filter((id) => id !== selfId).map((id) => said(id, "alive", { incarnation: 1 })),
      );
      expect(probed).toEqual([]);
      bench.hear([said("n0", "suspect", { incarnation, accuser: "n1" })]);
      return probed.some(({ to }) => to === "n0:1");
    });
  const found = [2, 3, 4, 5].map((incarnation) => lookersAt(incarnation));
  for (const lookers of found) expect(lookers).toHaveLength(Math.min(MEMBERSHIP_OPTIONS.verifyCount, count - 2));
  expect(new Set(found.flat()).size).toBeGreaterThan(Math.min(MEMBERSHIP_OPTIONS.verifyCount, count - 3));
});

test("who is suspect itself is not counted among those that check", () => {
  const { bench, probed } = silent({ options: { verifyCount: 1 } });
  const others = Array.from({ length: 30 }, (_, i) => `n${i}`);
  know(
    bench,
    ["gone", ...others].map((id) => said(id, "alive", { incarnation: 1 })),
  );
  bench.hear([said("gone", "suspect", { incarnation: 2 })]);
  expect(probed).toEqual([]);
  know(bench, [said("gone", "alive", { incarnation: 3 }), ...others.map((id) => said(id, "suspect", { incarnation: 1 }))]);
  probed.length = 0;
  bench.hear([said("gone", "suspect", { incarnation: 4 })]);
  expect(probed.map(({ to }) => to)).toEqual(["gone:1"]);
});

test("of nodes of another cluster or region there are no members; a place is told once, and our own cluster elsewhere by its own name", () => {
  const { clusterId, region } = factsOf("self");
  const peerAuth = { mode: "strict", clusters: [], hasCertificates: true } as const;
  const foreignPeers = new ForeignPeers({ clusterId, region }, peerAuth, () => false);
  const { bench } = silent({ parts: { foreignPeers } });
  bench.hear([
    said("a", "alive", { clusterId: "c9" }),
    said("b", "alive", { clusterId: "c9" }),
    said("c", "alive", { region: "r9" }),
    said("d", "dead", { region: "r8" }),
    said("e", "alive"),
  ]);
  expect(taken(bench)).toEqual(["foreign_node_refused", "cluster_in_two_regions"]);
  expect(bench.machine.members().map(({ nodeId }) => nodeId)).toEqual(["self", "e"]);
  expect([bench.machine.stats().refused.foreign, foreignPeers.has("b"), foreignPeers.has("e")]).toEqual([4, true, false]);
});
