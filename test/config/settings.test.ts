import fc from "fast-check";
import { expect, test } from "vitest";
import { listSettings, loadConfig, problemText, type SettingSource } from "../../src/config/load.ts";
import { SETTING_ROWS } from "../../src/config/settings.ts";

function load({
  toml,
  json,
  env = {},
  flags = {},
}: {
  toml?: string;
  json?: string;
  env?: Record<string, string>;
  flags?: Record<string, string | true>;
}) {
  const file = toml === undefined ? json : toml;
  const source: SettingSource = {
    ...(file !== undefined && {
      file: {
        name: toml === undefined ? "n.json" : "n.toml",
        text: file,
        format: toml === undefined ? ("json" as const) : ("toml" as const),
      },
    }),
    env,
    flags: new Map(Object.entries(flags)),
  };
  return loadConfig(source);
}

function settingsOf(source: Parameters<typeof load>[0]) {
  const loaded = load(source);
  if (!loaded.ok) throw new Error(loaded.problems.map(problemText).join("\n"));
  return loaded.effective;
}

function problemsOf(source: Parameters<typeof load>[0]): readonly string[] {
  const loaded = load(source);
  return loaded.ok ? [] : loaded.problems.map(problemText);
}

test("with an identity, a TLS port and required client certificates need no files; names of an issuer are hosts and IPv4 addresses", () => {
  const toml =
    '[tls]\nsource = "identity"\nrequire_client_cert = true\n[dns]\ntls_port = 0\n[identity]\nnames = ["eu-1.example", "127.0.0.1", "waymark.example"]\n';
  expect(problemsOf({ toml })).toEqual([]);
});

test("without any source everything has its default, and says so", () => {
  const { settings, origins } = settingsOf({});
  expect(settings.listen).toEqual({
    allowedHosts: [],
    corsOrigins: [],
    host: "127.0.0.1",
    advertiseHost: undefined,
    grpcPort: 17_420,
    httpPort: 17_480,
    insecure: false,
  });
  expect(settings.node).toMatchObject({ clusterId: "local", region: "local", id: undefined });
  expect(new Set(origins.values())).toEqual(new Set(["default"]));
  const absent = listSettings({ settings, origins }).filter(({ path }) => ["node.id", "dns.rate", "fabric.enabled"].includes(path));
  expect(absent.map(({ value }) => value)).toEqual(["", "", ""]);
});

test("flags win over the environment, which wins over the file", () => {
  const toml = '[node]\nregion = "file"\nzone = "file"\ncluster_id = "file"\n';
  const env = { WAYMARK_NODE__REGION: "env", WAYMARK_NODE__ZONE: "env" };
  const { settings, origins } = settingsOf({ toml, env, flags: { "node.region": "flag" } });
  expect(settings.node).toMatchObject({ region: "flag", zone: "env", clusterId: "file" });
  expect(["node.region", "node.zone", "node.cluster_id"].map((path) => origins.get(path))).toEqual([
    "flag --region",
    "environment WAYMARK_NODE__ZONE",
    "file n.toml",
  ]);
});

test.each([
  { path: "dns.min_ttl", text: "1500ms", want: 1500 },
  { path: "dns.min_ttl", text: "1.5s", want: 1500 },
  { path: "dns.max_ttl", text: "2m", want: 120_000 },
  { path: "limits.max_entry_bytes", text: "8KiB", want: 8192 },
  { path: "limits.max_entry_bytes", text: "2048", want: 2048 },
  { path: "limits.max_request_bytes", text: "1MiB", want: 1_048_576 },
  { path: "dns.plan_bytes", text: "1GiB", want: 1_073_741_824 },
  { path: "dns.enabled", text: "false", want: false },
  { path: "dns.zones", text: "a, b.c", want: ["a", "b.c"] },
  { path: "dns.tcp_port", text: "0", want: 0 },
  { path: "node.labels", text: "rack=7,row=a=b", want: { rack: "7", row: "a=b" } },
  { path: "node.labels", text: '{"rack": "7", "row": "a=b,c"}', want: { rack: "7", row: "a=b,c" } },
  { path: "node.roles", text: "", want: [] },
  { path: "observability.log_level", text: "debug", want: "debug" },
])("$path = $text in the environment is $want", ({ path, text, want }) => {
  const row = SETTING_ROWS.find((each) => each.path === path)!;
  const { settings } = settingsOf({ env: { [row.env]: text } });
  const groups: Readonly<Record<string, Readonly<Record<string, unknown>>>> = settings;
  expect(groups[row.group]?.[row.name]).toEqual(want);
});

/** A file with one setting. */
function fileWith(path: string, value: unknown): string {
  const [group = "", key = ""] = path.split(".");
  return JSON.stringify({ [group]: { [key]: value } });
}

test.each([
  { type: "a number", path: "catalog.min_tombstones", good: [100, 10_000_000], bad: [99, 10_000_001, 100.5, "100", true, {}] },
  { type: "a number that may be absent", path: "dns.rate", good: [0, 7], bad: [-1, "7"] },
  { type: "a ratio", path: "fabric.orphan_protect_ratio", good: [0, 0.25, 1], bad: [-0.1, 1.1, "1"] },
  { type: "a port", path: "dns.udp_port", good: [0, 65_535], bad: [-1, 65_536, "80"] },
  { type: "a port that may be absent", path: "dns.tcp_port", good: [0], bad: [65_536, "x"] },
  { type: "true or false", path: "persistence.ephemeral", good: [true, false], bad: ["true", 1] },
  { type: "true, false or absent", path: "fabric.enabled", good: [true, false], bad: ["yes", 0] },
  { type: "text", path: "node.cluster_id", good: ["abc"], bad: ["a b", "", 1, []] },
  { type: "text that may be absent", path: "audit.file", good: ["abc"], bad: [1, ""] },
  { type: "a word", path: "observability.log_format", good: ["json", "text"], bad: ["xml", 1] },
  { type: "a word that may be absent", path: "tenants.anonymous", good: ["none", "read"], bad: ["some", 1] },
  {
    type: "a list",
    path: "fabric.clusters",
    good: [[], ["a"]],
    bad: ["a", [1], ["a b"], Array.from({ length: 1001 }, (_, i) => `c${i}`)],
  },
  { type: "a table of text", path: "node.labels", good: [{}, { a: "b" }, { a: "bcd", b: "" }], bad: ["a", [], { a: 1 }, { a: {} }] },
])("$type takes what it should and nothing else: $path", ({ path, good, bad }) => {
  const row = SETTING_ROWS.find((each) => each.path === path)!;
  for (const value of good) {
    const groups: Readonly<Record<string, Readonly<Record<string, unknown>>>> = settingsOf({ json: fileWith(path, value) }).settings;
    expect(groups[row.group]?.[row.name]).toEqual(value);
  }
  for (const value of bad) expect(problemsOf({ json: fileWith(path, value) }).join()).toContain(path);
});

/** The value of a setting that a file gives, after it was shown and read back from the environment. */
function readBack(path: string, value: unknown): unknown {
  const row = SETTING_ROWS.find((each) => each.path === path)!;
  const shown = listSettings(settingsOf({ json: fileWith(path, value) })).find((each) => each.path === path)?.value ?? "";
  const groups: Readonly<Record<string, Readonly<Record<string, unknown>>>> = settingsOf({ env: { [row.env]: shown } }).settings;
  return groups[row.group]?.[row.name];
}

test("a size that is shown reads back as the same size", () => {
  fc.assert(fc.property(fc.integer({ min: 65_536, max: 67_108_864 }), (size) => readBack("limits.max_request_bytes", size) === size));
});

test("a table that is shown reads back as the same table, by commas or as JSON", () => {
  const value = fc.oneof(fc.string({ maxLength: 60 }), fc.constantFrom("a", "a=b", "a,b", " a", "{}", "[1]", ""));
  const table = fc.dictionary(fc.constantFrom("a", "b.c", "d-e", "f/g"), value, { noNullPrototype: true });
  fc.assert(
    fc.property(table, (labels) => {
      expect(readBack("node.labels", labels)).toEqual(labels);
    }),
  );
  const shown = (labels: object) =>
    listSettings(settingsOf({ json: fileWith("node.labels", labels) })).find(({ path }) => path === "node.labels")?.value;
  expect(shown({ rack: "7", row: "a=b" })).toBe("rack=7,row=a=b");
  expect(shown({ rack: "7,8" })).toBe('{"rack":"7,8"}');
});

test("bounds are told in the unit they are written in", () => {
  expect(problemsOf({ toml: '[fabric]\ninterval = "2h"\n' })).toEqual(["fabric.interval: 2h is more than the maximum of 1m (file n.toml)"]);
});

const SUMMARY_KEY = `[[summary.keys]]\ncluster_id = "us-1"\nregion = "us"\npublic_key = "${"A".repeat(43)}="\n`;

test.each([
  { toml: "[listn]\n", says: "listn: unknown key; did you mean listen? (file n.toml)" },
  { toml: "[listen]\ngrpc_prt = 1\n", says: "listen.grpc_prt: unknown key; did you mean listen.grpc_port? (file n.toml)" },
  { toml: "[listen]\ngrpc_port = 70000\n", says: "listen.grpc_port: 70000 is more than the maximum of 65535 (file n.toml)" },
  { toml: "[fabric]\norphan_protect_ratio = nan\n", says: "fabric.orphan_protect_ratio: nan is not a number from 0 to 1 (file n.toml)" },
  { json: '{"listen":{"grpc_port":1e400}}', says: "listen.grpc_port: a number that is too large is not a whole number (file n.json)" },
  { toml: '[listen]\ngrpc_port = "1"\n', says: 'listen.grpc_port: "1" is not a whole number (file n.toml)' },
  { toml: "[dns]\nmin_ttl = 5\n", says: 'dns.min_ttl: 5 is not a duration such as "500ms", "30s" or "1h" (file n.toml)' },
  { toml: '[dns]\nmin_ttl = "2h"\n', says: "dns.min_ttl: is more than dns.max_ttl (file n.toml)" },
  {
    toml: "[dns]\nsummary_answers = true\n",
    says: "dns.summary_answers: needs summary.keys or fabric.borders: without them, the node has no data from other clusters (file n.toml)",
  },
  {
    toml: `[dns]\nsummary_answers = true\nprocesses = 1\n[node]\nworkers = 2\n${SUMMARY_KEY}`,
    says: "dns.summary_answers: needs node.workers = 0, because read workers have no summaries (file n.toml)",
  },
  {
    toml: `[dns]\nsummary_answers = true\nprocesses = 1\n${SUMMARY_KEY}`,
    says: "dns.summary_answers: needs dns.processes = 0, because DNS processes have no summaries (file n.toml)",
  },
  {
    toml: '[catalog]\nmin_lease_ttl = "1m"\n',
    says: "catalog.min_lease_ttl: 1m is more than catalog.default_lease_ttl, which is 30s (file n.toml)",
  },
  {
    toml: '[catalog]\ndefault_lease_ttl = "1h"\nmax_lease_ttl = "10s"\n',
    says: "catalog.default_lease_ttl: 1h is more than catalog.max_lease_ttl, which is 10s (file n.toml)",
  },
  {
    toml: '[catalog]\nmax_lease_ttl = "10s"\n',
    says: "catalog.default_lease_ttl: 30s is more than catalog.max_lease_ttl, which is 10s (default)",
  },
  {
    toml: '[catalog]\nmin_lease_ttl = "10s"\ndefault_lease_ttl = "10s"\nmax_lease_ttl = "9s"\n',
    says: "catalog.default_lease_ttl: 10s is more than catalog.max_lease_ttl, which is 9s (file n.toml)",
  },
  { toml: "[dns]\nzones = []\n", says: "dns.zones: needs at least one zone while dns.enabled is true (file n.toml)" },
  { toml: "listen = 5\n", says: "listen: must be a table of settings (file n.toml)" },
  { toml: "a = [\n", says: "line 2, column 1: " },
  { toml: "[dns]\ntls_port = 853\n", says: "dns.tls_port: needs tls.cert_file and tls.key_file, or tls.source (file n.toml)" },
  {
    toml: '[dns]\ntls_port = 17453\n[tls]\ncert_file = "c"\nkey_file = "k"\n',
    says: "dns.tls_port: is also the port of dns.udp_port; use different ports, or 0 for any free port (file n.toml)",
  },
  { toml: '[tls]\ncert_file = "c.pem"\n', says: "tls.cert_file: needs tls.key_file too (file n.toml)" },
  {
    toml: '[[fabric.borders]]\ncluster_id = "local"\nregion = "us"\ntrust = { token_file = "t" }\n',
    says: "fabric.borders[0].cluster_id: local is this cluster itself (node.cluster_id) (file n.toml)",
  },
  {
    toml: "[summary]\nexport_enabled = true\n",
    says: "summary.export_enabled: needs summary.signing_key_file, because a node without the key of its cluster exports nothing; set it, or remove summary.export_enabled (file n.toml)",
  },
  { toml: "[tls]\nrequire_client_cert = true\n", says: "tls.require_client_cert: needs tls.ca_file" },
  {
    toml: '[tls]\nsource = "identity"\ncert_file = "c"\nkey_file = "k"\n',
    says: 'tls.cert_file: is for certificates from files, and tls.source is "identity"; remove one of them',
  },
  { toml: '[tls]\nsource = "identity"\ncrl_file = "c"\n', says: "tls.crl_file: is for certificates from files" },
  { toml: '[tls]\nsource = "identity"\n[identity]\nsource = "files"\n', says: 'tls.source: is "identity", but identity.source is "files"' },
  { toml: '[tls]\nsource = "identity"\n[persistence]\nephemeral = true\n', says: "an ephemeral node has no identity" },
  { toml: '[tls]\ncert_file = "c"\nkey_file = "k"\ncrl_file = "l"\n', says: "tls.crl_file: needs tls.ca_file" },
  { toml: '[fabric]\ncrl_file = "l"\n', says: "fabric.crl_file: needs fabric.ca_file" },
  { toml: '[tls]\nmin_version = "1.1"\n', says: 'tls.min_version: "1.1" is not one of 1.2, 1.3' },
  { toml: '[identity]\nnames = ["61.issuer.waymark"]\n', says: "identity.names: " },
  { toml: '[identity]\nnames = ["Waymark"]\n', says: "identity.names: " },
  { toml: '[identity]\nsource = "spire"\n', says: 'identity.spire_socket: is needed if identity.source is "spire"' },
  {
    toml: '[identity]\nsource = "spire"\nspire_socket = "/agent"\n[persistence]\nephemeral = true\n',
    says: 'identity.source: is "spire", and an ephemeral node has no identity',
  },
  { json: "{", says: "(file n.json)" },
  { json: "[]", says: "(file n.json)" },
  {
    env: { WAYMARK_LISTEN__GRPC_PROT: "1" },
    says: "unknown key; did you mean WAYMARK_LISTEN__GRPC_PORT? (environment WAYMARK_LISTEN__GRPC_PROT)",
  },
  { env: { WAYMARK_GRPC_PORT: "1" }, says: "unknown key; did you mean WAYMARK_LISTEN__GRPC_PORT?" },
  { env: { WAYMARK_HTTP_PORT: "1" }, says: "unknown key; did you mean WAYMARK_LISTEN__HTTP_PORT?" },
  { env: { WAYMARK_LISTEN_GRPC_PORT: "1" }, says: "unknown key; did you mean WAYMARK_LISTEN__GRPC_PORT?" },
  { env: { WAYMARK_DNS__ENABLED: "yes" }, says: 'dns.enabled: "yes" is neither true nor false (environment WAYMARK_DNS__ENABLED)' },
  { env: { WAYMARK_NODE__LABELS: "a" }, says: "node.labels: " },
  { env: { WAYMARK_NODE__LABELS: '{"rack": 7}' }, says: "node.labels: rack = 7 is not text" },
  { env: { WAYMARK_NODE__LABELS: "[1]" }, says: "node.labels: [1] is not a table" },
  {
    flags: { "observability.log_level": "loud" },
    says: 'observability.log_level: "loud" is not one of trace, debug, info, warn, error, silent (flag --log-level)',
  },
  { toml: '[fabric]\nseeds = ["10.0.0.1:65536"]\n', says: 'fabric.seeds: "10.0.0.1:65536" is not an address such as "10.0.0.1:17421"' },
  { flags: { "node.id": "a b" }, says: 'node.id: "a b" is not 1 to 64 of A-Z a-z 0-9 . _ : / @ + - (flag --node-id)' },
])("a mistake is told with what would be right: $says", ({ says, ...source }) => {
  expect(problemsOf(source).join("\n")).toContain(says);
});

test("a settings file may begin with a byte order mark", () => {
  expect([problemsOf({ json: "\uFEFF{}" }), problemsOf({ toml: "\uFEFF[listen]\n" })]).toEqual([[], []]);
});

test("every problem of every source is reported at once", () => {
  const problems = problemsOf({
    toml: "[a]\n[b]\n[dns]\nmin_ttl = 1\nmax_ttl = 1\n",
    env: { WAYMARK_X__Y: "1" },
    flags: { "listen.grpc_port": "x" },
  });
  expect(problems).toHaveLength(6);
});

test("variables of the command line, and those Kubernetes injects for a Service called waymark, are no settings", () => {
  const env = {
    WAYMARK_SERVER: "x:1",
    WAYMARK_TLS: "1",
    WAYMARK_TOKEN: "t",
    WAYMARK_PORT: "tcp://1",
    WAYMARK_SERVICE_HOST: "1",
    WAYMARK_PORT_17420_TCP_ADDR: "1",
    PATH: "/",
  };
  expect(problemsOf({ env })).toEqual([]);
});

test("keys, environment names and flags are distinct, and every default keeps its own rules", () => {
  for (const names of [
    SETTING_ROWS.map(({ path }) => path),
    SETTING_ROWS.map(({ env }) => env),
    SETTING_ROWS.flatMap(({ setting }) => setting.flag ?? []),
  ]) {
    expect(new Set(names).size).toBe(names.length);
  }
  for (const { path, setting } of SETTING_ROWS) {
    expect(path).toMatch(/^[a-z]+\.[a-z0-9]+(_[a-z0-9]+)*$/);
    if (setting.default !== undefined)
      expect({ path, ...setting.parse(setting.fromText(setting.toText(setting.default))) }).toEqual({ path, value: setting.default });
  }
});

test("what is shown can be read back as environment, with the same result", () => {
  const effective = settingsOf({ toml: '[dns]\nmin_ttl = "1500ms"\nzones = ["a", "b"]\n[node]\nlabels = { a = "1" }\n' });
  const env = Object.fromEntries(
    listSettings(effective).flatMap(({ path, value, origin }) =>
      origin === "default" ? [] : [[SETTING_ROWS.find((row) => row.path === path)!.env, value]],
    ),
  );
  expect(settingsOf({ env }).settings).toEqual(effective.settings);
});

const HASH = "a".repeat(64);

test("who calls: tables of credentials, certificates, an issuer and a proxy, each field with its default", () => {
  const toml = `
[tenants]
mode = true
[[tenants.credentials]]
tenant = "alpha"
token_sha256 = "${HASH}"
roles = ["mesh.read", "owner:svc.market"]
[[tenants.certificates]]
principal = "spiffe://prod.example/ns/*"
[tenants.jwt]
issuer = "https://issuer.example"
audience = "waymark"
jwks_url = "https://issuer.example/jwks"
clock_skew = "5s"
[tenants.trusted_header]
name = "x-tenant"
from = ["10.0.0.0/8", "::1"]
`;
  expect(settingsOf({ toml }).settings.tenants).toMatchObject({
    mode: true,
    credentials: [{ tenant: "alpha", principal: undefined, scheme: "bearer", tokenSha256: HASH, roles: ["mesh.read", "owner:svc.market"] }],
    certificates: [{ principal: "spiffe://prod.example/ns/*", tenant: undefined, roles: [] }],
    jwt: { clockSkewMs: 5000, principalClaim: "sub", algorithms: ["RS256", "ES256", "EdDSA"] },
    trustedHeader: { name: "x-tenant", from: ["10.0.0.0/8", "::1"] },
  });
});

const CREDENTIAL = (rest: string) => `[[tenants.credentials]]\ntenant = "alpha"\n${rest}`;
const JWT = (rest: string) => `[tenants.jwt]\nissuer = "i"\naudience = "a"\n${rest}`;
const TRANSFER_KEY = (name: string, rest = "") => `[[dns.transfer_keys]]\nname = "${name}"\nsecret_file = "key"\n${rest}\n`;
const VIEW = (rest: string) => `[[dns.views]]\nprefixes = ["10.0.0.0/8"]\n${rest}`;
const PROXY = (name: string, from: string) => `[tenants.trusted_header]\nname = "${name}"\nfrom = [${from}]`;

test.each([
  { toml: CREDENTIAL(""), says: "tenants.credentials[0]: needs either token_sha256 or token_file" },
  {
    toml: CREDENTIAL(`token_sha256 = "${HASH}"\ntoken_file = "t"`),
    says: "tenants.credentials[0]: needs either token_sha256 or token_file",
  },
  { toml: CREDENTIAL('token_sha256 = "hunter2"'), says: "tenants.credentials[0].token_sha256: is not 64 lower-case hexadecimal digits" },
  { toml: CREDENTIAL('token = "hunter2"'), says: "tenants.credentials[0].token: unknown key" },
  {
    toml: CREDENTIAL(`token_sha256 = "${HASH}"\nroles = ["root"]`),
    says: 'tenants.credentials[0].roles: "root" is not mesh.read, mesh.operate',
  },
  { toml: CREDENTIAL(`token_sha256 = "${HASH}"\nscheme = "basic"`), says: "tenants.credentials[0].scheme: " },
  { toml: '[[dns.views]]\ntenant = "red"', says: "dns.views[0].prefixes: is required" },
  { toml: "[[dns.views]]\nprefixes = []", says: "dns.views[0]: prefixes needs at least one address" },
  {
    toml: '[[dns.views]]\nprefixes = ["10.0.0.1/8"]',
    says: "dns.views[0]: prefixes: 10.0.0.1/8 is neither an address nor a CIDR block whose host bits are all zero",
  },
  { toml: VIEW('listener = "quic"'), says: 'dns.views[0].listener: "quic" is not one of udp, tcp, dot' },
  { toml: '[[dns.transfer_keys]]\nname = "k"', says: "dns.transfer_keys[0].secret_file: is required" },
  { toml: TRANSFER_KEY("a key"), says: 'dns.transfer_keys[0].name: "a key" is not a DNS name' },
  {
    toml: TRANSFER_KEY("k", 'algorithm = "hmac-md5"'),
    says: 'dns.transfer_keys[0].algorithm: "hmac-md5" is not one of hmac-sha256, hmac-sha384, hmac-sha512',
  },
  { toml: TRANSFER_KEY("k.example") + TRANSFER_KEY("K.example."), says: "dns.transfer_keys: K.example. is the name of both [0] and [1]" },
  { toml: Array.from({ length: 17 }, (_, i) => TRANSFER_KEY(`k${i}`)).join(""), says: "dns.transfer_keys" },
  { toml: VIEW(VIEW("")), says: "dns.views: 10.0.0.0/8 is in both dns.views[0] and dns.views[1]" },
  { toml: VIEW('[[dns.views]]\nprefixes = ["::ffff:10.0.0.0/104"]'), says: "dns.views: ::ffff:10.0.0.0/104 is in both dns.views[0] and" },
  { toml: "tenants.credentials = 5", says: "tenants.credentials: is not a list of tables" },
  {
    toml: 'tenants.credentials = ["alpha"]',
    says: "tenants.credentials[0]: is not a table with the fields tenant, principal, cluster, scheme, tokenSha256, tokenFile, roles",
  },
  { toml: `[[tenants.credentials]]\ntoken_sha256 = "${HASH}"`, says: "tenants.credentials[0].tenant: is required" },
  {
    toml: CREDENTIAL(`token_sha256 = "${HASH}"\nrole = []`),
    says: "tenants.credentials[0].role: unknown key; did you mean roles?",
  },
  { toml: JWT('jwks_file = "f"\nclock_skew = "20m"'), says: "tenants.jwt.clock_skew: 20m is more than the maximum of 10m" },
  { toml: "tenants.jwt = 5", says: "tenants.jwt: is not a table with the fields issuer, audience" },
  { toml: JWT(""), says: "tenants.jwt: needs either jwks_file or jwks_url" },
  { toml: JWT('jwks_file = "f"\nalgorithms = ["HS256"]'), says: 'tenants.jwt.algorithms: "HS256" is not one of RS256' },
  { toml: JWT('jwks_file = "f"\nalgorithms = ["none"]'), says: 'tenants.jwt.algorithms: "none" is not one of RS256' },
  { toml: JWT('jwks_file = "f"\nalgorithms = []'), says: "tenants.jwt: needs at least one value in algorithms" },
  { toml: JWT('jwks_url = "ftp://x/jwks"'), says: "tenants.jwt.jwks_url: " },
  { toml: PROXY("x-tenant", ""), says: "tenants.trusted_header: from needs at least one address" },
  {
    toml: PROXY("x-tenant", '"10.0.0.1/8"'),
    says: "tenants.trusted_header: 10.0.0.1/8 is neither an address nor a CIDR block whose host bits are all zero",
  },
  {
    toml: PROXY("authorization", '"10.0.0.1"'),
    says: "tenants.trusted_header: authorization is reserved for another purpose; choose a different name",
  },
  { toml: '[[tenants.certificates]]\nprincipal = "*a*"', says: "tenants.certificates[0].principal: " },
])("$toml is refused, and says no secret", ({ toml, says }) => {
  const [problem = "", ...others] = problemsOf({ toml });
  expect(others).toEqual([]);
  expect(problem).toContain(says);
  expect(problem).not.toContain("hunter2");
});

test("every problem of every table is reported, and more tables than are allowed are refused", () => {
  const both = '[[tenants.credentials]]\ntenant = "a b"\ntoken_file = "t"\n[[tenants.credentials]]\n';
  expect(problemsOf({ toml: both })).toEqual([
    expect.stringContaining('tenants.credentials[0].tenant: "a b" is not 1 to 64') as string,
    expect.stringContaining("tenants.credentials[1].tenant: is required") as string,
  ]);
  const many = Array.from({ length: 1001 }, () => ({ tenant: "a", token_file: "t" }));
  expect(problemsOf({ json: fileWith("tenants.credentials", many) })).toEqual([
    "tenants.credentials: 1001 tables exceed the maximum of 1000 (file n.json)",
  ]);
});

test("there are at most 64 views of DNS, with 1,000 prefixes in all", () => {
  const views = (count: number, prefixCount: number) => {
    const prefixes = (view: number) => Array.from({ length: prefixCount }, (_, i) => `10.${view}.${i >> 8}.${i & 255}`);
    return fileWith(
      "dns.views",
      Array.from({ length: count }, (_, view) => ({ prefixes: prefixes(view), tenant: "red" })),
    );
  };
  expect(problemsOf({ json: views(64, 15) })).toEqual([]);
  expect(problemsOf({ json: views(65, 1) })).toEqual(["dns.views: 65 tables exceed the maximum of 64 (file n.json)"]);
  expect(problemsOf({ json: views(64, 16) })).toEqual([
    expect.stringContaining("dns.views: has 1024 prefixes in total, more than the maximum of 1000") as string,
  ]);
});

test("a table that is shown has only what it was given, in the units that people write; an absent one is empty", () => {
  const shown = (source: Parameters<typeof load>[0]) => listSettings(settingsOf(source)).find(({ path }) => path === "tenants.jwt")?.value;
  expect(shown({})).toBe("");
  expect(shown({ toml: JWT('jwks_file = "f"\nclock_skew = "5s"') })).toContain(
    '"jwks_file":"f","algorithms":["RS256","ES256","EdDSA"],"clock_skew":"5s"',
  );
  expect(settingsOf({ env: { WAYMARK_TENANTS__CREDENTIALS: "" } }).settings.tenants.credentials).toEqual([]);
});

test("a table in a table is shown as a file has it, and read back from that", () => {
  const border = {
    cluster_id: "us1",
    region: "us",
    trust: { token_file: "t" },
    keys: [`${"A".repeat(43)}=`],
    batch_interval: "200ms",
    bytes_per_second: "0",
  };
  const { settings, ...read } = settingsOf({ env: { WAYMARK_FABRIC__BORDERS: JSON.stringify([{ ...border, bytes_per_second: 0 }]) } });
  expect(settings.fabric.borders).toMatchObject([{ trust: { tokenFile: "t" }, keys: border.keys }]);
  const shown = listSettings({ settings, ...read }).find(({ path }) => path === "fabric.borders")?.value ?? "";
  expect(JSON.parse(shown)).toEqual([border]);
});

test("credentials come from the environment too, as JSON, and what is none is not shown", () => {
  const json = JSON.stringify([{ tenant: "alpha", token_sha256: HASH }]);
  expect(settingsOf({ env: { WAYMARK_TENANTS__CREDENTIALS: json } }).settings.tenants.credentials).toMatchObject([{ tenant: "alpha" }]);
  const [problem] = problemsOf({ env: { WAYMARK_TENANTS__CREDENTIALS: "hunter2" } });
  expect(problem).toBe("tenants.credentials: is not a list of tables (environment WAYMARK_TENANTS__CREDENTIALS)");
});

test("hashes of tokens are masked where settings are shown", () => {
  const rows = listSettings(settingsOf({ toml: CREDENTIAL(`token_sha256 = "${HASH}"`) }));
  const shown = rows.find(({ path }) => path === "tenants.credentials")?.value;
  expect(shown).toBe('[{"tenant":"alpha","scheme":"bearer","token_sha256":"[secret]"}]');
});

const many = (count: number, text: (i: number) => string): string => Array.from({ length: count }, (_, i) => text(i)).join(",");
const label = (name: string, length: number): string => `${name}=${"v".repeat(length)}`;

// The bounds of what a node says of itself are those that its peers and its own entry have: `lib/bounds.ts`.
test.each([
  { what: "16 roles", env: { WAYMARK_NODE__ROLES: many(16, (i) => `r${i}`) }, want: [] },
  { what: "a role twice", env: { WAYMARK_NODE__ROLES: "a,b,a" }, want: [/node\.roles: "a" appears twice/] },
  {
    what: "17 roles",
    env: { WAYMARK_NODE__ROLES: many(17, (i) => `r${i}`) },
    want: [/node\.roles: 17 items exceed the maximum of 16/],
  },
  { what: "64 labels", env: { WAYMARK_NODE__LABELS: many(64, (i) => `k${i}=v`) }, want: [] },
  {
    what: "65 labels",
    env: { WAYMARK_NODE__LABELS: many(65, (i) => `k${i}=v`) },
    want: [/node\.labels: 65 pairs exceed the maximum of 64/],
  },
  { what: "a label with a space", env: { WAYMARK_NODE__LABELS: "a b=c" }, want: [/node\.labels: name "a b" is not 1 to 63 of/] },
  {
    what: "a long value",
    env: { WAYMARK_NODE__LABELS: label("a", 257) },
    want: [/the value of a has 257 characters, more than the maximum of 256/],
  },
  {
    what: "much in all",
    env: { WAYMARK_NODE__LABELS: many(33, (i) => label(`k${i}`, 256)) },
    want: [/node\.labels: is 8\d\d\d bytes together/],
  },
  {
    what: "a host that is none",
    env: { WAYMARK_LISTEN__ADVERTISE_HOST: "a%b" },
    want: [/listen\.advertise_host: "a%b" is not a host name/],
  },
  ...["0.0.0.0", "::", "0:0:0:0:0:0:0:0"].map((host) => ({
    what: `${host}, which is every address of whoever reads it`,
    env: { WAYMARK_LISTEN__ADVERTISE_HOST: host },
    want: [/listen\.advertise_host: ".*" is an unspecified address; no client can connect to it/],
  })),
  {
    what: "one port for two listeners",
    env: {
      WAYMARK_LISTEN__HTTP_PORT: "7000",
      WAYMARK_LISTEN__GRPC_PORT: "7000",
      WAYMARK_FABRIC__PORT: "7000",
      WAYMARK_DNS__UDP_PORT: "7000",
    },
    want: [
      /listen\.http_port: is also the port of listen\.grpc_port/,
      /fabric\.port: is also the port of/,
      /dns\.udp_port: is also the port of/,
    ],
  },
  { what: "any free ports", env: { WAYMARK_LISTEN__HTTP_PORT: "0", WAYMARK_LISTEN__GRPC_PORT: "0" }, want: [] },
  { what: "a zone that is no name", env: { WAYMARK_DNS__ZONES: "-bad" }, want: [/dns\.zones: "-bad" is not a lower-case DNS name/] },
  { what: "an IPv6 host", env: { WAYMARK_LISTEN__ADVERTISE_HOST: "fe80::1%eth0" }, want: [] },
])("$what: a setting is refused where a peer would refuse it", ({ env, want }) => {
  expect(problemsOf({ env })).toEqual(want.map((pattern) => expect.stringMatching(pattern) as string));
});

test.each([
  { what: "a zone twice", env: { WAYMARK_DNS__ZONES: "a.b,c,a.b." }, want: [/dns\.zones: "a\.b\." appears twice/] },
  { what: "reverse zones", env: { WAYMARK_DNS__REVERSE_ZONES: "10.0.0.0/8,192.168.0.0/16,10.1.0.0/16,fd00::/8,2001:db8::/36" }, want: [] },
  {
    what: "reverse zones that are none",
    env: { WAYMARK_DNS__REVERSE_ZONES: "10.0.0.0/12,10.0.0.1/8,fd00::/9,0.0.0.0/0,10.0.0.1,::1" },
    want: [
      "10.0.0.0/12 is not a zone",
      "10.0.0.1/8 is neither",
      "fd00::/9 is not a zone",
      "0.0.0.0/0 is not a zone",
      "10.0.0.1 is not a zone",
      "::1 is not a zone",
    ].map((text) => new RegExp(`^dns\\.reverse_zones: ${text.replaceAll(".", "\\.")}`)),
  },
  {
    what: "a reverse zone that appears twice, once as a zone of services",
    env: { WAYMARK_DNS__REVERSE_ZONES: "10.0.0.0/8,::ffff:11.0.0.0/104,11.0.0.0/8", WAYMARK_DNS__ZONES: "waymark,10.in-addr.arpa." },
    want: [
      /10\.0\.0\.0\/8 is the zone 10\.in-addr\.arpa, which is configured twice/,
      /11\.0\.0\.0\/8 is the zone 11\.in-addr\.arpa, which/,
    ],
  },
  { what: "a forwarder", env: { WAYMARK_DNS__TRUSTED_FORWARDERS: "10.0.0.0/8,fd00::53" }, want: [] },
  {
    what: "a forwarder that is no block",
    env: { WAYMARK_DNS__TRUSTED_FORWARDERS: "10.0.0.1/8" },
    want: [/dns\.trusted_forwarders: 10\.0\.0\.1\/8 is neither an address nor a CIDR block whose host bits are all zero/],
  },
  {
    what: "257 forwarders",
    env: { WAYMARK_DNS__TRUSTED_FORWARDERS: many(257, (i) => `10.0.${i >> 8}.${i & 255}`) },
    want: [/dns\.trusted_forwarders: 257 items exceed the maximum of 256/],
  },
  { what: "a seed twice", env: { WAYMARK_FABRIC__SEEDS: "a:1,a:1" }, want: [/fabric\.seeds: "a:1" appears twice/] },
  {
    what: "a log scope twice",
    env: { WAYMARK_OBSERVABILITY__LOG_SCOPES: "dns,server=info,dns=trace" },
    want: [/observability\.log_scopes: "dns=trace" appears twice/],
  },
  { what: "a label twice", env: { WAYMARK_NODE__LABELS: "a=1,b=2,a=3" }, want: [/node\.labels: the name a appears twice/] },
  {
    what: "a label twice in JSON",
    env: { WAYMARK_NODE__LABELS: '{"a":"1","\\u0061":"2"}' },
    want: [/node\.labels: the name a appears twice/],
  },
  {
    what: "a name twice in a table of JSON",
    env: { WAYMARK_TENANTS__CREDENTIALS: '[{"tenant":"a"},{"tenant":"hunter2","tenant":"b"}]' },
    want: [/^tenants\.credentials\[1\]: the name tenant appears twice \(environment WAYMARK_TENANTS__CREDENTIALS\)$/],
  },
  {
    what: "a host twice in another case",
    env: { WAYMARK_LISTEN__ALLOWED_HOSTS: "a.example,A.example" },
    want: [/"A\.example" appears twice/],
  },
  {
    what: "a host twice with its last dot",
    env: { WAYMARK_LISTEN__ALLOWED_HOSTS: "a.example,a.example." },
    want: [/hosts: "a\.example\." appears twice/],
  },
  {
    what: "an origin twice in another case",
    env: { WAYMARK_LISTEN__CORS_ORIGINS: "https://a.b,https://A.b" },
    want: [/"https:\/\/A\.b" appears twice/],
  },
  {
    what: "an origin twice with its port",
    env: { WAYMARK_LISTEN__CORS_ORIGINS: "https://a.b,https://a.b:443" },
    want: [/"https:\/\/a\.b:443" appears twice/],
  },
  {
    what: "an origin twice, with port 80 first",
    env: { WAYMARK_LISTEN__CORS_ORIGINS: "http://a.b:80,http://a.b" },
    want: [/"http:\/\/a\.b" appears twice/],
  },
  {
    what: "origins of several schemes and ports",
    env: { WAYMARK_LISTEN__CORS_ORIGINS: "http://a.b,https://a.b,http://a.b:443,https://a.b:80" },
    want: [],
  },
  {
    what: "entries shown for longer than half of the time for which they are kept",
    env: { WAYMARK_FABRIC__ORPHAN_GRACE: "31s", WAYMARK_FABRIC__ORIGIN_FORGET: "1m" },
    want: [/fabric\.orphan_grace: 31s is more than half of fabric\.origin_forget, which is 1m/],
  },
  {
    what: "entries kept for less than twice the default of the time for which they are shown",
    env: { WAYMARK_FABRIC__ORIGIN_FORGET: "9m" },
    want: [/fabric\.orphan_grace: 5m is more than half of fabric\.origin_forget, which is 9m/],
  },
  {
    what: "entries shown for more than half of the default of the time for which they are kept",
    env: { WAYMARK_FABRIC__ORPHAN_GRACE: "13h" },
    want: [/fabric\.orphan_grace: 13h is more than half of fabric\.origin_forget, which is 1d/],
  },
  {
    what: "entries shown for half of the time for which they are kept",
    env: { WAYMARK_FABRIC__ORPHAN_GRACE: "30s", WAYMARK_FABRIC__ORIGIN_FORGET: "1m" },
    want: [],
  },
])("$what: what is there twice, or past what forgets it, is refused", ({ env, want }) => {
  expect(problemsOf({ env })).toEqual(want.map((pattern) => expect.stringMatching(pattern) as string));
});

test.each([
  { json: '{"node":{"id":"x1"},"node":{"zone":"z"}}', says: "the name node appears twice (file n.json)" },
  { json: '{"node":{"id":"x1","zone":"z","id":"x2"}}', says: "node: the name id appears twice (file n.json)" },
  { json: '{"node":{"labels":{"a":"1","a":"2"}}}', says: "node.labels: the name a appears twice (file n.json)" },
  {
    json: '{"listen":{"host":"a"},"tenants":{"credentials":[{},{"roles":["a","b"],"roles":[]}]}}',
    says: "tenants.credentials[1]: the name roles appears twice (file n.json)",
  },
])("a file with $json is refused: of what is there twice the last would be taken without a word", ({ json, says }) => {
  expect(problemsOf({ json })).toEqual([says]);
});
