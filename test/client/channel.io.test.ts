/** What a client leaves open at its servers, counted by a server that refuses every call. */
import { once } from "node:events";
import { constants, createServer, type ServerHttp2Session, type ServerHttp2Stream } from "node:http2";
import { type AddressInfo, createServer as createTcpServer, type Socket } from "node:net";
import { create } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import { DiscoveryService } from "../../gen/waymark/discovery/v1/discovery_pb.js";
import { GrpcChannel, type GrpcChannelOptions } from "../../src/client/channel.io.ts";
import { connect, RequestError } from "../../src/client/index.ts";
import { credentialsOf } from "../../src/client/tls.io.ts";
import { newAuthority } from "../fakes/certificate.ts";

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

/** How a call ends whose server has these addresses. */
async function calledAt(server: string, addresses: readonly string[], tls?: GrpcChannelOptions["tls"]): Promise<string> {
  const channel = new GrpcChannel(server, credentialsOf(tls), { ...(tls && { tls }) });
  channel.aim(addresses);
  const { serverInfo } = DiscoveryService.method;
  const told = await channel.unary(serverInfo, create(serverInfo.input), { timeoutMs: 4000 }).then(
    () => "answered",
    (error: unknown) => String(error),
  );
  channel.close();
  return told;
}

test.each([
  { first: "answers nothing", act: () => {} },
  { first: "closes each connection", act: (socket: Socket) => socket.end() },
])("a call reaches the second address of a server if the first $first", async ({ act }) => {
  const server = createServer().on("stream", answer).listen(0, "127.0.0.2");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  const sockets: Socket[] = [];
  const other = createTcpServer((socket) => sockets.push(socket.on("error", () => {}).resume()))
    .on("connection", act)
    .listen(port, "127.0.0.3");
  await once(other, "listening");
  try {
    expect(await calledAt(`two.test:${port}`, ["127.0.0.3", "127.0.0.2"])).toBe("answered");
    await expect.poll(() => sockets.every(({ closed }) => closed)).toBe(true);
  } finally {
    for (const socket of sockets) socket.destroy();
    other.close();
    server.close();
  }
});

test("of several addresses that refuse the connection, the error names the last one", async () => {
  expect(await calledAt("two.test:1", ["127.0.0.3", "127.0.0.2"])).toBe("RequestError: connect ECONNREFUSED 127.0.0.2:1");
});

test("a call by TLS to an address without a route fails as any call does", async () => {
  const tls = { ca: Buffer.from(newAuthority().cert) };
  // TCP cannot connect to a broadcast address, which the system says at once.
  expect(await calledAt("far.test:1", ["255.255.255.255"], tls)).toMatch(/^RequestError: connect E/);
});

test("of a server that answers in HTTP/1.1 and closes the connection it is told that it does not speak gRPC", async () => {
  const server = createTcpServer((socket) => {
    socket.on("error", () => {}).once("data", () => socket.end("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"));
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  expect(await calledAt(`127.0.0.1:${port}`, ["127.0.0.1"])).toBe("RequestError: the server does not speak gRPC");
  server.close();
});
