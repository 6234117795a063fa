/** When ready watchers are woken; the time is the test's own. */
import { expect, test } from "vitest";
import { Fanout, type WatchStream } from "../../src/discovery/fanout.ts";
import { WakeupScheduler } from "../../src/discovery/wakeup-scheduler.ts";

function open() {
  const fanout = new Fanout();
  const feed = { reader: { options: { filter: { namespace: "svc", prefix: "" } } }, bookmarkDueMonoMs: Number.POSITIVE_INFINITY };
  // Nothing else is looked at.
  fanout.add({ feed, isReady: false } as unknown as WatchStream);
  const wakeups = new WakeupScheduler(fanout, { monoMs: 1000 });
  const wake = () => {
    while (fanout.take() !== undefined);
  };
  const look = (monoMs: number) => wakeups.look({ monoMs });
  const woken = (monoMs: number) => wakeups.woken({ monoMs });
  return { fanout, feed, wakeups, wake, look, woken };
}

test("the first change wakes at once, and those of the next 2 ms together", () => {
  const { fanout, wake, look, woken } = open();
  expect(look(1000)).toBeUndefined();
  fanout.all();
  expect([look(1000), look(1000)]).toEqual([0, undefined]);
  wake();
  expect(woken(1001)).toBeUndefined();
  fanout.all();
  expect([look(1001.5), look(1002)]).toEqual([1.5, undefined]);
  wake();
  expect(woken(1003)).toBeUndefined();
  fanout.all();
  expect(look(1005)).toBe(0);
});

test("while some are left the next slice follows at once, and nobody else begins one", () => {
  const { fanout, wake, look, woken } = open();
  fanout.all();
  look(1000);
  wake();
  // Whoever is woken may be ready again.
  fanout.all();
  expect([woken(1001), look(1001)]).toEqual([0, undefined]);
  wake();
  expect([woken(1002), look(1002)]).toEqual([undefined, undefined]);
});

test("bookmarks are looked for every 200 ms, and wake only whose is due", () => {
  const { fanout, feed, wakeups, look } = open();
  expect(wakeups.nextDeadlineMs()).toBe(1200);
  feed.bookmarkDueMonoMs = 1100;
  wakeups.tick({ monoMs: 1199 });
  expect([fanout.readyCount, wakeups.nextDeadlineMs()]).toEqual([0, 1200]);
  feed.bookmarkDueMonoMs = 1300;
  wakeups.tick({ monoMs: 1200 });
  expect([fanout.readyCount, wakeups.nextDeadlineMs()]).toEqual([0, 1400]);
  wakeups.tick({ monoMs: 1401 });
  expect([fanout.readyCount, wakeups.nextDeadlineMs(), look(1401)]).toEqual([1, 1601, 0]);
});
