/** Where a stream's rules turn by one change: the place that collected tombstones leave behind, and the close of a snapshot (semantics.md, Watch 3, 5). */
import { expect, test } from "vitest";
import { ANY } from "../../src/catalog/query/filter.ts";
import { BODY, type KeyText } from "../../src/catalog/record/record.ts";
import { shortHolder } from "../../src/catalog/watch/cursor.ts";
import { type FeedStart, WatchFeed } from "../../src/catalog/watch/feed.ts";
import { type FeedMessage, WatchReader } from "../../src/catalog/watch/reader.ts";
import { timeOf } from "../fakes/history.ts";
import { FabricComponent, KEYS } from "../fakes/mesh.ts";

const [K, L] = [KEYS[0]!, KEYS[1]!];
const GREEN = 1;
const T = timeOf(1, 0);
/** After every bookmark is due. */
const LATER = timeOf(10_000, 0);

class Watch {
  readonly feed: WatchFeed;
  /** A change of policy is still to be told. */
  isOwed = false;

  constructor(node: FabricComponent, from?: FeedStart["from"], allowed: (namespace: string) => boolean = () => true) {
    const viewer = { name: "w", hash: "h", policyEpoch: () => "e", allowed, isOwedAny: () => this.isOwed };
    const reader = new WatchReader({ ...viewer, filter: ANY, isNamesOnly: false, withDigest: false }, node.replica, node.facts);
    this.feed = new WatchFeed(reader, { from, bookmarkIntervalMs: 100 }, T);
  }

  next(time = T, budgetBytes = 100_000): FeedMessage | undefined {
    return this.feed.next(time, budgetBytes, true);
  }

  /** Every message there is, as text. */
  all(time = T): readonly string[] {
    const texts: string[] = [];
    for (let message = this.next(time); message !== undefined && texts.length < 100; message = this.next(time)) texts.push(textOf(message));
    return texts;
  }
}

/** `BEGIN ns,… +created ~updated -removed .` with keys as letters and `*` for a bookmark. */
function textOf(message: FeedMessage): string {
  const head = ["", "BEGIN", "CONTINUE", "END"][message.snapshot] ?? "";
  const changes = message.changes.map(({ action, record }) => `${" +~-"[action]}${KEYS.indexOf(record.key)}`);
  return [head, ...message.replaces, ...changes, message.isBookmark ? "*" : ""].filter((word) => word !== "").join(" ");
}

function at(revision: number): FeedStart["from"] {
  return { kind: "short", holder: shortHolder("a-1", "h"), revision, settled: revision };
}

function put(node: FabricComponent, key: KeyText, variant = 0): void {
  node.put(key, variant, T);
  node.commit(T);
}

function end(node: FabricComponent, key: KeyText): void {
  node.end(key, BODY.EXPIRED, T);
  node.commit(T);
}

function nodeWith(...keys: readonly KeyText[]): FabricComponent {
  const node = new FabricComponent("a");
  for (const key of keys) put(node, key);
  return node;
}

test("3: a place is too old by one collected tombstone that it has not been told of, and good when it was told of the last", () => {
  const keys = KEYS.slice(0, 8);
  const node = nodeWith(...keys);
  const [short, told] = [new Watch(node), new Watch(node)];
  for (const watch of [short, told]) watch.all();
  for (const key of keys) end(node, key);
  for (let n = 0; n < 4; n++) {
    if (n < 3) short.next(T, 1);
    told.next(T, 1);
  }
  node.collect(T);
  const { collectedRevision } = node.replica;
  expect([short.feed.revision, told.feed.revision]).toEqual([collectedRevision - 1, collectedRevision]);
  expect([short.all(), told.all()]).toEqual([["BEGIN", "END"], ["-4 -5 -6 -7"]]);
  expect(new Watch(node, at(collectedRevision - 1)).all()).toEqual(["BEGIN", "END"]);
  expect(new Watch(node, at(collectedRevision)).all()).toEqual(["-4 -5 -6 -7"]);
});

test("5: what came and went while it was hidden is not named when the namespace is told anew, however late it went", () => {
  const node = nodeWith(L);
  let denied = "svc";
  const watch = new Watch(node, undefined, (namespace) => namespace !== denied);
  watch.all();
  put(node, K);
  put(node, KEYS[4]!);
  end(node, K);
  denied = "";
  watch.feed.refresh(["svc"]);
  // Told of by the pages: what is not of the namespace comes as the change that it is, and what comes after BEGIN too.
  expect(textOf(watch.next(T)!)).toBe("BEGIN svc +1");
  put(node, L, GREEN);
  expect(watch.all()).toEqual(["END +4 ~1"]);
});

test("5: no END, bookmark or farewell while a change of policy is still to be told", () => {
  const node = nodeWith(K);
  const watch = new Watch(node);
  watch.isOwed = true;
  expect(watch.all(LATER)).toEqual(["BEGIN +0"]);
  put(node, L);
  expect(watch.all(LATER)).toEqual(["CONTINUE +1"]);
  watch.isOwed = false;
  expect(watch.all(T)).toEqual(["END"]);
  watch.isOwed = true;
  expect([watch.all(LATER), watch.feed.farewell(LATER, true)]).toEqual([[], undefined]);
  watch.isOwed = false;
  expect(watch.all(LATER)).toEqual(["*"]);
});
