/**
 * Calls that time out while their node is paused: their clients reset them, and the connection stays open with its other calls. Floods of resets close it.
 * @module-tag path
 */
import { type ClientHttp2Session, connect } from "node:http2";
import { Client, credentials, Metadata } from "@grpc/grpc-js";
import { afterAll, beforeAll, expect, onTestFinished, test } from "vitest";
import { some } from "../fakes/effort.ts";
import { type NodeProcess, startNodeProcess } from "../fakes/node-process.ts";
import { until } from "../fakes/until.ts";
import { callHeaders, FLAG, frame, QUERY, RawConnection, TYPE, u32, WATCH } from "./h2-frames.ts";

const PAUSE_MS = 1_600;
const DEADLINE_MS = 500;
/** A connection has 128 of these calls open at a time, so two rounds of them time out during a pause. */
const LATE_CALLS = 400;
const LISTENERS = ["grpc", "http", "fabric"] as const;
const NOTHING = Buffer.alloc(0);

let node: NodeProcess;

beforeAll(async () => {
  node = await startNodeProcess(["--ephemeral"]);
});

afterAll(() => node[Symbol.asyncDispose]());

const portOf = (listener: string) => Number(node.listeners[listener]?.split(":")[1]);

/** Connections of a listener that were cut for their resets. */
async function cutCount(listener: string): Promise<number> {
  const page = await (await fetch(`http://${node.listeners["http"]}/metrics`)).text();
  const row = page
    .split("\n")
    .find(
      (line) => line.startsWith("waymark_connections_refused_total") && line.includes(`"${listener}"`) && line.includes('"reset_flood"'),
    );
  return Number(row?.split(" ").at(-1) ?? 0);
}

function jsClient(): Client {
  const client = new Client(node.grpc, credentials.createInsecure(), { "grpc.use_local_subchannel_pool": 1, "grpc.enable_retries": 0 });
  onTestFinished(() => client.close());
  return client;
}

const same = (bytes: Buffer): Buffer => bytes;

/** The status code of a query. */
function called(client: Client, deadlineMs = 30_000): Promise<number> {
  return new Promise((resolve) => {
    const options = { deadline: Date.now() + deadlineMs };
    client.makeUnaryRequest(QUERY, same, same, NOTHING, new Metadata(), options, (error) => resolve(error?.code ?? 0));
  });
}

/** A watch and its result. */
function watched(client: Client) {
  const state: { code: number | undefined; messages: number; cancel: () => void } = { code: undefined, messages: 0, cancel: () => {} };
  const call = client.makeServerStreamRequest(WATCH, same, same, NOTHING);
  call.on("data", () => (state.messages += 1));
  call.on("error", () => {});
  call.on("status", ({ code }) => (state.code = code));
  state.cancel = () => call.cancel();
  return state;
}

test("on a grpc-js channel whose calls time out while the node is paused, the watch continues, and later calls are answered", async () => {
  const client = jsClient();
  const watch = watched(client);
  await until("the watch is open", () => watch.messages > 0);
  const before = await cutCount("grpc");
  let codes: readonly number[] = [];
  await node.paused(PAUSE_MS, async () => {
    codes = await Promise.all(Array.from({ length: LATE_CALLS }, () => called(client, DEADLINE_MS)));
  });
  expect(new Set(codes)).toEqual(new Set([4]));
  expect(await called(client)).toBe(0);
  const seen = watch.messages;
  await until("the watch continues", () => watch.messages > seen);
  expect([watch.code, await cutCount("grpc")]).toEqual([undefined, before]);
});

/** Whether a call on this connection gets an answer. */
async function isAnswered(session: ClientHttp2Session, headers: Readonly<Record<string, string>>): Promise<boolean> {
  const stream = session.request({ ":method": "POST", ":path": QUERY, "content-type": "application/grpc", te: "trailers", ...headers });
  let isOpen = false;
  stream.on("error", () => {});
  stream.on("response", () => (isOpen = true));
  stream.end();
  stream.resume();
  await new Promise((resolve) => stream.once("close", resolve));
  return isOpen;
}

/** A call with a deadline. Its client resets it when the deadline has passed. */
async function lateCall(session: ClientHttp2Session, headers: Readonly<Record<string, string>>): Promise<void> {
  const fields = { ":method": "POST", ":path": QUERY, "content-type": "application/grpc", te: "trailers", ...headers };
  const stream = session.request(fields, { endStream: false });
  stream.on("error", () => {});
  stream.end(Buffer.alloc(5));
  stream.resume();
  setTimeout(() => stream.close(8), DEADLINE_MS);
  await new Promise((resolve) => stream.once("close", resolve));
}

/** Calls that time out one after the other, with this number of calls at a time. */
async function lateCalls(session: ClientHttp2Session, atOnce: number, headers: Readonly<Record<string, string>>): Promise<void> {
  for (let sentMs = 0; sentMs + DEADLINE_MS < PAUSE_MS; sentMs += DEADLINE_MS) {
    await Promise.all(Array.from({ length: atOnce }, () => lateCall(session, headers)));
  }
}

test.each(
  some([
    { listener: "grpc", atOnce: 300, headers: { "grpc-timeout": `${DEADLINE_MS}m` } },
    { listener: "http", atOnce: 150, headers: { "grpc-timeout": `${DEADLINE_MS}m` } },
    { listener: "http", atOnce: 150, headers: { "connect-timeout-ms": `${DEADLINE_MS}`, "content-type": "application/proto" } },
    { listener: "http", atOnce: 150, headers: { "content-type": "application/json" } },
    { listener: "fabric", atOnce: 20, headers: { "grpc-timeout": `${DEADLINE_MS}m` } },
  ]),
)("$listener: late calls of one connection, $headers, do not end its other calls", async ({ listener, atOnce, headers }) => {
  const session = connect(`http://127.0.0.1:${portOf(listener)}`);
  onTestFinished(() => session.destroy());
  let end: string | undefined;
  session.on("error", (error: Error) => (end = error.message));
  session.on("close", () => (end ??= "closed"));
  await new Promise((resolve) => session.once("remoteSettings", resolve));
  const before = await cutCount(listener);
  await node.paused(PAUSE_MS, () => lateCalls(session, atOnce, { authorization: `Bearer ${"t".repeat(3_000)}`, ...headers }));
  // The guard checks each connection four times a second.
  for (const endMonoMs = performance.now() + 600; performance.now() < endMonoMs; ) {
    expect(await isAnswered(session, headers)).toBe(true);
    // The fabric does not have this method, and cuts connections that call such methods thousands of times per second.
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  expect([end, await cutCount(listener)]).toEqual([undefined, before]);
});

test("watches of one connection that end together do not end its other calls", { tags: ["night"] }, async () => {
  const client = jsClient();
  const stays = watched(client);
  const watches = Array.from({ length: 900 }, () => watched(client));
  await until("all are open", () => watches.every(({ messages }) => messages > 0));
  for (const watch of watches) watch.cancel();
  expect(await called(client)).toBe(0);
  const seen = stays.messages;
  await until("the last watch continues", () => stays.messages > seen);
  expect(stays.code).toBeUndefined();
});

test.each(some(LISTENERS))(
  "%s: resets of calls that had no time at all end the connection, also those that came while the node was paused",
  async (listener) => {
    for (const isPaused of [false, true]) {
      const before = await cutCount(listener);
      const raw = new RawConnection(portOf(listener));
      onTestFinished(() => raw.destroy());
      raw.greet();
      await raw.heard(1_000);
      const headers = callHeaders(QUERY, [["grpc-timeout", "1n"]]);
      const resets = (id: number) => [
        frame(TYPE.HEADERS, { flags: FLAG.END_HEADERS, stream: id, payload: headers }),
        frame(TYPE.RST_STREAM, { stream: id, payload: u32(8) }),
      ];
      const flood = (turn: number) => Buffer.concat(Array.from({ length: 50 }, (_, index) => resets(100 * turn + 2 * index + 1)).flat());
      const sent = isPaused ? 12 : 0;
      if (isPaused) await node.paused(PAUSE_MS, async () => void Array.from({ length: sent }, (_, turn) => raw.send(flood(turn))));
      await raw.flood((turn) => flood(sent + turn), 10_000);
      expect([raw.isClosed, await cutCount(listener)]).toEqual([true, before + 1]);
    }
  },
);

test("the other calls of a connection that is cut for its resets end with UNAVAILABLE", async () => {
  const client = jsClient();
  const watch = watched(client);
  await until("the watch is open", () => watch.messages > 0);
  while (watch.code === undefined) {
    for (const each of Array.from({ length: 100 }, () => watched(client))) setImmediate(each.cancel);
    await new Promise((resolve) => setImmediate(resolve));
  }
  expect(watch.code).toBe(14);
});
