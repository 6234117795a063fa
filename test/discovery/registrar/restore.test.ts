/** What the journal kept, back in memory. */
import { expect, test } from "vitest";
import { decodeStoredRecord, encodeRecord } from "../../../src/catalog/record/codec.ts";
import type { KeyText } from "../../../src/catalog/record/record.ts";
import { DnsNames } from "../../../src/discovery/dns-names.ts";
import { soundNumbers } from "../../../src/discovery/registrar/restore.ts";
import { MAX_STAMP } from "../../../src/lib/hlc.ts";
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
  poison(r, keyOf("web"));
  r.restart(at(1));
  r.flush(at(1));
  const names = new DnsNames(r.replica, ["waymark"]);
  names.refresh();
  const anyone = { sees: () => true, counts: () => true };
  expect(names.findAlias("www.shop.example", "waymark", anyone).records.map(({ name }) => name)).toEqual(["web"]);
});

test("an entry and a tombstone that come back under new numbers have the orders about their maintenance", () => {
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
  for (const name of ["a", "c"]) poison(r, keyOf(name));
  r.restart(at(3));
  r.flush(at(3));
  expect(ordersOf()).toEqual(before);
  expect(before[0]).toMatchObject({ operators: { giver: "op" }, owners: { giver: "ann" } });
});

test("rows whose stamps nobody can go on from come back under new numbers, with their leases, and can be written again", () => {
  const r = new Registry();
  const leaseId = r.register("ann", [stamped("a"), stamped("b"), stamped("c")], at(0), { ttlMs: 10_000 });
  r.registrar.unregisterKeys(admin, [keyOf("c")], at(1));
  r.flush(at(1));
  for (const name of ["a", "c"]) poison(r, keyOf(name));
  r.restart(at(2));
  r.flush(at(2));
  expect(r.names()).toEqual(["a", "b"]);
  expect(r.leases.leaseOf(keyOf("a"))).toBe(leaseId);
  for (const name of ["a", "c"]) expect(r.replica.own(keyOf(name))?.hlc).toBeLessThanOrEqual(MAX_STAMP);
  r.register("ann", [stamped("a", { tags: ["new"] }), stamped("c")], at(3));
  expect(r.names()).toEqual(["a", "b", "c"]);
  r.restart(at(4));
  expect(r.names()).toEqual(["a", "b", "c"]);
});

test("a journal whose numbers are at the end goes on in a new generation, from half way up", () => {
  const restored = { lastSeq: Number.MAX_SAFE_INTEGER, floor: 3, generation: 5 };
  expect(soundNumbers(restored, () => 9)).toEqual({ lastSeq: 2 ** 51, floor: 3, generation: 9 });
  const sound = { lastSeq: 2 ** 52 - 2 ** 40, floor: 3, generation: 5 };
  expect(soundNumbers(sound, () => 9)).toBe(sound);
  // Others refuse what comes after the last number there is.
  expect(soundNumbers({ lastSeq: 2 ** 52, floor: 3, generation: 5 }, () => 9)).toEqual({ lastSeq: 2 ** 51, floor: 3, generation: 9 });
  expect(soundNumbers({ lastSeq: 8, floor: 3, generation: 2 ** 52 }, () => 9)).toEqual({ lastSeq: 8, floor: 3, generation: 9 });
  expect(soundNumbers({ lastSeq: 8, floor: 9, generation: 5 }, () => 9)).toEqual({ lastSeq: 8, floor: 8, generation: 9 });
  expect(soundNumbers({ lastSeq: 8, floor: -5, generation: 5 }, () => 9)).toEqual({ lastSeq: 8, floor: 0, generation: 9 });
});

const admin = { principal: "ann", tenant: "", cluster: "c1", roles: [], isAuthenticated: true, address: "" };

/** Writes the key's row as a version would have that took over what a peer's clock said. */
function poison(r: Registry, key: KeyText): void {
  const row = r.disk.rows.get(key);
  if (row === undefined) throw new Error(`no row of ${key}`);
  const { seq, hlc: _, ...head } = decodeStoredRecord(row.record, BOUNDS);
  const record = encodeRecord({ ...head, seq, hlc: Number.MAX_SAFE_INTEGER }, head);
  r.disk.rows.set(key, { ...row, record });
}
