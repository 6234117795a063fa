import { expect, test } from "vitest";
import { auditLine } from "../../../src/policy/audit/line.ts";
import { chain } from "../audit-fixture.ts";

test("a record is one line of JSON with its time in RFC 3339 and its hashes in hex", () => {
  const [first, second] = chain(2);
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
    hash: Buffer.from(second.hash).toString("hex"),
    previous_hash: Buffer.from(first.hash).toString("hex"),
  });
});
