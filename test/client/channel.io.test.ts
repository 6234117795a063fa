/** What a client leaves open at its servers, counted by a server that refuses every call. */
import { once } from "node:events";
import { constants, createServer, type ServerHttp2Session, type ServerHttp2Stream } from "node:http2";
import type { AddressInfo } from "node:net";
import { expect, test } from "vitest";
import { connect, RequestError } from "../../src/client/index.ts";

test("a client that is closed in the turn in which its call began, and was given up, leaves no connection", async () => {
  const sessions = new Set<ServerHttp2Session>();
  const server = createServer((_request, response) => response.writeHead(404).end());
  server.on("session", (session) => {
    sessions.add(session);
    session.once("close", () => sessions.delete(session));
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const servers = [`127.0.0.1:${(server.address() as AddressInfo).port}`];
  try {
    const calls = Array.from({ length: 10 }, async () => {
      const client = connect({ servers, findServers: false });
      const abort = new AbortController();
      const watch = client.discovery.catalogWatch({ namespace: "svc.market" }, { signal: abort.signal })[Symbol.asyncIterator]();
      const first = watch.next();
      abort.abort();
      client.close();
      await expect(first).rejects.toThrow("Cancelled");
    });
    await Promise.all(calls);
    // It connects after those before it, so they are here when it is.
    const last = connect({ servers, findServers: false });
    await expect(last.discovery.serverInfo({})).rejects.toThrow(/404/);
    last.close();
    await expect.poll(() => sessions.size).toBe(0);
  } finally {
    for (const session of sessions) session.destroy();
    server.close();
  }
});

/** Answers with an empty message. */
function answer(stream: ServerHttp2Stream): void {
  stream.respond({ ":status": 200, "content-type": "application/grpc" }, { waitForTrailers: true });
  stream.on("wantTrailers", () => stream.sendTrailers({ "grpc-status": "0" }));
  stream.end(Buffer.alloc(5));
}

test.each([
  { refusedCount: 1, told: "answered", streamCount: 2 },
  { refusedCount: 2, told: ["UNAVAILABLE", false], streamCount: 2 },
])("of a call that a server refuses to process $refusedCount times it is asked $streamCount times", async (row) => {
  let streamCount = 0;
  const server = createServer();
  server.on("stream", (stream) => {
    streamCount += 1;
    stream.on("error", () => {});
    if (streamCount <= row.refusedCount) stream.close(constants.NGHTTP2_REFUSED_STREAM);
    else answer(stream);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const client = connect({ servers: [`127.0.0.1:${(server.address() as AddressInfo).port}`], findServers: false });
  const told = await client.discovery.serverInfo({}).then(
    () => "answered",
    (error: unknown) => (error instanceof RequestError ? [error.facts.code, error.facts.isSent] : error),
  );
  expect({ told, streamCount }).toEqual({ told: row.told, streamCount: row.streamCount });
  client.close();
  server.close();
});

test("after a server has closed its idle connection, the next call is made on another one", async () => {
  const sessions: ServerHttp2Session[] = [];
  const server = createServer();
  server.on("session", (session) => sessions.push(session));
  server.on("stream", answer);
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const client = connect({ servers: [`127.0.0.1:${(server.address() as AddressInfo).port}`], findServers: false });
  for (let count = 1; count <= 3; count++) {
    await client.discovery.serverInfo({});
    expect(sessions.length).toBe(count);
    sessions.at(-1)?.close();
    await once(sessions.at(-1) ?? server, "close");
  }
  client.close();
  server.close();
});
