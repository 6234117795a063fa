import { status } from "@grpc/grpc-js";
import { afterEach, expect, test } from "vitest";
import { AuditFault, AuditKind, AuditOutcome } from "../../gen/waymark/policy/v1/policy_pb.js";
import { MAX_TIMER_MS } from "../../src/lib/duration.ts";
import { auditLine } from "../../src/policy/audit/line.ts";
import { boundEvent, CHAIN_START, chainEvent } from "../../src/policy/audit/record.ts";
import { waymark } from "../fakes/cli-world.ts";
import { FakeDiscovery } from "../fakes/discovery-server.ts";
import { until } from "../fakes/until.ts";

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
  const ofEntries = { ...denial(7), subjects: entries, requestId: "r-1" };
  fake.policy.set("accessAudit", paged([denial(9), ofEntries]));
  fake.policy.set("policyAudit", paged([change(8)]));
  const { exit, stdout } = await waymark(["audit", "list", "-o", format, "--server", fake.address]);
  expect(exit).toBe(0);
  await expect(stdout).toMatchFileSnapshot(`../golden/cli/audit.${format}.txt`);
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
  { argv: ["audit", "list", "--kind", "policy", "--namespace", "a"], says: "filter access records" },
  { argv: ["audit", "list", "--since", "yesterday"], says: "or a duration before now" },
  { argv: ["audit", "list", "--since", "1h", "--until", "2h"], says: "--until 2h must be later than --since 1h" },
  { argv: ["discovery", "access-audit", "--since", "1h", "--until", "1h"], says: "--until 1h must be later than --since 1h" },
  {
    argv: ["namespace", "policy", "audit", "--since", "2026-02-01T00:00:00Z", "--until", "2026-01-01T00:00:00Z"],
    says: "--until 2026-01-01T00:00:00Z must be later than --since 2026-02-01T00:00:00Z",
  },
  { argv: ["audit", "watch", "--interval", "1ms"], says: "at least 100ms" },
])("$argv is bad usage", async ({ argv, says }) => {
  const { exit, stderr } = await waymark([...argv, "--server", "127.0.0.1:1"]);
  expect(exit).toBe(2);
  expect(stderr).toContain(says);
});

test("a caller without the role is exit code 4", async () => {
  const fake = await startFake();
  fake.refusals.set("accessAudit", { code: status.PERMISSION_DENIED, message: "discovery_access_denied: needs mesh.operate" });
  expect((await waymark(["discovery", "access-audit", "--server", fake.address])).exit).toBe(4);
  expect((await waymark(["audit", "watch", "--server", fake.address])).exit).toBe(4);
});

/** The numbers of records in JSON lines. */
function numbersOf(stdout: string): readonly string[] {
  const lines = stdout.trimEnd().split("\n");
  return lines.filter(Boolean).map((line) => (JSON.parse(line) as { readonly number: string }).number);
}

test("watch tells each act once, oldest first, and nothing that was there before it", async () => {
  const fake = await startFake();
  const records = [denial(2), denial(1)];
  fake.policy.set("accessAudit", (asked: Asked) => paged(records)(asked));
  const argv = ["audit", "watch", "--kind", "access", "--count", "3", "--interval", "100ms", "-o", "json", "--server", fake.address];
  const later = (act: () => void, delayMs: number): (() => void) => {
    if (delayMs === 100) setImmediate(act);
    return () => {};
  };
  const ran = waymark(argv, { later });
  // After the call that looks where the log ends, and the first that finds nothing new.
  await until("it has looked twice", () => fake.callsOf("accessAudit").length >= 2);
  records.unshift(denial(5), denial(4), denial(3));
  const { exit, stdout } = await ran;
  expect(exit).toBe(0);
  expect(numbersOf(stdout)).toEqual(["3", "4", "5"]);
});

/** A record of one of several logs: the numbers of each begin at 1. */
function recordOf(log: string, number: number, ageSeconds = 0) {
  return { ...denial(number), at: { seconds: 1_770_000_000n - BigInt(ageSeconds), nanos: 0 }, hash: `${log}${number}` };
}

/** What `audit watch` tells of a log that holds the next of these at each look, and the last from then on: hashes, and what stands on stderr. */
async function watched(looks: readonly (readonly ReturnType<typeof recordOf>[])[], count: number) {
  const fake = await startFake();
  const interrupt = new AbortController();
  let look = -1;
  fake.policy.set("accessAudit", (asked: Asked) => {
    if (asked.pageToken === "") look += 1;
    // A watch that tells too little would never end.
    if (look > looks.length + 5) interrupt.abort();
    return paged(looks[Math.min(look, looks.length - 1)] ?? [])(asked);
  });
  const later = (act: () => void, delayMs: number): (() => void) => {
    if (delayMs === 100) setImmediate(act);
    return () => {};
  };
  const argv = ["audit", "watch", "--kind", "access", "--count", String(count), "--interval", "100ms", "-o", "json"];
  const { stdout, stderr } = await waymark([...argv, "--server", fake.address], { later, interrupt: interrupt.signal });
  const lines = stdout.trimEnd().split("\n");
  return {
    told: lines.map((line) => (JSON.parse(line) as { readonly hash: string }).hash),
    stderr,
  };
}

const [A1, A2, A3, A4, A5] = [1, 2, 3, 4, 5].map((number) => recordOf("a", number)) as [R, R, R, R, R];
const [B1, B2, B3, B4] = [1, 2, 3, 4].map((number) => recordOf("b", number)) as [R, R, R, R];
type R = ReturnType<typeof recordOf>;
const BEHIND = Array.from({ length: 250 }, (_, i) => recordOf("d", 250 - i, 30));
const OLD = Array.from({ length: 2500 }, (_, i) => recordOf("c", 2500 - i, 3600));

test.each([
  { what: "begins again", looks: [[A3, A2, A1], [], [B1], [B2, B1]], told: ["b1", "b2"], notes: 1 },
  {
    what: "begins again and has as many at once",
    looks: [
      [A2, A1],
      [B3, B2, B1],
      [B4, B3, B2, B1],
    ],
    told: ["b1", "b2", "b3", "b4"],
    notes: 1,
  },
  {
    what: "has other numbers that match",
    looks: [
      [A3, A2, A1],
      [B4, B2],
      [B4, B2],
    ],
    told: ["b2", "b4"],
    notes: 1,
  },
  {
    what: "is of another node, with much that is old",
    looks: [[A3], [recordOf("c", 2501), ...OLD], [recordOf("c", 2502), recordOf("c", 2501), ...OLD]],
    told: ["c2501", "c2502"],
    notes: 1,
  },
  {
    what: "is of another node, with small numbers and only what is old",
    looks: [[recordOf("a", 9000)], OLD, [recordOf("c", 2501), ...OLD]],
    told: ["c2501"],
    notes: 1,
  },
  {
    what: "is of another node whose clock is 30 s behind, with more than a first page of records since",
    looks: [[recordOf("a", 9000)], BEHIND],
    told: BEHIND.map(({ hash }) => hash).toReversed(),
    notes: 1,
  },
  {
    what: "is another one for a while, and then the first again",
    looks: [[A3, A2, A1], [B1], [A5, A4, A3, A2, A1], [B2, B1]],
    told: ["b1", "a4", "a5", "b2"],
    notes: 3,
  },
  { what: "has forgotten what was told", looks: [[A2, A1], [A3, A2], [A4], [A5]], told: ["a3", "a4", "a5"], notes: 0 },
])("watch tells what is new in a log that $what", async ({ looks, told, notes }) => {
  const ran = await watched(looks, told.length);
  expect([ran.told, ran.stderr.split("log has changed").length - 1]).toEqual([told, notes]);
});

test("watch says from where it tells a log that is another one", async () => {
  const looks = [[A1], [B2, B1], [A2, A1]];
  const { stderr } = await watched(looks, 3);
  expect(stderr).toContain(
    "the access log has changed: the server started a new log, or a different server answered; printing its records since 2026-02-02T02:39:00.000Z",
  );
  expect(stderr).toContain("printing its records after number 1; some may be repeated");
});

test("watch waits as long as a timer can when --interval is longer than that", async () => {
  const fake = await startFake();
  const interrupt = new AbortController();
  const waits: number[] = [];
  const later = (_: () => void, delayMs: number): (() => void) => {
    waits.push(delayMs);
    if (delayMs > 1000) setImmediate(() => interrupt.abort());
    return () => {};
  };
  const argv = ["audit", "watch", "--interval", "30d", "--server", fake.address];
  expect((await waymark(argv, { later, interrupt: interrupt.signal })).exit).toBe(0);
  expect(Math.max(...waits)).toBe(MAX_TIMER_MS);
});

test("watch --since begins with what happened since", async () => {
  const fake = await startFake();
  fake.policy.set("accessAudit", paged([denial(3), denial(1)]));
  fake.policy.set("policyAudit", paged([change(2)]));
  const { stdout } = await waymark(["audit", "watch", "--since", "1h", "--count", "3", "-o", "json", "--server", fake.address]);
  expect(numbersOf(stdout)).toEqual(["1", "2", "3"]);
});

test("watch shows the records of the access log although the server was away when the policy log was read", async () => {
  const fake = await startFake();
  fake.policy.set("accessAudit", paged([denial(1)]));
  fake.policy.set("policyAudit", paged([change(2)]));
  fake.refusals.set("policyAudit", { code: status.UNAVAILABLE, message: "draining: going away", reason: "DRAINING" });
  const argv = ["audit", "watch", "--since", "1h", "--count", "2", "--interval", "100ms", "-o", "json", "--server", fake.address];
  const later = (act: () => void, delayMs: number): (() => void) => {
    if (delayMs === 100) setImmediate(act);
    return () => {};
  };
  const ran = waymark(argv, { later, onStderr: () => fake.refusals.delete("policyAudit") });
  await until("it has read the policy log again", () => fake.callsOf("policyAudit").length >= 2);
  // A record after the break ends the command, also when it has lost one.
  fake.policy.set("accessAudit", paged([denial(3), denial(1)]));
  const { stdout, stderr } = await ran;
  expect(stderr).toContain("server unreachable");
  expect(numbersOf(stdout)).toEqual(["1", "2"]);
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
