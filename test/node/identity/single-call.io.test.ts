/** A server whose messages are expensive to handle uses at most a tenth of this process's time. */
import { once } from "node:events";
import { createServer } from "node:http2";
import { type AddressInfo, connect } from "node:net";
import { expect, test } from "vitest";
import { callOnce } from "../../../src/node/identity/single-call.io.ts";

const COUNT = 4;
const WORK_MS = 20;

/** A gRPC message without content. */
const EMPTY = Buffer.alloc(5);

test("reading pauses after a message for nine times the time of its handling", async () => {
  const server = createServer();
  server.on("stream", (stream) => {
    stream.respond({ ":status": 200, "content-type": "application/grpc" }, { waitForTrailers: true });
    stream.on("wantTrailers", () => stream.sendTrailers({ "grpc-status": "0" }));
    stream.end(Buffer.concat(Array.from({ length: COUNT }, () => EMPTY)));
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  const socket = connect(port, "127.0.0.1");
  const starts: number[] = [];
  const work = () => {
    starts.push(performance.now());
    const endMonoMs = performance.now() + WORK_MS;
    while (performance.now() < endMonoMs);
  };
  const request = { path: "/a.B/C", message: new Uint8Array(), isSingleResponse: false, scheme: "http" } as const;
  const { status } = await callOnce(socket, request, work);
  server.close();
  expect([status.code, starts.length]).toEqual([0, COUNT]);
  for (let i = 1; i < COUNT; i++) expect((starts[i] ?? 0) - (starts[i - 1] ?? 0)).toBeGreaterThanOrEqual(10 * WORK_MS - 2);
});
