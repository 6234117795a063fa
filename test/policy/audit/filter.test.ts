import { expect, test } from "vitest";
import { type AuditFilter, decodeAuditToken, EVERY_AUDIT, encodeAuditToken, matchesAudit } from "../../../src/policy/audit/filter.ts";
import { EVENT } from "../audit-fixture.ts";

const filter = (over: Partial<AuditFilter>): AuditFilter => ({ ...EVERY_AUDIT, ...over });

test.each([
  { over: {}, isMatch: true },
  { over: { kinds: ["access", "admin"] as const }, isMatch: true },
  { over: { kinds: ["policy"] as const }, isMatch: false },
  { over: { principal: "team-a", namespace: "svc.market", reason: "viewer_denied" }, isMatch: true },
  { over: { principal: "team" }, isMatch: false },
  { over: { namespace: "svc" }, isMatch: false },
  { over: { reason: "owner_denied" }, isMatch: false },
  { over: { fromWallMs: EVENT.atWallMs, toWallMs: EVENT.atWallMs + 1 }, isMatch: true },
  { over: { fromWallMs: EVENT.atWallMs + 1 }, isMatch: false },
  { over: { toWallMs: EVENT.atWallMs }, isMatch: false },
])("the filter $over matches: $isMatch", ({ over, isMatch }) => {
  expect(matchesAudit(EVENT, filter(over))).toBe(isMatch);
});

test("a token names where to go on, for its own filter only", () => {
  const market = filter({ namespace: "svc.market", kinds: ["access", "admin"] });
  const token = encodeAuditToken(42, market);
  expect(decodeAuditToken(token, market)).toBe(42);
  expect(decodeAuditToken("", market)).toBeUndefined();
  expect(() => decodeAuditToken(token, EVERY_AUDIT)).toThrow("was issued for a different filter");
});

test.each(["x", "AAAA", "ä", "=", "a".repeat(1000), encodeAuditToken(1, EVERY_AUDIT).slice(0, -2)])("%j is no token", (token) => {
  expect(() => decodeAuditToken(token, EVERY_AUDIT)).toThrow("not a valid page token");
});
