/** Settings of a resolver: their bounds, and what a resolver or a node has no use for. */
import { expect, test } from "vitest";
import { hasUpstreamTls } from "../../src/config/exposure.ts";
import { loadConfig, problemText } from "../../src/config/load.ts";
import { SETTING_ROWS, type SettingRow } from "../../src/config/settings.ts";

const LOCAL = { upstreams: ["127.0.0.1:17420"] };

/** What is wrong with a file of these settings. Without `node` it is one of a resolver. */
function problemsOf(settings: object): readonly string[] {
  const text = JSON.stringify({ node: { mode: "resolver" }, ...settings });
  const loaded = loadConfig({ file: { name: "n.json", format: "json", text }, env: {}, flags: new Map() });
  return loaded.ok ? [] : loaded.problems.map(problemText);
}

test.each([
  { key: "upstreams", good: [["localhost:1"], ["[::1]:65535"]], bad: [["127.0.0.1"], ["127.0.0.1:0"], ["localhost:1", "localhost:1"]] },
  { key: "upstreams", good: [Array.from({ length: 64 }, (_, n) => `localhost:${n + 1}`)], bad: [Array(65).fill("localhost:1")] },
  { key: "namespaces", good: [[], ["svc", "a.b-c"], ["*"]], bad: [["Svc"], ["a."], [""], ["*.a"], ["a".repeat(64)], ["a", "a"]] },
  { key: "max_watches", good: [1, 1024], bad: [0, 1025] },
  { key: "ttl_zone", good: ["1s", "30s"], bad: ["999ms", "31s", "0s"] },
  { key: "ttl_region", good: ["15s", "1m"], bad: ["14s", "61s"] },
  { key: "ttl_global", good: ["30s", "1h"], bad: ["29s", "61m"] },
  { key: "negative_ttl", good: ["10s", "30s"], bad: ["9s", "31s"] },
  { key: "max_stale", good: ["0s", "30d"], bad: ["31d"] },
  { key: "guard_hold", good: ["1s", "1d"], bad: ["0s"] },
  { key: "max_entries", good: [1000, 16_777_216], bad: [999, 16_777_217] },
  { key: "max_bytes", good: ["64MiB", "1024GiB"], bad: ["63999999B", 63_999_999, "1025GiB"] },
  { key: "seed_on_start", good: [false], bad: ["no"] },
  { key: "prune_interval", good: ["1s"], bad: ["0s"] },
  { key: "resync_interval", good: ["10s", "1d"], bad: ["9s"] },
])("resolver.$key takes what it should and nothing else", ({ key, good, bad }) => {
  for (const value of good) expect(problemsOf({ resolver: { ...LOCAL, [key]: value } })).toEqual([]);
  for (const value of bad) expect(problemsOf({ resolver: { ...LOCAL, [key]: value } }).join()).toMatch(/^resolver\./);
});

test.each([
  { settings: { node: { mode: "resolver", workers: 1 } }, says: "node.workers" },
  { settings: { dns: { processes: 1 } }, says: "dns.processes" },
  { settings: { node: { mode: "resolver", name: "Edge" } }, says: "node.name" },
  { settings: { node: { mode: "resolver", resources: ["gpu"] } }, says: "node.resources" },
  { settings: { node: { mode: "resolver", roles: ["ingress"] } }, says: "node.roles" },
  { settings: { node: { mode: "resolver", labels: { rack: "r1" } } }, says: "node.labels" },
  { settings: { fabric: { enabled: true } }, says: "fabric.enabled" },
  { settings: { fabric: { on_stop: "keep" } }, says: "fabric.on_stop" },
  { settings: { fabric: { seeds: ["a:1"] } }, says: "fabric.seeds" },
  { settings: { fabric: { cluster_token_file: "t" } }, says: "fabric.cluster_token_file" },
  { settings: { fabric: { cert_file: "c", key_file: "k", ca_file: "a" } }, says: "fabric.cert_file" },
  { settings: { policy: { file: "p" } }, says: "policy.file" },
  { settings: { policy: { accept_from: ["c2"] } }, says: "policy.accept_from" },
  { settings: { checks: { enabled: true } }, says: "checks.enabled" },
  { settings: { persistence: { new_generation: true } }, says: "persistence.new_generation" },
])("a resolver has no use for $says, and refuses it by name; a node takes it", ({ settings, says }) => {
  expect(problemsOf({ ...settings, resolver: LOCAL })).toEqual([
    expect.stringMatching(new RegExp(`^${says}: cannot be set for a resolver: a resolver (?:has|uses) `)) as string,
  ]);
  expect(problemsOf({ ...settings, node: { ...("node" in settings && settings.node), mode: "node" } })).toEqual([]);
});

test("a resolver takes what a fleet says to its nodes, as long as nothing of it would be lost", () => {
  const quiet = { fabric: { enabled: false, interval: "2s" }, checks: { enabled: false }, persistence: { ephemeral: true } };
  // It opens no listener of the fabric, whose port another one may have.
  expect(problemsOf({ ...quiet, fabric: { port: 7000 }, listen: { grpc_port: 7000 }, resolver: LOCAL })).toEqual([]);
  expect(problemsOf({ ...quiet, resolver: LOCAL })).toEqual([]);
});

/** Another value than the default, as text. */
function otherTextOf({ path, setting }: SettingRow): string {
  if (path === "summary.resolver_scopes") return "global";
  if (Array.isArray(setting.default)) return path === "resolver.upstreams" ? "localhost:1" : "svc";
  if (typeof setting.default === "boolean") return String(!setting.default);
  return typeof setting.default === "number" ? setting.toText(setting.max) : "file";
}

test.each(SETTING_ROWS.filter(({ path }) => /^resolver\.|^summary\.resolver_/.test(path)))(
  "a node refuses $path: whoever set it meant a resolver",
  (row) => {
    const problemsAtNode = (text: string) => {
      const loaded = loadConfig({ env: { [row.env]: text }, flags: new Map() });
      return loaded.ok ? [] : loaded.problems.map(problemText);
    };
    expect(problemsAtNode(otherTextOf(row))).toContain(
      `${row.path}: is only for a resolver: set node.mode = "resolver" (flag --mode resolver), or remove the setting (environment ${row.env})`,
    );
    if (row.setting.default !== undefined) expect(problemsAtNode(row.setting.toText(row.setting.default))).toEqual([]);
  },
);

test.each([
  { summary: { resolver_scopes: ["global", "region"], resolver_namespaces: ["svc.market"] }, says: "" },
  { summary: { resolver_scopes: ["local"] }, says: "summary.resolver_scopes" },
  { summary: { resolver_namespaces: ["svc"] }, says: "summary.resolver_namespaces: needs summary.resolver_scopes" },
  { summary: { resolver_scopes: ["global"], resolver_namespaces: ["*"] }, says: "summary.resolver_namespaces" },
  { summary: { resolver_scopes: ["global"] }, dns: { summary_answers: true }, says: "" },
  { summary: {}, dns: { summary_answers: true }, says: "dns.summary_answers: needs summary.resolver_scopes on a resolver" },
])("a resolver with $summary and $dns: $says", ({ summary, dns = {}, says }) => {
  expect(problemsOf({ summary, dns, resolver: LOCAL }).join()).toMatch(says === "" ? /^$/ : says);
});

test.each([
  { resolver: {}, says: /^resolver\.upstreams: is empty; a resolver needs at least one server/ },
  {
    resolver: { upstreams: ["127.0.0.1:1", "10.0.0.1:1"] },
    says: /^resolver\.upstreams: 10\.0\.0\.1:1 is not on this machine, and resolvers on other machines must use TLS/,
  },
  { resolver: { upstreams: ["[fd00::1]:1"] }, says: /^resolver\.upstreams: \[fd00::1\]:1 is not on this machine/ },
  {
    resolver: { ...LOCAL, max_bytes: "1MiB" },
    says: /^resolver\.max_bytes: is 1048576 bytes, less than 64 .* is 1000000; raise it to 64000000, or lower resolver\.max_entries to 16384/,
  },
  { resolver: { ...LOCAL, namespaces: ["a", "b"], max_watches: 1 }, says: /^resolver\.namespaces: has 2 namespaces, more than .* is 1 / },
  { resolver: { ...LOCAL, tls: true, tls_cert_file: "c" }, says: /^resolver\.tls_cert_file: needs resolver\.tls_key_file too/ },
  { resolver: { ...LOCAL, tls: true, tls_key_file: "k" }, says: /^resolver\.tls_key_file: needs resolver\.tls_cert_file too/ },
  { resolver: { ...LOCAL, tls_cert_file: "c", tls_key_file: "k" }, says: /^resolver\.tls_cert_file: needs resolver\.tls or/ },
])("$resolver is refused: $says", ({ resolver, says }) => {
  expect(problemsOf({ resolver })).toEqual([expect.stringMatching(says) as string]);
});

test.each([
  { given: {}, isTls: false },
  { given: { tls: true }, isTls: true },
  { given: { tls_ca_file: "a" }, isTls: true },
  { given: {}, identity: { source: "spire", spire_socket: "/agent" }, isTls: true },
])("with $given and $identity TLS to the upstreams is $isTls, and others than this machine may be upstreams accordingly", (row) => {
  const { given, identity = {}, isTls } = row;
  const text = JSON.stringify({ node: { mode: "resolver" }, identity, resolver: { ...LOCAL, ...given } });
  const loaded = loadConfig({ file: { name: "n.json", format: "json", text }, env: {}, flags: new Map() });
  expect(loaded.ok && hasUpstreamTls(loaded.effective.settings)).toBe(isTls);
  expect(problemsOf({ identity, resolver: { ...given, upstreams: ["node-1.example:17420"] } })).toHaveLength(isTls ? 0 : 1);
});
