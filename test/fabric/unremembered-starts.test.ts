/**
 * Nodes that ended without a goodbye and were started again more often than the others remember: they are one node each, and nobody is told of
 * two (semantics.md, Two nodes with one id).
 */
import { expect, test } from "vitest";
import type { AcceptedInstance } from "../../src/fabric/membership/process-instances.ts";
import { greetingOf } from "../fakes/fabric-world.ts";
import { World, type WorldNode } from "./membership-world.ts";

const SEEDS = 10;
const SETTLE_MS = 15_000;
/** What would be told of a second node, or asks an operator to do something. */
const ALARMS = ["two_nodes_with_one_id", "own_update_refused", "own_id_used_by_another"];

/** One life of a node of each of `ids`. All know the first two as seeds; nobody remembers more than `remembered` says. */
function live(
  world: World,
  ids: readonly string[],
  life: number,
  remembered: ReadonlyMap<string, readonly AcceptedInstance[]>,
  place = "",
) {
  const nodes = ids.map((nodeId) => {
    const boots = Array.from({ length: life + 1 }, (_, i) => `${nodeId}-${i}`).toReversed();
    const [boot = "", ...earlierBoots] = boots;
    const [bootBefore] = earlierBoots;
    const facts = { nodeId, address: `${nodeId}${place}:1`, boot, ...(bootBefore !== undefined && { bootBefore }) };
    return world.start(`${nodeId}/${boot}`, facts, { earlierBoots, acceptedStarts: remembered.get(nodeId) });
  });
  const seeds = nodes.slice(0, 2).map(({ facts }) => facts.address);
  for (const node of nodes) world.give(node, { kind: "join", addresses: seeds });
  return nodes;
}

const time = ({ nowMs }: World) => ({ monoMs: nowMs, wallMs: nowMs });

function areWell(world: World, nodes: readonly WorldNode[]): boolean {
  return nodes.every(
    ({ machine }) =>
      machine.dispute(time(world)) === undefined &&
      machine.refusers().length === 0 &&
      nodes.every(({ facts }) => machine.find(facts.nodeId)?.boot === facts.boot),
  );
}

const alarms = (world: World) => world.events.filter(({ name }) => ALARMS.includes(name));

test.each([
  { count: 2, place: "" },
  { count: 3, place: "" },
  { count: 3, place: "-elsewhere" },
])(
  "$count that all ended twice, their memory one life behind, are taken without a word of two nodes, address $place",
  ({ count, place }) => {
    for (let seed = 0; seed < SEEDS; seed++) {
      const world = new World({ seed: `unremembered-${seed}` });
      const ids = Array.from({ length: count }, (_, i) => `n${i}`);
      const first = live(world, ids, 0, new Map());
      world.runFor(SETTLE_MS);
      const remembered = new Map(first.map(({ facts, machine }) => [facts.nodeId, machine.acceptedStarts()]));
      expect(remembered.get("n0")).toHaveLength(count - 1);
      for (const node of first) world.crash(node);
      const second = live(world, ids, 1, remembered);
      world.runFor(4000);
      for (const node of second) world.crash(node);
      const third = live(world, ids, 2, remembered, place);
      const isWell = world.runFor(SETTLE_MS, () => areWell(world, third));
      expect([isWell, alarms(world)], `seed ${seed}`).toEqual([true, []]);
      world.runFor(SETTLE_MS);
      expect([areWell(world, third), alarms(world)], `seed ${seed}`).toEqual([true, []]);
    }
  },
);

test("one that was away while another was started twice meets it again without a word of two nodes", () => {
  for (let seed = 0; seed < SEEDS; seed++) {
    const world = new World({ seed: `away-${seed}` });
    const [away, other, third] = live(world, ["n0", "n1", "n2"], 0, new Map());
    if (away === undefined || other === undefined || third === undefined) throw new Error("three were started");
    world.runFor(SETTLE_MS);
    away.side = 1;
    world.isPartitioned = true;
    let last = other;
    for (const life of [1, 2]) {
      world.crash(last);
      const [again] = live(world, ["n1"], life, new Map([["n1", []]]));
      if (again === undefined) throw new Error("it was started");
      world.give(again, { kind: "join", addresses: ["n2:1"] });
      last = again;
      world.runFor(3000);
    }
    world.isPartitioned = false;
    const isWell = world.runFor(60_000, () => areWell(world, [away, last, third]));
    expect([isWell, alarms(world)], `seed ${seed}`).toEqual([true, []]);
  }
});

test("that the link of an earlier start is still up is nothing that its node says: it is met as if for the first time", () => {
  const world = new World({ seed: "half-open" });
  const [holder, first] = live(world, ["n0", "n1", "n2"], 0, new Map());
  if (holder === undefined || first === undefined) throw new Error("three were started");
  world.runFor(SETTLE_MS);
  world.crash(first);
  const [second] = live(world, ["n1"], 1, new Map());
  if (second === undefined) throw new Error("it was started");
  world.give(second, { kind: "join", addresses: ["n0:1"] });
  const hello = greetingOf("n1", { address: first.facts.address, boot: "n1-0" });
  for (let round = 0; round < 20; round++) {
    world.runFor(500);
    expect(holder.machine.isStranger(hello)).toBe(true);
  }
  expect(holder.machine.startOf(hello, time(world))).toEqual({ verdict: "stranger", standing: "first" });
});

test("a copy of an older state is told of as a second node within two seconds, and the first one goes on", () => {
  for (let seed = 0; seed < SEEDS; seed++) {
    const world = new World({ seed: `copy-${seed}` });
    const nodes = live(world, ["n0", "n1", "n2"], 0, new Map());
    world.runFor(SETTLE_MS);
    const [, , first] = nodes;
    if (first === undefined) throw new Error("three were started");
    const facts = { nodeId: "n2", address: "copy:1", boot: "copy", bootBefore: "older" };
    const copy = world.start("n2/copy", facts, { earlierBoots: ["older"] });
    world.give(copy, { kind: "join", addresses: ["n0:1"] });
    const isTold = world.runFor(2000, () => alarms(world).some(({ by, name }) => by === "n0" && name === "two_nodes_with_one_id"));
    world.runFor(SETTLE_MS);
    const disputes = [first, copy].map(({ machine }) => machine.dispute(time(world)) !== undefined);
    expect([isTold, disputes, nodes[0]?.machine.find("n2")?.boot], `seed ${seed}`).toEqual([true, [false, true], "n2-0"]);
  }
});
