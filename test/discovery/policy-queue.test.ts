/** Changes of policy one after another, with time between them in which watches come to their END; the time is the test's own. */
import { expect, test } from "vitest";
import { SwitchQueue } from "../../src/discovery/policy-switch.io.ts";

function open() {
  const watcher = { isTelling: false, lagRevisions: 0 };
  const clock = { nowMs: 0, onWait: () => {} };
  // Of a watcher the queue looks at nothing else.
  const parts = { fanout: { watchers: () => [watcher] as never }, replica: { revision: 7 } };
  const queue = new SwitchQueue(parts, {
    nowMs: () => clock.nowMs,
    wait: async (forMs) => {
      clock.nowMs += forMs;
      clock.onWait();
    },
  });
  return { watcher, queue, clock };
}

test("the next change may begin when watches have heard of the one before, and not before", async () => {
  const { watcher, queue, clock } = open();
  await queue.heard();
  expect(clock.nowMs).toBe(0);
  await queue.run(async () => (watcher.isTelling = true));
  clock.onWait = () => (watcher.isTelling = clock.nowMs < 160);
  await queue.heard();
  expect([watcher.isTelling, clock.nowMs]).toEqual([false, 160]);
});

test("nobody waits for who stands still, nor for ever for who comes further", async () => {
  const { watcher, queue, clock } = open();
  // It stands before the change, and so has not heard of it.
  await queue.run(async () => (watcher.lagRevisions = 1) > 0);
  await queue.heard();
  expect(clock.nowMs).toBe(1000);
  await queue.heard();
  expect(clock.nowMs).toBe(1000);
  watcher.lagRevisions = 1_000_000;
  await queue.run(async () => true);
  clock.onWait = () => (watcher.lagRevisions -= 1);
  await queue.heard();
  expect(clock.nowMs).toBe(11_000);
});

test("what is in force already waits for no watch, and a change that fails holds up none", async () => {
  const { watcher, queue, clock } = open();
  const order: string[] = [];
  watcher.isTelling = true;
  const first = queue.run(() => Promise.reject(new Error("broken")));
  const second = queue.run(async () => order.push("second") > 0);
  await expect(first).rejects.toThrow("broken");
  await second;
  await queue.run(async () => order.push("third") > 0);
  expect(clock.nowMs).toBe(0);
  expect(order).toEqual(["second", "third"]);
});
