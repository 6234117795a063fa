/** What the journal kept, back in memory. */
import { expect, test } from "vitest";
import { decodeRecord, encodeRecord } from "../../../src/catalog/record/codec.ts";
import { DnsNames } from "../../../src/discovery/dns-names.ts";
import { BOUNDS } from "../../fakes/options.ts";
import { at, keyOf, Registry, stamped } from "../../fakes/registry.ts";

test("entries, what was removed and static leases are back as they were", () => {
  const r = new Registry();
  r.register("ann", [stamped("a"), stamped("b")], at(0), { isStatic: true });
  r.register("bob", [stamped("c")], at(1));
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
  const leaseId = r.register("ann", [stamped("a")], at(0), { ttlMs: 10_000 });
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
  const leaseId = r.register("ann", [stamped("a")], at(0), { idempotencyKey: "once" });
  r.restart(at(1));
  expect(r.register("ann", [stamped("a")], at(2), { idempotencyKey: "once" })).toBe(leaseId);
  expect(r.register("bob", [stamped("b")], at(3), { idempotencyKey: "once" })).not.toBe(leaseId);
});

test.each([
  { what: "a little", backMs: 50_000, isDragged: true },
  { what: "further than a clock may be wrong", backMs: 3_600_000, isDragged: false },
])("a clock that went back $what: a key's stamps rise all the same, and others' only while that is believed", ({ backMs, isDragged }) => {
  const r = new Registry();
  r.register("ann", [stamped("a")], at(backMs));
  const stamp = r.replica.own(keyOf("a"))?.hlc ?? 0;
  r.restart(at(0));
  r.register("ann", [stamped("b")], at(1));
  expect((r.replica.own(keyOf("b"))?.hlc ?? 0) > stamp).toBe(isDragged);
  r.register("ann", [stamped("a", { tags: ["new"] })], at(2));
  expect(r.replica.own(keyOf("a"))?.hlc).toBeGreaterThan(stamp);
});

test("a node whose region was changed says its entries again, with the region that it has now", () => {
  const r = new Registry();
  const leaseId = r.register("ann", [stamped("a")], at(0), { ttlMs: 10_000 });
  r.flush(at(0));
  const seq = r.replica.own(keyOf("a"))?.seq ?? 0;
  r.restart(at(1), "r1");
  expect(r.replica.own(keyOf("a"))).toMatchObject({ seq, traits: { region: "r1" } });
  r.restart(at(2), "r2");
  r.flush(at(2));
  expect(r.replica.own(keyOf("a"))).toMatchObject({ traits: { region: "r2" } });
  expect(r.replica.own(keyOf("a"))?.seq).toBeGreaterThan(seq);
  expect([r.names(), r.leases.leaseOf(keyOf("a"))]).toEqual([["a"], leaseId]);
});

test("an entry that comes back under a new number has its aliases", () => {
  const r = new Registry();
  r.register("ann", [stamped("web", { aliases: ["www.shop.example"] })], at(0));
  r.flush(at(0));
  r.restart(at(1), "r2");
  r.flush(at(1));
  const names = new DnsNames(r.replica, ["waymark"]);
  names.refresh();
  const anyone = { sees: () => true, counts: () => true };
  expect(names.findAlias("www.shop.example", "waymark", anyone).records.map(({ name }) => name)).toEqual(["web"]);
});

test("an entry that comes back under a new number, and a tombstone, have the orders about their maintenance", () => {
  const r = new Registry();
  r.register("ann", [stamped("a"), stamped("c")], at(0));
  const said = { isOn: true, reason: "disks", untilMs: 0 };
  for (const by of [
    { giver: "op", isOperator: true },
    { giver: "ann", isOperator: false },
  ])
    r.registrar.orderMaintenance([keyOf("a"), keyOf("c")], { ...said, ...by }, at(1));
  r.registrar.unregisterKeys(admin, [keyOf("c")], at(2));
  r.flush(at(2));
  const ordersOf = () => ["a", "c"].map((name) => r.replica.own(keyOf(name))?.orders);
  const before = ordersOf();
  r.restart(at(3), "r2");
  r.flush(at(3));
  expect(ordersOf()).toEqual(before);
  expect(before[0]).toMatchObject({ operators: { giver: "op" }, owners: { giver: "ann" } });
});

test("a row whose stamp nobody can go on from is refused", () => {
  const r = new Registry();
  r.register("ann", [stamped("a")], at(0));
  r.flush(at(0));
  const row = r.disk.rows.get(keyOf("a"));
  if (row === undefined) throw new Error("no row");
  const { hlc: _, ...head } = decodeRecord(row.record, BOUNDS);
  r.disk.rows.set(keyOf("a"), { ...row, record: encodeRecord({ ...head, hlc: Number.MAX_SAFE_INTEGER }, head) });
  expect(() => r.restart(at(1))).toThrow("after the year 2100");
});

const admin = { principal: "ann", tenant: "", cluster: "c1", roles: [], isAuthenticated: true, address: "" };
