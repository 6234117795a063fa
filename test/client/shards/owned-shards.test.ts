/** The shards of an owner, driven with a clock that the test sets: which callbacks start, what is reported, and when a term ends. */
import { create } from "@bufbuild/protobuf";
import { durationFromMs } from "@bufbuild/protobuf/wkt";
import { expect, test } from "vitest";
import { OwnedShardState, ShardServiceAttachResponseSchema } from "../../../gen/waymark/control/v1/shard_pb.js";
import { OwnedShards, type RunningShard, type ShardCallback } from "../../../src/client/shards/owned-shards.ts";

const { PREPARING, OWNED, PAUSED, DRAINING, LOST, RELEASED } = OwnedShardState;
type News = readonly [id: number, state: OwnedShardState, fence?: number, isThrottled?: boolean];

/** An owner whose callbacks return when the test says so. */
function setUp() {
  let nowMs = 1000;
  const calls: string[] = [];
  const running = new Map<string, RunningShard>();
  const shards = new OwnedShards({
    namespace: "orders",
    nowMs: () => nowMs,
    run: (callback, shard) => {
      const call = `${callback} ${shard.id}`;
      calls.push(call);
      running.set(call, shard);
    },
  });
  shards.opening();
  return {
    shards,
    calls,
    /** An answer to a message that is sent now. */
    answer: (validForMs: number, news: readonly News[], serveOnStoreLoss = false) => {
      const owned = news.map(([id, state, number, throttled = false]) => {
        const known = number === undefined ? {} : { fence: fence(number) };
        return { id, state, epoch: 7n, throttled, ...known };
      });
      const answer = { sentMs: BigInt(nowMs), validFor: durationFromMs(validForMs), shards: owned, serveOnStoreLoss };
      shards.answered(create(ShardServiceAttachResponseSchema, answer));
    },
    returns: (callback: ShardCallback, id: number) => {
      const shard = held(running, callback, id);
      running.delete(`${callback} ${id}`);
      shards.returned(callback, shard);
    },
    held: (callback: ShardCallback, id: number) => held(running, callback, id),
    at: (ms: number) => {
      nowMs = ms;
    },
  };
}

const fence = (number: number) => ({ failoverVersion: 0n, storeEpoch: 3n, number: BigInt(number) });

function held(running: ReadonlyMap<string, RunningShard>, callback: ShardCallback, id: number): RunningShard {
  const shard = running.get(`${callback} ${id}`);
  if (shard === undefined) throw new Error(`${callback} ${id} is not running`);
  return shard;
}

test("a shard is prepared, owned under its fence, drained and reported, in this order", () => {
  const { shards, calls, answer, returns, held: of } = setUp();
  answer(900, [[12, PREPARING]]);
  expect([calls, shards.report()]).toEqual([["onPrepare 12"], { prepared: [], dropped: [] }]);
  returns("onPrepare", 12);
  expect(shards.report()).toEqual({ prepared: [12], dropped: [] });
  answer(900, [[12, OWNED, 5]]);
  const term = of("onOwn", 12);
  expect(term).toMatchObject({ fenceText: "shard/orders/12;0.3.5", fence: { number: 5 }, epoch: 7, isPaused: false, isConfirmed: true });
  returns("onOwn", 12);
  answer(900, [[12, DRAINING, 5]]);
  answer(900, [[12, DRAINING, 5]]);
  expect([term.isDraining, term.signal.aborted, shards.report()]).toEqual([true, false, { prepared: [], dropped: [] }]);
  returns("onDrain", 12);
  expect([term.signal.aborted, term.isValid(), shards.isEmpty]).toEqual([true, false, true]);
  expect([shards.report().dropped, shards.report().dropped, calls]).toEqual([[12], [], ["onPrepare 12", "onOwn 12", "onDrain 12"]]);
});

test("a shard that becomes owned during its preparation is started when the preparation has returned", () => {
  const { calls, answer, returns, held: of } = setUp();
  answer(900, [[1, PREPARING]]);
  const { signal } = of("onPrepare", 1);
  answer(900, [[1, OWNED, 5]]);
  expect(calls).toEqual(["onPrepare 1"]);
  returns("onPrepare", 1);
  expect([calls, signal.aborted]).toEqual([["onPrepare 1", "onOwn 1"], false]);
});

test("a preparation that is withdrawn is aborted and not reported", () => {
  const { shards, answer, returns, held: of } = setUp();
  answer(900, [[1, PREPARING]]);
  const { signal } = of("onPrepare", 1);
  answer(900, [[1, RELEASED]]);
  expect(signal.aborted).toBe(true);
  returns("onPrepare", 1);
  expect([shards.report(), shards.isEmpty]).toEqual([{ prepared: [], dropped: [] }, true]);
});

test("a lost shard stops immediately, and is reported when all its callbacks have returned", () => {
  const { shards, calls, answer, returns, held: of } = setUp();
  answer(900, [[1, OWNED, 5]]);
  const term = of("onOwn", 1);
  answer(900, [[1, LOST, 5]]);
  expect([term.signal.aborted, calls]).toEqual([true, ["onOwn 1", "onLost 1"]]);
  returns("onLost", 1);
  expect(shards.report().dropped).toEqual([]);
  returns("onOwn", 1);
  expect(shards.report().dropped).toEqual([1]);
});

test("a term ends with its validity, without any message and before a timer notices", () => {
  const { shards, calls, answer, at, held: of } = setUp();
  answer(500, [[1, OWNED, 5]]);
  const term = of("onOwn", 1);
  expect(shards.expire()).toBe(1500);
  at(1499);
  expect(term.isValid()).toBe(true);
  at(1500);
  expect([term.isValid(), term.signal.aborted, shards.term(1)]).toEqual([false, false, undefined]);
  expect([shards.expire(), term.signal.aborted, calls]).toEqual([Number.POSITIVE_INFINITY, true, ["onOwn 1", "onLost 1"]]);
  answer(500, []);
  expect(term.isValid()).toBe(false);
  at(3000);
  shards.expire();
  expect(calls).toHaveLength(2);
});

test("a preparation does not end with a validity", () => {
  const { shards, answer, at, held: of } = setUp();
  answer(500, [[1, PREPARING]]);
  at(2000);
  shards.expire();
  expect(of("onPrepare", 1).signal.aborted).toBe(false);
});

test("a shard is never held again under a fence, but under the next one when its callbacks have returned", () => {
  const { shards, calls, answer, at, returns } = setUp();
  answer(500, [[1, OWNED, 5]]);
  at(2000);
  shards.expire();
  answer(500, [[1, OWNED, 5]]);
  returns("onOwn", 1);
  returns("onLost", 1);
  expect([shards.report().dropped, calls]).toEqual([[1], ["onOwn 1", "onLost 1"]]);
  answer(500, [[1, OWNED, 5]]);
  expect([shards.report().dropped, calls.length]).toEqual([[1], 2]);
  answer(500, [[1, OWNED, 6]]);
  expect(calls.slice(2)).toEqual(["onOwn 1"]);
  answer(500, [[1, OWNED, 7]]);
  expect(calls.slice(3)).toEqual(["onLost 1"]);
  returns("onLost", 1);
  returns("onOwn", 1);
  expect([shards.report().dropped, calls.slice(4)]).toEqual([[], ["onOwn 1"]]);
});

test("a shard is not started while the owner cannot act, and is started by the next validity", () => {
  const { calls, answer, at } = setUp();
  answer(0, [[1, OWNED, 5]]);
  expect(calls).toEqual([]);
  at(1100);
  answer(500, []);
  expect(calls).toEqual(["onOwn 1"]);
});

test("a later stream does not extend the shards of an earlier one, and ends them when it grants a validity", () => {
  const { shards, calls, answer, at, returns, held: of } = setUp();
  answer(500, [
    [1, OWNED, 5],
    [2, OWNED, 5],
  ]);
  const [kept, late] = [of("onOwn", 1), of("onOwn", 2)];
  shards.opening();
  answer(0, [[1, OWNED, 5]]);
  expect(shards.expire()).toBe(1500);
  at(1400);
  expect([kept.isValid(), late.isValid()]).toEqual([true, true]);
  answer(900, []);
  expect([kept.signal.aborted, late.signal.aborted, calls.slice(2)]).toEqual([true, true, ["onLost 1", "onLost 2"]]);
  for (const id of [1, 2]) for (const callback of ["onOwn", "onLost"] as const) returns(callback, id);
  // The server of the new stream has not reported shard 2.
  expect(shards.report().dropped).toEqual([1]);
});

test("an earlier stream's shard that is drained or lost on the new stream ends, even before a validity", () => {
  const { calls, shards, answer } = setUp();
  answer(500, [
    [1, OWNED, 5],
    [2, OWNED, 5],
  ]);
  shards.opening();
  answer(0, [
    [1, DRAINING, 5],
    [2, LOST, 5],
    [3, DRAINING, 4],
  ]);
  expect([calls.slice(2), shards.report().dropped]).toEqual([["onDrain 1", "onLost 2"], [3]]);
});

test("a preparation continues on the next stream, and is reported there when that stream asks for it", () => {
  const { calls, shards, answer, returns } = setUp();
  answer(500, [[1, PREPARING]]);
  returns("onPrepare", 1);
  shards.report();
  shards.opening();
  expect(shards.report().prepared).toEqual([]);
  answer(500, [[1, PREPARING]]);
  expect([shards.report().prepared, calls]).toEqual([[1], ["onPrepare 1"]]);
});

test("where the set permits it, a shard continues unconfirmed until another stream grants a validity", () => {
  const { shards, answer, at, held: of } = setUp();
  answer(500, [[1, OWNED, 5]], true);
  const term = of("onOwn", 1);
  at(5000);
  shards.expire();
  expect([term.isValid(), term.isConfirmed, term.signal.aborted]).toEqual([true, false, false]);
  answer(500, [], true);
  expect(term.isConfirmed).toBe(true);
  at(9000);
  shards.opening();
  answer(0, [], true);
  expect(term.isValid()).toBe(true);
  answer(500, [], true);
  expect(term.isValid()).toBe(false);
});

test("a shard can be paused and resumed, and a shard can be paused when it gets its owner", () => {
  const { answer, held: of } = setUp();
  answer(900, [
    [1, OWNED, 5],
    [2, PAUSED, 5],
  ]);
  const [term, paused] = [of("onOwn", 1), of("onOwn", 2)];
  answer(900, [[1, PAUSED, 5]]);
  expect([term.isPaused, term.isValid(), paused.isPaused]).toEqual([true, true, true]);
  answer(900, [[1, OWNED, 5]]);
  expect(term.isPaused).toBe(false);
});

test("the owner of a shard is asked to throttle it until told otherwise", () => {
  const { answer, held: of } = setUp();
  answer(900, [[1, OWNED, 5, true]]);
  const term = of("onOwn", 1);
  expect(term.isThrottled).toBe(true);
  answer(900, [[1, OWNED, 5]]);
  expect([term.isThrottled, term.isValid()]).toEqual([false, true]);
});

test("an owner that stops ends all shards without a further callback, and starts none", () => {
  const { shards, calls, answer, returns, held: of } = setUp();
  answer(900, [
    [1, OWNED, 5],
    [2, PREPARING],
  ]);
  const [term, preparation] = [of("onOwn", 1), of("onPrepare", 2)];
  const reason = new Error("stop");
  shards.stop(reason);
  answer(900, [[3, OWNED, 5]]);
  expect([term.signal.reason, preparation.signal.reason, calls.length, shards.isEmpty]).toEqual([reason, reason, 2, false]);
  returns("onOwn", 1);
  returns("onPrepare", 2);
  expect(shards.isEmpty).toBe(true);
});

test("an owner without a successor drains its shards itself, reports none of them, and starts no further one", () => {
  const { shards, calls, answer, returns, held: of } = setUp();
  answer(900, [
    [1, OWNED, 5],
    [2, OWNED, 5],
    [3, PREPARING],
  ]);
  const [first, second, preparation] = [of("onOwn", 1), of("onOwn", 2), of("onPrepare", 3)];
  for (const id of [1, 2]) returns("onOwn", id);
  answer(900, [[2, DRAINING, 5]]);
  shards.drain();
  answer(900, [[4, OWNED, 5]]);
  expect([first.isDraining, first.isValid(), preparation.signal.aborted]).toEqual([true, true, true]);
  expect(calls.slice(3)).toEqual(["onDrain 2", "onDrain 1"]);
  returns("onPrepare", 3);
  returns("onDrain", 1);
  expect([first.signal.aborted, second.signal.aborted, shards.report().dropped, shards.isEmpty]).toEqual([true, false, [], false]);
  returns("onDrain", 2);
  expect([shards.report().dropped, shards.isEmpty, calls.length]).toEqual([[2], true, 5]);
});
