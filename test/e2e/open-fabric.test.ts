/** A fabric that proves nothing is no way past credentials, tenants, TLS and policy: a node has one or the other. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { TestAuthority } from "../fakes/certificates.ts";
import { sized } from "../fakes/effort.ts";
import { CommandProcess, type NodeProcess, onFreePorts, startNodeProcess, waymarkProcess } from "../fakes/node-process.ts";
import { readyz as endpointAccess, UnreadyNode } from "../fakes/unready-node.ts";
import { until } from "../fakes/until.ts";

const HOME = mkdtempSync(join(tmpdir(), "waymark-open-fabric-"));
afterAll(() => rmSync(HOME, { recursive: true, force: true }));

const FAST = { interval: "400ms", ping_timeout: "250ms", join_timeout: "1s" };
const TOKEN = join(HOME, "fabric.token");
writeFileSync(TOKEN, `${"t".repeat(32)}\n`, { mode: 0o600 });
const POLICY = join(HOME, "policy.yaml");
writeFileSync(POLICY, "version: v1\ndefault_allow: true\nrules:\n  - namespace: svc.hidden\n    visibility_tenants: [blue]\n");
const KEY = { tenant: "blue", token_sha256: "a".repeat(64), roles: ["mesh.admin"] };
const NOBODY = "127.0.0.1:9";

let configs = 0;
function config(settings: { readonly fabric?: object } & object): readonly string[] {
  const path = join(HOME, `config-${configs++}.json`);
  writeFileSync(path, JSON.stringify({ ...settings, fabric: { ...FAST, ...settings.fabric }, observability: { log_level: "warn" } }));
  return ["--config", path];
}

function at(nodeId: string): readonly string[] {
  return ["--node-id", nodeId, "--data-dir", join(HOME, nodeId)];
}

async function readyz(node: NodeProcess): Promise<string> {
  const reply = await fetch(`http://${node.listeners["http"]}/readyz`);
  return `${reply.status} ${await reply.text()}`;
}

async function policyNumber(node: NodeProcess): Promise<string> {
  const { exit, stdout } = await node.run(["discovery", "policy", "-o", "json"]);
  return exit === 0 ? String((JSON.parse(stdout) as { number?: string }).number) : `exit ${exit}`;
}

function peersOf(node: NodeProcess): () => Promise<readonly string[]> {
  return async () => {
    const { stdout } = await node.run(["mesh", "peers", "list", "-o", "json"]);
    return (stdout.match(/"linked": ?true|"isLinked": ?true/g) ?? []).length > 0 ? [] : [stdout];
  };
}

const CERTIFICATE = new TestAuthority(HOME, "ca").issue("node");

const PROTECTED = [
  { name: "tenants.credentials", settings: { tenants: { credentials: [KEY] } } },
  { name: "tenants.mode", settings: { tenants: { mode: true } } },
  { name: "tenants.anonymous", settings: { tenants: { anonymous: "read" } } },
  { name: "policy.file", settings: { policy: { file: POLICY } } },
  { name: "tls.cert_file", settings: { tls: { cert_file: CERTIFICATE.certFile, key_file: CERTIFICATE.keyFile } } },
];

// Which settings protect is in test/config/exposure.test.ts.
test.each(PROTECTED.slice(0, sized(PROTECTED.length, 1)))(
  "$name beside an open fabric: a node that is to have peers does not start and says what to set; one that is not stands alone and says so",
  async ({ name, settings }) => {
    for (const fabric of [{ seeds: [NOBODY] }, { enabled: true }]) {
      await using refused = new CommandProcess(["serve", ...onFreePorts(["--ephemeral", ...config({ ...settings, fabric })])]);
      const { exit, stderr } = await refused.finished();
      expect(exit).toBe(2);
      for (const word of [name, "fabric.cluster_token_file", "fabric.cert_file"]) expect(stderr).toContain(word);
    }
    await using alone = await startNodeProcess(["--ephemeral", ...config(settings)]);
    expect(alone.listeners["fabric"]).toBeUndefined();
    // Its log comes on another pipe than its readiness.
    const words = ["standalone", name, "fabric.cluster_token_file"];
    await until("it says so", () => words.filter((word) => !alone.command.stderr.includes(word)));
    if (name === "tls.cert_file") return;
    const said = await readyz(alone);
    for (const word of ["200", "standalone", name, "fabric.cluster_token_file"]) expect(said).toContain(word);
  },
);

test("an open fabric with another node in it takes no policy, and one that takes a policy takes no other node any more", {
  tags: ["night"],
}, async () => {
  const open = config({});
  await using a = await startNodeProcess([...at("a"), ...open]);
  const joining = await startNodeProcess([...at("b"), ...open, "--join", a.listeners["fabric"] ?? ""]);
  await until("linked", peersOf(a));
  for (const node of [a, joining]) {
    const { exit, stderr } = await node.run(["namespace", "policy", "apply", POLICY]);
    expect([exit, stderr]).toEqual([1, expect.stringContaining("fabric_open")]);
    expect(stderr).toContain("fabric.cluster_token_file");
    const rolledBack = await node.run(["namespace", "policy", "rollback"]);
    expect(rolledBack.stderr).toContain("fabric_open");
    expect((await node.run(["namespace", "policy", "apply", POLICY, "--dry-run"])).exit).toBe(0);
    expect(await policyNumber(node)).toBe("0");
  }
  await joining.stop();

  await using lone = await startNodeProcess([...at("lone"), ...open]);
  const entry = ["--namespace", "svc.hidden", "--name", "web", "--instance", "1", "--target", "10.0.0.1:80/http", "--scope", "region"];
  expect((await lone.run(["register", ...entry])).exit).toBe(0);
  expect((await lone.run(["discovery", "query", "--prefix", "svc"])).stdout).toContain("svc.hidden");
  expect((await lone.run(["namespace", "policy", "apply", POLICY])).exit).toBe(0);
  await using late = await UnreadyNode.start([...at("late"), ...open, "--join", lone.listeners["fabric"] ?? ""]);
  await until("it is turned away", async () => (await endpointAccess(late.http)).includes("refused by"));
  const seen = await waymarkProcess(["discovery", "query", "--prefix", "svc", "-o", "json", "--server", late.grpc]);
  expect(seen.stdout).not.toContain("svc.hidden");
  expect((await lone.run(["mesh", "peers", "list"])).stdout).not.toContain("late");
  expect((await lone.run(["namespace", "policy", "apply", POLICY])).exit).toBe(0);
});

test("the nodes of an open cluster with a stored policy do not start until they have a token, and then go on with it", {
  tags: ["night"],
}, async () => {
  const [token, open] = [config({ fabric: { cluster_token_file: TOKEN } }), config({})];
  const pair = async (flags: readonly string[]) => {
    const u1 = await startNodeProcess([...at("u1"), ...flags, "--on-stop", "keep"]);
    const u2 = await startNodeProcess([...at("u2"), ...flags, "--on-stop", "keep", "--join", u1.listeners["fabric"] ?? ""]);
    return [u1, u2] as const;
  };
  const before = await pair(token);
  expect((await before[0].run(["namespace", "policy", "apply", POLICY])).exit).toBe(0);
  await until("it spread", async () => ((await policyNumber(before[1])) === "1" ? [] : [await policyNumber(before[1])]));
  for (const node of before) await node.stop();
  // As the first version left it: nothing in the directory says that there were peers but what they told.
  for (const id of ["u1", "u2"]) rmSync(join(HOME, id, "had-peers"), { force: true });
  for (const id of ["u1", "u2"]) {
    await using refused = new CommandProcess(["serve", ...onFreePorts([...at(id), ...open])]);
    const { exit, stderr } = await refused.finished();
    expect([id, exit]).toEqual([id, 1]);
    for (const word of ["a stored policy", "fabric.cluster_token_file"]) expect(stderr).toContain(word);
  }
  const after = await pair(token);
  await until("linked", peersOf(after[0]));
  expect([await policyNumber(after[0]), await policyNumber(after[1])]).toEqual(["1", "1"]);
  for (const node of after) await node.stop();
});
