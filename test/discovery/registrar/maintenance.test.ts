/** Orders about maintenance, at the node where an entry is registered (semantics.md, Maintenance). */
import { create } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import { EntryKeySchema, EntrySchema } from "../../../gen/waymark/catalog/v1/entry_pb.js";
import { checksOf, FAILURE } from "../../../src/catalog/entry/checks.ts";
import { EntryStamper } from "../../../src/catalog/entry/codec.ts";
import type { MaintenanceOverride } from "../../../src/catalog/record/maintenance.ts";
import { BODY, HEALTH, viewHealth } from "../../../src/catalog/record/record.ts";
import { TraitsPool } from "../../../src/catalog/record/traits.ts";
import type { RequestedOverride } from "../../../src/discovery/registrar/maintenance.ts";
import { stampOf } from "../../../src/lib/hlc.ts";
import { BOUNDS } from "../../fakes/options.ts";
import { at, caller, command, keyOf, Registry, stamped, WALL } from "../../fakes/registry.ts";

const ON: RequestedOverride = { isOn: true, reason: "new disks", untilMs: 0, giver: "op", isOperator: true };
const OFF: RequestedOverride = { isOn: false, reason: "", untilMs: 0, giver: "op", isOperator: true };
const WEB = keyOf("web");

/** Ordered by the owner of an entry. */
function by(giver: string, ordered: RequestedOverride): RequestedOverride {
  return { ...ordered, giver, isOperator: false };
}

const TARGETS = [{ host: "10.0.0.1", port: 80 }];
const TCP = { probe: { case: "tcp", value: {} } } as const;

function order(r: Registry, ordered: RequestedOverride, ms: number, name = "web"): string {
  const [outcome] = r.registrar.orderMaintenance([keyOf(name)], ordered, at(ms));
  r.flush(at(ms));
  return outcome?.kind === "refused" ? outcome.reason : (outcome?.kind ?? "");
}

function shown(r: Registry) {
  const record = r.replica.view(WEB);
  return record && { ...checksOf(r.replica.slab.view(record.at, record.sizeBytes)), health: viewHealth(record) };
}

/** Health as readers see it, what the client reported, and the reason. */
function state(r: Registry): readonly unknown[] {
  const { health, reportedHealth, maintenance } = shown(r) ?? {};
  // What indexes and filters go by is what the entry says.
  expect(r.replica.view(WEB)?.health).toBe(health);
  return [health, reportedHealth, maintenance?.reason];
}

const SHOWN = [HEALTH.MAINTENANCE, HEALTH.HEALTHY, "new disks"];
const OVER = [HEALTH.HEALTHY, HEALTH.UNSET, undefined];

function orderAt(ms: number, said: Partial<MaintenanceOverride> = {}): MaintenanceOverride {
  return { hlc: stampOf(WALL + ms), isOn: true, reason: "new disks", untilMs: 0, giver: "op", ...said };
}

test("an order shows MAINTENANCE until it is ended, and what the client reported comes back, byte for byte", () => {
  const r = new Registry();
  r.register("ann", [stamped("web")], at(0));
  const { contentBytes } = r.replica.view(WEB) ?? {};
  expect([order(r, ON, 10), ...state(r)]).toEqual(["changed", ...SHOWN]);
  expect([order(r, OFF, 20), ...state(r), r.replica.view(WEB)?.contentBytes]).toEqual(["changed", ...OVER, contentBytes]);
});

test("the same order again changes nothing, another reason or end does", () => {
  const r = new Registry();
  r.register("ann", [stamped("web")], at(0));
  const steps = [OFF, ON, ON, { ...ON, reason: "more disks" }, { ...ON, untilMs: WALL + 5000 }, OFF, OFF];
  expect(steps.map((step, i) => order(r, step, i))).toEqual([
    "unchanged",
    "changed",
    "unchanged",
    "changed",
    "changed",
    "changed",
    "unchanged",
  ]);
});

test.each([
  {
    what: "a report of health",
    act: (r: Registry) =>
      void r.registrar.renew(caller("ann"), [], [{ key: WEB, path: "", health: HEALTH.DEGRADED, load: undefined }], at(20)),
    reported: HEALTH.DEGRADED,
  },
  {
    what: "a registration with other content",
    act: (r: Registry) => void r.register("ann", [stamped("web", { health: 2, tags: ["x"] })], at(20)),
    reported: HEALTH.DEGRADED,
  },
  { what: "the same registration", act: (r: Registry) => void r.register("ann", [stamped("web")], at(20)), reported: HEALTH.HEALTHY },
  { what: "a restart", act: (r: Registry) => r.restart(at(20)), reported: HEALTH.HEALTHY },
  {
    what: "an end of the lease and a new registration",
    act: (r: Registry) => {
      r.registrar.tick(at(40_000));
      r.flush(at(40_000));
      expect(r.names()).toEqual([]);
      r.register("ann", [stamped("web")], at(40_001));
    },
    reported: HEALTH.HEALTHY,
  },
  {
    what: "an unregister, a restart and a new registration",
    act: (r: Registry) => {
      r.registrar.unregisterKeys(caller("ann"), [WEB], at(20));
      r.flush(at(20));
      r.restart(at(30));
      r.register("ann", [stamped("web")], at(40));
    },
    reported: HEALTH.HEALTHY,
  },
])("$what does not end it; the entry's own health shows again afterwards", ({ act, reported }) => {
  const r = new Registry();
  r.register("ann", [stamped("web")], at(0));
  order(r, ON, 10);
  act(r);
  r.flush(at(40_002));
  expect(state(r)).toEqual([HEALTH.MAINTENANCE, reported, "new disks"]);
  order(r, OFF, 50_000);
  expect(state(r)).toEqual([reported, HEALTH.UNSET, undefined]);
});

test("the same registration under an order makes no record", () => {
  const r = new Registry();
  r.register("ann", [stamped("web")], at(0));
  order(r, ON, 10);
  const { lastSeq } = r.replica;
  r.register("ann", [stamped("web")], at(20));
  expect(r.replica.lastSeq).toBe(lastSeq);
});

test("checks go on under an order, and what they have found shows when it ends", () => {
  const r = new Registry();
  const entry = () => stamped("web", { targets: TARGETS, checks: [TCP] });
  r.register("ann", [entry()], at(0));
  order(r, ON, 10);
  r.registrar.found(WEB, [{ health: HEALTH.CRITICAL, failure: FAILURE.REFUSED, httpStatus: 0 }], at(20));
  r.flush(at(20));
  r.register("ann", [entry()], at(30));
  expect([...state(r), shown(r)?.checkStates.map(({ health }) => health)]).toEqual([...SHOWN, [HEALTH.CRITICAL]]);
  order(r, OFF, 40);
  expect(state(r)).toEqual([HEALTH.CRITICAL, HEALTH.HEALTHY, undefined]);
});

test("it ends by itself at its time, also when the batch of the end is refused first, and after a restart", () => {
  for (const isRestarted of [false, true]) {
    const r = new Registry();
    r.register("ann", [stamped("web")], at(0), { isStatic: true });
    order(r, { ...ON, untilMs: WALL + 5000 }, 10);
    if (isRestarted) r.restart(at(20));
    r.registrar.tick(at(4999));
    expect(r.registrar.hasWork).toBe(false);
    r.registrar.tick(at(5000));
    r.refuse();
    expect(state(r)).toEqual(SHOWN);
    r.registrar.tick(at(6000));
    r.flush(at(6000));
    expect(state(r)).toEqual(OVER);
    r.registrar.tick(at(7000));
    expect(r.registrar.hasWork).toBe(false);
  }
});

test("an order that is over by its time is not taken over by a new registration", () => {
  const r = new Registry();
  r.register("ann", [stamped("web")], at(0));
  order(r, { ...ON, untilMs: WALL + 5000 }, 10);
  r.registrar.unregisterKeys(caller("ann"), [WEB], at(20));
  r.register("ann", [stamped("web")], at(5000));
  expect(state(r)).toEqual(OVER);
});

test("an order for a key that is gone for now is kept in its tombstone, and an end of it too", () => {
  const r = new Registry();
  r.register("ann", [stamped("web")], at(0));
  r.registrar.unregisterKeys(caller("ann"), [WEB], at(10));
  r.flush(at(10));
  expect([order(r, ON, 20), order(r, ON, 30), r.names()]).toEqual(["changed", "unchanged", []]);
  r.restart(at(40));
  r.register("ann", [stamped("web")], at(50));
  expect(state(r)).toEqual(SHOWN);
  r.registrar.unregisterKeys(caller("ann"), [WEB], at(60));
  r.flush(at(60));
  order(r, OFF, 70);
  r.register("ann", [stamped("web")], at(80));
  expect(state(r)).toEqual(OVER);
});

test.each([
  { what: "its record", body: BODY.ENTRY },
  { what: "its tombstone", body: BODY.EXPIRED },
])("the node where the key is registered next takes the order over from another node's record: $what", ({ body }) => {
  const r = new Registry();
  r.receive(stamped("web"), { body, hlcMs: 10, nodeId: "b", orders: { operators: orderAt(5) } }, at(10));
  r.register("ann", [stamped("web")], at(20));
  expect(state(r)).toEqual(SHOWN);
  // An end here counts against what the other node's record still says.
  order(r, OFF, 30);
  r.register("ann", [stamped("web", { tags: ["x"] })], at(40));
  expect(state(r)).toEqual(OVER);
});

test("of the orders in several records the newest counts, an end too, and a record of another cluster says nothing", () => {
  const r = new Registry();
  r.receive(stamped("web"), { body: BODY.EXPIRED, hlcMs: 10, nodeId: "b", orders: { operators: orderAt(10) } }, at(20));
  r.receive(stamped("web"), { body: BODY.EXPIRED, hlcMs: 9, nodeId: "c", orders: { operators: orderAt(11, { isOn: false }) } }, at(20));
  r.replica.origin("d", 1, { clusterId: "c2", region: "r1" });
  r.receive(stamped("web"), { body: BODY.EXPIRED, hlcMs: 8, nodeId: "d", orders: { operators: orderAt(12) } }, at(20));
  r.register("ann", [stamped("web")], at(30));
  expect(state(r)).toEqual(OVER);
});

test("an order that was given elsewhere while the key was registered here is taken up when it is heard, once", () => {
  const r = new Registry();
  r.register("ann", [stamped("web")], at(0));
  r.receive(stamped("web"), { body: BODY.ENTRY, hlcMs: -10, nodeId: "b", orders: { operators: orderAt(5) } }, at(10));
  r.registrar.applyRemoteChanges([WEB], at(10));
  r.flush(at(10));
  expect(state(r)).toEqual(SHOWN);
  r.registrar.applyRemoteChanges([WEB], at(20));
  expect(r.registrar.hasWork).toBe(false);
  // Refused by the journal, it is tried again.
  r.receive(stamped("web"), { body: BODY.ENTRY, hlcMs: -9, nodeId: "b", orders: { operators: orderAt(15, { isOn: false }) } }, at(20));
  r.registrar.applyRemoteChanges([WEB], at(20));
  r.refuse();
  r.registrar.tick(at(1000));
  r.flush(at(1000));
  expect(state(r)).toEqual(OVER);
});

test("an order that is taken up, or is over, brings no key back that has moved to another node", () => {
  const r = new Registry();
  r.register("ann", [stamped("web")], at(0));
  order(r, { ...ON, untilMs: WALL + 5000 }, 10);
  r.receive(stamped("web"), { body: BODY.ENTRY, hlcMs: 60_000, nodeId: "b", orders: { operators: orderAt(20, { isOn: false }) } }, at(100));
  r.registrar.applyRemoteChanges([WEB], at(100));
  r.flush(at(100));
  expect([r.replica.own(WEB)?.orders?.operators?.isOn, r.replica.view(WEB)?.origin.nodeId]).toEqual([false, "b"]);
  const other = new Registry();
  other.register("ann", [stamped("web")], at(0));
  order(other, { ...ON, untilMs: WALL + 5000 }, 10);
  other.hear("web", BODY.ENTRY, 60_000, at(100));
  other.registrar.tick(at(6000));
  other.flush(at(6000));
  expect([other.replica.own(WEB)?.health, other.replica.view(WEB)?.origin.nodeId]).toEqual([HEALTH.HEALTHY, "b"]);
});

test("a registration takes the key back also while the node's own record, which another one hides, is being written with a new order", () => {
  const r = new Registry();
  r.register("ann", [stamped("web")], at(0));
  order(r, ON, 10);
  r.receive(stamped("web"), { body: BODY.ENTRY, hlcMs: 50, nodeId: "b", orders: { operators: orderAt(60, { isOn: false }) } }, at(100));
  r.registrar.applyRemoteChanges([WEB], at(100));
  r.register("ann", [stamped("web")], at(110));
  expect([r.replica.view(WEB)?.origin.nodeId, ...state(r)]).toEqual(["a", ...OVER]);
  // What is seen, or will be when it is written, is registered already.
  r.registrar.register(caller("ann"), command([stamped("web", { tags: ["new"] })]), at(120));
  const { lastSeq } = r.replica;
  r.register("ann", [stamped("web", { tags: ["new"] })], at(130));
  expect(r.replica.lastSeq).toBe(lastSeq);
});

test("an order is only for the entries of the principal that gives it, unless an operator does", () => {
  const r = new Registry();
  r.register("ann", [stamped("web")], at(0));
  expect(order(r, by("bob", ON), 10)).toBe("discovery_access_denied");
  expect(order(r, by("ann", ON), 10)).toBe("changed");
  expect(order(r, OFF, 20)).toBe("changed");
});

test("an order is refused for what is not here: never registered, or registered elsewhere by now", () => {
  const r = new Registry();
  expect(order(r, ON, 0)).toBe("not_found");
  r.register("ann", [stamped("web")], at(0));
  r.hear("web", BODY.ENTRY, 60_000, at(10));
  expect(order(r, ON, 10)).toBe("version_conflict");
  expect(r.registrar.hasWork).toBe(false);
});

test("an entry that has no room for the reason goes without it, and one without any room is refused; both can be registered", () => {
  const wide = new EntryStamper({ bounds: { ...BOUNDS, maxEntryBytes: 30_000 }, traits: new TraitsPool() });
  const sized = (bytes: number) => {
    const metadata = Object.fromEntries(Array.from({ length: 29 }, (_, i) => [`k${10 + i}`, "x".repeat(i === 0 ? bytes : 1024)]));
    const key = create(EntryKeySchema, { namespace: "svc", name: "web", instanceId: "1" });
    const place = { nodeId: "a", clusterId: "c1", region: "r1", zone: "z1", tenantId: "", receivedWallMs: WALL };
    return wide.entryOf(create(EntrySchema, { key, metadata }), 0, place);
  };
  const reason = "é".repeat(128);
  const base = sized(700).content.length - 700;
  const results = [200, 20, 2].map((leftBytes) => {
    const r = new Registry();
    r.register("ann", [sized(30_000 - leftBytes - base)], at(0));
    const outcome = order(r, { ...ON, reason }, 10);
    return [outcome, shown(r)?.maintenance?.reason, r.replica.own(WEB)?.orders?.operators?.reason];
  });
  expect(results).toEqual([
    ["changed", "", reason],
    ["changed", "", reason],
    ["quota_exceeded", undefined, undefined],
  ]);
});

test("a node that takes a static entry over goes by its order, and ends it", () => {
  const r = new Registry();
  const untilMs = WALL + 5000;
  r.receive(
    stamped("web", { tags: ["theirs"] }),
    { body: BODY.ENTRY, hlcMs: 10, nodeId: "b", orders: { operators: orderAt(5, { untilMs }) } },
    at(10),
  );
  expect(r.registrar.handOver.take({ nodeId: "b", generation: 1 }, [1], at(20))).toBe(1);
  r.flush(at(20));
  expect(r.replica.own(WEB)?.orders?.operators).toEqual(orderAt(5, { untilMs }));
  r.registrar.tick(at(5000));
  r.flush(at(5000));
  expect(state(r)).toEqual(OVER);
});

test("the same order with another end is a change", () => {
  const r = new Registry();
  r.register("ann", [stamped("web")], at(0));
  const steps = [5000, 5000, 9000, 0].map((ms) => ({ ...ON, untilMs: ms && WALL + ms }));
  expect(steps.map((step, i) => order(r, step, i))).toEqual(["changed", "unchanged", "changed", "changed"]);
});

test("of several entries each ends its maintenance at its own time", () => {
  const r = new Registry();
  r.register("ann", [stamped("web"), stamped("api")], at(0));
  order(r, { ...ON, untilMs: WALL + 5000 }, 10);
  order(r, { ...ON, untilMs: WALL + 9000 }, 20, "api");
  const healthAt = (ms: number) => {
    r.registrar.tick(at(ms));
    r.flush(at(ms));
    return ["web", "api"].map((name) => r.replica.view(keyOf(name))?.health);
  };
  const { HEALTHY, MAINTENANCE } = HEALTH;
  expect([healthAt(5000), healthAt(9000)]).toEqual([
    [HEALTHY, MAINTENANCE],
    [HEALTHY, HEALTHY],
  ]);
});

test("an owner's order ends by itself after a restart, too", () => {
  const r = new Registry();
  r.register("ann", [stamped("web")], at(0), { isStatic: true });
  order(r, by("ann", { ...ON, untilMs: WALL + 5000 }), 10);
  r.restart(at(20));
  r.registrar.tick(at(5000));
  r.flush(at(5000));
  expect(state(r)).toEqual(OVER);
});
