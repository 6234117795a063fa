/** Origins that another cluster's node puts in its own cluster, though their node is ours (semantics.md, Membership: Accepted reports about records). */
import { expect, test } from "vitest";
import { SCOPE } from "../../src/catalog/entry/scope.ts";
import { FabricWorld, type WorldNode } from "../fakes/fabric-world.ts";
import { FABRIC_OPTIONS } from "../fakes/options.ts";

test("an origin of a node of ours is in our cluster, whoever was first to tell of it", () => {
  const world = new FabricWorld("misplaced");
  const [a, b] = ["a", "b"].map((nodeId) => world.start({ nodeId, seeds: nodeId === "a" ? [] : ["a:1"] }));
  world.run(5000);
  world.saying = ({ spec }, frame) => {
    if (spec.nodeId !== "evil" || frame.kind !== "records") return frame;
    return { ...frame, frame: { ...frame.frame, nodeId: "b", generation: 7, through: 1_000_000, records: [] } };
  };
  const evil = world.start({ nodeId: "evil", clusterId: "c2", seeds: ["a:1"] });
  world.run(5000);
  evil.put("made-up", SCOPE.REGION);
  world.run(5000);
  // It has a later generation of b, which nobody has written in.
  expect([a, b].map((each) => each?.replica.origins.has("b/7"))).toEqual([false, false]);
});

test("a node that moved to another cluster with its name is heard in its old one when members know it there no more, and all the while in others", () => {
  const world = new FabricWorld("moved");
  const options = { membership: { ...FABRIC_OPTIONS.membership, deadForgetMs: 600_000 } };
  const [a, b] = ["a", "b"].map((nodeId) => world.start({ nodeId, seeds: nodeId === "a" ? [] : ["a:1"], options })) as [
    WorldNode,
    WorldNode,
  ];
  const others = ["c2", "c3"].map((clusterId) => world.start({ nodeId: clusterId, clusterId, seeds: ["a:1"], options }));
  world.run(20_000);
  world.kill(b);
  world.run(20_000);
  const moved = world.start({ nodeId: "b", clusterId: "c2", generation: 2, seeds: ["a:1", "c2:1"], options });
  moved.put("web", SCOPE.REGION);
  world.run(20_000);
  expect([a, ...others].map((node) => node.view())).toEqual([[], ["web"], ["web"]]);
  world.run(700_000);
  expect([a, ...others].map((node) => node.view())).toEqual([["web"], ["web"], ["web"]]);
});
