/** The file of the keys that sign zones: what it may hold, and what a reload takes. */
import { generateKeyPairSync } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { openKeyFile } from "../../../src/dns/signing/key-file.io.ts";
import { openLog } from "../../../src/lib/log.io.ts";

const folder = mkdtempSync(join(tmpdir(), "waymark-keys-"));
const path = join(folder, "zone.pem");
const log = openLog({ level: "silent", scopes: new Map(), format: "json" }).child("dns");
afterAll(() => rmSync(folder, { recursive: true }));

const pem = (namedCurve = "P-256", type: "pkcs8" | "sec1" = "pkcs8") =>
  generateKeyPairSync("ec", { namedCurve }).privateKey.export({ format: "pem", type }).toString();
const opened = (text: string) => {
  writeFileSync(path, text);
  return openKeyFile(path, log);
};
const [first, second] = [pem(), pem()];

test.each([
  { what: "one key", text: first, count: 1 },
  { what: "two keys", text: `${first}${second}`, count: 2 },
  { what: "a key as older OpenSSL writes it", text: `# mine\n${pem("P-256", "sec1")}`, count: 1 },
])("a file with $what is taken", ({ text, count }) => {
  expect(opened(text).keys.keys).toHaveLength(count);
});

test.each([
  { what: "nothing", text: "" },
  { what: "three keys", text: `${first}${second}${pem()}` },
  { what: "one key twice", text: `${first}${first}` },
  { what: "a key of another curve", text: pem("P-384") },
  { what: "a key of another curve behind a good one", text: `${first}${pem("P-384")}` },
  { what: "a key with a hole", text: first.replace(/\n.{20}/, "\n") },
  {
    what: "a public key",
    text: generateKeyPairSync("ec", { namedCurve: "P-256" }).publicKey.export({ format: "pem", type: "spki" }).toString(),
  },
  {
    what: "a key with a password",
    text: generateKeyPairSync("ec", { namedCurve: "P-256" })
      .privateKey.export({ format: "pem", type: "pkcs8", cipher: "aes-256-cbc", passphrase: "x" })
      .toString(),
  },
])("a file with $what is refused", ({ text }) => {
  expect(() => opened(text)).toThrow(
    /^dns\.dnssec_key_file: invalid file .*zone\.pem: expected one or two different P-256 private keys in PEM format, without a password$/,
  );
});

test("a reload takes other keys, and keeps those it has where the file is wrong or the same", () => {
  const file = opened(first);
  const { keys } = file;
  const [before] = keys.keys;
  for (const text of [first, "", `${first}\n`]) {
    writeFileSync(path, text);
    file.reload();
    expect([keys.version, keys.keys[0]]).toEqual([0, before]);
  }
  writeFileSync(path, second);
  file.reload();
  expect([keys.version, keys.keys[0]?.keyTag === before?.keyTag]).toEqual([1, false]);
  // Step 2 of a change of keys: the new one comes first.
  for (const [version, text] of [`${second}${first}`, `${first}${second}`].entries()) {
    writeFileSync(path, text);
    file.reload();
    expect([keys.version, keys.keys[0]?.keyTag === before?.keyTag]).toEqual([2 + version, version === 1]);
  }
});

test("a reload takes the same two keys in another order: the first one signs", () => {
  const file = opened(`${first}${second}`);
  const { keys } = file;
  const tags = () => keys.keys.map(({ keyTag }) => keyTag);
  const before = tags();
  writeFileSync(path, `${second}${first}`);
  file.reload();
  expect([keys.version, tags()]).toEqual([1, before.toReversed()]);
});
