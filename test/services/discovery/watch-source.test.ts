import { expect, test } from "vitest";
import { ANY } from "../../../src/catalog/query/filter.ts";
import { WatchFeed } from "../../../src/catalog/watch/feed.ts";
import { WatchReader } from "../../../src/catalog/watch/reader.ts";
import { Fanout, type WatchStream } from "../../../src/discovery/fanout.ts";
import type { DiscoveryBytes } from "../../../src/services/discovery/response-bytes.ts";
import { WatchSource } from "../../../src/services/discovery/watch-opener.ts";
import { NEW } from "../../fakes/ages.ts";
import { timeOf } from "../../fakes/history.ts";
import { fill, keysOf } from "../../fakes/many.ts";
import { FabricComponent, KEYS } from "../../fakes/mesh.ts";

const T = timeOf(1, 0);
const MANY = 12_000;

function sourceOf(node: FabricComponent, fanout: Fanout, namespace = "svc", isPaused = () => false): WatchSource {
  const filter = { ...ANY, namespace };
  const options = { filter, name: "w", hash: "h", allowed: () => true, policyEpoch: () => "e", isNamesOnly: false, withDigest: false };
  const feed = new WatchFeed(new WatchReader(options, node.replica, node.facts), { from: undefined, bookmarkIntervalMs: 1000 }, T);
  const bytes: Pick<DiscoveryBytes, "watch"> = { watch: ({ changes }) => Buffer.from(`${changes.length} changes`) };
  const ports = {
    fanout,
    bytes,
    nodeId: "a",
    isReady: () => true,
    isPaused,
    ageOf: () => NEW,
    via: () => [],
    now: () => T,
    random: () => 0,
    policyEpoch: () => "e",
  };
  return new WatchSource(feed, { ...ports, release: nothing, deltaLag: { observe: nothing }, dropped: { inc: nothing } });
}

const nothing = () => undefined;

test("a watch that is paused is told nothing, and afterwards everything", () => {
  const node = new FabricComponent("a");
  fill(node, [KEYS[0]!]);
  let isPaused = true;
  const source = sourceOf(node, new Fanout(), "svc", () => isPaused);
  source.attach(nothing, nothing);
  expect(source.pull(T)).toBeUndefined();
  isPaused = false;
  expect(source.pull(T)?.toString()).toBe("1 changes");
});

test("a watch that has not looked at everything is woken again without a further change", () => {
  const node = new FabricComponent("a");
  const fanout = new Fanout();
  const source = sourceOf(node, fanout);
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
  expect([wakes, said, source.feed.revision]).toEqual([2, ["1 changes"], node.replica.revision]);
});

test("only a watch that was told everything says that it is drained, and that it waits for changes alone", () => {
  const node = new FabricComponent("a");
  fill(node, keysOf(MANY));
  const narrowed: boolean[] = [];
  class NotedFanout extends Fanout {
    override narrow(watcher: WatchStream): void {
      narrowed.push(source.feed.isCurrent);
      super.narrow(watcher);
    }
  }
  const source = sourceOf(node, new NotedFanout(), "");
  source.attach(nothing, nothing);
  let pages = 0;
  do pages += 1;
  while (source.pull(T) !== undefined && !source.isDrained);
  expect([pages > 2, source.feed.isCurrent, narrowed]).toEqual([true, true, [true]]);
  // So it is with changes that are more than a message has room for.
  fill(node, keysOf(MANY));
  let messages = 0;
  do messages += 1;
  while (source.pull(T) !== undefined && !source.isDrained);
  expect([messages > 1, source.feed.revision]).toEqual([true, node.replica.revision]);
});
