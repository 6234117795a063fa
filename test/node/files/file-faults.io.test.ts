import { execFileSync } from "node:child_process";
import { X509Certificate } from "node:crypto";
import {
  chmodSync,
  closeSync,
  constants,
  existsSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { announcementPem } from "../../../src/signing/codec.ts";
import { newAuthority } from "../../fakes/certificate.ts";
import { waymark } from "../../fakes/cli-world.ts";
import { announcedKey, signingKey, signingPem } from "../../fakes/signing-keys.ts";

const folder = mkdtempSync(join(tmpdir(), "waymark-files-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function file(name: string, text: string): string {
  const path = join(folder, name);
  writeFileSync(path, text);
  return path;
}

const authority = newAuthority();
const [one, other] = [authority.issue("one"), authority.issue("other")];
const node = authority.issue("n1", { uris: ["spiffe://t.example/waymark/cluster/local/node/n1"] });
const old = authority.issue("old", { endsInMs: -60_000 });
const FILES = {
  cert: file("cert.pem", one.cert),
  key: file("key.pem", one.key),
  ca: file("ca.pem", authority.cert),
  nodeCert: file("node-cert.pem", node.cert),
  nodeKey: file("node-key.pem", node.key),
  oldCert: file("old-cert.pem", old.cert),
  oldKey: file("old-key.pem", old.key),
  otherKey: file("other.pem", other.key),
  token: file("token", "a-token-long-enough-1\n"),
  short: file("short", "SECRET\n"),
  words: file("words", "SECRET of two words\n"),
  keys: file("keys.json", '{ "keys": [] }'),
  policy: file("policy.yaml", "version: one\nrules: []\n"),
  policyWords: file("words.yaml", "allow: everybody\n"),
};
for (const path of [FILES.key, FILES.nodeKey, FILES.oldKey]) chmodSync(path, 0o600);
const OF_NODE = { cert_file: FILES.nodeCert, key_file: FILES.nodeKey, ca_file: FILES.ca };
const SHA = "a".repeat(64);
const JWT = { issuer: "https://issuer.example", audience: "waymark" };
const absent = join(folder, "absent");
const own = (name: string, text: string) => {
  const path = file(name, text);
  chmodSync(path, 0o600);
  return path;
};
const SIGNING = own("signing.pem", signingPem(1));
/** A file of a key, with the block in which key 1 announces key 2 of a cluster. */
const announcing = (cluster: string, holds = 1) => {
  const announced = announcedKey({ cluster, key: signingKey(2), by: signingKey(1), notBeforeWallMs: 1, notAfterWallMs: 2 });
  return own(`announcing-${cluster}-${holds}.pem`, signingPem(holds) + announcementPem(announced));
};
const [OF_OTHER, OF_LOCAL, ANNOUNCED] = [announcing("us1"), announcing("local"), announcing("local", 2)];
const SMALL_ORDER = `${"A".repeat(43)}=`;
const keyRow = (number: number, more: object = {}) => ({
  cluster_id: "us1",
  region: "us",
  public_key: Buffer.from(signingKey(number).publicKey.raw).toString("base64"),
  ...more,
});
const summary = (signing_key_file: string, ...keys: readonly object[]) => ({ summary: { signing_key_file, keys } });
const etcd = (store: object) => ({ store: { kind: "etcd", endpoints: ["127.0.0.1:1"], ...store } });
const borders = (...trusts: readonly object[]) => ({
  fabric: { borders: trusts.map((trust, i) => ({ cluster_id: `us${i + 1}`, region: "us", trust })) },
});
/** Borders with these keys. */
const keyed = (...rows: readonly (readonly object[])[]) => ({
  fabric: {
    borders: rows.map((keys, i) => ({
      cluster_id: `us${i + 1}`,
      region: "us",
      trust: { token_file: FILES.token },
      keys: keys.map((row) => ("public_key" in row ? row.public_key : row)),
    })),
  },
});
const upstream = (resolver: object) => ({ node: { mode: "resolver" }, resolver: { upstreams: ["127.0.0.1:1"], ...resolver } });

test.each([
  { settings: { dns: { enabled: true, dnssec_key_file: absent } }, says: [`dns.dnssec_key_file: ${absent}: ENOENT`] },
  {
    settings: { dns: { enabled: true, dnssec_key_file: FILES.cert } },
    says: [`dns.dnssec_key_file: invalid file ${FILES.cert}: expected`],
  },
  {
    settings: { dns: { enabled: true, cookie_secret_file: FILES.short } },
    says: [`dns.cookie_secret_file: invalid file ${FILES.short}: expected`],
  },
  {
    settings: { dns: { enabled: true, transfer_keys: [{ name: "k", secret_file: FILES.short }] } },
    says: ["dns.transfer_keys[0].secret_file: "],
  },
  { settings: { fabric: { cluster_token_file: absent } }, says: [`fabric.cluster_token_file: ${absent}: ENOENT`] },
  { settings: { fabric: { cluster_token_file: FILES.short } }, says: ["fabric.cluster_token_file: ", "16 to 1024"] },
  {
    settings: { tls: { cert_file: absent, key_file: absent } },
    says: [`tls.cert_file: ${absent}: ENOENT`, `tls.key_file: ${absent}: ENOENT`],
  },
  { settings: { tls: { cert_file: FILES.cert, key_file: FILES.key, ca_file: absent } }, says: [`tls.ca_file: ${absent}: ENOENT`] },
  {
    settings: { tls: { cert_file: FILES.cert, key_file: FILES.key, ca_file: FILES.cert, crl_file: FILES.words } },
    says: ["tls.crl_file: ", "contains no certificate revocation list"],
  },
  { settings: { tls: { cert_file: FILES.words, key_file: FILES.key } }, says: ["tls.cert_file: ", "no certificate"] },
  { settings: { tls: { cert_file: FILES.cert, key_file: FILES.words } }, says: ["tls.key_file: ", "no unencrypted private key"] },
  { settings: { tls: { cert_file: FILES.cert, key_file: FILES.otherKey } }, says: ["tls.key_file: ", "does not match the certificate"] },
  { settings: { fabric: { cert_file: absent, key_file: FILES.key, ca_file: FILES.ca } }, says: [`fabric.cert_file: ${absent}: ENOENT`] },
  {
    settings: { fabric: { ...OF_NODE, cert_file: FILES.cert, key_file: FILES.key } },
    says: ["fabric.cert_file: ", "does not name a node"],
  },
  {
    settings: { node: { id: "n2" }, fabric: OF_NODE },
    says: ["fabric.cert_file: ", "belongs to node n1 of cluster local, but this is node n2"],
  },
  { settings: { node: { cluster_id: "c2" }, fabric: OF_NODE }, says: ["fabric.cert_file: ", "belongs to node n1 of cluster local"] },
  {
    settings: { tenants: { credentials: [{ tenant: "t", token_file: absent }] } },
    says: [`tenants.credentials[0].token_file: ${absent}: ENOENT`],
  },
  { settings: { tenants: { credentials: [{ tenant: "t", token_file: FILES.words }] } }, says: ["credentials[0].token_file: ", "one line"] },
  {
    settings: {
      tenants: {
        credentials: [
          { tenant: "t", token_sha256: SHA },
          { tenant: "u", token_sha256: SHA },
        ],
      },
    },
    says: ["tenants.credentials[1] has the same token as tenants.credentials[0]"],
  },
  { settings: { tenants: { jwt: { ...JWT, jwks_file: absent } } }, says: [`tenants.jwt.jwks_file: ${absent}: ENOENT`] },
  { settings: upstream({ token_file: absent }), says: [`resolver.token_file: ${absent}: ENOENT`] },
  { settings: upstream({ token_file: FILES.words }), says: ["resolver.token_file: ", "one line"] },
  { settings: upstream({ tls_ca_file: absent }), says: [`resolver.tls_ca_file: ${absent}: ENOENT`] },
  {
    settings: upstream({ tls: true, tls_cert_file: FILES.cert, tls_key_file: FILES.otherKey }),
    says: ["resolver.tls_key_file: ", "does not match the certificate"],
  },
  { settings: etcd({ ca_file: FILES.words }), says: [`store.ca_file: ${FILES.words} contains no certificate in PEM format`] },
  {
    settings: etcd({ cert_file: FILES.cert, key_file: FILES.otherKey }),
    says: ["store.key_file: ", "does not match the certificate"],
  },
  { settings: etcd({ user: "u", password_file: absent }), says: [`store.password_file: ${absent}: ENOENT`] },
  { settings: etcd({ user: "u", password_file: FILES.words }), says: ["store.password_file: ", "one line"] },
  { settings: { policy: { file: absent } }, says: [`policy.file: ${absent}: ENOENT`, "remove the setting"] },
  { settings: { policy: { file: FILES.policyWords } }, says: ["policy.file: ", "line 1: "] },
  { settings: { audit: { file: folder } }, says: [`audit.file: ${folder} is a directory`] },
  { settings: { audit: { file: join(absent, "a.jsonl") } }, says: [`audit.file: ${join(absent, "a.jsonl")} cannot be written: ENOENT`] },
  { settings: { tenants: { jwt: { ...JWT, jwks_file: FILES.words } } }, says: ["tenants.jwt.jwks_file: ", "is not a JWKS"] },
  {
    settings: summary(absent),
    says: [
      `summary.signing_key_file: ${absent}: file not found; create it with: openssl genpkey -algorithm ed25519 -out ${absent} && chmod 600`,
    ],
  },
  { settings: summary(FILES.words), says: ["summary.signing_key_file: ", "is open to other users (mode 644)", "chmod 600"] },
  { settings: summary(FILES.key), says: [`summary.signing_key_file: ${FILES.key} must contain exactly one Ed25519 private key`] },
  {
    settings: summary(OF_OTHER),
    says: [
      `summary.signing_key_file: ${OF_OTHER} announces a key of cluster us1, but this node belongs to cluster local (node.cluster_id): ` +
        "remove that announcement, and create it again with --cluster-id local",
    ],
  },
  {
    settings: summary(SIGNING, keyRow(2), keyRow(1)),
    says: [
      `summary.signing_key_file: ${SIGNING} contains the key that summary.keys[1] lists for cluster us1`,
      "this node belongs to cluster local (node.cluster_id)",
    ],
  },
  {
    settings: summary(absent, keyRow(1), keyRow(1), keyRow(2, { region: "ap" }), keyRow(3, { public_key: SMALL_ORDER })),
    says: [
      "summary.keys[1].public_key is the same key as summary.keys[0]",
      "summary.keys[2].region is ap, but summary.keys[0].region places cluster us1 in us",
      "summary.keys[3].public_key is not an Ed25519 public key",
      "file not found",
    ],
  },
  {
    settings: summary(SIGNING, keyRow(2, { cluster_id: "local" })),
    says: ["summary.keys[0].region is us, but node.region places cluster local in"],
  },
  {
    settings: { ...summary(SIGNING), ...keyed([keyRow(1)]) },
    says: [`summary.signing_key_file: ${SIGNING} contains the key that fabric.borders[0].keys[0] lists for cluster us1`],
  },
  {
    settings: { ...summary(SIGNING, keyRow(2, { cluster_id: "ap1" })), ...keyed([keyRow(3), keyRow(2)]) },
    says: ["fabric.borders[0].keys[1] is the same key as summary.keys[0]; a key belongs to one cluster, and can be listed only once"],
  },
  {
    settings: { ...summary(SIGNING, keyRow(2, { region: "ap" })), ...keyed([keyRow(3)]) },
    says: ["fabric.borders[0].region: is us, but summary.keys[0].region is ap for the same cluster us1"],
  },
  {
    settings: borders({ token_file: absent }, { token_file: FILES.short }),
    says: [`fabric.borders[0].trust.token_file: ${absent}: ENOENT`, "fabric.borders[1].trust.token_file: ", "16 to 1024"],
  },
  { settings: borders({ token_file: FILES.token }, { token_file: FILES.token }), says: ["has the same token as fabric.borders[0]"] },
  {
    settings: { fabric: { ...OF_NODE, ...borders({ ca_file: absent }, { ca_file: FILES.words }).fabric } },
    says: [
      `fabric.borders[0].trust.ca_file: ${absent}: ENOENT`,
      `fabric.borders[1].trust.ca_file: ${FILES.words} contains no certificate in PEM format`,
    ],
  },
])("config validate and serve refuse what a start needs and a file is not: $says", async ({ settings, says }) => {
  const files = { "node.json": JSON.stringify(settings) };
  const checked = await waymark(["config", "validate", "node.json"], { files });
  let hasStarted = false;
  const serve = async (): Promise<void> => {
    hasStarted = true;
  };
  const served = await waymark(["serve", "--ephemeral", "--config", "node.json"], { files, serve });
  expect([checked.exit, served.exit, hasStarted]).toEqual([2, 2, false]);
  for (const { stderr } of [checked, served]) {
    for (const words of says) expect(stderr).toContain(words);
    expect(stderr).not.toContain("SECRET");
  }
});

/** Files that would stop a node, or fill its memory, if they were read. */
const ENDLESS: readonly { readonly path: string; readonly says: string }[] = [
  { path: fifo("pipe"), says: "it is a named pipe; specify a regular file of at most" },
  { path: folder, says: "it is a directory; specify a regular file of at most" },
  { path: "/dev/zero", says: "it is a device; specify a regular file of at most" },
  { path: large("large"), says: "it has 1600000000 bytes; specify a regular file of at most" },
];

function fifo(name: string): string {
  const path = join(folder, name);
  execFileSync("mkfifo", [path]);
  return path;
}

/** Nothing but a hole: it takes no place on the disk. */
function large(name: string): string {
  const path = file(name, "");
  truncateSync(path, 1_600_000_000);
  return path;
}

const CSR = "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n";
const NO_AUTHORITIES: readonly { readonly what: string; readonly path: string; readonly says: string }[] = [
  { what: "a private key", path: FILES.key, says: "contains no certificate in PEM format" },
  { what: "settings", path: file("n.toml", "[node]\n"), says: "contains no certificate in PEM format" },
  { what: "a request for a certificate", path: file("csr.pem", CSR), says: "contains no certificate in PEM format" },
  { what: "nothing", path: file("empty.pem", ""), says: "contains no certificate in PEM format" },
  { what: "a certificate in DER", path: der("ca.der", authority.cert), says: "contains no certificate in PEM format" },
  {
    what: "a certificate and a broken one",
    path: file("half.pem", `${authority.cert}\n${authority.cert.replace(/\n.{20}/, "\n")}`),
    says: "contains 2 certificates in PEM format, but certificate 2 cannot be read",
  },
];

function der(name: string, pem: string): string {
  const path = file(name, "");
  writeFileSync(path, new X509Certificate(pem).raw);
  return path;
}

test.each(NO_AUTHORITIES)("a file of authorities that holds $what is refused, whichever setting names it", async ({ path, says }) => {
  for (const [setting, settings] of [
    ["tls.ca_file", { tls: { cert_file: FILES.cert, key_file: FILES.key, ca_file: path } }],
    ["fabric.ca_file", { fabric: { ...OF_NODE, ca_file: path } }],
    ["resolver.tls_ca_file", upstream({ tls_ca_file: path })],
  ] as const) {
    const files = { "node.json": JSON.stringify(settings) };
    const { exit, stderr } = await waymark(["config", "validate", "node.json"], { files });
    expect({ exit, stderr }).toEqual({ exit: 2, stderr: expect.stringContaining(`${setting}: ${path} ${says}`) as string });
  }
  const called = await waymark(["discovery", "query", "--ca", "ca.pem"], { files: { "ca.pem": readFileSync(path, "latin1") } });
  expect([called.exit, called.stderr]).toEqual([2, expect.stringContaining(says)]);
});

test.each(["words", "words/below"])("a data directory that no start can make is refused as a setting that is wrong: %s", async (name) => {
  const path = join(folder, name);
  const { exit, stderr } = await waymark(["serve", "--data-dir", path]);
  expect({ exit, stderr }).toEqual({
    exit: 2,
    stderr: `error: persistence.data_dir: ${path}: ${FILES.words} is not a directory: set another directory (flag --data-dir)\n`,
  });
});

test("audit.file is opened as it will be: a named pipe that nobody reads is refused, one that is read is taken, and a file stays as it is", async () => {
  const validate = (path: string) =>
    waymark(["config", "validate", "node.json"], { files: { "node.json": JSON.stringify({ audit: { file: path } }) } });
  const pipe = fifo("audit-pipe");
  const unread = await validate(pipe);
  expect([unread.exit, unread.stderr]).toEqual([
    2,
    expect.stringMatching(/audit\.file: \S+audit-pipe cannot be written: ENXIO.*this named pipe has no reader/),
  ]);
  const reader = openSync(pipe, constants.O_RDONLY | constants.O_NONBLOCK);
  try {
    expect((await validate(pipe)).exit).toBe(0);
  } finally {
    closeSync(reader);
  }
  const kept = file("audit.jsonl", "a line\n");
  expect((await validate(kept)).exit).toBe(0);
  expect(readFileSync(kept, "utf8")).toBe("a line\n");
});

/** Each setting that names a file which is read at the start. */
const NAMING: readonly { readonly setting: string; readonly settings: (path: string) => object }[] = [
  { setting: "fabric.cluster_token_file", settings: (path) => ({ fabric: { cluster_token_file: path } }) },
  ...(["cert_file", "key_file", "ca_file"] as const).flatMap((name) => [
    {
      setting: `tls.${name}`,
      settings: (path: string) => ({ tls: { cert_file: FILES.cert, key_file: FILES.key, ca_file: FILES.ca, [name]: path } }),
    },
    { setting: `fabric.${name}`, settings: (path: string) => ({ fabric: { ...OF_NODE, [name]: path } }) },
  ]),
  { setting: "tenants.credentials[0].token_file", settings: (path) => ({ tenants: { credentials: [{ tenant: "t", token_file: path }] } }) },
  { setting: "tenants.jwt.jwks_file", settings: (path) => ({ tenants: { jwt: { ...JWT, jwks_file: path } } }) },
  { setting: "policy.file", settings: (path) => ({ policy: { file: path } }) },
  { setting: "summary.signing_key_file", settings: (path) => summary(path) },
  { setting: "fabric.borders[0].trust.token_file", settings: (path) => borders({ token_file: path }) },
  { setting: "fabric.borders[0].trust.ca_file", settings: (path) => ({ fabric: { ...OF_NODE, ...borders({ ca_file: path }).fabric } }) },
];

test.each(NAMING)("$setting names a regular file of bounded size: any other is refused at once, by its name and the rule", async (row) => {
  for (const { path, says } of ENDLESS) {
    const files = { "node.json": JSON.stringify(row.settings(path)) };
    const { exit, stderr } = await waymark(["config", "validate", "node.json"], { files });
    expect({ exit, stderr }).toEqual({ exit: 2, stderr: expect.stringContaining(`${row.setting}: ${path}: ${says}`) as string });
  }
});

test("files that are as they should be pass, and those of a fabric that is off are not looked at", async () => {
  const { cert, key, ca, token, keys } = FILES;
  for (const settings of [
    {
      tls: { cert_file: cert, key_file: key, ca_file: ca },
      fabric: { cluster_token_file: token, ...OF_NODE },
      tenants: { jwt: { ...JWT, jwks_file: keys }, credentials: [{ tenant: "t", token_file: token }] },
    },
    { fabric: { enabled: false, cluster_token_file: absent } },
    { policy: { file: FILES.policy }, audit: { file: absent } },
    {
      ...summary(SIGNING, keyRow(1, { cluster_id: "local", region: "eu" }), keyRow(2)),
      node: { region: "eu" },
      ...borders({ token_file: token }),
    },
    { ...summary(SIGNING, keyRow(2)), ...keyed([keyRow(2), keyRow(3)]) },
    summary(OF_LOCAL),
  ]) {
    const { exit, stderr } = await waymark(["config", "validate", "node.json"], { files: { "node.json": JSON.stringify(settings) } });
    expect({ exit, stderr }).toEqual({ exit: 0, stderr: expect.stringContaining("node.json is valid") as string });
  }
  expect(existsSync(absent)).toBe(false);
});

test("a token of a border that every user can read is warned of, as that of the fabric is", async () => {
  const files = { "node.json": JSON.stringify(borders({ token_file: FILES.token })) };
  const { stderr } = await waymark(["config", "validate", "node.json"], { files });
  expect(stderr).toContain(
    `warning: fabric.borders[0].trust.token_file: ${FILES.token} is readable by every user of this machine: run chmod 600 on it`,
  );
});

test.each([
  { what: "no row", settings: summary(SIGNING, keyRow(2)), isWarned: true },
  { what: "the row of another key", settings: summary(SIGNING, keyRow(2, { cluster_id: "local" })), isWarned: true },
  { what: "its row", settings: summary(SIGNING, keyRow(1, { cluster_id: "local" })), isWarned: false },
  { what: "an announcement by a key with a row", settings: summary(ANNOUNCED, keyRow(1, { cluster_id: "local" })), isWarned: false },
  { what: "an announcement by a key without a row", settings: summary(ANNOUNCED, keyRow(3, { cluster_id: "local" })), isWarned: true },
  { what: "no region around it", settings: summary(SIGNING), isWarned: false },
])("a signing key with $what in the settings is warned of where others would not know it", async ({ settings, isWarned }) => {
  const { exit, stderr } = await waymark(["config", "validate", "node.json"], {
    files: { "node.json": JSON.stringify({ ...settings, node: { region: "us" } }) },
  });
  expect({ exit, isWarned: stderr.includes("is neither the key of local in summary.keys") }).toEqual({ exit: 0, isWarned });
});

test.each([
  { what: "no key of its own cluster", settings: keyed([keyRow(2)]), isWarned: true },
  { what: "the key of another cluster alone", settings: { ...keyed([]), summary: { keys: [keyRow(2)] } }, isWarned: true },
  {
    what: "the row of its own cluster",
    settings: { ...keyed([]), summary: { keys: [keyRow(1, { cluster_id: "local", region: "eu" })] } },
    isWarned: false,
  },
  { what: "the signing key", settings: { ...summary(SIGNING), ...keyed([]) }, isWarned: false },
  { what: "no key, and a cluster that exports nothing", settings: { ...keyed([]), summary: { export_enabled: false } }, isWarned: false },
])("a border node with $what is warned of where it would pass nothing of its cluster on: $isWarned", async ({ settings, isWarned }) => {
  const files = { "node.json": JSON.stringify({ ...settings, node: { region: "eu" } }) };
  const { exit, stderr } = await waymark(["config", "validate", "node.json"], { files });
  expect({ exit, isWarned: stderr.includes("warning: summary.keys: there is no key for local") }).toEqual({ exit: 0, isWarned });
});

test("a certificate that has run out is warned of, and keeps nobody from starting: it may be renewed while the node runs", async () => {
  const settings = { tls: { cert_file: FILES.oldCert, key_file: FILES.oldKey } };
  const { exit, stderr } = await waymark(["config", "validate", "node.json"], { files: { "node.json": JSON.stringify(settings) } });
  expect(exit).toBe(0);
  expect(stderr).toMatch(/warning: tls\.cert_file: the certificate in \S+ expired at \S+Z: TLS handshakes will fail/);
});

test("secrets of the control store that every user can read, and an expired certificate for it, cause warnings", async () => {
  const key = file("open-old-key.pem", old.key);
  const settings = etcd({ cert_file: FILES.oldCert, key_file: key, user: "u", password_file: FILES.token });
  const { exit, stderr } = await waymark(["config", "validate", "node.json"], { files: { "node.json": JSON.stringify(settings) } });
  expect(exit).toBe(0);
  expect(stderr).toMatch(/warning: store\.cert_file: the certificate in \S+ expired at/);
  expect(stderr).toContain(`warning: store.key_file: ${key} is readable by every user`);
  expect(stderr).toContain(`warning: store.password_file: ${FILES.token} is readable by every user`);
});
