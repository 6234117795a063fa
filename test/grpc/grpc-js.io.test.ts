/** The room against grpc-js, which never saw it: as its client and as its server, all kinds of calls, and how connections end. */
import {
  type CallOptions,
  Client,
  type ClientDuplexStream,
  compressionAlgorithms,
  credentials,
  Metadata as JsMetadata,
  Server,
  ServerCredentials,
  type ServerDuplexStream,
  type ServerReadableStream,
  type ServerUnaryCall,
  type ServerWritableStream,
  type sendUnaryData,
} from "@grpc/grpc-js";
import { afterEach, expect, test } from "vitest";
import { SharedInflater } from "../../src/grpc/wire/inflater.io.ts";
import { CODES } from "../../src/lib/errors.ts";
import { methods } from "../fakes/grpc-methods.ts";
import { bytes, Conversation, closeAll, connected, metadata, serve, textOf, unary } from "../fakes/grpc-room.ts";
import { until } from "../fakes/until.ts";

const ends: (() => void)[] = [];

afterEach(() => {
  for (const end of ends.splice(0)) end();
  closeAll();
});

const same = (value: Buffer): Buffer => value;

interface JsAnswer {
  readonly code: number;
  readonly text: string;
  readonly details: string;
  readonly trailers: JsMetadata;
  readonly headers: JsMetadata;
}

class JsClient {
  readonly client: Client;

  constructor(address: string, options: object = {}) {
    this.client = new Client(address, credentials.createInsecure(), { "grpc.use_local_subchannel_pool": 1, ...options });
    ends.push(() => this.client.close());
  }

  unary(path: string, request: string, at: { readonly metadata?: JsMetadata; readonly options?: CallOptions } = {}): Promise<JsAnswer> {
    return new Promise((resolve) => {
      let headers = new JsMetadata();
      let text = "";
      const call = this.client.makeUnaryRequest(
        path,
        same,
        same,
        Buffer.from(request),
        at.metadata ?? new JsMetadata(),
        at.options ?? {},
        (_error, response) => {
          text = response?.toString() ?? "";
        },
      );
      call.on("metadata", (came: JsMetadata) => {
        headers = came;
      });
      call.on("status", ({ code, details, metadata: trailers }) => {
        setImmediate(() => resolve({ code, text, details, trailers, headers }));
      });
    });
  }

  bidi(path: string): { readonly call: ClientDuplexStream<Buffer, Buffer>; readonly got: string[]; code: number | undefined } {
    const call = this.client.makeBidiStreamRequest(path, same, same);
    const state: { call: typeof call; got: string[]; code: number | undefined } = { call, got: [], code: undefined };
    call.on("data", (chunk: Buffer) => state.got.push(chunk.toString()));
    call.on("error", () => {});
    call.on("status", ({ code }) => {
      state.code = code;
    });
    return state;
  }
}

async function ours(options: Partial<Parameters<typeof serve>[0]> = {}) {
  const made = methods();
  const serving = await serve({ methods: made.methods, inflater: new SharedInflater(), ...options });
  return { ...serving, seen: made.seen, js: new JsClient(serving.address) };
}

test("a grpc-js client: unary calls, their statuses with details, and metadata both ways", async () => {
  const { js } = await ours();
  expect(await js.unary("/t/Echo", "hello")).toMatchObject({ code: 0, text: "hello" });
  const failed = await js.unary("/t/Fail", "Tür");
  expect(failed).toMatchObject({ code: CODES.NOT_FOUND, details: "keine „Tür“ 100 %" });
  expect(failed.trailers.get("grpc-status-details-bin")).toEqual([Buffer.from("detail")]);
  const sent = new JsMetadata();
  sent.add("x-a", "1");
  sent.add("x-a", "2");
  sent.add("x-b-bin", Buffer.of(0, 255));
  const answer = await js.unary("/t/Meta", "lead", { metadata: sent });
  expect(answer.text).toContain('["x-b-bin","0,255"]');
  expect(answer.headers.get("x-lead-bin")).toEqual([Buffer.of(0, 255)]);
  // grpc-js reads what node:http2 joined.
  expect(answer.trailers.get("x-trail")).toEqual(["a, b"]);
});

test("a grpc-js client: streams of all kinds", async () => {
  const { js } = await ours();
  const counted = js.client.makeServerStreamRequest("/t/Count", same, same, Buffer.from("1000"));
  const numbers: number[] = [];
  for await (const chunk of counted) numbers.push(Number(chunk));
  expect(numbers).toEqual(Array.from({ length: 1_000 }, (_, i) => i));
  const sum = await new Promise<string>((resolve, reject) => {
    const call = js.client.makeClientStreamRequest("/t/Sum", same, same, (error, response) =>
      error === null ? resolve(String(response)) : reject(error),
    );
    for (let i = 1; i <= 1_000; i++) call.write(Buffer.from(String(i)));
    call.end();
  });
  expect(sum).toBe("500500");
  const talk = js.bidi("/t/Talk");
  talk.call.write(Buffer.from("one"));
  await until("it is answered", () => talk.got.length === 1);
  talk.call.write(Buffer.from("two"));
  talk.call.end();
  await until("it is over", () => talk.code !== undefined);
  expect([talk.got, talk.code]).toEqual([["one!", "two!"], 0]);
});

test("a grpc-js client: deadlines, cancellation and gzip", async () => {
  const { js, seen, address } = await ours();
  expect(await js.unary("/t/Hold", "", { options: { deadline: Date.now() + 50 } })).toMatchObject({ code: CODES.DEADLINE_EXCEEDED });
  await until("the handler heard", () => seen.cancelled.length === 1);
  const talk = js.bidi("/t/Talk");
  talk.call.write(Buffer.from("one"));
  await until("it is answered", () => talk.got.length === 1);
  talk.call.cancel();
  await until("it is over", () => talk.code === CODES.CANCELLED);
  const gzip = new JsClient(address, { "grpc.default_compression_algorithm": compressionAlgorithms.gzip });
  expect(await gzip.unary("/t/Echo", "z".repeat(100_000))).toMatchObject({ code: 0, text: "z".repeat(100_000) });
});

test("a grpc-js client whose connection is told to go away makes its next call on a new one, and none is lost", async () => {
  const { js, server } = await ours();
  let calls = 0;
  const state = { isOver: false };
  const failed: number[] = [];
  const caller = async () => {
    while (!state.isOver) {
      const { code } = await js.unary("/t/Later", "x");
      calls += 1;
      if (code !== 0) failed.push(code);
    }
  };
  const callers = [caller(), caller(), caller(), caller()];
  await until("calls are made", () => calls > 50);
  server.drain(10_000);
  const before = calls;
  await until("more calls are made", () => calls > before + 200);
  state.isOver = true;
  await Promise.all(callers);
  expect(failed).toEqual([]);
});

test("a connection without calls is sent away, and one that is too old; a call that is open then is answered", async () => {
  const { js, seen, server } = await ours({ limits: { maxConnectionAgeMs: 300, maxConnectionAgeGraceMs: 60_000 } });
  const held = js.unary("/t/Hold", "");
  await until("it is held", () => seen.held.length === 1);
  await js.unary("/t/Echo", "");
  await until("the old connection was left for a new one", async () => {
    await js.unary("/t/Echo", "");
    return server.counts().connections === 2;
  });
  seen.held[0]?.respond(bytes("late"));
  expect(await held).toMatchObject({ code: 0, text: "late" });
  const idle = await ours({ limits: { idleTimeoutMs: 300 } });
  await idle.js.unary("/t/Echo", "");
  await until("the idle connection is closed", () => idle.server.counts().connections === 0);
  expect(await idle.js.unary("/t/Echo", "again")).toMatchObject({ code: 0, text: "again" });
});

async function jsServer(): Promise<{ readonly server: Server; readonly port: number; readonly cancelled: string[] }> {
  const server = new Server();
  const cancelled: string[] = [];
  const unaryDefinition = (name: string) => ({
    path: `/t/${name}`,
    requestStream: false,
    responseStream: false,
    requestSerialize: same,
    requestDeserialize: same,
    responseSerialize: same,
    responseDeserialize: same,
  });
  server.addService(
    {
      Echo: unaryDefinition("Echo"),
      Fail: unaryDefinition("Fail"),
      Hold: unaryDefinition("Hold"),
      Count: { ...unaryDefinition("Count"), responseStream: true },
      Sum: { ...unaryDefinition("Sum"), requestStream: true },
      Talk: { ...unaryDefinition("Talk"), requestStream: true, responseStream: true },
    },
    {
      Echo: (call: ServerUnaryCall<Buffer, Buffer>, done: sendUnaryData<Buffer>) => {
        const lead = new JsMetadata();
        lead.add("x-lead", call.metadata.get("x-a").join("+"));
        call.sendMetadata(lead);
        const trail = new JsMetadata();
        trail.add("x-trail-bin", Buffer.of(1, 2));
        done(null, call.request, trail); // oxlint-disable-line unicorn/no-null -- how grpc-js is told that there is no error.
      },
      Fail: (_call: unknown, done: sendUnaryData<Buffer>) => done({ code: CODES.ABORTED, details: "nein: 50 % „so“" }),
      Hold: (call: ServerUnaryCall<Buffer, Buffer>) => void call.on("cancelled", () => cancelled.push("hold")),
      Count: (call: ServerWritableStream<Buffer, Buffer>) => {
        for (let i = 0; i < Number(call.request); i++) call.write(Buffer.from(String(i)));
        call.end();
      },
      Sum: (call: ServerReadableStream<Buffer, Buffer>, done: sendUnaryData<Buffer>) => {
        let sum = 0;
        call.on("data", (chunk: Buffer) => {
          sum += Number(chunk);
        });
        call.on("end", () => done(null, Buffer.from(String(sum)))); // oxlint-disable-line unicorn/no-null -- as above.
      },
      Talk: (call: ServerDuplexStream<Buffer, Buffer>) => {
        call.on("data", (chunk: Buffer) => call.write(Buffer.from(`${chunk.toString()}!`)));
        call.on("end", () => call.end());
      },
    },
  );
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync("127.0.0.1:0", ServerCredentials.createInsecure(), (error, bound) =>
      error === null ? resolve(bound) : reject(error),
    );
  });
  ends.push(() => server.forceShutdown());
  return { server, port, cancelled };
}

test("a grpc-js server: unary calls with metadata, statuses, deadlines and gzip", async () => {
  const { port, cancelled } = await jsServer();
  const connection = await connected(port, { inflater: new SharedInflater() });
  const answer = await unary(connection, "/t/Echo", bytes("g".repeat(50_000)), { metadata: metadata(["x-a", "1"], ["x-a", "2"]) });
  expect([answer.status.code, answer.message?.length, answer.metadata.get("x-lead")]).toEqual([0, 50_000, "1, 2"]);
  expect(answer.trailers.get("x-trail-bin")).toEqual(Uint8Array.of(1, 2));
  expect((await unary(connection, "/t/Fail")).status).toMatchObject({ code: CODES.ABORTED, message: "nein: 50 % „so“" });
  expect((await unary(connection, "/t/Nothing")).status.code).toBe(CODES.UNIMPLEMENTED);
  expect((await unary(connection, "/t/Hold", bytes(""), { timeoutMs: 50 })).status.code).toBe(CODES.DEADLINE_EXCEEDED);
  await until("the handler heard", () => cancelled.length === 1);
});

test("a grpc-js server: streams of all kinds", async () => {
  const { port } = await jsServer();
  const connection = await connected(port);
  const counted = new Conversation(connection, { path: "/t/Count" });
  counted.call.halfClose(bytes("1000"));
  await until("all are counted", () => counted.result !== undefined);
  expect([counted.messages.length, counted.result?.status.code]).toEqual([1_000, 0]);
  const sum = new Conversation(connection, { path: "/t/Sum", isSingleResponse: true });
  for (let i = 1; i <= 1_000; i++) sum.call.write(bytes(String(i)));
  sum.call.halfClose();
  await until("the sum is there", () => sum.result !== undefined);
  expect(textOf(sum.messages[0])).toBe("500500");
  const talk = new Conversation(connection, { path: "/t/Talk" });
  talk.call.write(bytes("one"));
  await until("it is answered", () => talk.messages.length === 1);
  talk.call.halfClose();
  await until("it is over", () => talk.result?.status.code === 0);
});

test("a grpc-js server that goes away ends the connection when its calls are over, and takes no more", async () => {
  const { port, server } = await jsServer();
  let leftCount = 0;
  const connection = await connected(port, { onLeaving: () => void (leftCount += 1) });
  const talk = new Conversation(connection, { path: "/t/Talk" });
  talk.call.write(bytes("one"));
  await until("it is answered", () => talk.messages.length === 1);
  server.tryShutdown(() => {});
  await until("the connection is left", () => leftCount === 1);
  talk.call.write(bytes("two"));
  await until("the open call goes on", () => talk.messages.length === 2);
  expect((await unary(connection, "/t/Echo")).isUnprocessed).toBe(true);
  talk.call.halfClose();
  await until("it is over", () => talk.result?.status.code === 0);
});
