import { expect, test } from "vitest";
import { EntryStamper } from "../../../src/catalog/entry/codec.ts";
import { HEALTH } from "../../../src/catalog/record/record.ts";
import { TraitsPool } from "../../../src/catalog/record/traits.ts";
import { Loads } from "../../../src/discovery/registrar/loads.ts";
import { Puts } from "../../../src/discovery/registrar/puts.ts";
import { QuotaGate } from "../../../src/discovery/registrar/quota-gate.ts";
import { UndoLog } from "../../../src/discovery/registrar/undo-log.ts";
import { Hlc } from "../../../src/lib/hlc.ts";
import { BOUNDS } from "../../fakes/options.ts";
import { at, caller, keyOf, Registry, stamped } from "../../fakes/registry.ts";

const ANN = caller("ann");
const ONE = { id: "one", isNew: false };

/** Puts into a registry that has two leases, and what became of them. */
function puts() {
  const { replica, leases } = new Registry();
  const undo = new UndoLog();
  const emptied: string[] = [];
  for (const id of ["one", "two"]) leases.grant(id, { ttlMs: 1000, principal: "ann" }, 0);
  const stamper = new EntryStamper({ bounds: BOUNDS, traits: new TraitsPool(8) });
  const more = { loads: new Loads(1000), gate: new QuotaGate(replica, undefined), onEmptied: (id: string) => void emptied.push(id) };
  return { replica, leases, undo, emptied, puts: new Puts({ replica, leases, stamper, hlc: new Hlc(), undo, ...more }) };
}

test("the same content again makes no record, other content or another health makes one", () => {
  const { puts: made, replica } = puts();
  made.put(ANN, stamped("web"), ONE, at(0));
  made.put(ANN, stamped("web"), ONE, at(1));
  expect(replica.staged).toHaveLength(1);
  made.put(ANN, stamped("web", { tags: ["new"] }), ONE, at(2));
  made.again(keyOf("web"), at(3), HEALTH.DEGRADED);
  expect(replica.staged.map(({ health }) => health)).toEqual([HEALTH.HEALTHY, HEALTH.HEALTHY, HEALTH.DEGRADED]);
});

test("a key moves to another lease: its row is written again, the lease it leaves empty is told of, and an undo takes it back", () => {
  const { puts: made, leases, undo, emptied } = puts();
  made.put(ANN, stamped("web"), ONE, at(0));
  undo.seal(1);
  undo.forget(1);
  made.put(ANN, stamped("web"), { ...ONE, id: "two" }, at(1));
  expect([leases.leaseOf(keyOf("web")), [...made.moved], emptied]).toEqual(["two", [keyOf("web")], ["one"]]);
  undo.undo();
  expect(leases.leaseOf(keyOf("web"))).toBe("one");
});

test.each([
  { what: "a lease that was there before stays, without the key", lease: ONE, undone: true },
  { what: "a lease of the same call takes its keys along: nothing is noted for each", lease: { id: "new", isNew: true }, undone: false },
])("an undo: $what", ({ lease, undone }) => {
  const { puts: made, leases, undo } = puts();
  if (lease.isNew) {
    leases.grant(lease.id, { ttlMs: 1000, principal: "ann" }, 0);
    undo.push(() => void leases.end(lease.id));
  }
  const mark = undo.mark;
  made.put(ANN, stamped("web"), lease, at(0));
  expect([leases.leaseOf(keyOf("web")), undo.mark > mark]).toEqual([lease.id, undone]);
  undo.undo();
  expect([leases.leaseOf(keyOf("web")), leases.keyCount, leases.has(ONE.id), leases.has("new")]).toEqual([undefined, 0, true, false]);
});
