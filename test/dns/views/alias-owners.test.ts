/** What is kept of what the upstream told of who carries a name. */
import { expect, test } from "vitest";
import { AliasOwnerCache, aliasOwnersAt, aliasOwnersFrom, isAbove } from "../../../src/dns/views/alias-owners.ts";
import { entryView } from "../../fakes/dns-catalog.ts";

test("the answers of the upstream are kept within their bytes, the newest of them", () => {
  const kept = new AliasOwnerCache({ ttlMs: 1000, negativeMs: 1000, maxStaleMs: 2000, maxBytes: 10_000 });
  const told = { ...aliasOwnersFrom("a", "waymark", [], { isMore: false, maxBytes: 0 }), sizeBytes: 1000 };
  for (let n = 0; n < 100; n++) kept.put(`name-${n}`, told, 1, 0);
  expect(kept.sizeBytes).toBeLessThanOrEqual(10_000);
  expect([kept.find("name-99", 1, 0, undefined)?.state, kept.find("name-0", 1, 0, undefined)]).toEqual(["fresh", undefined]);
  expect([kept.find("name-99", 1, 1500, undefined)?.state, kept.find("name-99", 2, 0, undefined)?.state]).toEqual(["stale", "narrow"]);
  // With nobody to ask it stays for as long since then.
  expect(kept.find("name-99", 1, 2500, 1000)?.state).toBe("stale");
  // What is told again takes the place of what was.
  for (let n = 0; n < 100; n++) kept.put("name-99", told, 1, 0);
  expect(kept.find("name-98", 1, 0, undefined)?.state).toBe("fresh");
  kept.find("name-99", 1, 2000, undefined);
  expect(kept.find("name-99", 1, 0, undefined)).toBeUndefined();
});

test("more than was told counts as something below, and a claim that does not count as nothing", () => {
  const view = { sees: () => true, counts: () => false };
  const entry = entryView({ name: "far", namespace: "x", aliases: ["A.b.waymark.", "deep.a.b"] });
  const claim = { namespace: "x", scope: entry.scope, clusterId: "c1", region: "r1", tenant: "", isAdmins: false };
  const told = aliasOwnersFrom("a.b", "waymark", [{ aliasOwner: { entry, claim }, sizeBytes: 100 }], { isMore: false, maxBytes: 1000 });
  expect(told.claims.map(({ name }) => name)).toEqual(["a.b", "deep.a.b"]);
  expect([isAbove(told, "a.b", view), isAbove({ ...told, isMore: true }, "a.b", view)]).toEqual([false, true]);
  expect([isAbove(told, "a.b", { ...view, counts: () => true }), aliasOwnersAt(told, "a.b", view).length]).toEqual([true, 0]);
  expect(isAbove(told, "a.b", { sees: () => false, counts: () => true })).toBe(false);
});
