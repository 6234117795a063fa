/** Who wakes watchers, and how many in one turn of the loop. */
import { setImmediate as turn } from "node:timers/promises";
import { expect, test } from "vitest";
import { Fanout, type WatchStream } from "../../src/discovery/fanout.ts";
import { WatchWaker } from "../../src/discovery/watch-waker.io.ts";

/** One that asks to be woken again `count` times; each wake takes 5 ms of a clock of its own. */
function slowOne(count: number) {
  const log: string[] = [];
  let [monoMs, left] = [0, count];
  const fanout = new Fanout(() => wakeup.kick());
  const wakeup: WatchWaker = new WatchWaker(fanout, () => ({ monoMs, wallMs: 0 }));
  const watcher = {
    feed: { reader: { options: { filter: { namespace: "svc", prefix: "" } } }, bookmarkDueMonoMs: Number.POSITIVE_INFINITY },
    isReady: false,
    wake: () => {
      log.push("wake");
      monoMs += 5;
      left -= 1;
      if (left > 0) fanout.again(watcher);
    },
  } as unknown as WatchStream;
  fanout.add(watcher);
  return { fanout, wakeup, watcher, log };
}

test("who has more to look at is woken at once, also when nobody else is, and others have their turn between", async () => {
  const { fanout, wakeup, watcher, log } = slowOne(5);
  watcher.isReady = false;
  while (fanout.take() !== undefined);
  fanout.again(watcher);
  for (let n = 0; n < 20; n++) {
    log.push("turn");
    await turn();
  }
  wakeup.close();
  expect(log.filter((what) => what === "wake")).toHaveLength(5);
  expect(log.join(" ")).not.toContain("wake wake");
});

test("a loop that comes late to its look for bookmarks looks as soon as it can, and Node has nothing to warn of", async () => {
  const warnings: string[] = [];
  const onWarning = ({ name }: Error) => void warnings.push(name);
  process.on("warning", onWarning);
  let monoMs = 0;
  const clock = () => {
    monoMs += 300; // As if the process stood still between two looks at the clock.
    return { monoMs, wallMs: 0 };
  };
  const wakeup = new WatchWaker(new Fanout(() => {}), clock);
  await turn();
  wakeup.close();
  process.off("warning", onWarning);
  expect(warnings).toEqual([]);
});
