import fc from "fast-check";
import { expect, test } from "vitest";
import { checkAnyBytes, mutatedQuery } from "../fakes/dns-fuzz.ts";

test("a hundred thousand hostile DNS messages: no throw, none slow, every answer readable", () => {
  let slowestMs = 0;
  fc.assert(
    fc.property(fc.oneof(mutatedQuery(), fc.uint8Array({ maxLength: 2_000 })), (bytes) => {
      const startedMs = performance.now();
      checkAnyBytes(bytes);
      slowestMs = Math.max(slowestMs, performance.now() - startedMs);
    }),
    { numRuns: 100_000 },
  );
  expect(slowestMs).toBeLessThan(50);
});
