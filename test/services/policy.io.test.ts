import { fromJson, type JsonValue, type Message, toJson } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import { PolicyService } from "../../gen/waymark/policy/v1/policy_pb.js";
import { anonymousCaller, type Caller } from "../../src/policy/identity/caller.ts";
import type { PolicySet } from "../../src/policy/set/rules.ts";
import { auditHandlers } from "../../src/services/audit.ts";
import { requestCheckOf } from "../../src/services/contract.ts";
import { policyService } from "../../src/services/policy.ts";
import type { CallContext, ServiceDefinition } from "../../src/services/service.ts";
import { openMemoryStore } from "../../src/store/control/sqlite.io.ts";
import { demoChain } from "../fakes/demo-service.ts";
import { rule, set } from "../fakes/policies.ts";
import { Bench } from "../fakes/policy-bench.ts";

const CALLER = { ...anonymousCaller("eu-1", "192.0.2.1", ["mesh.admin"]), principal: "ann", tenant: "blue" };

function open() {
  const bench = new Bench(openMemoryStore());
  const service = policyService({
    policyStore: bench.policyStore,
    tasks: bench.tasks,
    regionOf: (clusterId) => (clusterId === "us-1" ? "us" : "eu"),
    secure: () => () => {},
    notTaken: () => "",
    reaches: (clusterId) => clusterId === "eu-1",
    audit: auditHandlers({} as never),
    servedBy: "n1",
    isTls: true,
    onChange: () => () => {},
  });
  return {
    bench,
    service,
    call: (method: string, request: JsonValue, caller: Caller = CALLER, deadlineMonoMs?: number) =>
      call(service, method, request, { caller, deadlineMonoMs }),
  };
}

/** As a client sees it: JSON to JSON. */
async function call(
  service: ServiceDefinition,
  method: string,
  request: JsonValue,
  from: Pick<CallContext, "caller" | "deadlineMonoMs">,
): Promise<JsonValue> {
  const handler = service.handlers[method];
  const desc = PolicyService.methods.find(({ localName }) => localName === method);
  if (handler?.kind !== "unary" || desc === undefined) throw new Error(`no method ${method}`);
  const context = { ...from, time: { monoMs: 0, wallMs: 5000 }, requestId: "r" };
  const message = fromJson(desc.input, request);
  requestCheckOf(desc.input)(message);
  const response = await handler.handle(message as never, context);
  return toJson(desc.output, response as Message);
}

function numbered(count: number): readonly PolicySet[] {
  return Array.from({ length: count }, (_, i) => set([rule("svc.a", { visibilityTenants: [`t${i + 1}`] })], { version: `v${i + 1}` }));
}

test("before any policy the status says that none is in force, and nothing is exported", async () => {
  const { call: ask } = open();
  expect(await ask("policyStatus", {})).toEqual({});
  expect(await ask("exportPolicy", {})).toEqual({});
  expect(await ask("policyHistory", {})).toEqual({});
});

test("a set is applied, told, exported, rolled back and found in the history with its differences", async () => {
  const { call: ask } = open();
  const first = { version: "v1", rules: [{ namespace: "svc.a", visibilityTenants: ["blue"] }] };
  const second = { version: "v2", rules: [{ namespace: "svc.a", visibilityTenants: ["red"] }] };
  expect(await ask("applyPolicy", { policy: first })).toMatchObject({ number: "1" });
  expect(await ask("applyPolicy", { policy: second, expectedNumber: "1", reason: "moved", changeTicket: "T-1" })).toMatchObject({
    number: "2",
    changes: [
      { namespace: "svc.a", effect: "CHANGE_EFFECT_HIDE", entries: "2", viewers: [{ clusterId: "eu-1", tenantId: "blue" }] },
      { namespace: "svc.a", effect: "CHANGE_EFFECT_SHOW", viewers: [{ tenantId: "red" }] },
    ],
  });
  expect(await ask("exportPolicy", {})).toEqual({ policy: { ...second, number: "2" } });
  const undo = [
    { namespace: "svc.a", effect: "CHANGE_EFFECT_HIDE", entries: "2", viewers: [{ clusterId: "eu-1", tenantId: "red" }] },
    { namespace: "svc.a", effect: "CHANGE_EFFECT_SHOW", viewers: [{ tenantId: "blue" }] },
  ];
  expect(await ask("rollbackPolicy", { reason: "broke the shop", dryRun: true })).toMatchObject({ number: "2", changes: undo });
  expect(await ask("rollbackPolicy", { reason: "broke the shop" })).toMatchObject({ number: "3", changes: undo });
  expect(await ask("policyStatus", {})).toMatchObject({ enabled: true, number: "3", version: "v1", ruleCount: 1, newestNumber: "3" });
  expect(await ask("policyHistory", {})).toMatchObject({
    versions: [
      { policy: { number: "3", version: "v1" }, reason: "broke the shop", principal: "ann" },
      {
        policy: second,
        reason: "moved",
        changeTicket: "T-1",
        changes: [
          { kind: "RULE_CHANGE_KIND_CHANGED" },
          { namespace: "svc.a", fields: [{ field: "visibility_tenants", removed: ["blue"], added: ["red"] }] },
        ],
      },
      { policy: first },
    ],
  });
});

test("history goes by page, newest first, and can leave the rules out", async () => {
  const { bench, call: ask } = open();
  for (const one of numbered(3)) await bench.apply(one);
  const page = await ask("policyHistory", { limit: 2, withoutRules: true });
  expect(page).toMatchObject({ versions: [{ policy: { number: "3", version: "v3" } }, { policy: { number: "2" } }] });
  expect(JSON.stringify(page)).not.toContain('"rules"');
  const token = JSON.stringify(page).match(/"nextPageToken":"([^"]+)"/)?.[1] ?? "";
  const last = await ask("policyHistory", { limit: 2, pageToken: token });
  expect(last).toMatchObject({ versions: [{ policy: { number: "1", rules: [{ namespace: "svc.a" }] } }] });
  expect(JSON.stringify(last)).not.toContain("nextPageToken");
  await expect(ask("policyHistory", { pageToken: "x" })).rejects.toThrow("page_token");
  await expect(ask("policyHistory", { limit: -1 })).rejects.toThrow("limit");
});

test("validate tells all problems of a set that apply refuses, and applies nothing", async () => {
  const { bench, call: ask } = open();
  const policy = {
    rules: [
      { namespace: "a..b", cutoverWindows: [{}] },
      { namespace: "c", owners: ["eu-9"] },
    ],
  };
  expect(await ask("validatePolicy", { policy })).toMatchObject({
    problems: [
      { path: "rules[0].cutover_windows[0].starts_at", severity: "SEVERITY_ERROR" },
      { path: "rules[0].namespace", severity: "SEVERITY_ERROR" },
      { path: "rules[1].owners[0]", severity: "SEVERITY_WARNING" },
    ],
  });
  await expect(ask("applyPolicy", { policy })).rejects.toThrow("policy.rules[0].cutover_windows[0].starts_at: is required (and 1 more)");
  expect(bench.engine.newestNumber).toBe(0);
});

test.each([
  { method: "applyPolicy", request: {}, says: "policy: is required" },
  { method: "validatePolicy", request: {}, says: "policy: is required" },
  { method: "applyPolicy", request: { policy: {}, stage: {} }, says: "stage.by" },
  { method: "applyPolicy", request: { policy: {}, stage: { percent: 101 } }, says: "stage.percent" },
  { method: "applyPolicy", request: { policy: {}, reason: "x".repeat(1025) }, says: "reason: must have at most 1024 characters, got 1025" },
  { method: "rollbackPolicy", request: { changeTicket: "x".repeat(129) }, says: "change_ticket" },
  { method: "rollbackPolicy", request: { toNumber: "18446744073709551615" }, says: "to_number" },
  { method: "rollbackPolicy", request: {}, says: "not_found" },
  { method: "explain", request: { namespace: "a", action: 9 }, says: "action: 9 is not an act" },
  { method: "explain", request: { namespace: "a" }, says: "action: must be one of REGISTER" },
  { method: "explain", request: { namespace: "A", action: "ACT_QUERY" }, says: "namespace" },
  { method: "explain", request: { namespace: "a", action: "ACT_QUERY", viewer: { tenantId: "x y" } }, says: "viewer.tenant_id" },
  { method: "explain", request: { namespace: "a", action: "ACT_EXPORT_SUMMARY", scope: 9 }, says: "scope" },
])("$method refuses $says", async ({ method, request, says }) => {
  await expect(open().call(method, request)).rejects.toThrow(says);
});

test("explain answers for the caller, for a named viewer, for sources by cluster and region, and for a time to come", async () => {
  const { bench, call: ask } = open();
  const cutoverWindows = [{ startsWallMs: 10_000, endsWallMs: 20_000, exportScopes: [], allowSummaries: undefined }];
  await bench.apply(set([rule("a", { visibilityTenants: ["blue"], owners: ["us"] }), rule("b", { allowSummaries: true, cutoverWindows })]));
  const explained = (request: JsonValue) => ask("explain", request);
  expect(await explained({ namespace: "a.x", action: "ACT_QUERY" })).toEqual({ allowed: true, reason: "tenant_allowed", rule: "a" });
  expect(await explained({ namespace: "a.x", action: "ACT_WATCH", viewer: { clusterId: "eu-1" } })).toEqual({
    reason: "viewer_denied",
    rule: "a",
  });
  expect(await explained({ namespace: "a", action: "ACT_REGISTER" })).toEqual({ reason: "owner_denied", rule: "a" });
  expect(await explained({ namespace: "a", action: "ACT_INGEST", viewer: { clusterId: "us-1" } })).toMatchObject({
    reason: "owner_allowed",
  });
  expect(await explained({ namespace: "c", action: "ACT_QUERY" })).toEqual({ reason: "no_policy" });
  const closed = { reason: "cutover_closed", rule: "b", until: "1970-01-01T00:00:10Z" };
  expect(await explained({ namespace: "b", action: "ACT_EXPORT_SUMMARY" })).toEqual(closed);
  expect(await explained({ namespace: "b", action: "ACT_EXPORT_SUMMARY", at: "1970-01-01T00:00:15Z" })).toMatchObject({ allowed: true });
});

test("a stage that names a cluster which does not take this one's policy is warned of", async () => {
  const { call: ask } = open();
  const policy = { version: "v1", defaultAllow: true };
  const stage = { clusters: { clusterIds: ["eu-1", "us-1"] } };
  const applied = (await ask("applyPolicy", { policy, stage, dryRun: true })) as {
    problems: { path: string; severity: string; message: string }[];
  };
  expect(applied.problems).toMatchObject([{ path: "stage.clusters.cluster_ids[1]", severity: "SEVERITY_WARNING" }]);
  expect(applied.problems[0]?.message).toContain("policy.accept_from");
});

/** Rules with many windows, each without a start. */
const manyWindows = (namespace: string, ruleCount: number) => ({
  version: "many",
  rules: Array.from({ length: ruleCount }, (_, i) => ({
    namespace: `${namespace}-${i}`,
    cutoverWindows: Array.from({ length: 200 }, () => ({})),
  })),
});
const problemsOf = (answer: JsonValue) => (answer as { problems: { path: string; severity: string; message: string }[] }).problems;

test("validate stops at a thousand errors from decoding or from the rules, and reports that there are more", async () => {
  const { call: ask } = open();
  const policy = manyWindows("Wrong", 4);
  const found = problemsOf(await ask("validatePolicy", { policy }));
  expect(found).toHaveLength(804); // 800 windows and 4 namespaces
  const most = problemsOf(await ask("validatePolicy", { policy: manyWindows("Wrong", 10) }));
  expect(most).toHaveLength(1001);
  expect(most.at(-1)).toMatchObject({ message: "there are more errors: only the first 1000 are listed" });
  await expect(ask("applyPolicy", { policy: manyWindows("Wrong", 10) })).rejects.toThrow("(and 1000 more)");
});

test("of sixteen concurrent calls with large sets one runs and the others are refused, also for an admin; another caller can still call", async () => {
  const { call: ask } = open();
  const policy = manyWindows("svc", 50); // 10,000 windows: more than half of what one caller may hold
  const outcome = (answered: Promise<JsonValue>) => answered.then((answer) => problemsOf(answer).length, String);
  const all = Array.from({ length: 16 }, () => outcome(ask("validatePolicy", { policy })));
  const other = outcome(ask("validatePolicy", { policy }, { ...CALLER, tenant: "red" }));
  const outcomes = await Promise.all(all);
  expect(outcomes.filter((each) => each === 1001).length).toBe(1);
  expect(outcomes.filter((each) => String(each).includes("discovery_rate_limited: this caller has too many policy calls")).length).toBe(15);
  expect(await other).toBe(1001);
  expect(await outcome(ask("validatePolicy", { policy }))).toBe(1001);
});

test("while a large set is checked, another one is refused before its bytes are decoded; a short request is not", async () => {
  const { call: ask, service } = open();
  const method = demoChain().chain.method(PolicyService.method.applyPolicy, service.handlers["applyPolicy"]);
  const largest = new Uint8Array(4_000_000);
  const reasons = () => (["proto", "json"] as const).map((encoding) => method.requestFault(largest, encoding)?.reason);
  expect(reasons()).toEqual([undefined, undefined]);
  const first = ask("validatePolicy", { policy: manyWindows("svc", 50) });
  expect(reasons()).toEqual(["discovery_rate_limited", "discovery_rate_limited"]);
  expect(method.requestFault(new Uint8Array(100_000), "proto")).toBeUndefined();
  await first;
  expect(reasons()).toEqual([undefined, undefined]);
});

test("many concurrent small calls wait for each other, up to a limit", async () => {
  const { call: ask } = open();
  const policy = { version: "v1", defaultAllow: true };
  const all = await Promise.allSettled(Array.from({ length: 100 }, () => ask("applyPolicy", { policy, dryRun: true })));
  expect(all.filter(({ status }) => status === "fulfilled")).toHaveLength(64);
});

test("a rollback counts with the size of the set that it plans, and one to a missing version does not wait", async () => {
  const { bench, call: ask } = open();
  const tenants = Array.from({ length: 1000 }, (_, i) => `a-tenant-with-a-long-name-${i}`);
  for (const version of ["v1", "v2"])
    await bench.apply(
      set(
        Array.from({ length: 10 }, (_, i) => rule(`svc.r${i}`, { visibilityTenants: tenants })),
        { version },
      ),
    );
  const all = await Promise.allSettled(Array.from({ length: 16 }, () => ask("rollbackPolicy", { dryRun: true })));
  // Each set has about 300 kB encoded, of which a caller may plan three.
  expect(all.filter(({ status }) => status === "fulfilled")).toHaveLength(3);
  const running = ask("rollbackPolicy", { dryRun: true });
  const order: string[] = [];
  const missing = ask("rollbackPolicy", { toNumber: "9" }).catch((thrown: unknown) => order.push(String(thrown)));
  await Promise.all([missing, running.then(() => order.push("done"))]);
  expect(order).toEqual([expect.stringContaining("not_found"), "done"]);
});

test("a call whose deadline passes while it waits is not run", async () => {
  const { bench, call: ask } = open();
  const late = ask("applyPolicy", { policy: { version: "v1" } }, CALLER, 0);
  await expect(late).rejects.toThrow("deadline_exceeded");
  expect(bench.engine.newestNumber).toBe(0);
});

test("an owner that changes rules of others is refused before its set is read", async () => {
  const { bench, call: ask } = open();
  await bench.apply(set([rule("svc.a"), rule("own")]));
  const owner = { ...CALLER, roles: ["owner:own"] };
  const from = (policy: JsonValue) => ask("applyPolicy", { policy, dryRun: true }, owner);
  await expect(from(manyWindows("other", 40))).rejects.toThrow("discovery_access_denied");
  await expect(from({ rules: [{ namespace: "own" }] })).rejects.toThrow("discovery_access_denied");
  await expect(from({ defaultAllow: true, ...manyWindows("own.x", 40) })).rejects.toThrow("discovery_access_denied");
  const own = { rules: [{ namespace: "own" }, { namespace: "svc.a" }, ...manyWindows("own.x", 40).rules] };
  await expect(from(own)).rejects.toThrow("is required");
});

test("validate warns about a rule for p.* if p has entries, and does not reveal other owners' entries", async () => {
  const { bench, call: ask } = open();
  const policy = { defaultAllow: true, rules: [{ namespace: "svc.a.*", visibilityTenants: ["blue"] }] };
  const [warned] = problemsOf(await ask("validatePolicy", { policy }));
  expect(warned).toMatchObject({ path: "rules[0].namespace", severity: "SEVERITY_WARNING" });
  expect(warned?.message).toContain("does not cover svc.a itself and its entries (2)");
  expect(problemsOf(await ask("applyPolicy", { policy })).map(({ message }) => message)).toEqual([warned?.message]);
  const more = { ...policy, rules: [...policy.rules, { namespace: "own" }] };
  const owner = { ...CALLER, roles: ["owner:own"] };
  const [told] = problemsOf(await ask("applyPolicy", { policy: more, dryRun: true }, owner));
  expect(told?.message).toContain("does not cover svc.a itself: default_allow (true)");
  expect(bench.engine.newestNumber).toBe(1);
});
