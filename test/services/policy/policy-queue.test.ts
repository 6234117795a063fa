/** The queue of policy calls: turns of callers, calls that leave, and the byte limits. */
import { expect, test } from "vitest";
import { anonymousCaller } from "../../../src/policy/identity/caller.ts";
import { PolicyQueue } from "../../../src/services/policy/policy-queue.ts";
import type { CallContext } from "../../../src/services/service.ts";

const TOO_MANY = "too many policy calls";
const MiB = 1024 * 1024;

/** A queue whose calls end one by one, in the order in which they ran. */
function open() {
  const queue = new PolicyQueue();
  const ran: string[] = [];
  const ends: (() => void)[] = [];
  const settled = () => new Promise<void>((resolve) => setImmediate(resolve));
  return {
    queue,
    ran,
    settled,
    call: (tenant: string, sizeBytes = 0) => {
      const caller = { ...anonymousCaller("eu-1", "192.0.2.1", []), tenant };
      const context: CallContext = { caller, time: { monoMs: 0, wallMs: 0 }, requestId: "r" };
      const work = () =>
        new Promise<string>((resolve) => {
          ran.push(tenant);
          ends.push(() => resolve(tenant));
        });
      const answer = queue.run(context, sizeBytes, work).catch(String);
      return { answer, leave: () => context.onOver?.() };
    },
    /** Ends the running call, and lets the next one begin. */
    end: async () => {
      ends.shift()?.();
      await settled();
    },
  };
}

test("callers take turns: a caller with one call waits for at most one call of a caller with sixty", async () => {
  const { call, end, ran } = open();
  for (let i = 0; i < 60; i++) call("a");
  call("admin");
  await end();
  await end();
  expect(ran.slice(0, 2)).toEqual(["a", "admin"]);
  for (let i = 0; i < 60; i++) await end();
  expect(ran).toHaveLength(61);
});

test("callers that ask again after each answer take turns, however many calls of one of them wait", async () => {
  const { call, end, ran } = open();
  const again = (tenant: string): void => void call(tenant).answer.then(() => again(tenant));
  for (let i = 0; i < 60; i++) again("a");
  again("b");
  for (let i = 0; i < 100; i++) await end();
  expect(ran.filter((tenant) => tenant === "b").length).toBeGreaterThanOrEqual(49);
});

test("a waiting call that is over leaves the queue, does not run, and gives its bytes back", async () => {
  const { call, end, ran, settled } = open();
  const first = call("a", MiB);
  const waiting = call("a", 3 * MiB);
  expect(await call("a", MiB).answer).toContain(TOO_MANY);
  waiting.leave();
  expect(await waiting.answer).toContain("deadline_exceeded");
  call("a", 3 * MiB);
  await end();
  await end();
  await settled();
  expect(await first.answer).toBe("a");
  expect(ran).toEqual(["a", "a"]);
});

test("a running call that is over ends as it would have, and holds its bytes until then", async () => {
  const { call, end, ran } = open();
  const running = call("a", 4 * MiB);
  await Promise.resolve();
  running.leave();
  expect(await call("a", MiB).answer).toContain(TOO_MANY);
  call("b");
  await end();
  expect(await running.answer).toBe("a");
  expect(ran).toEqual(["a", "b"]);
});

test("calls that fail do not stop the queue", async () => {
  const { queue, call, end, ran } = open();
  const caller = anonymousCaller("eu-1", "192.0.2.1", []);
  const failing = queue.run({ caller, time: { monoMs: 0, wallMs: 0 }, requestId: "r" }, 0, () => Promise.reject(new Error("broken")));
  call("a");
  await expect(failing).rejects.toThrow("broken");
  await end();
  expect(ran).toEqual(["a"]);
});
