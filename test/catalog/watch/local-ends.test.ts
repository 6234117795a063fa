/** What a resolver is told of a key that has a LOCAL record here and another record elsewhere. */
import { expect, test } from "vitest";
import { SCOPE } from "../../../src/catalog/entry/scope.ts";
import { ANY } from "../../../src/catalog/query/filter.ts";
import { NamespacePrefixes } from "../../../src/catalog/query/prefixes.ts";
import { BODY } from "../../../src/catalog/record/record.ts";
import { WatchFeed } from "../../../src/catalog/watch/feed.ts";
import { ACTION, WatchReader } from "../../../src/catalog/watch/reader.ts";
import { FabricComponent, KEYS } from "../../fakes/mesh.ts";
import { at } from "../../fakes/registry.ts";

const KEY = KEYS[0]!;

function open(node: FabricComponent): WatchFeed {
  const filter = { ...ANY, resolved: new NamespacePrefixes([""]) };
  const options = { filter, name: "r", hash: "r", allowed: () => true, policyEpoch: () => "e", isNamesOnly: false, withDigest: false };
  return new WatchFeed(new WatchReader(options, node.replica, node.facts), { from: undefined, bookmarkIntervalMs: 1000 }, at(0));
}

function take(feed: WatchFeed): readonly number[] {
  const actions: number[] = [];
  for (let message = feed.next(at(1), 10_000, true); message !== undefined; message = feed.next(at(1), 10_000, true))
    actions.push(...message.changes.map(({ action }) => action));
  return actions;
}

test("an entry of another node is told to be gone, also when a LOCAL record of this node ends with it", () => {
  const [here, there] = [new FabricComponent("n1"), new FabricComponent("n2")];
  here.put(KEY, 0, at(0), undefined, SCOPE.LOCAL);
  here.commit(at(0));
  const feed = open(here);
  expect(take(feed)).toEqual([]);
  there.put(KEY, 0, at(10));
  there.commit(at(10));
  here.copy(there, there.replica.self.id, at(10));
  expect(take(feed)).toEqual([ACTION.CREATE]);
  there.end(KEY, BODY.UNREGISTERED, at(20));
  there.commit(at(20));
  here.copy(there, there.replica.self.id, at(20));
  here.end(KEY, BODY.EXPIRED, at(20));
  here.commit(at(20));
  expect(take(feed)).toEqual([ACTION.REMOVE]);
});
