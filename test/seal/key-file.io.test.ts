/** The file of the key with which a cluster signs: what it may hold, who may read it, and what a reload takes. */
import { execFileSync } from "node:child_process";
import { generateKeyPairSync } from "node:crypto";
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { openLog } from "../../src/lib/log.io.ts";
import { openSigningKeyFile, readSigningKey } from "../../src/seal/key-file.io.ts";

const folder = mkdtempSync(join(tmpdir(), "waymark-seal-"));
const path = join(folder, "cluster.pem");
const log = openLog({ level: "silent", scopes: new Map(), format: "json" }).child("summary");
afterAll(() => rmSync(folder, { recursive: true }));

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
    `summary.signing_key_file: ${path} does not hold one Ed25519 private key in PEM, without a password; make one with: openssl genpkey -algorithm ed25519 -out FILE`,
  );
});

test.each([0o600, 0o400, 0o440, 0o640])("a file of mode %o is taken", (mode) => {
  expect(() => readSigningKey(written(first, mode))).not.toThrow();
});

test.each([0o604, 0o602, 0o601, 0o644, 0o660, 0o777])("a file of mode %o, which others may use, is refused", (mode) => {
  expect(() => readSigningKey(written(first, mode))).toThrow(/is open to other users \(mode [0-7]{3}\).*chmod 600 it$/);
});

test("the bound of the file is that of files with secrets", () => {
  const filled = (bytes: number) => written(`${first}${"#".repeat(bytes - first.length)}`);
  expect(() => readSigningKey(filled(65_536))).not.toThrow();
  expect(() => readSigningKey(filled(65_537))).toThrow(/it has 65537 bytes; name a regular file of at most 65536 bytes/);
});

test("a reload takes another key, and keeps the one it has where the file is wrong or the same", () => {
  const file = openSigningKeyFile(written(first), log);
  const { keyId } = file.key;
  for (const text of [first, "", `${first}\n`, `${second}${first}`]) {
    written(text);
    expect([file.reload(), file.key.keyId]).toEqual([false, keyId]);
  }
  written(second);
  expect([file.reload(), file.key.keyId === keyId]).toEqual([true, false]);
  written(first, 0o644);
  expect([file.reload(), file.key.keyId === keyId]).toEqual([false, false]);
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
});
