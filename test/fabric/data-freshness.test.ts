/** How old what is held may be: whose silence counts. */
import { expect, test } from "vitest";
import { DataFreshness, MemberRoster } from "../../src/fabric/data-freshness.ts";
import type { MemberStatus, MemberUpdate } from "../../src/fabric/wire/messages.ts";
import { greetingOf } from "../fakes/fabric-world.ts";

const QUIET_MS = 4000;
const at = (monoMs: number) => ({ monoMs, wallMs: 0 });

/** The node "me" of cluster c1. */
class Bench {
  readonly members = new Map<string, MemberUpdate>();
  readonly held = new Set<string>();
  /** Of origins, by id. */
  readonly proven = new Map<string, number>();
  readonly heartbeats = { version: 0, provenMonoMs: (id: string) => this.proven.get(id) };
  readonly roster = new MemberRoster({ nodeId: "me", clusterId: "c1", maxMembers: 100, originForgetMs: 3_600_000 });
  readonly freshness = new DataFreshness({
    nodeId: "me",
    clusterId: "c1",
    membership: { members: () => [...this.members.values()], find: (id) => this.members.get(id) },
    heartbeats: this.heartbeats,
    holdsOf: (id) => this.held.has(id),
    roster: this.roster,
  });

  /** Membership says so. */
  hear(status: MemberStatus, monoMs: number, ...nodeIds: readonly string[]): void {
    for (const nodeId of nodeIds) {
      const { clusterToken: _t, ...hello } = greetingOf(nodeId);
      const rest = { transports: ["h2"], roles: [], labels: {}, healthScore: 0, incarnation: 1, accuser: "" } as const;
      const update = { ...hello, clusterId: nodeId.startsWith("x") ? "c2" : "c1", ...rest, status };
      this.members.set(nodeId, update);
      this.roster.memberChanged(update);
      this.freshness.memberChanged(update, at(monoMs));
    }
    this.roster.tick(at(monoMs));
  }

  /** As `hear`; links are wanted to all that are listed. */
  say(status: MemberStatus, monoMs: number, ...nodeIds: readonly string[]): void {
    this.hear(status, monoMs, ...nodeIds);
    const listed = [...this.members.values()].filter((member) => member.status === "alive" || member.status === "suspect");
    this.freshness.want(
      listed.map(({ nodeId }) => nodeId),
      monoMs,
      at(monoMs),
    );
  }

  beat(id: string, monoMs: number): void {
    this.proven.set(id, monoMs);
    this.heartbeats.version += 1;
  }

  age(monoMs: number): number {
    return this.freshness.read(at(monoMs), QUIET_MS).ageMs;
  }
}

test("without peers there is no age; with them it is the silence of the slowest", () => {
  const { freshness, ...bench } = new Bench();
  expect(freshness.read(at(9000), QUIET_MS)).toEqual({ ageMs: 0, nodeIds: [], otherNodeIds: [] });
  bench.members.clear();
  freshness.want(["a", "b"], 0, at(0));
  freshness.inStep("a", 9000);
  freshness.inStep("b", 5000);
  expect(freshness.read(at(9000), QUIET_MS)).toEqual({ ageMs: 4000, nodeIds: [], otherNodeIds: [] });
  expect(freshness.read(at(9001), QUIET_MS)).toEqual({ ageMs: 4001, nodeIds: ["b"], otherNodeIds: [] });
  // One that nobody asked for never had a say.
  freshness.inStep("stranger", 9001);
  expect(freshness.read(at(9002), QUIET_MS).ageMs).toBe(4002);
});

test("what a peer said before is not made older by what it said even earlier", () => {
  const bench = new Bench();
  bench.say("alive", 0, "a");
  bench.freshness.inStep("a", 29_900);
  bench.freshness.inStep("a", 29_000);
  expect(bench.age(30_100)).toBe(200);
});

test("one that was called dead counts from the moment it is listed again, before a link to it is wanted", () => {
  const bench = new Bench();
  bench.say("alive", 0, "a", "b");
  for (const id of ["a", "b"]) bench.freshness.inStep(id, 1000);
  bench.say("dead", 20_000, "a");
  bench.freshness.inStep("b", 30_000);
  expect(bench.age(30_000)).toBe(0);
  const back = { ...bench.members.get("a")!, status: "alive", incarnation: 2 } as const;
  bench.members.set("a", back);
  bench.freshness.memberChanged(back, at(30_000));
  expect(bench.age(30_000)).toBe(29_000);
  // No link is wanted to it, as where each node has only some: its heartbeats count as soon as one has come.
  bench.freshness.want(["b"], 30_100, at(30_100));
  expect(bench.age(30_100)).toBe(29_100);
  bench.beat("a/1", 30_000);
  expect(bench.age(31_000)).toBe(1000);
  bench.freshness.want(["b"], 31_000, at(31_000));
  expect(bench.age(31_000)).toBe(1000);
});

test("one that is no peer counts from when it was heard of, not from when a link to it is wanted; of several the first", () => {
  const bench = new Bench();
  bench.say("alive", 0, "a");
  bench.hear("alive", 10_000, "b");
  bench.hear("alive", 10_500, "c");
  bench.freshness.inStep("a", 10_900);
  bench.freshness.want(["a", "b", "c"], 10_900, at(10_900));
  expect(bench.age(11_000)).toBe(1000);
  // The next that is heard of counts from its own time.
  for (const id of ["b", "c"]) bench.freshness.inStep(id, 11_900);
  bench.freshness.want(["a", "b", "c", "d"], 12_000, at(12_000));
  for (const id of ["a", "b", "c"]) bench.freshness.inStep(id, 12_000);
  expect(bench.age(12_500)).toBe(500);
});

test("one that is listed again, and neither lets us in nor is vouched for, makes nothing old for longer than 30 s", () => {
  const bench = new Bench();
  bench.say("alive", 0, "a", "b");
  bench.say("dead", 20_000, "a");
  const back = { ...bench.members.get("a")!, status: "alive", incarnation: 2 } as const;
  bench.members.set("a", back);
  bench.freshness.memberChanged(back, at(30_000));
  bench.freshness.want(["b"], 30_100, at(30_100));
  for (const monoMs of [30_100, 45_000, 59_999, 60_000, 100_000]) {
    bench.freshness.inStep("b", monoMs - 1);
    expect([monoMs, bench.age(monoMs)]).toEqual([monoMs, monoMs < 60_000 ? monoMs : 1]);
  }
});

test.each<{ what: string; others: readonly string[]; dead: readonly string[]; counts: boolean }>([
  { what: "one of two others", others: ["a", "b"], dead: ["a"], counts: false },
  { what: "the only other node", others: ["a"], dead: ["a"], counts: true },
  { what: "both others", others: ["a", "b"], dead: ["a", "b"], counts: true },
  { what: "half of four", others: ["a", "b", "c"], dead: ["a", "b"], counts: false },
  { what: "three of five", others: ["a", "b", "c", "d"], dead: ["a", "b", "c"], counts: true },
  { what: "the only node of another cluster", others: ["a", "x1"], dead: ["x1"], counts: false },
  { what: "half of another cluster", others: ["a", "x1", "x2"], dead: ["x1"], counts: false },
])("a peer that died without goodbye counts on while more than half of its cluster is missing: $what", ({ others, dead, counts }) => {
  const bench = new Bench();
  bench.say("alive", 0, ...others);
  bench.say("dead", 20_000, ...dead);
  for (const id of others) if (!dead.includes(id)) bench.freshness.inStep(id, 99_000);
  expect(bench.age(100_000)).toBe(counts ? 100_000 : others.length > dead.length ? 1000 : 0);
});

test("of a peer that was never met counts what others passed on of it; of one that was, what it said itself", () => {
  const bench = new Bench();
  bench.say("alive", -60_000, "a");
  expect(bench.age(1000)).toBe(61_000);
  bench.beat("a/1", -2000);
  expect(bench.age(1000)).toBe(3000);
  // It may hold what others wrote and we lack: then it does not say that we are in step.
  bench.freshness.met("a");
  expect(bench.age(1000)).toBe(61_000);
  bench.freshness.inStep("a", 500);
  bench.beat("a/1", 900);
  expect(bench.age(1000)).toBe(500);
});

test("one that was linked before it was wanted is met when it is in step", () => {
  const bench = new Bench();
  bench.freshness.met("a");
  bench.say("alive", 0, "a");
  bench.freshness.inStep("a", 500);
  bench.beat("a/1", 900);
  expect(bench.age(1000)).toBe(500);
});

test("it counts until it is back, or has left, or nothing of it is held and nobody remembers it", () => {
  const bench = new Bench();
  bench.say("alive", 0, "a");
  bench.say("dead", 20_000, "a");
  expect(bench.age(50_000)).toBe(50_000);
  bench.members.delete("a");
  bench.held.add("a");
  bench.freshness.changed();
  expect(bench.age(90_000_000)).toBe(90_000_000);
  bench.held.delete("a");
  bench.freshness.changed();
  expect(bench.age(90_000_001)).toBe(0);
});

test("a peer that is back is as old as its silence until it is in step; one that left is none", () => {
  const bench = new Bench();
  bench.say("alive", 0, "a");
  bench.say("dead", 20_000, "a");
  bench.say("alive", 30_000, "a");
  expect(bench.age(31_000)).toBe(31_000);
  bench.freshness.inStep("a", 31_000);
  expect(bench.age(31_500)).toBe(500);
  bench.say("left", 32_000, "a");
  expect(bench.age(60_000)).toBe(0);
});

test("who said goodbye to restart is no age while away, and is again when it is heard of", () => {
  const bench = new Bench();
  bench.say("alive", 0, "a");
  bench.freshness.inStep("a", 1000);
  bench.freshness.goodbye("a", at(1000));
  expect(bench.age(5000)).toBe(0);
  bench.say("dead", 20_000, "a");
  expect(bench.age(30_000)).toBe(0);
  bench.say("alive", 40_000, "a");
  expect(bench.age(41_000)).toBe(40_000);
});

test.each<{ status: MemberStatus; what: string; word: Partial<MemberUpdate>; counts: boolean }>([
  { status: "suspect", what: "the life that said goodbye", word: {}, counts: false },
  { status: "suspect", what: "the next one", word: { incarnation: 2 }, counts: true },
  { status: "suspect", what: "another generation", word: { generation: 2, incarnation: 0 }, counts: true },
  { status: "dead", what: "the life that said goodbye", word: {}, counts: false },
  { status: "dead", what: "the next one", word: { incarnation: 2 }, counts: true },
])("who said goodbye and is called $status counts where that is said of a later life: $what", ({ status, word, counts }) => {
  const bench = new Bench();
  bench.say("alive", 0, "a");
  bench.freshness.inStep("a", 1000);
  bench.freshness.goodbye("a", at(1000));
  const told = { ...bench.members.get("a")!, ...word, status };
  bench.members.set("a", told);
  bench.freshness.memberChanged(told, at(20_000));
  bench.freshness.want(status === "dead" ? [] : ["a"], 20_000, at(20_000));
  expect(bench.age(21_000)).toBe(counts ? 20_000 : 0);
});

test("a member that no link is wanted to is as old as its last heartbeat; without one it is no age", () => {
  const bench = new Bench();
  bench.say("alive", 0, "a", "far");
  bench.freshness.want(["a"], 0, at(0));
  bench.freshness.inStep("a", 20_000);
  expect(bench.age(20_500)).toBe(500);
  bench.beat("far/1", 14_000);
  expect(bench.age(20_500)).toBe(6500);
  expect(bench.freshness.read(at(20_500), QUIET_MS).nodeIds).toEqual([]);
  bench.freshness.inStep("a", 30_000);
  expect(bench.freshness.read(at(30_000), QUIET_MS)).toEqual({ ageMs: 16_000, nodeIds: ["far"], otherNodeIds: [] });
});

test("a member whose heartbeats came by way of others and that a link is wanted to now is no fresher for that", () => {
  const bench = new Bench();
  bench.say("alive", 0, "a", "far");
  bench.freshness.want(["a"], 0, at(0));
  bench.beat("far/1", 1000);
  bench.freshness.want(["a", "far"], 20_000, at(20_000));
  bench.freshness.inStep("a", 20_000);
  expect(bench.age(20_000)).toBe(19_000);
  bench.freshness.inStep("far", 20_500);
  expect(bench.age(20_500)).toBe(500);
});

test.each<{ dead: readonly string[]; ageMs: number }>([
  { dead: ["far"], ageMs: 500 },
  { dead: ["far", "b", "c"], ageMs: 19_500 },
])("the dead among them count while more than half of their cluster is missing: $dead", ({ dead, ageMs }) => {
  const bench = new Bench();
  bench.say("alive", 0, "a", "b", "c", "far");
  bench.freshness.want(["a"], 0, at(0));
  bench.freshness.inStep("a", 20_000);
  bench.beat("far/1", 1000);
  expect(bench.age(20_500)).toBe(19_500);
  bench.say("dead", 20_000, ...dead);
  bench.freshness.want(["a"], 20_000, at(20_000));
  bench.freshness.inStep("a", 20_000);
  expect(bench.age(20_500)).toBe(ageMs);
  bench.say("left", 20_000, "far");
  bench.freshness.want(["a"], 20_000, at(20_000));
  expect(bench.age(20_500)).toBe(500);
});

test("who said goodbye and is in step again, without a new word of membership, is as old as its silence from then on", () => {
  const bench = new Bench();
  bench.say("alive", 0, "a");
  bench.freshness.goodbye("a", at(1000));
  bench.freshness.inStep("a", 2000);
  expect(bench.age(5000)).toBe(3000);
});

test.each(["said goodbye", "left"] as const)("those that %s are not missing: one that died beside them is no age", (how) => {
  const bench = new Bench();
  bench.say("alive", 0, "a", "b", "c", "d", "e", "f");
  for (const id of ["a", "b", "c"]) if (how === "said goodbye") bench.freshness.goodbye(id, at(9000));
  bench.say(how === "left" ? "left" : "dead", 10_000, "a", "b", "c");
  bench.say("dead", 20_000, "f");
  for (const id of ["d", "e"]) bench.freshness.inStep(id, 67_000);
  expect(bench.age(68_000)).toBe(1000);
});

test.each<{ what: string; others: readonly string[]; gone: readonly string[]; counts: boolean }>([
  { what: "the only other node", others: ["a"], gone: ["a"], counts: true },
  { what: "more than half", others: ["a", "b", "c"], gone: ["a", "b", "c"], counts: true },
  { what: "one of three", others: ["a", "b"], gone: ["a"], counts: false },
])("who said goodbye and is not heard of for a minute may be back where we cannot hear it: $what", ({ others, gone, counts }) => {
  const bench = new Bench();
  bench.say("alive", 0, ...others);
  for (const id of others) bench.freshness.inStep(id, 5000);
  for (const id of gone) bench.freshness.goodbye(id, at(5100));
  bench.say("dead", 10_000, ...gone);
  const age = (monoMs: number) => {
    for (const id of others) if (!gone.includes(id)) bench.freshness.inStep(id, monoMs);
    return bench.age(monoMs);
  };
  expect([age(10_000), age(65_099), age(65_100), age(100_000)]).toEqual(counts ? [0, 0, 60_100, 95_000] : [0, 0, 0, 0]);
});

test("a node of another cluster that is never in step is named, and makes nothing of ours old", () => {
  const bench = new Bench();
  bench.say("alive", 0, "a", "x1");
  bench.freshness.inStep("a", 9000);
  expect(bench.freshness.read(at(9500), QUIET_MS)).toEqual({ ageMs: 500, nodeIds: [], otherNodeIds: ["x1"] });
  bench.say("alive", 9500, "a");
  bench.beat("x1/1", 100);
  expect(bench.freshness.read(at(60_000), 100_000)).toMatchObject({ ageMs: 51_000, otherNodeIds: [] });
});

test("a goodbye that comes when its node is taken for dead already changes at once how many are missing", () => {
  const bench = new Bench();
  bench.say("alive", 0, "a", "b", "c", "d", "e", "f");
  bench.say("dead", 1000, "a", "b", "c", "d");
  for (const id of ["e", "f"]) bench.freshness.inStep(id, 6000);
  expect(bench.age(6000)).toBe(6000);
  bench.freshness.goodbye("a", at(6000));
  expect(bench.age(6000)).toBe(0);
});

test("of another cluster one of two that died is not missing: only of ours the last other node counts", () => {
  const bench = new Bench();
  bench.say("alive", 0, "x1", "x2", "a");
  bench.say("dead", 1000, "x2");
  for (const id of ["x1", "a"]) bench.freshness.inStep(id, 9000);
  expect(bench.freshness.read(at(9000), QUIET_MS)).toEqual({ ageMs: 0, nodeIds: [], otherNodeIds: [] });
});

test("one that died counts as the peer that it was, once, and not by an older heartbeat", () => {
  const bench = new Bench();
  bench.say("alive", 0, "a");
  bench.freshness.inStep("a", 10_000);
  bench.beat("a/1", 5000);
  bench.say("dead", 20_000, "a");
  expect(bench.freshness.read(at(30_000), QUIET_MS)).toEqual({ ageMs: 20_000, nodeIds: ["a"], otherNodeIds: [] });
});

test("of several that said goodbye each is missing as soon as its own minute is over", () => {
  const bench = new Bench();
  bench.say("alive", 0, "a", "b");
  for (const [id, monoMs] of [
    ["a", 10_000],
    ["b", 50_000],
  ] as const) {
    bench.freshness.inStep(id, monoMs);
    bench.freshness.goodbye(id, at(monoMs));
    bench.hear("dead", monoMs, id);
  }
  bench.freshness.want([], 50_000, at(50_000));
  expect([bench.age(60_000), bench.age(71_000)]).toEqual([0, 61_000]);
});

test("one that was back, had its link again and is wanted no more is no age, however soon that was", () => {
  const bench = new Bench();
  bench.say("alive", 0, "a", "b");
  bench.say("dead", 20_000, "a");
  bench.hear("alive", 30_000, "a");
  bench.freshness.want(["a", "b"], 30_100, at(30_100));
  bench.freshness.inStep("a", 30_500);
  bench.freshness.want(["b"], 31_000, at(31_000));
  bench.freshness.inStep("b", 40_000);
  expect(bench.age(40_000)).toBe(0);
});

test("a member that was declared dead is unreachable, whatever the age, until it returns, leaves or is forgotten", () => {
  const bench = new Bench();
  const unreachable = (monoMs: number) => bench.freshness.unreachable(at(monoMs));
  bench.say("alive", 0, "a", "b", "c", "d");
  expect(unreachable(1000)).toBeUndefined();
  bench.say("suspect", 2000, "d");
  expect(unreachable(2000)).toBeUndefined();
  bench.say("dead", 7000, "d", "c", "x1");
  for (const id of ["a", "b"]) bench.freshness.inStep(id, 9000);
  expect([bench.age(9000), unreachable(9000)]).toEqual([0, { nodeIds: ["c", "d"], count: 2 }]);
  bench.say("alive", 10_000, "d");
  expect(unreachable(10_000)).toEqual({ nodeIds: ["c"], count: 1 });
  bench.say("left", 11_000, "c");
  expect(unreachable(11_000)).toBeUndefined();
  bench.say("dead", 20_000, "b");
  expect(unreachable(3_619_999)).toEqual({ nodeIds: ["b"], count: 1 });
  bench.roster.tick(at(3_620_000));
  expect(unreachable(3_620_000)).toBeUndefined();
});

test("16 ids of unreachable nodes are listed, and all nodes are counted", () => {
  const bench = new Bench();
  const ids = Array.from({ length: 20 }, (_, i) => `n${i + 10}`);
  bench.say("alive", 0, ...ids);
  bench.say("dead", 7000, ...ids.toReversed());
  expect(bench.freshness.unreachable(at(7000))).toEqual({ nodeIds: ids.slice(0, 16), count: 20 });
});

test("a member that announced a restart is unreachable after a minute, or immediately if it had restarted in between", () => {
  const bench = new Bench();
  const unreachable = (monoMs: number) => bench.freshness.unreachable(at(monoMs))?.nodeIds;
  bench.say("alive", 0, "a", "b");
  bench.freshness.goodbye("a", at(1000));
  bench.say("dead", 8000, "a");
  expect([unreachable(8000), unreachable(60_999), unreachable(61_000)]).toEqual([undefined, undefined, ["a"]]);
  bench.say("alive", 70_000, "a");
  expect(unreachable(70_000)).toBeUndefined();
  // A member without a link to this node announced by gossip that it stopped and kept its entries.
  const kept = { ...bench.members.get("b")!, status: "dead", keepsEntries: true } as const;
  bench.members.set("b", kept);
  bench.roster.memberChanged(kept);
  bench.freshness.memberChanged(kept, at(80_000));
  bench.roster.tick(at(80_000));
  expect([unreachable(80_000), unreachable(139_999), unreachable(140_000)]).toEqual([undefined, undefined, ["b"]]);
  // A later incarnation of it died without announcing it.
  bench.say("alive", 150_000, "a");
  bench.freshness.goodbye("a", at(160_000));
  const later = { ...bench.members.get("a")!, status: "dead", generation: 9 } as const;
  bench.members.set("a", later);
  bench.roster.memberChanged(later);
  bench.freshness.memberChanged(later, at(161_000));
  expect(unreachable(161_000)).toEqual(["a", "b"]);
});
