/**
 * Requests that never end: what a node holds of them is what came of them, whatever else came on their connections.
 * @module-tag path
 */
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { type ClientHttp2Session, type ClientHttp2Stream, connect } from "node:http2";
import { afterAll, beforeAll, expect, test } from "vitest";
import { some } from "../fakes/effort.ts";
import { type NodeProcess, startNodeProcess } from "../fakes/node-process.ts";

const CONNECTIONS = 8;
/** Announced by each request that never ends. */
const ANNOUNCED_BYTES = 4 * 1024 * 1024;
/** Sent of such a request in each round. */
const PART = Buffer.alloc(4_000);
/** Sent beside it in each round, in a request that ends, so that both are read from the socket together. */
const BESIDE = Buffer.alloc(56_000);
/** So few that a slow machine ends them before a request may no longer be unfinished (30 s). */
const ROUNDS = 500;
/** All parts are 16 MiB. The reads of the socket that they came with are 230 MiB. */
const GROWTH_MIB = 120;

let node: NodeProcess;
beforeAll(async () => {
  node = await startNodeProcess(["--ephemeral"]);
});
afterAll(async () => {
  await node[Symbol.asyncDispose]();
});

function rssMiB(): number {
  return Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${node.command.pid}/status`, "utf8"))?.[1]) / 1_024;
}

function called(session: ClientHttp2Session, contentType: string): ClientHttp2Stream {
  const path = "/waymark.discovery.v1.DiscoveryService/Register";
  const stream = session.request({ ":method": "POST", ":path": path, "content-type": contentType, te: "trailers" });
  stream.on("error", () => {});
  return stream.resume();
}

/** Begins a request that never ends, and sends a part of it in each round, beside a request that is answered. */
async function sendRounds(session: ClientHttp2Session, { contentType, prefixed }: Sending): Promise<void> {
  const unfinished = called(session, contentType);
  unfinished.write(prefixed(PART, ANNOUNCED_BYTES));
  for (let round = 0; round < ROUNDS; round += 1) {
    unfinished.write(PART);
    const beside = called(session, contentType);
    beside.end(prefixed(BESIDE, BESIDE.length));
    await once(beside, "close");
  }
  expect(unfinished.closed).toBe(false);
}

interface Sending {
  readonly contentType: string;
  /** The first bytes of a message of so many bytes. */
  readonly prefixed: (bytes: Buffer, messageBytes: number) => Buffer;
}

function withLength(bytes: Buffer, messageBytes: number): Buffer {
  const head = Buffer.alloc(5);
  head.writeUInt32BE(messageBytes, 1);
  return Buffer.concat([head, bytes]);
}

test.each(
  some([
    { listener: "grpc", contentType: "application/grpc", prefixed: withLength },
    { listener: "http", contentType: "application/proto", prefixed: (bytes: Buffer) => bytes },
  ]),
)(
  "parts of requests do not keep the reads of the socket that they came with: $listener",
  async ({ listener, ...sending }) => {
    const before = rssMiB();
    const sessions = Array.from({ length: CONNECTIONS }, () => connect(`http://${node.listeners[listener]}`).on("error", () => {}));
    try {
      await Promise.all(sessions.map((session) => sendRounds(session, sending)));
      expect(rssMiB() - before).toBeLessThan(GROWTH_MIB);
    } finally {
      for (const session of sessions) session.destroy();
    }
  },
  60_000,
);
