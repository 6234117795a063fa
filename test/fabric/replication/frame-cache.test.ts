/** Frames shared by links: the same question gives the same object, and no more is held than is allowed. */
import { expect, test } from "vitest";
import { SCOPE } from "../../../src/catalog/entry/scope.ts";
import { BODY } from "../../../src/catalog/record/record.ts";
import { ReplicatingNode } from "../../fakes/replication.ts";

type FrameCache = ReplicatingNode["shared"]["frameCache"];

function caching(maxCachedFrames: number, maxCachedBytes: number): readonly [ReplicatingNode, FrameCache] {
  const node = new ReplicatingNode({ nodeId: "a", options: { maxCachedFrames, maxCachedBytes } });
  return [node, node.shared.frameCache];
}

const CLUSTER = { relation: "cluster", clusterId: "c1" } as const;

function shelfOf(
  node: ReplicatingNode,
  frameCache: FrameCache,
  after: number,
  upTo: number,
  link: Parameters<FrameCache["frame"]>[3] = CLUSTER,
) {
  return frameCache.frame(node.replica, node.replica.self, { after, isComplete: false, upTo }, link, 10_000);
}

test("links of one kind share a frame; another cluster's link gets its own", () => {
  const [node, frameCache] = caching(8, 10_000);
  node.put("x", 0);
  node.put("y", 0, { scope: SCOPE.REGION });
  const first = shelfOf(node, frameCache, 0, 2);
  expect(shelfOf(node, frameCache, 0, 2)).toBe(first);
  expect(shelfOf(node, frameCache, 0, 2, { relation: "region", clusterId: "c2" }).records.length).toBe(1);
  expect(shelfOf(node, frameCache, 0, 1)).not.toBe(first);
  expect([frameCache.builtCount, frameCache.sharedCount]).toEqual([3, 1]);
});

test("no more frames and bytes are held than allowed, and one that was let go is built again", () => {
  const [node, frameCache] = caching(3, 500);
  for (let n = 0; n < 20; n++) node.put(`x${n}`, 0);
  const first = shelfOf(node, frameCache, 18, 20);
  for (let n = 19; n >= 0; n--) {
    shelfOf(node, frameCache, n, 20);
    expect(frameCache.bytes).toBeLessThanOrEqual(500);
  }
  expect(shelfOf(node, frameCache, 18, 20)).not.toBe(first);
  frameCache.clear();
  expect(frameCache.bytes).toBe(0);
});

test("parts of a whole transfer, and frames from below the floor, are nobody else's", () => {
  const [node, frameCache] = caching(8, 10_000);
  for (let n = 0; n < 8; n++) node.end(node.put(`x${n}`, 0), BODY.EXPIRED, 0);
  shelfOf(node, frameCache, 5, 16);
  node.collect(10_000);
  expect(shelfOf(node, frameCache, 5, 16).isComplete).toBe(true);
  expect(shelfOf(node, frameCache, 5, 16)).not.toBe(shelfOf(node, frameCache, 5, 16));
  expect(frameCache.sharedCount).toBe(0);
});
