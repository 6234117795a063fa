import { create, type Message, toBinary } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { expect, test } from "vitest";
import {
  AccessAuditRequestSchema,
  AccessAuditResponseSchema,
  AuditFault,
  AuditKind,
  AuditOutcome,
  PolicyAuditRequestSchema,
  VerifyAuditRequestSchema,
} from "../../gen/waymark/policy/v1/policy_pb.js";
import { Metrics } from "../../src/lib/metrics/metrics.ts";
import type { AuditEvent } from "../../src/policy/audit/record.ts";
import { anonymousCaller } from "../../src/policy/identity/caller.ts";
import { type AuditHandlers, auditHandlers } from "../../src/services/audit.ts";
import { requestCheckOf } from "../../src/services/contract.ts";
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
  tokenId: "sha256:0123456789ab",
  ticket: "OPS-7",
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

async function ask(log: AuditLog, method: keyof AuditHandlers, request: Message): Promise<Record<string, unknown>> {
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
  await expect(ask(log, "accessAudit", create(AccessAuditRequestSchema, { pageToken: token }))).rejects.toThrow("a different filter");
  await expect(ask(log, "policyAudit", create(PolicyAuditRequestSchema, { limit: -1 }))).rejects.toThrow("limit");
});

test("a page of large records ends at 1 MiB, and all pages together have every record once", async () => {
  const subjects = Array.from({ length: 100 }, (_, i) => `svc.a/${"m".repeat(430)}/${i}`).join("\n");
  const huge = Array.from({ length: 100 }, () => `svc.a/${"m".repeat(1490)}`).join("\n");
  // The filter drops every fourth record. One of the others takes a seventh of a page.
  const large = Array.from({ length: 200 }, (_, i) => ({
    namespace: i % 4 === 0 ? "svc.b" : "svc.a",
    subjects: i === 117 ? huge : subjects,
  }));
  await using log = await logOf(large);
  const numbers: number[] = [];
  const sizes: number[] = [];
  for (let pageToken = ""; sizes.length === 0 || pageToken !== ""; ) {
    const page = await ask(log, "accessAudit", create(AccessAuditRequestSchema, { namespace: "svc.a", limit: 1000, pageToken }));
    const answer = create(AccessAuditResponseSchema, page);
    sizes.push(toBinary(AccessAuditResponseSchema, answer).length);
    numbers.push(...answer.records.map(({ number }) => Number(number)));
    pageToken = answer.nextPageToken;
  }
  const wanted = large.flatMap(({ namespace }, i) => (namespace === "svc.a" ? [i + 1] : [])).toReversed();
  expect(numbers).toEqual(wanted);
  expect(Math.max(...sizes)).toBeLessThan(1.25 * 1024 * 1024);
  // Each page is full except the last one.
  expect(Math.min(...sizes.slice(0, -1))).toBeGreaterThan(1024 * 1024);
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
