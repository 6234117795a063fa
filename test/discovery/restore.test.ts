/** What the journal kept, back in memory. */
import { expect, test } from "vitest";
import { at, draft, keyOf, Registry } from "../fakes/registry.ts";

test("entries, what was removed and static leases are back as they were", () => {
  const r = new Registry();
  r.register("ann", [draft("a"), draft("b")], at(0), { isStatic: true });
  r.register("bob", [draft("c")], at(1));
  r.registrar.unregisterKeys(
    { principal: "ann", tenant: "", cluster: "c1", roles: [], isAuthenticated: true, address: "" },
    [keyOf("b")],
    at(2),
  );
  r.flush(at(2));
  const before = r.state();
  r.restart(at(2));
  expect(r.names()).toEqual(["a", "c"]);
  // A lease with a ttl is given it anew.
  expect(r.state()).toEqual(
    JSON.parse(JSON.stringify(before).replace(`${at(1).monoMs + 30_000}`, `${at(2).monoMs + 30_000}`), reviveInfinity),
  );
});

/** JSON has no undefined and no infinity. */
function reviveInfinity(key: string, value: unknown): unknown {
  return key === "deadlineMonoMs" && value === null ? Number.POSITIVE_INFINITY : value;
}

test("a lease runs for its whole ttl again after a restart, and its entries go when nobody renews it", () => {
  const r = new Registry();
  const leaseId = r.register("ann", [draft("a")], at(0), { ttlMs: 10_000 });
  r.restart(at(9_000));
  r.registrar.tick(at(18_000));
  r.flush(at(18_000));
  expect([r.names(), r.leases.leaseOf(keyOf("a"))]).toEqual([["a"], leaseId]);
  r.registrar.tick(at(19_001));
  r.flush(at(19_001));
  expect(r.names()).toEqual([]);
});

test("a registration that is tried again after a restart gets its first answer", () => {
  const r = new Registry();
  const leaseId = r.register("ann", [draft("a")], at(0), { idempotencyKey: "once" });
  r.restart(at(1));
  expect(r.register("ann", [draft("a")], at(2), { idempotencyKey: "once" })).toBe(leaseId);
  expect(r.register("bob", [draft("b")], at(3), { idempotencyKey: "once" })).not.toBe(leaseId);
});

test.each([
  { what: "a little", backMs: 50_000, isDragged: true },
  { what: "further than a clock may be wrong", backMs: 3_600_000, isDragged: false },
])("a clock that went back $what: a key's stamps rise all the same, and others' only while that is believed", ({ backMs, isDragged }) => {
  const r = new Registry();
  r.register("ann", [draft("a")], at(backMs));
  const stamp = r.replica.own(keyOf("a"))?.hlc ?? 0;
  r.restart(at(0));
  r.register("ann", [draft("b")], at(1));
  expect((r.replica.own(keyOf("b"))?.hlc ?? 0) > stamp).toBe(isDragged);
  r.register("ann", [draft("a", { tags: ["new"] })], at(2));
  expect(r.replica.own(keyOf("a"))?.hlc).toBeGreaterThan(stamp);
});
