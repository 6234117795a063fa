/**
 * What is still said of an entry at the node from which its key has moved: it takes nothing back, whether this node has heard of the move or
 * not (semantics.md, Several origins for one key).
 */
import { expect, test } from "vitest";
import { FAILURE } from "../../../src/catalog/entry/checks.ts";
import { BODY, HEALTH } from "../../../src/catalog/record/record.ts";
import { stampOf } from "../../../src/lib/hlc.ts";
import type { Time } from "../../../src/lib/machine.ts";
import { at, caller, keyOf, Registry, stamped, WALL } from "../../fakes/registry.ts";

const WEB = keyOf("web");
const TARGETS = [{ host: "10.0.0.1", port: 80 }];
const CHECKS = [{ probe: { case: "tcp", value: {} } } as const];

function report(r: Registry, said: { health?: 2 | 3; utilization?: number }, time: Time): void {
  const load = said.utilization === undefined ? undefined : { ...NO_LOAD, utilization: said.utilization };
  r.registrar.renew(caller("ann"), [], [{ key: WEB, path: "", health: said.health, load }], time);
}

const NO_LOAD = { activeClients: 0, errorRate: 0, latencyMs: 0, observedWallMs: 0 };

const ACTS = [
  { what: "a report of its health", act: (r: Registry, time: Time) => report(r, { health: HEALTH.DEGRADED }, time) },
  { what: "a report of its load", act: (r: Registry, time: Time) => report(r, { utilization: 90 }, time) },
  {
    what: "what its checks find",
    act: (r: Registry, time: Time) => r.registrar.found(WEB, [{ health: HEALTH.CRITICAL, failure: FAILURE.REFUSED, httpStatus: 0 }], time),
  },
  {
    what: "an order that was on its way",
    act: (r: Registry, time: Time) => {
      const ordered = { isOn: true, reason: "", untilMs: 0, giver: "op", isOperator: true };
      r.registrar.orderMaintenance([WEB], ordered, time);
    },
  },
];

test.each(ACTS)("$what, at the node where the key was before: the entry stays where it was registered last", ({ act }) => {
  for (const isKnown of [true, false]) {
    const r = new Registry();
    r.register("ann", [stamped("web", { targets: TARGETS, checks: CHECKS })], at(0));
    const moved = () => r.receive(stamped("web"), { body: BODY.ENTRY, hlcMs: 100, nodeId: "b" }, at(150));
    if (isKnown) moved();
    act(r, at(200));
    r.flush(at(200));
    if (!isKnown) moved();
    expect(r.replica.view(WEB)?.origin.nodeId, `known ${isKnown}`).toBe("b");
    // It is kept with the entry of this node, which is shown when the other one's ends.
    r.receive(stamped("web"), { body: BODY.EXPIRED, hlcMs: 100, nodeId: "b" }, at(300));
    expect([r.replica.view(WEB)?.origin, r.replica.view(WEB)?.seq]).toEqual([r.replica.self, r.replica.lastSeq]);
  }
});

test("the order that was on its way goes with the key: the node where it is registered now hears of it by the record of the old one", () => {
  const old = new Registry();
  old.register("ann", [stamped("web")], at(0));
  old.registrar.orderMaintenance([WEB], { isOn: true, reason: "disks", untilMs: 0, giver: "op", isOperator: true }, at(200));
  old.flush(at(200));
  const { orders, hlc = 0 } = old.replica.own(WEB) ?? {};
  const next = new Registry();
  next.register("ann", [stamped("web")], at(100));
  next.receive(stamped("web"), { body: BODY.ENTRY, hlcMs: hlc / stampOf(1) - WALL, nodeId: "b", ...(orders && { orders }) }, at(250));
  next.registrar.applyRemoteChanges([WEB], at(250));
  next.flush(at(250));
  const { origin, health } = next.replica.view(WEB) ?? {};
  expect([origin, health]).toEqual([next.replica.self, HEALTH.MAINTENANCE]);
});

test("what was unregistered elsewhere is not put again by a report of which the one who sent it knew nothing", () => {
  const r = new Registry();
  r.register("ann", [stamped("web")], at(0));
  report(r, { health: HEALTH.DEGRADED }, at(200));
  r.flush(at(200));
  r.receive(stamped("web"), { body: BODY.UNREGISTERED, hlcMs: 100, nodeId: "b" }, at(300));
  expect(r.replica.view(WEB)).toBeUndefined();
});
