/** Group commit: whose call waits for which batch, and what a refused one leaves behind. */
import { afterEach, expect, test } from "vitest";
import type { WriteBatch } from "../../src/catalog/batch.ts";
import { Fanout } from "../../src/discovery/fanout.ts";
import { Metrics } from "../../src/lib/metrics/metrics.ts";
import { NodeMachine } from "../../src/node/core.ts";
import { CoreDriver } from "../../src/node/core-driver.io.ts";
import { PolicyEngine } from "../../src/policy/versions/engine.ts";
import { at, caller, command, Registry, stamped } from "../fakes/registry.ts";
import { until } from "../fakes/until.ts";
import { noChecks } from "../fakes/watched-entries.ts";

const ANN = caller("ann");
const POLICIES = new PolicyEngine({ nodeId: "a", clusterId: "c1", maxVersions: 3, maxBytes: 1e6 });

/** Nobody asks by DNS, and nothing is limited. */
const IDLE = { dnsNames: { refresh: () => {} }, limits: { nextDeadlineMs: () => Number.POSITIVE_INFINITY, tick: () => {} } };

interface Write {
  readonly batch: WriteBatch;
  readonly land: () => void;
  readonly refuse: (error: Error) => void;
}

const open: { readonly driver: CoreDriver; readonly answer: () => void }[] = [];

afterEach(async () => {
  for (const { driver, answer } of open.splice(0)) {
    answer();
    await driver.close();
  }
});

/** A driver of a node that stands alone, over a journal that answers when the test says so. */
function committing() {
  const r = new Registry();
  const writes: Write[] = [];
  const committed: number[] = [];
  const clock = { ms: 0 };
  let isAnswering = false;
  const { replica, registrar } = r;
  const rooms = {
    replica,
    registrar,
    fanout: new Fanout(),
    policies: POLICIES,
    metrics: new Metrics(),
    checks: noChecks(),
    hasSeeds: false,
    addressesMs: 60_000,
    hasWorkers: false,
    ...IDLE,
  };
  const driver = new CoreDriver(new NodeMachine({ ...rooms, newGeneration: () => 2 }, at(0)), {
    write: (batch) =>
      new Promise<void>((resolve, reject) => {
        writes.push({
          batch,
          land: () => {
            r.disk.write(batch);
            resolve();
          },
          refuse: reject,
        });
        if (isAnswering) resolve();
      }),
    now: () => at(clock.ms),
    onCommitted: (recordCount) => committed.push(recordCount),
    renewGeneration: () => Promise.resolve(),
    wake: () => {},
    onRefused: () => {},
  });
  const answer = () => {
    isAnswering = true;
    for (const { land } of writes) land();
  };
  open.push({ driver, answer });
  const register = (name: string, idempotencyKey = "") =>
    r.registrar.register(ANN, command([stamped(name)], { idempotencyKey, isStatic: true }), at(0));
  /** What a call has been told so far. */
  const call = (promise: Promise<void> | undefined) => {
    const told = { said: promise === undefined ? "at once" : "nothing" };
    const done = promise?.then(
      () => (told.said = "durable"),
      (error: Error) => (told.said = error.message),
    );
    return { told, done };
  };
  return { r, writes, clock, committed, driver, register, call };
}

test("a repeated request waits for the batch that has the first, and what comes meanwhile goes with the next", async () => {
  const { r, writes, committed, driver, register, call } = committing();
  register("web", "k");
  const first = call(driver.durable());
  register("web", "k");
  const repeated = call(driver.durable());
  register("db");
  const next = call(driver.durable());
  expect([writes.length, first.told.said, repeated.told.said, next.told.said]).toEqual([1, "nothing", "nothing", "nothing"]);
  writes[0]?.land();
  await Promise.all([first.done, repeated.done]);
  expect([first.told.said, repeated.told.said, next.told.said, r.names()]).toEqual(["durable", "durable", "nothing", ["web"]]);
  writes[1]?.land();
  await next.done;
  expect([writes.length, committed, r.names().toSorted(), call(driver.durable()).told.said]).toEqual([2, [1, 1], ["db", "web"], "at once"]);
});

test("a refused batch refuses what waits for it and what was staged behind it, and the next one is written as if nothing had been", async () => {
  const { r, writes, driver, register, call } = committing();
  register("web", "k");
  const first = call(driver.durable());
  register("web", "k");
  const repeated = call(driver.durable());
  register("db");
  const behind = call(driver.durable());
  writes[0]?.refuse(new Error("full"));
  await Promise.all([first.done, repeated.done, behind.done]);
  expect([first.told.said, repeated.told.said, behind.told.said, r.names()]).toEqual(["full", "full", "full", []]);
  register("web", "k");
  const again = call(driver.durable());
  expect(writes.length).toBe(2);
  writes[1]?.land();
  await again.done;
  expect([again.told.said, r.names(), r.disk.rows.size, r.registrar.hasWork]).toEqual(["durable", ["web"], 1, false]);
});

test("a lease that runs out ends on the disk too, though nobody calls", async () => {
  const { r, writes, clock, driver, call } = committing();
  r.registrar.register(ANN, command([stamped("web")], { ttlMs: 1000 }), at(0));
  const first = call(driver.durable());
  clock.ms = 1000;
  writes[0]?.land();
  await first.done;
  await until("the end is written", () => writes.length === 2);
  expect(r.names()).toEqual(["web"]);
  writes[1]?.land();
  await until("the end is seen", () => r.names().length === 0);
});

test("closing waits for what is staged, also when it is refused", async () => {
  const { writes, driver, register } = committing();
  register("web");
  const closed = driver.close();
  expect(writes.length).toBe(1);
  writes[0]?.refuse(new Error("full"));
  await closed;
  expect(driver.durable()).toBeUndefined();
});
