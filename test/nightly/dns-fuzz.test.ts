/** Ten million queries through a responder, each million from a seed of its own. `test/dns/server/fuzz.test.ts` is a hundredth of it. */
import { expect, test } from "vitest";
import { fuzzResponder } from "../fakes/dns-fuzzed.ts";

test.each(Array.from({ length: 10 }, (_, i) => `nightly ${i + 1}`))("a million queries of all types, options and views (%s)", (seed) => {
  const { wrong, rcodes } = fuzzResponder(seed, 1_000_000, { isSigned: seed.endsWith("0") });
  expect(wrong).toBeUndefined();
  expect(rcodes).toContain("NXDOMAIN");
});
