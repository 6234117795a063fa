import { expect, test } from "vitest";
import { ANY } from "../../../src/catalog/query/filter.ts";
import { Feed } from "../../../src/catalog/watch/feed.ts";
import { Reader } from "../../../src/catalog/watch/reader.ts";
import { Fanout } from "../../../src/discovery/fanout.ts";
import type { DiscoveryBytes } from "../../../src/services/discovery/response-bytes.ts";
import { WatchSource } from "../../../src/services/discovery/watch-source.ts";
import { timeOf } from "../../fakes/history.ts";
import { fill, keysOf } from "../../fakes/many.ts";
import { FabricComponent, KEYS } from "../../fakes/mesh.ts";

const T = timeOf(1, 0);
const MANY = 12_000;

test("a watch that has not looked at everything is woken again without a further change", () => {
  const node = new FabricComponent("a");
  const filter = { ...ANY, namespace: "svc" };
  const options = { filter, name: "w", hash: "h", allowed: () => true, policyEpoch: "e", isNamesOnly: false, withDigest: false };
  const feed = new Feed(new Reader(options, node.replica, node.facts), { from: undefined, bookmarkIntervalMs: 1000 }, T);
  const fanout = new Fanout();
  const bytes: Pick<DiscoveryBytes, "watch"> = { watch: ({ changes }) => Buffer.from(`${changes.length} changes`) };
  const nothing = () => undefined;
  const ports = { fanout, bytes, nodeId: "a", isReady: () => true, ageMs: () => 0, now: () => T, random: () => 0 };
  const source = new WatchSource(feed, { ...ports, release: nothing, deltaLag: { observe: nothing }, dropped: { inc: nothing } });
  const said: string[] = [];
  const pull = () => {
    for (let message = source.pull(T); message !== undefined; message = source.pull(T)) said.push(message.toString());
  };
  source.attach(pull, nothing);
  pull();
  said.length = 0;
  fill(node, [...keysOf(MANY), KEYS[0]!]);
  fanout.changed(node.replica.takeTouched());
  let wakes = 0;
  for (let watcher = fanout.take(); watcher !== undefined; watcher = fanout.take()) {
    wakes += 1;
    watcher.wake();
  }
  expect([wakes, said, feed.revision]).toEqual([2, ["1 changes"], node.replica.revision]);
});
