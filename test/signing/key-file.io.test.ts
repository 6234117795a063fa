/** The file of the key with which a cluster signs: what it may hold, who may read it, and what a reload takes. */
import { execFileSync } from "node:child_process";
import { generateKeyPairSync } from "node:crypto";
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { openLog } from "../../src/lib/log.io.ts";
import { announceKey } from "../../src/main/keys.ts";
import { KEY_BOUNDS } from "../../src/signing/cluster-keys.ts";
import { clusterKeys } from "../../src/signing/configured-keys.ts";
import { openSigningKeyFile, readSigningKeys, type SigningKeys } from "../../src/signing/key-file.io.ts";
import { KeyRegistry } from "../../src/signing/key-registry.ts";

const folder = mkdtempSync(join(tmpdir(), "waymark-seal-"));
const path = join(folder, "cluster.pem");
const log = openLog({ level: "silent", scopes: new Map(), format: "json" }).child("summary");
afterAll(() => rmSync(folder, { recursive: true }));

const readSigningKey = (file: string) => readSigningKeys(file).key;
const pem = (password?: string) =>
  generateKeyPairSync("ed25519")
    .privateKey.export({ format: "pem", type: "pkcs8", ...(password === undefined ? {} : { cipher: "aes-256-cbc", passphrase: password }) })
    .toString();
const publicPem = () => generateKeyPairSync("ed25519").publicKey.export({ format: "pem", type: "spki" }).toString();
const otherCurve = () => generateKeyPairSync("ec", { namedCurve: "P-256" }).privateKey.export({ format: "pem", type: "pkcs8" }).toString();
const written = (text: string, mode = 0o600) => {
  writeFileSync(path, text);
  chmodSync(path, mode);
  return path;
};
const [first, second] = [pem(), pem()];

test.each([
  { what: "one key", text: first },
  { what: "words beside the key", text: `# of cluster eu-1\n${first}\nED25519 Private-Key:\n` },
])("a file with $what is taken", ({ text }) => {
  expect(readSigningKey(written(text)).keyId).toMatch(/^[0-9a-f]{16}$/);
});

test.each([
  { what: "nothing", text: "" },
  { what: "two keys", text: `${first}${second}` },
  { what: "one key twice", text: `${first}${first}` },
  { what: "a key of another kind", text: otherCurve() },
  { what: "a key with a hole", text: first.replace(/\n.{20}/, "\n") },
  { what: "a public key", text: publicPem() },
  { what: "a key with a password", text: pem("x") },
])("a file with $what is refused, with the way to make a good one and without a word of the file", ({ text }) => {
  expect(() => readSigningKey(written(text))).toThrow(
    `summary.signing_key_file: ${path} must contain exactly one Ed25519 private key in PEM, without a password; create one with: openssl genpkey -algorithm ed25519 -out FILE`,
  );
});

test.each([0o600, 0o400, 0o440, 0o640])("a file of mode %o is taken", (mode) => {
  expect(() => readSigningKey(written(first, mode))).not.toThrow();
});

test.each([0o604, 0o602, 0o601, 0o644, 0o660, 0o777])("a file of mode %o, which others may use, is refused", (mode) => {
  expect(() => readSigningKey(written(first, mode))).toThrow(/is open to other users \(mode [0-7]{3}\).*run: chmod 600 /);
});

test("the bound of the file is that of files with secrets", () => {
  const filled = (bytes: number) => written(`${first}${"#".repeat(bytes - first.length)}`);
  expect(() => readSigningKey(filled(65_536))).not.toThrow();
  expect(() => readSigningKey(filled(65_537))).toThrow(/it has 65537 bytes; specify a regular file of at most 65536 bytes/);
});

const at = (name: string, text: string) => {
  const file = join(folder, name);
  writeFileSync(file, text, { mode: 0o600 });
  return file;
};
/** Announces the second key under the first. */
const announced = (untilMs = 2000) =>
  announceKey({ cluster: "a", keyFile: at("new", second), byFile: at("old", first), notBeforeWallMs: 1000, notAfterWallMs: untilMs }).pem;

test("a reload takes another key or other announcements, and keeps what it has where the file is wrong or the same", () => {
  const foreign = pem();
  const check = ({ key }: SigningKeys) => {
    if (key.keyId === foreignId) throw new Error("the key of another cluster");
  };
  const foreignId = readSigningKey(written(foreign)).keyId;
  expect(() => openSigningKeyFile(path, log, check)).toThrow("the key of another cluster");
  const file = openSigningKeyFile(written(first), log, check);
  const { keyId } = file.keys.key;
  for (const text of [first, "", foreign, `${first}\n`, `${second}${first}`, `${first}${announced().replace(/\n.{20}/, "\n")}`]) {
    written(text);
    expect([file.reload(), file.keys.key.keyId, file.keys.announcements.length]).toEqual([false, keyId, 0]);
  }
  for (const [text, isFirst, count] of [
    [`${first}${announced()}`, true, 1],
    [`${first}${announced(3000)}`, true, 1],
    [second, false, 0],
  ] as const) {
    written(text);
    expect([file.reload(), file.keys.key.keyId === keyId, file.keys.announcements.length]).toEqual([true, isFirst, count]);
  }
  written(first, 0o644);
  expect([file.reload(), file.keys.key.keyId === keyId]).toEqual([false, false]);
});

test.each([first, second])("an announcement in the file of either key makes the new one count where the old one does", (key) => {
  const { announcements } = readSigningKeys(written(`${key}${announced()}`));
  const [old, next] = [first, second].map((text) => readSigningKey(written(text)));
  const registry = new KeyRegistry(KEY_BOUNDS);
  registry.configure([{ cluster: "a", region: "eu", publicKey: old!.publicKey.raw }], { wallMs: 0 });
  for (const sealed of announcements) expect(registry.announce(sealed, { wallMs: 0 })).toBeUndefined();
  expect([999, 1000, 1999, 2000].map((wallMs) => registry.counts("a", next!.keyId, wallMs))).toEqual([false, true, true, false]);
});

test("an announcement that is broken, one too many, and a key that announces itself are refused", () => {
  const body = (text: string) => text.split("\n").slice(1, -2);
  const [begin, end] = ["BEGIN", "END"].map((word) => `-----${word} WAYMARK KEY ANNOUNCEMENT-----`) as [string, string];
  const pemOf = (...lines: readonly string[]) => [begin, ...lines, end, ""].join("\n");
  expect(pemOf(...body(announced()))).toBe(announced());
  for (const bad of [pemOf(), pemOf("AAAA"), pemOf(...body(announced()).slice(1)), announced().slice(0, -2), `${announced()}${begin}\n`])
    expect(() => readSigningKeys(written(`${first}${bad}`))).toThrow(/contains a key announcement that cannot be read; create it again$/);
  const many = (count: number) => written(`${first}${announced().repeat(count)}`);
  expect(readSigningKeys(many(16)).announcements).toHaveLength(16);
  expect(() => readSigningKeys(many(17))).toThrow(/contains 17 key announcements, more than the maximum of 16; remove the expired ones$/);
  const file = at("same", first);
  expect(() => announceKey({ cluster: "a", keyFile: file, byFile: file, notBeforeWallMs: 0, notAfterWallMs: 1 })).toThrow(
    /cannot announce itself$/,
  );
  expect(() => announceKey({ cluster: "a", keyFile: at("none", ""), byFile: file, notBeforeWallMs: 0, notAfterWallMs: 1 })).toThrow(
    /^the new key: .*none must contain/,
  );
});

test("the key that OpenSSL makes by the remedy of the message is taken, and OpenSSL accepts its signature", () => {
  const [file, message, signature] = ["made.pem", "message", "signature"].map((name) => join(folder, name)) as [string, string, string];
  execFileSync("openssl", ["genpkey", "-algorithm", "ed25519", "-out", file]);
  const key = readSigningKey(file);
  const bytes = Buffer.from("anything");
  writeFileSync(message, Buffer.concat([Buffer.from("waymark.summary.v1\0"), bytes]));
  writeFileSync(signature, key.sign("waymark.summary.v1", bytes));
  const verified = execFileSync("openssl", ["pkeyutl", "-verify", "-inkey", file, "-rawin", "-in", message, "-sigfile", signature]);
  expect(verified.toString()).toContain("Signature Verified Successfully");
  // And the remedy of the settings prints its public half as they take it.
  const publicKey = execFileSync("sh", ["-c", 'openssl pkey -in "$0" -pubout -outform DER | tail -c 32 | base64', file]).toString().trim();
  const { keys, problems } = clusterKeys({ keys: [{ clusterId: "a", region: "eu", publicKey }] }, { clusterId: "b", region: "eu" });
  expect([problems, keys.map((row) => Buffer.compare(row.publicKey, key.publicKey.raw))]).toEqual([[], [0]]);
});
