/** Who asked for what: denials are counted and recorded, writes recorded by namespace, of reads a sample. */
import { expect, test } from "vitest";
import { Metrics } from "../../src/lib/metrics/metrics.ts";
import { AccessLog } from "../../src/node/access-log.ts";
import type { AuditEvent } from "../../src/policy/audit/record.ts";
import { anonymousCaller } from "../../src/policy/identity/caller.ts";

const ANN = anonymousCaller("c1", "192.0.2.1:5");
const DENIED = { allowed: false, reason: "no_policy", rule: "", untilWallMs: Number.POSITIVE_INFINITY } as const;

function open(sampleReads: number, isAudited = true) {
  const events: AuditEvent[] = [];
  const metrics = new Metrics();
  const audit = isAudited ? { record: (event: AuditEvent) => void events.push(event) } : undefined;
  const accessLog = new AccessLog(metrics, { sampleReads, wallMs: () => 7, audit });
  return { accessLog, events, metrics };
}

test("a denial is counted by its reason, and recorded with the caller", () => {
  const { accessLog, events, metrics } = open(0);
  accessLog.onDenied(ANN, { action: "query", namespace: "svc", verdict: DENIED });
  expect(metrics.counter("discovery_policy_denials_total", { action: "query", reason: "no_policy" }).value).toBe(1);
  expect(events).toMatchObject([{ outcome: "denied", reason: "no_policy", namespace: "svc", source: "192.0.2.1:5", atWallMs: 7 }]);
});

test.each([
  {
    action: "register",
    namespaces: ["a", "b", "a"],
    count: 3,
    records: ["a: 3 entries; the call named 2 namespaces", "b: 3 entries; the call named 2 namespaces"],
  },
  { action: "register", namespaces: ["a", "a"], count: 2, records: ["a: 2 entries; the call named 1 namespace"] },
  { action: "unregister", namespaces: ["a"], count: 1, records: ["a: 1 entry; the call named 1 namespace"] },
  { action: "unregister", namespaces: ["a"], count: 0, records: ["a: 0 entries; the call named 1 namespace"] },
  { action: "unregister", namespaces: [""], count: 3, records: [": 3 entries; the call named a lease"] },
] as const)("$action of $count in $namespaces is recorded as $records", ({ action, namespaces, count, records }) => {
  const { accessLog, events } = open(0);
  accessLog.onWrite(ANN, action, namespaces, count);
  expect(events.map(({ namespace, detail }) => `${namespace}: ${detail}`)).toEqual(records);
});

test("a write is recorded for sixteen namespaces at most", () => {
  const { accessLog, events } = open(0);
  accessLog.onWrite(
    ANN,
    "unregister",
    Array.from({ length: 40 }, (_, i) => `n${i}`),
    40,
  );
  expect(events).toHaveLength(16);
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
  none.accessLog.onWrite(ANN, "register", ["a"], 1);
  none.accessLog.onDenied(ANN, { action: "query", namespace: "svc", verdict: DENIED });
  expect(none.events).toEqual([]);
});
