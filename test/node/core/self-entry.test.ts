/** The own entry is registered, and its load told after five seconds and then twice a minute; what is refused is tried again. */
import { expect, test } from "vitest";
import { WaymarkError } from "../../../src/lib/errors.ts";
import { NEVER } from "../../../src/lib/machine.ts";
import { SelfEntry } from "../../../src/node/core/self-entry.ts";
import { driven } from "../../fakes/node-part.ts";
import { at, caller, Registry, stamped } from "../../fakes/registry.ts";

const LOAD = { activeClients: 3, errorRate: 0, latencyMs: 0, utilization: 0.5, observedWallMs: 0 };
const MEASURE = { kind: "measureLoad" };
const ENTRY = { caller: caller("node a"), urls: [], stampAt: () => stamped("self") };

function open() {
  const r = new Registry();
  let fault: Error | undefined;
  const registrar = {
    register: (...args: Parameters<typeof r.registrar.register>) => {
      if (fault !== undefined) throw fault;
      return r.registrar.register(...args);
    },
    renew: (...args: Parameters<typeof r.registrar.renew>) => r.registrar.renew(...args),
    unregisterKeys: (...args: Parameters<typeof r.registrar.unregisterKeys>) => r.registrar.unregisterKeys(...args),
  };
  const self = new SelfEntry(registrar);
  return { r, self, give: driven(self), refuse: (error: Error | undefined) => (fault = error) };
}

test("it is registered at once, and its load asked for after five seconds and then each thirty", () => {
  const { r, self, give } = open();
  const tick = (ms: number) => give({ kind: "tick" }, at(ms));
  expect([tick(0), self.nextDeadlineMs()]).toEqual([[], NEVER]);
  expect(give({ kind: "publish", entry: ENTRY }, at(0))).toEqual([]);
  r.flush(at(1));
  expect([r.names(), self.nextDeadlineMs()]).toEqual([["self"], at(5000).monoMs]);
  expect([tick(4999), tick(5000), tick(5001), tick(35_000)]).toEqual([[], [MEASURE], [], [MEASURE]]);
  expect(give({ kind: "load", load: LOAD }, at(35_000))).toEqual([]);
  expect(r.registrar.loads.of(stamped("self").key)?.activeClients).toBe(3);
});

test("what a clock that is off refuses is tried again with the next load", () => {
  const { r, give, refuse } = open();
  const error = new WaymarkError("clock_skew", "an hour ahead");
  refuse(error);
  const refused = { kind: "selfRefused", error };
  expect(give({ kind: "publish", entry: ENTRY }, at(0))).toEqual([refused]);
  expect(give({ kind: "load", load: LOAD }, at(5000))).toEqual([refused, MEASURE]);
  refuse(undefined);
  expect(give({ kind: "load", load: LOAD }, at(34_999))).toEqual([]);
  r.flush(at(35_001));
  expect(r.names()).toEqual(["self"]);
});

test("a change that the disk refused is written a second later, with the next load", () => {
  const { r, give } = open();
  const refuse = (atMs: number) => {
    r.refuse();
    give({ kind: "notPersisted", error: new Error("no space left") }, at(atMs));
  };
  give({ kind: "publish", entry: ENTRY }, at(0));
  refuse(100);
  expect([r.names(), give({ kind: "tick" }, at(1099)), give({ kind: "tick" }, at(1100))]).toEqual([[], [], [MEASURE]]);
  give({ kind: "load", load: LOAD }, at(1100));
  r.flush(at(1200));
  expect(r.names()).toEqual(["self"]);
});

test("a node that drains reports nothing any more", () => {
  const { r, self, give } = open();
  give({ kind: "publish", entry: ENTRY }, at(0));
  self.drain();
  expect([self.nextDeadlineMs(), give({ kind: "load", load: LOAD }, at(5000)), r.registrar.loads.of(stamped("self").key)]).toEqual([
    NEVER,
    [],
    undefined,
  ]);
});
