/** What a link knows of its peer. */
import { expect, test } from "vitest";
import { PeerProgress } from "../../../src/fabric/replication/peer-progress.ts";
import { entryHash } from "../../../src/fabric/replication/version-vector.ts";
import { Sum64 } from "../../../src/lib/hash64.ts";
import { ReplicatingNode } from "../../fakes/replication.ts";

function viewOf(node: ReplicatingNode): PeerProgress {
  return new PeerProgress(node.shared, { nodeId: "p", generation: 1, clusterId: "c1", region: "r1", relation: "cluster" });
}

test("the picture of a peer's vector has the digest of what it said last of each origin", () => {
  const view = viewOf(new ReplicatingNode({ nodeId: "a" }));
  const say = (nodeId: string, seq: number) => view.learn(`${nodeId}/1`, { nodeId, generation: 1, seq, floor: 0 });
  for (const [nodeId, seq] of [
    ["x", 3],
    ["y", 1],
    ["x", 5],
    ["y", 0],
  ] as const)
    say(nodeId, seq);
  const sum = new Sum64();
  sum.add(entryHash("x/1", 5));
  expect(view.digest).toBe(sum.value);
  expect([view.find("x/1")?.reportedSeq, view.find("x/1")?.at, view.find("y/1")?.reportedSeq, view.find("y/1")?.at]).toEqual([5, 5, 0, 1]);
});

test("no more origins are kept of a peer than may be known", () => {
  const view = viewOf(new ReplicatingNode({ nodeId: "a", options: { maxOrigins: 2 } }));
  const learnt = ["x", "y", "z"].map((nodeId) => view.learn(`${nodeId}/1`, { nodeId, generation: 1, seq: 1, floor: 0 }) !== undefined);
  expect(learnt).toEqual([true, true, false]);
});

test("the two that are linked have their place whatever else was named", () => {
  const view = viewOf(new ReplicatingNode({ nodeId: "a", options: { maxOrigins: 2 } }));
  const { peer } = view;
  for (const nodeId of ["x", "y"]) view.learn(`${nodeId}/1`, { nodeId, generation: 1, seq: 1, floor: 0 });
  const taken = ["z/1", "a/1", `${peer.nodeId}/${peer.generation}`].map((id) => view.take(id) !== undefined);
  expect(taken).toEqual([false, true, true]);
});
