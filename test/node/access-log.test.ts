/** Who asked for what: denials are counted and recorded, writes are recorded with their subjects, of reads a sample. */
import { expect, test } from "vitest";
import { KIND, keyLabel, keyText } from "../../src/catalog/record/record.ts";
import { Metrics } from "../../src/lib/metrics/metrics.ts";
import { AccessLog } from "../../src/node/access-log.ts";
import { type AuditEvent, splitSubjects } from "../../src/policy/audit/record.ts";
import { anonymousCaller } from "../../src/policy/identity/caller.ts";

const ANN = anonymousCaller("c1", "192.0.2.1:5");
const keyOf = (namespace: string, instance: number) =>
  keyText({ namespace, name: "web", kind: KIND.SERVICE, instanceId: `${instance}`, clusterId: "c1" });
const DENIED = { allowed: false, reason: "no_policy", rule: "", untilWallMs: Number.POSITIVE_INFINITY } as const;

function open(sampleReads: number, isAudited = true) {
  const events: AuditEvent[] = [];
  const metrics = new Metrics();
  const audit = isAudited ? { record: (event: AuditEvent) => void events.push(event) } : undefined;
  const accessLog = new AccessLog(metrics, { sampleReads, wallMs: () => 7, audit, ruleOf: (namespace) => `${namespace}.*` });
  return { accessLog, events, metrics };
}

test("a denial is counted by its reason, and recorded with the caller", () => {
  const { accessLog, events, metrics } = open(0);
  accessLog.onDenied(ANN, { action: "query", namespace: "svc", verdict: DENIED });
  expect(metrics.counter("discovery_policy_denials_total", { action: "query", reason: "no_policy" }).value).toBe(1);
  expect(events).toMatchObject([{ outcome: "denied", reason: "no_policy", namespace: "svc", source: "192.0.2.1:5", atWallMs: 7 }]);
});

test("an unregister that removed nothing is recorded in the requested namespaces, without entries", () => {
  const { accessLog, events } = open(0);
  accessLog.onWrite(ANN, { action: "unregister", requestId: "r", leaseId: "", keys: [keyOf("a", 1)], count: 0 });
  expect(events).toMatchObject([{ namespace: "a", rule: "a.*", detail: "unregistered 0 entries", subjects: "" }]);
});

test("with more than 100 subjects, further records with the same request id have the rest, and each lists the lease", () => {
  const { accessLog, events } = open(0);
  const keys = Array.from({ length: 250 }, (_, i) => keyOf("a", i));
  accessLog.onWrite(ANN, { action: "register", requestId: "r-1", leaseId: "n/7", keys, count: 250 });
  const subjects = events.map((event) => splitSubjects(event.subjects));
  expect(subjects.map(({ length }) => length)).toEqual([100, 100, 53]);
  expect(subjects.flatMap(([lease, ...entries]) => (lease === "lease:n/7" ? entries : []))).toEqual(keys.map(keyLabel));
  expect(new Set(events.map(({ requestId }) => requestId))).toEqual(new Set(["r-1"]));
  expect(events[1]?.detail).toBe("registered 250 entries under lease n/7; record 2 of 3");
});

test("entries of more than 16 namespaces are all listed, and a call leaves few records", () => {
  const { accessLog, events } = open(0);
  const keys = Array.from({ length: 40 }, (_, i) => keyOf(`n${i}`, 1));
  accessLog.onWrite(ANN, { action: "unregister", requestId: "r", leaseId: "", keys, count: 40 });
  expect(events.map(({ namespace }) => namespace)).toEqual([...keys.slice(0, 16).map((_, i) => `n${i}`), ""]);
  expect(events.flatMap((event) => splitSubjects(event.subjects))).toEqual(keys.map(keyLabel));
});

test.each([
  {
    what: "keys",
    accepted: { nodeId: "", keys: [keyOf("a", 1)], count: 1 },
    record: { namespace: "a", rule: "a.*", subjects: "a/web/1", detail: "maintenance on for a/web/1 without an end time; new disks" },
  },
  {
    what: "a node",
    accepted: { nodeId: "n1", keys: [], count: 12 },
    record: {
      namespace: "",
      rule: "",
      subjects: "node:n1",
      detail: "maintenance on for node n1, 12 entries without an end time; new disks",
    },
  },
])("an order for $what is recorded with its subject", ({ accepted, record }) => {
  const { accessLog, events } = open(0);
  accessLog.onMaintenance(ANN, { isOn: true, reason: "new disks", untilMs: 0 }, { requestId: "r", ...accepted });
  expect(events).toMatchObject([{ action: "maintenance", requestId: "r", ...record }]);
});

test.each([
  { action: "mesh.set_shard", scope: "shard/orders/7", subjects: "scope:shard/orders/7" },
  { action: "mesh.apply_shards", scope: "", subjects: "" },
] as const)("$action is recorded with the namespace", ({ action, scope, subjects }) => {
  const { accessLog, events } = open(0);
  accessLog.onShards(ANN, { action, requestId: "r", namespace: "orders", scope, rule: "orders", detail: "weight 2", ticket: "OPS-7" });
  const texts = { namespace: "orders", rule: "orders", detail: "weight 2", ticket: "OPS-7" };
  expect(events).toMatchObject([{ action, outcome: "allowed", requestId: "r", subjects, ...texts }]);
});

test.each([
  { scope: "custom/orders/a", record: { namespace: "orders", subjects: "scope:custom/orders/a" } },
  { scope: "", record: { namespace: "", subjects: "" } },
])("an operation on the leader of $scope is recorded with the scope and its namespace", ({ scope, record }) => {
  const { accessLog, events } = open(0);
  accessLog.onLeadership(ANN, { action: "mesh.resign_leader", requestId: "r", scope, detail: "new disks" });
  expect(events).toMatchObject([{ action: "mesh.resign_leader", outcome: "allowed", requestId: "r", detail: "new disks", ...record }]);
});

test.each([
  { oneInReads: 0, recorded: 0 },
  { oneInReads: 1, recorded: 100 },
  { oneInReads: 30, recorded: 3 },
])("of 100 reads, one in $oneInReads is $recorded records", ({ oneInReads, recorded }) => {
  const { accessLog, events } = open(oneInReads);
  for (let i = 0; i < 100; i++) accessLog.onRead(ANN, "svc");
  expect(events.map(({ detail }) => detail)).toEqual(Array.from({ length: recorded }, () => "sampled"));
});

test("without an audit log nothing is recorded", () => {
  const none = open(1, false);
  none.accessLog.onRead(ANN, "svc");
  none.accessLog.onWrite(ANN, { action: "register", requestId: "", leaseId: "n/1", keys: [keyOf("a", 1)], count: 1 });
  none.accessLog.onDenied(ANN, { action: "query", namespace: "svc", verdict: DENIED });
  expect(none.events).toEqual([]);
});

test.each([
  { refusal: "", nodeId: "eu-2", record: { outcome: "allowed", reason: "", subjects: "node:eu-2" } },
  { refusal: "token_spent", nodeId: "", record: { outcome: "denied", reason: "token_spent", subjects: "" } },
])("a request of a newcomer is recorded as $record.outcome", ({ refusal, nodeId, record }) => {
  const { accessLog, events } = open(0);
  accessLog.onIdentity(ANN, { action: "identity.join", requestId: "r", nodeId, refusal, detail: "name=eu-2" });
  expect(events).toMatchObject([{ ...record, action: "identity.join", requestId: "r", detail: "name=eu-2", source: "192.0.2.1:5" }]);
});
