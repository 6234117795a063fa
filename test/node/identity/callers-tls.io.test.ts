/** The certificate of an issuer on the listeners for callers (`tls.source = "identity"`), with real files and TLS sockets. */
import { generateKeyPairSync } from "node:crypto";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type ConnectionOptions, connect, type TLSSocket } from "node:tls";
import { afterAll, expect, test } from "vitest";
import { loadConfig } from "../../../src/config/load.ts";
import type { Settings } from "../../../src/config/settings.ts";
import { Authority } from "../../../src/control/identity/authority.io.ts";
import { type FileAcceptor, openFileAcceptor } from "../../../src/grpc/server/tls-files.io.ts";
import { signCertificate } from "../../../src/lib/certificates/certificate.ts";
import { P256PrivateKey } from "../../../src/lib/crypto.ts";
import type { Log } from "../../../src/lib/log.io.ts";
import { Metrics } from "../../../src/lib/metrics/metrics.ts";
import { tlsFiles } from "../../../src/node/dns/tls.io.ts";
import { makeIntermediate, makeRoot, openIssuer } from "../../../src/node/identity/ca.io.ts";
import { keyPem } from "../../../src/node/identity/directory.io.ts";
import { openNodeCertificate, withIdentity } from "../../../src/node/identity/node-certificate.io.ts";
import { identifyPeer } from "../../../src/server/peer.io.ts";
import { openMemoryStore } from "../../../src/store/control/sqlite.io.ts";
import { newAuthority } from "../../fakes/certificate.ts";

const folder = mkdtempSync(join(tmpdir(), "waymark-callers-tls-"));
afterAll(() => rmSync(folder, { recursive: true }));

/** The data directory of a node that is the first issuer of cluster c1. */
function issuerDirectory(name: string): string {
  const dataDir = join(folder, name);
  const directory = join(folder, `${name}-ca`);
  makeRoot(directory, "prod.example", Date.now());
  makeIntermediate(directory, { clusterId: "c1", nodeId: "n1" }, dataDir, Date.now());
  return dataDir;
}

function settingsOf(data_dir: string, more: object = {}): Settings {
  const text = JSON.stringify({ tls: { source: "identity" }, persistence: { data_dir }, ...more });
  const loaded = loadConfig({ file: { name: "node.json", text, format: "json" }, env: {}, flags: new Map() });
  if (!loaded.ok) throw new Error(JSON.stringify(loaded.problems));
  return loaded.effective.settings;
}

const found = (dataDir: string, more?: object): Settings => withIdentity(settingsOf(dataDir, more), new Map());

function listenerOf(settings: Settings): Promise<FileAcceptor> {
  return openFileAcceptor({
    host: "127.0.0.1",
    port: 0,
    portFlag: "--port",
    tls: tlsFiles(settings),
    protocols: [],
    maxConnections: 16,
    onConnection: (socket) => {
      const { certificate } = identifyPeer(socket, socket);
      socket.write(certificate === undefined ? "anonymous" : certificate.isTrusted ? certificate.alternativeNames : certificate.why);
    },
    onReload: () => {},
    onReloadFailed: (error) => {
      throw error;
    },
  });
}

interface Asked {
  readonly text: string;
  readonly socket: TLSSocket;
}

/** The answer of the listener, or the error of the client. */
function ask({ port }: FileAcceptor, options: ConnectionOptions): Promise<Asked> {
  const { promise, resolve } = Promise.withResolvers<Asked>();
  const socket = connect({ host: "127.0.0.1", port, ...options });
  socket.once("data", (bytes: Buffer) => resolve({ text: String(bytes), socket }));
  socket.on("error", ({ message }: Error) => resolve({ text: message, socket }));
  return promise;
}

function close(listener: FileAcceptor): void {
  listener.close();
  for (const socket of listener.sockets) socket.destroy();
}

test.each([
  { what: "no identity", more: {}, says: /tls\.source is "identity", but .* contains no identity: run "waymark mesh join" first/ },
  {
    what: "a fabric certificate from files",
    more: { fabric: { cert_file: "c", key_file: "k", ca_file: "a" } },
    says: /tls\.source is "identity", but fabric\.cert_file is the certificate of this node/,
  },
])("a node with $what does not start", ({ more, says }) => {
  expect(() => found(join(folder, "empty"), more)).toThrow(says);
  expect(existsSync(join(folder, "empty"))).toBe(false);
});

test("only an issuer chooses its names", () => {
  const dataDir = issuerDirectory("no-issuer");
  found(dataDir);
  rmSync(join(dataDir, "identity", "issuer.pem"));
  expect(() => found(dataDir, { identity: { names: ["a.example"] } })).toThrow(/identity\.names: only an issuer chooses its names/);
});

test("clients verify the node by its names and addresses; their certificates are optional, and count with the roots of the cluster", async () => {
  const dataDir = issuerDirectory("named");
  const settings = found(dataDir, { identity: { names: ["a.example", "127.0.0.1"] } });
  const { certFile, keyFile, caFile } = settings.tls;
  expect([certFile, keyFile, caFile]).toEqual([settings.fabric.certFile, settings.fabric.keyFile, settings.fabric.caFile]);
  const issuer = openIssuer(settings);
  if (issuer === undefined || caFile === undefined) throw new Error("the node is no issuer");
  const ca = readFileSync(caFile);
  const { privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  const [key, { publicKey }] = [keyPem(privateKey), new P256PrivateKey(privateKey)];
  const times = { madeWallMs: Date.now(), expiresWallMs: Date.now() + 60_000 };
  const cert = issuer.certify({ role: "client", name: "billing", publicKey, dnsNames: [], ...times });
  const { facts } = issuer;
  const forged = signCertificate(
    {
      kind: "leaf",
      subject: { unit: "c2", name: "billing" },
      publicKey,
      serial: Uint8Array.of(1),
      notBeforeWallMs: times.madeWallMs - 60_000,
      notAfterWallMs: times.expiresWallMs,
      uri: "spiffe://prod.example/waymark/cluster/c2/client/billing",
      dnsNames: [],
    },
    { subject: { unit: "c1", name: "n1", serial: issuer.keyId }, key: facts.key },
  );
  const listener = await listenerOf(settings);
  const said = async (options: ConnectionOptions) => (await ask(listener, { ca, ...options })).text;
  expect([await said({}), await said({ servername: "a.example" })]).toEqual(["anonymous", "anonymous"]);
  expect(await said({ servername: "b.example" })).toContain("b.example. is not in the cert's altnames");
  expect(await said({ host: "localhost" })).toContain("localhost. is not in the cert's altnames");
  expect(await said({ ca: newAuthority().cert })).toMatch(/self-signed certificate|unable to/);
  expect(await said({ cert, key })).toBe("URI:spiffe://prod.example/waymark/cluster/c1/client/billing");
  expect(await said(newAuthority().issue("stranger"))).toMatch(/UNABLE_TO_|SELF_SIGNED/);
  expect(await said({ cert: forged + facts.certificate, key })).toBe("an issuer of the cluster c1 made it, and may name that cluster only");
  close(listener);
});

test("an issuer with a new name renews its certificate, and the listeners use it without ending connections", async () => {
  const dataDir = issuerDirectory("renamed");
  found(dataDir, { identity: { names: ["old.example"] } });
  const settings = found(dataDir, { identity: { names: ["new.example"] } });
  const ca = readFileSync(settings.tls.caFile ?? "");
  const listener = await listenerOf(settings);
  const first = await ask(listener, { ca, servername: "old.example" });
  const warned: string[] = [];
  const log: Log = {
    child: () => log,
    isEnabled: () => true,
    trace: () => {},
    debug: () => {},
    info: () => {},
    warn: (_fields, event) => void warned.push(event),
    error: () => {},
  };
  const identity = openNodeCertificate({ settings, log, metrics: new Metrics(), random: () => 0.5 });
  const store = openMemoryStore();
  const { issuer } = identity ?? {};
  if (issuer !== undefined) identity?.setAuthority(new Authority({ store, issuer, leafTtlMs: 86_400_000, renewAfterEndMs: 0 }));
  const renewed = Promise.withResolvers<void>();
  identity?.serve("127.0.0.1:1", renewed.resolve);
  identity?.start();
  await expect
    .poll(
      async () => {
        listener.reloadTls();
        return (await ask(listener, { ca, servername: "new.example" })).text;
      },
      { timeout: 30_000 },
    )
    .toBe("anonymous");
  await renewed.promise;
  expect(first.socket.destroyed).toBe(false);
  expect(warned.join("\n")).toContain("clients refuse this node: its certificate does not contain the host that they dial");
  identity?.stop();
  close(listener);
});
