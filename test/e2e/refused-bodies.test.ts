/** Calls that are refused while their bodies are still on the way: the connection, and what others call on it, goes on. */
import { type ClientHttp2Session, connect } from "node:http2";
import { expect, test } from "vitest";
import { startGrpcListener } from "../../src/server/grpc-listener.io.ts";
import { listServices } from "../../src/services/service-table.ts";
import { demoChain, demoService } from "../fakes/demo-service.ts";
import { startDemoEdge } from "../fakes/edge.ts";
import { GRPC_LIMITS } from "../fakes/listener-limits.ts";
import { until } from "../fakes/until.ts";
import { frame, QUERY, RawConnection, TYPE, u32 } from "./h2-frames.ts";

const BODY = new Uint8Array(1_048_576);
const CALLS = 40;

const USELESS = Buffer.concat(Array.from({ length: 200_000 }, () => frame(TYPE.WINDOW_UPDATE, { payload: u32(1) })));

/** Node's own client counts what it has written for streams that are gone, and refuses more streams at 10 MB. */
const open = (port: number) => connect(`http://127.0.0.1:${port}`, { maxSessionMemory: 1_000 });

function ask(session: ClientHttp2Session, path: string, type: string, body: Uint8Array): Promise<string> {
  return new Promise((resolve) => {
    const stream = session.request({ ":method": "POST", ":path": path, "content-type": type, te: "trailers" });
    let said = "nothing";
    stream.on("response", (headers) => (said = `${headers[":status"]} ${String(headers["grpc-status"])}`));
    stream.on("error", () => {});
    stream.on("close", () => resolve(said));
    stream.resume();
    stream.end(body);
  });
}

/** Each of these connections is cut at the guard's next look at a tenth of all connections. */
async function looksAtAll(port: number): Promise<void> {
  for (let i = 0; i < 11; i++) {
    const flood = new RawConnection(port).greet();
    flood.send(USELESS);
    await until("it is cut", () => flood.isClosed);
  }
}

/** What forty such calls are answered, and whether their connection is open afterwards. */
async function refused(port: number, path: string, type: string): Promise<readonly [answers: number, isOpen: boolean]> {
  const session = open(port);
  session.on("error", () => {});
  const answers = new Set<string>();
  for (let i = 0; i < CALLS; i++) answers.add(await ask(session, path, type, BODY));
  await looksAtAll(port);
  const isOpen = !session.closed && !session.destroyed;
  session.destroy();
  return [answers.size, isOpen];
}

test.each([
  { what: "an unknown method", path: "/waymark.discovery.v1.DiscoveryService/Nope", type: "application/grpc" },
  { what: "another content type", path: QUERY, type: "text/plain" },
])("gRPC: forty refused bodies for $what do not end their connection", async ({ path, type }) => {
  const { chain } = demoChain();
  const served = listServices([demoService().service]);
  const log = { info: () => {}, warn: () => {} };
  const listener = await startGrpcListener({ host: "127.0.0.1", port: 0, ...served, chain, limits: GRPC_LIMITS, log });
  expect(await refused(listener.acceptor.port, path, type)).toEqual([1, true]);
  await listener.stop(100);
});

test.each([
  { what: "an unknown method", path: "/waymark.discovery.v1.DiscoveryService/Nope", type: "application/proto" },
  { what: "another content type", path: QUERY, type: "text/plain" },
])("HTTP edge: forty refused bodies for $what do not end their connection", async ({ path, type }) => {
  await using served = await startDemoEdge();
  expect(await refused(served.edge.acceptor.port, path, type)).toEqual([1, true]);
});
