/** A watch from a cursor that is ahead of the catalog: forged at a lone node, and waited for at a read worker, whose copy may be behind. */
import assert from "node:assert/strict";
import { setImmediate } from "node:timers/promises";
import { create, fromBinary } from "@bufbuild/protobuf";
import { afterEach, beforeEach, expect, test } from "vitest";
import { EntryKind } from "../../../gen/waymark/catalog/v1/entry_pb.js";
import { Snapshot } from "../../../gen/waymark/catalog/v1/watch_pb.js";
import {
  CatalogQueryRequestSchema,
  CatalogQueryResponseSchema,
  CatalogWatchRequestSchema,
  type CatalogWatchResponse,
  CatalogWatchResponseSchema,
  RegisterRequestSchema,
} from "../../../gen/waymark/discovery/v1/discovery_pb.js";
import { parseCursor, portableCursorText, shortCursorText } from "../../../src/catalog/watch/cursor.ts";
import { anonymousCaller } from "../../../src/policy/identity/caller.ts";
import { lonePeerDirectory } from "../../../src/services/discovery/answer-age.ts";
import { readHandlers } from "../../../src/services/discovery/read-handlers.ts";
import type { CallContext, ServiceDefinition, StreamSource } from "../../../src/services/service.ts";
import { type DiscoveryInside, startDiscovery } from "../../fakes/discovery-service.ts";

const FILTER = { namespace: "svc.market" };

let inside: DiscoveryInside;
/** What the watch of a read worker waits for, once it waits. */
let catchingUp: PromiseWithResolvers<void>;
let waitCount: number;

beforeEach(async () => {
  inside = await startDiscovery();
  catchingUp = Promise.withResolvers();
  waitCount = 0;
  await register("first");
});
afterEach(() => inside.stop());

function context(): CallContext {
  const caller = { ...anonymousCaller("local", "127.0.0.1", ["mesh.operate"]), principal: "p", tenant: "" };
  return { caller, time: inside.now(), requestId: "" };
}

async function call(method: string, request: unknown): Promise<unknown> {
  const handler = inside.service.handlers[method];
  assert(handler?.kind === "unary");
  return handler.handle(request as never, context());
}

async function register(name: string): Promise<void> {
  const entries = [{ key: { kind: EntryKind.SERVICE, name, instanceId: "1", ...FILTER }, targets: [{ host: "192.0.2.1", port: 1 }] }];
  await call("register", create(RegisterRequestSchema, { entries, staticLease: true }));
}

/** The reads of this catalog as a read worker has them, if its copy were this catalog. */
function workerHandlers(): ServiceDefinition["handlers"] {
  const { core } = inside;
  const { nodeId } = core.identity;
  const caughtUp = () => {
    waitCount += 1;
    return catchingUp.promise;
  };
  return readHandlers({
    ...core,
    loads: core.registrar.loads,
    endedStaticCount: () => 0,
    mesh: lonePeerDirectory(nodeId),
    isReady: () => true,
    isTls: false,
    checkCaughtUp: () => undefined,
    checkStart: () => undefined,
    caughtUp,
    now: () => inside.now(),
    random: () => 0.5,
    allowsViewerOverride: false,
    onRead: () => undefined,
  }).handlers;
}

/** A watch as its listener has it. */
class Stream {
  readonly messages: CatalogWatchResponse[] = [];
  readonly source: StreamSource;
  /** What ended it. */
  error: unknown;

  constructor(handlers: ServiceDefinition["handlers"], cursor: string) {
    const handler = handlers["catalogWatch"];
    assert(handler?.kind === "server_streaming");
    this.source = handler.open(create(CatalogWatchRequestSchema, { ...FILTER, cursor }) as never, context());
  }

  begin(): this {
    this.source.attach(
      () => this.pull(),
      () => undefined,
    );
    this.pull();
    return this;
  }

  pull(): void {
    try {
      for (let bytes = this.source.pull(inside.now()); bytes !== undefined; bytes = this.source.pull(inside.now()))
        this.messages.push(fromBinary(CatalogWatchResponseSchema, bytes));
    } catch (error) {
      this.error = error;
    }
  }

  get hasSnapshot(): boolean {
    return this.messages.some(({ snapshot }) => snapshot !== Snapshot.UNSPECIFIED);
  }

  get names(): readonly (string | undefined)[] {
    return this.messages.flatMap(({ deltas }) =>
      deltas.map(({ payload }) => (payload.case === "entry" ? payload.value.key?.name : payload.case)),
    );
  }

  close(): void {
    this.source.close();
  }
}

/** The short cursor of a query now, moved on by some revisions. */
async function shortCursor(ahead: number): Promise<string> {
  const answer = await call("catalogQuery", create(CatalogQueryRequestSchema, FILTER));
  assert(answer instanceof Uint8Array);
  const cursor = parseCursor(fromBinary(CatalogQueryResponseSchema, answer).cursor);
  assert(cursor.kind === "short");
  return shortCursorText(cursor.holder, cursor.revision + ahead);
}

/** The portable cursor of a watch now, with some more changes of this node. */
function portableCursor(ahead: number): string {
  const stream = new Stream(inside.service.handlers, "").begin();
  stream.close();
  const cursor = parseCursor(stream.messages.at(-1)?.portableCursor ?? "");
  assert(cursor.kind === "portable");
  return portableCursorText({ ...cursor, origins: cursor.origins.map((origin) => ({ ...origin, seq: origin.seq + ahead })) });
}

/** The copy has caught up, and the streams that waited for it were woken. */
async function catchUp(): Promise<void> {
  catchingUp.resolve();
  await setImmediate();
}

test("a short cursor that is ahead is refused by a lone node", async () => {
  const cursor = await shortCursor(1);
  expect(() => new Stream(inside.service.handlers, cursor)).toThrow("is not a cursor that this service issued");
});

test("at a read worker it waits for the copy, and goes on where the reader was", async () => {
  const stream = new Stream(workerHandlers(), await shortCursor(1)).begin();
  await register("known");
  await register("new");
  stream.pull();
  expect([waitCount, stream.messages, stream.source.isDrained, inside.core.fanout.size]).toEqual([1, [], false, 0]);
  await catchUp();
  expect([stream.names, stream.hasSnapshot, stream.source.isDrained, inside.core.fanout.size]).toEqual([["new"], false, true, 1]);
  // From here on it is as any other.
  await register("newer");
  stream.pull();
  expect(stream.names).toEqual(["new", "newer"]);
  stream.close();
  expect(inside.core.fanout.size).toBe(0);
});

test("a copy that has caught up before the stream begins is read by the first pull", async () => {
  const stream = new Stream(workerHandlers(), await shortCursor(1));
  await register("known");
  await register("new");
  await catchUp();
  expect(stream.messages).toEqual([]);
  expect(stream.begin().names).toEqual(["new"]);
  stream.close();
});

test("a cursor that is still ahead of the copy was forged", async () => {
  const stream = new Stream(workerHandlers(), await shortCursor(1)).begin();
  await catchUp();
  expect(String(stream.error)).toContain("cursor: is not a cursor that this service issued");
  stream.close();
  expect([stream.messages, inside.core.fanout.size]).toEqual([[], 0]);
});

test("a wait that fails ends the stream with its error", async () => {
  const stream = new Stream(workerHandlers(), await shortCursor(1)).begin();
  const fault = new Error("the node is gone");
  catchingUp.reject(fault);
  await setImmediate();
  expect(stream.error).toBe(fault);
  stream.close();
});

test("a stream that closes while it waits, or when it is due, leaves nothing behind", async () => {
  const waiting = new Stream(workerHandlers(), await shortCursor(1)).begin();
  const due = new Stream(workerHandlers(), await shortCursor(1));
  waiting.close();
  await register("new");
  await catchUp();
  due.close();
  for (const stream of [waiting, due]) {
    stream.pull();
    expect([stream.messages, stream.error]).toEqual([[], undefined]);
  }
  expect(inside.core.fanout.size).toBe(0);
});

test("a portable cursor that is ahead leads to a snapshot at a lone node, and a read worker waits for the changes it lacks", async () => {
  const cursor = portableCursor(1);
  const lone = new Stream(inside.service.handlers, cursor).begin();
  lone.close();
  expect(lone.hasSnapshot).toBe(true);
  const stream = new Stream(workerHandlers(), cursor).begin();
  await register("known");
  await register("new");
  await catchUp();
  expect([waitCount, stream.names, stream.hasSnapshot]).toEqual([1, ["new"], false]);
  stream.close();
});

test("a watch without a cursor, or from one that the copy covers, waits for nothing", async () => {
  for (const cursor of ["", await shortCursor(0), portableCursor(0)]) {
    const stream = new Stream(workerHandlers(), cursor).begin();
    expect(inside.core.fanout.size).toBe(1);
    stream.close();
  }
  expect(waitCount).toBe(0);
});
