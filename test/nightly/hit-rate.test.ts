/** P13 at its size, at the machine of a resolver: 10,000 names of 10 endpoints in 1,000 namespaces, and 10,000 lookups a second. Figures are printed. */
import { expect, test } from "vitest";
import { hitRates } from "../fakes/resolver-lookups.ts";

test.each([1, 2])("P13: 10,000 lookups a second for 10,000 names that change (seed %i)", (seed) => {
  const rates = hitRates({ names: 10_000, seed, ms: 40_000 });
  console.error("hit rates:", rates);
  expect(rates.ofAll).toBeGreaterThanOrEqual(0.99);
  expect(rates.ofIdeal).toBeGreaterThanOrEqual(0.95);
  expect(rates.scanPoints).toBeLessThanOrEqual(2);
});
