/** A reader of a feed: folds what it gets as the client does, and checks at every message what semantics.md promises. */
import assert from "node:assert/strict";
import { SCOPE } from "../../src/catalog/entry/scope.ts";
import { ANY, type EntryFilter } from "../../src/catalog/query/filter.ts";
import { type CatalogRecord, HEALTH, KIND } from "../../src/catalog/record/record.ts";
import type { Replica } from "../../src/catalog/replica/replica.ts";
import { type PortableCursor, parseCursor, type ShortCursor } from "../../src/catalog/watch/cursor.ts";
import { type FeedStart, WatchFeed } from "../../src/catalog/watch/feed.ts";
import { NAME_INDEX_BOUNDS, NameIndex } from "../../src/catalog/watch/name-index.ts";
import { ACTION, type ChangeAction, type FeedMessage, SNAPSHOT, WatchReader } from "../../src/catalog/watch/reader.ts";
import { isOfReader } from "../../src/catalog/watch/resume.ts";
import type { Time } from "../../src/lib/machine.ts";
import { VersionRange } from "../../src/lib/versions.ts";
import type { FabricComponent } from "./mesh.ts";
import { lineOf } from "./model.ts";

/** One filter for every field. */
export const FILTERS: readonly EntryFilter[] = [
  ANY,
  { ...ANY, namespace: "svc" },
  { ...ANY, prefix: "svc" },
  // Of histories, and of the simulator.
  { ...ANY, names: ["db", "n1", "n3"] },
  { ...ANY, kindMask: 1 << KIND.SERVICE },
  { ...ANY, tags: ["blue"] },
  { ...ANY, tags: ["green"], prefix: "svc" },
  { ...ANY, capabilities: ["grpc"] },
  { ...ANY, resources: ["gpu"] },
  { ...ANY, scope: SCOPE.REGION },
  { ...ANY, scope: SCOPE.LOCAL },
  { ...ANY, scope: SCOPE.ZONE, clusterId: "c1", region: "r1" },
  { ...ANY, healthMask: 1 << HEALTH.HEALTHY },
  { ...ANY, healthMask: (1 << HEALTH.DEGRADED) | (1 << HEALTH.ORPHANED) },
];
/** And those that simulated clients do not use. */
export const WATCH_FILTERS: readonly EntryFilter[] = [
  ...FILTERS,
  { ...ANY, kindMask: 1 << KIND.FUNCTION, versions: new VersionRange("^1") },
  { ...ANY, kindMask: 1 << KIND.FUNCTION, versions: new VersionRange(">=2"), tags: ["blue"] },
];
const DIGESTED = 3;

/** What the readers may see; changes as the history says. */
export interface Policy {
  readonly denied: Set<string>;
  epoch: number;
}

/** A node's readers, shared by the streams of equal filters as they are in a node. */
export class Readers {
  readonly #byName = new Map<string, WatchReader>();
  readonly #indexes = new WeakMap<Replica, NameIndex>();
  readonly #policy: Policy;

  constructor(policy: Policy) {
    this.#policy = policy;
  }

  of(node: FabricComponent, filter: number): WatchReader {
    const name = `${node.facts.boot} ${node.viewName} ${filter}`;
    const policy = this.#policy;
    let reader = this.#byName.get(name);
    if (reader === undefined) {
      const options = {
        filter: WATCH_FILTERS[filter]!,
        name,
        hash: WATCH_FILTERS[filter]!.scope === SCOPE.LOCAL ? `f${filter}-${node.nodeId}` : `f${filter}`,
        viewer: { clusterId: "c1", tenant: "" },
        allowed: (namespace: string) => !policy.denied.has(namespace),
        policyEpoch: () => `e${policy.epoch}`,
        isNamesOnly: filter % 2 === 1,
        withDigest: filter < DIGESTED,
        portableCursor: node.places?.portableCursor,
      };
      reader = new WatchReader(options, node.replica, node.facts);
      // Half of them keep no message for other streams.
      reader.streamCount = filter % 2;
      this.#byName.set(name, reader);
    }
    return reader;
  }

  /** Half of the changes are offered by name before streams look, one at a look, and the others are found in the log. */
  offer({ replica }: WatchReader): void {
    if (replica.revision % 2 === 0) this.#indexOf(replica).offer(() => undefined);
  }

  /** A stream of the reader was told everything: from now on changes are offered to it by name. */
  narrow(reader: WatchReader): void {
    if (reader.options.filter.names.length > 0 && reader.touches === undefined) this.#indexOf(reader.replica).add(reader);
  }

  #indexOf(replica: Replica): NameIndex {
    const index = this.#indexes.get(replica) ?? new NameIndex(replica, { ...NAME_INDEX_BOUNDS, offeredAtATime: 1 });
    this.#indexes.set(replica, index);
    return index;
  }
}

export class Stream {
  filter: number;
  readonly #readers: Readers;
  readonly #policy: Policy;
  node: FabricComponent;
  feed: WatchFeed;
  /** Key to line; what the reader holds. */
  readonly held = new Map<string, string>();
  #staged: { readonly replaces: readonly string[]; readonly seen: Set<string> } | undefined;
  #short: { readonly cursor: ShortCursor; readonly boot: string; readonly epoch: number } | undefined;
  portable: PortableCursor | undefined;
  /** The cursor this stream was resumed from, while the node may be behind it. */
  #resumed: PortableCursor | undefined;
  /** Newest seq seen of each key and origin. */
  readonly #newest = new Map<string, number>();
  /** Keys sent since the last portable cursor, or removed by a snapshot. */
  readonly #told = new Set<string>();
  /**
   * Keys that another node told after the cursor this stream was resumed from. What of it is true is told again; what is not
   * (the other node lost its disk, or had other news of an origin's life) is nothing that this node can know of: a careful
   * reader starts anew when it is not told again by the next bookmark.
   */
  readonly #doubted = new Set<string>();
  settledCount = 0;
  /** Deltas taken; those that removed what was not held; those that said what was held already. */
  toldCount = 0;
  uselessCount = 0;
  repeatedCount = 0;

  constructor(filter: number, node: FabricComponent, readers: Readers, policy: Policy, time: Time) {
    this.filter = filter;
    this.#readers = readers;
    this.#policy = policy;
    this.node = node;
    this.feed = this.#open(undefined, time);
  }

  /** Another stream, at this node or another, from the best cursor there is: short here, portable, none. */
  reconnect(node: FabricComponent, time: Time, how: "best" | "portable"): void {
    this.#staged = undefined;
    this.node = node;
    const short = this.#short;
    const isSame = how === "best" && short?.boot === node.facts.boot && short.epoch === this.#policy.epoch;
    this.#resumed = undefined;
    if (isSame) {
      this.feed = this.#open(short.cursor, time);
    } else if (this.portable === undefined) {
      this.#newest.clear();
      this.feed = this.#open(undefined, time);
    } else {
      // A cursor of another filter, and LOCAL is another at each node, is only good for a snapshot from scratch.
      const isOurs = this.portable.readerHash === this.#readers.of(node, this.filter).options.hash;
      this.#resumed = isOurs ? this.portable : undefined;
      if (!isOurs) this.#newest.clear();
      this.#short = undefined;
      for (const key of this.#told) this.#doubted.add(key);
      this.feed = this.#open(this.portable, time);
    }
  }

  /** Asks for something else with the cursors that it has: what it holds is not what the other filter shows. */
  refilter(filter: number, time: Time, how: "best" | "portable"): void {
    this.filter = filter;
    this.reconnect(this.node, time, how);
  }

  /** Allows the server to send again older records of these keys and origins. */
  allowOlder(isAllowed: (key: string, originId: string) => boolean): void {
    for (const id of this.#newest.keys()) {
      const space = id.lastIndexOf(" ");
      if (isAllowed(id.slice(0, space), id.slice(space + 1))) this.#newest.delete(id);
    }
  }

  /** Takes one message; returns whether there was one. */
  pull(time: Time, budgetBytes: number, isReady: boolean): boolean {
    this.#readers.offer(this.feed.reader);
    const message = this.feed.next(time, budgetBytes, isReady);
    if (message === undefined && this.feed.isCurrent) this.#readers.narrow(this.feed.reader);
    if (message === undefined) return false;
    this.#take(message, budgetBytes, isReady);
    if (this.#doubted.size > 0 && (message.isBookmark || message.snapshot === SNAPSHOT.END)) this.#startAnew(time);
    return true;
  }

  farewell(time: Time, isReady: boolean): void {
    const message = this.feed.farewell(time, isReady);
    if (message !== undefined) this.#take(message, Number.POSITIVE_INFINITY, isReady);
  }

  /** A full snapshot replaces what cursors of other readers stand for. */
  #dropForeignCursors(reader: WatchReader): void {
    if (this.#short !== undefined && !isOfReader(this.#short.cursor, reader)) this.#short = undefined;
    if (this.portable !== undefined && !isOfReader(this.portable, reader)) this.portable = undefined;
  }

  #startAnew(time: Time): void {
    this.#newest.clear();
    this.#doubted.clear();
    this.portable = undefined;
    this.#short = undefined;
    this.feed = this.#open(undefined, time);
  }

  #open(from: FeedStart["from"], time: Time): WatchFeed {
    return new WatchFeed(this.#readers.of(this.node, this.filter), { from, bookmarkIntervalMs: 100, places: this.node.places }, time);
  }

  #take(message: FeedMessage, budgetBytes: number, isReady: boolean): void {
    const { reader } = this.feed;
    this.#check(message, budgetBytes);
    const isFresh = message.snapshot === SNAPSHOT.BEGIN && message.replaces.length === 0;
    if (isFresh) this.#dropForeignCursors(reader);
    if (isFresh) for (const { id, isLost } of this.#uncovered()) if (isLost) this.allowOlder((_, originId) => originId === id);
    if (message.snapshot === SNAPSHOT.BEGIN) this.#staged = { replaces: message.replaces, seen: new Set() };
    for (const { action, record } of message.changes) {
      assert(!this.#policy.denied.has(record.namespace), `told of hidden ${record.namespace}`);
      const id = `${record.key} ${record.origin.id}`;
      if (this.#doubted.delete(record.key)) this.allowOlder((key) => key === record.key);
      const newest = this.#newest.get(id) ?? 0;
      // A removal may come with any record of its key: a whole transfer ends what it does not list under the number it has.
      const isBackwards = action !== ACTION.REMOVE && record.seq < newest;
      assert(!isBackwards, `goes backwards for ${JSON.stringify(id)}: ${record.seq} after ${newest}`);
      this.#newest.set(id, Math.max(record.seq, newest));
      this.#count(action, record);
      this.#told.add(record.key);
      if (action === ACTION.REMOVE) this.held.delete(record.key);
      else {
        this.held.set(record.key, lineOf(record.key, record));
        this.#staged?.seen.add(record.key);
      }
    }
    const isEnd = message.snapshot === SNAPSHOT.END;
    const isFull = this.#staged?.replaces.length === 0;
    if (isEnd) this.#swap();
    if (message.cursor !== "" && (this.#staged === undefined || isEnd)) {
      const parsed = parseCursor(message.cursor);
      if (parsed.kind === "short") this.#short = { cursor: parsed, boot: this.node.facts.boot, epoch: this.#policy.epoch };
    }
    if (isEnd || message.isBookmark) {
      assert(isReady, "END or bookmark of a node that is not ready");
      const options = reader.options;
      if (isEnd && isFull) {
        this.allowOlder((key) => this.#doubted.has(key));
        this.#doubted.clear();
      }
      const isSure = (line: string): boolean => ![...this.#doubted].some((key) => line.startsWith(`${key.replaceAll("\0", "|")} `));
      const want = this.node.shown.answer(WATCH_FILTERS[this.filter]!, this.node.facts, options.allowed);
      const held = [...this.held.values()].filter(isSure).toSorted();
      assert.deepEqual(held, want.filter(isSure).toSorted(), "folded at END or bookmark");
      this.#settle(message);
    } else assert.equal(message.portableCursor, "");
  }

  #count(action: ChangeAction, record: CatalogRecord): void {
    const { key, namespace } = record;
    const staged = this.#staged;
    const isReplaced = staged !== undefined && (staged.replaces.length === 0 || staged.replaces.includes(namespace));
    const line = isReplaced && !staged.seen.has(key) ? undefined : this.held.get(key);
    this.toldCount += 1;
    if (action !== ACTION.REMOVE) this.repeatedCount += Number(line === lineOf(key, record));
    else this.uselessCount += Number(!this.held.has(key));
  }

  #check(message: FeedMessage, budgetBytes: number): void {
    const { reader } = this.feed;
    const keys = message.changes.map(({ record }) => record.key);
    assert.equal(new Set(keys).size, keys.length, "a key twice in a message");
    const size = message.changes.reduce((sum, change) => sum + reader.sizeOf(change), 0);
    assert(keys.length < 2 || size <= budgetBytes, `${keys.length} changes of ${size} bytes in ${budgetBytes}`);
    for (const { record } of message.changes) assert(reader.mayHoldKey(record));
    if (message.snapshot === SNAPSHOT.BEGIN || message.snapshot === SNAPSHOT.CONTINUE) assert.equal(message.cursor, "");
    // While behind: no place to resume from, no record that the reader may have newer.
    const behind = this.#uncovered().filter(({ isLost }) => !isLost);
    if (behind.length === 0) return;
    const { cursor, snapshot, isBookmark, digest } = message;
    assert.deepEqual([cursor, snapshot, isBookmark, digest], ["", SNAPSHOT.NONE, false, undefined], "while behind");
    for (const { record } of message.changes) {
      const known = behind.find(({ id }) => id === record.origin.id);
      assert(known === undefined || record.seq > known.seq, "told while behind what the reader may have newer");
    }
  }

  /** What the cursor resumed from knows and the node does not; lost when no living node of this generation can tell it. */
  #uncovered(): readonly { readonly id: string; readonly seq: number; readonly isLost: boolean }[] {
    const known = this.node.known();
    return (this.#resumed?.origins ?? []).flatMap(({ nodeId, generation, seq }) => {
      const id = `${nodeId}/${generation}`;
      const origin = known.get(id);
      if (origin !== undefined && origin.settled >= seq) return [];
      const isSuperseded = [...known.keys()].some((other) => isLater(other, nodeId, generation));
      const isLost = origin === undefined || id === this.node.replica.self.id || origin.life !== "live" || isSuperseded;
      return [{ id, seq, isLost }];
    });
  }

  #settle(message: FeedMessage): void {
    this.settledCount += 1;
    this.#resumed = undefined;
    if (!this.node.isPlace) {
      assert.equal(message.portableCursor, "", "a cursor between bookmarks");
      return;
    }
    this.#told.clear();
    const portable = parseCursor(message.portableCursor);
    if (portable.kind !== "portable") throw new Error("not portable");
    const known = this.node.known();
    for (const { nodeId, generation, seq, settled = seq, life } of portable.origins)
      assert.deepEqual({ seq, settled, life }, known.get(`${nodeId}/${generation}`), "portable cursor");
    this.portable = portable;
    const { filter, allowed, withDigest } = this.feed.reader.options;
    if (!withDigest) return;
    const covers = (namespace: string): boolean => this.feed.reader.mayHoldNamespace(namespace) && allowed(namespace);
    assert.deepEqual(message.digest, this.node.shown.digest(covers), `digest for ${filter.namespace}${filter.prefix}`);
  }

  /** End of a snapshot: what it speaks for and did not list is gone. */
  #swap(): void {
    const staged = this.#staged;
    this.#staged = undefined;
    if (staged === undefined) throw new Error("END without BEGIN");
    for (const key of this.held.keys()) {
      const isCovered = staged.replaces.length === 0 || staged.replaces.includes(key.split("\0")[0] ?? "");
      if (!isCovered || staged.seen.has(key)) continue;
      this.held.delete(key);
      this.#told.add(key);
    }
  }
}

/** Whether an origin's id is of that node in a later generation. */
function isLater(id: string, nodeId: string, generation: number): boolean {
  return id.startsWith(`${nodeId}/`) && Number(id.slice(nodeId.length + 1)) > generation;
}
