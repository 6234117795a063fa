/** Origins that another cluster's node puts in its own cluster, though their node is ours (semantics.md, Membership: Whose word counts about records). */
import { expect, test } from "vitest";
import { SCOPE } from "../../src/catalog/entry/scope.ts";
import { FabricWorld } from "../fakes/fabric-world.ts";

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
