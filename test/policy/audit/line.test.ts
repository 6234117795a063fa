import fc from "fast-check";
import { expect, test } from "vitest";
import { auditLine, verifyLines } from "../../../src/policy/audit/line.ts";
import {
  type AuditEvent,
  type AuditRecord,
  boundEvent,
  CHAIN_START,
  type ChainPoint,
  chainEvent,
  joinSubjects,
} from "../../../src/policy/audit/record.ts";
import { chain as chainOf } from "../audit-fixture.ts";

const NO_SUBJECTS = { requestId: "", subjects: "", tokenId: "", ticket: "" };
const ABOUT = { tokenId: "cert:01", ticket: "OPS-7", requestId: "r-1", subjects: joinSubjects(["svc.market/web/1", "lease:a/1"]) };

function event(over: Partial<AuditEvent> = {}): AuditEvent {
  const who = { principal: "team-a", tenant: "team-a", source: "10.0.0.1" };
  const what = { action: "query", namespace: "svc.market", outcome: "denied", reason: "viewer_denied", rule: "svc.market" } as const;
  return boundEvent({
    atWallMs: 1_700_000_000_123,
    kind: "access",
    ...who,
    ...what,
    before: "",
    after: "",
    detail: "",
    ...NO_SUBJECTS,
    ...over,
  });
}

function chain(events: readonly AuditEvent[]): readonly AuditRecord[] {
  const records: AuditRecord[] = [];
  let last: ChainPoint = CHAIN_START;
  for (const each of events) {
    const { record } = chainEvent(each, last);
    records.push(record);
    last = record;
  }
  return records;
}

const FIVE = chain([
  event(),
  event({ reason: "rate_limited" }),
  event({ detail: 'a "b"\u0001 ü' }),
  event({ namespace: "" }),
  event(ABOUT),
]).map(auditLine);

test("a whole copy is intact, and so is one that begins later: the first line names the hash before it", () => {
  expect(verifyLines(FIVE.join(""))).toMatchObject({ isIntact: true, checked: 5, firstNumber: 1, lastNumber: 5 });
  expect(verifyLines(FIVE.slice(2).join(""))).toMatchObject({ isIntact: true, checked: 3, firstNumber: 3, lastNumber: 5 });
  expect(verifyLines("")).toMatchObject({ isIntact: true, checked: 0, firstNumber: 0, lastHash: "" });
});

test.each([
  { name: "a word changed", lines: FIVE.with(2, (FIVE[2] ?? "").replace("denied", "allowed")), fault: "altered", faultNumber: 3 },
  { name: "a record taken out", lines: FIVE.toSpliced(2, 1), fault: "missing", faultNumber: 3 },
  { name: "two records swapped", lines: [FIVE[0], FIVE[2], FIVE[1], FIVE[3]], fault: "missing", faultNumber: 2 },
  { name: "a record twice", lines: [FIVE[0], FIVE[1], FIVE[1]], fault: "reordered", faultNumber: 2 },
  { name: "a time without its zone", lines: FIVE.with(3, (FIVE[3] ?? "").replace('.123Z"', '.1230"')), fault: "altered", faultNumber: 4 },
  { name: "a line cut off", lines: FIVE.with(4, "{"), fault: "altered", faultNumber: 5 },
  {
    name: "a text that is a number",
    lines: FIVE.with(1, (FIVE[1] ?? "").replace('"principal":"team-a"', '"principal":7')),
    fault: "altered",
    faultNumber: 2,
  },
  {
    name: "a subject that is a number",
    lines: FIVE.with(4, (FIVE[4] ?? "").replace('"lease:a/1"', "7")),
    fault: "altered",
    faultNumber: 5,
  },
  {
    name: "two subjects joined",
    lines: FIVE.with(4, (FIVE[4] ?? "").replace('web/1","lease', "web/1\\nlease")),
    fault: "altered",
    faultNumber: 5,
  },
  { name: "subjects taken out", lines: FIVE.with(4, (FIVE[4] ?? "").replace(/"subjects":\[.*?\],/, "")), fault: "altered", faultNumber: 5 },
  { name: "something else", lines: ["hello\n"], fault: "altered", faultNumber: 1 },
  {
    name: "the wrong hash named",
    lines: FIVE.with(1, (FIVE[1] ?? "").replace(/"previous_hash":"../, '"previous_hash":"zz')),
    fault: "altered",
    faultNumber: 2,
  },
])("$name is found: $fault at $faultNumber", ({ lines, fault, faultNumber }) => {
  expect(verifyLines(lines.join(""))).toMatchObject({ isIntact: false, fault, faultNumber });
});

test("no single character of a copy can be changed unseen, but for those that mean nothing in JSON", () => {
  const text = FIVE.join("");
  fc.assert(
    fc.property(fc.nat(text.length - 1), fc.constantFrom("x", "0", '"', "}"), (at, char) => {
      const changed = text.slice(0, at) + char + text.slice(at + 1);
      expect(changed === text || !verifyLines(changed).isIntact).toBe(true);
    }),
  );
});

test("a record is one line of JSON with its time in RFC 3339 and its hashes in hex", () => {
  const [first, second] = chainOf(2);
  if (first === undefined || second === undefined) throw new Error("no chain");
  expect(auditLine(second).split("\n")).toHaveLength(2);
  expect(JSON.parse(auditLine(second))).toEqual({
    number: 2,
    at: "2023-11-14T22:13:20.000Z",
    kind: "access",
    principal: "team-a",
    tenant: "a",
    source: "10.0.0.1",
    action: "query",
    namespace: "svc.market",
    outcome: "denied",
    reason: "viewer_denied",
    rule: "svc",
    before: "",
    after: "",
    detail: "1",
    request_id: "",
    subjects: [],
    token_id: "",
    ticket: "",
    hash: Buffer.from(second.hash).toString("hex"),
    previous_hash: Buffer.from(first.hash).toString("hex"),
  });
});
