/** Frames shared by links: the same question gives the same object, and no more is held than is allowed. */
import { expect, test } from "vitest";
import { BODY } from "../../src/catalog/record.ts";
import { SCOPE } from "../../src/catalog/scope.ts";
import { FrameShelf } from "../../src/fabric/frame-shelf.ts";
import { ReplicatingNode } from "../fakes/replication.ts";

const CLUSTER = { relation: "cluster", clusterId: "c1" } as const;

function shelfOf(
  node: ReplicatingNode,
  shelf: FrameShelf,
  after: number,
  upTo: number,
  link: Parameters<FrameShelf["frame"]>[3] = CLUSTER,
) {
  return shelf.frame(node.replica, node.replica.self, { after, isComplete: false, upTo }, link, 10_000);
}

test("links of one kind share a frame; another cluster's link gets its own", () => {
  const [node, shelf] = [new ReplicatingNode({ nodeId: "a" }), new FrameShelf({ maxFrames: 8, maxBytes: 10_000 })];
  node.put("x", 0);
  node.put("y", 0, { scope: SCOPE.REGION });
  const first = shelfOf(node, shelf, 0, 2);
  expect(shelfOf(node, shelf, 0, 2)).toBe(first);
  expect(shelfOf(node, shelf, 0, 2, { relation: "region", clusterId: "c2" }).records.length).toBe(1);
  expect(shelfOf(node, shelf, 0, 1)).not.toBe(first);
  expect([shelf.builtCount, shelf.sharedCount]).toEqual([3, 1]);
});

test("no more frames and bytes are held than allowed, and one that was let go is built again", () => {
  const [node, shelf] = [new ReplicatingNode({ nodeId: "a" }), new FrameShelf({ maxFrames: 3, maxBytes: 500 })];
  for (let n = 0; n < 20; n++) node.put(`x${n}`, 0);
  const first = shelfOf(node, shelf, 18, 20);
  for (let n = 19; n >= 0; n--) {
    shelfOf(node, shelf, n, 20);
    expect(shelf.bytes).toBeLessThanOrEqual(500);
  }
  expect(shelfOf(node, shelf, 18, 20)).not.toBe(first);
  shelf.clear();
  expect(shelf.bytes).toBe(0);
});

test("parts of a whole transfer, and frames from below the floor, are nobody else's", () => {
  const [node, shelf] = [new ReplicatingNode({ nodeId: "a" }), new FrameShelf({ maxFrames: 8, maxBytes: 10_000 })];
  for (let n = 0; n < 8; n++) node.end(node.put(`x${n}`, 0), BODY.EXPIRED, 0);
  shelfOf(node, shelf, 5, 16);
  node.collect(10_000);
  expect(shelfOf(node, shelf, 5, 16).isComplete).toBe(true);
  expect(shelfOf(node, shelf, 5, 16)).not.toBe(shelfOf(node, shelf, 5, 16));
  expect(shelf.sharedCount).toBe(0);
});
