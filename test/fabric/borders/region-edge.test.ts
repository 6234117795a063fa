/** A region is one gossip domain (P1): whatever nodes are told as seeds, no member, record or policy of another region gets in. */
import { describe, expect, test } from "vitest";
import { SCOPE } from "../../../src/catalog/entry/scope.ts";
import { Rng } from "../../../src/lib/rng.ts";
import { FabricWorld, type NodeSpec, type WorldNode } from "../../fakes/fabric-world.ts";
import { version } from "../../fakes/policy-versions.ts";

/** What a node has that is not of its region. */
function foreignTo(node: WorldNode, nodes: readonly WorldNode[]): readonly string[] {
  const { region, nodeId } = node.facts;
  const regionOf = new Map(nodes.map((each) => [each.facts.nodeId, each.facts.region]));
  const foreign = (id: string) => regionOf.get(id) !== region;
  return [
    ...node.fabric.membership
      .members()
      .flatMap((member) => (member.region !== region || foreign(member.nodeId) ? [`member ${member.nodeId}`] : [])),
    ...[...node.replica.origins.values()].flatMap((origin) =>
      origin.nodeId !== nodeId && foreign(origin.nodeId) ? [`origin ${origin.nodeId}`] : [],
    ),
    ...node.fabric.links().flatMap(({ state, nodeId: peer }) => (state === "up" && foreign(peer) ? [`link ${peer}`] : [])),
    ...(node.policy === undefined || node.policy.head.nodeId.startsWith(region) ? [] : [`policy ${node.policy.head.nodeId}`]),
  ];
}

describe("two regions on one network, with seeds across", () => {
  test.each([1, 2, 3, 4, 5, 6])("nothing crosses, through deaths and restarts (seed %i)", (seed) => {
    const world = new FabricWorld(`${seed}`);
    const rng = new Rng(seed);
    const ids = ["eu1a", "eu1b", "eu2a", "us1a", "us1b", "us2a"];
    const seeds = ids.map((id) => `${id}:1`);
    const specOf = (nodeId: string): NodeSpec => ({ nodeId, region: nodeId.slice(0, 2), clusterId: nodeId.slice(0, 3), seeds });
    const nodes = new Map(ids.map((nodeId) => [nodeId, world.start(specOf(nodeId))]));
    const check = () => {
      for (const node of nodes.values()) expect([node.facts.nodeId, ...foreignTo(node, [...nodes.values()])]).toEqual([node.facts.nodeId]);
    };
    for (let round = 0; round < 12; round++) {
      for (const node of nodes.values()) if (!node.isDead && rng.int(2) === 0) node.put(`${node.facts.nodeId}-${round}`, SCOPE.GLOBAL);
      const victim = nodes.get(ids[rng.int(ids.length)] ?? "");
      if (victim?.isDead === true) nodes.set(victim.facts.nodeId, world.start({ ...victim.spec, disk: victim }));
      else if (victim !== undefined && rng.int(2) === 0) world.kill(victim);
      if (round === 3) nodes.get("eu1a")?.keepPolicy(version(1, "eu1a"));
      world.run(1000 + rng.int(8000));
      check();
    }
    // It is no test when nobody met anybody.
    const met = [...nodes.values()].filter((node) => node.fabric.membership.members().length > 1);
    expect(met.length).toBeGreaterThan(2);
  });
});

test("a node that moved to another region with its disk takes nothing along, and is no member where it was", () => {
  const world = new FabricWorld();
  const seeds = ["eu1a:1", "eu1b:1", "us1a:1"];
  const at = (nodeId: string, region: string, clusterId: string, more: Partial<NodeSpec> = {}) =>
    world.start({ nodeId, region, clusterId, seeds, ...more });
  const [a, b, us] = [at("eu1a", "eu", "eu1"), at("eu1b", "eu", "eu1"), at("us1a", "us", "us1")];
  for (const node of [a, b, us]) node.put(`of-${node.facts.nodeId}`, SCOPE.GLOBAL);
  world.run(20_000);
  expect(a.view()).toEqual(["of-eu1a", "of-eu1b"]);
  world.kill(b);
  const moved = at("eu1b", "us", "us1", { disk: b, generation: 2 });
  world.run(60_000);
  moved.put("after", SCOPE.GLOBAL);
  world.run(20_000);
  for (const node of [us, moved]) {
    expect(node.view()).toContain("after");
    expect(node.view()).not.toContain("of-eu1a");
    expect([...node.replica.origins.values()].map(({ nodeId }) => nodeId).toSorted()).toEqual(["eu1b", "us1a"]);
  }
  expect(a.view().filter((name) => name === "after" || name === "of-us1a")).toEqual([]);
  expect(a.fabric.membership.listed()).toEqual([]);
  expect(a.upLinks()).toEqual([]);
});
