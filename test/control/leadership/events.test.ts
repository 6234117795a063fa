/** The events of leaders, and the log from which readers resume. */
import { expect, test } from "vitest";
import { StoreCopy } from "../../../src/control/leadership/copy.ts";
import { LeaderEvents } from "../../../src/control/leadership/events.ts";
import type { LeadershipEvent } from "../../../src/control/leadership/io-types.ts";
import { decodeLeader, encodeRecord, LEADERS, type LeaderRecord } from "../../../src/control/leadership/records.ts";
import { SharedStore, WATCH_START } from "../../fakes/shared-store.ts";

const SCOPE = "custom/orders/cleaner";

class Reader {
  readonly store = new SharedStore();
  readonly leaders = new StoreCopy<LeaderRecord>(decodeLeader);
  readonly events = new LeaderEvents(this.leaders.items);
  position = WATCH_START;

  put(scope: string, session: string | undefined, number = 1): void {
    const names = { holderId: "h", nodeId: "n", reason: "", correlationId: "", resign: undefined, shard: undefined };
    const fence = { failoverVersion: 0, storeEpoch: 1, number };
    const bytes = session === undefined ? undefined : encodeRecord({ ...names, session, term: 1, fence, issuedWallMs: 0 });
    this.store.put(LEADERS + scope, bytes);
  }

  /** Takes what the watch has. Returns the events, as `kind scope revision`. */
  take(limit = 1000): readonly string[] {
    const events: LeadershipEvent[] = [];
    for (;;) {
      const found = this.store.read(LEADERS, this.position, limit);
      if (found === undefined) return shown(events);
      this.position = found.position;
      const step = this.leaders.take(found.step, 0);
      if (step !== undefined) events.push(...this.events.take(step, found.step.revision));
    }
  }
}

function shown(events: readonly LeadershipEvent[] | undefined): readonly string[] {
  return (events ?? []).map(({ kind, scope, revision }) => `${kind} ${scope} ${revision}`);
}

test("the first leaders are no events; each later change of a holder is one", () => {
  const reader = new Reader();
  reader.put("a", "s1");
  reader.put("b", "s1");
  expect([reader.take(1), [...reader.events.current()].map(([scope]) => scope), reader.events.revision]).toEqual([[], ["a", "b"], 2]);
  const rows: readonly [scope: string, session: string | undefined, number: number, event: string | undefined][] = [
    ["c", "s1", 1, "elected"],
    ["c", "s2", 2, "elected"],
    ["c", "s2", 3, "elected"],
    ["c", "", 3, "stepped_down"],
    ["c", "", 3, undefined],
    ["c", "s3", 4, "elected"],
    ["c", undefined, 0, "stepped_down"],
  ];
  for (const [scope, session, number, event] of rows) {
    reader.put(scope, session, number);
    expect(reader.take()).toEqual(event === undefined ? [] : [`${event} ${scope} ${reader.store.revision}`]);
  }
});

test("a record that cannot be read is no event", () => {
  const reader = new Reader();
  reader.put("a", "s1");
  reader.take();
  reader.store.put(`${LEADERS}a`, Uint8Array.of(0));
  expect(reader.take()).toEqual([]);
});

test("a reader resumes from the last 1,024 events, and begins with a snapshot if it has seen less, or more than this node", () => {
  const reader = new Reader();
  reader.put(SCOPE, "s", 1);
  reader.take();
  for (let number = 2; number <= 1025; number++) {
    reader.put(SCOPE, "s", number);
    reader.take();
  }
  expect([reader.events.after(1)?.length, reader.events.after(1025)?.length, reader.events.after(1026)]).toEqual([1024, 0, undefined]);
  expect(shown(reader.events.after(1023))).toEqual([`elected ${SCOPE} 1024`, `elected ${SCOPE} 1025`]);
  reader.put(SCOPE, "s", 1026);
  reader.take();
  expect([reader.events.after(1), reader.events.after(2)?.length]).toEqual([undefined, 1024]);
});

test("after a watch that started over, readers that were there get the differences, and all others a snapshot", () => {
  const reader = new Reader();
  for (const scope of ["a", "b", "c"]) reader.put(scope, "s1");
  reader.take();
  reader.put("a", "s2");
  reader.put("b", undefined);
  reader.put("d", "s2");
  reader.store.compact(reader.store.revision);
  expect(reader.take(1)).toEqual(["elected a 4", "elected d 6", "stepped_down b 6"]);
  expect([reader.events.after(3), reader.events.after(5), reader.events.after(6)]).toEqual([undefined, undefined, []]);
});

test("after the store was restored from a backup, a reader that has seen more begins with a snapshot", () => {
  const reader = new Reader();
  reader.put("a", "s1");
  const backup = reader.store.state;
  reader.put("a", "s2");
  reader.put("b", "s2");
  reader.take();
  reader.store.restore(backup);
  reader.position = WATCH_START;
  expect(reader.take()).toEqual(["elected a 1", "stepped_down b 1"]);
  expect([reader.events.revision, reader.events.after(3), reader.events.after(1)]).toEqual([1, undefined, []]);
  reader.put("c", "s1");
  expect([reader.take(), shown(reader.events.after(1))]).toEqual([["elected c 2"], ["elected c 2"]]);
});
