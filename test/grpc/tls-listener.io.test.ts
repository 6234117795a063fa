/** Listeners whose certificates are in files, with real TLS sockets: revocation lists, and the oldest version of TLS. */
import { copyFileSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type ConnectionOptions, connect } from "node:tls";
import { afterAll, afterEach, expect, test } from "vitest";
import { type FileAcceptor, type ListenerTlsFiles, openFileAcceptor } from "../../src/grpc/server/tls-files.io.ts";
import { identifyPeer } from "../../src/server/peer.io.ts";
import { TestAuthority } from "../fakes/certificates.ts";

const folder = mkdtempSync(join(tmpdir(), "waymark-tls-listener-"));
const ours = new TestAuthority(folder, "ours");
const [server, good, stolen] = [ours.issue("server"), ours.issue("good"), ours.issue("stolen")];
const opened: FileAcceptor[] = [];

afterEach(() => {
  for (const acceptor of opened.splice(0)) {
    acceptor.close();
    for (const socket of acceptor.sockets) socket.destroy();
  }
});
afterAll(() => rmSync(folder, { recursive: true }));

async function listener(files: Partial<ListenerTlsFiles>, failed: unknown[] = []): Promise<FileAcceptor> {
  const acceptor = await openFileAcceptor({
    host: "127.0.0.1",
    port: 0,
    portFlag: "--port",
    tls: { ...server, ...files },
    protocols: [],
    maxConnections: 16,
    onConnection: (socket) => {
      const { certificate } = identifyPeer(socket, socket);
      socket.write(certificate === undefined ? "anonymous" : certificate.isTrusted ? certificate.commonName : certificate.why);
    },
    onReload: () => {},
    onReloadFailed: (error) => void failed.push(error),
  });
  opened.push(acceptor);
  return acceptor;
}

/** What the listener reads from the certificate of a client, or "refused". */
function ask({ host, port }: FileAcceptor, options: ConnectionOptions): Promise<string> {
  const { promise, resolve } = Promise.withResolvers<string>();
  const socket = connect({ host, port, ca: ours.ca, ...options });
  socket.once("data", (bytes: Buffer) => {
    resolve(`${String(bytes)}${socket.isSessionReused() ? " resumed" : ""}`);
    socket.destroy();
  });
  socket.on("error", () => resolve("refused"));
  socket.on("close", () => resolve("refused"));
  return promise;
}

test.each([
  { isClientOptional: false, want: ["good", "refused", "refused"] },
  { isClientOptional: true, want: ["good", "CERT_REVOKED", "anonymous"] },
])("a revoked certificate is refused (optional: $isClientOptional)", async ({ isClientOptional, want }) => {
  const crlFile = ours.revoke(`list-${isClientOptional}`, stolen);
  const acceptor = await listener({ clientCaFile: ours.caFile, crlFile, isClientOptional });
  expect([await ask(acceptor, good), await ask(acceptor, stolen), await ask(acceptor, {})]).toEqual(want);
});

test("a new list applies after a reload, also to a client that resumes its session; an unreadable list changes nothing", async () => {
  const [crlFile, failed] = [join(folder, "live.crl"), new Array<unknown>()];
  copyFileSync(ours.revoke("empty"), crlFile);
  const acceptor = await listener({ clientCaFile: ours.caFile, crlFile }, failed);
  let session: Buffer | undefined;
  const { host, port } = acceptor;
  const first = connect({ host, port, ca: ours.ca, ...stolen });
  first.resume();
  first.on("session", (ticket: Buffer) => (session = ticket));
  await expect.poll(() => session, { timeout: 30_000 }).toBeDefined();
  first.destroy();
  expect(await ask(acceptor, { ...stolen, ...(session && { session }) })).toBe("stolen resumed");
  copyFileSync(ours.revoke("full", stolen), crlFile);
  acceptor.reloadTls();
  expect(await ask(acceptor, { ...stolen, ...(session && { session }) })).toBe("refused");
  copyFileSync(server.certFile, crlFile);
  acceptor.reloadTls();
  expect(failed).toEqual([
    new Error(`tls.crl_file: ${crlFile} contains no certificate revocation list in PEM format, or one that cannot be read`),
  ]);
  expect([await ask(acceptor, good), await ask(acceptor, stolen)]).toEqual(["good", "refused"]);
});

test("a certificate whose authority has no list is refused", async () => {
  const theirs = new TestAuthority(folder, "theirs");
  const acceptor = await listener({ clientCaFile: ours.caFile, crlFile: theirs.revoke("theirs-list"), isClientOptional: true });
  expect(await ask(acceptor, good)).toBe("UNABLE_TO_GET_CRL");
});

test.each([
  { minVersion: "TLSv1.3", want: ["anonymous", "refused"] },
  { minVersion: "TLSv1.2", want: ["anonymous", "anonymous"] },
] as const)("with $minVersion as the oldest version, clients of TLS 1.3 and 1.2 get $want", async ({ minVersion, want }) => {
  const acceptor = await listener({ minVersion });
  expect([await ask(acceptor, { minVersion: "TLSv1.3" }), await ask(acceptor, { maxVersion: "TLSv1.2" })]).toEqual(want);
});
