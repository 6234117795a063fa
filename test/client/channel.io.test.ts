/** What a client leaves open at its servers, counted by a server that refuses every call. */
import { once } from "node:events";
import { createServer, type ServerHttp2Session } from "node:http2";
import type { AddressInfo } from "node:net";
import { expect, test } from "vitest";
import { connect } from "../../src/client/index.ts";

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
