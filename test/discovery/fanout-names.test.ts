/** Watches whose filter has names: which changes wake them once they were told everything, and what they look at. */
import { expect, test } from "vitest";
import { ANY, type EntryFilter } from "../../src/catalog/query/filter.ts";
import { BODY, type KeyText, KIND, keyText } from "../../src/catalog/record/record.ts";
import { WatchFeed } from "../../src/catalog/watch/feed.ts";
import { NAME_INDEX_BOUNDS, type NameIndexBounds } from "../../src/catalog/watch/name-index.ts";
import { SNAPSHOT, WatchReader } from "../../src/catalog/watch/reader.ts";
import { Fanout, type WatchStream } from "../../src/discovery/fanout.ts";
import { timeOf } from "../fakes/history.ts";
import { FabricComponent } from "../fakes/mesh.ts";

const T = timeOf(1, 0);
const LATER = timeOf(100_000, 0);
/** More than are kept of the changes of a reader's names. */
const MANY = 100;

function keyOf(name: string, namespace = "svc", i = 0): KeyText {
  return keyText({ kind: KIND.SERVICE, namespace, name, instanceId: `i${i}`, clusterId: "c1" });
}

/** A node, and watches of it that are looked at when they are woken. */
class Watched {
  readonly node = new FabricComponent("a");
  readonly fanout: Fanout;
  readonly told: string[] = [];
  readonly feeds = new Map<string, WatchFeed>();
  readonly watchers = new Map<string, WatchStream>();

  constructor(bounds: Partial<NameIndexBounds> = {}) {
    this.fanout = new Fanout(undefined, { ...NAME_INDEX_BOUNDS, ...bounds });
  }

  open(who: string, filter: Partial<EntryFilter>): void {
    const options = {
      filter: { ...ANY, ...filter },
      name: who,
      hash: who,
      allowed: () => true,
      policyEpoch: () => "e",
      isNamesOnly: false,
      withDigest: false,
    };
    const feed = new WatchFeed(
      new WatchReader(options, this.node.replica, this.node.facts),
      { from: undefined, bookmarkIntervalMs: 1e9 },
      T,
    );
    const watcher: WatchStream = { feed, isReady: false, wake: () => this.look(who), stop: () => undefined };
    this.feeds.set(who, feed);
    this.watchers.set(who, watcher);
    this.fanout.add(watcher);
    this.look(who);
  }

  /** Takes everything there is for a watch; it is told of changes only from then on. */
  look(who: string): void {
    const feed = this.feeds.get(who)!;
    for (let message = feed.next(T, 100_000, true); message !== undefined; message = feed.next(T, 100_000, true)) {
      const changes = message.changes.map(({ action, record }) => `${action} ${record.namespace} ${record.name}`);
      this.told.push(`${who}: ${message.snapshot === SNAPSHOT.BEGIN ? "begins" : changes.join(", ")}`);
    }
    if (feed.isCurrent) this.fanout.narrow(this.watchers.get(who)!);
  }

  put(...keys: readonly KeyText[]): void {
    for (const key of keys) this.node.put(key, 0, T);
    this.node.commit(T);
  }

  /** Shows the changes; returns who was woken, and notes what those were told. */
  show(): readonly string[] {
    this.told.length = 0;
    this.fanout.changed(this.node.replica.takeTouched());
    const woken = [...this.wake()];
    for (; this.fanout.hasPendingWork; woken.push(...this.wake())) this.fanout.offerMore();
    return woken;
  }

  /** Returns who was woken. */
  wake(): readonly string[] {
    const woken: string[] = [];
    for (let watcher = this.fanout.take(); watcher !== undefined; watcher = this.fanout.take()) {
      woken.push(watcher.feed.reader.options.name);
      watcher.wake();
    }
    return woken;
  }
}

function opened(filters: Readonly<Record<string, Partial<EntryFilter>>>): Watched {
  const watched = new Watched();
  for (const [who, filter] of Object.entries(filters)) watched.open(who, filter);
  watched.show();
  return watched;
}

test("a change wakes the watches of its name, and those without names in its namespace", () => {
  const watched = opened({
    web: { namespace: "svc", names: ["db", "web"] },
    below: { prefix: "svc", names: ["web"] },
    anywhere: { names: ["web"] },
    other: { namespace: "other", names: ["web"] },
    db: { namespace: "svc", names: ["db"] },
    all: { namespace: "svc" },
  });
  watched.put(keyOf("web"));
  expect(new Set(watched.show())).toEqual(new Set(["web", "below", "anywhere", "all"]));
  expect(watched.told.toSorted()).toEqual(["all: 1 svc web", "anywhere: 1 svc web", "below: 1 svc web", "web: 1 svc web"]);
  watched.put(keyOf("db", "svc.eu"), keyOf("cache"));
  expect(watched.show()).toEqual(["all"]);
});

test("a watch is told of a change once, though its key changes while it waits and while another change is shown", () => {
  const watched = opened({ web: { names: ["web"] } });
  watched.put(keyOf("web"), keyOf("web", "svc", 1));
  watched.put(keyOf("web"));
  watched.fanout.changed(watched.node.replica.takeTouched());
  watched.put(keyOf("web", "svc", 1));
  // Neither did it have before.
  expect(watched.show()).toEqual(["web"]);
  expect(watched.told).toEqual(["web: 1 svc web, 1 svc web"]);
});

test("a watch that has not been told everything yet is woken by every change of its namespace", () => {
  const watched = new Watched();
  const feed = new WatchFeed(
    new WatchReader(
      {
        filter: { ...ANY, names: ["web"] },
        name: "w",
        hash: "w",
        allowed: () => true,
        policyEpoch: () => "e",
        isNamesOnly: false,
        withDigest: false,
      },
      watched.node.replica,
      watched.node.facts,
    ),
    { from: undefined, bookmarkIntervalMs: 1e9 },
    T,
  );
  watched.fanout.add({ feed, isReady: false, wake: () => undefined, stop: () => undefined });
  watched.put(keyOf("db"));
  expect(watched.show()).toEqual(["w"]);
});

test("a watch that was closed is woken by nothing, and another of the same filter still is", () => {
  const watched = opened({ web: { names: ["web"] } });
  const { feed } = watched.watchers.get("web")!;
  let woken = 0;
  const twin: WatchStream = { feed, isReady: false, wake: () => void (woken += 1), stop: () => undefined };
  watched.fanout.add(twin);
  watched.fanout.narrow(twin);
  watched.fanout.remove(watched.watchers.get("web")!);
  watched.put(keyOf("web"));
  watched.show();
  watched.fanout.remove(twin);
  watched.fanout.narrow(twin);
  watched.put(keyOf("web"));
  expect([woken, watched.show(), feed.reader.touches]).toEqual([1, [], undefined]);
});

test("the position of a watch moves with changes of other names, so that it is neither called late nor begins anew", () => {
  const watched = opened({ web: { names: ["web"] } });
  const { replica } = watched.node;
  const feed = watched.feeds.get("web")!;
  watched.put(keyOf("db"));
  expect(feed.revision, "before the change is shown").toBe(0);
  watched.show();
  expect([feed.revision, feed.settledRevision]).toEqual([replica.revision, replica.revision]);
  watched.node.end(keyOf("db"), BODY.UNREGISTERED, T);
  watched.node.commit(T);
  watched.show();
  watched.node.collect(LATER);
  expect(replica.collectedRevision).toBeGreaterThan(0);
  watched.put(keyOf("web"));
  watched.show();
  expect([watched.told, feed.restartCount]).toEqual([["web: 1 svc web"], 0]);
});

test.each(["shown", "not shown"])("a removal that was %s and is forgotten before a watch looks leads it to a snapshot", (how) => {
  const watched = opened({ web: { names: ["web"] } });
  const { node, fanout } = watched;
  watched.put(keyOf("web"));
  watched.show();
  node.end(keyOf("web"), BODY.UNREGISTERED, T);
  node.commit(T);
  if (how === "shown") fanout.changed(node.replica.takeTouched());
  node.collect(LATER);
  expect(watched.show()).toEqual(["web"]);
  expect([watched.told, watched.feeds.get("web")!.restartCount]).toEqual([["web: begins", "web: "], 1]);
});

test.each([0, 10, 40])(`a watch of whose names ${MANY} keys changed is told of all, though it looked after %i of them`, (looksAfter) => {
  const watched = opened({ web: { names: ["web"] } });
  const told: string[] = [];
  for (let i = 0; i < MANY; i++) {
    if (i === looksAfter) {
      watched.show();
      told.push(...watched.told);
    }
    watched.put(keyOf("web", "svc", i), keyOf("db", "svc", i));
    watched.fanout.changed(watched.node.replica.takeTouched());
  }
  watched.show();
  told.push(...watched.told);
  expect(
    told
      .join()
      .split(",")
      .filter((change) => change.endsWith("1 svc web")),
  ).toHaveLength(MANY);
});

test("a watch that looks before a change is shown is told of it, and not again when it is", () => {
  const watched = opened({ web: { names: ["web"] } });
  watched.put(keyOf("web"));
  watched.look("web");
  expect(watched.told).toEqual(["web: 1 svc web"]);
  watched.show();
  expect(watched.told).toEqual([]);
});

/** A watch of so many names that no other watch has. */
function namesOf(who: number, count: number): readonly string[] {
  return Array.from({ length: count }, (_, i) => `n${who}-${i}`);
}

test.each([
  { why: "one watch has too many names", bounds: { maxReaderNames: 3, maxNames: 100 }, counts: [4, 3], held: 3 },
  { why: "all have too many", bounds: { maxReaderNames: 100, maxNames: 10 }, counts: [6, 5, 4], held: 10 },
])("a watch without room in the index is woken as watches without names are: $why", ({ bounds, counts, held }) => {
  const watched = new Watched(bounds);
  for (const [who, count] of counts.entries()) watched.open(`${who}`, { namespace: "svc", names: namesOf(who, count) });
  expect(watched.fanout.nameCount).toBe(held);
  watched.put(...counts.map((_, who) => keyOf(`n${who}-0`)));
  watched.show();
  expect(watched.told.toSorted()).toEqual(counts.map((_, who) => `${who}: 1 svc n${who}-0`));
});

test("when many watches end in one turn, most of their names are taken out later, and none of them wakes anybody", () => {
  const [watches, names] = [50, 200];
  const watched = new Watched();
  for (let who = 0; who < watches; who++) watched.open(`${who}`, { namespace: "svc", names: ["web", ...namesOf(who, names)] });
  watched.open("stays", { namespace: "svc", names: ["web"] });
  expect(watched.fanout.nameCount).toBe(watches * (names + 1) + 1);
  for (let who = 0; who < watches; who++) watched.fanout.remove(watched.watchers.get(`${who}`)!);
  // A turn that took all of them out would hold the event loop for seconds where there are a thousand watches of a thousand names.
  expect(watched.fanout.nameCount).toBeGreaterThan(watches * (names - 100));
  watched.put(keyOf("web"), keyOf("n7-3"));
  expect(watched.show()).toEqual(["stays"]);
  for (let looks = 0; looks < 2; looks++) watched.fanout.due(0);
  expect(watched.fanout.nameCount).toBe(1);
  watched.put(keyOf("web"));
  expect(watched.show()).toEqual(["stays"]);
});

test("a watch that comes back before its names are taken out is woken by each of them", () => {
  const watched = new Watched();
  watched.open("many", { namespace: "svc", names: namesOf(0, 300) });
  const watcher = watched.watchers.get("many")!;
  watched.fanout.remove(watcher);
  expect(watched.fanout.nameCount).toBeGreaterThan(0);
  watched.fanout.add(watcher);
  watched.fanout.narrow(watcher);
  for (let looks = 0; looks < 2; looks++) watched.fanout.due(0);
  expect(watched.fanout.nameCount).toBe(300);
  watched.put(keyOf("n0-0"), keyOf("n0-299"));
  expect(watched.show()).toEqual(["many"]);
  expect(watched.told).toEqual(["many: 1 svc n0-0, 1 svc n0-299"]);
});

/** With changes shown of which only some can be offered at a time. */
function sliced(filters: Readonly<Record<string, Partial<EntryFilter>>>): Watched {
  const watched = new Watched({ offeredAtATime: 2 });
  for (const [who, filter] of Object.entries(filters)) watched.open(who, filter);
  watched.show();
  return watched;
}

test("many changes at once are offered in slices, and nobody is woken before the last: each watch looks once, at all of its names", () => {
  const watched = sliced({
    web: { names: ["web"] },
    both: { names: ["db", "web"] },
    other: { names: ["cache"] },
    all: { namespace: "svc" },
  });
  const { fanout, node } = watched;
  watched.put(...Array.from({ length: 6 }, (_, i) => keyOf(i % 2 === 0 ? "web" : "db", "svc", i)));
  fanout.changed(node.replica.takeTouched());
  let slices = 0;
  for (; fanout.readyCount < 3 || watched.wake().length === 0; slices++) fanout.offerMore();
  expect(slices).toBeGreaterThan(2);
  expect(watched.told.toSorted()).toEqual([
    "all: 1 svc web, 1 svc db, 1 svc web, 1 svc db, 1 svc web, 1 svc db",
    "both: 1 svc web, 1 svc db, 1 svc web, 1 svc db, 1 svc web, 1 svc db",
    "web: 1 svc web, 1 svc web, 1 svc web",
  ]);
  expect([watched.show(), fanout.hasPendingWork]).toEqual([[], false]);
});

test("a watch that looks between two slices is told of everything, and of nothing again", () => {
  const watched = sliced({ web: { names: ["web"] } });
  watched.put(...Array.from({ length: 6 }, (_, i) => keyOf("web", "svc", i)));
  watched.fanout.changed(watched.node.replica.takeTouched());
  watched.look("web");
  expect(watched.told).toEqual([`web: ${Array.from({ length: 6 }, () => "1 svc web").join(", ")}`]);
  watched.show();
  expect(watched.told).toEqual([]);
});

test("a watch that does not look between two slices does not pass over what was touched again meanwhile", () => {
  const watched = sliced({ web: { names: ["web"] }, db: { names: ["db"] } });
  const { fanout, node } = watched;
  const feed = watched.feeds.get("web")!;
  const before = feed.revision;
  watched.put(keyOf("db"), keyOf("db", "svc", 1), keyOf("db", "svc", 2), keyOf("web"));
  fanout.changed(node.replica.takeTouched());
  watched.put(keyOf("web"));
  fanout.offerMore();
  expect([fanout.hasPendingWork, feed.revision]).toEqual([true, before]);
  watched.show();
  // It never had it.
  expect(watched.told).toContain("web: 1 svc web");
});

test("a watch that ends between two slices is woken by none of the rest, and another of its reader that comes then looks once more", () => {
  const watched = sliced({ web: { names: ["web"] } });
  const { fanout, node } = watched;
  const first = watched.watchers.get("web")!;
  const { feed } = first;
  let woken = 0;
  const twin: WatchStream = { feed, isReady: false, wake: () => void (woken += 1), stop: () => undefined };
  watched.put(...Array.from({ length: 6 }, (_, i) => keyOf("web", "svc", i)));
  fanout.changed(node.replica.takeTouched());
  fanout.add(twin);
  fanout.narrow(twin);
  fanout.remove(first);
  watched.show();
  expect([woken, watched.told]).toEqual([1, []]);
  watched.put(keyOf("web"), keyOf("web", "svc", 1));
  fanout.changed(node.replica.takeTouched());
  fanout.remove(twin);
  expect([fanout.take(), fanout.hasPendingWork]).toEqual([undefined, false]);
});

test("changes that come as fast as they are offered, and faster, do not keep watches asleep", { tags: ["night"] }, () => {
  const watched = sliced({ web: { names: ["web"] } });
  const { fanout, node } = watched;
  const wokenAt: number[] = [];
  for (let turn = 0; turn < 400; turn++) {
    watched.put(...Array.from({ length: 20 }, (_, i) => keyOf("web", "svc", turn * 20 + i)));
    fanout.changed(node.replica.takeTouched());
    if (watched.wake().length > 0) wokenAt.push(turn);
  }
  const waits = wokenAt.map((turn, i) => turn - (wokenAt[i - 1] ?? 0));
  expect(Math.max(...waits, 400 - wokenAt.at(-1)!)).toBeLessThan(40);
});
