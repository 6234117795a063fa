/** Calls to other nodes: each is answered once, whatever comes of it, and the bounds count those that are open. */
import { expect, test } from "vitest";
import { CallPool, type PoolAnswer } from "../../../src/fabric/transport/call-pool.io.ts";
import { until } from "../../fakes/until.ts";

/** A pool of one call whose peers never take a connection; what its calls were answered. */
function pooled() {
  const limits = { maxCalls: 1, maxChannels: 2, maxMessageBytes: 1000, idleMs: 1000 };
  const cancelled: string[] = [];
  const dial = (address: string) => {
    const { promise, reject } = Promise.withResolvers<never>();
    const cancel = () => {
      cancelled.push(address);
      reject(new Error("cancelled"));
    };
    return { done: promise, cancel };
  };
  const pool = new CallPool(limits, { dial, token: () => "" });
  const answers: string[] = [];
  const call = (to: string, timeoutMs: number) => {
    const answer: PoolAnswer = (said, failure) => answers.push(`${to}: ${said === undefined ? (failure?.why ?? "nothing") : "bytes"}`);
    pool.call({ to, method: "Probe", bytes: new Uint8Array(), timeoutMs }, answer);
  };
  return { pool, answers, cancelled, call };
}

test("a call that nobody takes in time is answered once, its connection is dropped, and its place is free for one other", async () => {
  const { pool, answers, cancelled, call } = pooled();
  call("a", 1);
  // The dial says that it was cancelled after the call was answered.
  await until("the call is given up", () => cancelled.length > 0);
  expect([answers, pool.channelCount, pool.refusedCount]).toEqual([["a: nothing"], 0, 0]);
  call("b", 100);
  expect([answers, pool.channelCount, pool.refusedCount]).toEqual([["a: nothing"], 1, 0]);
  call("c", 100);
  expect([answers, pool.channelCount, pool.refusedCount]).toEqual([["a: nothing", "c: nothing"], 1, 1]);
});
