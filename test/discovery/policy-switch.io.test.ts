/** Changes of policy on a real event loop: while one waits for copies nothing runs, and it goes on when they are through. */
import { expect, test } from "vitest";
import { PolicySwitcher } from "../../src/discovery/policy-switch.io.ts";
import { NEVER } from "../../src/lib/machine.ts";

/** A queue whose change has two steps, of which the second waits. */
function open() {
  const queue = {
    steps: 0,
    isRunning: false,
    isWaiting: false,
    isHeardThere: false,
    shown: 0,
    onFollowed: () => {},
    look: () => {
      queue.isRunning = true;
      return 1;
    },
    step: () => {
      queue.steps += 1;
      if (queue.steps === 1) queue.isWaiting = true;
      if (queue.steps === 2) Object.assign(queue, { isRunning: false, shown: 1 });
      return true;
    },
    sliceMs: () => 5,
    isAcknowledged: () => !queue.isRunning && queue.isHeardThere,
    nextDeadlineMs: () => (queue.isRunning ? NEVER : performance.now()),
  };
  const shown: number[] = [];
  const switcher = new PolicySwitcher(queue, () => shown.push(queue.shown));
  return { queue, switcher, shown };
}

/** The event loop has come round a few times. */
async function turns(): Promise<void> {
  for (let n = 0; n < 5; n++) await new Promise((resolve) => setImmediate(resolve));
}

test("a change that waits for copies takes no slices, is shown to readers here, and goes on when the copies are through", async () => {
  const { queue, switcher, shown } = open();
  let isDone = false;
  const done = switcher.run().then(() => (isDone = true));
  await turns();
  expect([queue.steps, isDone, shown]).toEqual([1, false, [0]]);
  queue.onFollowed();
  await turns();
  expect(queue.steps).toBe(1);
  queue.isWaiting = false;
  queue.onFollowed();
  await done;
  expect([queue.steps, shown]).toEqual([2, [0, 1]]);
});

test("who waits until a change is heard waits while it runs, and then for the copies too", async () => {
  const { queue, switcher } = open();
  let isHeard = false;
  void switcher.run();
  const heard = switcher.heard().then(() => (isHeard = true));
  await turns();
  queue.isWaiting = false;
  queue.onFollowed();
  await turns();
  expect([queue.shown, isHeard]).toEqual([1, false]);
  queue.isHeardThere = true;
  await heard;
});
