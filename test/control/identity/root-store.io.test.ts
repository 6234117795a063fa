/** Roots in a control store: what can be published, and which records end with a root. */
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { encodeIdentity, ISSUERS, nameKey, ROOTS } from "../../../src/control/identity/records.ts";
import { RootStore } from "../../../src/control/identity/root-store.io.ts";
import type { RotationMember } from "../../../src/control/identity/rotation.ts";
import { certificatesIn, readCertificateUse, rootDigestOf } from "../../../src/lib/certificates/roots.io.ts";
import { allItems } from "../../../src/store/control/all-items.io.ts";
import { openMemoryStore } from "../../../src/store/control/sqlite.io.ts";
import { TestAuthority } from "../../fakes/certificates.ts";

const folder = mkdtempSync(join(tmpdir(), "waymark-roots-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const WALL_MS = Date.now();
const authorities = ["one", "two"].map((name) => new TestAuthority(folder, name));
const [one = "", two = ""] = authorities.map(({ ca }) => ca.toString());
const leaf = authorities[0]?.issue("leaf").cert.toString() ?? "";

/** The root of an old authority, with an RSA key. */
function rsaRoot(): string {
  const [key, file] = [join(folder, "rsa.key"), join(folder, "rsa.pem")];
  execFileSync("openssl", ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=rsa", "-keyout", key, "-out", file], {
    stdio: "pipe",
  });
  return readFileSync(file, "utf8");
}

function opened(members: readonly RotationMember[] = []) {
  const store = openMemoryStore();
  const roots = new RootStore(store, () => ({ published: [], members }));
  const keys = async (prefix: string) => {
    const found: string[] = [];
    for await (const { key } of allItems(store, prefix)) found.push(key.slice(prefix.length, prefix.length + 16));
    return found;
  };
  const publish = async (pem: string) => {
    await roots.publish(pem, WALL_MS);
    return roots.idOf(pem);
  };
  return { store, roots, keys, publish };
}

test("the use of a certificate names its root among the accepted roots", () => {
  const [id = "", other = ""] = [one, two].flatMap((pem) => certificatesIn(pem).map((root) => rootDigestOf(root).slice(0, 16)));
  expect(readCertificateUse(leaf, two + one + one)).toMatchObject({ issuer: "one", root: id, roots: [other, id] });
  expect(readCertificateUse(leaf, two)).toMatchObject({ issuer: "one", root: "", roots: [other] });
  expect(readCertificateUse(leaf, one).expiresS * 1000).toBeGreaterThan(WALL_MS);
});

test("a root of any authority is published once", async () => {
  const { publish, keys } = opened();
  const ids = [await publish(one), await publish(rsaRoot()), await publish(one)];
  expect(ids[2]).toBe(ids[0]);
  expect(await keys(ROOTS)).toEqual(ids.slice(0, 2).toSorted());
  for (const pem of ["no certificate", one + two, leaf, one.replace(/\n.{20}/, "\nAAAAAAAAAAAAAAAAAAAA")])
    await expect(publish(pem)).rejects.toThrow("invalid_argument: certificate: must be one CA certificate in PEM");
});

test("a root is dropped with its issuers, after they and all programs have moved", async () => {
  const members: RotationMember[] = [];
  const { store, roots, keys, publish } = opened(members);
  const old = await publish(one);
  await expect(roots.drop(old, true, WALL_MS)).rejects.toThrow(/is the only root/);
  const next = await publish(two);
  const put = (key: string, record: object) => store.transact([], [{ key, value: encodeIdentity(record) }]);
  const issuer = (keyId: string, rootId: string) =>
    put(ISSUERS + keyId, { nodeId: "eu-1", address: "a:1", rootKey: `${rootId}${"0".repeat(48)}`, expiresWallMs: WALL_MS });
  await issuer("1111", old);
  await expect(roots.drop(old, false, WALL_MS)).rejects.toThrow(/is in use by issuer eu-1$/);
  await issuer("2222", next);
  const record = { keyDigest: "k", earlierKeys: [], dnsNames: [], issuer: "eu-1", issuerKey: "1111", tokenId: "", madeWallMs: 0 };
  const times = { expiresWallMs: WALL_MS + 1000, lastEndWallMs: 0, leastMadeWallMs: 0, isRevoked: false };
  await put(nameKey({ role: "client", name: "billing" }), { ...record, ...times });
  // Records of nodes that are not live do not count.
  for (const name of ["eu-2", "eu-9"]) await put(nameKey({ role: "node", name }), { ...record, ...times });
  members.push({ nodeId: "eu-2", security: { root: next, roots: [old, next] } });
  await expect(roots.drop(old, false, WALL_MS)).rejects.toThrow(/is in use by client billing, node eu-2$/);
  members.splice(0, 1, { nodeId: "eu-2", security: { root: old, roots: [old, next] } });
  await expect(roots.drop(old, false, WALL_MS + 2000)).rejects.toThrow(/is in use by node eu-2$/);
  members.pop();
  await roots.drop(old, false, WALL_MS + 2000);
  expect([await keys(ROOTS), await keys(ISSUERS)]).toEqual([[next], ["2222"]]);
  await expect(roots.drop(old, false, WALL_MS)).rejects.toThrow(/not_found: root_id: there is no root/);
});
