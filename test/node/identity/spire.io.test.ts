/** The certificate of a SPIFFE agent: which identity is kept, and what happens without an agent. */
import { createPrivateKey, X509Certificate } from "node:crypto";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer, type ServerHttp2Stream } from "node:http2";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { create, toBinary } from "@bufbuild/protobuf";
import { afterAll, expect, test } from "vitest";
import { X509SVIDResponseSchema } from "../../../gen/spiffe/workload/workload_pb.js";
import type { Settings } from "../../../src/config/settings.ts";
import { certificatesIn } from "../../../src/lib/certificates/roots.io.ts";
import type { IdentityRole } from "../../../src/lib/certificates/spiffe.ts";
import { IdentityDirectory } from "../../../src/node/identity/directory.io.ts";
import { withIdentity } from "../../../src/node/identity/node-certificate.io.ts";
import { fetchFirst } from "../../../src/node/identity/spire.io.ts";
import { TestKey, TestRoot } from "../../fakes/identity.ts";
import { SETTINGS } from "../../fakes/options.ts";

const folder = mkdtempSync(join(tmpdir(), "waymark-spire-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const root = new TestRoot();

interface Given {
  readonly role?: IdentityRole;
  readonly lifeMs?: number;
}

/** An identity as an agent gives it. */
function identity({ role = "node", lifeMs = 3_600_000 }: Given = {}) {
  const key = new TestKey();
  const madeWallMs = Date.now();
  const issuer = root.issuer("agent", "eu");
  const pem = issuer.certify({ role, name: "a", publicKey: key.publicKey, dnsNames: [], madeWallMs, expiresWallMs: madeWallMs + lifeMs });
  const x509Svid = Buffer.concat(certificatesIn(pem).map(({ raw }) => raw));
  const x509SvidKey = createPrivateKey(key.pem).export({ format: "der", type: "pkcs8" });
  const spiffeId = `spiffe://waymark.test/waymark/cluster/eu/${role}/a`;
  return { spiffeId, x509Svid, x509SvidKey, bundle: new X509Certificate(root.certificate).raw };
}

/** Runs `use` while an agent answers every call with these identities. */
async function withAgent(path: string, svids: readonly ReturnType<typeof identity>[], use: () => Promise<void>): Promise<void> {
  const message = toBinary(X509SVIDResponseSchema, create(X509SVIDResponseSchema, { svids: [...svids] }));
  const frame = Buffer.concat([Buffer.alloc(5), message]);
  frame.writeUInt32BE(message.length, 1);
  const server = createServer();
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
    await once(server, "close");
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
  const fetch = () => fetchFirst(settings, Date.now());
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
  { what: "no identity", svids: [], want: /^identity\.spire_socket: .*got none$/ },
  { what: "the identity of a client", svids: [identity({ role: "client" })], want: /got spiffe:\/\/waymark\.test\/.*\/client\/a$/ },
  { what: "a key that is none", svids: [{ ...identity(), x509SvidKey: Buffer.from("key") }], want: /^identity\.spire_socket: / },
  {
    what: "another key",
    svids: [{ ...identity(), x509SvidKey: identity().x509SvidKey }],
    want: /must contain a private key and its certificate/,
  },
  { what: "a cut chain", svids: [{ ...identity(), x509Svid: identity().x509Svid.subarray(0, -1) }], want: /^identity\.spire_socket: / },
  { what: "no roots", svids: [{ ...identity(), bundle: Buffer.alloc(0) }], want: /^identity\.spire_socket: / },
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
