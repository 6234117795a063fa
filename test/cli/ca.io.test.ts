/** The verbs that rotate a root, and that renew and join on this machine. */
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { newToken, tokenText } from "../../src/control/identity/join-token.ts";
import { P256PrivateKey } from "../../src/lib/crypto.ts";
import { IdentityDirectory } from "../../src/node/identity/directory.io.ts";
import { waymark } from "../fakes/cli-world.ts";
import { FakeDiscovery } from "../fakes/discovery-server.ts";
import { fixedBytes, TestRoot } from "../fakes/identity.ts";

const folder = mkdtempSync(join(tmpdir(), "waymark-ca-"));
let fake = new FakeDiscovery();
beforeEach(() => {
  fake = new FakeDiscovery();
});
afterEach(() => {
  fake.stop();
  rmSync(folder, { recursive: true, force: true });
});

const [A, B] = ["aaaaaaaaaaaaaaaa", "bbbbbbbbbbbbbbbb"];
const root = (rootId: string, missingOn: readonly string[], usedBy: readonly string[]) => ({
  rootId,
  name: `root ${rootId[0]}`,
  missingOn,
  usedBy,
});

test("ca status shows who accepts and uses each root, and the next step", async () => {
  await fake.start();
  const run = async (...accepted: readonly object[]) => {
    const issuers = [{ nodeId: "eu-1", address: "eu-1:17421", rootHash: `${A}${"0".repeat(48)}` }];
    fake.bootstrap.set("authority", () => ({ accepted, issuers, liveNodes: 2 }));
    return waymark(["ca", "status", "--server", fake.address]);
  };
  const use = (id: string, accepted: number, used: number) =>
    `root ${id} (root ${id[0]}) until : accepted by ${accepted} and used by ${used} of 2 live nodes\n`;
  const alone = await run(root(A, [], ["eu-1", "eu-2"]));
  expect([alone.stdout, alone.stderr]).toEqual([expect.stringMatching(/^eu-1 +eu-1:17421 +a{16}$/m), use(A, 2, 2)]);
  const cases = [
    [root(B, ["eu-2"], []), `wait until eu-2 accepts the root ${B}`],
    [
      root(B, [], []),
      `make issuing certificates under the root ${B} with "waymark ca intermediate", or drop it with "waymark ca drop ${B}"`,
    ],
    [root(B, [], ["eu-2"]), 'renew the certificates under the root that you want to drop, with "waymark cert renew" on each node'],
  ] as const;
  for (const [second, want] of cases)
    expect((await run(root(A, [], ["eu-1"]), second)).stderr).toContain(`live nodes\nnext step: ${want}\n`);
});

test("ca publish sends the certificate, and ca drop the id", async () => {
  await fake.start();
  const asked: unknown[] = [];
  fake.bootstrap.set("publishRoot", ({ certificate }: { certificate: string }) => ({ rootId: asked.push(certificate) === 1 ? A : "" }));
  fake.bootstrap.set("dropRoot", ({ rootId, force }: { rootId: string; force: boolean }) => ({ at: asked.push([rootId, force]) }));
  const at = ["--server", fake.address];
  expect((await waymark(["ca", "publish", "root.pem", ...at], { files: { "root.pem": "PEM" } })).stderr).toMatch(`root ${A} is published`);
  expect((await waymark(["ca", "drop", A, "--force", ...at])).stderr).toMatch(`root ${A} is dropped`);
  expect(asked).toEqual(["PEM", [A, true]]);
});

test("ca init makes a root alone, and an issuer renews its certificate itself", async () => {
  const [next, data] = [join(folder, "next"), join(folder, "data")];
  const made = await waymark(["ca", "init", "--ca-dir", next]);
  expect([made.exit, made.stderr]).toEqual([0, ""]);
  await waymark(["ca", "intermediate", "--node", "eu-1", "--ca-dir", next, "--data-dir", data]);
  const renewed = await waymark(["cert", "renew", "--data-dir", data]);
  expect([renewed.exit, renewed.stderr]).toEqual([2, `error: ${data} belongs to an issuer, which renews its certificate when it starts\n`]);
});

test("a node joins with the token in a file before it starts", async () => {
  const { stderr } = await waymark(["serve", "--ephemeral", "--join-token-file", "T"]);
  expect(stderr).toMatch(/^error: --join-token-file requires a data directory$/m);
});

const testRoot = new TestRoot();
const tokenOf = (clusterId: string) => tokenText(newToken(clusterId, testRoot.key.digest, fixedBytes()));

/** A data directory with the identity of the node eu-2 of the cluster eu. */
function joinedDirectory(): string {
  const dataDir = join(folder, "joined");
  const directory = new IdentityDirectory(dataDir);
  const key = directory.nextKey();
  const madeWallMs = Date.now();
  const times = { madeWallMs, expiresWallMs: madeWallMs + 3_600_000 };
  const { publicKey } = new P256PrivateKey(key);
  directory.keep(key, testRoot.issuer("eu-1", "eu").certify({ role: "node", name: "eu-2", publicKey, dnsNames: [], ...times }));
  return dataDir;
}

const JOIN = ["mesh", "join", "--server", "127.0.0.1:1"];

test.each([
  { what: "a token of another cluster", argv: [...JOIN, "--token-file", "us"] },
  { what: "another name", argv: [...JOIN, "--token-file", "eu", "--node-id", "eu-3"] },
  {
    what: "an issuing certificate of another node",
    argv: ["ca", "intermediate", "--node", "eu-3", "--cluster-id", "eu", "--ca-dir", "CA"],
  },
])("a data directory with an identity refuses $what, before anything is sent or written", async ({ argv }) => {
  const caDir = join(folder, "ca");
  await waymark(["ca", "init", "--ca-dir", caDir]);
  const files = { us: tokenOf("us"), eu: tokenOf("eu") };
  const dataDir = joinedDirectory();
  const given = [...argv.map((each) => (each === "CA" ? caDir : each)), "--data-dir", dataDir];
  const { exit, stderr } = await waymark(given, { files });
  expect([exit, stderr]).toEqual([2, expect.stringContaining("node.pem belongs to the node eu-2 of cluster eu; name another directory")]);
  expect(existsSync(new IdentityDirectory(dataDir).issuerFile)).toBe(false);
});

test("an issuing certificate does not replace the one of another node, and replaces the own one", async () => {
  const [caDir, dataDir] = [join(folder, "ca"), join(folder, "issuer")];
  await waymark(["ca", "init", "--node", "eu-1", "--cluster-id", "eu", "--ca-dir", caDir, "--data-dir", dataDir]);
  const { issuerFile } = new IdentityDirectory(dataDir);
  const before = readFileSync(issuerFile, "utf8");
  const make = (node: string, cluster: string) =>
    waymark(["ca", "intermediate", "--node", node, "--cluster-id", cluster, "--ca-dir", caDir, "--data-dir", dataDir]);
  for (const { exit, stderr } of [await make("eu-2", "eu"), await make("eu-1", "us")])
    expect([exit, stderr]).toEqual([2, expect.stringContaining("issuer.pem belongs to node eu-1 of cluster eu; name another directory")]);
  expect(readFileSync(issuerFile, "utf8")).toBe(before);
  expect((await make("eu-1", "eu")).exit).toBe(0);
  expect(readFileSync(issuerFile, "utf8")).not.toBe(before);
});

test("an issuer does not join with a token", async () => {
  const [caDir, dataDir] = [join(folder, "ca"), join(folder, "issuer")];
  await waymark(["ca", "init", "--node", "eu-1", "--cluster-id", "eu", "--ca-dir", caDir, "--data-dir", dataDir]);
  const { stderr } = await waymark([...JOIN, "--token-file", "eu", "--data-dir", dataDir], { files: { eu: tokenOf("eu") } });
  expect(stderr).toContain("exists already: this node is an issuer");
});

test("a join token for another cluster than the settings name is not used", async () => {
  const token = join(folder, "token");
  mkdirSync(folder, { recursive: true });
  writeFileSync(token, tokenOf("eu"));
  const settings = { node: { cluster_id: "us" }, persistence: { data_dir: join(folder, "new") }, fabric: { seeds: ["127.0.0.1:1"] } };
  const argv = ["serve", "--config", "node.json", "--join-token-file", token];
  const { stderr } = await waymark(argv, { files: { "node.json": JSON.stringify(settings) } });
  expect(stderr).toContain("node.cluster_id is us, but the join token is for cluster eu");
});

test.each([
  { argv: ["mesh", "join", "--server", "a:1", "--token-file", "T"], says: "the file T (--token-file) is empty" },
  { argv: ["cert", "renew", "--data-dir", "/nowhere"], says: "/nowhere contains no identity; run waymark mesh join first" },
  {
    argv: ["ca", "intermediate", "--node", "b", "--ca-dir", "/nowhere"],
    says: "/nowhere/root-key.pem does not exist; make a root with waymark ca init",
  },
])("a missing file is named with the command that makes it: $argv", async ({ argv, says }) => {
  expect((await waymark(argv, { files: { T: "\n" } })).stderr).toContain(says);
});
