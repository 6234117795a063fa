import { createHash } from "node:crypto";
import { mkdtempSync, readFileSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { type NodeProcess, startNodeProcess, waymarkProcess } from "../fakes/node-process.ts";

const folder = (): string => mkdtempSync(join(tmpdir(), "waymark-policy-"));

const OPEN = 'version: "open"\ndefault_allow: true\nrules: []\n';
const CLOSED = `version: "closed"
default_allow: true
rules:
  - namespace: svc.market
    visibility_tenants: [team-a]
`;

/** What the tests look at in the documents commands print. */
interface Printed {
  readonly number: string;
  readonly items: readonly unknown[];
  readonly changes: readonly { readonly namespace: string; readonly effect: string; readonly entries: string }[];
  readonly versions: readonly {
    readonly policy: { readonly number: string };
    readonly reason: string;
    readonly changes: readonly unknown[];
  }[];
  readonly records: readonly { readonly action: string; readonly outcome: string; readonly reason: string; readonly principal: string }[];
}

async function ask(node: NodeProcess, argv: readonly string[], input?: string): Promise<Printed> {
  const { exit, stdout, stderr } = await node.run([...argv, "-o", "json"], input);
  if (exit !== 0) throw new Error(`${argv.join(" ")}: exit code ${exit}: ${stderr}`);
  return JSON.parse(stdout) as Printed;
}

const apply = (node: NodeProcess, text: string, ...flags: readonly string[]) =>
  ask(node, ["namespace", "policy", "apply", "-", ...flags], text);

async function register(node: NodeProcess): Promise<void> {
  await node.run(["register", "--namespace", "svc.market", "--name", "web", "--instance", "1", "--target", "10.0.0.1:80"]);
}

const seen = async (node: NodeProcess): Promise<number> =>
  (await ask(node, ["discovery", "query", "--namespace", "svc.market"])).items.length;

test("a policy is tried, applied, explained, shown in history and rolled back", { tags: ["night"] }, async () => {
  await using node = await startNodeProcess(["--ephemeral"]);
  await register(node);
  const dry = await apply(node, CLOSED, "--dry-run");
  expect(dry).toMatchObject({
    number: "0",
    changes: [{ namespace: "svc.market", effect: "CHANGE_EFFECT_HIDE", entries: "1" }, { effect: "CHANGE_EFFECT_WITHDRAW" }],
  });
  expect(await seen(node)).toBe(1);

  expect(await apply(node, OPEN, "--reason", "start")).toMatchObject({ number: "1" });
  expect(await apply(node, CLOSED, "--expect", "1", "--reason", "close", "--ticket", "OPS-1")).toMatchObject({ number: "2" });
  expect(await seen(node)).toBe(0);
  const explain = ["namespace", "policy", "explain", "--namespace", "svc.market"];
  expect(await ask(node, explain)).toMatchObject({ allowed: false, reason: "viewer_denied", rule: "svc.market" });
  expect(await ask(node, [...explain, "--viewer", "local/team-a"])).toMatchObject({ allowed: true, reason: "tenant_allowed" });

  const late = await node.run(["namespace", "policy", "apply", "-", "--expect", "1"], OPEN);
  expect(late.exit).toBe(1);
  expect(late.stderr).toContain("the newest policy version is 2, but the request expects 1");

  const exported = await node.run(["namespace", "policy", "export"]);
  expect(await apply(node, exported.stdout, "--dry-run")).toMatchObject({ changes: [] });

  expect(await ask(node, ["namespace", "policy", "rollback", "--reason", "shop is empty"])).toMatchObject({ number: "3" });
  expect(await seen(node)).toBe(1);
  const { versions } = await ask(node, ["namespace", "policy", "history"]);
  expect(versions.map(({ policy }) => policy.number)).toEqual(["3", "2", "1"]);
  expect(versions[1]).toMatchObject({
    reason: "close",
    changes: [{ namespace: "" }, { namespace: "svc.market", kind: "RULE_CHANGE_KIND_ADDED" }],
  });
  const { records } = await ask(node, ["namespace", "policy", "audit"]);
  expect(records.map(({ action }) => action)).toEqual(["policy.rollback", "policy.apply", "policy.apply"]);
  expect((await node.run(["audit", "verify"])).exit).toBe(0);
  const rewritten = await node.run(["audit", "verify", "--known", `1:${"0".repeat(64)}`]);
  expect(rewritten.exit).toBe(1);
  expect(rewritten.stderr).toContain("altered at record 1");
});

test("a file with problems changes nothing, whichever side finds them", { tags: ["night"] }, async () => {
  await using node = await startNodeProcess(["--ephemeral"]);
  const bad = await node.run(["namespace", "policy", "apply", "-"], 'version: "x"\nrules:\n  - namespace: a.b\n  - namespace: a.b\n');
  expect(bad.exit).toBe(1);
  expect(bad.stderr).toContain("-:4: rules[1].namespace");
  expect(await ask(node, ["discovery", "policy"])).toMatchObject({ enabled: false });
  const unknown = await node.run(
    ["namespace", "policy", "validate", "-"],
    'version: "x"\nrules:\n  - namespace: a.b\n    owners: [nowhere]\n',
  );
  expect(unknown.exit).toBe(0);
  expect(unknown.stderr).toContain('warning: -:4: rules[0].owners[0]: "nowhere" is not a known cluster or region');
});

test("a policy and its history outlive the node", { tags: ["night"] }, async () => {
  const data = ["--data-dir", folder()];
  {
    await using node = await startNodeProcess(data);
    await apply(node, OPEN);
    await apply(node, CLOSED);
    await node.stop("SIGKILL");
  }
  await using node = await startNodeProcess(data);
  await register(node);
  expect(await seen(node)).toBe(0);
  expect(await ask(node, ["discovery", "policy"])).toMatchObject({ enabled: true, number: "2" });
  expect(await ask(node, ["namespace", "policy", "rollback"])).toMatchObject({ number: "3" });
  expect(await seen(node)).toBe(1);
});

const HASH = (token: string): string => createHash("sha256").update(token).digest("hex");
const CONFIG = `
[[tenants.credentials]]
tenant = "team-a"
token_sha256 = "${HASH("token-a")}"

[[tenants.credentials]]
tenant = "ops"
principal = "ada"
token_sha256 = "${HASH("token-ops")}"
roles = ["mesh.admin"]

[[tenants.credentials]]
tenant = "team-m"
principal = "mia"
token_sha256 = "${HASH("token-mia")}"
roles = ["mesh.read", "owner:svc.market"]
`;

test("who has no role is told so with exit code 4, and changes are audited with their author", { tags: ["night"] }, async () => {
  const config = join(folder(), "node.toml");
  writeFileSync(config, CONFIG);
  await using node = await startNodeProcess(["--ephemeral", "--config", config]);
  const argv = ["namespace", "policy", "apply", "-"];
  const denied = await node.run([...argv, "--token", "token-a"], OPEN);
  expect({ exit: denied.exit, stdout: denied.stdout }).toEqual({ exit: 4, stdout: "" });
  expect(denied.stderr).toContain("mesh.admin");
  expect((await node.run([...argv, "--token", "wrong"], OPEN)).exit).toBe(4);
  expect((await node.run([...argv, "--token", "token-ops"], OPEN)).exit).toBe(0);
  const { records } = await ask(node, ["namespace", "policy", "audit", "--token", "token-ops"]);
  expect(records[0]).toMatchObject({ principal: "ada", action: "policy.apply", outcome: "AUDIT_OUTCOME_ALLOWED" });
  const http = node.listeners["http"] ?? "";
  const status = async (token: string): Promise<number> =>
    (await fetch(`http://${http}/discovery/policy`, { headers: { authorization: `Bearer ${token}` } })).status;
  expect(await status("token-a")).toBe(403);
  expect(await status("token-ops")).toBe(200);
});

test("a tenant cannot write where it may not look, nor find out there what is taken", { tags: ["night"] }, async () => {
  const config = join(folder(), "node.toml");
  writeFileSync(config, CONFIG);
  await using node = await startNodeProcess(["--ephemeral", "--config", config]);
  await node.run(["namespace", "policy", "apply", "-", "--token", "token-ops"], CLOSED.replace("[team-a]", "[team-m]"));
  const entry = (instance: string) => ["--namespace", "svc.market", "--name", "web", "--instance", instance];
  const put = (token: string, instance: string) => node.run(["register", ...entry(instance), "--target", "10.0.0.1:80", "--token", token]);
  expect((await put("token-mia", "taken")).exit).toBe(0);
  const [taken, free] = [await put("token-a", "taken"), await put("token-a", "free")];
  expect([taken.exit, free.exit]).toEqual([4, 4]);
  expect(taken.stderr).toContain("svc.market is not visible to this caller (viewer_denied)");
  expect(taken.stderr).toBe(free.stderr);
  const drop = (instance: string) => node.run(["unregister", ...entry(instance), "--token", "token-a"]);
  const [kept, none] = [await drop("taken"), await drop("free")];
  expect({ ...kept, stderr: kept.stderr.replaceAll("taken", "free"), stdout: kept.stdout.replaceAll("taken", "free") }).toEqual(none);
  const left = await ask(node, ["discovery", "query", "--namespace", "svc.market", "--token", "token-mia"]);
  expect(left.items).toHaveLength(1);
});

test("an owner hands its namespace over in a window and takes it back, and changes nobody else's rules", { tags: ["night"] }, async () => {
  const config = join(folder(), "node.toml");
  writeFileSync(config, CONFIG);
  await using node = await startNodeProcess(["--ephemeral", "--config", config]);
  const as = (token: string, argv: readonly string[], input?: string) =>
    node.run(["namespace", "policy", ...argv, "--token", token, "-o", "json"], input);
  const other = "  - namespace: svc.shop\n    owners: [local]\n";
  const start = `default_allow: true\nrules:\n${other}  - namespace: svc.market\n    owners: [local]\n    allow_summaries: true\n`;
  const open = 'cutover_windows: [{ starts_at: "2020-01-01T00:00:00Z", ends_at: "2120-01-01T00:00:00Z" }]';
  const handed = start.replace("owners: [local]\n    allow", `owners: [local, west]\n    ${open}\n    allow`);
  expect((await as("token-mia", ["apply", "-"], start)).exit).toBe(4);
  expect((await as("token-ops", ["apply", "-"], start)).exit).toBe(0);
  expect(await as("token-mia", ["apply", "-", "--expect", "1"], handed)).toMatchObject({ exit: 0 });
  const west = ["explain", "--namespace", "svc.market", "--action", "register", "--viewer", "west/"];
  expect((await as("token-mia", west)).stdout).toContain("owner_allowed");
  expect(await as("token-mia", ["rollback", "--reason", "west is not ready"])).toMatchObject({ exit: 0 });
  expect((await as("token-mia", west)).stdout).toContain("owner_denied");

  const foreign = await as("token-mia", ["apply", "-", "--dry-run"], start.replace("[local]", "[west]"));
  expect(foreign).toMatchObject({ exit: 4, stdout: "" });
  expect(foreign.stderr).toContain("the set changes the rule svc.shop");
  const changed = await ask(node, ["namespace", "policy", "audit", "--token", "token-ops"]);
  expect(changed.records.map(({ principal, action }) => `${principal} ${action}`)).toEqual([
    "mia policy.rollback",
    "mia policy.apply",
    "ada policy.apply",
  ]);
  const refused = await ask(node, ["discovery", "access-audit", "--token", "token-ops"]);
  const denied = refused.records.filter(({ principal, outcome }) => principal === "mia" && outcome === "AUDIT_OUTCOME_DENIED");
  expect(denied[0]).toMatchObject({ action: "PolicyService/ApplyPolicy", reason: "discovery_access_denied" });
});

test("a copy of the audit log is verified without the node, and a changed one is found", { tags: ["night"] }, async () => {
  const file = join(folder(), "audit.jsonl");
  const config = join(folder(), "node.toml");
  writeFileSync(config, `[audit]\nfile = ${JSON.stringify(file)}\n`);
  await using node = await startNodeProcess(["--ephemeral", "--config", config]);
  await apply(node, OPEN);
  await apply(node, CLOSED);
  await node.stop();
  const whole = await waymarkProcess(["audit", "verify", file, "-o", "json"]);
  expect(whole.exit).toBe(0);
  const text = readFileSync(file, "utf8");
  // The first records of a node are about itself, for example that it leads.
  const number = text.split("\n").findIndex((line) => line.includes("1 with 0 rules")) + 1;
  const changed = await waymarkProcess(["audit", "verify", "-"], text.replace("1 with 0 rules", "1 with 9 rules"));
  expect(changed.exit).toBe(1);
  expect(changed.stderr).toContain(`altered at record ${number}:`);
});
