/** A REMOVE says why the key is gone: to a reader that follows, and to one that comes from another node. */
import { expect, test } from "vitest";
import { ANY, type EntryFilter } from "../../../src/catalog/query/filter.ts";
import { BODY } from "../../../src/catalog/record/record.ts";
import { CAUSE, type ChangeCause } from "../../../src/catalog/watch/change-cause.ts";
import { parseCursor } from "../../../src/catalog/watch/cursor.ts";
import { WatchFeed } from "../../../src/catalog/watch/feed.ts";
import { ACTION, WatchReader } from "../../../src/catalog/watch/reader.ts";
import { timeOf } from "../../fakes/history.ts";
import { FabricComponent, KEYS } from "../../fakes/mesh.ts";

const K = KEYS[0]!;
const [BLUE, GREEN] = [0, 1];
const T = timeOf(1, 0);

class Watch {
  readonly feed: WatchFeed;
  #cursor = "";

  constructor(node: FabricComponent, filter: EntryFilter, cursor = "") {
    const options = {
      filter,
      name: "w",
      hash: "h",
      allowed: () => true,
      policyEpoch: () => "e",
      isNamesOnly: false,
      withDigest: false,
    };
    const from = cursor === "" ? undefined : parseCursor(cursor);
    this.feed = new WatchFeed(new WatchReader(options, node.replica, node.facts), { from, bookmarkIntervalMs: 100 }, T);
  }

  /** Takes everything; returns the causes of what was removed. */
  causes(): readonly (ChangeCause | undefined)[] {
    const causes: (ChangeCause | undefined)[] = [];
    for (let message = this.feed.next(T, 1e6, true); message !== undefined; message = this.feed.next(T, 1e6, true)) {
      this.#cursor = message.portableCursor || this.#cursor;
      for (const { action, cause } of message.changes) if (action === ACTION.REMOVE) causes.push(cause);
    }
    return causes;
  }

  get cursor(): string {
    return this.#cursor;
  }
}

/** Two nodes; `a` holds the entry, and `b` is the one that is watched. */
class Pair {
  readonly a = new FabricComponent("a");
  readonly b = new FabricComponent("b");

  put(node: FabricComponent, variant: number, ms: number): void {
    node.put(K, variant, timeOf(ms, 0));
    this.#settle(node, ms);
  }

  end(node: FabricComponent, body: typeof BODY.EXPIRED | typeof BODY.UNREGISTERED, ms: number): void {
    node.end(K, body, timeOf(ms, 0));
    this.#settle(node, ms);
  }

  #settle(node: FabricComponent, ms: number): void {
    node.commit(timeOf(ms, 0));
    this.share();
  }

  share(): void {
    this.b.copy(this.a, "a/1", T);
    this.a.copy(this.b, "b/1", T);
  }
}

interface Row {
  readonly what: string;
  readonly filter?: EntryFilter;
  readonly change: (pair: Pair) => void;
  readonly want: ChangeCause;
}

test.each<Row>([
  { what: "is unregistered at its node", change: (pair) => pair.end(pair.a, BODY.UNREGISTERED, 20), want: CAUSE.UNREGISTERED },
  { what: "is unregistered at another node", change: (pair) => pair.end(pair.b, BODY.UNREGISTERED, 20), want: CAUSE.UNREGISTERED },
  {
    what: "is unregistered at another node, and then ends at its own too",
    change: (pair) => {
      pair.end(pair.b, BODY.UNREGISTERED, 20);
      pair.end(pair.a, BODY.EXPIRED, 30);
    },
    want: CAUSE.UNREGISTERED,
  },
  { what: "expires", change: (pair) => pair.end(pair.a, BODY.EXPIRED, 20), want: CAUSE.EXPIRED },
  {
    what: "was unregistered and registered again, and then expires",
    change: (pair) => {
      pair.end(pair.b, BODY.UNREGISTERED, 20);
      pair.put(pair.a, BLUE, 30);
      pair.end(pair.a, BODY.EXPIRED, 40);
    },
    want: CAUSE.EXPIRED,
  },
  { what: "is held by a node that is away too long", change: ({ b }) => b.setLife("a/1", "hidden"), want: CAUSE.ORIGIN_AWAY },
  {
    what: "no longer matches",
    filter: { ...ANY, tags: ["blue"] },
    change: (pair) => pair.put(pair.a, GREEN, 20),
    want: CAUSE.NO_MATCH,
  },
  {
    what: "is hidden by an owner's rule",
    change: ({ b }) => {
      b.replica.setAdmission(() => false);
      for (const stored of b.replica.records(K)) b.replica.touch(stored);
    },
    want: CAUSE.NO_MATCH,
  },
])("an entry that $what", ({ filter = ANY, change, want }) => {
  const pair = new Pair();
  pair.put(pair.a, BLUE, 10);
  const live = new Watch(pair.b, filter);
  expect(live.causes()).toEqual([]);
  const { cursor } = live;
  change(pair);
  expect(live.causes().at(-1)).toBe(want);
  // What policy hides is not told to who comes with a cursor of another policy: it gets a snapshot.
  if (want !== CAUSE.NO_MATCH || filter !== ANY) expect(new Watch(pair.b, filter, cursor).causes().at(-1)).toBe(want);
});
