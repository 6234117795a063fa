/** What a request's headers are on their way to Connect, as each version of HTTP brings them. */
import { once } from "node:events";
import http from "node:http";
import http2 from "node:http2";
import type { AddressInfo, Server } from "node:net";
import { afterAll, expect, test } from "vitest";
import { universalRequest } from "../../../src/server/edge/request.io.ts";
import type { EdgeRequest, EdgeResponse } from "../../../src/server/edge/sockets.io.ts";

const servers: { close(): unknown }[] = [];
afterAll(() => {
  for (const server of servers) server.close();
});

/** Answers with what Connect would be given. */
function tell(request: EdgeRequest, response: EdgeResponse): void {
  const { header } = universalRequest(request, response);
  const told = {
    names: [...new Set(header.keys())],
    cookies: header.getSetCookie(),
    twice: header.get("x-twice"),
    cookie: header.get("cookie"),
  };
  response.end(JSON.stringify(told));
}

async function portOf(server: Server): Promise<number> {
  servers.push(server);
  await new Promise<void>((resolve) => void server.listen(0, "127.0.0.1", resolve));
  return (server.address() as AddressInfo).port;
}

const REPEATED = { "set-cookie": ["a=1, 2", "b=3"], "x-twice": ["one", "two"], cookie: ["c=4", "d=5"] };
const TOLD = { cookies: ["a=1, 2", "b=3"], twice: "one, two", cookie: "c=4; d=5" };

test("headers that come more than once are joined over HTTP/1.1, and Set-Cookie, which must not be, stays apart", async () => {
  const port = await portOf(http.createServer(tell));
  const request = http.get({ host: "127.0.0.1", port, headers: REPEATED, agent: false });
  const [response] = (await once(request, "response")) as [http.IncomingMessage];
  const told = JSON.parse(Buffer.concat(await response.toArray()).toString()) as { readonly names: readonly string[] };
  expect(told).toMatchObject(TOLD);
  expect(told.names.toSorted()).toEqual(["connection", "cookie", "host", "set-cookie", "x-twice"]);
});

test("so they are over HTTP/2, whose pseudo-headers are not headers", async () => {
  const port = await portOf(http2.createServer(tell));
  const session = http2.connect(`http://127.0.0.1:${port}`);
  try {
    const stream = session.request({ ":path": "/", ...REPEATED });
    const told = JSON.parse(Buffer.concat(await stream.toArray()).toString()) as { readonly names: readonly string[] };
    expect(told).toMatchObject(TOLD);
    expect(told.names.toSorted()).toEqual(["cookie", "set-cookie", "x-twice"]);
  } finally {
    session.close();
  }
});
