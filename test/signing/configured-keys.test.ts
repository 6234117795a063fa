/** The keys of the settings: which rows are taken, and what is said of those that are not. */
import { expect, test } from "vitest";
import { clusterKeys, type KeyRow, MAX_KEY_CLUSTERS, MAX_KEYS_A_CLUSTER } from "../../src/signing/configured-keys.ts";
import { signingKey } from "../fakes/signing-keys.ts";

const OWN = { clusterId: "mine", region: "eu" };
const base64 = (bytes: Uint8Array) => Buffer.from(bytes).toString("base64");
const row = (number: number, more: KeyRow = {}): KeyRow => ({
  clusterId: "a",
  region: "us",
  publicKey: base64(signingKey(number).publicKey.raw),
  ...more,
});

test("rows become keys: several of a cluster, and those of the own cluster in its own region", () => {
  const { keys, problems } = clusterKeys({ keys: [row(0), row(1), row(2, { clusterId: "mine", region: "eu" })] }, OWN);
  expect(problems).toEqual([]);
  expect(keys.map(({ cluster, region }) => [cluster, region])).toEqual([
    ["a", "us"],
    ["a", "us"],
    ["mine", "eu"],
  ]);
  expect(keys.map(({ publicKey }) => base64(publicKey))).toEqual([0, 1, 2].map((number) => row(number).publicKey));
});

const many = (count: number, more: (i: number) => KeyRow) => Array.from({ length: count }, (_, i) => row(i, more(i)));
const NOT_BASE64 = "must be 32 bytes in base64; print it with: openssl pkey -in FILE -pubout -outform DER | tail -c 32 | base64";

test.each([
  { what: "no cluster", rows: [row(0, { clusterId: "" })], at: "[0].cluster_id", says: "must name a cluster" },
  { what: "no region", rows: [row(0, { region: "" })], at: "[0].region", says: "must name a region" },
  { what: "no key", rows: [row(0, { publicKey: "" })], at: "[0].public_key", says: NOT_BASE64 },
  {
    what: "base64 without its end",
    rows: [row(0, { publicKey: row(0).publicKey!.replace("=", "") })],
    at: "[0].public_key",
    says: NOT_BASE64,
  },
  { what: "31 bytes", rows: [row(0, { publicKey: base64(new Uint8Array(31)) })], at: "[0].public_key", says: NOT_BASE64 },
  {
    what: "a cluster in two regions",
    rows: [row(0), row(1, { region: "asia" })],
    at: "[1].region",
    says: "is asia, but summary.keys[0].region places cluster a in us",
  },
  {
    what: "the own cluster elsewhere",
    rows: [row(0, { clusterId: "mine" })],
    at: "[0].region",
    says: "is us, but node.region places cluster mine in eu",
  },
  {
    what: "a key of two clusters",
    rows: [row(0), row(0, { clusterId: "b" })],
    at: "[1].public_key",
    says: "is the same key as summary.keys[0]; a key belongs to one cluster, and can be listed only once",
  },
  {
    what: "more keys of a cluster than its bound",
    rows: many(MAX_KEYS_A_CLUSTER + 1, () => ({})),
    at: `[${MAX_KEYS_A_CLUSTER}].cluster_id`,
    says: "exceeds the limit of 8 keys for cluster a",
  },
  {
    what: "more clusters than their bound",
    rows: many(MAX_KEY_CLUSTERS + 1, (i) => ({ clusterId: `c${i}` })),
    at: `[${MAX_KEY_CLUSTERS}].cluster_id`,
    says: "exceeds the limit of 256 clusters with keys",
  },
])("$what: summary.keys$at is refused", ({ rows, at, says }) => {
  const { keys, problems } = clusterKeys({ keys: rows }, OWN);
  expect(problems).toEqual([[`summary.keys${at}`, says]]);
  expect(keys).toHaveLength(rows.length - 1);
});

const border = (numbers: readonly number[], more: { readonly clusterId?: string; readonly region?: string } = {}) => ({
  clusterId: "a",
  region: "us",
  keys: numbers.map((number) => row(number).publicKey ?? ""),
  ...more,
});

test("keys of borders count beside those of summary.keys, and one that both name for a cluster counts once", () => {
  const borders = [border([1, 0, 2]), border([3], { clusterId: "b", region: "asia" })];
  const { keys, problems } = clusterKeys({ keys: [row(0), row(4)], borders }, OWN);
  expect(problems).toEqual([]);
  expect(keys.map(({ cluster, region, path }) => `${path} ${cluster} ${region}`)).toEqual([
    "summary.keys[0] a us",
    "summary.keys[1] a us",
    "fabric.borders[0].keys[0] a us",
    "fabric.borders[0].keys[2] a us",
    "fabric.borders[1].keys[0] b asia",
  ]);
});

test.each([
  {
    what: "a key that summary.keys names for another cluster",
    keys: [row(1, { clusterId: "b" })],
    borders: [border([0, 1])],
    problem: ["fabric.borders[0].keys[1]", "is the same key as summary.keys[0]; a key belongs to one cluster, and can be listed only once"],
  },
  {
    what: "a key of two borders",
    keys: [],
    borders: [border([0]), border([0], { clusterId: "b" })],
    problem: [
      "fabric.borders[1].keys[0]",
      "is the same key as fabric.borders[0].keys[0]; a key belongs to one cluster, and can be listed only once",
    ],
  },
  {
    what: "another region than in summary.keys",
    keys: [row(0)],
    borders: [border([1], { region: "asia" })],
    problem: ["fabric.borders[0].region", "is asia, but summary.keys[0].region places cluster a in us"],
  },
  {
    what: "more keys of a cluster than its bound, both lists together",
    keys: many(MAX_KEYS_A_CLUSTER, () => ({})),
    borders: [border([0, MAX_KEYS_A_CLUSTER])],
    problem: ["fabric.borders[0].cluster_id", "exceeds the limit of 8 keys for cluster a"],
  },
  {
    what: "a key for which anybody can sign",
    keys: [],
    borders: [{ ...border([]), keys: [`${"A".repeat(43)}=`] }],
    problem: ["fabric.borders[0].keys[0]", "is not an Ed25519 public key, or is a weak key for which anyone can sign"],
  },
])("$what: a border is refused", ({ keys, borders, problem }) => {
  expect(clusterKeys({ keys, borders }, OWN).problems).toEqual([problem]);
});

/** All encodings of the eight points of small order, those that no encoder makes among them, and what is no point at all. */
test.each([
  ["0100000000000000000000000000000000000000000000000000000000000000", "the neutral point"],
  ["0100000000000000000000000000000000000000000000000000000000000080", "the neutral point, with a sign"],
  ["ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f", "order 2"],
  ["ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff", "order 2, with a sign"],
  ["0000000000000000000000000000000000000000000000000000000000000000", "order 4"],
  ["0000000000000000000000000000000000000000000000000000000000000080", "order 4, the other one"],
  ["26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05", "order 8"],
  ["26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85", "order 8, the second"],
  ["c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a", "order 8, the third"],
  ["c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa", "order 8, the fourth"],
  ["edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f", "order 4, with p added"],
  ["edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff", "order 4, with p added and a sign"],
  ["eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f", "the neutral point, with p added"],
  ["eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff", "the neutral point, with p added and a sign"],
  ["f0ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f", "a good point, with p added"],
  ["0200000000000000000000000000000000000000000000000000000000000000", "no point of the curve"],
])("%s is no key: %s", (hex) => {
  const { keys, problems } = clusterKeys({ keys: [row(0, { publicKey: base64(Buffer.from(hex, "hex")) })] }, OWN);
  expect(keys).toEqual([]);
  expect(problems).toEqual([["summary.keys[0].public_key", "is not an Ed25519 public key, or is a weak key for which anyone can sign"]]);
});
