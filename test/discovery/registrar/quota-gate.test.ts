/** Quotas at a registrar whose batches land late or are refused. */
import fc from "fast-check";
import { expect, test } from "vitest";
import type { StampedEntry } from "../../../src/catalog/entry/codec.ts";
import { BODY } from "../../../src/catalog/record/record.ts";
import type { Replica } from "../../../src/catalog/replica/replica.ts";
import { WaymarkError } from "../../../src/lib/errors.ts";
import { NamespaceQuotas } from "../../../src/policy/limits/quotas.ts";
import { at, caller, command, keyOf, Registry, stamped } from "../../fakes/registry.ts";

const NO_QUOTA = { entries: 0, watches: 0, bytes: 0 };
const MAX_ENTRIES = 3;

function quotasOf(replica: Replica): NamespaceQuotas {
  return new NamespaceQuotas({
    namespaceQuota: () => ({ ...NO_QUOTA, entries: MAX_ENTRIES }),
    tenantQuota: () => NO_QUOTA,
    namespaceUsage: (namespace) => replica.lookup.namespaceUsage(namespace),
    tenantUsage: (tenant) => replica.lookup.tenantUsage(tenant),
    sees: () => true,
    isSet: () => true,
    onRefusal: () => undefined,
  });
}

function register(r: Registry, stampedEntries: readonly StampedEntry[], ms: number, isStatic = true): "ok" | "full" {
  try {
    r.registrar.register(caller("ann"), command(stampedEntries, { isStatic }), at(ms));
    return "ok";
  } catch (error) {
    if (error instanceof WaymarkError && error.reason === "quota_exceeded") return "full";
    throw error;
  }
}

test("a refused request stages nothing: no entry, no lease", () => {
  const r = new Registry(undefined, quotasOf);
  expect(register(r, [stamped("a"), stamped("b")], 0)).toBe("ok");
  r.flush(at(1));
  const before = r.state();
  expect(register(r, [stamped("c"), stamped("d")], 2)).toBe("full");
  expect(r.state()).toEqual(before);
  expect(r.registrar.hasWork).toBe(false);
});

test("expired entries make room", () => {
  const r = new Registry(undefined, quotasOf);
  expect(register(r, [stamped("a"), stamped("b"), stamped("c")], 0, false)).toBe("ok");
  r.flush(at(1));
  r.registrar.tick(at(31_000));
  expect(register(r, [stamped("d")], 31_001)).toBe("ok");
});

test("whatever lands, is refused, removed and registered anew: refused is exactly what would be more than the quota", () => {
  const names = ["a", "b", "c", "d", "e"] as const;
  const act = fc.record({
    what: fc.constantFrom("register", "register", "register", "remove", "take", "land", "refuse"),
    names: fc.uniqueArray(fc.constantFrom(...names), { minLength: 1, maxLength: 3 }),
    tag: fc.constantFrom("t1", "t2"),
  });
  fc.assert(
    fc.property(fc.array(act, { maxLength: 50 }), (acts) => {
      const r = new Registry(undefined, quotasOf);
      const held = () => new Set(names.filter((name) => r.replica.own(keyOf(name))?.body === BODY.ENTRY));
      acts.forEach(({ what, names: chosen, tag }, n) => {
        if (what === "register") {
          const now = held();
          const then = new Set([...now, ...chosen]);
          const wanted = then.size > now.size && then.size > MAX_ENTRIES ? "full" : "ok";
          const stampedEntries = chosen.map((name) => stamped(name, { tags: [tag] }));
          expect(register(r, stampedEntries, n)).toBe(wanted);
        } else if (what === "remove") {
          r.registrar.unregisterKeys(
            caller("ann"),
            chosen.map((name) => keyOf(name)),
            at(n),
          );
        } else if (what === "take") r.take();
        else if (what === "land") r.land(at(n));
        else r.refuse();
      });
      r.flush(at(acts.length));
      expect(r.replica.lookup.namespaceUsage("svc").entries).toBe(held().size);
      expect(held().size).toBeLessThanOrEqual(MAX_ENTRIES);
    }),
  );
});
