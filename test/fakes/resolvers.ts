/** Resolvers of a mesh, each with one node as its upstream at a time, and read by streams in the place of a node. */
import assert from "node:assert/strict";
import { EntryStamper } from "../../src/catalog/entry/codec.ts";
import { PROTOCOL_BOUNDS } from "../../src/catalog/entry/names.ts";
import { EntryIndex } from "../../src/catalog/query/entry-index.ts";
import { ANY } from "../../src/catalog/query/filter.ts";
import { NamespacePrefixes } from "../../src/catalog/query/prefixes.ts";
import { Slab } from "../../src/catalog/record/slab.ts";
import { TraitsPool } from "../../src/catalog/record/traits.ts";
import { Replica } from "../../src/catalog/replica/replica.ts";
import { type PortableCursor, parseCursor } from "../../src/catalog/watch/cursor.ts";
import { WatchFeed } from "../../src/catalog/watch/feed.ts";
import { type FeedMessage, SNAPSHOT, WatchReader } from "../../src/catalog/watch/reader.ts";
import type { Time } from "../../src/lib/machine.ts";
import { readWatchMessage, type UpstreamWatchMessage } from "../../src/resolver/codec.ts";
import { WatchBookmarks } from "../../src/resolver/watching/bookmarks.ts";
import { UpstreamWatch, WatchedCatalog } from "../../src/resolver/watching/watched-catalog.ts";
import { replicaAge } from "../../src/services/discovery/answer-age.ts";
import { DiscoveryBytes } from "../../src/services/discovery/response-bytes.ts";
import { FabricComponent, type KnownOrigin } from "./mesh.ts";
import { Model, plain } from "./model.ts";
import type { Stream } from "./stream.ts";
import type { Views, WatchedWorld } from "./watch-history.ts";

const EVERYTHING = new NamespacePrefixes([""]);
export const NOBODY = { gone: () => {}, ended: () => {}, put: () => {}, told: () => {}, listed: () => {} };
const NO_LOADS = { of: () => undefined };
const MESSAGE_BYTES = 400;
/** The resolver whose upstream sends a bookmark whenever it can. */
const FREQUENT = "resolver-0";

/** A resolver that follows everything, as streams see it. */
export class ResolverView extends FabricComponent {
  override readonly viewName = "resolver";
  override readonly places: WatchBookmarks;
  readonly #world: WatchedWorld;
  readonly #watch = new UpstreamWatch(EVERYTHING);
  readonly #followed: WatchedCatalog;
  #upstream: FabricComponent;
  /** The replica that the feed reads. A node that starts again has another one. */
  #of: Replica;
  #feed: WatchFeed;
  /** A snapshot began, so older records of any key can be sent again. */
  isAnew = false;
  /** Keys whose newest records can be lost with the last upstream (semantics.md, Resolver 6). */
  #doubted: ReadonlySet<string> = new Set();
  /** Doubted keys that the next upstream has sent: an older record replaces a lost one. */
  readonly resent = new Set<string>();

  readonly #intervalMs: number;

  constructor(name: string, upstream: FabricComponent, world: WatchedWorld, pastTouches: number | undefined, time: Time) {
    super(name);
    this.#intervalMs = name === FREQUENT ? 1 : 150;
    this.#world = world;
    const past = pastTouches === undefined ? {} : { pastTouches };
    const bounds = { nodeId: name, generation: 1, lastSeq: 0, floor: 0, tombstoneTtlMs: 1000, minTombstones: 4, ...past };
    this.replica = new Replica(new EntryIndex(), new Slab(), bounds);
    this.places = new WatchBookmarks(this.replica);
    const stamper = new EntryStamper({ bounds: PROTOCOL_BOUNDS, traits: new TraitsPool() });
    this.#followed = new WatchedCatalog({ replica: this.replica, bookmarks: this.places, stamper, onChange: NOBODY, onTold: NOBODY });
    this.#upstream = upstream;
    this.#of = upstream.replica;
    this.#feed = this.#open(time);
  }

  get isComplete(): boolean {
    return this.#watch.isComplete;
  }

  get upstream(): FabricComponent {
    return this.#upstream;
  }

  override known(): ReadonlyMap<string, KnownOrigin> {
    const place = ({ seq, settled = seq, life }: PortableCursor["origins"][number]) => ({ seq, settled, life });
    return new Map([...this.places.origins].map(([id, origin]) => [id, place(origin)]));
  }

  /** Whether it holds what its upstream held at its last bookmark, under the policy of now. */
  override get isPlace(): boolean {
    return this.places.isAtBookmark && this.#epoch === this.#world.policy.epoch;
  }

  override get shown(): Model {
    return this.isPlace ? this.model : this.#held();
  }

  #epoch = -1;

  /** Takes at most so many messages of its upstream, or begins with another one. */
  follow(upstream: FabricComponent, maxCount: number, time: Time): void {
    if (upstream !== this.#upstream || upstream.replica !== this.#of) {
      this.#upstream = upstream;
      this.#of = upstream.replica;
      this.#feed = this.#open(time);
    }
    for (let n = 0; n < maxCount; n++) {
      const message = this.#feed.next(time, MESSAGE_BYTES, this.#world.isReady(upstream));
      if (message === undefined) return;
      this.#hear(message, time);
    }
  }

  override collect(time: Time, maxCount = 100): void {
    this.replica.collect(time, maxCount);
  }

  #open(time: Time): WatchFeed {
    const options = {
      filter: { ...ANY, resolved: EVERYTHING },
      name: "resolver",
      hash: "resolver",
      allowed: () => true,
      policyEpoch: () => `e${this.#world.policy.epoch}`,
      isNamesOnly: false,
      withDigest: true,
    };
    this.#doubted = new Set(this.#watch.doubts.keys);
    const portable = this.#watch.move();
    const reader = new WatchReader(options, this.#of, this.#upstream.facts);
    const from = portable === "" ? undefined : parseCursor(portable);
    return new WatchFeed(reader, { from, bookmarkIntervalMs: this.#intervalMs }, time);
  }

  #hear(message: FeedMessage, time: Time): void {
    const bytes = new DiscoveryBytes(this.#of.slab, NO_LOADS).watch(message, {
      isNamesOnly: false,
      sentWallMs: time.wallMs,
      servedBy: this.#upstream.nodeId,
      age: replicaAge(0),
      resolved: { policyEpoch: "", via: [] },
    });
    const heard = readWatchMessage(bytes);
    if (heard.snapshot === SNAPSHOT.BEGIN) this.isAnew = true;
    this.#followed.hear(this.#watch, heard, time);
    for (const { record } of message.changes) if (this.#doubted.has(record.key)) this.resent.add(record.key);
    if (this.#watch.isDoubtful) this.#feed = this.#open(time);
    else if (heard.place !== undefined) this.#stand(heard, heard.place.cursor);
  }

  #stand({ digest: said }: UpstreamWatchMessage, cursor: PortableCursor): void {
    this.#doubted = new Set();
    this.#epoch = Number(cursor.policyEpoch.slice(1));
    this.model = frozen(this.#upstream.model);
    const { count, digest } = this.model.digest(() => true);
    assert.deepEqual(said, { count, digest }, "the upstream's digest");
    assert.deepEqual(
      this.#held().answer(ANY, this.facts, () => true),
      this.model.answer(ANY, this.facts, () => true),
      "P17: a resolver holds what its upstream holds at a bookmark",
    );
  }

  /** What it holds, whatever its upstream says. */
  #held(): Model {
    const model = new Model();
    for (const { id, life } of this.replica.origins.values()) model.lifecycle.set(id, life);
    this.replica.changesSince(0, (stored) => {
      assert(stored.peers === undefined, "one record a key");
      model.apply(stored);
      return true;
    });
    return model;
  }
}

/** The model as it is now. */
function frozen(model: Model): Model {
  const copy = new Model();
  for (const view of model.views()) {
    copy.apply(plain(view));
    copy.lifecycle.set(view.origin.id, view.origin.life);
  }
  return copy;
}

/** Two resolvers. Streams read at a node or at one of them. They change their upstream, and lag, as `pick` says. */
export class Resolvers implements Views {
  readonly #pastTouches: number | undefined;
  readonly #views: ResolverView[] = [];
  #world: WatchedWorld | undefined;
  /** How often a stream might be given a cursor by a resolver. */
  placeCount = 0;

  constructor(pastTouches: number | undefined) {
    this.#pastTouches = pastTouches;
  }

  begin(world: WatchedWorld): void {
    this.#world = world;
  }

  at(node: FabricComponent, pick: number): FabricComponent {
    const world = this.#world;
    const slot = Math.floor(pick / 3) % 3;
    if (world === undefined || slot === 2) return node;
    const time = { monoMs: 0, wallMs: 0 };
    const view = (this.#views[slot] ??= new ResolverView(`resolver-${slot}`, node, world, this.#pastTouches, time));
    return view.isComplete ? view : node;
  }

  ownerOf(view: FabricComponent): FabricComponent {
    return view instanceof ResolverView ? view.upstream : view;
  }

  isReady(view: FabricComponent): boolean {
    if (!(view instanceof ResolverView)) return true;
    if (view.isPlace) this.placeCount += 1;
    return view.isComplete;
  }

  follow(streams: readonly Stream[], pick: number, time: Time): void {
    const { mesh } = this.#world ?? { mesh: [] };
    this.#views.forEach((view, i) => {
      const isMoving = (pick + i) % 23 === 0;
      const upstream = isMoving ? (mesh[pick % mesh.length] ?? view.upstream) : view.upstream;
      // One of the two lags, so that its upstream does not tell it of what came and went in between.
      view.follow(upstream, pick === 1 || i === 0 || pick % 6 === 0 ? 1000 : 0, time);
      if (pick % 19 === 0) view.collect(time, 2);
      if (!view.isAnew && view.resent.size === 0) return;
      for (const stream of streams) if (stream.node === view) stream.allowOlder((key) => view.isAnew || view.resent.has(key));
      view.isAnew = false;
      view.resent.clear();
    });
  }
}
