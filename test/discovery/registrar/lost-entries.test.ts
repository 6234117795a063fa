/** What a node does with entries of its own that a mark hides (semantics.md, Orphans). */
import { expect, test } from "vitest";
import { BODY } from "../../../src/catalog/record/record.ts";
import { applyMarks, ownMarked } from "../../../src/catalog/replica/lost-marks.ts";
import { at, caller, command, draftAt, keyOf, Registry, stamped } from "../../fakes/registry.ts";

/** The others have marked all that the node has written until now. */
function mark(r: Registry, ms: number): void {
  const { nodeId, generation, through } = r.replica.self;
  r.replica.lost.note({ nodeId, generation, through, mark: through + 5 });
  expect(applyMarks(r.replica)).toBe(true);
  r.replica.sweep(Number.POSITIVE_INFINITY, at(ms));
  r.registrar.entryRemovals.superseded(
    ownMarked(r.replica).storedRecords.map(({ key }) => key),
    at(ms),
  );
}

test("what has a lease is hidden until it is renewed, and then put again as it was", () => {
  const r = new Registry();
  const lease = r.register("ann", [stamped("web"), stamped("db")], at(0));
  const before = r.replica.own(keyOf("web"));
  const stamp = before?.hlc ?? 0;
  mark(r, 10);
  r.flush(at(10));
  expect(r.names()).toEqual([]);
  expect(r.registrar.renew(caller("ann"), [lease], [], at(20)).expiredLeaseIds).toEqual([]);
  r.flush(at(20));
  expect([r.names(), r.unleased(), r.replica.own(keyOf("web"))?.principal]).toEqual([["db", "web"], [], "ann"]);
  expect(r.replica.own(keyOf("web"))?.hlc).toBeGreaterThan(stamp);
  const { lastSeq } = r.replica;
  r.registrar.renew(caller("ann"), [lease], [], at(30));
  expect(r.replica.lastSeq, "once").toBe(lastSeq);
});

test("the entry of a resolver waits for its renewal as every other, though only nodes and resolvers write in the control plane's namespaces", () => {
  const r = new Registry();
  const edge = draftAt({ namespace: "discovery.resolvers", name: "edge", instanceId: "edge" }, {});
  const who = caller("ann", ["mesh.resolve"]);
  const { leaseId } = r.registrar.register(who, command([edge]), at(0));
  r.flush(at(0));
  mark(r, 10);
  r.flush(at(10));
  expect(r.names()).toEqual([]);
  r.registrar.renew(who, [leaseId], [], at(20));
  r.flush(at(20));
  expect(r.names()).toEqual(["edge"]);
});

test("a renewal whose batch is refused puts nothing; the next one does", () => {
  const r = new Registry();
  const lease = r.register("ann", [stamped("web")], at(0));
  mark(r, 10);
  r.flush(at(10));
  r.registrar.renew(caller("ann"), [lease], [], at(20));
  r.refuse();
  expect(r.names()).toEqual([]);
  r.registrar.renew(caller("ann"), [lease], [], at(30));
  r.flush(at(30));
  expect(r.names()).toEqual(["web"]);
});

test("a lease that nobody renews ends, and its entries are never seen again", () => {
  const r = new Registry();
  r.register("ann", [stamped("web")], at(0));
  mark(r, 10);
  r.registrar.tick(at(60_000));
  r.flush(at(60_000));
  expect([r.names(), r.leases.size]).toEqual([[], 0]);
});

test("static entries end, and are told of", () => {
  const r = new Registry();
  r.register("ann", [stamped("web")], at(0), { isStatic: true });
  mark(r, 10);
  r.flush(at(10));
  expect([r.names(), r.registrar.entryRemovals.takeEndedStatic(), r.leases.size]).toEqual([[], [keyOf("web")], 0]);
});

test("what is registered after the mark is seen, and what was hidden by it can be registered and unregistered", () => {
  const r = new Registry();
  r.register("ann", [stamped("web"), stamped("db")], at(0));
  mark(r, 10);
  r.flush(at(10));
  r.register("ann", [stamped("web"), stamped("new")], at(20));
  r.flush(at(20));
  expect(r.names()).toEqual(["new", "web"]);
  expect(r.registrar.unregisterKeys(caller("ann"), [keyOf("db")], at(30))).toHaveLength(1);
});

test.each([
  { what: "static entry, put again", isStatic: true, left: [] },
  { what: "leased entry, put again", isStatic: false, left: ["web"] },
])("a $what while the mark comes, is as the mark says when the disk refuses what is newer", ({ isStatic, left }) => {
  const r = new Registry();
  const lease = r.register("ann", [stamped("web")], at(0), { isStatic });
  const again = command([stamped("web", { tags: ["newer"] })], isStatic ? { isStatic } : { leaseId: lease });
  r.registrar.register(caller("ann"), again, at(10));
  mark(r, 10);
  r.refuse();
  expect([r.names(), r.replica.own(keyOf("web"))?.body]).toEqual([[], BODY.ENTRY]);
  r.registrar.tick(at(20));
  r.flush(at(20));
  if (!isStatic) r.registrar.renew(caller("ann"), [lease], [], at(30));
  r.flush(at(30));
  expect([r.names(), r.unleased()]).toEqual([left, []]);
  if (isStatic) expect(r.replica.own(keyOf("web"))?.body).toBe(BODY.EXPIRED);
});
