/** A newcomer sends its token, and a program its renewal, only to an issuer of its cluster under the expected root. */
import { createPrivateKey } from "node:crypto";
import { once } from "node:events";
import { type AddressInfo, createServer as createTcpServer } from "node:net";
import { createServer, type TLSSocket } from "node:tls";
import { expect, test } from "vitest";
import { newToken, tokenText } from "../../../src/control/identity/join-token.ts";
import { serverNameOf } from "../../../src/lib/certificates/server-names.ts";
import { followIssuer, joinCluster, renewAt } from "../../../src/node/identity/issuer-client.io.ts";
import { fixedBytes, TestKey, TestRoot } from "../../fakes/identity.ts";
import { until } from "../../fakes/until.ts";

const root = new TestRoot();
const token = tokenText(newToken("eu", root.key.digest, fixedBytes()));
const ISSUER_NAME = serverNameOf("eu", "issuer");

interface Impostor extends AsyncDisposable {
  /** The id of the key that has issued its certificate. */
  readonly issuerKey: string;
  readonly address: string;
  readonly handshakes: number;
  /** Everything that clients have sent after their handshakes. */
  readonly received: Buffer;
}

interface Shown {
  readonly by?: TestRoot;
  readonly clusterId?: string;
  readonly dnsNames?: readonly string[];
  /** Certificates that the server adds to its own. */
  readonly added?: string;
  readonly maxVersion?: "TLSv1.2";
}

/** A TLS server that is no issuer of the cluster `eu`, and shows a certificate that somebody has. */
async function impostor({
  by = root,
  clusterId = "eu",
  dnsNames = [ISSUER_NAME],
  added = by.certificate,
  maxVersion,
}: Shown): Promise<Impostor> {
  const key = new TestKey();
  const madeWallMs = Date.now();
  const terms = { role: "node", name: "x", publicKey: key.publicKey, dnsNames, madeWallMs, expiresWallMs: madeWallMs + 3_600_000 } as const;
  const issuer = by.issuer("eu-1", clusterId);
  const chain = issuer.certify(terms) + added;
  const chunks: Buffer[] = [];
  const sockets: TLSSocket[] = [];
  const version = maxVersion === undefined ? {} : { maxVersion };
  const server = createServer({ cert: chain, key: key.pem, ALPNProtocols: ["h2"], ...version }, (socket) => {
    sockets.push(socket);
    socket.on("data", (chunk: Buffer) => chunks.push(chunk));
    socket.on("error", () => {});
  });
  server.on("tlsClientError", () => {});
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    issuerKey: issuer.keyId,
    address: `127.0.0.1:${(server.address() as AddressInfo).port}`,
    get handshakes() {
      return sockets.length;
    },
    get received() {
      return Buffer.concat(chunks);
    },
    [Symbol.asyncDispose]: async () => {
      server.close();
      for (const socket of sockets) socket.destroy();
      await once(server, "close");
    },
  };
}

const other = new TestRoot();
const NO_ROOT = /does not present the root that the token names/;

test.each<{ readonly what: string; readonly shown: Shown; readonly want: RegExp }>([
  { what: "an issuer of another root", shown: { by: other }, want: NO_ROOT },
  {
    what: "an issuer of another root that adds the expected root",
    shown: { by: other, added: root.certificate },
    want: NO_ROOT,
  },
  { what: "an issuer that does not show its root", shown: { added: "" }, want: NO_ROOT },
  { what: "a member that is no issuer", shown: { dnsNames: ["localhost"] }, want: /does not match certificate's altnames/ },
  {
    what: "an issuer of another cluster",
    shown: { dnsNames: [serverNameOf("us", "issuer")] },
    want: /does not match certificate's altnames/,
  },
  { what: "a server that has only TLS 1.2", shown: { maxVersion: "TLSv1.2" }, want: /protocol version/ },
])("$what gets no token", async ({ shown, want }) => {
  await using server = await impostor(shown);
  const key = createPrivateKey(new TestKey().pem);
  await expect(joinCluster(server.address, token, "eu-2", key)).rejects.toThrow(want);
  if (shown.maxVersion === undefined) await until("the server saw the handshake", () => server.handshakes > 0);
  expect(server.received.length).toBe(0);
});

const NO_ISSUERS = { names: new Map(), issuers: new Set<string>() };

test.each([
  { what: "under another root", by: other, isRevoked: false, want: /self-signed certificate|unable to/ },
  { what: "that was revoked", by: root, isRevoked: true, want: /^127\.0\.0\.1:\d+: the issuer of this certificate was revoked/ },
])("an issuer $what gets no renewal, and is not followed", async ({ by, isRevoked, want }) => {
  await using server = await impostor({ by });
  const revocations = isRevoked ? { ...NO_ISSUERS, issuers: new Set([`eu/${server.issuerKey}`]) } : NO_ISSUERS;
  const own = { clusterId: "eu", role: "node", name: "eu-2" } as const;
  const renewal = renewAt(
    server.address,
    { ...own, key: new TestKey().signing },
    { roots: root.certificate, revocations },
    createPrivateKey(new TestKey().pem),
  );
  await expect(renewal).rejects.toThrow(want);
  const shown = { address: server.address, clusterId: "eu", roots: root.certificate, revocations };
  await expect(followIssuer(shown, () => {}, new AbortController().signal)).rejects.toThrow(want);
  expect(server.received.length).toBe(0);
});

test("an issuer gets the token, and its connection may end before it answers", async () => {
  const server = await impostor({});
  const key = createPrivateKey(new TestKey().pem);
  const joining = joinCluster(server.address, token, "eu-2", key).catch((error: unknown) => String(error));
  await until("the token arrived", () => server.received.includes(token));
  await server[Symbol.asyncDispose]();
  expect(await joining).toMatch(/^IssuerError: 127\.0\.0\.1:\d+: /);
});

test.each([
  { server: "127.0.0.1", text: token, want: /^invalid address "127.0.0.1": expected host:port/ },
  { server: "127.0.0.1:0", text: token, want: /^invalid address/ },
  { server: "127.0.0.1:1", text: "wmj1.x", want: /^the token file must contain the line/ },
])("$server gets nothing for $text", async ({ server, text, want }) => {
  await expect(joinCluster(server, text, "eu-2", createPrivateKey(new TestKey().pem))).rejects.toThrow(want);
});

test("a port without TLS is refused with the address to use instead", async () => {
  const server = createTcpServer((socket) => socket.end("HTTP/1.1 400 Bad Request\r\n\r\n")).listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  const joining = joinCluster(`127.0.0.1:${port}`, token, "eu-2", createPrivateKey(new TestKey().pem));
  await expect(joining).rejects.toThrow(/the server does not use TLS on this port; name the fabric address of an issuer/);
  server.close();
});
