/** The certificate of a SPIFFE agent: which identity is kept, and what happens without an agent. */
import { createPrivateKey, X509Certificate } from "node:crypto";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer, type ServerHttp2Session, type ServerHttp2Stream } from "node:http2";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { create, toBinary } from "@bufbuild/protobuf";
import { afterAll, expect, test } from "vitest";
import { X509SVIDResponseSchema } from "../../../gen/spiffe/workload/workload_pb.js";
import type { Settings } from "../../../src/config/settings.ts";
import { certificatesIn } from "../../../src/lib/certificates/roots.io.ts";
import type { IdentityRole } from "../../../src/lib/certificates/spiffe.ts";
import type { Log, LogFields } from "../../../src/lib/log.io.ts";
import { makeIntermediate, makeRoot } from "../../../src/node/identity/ca.io.ts";
import { IdentityDirectory } from "../../../src/node/identity/directory.io.ts";
import { withIdentity } from "../../../src/node/identity/node-certificate.io.ts";
import { fetchFirst, SpireSource } from "../../../src/node/identity/spire.io.ts";
import { TestKey, TestRoot } from "../../fakes/identity.ts";
import { SETTINGS } from "../../fakes/options.ts";
import { until } from "../../fakes/until.ts";

const folder = mkdtempSync(join(tmpdir(), "waymark-spire-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const root = new TestRoot();

interface Given {
  readonly name?: string;
  readonly role?: IdentityRole;
  readonly lifeMs?: number;
}

type Svid = ReturnType<typeof identity>;

/** An identity as an agent gives it. */
function identity({ role = "node", name = "a", lifeMs = 3_600_000 }: Given = {}) {
  const key = new TestKey();
  const madeWallMs = Date.now();
  const issuer = root.issuer("agent", "eu");
  const pem = issuer.certify({ role, name, publicKey: key.publicKey, dnsNames: [], madeWallMs, expiresWallMs: madeWallMs + lifeMs });
  const x509Svid = Buffer.concat(certificatesIn(pem).map(({ raw }) => raw));
  const x509SvidKey = createPrivateKey(key.pem).export({ format: "der", type: "pkcs8" });
  const spiffeId = `spiffe://waymark.test/waymark/cluster/eu/${role}/${name}`;
  return { spiffeId, x509Svid, x509SvidKey, bundle: new X509Certificate(root.certificate).raw };
}

/** Runs `use` while an agent answers every call with these identities. */
async function withAgent(path: string, svids: readonly Svid[] | Uint8Array, use: () => Promise<void>): Promise<void> {
  const message =
    svids instanceof Uint8Array ? svids : toBinary(X509SVIDResponseSchema, create(X509SVIDResponseSchema, { svids: [...svids] }));
  const frame = Buffer.concat([Buffer.alloc(5), message]);
  frame.writeUInt32BE(message.length, 1);
  const server = createServer();
  const sessions = new Set<ServerHttp2Session>();
  server.on("session", (session) => sessions.add(session));
  server.on("stream", (stream: ServerHttp2Stream, headers) => {
    const isWorkload = headers[":path"] === "/SpiffeWorkloadAPI/FetchX509SVID" && headers["workload.spiffe.io"] === "true";
    stream.respond({ ":status": 200, "content-type": "application/grpc", ...(!isWorkload && { "grpc-status": "3" }) });
    if (isWorkload) stream.write(frame);
    else stream.end();
    stream.on("error", () => {});
  });
  server.listen(path);
  await once(server, "listening");
  try {
    await use();
  } finally {
    server.close();
    for (const session of sessions) session.destroy();
    await once(server, "close");
  }
}

/** Collects the reasons of warnings. */
class WarningLog implements Log {
  readonly reasons: unknown[] = [];
  readonly trace = () => {};
  readonly debug = () => {};
  readonly info = () => {};
  readonly error = () => {};
  isEnabled(): boolean {
    return true;
  }
  child(): Log {
    return this;
  }
  warn({ why }: LogFields): void {
    this.reasons.push(why);
  }
}

let count = 0;

type Choices = { readonly [G in "node" | "resolver"]?: Partial<Settings[G]> };

function home({ node, resolver }: Choices = {}) {
  const dataDir = join(folder, `n${count++}`);
  const spireSocket = `${dataDir}.sock`;
  const settings: Settings = {
    ...SETTINGS,
    identity: { ...SETTINGS.identity, source: "spire", spireSocket },
    persistence: { ...SETTINGS.persistence, ephemeral: false, dataDir },
    node: { ...SETTINGS.node, mode: "node", id: undefined, ...node },
    fabric: { ...SETTINGS.fabric, certFile: undefined, keyFile: undefined, caFile: undefined },
    resolver: { ...SETTINGS.resolver, ...resolver },
  };
  const origins = new Map([["node.cluster_id", node?.clusterId === undefined ? "default" : "file"]]);
  const fetch = () => fetchFirst(settings, origins, Date.now());
  return { settings, fetch, spireSocket, own: new IdentityDirectory(dataDir) };
}

test("a node keeps its first identity with the chain and the roots, and starts with it without the agent", async () => {
  const { fetch, spireSocket, own } = home();
  const [given, other] = [identity(), identity({ role: "client" })];
  await withAgent(spireSocket, [other, given], fetch);
  expect(own.read()).toMatchObject({ role: "node", name: "a", clusterId: "eu", trustDomain: "waymark.test" });
  expect(
    certificatesIn(own.nodePem.toString())
      .map(({ raw }) => raw.length)
      .reduce((a, b) => a + b),
  ).toBe(given.x509Svid.length);
  expect(own.roots.toString()).toBe(root.certificate);
  await fetch();
});

test.each<{ readonly what: string; readonly caFile?: string }>([{ what: "the agent" }, { what: "a file", caFile: "ca.pem" }])(
  "a resolver presents its identity to its upstreams, and verifies them with roots of $what",
  async ({ caFile }) => {
    const { settings, fetch, spireSocket, own } = home({ node: { mode: "resolver" }, resolver: { tlsCaFile: caFile } });
    await withAgent(spireSocket, [identity({ role: "resolver" })], fetch);
    const { node, resolver } = withIdentity(settings, new Map());
    expect(node).toMatchObject({ id: "a", clusterId: "eu" });
    const { nodeFile: tlsCertFile, nodeFile: tlsKeyFile, rootsFile } = own;
    expect(resolver).toMatchObject({ tls: true, tlsCertFile, tlsKeyFile, tlsCaFile: caFile ?? rootsFile });
    const twice = { ...settings, resolver: { ...settings.resolver, tlsCertFile: "c", tlsKeyFile: "k" } };
    expect(() => withIdentity(twice, new Map())).toThrow(/^resolver\.tls_cert_file: .* "spire" .* remove resolver\.tls_cert_file$/);
  },
);

test.each([
  { what: "a message that is none", svids: Buffer.from("none"), want: /: the answer from the agent cannot be read$/ },
  { what: "no identity", svids: [], want: /^identity\.spire_socket: .*got none$/ },
  { what: "the identity of a client", svids: [identity({ role: "client" })], want: /got spiffe:\/\/waymark\.test\/.*\/client\/a$/ },
  {
    what: "a key that is none",
    svids: [{ ...identity(), x509SvidKey: Buffer.from("key") }],
    want: /: the private key from the agent cannot be read$/,
  },
  {
    what: "another key",
    svids: [{ ...identity(), x509SvidKey: identity().x509SvidKey }],
    want: /must contain a private key and its certificate/,
  },
  {
    what: "a cut chain",
    svids: [{ ...identity(), x509Svid: identity().x509Svid.subarray(0, -1) }],
    want: /^identity\.spire_socket: .*: certificate 2 of the chain from the agent cannot be read$/,
  },
  {
    what: "a root that is none",
    svids: [{ ...identity(), bundle: Buffer.from("root") }],
    want: /^identity\.spire_socket: .*: certificate 1 of the roots from the agent cannot be read$/,
  },
  { what: "no roots", svids: [{ ...identity(), bundle: Buffer.alloc(0) }], want: /^identity\.spire_socket: .*: there are no roots$/ },
  {
    what: "the identity of a resolver",
    svids: [identity({ role: "resolver" })],
    want: /must give the identity spiffe:\/\/<trust domain>\/waymark\/cluster\/<cluster>\/node\/<name>, got .*\/resolver\/a$/,
  },
  {
    what: "a certificate with another name",
    svids: [{ ...identity({ name: "b" }), spiffeId: identity().spiffeId }],
    want: /: the certificate from the agent does not have the SPIFFE id .*\/node\/a$/,
  },
  { what: "too many identities", svids: Array<Svid>(101).fill(identity()), want: /: the agent gives 101 identities, more than 100$/ },
  {
    what: "too many certificates",
    svids: [{ ...identity(), bundle: Buffer.concat(Array<Buffer>(3000).fill(identity().bundle)) }],
    want: /: the answer from the agent has \d{7} bytes, more than 524288$/,
  },
])("a node does not start with $what, and keeps no file", async ({ svids, want }) => {
  const { fetch, spireSocket, own } = home();
  await withAgent(spireSocket, svids, () => expect(fetch()).rejects.toThrow(want));
  expect(own.hasIdentity).toBe(false);
});

test("without an agent, a node does not start with a certificate that has ended, nor without one", async () => {
  const { fetch, spireSocket } = home();
  await expect(fetch()).rejects.toThrow(/^identity\.spire_socket: .*\.sock: connect ENOENT/);
  await withAgent(spireSocket, [identity({ lifeMs: -1000 })], fetch);
  await expect(fetch()).rejects.toThrow(/connect ENOENT/);
});

test.each([
  { what: "name", node: { id: "b" }, want: /\/cluster\/<cluster>\/node\/b, got .*\/node\/a$/ },
  { what: "cluster", node: { clusterId: "us" }, want: /\/cluster\/us\/node\/<name>, got .*\/cluster\/eu\/node\/a$/ },
])("a node whose settings contain another $what keeps no file", async ({ node, want }) => {
  const { fetch, spireSocket, own } = home({ node });
  await withAgent(spireSocket, [identity()], () => expect(fetch()).rejects.toThrow(want));
  expect(own.hasIdentity).toBe(false);
});

test("of several identities, a node keeps the one that its settings name", async () => {
  const { fetch, spireSocket, own } = home({ node: { id: "b", clusterId: "eu" } });
  await withAgent(spireSocket, [identity({ role: "resolver", name: "b" }), identity(), identity({ name: "b" })], fetch);
  expect(own.read()).toMatchObject({ role: "node", name: "b" });
});

test("an issuer keeps its own certificate", async () => {
  const { fetch, spireSocket, own, settings } = home();
  const { dataDir } = settings.persistence;
  makeRoot(`${dataDir}-ca`, "waymark.test", Date.now());
  makeIntermediate(`${dataDir}-ca`, { clusterId: "eu", nodeId: "a" }, dataDir, Date.now());
  await withAgent(spireSocket, [identity()], () => expect(fetch()).rejects.toThrow(/"spire", so this node cannot be an issuer/));
  expect(own.hasIdentity).toBe(false);
});

test("a running node refuses the identity of another node, logs each reason once, and keeps its own next identity", async () => {
  const { fetch, spireSocket, own, settings } = home();
  const log = new WarningLog();
  let keptCount = 0;
  await withAgent(spireSocket, [identity()], fetch);
  const first = own.nodePem.toString();
  const source = new SpireSource({ settings: withIdentity(settings, new Map()), log, random: () => 0 });
  source.onKept = () => void keptCount++;
  source.start();
  await until("the agent is missed", () => log.reasons.length === 1);
  await withAgent(spireSocket, [identity({ name: "b" })], () => until("it is refused", () => log.reasons.length === 2));
  expect(log.reasons[1]).toMatch(
    /^identity\.spire_socket: .*: the agent must give the identity .*\/cluster\/eu\/node\/a, got .*\/node\/b$/,
  );
  expect(own.nodePem.toString()).toBe(first);
  await withAgent(spireSocket, [identity()], () => until("it is kept", () => keptCount === 1));
  source.stop();
  expect(own.nodePem.toString()).not.toBe(first);
});
