import fc from "fast-check";
import { expect, test } from "vitest";
import { UsageTable } from "../../../src/catalog/replica/namespace-digest.ts";

const NAMES = ["a", "b"] as const;
const TENANTS = ["", "t"] as const;

test("what comes and goes is what is left, and nothing is held of names without entries", () => {
  const entry = fc.record({
    namespace: fc.constantFrom(...NAMES),
    tenantId: fc.constantFrom(...TENANTS),
    contentBytes: fc.nat(100),
    isLeaving: fc.boolean(),
  });
  fc.assert(
    fc.property(fc.array(entry, { maxLength: 40 }), (entries) => {
      const usage = new UsageTable();
      for (const { namespace, tenantId, contentBytes } of entries) usage.enter(namespace, { traits: { tenantId }, contentBytes });
      for (const { namespace, tenantId, contentBytes, isLeaving } of entries)
        if (isLeaving) usage.leave(namespace, { traits: { tenantId }, contentBytes });
      const left = entries.filter(({ isLeaving }) => !isLeaving);
      const sum = (of: (each: (typeof left)[number]) => boolean) => {
        const found = left.filter(of);
        return { entries: found.length, bytes: found.reduce((bytes, each) => bytes + each.contentBytes, 0) };
      };
      for (const name of NAMES) expect(usage.ofNamespace(name)).toEqual(sum(({ namespace }) => namespace === name));
      expect(usage.ofTenant("t")).toEqual(sum(({ tenantId }) => tenantId === "t"));
      expect(usage.ofTenant("")).toEqual({ entries: 0, bytes: 0 });
    }),
  );
});
