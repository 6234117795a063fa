/** What an end leaves behind: leases of other keys, room in quotas, reports, and stamps (semantics.md, Leases and life). */
import { expect, test } from "vitest";
import { BODY } from "../../src/catalog/record/record.ts";
import { at, caller, command, keyOf, Registry, stamped, WALL } from "../fakes/registry.ts";

test("a static lease lives on with the keys it still has, and ends with the last of them", () => {
  const r = new Registry();
  const lease = r.register("ann", [stamped("web"), stamped("db")], at(0), { isStatic: true });
  r.registrar.unregisterKeys(caller("ann"), [keyOf("web")], at(1));
  r.flush(at(1));
  expect([r.names(), r.leases.has(lease), r.unleased(), r.twin().leases.has(lease)]).toEqual([["db"], true, [], true]);
  r.registrar.unregisterKeys(caller("ann"), [keyOf("db")], at(2));
  r.flush(at(2));
  expect([r.names(), r.leases.has(lease), r.twin().leases.size]).toEqual([[], false, 0]);
});

test("an end is stamped above the record it ends, also when that was stamped by a clock far ahead", () => {
  const r = new Registry();
  r.hear("web", BODY.ENTRY, 86_400_000, at(0));
  expect(r.names()).toEqual(["web"]);
  expect(r.registrar.unregisterKeys(caller("ann"), [keyOf("web")], at(10))).toHaveLength(1);
  r.flush(at(10));
  expect(r.names()).toEqual([]);
  expect(r.replica.own(keyOf("web"))?.hlc).toBeGreaterThan((WALL + 86_400_000) * 2048);
});

test("only an older record is hidden: one of the very same stamp stays", () => {
  const r = new Registry();
  r.register("ann", [stamped("web")], at(0));
  const own = r.replica.own(keyOf("web"));
  expect(own?.hlc).toBe(WALL * 2048);
  r.hear("web", BODY.UNREGISTERED, 0, at(1));
  expect(r.registrar.entryRemovals.superseded([keyOf("web")], at(2))).toBe(0);
  r.hear("web", BODY.UNREGISTERED, 1, at(3), "c");
  expect(r.registrar.entryRemovals.superseded([keyOf("web")], at(4))).toBe(1);
});

test("a lease one of whose entries another node's word ended is not renewed any more, and what is left of it stands until it runs out", () => {
  const r = new Registry();
  const several = r.register("ann", [stamped("web"), stamped("db")], at(0));
  const one = r.register("ann", [stamped("api")], at(0));
  for (const name of ["web", "api"]) r.hear(name, BODY.UNREGISTERED, 10, at(10));
  r.registrar.entryRemovals.superseded([keyOf("web"), keyOf("api")], at(20));
  r.flush(at(20));
  expect(r.registrar.renew(caller("ann"), [several, one], [], at(30)).expiredLeaseIds).toEqual([several, one]);
  expect(() => r.register("ann", [stamped("new")], at(30), { leaseId: several })).toThrow("lease_not_found");
  expect(r.names()).toEqual(["db"]);
  // Its client registers again, and nothing of it was away in between but what was ended.
  const again = r.register("ann", [stamped("web"), stamped("db")], at(40));
  r.flush(at(40));
  r.registrar.tick(at(30_010));
  r.flush(at(30_010));
  expect([r.names(), r.leases.has(several), r.leases.has(again)]).toEqual([["db", "web"], false, true]);
});

test("when that is refused the lease is renewed as before; a retried Register does not get a lease that is over", () => {
  const r = new Registry();
  const several = r.register("ann", [stamped("web"), stamped("db")], at(0), { idempotencyKey: "k" });
  r.hear("web", BODY.UNREGISTERED, 10, at(10));
  r.registrar.entryRemovals.superseded([keyOf("web")], at(20));
  r.refuse();
  expect(r.registrar.renew(caller("ann"), [several], [], at(30)).expiredLeaseIds).toEqual([]);
  r.registrar.entryRemovals.superseded([keyOf("web")], at(40));
  r.flush(at(40));
  expect(r.register("ann", [stamped("web"), stamped("db")], at(50), { idempotencyKey: "k" })).not.toBe(several);
});

test("of static entries that another node's word ended it is told once which they are", () => {
  const r = new Registry();
  r.register("ann", [stamped("web"), stamped("db")], at(0), { isStatic: true });
  r.hear("web", BODY.UNREGISTERED, 10, at(10));
  r.registrar.entryRemovals.superseded([keyOf("web")], at(20));
  expect([r.registrar.entryRemovals.takeEndedStatic(), r.registrar.entryRemovals.takeEndedStatic()]).toEqual([[keyOf("web")], []]);
  expect(r.registrar.entryRemovals.endedStaticCount).toBe(1);
});

test("keys of a lease: those that are under it end and the lease goes on; others, repeated and unknown ones count 0", () => {
  const r = new Registry();
  const old = r.register("ann", [stamped("web"), stamped("db"), stamped("api")], at(0));
  const next = r.register("ann", [stamped("web")], at(1));
  const keys = ["web", "db", "db", "none"].map(keyOf);
  expect(r.registrar.unregisterLease(caller("ann"), old, at(2), keys)).toHaveLength(1);
  r.flush(at(2));
  expect([r.names(), r.leases.leaseOf(keyOf("web")), r.replica.own(keyOf("db"))?.body]).toEqual([["api", "web"], next, BODY.UNREGISTERED]);
  expect([r.leases.find(old)?.keyCount, r.unleased(), r.twin().names()]).toEqual([1, [], ["api", "web"]]);
  // A lease that can run out goes on without a key, and takes others.
  expect(r.registrar.unregisterLease(caller("ann"), old, at(3), [keyOf("api")])).toHaveLength(1);
  r.flush(at(3));
  expect(r.registrar.renew(caller("ann"), [old], [], at(4)).expiredLeaseIds).toEqual([]);
});

test("the last key of a static lease ends the lease; of a stranger's or an unknown lease nothing ends; what is refused is undone", () => {
  const r = new Registry();
  const lease = r.register("ann", [stamped("web")], at(0), { isStatic: true });
  for (const [who, id] of [["bob", lease] as const, ["ann", "b/9"] as const])
    expect(() => r.registrar.unregisterLease(caller(who), id, at(1), [keyOf("web")])).toThrow("lease_not_found");
  const before = r.state();
  expect(r.registrar.unregisterLease(caller("ann"), lease, at(2), [keyOf("web")])).toHaveLength(1);
  r.refuse();
  expect(r.state()).toEqual(before);
  r.registrar.unregisterLease(caller("ann"), lease, at(3), [keyOf("web")]);
  r.flush(at(3));
  expect([r.names(), r.leases.has(lease), r.twin().leases.size]).toEqual([[], false, 0]);
});

test.each(["the lease", "the key of the lease"])("ending %s leaves what was registered at another node since then", (what) => {
  const r = new Registry();
  const lease = r.register("ann", [stamped("web"), stamped("db")], at(0));
  r.hear("web", BODY.ENTRY, 10, at(10));
  r.hear("db", BODY.ENTRY, -10, at(10));
  const keys = what === "the lease" ? undefined : ["web", "db"].map(keyOf);
  expect(r.registrar.unregisterLease(caller("ann"), lease, at(20), keys)).toHaveLength(1);
  r.flush(at(20));
  expect([r.names(), r.replica.view(keyOf("web"))?.origin.nodeId, r.unleased()]).toEqual([["web"], "b", []]);
  expect(["web", "db"].map((name) => r.replica.own(keyOf(name))?.body)).toEqual([BODY.EXPIRED, BODY.UNREGISTERED]);
});

test("what a node of another cluster says of the key takes nothing over: the lease ends its entry for all", () => {
  const r = new Registry();
  const lease = r.register("ann", [stamped("web")], at(0));
  r.replica.origin("d", 1, { clusterId: "c2", region: "r1" });
  r.hear("web", BODY.ENTRY, 10, at(10), "d");
  expect(r.registrar.unregisterLease(caller("ann"), lease, at(20))).toHaveLength(1);
  r.flush(at(20));
  expect([r.names(), r.replica.own(keyOf("web"))?.body]).toEqual([[], BODY.UNREGISTERED]);
});

test("a registration that is not on disk yet is newer than what another node said, and ends with its lease", () => {
  const r = new Registry();
  const lease = r.register("ann", [stamped("web")], at(0));
  r.hear("web", BODY.ENTRY, 10, at(10));
  r.registrar.register(caller("ann"), command([stamped("web", { tags: ["again"] })], { leaseId: lease }), at(20));
  r.registrar.unregisterLease(caller("ann"), lease, at(30));
  r.flush(at(30));
  expect(r.names()).toEqual([]);
});
