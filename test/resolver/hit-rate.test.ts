/**
 * P13 at the machine of a resolver, with a tenth of the names; `test/nightly/hit-rate.test.ts` has all of them.
 * @module-tag night
 */
import { expect, test } from "vitest";
import { hitRates } from "../fakes/resolver-lookups.ts";

test("P13: at least 99 of 100 lookups wait for nobody with room for all, and with room for a tenth 0.95 of what the most asked tenth gets, also after a scan", () => {
  const { ofAll, ofIdeal, scanPoints } = hitRates({ names: 1000, seed: 1, ms: 12_000 });
  expect(ofAll).toBeGreaterThanOrEqual(0.99);
  expect(ofIdeal).toBeGreaterThanOrEqual(0.95);
  expect(scanPoints).toBeLessThanOrEqual(2);
});
