/**
 * Of the gzip messages of one connection that become a thousand times as long, and of those that take long to read, a few wait for their
 * turn; the others are refused at once.
 * @module-tag night
 */
import { once } from "node:events";
import { type ClientHttp2Session, connect, type IncomingHttpHeaders, type OutgoingHttpHeaders } from "node:http2";
import { gzipSync } from "node:zlib";
import { afterAll, beforeAll, expect, test } from "vitest";
import { framed } from "../../src/grpc/wire/message-reader.ts";
import { some } from "../fakes/effort.ts";
import { type NodeProcess, startNodeProcess } from "../fakes/node-process.ts";
import { slowGzip } from "../fakes/slow-gzip.ts";
import { QUERY } from "./h2-frames.ts";

/** A request of one field that nobody knows, long and easily compressed. */
const PADDING_BYTES = 4_000_000;
const bomb = gzipSync(Buffer.concat([Buffer.from([0xc2, 0x3e, 0x80, 0x92, 0xf4, 0x01]), Buffer.alloc(PADDING_BYTES)]));

/** A message that says that it is compressed. */
function compressed(message: Uint8Array): Uint8Array {
  const frame = framed(message);
  frame[0] = 1;
  return frame;
}

/** More than there are places (src/grpc/wire/inflation-budget.ts), and fewer than all connections together have. */
const BOMBS = 40;
/** That many answers later, one after the other, what was refused at once has been told so; far fewer than fit into the time that a message may wait. */
const LATER = 50;

const GRPC = { ":method": "POST", ":path": QUERY, "content-type": "application/grpc", te: "trailers" };
const HTTP = { ":method": "POST", ":path": QUERY, "content-type": "application/proto" };
const NOTHING = new Uint8Array(0);
/** It becomes about as long as it is, and takes a twentieth of a second to read; a dozen is what may come at once and wait. */
const slow = slowGzip(1_000_000, 48);
const SLOW_BOMBS = 20;

interface Sent {
  readonly headers: OutgoingHttpHeaders;
  readonly body: Uint8Array;
}

interface Kind {
  readonly long: Sent;
  readonly slow: Sent;
  readonly plain: Sent;
  /** Header or trailer with the outcome. */
  readonly status: string;
  readonly ok: string;
  readonly refused: string;
}

const KINDS: Readonly<Record<"grpc" | "http", Kind>> = {
  grpc: {
    long: { headers: { ...GRPC, "grpc-encoding": "gzip" }, body: compressed(bomb) },
    slow: { headers: { ...GRPC, "grpc-encoding": "gzip" }, body: compressed(slow) },
    plain: { headers: GRPC, body: framed(NOTHING) },
    status: "grpc-status",
    ok: "0",
    refused: "8",
  },
  http: {
    long: { headers: { ...HTTP, "content-encoding": "gzip" }, body: bomb },
    slow: { headers: { ...HTTP, "content-encoding": "gzip" }, body: slow },
    plain: { headers: HTTP, body: NOTHING },
    status: ":status",
    ok: "200",
    refused: "429",
  },
};

let node: NodeProcess;
beforeAll(async () => {
  node = await startNodeProcess(["--ephemeral"]);
});
afterAll(() => node[Symbol.asyncDispose]());

/** Sends one request; resolves with what `status` says in the headers or trailers. */
async function answer(session: ClientHttp2Session, { headers, body }: Sent, status: string): Promise<string> {
  const stream = session.request(headers);
  let said = "";
  const take = (got: IncomingHttpHeaders) => {
    said = got[status]?.toString() ?? said;
  };
  stream.on("response", take);
  stream.on("trailers", take);
  stream.on("error", () => {}); // Told by `close` as well.
  stream.resume();
  stream.end(body);
  await once(stream, "close");
  return said;
}

test.each(some(["grpc", "http"] as const))(
  "%s: beyond its places a connection is refused at once, while others are answered",
  async (name) => {
    const { long, plain, status, ok, refused } = KINDS[name];
    const url = `http://${node.listeners[name]}`;
    const [bomber, other] = [connect(url), connect(url)];
    try {
      const answers: string[] = [];
      const bombs = Array.from({ length: BOMBS }, async () => answers.push(await answer(bomber, long, status)));
      const others: string[] = [];
      for (let i = 0; i < LATER; i++) others.push(await answer(other, plain, status));
      expect([...new Set(others)]).toEqual([ok]);
      expect(answers.filter((each) => each === refused).length).toBeGreaterThan(0);
      await Promise.all(bombs);
      expect(answers).toHaveLength(BOMBS);
    } finally {
      bomber.destroy();
      other.destroy();
    }
  },
);

test.each(some(["grpc", "http"] as const))(
  "%s: what takes long to read is refused beyond what may come, and others are answered",
  async (name) => {
    const { slow: sent, plain, status, ok, refused } = KINDS[name];
    const url = `http://${node.listeners[name]}`;
    // As much as all of them: Node's client resets the streams of a session that holds 10 MB.
    const [bomber, other] = [connect(url, { maxSessionMemory: 100 }), connect(url)];
    try {
      const others: string[] = [];
      const bombing = { isOver: false };
      const bombs = Promise.all(Array.from({ length: SLOW_BOMBS }, () => answer(bomber, sent, status))).finally(
        () => (bombing.isOver = true),
      );
      while (!bombing.isOver) others.push(await answer(other, plain, status));
      expect([...new Set(others)]).toEqual([ok]);
      expect(await bombs).toContain(refused);
    } finally {
      bomber.destroy();
      other.destroy();
    }
  },
);
