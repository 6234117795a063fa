/** A link to another cluster that comes up again carries only what is new, as one within a cluster does. */
import { expect, test } from "vitest";
import { SCOPE } from "../../src/catalog/entry/scope.ts";
import { FabricWorld } from "../fakes/fabric-world.ts";

test.each([
  { what: "of another cluster", clusterId: "d" },
  { what: "of the own cluster", clusterId: "a" },
])("a peer $what that has everything gets nothing when its link comes up again, and then what is new", ({ clusterId }) => {
  const world = new FabricWorld();
  const a = world.start({ nodeId: "n0", clusterId: "a" });
  const d = world.start({ nodeId: "d0", clusterId, seeds: ["n0:1"] });
  for (const name of ["web", "api", "db"]) a.put(name, SCOPE.REGION);
  world.runUntil(() => d.view().length === 3, 30_000);
  const before = world.trace.length;
  const recordsSince = () => world.trace.slice(before).filter((line) => line.endsWith("n0 sends records")).length;
  world.cut(a, d);
  expect(a.upLinks()).toEqual([]);
  world.runUntil(() => a.upLinks().length === 1 && d.upLinks().length === 1, 30_000);
  world.run(10_000);
  expect(recordsSince()).toBe(0);
  a.put("cache", SCOPE.REGION);
  world.runUntil(() => d.view().length === 4, 5000);
  expect(recordsSince()).toBe(1);
});
