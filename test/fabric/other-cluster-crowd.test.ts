/** A node of another cluster names thousands of nodes: our own cluster goes on as before (semantics.md, Membership: Accepted reports). */
import { expect, test } from "vitest";
import type { FabricCallRequest, MemberUpdate } from "../../src/fabric/wire/messages.ts";
import { MEMBERSHIP_OPTIONS } from "../fakes/options.ts";
import { factsOf, World, type WorldNode } from "./membership-world.ts";

const { maxMembers } = MEMBERSHIP_OPTIONS;
const THEIRS = { clusterId: "other", region: "r1" };
const PROOF = { address: "127.0.0.1:1", isLoopback: true, certificate: undefined, clusterToken: "" };

/** Five nodes of ours, each told that the other cluster has as many nodes as fit in a table. */
function crowded(seed: string, status: MemberUpdate["status"] = "alive") {
  const world = new World({ seed });
  const nodes = world.startMany(5, (i) => (i === 0 ? [] : ["n0"]));
  world.runFor(5000);
  const crowd = (clusterId: string): MemberUpdate[] =>
    Array.from({ length: maxMembers }, (_, i) => ({
      ...factsOf(`${clusterId}-${i}`, { ...THEIRS, clusterId }),
      status,
      incarnation: 1,
      accuser: "",
    }));
  const tell = (node: WorldNode, clusterId: string) => {
    const request: FabricCallRequest = {
      kind: "pushPull",
      from: { nodeId: "evil", generation: 1, ...THEIRS },
      isJoin: false,
      members: crowd(clusterId),
    };
    world.give(node, { kind: "asked", call: 2, request, identity: PROOF });
  };
  for (const node of nodes) tell(node, "other");
  return { world, nodes, tell };
}

const held = ({ machine }: WorldNode, clusterId: string) => machine.members().filter((member) => member.clusterId === clusterId).length;

test("one other cluster has a quarter of the table, all of them half, and a newcomer of ours is a member", () => {
  const { world, nodes, tell } = crowded("room");
  expect(nodes.map((node) => held(node, "other"))).toEqual(nodes.map(() => maxMembers / 4));
  for (const clusterId of ["other-2", "other-3", "other-4"]) tell(nodes[0]!, clusterId);
  expect(nodes[0]!.machine.members().length - held(nodes[0]!, "c1")).toBe(maxMembers / 2);
  const newcomer = world.start("late");
  world.give(newcomer, { kind: "join", addresses: ["n0:1"] });
  world.runFor(10_000);
  for (const { machine } of nodes) expect(machine.find("late")?.status).toBe("alive");
});

test("a death among ours is known to all of ours in 15 s, though most of the probed are made up", { tags: ["night"] }, () => {
  const { world, nodes } = crowded("death");
  const [gone, ...others] = nodes;
  world.runFor(5000);
  world.crash(gone!);
  world.runFor(15_000);
  expect(others.map(({ machine }) => machine.find("n0")?.status)).toEqual(others.map(() => "dead"));
});

test("halves of ours that called each other dead find together again, though most of the dead are made up", () => {
  const { world, nodes } = crowded("halves", "dead");
  // A seed would be asked anyway.
  for (const node of nodes) world.give(node, { kind: "join", addresses: [] });
  for (const node of nodes.slice(3)) node.side = 1;
  world.isPartitioned = true;
  world.runFor(60_000);
  expect(nodes[0]!.machine.find("n4")?.status).toBe("dead");
  world.isPartitioned = false;
  world.runFor(60_000);
  for (const { machine } of nodes) expect(machine.listed().filter(({ clusterId }) => clusterId === "c1")).toHaveLength(4);
});

test("who stood still is confirmed by its own cluster, and asks nobody else", () => {
  const { world, nodes } = crowded("standstill");
  const [first, ...others] = nodes;
  world.freeze(first!, 2000);
  world.runFor(2001);
  expect(first!.machine.isUnconfirmed({ monoMs: world.nowMs, wallMs: 0 })).toBe(true);
  world.runFor(1000);
  expect(first!.machine.isUnconfirmed({ monoMs: world.nowMs, wallMs: 0 })).toBe(false);
  // Alone in its cluster, it has nobody to ask.
  for (const node of others) world.crash(node);
  expect(world.runFor(180_000, () => first!.machine.listed().every(({ clusterId }) => clusterId !== "c1"))).toBe(true);
  world.freeze(first!, 2000);
  world.runFor(2001);
  expect(first!.machine.isUnconfirmed({ monoMs: world.nowMs, wallMs: 0 })).toBe(false);
});

test("one other cluster has a quarter of the places of those who wait, all of them half, and one of ours that moved waits among them", () => {
  const { maxConflicts } = MEMBERSHIP_OPTIONS;
  const world = new World({ seed: "waiting" });
  const [first, , moving] = world.startMany(3, (i) => (i === 0 ? [] : ["n0"]));
  world.runFor(5000);
  const tell = (from: string, clusterId: string, members: readonly MemberUpdate[]) => {
    const request: FabricCallRequest = {
      kind: "pushPull",
      from: { nodeId: from, generation: 1, clusterId, region: "r1" },
      isJoin: false,
      members,
    };
    world.give(first!, { kind: "asked", call: 2, request, identity: PROOF });
  };
  const atNode1 = (clusterId: string): MemberUpdate[] =>
    Array.from({ length: maxConflicts }, (_, i) => ({
      ...factsOf(`${clusterId}-${i}`, { ...THEIRS, clusterId }),
      address: "n1:1",
      status: "alive",
      incarnation: 1,
      accuser: "",
    }));
  const waiting = () => first!.machine.counts().conflicts;
  tell("evil", "other", atNode1("other"));
  expect(waiting()).toBe(maxConflicts / 4);
  for (const clusterId of ["other-2", "other-3", "other-4"]) tell(`evil-${clusterId}`, clusterId, atNode1(clusterId));
  expect(waiting()).toBe(maxConflicts / 2);
  const before = first!.machine.find("n2");
  world.crash(moving!);
  tell("n1", "c1", [
    { ...factsOf("n2"), address: "n2:2", generation: before!.generation + 1, status: "alive", incarnation: 1, accuser: "" },
  ]);
  expect(waiting()).toBe(maxConflicts / 2 + 1);
  world.runFor(20_000);
  expect(first!.machine.find("n2")).toMatchObject({ address: "n2:2", generation: before!.generation + 1 });
});
