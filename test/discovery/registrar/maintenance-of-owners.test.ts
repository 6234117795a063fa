/** Whose order about maintenance counts for whom: of operators for all, of an owner for its own entries (semantics.md, Maintenance). */
import { expect, test } from "vitest";
import type { MaintenanceOverride } from "../../../src/catalog/record/maintenance.ts";
import { BODY, HEALTH } from "../../../src/catalog/record/record.ts";
import type { RequestedOverride } from "../../../src/discovery/registrar/maintenance.ts";
import { MAX_STAMP, stampOf } from "../../../src/lib/hlc.ts";
import { at, caller, command, keyOf, Registry, stamped, WALL } from "../../fakes/registry.ts";

const WEB = keyOf("web");
const ON = { isOn: true, reason: "", untilMs: 0 };
const OFF = { isOn: false, reason: "", untilMs: 0 };

function order(r: Registry, said: typeof ON, by: string, ms: number): string {
  const ordered: RequestedOverride = { ...said, reason: said.isOn ? by : "", giver: by, isOperator: by === "op" };
  const [outcome] = r.registrar.orderMaintenance([WEB], ordered, at(ms));
  r.flush(at(ms));
  return outcome?.kind === "refused" ? outcome.reason : (outcome?.kind ?? "");
}

/** Whose order the entry goes by, as its reason says, and whether it shows that. */
function shown(r: Registry): string {
  const isShown = r.replica.view(WEB)?.health === HEALTH.MAINTENANCE;
  const { operators, owners } = r.replica.view(WEB)?.orders ?? {};
  const by = [operators, owners].filter((each) => each?.isOn === true).map((each) => each?.reason);
  return `${isShown ? "in maintenance" : "in traffic"}, ordered by ${by.join(" and ") || "nobody"}`;
}

function put(r: Registry, principal: string, ms: number): void {
  r.register(principal, [stamped("web")], at(ms));
  r.flush(at(ms));
}

function takeOut(r: Registry, principal: string, ms: number): void {
  r.registrar.unregisterKeys(caller(principal), [WEB], at(ms));
  r.flush(at(ms));
}

function orderAt(ms: number, said: Partial<MaintenanceOverride> = {}): MaintenanceOverride {
  return { hlc: stampOf(WALL + ms), isOn: true, reason: "ann", untilMs: 0, giver: "ann", ...said };
}

test.each([
  { by: "ann", next: "ann", expected: "in maintenance, ordered by ann" },
  { by: "ann", next: "bob", expected: "in traffic, ordered by nobody" },
  { by: "op", next: "ann", expected: "in maintenance, ordered by op" },
  { by: "op", next: "bob", expected: "in maintenance, ordered by op" },
])("an order of $by about an entry of ann, when $next registers the key: $expected", ({ by, next, expected }) => {
  for (const isRestarted of [false, true]) {
    const r = new Registry();
    put(r, "ann", 0);
    order(r, ON, by, 10);
    takeOut(r, "ann", 20);
    if (isRestarted) r.restart(at(25));
    put(r, next, 30);
    expect(shown(r), `restarted ${isRestarted}`).toBe(expected);
  }
});

test("an order that another principal's registration ended does not come back when its giver registers the key again", () => {
  const r = new Registry();
  put(r, "ann", 0);
  order(r, ON, "ann", 10);
  takeOut(r, "ann", 20);
  put(r, "bob", 30);
  takeOut(r, "bob", 40);
  r.restart(at(45));
  put(r, "ann", 50);
  expect(shown(r)).toBe("in traffic, ordered by nobody");
});

test("who registers a live key of another principal ends that one's order too, also with the same content", () => {
  const r = new Registry();
  put(r, "ann", 0);
  order(r, ON, "ann", 10);
  r.registrar.register(caller("bob", ["mesh.admin"]), command([stamped("web")]), at(20));
  r.flush(at(20));
  expect([shown(r), r.replica.view(WEB)?.principal]).toEqual(["in traffic, ordered by nobody", "bob"]);
});

test.each([
  { body: BODY.ENTRY, next: "ann", expected: "in maintenance, ordered by ann" },
  { body: BODY.EXPIRED, next: "ann", expected: "in maintenance, ordered by ann" },
  { body: BODY.EXPIRED, next: "bob", expected: "in traffic, ordered by nobody" },
])(
  "so it is at the next node: ordered by ann at another node (body $body), registered here by $next: $expected",
  ({ body, next, expected }) => {
    const r = new Registry();
    r.receive(stamped("web"), { body, hlcMs: 10, nodeId: "b", orders: { owners: orderAt(5) } }, at(10));
    put(r, next, 20);
    expect(shown(r)).toBe(expected);
  },
);

test("the end that follows from a registration ends nothing that was ordered since: it stands just above the order", () => {
  const r = new Registry();
  r.receive(stamped("web"), { body: BODY.EXPIRED, hlcMs: 10, nodeId: "b", orders: { owners: orderAt(5) } }, at(10));
  put(r, "bob", 20);
  const end = { ...orderAt(5), hlc: orderAt(5).hlc + 1, isOn: false, reason: "" };
  expect(r.replica.own(WEB)?.orders).toEqual({ owners: end });
  // No stamp is above the newest that there may be. Of two with one stamp the end counts.
  const last = new Registry();
  const ordered = { owners: orderAt(0, { hlc: MAX_STAMP }) };
  last.receive(stamped("web"), { body: BODY.EXPIRED, hlcMs: 10, nodeId: "b", orders: ordered }, at(10));
  put(last, "bob", 20);
  takeOut(last, "bob", 30);
  put(last, "ann", 40);
  expect(shown(last)).toBe("in traffic, ordered by nobody");
});

test("of an owner's order and a registration by another principal that cross, the registration ends the order if it is the later one", () => {
  const results = [10, 30].map((orderMs) => {
    const r = new Registry();
    put(r, "bob", 20);
    const orders = { owners: orderAt(orderMs) };
    r.receive(stamped("web"), { body: BODY.EXPIRED, hlcMs: 0, nodeId: "b", orders }, at(40));
    r.registrar.applyRemoteChanges([WEB], at(40));
    r.flush(at(40));
    expect(r.replica.view(WEB)?.health).toBe(HEALTH.HEALTHY);
    r.registrar.applyRemoteChanges([WEB], at(50));
    expect(r.registrar.hasWork).toBe(false);
    return r.replica.own(WEB)?.orders?.owners?.isOn;
  });
  // A later one is ann's about an entry of ann's, of which this node has not heard yet.
  expect(results).toEqual([false, true]);
});

test("the same words of another giver are another order", () => {
  const r = new Registry();
  put(r, "bob", 20);
  r.receive(stamped("web"), { body: BODY.EXPIRED, hlcMs: 0, nodeId: "b", orders: { owners: orderAt(30, { reason: "bob" }) } }, at(40));
  r.registrar.applyRemoteChanges([WEB], at(40));
  r.flush(at(40));
  expect([order(r, ON, "bob", 50), shown(r)]).toEqual(["changed", "in maintenance, ordered by bob"]);
});

test("an owner's order is stamped above the entry's record, whatever clock wrote that: it is not older than the registration", () => {
  const r = new Registry();
  r.receive(stamped("web"), { body: BODY.UNREGISTERED, hlcMs: 60_000, nodeId: "b" }, at(0));
  put(r, "ann", 10);
  order(r, ON, "ann", 20);
  const { hlc = 0, orders } = r.replica.own(WEB) ?? {};
  expect([hlc > stampOf(WALL + 60_000), (orders?.owners?.hlc ?? 0) > hlc, shown(r)]).toEqual([
    true,
    true,
    "in maintenance, ordered by ann",
  ]);
});

test("an entry with the newest stamp that there may be can be taken out for maintenance, too", () => {
  const r = new Registry();
  const hlcMs = (MAX_STAMP - 1) / stampOf(1) - WALL;
  r.receive(stamped("web", { tags: ["theirs"] }), { body: BODY.ENTRY, hlcMs, nodeId: "b" }, at(0));
  r.registrar.handOver.take({ nodeId: "b", generation: 1 }, [1], at(10));
  r.flush(at(10));
  expect([r.replica.own(WEB)?.hlc, order(r, ON, "op", 20), shown(r)]).toEqual([MAX_STAMP, "changed", "in maintenance, ordered by op"]);
});

test("an owner ends its own order and not an operator's; an operator ends both", () => {
  const r = new Registry();
  put(r, "ann", 0);
  expect([order(r, ON, "op", 10), order(r, OFF, "ann", 20), shown(r)]).toEqual([
    "changed",
    "discovery_access_denied",
    "in maintenance, ordered by op",
  ]);
  // Both may have ordered it. The operator's is said; when it ends by itself, the owner's is.
  expect([order(r, ON, "ann", 30), shown(r)]).toEqual(["changed", "in maintenance, ordered by op and ann"]);
  expect([order(r, OFF, "ann", 40), shown(r)]).toEqual(["changed", "in maintenance, ordered by op"]);
  expect([order(r, ON, "ann", 50), order(r, OFF, "op", 60), shown(r)]).toEqual(["changed", "changed", "in traffic, ordered by nobody"]);
  expect([order(r, OFF, "ann", 70), order(r, OFF, "op", 80)]).toEqual(["unchanged", "unchanged"]);
  expect([order(r, ON, "ann", 90), order(r, ON, "ann", 100), order(r, OFF, "op", 110), shown(r)]).toEqual([
    "changed",
    "unchanged",
    "changed",
    "in traffic, ordered by nobody",
  ]);
});

test("an operator's order and an owner's, given at two nodes that do not know of each other, both count, whichever is the later one", () => {
  for (const operatorMs of [5, 50]) {
    const r = new Registry();
    put(r, "ann", 0);
    order(r, ON, "ann", 20);
    const orders = { operators: orderAt(operatorMs, { giver: "op", reason: "op" }) };
    r.receive(stamped("web"), { body: BODY.EXPIRED, hlcMs: -10, nodeId: "b", orders }, at(60));
    r.registrar.applyRemoteChanges([WEB], at(60));
    r.flush(at(60));
    expect(shown(r)).toBe("in maintenance, ordered by op and ann");
  }
});

test("two orders about one entry end by themselves each at its time, and what is said follows", () => {
  const r = new Registry();
  put(r, "ann", 0);
  order(r, { ...ON, untilMs: WALL + 5000 }, "op", 10);
  order(r, { ...ON, untilMs: WALL + 9000 }, "ann", 20);
  const said: string[] = [];
  for (const ms of [4000, 5000, 9000, 12_000]) {
    r.registrar.tick(at(ms));
    const isChanged = r.registrar.hasWork;
    r.flush(at(ms));
    const health = r.replica.view(WEB)?.health;
    said.push(`${ms}: ${health === HEALTH.MAINTENANCE ? "in maintenance" : "in traffic"}${isChanged ? ", changed" : ""}`);
  }
  expect(said).toEqual(["4000: in maintenance", "5000: in maintenance, changed", "9000: in traffic, changed", "12000: in traffic"]);
});

test("an order of a version that did not say who gave it is taken for an operator's, so the entry stays out of traffic", () => {
  const r = new Registry();
  r.receive(stamped("web"), { body: BODY.EXPIRED, hlcMs: 10, nodeId: "b", orders: { operators: orderAt(5, { giver: "" }) } }, at(10));
  put(r, "bob", 20);
  expect([shown(r), order(r, OFF, "bob", 30), order(r, OFF, "op", 40)]).toEqual([
    "in maintenance, ordered by ann",
    "discovery_access_denied",
    "changed",
  ]);
});

test("an order that was over before a restart makes no record after it", () => {
  const r = new Registry();
  put(r, "ann", 0);
  order(r, { ...ON, untilMs: WALL + 5000 }, "ann", 10);
  r.registrar.tick(at(5000));
  r.flush(at(5000));
  r.restart(at(6000));
  r.registrar.tick(at(7000));
  expect([r.registrar.hasWork, r.replica.view(WEB)?.health]).toEqual([false, HEALTH.HEALTHY]);
});

test("an order for a key that is gone goes to the node whose tombstone has what was ordered last", () => {
  const r = new Registry();
  r.receive(stamped("web"), { body: BODY.EXPIRED, hlcMs: 50, nodeId: "c" }, at(100));
  r.receive(stamped("web"), { body: BODY.EXPIRED, hlcMs: 10, nodeId: "b", orders: { owners: orderAt(5) } }, at(100));
  expect(r.registrar.orderTarget(caller("ann"), WEB, "keys[0]")?.nodeId).toBe("b");
});

test("when an order is over by its time, later reports make one record each", () => {
  const r = new Registry();
  put(r, "ann", 0);
  order(r, { ...ON, untilMs: WALL + 5000 }, "ann", 10);
  r.registrar.tick(at(5000));
  r.flush(at(5000));
  r.registrar.renew(caller("ann"), [], [{ key: WEB, path: "", health: HEALTH.DEGRADED, load: undefined }], at(6000));
  r.flush(at(6000));
  r.registrar.tick(at(7000));
  expect([r.registrar.hasWork, r.replica.view(WEB)?.health]).toEqual([false, HEALTH.DEGRADED]);
});
