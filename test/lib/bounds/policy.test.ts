/** Bounds of a policy: the largest set that is allowed fits into a file, and into what stores and peers take. */
import { expect, test } from "vitest";
import { POLICY_BOUNDS } from "../../../src/lib/bounds/policy.ts";
import { formatPolicyFile } from "../../../src/policy/set/file.ts";
import { encodeVersion } from "../../../src/policy/versions/codec.ts";
import { MemoryStore } from "../../../src/store/control/memory.ts";
import { rule, set } from "../../fakes/policies.ts";
import { Bench } from "../../fakes/policy-bench.ts";

test("10,000 rules with long names fit", async () => {
  const name = (i: number) => `shop.${"x".repeat(40)}.n${i}`;
  const largest = set(Array.from({ length: 10_000 }, (_, i) => rule(name(i), { visibility: [name(i)], owners: [name(i)] })));
  const bench = new Bench(new MemoryStore());
  await bench.apply(largest);
  const { newest } = bench.engine;
  expect(newest && encodeVersion(newest).length).toBeLessThan(POLICY_BOUNDS.maxVersionBytes);
  expect(new TextEncoder().encode(formatPolicyFile(largest, "yaml")).length).toBeLessThan(POLICY_BOUNDS.maxFileBytes);
});
