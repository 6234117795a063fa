/** `shards` with servers that a test plays: how routes survive servers, how calls find the next owner, and how an owner attaches and detaches. */
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { durationFromMs } from "@bufbuild/protobuf/wkt";
import { credentials, Client as GrpcClient, Metadata, Server, ServerCredentials } from "@grpc/grpc-js";
import { afterAll, expect, onTestFinished, test, vi } from "vitest";
import {
  OwnedShardState,
  ShardEventKind,
  ShardSchema,
  type ShardServiceAttachRequest,
  type ShardServiceAttachResponse,
  ShardServiceAttachResponseSchema,
  type ShardServiceWatchResponse,
  ShardServiceWatchResponseSchema,
  ShardStatus,
} from "../../../gen/waymark/control/v1/shard_pb.js";
import type { ClientCalls } from "../../../src/client/calls.ts";
import { connect, type OwnOptions, type ShardTerm } from "../../../src/client/index.ts";
import { ShardClient, type ShardsOptions } from "../../../src/client/shards/shard-client.io.ts";
import { type ShardCallError, wrongEpoch, wrongEpochShard } from "../../../src/client/shards/shard-errors.io.ts";
import { shardOfKey } from "../../../src/lib/shard-key.ts";
import { failure, PlayedStream } from "../../fakes/played-stream.ts";
import { until } from "../../fakes/until.ts";

const LONG_MS = 60_000;
const KEY = "customer-17";
const COUNT = 4;
const ID = shardOfKey("orders", COUNT, KEY);
const { PREPARING, OWNED, PAUSED, DRAINING, LOST } = OwnedShardState;
const folder = mkdtempSync(join(tmpdir(), "waymark-shards-"));
/** Ends the owners that a test has left. */
const end = new AbortController();
afterAll(() => {
  end.abort();
  rmSync(folder, { recursive: true });
});

const rowOf = (owner: string, epoch: number, status = ShardStatus.ACTIVE) =>
  create(ShardSchema, { namespace: "orders", id: ID, owner, epoch: BigInt(epoch), status });

class WatchStream extends PlayedStream<{ readonly afterEpoch: bigint }, ShardServiceWatchResponse> {
  /** A map with one row. */
  map(owner: string, epoch: number, { kind = ShardEventKind.SNAPSHOT, status = ShardStatus.ACTIVE } = {}): void {
    const set = { namespace: "orders", epoch: BigInt(epoch), settings: { count: COUNT } };
    const owners = ["a", "b"].map((instance) => ({ instance, target: `${instance}:1` }));
    const map = { kind, epoch: BigInt(epoch), set, owners, shards: [rowOf(owner, epoch, status)] };
    this.play(create(ShardServiceWatchResponseSchema, map));
    this.heartbeat();
  }

  heartbeat(): void {
    this.play(create(ShardServiceWatchResponseSchema, { kind: ShardEventKind.HEARTBEAT }));
  }

  change(owner: string, epoch: number, status = ShardStatus.ACTIVE): void {
    this.map(owner, epoch, { kind: ShardEventKind.CHANGE, status });
  }
}

class AttachStream extends PlayedStream<ShardServiceAttachRequest, ShardServiceAttachResponse> {
  override send(request: ShardServiceAttachRequest): void {
    super.send(request);
    // The answer of a real server takes more than one turn of the event loop.
    if (request.detach) setImmediate(() => this.end(undefined));
  }

  answer(init: MessageInitShape<typeof ShardServiceAttachResponseSchema> = {}): void {
    const sentMs = this.requests.at(-1)?.sentMs ?? 0n;
    const general = { sentMs, validFor: durationFromMs(LONG_MS), heartbeatInterval: durationFromMs(LONG_MS) };
    this.play(create(ShardServiceAttachResponseSchema, { ...general, ...init }));
  }

  own(state: OwnedShardState, number = 5): void {
    this.answer({ shards: [{ id: ID, state, epoch: 5n, fence: { storeEpoch: 3n, number: BigInt(number) } }] });
  }

  get hasDetached(): boolean {
    return this.requests.at(-1)?.detach === true;
  }

  reports(list: "dropped" | "prepared"): readonly number[] {
    return this.requests.flatMap((request) => request[list]);
  }
}

function setUp(options: ShardsOptions = {}, { timeoutMs = LONG_MS, serverCount = 2 } = {}) {
  const watches: WatchStream[] = [];
  const attached: AttachStream[] = [];
  let failoverCount = 0;
  const client = {
    timeoutMs,
    servers: Array.from({ length: serverCount }, (_, i) => `s${i}`),
    server: "s0",
    get writeServer() {
      return `s${failoverCount % serverCount}`;
    },
    failOver: () => (failoverCount += 1),
    streamAt: (
      server: string,
      _method: unknown,
      request: { readonly afterEpoch: bigint },
      { signal }: { readonly signal?: AbortSignal },
    ) => {
      const stream = new WatchStream(server, signal);
      stream.send(request);
      watches.push(stream);
      return stream.answers();
    },
    duplexAt: (server: string, _method: unknown, { signal }: { readonly signal?: AbortSignal }) => {
      const stream = new AttachStream(server, signal);
      attached.push(stream);
      return { send: (request: ShardServiceAttachRequest) => stream.send(request), answers: stream.answers() };
    },
  } as unknown as ClientCalls;
  let isClosed = false;
  const errors: string[] = [];
  const onError = ({ message }: Error) => errors.push(message);
  const shards = new ShardClient(client, "orders", { onError, ...options }, () => {
    isClosed = true;
  });
  return {
    shards,
    errors,
    isClosed: () => isClosed,
    watch: (count: number) => opened("watch", watches, count),
    attach: (count: number) => opened("attach", attached, count),
  };
}

async function opened<S>(what: string, streams: readonly S[], count: number): Promise<S> {
  await until(`${what} ${count} is open`, () => streams.length >= count);
  const stream = streams[count - 1];
  if (stream === undefined) throw new Error("no stream");
  return stream;
}

/** A shards that has read a map in which `a` owns the shard since epoch 5. */
async function setUpRead(options: ShardsOptions = {}, servers: { timeoutMs?: number } = {}) {
  const parts = setUp(options, servers);
  const stream = await parts.watch(1);
  stream.map("a", 5);
  await parts.shards.ready();
  return { ...parts, stream };
}

test("the stream resumes by epoch on another server, and routes stay meanwhile", async () => {
  const { shards, watch, stream, errors } = await setUpRead();
  expect(shards.route(KEY)).toMatchObject({ owner: "a", target: "a:1", epoch: 5 });
  stream.end(failure("UNAVAILABLE"));
  const next = await watch(2);
  expect([stream.server, next.server, next.requests[0]?.afterEpoch, errors]).toEqual(["s0", "s1", 5n, ["UNAVAILABLE"]]);
  const { ageMs } = shards.route(KEY);
  await until("the age grows", () => shards.route(KEY).ageMs > ageMs);
  next.change("b", 6);
  await until("the change", () => shards.route(KEY).owner === "b");
  shards.close();
});

test("routes are not ready before they are read, and a rejected request closes the shards", async () => {
  const { shards, watch, isClosed } = setUp();
  expect(() => shards.route(KEY)).toThrow("the shards of orders have not been read yet");
  (await watch(1)).end(failure("PERMISSION_DENIED"));
  await expect(shards.ready()).rejects.toThrow("PERMISSION_DENIED");
  expect(isClosed()).toBe(true);
});

test("a client follows a namespace once, until that is closed", () => {
  const client = connect({ servers: ["127.0.0.1:1"], findServers: false });
  const shards = client.shards("orders");
  expect([client.shards("orders") === shards, client.shards("payments") === shards]).toEqual([true, false]);
  shards.close();
  expect(client.shards("orders")).not.toBe(shards);
  expect(() => client.shards("orders", { path: "x" } as never)).not.toThrow();
  expect(() => client.shards("stock", { path: "x" } as never)).toThrow("shards: unknown option path");
  client.close();
});

test("without a server and a file, the shards is closed after the timeout", async () => {
  const { shards, isClosed } = setUp({}, { timeoutMs: 20 });
  await expect(shards.ready()).rejects.toThrow("no complete snapshot arrived within 20ms");
  expect(isClosed()).toBe(true);
});

test("the file is written after a change, and gives routes when no server answers", async () => {
  const file = join(folder, "orders");
  const { shards } = await setUpRead({ file });
  await until("the file is written", () => readFileSync(file).length > 32);
  shards.close();
  const restored = setUp({ file });
  let isReady = false;
  const ready = restored.shards.ready().then(() => (isReady = true));
  (await restored.watch(1)).end(failure("UNAVAILABLE"));
  const second = await restored.watch(2);
  expect([second.server, isReady]).toEqual(["s1", false]);
  second.end(failure("UNAVAILABLE"));
  await ready;
  expect(restored.shards.route(KEY)).toMatchObject({ owner: "a", target: "a:1", epoch: 5 });
  expect((await restored.watch(2)).requests[0]?.afterEpoch).toBe(5n);
  restored.shards.close();
});

test("the file is written again at the heartbeat after a change, and not at others", async () => {
  const file = join(folder, "again");
  const { shards, stream, errors } = await setUpRead({ file });
  await until("the file is written", () => readFileSync(file).length > 32);
  rmSync(file);
  stream.heartbeat();
  mkdirSync(file);
  stream.change("b", 6);
  await until("the file cannot be written", () => errors.length === 1);
  expect(errors).toEqual([`the shards of orders were not written to ${file}`]);
  rmdirSync(file);
  stream.heartbeat();
  await until("the file is written again", () => existsSync(file));
  shards.close();
});

test("a damaged file is ignored with an error", async () => {
  const file = join(folder, "damaged");
  writeFileSync(file, "no map");
  const { shards, errors } = await setUpRead({ file });
  expect(errors).toEqual([`the file ${file} of shards is ignored`]);
  shards.close();
});

test("a call is repeated with the newer route that the owner reports", async () => {
  const { shards } = await setUpRead();
  const targets: string[] = [];
  const result = await shards.call(KEY, ({ target, metadata }) => {
    targets.push(`${target} ${metadata}`);
    if (target === "a:1") throw wrongEpoch(rowOf("b", 6));
    return "done";
  });
  expect([result, targets]).toEqual(["done", [`a:1 orders;${ID};5`, `b:1 orders;${ID};6`]]);
  shards.close();
});

test("a call waits for the next owner while the shard is drained", async () => {
  const { shards, stream } = await setUpRead();
  const rejected = Promise.withResolvers<void>();
  const targets: string[] = [];
  const result = shards.call(KEY, ({ target }) => {
    targets.push(target);
    rejected.resolve();
    if (target === "a:1") throw wrongEpoch(rowOf("a", 6, ShardStatus.DRAINING));
  });
  await rejected.promise;
  stream.change("a", 6, ShardStatus.DRAINING);
  stream.change("b", 7);
  await result;
  expect(targets).toEqual(["a:1", "b:1"]);
  shards.close();
});

test("a call is repeated soon if the next owner still knows the state before its own, a drain", async () => {
  const { shards, stream } = await setUpRead();
  stream.change("b", 7);
  await until("the route is known", () => shards.route(KEY).owner === "b");
  let count = 0;
  await shards.call(KEY, () => {
    count += 1;
    if (count === 1) throw wrongEpoch(rowOf("a", 6, ShardStatus.DRAINING));
  });
  expect(count).toBe(2);
  shards.close();
});

test("a call is repeated twice and not a third time, and other errors are not repeated", async () => {
  const { shards } = await setUpRead();
  let count = 0;
  const fail = (error: Error) => () => {
    count += 1;
    throw error;
  };
  // The owner has not learned yet that it owns the shard.
  const behind = wrongEpoch(rowOf("", 4));
  await expect(shards.call(KEY, fail(behind))).rejects.toBe(behind);
  expect(count).toBe(3);
  const others = [new Error("busy"), wrongEpoch({ ...rowOf("b", 6), namespace: "other" }), wrongEpoch({ ...rowOf("b", 6), id: ID + 1 })];
  for (const other of others) await expect(shards.call(KEY, fail(other))).rejects.toBe(other);
  expect(count).toBe(6);
  shards.close();
});

test("a call is repeated soon when the next owner only knows that the earlier owner drains", async () => {
  const { shards } = await setUpRead();
  let count = 0;
  // With the timeout of this client, a call that waits for the end of the drain does not return before the test ends.
  const result = shards.call(KEY, () => {
    count += 1;
    if (count === 1) throw wrongEpoch(rowOf("earlier", 4, ShardStatus.DRAINING));
    return "done";
  });
  expect(await result).toBe("done");
  shards.close();
});

test("a call for a shard without an owner fails after the timeout, and a call waits for an owner", async () => {
  const { shards, stream } = await setUpRead({}, { timeoutMs: 50 });
  stream.change("", 6);
  await until("no owner", () => shards.route(KEY).owner === "");
  await expect(shards.call(KEY, () => {})).rejects.toThrow(`shard orders/${ID} has no owner`);
  const result = shards.call(KEY, ({ target }) => target);
  stream.change("b", 7);
  expect(await result).toBe("b:1");
  shards.close();
});

/** The error of a call to a server with grpc-js whose handler passes an error to its callback. */
async function sentWithGrpc(error: ShardCallError): Promise<unknown> {
  const asIs = (bytes: Buffer) => bytes;
  const codec = { requestSerialize: asIs, requestDeserialize: asIs, responseSerialize: asIs, responseDeserialize: asIs };
  const method = { path: "/test.Orders/Get", requestStream: false, responseStream: false, ...codec } as const;
  const server = new Server();
  server.addService({ get: method }, { get: (_call: unknown, callback: (answer: ShardCallError) => void) => callback(error) });
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync("127.0.0.1:0", ServerCredentials.createInsecure(), (failed, bound) => (failed ? reject(failed) : resolve(bound)));
  });
  const client = new GrpcClient(`127.0.0.1:${port}`, credentials.createInsecure());
  const received = await new Promise((resolve) => {
    client.makeUnaryRequest(method.path, asIs, asIs, Buffer.alloc(0), resolve);
  });
  client.close();
  server.forceShutdown();
  return received;
}

test("a wrong epoch is recognized as created, and as received with grpc-js", async () => {
  const shard = rowOf("b", 6);
  const grpc = await sentWithGrpc(wrongEpoch(shard));
  expect(grpc).toMatchObject({ code: 9, details: wrongEpoch(shard).details });
  for (const error of [wrongEpoch(shard), grpc]) expect(wrongEpochShard(error)).toEqual(shard);
  for (const other of [new Error("x"), "x", undefined, Object.assign(new Error("x"), { details: "x", metadata: new Metadata() })])
    expect(wrongEpochShard(other)).toBeUndefined();
});

/** An owner with one shard. The callbacks are recorded, and return when the test says so. */
async function setUpOwner(options: Partial<OwnOptions> = {}, servers: { timeoutMs?: number } = {}) {
  const parts = await setUpRead({}, servers);
  const calls: string[] = [];
  const terms: ShardTerm[] = [];
  const owning = parts.shards.own({
    instance: "a",
    onPrepare: () => calls.push("prepare"),
    onOwn: (term) => {
      calls.push("own");
      terms.push(term);
    },
    onDrain: () => calls.push("drain"),
    onLost: () => calls.push("lost"),
    signal: end.signal,
    ...options,
  });
  const attach = await parts.attach(1);
  attach.answer();
  const owner = await owning;
  const termed = async (count: number): Promise<ShardTerm> => opened("term", terms, count);
  return { ...parts, owner, watched: parts.stream, stream: attach, calls, termed };
}

test("an owner prepares, owns and drains a shard, and reports it at once", async () => {
  const { owner, stream, calls, termed, shards } = await setUpOwner({ weight: 2, slots: 9, load: () => [{ id: ID, depth: 3n }] });
  expect(stream.requests[0]).toMatchObject({ namespace: "orders", instance: "a", weight: 2, slots: 9, loads: [{ id: ID, depth: 3n }] });
  stream.own(PREPARING);
  await until("prepared", () => stream.reports("prepared").includes(ID));
  stream.own(OWNED);
  const term = await termed(1);
  expect(owner.check(`orders;${ID};5`)).toBe(term);
  stream.own(DRAINING);
  await until("dropped", () => stream.reports("dropped").includes(ID));
  expect([calls, term.signal.aborted, stream.reports("dropped")]).toEqual([["prepare", "own", "drain"], true, [ID]]);
  // Loads are sent every 5 s.
  expect(stream.requests.flatMap(({ loads }) => loads)).toHaveLength(1);
  await owner.leave();
  shards.close();
});

test("a shard that the server drains is reported at once if the owner does not hold it", async () => {
  const { stream, calls, shards } = await setUpOwner();
  stream.own(DRAINING);
  await until("dropped", () => stream.reports("dropped").includes(ID));
  expect(calls).toEqual([]);
  shards.close();
});

test("a term ends when its validity is over, although no message arrives", async () => {
  const { stream, calls, termed, shards } = await setUpOwner();
  const { sentMs = 0n } = stream.requests.at(-1) ?? {};
  stream.answer({
    validFor: durationFromMs(60),
    shards: [{ id: ID, state: OWNED, fence: { number: 5n } }],
  });
  const term = await termed(1);
  await until("the term has ended", () => term.signal.aborted);
  expect(performance.now()).toBeGreaterThanOrEqual(Number(sentMs) + 60);
  await until("it is reported", () => stream.reports("dropped").includes(ID));
  expect(calls).toEqual(["own", "lost"]);
  shards.close();
});

test("a silent server is replaced by another one, whose validity ends the earlier terms", async () => {
  const { stream, attach, termed, shards } = await setUpOwner();
  stream.own(OWNED);
  const term = await termed(1);
  stream.answer({ heartbeatInterval: durationFromMs(10) });
  const next = await attach(2);
  expect([stream.server, next.server, term.isValid()]).toEqual(["s0", "s1", true]);
  next.answer({ validFor: durationFromMs(0), waitsFor: "the session of s0" });
  next.own(OWNED, 6);
  const second = await termed(2);
  expect([term.signal.aborted, second.isValid(), second.fenceText]).toEqual([true, true, `shard/orders/${ID};0.3.6`]);
  shards.close();
});

test("an owner resolves when it no longer waits for an earlier stream, and its signal ends the wait", async () => {
  const { shards, attach } = await setUpRead();
  let isAccepted = false;
  const onOwn = () => {};
  const owning = shards.own({ instance: "a", onOwn });
  void owning.then(() => (isAccepted = true));
  const stream = await attach(1);
  const waiting = { validFor: durationFromMs(0), waitsFor: "an earlier stream of this instance" };
  // The owner has read the answer when it reports the shard.
  stream.answer({ ...waiting, shards: [{ id: ID, state: DRAINING, fence: { number: 5n } }] });
  await until("the answer was read", () => stream.reports("dropped").includes(ID));
  expect(isAccepted).toBe(false);
  stream.answer();
  await (await owning).leave();
  const stop = new AbortController();
  const ended = shards.own({ instance: "a", onOwn, signal: stop.signal });
  (await attach(2)).answer(waiting);
  stop.abort(new Error("stopped"));
  await expect(ended).rejects.toThrow("stopped");
  shards.close();
});

test("the program has its owner before callbacks run, even if the first answer grants shards", async () => {
  const { shards, attach } = await setUpRead();
  const checked: unknown[] = [];
  const onOwn = (term: ShardTerm) => checked.push(owner.check(`orders;${ID};5`) === term);
  const owning = shards.own({ instance: "a", onOwn });
  (await attach(1)).own(OWNED);
  const owner = await owning;
  await until("the callback has returned", () => checked.length > 0);
  expect(checked).toEqual([true]);
  shards.close();
});

test("an owner that is stopped as soon as it is accepted owns nothing, and leaves no timer behind", async () => {
  const started = vi.spyOn(globalThis, "setTimeout");
  const cleared = vi.spyOn(globalThis, "clearTimeout");
  onTestFinished(() => void vi.restoreAllMocks());
  const { shards, attach } = await setUpRead();
  const stop = new AbortController();
  const terms: ShardTerm[] = [];
  const owning = shards.own({ instance: "a", onOwn: (term) => terms.push(term), signal: stop.signal });
  (await attach(1)).own(OWNED);
  const owner = await owning;
  stop.abort(new Error("stopped"));
  await expect(owner.done).rejects.toThrow("stopped");
  shards.close();
  const isOver = (timer: unknown) => cleared.mock.calls.some(([other]) => other === timer);
  const left = started.mock.results.filter(({ value }, i) => Number(started.mock.calls[i]?.[1]) > LONG_MS / 2 && !isOver(value));
  expect([terms, left]).toEqual([[], []]);
});

test("an owner whose instance is not known yet attaches again, and fails after the timeout", async () => {
  const { shards, attach } = await setUpRead({}, { timeoutMs: 150 });
  const owning = shards.own({ instance: "a", onOwn: () => {} });
  for (let count = 1, isOver = false; !isOver; count++) {
    (await attach(count)).end(failure("NOT_FOUND", { retryMs: 500 }));
    isOver = await Promise.race([owning.catch(() => true).then(() => true), attach(count + 1).then(() => false)]);
    if (isOver) expect(count).toBeGreaterThan(1);
  }
  await expect(owning).rejects.toThrow("NOT_FOUND");
  shards.close();
});

test.each(["onPrepare", "onOwn", "onDrain", "onLost"] as const)(
  "an error of %s stops all shards, and the owner detaches",
  async (callback) => {
    const broken = new Error("disk full");
    const { owner, stream, termed, shards } = await setUpOwner({ [callback]: () => Promise.reject(broken) });
    stream.own(callback === "onPrepare" ? PREPARING : OWNED);
    if (callback === "onDrain" || callback === "onLost") {
      await termed(1);
      stream.own(callback === "onDrain" ? DRAINING : LOST);
    }
    await expect(owner.done).rejects.toBe(broken);
    expect(stream.hasDetached).toBe(true);
    shards.close();
  },
);

test("work that is rejected because its shard was lost does not end the owner", async () => {
  const work = async (term: ShardTerm) => {
    await new Promise((resolve) => {
      term.signal.addEventListener("abort", resolve, { once: true });
    });
    term.signal.throwIfAborted();
  };
  const { owner, stream, calls, shards } = await setUpOwner({ onOwn: work });
  stream.own(OWNED);
  stream.own(LOST);
  await until("dropped", () => stream.reports("dropped").includes(ID));
  expect([calls, stream.isOver]).toEqual([["lost"], false]);
  await owner.leave();
  shards.close();
});

test("an owner that leaves detaches when its last shard is drained", async () => {
  const { owner, stream, termed, shards } = await setUpOwner();
  stream.own(OWNED);
  await termed(1);
  const left = owner.leave();
  await until("the server knows it", () => stream.requests.at(-1)?.leaving === true);
  expect(stream.hasDetached).toBe(false);
  stream.own(DRAINING);
  await left;
  expect([stream.hasDetached, stream.reports("dropped")]).toEqual([true, [ID]]);
  shards.close();
});

test("an owner whose shards no other owner accepts drains them itself after the timeout of leave, and then detaches", async () => {
  const work = Promise.withResolvers<void>();
  const { owner, stream, calls, termed, shards } = await setUpOwner({ onDrain: () => work.promise });
  stream.own(OWNED);
  const term = await termed(1);
  const left = owner.leave({ timeoutMs: 1 });
  await until("it drains", () => term.isDraining);
  expect([term.isValid(), stream.hasDetached]).toEqual([true, false]);
  work.resolve();
  await left;
  expect([stream.hasDetached, term.signal.aborted, calls]).toEqual([true, true, ["own"]]);
  expect(() => owner.leave({ timeoutMs: 0 })).toThrow("leave: invalid timeoutMs 0");
  shards.close();
});

test("closing the shards stops their owners, which detach, and rejects later ones", async () => {
  const { owner, stream, calls, termed, shards } = await setUpOwner();
  stream.own(OWNED);
  const term = await termed(1);
  shards.close();
  expect(term.signal.aborted).toBe(true);
  const message = "the client of the shards of orders is closed";
  await expect(owner.done).rejects.toThrow(message);
  expect([stream.hasDetached, calls]).toEqual([true, ["own"]]);
  await expect(shards.own({ instance: "a", onOwn: () => {} })).rejects.toThrow(message);
});

test("an owner continues when a server rejects the stream of routes", async () => {
  const { owner, watched, stream, termed, isClosed } = await setUpOwner();
  stream.own(OWNED);
  const term = await termed(1);
  watched.end(failure("PERMISSION_DENIED"));
  await until("the shards are closed", isClosed);
  expect([term.isValid(), owner.check(`orders;${ID};5`)]).toEqual([true, term]);
});

test("an aborted owner stops its shards immediately, and detaches when the callbacks have returned", async () => {
  const stop = new AbortController();
  const work = Promise.withResolvers<void>();
  const terms: ShardTerm[] = [];
  const onOwn = (term: ShardTerm) => {
    terms.push(term);
    return work.promise;
  };
  const { owner, stream, shards } = await setUpOwner({ signal: stop.signal, onOwn });
  stream.own(OWNED);
  const term = await opened("term", terms, 1);
  const reason = new Error("stop");
  stop.abort(reason);
  expect([term.signal.aborted, term.isValid(), stream.hasDetached]).toEqual([true, false, false]);
  work.resolve();
  await expect(owner.done).rejects.toBe(reason);
  expect(stream.hasDetached).toBe(true);
  await expect(shards.own({ instance: "a", onOwn, signal: stop.signal })).rejects.toBe(reason);
  shards.close();
});

test("an owner checks calls: it names the next owner, its own drain, a pause, and invalid metadata", async () => {
  const hold = Promise.withResolvers<void>();
  const { owner, watched, stream, termed, shards } = await setUpOwner({ onDrain: () => hold.promise });
  const checked = (metadata = `orders;${ID};5`) => {
    try {
      return owner.check(metadata);
    } catch (error) {
      return error;
    }
  };
  expect(wrongEpochShard(checked())).toMatchObject({ owner: "a", epoch: 5n, status: ShardStatus.ACTIVE });
  stream.own(OWNED);
  const term = await termed(1);
  expect(checked()).toBe(term);
  stream.own(PAUSED);
  await until("it is paused", () => term.isPaused);
  const text = `shard orders/${ID} is paused: it accepts no new work until an operator resumes it`;
  expect(checked()).toMatchObject({ message: text, code: 9 });
  expect(wrongEpochShard(checked())).toBeUndefined();
  stream.own(DRAINING);
  await until("it is draining", () => term.isDraining);
  expect(wrongEpochShard(checked())).toMatchObject({ owner: "a", epoch: 5n, status: ShardStatus.DRAINING });
  watched.change("b", 6);
  await until("the owner knows the next one", () => shards.route(KEY).owner === "b");
  expect(wrongEpochShard(checked())).toMatchObject({ owner: "b", epoch: 6n });
  for (const invalid of ["", "orders", `other;${ID};5`, `orders;x;5`]) expect(checked(invalid)).toMatchObject({ code: 3 });
  hold.resolve();
  shards.close();
});

test.each([
  { options: { instance: 7 }, message: "own: invalid instance 7: expected a string" },
  { options: { onOwn: "x" }, message: 'own: invalid onOwn "x": expected a function' },
  { options: { service: "x" }, message: "own: unknown option service" },
])("$message", async ({ options, message }) => {
  const { shards } = await setUpRead();
  await expect(shards.own(options as never)).rejects.toThrow(message);
  shards.close();
});
