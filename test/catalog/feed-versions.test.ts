/** A watch of a version range is told of what leaves and enters it (semantics.md, Watch 2). */
import { expect, test } from "vitest";
import { ANY } from "../../src/catalog/query/filter.ts";
import { type KeyText, KIND } from "../../src/catalog/record/record.ts";
import { parseCursor } from "../../src/catalog/watch/cursor.ts";
import { type FeedStart, WatchFeed } from "../../src/catalog/watch/feed.ts";
import { WatchReader } from "../../src/catalog/watch/reader.ts";
import { VersionRange } from "../../src/lib/versions.ts";
import { timeOf } from "../fakes/history.ts";
import { FabricComponent, KEYS, V2 } from "../fakes/mesh.ts";

/** Functions; the others are services. */
const [F, G] = [KEYS[2]!, KEYS[3]!];
const [V1, LOAD] = [0, 6];
const T = timeOf(1, 0);
const FIRST = { ...ANY, kindMask: 1 << KIND.FUNCTION, versions: new VersionRange("^1") };

class Watch {
  readonly #feed: WatchFeed;
  #last = "";

  constructor(node: FabricComponent, from?: FeedStart["from"]) {
    const options = {
      filter: FIRST,
      name: "w",
      hash: "h",
      allowed: () => true,
      policyEpoch: () => "e",
      isNamesOnly: false,
      withDigest: false,
    };
    this.#feed = new WatchFeed(new WatchReader(options, node.replica, node.facts), { from, bookmarkIntervalMs: 100 }, T);
  }

  /** What it is told, as `+2 ~3 -2`. */
  told(isReady = true): string {
    const words: string[] = [];
    for (let message = this.#next(isReady); message !== undefined; message = this.#next(isReady))
      words.push(...message.changes.map(({ action, record }) => `${" +~-"[action]}${KEYS.indexOf(record.key)}`));
    return words.join(" ");
  }

  /** Takes everything; where another stream may go on. */
  cursor(): FeedStart["from"] {
    this.told();
    const cursor = parseCursor(this.#last);
    if (cursor.kind !== "portable") throw new Error(`not portable: ${this.#last}`);
    return cursor;
  }

  #next(isReady: boolean) {
    const message = this.#feed.next(T, 100_000, isReady);
    if (message !== undefined && message.portableCursor !== "") this.#last = message.portableCursor;
    return message;
  }
}

function put(node: FabricComponent, key: KeyText, variant: number): void {
  node.put(key, variant, T);
  node.commit(T);
}

function writer(pastTouches?: number): FabricComponent {
  const node = new FabricComponent("a", pastTouches);
  put(node, F, V1);
  put(node, G, V2);
  return node;
}

function copyOf(from: FabricComponent, pastTouches?: number): FabricComponent {
  const node = new FabricComponent("b", pastTouches);
  node.copy(from, "a/1", T);
  return node;
}

test("a function that leaves the range is removed, one that enters it created", () => {
  const a = writer();
  const b = copyOf(a);
  const [at, elsewhere] = [new Watch(a), new Watch(b)];
  expect([at.told(), elsewhere.told()]).toEqual(["+2", "+2"]);
  put(a, F, V2);
  put(a, G, V1);
  b.copy(a, "a/1", T);
  expect([at.told(), elsewhere.told()]).toEqual(["-2 +3", "-2 +3"]);
});

test("of a function that is out of the range before and after, a watch is told nothing", () => {
  const a = writer();
  const watch = new Watch(a);
  watch.told();
  put(a, G, V2);
  put(a, KEYS[0]!, V1);
  expect(watch.told()).toBe("");
  put(a, F, LOAD);
  expect(watch.told()).toBe("~2");
});

test("what is not remembered any more is removed all the same, and only that", () => {
  const a = writer(1);
  const b = copyOf(a, 1);
  const watches = [new Watch(a), new Watch(b)];
  for (const watch of watches) watch.told();
  put(a, F, V2);
  put(a, G, V2);
  put(a, F, V2);
  put(a, KEYS[0]!, V1);
  b.copy(a, "a/1", T);
  expect(watches.map((watch) => watch.told())).toEqual(["-2", "-2"]);
});

test("a portable cursor brings the removal, here after a restart and at another node", () => {
  const a = writer();
  const from = new Watch(a).cursor();
  put(a, F, V2);
  const b = copyOf(a);
  a.restart(T, "disk kept");
  for (const node of [a, b]) expect(new Watch(node, from).told()).toBe("-2");
});

test("what another node told is removed here, though here it never was in the range", () => {
  const a = writer();
  const from = new Watch(a).cursor();
  const b = copyOf(a);
  const watch = new Watch(b, from);
  expect(watch.told(false)).toBe("");
  // Node a told the reader of it in between; b hears only what it became.
  put(a, G, V1);
  put(a, G, V2);
  b.copy(a, "a/1", T);
  expect(watch.told(false)).toBe("-3");
});
