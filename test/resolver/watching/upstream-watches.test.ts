/** A resolver follows other namespaces and other upstreams at any time, and still holds what its upstream holds. */
import assert from "node:assert/strict";
import fc from "fast-check";
import { expect, test } from "vitest";
import { EntryStamper } from "../../../src/catalog/entry/codec.ts";
import { PROTOCOL_BOUNDS } from "../../../src/catalog/entry/names.ts";
import { EntryIndex } from "../../../src/catalog/query/entry-index.ts";
import { ANY, matches } from "../../../src/catalog/query/filter.ts";
import { NamespacePrefixes } from "../../../src/catalog/query/prefixes.ts";
import { queryPage } from "../../../src/catalog/query/query.ts";
import { Slab } from "../../../src/catalog/record/slab.ts";
import { TraitsPool } from "../../../src/catalog/record/traits.ts";
import { Replica } from "../../../src/catalog/replica/replica.ts";
import { parseCursor } from "../../../src/catalog/watch/cursor.ts";
import { WatchFeed } from "../../../src/catalog/watch/feed.ts";
import { WatchReader } from "../../../src/catalog/watch/reader.ts";
import type { Time } from "../../../src/lib/machine.ts";
import { readWatchMessage } from "../../../src/resolver/codec.ts";
import { WatchBookmarks } from "../../../src/resolver/watching/bookmarks.ts";
import { UpstreamWatches, type WatchOrder } from "../../../src/resolver/watching/upstream-watches.ts";
import { WatchPace } from "../../../src/resolver/watching/watch-pace.ts";
import { WatchedCatalog } from "../../../src/resolver/watching/watched-catalog.ts";
import { DiscoveryBytes } from "../../../src/services/discovery/response-bytes.ts";
import { NEW } from "../../fakes/ages.ts";
import { runs } from "../../fakes/effort.ts";
import { type Step, steps, take, timeOf } from "../../fakes/history.ts";
import { FabricComponent } from "../../fakes/mesh.ts";
import { lineOf } from "../../fakes/model.ts";
import { NOBODY } from "../../fakes/resolvers.ts";

const SETS: readonly (readonly string[])[] = [["svc"], ["svc", "other"], ["svc.eu"], ["other"], [""], ["svc-x", "svc.eu"], []];
const MESSAGE_BYTES = 300;

interface Stream {
  readonly feed: WatchFeed;
  readonly node: FabricComponent;
}

class World {
  readonly nodes = ["a", "b"].map((id) => new FabricComponent(id));
  readonly #replica = new Replica(new EntryIndex(), new Slab(), {
    nodeId: "me",
    generation: 1,
    lastSeq: 0,
    floor: 0,
    tombstoneTtlMs: 1000,
    minTombstones: 4,
  });
  readonly #bookmarks = new WatchBookmarks(this.#replica);
  readonly #followed = new WatchedCatalog({
    replica: this.#replica,
    bookmarks: this.#bookmarks,
    stamper: new EntryStamper({ bounds: PROTOCOL_BOUNDS, traits: new TraitsPool() }),
    onChange: NOBODY,
    onTold: NOBODY,
  });
  readonly watches = new UpstreamWatches(this.#followed, this.#bookmarks, { pace: new WatchPace({ intervalMs: 0, lingerMs: 0 }) });
  readonly streams = new Map<number, Stream>();
  wanted: readonly string[] = [];
  checkedCount = 0;
  snapshotCount = 0;

  want(list: readonly string[], time: Time): void {
    this.wanted = list;
    this.#do((out) => this.watches.want(new NamespacePrefixes(list), time, out), time);
  }

  again(list: readonly string[], time: Time): void {
    const wanted = new NamespacePrefixes(this.wanted);
    const held = () => this.lines().filter((line) => wanted.covers(line.slice(0, line.indexOf("|"))));
    const before = held();
    this.#do((out) => this.watches.fetchAgain(list, time, out), time);
    assert.deepEqual(held(), before, "what is held stays until it is there again");
  }

  use(node: number | undefined, time: Time): void {
    this.#do((out) => this.watches.use(node === undefined ? undefined : `${node}`, time, out), time);
  }

  break(pick: number, time: Time): void {
    const [number] = [...this.streams.keys()].slice(pick % Math.max(1, this.streams.size));
    if (number === undefined) return;
    this.streams.delete(number);
    this.#do((out) => this.watches.ended(number, time, out), time);
  }

  /** Gives messages of one of the streams, at most so many. */
  deliver(pick: number, maxCount: number, time: Time): void {
    const [number] = [...this.streams.keys()].slice(pick % Math.max(1, this.streams.size));
    if (number === undefined) return;
    for (let n = 0; n < maxCount; n++) {
      const stream = this.streams.get(number);
      const message = stream?.feed.next(time, MESSAGE_BYTES, true);
      if (stream === undefined || message === undefined) return;
      const options = { isNamesOnly: false, sentWallMs: 0, servedBy: "", age: NEW, resolved: { policyEpoch: "", via: [] } };
      const bytes = new DiscoveryBytes(stream.node.replica.slab, { of: () => undefined }).watch(message, options);
      const heard = readWatchMessage(bytes);
      this.#do((out) => void this.watches.receive(number, heard, time, out), time);
      if (heard.place !== undefined) this.#check(stream.node);
    }
  }

  /** Where it says that it is at a bookmark it holds what its upstream holds, and nothing else. */
  #check(node: FabricComponent): void {
    if (!this.#bookmarks.isAtBookmark || !this.watches.isWhole) return;
    this.checkedCount += 1;
    assert.deepEqual(this.lines(), this.#linesOf(node));
  }

  lines(): readonly string[] {
    const all = { limit: 1000, afterKey: "", self: { nodeId: "", clusterId: "", region: "" }, allowed: () => true, explain: false };
    return queryPage(this.#replica.lookup, ANY, all).records.map((record) => lineOf(record.key, record));
  }

  #linesOf(node: FabricComponent): readonly string[] {
    const filter = { ...ANY, resolved: new NamespacePrefixes(this.wanted) };
    return node.model.views().flatMap((record) => (matches(filter, record, node.facts) ? [lineOf(record.key, record)] : []));
  }

  /** Everything is delivered. */
  rest(time: Time): void {
    for (const node of this.nodes) node.commit(time);
    for (const to of this.nodes)
      for (const from of this.nodes) if (to !== from) for (const id of from.replica.origins.keys()) to.copy(from, id, time);
    this.use(0, time);
    for (let n = 1; n < 40; n++) {
      const later = { ...time, monoMs: time.monoMs + n * 10_000 };
      for (let pick = 0; pick < this.streams.size; pick++) this.deliver(pick, 1000, later);
    }
    assert(this.watches.isWhole && !this.watches.isFetchingAgain, "everything that is wanted is there");
    assert.deepEqual(this.lines(), this.#linesOf(this.nodes[0]!), "at rest");
    assert.equal(this.streams.size, this.wanted.length === 0 ? 0 : 1, "one watch for everything");
  }

  #do(act: (out: WatchOrder[]) => void, time: Time): void {
    const out: WatchOrder[] = [];
    act(out);
    for (const order of out) {
      if (order.kind === "close") this.streams.delete(order.stream);
      else this.#open(order, time);
    }
  }

  #open({ stream, upstream, prefixes, cursor }: WatchOrder & { kind: "open" }, time: Time): void {
    const node = this.nodes[Number(upstream)]!;
    const filter = { ...ANY, resolved: new NamespacePrefixes(prefixes) };
    const options = { filter, name: "r", hash: "r", allowed: () => true, policyEpoch: () => "e", isNamesOnly: false, withDigest: false };
    if (cursor === "") this.snapshotCount += 1;
    const from = cursor === "" ? undefined : parseCursor(cursor);
    this.streams.set(stream, {
      node,
      feed: new WatchFeed(new WatchReader(options, node.replica, node.facts), { from, bookmarkIntervalMs: 1 }, time),
    });
  }
}

interface Turn {
  readonly step: Step;
  readonly act: "nothing" | "want" | "use" | "break" | "again" | "deliver";
  readonly pick: number;
}

const ACTS: readonly Turn["act"][] = ["nothing", "want", "use", "break", "again", "deliver", "deliver", "deliver", "deliver"];
const turn = fc.record({
  step: steps({ max: 1, without: ["restart", "forget", "collect"] }).map((list) => list[0]!),
  act: fc.constantFrom(...ACTS),
  pick: fc.nat(199),
});

test("at every bookmark of everything that is wanted a resolver holds exactly that, and at rest it is there by one watch", () => {
  let checkedCount = 0;
  fc.assert(
    fc.property(fc.array(turn, { minLength: 1, maxLength: 60, size: "max" }), (history) => {
      const world = new World();
      history.forEach(({ step, act, pick }, n) => {
        const time = timeOf(n, 0);
        take(world.nodes, step, n);
        if (act === "want") world.want(SETS[pick % SETS.length]!, time);
        else if (act === "use") world.use(pick % 5 === 0 ? undefined : pick % 2, time);
        else if (act === "again") world.again(SETS[pick % SETS.length]!, time);
        else if (act === "break") world.break(pick, time);
        else if (act === "deliver") world.deliver(pick, 1 + (pick % 20), time);
      });
      world.rest(timeOf(history.length, 0));
      checkedCount += world.checkedCount;
    }),
    { numRuns: runs(250) },
  );
  expect(checkedCount).toBeGreaterThan(500);
});

test("what is followed anew comes by itself: nothing that is there is sent again", () => {
  const world = new World();
  const [node] = world.nodes;
  for (let n = 0; n < 30; n++) take(world.nodes, { kind: "put", node: 0, other: 0, key: n % 16, detail: 1 }, n);
  world.want(["svc"], timeOf(40, 0));
  world.use(0, timeOf(40, 0));
  world.deliver(0, 100, timeOf(41, 0));
  world.want(["svc", "other"], timeOf(42, 0));
  expect([world.streams.size, world.snapshotCount]).toEqual([2, 2]);
  world.deliver(1, 100, timeOf(43, 0));
  expect([world.streams.size, world.snapshotCount, world.watches.isWhole]).toEqual([1, 2, true]);
  world.deliver(0, 100, timeOf(44, 0));
  expect(world.lines().length).toBe(node?.model.views().filter(({ namespace }) => namespace !== "svc-x").length);
});

test("what is let go brings no snapshot of the rest, also if something of it was told just now", () => {
  const world = new World();
  const put = (key: number, n: number) => take(world.nodes, { kind: "put", node: 0, other: 0, key, detail: 1 }, n);
  for (let key = 0; key < 16; key++) put(key, key);
  world.want(["svc", "other"], timeOf(20, 0));
  world.use(0, timeOf(20, 0));
  world.deliver(0, 100, timeOf(21, 0));
  put(15, 22);
  // A delta, and no bookmark after it.
  world.deliver(0, 1, timeOf(21, 0));
  world.want(["svc"], timeOf(23, 0));
  world.deliver(0, 100, timeOf(24, 0));
  expect([world.snapshotCount, world.streams.size, world.lines().every((line) => line.startsWith("svc"))]).toEqual([1, 1, true]);
});

test("what was to be fetched again is not, once the upstream was lost before that: who asked asks again", () => {
  const world = new World();
  for (let key = 0; key < 16; key++) take(world.nodes, { kind: "put", node: 0, other: 0, key, detail: 1 }, key);
  world.want(["svc", "other"], timeOf(20, 0));
  world.use(0, timeOf(20, 0));
  world.deliver(0, 100, timeOf(21, 0));
  world.nodes[1]?.copy(world.nodes[0]!, "a/1", timeOf(22, 0));
  // The place is that of another upstream until this one has said something.
  world.use(1, timeOf(22, 0));
  world.again(["svc"], timeOf(22, 0));
  expect([world.watches.isFetchingAgain, world.snapshotCount]).toEqual([true, 1]);
  world.use(0, timeOf(23, 0));
  expect(world.watches.isFetchingAgain).toBe(false);
  world.deliver(0, 100, timeOf(24, 0));
  expect([world.snapshotCount, world.streams.size]).toEqual([1, 1]);
});
