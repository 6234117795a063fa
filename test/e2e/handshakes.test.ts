/** TLS handshakes that never end: neither one address nor many may take the places of all others. */
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { connect, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { connect as connectTls } from "node:tls";
import { afterEach, beforeEach, expect, test } from "vitest";
import { openAcceptor, type TlsAcceptor } from "../../src/grpc/server/acceptor.io.ts";
import { TestAuthority } from "../fakes/certificates.ts";
import { until } from "../fakes/until.ts";

let folder = "";
const sockets: Socket[] = [];
let acceptor: TlsAcceptor | undefined;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "waymark-handshakes-"));
});
afterEach(() => {
  for (const socket of sockets.splice(0)) socket.destroy();
  acceptor?.close();
  rmSync(folder, { recursive: true });
});

function open(port: number, localAddress: string): Socket {
  const socket = connect({ host: "127.0.0.1", port, localAddress });
  socket.on("error", () => {}); // Cut, as is expected.
  sockets.push(socket);
  return socket;
}

test("who has many addresses and says nothing leaves room for others", async () => {
  const authority = new TestAuthority(folder, "authority");
  let served = 0;
  const { port, sockets: held } = (acceptor = await openAcceptor({
    host: "127.0.0.1",
    port: 0,
    portFlag: "--port",
    tls: authority.issue("server"),
    protocols: ["h2"],
    maxConnections: 64,
    onConnection: () => (served += 1),
  }));
  for (let address = 2; address < 12; address++) for (let n = 0; n < 8; n++) open(port, `127.0.0.${address}`);
  await until("the oldest are cut", () => held.size === 16 && sockets.filter(({ destroyed }) => destroyed).length === 64);
  const secure = connectTls({ socket: open(port, "127.0.0.1"), rejectUnauthorized: false, ALPNProtocols: ["h2"] });
  sockets.push(secure);
  await once(secure, "secureConnect");
  await until("it is served", () => served === 1);
  expect(held.size).toBeLessThanOrEqual(16);
});

test("who opens connections and says nothing holds a few; another address comes in, and so does this one when they are gone", async () => {
  const authority = new TestAuthority(folder, "authority");
  const { cert, key } = authority.issue("server");
  let dropped = 0;
  let served = 0;
  acceptor = await openAcceptor({
    host: "127.0.0.1",
    port: 0,
    portFlag: "--port",
    tls: { cert, key },
    protocols: ["h2"],
    maxConnections: 20,
    onConnection: () => (served += 1),
    onDrop: () => (dropped += 1),
  });
  const { port, sockets: held } = acceptor;
  const silent = Array.from({ length: 30 }, () => open(port, "127.0.0.1"));
  await until("the rest is cut", () => dropped === 22 && held.size === 8);
  const enter = async (localAddress: string): Promise<void> => {
    const socket = open(port, localAddress);
    const secure = connectTls({ socket, rejectUnauthorized: false, ALPNProtocols: ["h2"] });
    sockets.push(secure);
    await once(secure, "secureConnect");
  };
  await enter("127.0.0.2");
  for (const socket of silent) socket.destroy();
  await until("they are gone", () => held.size === 1);
  for (let n = 0; n < 10; n++) await enter("127.0.0.1");
  await until("all are served", () => served === 11);
  expect(dropped).toBe(22);
});
