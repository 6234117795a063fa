/**
 * Headers that are refused, because they are too many, on a connection that ends just then. Node ends the process when a session is collected in
 * the turn in which it refused them (src/grpc/wire/http2-stream.io.ts): a small young generation makes that certain.
 * @module-tag path
 */
import { execFile } from "node:child_process";
import { once } from "node:events";
import { type AddressInfo, createServer } from "node:net";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { describe, expect, onTestFinished, test } from "vitest";
import { some } from "../fakes/effort.ts";
import { call, callHeaders, FLAG, frame, hpack, PREFACE, QUERY, RawConnection, repeated, settings, TYPE, u32 } from "./h2-frames.ts";
import { Victim } from "./h2-victim.ts";

const MANY = Array.from({ length: 400 }, (_, i) => [`x-${i}`, "a"] as const);
/** More than a socket gives at once, so that what follows is read in the same turn but by itself. */
const PADDING = repeated(frame(0x20, { payload: Buffer.alloc(16_000) }), 5);

const goAway = (code: number) => frame(TYPE.GOAWAY, { payload: Buffer.concat([u32(0), u32(code)]) });
/** More SETTINGS than a connection may send, by so much that we cut it at once. */
const FLOOD = repeated(settings(), 500);
/** More invalid frames than Node takes of us: window updates by nothing. */
const INVALID = Buffer.concat(
  Array.from({ length: 120 }, (_, i) => [call(2 * i + 3), frame(TYPE.WINDOW_UPDATE, { stream: 2 * i + 3, payload: u32(0) })]).flat(),
);

const ENDS: Readonly<Record<string, readonly Uint8Array[]>> = {
  "goes away": [goAway(0)],
  "goes away a little later": [PADDING, goAway(0)],
  "goes away with an error": [goAway(2)],
  "goes away with an error a little later": [PADDING, goAway(2)],
  "breaks the protocol": [PADDING, frame(TYPE.PING, { payload: Buffer.alloc(3) })],
  "sends SETTINGS without end": [PADDING, FLOOD],
  "sends what is invalid": [PADDING, INVALID],
};

describe.each(["grpc", "edge", "fabric"] as const)("a client of the listener %s sends headers that are refused, and", (listener) => {
  test.each(some(Object.entries(ENDS)))("%s", async (_what, end) => {
    const victim = await Victim.startWith(1, listener);
    onTestFinished(() => victim.stop());
    const headers = frame(TYPE.HEADERS, { flags: FLAG.END_HEADERS | FLAG.END_STREAM, stream: 1, payload: callHeaders(QUERY, MANY) });
    for (let round = 0; round < 6; round++) {
      const all = Array.from({ length: 50 }, () => new RawConnection(victim.port));
      for (const each of all) each.send(PREFACE, settings(), headers, ...end);
      await expect.poll(() => all.every((each) => each.isClosed || each.receivedBytes > 0)).toBe(true);
      for (const each of all) each.destroy();
    }
    // It collects all of its garbage, and answers.
    expect((await victim.held()).heapBytes).toBeGreaterThan(0);
  });
});

describe.each(some(["", ...Object.keys(ENDS)]))("a server answers with headers that are refused, and %s", (end) => {
  test.each(some(["destroyed", "closed", "probed"]))("the connection is %s when its call is over", async (kind) => {
    const answer = frame(TYPE.HEADERS, { flags: FLAG.END_HEADERS, stream: 1, payload: hpack([[":status", "200"], ...MANY]) });
    const server = createServer((socket) => {
      socket.on("error", () => {});
      socket.once("data", () => socket.write(Buffer.concat([settings(), answer, ...(ENDS[end] ?? [])])));
    }).listen(0, "127.0.0.1");
    onTestFinished(() => void server.close());
    await once(server, "listening");
    const child = fileURLToPath(new URL("../fakes/refused-headers-child.ts", import.meta.url));
    const argv = ["--max-semi-space-size=1", child, kind, String((server.address() as AddressInfo).port)];
    expect(await promisify(execFile)(process.execPath, argv)).toMatchObject({ stdout: "alive\n" });
  });
});
