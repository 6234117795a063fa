/** Authorities, issuers and identities in files: what `waymark ca` writes, and what a node starts with. */
import { X509Certificate } from "node:crypto";
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterAll, expect, test } from "vitest";
import type { Settings } from "../../../src/config/settings.ts";
import { REVOCATIONS } from "../../../src/control/identity/records.ts";
import { TrustCopy } from "../../../src/control/identity/trust.ts";
import { serverNameOf } from "../../../src/lib/certificates/server-names.ts";
import { P256PrivateKey } from "../../../src/lib/crypto.ts";
import { makeIntermediate, makeRoot, openIssuer } from "../../../src/node/identity/ca.io.ts";
import { IdentityDirectory } from "../../../src/node/identity/directory.io.ts";
import { withIdentity } from "../../../src/node/identity/node-certificate.io.ts";
import { TestKey, TestRoot } from "../../fakes/identity.ts";
import { SETTINGS } from "../../fakes/options.ts";

const folders: string[] = [];
afterAll(() => {
  for (const folder of folders) rmSync(folder, { recursive: true, force: true });
});

type Choices = { readonly [G in "fabric" | "identity" | "node"]?: Partial<Settings[G]> };

/** A directory with a root, and a data directory with an issuer of `eu-1`. */
function home({ isIssuer = true } = {}) {
  const folder = mkdtempSync(join(tmpdir(), "waymark-ca-"));
  folders.push(folder);
  const [directory, dataDir] = [join(folder, "ca"), join(folder, "data")];
  const facts = makeRoot(directory, "waymark.test", Date.now());
  const makeIssuer = (name = "eu-1") => makeIntermediate(directory, { clusterId: "eu", nodeId: name }, dataDir, Date.now());
  if (isIssuer) makeIssuer();
  const settings = ({ fabric, identity, node }: Choices = {}): Settings => ({
    ...SETTINGS,
    persistence: { ...SETTINGS.persistence, ephemeral: false, dataDir },
    identity: { ...SETTINGS.identity, ...identity },
    fabric: { ...SETTINGS.fabric, certFile: undefined, keyFile: undefined, caFile: undefined, seeds: [], ...fabric },
    node: { ...SETTINGS.node, mode: "node", id: undefined, ...node },
  });
  const own = new IdentityDirectory(dataDir);
  const started = (choices: Choices = {}, ...origins: readonly [string, string][]) => withIdentity(settings(choices), new Map(origins));
  return { folder, directory, dataDir, facts, makeIssuer, settings, own, started };
}

/** Keeps the certificate of a client in the data directory. */
function keepClient(own: IdentityDirectory): void {
  const [root, key] = [new TestRoot(), own.nextKey()];
  const { publicKey } = new P256PrivateKey(key);
  const times = { madeWallMs: Date.now(), expiresWallMs: Date.now() + 60_000 };
  const certificates = root.issuer("eu-1", "eu").certify({ role: "client", name: "billing", publicKey, dnsNames: [], ...times });
  own.keepRoots(root.certificate);
  own.keep(key, certificates);
}

test("an issuer makes its own certificate, with the name that only issuers have, and its node starts with it", () => {
  const { started, own, dataDir, facts, settings } = home();
  const { node, fabric } = started();
  expect([node.id, node.clusterId, fabric.certFile, fabric.keyFile, fabric.caFile]).toEqual([
    "eu-1",
    "eu",
    own.nodeFile,
    own.nodeFile,
    own.rootsFile,
  ]);
  const read = new X509Certificate(readFileSync(own.nodeFile));
  expect(read.subjectAltName).toBe(`URI:spiffe://waymark.test/waymark/cluster/eu/node/eu-1, DNS:${serverNameOf("eu", "issuer")}`);
  expect(openIssuer(settings())?.facts).toMatchObject({
    rootDigest: facts.digest,
    clusterId: "eu",
    nodeId: "eu-1",
    trustDomain: "waymark.test",
  });
  // Private keys are for this user alone.
  const modes = readdirSync(join(dataDir, "identity")).map((file) => statSync(join(dataDir, "identity", file)).mode & 0o777);
  expect(new Set(modes)).toEqual(new Set([0o600]));
  expect(started({ node: { id: "eu-1" } }).fabric.certFile).toBe(own.nodeFile);
});

test.each<{ readonly what: string; readonly choices: Choices; readonly isIssuer: boolean }>([
  { what: "no identity", choices: {}, isIssuer: false },
  { what: "certificates from files", choices: { identity: { source: "files" } }, isIssuer: true },
  { what: "a fabric certificate of its own", choices: { fabric: { certFile: "c", keyFile: "k", caFile: "r" } }, isIssuer: true },
  { what: "no identity and the mode resolver", choices: { node: { mode: "resolver" } }, isIssuer: false },
])("the settings of a node with $what stay as they are", ({ choices, isIssuer }) => {
  const { started, settings } = home({ isIssuer });
  expect(started(choices)).toEqual(settings(choices));
});

test.each<{ readonly what: string; readonly choices?: Choices; readonly isIssuer?: boolean; readonly want: RegExp }>([
  {
    what: "no identity",
    choices: { identity: { source: "mesh" } },
    isIssuer: false,
    want: /contains no identity: run "waymark mesh join"/,
  },
  { what: "the mode resolver", choices: { node: { mode: "resolver" } }, want: /belongs to the node eu-1, not to a resolver/ },
  { what: "another name", choices: { node: { id: "eu-9" } }, want: /is for node eu-1 of cluster eu, and node\.id is eu-9/ },
  {
    what: "two certificates",
    choices: { identity: { source: "mesh" }, fabric: { certFile: "c", keyFile: "k" } },
    want: /remove fabric\.cert_file/,
  },
])("a node with $what does not start", ({ choices = {}, isIssuer = true, want }) => {
  const { started } = home({ isIssuer });
  expect(() => started(choices)).toThrow(want);
});

test("a node does not start with the cluster or the name of another identity", () => {
  const { started } = home();
  started();
  const other = { node: { clusterId: "us" } };
  expect(() => started(other, ["node.cluster_id", "file"])).toThrow(/node\.cluster_id is us, but .* belongs to cluster eu/);
  expect(started(other, ["node.cluster_id", "default"]).node.clusterId).toBe("eu");
});

test("nothing replaces a root, and a root's certificate and key belong together", () => {
  const { directory, makeIssuer, own } = home();
  expect(() => makeRoot(directory, "waymark.test", Date.now())).toThrow(/root-key\.pem exists already/);
  const before = readFileSync(own.issuerFile, "utf8");
  writeFileSync(join(directory, "root-key.pem"), new TestKey().pem);
  expect(() => makeIssuer()).toThrow(/root-key\.pem is not the key of .*root\.pem/);
  writeFileSync(join(directory, "root-key.pem"), "x");
  expect(() => makeIssuer()).toThrow(/must contain a private key on the curve P-256/);
  expect(readFileSync(own.issuerFile, "utf8")).toBe(before);
});

test.each<{ readonly what: string; readonly change: (own: IdentityDirectory) => void; readonly want: RegExp }>([
  {
    what: "the key of another issuer",
    change: ({ issuerKeyFile }) => writeFileSync(issuerKeyFile, new TestKey().pem),
    want: /identity\.issuer_key_file: .* is not the key of/,
  },
  {
    what: "no root",
    change: ({ issuerFile }) => writeFileSync(issuerFile, new X509Certificate(readFileSync(issuerFile)).toString()),
    want: /must contain the issuing certificate, followed by its root/,
  },
  {
    what: "another root",
    change: ({ issuerFile }) => {
      const own = new X509Certificate(readFileSync(issuerFile)).toString();
      writeFileSync(issuerFile, own + new TestRoot().certificate);
    },
    want: /the second certificate has not issued the first/,
  },
])("an issuer with $what does not open", ({ change, want }) => {
  const { own, settings } = home();
  change(own);
  expect(() => openIssuer(settings())).toThrow(want);
});

test("the key of the next certificate is on disk until its certificate is kept", () => {
  const { own, started } = home();
  const key = own.nextKey();
  expect(own.nextKey().equals(key)).toBe(true);
  started();
  expect(new X509Certificate(readFileSync(own.nodeFile)).checkPrivateKey(key)).toBe(true);
  expect(own.nextKey().equals(key)).toBe(false);
});

test("records that are no text come back from disk, and a damaged file is named", () => {
  const { own } = home();
  const copies = new Map(["eu", "us"].map((id) => [id, own.readTrust("eu").get(id) ?? new TrustCopy(id, REVOCATIONS)]));
  const bad = [{ key: "trust/revocations/name/node/x", value: Uint8Array.of(0xff, 0x22, 0x7d) }];
  for (const copy of copies.values()) copy.apply(bad);
  own.keepTrust(copies);
  const kept = own.readTrust("eu");
  expect([...kept].map(([id, { revocations }]) => [id, [...revocations.names]])).toEqual([
    ["eu", [["eu/node/x", Number.POSITIVE_INFINITY]]],
    ["us", [["us/node/x", Number.POSITIVE_INFINITY]]],
  ]);
  writeFileSync(join(dirname(own.nodeFile), "trust.json"), "{");
  expect(() => own.readTrust("eu")).toThrow(/^identity: .*trust\.json is damaged; remove it/);
});

test("a node does not start with the certificate of a client", () => {
  const { own, started } = home({ isIssuer: false });
  keepClient(own);
  expect(() => started()).toThrow(/belongs to the client billing, not to a node/);
});
