/** A reader that comes to a resolver with a cursor is told what it cannot know, whatever the resolver itself was told (semantics.md, Resolver 7). */
import assert from "node:assert/strict";
import { expect, test } from "vitest";
import { BODY } from "../../../src/catalog/record/record.ts";
import { WatchBookmarks } from "../../../src/resolver/watching/bookmarks.ts";
import { timeOf } from "../../fakes/history.ts";
import { FabricComponent, KEYS } from "../../fakes/mesh.ts";
import { ResolverView } from "../../fakes/resolvers.ts";
import { type Policy, Readers, Stream } from "../../fakes/stream.ts";

const [K, L] = [KEYS[0]!, KEYS[1]!];
const ALL = 0;
const LONG = 100_000;

/** Nodes a, b and c that know everything of each other, a resolver of a, and a reader that sees everything. */
class World {
  readonly nodes = ["a", "b", "c"].map((id) => new FabricComponent(id));
  readonly a = this.nodes[0]!;
  readonly b = this.nodes[1]!;
  readonly c = this.nodes[2]!;
  readonly #policy: Policy = { denied: new Set(), epoch: 0 };
  readonly #readers = new Readers(this.#policy);
  readonly resolver = new ResolverView(
    "resolver-0",
    this.a,
    { mesh: this.nodes, policy: this.#policy, isReady: () => true },
    undefined,
    timeOf(0, 0),
  );
  readonly reader: Stream;
  #n = 0;

  constructor(readerAt: "a" | "c" = "a") {
    this.put(this.a, K);
    this.put(this.b, L);
    this.follow();
    this.reader = new Stream(ALL, readerAt === "a" ? this.a : this.c, this.#readers, this.#policy, this.now);
    this.read();
  }

  get now() {
    return timeOf(this.#n, 0);
  }

  put(node: FabricComponent, key = K): void {
    node.put(key, this.#n, this.now);
    this.#share(node);
  }

  end(node: FabricComponent, body: typeof BODY.EXPIRED | typeof BODY.UNREGISTERED, key = K): void {
    node.end(key, body, this.now);
    this.#share(node);
  }

  #share(node: FabricComponent): void {
    node.commit(this.now);
    for (const to of this.nodes) for (const from of this.nodes) if (to !== from) to.copy(from, from.replica.self.id, this.now);
    this.#n += 1;
  }

  follow(): void {
    this.#n += 1;
    this.resolver.follow(this.a, 1000, this.now);
    assert(this.resolver.isPlace, "it was told everything");
  }

  /** The reader is told everything, with a cursor. */
  read(): void {
    this.#n += 20;
    for (let n = 0; n < 1000 && this.reader.pull(this.now, 1000, true); n++);
    this.reader.farewell(this.now, true);
  }

  /** The reader comes to the resolver, and checks there what it holds. Returns how often it was told that it holds everything. */
  move(): number {
    this.reader.reconnect(this.resolver, this.now, "portable");
    const before = this.reader.settledCount;
    this.read();
    return this.reader.settledCount - before;
  }

  wait(): void {
    this.#n += LONG;
  }
}

test.each<{ what: string; readerAt?: "c"; change: (world: World) => void }>([
  { what: "it holds what the resolver holds", change: () => {} },
  {
    what: "it was told of a key that came and went",
    change: (world) => {
      world.end(world.a, BODY.UNREGISTERED);
      world.follow();
      world.put(world.a);
      world.read();
      world.end(world.a, BODY.UNREGISTERED);
    },
  },
  {
    what: "it was told of a record that another one hid for a while",
    change: (world) => {
      world.put(world.b);
      world.read();
      world.end(world.b, BODY.EXPIRED);
    },
  },
  {
    what: "its node counts another node as away",
    readerAt: "c",
    change: (world) => {
      world.c.setLife("b/1", "hidden");
      world.read();
    },
  },
  {
    what: "the resolver's upstream forgot what came and went, and gave it a snapshot",
    change: (world) => {
      world.put(world.a, KEYS[2]);
      world.read();
      world.end(world.a, BODY.UNREGISTERED, KEYS[2]);
      world.wait();
      world.a.collect(world.now);
    },
  },
  {
    what: "the resolver forgot what came and went",
    change: (world) => {
      world.put(world.a, KEYS[2]);
      world.read();
      world.follow();
      world.end(world.a, BODY.UNREGISTERED, KEYS[2]);
      world.follow();
      world.wait();
      world.resolver.collect(world.now);
    },
  },
])("a reader comes to a resolver: $what", ({ readerAt, change }) => {
  const world = new World(readerAt);
  change(world);
  world.follow();
  expect(world.move()).toBeGreaterThan(0);
});

test("bookmarks that are let go cost nothing any more, so that others are remembered", () => {
  const replica = new FabricComponent("n").replica;
  const bookmarks = new WatchBookmarks(replica);
  const origins = Array.from({ length: 100 }, (_, n) => ({ nodeId: `n${n}`, generation: 1, seq: 1, life: "live" as const }));
  for (let n = 0; n < 3; n++) {
    bookmarks.note({ kind: "portable", clusterId: "c1", readerHash: "", policyEpoch: "", origins });
    bookmarks.clear();
  }
  expect(bookmarks.bytes).toBe(0);
});

test("a reader is told of what its cursor does not know: of a node that it never heard of, and of what its node had not settled", () => {
  const bookmarks = new WatchBookmarks(new FabricComponent("n").replica);
  const origin = (nodeId: string, seq: number, settled = seq) => ({ nodeId, generation: 1, seq, settled, life: "live" as const });
  const cursor = (...origins: readonly ReturnType<typeof origin>[]) =>
    ({ kind: "portable", clusterId: "c1", readerHash: "", policyEpoch: "", origins }) as const;
  bookmarks.note(cursor(origin("a", 5), origin("b", 5, 3)));
  const reader = { replica: { revision: 0 }, options: { policyEpoch: () => "" } };
  const gap = (...origins: readonly ReturnType<typeof origin>[]) => bookmarks.gap(cursor(...origins), reader as never, timeOf(0, 0));
  expect([gap(origin("a", 5)), gap(origin("a", 5), origin("b", 5))].map((one) => one.isTellable())).toEqual([false, true]);
  expect([gap(origin("b", 3)), gap(origin("b", 5))].map((one) => one.coverage(timeOf(0, 0), true))).toEqual(["covered", "behind"]);
});
