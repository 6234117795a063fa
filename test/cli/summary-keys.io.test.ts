/** `summary keys`: what is shown of the keys of a node, and the announcement of a key. */
import { execFileSync } from "node:child_process";
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { KEY_BOUNDS } from "../../src/signing/cluster-keys.ts";
import { readSigningKeys } from "../../src/signing/key-file.io.ts";
import { KeyRegistry } from "../../src/signing/key-registry.ts";
import { waymark } from "../fakes/cli-world.ts";
import { FakeDiscovery } from "../fakes/discovery-server.ts";
import { signingKey, signingPem } from "../fakes/signing-keys.ts";

const folder = mkdtempSync(join(tmpdir(), "waymark-keys-"));
const fake = new FakeDiscovery();
const serving = fake.start();
afterAll(() => {
  fake.stop();
  rmSync(folder, { recursive: true });
});

const [old, next] = [signingKey(1), signingKey(2)];
const AT = (seconds: number) => ({ seconds: BigInt(1_770_000_000 + seconds), nanos: 0 });
const KEYS = [
  { clusterId: "eu1", region: "eu", keyId: old.keyId, publicKey: old.publicKey.raw, counts: true, signs: true },
  {
    clusterId: "eu1",
    region: "eu",
    keyId: next.keyId,
    publicKey: next.publicKey.raw,
    announcedBy: old.keyId,
    notBefore: AT(0),
    notAfter: AT(86_400),
  },
];

test.each([
  { name: "table", argv: [] },
  { name: "wide", argv: ["-o", "wide"] },
  { name: "json", argv: ["-o", "json"] },
])("keys as $name are as reviewed", async ({ name, argv }) => {
  await serving;
  fake.mesh.set("keys", ({ pageToken }: { pageToken: string }) =>
    pageToken === "" ? { servedBy: "n1", keys: KEYS.slice(0, 1), nextPageToken: "t" } : { servedBy: "n1", keys: KEYS.slice(1) },
  );
  const { exit, stdout, stderr } = await waymark(["summary", "keys", "list", ...argv, "--server", fake.address]);
  expect({ exit, stderr }).toEqual({ exit: 0, stderr: name === "json" ? "" : "* n1 signs with this key\n" });
  await expect(stdout).toMatchFileSnapshot(`../golden/cli/summary-keys.${name}.txt`);
});

test("a node without keys says where they are named; the cluster is asked for", async () => {
  await serving;
  const asked: unknown[] = [];
  fake.mesh.set("keys", ({ clusterId }: { clusterId: string }) => {
    asked.push(clusterId);
    return { servedBy: "n1" };
  });
  const { exit, stderr } = await waymark(["summary", "keys", "--cluster-id", "ap1", "--server", fake.address]);
  expect([exit, stderr, asked]).toEqual([
    0,
    "n1 does not trust any keys of ap1: add them to summary.keys or fabric.borders[].keys in its settings\n",
    ["ap1"],
  ]);
});

function file(name: string, text: string): string {
  const path = join(folder, name);
  writeFileSync(path, text);
  chmodSync(path, 0o600);
  return path;
}

const [OLD, NEXT] = [file("old.key", signingPem(1)), file("next.key", signingPem(2))];
const announce = (more: Readonly<Record<string, string>> = {}, ...rest: readonly string[]) => {
  const flags = { "--cluster-id": "eu1", "--key-file": OLD, "--new-key-file": NEXT, "--for": "30d", ...more };
  return waymark(["summary", "keys", "announce", ...Object.entries(flags).flat(), ...rest]);
};

test("the block that is printed makes the new key count where the old one does, for as long as was said, in the file of either", async () => {
  const { exit, stdout, stderr } = await announce();
  expect(exit).toBe(0);
  for (const words of [
    `${old.keyId} announces ${next.keyId} for cluster eu1, valid from `,
    "1. append this block",
    OLD,
    "2. ",
    "3. ",
    "SIGHUP",
  ])
    expect(stderr).toContain(words);
  const registry = new KeyRegistry(KEY_BOUNDS);
  const nowMs = Date.now();
  registry.configure([{ cluster: "eu1", region: "eu", publicKey: old.publicKey.raw }], { wallMs: nowMs });
  const withBlock = file("both.key", `${signingPem(2)}${stdout}`);
  for (const sealed of readSigningKeys(withBlock).announcements) expect(registry.announce(sealed, { wallMs: nowMs })).toBeUndefined();
  const days = [0, 29, 31].map((day) => registry.counts("eu1", next.keyId, nowMs + day * 86_400_000));
  expect(days).toEqual([true, true, false]);
  // The file is still one that OpenSSL reads.
  execFileSync("openssl", ["pkey", "-in", withBlock, "-noout"]);
});

test("for a program the announcement is one document, with the public key as the settings have it", async () => {
  const { stdout, stderr } = await announce({}, "-o", "json");
  expect(stderr).toBe("");
  expect(JSON.parse(stdout)).toMatchObject({
    clusterId: "eu1",
    keyId: next.keyId,
    announcedBy: old.keyId,
    publicKey: Buffer.from(next.publicKey.raw).toString("base64"),
    block: expect.stringContaining("-----BEGIN WAYMARK KEY ANNOUNCEMENT-----\n") as string,
  });
});

test.each([
  { flags: { "--new-key-file": OLD }, says: "a key cannot announce itself" },
  { flags: { "--new-key-file": "/no/such/file" }, says: "the new key: /no/such/file: file not found; create it with: openssl" },
  { flags: { "--key-file": file("words", "SECRET words\n") }, says: "the key that announces it: " },
  { flags: { "--for": "0s" }, says: "invalid --for 0s: expected a duration from 1ms to 3650d" },
  { flags: { "--for": "3651d" }, says: "invalid --for 3651d: expected a duration from 1ms to 3650d" },
  { flags: { "--for": "soon" }, says: "invalid --for soon: expected a duration such as" },
  { flags: { "--cluster-id": "eu 1" }, says: "invalid --cluster-id eu 1: expected 1 to 64 of" },
])("an announcement with $flags is refused as bad usage", async ({ flags, says }) => {
  const { exit, stdout, stderr } = await announce(flags);
  expect([exit, stdout]).toEqual([2, ""]);
  expect(stderr).toContain(says);
  expect(stderr).not.toContain("SECRET");
});
