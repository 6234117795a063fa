/** What one turn does is bounded in records, whatever the catalog holds (semantics.md, Watch 11). */
import { createHash } from "node:crypto";
import { expect, test } from "vitest";
import { ANY, type EntryFilter } from "../../src/catalog/query/filter.ts";
import { BODY, deltaId } from "../../src/catalog/record/record.ts";
import { WatchFeed } from "../../src/catalog/watch/feed.ts";
import { SNAPSHOT, WatchReader } from "../../src/catalog/watch/reader.ts";
import { timeOf } from "../fakes/history.ts";
import { counting, fill, keysOf } from "../fakes/many.ts";
import { FabricComponent, KEYS } from "../fakes/mesh.ts";

const MANY = 12_000;
const MOST = 10_001;
const T = timeOf(1, 0);
const LATER = timeOf(10_000, 0);

/** As the contract defines it. */
function digestOf(ids: readonly string[]): bigint {
  return ids.reduce((sum, id) => BigInt.asUintN(64, sum + createHash("sha256").update(id).digest().readBigUInt64BE()), 0n);
}

function watch(node: FabricComponent, filter: EntryFilter, withDigest = false): WatchFeed {
  const options = { filter, name: "w", hash: "h", allowed: () => true, policyEpoch: () => "e", isNamesOnly: false, withDigest };
  return new WatchFeed(new WatchReader(options, node.replica, node.facts), { from: undefined, bookmarkIntervalMs: 100 }, T);
}

test("a watch that most changes do not concern looks at some of them at a time, and says when it is to be asked again", () => {
  const node = new FabricComponent("a");
  const feed = watch(node, { ...ANY, namespace: "svc" });
  while (feed.next(T, 1000, true) !== undefined);
  fill(node, [...keysOf(MANY), KEYS[0]!]);
  const before = feed.revision;
  expect([feed.next(T, 1000, true), feed.isUnfinished]).toEqual([undefined, true]);
  expect(feed.revision - before).toBeLessThanOrEqual(MOST);
  expect([feed.next(T, 1000, true)?.changes.length, feed.isUnfinished, feed.revision]).toEqual([1, false, node.replica.revision]);
  expect([feed.next(LATER, 1000, true)?.isBookmark, feed.isUnfinished]).toEqual([true, false]);
});

test("who gives looks at some records at a time, also where none of them is for the peer", () => {
  const node = new FabricComponent("a");
  fill(node, keysOf(MANY));
  const { self } = node.replica;
  const visited = counting(self.log);
  // Where nothing may be carried a frame is empty, and the next one goes on behind it.
  const first = node.frame(self, { after: 0, isComplete: true }, 1_000_000_000);
  expect([visited.count <= MOST, first.isLast, first.through]).toEqual([true, false, MOST - 1]);
  const second = node.frame(self, { after: first.through, isComplete: true }, 1_000_000_000);
  expect([second.isLast, first.records.length + second.records.length]).toEqual([true, MANY]);
});

test("the first digest of a large namespace is summed some entries at a time; what changes meanwhile is in it", () => {
  const node = new FabricComponent("a");
  const keys = keysOf(MANY);
  fill(node, keys);
  const feed = watch(node, { ...ANY, namespace: "other" }, true);
  let [message, turns] = [feed.next(T, 1_000_000, true), 0];
  while (message?.snapshot !== SNAPSHOT.END) {
    if (feed.isUnfinished) {
      turns += 1;
      // One of each end of the order, and one that goes.
      fill(node, [keys[0]!, keys.at(-1)!]);
      const gone = node.replica.view(keys[turns]!)!;
      node.replica.stageTombstone(gone, BODY.EXPIRED, gone.hlc + 1);
      node.replica.commit(node.replica.lastSeq, T);
    }
    message = feed.next(T, 1_000_000, true);
  }
  expect(turns).toBeGreaterThanOrEqual(2);
  const visible = keys.flatMap((key) => node.replica.view(key) ?? []);
  expect(message.digest).toEqual({ count: MANY - turns, digest: digestOf(visible.map(deltaId)) });
});
