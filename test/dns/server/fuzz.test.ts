/** A hundred thousand queries that know what a query is made of: names, types, options and views, over UDP and TCP, whole and damaged. Ten million: `test/nightly/dns-fuzz.test.ts`. */
import { expect, test } from "vitest";
import { fuzzResponder } from "../../fakes/dns-fuzzed.ts";
import { runs } from "../../fakes/effort.ts";

test("queries of all types, options and views, whole and damaged: no throw, the right id and question, nothing over its limit, nothing hidden shown or told", () => {
  const { wrong, rcodes, shown, twinCount } = fuzzResponder("1", runs(100_000));
  expect(wrong).toBeUndefined();
  expect(twinCount).toBeGreaterThan(runs(100_000) / 50);
  expect([...rcodes].toSorted()).toEqual(["FORMERR", "NOERROR", "NOTIMP", "NXDOMAIN", "REFUSED", "other"]);
  // What a view may see is shown, so that there is something to hide from others.
  const [anonymous = 0, ...tenants] = shown;
  for (const count of tenants) expect(count).toBeGreaterThan(anonymous * 1.2);
}, 120_000);

test("so are queries to signed zones", () => {
  const { wrong, rcodes, signatureCount } = fuzzResponder("2", runs(20_000), { isSigned: true });
  expect(wrong).toBeUndefined();
  expect(rcodes).toContain("NXDOMAIN");
  expect(signatureCount).toBeGreaterThan(runs(20_000) / 20);
}, 120_000);
