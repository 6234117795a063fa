/** The own entry is registered, and its load told after five seconds and then twice a minute; what is refused is tried again. */
import { expect, test } from "vitest";
import { WaymarkError } from "../../../src/lib/errors.ts";
import { SelfEntry } from "../../../src/node/core/self-entry.ts";
import { at, caller, Registry, stamped } from "../../fakes/registry.ts";

const LOAD = { activeClients: 3, errorRate: 0, latencyMs: 0, utilization: 0.5, observedWallMs: 0 };
const ENTRY = { caller: caller("node a"), stampAt: () => stamped("self") };

function open() {
  const r = new Registry();
  let fault: Error | undefined;
  const registrar = {
    register: (...args: Parameters<typeof r.registrar.register>) => {
      if (fault !== undefined) throw fault;
      return r.registrar.register(...args);
    },
    renew: (...args: Parameters<typeof r.registrar.renew>) => r.registrar.renew(...args),
  };
  return { r, self: new SelfEntry(registrar), refuse: (error: Error | undefined) => (fault = error) };
}

test("it is registered at once, and its load asked for after five seconds and then each thirty", () => {
  const { r, self } = open();
  expect([self.isDue(at(0)), self.nextDeadlineMs()]).toEqual([false, Number.POSITIVE_INFINITY]);
  expect(self.publish(ENTRY, at(0))).toBeUndefined();
  r.flush(at(1));
  expect([r.names(), self.nextDeadlineMs()]).toEqual([["self"], at(5000).monoMs]);
  expect([self.isDue(at(4999)), self.isDue(at(5000)), self.isDue(at(5001)), self.isDue(at(35_000))]).toEqual([false, true, false, true]);
  expect(self.measured(LOAD, at(35_000))).toBeUndefined();
  expect(r.registrar.loads.of(stamped("self").key)?.activeClients).toBe(3);
});

test("what a clock that is off refuses is tried again with the next load", () => {
  const { r, self, refuse } = open();
  const error = new WaymarkError("clock_skew", "an hour ahead");
  refuse(error);
  expect([self.publish(ENTRY, at(0)), self.measured(LOAD, at(5000))]).toEqual([error, error]);
  refuse(undefined);
  expect(self.measured(LOAD, at(35_000))).toBeUndefined();
  r.flush(at(35_001));
  expect(r.names()).toEqual(["self"]);
});

test("a node that drains reports nothing any more", () => {
  const { r, self } = open();
  self.publish(ENTRY, at(0));
  self.end();
  expect([self.nextDeadlineMs(), self.measured(LOAD, at(5000)), r.registrar.loads.of(stamped("self").key)]).toEqual([
    Number.POSITIVE_INFINITY,
    undefined,
    undefined,
  ]);
});
