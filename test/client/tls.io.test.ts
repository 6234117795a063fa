/** What a client says when one side speaks TLS and the other does not, and what it says to a server by address. */
import { once } from "node:events";
import { type AddressInfo, createServer } from "node:net";
import { createServer as createTlsServer } from "node:tls";
import { expect, test } from "vitest";
import { type ConnectOptions, connect, RequestError } from "../../src/client/index.ts";
import { newAuthority } from "../fakes/certificate.ts";
import { FakeDiscovery } from "../fakes/discovery-server.ts";

const authority = newAuthority();
const ca = Buffer.from(authority.cert);

/** The failure of a call, and of a stream. */
async function failuresOf(server: string, options: Omit<ConnectOptions, "servers">): Promise<readonly unknown[]> {
  const client = connect({ servers: [server], findServers: false, ...options });
  const unary = await client.discovery.serverInfo({}).catch((error: unknown) => error);
  const messages = client.discovery.catalogWatch({})[Symbol.asyncIterator]();
  const stream = await messages.next().catch((error: unknown) => error);
  client.close();
  return [unary, stream].map((error) => (error instanceof RequestError ? [error.message, error.facts.code] : error));
}

const leaf = authority.issue("a program");
const rubbish = Buffer.from("no certificate");
const damaged = Buffer.from(`${authority.cert}${authority.cert.replace("MII", "###")}`);

test.each([
  { tls: { ca: rubbish }, says: "connect: tls.ca contains no certificate in PEM format" },
  { tls: { ca: new Uint8Array() }, says: "connect: tls.ca contains no certificate in PEM format" },
  { tls: { ca: Buffer.from(leaf.key) }, says: "connect: tls.ca contains no certificate in PEM format" },
  { tls: { ca: damaged }, says: "connect: tls.ca contains 2 certificates in PEM format, but certificate 2 cannot be read" },
  { tls: { cert: rubbish, key: Buffer.from(leaf.key) }, says: "connect: tls.cert contains no certificate in PEM format" },
  {
    tls: { cert: Buffer.from(leaf.cert), key: rubbish },
    says: "connect: tls.key does not contain an unencrypted private key in PEM format",
  },
  {
    tls: { cert: Buffer.from(leaf.cert), key: Buffer.from(authority.issue("b").key) },
    says: "connect: tls.key does not match tls.cert",
  },
])("files of TLS that cannot be used are refused at once: $says", ({ tls, says }) => {
  expect(() => connect({ servers: ["127.0.0.1:1"], tls })).toThrow(new RangeError(says));
});

test("files of TLS that can be used are taken, as any bytes", () => {
  const bytes = (pem: string) => new TextEncoder().encode(`a comment\n${pem}`);
  const tls = { ca: bytes(authority.cert), cert: bytes(leaf.cert), key: bytes(leaf.key) };
  expect(() => connect({ servers: ["127.0.0.1:1"], tls }).close()).not.toThrow();
});

test("a plain call to a server with TLS says that it speaks TLS", async () => {
  const server = createTlsServer({ ...authority.issue("localhost"), ALPNProtocols: ["h2"] }, () => {}).listen(0, "127.0.0.1");
  server.on("tlsClientError", () => {});
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  const told = ["the server speaks TLS, but the client connected without TLS", "UNAVAILABLE"];
  expect(await failuresOf(`127.0.0.1:${port}`, {})).toEqual([told, told]);
  server.close();
});

test("a call by TLS to a server without it says that it does not speak TLS", async () => {
  const server = new FakeDiscovery();
  await server.start();
  const told = ["the server does not speak TLS", "UNAVAILABLE"];
  expect(await failuresOf(server.address, { tls: { ca } })).toEqual([told, told]);
  server.stop();
});

test("what closes each connection is not taken for a server with TLS", async () => {
  const server = createServer((socket) => socket.end()).listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  for (const failure of await failuresOf(`127.0.0.1:${port}`, {})) expect(String(failure)).not.toContain("TLS");
  server.close();
});

test("the certificate of a server is verified, also where the server is named by its address", async () => {
  const server = createTlsServer({ ...authority.issue("localhost"), ALPNProtocols: ["h2"] }, (socket) => socket.destroy());
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  try {
    const strange = newAuthority("another authority");
    const [[said]] = (await failuresOf(`127.0.0.1:${port}`, { tls: { ca: Buffer.from(strange.cert) } })) as [[string]];
    expect(said).toMatch(/certificate/);
  } finally {
    server.close();
  }
});
