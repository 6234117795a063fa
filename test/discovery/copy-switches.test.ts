/** Changes of policy at a copy, which begin and are shown when the replica that it follows says so. */
import { expect, test } from "vitest";
import { CopySwitches } from "../../src/discovery/copy-switches.ts";
import { Fanout } from "../../src/discovery/fanout.ts";
import { Reads } from "../../src/discovery/reads.ts";
import { NEVER } from "../../src/lib/machine.ts";
import { NO_POLICY, Policy } from "../../src/policy/set/verdict.ts";
import { rule, set } from "../fakes/policies.ts";
import { caller, Registry } from "../fakes/registry.ts";

const MANY = 1000;
const HIDING = new Policy(set([rule("svc", { visibilityTenants: ["blue"] })], { defaultAllow: true }), 1);

function open() {
  const { replica } = new Registry();
  const policies = { policy: NO_POLICY };
  const reads = new Reads(replica, { nodeId: "a", clusterId: "c1", region: "r1", boot: "b" }, { policies, onDenied: () => {} });
  const fanout = new Fanout();
  const switches = new CopySwitches({ policies, replica, reads, fanout });
  const end = (monoMs: number) => {
    while (!switches.step(MANY, { monoMs }));
  };
  return { policies, reads, fanout, switches, end };
}

test("a change waits for the word that all records follow it, then tells watches in slices, and has the number that it was begun with", () => {
  const { policies, reads, switches, end } = open();
  policies.policy = HIDING;
  switches.begin(7);
  const time = { monoMs: 3 };
  expect([switches.look(time), switches.shown, switches.isRunning, switches.isWaiting, switches.step(MANY, time)]).toEqual([
    7,
    0,
    true,
    true,
    false,
  ]);
  expect([switches.isHeard(time), switches.nextDeadlineMs(), reads.isSettled]).toEqual([false, NEVER, false]);
  switches.show();
  expect([switches.isWaiting, reads.isSettled]).toEqual([false, false]);
  end(3);
  expect([switches.look(time), switches.shown, switches.isRunning, reads.isSettled]).toEqual([7, 7, false, true]);
  expect([switches.isHeard(time), switches.step(MANY, time)]).toEqual([true, false]);
});

test("what is in force when the copy is whole was never changed to", () => {
  const { policies, reads, switches } = open();
  policies.policy = HIDING;
  expect(reads.isSettled).toBe(false);
  switches.start();
  expect([reads.isSettled, switches.isRunning, reads.verdict(caller("ann"), "svc").allowed]).toEqual([true, false, false]);
});

test("a slice takes longer when the change has taken long, since the first slice", () => {
  const { policies, switches, end } = open();
  policies.policy = HIDING;
  switches.begin(1);
  switches.show();
  expect([1000, 2499, 2500].map((monoMs) => switches.sliceMs({ monoMs }))).toEqual([5, 5, 15]);
  expect(() => switches.begin(2)).toThrow("before the one before is complete");
  end(2500);
  expect(switches.sliceMs({ monoMs: 9000 })).toBe(5);
});
