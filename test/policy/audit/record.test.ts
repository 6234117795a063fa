import fc from "fast-check";
import { expect, test } from "vitest";
import { sha256 } from "../../../src/lib/crypto.ts";
import {
  AUDIT_KINDS,
  AUDIT_OUTCOMES,
  type AuditEvent,
  boundEvent,
  CHAIN_START,
  canonicalBytes,
  chainEvent,
  joinSubjects,
  MAX_SUBJECTS,
  NO_HASH,
  parseCanonical,
  splitSubjects,
} from "../../../src/policy/audit/record.ts";
import { anyChar } from "../../fakes/any-char.ts";
import { EVENT } from "../audit-fixture.ts";

const anyText = fc.oneof(
  fc.string({ unit: "grapheme" }),
  fc.string({ unit: anyChar, maxLength: 3000 }),
  fc.constantFrom("\u001b[31m", "\ud800", ""),
);
const anyEvent: fc.Arbitrary<AuditEvent> = fc.record({
  atWallMs: fc.oneof(fc.integer(), fc.double()),
  kind: fc.constantFrom(...AUDIT_KINDS),
  principal: anyText,
  tenant: anyText,
  source: anyText,
  action: anyText,
  namespace: anyText,
  outcome: fc.constantFrom(...AUDIT_OUTCOMES),
  reason: anyText,
  rule: anyText,
  before: anyText,
  after: anyText,
  detail: anyText,
  requestId: anyText,
  subjects: fc.array(anyText, { maxLength: 3 }).map(joinSubjects),
  tokenId: anyText,
  ticket: anyText,
});

test("a kept event is bounded, printable, and the same when it is read back", () => {
  fc.assert(
    fc.property(anyEvent, fc.nat(), (event, number) => {
      const kept = boundEvent(event);
      expect(parseCanonical(canonicalBytes(number, kept))).toEqual({ number, event: kept });
      const { subjects, ...fields } = kept;
      const texts = [...Object.values(fields).filter((value) => typeof value === "string"), ...splitSubjects(subjects)];
      for (const text of texts) {
        expect(text.length).toBeLessThanOrEqual(2048);
        expect(text.isWellFormed()).toBe(true);
        expect(text).not.toMatch(/\p{Cc}|\p{Zl}|\p{Zp}|[\u202a-\u202e]/u);
      }
      expect(() => new Date(kept.atWallMs).toISOString()).not.toThrow();
      expect(boundEvent(kept)).toEqual(kept);
    }),
  );
});

test("control characters are shown as what they are, and a cut text ends in an ellipsis", () => {
  const kept = boundEvent({ ...EVENT, principal: "a\u001b[31mb\n\u202ec", reason: "x".repeat(65), detail: "y".repeat(2048) });
  expect(kept.principal).toBe("a\\u001b[31mb\\u000a\\u202ec");
  expect(kept.reason).toBe(`${"x".repeat(63)}…`);
  expect(kept.detail).toBe("y".repeat(2048));
});

test("a record has at most 100 subjects, and each is truncated and escaped separately", () => {
  const subjects = joinSubjects(["a\u001b", "x".repeat(2000), ...Array.from({ length: 200 }, (_, i) => `svc/web/${i}`)]);
  const kept = splitSubjects(boundEvent({ ...EVENT, subjects }).subjects);
  expect(kept).toHaveLength(MAX_SUBJECTS);
  expect(kept.slice(0, 3)).toEqual(["a\\u001b", `${"x".repeat(1499)}…`, "svc/web/0"]);
});

test("different events, and the same at different places, have different bytes", () => {
  fc.assert(
    fc.property(anyEvent, anyEvent, fc.nat(), fc.nat(), (a, b, i, j) => {
      const [first, second] = [boundEvent(a), boundEvent(b)];
      const isSame = i === j && JSON.stringify(first) === JSON.stringify(second);
      expect(Buffer.compare(canonicalBytes(i, first), canonicalBytes(j, second)) === 0).toBe(isSame);
    }),
  );
  // A text that moves from one field to the next is another event.
  const [left, right] = [
    canonicalBytes(1, { ...EVENT, before: "ab", after: "" }),
    canonicalBytes(1, { ...EVENT, before: "a", after: "b" }),
  ];
  expect(Buffer.compare(left, right)).not.toBe(0);
});

test("canonical bytes never change: a log written long ago must still verify", () => {
  const event: AuditEvent = {
    ...EVENT,
    principal: "söhne",
    requestId: "r1",
    subjects: joinSubjects(["a/b/c", "node:n"]),
    tokenId: "cert:01",
    ticket: "OPS-7",
  };
  const text = Buffer.from(canonicalBytes(7, event)).toString("latin1");
  const field = (value: string): string => {
    const bytes = Buffer.from(value).toString("latin1");
    return `\0\0\0${String.fromCharCode(bytes.length)}${bytes}`;
  };
  const values = [
    "7",
    "1700000000000",
    "access",
    "söhne",
    "a",
    "10.0.0.1",
    "query",
    "svc.market",
    "denied",
    "viewer_denied",
    "svc",
    "",
    "",
    "",
    "r1",
    "a/b/c\nnode:n",
    "cert:01",
    "OPS-7",
  ];
  expect(text).toBe(`\u0003${values.map(field).join("")}`);
  expect(Buffer.from(sha256(canonicalBytes(7, event))).toString("hex")).toMatchInlineSnapshot(
    `"ce551ee951abafd170d86c9de666bb92d0e6738f595289733af97659eb133b84"`,
  );
});

test("bytes that were not made here are no event", () => {
  const good = canonicalBytes(1, EVENT);
  expect(parseCanonical(good.slice(0, -1))).toBeUndefined();
  expect(parseCanonical(new Uint8Array([...good, 0]))).toBeUndefined();
  expect(parseCanonical(new Uint8Array([...good, 0, 0, 0, 0]))).toBeUndefined();
  expect(parseCanonical(new Uint8Array())).toBeUndefined();
  expect(parseCanonical(good.with(0, 1))).toBeUndefined();
  expect(parseCanonical(good.with(5, 0xff))).toBeUndefined();
  expect(parseCanonical(canonicalBytes(0.5, EVENT))).toBeUndefined();
  expect(parseCanonical(canonicalBytes(1, { ...EVENT, atWallMs: Number.NaN }))).toBeUndefined();
  expect(
    parseCanonical(Uint8Array.from(Buffer.from(Buffer.from(good).toString("latin1").replace("access", "excess"), "latin1"))),
  ).toBeUndefined();
  fc.assert(fc.property(fc.uint8Array(), (bytes) => parseCanonical(bytes) === undefined));
});

test("a record's hash is SHA-256 of the hash before it and its bytes", () => {
  const first = chainEvent(EVENT, CHAIN_START);
  expect(first.record).toEqual({ ...EVENT, number: 1, previousHash: NO_HASH, hash: first.record.hash });
  expect(first.record.hash).toEqual(sha256(new Uint8Array([...NO_HASH, ...canonicalBytes(1, EVENT)])));
  const second = chainEvent(EVENT, first.record).record;
  expect(second).toMatchObject({ number: 2, previousHash: first.record.hash });
  expect(second.hash).not.toEqual(first.record.hash);
});
