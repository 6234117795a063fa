/** ShardService.Watch over real maps. */
import { create, fromBinary } from "@bufbuild/protobuf";
import { durationMs } from "@bufbuild/protobuf/wkt";
import { expect, test } from "vitest";
import {
  ShardEventKind,
  ShardServiceWatchRequestSchema,
  type ShardServiceWatchResponse,
  ShardServiceWatchResponseSchema,
} from "../../../gen/waymark/control/v1/shard_pb.js";
import { anonymousCaller } from "../../../src/policy/identity/caller.ts";
import { NO_POLICY, Policy } from "../../../src/policy/set/verdict.ts";
import { requestCheckOf } from "../../../src/services/contract.ts";
import type { StreamSource } from "../../../src/services/service.ts";
import { shardService } from "../../../src/services/shards/shards.ts";
import { KeptShards } from "../../fakes/kept-shards.ts";
import { OPEN_GATE } from "../../fakes/peer-operations.ts";
import { rule, set } from "../../fakes/policies.ts";

const HIDING = new Policy(set([rule("orders", { visibility: ["c2"] })], { defaultAllow: true }), 1);
const MAX_STREAMS = 3;

interface Asked {
  readonly namespace?: string;
  readonly afterEpoch?: bigint;
}

function served() {
  const source = new KeptShards();
  const policies = { policy: NO_POLICY };
  const time = { monoMs: 0, wallMs: 0 };
  const ticks = new Set<() => void>();
  const service = shardService({
    source,
    servedBy: "n1",
    leaseMs: 3000,
    gate: OPEN_GATE,
    checkNamespace: () => {},
    entryOf: () => undefined,
    policies,
    onDenied: () => {},
    maxWatches: MAX_STREAMS,
    tick: (wake) => {
      ticks.add(wake);
      return () => ticks.delete(wake);
    },
    onOperation: () => {},
  });
  const open = (asked: Asked = {}): StreamSource => {
    const { watch } = service.handlers;
    if (watch?.kind !== "server_streaming") throw new Error("watch is no stream");
    const request = create(ShardServiceWatchRequestSchema, { namespace: "orders", ...asked });
    requestCheckOf(ShardServiceWatchRequestSchema)(request);
    return watch.open(request as never, { caller: anonymousCaller("c1", "127.0.0.1"), time: { ...time }, requestId: "r" });
  };
  /** A stream whose reader reads each message when the stream wakes it. Heartbeats are left out. */
  const reading = (asked: Asked = {}) => {
    const stream = open(asked);
    const read: ShardServiceWatchResponse[] = [];
    let ended: unknown;
    const pull = () => {
      try {
        read.push(...pulled(stream));
      } catch (error) {
        ended = error;
      }
    };
    stream.attach(pull, () => {});
    pull();
    const taken = () => read.splice(0).filter(({ kind }) => kind !== ShardEventKind.HEARTBEAT);
    return { stream, read, taken, lines: () => taken().map(lineOf), ended: () => ended };
  };
  const pulled = (stream: StreamSource): readonly ShardServiceWatchResponse[] => {
    const messages: ShardServiceWatchResponse[] = [];
    for (let bytes = stream.pull(time); bytes !== undefined; bytes = stream.pull(time))
      messages.push(fromBinary(ShardServiceWatchResponseSchema, bytes));
    return messages;
  };
  const pass = (forMs: number) => {
    time.monoMs += forMs;
    time.wallMs += forMs;
    for (const wake of ticks) wake();
  };
  return { source, policies, ticks, open, reading, pulled, pass };
}

/** `CHANGE 0:a 1:- @5`; without an epoch, without the end. */
function lineOf({ kind, shards, epoch }: ShardServiceWatchResponse): string {
  const rows = shards.map(({ id, owner }) => `${id}:${owner || "-"}`);
  return [ShardEventKind[kind], ...rows, ...(epoch === 0n ? [] : [`@${epoch}`])].join(" ");
}

test("a stream is a snapshot of all shards, then the shards of each change, with their owners and the set", () => {
  const { source, reading } = served();
  source.apply("orders");
  source.own("orders", "a");
  source.change("orders", [{ id: 1, owner: "a", number: 41 }]);
  const { taken, lines } = reading();
  const [snapshot] = taken();
  expect(snapshot && lineOf(snapshot)).toBe("SNAPSHOT 0:- 1:a 2:- 3:- @2");
  expect(snapshot).toMatchObject({ owners: [{ instance: "a", target: "a.host:80" }], set: { epoch: 2n, settings: { count: 4 } } });
  source.own("orders", "b");
  expect(lines()).toEqual([]);
  source.change("orders", [
    { id: 1, owner: "a", number: 41, next: "b", isDraining: true },
    { id: 2, owner: "a", number: 42 },
  ]);
  const [change] = taken();
  expect(change && lineOf(change)).toBe("CHANGE 1:a 2:a @3");
  expect(change?.owners.map(({ instance }) => instance)).toEqual(["a", "b"]);
  source.apply("orders", { strategy: "ring" });
  expect(lines()).toEqual(["CHANGE @4"]);
  source.apply("billing");
  expect(lines()).toEqual([]);
});

test("a change has the settings only if the reader may have others, and it has the checksum and the counts of the set", () => {
  const { source, reading } = served();
  source.apply("orders");
  const resumed = reading({ afterEpoch: 1n });
  const { taken } = reading();
  const counts = (messages = taken()) => messages.map(({ kind, set: of }) => [ShardEventKind[kind], of?.epoch, of?.settings?.count]);
  expect(counts()).toEqual([["SNAPSHOT", 1n, 4]]);
  source.change("orders", [{ id: 1, owner: "a", number: 41 }]);
  const [change] = taken();
  expect(change?.set).toMatchObject({ namespace: "orders", epoch: 2n, unownedCount: 3, oldestEpoch: 1n });
  expect(change?.set?.settings).toBeUndefined();
  expect(change?.set?.checksum).toMatch(/^[0-9a-f]{16}$/);
  source.apply("orders", { strategy: "ring" });
  source.apply("orders", { oldestEpoch: 2 });
  expect(counts()).toEqual([
    ["CHANGE", 3n, 4],
    ["CHANGE", 4n, undefined],
  ]);
  expect(counts(resumed.taken()).map(([, , count]) => count)).toEqual([undefined, 4, undefined]);
  resumed.stream.close();
  // The settings can have changed while the reader was away.
  expect(counts(reading({ afterEpoch: 2n }).taken())).toEqual([["CHANGE", 4n, 4]]);
});

test("a stream resumes after an epoch with the shards that changed since, and joins changes that the reader has missed", () => {
  const { source, reading } = served();
  source.apply("orders");
  for (const id of [0, 1, 2, 1]) source.change("orders", [{ id, owner: "a", number: 40 + id }]);
  expect(reading({ afterEpoch: 3n }).lines()).toEqual(["CHANGE 1:a 2:a @5"]);
  const current = reading({ afterEpoch: 5n });
  expect([current.lines(), current.read]).toEqual([[], []]);
  source.change("orders", [{ id: 3, owner: "a", number: 50 }]);
  expect(current.lines()).toEqual(["CHANGE 3:a @6"]);
});

test.each([6n, 2n ** 64n - 1n])("a stream begins with a snapshot after the epoch %s, which the node has not seen", (afterEpoch) => {
  const { source, reading } = served();
  source.apply("orders");
  source.change("orders", [{ id: 0, owner: "a", number: 41 }]);
  expect(reading({ afterEpoch }).lines()).toEqual(["SNAPSHOT 0:a 1:- 2:- 3:- @2"]);
});

test("a large snapshot has at most 500 shards a message, and only its last message has an epoch", () => {
  const { source, reading } = served();
  source.apply("orders", { count: 1200 });
  const messages = reading().taken();
  expect(messages.map(({ shards, epoch, set: ofSet }) => [shards.length, epoch, ofSet?.epoch])).toEqual([
    [500, 0n, undefined],
    [500, 0n, undefined],
    [200, 1n, 1n],
  ]);
  expect(messages.flatMap(({ shards }) => shards.map(({ id }) => id))).toEqual(Array.from({ length: 1200 }, (_, id) => id));
});

test("a change during a snapshot follows after its last message", () => {
  const { source, open, pulled } = served();
  source.apply("orders", { count: 501 });
  const stream = open();
  const first = stream.pull({ monoMs: 0, wallMs: 0 });
  source.change("orders", [{ id: 7, owner: "a", number: 41 }]);
  expect(first).toBeDefined();
  const rest = pulled(stream).filter(({ kind }) => kind !== ShardEventKind.HEARTBEAT);
  expect(rest.map(lineOf)).toEqual(["SNAPSHOT 500:- @1", "CHANGE 7:a @2"]);
});

test("streams with the same epoch share the bytes of a change", () => {
  const { source, open } = served();
  source.apply("orders");
  const streams = [open(), open({ afterEpoch: 1n })];
  const pull = () => streams.map((stream) => stream.pull({ monoMs: 0, wallMs: 0 }));
  pull();
  source.change("orders", [{ id: 0, owner: "a", number: 41 }]);
  const [one, other] = pull();
  expect([one === other, one === undefined]).toEqual([true, false]);
});

test("the end of a freeze is in changes only until it is over", () => {
  const { source, reading, pass } = served();
  source.apply("orders", { frozenUntilWallMs: 1000 });
  const { taken } = reading();
  const ends = () => taken().map(({ set: of }) => of?.frozenUntil?.seconds);
  expect(ends()).toEqual([1n]);
  pass(999);
  source.change("orders", [{ id: 0, owner: "a", number: 41 }]);
  pass(1);
  source.change("orders", [{ id: 0, owner: "a", number: 42 }]);
  expect(ends()).toEqual([1n, undefined]);
});

test("a heartbeat with the age of the store follows the first message, and then every 10 s", () => {
  const { source, reading, pass } = served();
  source.apply("orders");
  source.status = { ...source.status, ageMs: 2500 };
  const { read } = reading();
  const heartbeats = () =>
    read
      .splice(0)
      .filter(({ kind }) => kind === ShardEventKind.HEARTBEAT)
      .map(({ epoch, age }) => [epoch, age && durationMs(age)]);
  expect(heartbeats()).toEqual([[1n, 2500]]);
  pass(9999);
  expect(heartbeats()).toEqual([]);
  pass(1);
  expect(heartbeats()).toEqual([[1n, 2500]]);
});

test("a stream ends when the policy hides the namespace, and a hidden namespace has no stream", () => {
  const { source, policies, open, reading } = served();
  source.apply("orders");
  const { ended, lines } = reading();
  lines();
  policies.policy = HIDING;
  source.change("orders", [{ id: 0, owner: "a", number: 41 }]);
  expect([lines(), ended()]).toMatchObject([[], { reason: "discovery_access_denied" }]);
  expect(() => open()).toThrow("discovery_access_denied");
  policies.policy = NO_POLICY;
  expect(() => open({ namespace: "billing" })).toThrow("not_found: namespace billing has no shards");
});

test("streams are bounded, and a closed stream follows nothing", () => {
  const { source, open, reading, ticks } = served();
  source.apply("orders");
  const { stream } = reading();
  open();
  expect(() => open()).toThrow("quota_exceeded: too many streams of shards");
  expect([source.followerCount, ticks.size]).toEqual([1, 1]);
  stream.close();
  expect([source.followerCount, ticks.size]).toEqual([0, 0]);
  open();
});
