/** Settings of the control store and of leadership: their bounds, and the rules between them. */
import { expect, test } from "vitest";
import { hasStoreTls } from "../../src/config/exposure.ts";
import { loadConfig, problemText } from "../../src/config/load.ts";
import { SETTING_ROWS } from "../../src/config/settings.ts";

function load(file: object) {
  return loadConfig({ file: { name: "n.json", format: "json", text: JSON.stringify(file) }, env: {}, flags: new Map() });
}

function problemsOf(file: object): readonly string[] {
  const loaded = load(file);
  return loaded.ok ? [] : loaded.problems.map(problemText);
}

const ETCD = { kind: "etcd", endpoints: ["127.0.0.1:2379"] };
const REMOTE = { kind: "etcd", endpoints: ["127.0.0.1:2379", "etcd.example:2379"] };
const USER = { user: "waymark", password_file: "p" };

test.each([
  { key: "kind", good: ["etcd"], bad: ["sqlite", ""] },
  { key: "endpoints", good: [["a:1", "[::1]:65535"]], bad: [["a"], ["a:0"], ["http://a:1"], ["a:1", "a:1"]] },
  {
    key: "endpoints",
    good: [Array.from({ length: 16 }, (_, n) => `a:${n + 1}`)],
    bad: [Array.from({ length: 17 }, (_, n) => `a:${n + 1}`)],
  },
  {
    key: "prefix",
    good: ["", "/a/", "/a/b~!/", `/${"a".repeat(254)}/`],
    bad: ["/", "//", "a/", "/a", "/a b/", "/ä/", `/${"a".repeat(255)}/`],
  },
  { key: "ca_file", good: ["/etc/ca.pem"], bad: ["", 1] },
  { key: "timeout", good: ["100ms", "10s"], bad: ["99ms", "10001ms"] },
  { key: "compact_interval", good: ["0s", "1d"], bad: ["25h", 0] },
])("store.$key accepts values within its bounds and no others", ({ key, good, bad }) => {
  const leadership = { lease: "1m" };
  for (const value of good) expect(problemsOf({ leadership, store: { ...ETCD, [key]: value } })).toEqual([]);
  for (const value of bad) expect(problemsOf({ leadership, store: { ...ETCD, [key]: value } }).join()).toMatch(`store.${key}: `);
});

test.each(["a b", "", "ü", "a".repeat(129)])("the user %j is refused", (user) => {
  expect(problemsOf({ store: { ...ETCD, ...USER, user } }).join()).toMatch(/^store\.user: .* is not 1 to 128 characters/);
});

const SCOPES = Array.from({ length: 1001 }, (_, n) => `custom/svc/s${n}`);

test.each([
  { key: "lease", good: ["1500ms", "1m"], bad: ["1499ms", "61s"] },
  { key: "candidate", good: [false, true], bad: ["no"] },
  { key: "scopes", good: [[], ["custom/svc.orders/cleaner"], ["custom/a/A.b_c-1"], [`custom/${"a.".repeat(119)}ab/x`]], bad: [] },
  { key: "scopes", good: [SCOPES.slice(1)], bad: [SCOPES, ["custom/a/b", "custom/a/b"]] },
  {
    key: "scopes",
    good: [],
    bad: ["global-control", "shard/a/b", "custom/a", "custom//b", "custom/a/", "custom/a/b/c"].map((each) => [each]),
  },
  {
    key: "scopes",
    good: [],
    bad: ["custom/A/b", "custom/-a/b", "custom/a./b", "custom/a/b c", `custom/a/${"b".repeat(129)}`].map((each) => [each]),
  },
  { key: "scopes", good: [], bad: [[`custom/${"a.".repeat(120)}a/x`]] },
])("leadership.$key accepts values within its bounds and no others", ({ key, good, bad }) => {
  for (const value of good) expect(problemsOf({ leadership: { [key]: value } })).toEqual([]);
  for (const value of bad) expect(problemsOf({ leadership: { [key]: value } }).join()).toMatch(`leadership.${key}: `);
});

test.each([
  { file: { store: { kind: "etcd" } }, problem: /^store\.endpoints: is empty; store\.kind = "etcd" needs at least one endpoint/ },
  { file: { store: { ...ETCD, cert_file: "c" } }, problem: /^store\.cert_file: needs store\.key_file too/ },
  { file: { store: { ...ETCD, key_file: "k" } }, problem: /^store\.key_file: needs store\.cert_file too/ },
  { file: { store: { ...ETCD, user: "u" } }, problem: /^store\.user: needs store\.password_file too/ },
  { file: { store: { ...ETCD, password_file: "p" } }, problem: /^store\.password_file: needs store\.user too/ },
  {
    file: { store: { ...REMOTE, ...USER } },
    problem: /^store\.password_file: etcd\.example:2379 is not on this machine, and a password must not .*; set store\.ca_file/,
  },
  {
    file: { store: { ...ETCD, timeout: "1001ms" } },
    problem: /^store\.timeout: 1001ms is more than a third of leadership\.lease, which is 3s/,
  },
  {
    file: { store: ETCD, leadership: { lease: "1500ms" } },
    problem: /^store\.timeout: 1s is more than a third of leadership\.lease, which is 1500ms \(default\)/,
  },
])("$file is refused: $problem", ({ file, problem }) => {
  expect(problemsOf(file)).toEqual([expect.stringMatching(problem) as string]);
});

test.each([
  { what: "etcd on this machine", file: { store: ETCD } },
  { what: "a password to this machine", file: { store: { kind: "etcd", endpoints: ["localhost:1", "127.0.0.2:1", "[::1]:1"], ...USER } } },
  { what: "a password over TLS", file: { store: { ...REMOTE, ...USER, ca_file: "a" } } },
  { what: "a password over TLS with a client certificate", file: { store: { ...REMOTE, ...USER, cert_file: "c", key_file: "k" } } },
  { what: "etcd on another machine without a password", file: { store: REMOTE } },
  {
    what: "the shortest lease with a third of it as the timeout",
    file: { store: { ...ETCD, timeout: "500ms" }, leadership: { lease: "1500ms" } },
  },
  { what: "the shortest lease with the embedded store", file: { leadership: { lease: "1500ms" } } },
  { what: "defaults that are written down", file: { store: { kind: "embedded", endpoints: [], prefix: "", timeout: "1s" } } },
])("accepted: $what", ({ file }) => {
  expect(problemsOf(file)).toEqual([]);
});

/** A value for each setting that differs from its default. */
const OTHER_VALUES = {
  store: { ...REMOTE, ...USER, prefix: "/a/", ca_file: "a", cert_file: "c", key_file: "k", timeout: "2s", compact_interval: "0s" },
  leadership: { lease: "10s", candidate: false, scopes: ["custom/a/b"] },
};
const rowsOf = (group: string) => SETTING_ROWS.filter((row) => row.group === group).map(({ path }) => path);

test("settings of etcd are refused with the embedded store", () => {
  const { kind, ...others } = OTHER_VALUES.store;
  expect(problemsOf({ store: { ...others, kind: "embedded" } })).toEqual(
    rowsOf("store")
      .filter((path) => path !== "store.kind")
      .map((path) => `${path}: has an effect only with etcd: set store.kind = "etcd", or remove the setting (file n.json)`),
  );
  expect(problemsOf({ store: { ...others, kind }, leadership: OTHER_VALUES.leadership })).toEqual([]);
});

test("a resolver refuses all settings of the control store and of leadership, and only for this reason", () => {
  const resolver = { upstreams: ["127.0.0.1:17420"] };
  expect(problemsOf({ ...OTHER_VALUES, resolver, node: { mode: "resolver" } })).toEqual(
    [...rowsOf("store"), ...rowsOf("leadership")].map(
      (path) => `${path}: cannot be set for a resolver: a resolver has no control store, and is never a leader (file n.json)`,
    ),
  );
});

test.each([
  { store: ETCD, isTls: false },
  { store: { ...ETCD, ca_file: "a" }, isTls: true },
  { store: { ...ETCD, cert_file: "c", key_file: "k" }, isTls: true },
])("with $store, TLS to etcd is $isTls", ({ store, isTls }) => {
  const loaded = load({ store });
  expect(loaded.ok && hasStoreTls(loaded.effective.settings)).toBe(isTls);
});
