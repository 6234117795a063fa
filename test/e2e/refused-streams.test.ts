/** Streams that Node refuses before any listener sees them, such as those with too many headers: the guard counts them all the same. */
import { createServer } from "node:http2";
import { expect, test } from "vitest";
import { openAcceptor } from "../../src/grpc/server/acceptor.io.ts";
import { ConnectionGuard } from "../../src/grpc/server/connection-guard.io.ts";
import { CONNECTION_LIMITS } from "../../src/grpc/server/connection-limits.ts";
import { until } from "../fakes/until.ts";
import { call, FLAG, frame, hpack, RawConnection, TYPE } from "./h2-frames.ts";

/** None but what counts refusals. */
const LIMITS = { ...CONNECTION_LIMITS, refusalsPerSecond: 20, uselessBytesPerSecond: 1e9, headerGainPerSecond: 1e9, trickleMs: 1e9 };
const MAX_PAIRS = 64;
const MANY_HEADERS = hpack(Array.from({ length: MAX_PAIRS + 1 }, (_, n) => [`x-${n}`, "y"] as const));

async function listening() {
  const cuts: string[] = [];
  const guard = new ConnectionGuard({ limits: LIMITS, onCut: (connectionLimits) => cuts.push(connectionLimits) });
  const server = createServer({ maxHeaderListPairs: MAX_PAIRS });
  let seen = 0;
  server.on("session", (session) => void guard.adopt(session));
  server.on("stream", (stream) => {
    seen += 1;
    stream.respond({ ":status": 200 }, { endStream: true });
  });
  const acceptor = await openAcceptor({
    host: "127.0.0.1",
    port: 0,
    portFlag: "--port",
    protocols: ["h2"],
    maxConnections: 10,
    onConnection: (socket) => guard.accept(server, socket),
  });
  const stop = () => {
    guard.stop();
    acceptor.close();
    for (const socket of acceptor.sockets) socket.destroy();
  };
  return { port: acceptor.port, cuts, seen: () => seen, [Symbol.dispose]: stop };
}

test("a connection whose streams are refused unseen is cut for them", async () => {
  using served = await listening();
  const attacker = new RawConnection(served.port).greet();
  const refused = (stream: number) => frame(TYPE.HEADERS, { flags: FLAG.END_HEADERS | FLAG.END_STREAM, stream, payload: MANY_HEADERS });
  attacker.send(...Array.from({ length: 60 }, (_, n) => refused(2 * n + 1)));
  await until("it is cut", () => attacker.isClosed);
  expect([served.cuts, served.seen()]).toEqual([["refused_calls"], 0]);
});

test("a connection with as many calls that are answered is not", async () => {
  using served = await listening();
  const client = new RawConnection(served.port).greet();
  client.send(...Array.from({ length: 60 }, (_, n) => call(2 * n + 1)));
  await until("all are served", () => served.seen() === 60);
  // The guard looks at each connection four times a second: a second one that is cut shows that it has looked.
  const other = new RawConnection(served.port).greet();
  other.send(
    ...Array.from({ length: 60 }, (_, n) =>
      frame(TYPE.HEADERS, { flags: FLAG.END_HEADERS | FLAG.END_STREAM, stream: 2 * n + 1, payload: MANY_HEADERS }),
    ),
  );
  await until("the other is cut", () => other.isClosed);
  expect([client.isClosed, served.cuts]).toEqual([false, ["refused_calls"]]);
  client.destroy();
});
