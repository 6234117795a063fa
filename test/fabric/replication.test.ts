/** One link's replication, and meshes of them (semantics.md, Replication between nodes; P1, P5, P6). */
import { expect, test } from "vitest";
import { ReplicatingNode, run, Wire } from "../fakes/replication.ts";

test("own records reach a peer at once, and what it has not is fetched by way of another", () => {
  const [a, b, c] = ["a", "b", "c"].map((nodeId) => new ReplicatingNode({ nodeId })) as [ReplicatingNode, ReplicatingNode, ReplicatingNode];
  a.put("x", 0);
  const wires = [new Wire(a, b, 0), new Wire(b, c, 0)];
  let now = run(wires, 0, 2000, () => c.shown().length === 1);
  expect(c.shown()).toEqual(a.shown());
  expect(now).toBeLessThan(200);
  now = run(wires, now, 2000);
  a.put("y", now);
  const later = run(wires, now, 2000, () => c.shown().length === 2);
  expect(later - now).toBeLessThan(100);
  expect([...a.links, ...b.links, ...c.links].every((link) => link.isCaughtUp)).toBe(true);
});
