/** Worlds with resolvers that nobody has run; `test/sim/resolver-worlds.test.ts` runs the first of them in every build. */
import { expect, test } from "vitest";
import { explain, runSeed } from "../sim/resolver-worlds.ts";

const HOUR = 3_600_000;

test.each(Array.from({ length: 5 }, (_, i) => 601 + i * 100))("worlds with resolvers from seed %i", { timeout: HOUR }, (first) => {
  let answerCount = 0;
  for (let seed = first; seed < first + 100; seed++) {
    const outcome = runSeed(seed);
    answerCount += outcome.counts["answers"] ?? 0;
    if (outcome.violation !== undefined) expect.fail(explain(seed, outcome));
  }
  expect(answerCount).toBeGreaterThan(0);
});
