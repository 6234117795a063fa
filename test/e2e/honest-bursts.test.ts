/**
 * Clients that send many calls with long bodies at once, to a node that is busy with them all: each call is answered.
 * @module-tag path
 */
import { type ClientHttp2Session, connect } from "node:http2";
import { afterEach, expect, test } from "vitest";
import { some } from "../fakes/effort.ts";
import { QUERY, u32 } from "./h2-frames.ts";
import { Victim } from "./h2-victim.ts";

const CLIENTS = 16;
const CALLS_AT_ONCE = 128;

let victim: Victim | undefined;
let sessions: ClientHttp2Session[] = [];

afterEach(() => {
  for (const session of sessions) session.destroy();
  sessions = [];
  victim?.stop();
});

/** A query whose name has 60,000 bytes, so that the body of each call stays below the window of its stream. */
const NAME = Buffer.alloc(60_000, "a");
const MESSAGE = Buffer.concat([Buffer.of(0x0a, 0xe0, 0xd4, 0x03), NAME]);
const BODY = Buffer.concat([Buffer.of(0), u32(MESSAGE.length), MESSAGE]);

/** How a call ended. */
function called(session: ClientHttp2Session): Promise<string> {
  return new Promise((resolve) => {
    const stream = session.request({ ":method": "POST", ":path": QUERY, "content-type": "application/grpc", te: "trailers" });
    let end = "no answer";
    stream.on("response", () => {
      end = "answered";
    });
    stream.on("error", (error: NodeJS.ErrnoException) => {
      end = error.code ?? error.message;
    });
    stream.on("close", () => resolve(end));
    stream.resume();
    stream.end(BODY);
  });
}

test.each(some(["grpc", "edge"] as const))("%s: calls whose bodies wait for their turn are not useless bytes", async (listener) => {
  victim = await Victim.start(listener);
  const { port } = victim;
  sessions = Array.from({ length: CLIENTS }, () => connect(`http://127.0.0.1:${port}`).on("error", () => {}));
  const ends = await Promise.all(sessions.flatMap((session) => Array.from({ length: CALLS_AT_ONCE }, () => called(session))));
  expect(new Set(ends)).toEqual(new Set(["answered"]));
});
