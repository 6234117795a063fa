/** Which batch a caller waits for, and when leases are looked at, without a journal. */
import { expect, test } from "vitest";
import { CommitCycle } from "../../../src/discovery/registrar/commit-cycle.ts";
import { at, caller, command, Registry, stamped } from "../../fakes/registry.ts";

function cycling() {
  const r = new Registry();
  const cycle = new CommitCycle(r.registrar, at(0));
  const register = (name: string, ms = 0, ttlMs?: number) =>
    r.registrar.register(caller("ann"), command([stamped(name)], ttlMs === undefined ? { isStatic: true } : { ttlMs }), at(ms));
  const land = (ms: number) => {
    const landed = cycle.landed(at(ms));
    return landed;
  };
  return { r, cycle, register, land };
}

test("who has nothing staged waits for the batch on its way, or for nothing", () => {
  const { cycle, register, land } = cycling();
  expect(cycle.durable()).toBe(0);
  register("web");
  expect(cycle.durable()).toBe(1);
  expect(cycle.start()?.lastSeq).toBe(1);
  expect(cycle.durable()).toBe(1);
  register("db");
  expect([cycle.durable(), cycle.start()]).toEqual([2, undefined]);
  expect(land(1)).toBe(1);
  expect(cycle.durable()).toBe(2);
  expect(cycle.start()?.lastSeq).toBe(2);
  expect([land(2), cycle.durable(), cycle.start()]).toEqual([2, 0, undefined]);
});

test("a refused batch takes back what was staged behind it, and no later number", () => {
  const { r, cycle, register } = cycling();
  register("web");
  cycle.start();
  register("db");
  expect(cycle.refused()).toBe(2);
  expect([cycle.durable(), r.registrar.hasWork]).toEqual([0, false]);
  register("web");
  expect(cycle.durable()).toBe(3);
  cycle.start();
  expect(cycle.durable()).toBe(3);
});

test("leases are looked at once a second, however often something is committed", () => {
  const { cycle, register, land } = cycling();
  for (let ms = 300; ms <= 900; ms += 300) {
    register(`web-${ms}`, ms);
    cycle.start();
    land(ms);
    expect(cycle.nextDeadlineMs()).toBe(at(1000).monoMs);
  }
  cycle.tick(at(999));
  expect(cycle.nextDeadlineMs()).toBe(at(1000).monoMs);
  cycle.tick(at(1000));
  expect(cycle.nextDeadlineMs()).toBe(at(2000).monoMs);
});

test("a lease that runs out is looked at when it does, 5 ms after the last look at the earliest", () => {
  const { r, cycle, register, land } = cycling();
  register("web", 0, 1000);
  cycle.start();
  land(0);
  cycle.tick(at(1000));
  expect([r.names(), r.registrar.hasWork]).toEqual([["web"], true]);
  register("db", 1000, 1000);
  cycle.start();
  land(1001);
  cycle.tick(at(1998));
  expect(cycle.nextDeadlineMs()).toBe(at(2000).monoMs);
  cycle.tick(at(2000));
  expect(cycle.nextDeadlineMs()).toBeGreaterThanOrEqual(at(2005).monoMs);
});
