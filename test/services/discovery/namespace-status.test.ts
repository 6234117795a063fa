/** NamespaceStatus at a node that holds summaries: what its cluster exports of a namespace, and why it does or does not. */
import { create } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { expect, test } from "vitest";
import { NamespaceStatusRequestSchema } from "../../../gen/waymark/discovery/v1/discovery_pb.js";
import { SCOPE, type Scope } from "../../../src/catalog/entry/scope.ts";
import { NO_POLICY, Policy } from "../../../src/policy/set/verdict.ts";
import { namespaceStatus, type StatusParts } from "../../../src/services/discovery/namespace-status.ts";
import { exportVerdict } from "../../../src/summary/building/outlets.ts";
import { facts, HeldWorld, MEMORY, START_MS } from "../../fakes/held-world.ts";
import { rule, set, span } from "../../fakes/policies.ts";
import { ANYONE, SummaryWorld } from "../../fakes/summary-readers.ts";

const BLUE = { ...ANYONE, tenant: "blue" };

test("the exports of a namespace are told to who may see it, with the rule and the number of the policy", () => {
  const world = new SummaryWorld();
  world.change(new Policy(set([rule("svc.b", { visibilityTenants: ["blue"], allowSummaries: true })]), 7));
  const exportsOf = (namespace: string) => ({ count: namespace.length, lastWallMs: 5000, allowed: true, reason: "summary_allowed" });
  const parts: StatusParts = {
    reads: world.summaries.reads,
    identity: { nodeId: "a" },
    mesh: { ageMs: () => 0, unreachable: () => undefined },
    exportsOf,
  };
  const ask = (caller: typeof ANYONE, with_: Partial<StatusParts> = {}) =>
    namespaceStatus({ ...parts, ...with_ }, create(NamespaceStatusRequestSchema, { namespace: "svc.b" }), {
      caller,
      time: world.now(),
      requestId: "r",
    });
  const told = { summariesExported: 5n, lastExportAt: timestampFromMs(5000), exportAllowed: true, exportReason: "summary_allowed" };
  const none = { summariesExported: 0n, exportAllowed: false, exportReason: "" };
  expect(ask(BLUE)).toMatchObject({ ...told, allowed: true, policyNumber: 7n, policyRule: "svc.b" });
  expect(ask(ANYONE)).toMatchObject({ ...none, allowed: false, policyNumber: 7n, policyRule: "" });
  expect(ask(ANYONE).lastExportAt).toBeUndefined();
  expect(ask(BLUE, { exportsOf: undefined })).toMatchObject({ ...none, allowed: true });
});

test("what the cluster exports of a namespace is counted as it comes and goes, and forgotten with its last withdrawal", () => {
  const world = new HeldWorld();
  const [a1, a2] = [world.node({ nodeId: "a1", clusterId: "A" }), world.node({ nodeId: "a2", clusterId: "A" })];
  const b1 = world.node({ nodeId: "b1", clusterId: "B" });
  const told = () => {
    a2.hear(a1);
    const [one, other] = [a1, a2].map(({ held }) => held.toldOf("svc.shop"));
    expect(other).toEqual(one);
    return one && [one.count, one.lastWallMs - START_MS];
  };
  expect(told()).toBeUndefined();
  a1.say("cart");
  a1.say("cart", { channel: SCOPE.REGION });
  a1.say("pay", { namespace: "svc.x" });
  expect(told()).toEqual([2, 0]);
  world.nowMs = 1000;
  a1.say("cart", { endpointCount: 9 });
  expect(told()).toEqual([2, 1000]);
  b1.takeFrom(a1, "cart");
  expect(b1.held.toldOf("svc.shop")).toBeUndefined();
  world.nowMs = 2000;
  a1.say("cart", { withdrawn: true });
  a1.held.export(facts("cart", { source: "A", channel: SCOPE.REGION, withdrawn: true }), a1.time);
  expect(told()).toEqual([0, 2000]);
  world.nowMs = 3000;
  a1.say("late");
  world.nowMs += MEMORY - 500;
  a1.beacon();
  // The first two withdrawals are forgotten, which nobody said.
  for (const node of [a1, a2]) node.settle();
  expect(told()).toEqual([1, 3000]);
  a1.say("late", { withdrawn: true });
  world.nowMs += MEMORY + 1000;
  for (const node of [a1, a2]) node.settle();
  expect(told()).toBeUndefined();
});

const { ZONE, REGION, GLOBAL } = SCOPE;
const HERE = { clusterId: "c1", region: "r1" };
const listed = (...exportScopes: readonly Scope[]) => new Policy(set([rule("svc", { allowSummaries: true, exportScopes })]), 1);

test.each<{ readonly namespace?: string; readonly policy: Policy; readonly options: object; readonly want: string }>([
  { policy: NO_POLICY, options: {}, want: "policy_disabled" },
  { policy: NO_POLICY, options: { exportNamespaces: ["app", "svc.x"] }, want: "not namespace_not_exported" },
  { policy: NO_POLICY, options: { exportNamespaces: ["svc"] }, want: "policy_disabled" },
  { policy: NO_POLICY, options: { includeUnscoped: false }, want: "not unscoped_not_exported" },
  { policy: listed(), options: { includeUnscoped: false }, want: "not unscoped_not_exported" },
  { policy: listed(ZONE), options: {}, want: "summary_allowed" },
  { policy: listed(REGION, GLOBAL), options: { exportScope: ZONE }, want: "not scope_denied" },
  { policy: new Policy(set([rule("svc")]), 1), options: {}, want: "not summaries_disabled" },
  { policy: new Policy(set([rule("svc", { owners: ["other"] })]), 1), options: {}, want: "not owner_denied" },
  {
    policy: new Policy(set([rule("svc", { allowSummaries: true, cutoverWindows: [span(5)] })]), 1),
    options: {},
    want: "not cutover_closed",
  },
  { policy: new Policy(set([]), 1), options: {}, want: "not no_policy" },
  { namespace: "discovery.resolvers", policy: NO_POLICY, options: {}, want: "not control_plane" },
  { namespace: "discovery.resolvers", policy: listed(), options: { includeUnscoped: false }, want: "not control_plane" },
  { namespace: "discovery", policy: NO_POLICY, options: { exportNamespaces: ["svc"] }, want: "not control_plane" },
])("$namespace is exported, or not: $want", ({ namespace = "svc.a", policy, options, want }) => {
  const all = { source: HERE, exportScope: GLOBAL, includeUnscoped: true, exportNamespaces: [], ...options };
  const { allowed, reason } = exportVerdict(policy, namespace, all, 0);
  expect(`${allowed ? "" : "not "}${reason}`).toBe(want);
});
