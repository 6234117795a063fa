import { create, type Message } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { expect, test } from "vitest";
import {
  AccessAuditRequestSchema,
  AuditFault,
  AuditKind,
  AuditOutcome,
  PolicyAuditRequestSchema,
  VerifyAuditRequestSchema,
} from "../../gen/waymark/policy/v1/policy_pb.js";
import { Metrics } from "../../src/lib/metrics/metrics.ts";
import type { AuditEvent } from "../../src/policy/audit/record.ts";
import { anonymousCaller } from "../../src/policy/identity/caller.ts";
import { auditHandlers } from "../../src/services/audit.ts";
import { requestCheckOf } from "../../src/services/request-checks.ts";
import { type AuditLog, openAuditLog } from "../../src/store/audit/log.io.ts";

// The log forgets what is older than it keeps: these are of today.
const NOW = Date.now();
const EVENT: AuditEvent = {
  atWallMs: NOW,
  kind: "access",
  principal: "ann",
  tenant: "blue",
  source: "192.0.2.1",
  action: "query",
  namespace: "svc.a",
  outcome: "denied",
  reason: "viewer_denied",
  rule: "svc.*",
  before: "",
  after: "",
  detail: "",
  requestId: "r-1",
  subjects: "svc.a/web/1\nlease:a/1",
};

/** Of an event what a record says in the same words. */
const { atWallMs: _at, subjects: _subjects, ...KEPT } = EVENT;

/** A log in memory with these events as its records 1, 2, 3, … */
async function logOf(events: readonly Partial<AuditEvent>[]): Promise<AuditLog> {
  const log = { info: () => {}, error: () => {} };
  const bounds = { retentionMs: 1e12, maxBytes: 1e8 };
  const opened = await openAuditLog({ ...bounds, directory: undefined, file: undefined, metrics: new Metrics(), log });
  for (const event of events) opened.record({ ...EVENT, ...event });
  return opened;
}

const CONTEXT = { caller: anonymousCaller("eu-1", ""), time: { monoMs: 0, wallMs: 0 }, requestId: "" };

async function ask(log: AuditLog, method: string, request: Message): Promise<Record<string, unknown>> {
  requestCheckOf({ typeName: request.$typeName })(request);
  const handler = auditHandlers(log)[method];
  if (handler?.kind !== "unary") throw new Error(`no method ${method}`);
  return (await handler.handle(request as never, CONTEXT)) as never;
}

const MIXED: readonly Partial<AuditEvent>[] = [
  {},
  { kind: "policy", action: "policy.apply" },
  { kind: "admin" },
  { principal: "bob", atWallMs: NOW + 2000 },
];

test("the policy audit has acts on policy only, the access audit all others, newest first", async () => {
  await using log = await logOf(MIXED);
  expect(await ask(log, "policyAudit", create(PolicyAuditRequestSchema))).toMatchObject({
    records: [{ number: 2n, kind: AuditKind.POLICY }],
  });
  expect(await ask(log, "accessAudit", create(AccessAuditRequestSchema))).toMatchObject({
    records: [{ number: 4n }, { number: 3n }, { number: 1n }],
  });
});

test("a record says everything that was kept", async () => {
  await using log = await logOf(MIXED);
  const { records } = await ask(log, "accessAudit", create(AccessAuditRequestSchema, { principal: "ann", limit: 1 }));
  expect(records).toMatchObject([
    {
      ...KEPT,
      subjects: ["svc.a/web/1", "lease:a/1"],
      kind: AuditKind.ADMIN,
      outcome: AuditOutcome.DENIED,
      number: 3n,
      at: timestampFromMs(NOW),
    },
  ]);
});

test("pages go on where they stopped, and a token belongs to its filter", async () => {
  const filter = {
    principal: "ann",
    namespace: "svc.a",
    reason: "viewer_denied",
    since: timestampFromMs(NOW),
    until: timestampFromMs(NOW + 1),
  };
  await using log = await logOf(MIXED);
  const ofPage = (pageToken: string) => create(AccessAuditRequestSchema, { ...filter, limit: 1, pageToken });
  const first = await ask(log, "accessAudit", ofPage(""));
  expect(first).toMatchObject({ records: [{ number: 3n }] });
  const token = String(first["nextPageToken"]);
  expect(await ask(log, "accessAudit", ofPage(token))).toMatchObject({ records: [{ number: 1n }], nextPageToken: "" });
  await expect(ask(log, "accessAudit", create(AccessAuditRequestSchema, { pageToken: token }))).rejects.toThrow("another filter");
  await expect(ask(log, "policyAudit", create(PolicyAuditRequestSchema, { limit: -1 }))).rejects.toThrow("limit");
});

test("a check of the chain says how far it reaches", async () => {
  const request = create(VerifyAuditRequestSchema);
  await using empty = await logOf([]);
  expect(await ask(empty, "verifyAudit", request)).toMatchObject({ intact: true, firstNumber: 0n, lastNumber: 0n, fault: AuditFault.NONE });
  await using log = await logOf(MIXED);
  expect(await ask(log, "verifyAudit", request)).toMatchObject({ intact: true, checked: 4n, firstNumber: 1n, lastNumber: 4n });
});

test("a check finds that what the caller knew of is no longer so", async () => {
  await using log = await logOf(MIXED);
  const { head } = await log.verify();
  const hash = Buffer.from(head.hash).toString("hex");
  expect(await ask(log, "verifyAudit", create(VerifyAuditRequestSchema))).toMatchObject({ lastHash: hash });
  const known = (fields: object) => ask(log, "verifyAudit", create(VerifyAuditRequestSchema, fields));
  expect(await known({ knownNumber: 4n, knownHash: hash })).toMatchObject({ intact: true });
  expect(await known({ knownNumber: 3n, knownHash: hash })).toMatchObject({ intact: false, fault: AuditFault.ALTERED, faultNumber: 3n });
  expect(await known({ knownNumber: 9n, knownHash: hash })).toMatchObject({
    intact: false,
    fault: AuditFault.TRUNCATED_TAIL,
    faultNumber: 5n,
  });
  await expect(known({ knownNumber: 4n })).rejects.toThrow("known_hash");
  await expect(known({ knownNumber: 4n, knownHash: hash.toUpperCase() })).rejects.toThrow(/ must be 64 hexadecimal digits in lower case$/);
  await expect(known({ knownHash: hash })).rejects.toThrow("known_number");
});
