/** Each rule of semantics.md, Watch, by its number. */
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { expect, test } from "vitest";
import { SCOPE } from "../../../src/catalog/entry/scope.ts";
import { ANY, type EntryFilter } from "../../../src/catalog/query/filter.ts";
import { BODY, HEALTH, type KeyText } from "../../../src/catalog/record/record.ts";
import { parseCursor, shortHolder } from "../../../src/catalog/watch/cursor.ts";
import { type FeedStart, WatchFeed } from "../../../src/catalog/watch/feed.ts";
import { ACTION, type FeedMessage, SNAPSHOT, WatchReader } from "../../../src/catalog/watch/reader.ts";
import type { Time } from "../../../src/lib/machine.ts";
import { sized } from "../../fakes/effort.ts";
import { timeOf } from "../../fakes/history.ts";
import { FabricComponent, KEYS } from "../../fakes/mesh.ts";

const [K, L] = [KEYS[0]!, KEYS[1]!];
const [BLUE, GREEN] = [0, 1];
const VIEWER = { clusterId: "c1", tenant: "" };
const BLUE_ONLY: EntryFilter = { ...ANY, tags: ["blue"] };
const AMPLE = 100_000;
const T = timeOf(1, 0);
/** After every bookmark is due, and longer than a reader waits for what nobody knows. */
const LATER = timeOf(10_000, 0);

class Watch {
  readonly reader: WatchReader;
  readonly feed: WatchFeed;
  epoch = "e";

  constructor(
    node: FabricComponent,
    from?: FeedStart["from"],
    filter: EntryFilter = ANY,
    allowed: (namespace: string) => boolean = () => true,
  ) {
    const options = {
      filter,
      name: "w",
      hash: "h",
      allowed,
      viewer: VIEWER,
      policyEpoch: () => this.epoch,
      isNamesOnly: false,
      withDigest: false,
    };
    this.reader = new WatchReader(options, node.replica, node.facts);
    this.feed = new WatchFeed(this.reader, { from, bookmarkIntervalMs: 100 }, T);
  }

  next(time = T, budgetBytes = AMPLE, isReady = true): FeedMessage | undefined {
    return this.feed.next(time, budgetBytes, isReady);
  }

  /** Every message there is, as text. */
  all(time = T, budgetBytes = AMPLE, isReady = true): readonly string[] {
    const texts: string[] = [];
    for (let message = this.next(time, budgetBytes, isReady); message !== undefined; message = this.next(time, budgetBytes, isReady))
      texts.push(textOf(message));
    return texts;
  }

  /** As `all`, of a stream that goes on from a portable cursor: with the difference told, a bookmark says so at once. */
  difference(): readonly string[] {
    const texts = this.all();
    if (texts.at(-1) !== "*") throw new Error(`no bookmark after ${texts.join(", ")}`);
    return texts.slice(0, -1);
  }

  /** Takes everything; returns where a stream may go on. */
  settle(time = T): FeedStart["from"] {
    let last = "";
    for (let message = this.next(time); message !== undefined; message = this.next(time)) last = message.portableCursor;
    return portable(last);
  }
}

function at(revision: number): FeedStart["from"] {
  return { kind: "short", holder: shortHolder("a-1", "h"), revision, settled: revision };
}

function portable(text: string): FeedStart["from"] {
  const cursor = parseCursor(text);
  if (cursor.kind !== "portable") throw new Error(`not portable: ${text}`);
  return cursor;
}

/** `BEGIN ns,… +created ~updated -removed .` with keys as letters and `*` for a bookmark. */
function textOf(message: FeedMessage): string {
  const head = ["", "BEGIN", "CONTINUE", "END"][message.snapshot] ?? "";
  const changes = message.changes.map(({ action, record }) => `${" +~-"[action]}${KEYS.indexOf(record.key)}`);
  return [head, ...message.replaces, ...changes, message.isBookmark ? "*" : ""].filter((word) => word !== "").join(" ");
}

function put(node: FabricComponent, key: KeyText = K, variant = BLUE, time: Time = T): void {
  node.put(key, variant, time);
  node.commit(time);
}

function end(
  node: FabricComponent,
  key: KeyText = K,
  body: typeof BODY.EXPIRED | typeof BODY.UNREGISTERED = BODY.EXPIRED,
  time: Time = T,
): void {
  node.end(key, body, time);
  node.commit(time);
}

function nodeWith(...keys: readonly KeyText[]): FabricComponent {
  const node = new FabricComponent("a");
  for (const key of keys) put(node, key);
  return node;
}

/** Node b with everything node a has. */
function copyOf(a: FabricComponent): FabricComponent {
  return nodeOf("b", a);
}

function nodeOf(nodeId: string, a: FabricComponent): FabricComponent {
  const node = new FabricComponent(nodeId);
  node.copy(a, a.replica.self.id, T);
  return node;
}

test("1: a snapshot comes in pages without cursors; its END has the cursors, and deltas follow", () => {
  const node = nodeWith(...KEYS.slice(0, 3));
  const watch = new Watch(node);
  const messages = [watch.next(T, 200), watch.next(T, 200), watch.next(T, 200), watch.next(T, 200)].map((m) => m!);
  expect(messages.map(textOf)).toEqual(["BEGIN +0", "CONTINUE +1", "CONTINUE +2", "END"]);
  expect(messages.map((m) => [m.cursor === "", m.portableCursor === ""])).toEqual([
    [true, true],
    [true, true],
    [true, true],
    [false, false],
  ]);
  expect(parseCursor(messages[3]!.cursor)).toEqual({ kind: "short", holder: "a-1-h", revision: 3, settled: 3 });
  put(node, K, GREEN);
  const delta = watch.next()!;
  expect([textOf(delta), delta.cursor !== "", delta.portableCursor]).toEqual(["~0", true, ""]);
});

test("1: what changes while the pages go out is told before END, also the end of what was sent", () => {
  const node = nodeWith(K, L);
  const watch = new Watch(node);
  watch.next(T, 200);
  end(node, K);
  put(node, KEYS[2]);
  expect(watch.all(T, 400)).toEqual(["CONTINUE +1 +2", "END -0"]);
});

test("2: a key changed several times arrives once, as it is now", () => {
  const node = nodeWith(K);
  const watch = new Watch(node);
  watch.settle();
  for (let n = 0; n < 50; n++) put(node, K, n % 2);
  end(node, K);
  put(node, K, GREEN);
  put(node, L);
  put(node, L, GREEN);
  expect(watch.all()).toEqual(["~0 +1"]);
});

test("2: CREATE when the reader does not hold the key, else UPDATE; of what came and went it is not told", () => {
  const node = nodeWith(K);
  const watch = new Watch(node);
  watch.settle();
  put(node, K, GREEN);
  put(node, L);
  put(node, KEYS[2]);
  end(node, KEYS[2]);
  expect(watch.all()).toEqual(["~0 +1"]);
});

test("2: what a reader never had is not removed: it never matched, moved among what does not match, or ended without having matched", () => {
  const node = nodeWith(...KEYS.slice(0, 3));
  const watch = new Watch(node, undefined, BLUE_ONLY);
  put(node, L, GREEN);
  watch.settle();
  const [never, moved, ended] = [KEYS[3]!, L, KEYS[4]!];
  put(node, never, GREEN);
  put(node, moved, GREEN);
  put(node, ended, GREEN);
  end(node, ended);
  put(node, KEYS[5], BLUE);
  put(node, KEYS[5], GREEN);
  expect(watch.all()).toEqual([]);
  put(node, moved, BLUE);
  end(node, K);
  expect(watch.all()).toEqual(["+1 -0"]);
});

test("2: where the node no longer knows what was seen before, a removal that may be needed is told", () => {
  const node = new FabricComponent("a", 2);
  for (const key of KEYS.slice(0, 3)) put(node, key);
  const watch = new Watch(node, undefined, BLUE_ONLY);
  watch.settle();
  put(node, K, GREEN);
  put(node, KEYS[3], GREEN);
  put(node, L, BLUE);
  put(node, L, BLUE);
  expect(watch.all()).toEqual(["-0 -3 ~1"]);
});

test("2: what another origin says of a key is not told where it does not change what is seen of it", () => {
  const [a, b] = [new FabricComponent("a"), new FabricComponent("b")];
  put(b, K, BLUE, timeOf(1, 0));
  put(a, K, BLUE, timeOf(2, 0));
  const watch = new Watch(a);
  watch.settle();
  a.copy(b, "b/1", T);
  b.end(K, BODY.EXPIRED, timeOf(3, 0));
  b.commit(timeOf(3, 0));
  a.copy(b, "b/1", T);
  a.setLife("b/1", "orphaned");
  expect(watch.all()).toEqual([]);
  put(b, K, GREEN, timeOf(4, 0));
  a.copy(b, "b/1", T);
  expect(watch.all()).toEqual(["~0"]);
});

test("2: a reader that comes back with an older cursor than what it was told last loses no removal", () => {
  const node = nodeWith(K, L);
  const watch = new Watch(node, undefined, BLUE_ONLY);
  watch.settle();
  const cursor = at(node.replica.revision);
  put(node, KEYS[2], BLUE);
  expect(watch.all()).toEqual(["+2"]);
  put(node, KEYS[2], GREEN);
  expect(new Watch(node, cursor, BLUE_ONLY).all()).toEqual(["-2"]);
});

test("2: at a node that is told of by a cursor from elsewhere, nothing that the reader may hold is passed over before the first bookmark", () => {
  const a = nodeWith(K, L);
  const from = new Watch(a, undefined, BLUE_ONLY).settle();
  const b = copyOf(a);
  // Node a told the reader that it matched; b hears only what it became.
  put(a, KEYS[2], BLUE);
  const watch = new Watch(b, from, BLUE_ONLY);
  expect(watch.all(T, AMPLE, false)).toEqual([]);
  put(a, KEYS[2], GREEN);
  b.copy(a, "a/1", T);
  expect(watch.all(T, AMPLE, false)).toEqual(["-2"]);
  expect(watch.all()).toEqual(["*"]);
  put(a, KEYS[3], GREEN);
  b.copy(a, "a/1", T);
  expect(watch.all()).toEqual([]);
});

test.each([
  { what: "never matched and still does not", variants: [GREEN, GREEN], want: { live: [], resumed: [] } },
  { what: "never matched, and a filterable field changes", variants: [GREEN, 2], want: { live: ["+0"], resumed: ["~0"] } },
  { what: "matched and no longer does", variants: [BLUE, GREEN], want: { live: ["-0"], resumed: ["-0"] } },
  { what: "matches now", variants: [GREEN, BLUE], want: { live: ["+0"], resumed: ["~0"] } },
])("2: filter_seq: a reader of one tag is told of an entry that $what", ({ variants: [before, after], want }) => {
  const node = new FabricComponent("a");
  put(node, K, before);
  for (const how of ["live", "resumed"] as const) {
    const copy = copyOf(node);
    const watch = new Watch(copy, undefined, BLUE_ONLY);
    const from = watch.settle();
    put(node, K, after);
    copy.copy(node, "a/1", T);
    expect(how === "live" ? watch.all() : new Watch(copy, from, BLUE_ONLY).difference()).toEqual(want[how]);
    put(node, K, before);
  }
});

test("2: filter_seq does not silence the removal when another origin's record takes over without a change of its own fields", () => {
  const [a, b] = [new FabricComponent("a"), new FabricComponent("b")];
  put(b, K, GREEN, timeOf(1, 0));
  put(a, K, BLUE, timeOf(2, 0));
  a.copy(b, "b/1", T);
  const watch = new Watch(a, undefined, BLUE_ONLY);
  const from = watch.settle();
  put(b, K, GREEN, timeOf(3, 0));
  a.copy(b, "b/1", T);
  expect(watch.all()).toEqual(["-0"]);
  expect(new Watch(a, from, BLUE_ONLY).difference()).toEqual(["-0"]);
});

test("2: a removal is told though a cut message, or a reconnect there, came between the change and the key's next touch", () => {
  const node = nodeWith(...KEYS.slice(0, 3));
  const watches = [new Watch(node, undefined, BLUE_ONLY), new Watch(node, undefined, BLUE_ONLY)] as const;
  for (const watch of watches) watch.settle();
  put(node, K, GREEN);
  put(node, L);
  put(node, KEYS[2]);
  put(node, K, GREEN);
  expect(watches[0].all(T, 1)).toEqual(["~1", "~2", "-0"]);
  const cut = parseCursor(watches[1].next(T, 1)!.cursor);
  if (cut.kind !== "short") throw new Error("not short");
  expect(new Watch(node, cut, BLUE_ONLY).all(T, 1)).toEqual(["~2", "-0"]);
});

test("2: an origin's change of life visits its keys again, live and on resume", () => {
  const a = nodeWith(K);
  const b = copyOf(a);
  const watch = new Watch(b);
  const from = watch.settle();
  b.setLife("a/1", "orphaned");
  expect(watch.all()).toEqual(["~0"]);
  b.setLife("a/1", "hidden");
  expect(watch.all()).toEqual(["-0"]);
  expect(new Watch(b, from).difference()).toEqual(["-0"]);
  b.setLife("a/1", "live");
  expect(watch.all()).toEqual(["+0"]);
});

test("2: an entry that a health filter no longer matches because its origin is away is removed, and put when it is back", () => {
  const b = copyOf(nodeWith(K));
  const watch = new Watch(b, undefined, { ...ANY, healthMask: 1 << HEALTH.HEALTHY });
  const from = watch.settle();
  b.setLife("a/1", "orphaned");
  expect(watch.all()).toEqual(["-0"]);
  expect(new Watch(b, from, { ...ANY, healthMask: 1 << HEALTH.HEALTHY }).difference()).toEqual(["-0"]);
  b.setLife("a/1", "live");
  expect(watch.all()).toEqual(["+0"]);
});

test("3: a portable cursor brings only the difference: on the same node after a restart, and on another", () => {
  const a = nodeWith(K, L);
  const from = new Watch(a).settle();
  put(a, K, GREEN);
  end(a, L);
  put(a, KEYS[2]);
  const b = copyOf(a);
  a.restart(T, "disk kept");
  for (const node of [a, b]) expect(new Watch(node, from).difference()).toEqual(["~0 -1 +2"]);
});

test("3: a bookmark comes when it is due, busy or idle, with a portable cursor; not from a node that is not ready", () => {
  const node = nodeWith(K);
  const watch = new Watch(node);
  watch.settle();
  expect(watch.next(timeOf(5, 0))).toBeUndefined();
  expect(watch.next(timeOf(11, 0), AMPLE, false)).toBeUndefined();
  const idle = watch.next(timeOf(11, 0))!;
  expect([textOf(idle), idle.portableCursor !== ""]).toEqual(["*", true]);
  put(node, K, GREEN);
  expect(textOf(watch.next(timeOf(21, 0))!)).toBe("~0 *");
});

test("3: a portable cursor says what the vector is now, though no record changed since the last one", () => {
  const a = nodeWith(K);
  const b = copyOf(a);
  const watch = new Watch(b);
  watch.settle();
  b.replica.origins.get("a/1")!.through = 7;
  const from = portable(watch.next(LATER)!.portableCursor);
  expect(from?.kind === "portable" && from.origins.map((o) => o.seq)).toEqual([0, 7]);
});

test("3: a short cursor is good for the reader that it was given to, in this process life: any other gets a snapshot", () => {
  const node = nodeWith(K);
  const [own, other, bare] = [shortHolder("a-1", "h"), shortHolder("a-1", "other"), shortHolder("a-1")];
  const told = (holder: string) => new Watch(node, { kind: "short", holder, revision: 1, settled: 1 }).all();
  expect([told(own), told(other), told(bare), told(shortHolder("a-2", "h"))]).toEqual([
    [],
    ["BEGIN +0", "END"],
    ["BEGIN +0", "END"],
    ["BEGIN +0", "END"],
  ]);
});

test.each([
  { what: "of another cluster", change: { clusterId: "c2" } },
  { what: "of another filter or viewer", change: { readerHash: "other" } },
  { what: "of another policy", change: { policyEpoch: "other" } },
  {
    what: "that knows more of this node than its journal",
    change: { origins: [{ nodeId: "a", generation: 1, seq: 9, life: "live" as const }] },
  },
  { what: "of an earlier generation of this node", change: { origins: [{ nodeId: "a", generation: 7, seq: 1, life: "live" as const }] } },
])("3: a cursor $what gets a snapshot", ({ change }) => {
  const node = nodeWith(K);
  const from = new Watch(node).settle();
  if (from?.kind !== "portable") throw new Error("not portable");
  const watch = new Watch(node, { ...from, ...change });
  expect(watch.all()).toEqual(["BEGIN +0", "END"]);
});

test("3: LOCAL entries are one node's own, whatever vectors cover: at another node a reader gets a snapshot", () => {
  const putLocal = (node: FabricComponent, key: KeyText): void => {
    node.put(key, BLUE, T, undefined, SCOPE.LOCAL);
    node.commit(T);
  };
  const a = nodeWith(K);
  const b = copyOf(a);
  const before = new Watch(a).settle();
  putLocal(b, KEYS[2]!);
  putLocal(a, L);
  b.copy(a, a.replica.self.id, T);
  const wide: EntryFilter = { ...ANY, scope: SCOPE.ZONE };
  const [ofA, ofB, wideOfA] = [new Watch(a).settle(), new Watch(b).settle(), new Watch(a, undefined, wide).settle()];
  expect(new Watch(b, ofA).all()).toEqual(["BEGIN +0 +2", "END"]);
  expect(new Watch(b, before).all()).toEqual(["BEGIN +0 +2", "END"]);
  expect(new Watch(nodeOf("c", a), ofA).all()).toEqual(["BEGIN +0", "END"]);
  expect(new Watch(b, ofB).difference()).toEqual([]);
  // At a another record of that key may have stood behind a's own.
  expect(new Watch(b, wideOfA, wide).all()).toEqual(["BEGIN +0", "END"]);
});

test("3: a cursor that names an origin forgotten here gets a snapshot", () => {
  const b = copyOf(nodeWith(K));
  put(b, L);
  const from = new Watch(b).settle();
  b.forget("a/1", T);
  expect(new Watch(b, from).all()).toEqual(["BEGIN +1", "END"]);
});

test("3: tombstones collected beyond a cursor, short or portable, or a slow stream's place make it a snapshot, never a silent gap", () => {
  const node = nodeWith(...KEYS.slice(0, 8));
  const slow = new Watch(node);
  const from = slow.settle();
  for (const key of KEYS.slice(0, 8)) end(node, key);
  put(node, KEYS[9]);
  node.collect(T);
  expect(slow.all()).toEqual(["BEGIN +9", "END"]);
  expect(slow.feed.restartCount).toBe(1);
  expect(new Watch(node, from).all()).toEqual(["BEGIN +9", "END"]);
  expect(new Watch(node, at(8)).all()).toEqual(["BEGIN +9", "END"]);
  // What was collected is before this place.
  expect(new Watch(node, at(node.replica.collectedRevision)).all()).toEqual(["-4 -5 -6 -7 +9"]);
});

test("3: a tombstone collected, or an origin forgotten, while a resumed stream is on its way to it makes a snapshot", () => {
  const keys = KEYS.slice(0, 8);
  const a = nodeWith(...keys);
  const b = copyOf(a);
  const from = new Watch(b).settle();
  for (const key of keys) end(a, key);
  b.copy(a, "a/1", T);
  const collected = new Watch(b, from);
  expect(collected.all(T, 1)).toEqual([...keys.map((_, i) => `-${i}`), "*"]);
  const forgotten = new Watch(b, from);
  const interrupted = new Watch(b, from);
  for (const watch of [interrupted, forgotten]) expect(textOf(watch.next(T, 1)!)).toBe("-0");
  b.collect(T);
  expect(interrupted.all()).toEqual(["BEGIN", "END"]);
  b.setLife("a/1", "hidden");
  b.forget("a/1", T);
  expect(forgotten.all()).toEqual(["BEGIN", "END"]);
});

test("4 Why: removed keys do not return on fail-over to a node that is behind the cursor", () => {
  const a = nodeWith(K, L);
  const behind = copyOf(a);
  end(a, K);
  put(a, L, GREEN);
  const from = new Watch(a).settle();
  put(behind, KEYS[2]);
  const watch = new Watch(behind, from);
  // Its old records must not be told even when something touches them.
  behind.setLife("a/1", "orphaned");
  behind.setLife("a/1", "live");
  expect(watch.all(LATER)).toEqual(["+2"]);
  behind.copy(a, "a/1", LATER, 60, 1);
  expect(watch.all(LATER)).toEqual([]);
  behind.copy(a, "a/1", LATER);
  expect(watch.all(LATER)).toEqual(["~1", "-0", "*"]);
});

test("4: a removal is told to a reader that is ahead, though the node it resumed at never saw the entry", () => {
  const a = nodeWith(K, L);
  const from = new Watch(a).settle();
  end(a, K);
  const late = new FabricComponent("b");
  const watch = new Watch(late, from);
  expect(watch.all()).toEqual([]);
  late.copy(a, "a/1", T);
  expect(watch.difference()).toEqual(["+1 -0"]);
});

/**
 * Node a's K changes twice; b hears of it by frames that end before the second change and so leave K out; c heard of the first
 * change when it came.
 */
function cutAndWhole() {
  const a = nodeWith(K, L);
  const [b, c] = [copyOf(a), copyOf(a)];
  put(a, K, GREEN);
  c.copy(a, "a/1", T);
  put(a, L, GREEN);
  put(a, K);
  b.copy(a, "a/1", T, 1, 1);
  expect([...b.replica.origins.values(), ...c.replica.origins.values()].map(({ id, through }) => [id, through])).toEqual([
    ["b/1", 0],
    ["a/1", 4],
    ["b/1", 0],
    ["a/1", 3],
  ]);
  return { a, b, c };
}

test("3 Why: a cursor says where frames that were cut left out a key, so that another node tells of it", () => {
  const { a, b, c } = cutAndWhole();
  const from = new Watch(b).settle();
  expect(from?.kind === "portable" && from.origins).toContainEqual({ nodeId: "a", generation: 1, seq: 4, settled: 2, life: "live" });
  const watch = new Watch(c, from);
  expect(watch.all(LATER)).toEqual([]);
  c.copy(a, "a/1", T);
  expect(watch.difference()).toEqual(["~1 ~0"]);
});

test("4 Why: a node that knows less of a key than its vector says gives no END, bookmark or digest to a reader that knows more", () => {
  const { a, b, c } = cutAndWhole();
  const from = new Watch(c).settle();
  const watch = new Watch(b, from);
  expect(watch.all(timeOf(400, 0))).toEqual(["~1"]);
  b.copy(a, "a/1", T);
  expect(watch.difference()).toEqual(["~0"]);
});

test("4: what was cut off and does not come, because it was lost with its node, makes a snapshot after some seconds", () => {
  const { b, c } = cutAndWhole();
  const watch = new Watch(b, new Watch(c).settle());
  expect(watch.all(timeOf(499, 0))).toEqual(["~1"]);
  expect(watch.all(timeOf(502, 0))).toEqual(["BEGIN +0 +1", "END"]);
});

test("4: a node that learned of an origin too late to have heard of a removal says so with a snapshot", () => {
  const a = nodeWith(...KEYS.slice(0, 8));
  const from = new Watch(a).settle();
  for (const key of KEYS.slice(0, 8)) end(a, key);
  put(a, KEYS[9]);
  a.collect(LATER);
  const late = new FabricComponent("b");
  const watch = new Watch(late, from);
  expect(watch.all()).toEqual([]);
  late.copy(a, "a/1", T);
  expect(watch.all()).toEqual(["BEGIN +9", "END"]);
});

test("4: a snapshot that a resumed stream needs waits until the node has covered its cursor", () => {
  const a = nodeWith(K, L);
  const behind = copyOf(a);
  end(a, K);
  const from = new Watch(a).settle();
  if (from?.kind !== "portable") throw new Error("not portable");
  const other = new Watch(behind, { ...from, policyEpoch: "other" });
  const tooOld = new Watch(behind, from);
  expect([other.all(LATER), tooOld.all(LATER)]).toEqual([[], []]);
  for (const key of KEYS.slice(4, 12)) put(behind, key);
  for (const key of KEYS.slice(4, 12)) end(behind, key);
  behind.collect(T);
  expect([other.all(LATER), tooOld.all(LATER)]).toEqual([[], []]);
  behind.copy(a, "a/1", LATER);
  expect([other.all(LATER), tooOld.all(LATER)]).toEqual([
    ["BEGIN +1", "END"],
    ["BEGIN +1", "END"],
  ]);
});

test("5: a verdict that changes while the node is behind the cursor makes a snapshot: the node may not know yet what it withdraws", () => {
  const a = nodeWith(K, KEYS[4]!);
  const from = new Watch(a).settle();
  const late = new FabricComponent("b");
  let isHidden = false;
  const watch = new Watch(late, from, ANY, (namespace) => namespace !== "svc" || !isHidden);
  expect(watch.all()).toEqual([]);
  // Nothing here is of that namespace, so nobody has to be told of it.
  isHidden = true;
  watch.epoch = "f";
  watch.feed.refresh([]);
  expect(watch.all()).toEqual([]);
  late.copy(a, "a/1", T);
  expect(watch.all()).toEqual(["BEGIN +4", "END"]);
});

test("4: what was kept back while behind comes within the budget, and no key twice in a message", () => {
  const a = nodeWith(...KEYS.slice(0, 6));
  const behind = copyOf(a);
  for (const key of KEYS.slice(0, 6)) put(a, key, GREEN);
  const from = new Watch(a).settle();
  const watch = new Watch(behind, from);
  behind.setLife("a/1", "orphaned");
  expect(watch.all(T)).toEqual([]);
  behind.copy(a, "a/1", T);
  for (let message = watch.next(T, 500); message !== undefined; message = watch.next(T, 500)) {
    const size = message.changes.reduce((sum, change) => sum + watch.reader.sizeOf(change), 0);
    expect(size).toBeLessThanOrEqual(500);
    expect(new Set(message.changes.map((change) => change.record.key)).size).toBe(message.changes.length);
  }
});

test("4: what nobody knows any more is waited for a bounded time; what a living origin will tell is waited for without end", () => {
  const a = nodeWith(K);
  const from = new Watch(a).settle();
  const stranger = new FabricComponent("b");
  put(stranger, L);
  const lost = new Watch(stranger, from);
  expect(lost.all(timeOf(5_000, 0))).toEqual(["+1"]);
  expect(lost.all(timeOf(50_000, 0), AMPLE, false)).toEqual([]);
  expect(lost.all(timeOf(50_000, 0))).toEqual(["BEGIN +1", "END"]);
  put(a, K, GREEN);
  const behind = new FabricComponent("c");
  behind.copy(a, "a/1", T);
  put(a, K);
  const later = new Watch(a).settle();
  const waiting = new Watch(behind, later);
  expect(waiting.all(timeOf(50_000, 0))).toEqual([]);
  behind.setLife("a/1", "orphaned");
  expect(waiting.all(timeOf(50_000, 0))).toEqual(["BEGIN +0", "END"]);
});

test("4: an origin that the cursor does not name and that is hidden here still unregisters what the reader has", () => {
  const a = nodeWith(K);
  const b = copyOf(a);
  const from = new Watch(a).settle();
  end(b, K, BODY.UNREGISTERED);
  a.copy(b, "b/1", T);
  a.setLife("b/1", "hidden");
  expect(new Watch(a, from).difference()).toEqual(["-0"]);
});

test("5: a changed verdict sends the namespace anew or withdraws it, and never names what is hidden", () => {
  const node = nodeWith(K, KEYS[4]!);
  let denied = "";
  const watch = new Watch(node, undefined, ANY, (namespace) => namespace !== denied);
  watch.settle();
  denied = "svc";
  watch.feed.refresh(["svc"]);
  put(node, K, GREEN);
  end(node, K);
  put(node, L);
  expect(watch.all()).toEqual(["BEGIN svc", "END"]);
  put(node, K);
  expect(watch.all()).toEqual([]);
  denied = "";
  watch.feed.refresh(["svc"]);
  expect(watch.all()).toEqual(["BEGIN svc +0 +1", "END"]);
});

test("5: where more namespaces changed than a message may name, or nobody knows which, the snapshot is of everything", () => {
  const node = nodeWith(K);
  const watch = new Watch(node);
  watch.settle();
  const many = Array.from({ length: 1000 }, (_, i) => `svc.number${i}`);
  watch.feed.refresh(many.slice(0, 300));
  watch.feed.refresh(many);
  expect(watch.all()).toEqual(["BEGIN +0", "END"]);
  watch.feed.refresh("all");
  watch.feed.refresh(["svc"]);
  expect(watch.all()).toEqual(["BEGIN +0", "END"]);
  watch.feed.refresh(["svc"]);
  expect([watch.feed.isTelling, watch.all(), watch.feed.isTelling]).toEqual([true, ["BEGIN svc +0", "END"], false]);
});

test("5: namespaces that the filter does not cover are not refreshed", () => {
  const node = nodeWith(K);
  const watch = new Watch(node, undefined, { ...ANY, namespace: "other" });
  watch.settle();
  watch.feed.refresh(["svc"]);
  expect(watch.all()).toEqual([]);
});

test("5: a verdict that changes while a snapshot goes out begins it anew, so that END tells the truth", () => {
  const node = nodeWith(K, KEYS[4]!);
  let denied = "";
  const open = (): Watch => new Watch(node, undefined, ANY, (namespace) => namespace !== denied);
  const full = open();
  expect(textOf(full.next(T, 1)!)).toBe("BEGIN +0");
  denied = "svc";
  full.feed.refresh(["svc"]);
  expect(full.all()).toEqual(["BEGIN +4", "END"]);
  const scoped = open();
  scoped.settle();
  denied = "";
  scoped.feed.refresh(["svc"]);
  expect(textOf(scoped.next(T, 1)!)).toBe("BEGIN svc +0");
  denied = "svc.eu";
  scoped.feed.refresh(["svc.eu"]);
  expect(scoped.feed.farewell(T, true)).toBeUndefined();
  expect(scoped.all()).toEqual(["BEGIN svc svc.eu +0", "END"]);
});

test("5: a verdict that changes while the node is behind the cursor does not let old records or an END out", () => {
  const a = nodeWith(K, L);
  const behind = copyOf(a);
  end(a, K);
  const watch = new Watch(behind, new Watch(a).settle());
  expect(watch.all(LATER)).toEqual([]);
  watch.feed.refresh(["svc"]);
  expect(watch.all(LATER)).toEqual([]);
  behind.copy(a, "a/1", LATER);
  expect(watch.all(LATER)).toEqual(["-0", "BEGIN svc +1", "END"]);
});

test("7: a node that has not caught up sends pages and deltas, but no END", () => {
  const node = nodeWith(K);
  const watch = new Watch(node);
  expect(watch.all(LATER, AMPLE, false)).toEqual(["BEGIN +0"]);
  put(node, L);
  expect(watch.all(LATER, AMPLE, false)).toEqual(["CONTINUE +1"]);
  expect(watch.all(LATER)).toEqual(["END"]);
});

test("8: the last message is a portable cursor where the stream stands whole, and nothing where it does not", () => {
  const node = nodeWith(K, L);
  const watch = new Watch(node);
  expect(watch.feed.farewell(T, true)).toBeUndefined();
  watch.settle();
  const last = watch.feed.farewell(T, true)!;
  expect([last.isBookmark, last.portableCursor !== "", watch.feed.farewell(T, false)]).toEqual([true, true, undefined]);
  watch.feed.refresh(["svc"]);
  expect(watch.feed.farewell(T, true)).toBeUndefined();
  watch.settle();
  put(node, K, GREEN);
  expect(watch.feed.farewell(T, true)).toBeUndefined();
});

test("9: digests are those of the reader's view, kept from the first question on", () => {
  const node = nodeWith(K, KEYS[4]!);
  let isSvcHidden = false;
  const options = {
    filter: { ...ANY, prefix: "svc" },
    name: "d",
    hash: "d",
    viewer: VIEWER,
    policyEpoch: () => "e",
    isNamesOnly: false,
    withDigest: true,
  };
  const reader = new WatchReader({ ...options, allowed: (namespace) => namespace !== "svc" || !isSvcHidden }, node.replica, node.facts);
  const want = (namespaces: readonly string[]): unknown => node.model.digest((namespace) => namespaces.includes(namespace));
  expect(reader.digest()).toEqual(want(["svc", "svc.eu"]));
  put(node, K, GREEN);
  end(node, KEYS[4]);
  put(node, KEYS[5]);
  expect(reader.digest()).toEqual(want(["svc", "svc.eu"]));
  isSvcHidden = true;
  expect(reader.digest()).toEqual(want(["svc.eu"]));
});

test("10: a message keeps its budget unless one change alone is larger, and a cut loses nothing", () => {
  const node = nodeWith(...KEYS.slice(0, 6));
  const watch = new Watch(node);
  watch.settle();
  for (const key of KEYS.slice(0, 6)) put(node, key, 6);
  expect(watch.all(T, 1)).toEqual(["~0", "~1", "~2", "~3", "~4", "~5"]);
  for (const key of KEYS.slice(0, 6)) put(node, key, GREEN);
  // A function, which has a version more than a service.
  const two = watch.reader.sizeOf({ action: ACTION.UPDATE, record: node.replica.view(KEYS[2]!)!, revision: 1 }) * 2;
  const messages = watch.all(T, two + 20);
  expect(messages).toEqual(["~0 ~1", "~2 ~3", "~4 ~5"]);
});

test("streams of equal filters at the same place share a message, and one that is behind gets its own", () => {
  const node = nodeWith(K);
  const { reader } = new Watch(node);
  const feeds = [0, 0, 0].map(() => new WatchFeed(reader, { from: at(1), bookmarkIntervalMs: 1000 }, T));
  put(node, L);
  const [first, second] = [feeds[0]!.next(T, AMPLE, true), feeds[1]!.next(T, AMPLE, true)];
  expect(second).toBe(first);
  put(node, K, GREEN);
  expect(textOf(feeds[2]!.next(T, AMPLE, true)!)).toBe("+1 ~0");
  expect(textOf(feeds[0]!.next(T, AMPLE, true)!)).toBe("~0");
});

test("P4: what stalled feeds hold does not grow with the number of changes", () => {
  const [node, behind] = [new FabricComponent("a", 1000), new FabricComponent("b", 1000)];
  for (const key of KEYS.slice(0, 8)) put(node, key);
  behind.copy(node, "a/1", T);
  put(node, K, GREEN);
  const from = new Watch(node).settle();
  const stalled: Watch[] = [];
  for (let n = 0; n < sized(300, 100); n++) {
    const watch = [new Watch(node), new Watch(node, from), new Watch(behind, from), new Watch(node, undefined, BLUE_ONLY)][n % 4]!;
    if (n % 3 === 0) watch.all();
    watch.next(T, 1);
    stalled.push(watch);
  }
  const churn = (count: number): void => {
    for (let n = 0; n < count; n++) for (const one of [node, behind]) put(one, KEYS[n % 8], n);
    for (const one of [node, behind]) one.replica.takeTouched();
  };
  churn(1_000);
  const before = heapBytes();
  churn(sized(10_000, 5_000));
  // A number kept for each change and feed would be 48 MB, of fewer 8.
  expect(heapBytes() - before).toBeLessThan(2_000_000);
  for (const watch of stalled) expect(watch.all().length).toBeLessThan(20);
});

function heapBytes(): number {
  setFlagsFromString("--expose-gc");
  const collect = runInNewContext("gc") as () => void;
  collect();
  return process.memoryUsage().heapUsed;
}

test("snapshot codes are those of the wire", () => {
  expect(SNAPSHOT).toEqual({ NONE: 0, BEGIN: 1, CONTINUE: 2, END: 3 });
});
