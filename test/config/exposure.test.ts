/** What settings protect, and whether their fabric is open to everybody. */
import { expect, test } from "vitest";
import {
  anonymousAccess,
  exposureFaults,
  exposureWarnings,
  hasTls,
  isFabricOpen,
  protectingSetting,
  wantsPeers,
} from "../../src/config/exposure.ts";
import { loadConfig } from "../../src/config/load.ts";
import type { Settings } from "../../src/config/settings.ts";

function settings(file: object): Settings {
  const loaded = loadConfig({ file: { name: "node.json", text: JSON.stringify(file), format: "json" }, env: {}, flags: new Map() });
  if (!loaded.ok) throw new Error(JSON.stringify(loaded.problems));
  return loaded.effective.settings;
}

const KEY = { tenant: "t", token_sha256: "0".repeat(64) };

test.each([
  { file: { listen: { host: "10.0.0.1" } }, says: "refusing to listen on 10.0.0.1 (listen.host): " },
  { file: { dns: { host: "10.0.0.1" } }, says: "refusing to listen on 10.0.0.1 (dns.host): " },
  { file: { dns: { host: "10.0.0.1", enabled: false } }, says: undefined },
  { file: { listen: { host: "10.0.0.1", insecure: true } }, says: undefined },
])("of $file a start is refused with $says", ({ file, says }) => {
  expect(exposureFaults(settings(file))).toEqual(says === undefined ? [] : [expect.stringContaining(says)]);
});

test.each([
  { file: {}, setting: undefined },
  { file: { tenants: { default: "t" } }, setting: undefined },
  { file: { tenants: { credentials: [KEY] } }, setting: "tenants.credentials" },
  { file: { tenants: { jwt: { issuer: "i", audience: "a", jwks_file: "f" } } }, setting: "tenants.jwt" },
  { file: { tenants: { trusted_header: { name: "x-tenant", from: ["10.0.0.1"] } } }, setting: "tenants.trusted_header" },
  { file: { tenants: { certificates: [{ principal: "p" }] } }, setting: "tenants.certificates" },
  { file: { tenants: { mode: true } }, setting: "tenants.mode" },
  { file: { tenants: { anonymous: "none" } }, setting: "tenants.anonymous" },
  { file: { tenants: { anonymous: "read" } }, setting: "tenants.anonymous" },
  { file: { tenants: { anonymous: "all" } }, setting: undefined },
  { file: { tls: { cert_file: "c", key_file: "k" } }, setting: "tls.cert_file" },
  { file: { tls: { source: "identity" } }, setting: "tls.source" },
  { file: { policy: { file: "p" } }, setting: "policy.file" },
])("of $file what protects is $setting", ({ file, setting }) => {
  expect(protectingSetting(settings(file))).toBe(setting);
});

test("with an identity, listeners may be beyond loopback, the fabric is not open, and callers without credential only read", () => {
  const own = settings({ tls: { source: "identity" }, listen: { host: "10.0.0.1" }, fabric: { seeds: ["10.0.0.2:1"] } });
  expect([exposureFaults(own), isFabricOpen(own), hasTls(own)]).toEqual([[], false, true]);
  expect(exposureWarnings(own)).toEqual([]);
  expect(anonymousAccess(settings({ tls: { source: "identity" } }))).toBe("read");
});

test("with certificates from the mesh or from SPIRE, the fabric of a node with a data directory is not open", () => {
  const own = (persistence: object, identity: object = { source: "mesh" }) =>
    settings({ identity, tenants: { managed: true }, fabric: { seeds: ["10.0.0.2:1"] }, persistence });
  expect([exposureFaults(own({})), isFabricOpen(own({}))]).toEqual([[], false]);
  expect(isFabricOpen(own({}, { source: "spire", spire_socket: "/agent" }))).toBe(false);
  expect(isFabricOpen(own({ ephemeral: true }))).toBe(true);
});

test("a fabric with a token or certificates is not open; seeds, or fabric.enabled said aloud, want peers", () => {
  const certificates = { cert_file: "c", key_file: "k", ca_file: "a" };
  expect([{}, { cluster_token_file: "t" }, certificates].map((fabric) => isFabricOpen(settings({ fabric })))).toEqual([true, false, false]);
  const said = [{}, { enabled: false }, { enabled: true }, { seeds: ["a:1"] }];
  expect(said.map((fabric) => wantsPeers(settings({ fabric })))).toEqual([false, false, true, true]);
});

/** Borders with two clusters, of which one has a key. */
const BORDERS = {
  fabric: { borders: ["us1", "us2"].map((cluster_id) => ({ cluster_id, region: "us", trust: { token_file: `${cluster_id}.token` } })) },
  summary: { keys: [{ cluster_id: "us1", region: "us", public_key: `${"A".repeat(43)}=` }] },
};

test.each([
  { file: {}, says: [] },
  { file: { fabric: { trust: "permissive" } }, says: ['fabric.trust = "permissive"'] },
  { file: { fabric: { trust: "permissive", enabled: false } }, says: [] },
  { file: { fabric: { clusters: ["c2"] } }, says: ["fabric.clusters has no effect"] },
  { file: { fabric: { clusters: ["c2"], trust: "explicit" }, policy: { accept_from: ["c2"] } }, says: [] },
  { file: { fabric: { clusters: ["c2"], cert_file: "c", key_file: "k", ca_file: "a" } }, says: [] },
  { file: { policy: { accept_from: ["c2"] } }, says: ["policy.accept_from has no effect for c2"] },
  { file: BORDERS, says: ["fabric.borders[1].keys and summary.keys contain no key of us2"] },
  { file: { ...BORDERS, summary: { ...BORDERS.summary, require_signatures: false } }, says: [] },
])("of other clusters $file is warned of with $says", ({ file, says }) => {
  const warned = exposureWarnings(settings(file));
  expect(warned.map((line, i) => (line.startsWith(says[i] ?? "-") ? says[i] : line))).toEqual(says);
});

test.each([
  { file: { tenants: { anonymous: "none" }, listen: { host: "0.0.0.0", insecure: true } }, says: ["DNS refuses every query"] },
  { file: { tenants: { anonymous: "none" }, dns: { host: "10.0.0.1", enabled: false } }, says: [] },
  { file: { tenants: { anonymous: "none" }, dns: { views: [{ prefixes: ["10.0.0.0/8"], tenant: "red" }] } }, says: [] },
  { file: { tenants: { anonymous: "read" } }, says: [] },
  { file: { dns: { views: [{ prefixes: ["0.0.0.0/0"] }] } }, says: [] },
  { file: { dns: { views: [{ prefixes: ["10.0.0.0/8", "0.0.0.0/0"], tenant: "red" }] } }, says: ["the view of tenant red to 0.0.0.0/0"] },
  { file: { dns: { views: [{ prefixes: ["::/0"], tenant: "red" }] } }, says: ["the view of tenant red to ::/0"] },
  { file: { dns: { views: [{ prefixes: ["::ffff:0:0/96"], tenant: "red" }] } }, says: ["the view of tenant red to ::ffff:0:0/96"] },
  { file: { dns: { views: [{ prefixes: ["::/0"], tenant: "red" }], enabled: false } }, says: [] },
  {
    file: { dns: { views: [{ prefixes: ["128.0.0.0/1", "0.0.0.0/1", "10.0.0.0/8"], tenant: "red" }] } },
    says: ["dns.views[0] applies the view of tenant red to 128.0.0.0/1, 0.0.0.0/1:"],
  },
  {
    file: {
      dns: {
        views: [
          { prefixes: ["::/1", "10.0.0.0/8"], tenant: "red" },
          { prefixes: ["8000::/1"], tenant: "red", listener: "tcp" },
        ],
      },
    },
    says: ["dns.views[0] and dns.views[1] apply the view of tenant red to ::/1, 8000::/1:"],
  },
  {
    file: {
      dns: {
        views: [
          { prefixes: ["0.0.0.0/1", "64.0.0.0/2", "::/1"], tenant: "red" },
          { prefixes: ["128.0.0.0/1"], tenant: "blue" },
          { prefixes: ["128.0.0.0/1"], listener: "tcp" },
        ],
      },
    },
    says: [],
  },
  {
    file: { dns: { trusted_forwarders: ["10.0.0.5", "::/0"] } },
    says: ["dns.trusted_forwarders contains ::/0: dns.rate does not apply to these addresses"],
  },
  {
    file: { dns: { trusted_forwarders: ["0.0.0.0/1", "128.0.0.0/1"] } },
    says: ["dns.trusted_forwarders contains 0.0.0.0/1, 128.0.0.0/1:"],
  },
  { file: { dns: { trusted_forwarders: ["10.0.0.0/8", "10.0.0.5", "0.0.0.0/1"] } }, says: [] },
  {
    file: {
      node: { mode: "resolver" },
      resolver: { upstreams: ["127.0.0.1:1"] },
      dns: { transfer_keys: [{ name: "k", secret_file: "/k" }] },
    },
    says: ["dns.transfer_keys on a resolver: a resolver does not send zones"],
  },
  {
    file: { dns: { transfer_keys: [{ name: "k", secret_file: "/k" }], dnssec_key_file: "/zone.pem" } },
    says: ["dns.dnssec_key_file with dns.transfer_keys: a zone is sent without signatures"],
  },
  { file: { dns: { transfer_keys: [{ name: "k", secret_file: "/k" }] } }, says: [] },
  { file: { dns: { dnssec_key_file: "/zone.pem" } }, says: [] },
  { file: { dns: { allow_external_names: true } }, says: ["as an open resolver does"] },
  { file: { dns: { allow_external_names: true, enabled: false } }, says: [] },
])("of DNS $file is warned of with $says", ({ file, says }) => {
  const warned = exposureWarnings(settings(file)).filter((line) => /dns/i.test(line));
  expect(warned).toEqual(says.map((part) => expect.stringContaining(part) as string));
});
