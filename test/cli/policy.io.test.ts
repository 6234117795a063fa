import { status } from "@grpc/grpc-js";
import { afterEach, expect, test } from "vitest";
import { Act } from "../../gen/waymark/options/v1/options_pb.js";
import { ChangeEffect, RuleChangeKind, Severity } from "../../gen/waymark/policy/v1/policy_pb.js";
import { waymark } from "../fakes/cli-world.ts";
import { FakeDiscovery } from "../fakes/discovery-server.ts";

const started: FakeDiscovery[] = [];

async function startFake(): Promise<FakeDiscovery> {
  const fake = new FakeDiscovery();
  await fake.start();
  started.push(fake);
  return fake;
}

afterEach(() => {
  for (const fake of started.splice(0)) fake.stop();
});

const GOOD = `version: "2026-01"
rules:
  - namespace: svc.market
    owners: [east]
    visibility_tenants: [team-a]
    export_scopes: [region, global]
    cutover_windows:
      - starts_at: 2099-01-31T18:00:00Z
        ends_at: 2099-01-31T20:00:00Z
        allow_summaries: true
`;
const BAD = `version: v1
rules:
  - namespace: svc.market
    visibilty: [east]
  - namespace: svc.market
    export_scopes: [galaxy]
`;
const FILES = { "good.yaml": GOOD, "bad.yaml": BAD };

const CHANGE = {
  namespace: "svc.market",
  effect: ChangeEffect.HIDE,
  entries: 12n,
  examples: [{ kind: 1, namespace: "svc.market", name: "web", instanceId: "web-1", clusterId: "east" }],
  viewers: [{ clusterId: "east", tenantId: "team-b" }],
};
const WARNING = { path: "rules[0].owners[0]", line: 0, severity: Severity.WARNING, message: '"east" is not a known cluster or region' };

test("validate --offline tells every problem with its line, asks no server, and exits 1", async () => {
  const { exit, stderr } = await waymark(["namespace", "policy", "validate", "bad.yaml", "--offline", "--server", "127.0.0.1:1"], {
    files: FILES,
  });
  expect(exit).toBe(1);
  expect(stderr).toContain("bad.yaml:4: rules[0].visibilty: unknown key; did you mean visibility?");
  expect(stderr).toContain("bad.yaml:6: rules[1].export_scopes[0]: unknown scope");
});

test("validate adds what only the server knows, with the line it is about; warnings are no failure", async () => {
  const fake = await startFake();
  fake.policy.set("validatePolicy", () => ({ problems: [WARNING] }));
  const argv = ["namespace", "policy", "validate", "good.yaml", "--server", fake.address];
  const shown = await waymark(argv, { files: FILES });
  expect(shown).toMatchObject({ exit: 0, stdout: "" });
  expect(shown.stderr).toContain('warning: good.yaml:4: rules[0].owners[0]: "east" is not a known cluster or region');
  expect(shown.stderr).toContain("good.yaml is valid: 1 rule");
  const machine = await waymark([...argv, "-o", "json"], { files: FILES });
  await expect(machine.stdout).toMatchFileSnapshot("../golden/cli/policy-validate.json.txt");
});

test("validate without a server says so, with exit code 3", async () => {
  const { exit } = await waymark(["namespace", "policy", "validate", "good.yaml", "--server", "127.0.0.1:1"], { files: FILES });
  expect(exit).toBe(3);
});

test("apply sends the file, the terms and the stage, and shows what changes for whom", async () => {
  const fake = await startFake();
  fake.policy.set("applyPolicy", () => ({ number: 7n, changes: [CHANGE], problems: [WARNING] }));
  const terms = ["--expect", "6", "--percent", "10", "--reason", "hand over", "--ticket", "OPS-7"];
  const argv = ["namespace", "policy", "apply", "good.yaml", ...terms, "--server", fake.address];
  const { exit, stdout, stderr } = await waymark(argv, { files: FILES });
  expect(exit).toBe(0);
  await expect(stdout).toMatchFileSnapshot("../golden/cli/policy-apply.table.txt");
  expect(stderr).toContain("version 7 is the newest, and is in force only on the nodes in its rollout stage");
  expect(stderr).toContain("hide 12 entries in 1 namespace");
  expect(fake.callsOf("applyPolicy")[0]?.request).toMatchObject({
    policy: {
      version: "2026-01",
      rules: [{ namespace: "svc.market", owners: ["east"], visibilityTenants: ["team-a"], exportScopes: [3, 4] }],
    },
    dryRun: false,
    expectedNumber: 6n,
    stage: { by: { case: "percent", value: 10 } },
    reason: "hand over",
    changeTicket: "OPS-7",
  });
  const machine = await waymark([...argv, "-o", "json"], { files: FILES });
  await expect(machine.stdout).toMatchFileSnapshot("../golden/cli/policy-apply.json.txt");
});

test("apply --dry-run and --cluster are sent, and a dry run says that nothing was changed", async () => {
  const fake = await startFake();
  fake.policy.set("applyPolicy", () => ({ number: 6n }));
  const argv = [
    "namespace",
    "policy",
    "apply",
    "good.yaml",
    "--dry-run",
    "--cluster",
    "east",
    "--cluster",
    "west",
    "--server",
    fake.address,
  ];
  const { stdout, stderr } = await waymark(argv, { files: FILES });
  expect(stdout).toBe("");
  expect(stderr).toContain("nothing changes in the catalog for any viewer");
  expect(stderr).toContain("dry run, nothing was changed: version 6 stays in force");
  expect(fake.callsOf("applyPolicy")[0]?.request).toMatchObject({
    dryRun: true,
    stage: { by: { case: "clusters", value: { clusterIds: ["east", "west"] } } },
  });
});

test("a file with errors is not sent", async () => {
  const fake = await startFake();
  const { exit, stdout, stderr } = await waymark(["namespace", "policy", "apply", "bad.yaml", "-o", "json", "--server", fake.address], {
    files: FILES,
  });
  expect(exit).toBe(1);
  expect(stderr).toContain("nothing was applied: the file has 3 errors");
  expect(JSON.parse(stdout)).toMatchObject({
    applied: false,
    problems: [{ line: 4, severity: "SEVERITY_ERROR" }, { line: 5 }, { line: 6 }],
  });
  expect(fake.callsOf("applyPolicy")).toEqual([]);
});

test.each([
  {
    name: "a lost race",
    refusal: {
      code: status.ABORTED,
      message: "version_conflict: the newest policy version is 7, but the request expects 6",
      reason: "VERSION_CONFLICT",
    },
    exit: 1,
    says: "the newest policy version is 7, but the request expects 6",
  },
  {
    name: "a role that is not there",
    refusal: { code: status.PERMISSION_DENIED, message: "discovery_access_denied: needs mesh.admin", reason: "DISCOVERY_ACCESS_DENIED" },
    exit: 4,
    says: "needs mesh.admin",
  },
  {
    name: "what only the server refuses",
    refusal: {
      code: status.INVALID_ARGUMENT,
      message: "invalid_argument: policy.rules[0].visibility_tenants: no",
      reason: "INVALID_ARGUMENT",
      violations: [{ field: "policy.rules[0].visibility_tenants", description: "no" }],
    },
    exit: 1,
    says: "good.yaml:5: rules[0].visibility_tenants: no",
  },
])("apply: $name is exit code $exit and says what happened", async ({ refusal, exit, says }) => {
  const fake = await startFake();
  fake.refusals.set("applyPolicy", refusal);
  const ran = await waymark(["namespace", "policy", "apply", "good.yaml", "--server", fake.address], { files: FILES });
  expect(ran.exit).toBe(exit);
  expect(ran.stderr).toContain(says);
});

test.each([
  { argv: ["namespace", "policy", "apply", "good.yaml", "--percent", "0"], says: "from 1 to 100" },
  { argv: ["namespace", "policy", "apply", "good.yaml", "--percent", "101"], says: "from 1 to 100" },
  { argv: ["namespace", "policy", "apply", "good.yaml", "--percent", "5", "--cluster", "east"], says: "cannot be combined" },
  { argv: ["namespace", "policy", "apply", "none.yaml"], says: "cannot read none.yaml" },
  { argv: ["namespace", "policy", "explain"], says: "--namespace" },
  { argv: ["namespace", "policy", "explain", "--namespace", "a", "--action", "delete"], says: "register, ingest, query" },
  { argv: ["namespace", "policy", "explain", "--namespace", "a", "--viewer", "east"], says: "expected cluster/tenant" },
  { argv: ["namespace", "policy", "explain", "--namespace", "a", "--viewer", "e/t", "--viewer-tenant", "t"], says: "cannot be combined" },
  { argv: ["namespace", "policy", "explain", "--namespace", "a", "--at", "tomorrow"], says: "expected a time" },
  { argv: ["namespace", "policy", "explain", "--namespace", "a", "--at", "2026-02-30T00:00:00Z"], says: "expected a time" },
  { argv: ["namespace", "polcy", "apply"], says: "policy" },
  { argv: ["discovery", "policy", "stats"], says: "status" },
])("$argv is bad usage that says what is right", async ({ argv, says }) => {
  const { exit, stdout, stderr } = await waymark([...argv, "--server", "127.0.0.1:1"], { files: FILES });
  expect({ exit, stdout }).toEqual({ exit: 2, stdout: "" });
  expect(stderr).toContain(says);
});

test("export prints a file that apply takes, as YAML and as JSON; without a policy it is exit code 5", async () => {
  const fake = await startFake();
  const argv = ["namespace", "policy", "export", "--server", fake.address];
  expect((await waymark(argv)).exit).toBe(5);
  await waymark(["namespace", "policy", "apply", "good.yaml", "--server", fake.address], { files: FILES });
  const sent = fake.callsOf("applyPolicy")[0]?.request;
  if (typeof sent !== "object" || sent === null || !("policy" in sent)) throw new Error("nothing was sent");
  const { policy } = sent;
  fake.policy.set("exportPolicy", () => ({ policy }));
  const yaml = await waymark(argv);
  await expect(yaml.stdout).toMatchFileSnapshot("../golden/cli/policy-export.yaml.txt");
  const json = await waymark([...argv, "-o", "json"]);
  const files = { "again.yaml": yaml.stdout, "again.json": json.stdout };
  for (const file of Object.keys(files)) await waymark(["namespace", "policy", "apply", file, "--server", fake.address], { files });
  expect(
    fake
      .callsOf("applyPolicy")
      .slice(1)
      .map(({ request }) => request),
  ).toMatchObject([{ policy }, { policy }]);
});

test("rollback sends where to and why", async () => {
  const fake = await startFake();
  fake.policy.set("rollbackPolicy", () => ({ number: 8n }));
  const { exit, stderr } = await waymark([
    "namespace",
    "policy",
    "rollback",
    "--to",
    "4",
    "--reason",
    "empty shop",
    "--server",
    fake.address,
  ]);
  expect(exit).toBe(0);
  expect(stderr).toContain("the rules of version 4 are in force again as version 8");
  expect(fake.callsOf("rollbackPolicy")[0]?.request).toMatchObject({
    toNumber: 4n,
    reason: "empty shop",
    expectedNumber: 0n,
    dryRun: false,
  });
});

test("a dry run of a rollback says what would change, and what is wrong with the earlier set", async () => {
  const fake = await startFake();
  const problems = [{ path: "rules[0].owners[0]", severity: Severity.WARNING, message: "no cluster is called that" }];
  fake.policy.set("rollbackPolicy", () => ({
    number: 7n,
    changes: [{ namespace: "svc.a", effect: ChangeEffect.HIDE, entries: 2n }],
    problems,
  }));
  const argv = ["namespace", "policy", "rollback", "--dry-run", "--server", fake.address];
  const { exit, stderr } = await waymark(argv);
  expect(exit).toBe(0);
  expect(stderr).toContain("warning: the version before the newest: rules[0].owners[0]: no cluster is called that");
  expect(stderr).toContain("hide 2 entries in 1 namespace");
  expect(stderr).toContain("dry run, nothing was changed: version 7 stays in force");
  expect(fake.callsOf("rollbackPolicy")[0]?.request).toMatchObject({ toNumber: 0n, dryRun: true });
  const { stdout } = await waymark([...argv, "-o", "json"]);
  expect(JSON.parse(stdout)).toMatchObject({
    number: "7",
    applied: false,
    dryRun: true,
    changes: [{ namespace: "svc.a", effect: "CHANGE_EFFECT_HIDE" }],
    problems: [{ path: "rules[0].owners[0]", severity: "SEVERITY_WARNING" }],
  });
});

const VERSIONS = [
  {
    policy: { version: "b", number: 2n },
    appliedAt: { seconds: 1_770_000_000n, nanos: 0 },
    principal: "ada",
    reason: "hand over",
    changeTicket: "OPS-7",
    checksum: "ab".repeat(32),
    stage: { by: { case: "percent", value: 10 } },
    changes: [
      { namespace: "", kind: RuleChangeKind.CHANGED, fields: [{ field: "version", removed: ["a"], added: ["b"] }] },
      { namespace: "svc.market", kind: RuleChangeKind.CHANGED, fields: [{ field: "owners", removed: ["west"], added: ["east"] }] },
      { namespace: "svc.old", kind: RuleChangeKind.REMOVED, fields: [] },
    ],
  },
  { policy: { number: 1n }, unreadable: "it was modified or truncated" },
];

test.each([
  { name: "history.table", argv: [] },
  { name: "history.diff", argv: ["--diff"] },
  { name: "history.json", argv: ["-o", "json"] },
])("$name is as reviewed", async ({ name, argv }) => {
  const fake = await startFake();
  fake.policy.set("policyHistory", () => ({ versions: VERSIONS, nextPageToken: "" }));
  const { exit, stdout } = await waymark(["namespace", "policy", "history", ...argv, "--server", fake.address]);
  expect(exit).toBe(0);
  await expect(stdout).toMatchFileSnapshot(`../golden/cli/policy-${name}.txt`);
});

test.each([
  { argv: [], viewer: undefined },
  { argv: ["--viewer", "east/team-a"], viewer: { clusterId: "east", tenantId: "team-a" } },
  { argv: ["--viewer", "/team-a"], viewer: { clusterId: "", tenantId: "team-a" } },
  { argv: ["--viewer-cluster", "east"], viewer: { clusterId: "east", tenantId: "" } },
  { argv: ["--viewer-cluster", "a/b", "--viewer-tenant", "t"], viewer: { clusterId: "a/b", tenantId: "t" } },
])("explain $argv asks with the eyes of $viewer, and a denial is an answer", async ({ argv, viewer }) => {
  const fake = await startFake();
  fake.policy.set("explain", () => ({ allowed: false, reason: "viewer_denied", rule: "svc.market" }));
  const words = ["namespace", "policy", "explain", "--namespace", "svc.market", ...argv, "-o", "json", "--server", fake.address];
  const { exit, stdout } = await waymark(words);
  expect(exit).toBe(0);
  expect(JSON.parse(stdout)).toEqual({
    namespace: "svc.market",
    action: "ACT_QUERY",
    allowed: false,
    reason: "viewer_denied",
    rule: "svc.market",
  });
  const { request } = fake.callsOf("explain")[0] ?? {};
  if (viewer === undefined) expect(request).not.toHaveProperty("viewer");
  else expect(request).toMatchObject({ viewer });
  expect(request).toMatchObject({ action: Act.QUERY });
});

test("discovery policy shows what is in force, and what is wrong with it", async () => {
  const fake = await startFake();
  const none = await waymark(["discovery", "policy", "--server", fake.address]);
  expect(none.stderr).toContain("no policy has ever been applied: all actions are allowed");
  fake.policy.set("policyStatus", () => ({ enabled: true, number: 6n, newestNumber: 7n, degraded: "version 7 cannot be read" }));
  const { stdout, stderr } = await waymark(["discovery", "policy", "status", "-o", "json", "--server", fake.address]);
  expect(JSON.parse(stdout)).toMatchObject({ enabled: true, number: "6", newestNumber: "7" });
  expect(stderr).toContain("warning: version 7 cannot be read");
});
