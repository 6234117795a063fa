/** Keys that a node keeps back from a reader that may have newer states of them (semantics.md, Watch 4). */
import { expect, test } from "vitest";
import { ANY } from "../../../src/catalog/query/filter.ts";
import { KIND, keyText } from "../../../src/catalog/record/record.ts";
import { parseCursor } from "../../../src/catalog/watch/cursor.ts";
import { type FeedStart, WatchFeed } from "../../../src/catalog/watch/feed.ts";
import { SNAPSHOT, WatchReader } from "../../../src/catalog/watch/reader.ts";
import { timeOf } from "../../fakes/history.ts";
import { FabricComponent } from "../../fakes/mesh.ts";

const T = timeOf(1, 0);
const AMPLE = 100_000_000;
const options = {
  filter: ANY,
  name: "w",
  hash: "h",
  viewer: { clusterId: "c1", tenant: "" },
  allowed: () => true,
  policyEpoch: () => "e",
  isNamesOnly: false,
  withDigest: false,
};

function watch(node: FabricComponent, from?: FeedStart["from"]) {
  const feed = new WatchFeed(new WatchReader(options, node.replica, node.facts), { from, bookmarkIntervalMs: 100 }, T);
  return () => {
    const messages = [];
    for (let said = feed.next(T, AMPLE, true); said !== undefined || feed.isUnfinished; said = feed.next(T, AMPLE, true))
      if (said !== undefined) messages.push(said);
    return messages;
  };
}

test("of more keys than can be kept back a reader learns all, by a snapshot", { tags: ["night"] }, () => {
  const keys = Array.from({ length: 10_001 }, (_, n) =>
    keyText({ kind: KIND.SERVICE, namespace: "svc", name: "web", instanceId: String(n), clusterId: "c1" }),
  );
  const a = new FabricComponent("a");
  for (const key of keys) a.put(key, 0, T);
  a.commit(T);
  const behind = new FabricComponent("b");
  behind.copy(a, "a/1", T, AMPLE);
  a.put(keys[0]!, 1, T);
  a.commit(T);
  const cursor = parseCursor(watch(a)().at(-1)?.portableCursor ?? "");
  const next = watch(behind, cursor);
  // The node of all of them goes away, which must not be told of states that the reader has newer ones of.
  behind.setLife("a/1", "orphaned");
  expect(next().flatMap(({ changes }) => changes)).toEqual([]);
  behind.copy(a, "a/1", T, AMPLE);
  const messages = next();
  const told = new Set(messages.flatMap(({ changes }) => changes.map(({ record }) => record.key)));
  expect([told.size, messages[0]?.snapshot, messages.at(-1)?.snapshot]).toEqual([keys.length, SNAPSHOT.BEGIN, SNAPSHOT.END]);
});
