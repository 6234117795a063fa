/** The borders that settings may name, and why others are refused. */
import { expect, test } from "vitest";
import { BORDERS, type BorderSettings, borderProblems } from "../../src/config/borders.ts";

const US = { cluster_id: "us1", region: "us", addresses: ["10.0.0.1:17421"], trust: { ca_file: "us.pem" } };
const NEAR = { cluster_id: "us1", region: "us", addresses: ["127.0.0.1:17421", "[::1]:1", "localhost:2"], trust: { token_file: "t" } };

const KEY = `${"A".repeat(43)}=`;
const KEYS = [{ clusterId: "ap1", region: "ap" }];

/** The borders of a node of cluster `eu1` in region `eu`, or what is wrong with them. */
function read(
  fabric: { readonly hasCertificate?: boolean; readonly hasFabric?: boolean },
  raw: unknown,
): readonly BorderSettings[] | string {
  const parsed = BORDERS.parse(raw);
  if ("faults" in parsed) return parsed.faults.map(({ at, message }) => `${at.join(".")}: ${message}`).join("\n");
  const here = { clusterId: "eu1", region: "eu", hasCertificate: true, hasFabric: true, keys: KEYS, ...fabric };
  const problems = borderProblems(parsed.value, here).map(([path, message]) => `${path}: ${message}`);
  return problems.length === 0 ? parsed.value : problems.join("\n");
}

test("a border says who the neighbour is and what it must prove; the rest has defaults", () => {
  expect(read({}, [US])).toEqual([
    {
      clusterId: "us1",
      region: "us",
      addresses: ["10.0.0.1:17421"],
      trust: { caFile: "us.pem", trustDomain: undefined, tokenFile: undefined },
      keys: [],
      import: [],
      export: [],
      batchIntervalMs: 200,
      bytesPerSecond: 0,
    },
  ]);
});

test.each<[string, object, object[], string]>([
  [
    "by certificate",
    {},
    [{ ...US, trust: { ca_file: "us.pem", trust_domain: "us.example" }, import: ["svc", "svc.prod.*"], export: ["svc.market"] }],
    "",
  ],
  ["by token on loopback", { hasCertificate: false }, [NEAR], ""],
  ["two of one region", {}, [US, { ...US, cluster_id: "us2" }], ""],
  ["to oneself", {}, [{ ...US, cluster_id: "eu1" }], "[0].cluster_id: eu1 is this cluster itself (node.cluster_id)"],
  [
    "to the own region",
    {},
    [US, { ...US, cluster_id: "eu2", region: "eu" }],
    "[1].region: eu is this node's own region (node.region); use fabric.trust and fabric.clusters for clusters of the same region",
  ],
  [
    "twice the same",
    {},
    [US, { ...US, region: "ap" }],
    "[1].cluster_id: us1 is also the cluster of [0]; a cluster can have only one border",
  ],
  [
    "without proof",
    {},
    [{ ...US, trust: {} }],
    "0.trust: needs either ca_file or token_file to authenticate the nodes of the other cluster",
  ],
  ["without the table of proofs", {}, [{ cluster_id: "us1", region: "us" }], "0.trust: is required"],
  ["with proofs beside the table", {}, [{ ...US, ca_file: "us.pem" }], "0.ca_file: unknown key; did you mean trust.ca_file?"],
  [
    "with a proof in place of the table",
    {},
    [{ cluster_id: "us1", region: "us", token_file: "t" }],
    "0.trust: is required\n0.token_file: unknown key; did you mean trust.token_file?",
  ],
  [
    "with two proofs",
    {},
    [{ ...US, trust: { ca_file: "us.pem", token_file: "t" } }],
    "0.trust: needs either ca_file or token_file to authenticate the nodes of the other cluster",
  ],
  [
    "by a token of a domain",
    {},
    [{ ...NEAR, trust: { token_file: "t", trust_domain: "us.example" } }],
    "0.trust: trust_domain needs ca_file",
  ],
  ["with keys", {}, [{ ...US, keys: [KEY, `${"B".repeat(43)}=`] }], ""],
  ["with a key twice", {}, [{ ...US, keys: [KEY, KEY] }], `0.keys: "${KEY}" appears twice`],
  [
    "with a key of another form",
    {},
    [{ ...US, keys: ["AAAA"] }],
    '0.keys: "AAAA" is not 32 bytes in base64, as `openssl pkey -in FILE -pubout -outform DER | tail -c 32 | base64` prints them',
  ],
  [
    "by certificate at a node without",
    { hasCertificate: false },
    [US],
    "[0].trust.ca_file: needs fabric.cert_file, fabric.key_file and fabric.ca_file, because both sides present certificates",
  ],
  [
    "by token at a node with certificates",
    {},
    [NEAR],
    "[0].trust.token_file: requires a fabric without certificates, but this node has fabric.cert_file; use ca_file",
  ],
  [
    "by token to another machine",
    { hasCertificate: false },
    [{ ...NEAR, addresses: ["10.0.0.1:1"] }],
    "0: trust.token_file is for loopback only, and 10.0.0.1:1 is not on loopback; use trust.ca_file",
  ],
  [
    "a cluster that no certificate names",
    {},
    [{ ...US, cluster_id: "a/b" }],
    "0: a/b is not valid in a certificate, so its nodes could not authenticate; use A-Z a-z 0-9 . _ -",
  ],
  [
    "in another region than the keys of the cluster",
    {},
    [{ ...US, cluster_id: "ap1" }],
    "[0].region: is us, but summary.keys[0].region is ap for the same cluster ap1",
  ],
  ["by a fabric that is off", { hasFabric: false }, [NEAR], "[0]: needs fabric.enabled"],
  [
    "in too many regions",
    {},
    Array.from({ length: 33 }, (_, i) => ({ ...US, cluster_id: `c${i}`, region: `r${i}` })),
    ": there are 33 regions, more than the maximum of 32",
  ],
  ["too many", {}, Array.from({ length: 65 }, (_, i) => ({ ...US, cluster_id: `c${i}` })), ": 65 tables exceed the maximum of 64"],
  [
    "a pattern in the middle",
    {},
    [{ ...US, export: ["svc.*.eu"] }],
    '0.export: "svc.*.eu" is not a namespace (which includes all namespaces below it), or a namespace followed by .* (only the namespaces below it)',
  ],
])("borders %s", (_what, fabric, borders, want) => {
  const found = read(fabric, borders);
  expect(typeof found === "string" ? found : "").toBe(want);
});
