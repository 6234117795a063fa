import { expect, test } from "vitest";
import { encodeIdentity, REVOCATIONS } from "../../../src/control/identity/records.ts";
import { MAX_TRUST_BYTES, TrustCopy } from "../../../src/control/identity/trust.ts";

const REVOKED = { untilWallMs: 9, reason: "stolen", revokedBy: "ann", revokedWallMs: 1 };
const record = (key: string, value: object) => ({ key, value: encodeIdentity(value) });
const ISSUER = { address: "a:1", rootKey: "r", expiresWallMs: 9 };

test("a copy has the roots, issuers and revocations of its records", () => {
  const copy = new TrustCopy("eu");
  copy.apply([
    record("trust/roots/r1", { certificate: "pem1", publishedWallMs: 1 }),
    record("trust/roots/r2", { certificate: "pem2", publishedWallMs: 1 }),
    record("trust/issuers/k1", { nodeId: "eu-1", ...ISSUER }),
    record("trust/issuers/k2", { nodeId: "eu-2", ...ISSUER }),
    record("trust/revocations/issuer/k2", { beforeWallMs: 0, ...REVOKED }),
    record("trust/revocations/name/node/eu-3", { beforeWallMs: 5, ...REVOKED }),
    record("identity/tokens/eu:1", { secretDigest: "never copied" }),
  ]);
  expect(copy.roots).toBe("pem1pem2");
  expect(copy.issuers.map(({ nodeId }) => nodeId)).toEqual(["eu-1"]);
  expect(copy.revocations).toEqual({ names: new Map([["eu/node/eu-3", 5]]), issuers: new Set(["eu/k2"]) });
  expect([...copy.records.keys()].some((key) => key.includes("tokens"))).toBe(false);
});

test("a reset replaces all records, and a removal ends a revocation", () => {
  const copy = new TrustCopy("eu");
  copy.apply([
    record("trust/roots/r1", { certificate: "pem1", publishedWallMs: 1 }),
    record("trust/revocations/name/node/a", { beforeWallMs: 5, ...REVOKED }),
  ]);
  copy.apply([record("trust/revocations/name/node/b", { beforeWallMs: 6, ...REVOKED })], true);
  expect([...copy.revocations.names.keys()]).toEqual(["eu/node/b"]);
  expect(copy.roots).toBe("");
  copy.apply([{ key: "trust/revocations/name/node/b", value: undefined }]);
  expect(copy.revocations.names.size).toBe(0);
});

test("a revocation that cannot be read counts for every certificate of the name", () => {
  const copy = new TrustCopy("eu");
  copy.apply([{ key: "trust/revocations/name/node/a", value: Buffer.from("{}") }]);
  expect(copy.revocations.names.get("eu/node/a")).toBe(Number.POSITIVE_INFINITY);
});

test("the issuer of another cluster has a word only about revocations of its cluster", () => {
  const copy = new TrustCopy("us", REVOCATIONS);
  copy.apply([
    record("trust/roots/r1", { certificate: "pem1", publishedWallMs: 1 }),
    record("trust/issuers/k1", { nodeId: "us-1", ...ISSUER }),
    record("trust/credentials/c", { digest: "d" }),
    record("trust/revocations/name/node/eu/node/eu-1", { beforeWallMs: 5, ...REVOKED }),
    record("trust/revocations/issuer/eu/k1", { beforeWallMs: 0, ...REVOKED }),
  ]);
  expect([copy.roots, copy.issuers, copy.credentials]).toEqual(["", [], []]);
  const { names, issuers } = copy.revocations;
  expect([...names.keys(), ...issuers].filter((each) => !each.startsWith("us/"))).toEqual([]);
});

test("a copy that would become too large is refused, and stays as it was", () => {
  const copy = new TrustCopy("us", REVOCATIONS);
  copy.apply([record("trust/revocations/name/node/a", { beforeWallMs: 5, ...REVOKED })]);
  const large = { value: Buffer.alloc(MAX_TRUST_BYTES / 4) };
  const many = ["a", "b", "c", "d"].map((name) => ({ key: `trust/revocations/name/node/${name}`, ...large }));
  const small = Array.from({ length: MAX_TRUST_BYTES / 512 }, (_, i) => ({
    key: `trust/revocations/name/node/${i}`,
    value: Uint8Array.of(0),
  }));
  for (const changes of [many, small]) expect(() => copy.apply(changes, true)).toThrow(RangeError);
  expect(copy.revocations.names.get("us/node/a")).toBe(5);
});
