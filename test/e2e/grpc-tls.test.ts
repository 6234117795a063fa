/** TLS on the gRPC listener: versions, mutual TLS, and certificates that change under it. */
import { copyFileSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { connect as connectTls, type SecureVersion } from "node:tls";
import { credentials } from "@grpc/grpc-js";
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import type { ListenerTlsFiles } from "../../src/grpc/server/tls-files.io.ts";
import { type GrpcListener, startGrpcListener } from "../../src/server/grpc-listener.io.ts";
import { listServices } from "../../src/services/service-table.ts";
import { type Leaf, TestAuthority } from "../fakes/certificates.ts";
import { demoChain, demoService } from "../fakes/demo-service.ts";
import { RawClient } from "../fakes/grpc-client.ts";
import { GRPC_LIMITS } from "../fakes/listener-limits.ts";

let folder: string;
let ours: TestAuthority;
let theirs: TestAuthority;
let server: Leaf;
let client: Leaf;
let stranger: Leaf;
const listeners: GrpcListener[] = [];
const clients: RawClient[] = [];

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "waymark-tls-"));
  ours = new TestAuthority(folder, "ours");
  theirs = new TestAuthority(folder, "theirs");
  server = ours.issue("server");
  client = ours.issue("client");
  stranger = theirs.issue("stranger");
});

afterEach(async () => {
  for (const each of clients.splice(0)) each.close();
  await Promise.all(listeners.splice(0).map((listener) => listener.stop(100)));
});

afterAll(() => rmSync(folder, { recursive: true, force: true }));

async function started(tls: ListenerTlsFiles, warnings: string[] = []): Promise<GrpcListener> {
  const listener = await startGrpcListener({
    host: "127.0.0.1",
    port: 0,
    ...listServices([demoService().service]),
    chain: demoChain().chain,
    limits: GRPC_LIMITS,
    tls,
    log: { info: () => {}, warn: (_facts, event) => void warnings.push(event) },
  });
  listeners.push(listener);
  return listener;
}

/** Code of an empty query: 0 when served. */
async function query(listener: GrpcListener, authority: Buffer, leaf?: Leaf): Promise<number> {
  const { address } = listener.acceptor;
  const raw = new RawClient(address, { credentials: credentials.createSsl(authority, leaf?.key ?? null, leaf?.cert ?? null) }); // oxlint-disable-line unicorn/no-null -- grpc-js means null.
  clients.push(raw);
  return (await raw.unary("CatalogQuery", new Uint8Array(), { call: { deadline: Date.now() + 30_000 } })).code;
}

/** The protocol a handshake ends with, or why it failed. */
function handshake(listener: GrpcListener, version: SecureVersion): Promise<string> {
  return new Promise((resolve) => {
    const socket = connectTls({
      host: "127.0.0.1",
      port: listener.acceptor.port,
      ca: ours.ca,
      minVersion: version,
      maxVersion: version,
      ALPNProtocols: ["h2"],
      ciphers: "DEFAULT@SECLEVEL=0",
    });
    socket.on("secureConnect", () => {
      resolve(`${socket.getProtocol() ?? ""} ${String(socket.alpnProtocol)}`);
      socket.destroy();
    });
    socket.on("error", (error: NodeJS.ErrnoException) => resolve(error.code ?? error.message));
  });
}

test.each<{ version: SecureVersion; want: RegExp }>([
  { version: "TLSv1.3", want: /^TLSv1\.3 h2$/ },
  { version: "TLSv1.2", want: /^TLSv1\.2 h2$/ },
  { version: "TLSv1.1", want: /^(?!TLS)/ },
])("$version ends as $want", async ({ version, want }) => {
  expect(await handshake(await started(server), version)).toMatch(want);
});

test("calls go over TLS; a client that trusts another authority does not connect", async () => {
  const listener = await started(server);
  expect(await query(listener, ours.ca)).toBe(0);
  expect(await query(listener, theirs.ca)).toBe(14);
});

test("mutual TLS takes our clients, and neither strangers nor those without a certificate", async () => {
  const listener = await started({ ...server, clientCaFile: ours.caFile });
  expect(await query(listener, ours.ca, client)).toBe(0);
  expect(await query(listener, ours.ca)).toBe(14);
  expect(await query(listener, ours.ca, stranger)).toBe(14);
});

test("certificates are read again on reload; a half-written pair is refused and the old one stays", async () => {
  const files = { certFile: join(folder, "live.pem"), keyFile: join(folder, "live.key") };
  copyFileSync(server.certFile, files.certFile);
  copyFileSync(server.keyFile, files.keyFile);
  const warnings: string[] = [];
  const listener = await started(files, warnings);
  expect(await query(listener, ours.ca)).toBe(0);

  copyFileSync(stranger.certFile, files.certFile);
  listener.acceptor.reloadTls();
  expect(warnings).toEqual(["certificate reload failed, keeping the current certificates"]);
  expect(await query(listener, ours.ca)).toBe(0);

  writeFileSync(files.certFile, "-----BEGIN NOTHING-----\n");
  listener.acceptor.reloadTls();
  expect(warnings.length).toBe(2);
  expect(await query(listener, ours.ca)).toBe(0);

  copyFileSync(stranger.certFile, files.certFile);
  copyFileSync(stranger.keyFile, files.keyFile);
  listener.acceptor.reloadTls();
  expect(await query(listener, theirs.ca)).toBe(0);
});

test("a file that is not there is named", async () => {
  await expect(started({ certFile: join(folder, "none.pem"), keyFile: server.keyFile })).rejects.toThrow(/none\.pem/);
});
