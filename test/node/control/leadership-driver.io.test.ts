import { expect, test } from "vitest";
import type { LeadershipEvent } from "../../../src/control/leadership/io-types.ts";
import { GLOBAL_SCOPE } from "../../../src/control/leadership/scope.ts";
import { WaymarkError } from "../../../src/lib/errors.ts";
import { now } from "../../../src/lib/stall-aware-time.io.ts";
import { LeadershipDriver, type LeadershipDriverOptions } from "../../../src/node/control/leadership-driver.io.ts";
import { openMemoryStore } from "../../../src/store/control/sqlite.io.ts";
import { until } from "../../fakes/until.ts";

function driverOn(
  store: LeadershipDriverOptions["store"],
  nodeId: string,
  { isOwnStore = true, isCandidate = true, events = [] as LeadershipEvent[], checkWrites = () => {} } = {},
) {
  const faults: string[] = [];
  let count = 0;
  const driver = new LeadershipDriver({
    nodeId,
    clusterId: "local",
    boot: `${nodeId}-boot`,
    leaseMs: 1500,
    isOwnStore,
    compactMs: 0,
    newId: () => `${nodeId}-${++count}`,
    store,
    log: { info: () => faults.push(""), warn: ({ fault }) => faults.push(String(fault)) },
    onEvent: (event) => events.push(event),
    onStore: () => {},
    onShards: () => {},
    checkWrites,
    historyCount: 100,
  });
  driver.input({ kind: "eligible", fault: "" });
  if (isCandidate) driver.input({ kind: "stand", scope: GLOBAL_SCOPE, holderId: nodeId });
  return { driver, events, faults };
}

const leads = ({ machine }: LeadershipDriver) => machine.heldScopes(now()).includes(GLOBAL_SCOPE);

test("a lone node leads at once, gives way to an operator, and leads no more when it is stopped", async () => {
  await using store = openMemoryStore();
  const { driver, events } = driverOn(store, "a");
  await until("the node leads", () => leads(driver));
  const { fence } = driver.machine.held(GLOBAL_SCOPE, now())?.leader ?? expect.fail("the node leads");
  expect(driver.leaders(now())).toMatchObject([{ scope: GLOBAL_SCOPE, record: { nodeId: "a", term: 1, fence }, expiresWallMs: undefined }]);
  expect(driver.store(now())).toMatchObject({ kind: "embedded", ageMs: 0, fault: "", epoch: fence.storeEpoch });
  await driver.resign(GLOBAL_SCOPE, "maintenance");
  await until("the node leads no more", () => !leads(driver));
  await until("it steps down", () => events.some(({ kind, leader }) => kind === "stepped_down" && leader.reason === "maintenance"));
  const epoch = await driver.raiseEpoch();
  expect(epoch).toBeGreaterThan(fence.storeEpoch);
  await expect(driver.resign("custom/orders/none", "x")).rejects.toMatchObject({ reason: "no_leader" });
  await driver.stop();
  driver.close();
});

test("two nodes that share a store have one leader, and the second follows when the first stops", async () => {
  await using store = openMemoryStore();
  const first = driverOn(store, "a", { isOwnStore: false });
  await until("the first leads", () => leads(first.driver));
  const second = driverOn(store, "b", { isOwnStore: false });
  await until("both have a session", async () => (await second.driver.sessions()).length === 2);
  expect(leads(second.driver)).toBe(false);
  await first.driver.stop();
  await until("the second leads", () => leads(second.driver));
  expect(second.events.map(({ kind }) => kind)).toEqual(["stepped_down", "elected"]);
  expect((await second.driver.sessions()).map(({ name }) => name)).toEqual([expect.stringMatching(/^b\//)]);
  first.driver.close();
  await second.driver.stop();
  second.driver.close();
});

test("a node that refuses writes refuses operations on nodes for the same reason", async () => {
  await using store = openMemoryStore();
  const checkWrites = () => {
    throw new WaymarkError("clock_skew", "the clock of this node is wrong");
  };
  const { driver } = driverOn(store, "a", { checkWrites });
  const common = { nodeId: "a", actor: "ann", reason: "", ticket: "", expectedVersion: undefined, requestId: "", isDryRun: false };
  await expect(driver.changePeer({ ...common, change: { kind: "uncordon" } })).rejects.toMatchObject({ reason: "clock_skew" });
  await driver.stop();
  driver.close();
});

test("a store that is closed makes no leader, and says so", async () => {
  const store = openMemoryStore();
  await store.close();
  const { driver } = driverOn(store, "a");
  await until("it says so", () => driver.store(now()).fault.includes("the store is closed"));
  await expect(driver.raiseEpoch()).rejects.toMatchObject({ reason: "store_unavailable" });
  driver.close();
});

test("a store that is back after an outage counts as available, although nothing has changed in it", async () => {
  await using store = openMemoryStore();
  let isAway = false;
  const interrupts = new Set<() => void>();
  /** The watches report an error when the store goes away. */
  const away: LeadershipDriverOptions["store"] = {
    compact: () => Promise.resolve(),
    transact: (conditions, changes) => store.transact(conditions, changes),
    list: (prefix, page) => (isAway ? Promise.reject(new WaymarkError("store_unavailable", "it is away")) : store.list(prefix, page)),
    // The watch starts over after each interruption.
    watch: (prefix) => {
      let watch = store.watch(prefix);
      const next = async () => {
        const { promise, reject } = Promise.withResolvers<never>();
        const interrupt = () => {
          watch.close();
          watch = store.watch(prefix);
          reject(new WaymarkError("store_unavailable", "it is away"));
        };
        interrupts.add(interrupt);
        if (isAway) interrupt();
        return Promise.race([watch.next(), promise]).finally(() => interrupts.delete(interrupt));
      };
      return { next, close: () => watch.close(), [Symbol.dispose]: () => watch.close() };
    },
  };
  const { driver, faults } = driverOn(away, "a", { isCandidate: false });
  await until("it has read the store", () => driver.store(now()).id !== "");
  isAway = true;
  for (const interrupt of interrupts) interrupt();
  await until("it says so", () => driver.store(now()).fault === "it is away");
  expect(driver.machine.availability.isAvailable).toBe(false);
  isAway = false;
  await until("it is back", () => driver.machine.availability.isAvailable);
  expect(driver.store(now())).toMatchObject({ fault: "", ageMs: 0 });
  expect(faults).toEqual(["it is away", ""]);
  driver.close();
});
