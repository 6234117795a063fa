/** One call of the registrar that fails in the middle. */
import { expect, test } from "vitest";
import { BODY } from "../../../src/catalog/record/record.ts";
import { hlcWallMs, MAX_STAMP } from "../../../src/lib/hlc.ts";
import { at, command, keyOf, Registry, stamped, WALL } from "../../fakes/registry.ts";

const ann = { principal: "ann", tenant: "", cluster: "c1", roles: [], isAuthenticated: true, address: "" };

test("a write that cannot be stamped fails alone: nothing of its request is there, and all that was staged before it is", () => {
  const r = new Registry();
  const leaseId = r.register("ann", [stamped("a"), stamped("b")], at(0));
  r.hear("stuck", BODY.ENTRY, hlcWallMs(MAX_STAMP) - WALL, at(1));
  r.registrar.register(ann, command([stamped("c")]), at(2));
  expect(() => r.registrar.register(ann, command([stamped("a", { tags: ["x"] }), stamped("d"), stamped("stuck")]), at(2))).toThrow(
    "clock_skew",
  );
  expect(() => r.registrar.unregisterKeys(ann, [keyOf("b"), keyOf("stuck")], at(2))).toThrow("clock_skew");
  r.flush(at(3));
  expect(r.names().filter((name) => name !== "stuck")).toEqual(["a", "b", "c"]);
  expect(r.leases.leaseOf(keyOf("a"))).toBe(leaseId);
  r.registrar.unregisterKeys(ann, [keyOf("c")], at(4));
  r.flush(at(4));
  r.restart(at(4));
  expect(r.names()).toEqual(["a", "b"]);
});

test("a lease ends, whatever stamp its entry has", () => {
  const r = new Registry();
  r.hear("a", BODY.ENTRY, hlcWallMs(MAX_STAMP) - WALL - 1, at(0));
  r.register("ann", [stamped("a")], at(0), { ttlMs: 1000 });
  r.hear("a", BODY.UNREGISTERED, hlcWallMs(MAX_STAMP) - WALL, at(1), "c");
  r.registrar.tick(at(2000));
  r.flush(at(2000));
  expect(r.replica.own(keyOf("a"))?.body).toBe(BODY.EXPIRED);
});

test("a lease that ran out before is over for the journal too: after a restart its client is told so, and does not renew nothing", () => {
  const r = new Registry();
  const over = r.register("ann", [stamped("a")], at(0), { ttlMs: 1000 });
  r.flush(at(0));
  r.hear("stuck", BODY.ENTRY, hlcWallMs(MAX_STAMP) - WALL, at(1));
  r.registrar.tick(at(2000));
  expect(() => r.registrar.register(ann, command([stamped("d"), stamped("stuck")]), at(2000))).toThrow("clock_skew");
  r.flush(at(2001));
  r.restart(at(3000));
  expect(r.registrar.renew(ann, [over], [], at(3000)).expiredLeaseIds).toEqual([over]);
});
