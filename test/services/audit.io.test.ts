import { create, fromBinary, type JsonObject, type Message, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { expect, test } from "vitest";
import {
  AuditServiceListRequestSchema,
  type AuditServiceListResponse,
  AuditServiceWatchRequestSchema,
  type AuditServiceWatchResponse,
  AuditServiceWatchResponseSchema,
} from "../../gen/waymark/control/v1/audit_pb.js";
import {
  AccessAuditRequestSchema,
  AccessAuditResponseSchema,
  AuditFault,
  AuditKind,
  AuditOutcome,
  PolicyAuditRequestSchema,
  VerifyAuditRequestSchema,
} from "../../gen/waymark/policy/v1/policy_pb.js";
import type { WaymarkError } from "../../src/lib/errors.ts";
import { Metrics } from "../../src/lib/metrics/metrics.ts";
import type { AuditEvent } from "../../src/policy/audit/record.ts";
import { anonymousCaller } from "../../src/policy/identity/caller.ts";
import { type AuditHandlers, auditHandlers, auditService } from "../../src/services/audit.ts";
import { requestCheckOf } from "../../src/services/contract.ts";
import type { StreamSource } from "../../src/services/service.ts";
import { type AuditLog, openAuditLog } from "../../src/store/audit/log.io.ts";
import { holdThreads } from "../store/held-threads.ts";

holdThreads("audit");

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

const PARTS = { servedBy: "n1" };

/** The numbers of the records of a page, and the token of the next one. */
async function list(log: AuditLog, request: MessageInitShape<typeof AuditServiceListRequestSchema>) {
  const handler = auditService({ ...PARTS, log }).handlers["list"];
  if (handler?.kind !== "unary") throw new Error("no list");
  const message = create(AuditServiceListRequestSchema, request);
  requestCheckOf(AuditServiceListRequestSchema)(message);
  const answer = (await handler.handle(message as never, CONTEXT)) as AuditServiceListResponse;
  return { numbers: answer.records.map(({ number }) => Number(number)), token: answer.nextPageToken };
}

test.each<[MessageInitShape<typeof AuditServiceListRequestSchema>, readonly number[]]>([
  [{}, [4, 3, 2, 1]],
  [{ entry: "svc.a/web/1" }, [4, 3, 2, 1]],
  [{ entry: "svc.a/web" }, []],
  [{ lease: "a/1", principal: "bob" }, [4]],
  [{ lease: "lease:a/1" }, []],
  [{ node: "n7" }, []],
  [{ kinds: [AuditKind.ADMIN, AuditKind.POLICY] }, [3, 2]],
  [{ action: "policy.apply", outcomes: [AuditOutcome.DENIED] }, [2]],
  [{ outcomes: [AuditOutcome.ALLOWED] }, []],
  [{ tenant: "blue", namespace: "svc.a", reason: "viewer_denied", ticket: "OPS-7", text: "0123456789AB" }, [4, 3, 2, 1]],
  [{ ticket: "OPS-8" }, []],
  [{ since: timestampFromMs(NOW + 1) }, [4]],
  [{ until: timestampFromMs(NOW + 1) }, [3, 2, 1]],
])("the list of all kinds by %o has the records %j", async (request, numbers) => {
  await using log = await logOf(MIXED);
  expect(await list(log, request)).toEqual({ numbers, token: "" });
});

test("pages of a list continue before the last record, although records were added", async () => {
  await using log = await logOf(MIXED);
  const first = await list(log, { limit: 3 });
  expect(first.numbers).toEqual([4, 3, 2]);
  log.record(EVENT);
  expect(await list(log, { limit: 3, pageToken: first.token })).toEqual({ numbers: [1], token: "" });
  await expect(list(log, { ticket: "OPS-7", pageToken: first.token })).rejects.toThrow("a different filter");
  await expect(list(log, { entry: "web-1" })).rejects.toThrow("namespace/name/instance");
});

test("the route has the filters of the list as its parameters", async () => {
  await using log = await logOf(MIXED);
  const [route] = auditService({ ...PARTS, log }).routes ?? [];
  const found = async (parameters: Record<string, string>) => {
    const answer = await route?.answer?.(parameters, CONTEXT);
    if (answer?.kind !== "page") throw new Error("no page");
    expect(answer.steady).toEqual(answer.page);
    return ((answer.page as JsonObject)["records"] as JsonObject[]).map(({ number }) => number);
  };
  expect(await found({ since: new Date(NOW + 1).toISOString(), outcomes: "denied,noted", entry: "svc.a/web/1" })).toEqual(["4"]);
  await expect(found({ since: "yesterday" })).rejects.toThrow('since: must be a time such as 2026-01-31T12:00:00Z, got "yesterday"');
  await expect(found({ outcomes: "refused" })).rejects.toThrow("outcomes: must be one of allowed, denied, noted");
});

/** One stream, read as a listener reads it. */
class Stream {
  readonly #source: StreamSource;
  #wake = () => {};
  #ended: WaymarkError | undefined;

  constructor(log: AuditLog, request: MessageInitShape<typeof AuditServiceWatchRequestSchema>, service = auditService({ ...PARTS, log })) {
    const handler = service.handlers["watch"];
    if (handler?.kind !== "server_streaming") throw new Error("no watch");
    this.#source = handler.open(create(AuditServiceWatchRequestSchema, request) as never, CONTEXT);
    this.#source.attach(
      () => this.#wake(),
      (error) => {
        this.#ended = error;
        this.#wake();
      },
    );
  }

  /** The next message that has not been pulled. */
  async next(): Promise<AuditServiceWatchResponse> {
    for (;;) {
      const woken = new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
      const bytes = this.#source.pull(CONTEXT.time);
      if (bytes !== undefined) return fromBinary(AuditServiceWatchResponseSchema, bytes);
      if (this.#ended !== undefined) throw this.#ended;
      await woken;
    }
  }

  /** The numbers of the records in the next message. */
  async numbers(): Promise<readonly number[]> {
    return (await this.next()).records.map(({ number }) => Number(number));
  }

  [Symbol.dispose](): void {
    this.#source.close();
  }
}

test("a watch begins with its position, and then has the records that match, oldest first", async () => {
  await using log = await logOf(MIXED);
  using stream = new Stream(log, { principal: "bob" });
  expect(await stream.next()).toMatchObject({ records: [], number: 4n, servedBy: "n1" });
  for (const principal of ["ann", "bob", "ann", "bob"]) log.record({ ...EVENT, principal });
  await log.durable();
  expect(await stream.numbers()).toEqual([6, 8]);
});

test("a watch since a time begins with the records since then, in messages that do not exceed a page", async () => {
  await using log = await logOf([{ atWallMs: NOW - 5000 }, ...Array.from({ length: 1500 }, () => ({}))]);
  using stream = new Stream(log, { since: timestampFromMs(NOW) });
  expect(await stream.numbers()).toEqual([]);
  const [one, two] = [await stream.numbers(), await stream.numbers()];
  expect([one.length, two.length, two.at(-1)]).toEqual([1000, 500, 1501]);
});

test("a stream that resumes after the last message loses nothing and repeats nothing", async () => {
  await using log = await logOf([]);
  let last: AuditServiceWatchResponse;
  {
    using stream = new Stream(log, {});
    last = await stream.next();
  }
  expect(last.number).toBe(0n);
  for (const principal of ["one", "two", "three"]) {
    log.record({ ...EVENT, principal });
    await log.durable();
    using stream = new Stream(log, { afterNumber: last.number, afterHash: last.hash });
    expect(await stream.numbers()).toEqual([]);
    last = await stream.next();
    expect(last.records.map((record) => record.principal)).toEqual([principal]);
  }
});

test("a stream does not resume in another log, which has other hashes", async () => {
  await using log = await logOf(MIXED);
  await using other = await logOf([{ principal: "eve" }, ...MIXED]);
  using stream = new Stream(other, {});
  const { number, hash } = await stream.next();
  using sameNumber = new Stream(log, { afterNumber: number - 1n, afterHash: hash });
  await expect(sameNumber.next()).rejects.toMatchObject({ reason: "not_found" });
  using tooHigh = new Stream(log, { afterNumber: number, afterHash: hash });
  await expect(tooHigh.next()).rejects.toThrow("the audit log of n1 has no record 5 with this hash");
});

test("one caller has at most half of the streams, and a closed stream is free again", async () => {
  await using log = await logOf([]);
  const service = auditService({ ...PARTS, log });
  const streams = Array.from({ length: 50 }, () => new Stream(log, {}, service));
  expect(() => new Stream(log, {}, service)).toThrow("too many streams of audit records");
  for (const stream of streams) await stream.next();
  streams[0]?.[Symbol.dispose]();
  streams[0] = new Stream(log, {}, service);
  for (const stream of streams) stream[Symbol.dispose]();
});
