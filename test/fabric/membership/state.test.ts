import fc from "fast-check";
import { expect, test } from "vitest";
import { Foreigners } from "../../../src/fabric/links/foreigners.ts";
import type { Teller } from "../../../src/fabric/membership/authority.ts";
import type { MembershipOutput } from "../../../src/fabric/membership/io-types.ts";
import type { MembershipOptions } from "../../../src/fabric/membership/options.ts";
import { MembershipState } from "../../../src/fabric/membership/state.ts";
import type { MemberStatus, MemberUpdate } from "../../../src/fabric/wire/messages.ts";
import type { Time } from "../../../src/lib/machine.ts";
import { Rng } from "../../../src/lib/rng.ts";
import { MEMBERSHIP_OPTIONS } from "../../fakes/options.ts";
import { factsOf } from "../membership-world.ts";

const TELLER: Teller = { nodeId: "teller", path: "gossip" };
const TABLE: Teller = { nodeId: "teller", path: "table" };

function at(monoMs: number): Time {
  return { monoMs, wallMs: 1_000_000 + monoMs };
}

function said(nodeId: string, status: MemberStatus, over: Partial<MemberUpdate> = {}): MemberUpdate {
  return { ...factsOf(nodeId), status, incarnation: 5, accuser: status === "suspect" ? "accuser" : "", ...over };
}

function state(over: Partial<MembershipOptions> = {}): MembershipState {
  const made = new MembershipState(factsOf("self"), { ...MEMBERSHIP_OPTIONS, ...over });
  made.self.begin(5000);
  return made;
}

function learn(made: MembershipState, updates: readonly MemberUpdate[], teller = TELLER, time = at(0)): MembershipOutput[] {
  const out: MembershipOutput[] = [];
  for (const update of updates) made.learn(update, teller, time, out);
  return out;
}

function eventNames(out: readonly MembershipOutput[]): readonly string[] {
  return out.flatMap((output) => (output.kind === "event" ? [output.event.name] : []));
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
    const made = state();
    learn(made, all);
    return [...made.members.all()]
      .map(({ update }) => `${update.nodeId} ${update.status} ${update.generation}.${update.incarnation}`)
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
  const made = state({ verifyCount: 0 });
  learn(made, [said("a", "alive"), ...["x", "y", "z"].map((nodeId) => said(nodeId, "alive"))]);
  learn(made, [said("a", "suspect", { accuser: "x" })], TELLER, at(1000));
  expect(made.nextDeadlineMs()).toBeCloseTo(1000 + 24_000, 0);
  learn(made, [said("a", "suspect", { accuser: "y" }), said("a", "suspect", { accuser: "y" })], TELLER, at(2000));
  const member = made.members.find("a");
  if (member === undefined) throw new Error("no member");
  const out: MembershipOutput[] = [];
  made.accuse(member, "indirect", ["y", "z"], at(3000), out);
  expect(made.nextDeadlineMs()).toBe(5000);
  made.tick(at(4999), out);
  expect(member.update.status).toBe("suspect");
  made.tick(at(5000), out);
  expect(member.update.status).toBe("dead");
  expect(eventNames(out)).toEqual(["member_dead"]);
  expect(member.evidence).toEqual([
    { atWallMs: 1_001_000, status: "suspect", incarnation: 5, accuser: "x", path: "gossip", via: ["teller"] },
    { atWallMs: 1_002_000, status: "suspect", incarnation: 5, accuser: "y", path: "gossip", via: ["teller"] },
    { atWallMs: 1_003_000, status: "suspect", incarnation: 5, accuser: "self", path: "indirect", via: ["y", "z"] },
    { atWallMs: 1_005_000, status: "dead", incarnation: 5, accuser: "x", path: "timeout", via: ["x", "y", "self"] },
  ]);
});

test("whom a table calls dead gets the time to contradict; whom gossip calls dead is dead", () => {
  const made = state({ verifyCount: 0 });
  learn(made, [said("a", "alive"), said("b", "alive")]);
  learn(made, [said("a", "dead")], TABLE);
  learn(made, [said("b", "dead")]);
  expect(made.members.find("a")?.update).toMatchObject({ status: "suspect", accuser: "teller" });
  expect(made.members.find("b")?.update.status).toBe("dead");
  learn(made, [said("a", "alive", { incarnation: 6 })]);
  expect(made.members.find("a")?.update.status).toBe("alive");
});

test("somebody unknown who is gone is remembered, and not told on", () => {
  const made = state();
  learn(made, [said("a", "dead")], TABLE);
  expect(made.members.find("a")?.update.status).toBe("dead");
  expect(made.broadcasts.size).toBe(0);
  // So that an old word does not bring it back.
  learn(made, [said("a", "alive", { incarnation: 4 })]);
  expect(made.members.find("a")?.update.status).toBe("dead");
});

test("an old word about somebody long dead makes that known again", () => {
  const made = state();
  learn(made, [said("a", "alive"), said("a", "dead")]);
  made.broadcasts.drop("a");
  learn(made, [said("a", "alive")], TELLER, at(30_000));
  expect(made.broadcasts.has("a")).toBe(false);
  learn(made, [said("a", "alive")], TELLER, at(90_000));
  expect(made.broadcasts.has("a")).toBe(true);
});

test("the dead are forgotten after their time, not before, and it is told", () => {
  const made = state({ deadForgetMs: 600_000 });
  learn(made, [said("a", "alive"), said("a", "dead")]);
  for (let ms = 0; ms <= 540_000; ms += 60_000) made.tick(at(ms), []);
  expect(made.members.find("a")).toBeDefined();
  const out: MembershipOutput[] = [];
  made.tick(at(720_000), out);
  expect(made.members.find("a")).toBeUndefined();
  expect(out).toEqual([{ kind: "memberForgotten", nodeId: "a" }]);
  expect(made.nextDeadlineMs()).toBe(Number.POSITIVE_INFINITY);
});

test("more members than the bound are refused and counted, and so are bad updates", () => {
  const made = state({ maxMembers: 3 });
  learn(made, [said("a", "alive"), said("b", "alive"), said("c", "dead"), said("d", "alive"), said("e", "alive")]);
  expect(made.members.size).toBe(3);
  learn(made, [said("f", "alive", { incarnation: -1 }), said("", "alive"), said("g", "alive", { address: "self:1" })]);
  expect(made.refused).toMatchObject({ full: 3, number: 1, text: 1 });
  const roomy = state();
  learn(roomy, [said("g", "alive", { address: "self:1" })]);
  expect(roomy.refused.ownAddress).toBe(1);
  expect(roomy.members.size).toBe(0);
});

test("said to be dead or suspect, a node contradicts and trusts itself less; an echo of its own word changes nothing", () => {
  const made = state();
  learn(made, [said("self", "alive", { incarnation: 5 })]);
  expect(made.refutationCount).toBe(0);
  const out = learn(made, [said("self", "suspect", { incarnation: 5 })]);
  expect(made.self.update).toMatchObject({ status: "alive", incarnation: 6 });
  expect(made.health.score).toBe(1);
  expect(eventNames(out)).toEqual(["contradicted_own_death"]);
  learn(made, [said("self", "dead", { incarnation: 5 })]);
  expect(made.self.update.incarnation).toBe(6);
  learn(made, [said("self", "left", { incarnation: 40 })]);
  expect(made.self.update.incarnation).toBe(41);
  expect(made.broadcasts.has("self")).toBe(true);
});

test("a node that left does not come back because others say so", () => {
  const made = state();
  made.leave();
  learn(made, [said("self", "suspect", { incarnation: 50 })]);
  expect(made.self.update.status).toBe("left");
  made.changeFacts(factsOf("self", { zone: "z2" }));
  expect(made.self.update.zone).toBe("z1");
});

test("the own id in a later generation is a conflict, told once a minute, and not contradicted", () => {
  const made = state();
  const twin = said("self", "alive", { generation: 2, address: "twin:1" });
  expect(eventNames(learn(made, [twin, twin, twin]))).toEqual(["own_id_used_by_another"]);
  expect(made.refutationCount).toBe(0);
  expect(eventNames(learn(made, [twin], TELLER, at(61_000)))).toHaveLength(1);
  expect(eventNames(learn(made, [said("self", "alive", { generation: 0 })]))).toEqual([]);
});

test("a newcomer with the address of a listed member waits until that one is gone", () => {
  const made = state();
  learn(made, [said("old", "alive", { address: "x:1" })]);
  const out = learn(made, [said("new", "alive", { address: "x:1" })]);
  expect(eventNames(out)).toEqual(["address_of_another_member"]);
  expect(made.members.find("new")).toBeUndefined();
  expect(made.quarantinedCount).toBe(1);
  expect(made.checks(at(0)).map(({ update }) => update.nodeId)).toEqual(["new"]);
  learn(made, [said("old", "left", { address: "x:1" })]);
  expect(made.members.find("new")?.update.status).toBe("alive");
  expect(made.quarantinedCount).toBe(0);
});

test("a newcomer that answers at the address is listed at once, and the older member is suspect", () => {
  const made = state();
  learn(made, [said("old", "alive", { address: "x:1" }), said("new", "alive", { address: "x:1" })]);
  made.answeredAs("new", at(10), []);
  expect(made.members.find("new")?.update.status).toBe("alive");
  expect(made.members.find("old")?.update.status).toBe("suspect");
  expect(made.members.holderOf("x:1")?.update.nodeId).toBe("new");
});

test("a newer life of a listed member elsewhere waits, and goes with its own death", () => {
  const made = state();
  learn(made, [said("a", "alive")]);
  const twin = said("a", "alive", { generation: 2, address: "twin:1" });
  expect(eventNames(learn(made, [twin]))).toEqual([]);
  expect(made.doubted.map(({ update }) => update.nodeId)).toEqual(["a"]);
  const [older] = made.doubted;
  const out: MembershipOutput[] = [];
  for (const monoMs of [10, 20]) if (older !== undefined) made.stillThere(older, older.update, at(monoMs), out);
  expect(out).toMatchObject([{ event: { name: "two_nodes_with_one_id", detail: { address: "twin:1", otherAddress: "a:1" } } }]);
  expect(made.members.find("a")?.update.generation).toBe(1);
  learn(made, [{ ...twin, status: "dead" }]);
  expect(made.quarantinedCount).toBe(0);
  learn(made, [twin, said("a", "dead")]);
  expect(made.members.find("a")?.update).toMatchObject({ generation: 2, status: "alive" });
});

test("a newer life elsewhere is told of as a second node when the older one asks or answers, and not when that one is silent", () => {
  const twin = said("a", "alive", { generation: 2, address: "twin:1", boot: "b" });
  const older = { nodeId: "a", generation: 1, boot: "a" };
  const told = (then: (made: MembershipState, out: MembershipOutput[]) => void) => {
    const made = state();
    learn(made, [said("a", "alive", { boot: "a" }), twin]);
    const out: MembershipOutput[] = [];
    then(made, out);
    return [eventNames(out), made.members.find("a")?.update.generation];
  };
  const member = (made: MembershipState) => made.members.find("a") ?? expect.fail();
  expect(told((made, out) => made.asked(older, at(10), out))).toEqual([["two_nodes_with_one_id"], 1]);
  expect(told((made, out) => made.asked({ ...older, generation: 2, boot: "b" }, at(10), out))).toEqual([[], 1]);
  expect(told((made, out) => made.stillThere(member(made), older, at(10), out))).toEqual([["two_nodes_with_one_id"], 1]);
  expect(told((made, out) => made.accuse(member(made), "direct", [], at(10), out))).toEqual([[], 2]);
});

test.each([4, 12, 100])("of %i nodes as many as are wanted check a suspicion they hear of, and not the same ones each time", (count) => {
  const ids = Array.from({ length: count }, (_, i) => `n${i}`);
  const lookersAt = (incarnation: number) =>
    ids.filter((selfId) => {
      if (selfId === "n0" || selfId === "n1") return false;
      const made = new MembershipState(factsOf(selfId), MEMBERSHIP_OPTIONS);
      learn(
        made,
        ids.filter((id) => id !== selfId).map((id) => said(id, "alive", { incarnation: 1 })),
      );
      learn(made, [said("n0", "suspect", { incarnation, accuser: "n1" })]);
      return made.doubted.length > 0;
    });
  const found = [2, 3, 4, 5].map((incarnation) => lookersAt(incarnation));
  for (const lookers of found) expect(lookers).toHaveLength(Math.min(MEMBERSHIP_OPTIONS.verifyCount, count - 2));
  expect(new Set(found.flat()).size).toBeGreaterThan(Math.min(MEMBERSHIP_OPTIONS.verifyCount, count - 3));
});

test("who is suspect itself is not counted among those that check", () => {
  const made = new MembershipState(factsOf("self"), { ...MEMBERSHIP_OPTIONS, verifyCount: 1 });
  const others = Array.from({ length: 30 }, (_, i) => `n${i}`);
  learn(
    made,
    ["gone", ...others].map((id) => said(id, "alive", { incarnation: 1 })),
  );
  learn(made, [said("gone", "suspect", { incarnation: 2 })]);
  expect(made.doubted).toHaveLength(0);
  learn(made, [said("gone", "alive", { incarnation: 3 }), ...others.map((id) => said(id, "suspect", { incarnation: 1 }))]);
  made.doubted.length = 0;
  learn(made, [said("gone", "suspect", { incarnation: 4 })]);
  expect(made.doubted.map(({ update }) => update.nodeId)).toEqual(["gone"]);
});

test("of nodes of another cluster or region there are no members; a place is told once, and our own cluster elsewhere by its own name", () => {
  const { clusterId, region } = factsOf("self");
  const peerAuth = { mode: "strict", clusters: [], hasCertificates: true } as const;
  const foreigners = new Foreigners({ clusterId, region }, peerAuth, () => false);
  const made = new MembershipState(factsOf("self"), MEMBERSHIP_OPTIONS, { foreigners });
  const out = learn(made, [
    said("a", "alive", { clusterId: "c9" }),
    said("b", "alive", { clusterId: "c9" }),
    said("c", "alive", { region: "r9" }),
    said("d", "dead", { region: "r8" }),
    said("e", "alive"),
  ]);
  expect(eventNames(out)).toEqual(["foreign_node_refused", "cluster_in_two_regions"]);
  expect([...made.members.all()].map(({ update }) => update.nodeId)).toEqual(["e"]);
  expect([made.refused.foreign, foreigners.has("b"), foreigners.has("e")]).toEqual([4, true, false]);
});
