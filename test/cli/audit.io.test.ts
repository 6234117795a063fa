import { status } from "@grpc/grpc-js";
import { afterEach, expect, test } from "vitest";
import { PeerStatus } from "../../gen/waymark/catalog/v1/peer_pb.js";
import { AuditFault, AuditKind, AuditOutcome } from "../../gen/waymark/policy/v1/policy_pb.js";
import { auditLine } from "../../src/policy/audit/line.ts";
import { boundEvent, CHAIN_START, chainEvent } from "../../src/policy/audit/record.ts";
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

interface Asked {
  readonly limit: number;
  readonly pageToken: string;
}

/** Records by number, newest first, `limit` a page. */
function paged(records: readonly { readonly number: bigint }[]) {
  return ({ limit, pageToken }: Asked) => {
    const from = Number(pageToken || "0");
    const to = from + Math.min(limit === 0 ? 100 : limit, 1000);
    return { records: records.slice(from, to), nextPageToken: to < records.length ? String(to) : "" };
  };
}

function denial(number: number) {
  const who = { principal: "team-a", tenant: "team-a", source: "10.0.0.1" };
  const what = {
    kind: AuditKind.ACCESS,
    action: "query",
    namespace: "svc.market",
    outcome: AuditOutcome.DENIED,
    reason: "viewer_denied",
    rule: "svc.market",
  };
  return { number: BigInt(number), at: { seconds: 1_770_000_000n + BigInt(number), nanos: 0 }, ...who, ...what };
}

function change(number: number) {
  const what = {
    kind: AuditKind.POLICY,
    action: "policy.apply",
    outcome: AuditOutcome.ALLOWED,
    before: "aa".repeat(32),
    after: "bb".repeat(32),
  };
  return {
    number: BigInt(number),
    at: { seconds: 1_770_000_000n, nanos: 0 },
    principal: "ada",
    source: "10.0.0.2",
    ...what,
    detail: "OPS-7",
    subjects: ["policy:12"],
  };
}

test.each(["table", "wide", "json"])("the %s format of an audit is as reviewed", async (format) => {
  const fake = await startFake();
  const entries = Array.from({ length: 5 }, (_, i) => `svc.market/web/${i}`);
  const ofEntries = { ...denial(7), subjects: entries, requestId: "r-1", tokenId: "sha256:9f86d081884c", ticket: "OPS-7" };
  fake.audit.set("list", paged([denial(9), change(8), ofEntries]));
  const { exit, stdout } = await waymark(["audit", "list", "-o", format, "--server", fake.address]);
  expect(exit).toBe(0);
  await expect(stdout).toMatchFileSnapshot(`../golden/cli/audit.${format}.txt`);
});

test("a lease and a node are also found as the column of subjects shows them", async () => {
  const fake = await startFake();
  const list = (...filters: readonly string[]) => waymark(["audit", "list", ...filters, "--server", fake.address]);
  await list("--lease", "lease:l-1", "--node", "node:eu-2");
  await list("--lease", "l-1", "--node", "node:node:x", "--text", "node:eu-2");
  expect(fake.callsOf("list").map(({ request }) => request)).toMatchObject([
    { lease: "l-1", node: "eu-2" },
    { lease: "l-1", node: "node:x", text: "node:eu-2" },
  ]);
});

test("access-audit sends its filters and tells how to go on", async () => {
  const fake = await startFake();
  fake.policy.set("accessAudit", paged([denial(3), denial(2), denial(1)]));
  const filters = ["--principal", "team-a", "--namespace", "svc.market", "--reason", "viewer_denied", "--since", "2026-01-01T00:00:00Z"];
  const argv = ["discovery", "access-audit", ...filters, "--limit", "2", "--server", fake.address];
  const { stdout, stderr } = await waymark(argv);
  expect(stdout.trimEnd().split("\n")).toHaveLength(3);
  expect(stderr).toContain("--page-token 2");
  expect(fake.callsOf("accessAudit")[0]?.request).toMatchObject({
    principal: "team-a",
    namespace: "svc.market",
    reason: "viewer_denied",
    limit: 2,
    since: { seconds: 1_767_225_600n },
  });
});

test.each([
  ["accessAudit", ["discovery", "access-audit"]],
  ["policyAudit", ["namespace", "policy", "audit"]],
] as const)("%s answers as many as --limit asks for, though a page has at most 1000", async (rpc, verb) => {
  const fake = await startFake();
  fake.policy.set(rpc, paged(Array.from({ length: 2500 }, (_, i) => denial(2500 - i))));
  const { stdout } = await waymark([...verb, "--limit", "2200", "-o", "json", "--server", fake.address]);
  const { records, nextPageToken: token } = JSON.parse(stdout) as {
    readonly records: readonly unknown[];
    readonly nextPageToken: string;
  };
  expect([records.length, token]).toEqual([2200, "2200"]);
  expect(fake.callsOf(rpc).map(({ request }) => (request as Asked).limit)).toEqual([1000, 1000, 200]);
});

test("namespace policy audit asks the policy log; --since takes a duration before now", async () => {
  const fake = await startFake();
  const before = Date.now() - 3_600_000;
  await waymark(["namespace", "policy", "audit", "--since", "1h", "--server", fake.address]);
  const { request } = fake.callsOf("policyAudit")[0] ?? {};
  expect(request).toHaveProperty("since.seconds");
  const { since } = request as { readonly since: { readonly seconds: bigint } };
  expect(Math.abs(Number(since.seconds) * 1000 - before)).toBeLessThan(60_000);
});

test.each([
  { argv: ["audit", "list", "--kind", "reads"], says: "access, policy, admin" },
  { argv: ["audit", "list", "--since", "yesterday"], says: "or a duration before now" },
  { argv: ["audit", "list", "--since", "1h", "--until", "2h"], says: "--until 2h must be later than --since 1h" },
  { argv: ["discovery", "access-audit", "--since", "1h", "--until", "1h"], says: "--until 1h must be later than --since 1h" },
  {
    argv: ["namespace", "policy", "audit", "--since", "2026-02-01T00:00:00Z", "--until", "2026-01-01T00:00:00Z"],
    says: "--until 2026-01-01T00:00:00Z must be later than --since 2026-02-01T00:00:00Z",
  },
  { argv: ["audit", "watch", "--since", "1h", "--until", "1h"], says: "--until 1h must be later than --since 1h" },
])("$argv is bad usage", async ({ argv, says }) => {
  const { exit, stderr } = await waymark([...argv, "--server", "127.0.0.1:1"]);
  expect(exit).toBe(2);
  expect(stderr).toContain(says);
});

test("a caller without the role is exit code 4", async () => {
  const fake = await startFake();
  fake.refusals.set("accessAudit", { code: status.PERMISSION_DENIED, message: "discovery_access_denied: needs mesh.operate" });
  expect((await waymark(["discovery", "access-audit", "--server", fake.address])).exit).toBe(4);
  fake.refusals.set("auditWatch", { code: status.PERMISSION_DENIED, message: "discovery_access_denied: needs mesh.operate" });
  expect((await waymark(["audit", "watch", "--server", fake.address])).exit).toBe(4);
});

const FLAGS = {
  entry: "svc.market/web/web-1",
  lease: "a1/7",
  node: "n1",
  principal: "ada",
  tenant: "blue",
  namespace: "svc.market",
  action: "register",
  reason: "viewer_denied",
  ticket: "OPS-7",
  text: "new disks",
};

test("list and watch send every filter, and --limit counts the records of all pages", async () => {
  const fake = await startFake();
  fake.audit.set("list", paged(Array.from({ length: 1500 }, (_, i) => denial(1500 - i))));
  fake.auditScripts = [[{ records: [denial(1)] }]];
  const filters = Object.entries(FLAGS).flatMap(([name, value]) => [`--${name}`, value]);
  const others = ["--kind", "policy", "--outcome", "denied", "--since", "2026-01-01T00:00:00Z", "--until", "2026-01-02T00:00:00Z"];
  const common = [...filters, ...others, "-o", "json", "--server", fake.address];
  const { stdout } = await waymark(["audit", "list", "--limit", "1200", ...common]);
  expect((JSON.parse(stdout) as { readonly records: readonly unknown[] }).records).toHaveLength(1200);
  await waymark(["audit", "watch", "--count", "1", ...common]);
  const wanted = {
    ...FLAGS,
    kinds: [AuditKind.POLICY],
    outcomes: [AuditOutcome.DENIED],
    since: { seconds: 1_767_225_600n },
    until: { seconds: 1_767_312_000n },
  };
  expect([fake.callsOf("list")[0]?.request, fake.auditRequests[0]]).toMatchObject([wanted, wanted]);
});

/** The numbers of records in JSON lines. */
function numbersOf(stdout: string): readonly string[] {
  const lines = stdout.trimEnd().split("\n");
  return lines.filter(Boolean).map((line) => (JSON.parse(line) as { readonly number: string }).number);
}

/** No time passes, except that of retries. */
function later(act: () => void, delayMs: number): () => void {
  if (delayMs === 1000) setImmediate(act);
  return () => {};
}

test("watch resumes after the last message, and prints each record once", async () => {
  const fake = await startFake();
  const [one, two] = ["1".repeat(64), "2".repeat(64)];
  fake.auditScripts = [
    [
      { number: 1n, hash: one },
      { records: [denial(2), denial(3)], number: 3n, hash: two },
    ],
    [{ number: 3n, hash: two }, { records: [denial(4)] }],
  ];
  const { exit, stdout, stderr } = await waymark(["audit", "watch", "--count", "3", "-o", "json", "--server", fake.address], { later });
  expect([exit, numbersOf(stdout)]).toEqual([0, ["2", "3", "4"]]);
  expect(stderr).toContain("the server ended the stream; reconnecting");
  expect(fake.auditRequests).toMatchObject([{ afterHash: "" }, { afterNumber: 3n, afterHash: two }]);
});

test("watch continues by time in a log that does not have the last record, and says so", async () => {
  const fake = await startFake();
  fake.auditScripts = [[{ records: [denial(60)], number: 60n, hash: "1".repeat(64) }], [{ records: [denial(2)] }]];
  const refuse = () => fake.refusals.set("auditWatch", { code: status.NOT_FOUND, message: "no record 60", reason: "NOT_FOUND" });
  const argv = ["audit", "watch", "--count", "2", "-o", "json", "--server", fake.address];
  const { stdout, stderr } = await waymark(argv, { later, onStdout: (text) => void (text.includes('"60"') && refuse()) });
  expect(numbersOf(stdout)).toEqual(["60", "2"]);
  expect(stderr).toContain("the audit log has changed: ");
  expect(stderr).toContain("printing its records since 2026-02-02T02:40:00.000Z; some may be repeated");
  expect(fake.auditRequests.at(-1)).toMatchObject({ afterHash: "", since: { seconds: 1_770_000_000n } });
});

/** Fakes of the nodes n1, n2, …, which all know each other and a dead node. */
async function startNodes(count: number): Promise<readonly FakeDiscovery[]> {
  const fakes: FakeDiscovery[] = [];
  for (let i = 0; i < count; i++) fakes.push(await startFake());
  const nodes = fakes.map(({ address }, i) => ({
    nodeId: `n${i + 1}`,
    targets: [{ name: "grpc", host: "127.0.0.1", port: Number(address.split(":")[1]) }],
  }));
  const members = [...nodes.map(({ nodeId }) => ({ nodeId, status: PeerStatus.ALIVE })), { nodeId: "n9", status: PeerStatus.DEAD }];
  const [first] = fakes;
  if (first === undefined) throw new Error("no fake");
  // The address that the node advertises of itself is not reachable for the command.
  first.nodes = nodes.with(0, { nodeId: "n1", targets: [{ name: "grpc", host: "192.0.2.1", port: 1 }] });
  first.mesh.set("list", ({ clusterId }: { readonly clusterId: string }) => ({
    peers: clusterId === "test-cluster" ? members.map((member, i) => ({ ...member, isSelf: i === 0 })) : [],
  }));
  return fakes;
}

test("with --all-nodes, list asks each node with the same credential, merges by time, and names the nodes that did not answer", async () => {
  const [one, two, three] = (await startNodes(3)) as [FakeDiscovery, FakeDiscovery, FakeDiscovery];
  one.audit.set("list", paged([denial(5), denial(2)]));
  two.audit.set("list", paged([denial(4), denial(3), denial(1)]));
  three.stop();
  const argv = ["audit", "list", "--all-nodes", "--limit", "4", "--token", "secret", "--server", one.address];
  const { exit, stdout, stderr } = await waymark(argv);
  expect(exit).toBe(1);
  expect(stdout.split("\n", 5).map((line) => line.split(/ +/).slice(0, 2))).toEqual([
    ["NODE", "NUMBER"],
    ["n1", "5"],
    ["n2", "4"],
    ["n2", "3"],
    ["n1", "2"],
  ]);
  expect(stderr).toMatch(/error: n3 did not answer: .+\nerror: n9 did not answer: no address is known; the member is dead\n/);
  expect([one, two].map((fake) => fake.callsOf("list").at(-1)?.authorization)).toEqual(["Bearer secret", "Bearer secret"]);
  const json = JSON.parse((await waymark([...argv, "-o", "json"])).stdout) as Record<string, unknown>;
  expect(json).toMatchObject({ records: [{ node: "n1", number: "5" }, {}, {}, {}], failed: [{ node: "n3" }, { node: "n9" }] });
});

test("with --all-nodes, the refusal of all nodes is the exit code of the command", async () => {
  const [one] = (await startNodes(1)) as [FakeDiscovery];
  one.audit.set("list", () => {
    one.refusals.set("list", { code: status.PERMISSION_DENIED, message: "discovery_access_denied: needs mesh.operate" });
    return {};
  });
  const argv = ["audit", "list", "--all-nodes", "--server", one.address];
  await waymark(argv);
  expect((await waymark(argv)).exit).toBe(4);
});

test("with --all-nodes, watch follows each node, and reconnects to the same one", async () => {
  const [one, two] = (await startNodes(2)) as [FakeDiscovery, FakeDiscovery];
  one.auditScripts = [[{ records: [denial(1)], number: 1n, hash: "1".repeat(64) }]];
  two.auditScripts = [[{ records: [denial(1)], number: 1n, hash: "2".repeat(64) }], [{ records: [denial(2)] }]];
  const argv = ["audit", "watch", "--all-nodes", "--count", "3", "-o", "json", "--server", one.address];
  const { exit, stdout, stderr } = await waymark(argv, { later });
  expect(exit).toBe(1);
  const lines = stdout.trimEnd().split("\n");
  const shown = lines.map((line) => JSON.parse(line) as { readonly node: string; readonly number: string });
  expect(shown.map(({ node, number }) => `${node} ${number}`).toSorted()).toEqual(["n1 1", "n2 1", "n2 2"]);
  expect(two.auditRequests).toMatchObject([{ afterHash: "" }, { afterNumber: 1n, afterHash: "2".repeat(64) }]);
  expect(stderr).toContain("n9 is not followed");
  expect(stderr).toContain("the server ended the stream of n2; reconnecting");
});

test("with --all-nodes, watch also follows nodes that join or move to another address later", async () => {
  const [one, two] = (await startNodes(2)) as [FakeDiscovery, FakeDiscovery];
  const [moved, joined] = [await startFake(), await startFake()];
  one.auditScripts = [[{ records: [denial(1)] }]];
  two.auditScripts = [[{ number: 7n, hash: "2".repeat(64) }]];
  moved.auditScripts = [[{ records: [denial(2)] }]];
  joined.auditScripts = [[{ records: [denial(3)] }]];
  const at = (nodeId: string, { address }: FakeDiscovery) => {
    const [host = "", port = ""] = address.split(":");
    return { nodeId, targets: [{ name: "grpc", host, port: Number(port) }] };
  };
  const moveAll = () => {
    one.nodes = [at("n1", one), at("n2", moved), at("n9", joined)];
    two.stop();
  };
  const beganMs = Date.now();
  const argv = ["audit", "watch", "--all-nodes", "--count", "3", "-o", "json", "--server", one.address];
  const { exit, stdout } = await waymark(argv, {
    later: (act, delayMs) => later(act, delayMs === 30_000 ? 1000 : delayMs),
    onStdout: (text) => void (text.includes('"n1"') && moveAll()),
  });
  expect([exit, numbersOf(stdout).toSorted()]).toEqual([0, ["1", "2", "3"]]);
  // The log of the new node is read from the start of the command.
  expect(joined.auditRequests[0]).toMatchObject({ afterHash: "", since: {} });
  expect(Number(joined.auditRequests[0]?.since?.seconds)).toBeGreaterThanOrEqual(Math.floor(beganMs / 1000));
  expect(moved.auditRequests[0]?.since).toBeUndefined();
});

test.each([
  { answer: { intact: true, checked: 5n, firstNumber: 1n, lastNumber: 5n, lastHash: "ab", fault: AuditFault.NONE }, exit: 0, says: "" },
  {
    answer: { intact: false, checked: 2n, fault: AuditFault.MISSING, faultNumber: 3n, detail: "record 3 is missing" },
    exit: 1,
    says: "missing at record 3",
  },
])("verify asks the server about its own log: exit code $exit", async ({ answer, exit, says }) => {
  const fake = await startFake();
  fake.policy.set("verifyAudit", () => answer);
  const ran = await waymark(["audit", "verify", "-o", "json", "--server", fake.address]);
  expect(ran.exit).toBe(exit);
  expect(ran.stderr).toContain(says);
  const fault = `AUDIT_FAULT_${AuditFault[answer.fault]}`;
  expect(JSON.parse(ran.stdout)).toMatchObject({ intact: answer.intact, checked: Number(answer.checked), fault });
});

test("verify FILE checks a copy without a server", async () => {
  const who = { principal: "a", tenant: "", source: "", rule: "", before: "", after: "", detail: "", requestId: "" };
  const event = boundEvent({
    atWallMs: 1,
    kind: "access",
    action: "query",
    namespace: "n",
    subjects: "",
    tokenId: "",
    ticket: "",
    outcome: "denied",
    reason: "viewer_denied",
    ...who,
  });
  const first = chainEvent(event, CHAIN_START).record;
  const lines = [first, chainEvent(event, first).record].map(auditLine);
  const files = { "whole.jsonl": lines.join(""), "changed.jsonl": lines.join("").replace("denied", "allowed") };
  const argv = ["audit", "verify", "--server", "127.0.0.1:1"];
  const whole = await waymark([...argv, "whole.jsonl", "-o", "json"], { files });
  expect(whole.exit).toBe(0);
  expect(JSON.parse(whole.stdout)).toMatchObject({ intact: true, checked: 2, lastNumber: 2, fault: "AUDIT_FAULT_NONE" });
  const changed = await waymark([...argv, "changed.jsonl"], { files });
  expect(changed.exit).toBe(1);
  expect(changed.stderr).toContain("altered at record 1");
});

test("report namespace-health counts entries by health and says what policy says", async () => {
  const fake = await startFake();
  const register = (namespace: string, instance: string, health: string) =>
    waymark(["register", "--namespace", namespace, "--name", "web", "--instance", instance, "--health", health, "--server", fake.address]);
  await register("svc.market", "1", "healthy");
  await register("svc.market", "2", "critical");
  await register("svc.shop", "1", "healthy");
  const argv = ["report", "namespace-health", "--server", fake.address];
  const shown = await waymark(argv);
  await expect(shown.stdout).toMatchFileSnapshot("../golden/cli/report.table.txt");
  const unhealthy = await waymark([...argv, "--unhealthy", "-o", "json"]);
  await expect(unhealthy.stdout).toMatchFileSnapshot("../golden/cli/report.json.txt");
  const empty = await waymark([...argv, "--namespace", "svc.none", "-o", "json"]);
  expect(JSON.parse(empty.stdout)).toMatchObject({ namespaces: [{ namespace: "svc.none", entries: 0 }] });
});
