/** Which settings belong to one node, and the digest of all others. */
import { expect, test } from "vitest";
import { configDigest, settingDigest } from "../../src/config/digest.ts";
import { PATH, type SettingField } from "../../src/config/field.ts";
import { loadConfig } from "../../src/config/load.ts";
import { SETTING_ROWS } from "../../src/config/settings.ts";

interface NamedField {
  readonly path: string;
  readonly setting: SettingField<unknown>;
}

function fieldsIn({ path, setting }: NamedField): readonly NamedField[] {
  const inner = Object.entries(setting.fields ?? {}).flatMap(([key, field]) =>
    fieldsIn({ path: `${path}.${key}`, setting: field.setting }),
  );
  return [{ path, setting }, ...inner];
}

/** All settings, and the fields of tables. */
const FIELDS = SETTING_ROWS.flatMap(fieldsIn);

/** Settings that name an id, an address, a port or a file, and are the same on all nodes of a cluster nevertheless. */
const SHARED = new Map([
  ["node.cluster_id", "the nodes of a cluster have its id"],
  ["listen.allowed_hosts", "they are names that clients use for the whole cluster"],
  ["tenants.certificates.cluster", "a caller has the same view on all nodes"],
  ["tenants.credentials.cluster", "a caller has the same view on all nodes"],
  ["tenants.jwt.jwks_url", "all nodes trust the same issuer"],
  ["tenants.trusted_header.from", "a proxy is in front of all nodes"],
  ["dns.reverse_zones", "all nodes answer for the same zones"],
  ["dns.views.prefixes", "a client has the same view on all nodes"],
  ["dns.trusted_forwarders", "a forwarder is trusted by all nodes"],
  ["summary.keys.cluster_id", "all nodes trust the same keys"],
  ["fabric.borders.cluster_id", "the whole list belongs to the node"],
  ["fabric.borders.addresses", "the whole list belongs to the node"],
  ["store.endpoints", "all nodes use the same store"],
  ["checks.allowed", "the rule is the same wherever an entry is registered"],
]);

test("a setting that names an id, an address, a port or a file belongs to the node, or the reason why not is known", () => {
  const name = /(?:^|[._])(?:ids?|hosts?|ports?|files?|dir|addresses|endpoints|seeds|upstreams|urls?)$/;
  const isNaming = ({ path, setting }: NamedField) =>
    setting.type === "port" || name.test(path) || /file path|address|host name/.test(setting.what ?? "");
  const shared = FIELDS.filter((field) => isNaming(field) && field.setting.perNode !== true).map(({ path }) => path);
  expect(shared.filter((path) => !SHARED.has(path))).toEqual([]);
  const perNode = FIELDS.filter(({ setting }) => setting.perNode === true).map(({ path }) => path);
  expect(perNode.filter((path) => SHARED.has(path))).toEqual([]);
});

/**
 * Files that SIGHUP does not read again: the directory is in use, the client of etcd reads its files when it connects, a node is an issuer or not
 * from its start, and a socket is not read.
 */
const NOT_RELOADED = [
  "identity.issuer_cert_file",
  "identity.issuer_key_file",
  "identity.spire_socket",
  "persistence.data_dir",
  "store.ca_file",
  "store.cert_file",
  "store.key_file",
  "store.password_file",
];

test("SIGHUP reads every file again, but for those of a store and the data directory, and applies no other setting", () => {
  const files = FIELDS.filter(({ setting }) => setting.what === PATH.what);
  const reloaded = FIELDS.filter(({ setting }) => setting.reloadable === true);
  expect(reloaded.map(({ path }) => path).toSorted()).toEqual(
    files
      .map(({ path }) => path)
      .filter((path) => !NOT_RELOADED.includes(path))
      .toSorted(),
  );
});

function settingsOf(toml = "") {
  const loaded = loadConfig({ file: { name: "n.toml", text: toml, format: "toml" }, env: {}, flags: new Map() });
  if (!loaded.ok) throw new Error(JSON.stringify(loaded.problems));
  return loaded.effective.settings;
}

const CREDENTIAL = `[[tenants.credentials]]\ntenant = "a"\n`;
const hash = (digit: string) => `token_sha256 = "${digit.repeat(64)}"\n`;

test.each([
  { what: "an id", one: '[node]\nid = "a"', other: '[node]\nid = "b"', changes: false },
  { what: "labels", one: "", other: '[node]\nlabels = { rack = "7" }', changes: false },
  { what: "a port", one: "", other: "[dns]\ntcp_port = 54", changes: false },
  { what: "an address", one: "", other: '[fabric]\nseeds = ["10.0.0.1:17421"]', changes: false },
  { what: "a file", one: "", other: '[policy]\nfile = "p.yaml"', changes: false },
  { what: "a file in a table", one: `${CREDENTIAL}token_file = "a"`, other: `${CREDENTIAL}token_file = "b"`, changes: false },
  { what: "a secret in a table", one: CREDENTIAL + hash("0"), other: CREDENTIAL + hash("1"), changes: false },
  { what: "a default that is written", one: "", other: "[dns]\nenabled = true", changes: false },
  { what: "another unit", one: '[dns]\nmax_ttl = "90s"', other: '[dns]\nmax_ttl = "1.5m"', changes: false },
  { what: "a number", one: "", other: "[fabric]\nmax_links = 21", changes: true },
  { what: "a cluster id", one: "", other: '[node]\ncluster_id = "c2"', changes: true },
  { what: "the order of a list", one: '[dns]\nzones = ["a", "b"]', other: '[dns]\nzones = ["b", "a"]', changes: true },
  { what: "a field of a table", one: CREDENTIAL + hash("0"), other: `${CREDENTIAL}roles = ["mesh.read"]\n${hash("0")}`, changes: true },
  { what: "a row of a table", one: "", other: CREDENTIAL + hash("0"), changes: true },
  { what: "a setting without a default", one: "", other: "[dns]\nanswer_limit = 5", changes: true },
])("the digest of the settings changes with $what: $changes", ({ one, other, changes }) => {
  const [a, b] = [configDigest(settingsOf(one)), configDigest(settingsOf(other))];
  expect(a).toMatch(/^[0-9a-f]{16}$/);
  expect(a !== b).toBe(changes);
});

test("the digests of two nodes differ exactly if that of a setting does", () => {
  const [one, other] = [settingsOf(), settingsOf("[dns]\nanswer_limit = 5\nudp_port = 53")];
  const differing = SETTING_ROWS.filter((row) => settingDigest(one, row) !== settingDigest(other, row)).map(({ path }) => path);
  expect(differing).toEqual(["dns.answer_limit"]);
});
