/** The rooms of a node, as they are built from what its disk kept. */
import { expect, test } from "vitest";
import { Leases } from "../../../src/catalog/leases.ts";
import { MAX_SEQ } from "../../../src/catalog/record/codec.ts";
import { Metrics } from "../../../src/lib/metrics/metrics.ts";
import { openRooms } from "../../../src/node/core/rooms.ts";
import { HISTORY_BOUNDS } from "../../../src/policy/versions/engine.ts";
import { SETTINGS } from "../../fakes/options.ts";
import { at, caller, command, keyOf, stamped, stampedBy } from "../../fakes/registry.ts";
import { ALL_TIME_COUNTS } from "../../fakes/stall-clock.ts";

const OPTIONS = {
  settings: { ...SETTINGS, node: { ...SETTINGS.node, clusterId: "c1", region: "r1" } },
  version: "1",
  history: HISTORY_BOUNDS,
  stallClock: ALL_TIME_COUNTS,
  audit: undefined,
  isMarked: false,
  now: () => at(0),
};
const FRESH = { nodeId: "a", generation: 1, lastSeq: 0, floor: 0, leases: [], boot: "b1" };

function open(restored: Parameters<typeof openRooms>[0], region = "r1", quotas: Partial<typeof SETTINGS.quotas> = {}) {
  const chance = { leases: new Leases(1), newGeneration: () => 77, newToken: () => "token", random: () => 0.5, onAgain: () => {} };
  const settings = {
    ...OPTIONS.settings,
    node: { ...OPTIONS.settings.node, region },
    quotas: { ...OPTIONS.settings.quotas, ...quotas },
  };
  return openRooms(restored, { ...OPTIONS, ...chance, settings, metrics: new Metrics() }, at(0));
}

/** What a node writes when one static entry is registered. */
function written() {
  const { rooms } = open(FRESH).finish();
  rooms.registrar.register(caller("ann"), command([stamped("web")], { isStatic: true }), at(0));
  const batch = rooms.registrar.takeBatch();
  if (batch === undefined) throw new Error("nothing is written");
  return batch;
}

test("rows and leases of the disk are back when the rooms are, and readers are owed nothing of them", () => {
  const { puts, leases, lastSeq, floor } = written();
  const opening = open({ ...FRESH, generation: 5, lastSeq, floor, leases });
  for (const row of puts) opening.row(row);
  const { rooms, againCount } = opening.finish();
  expect([opening.renewed, againCount]).toEqual([undefined, 0]);
  expect([rooms.replica.lookup.size, rooms.leases.size]).toEqual([1, 1]);
  expect([[...rooms.replica.takeTouched()], rooms.identity.generation, rooms.registrar.hasWork]).toEqual([[], 5, false]);
});

test("where the settings name another region now, entries of the disk are written again with it", () => {
  const { puts, leases, lastSeq, floor } = written();
  const opening = open({ ...FRESH, lastSeq, floor, leases }, "r2");
  for (const row of puts) opening.row(row);
  const { rooms, againCount } = opening.finish();
  expect([againCount, rooms.registrar.takeBatch()?.puts.map(({ seq }) => seq)]).toEqual([1, [lastSeq + 1]]);
  expect(rooms.replica.own(keyOf("web"))?.traits.region).toBe("r2");
});

test("a generation that no node accepts is replaced", () => {
  const opening = open({ ...FRESH, generation: MAX_SEQ + 1 });
  expect([opening.renewed, opening.finish().rooms.identity.generation]).toEqual([77, 77]);
});

test("before a node serves callers its tombstones stay, whatever their age", () => {
  const { rooms } = open(FRESH).finish();
  expect(rooms.machine.collectsBy(at(0))).toBe("nothing");
  expect([rooms.machine.readiness.isReady, rooms.reads.node.boot]).toEqual([false, "b1"]);
});

test("the checks that a node runs for a tenant count against quotas.tenant_checks", () => {
  const checked = (name: string) =>
    command([stampedBy("red", name, { checks: [{ probe: { case: "ttl", value: {} } }] })], { isStatic: true });
  const who = { ...caller("ann"), tenant: "red" };
  const before = open(FRESH).finish().rooms;
  before.registrar.register(who, checked("first"), at(0));
  const { puts = [], ...rest } = before.registrar.takeBatch() ?? {};
  const opening = open({ ...FRESH, ...rest }, "r1", { tenantChecks: 1 });
  for (const row of puts) opening.row(row);
  const { registrar } = opening.finish().rooms;
  expect(() => registrar.register(who, checked("second"), at(0))).toThrow(/tenant "red" has 1 of at most 1 check/);
});
