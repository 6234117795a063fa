import fc from "fast-check";
import { expect, test } from "vitest";
import { checkAnyBytes, mutatedQuery } from "../fakes/dns-fuzz.ts";

test("a hundred thousand hostile DNS messages: no throw, none slow, every answer readable", () => {
  let slowestMs = 0;
  fc.assert(
    fc.property(fc.oneof(mutatedQuery(), fc.uint8Array({ maxLength: 2_000 })), (bytes) => {
      // CPU time: what a neighbour takes of the core says nothing about a packet.
      const before = process.threadCpuUsage();
      checkAnyBytes(bytes);
      const { user, system } = process.threadCpuUsage(before);
      slowestMs = Math.max(slowestMs, (user + system) / 1000);
    }),
    { numRuns: 100_000 },
  );
  expect(slowestMs).toBeLessThan(50);
});
