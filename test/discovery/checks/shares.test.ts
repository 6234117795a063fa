/** The resources that owners of checks share on a node, in virtual time: probes, name look-ups and self-doubt. */
import { afterEach, expect, test } from "vitest";
import { FAILURE } from "../../../src/catalog/entry/checks.ts";
import { HEALTH } from "../../../src/catalog/record/record.ts";
import { MAX_IN_FLIGHT } from "../../../src/discovery/checks/checks.ts";
import { failed } from "../../../src/discovery/checks/threshold.ts";
import { type CheckInit, WatchedWorld, watchedEntry } from "../../fakes/watched-entries.ts";

const { HEALTHY, CRITICAL, UNSET } = HEALTH;
const seconds = (count: number) => ({ seconds: BigInt(count) });
const TCP = { probe: { case: "tcp", value: {} } } as const;
const FAST: CheckInit = { ...TCP, interval: seconds(1), failing: 2 };
const DOWN = failed(FAILURE.REFUSED);
const SETTLED_MS = 5000;
const names = (prefix: string, count: number) => Array.from({ length: count }, (_, i) => `${prefix}${i}`);
const entries = (all: readonly string[], check: CheckInit = FAST, hosts?: readonly string[]) =>
  all.map((name, i) => watchedEntry(name, [check], hosts === undefined ? {} : { targets: [{ host: hosts[i] ?? "", port: 80 }] }));

let world = new WatchedWorld();
afterEach(() => {
  world = new WatchedWorld();
});

test.each(["before", "after"])(
  "another owner's dead instance, registered %s thousands of silent checks, is found in its own time",
  (when) => {
    const silent = names("s", 4000);
    world.isSilent = (host) => host.startsWith("s");
    const attack = () => {
      for (let i = 0; i < silent.length; i += 500)
        world.registerBy("ann", ...entries(silent.slice(i, i + 500), { ...TCP, interval: seconds(60) }));
      world.run(2000);
      expect(world.checks.inFlightCount).toBe(MAX_IN_FLIGHT);
    };
    if (when === "after") attack();
    world.registerBy("bob", ...entries(["b"]));
    world.run(SETTLED_MS);
    if (when === "before") attack();
    expect(world.seen("b")?.states).toEqual([HEALTHY]);
    world.found.set("b.local", DOWN);
    world.run(SETTLED_MS);
    expect(world.seen("b")).toMatchObject({ health: CRITICAL, states: [CRITICAL] });
    expect(world.checks.inFlightCount).toBeLessThanOrEqual(MAX_IN_FLIGHT);
    // Each probe of the other owner stopped at most one.
    expect(world.cut.size).toBeLessThanOrEqual(world.probed.filter(({ host }) => host === "b.local").length);
  },
);

test.each([4, 5, 200, 255])("a dead instance is found in its own time while %i other owners have all slots for silent checks", (count) => {
  world.isSilent = (host) => host.startsWith("s");
  world.registerBy("bob", ...entries(["b"]));
  world.run(SETTLED_MS);
  for (const owner of names("s", count))
    world.registerBy(owner, ...entries(names(`${owner}-`, Math.ceil(320 / count)), { ...TCP, interval: seconds(60) }));
  world.run(SETTLED_MS);
  const [probedBefore, cutBefore] = [world.probed.length, world.cut.size];
  world.found.set("b.local", DOWN);
  world.run(SETTLED_MS);
  expect(world.seen("b")).toMatchObject({ health: CRITICAL, states: [CRITICAL] });
  expect(world.checks.inFlightCount).toBeLessThanOrEqual(MAX_IN_FLIGHT);
  // Each probe of the dead instance stops one other. When it ends, its slot may go to an owner with the most slots, which then gives up another.
  const own = world.probed.slice(probedBefore).filter(({ host }) => host === "b.local").length;
  expect(world.cut.size - cutBefore).toBeLessThanOrEqual(2 * own);
});

test("checks of other owners run on time while name look-ups of one owner never end", () => {
  const slow = names("s", 200);
  world.isResolving = (host) => host.startsWith("s");
  world.registerBy("bob", ...entries(names("b", 5)));
  world.registerBy("ann", ...entries(slow, { ...FAST, failing: 1 }));
  world.found.set("b4.local", DOWN);
  world.run(30_000);
  expect(names("b", 5).map((name) => world.seen(name)?.health)).toEqual([HEALTHY, HEALTHY, HEALTHY, HEALTHY, CRITICAL]);
  const counts = names("b", 5).map((name) => world.probed.filter(({ host }) => host === `${name}.local`).length);
  expect(Math.min(...counts)).toBeGreaterThanOrEqual(25);
  // Only one of two look-ups is running.
  expect(world.resolving).toHaveLength(1);
});

test("a name that waits for a look-up holds no probe slot, and addresses of the same owner are probed meanwhile", () => {
  world.isResolving = (host) => host.startsWith("s");
  world.registerBy("ann", ...entries(names("s", 300)), ...entries(["a"], FAST, ["10.0.0.1"]));
  world.found.set("10.0.0.1", DOWN);
  world.run(SETTLED_MS);
  expect([world.seen("a")?.health, world.checks.inFlightCount, world.checks.waitingCount]).toEqual([CRITICAL, 0, 300]);
});

test("two names are looked up at the same time, and look-ups of removed checks become free again", () => {
  world.isResolving = () => true;
  world.registerBy("ann", ...entries(names("s", 5)));
  world.held = [];
  world.run(SETTLED_MS);
  expect(world.resolving).toHaveLength(2);
  for (const name of names("s", 5)) world.unregister(name);
  for (const { id } of world.resolving.splice(0)) world.checks.resolved(id);
  world.registerBy("ann", ...entries(names("t", 5)));
  world.run(SETTLED_MS);
  expect(world.resolving).toHaveLength(2);
});

test("a check that was not run for three intervals has no health, and its entry keeps the health that it showed", () => {
  const [well, down] = [names("w", 300), names("d", 4)];
  for (const name of down) world.found.set(`${name}.local`, DOWN);
  world.registerBy("ann", ...entries([...down, ...well]));
  world.run(SETTLED_MS);
  expect(world.seen("d0")).toMatchObject({ health: CRITICAL, states: [CRITICAL] });
  const changes = world.changeCount;
  // From now on no probe ends, and the other checks wait.
  world.held = [];
  world.run(1800);
  expect([world.checks.waitingCount, world.checks.notRunCount, world.changeCount]).toEqual([304 - MAX_IN_FLIGHT, 0, changes]);
  world.run(3000);
  expect(world.checks.notRunCount).toBe(304 - MAX_IN_FLIGHT);
  const late = [...down, ...well].filter((name) => world.seen(name)?.checkStates[0]?.failure === FAILURE.NOT_RUN);
  expect(late).toHaveLength(304 - MAX_IN_FLIGHT);
  for (const name of late) {
    const lastHealth = name.startsWith("d") ? CRITICAL : HEALTHY;
    expect(world.seen(name)).toMatchObject({ health: lastHealth, states: [UNSET], checkStates: [{ lastHealth }] });
  }
  // The state survives a restart.
  const before = late.map((name) => world.seen(name));
  world.restart();
  expect(late.map((name) => world.seen(name))).toEqual(before);
  // They are run again.
  world.held = undefined;
  world.run(SETTLED_MS);
  expect(world.checks.notRunCount).toBe(0);
  for (const name of late) expect(world.seen(name)?.states).toEqual([name.startsWith("d") ? CRITICAL : HEALTHY]);
});

test("a report of the program counts while its check is not run", () => {
  world.registerBy("ann", ...entries(names("w", MAX_IN_FLIGHT)));
  world.isSilent = () => true;
  world.run(SETTLED_MS);
  world.registerBy("ann", ...entries(["late"]));
  world.run(SETTLED_MS);
  expect(world.seen("late")).toMatchObject({ health: HEALTHY, checkStates: [{ failure: FAILURE.NOT_RUN, lastHealth: UNSET }] });
  world.report("late", CRITICAL);
  expect(world.seen("late")).toMatchObject({ health: CRITICAL, reportedHealth: CRITICAL });
  world.report("late", HEALTHY);
  expect(world.seen("late")?.health).toBe(HEALTHY);
});

test("programs of one owner that fail at the same time do not hold back checks of another owner", () => {
  world.registerBy("ann", ...entries(names("a", 40)));
  world.registerBy("bob", ...entries(names("b", 12)));
  world.run(SETTLED_MS);
  for (const name of names("a", 40)) world.found.set(`${name}.local`, DOWN);
  world.found.set("b0.local", DOWN);
  world.run(SETTLED_MS);
  expect([world.checks.doubt.isSelfPreserving, world.seen("a0")?.health, world.seen("b0")?.health]).toEqual([true, HEALTHY, CRITICAL]);
  expect(world.checks.takeDoubtChanges()).toMatchObject([
    { owner: "principal ann", isSelfPreserving: true, checkCount: 40, changingCount: 40 },
  ]);
  world.run(35_000);
  expect([world.checks.doubt.isSelfPreserving, world.seen("a0")?.health]).toEqual([false, CRITICAL]);
  expect(world.checks.takeDoubtChanges()).toMatchObject([{ owner: "principal ann", isSelfPreserving: false }]);
});

test.each([
  { ownerCount: 3, downCount: 3, doubts: false },
  { ownerCount: 4, downCount: 2, doubts: false },
  { ownerCount: 4, downCount: 3, doubts: true },
  { ownerCount: 40, downCount: 21, doubts: true },
])(
  "when checks of $downCount of $ownerCount owners change state at the same time, the node doubts itself: $doubts",
  ({ ownerCount, downCount, doubts }) => {
    const owners = names("o", ownerCount);
    // The first owner has most of all checks.
    for (const owner of owners) world.registerBy(owner, ...entries(names(`${owner}-`, owner === "o0" ? 9 : 1)));
    world.run(SETTLED_MS);
    for (const owner of owners.slice(0, downCount)) for (const name of names(`${owner}-`, 9)) world.found.set(`${name}.local`, DOWN);
    world.run(SETTLED_MS);
    expect([world.checks.doubt.isSelfPreserving, world.seen("o1-0")?.health]).toEqual([doubts, doubts ? HEALTHY : CRITICAL]);
    expect(world.checks.takeDoubtChanges().map(({ owner }) => owner)).toEqual(doubts ? [undefined] : []);
    world.run(35_000);
    expect([world.checks.doubt.isSelfPreserving, world.checks.doubt.count, world.seen("o1-0")?.health]).toEqual([
      false,
      doubts ? 1 : 0,
      CRITICAL,
    ]);
    // Programs that recover at the same time are another reason for a doubt.
    world.run(60_000);
    world.found.clear();
    world.run(SETTLED_MS);
    expect([world.checks.doubt.count, world.seen("o1-0")?.health]).toEqual(doubts ? [2, CRITICAL] : [0, HEALTHY]);
    world.run(35_000);
    expect(world.seen("o1-0")?.health).toBe(HEALTHY);
  },
);

test("a common doubt is not followed by a doubt about each owner for the same reason", () => {
  const owners = names("o", 4);
  for (const owner of owners) world.registerBy(owner, ...entries(names(`${owner}-`, 12)));
  world.run(SETTLED_MS);
  for (const owner of owners) for (const name of names(`${owner}-`, 12)) world.found.set(`${name}.local`, DOWN);
  world.run(40_000);
  const health = owners.map((owner) => world.seen(`${owner}-0`)?.health);
  expect([world.checks.doubt.isSelfPreserving, health]).toEqual([false, owners.map(() => CRITICAL)]);
});

test("an entry that another owner registers belongs to that owner afterwards, and keeps the results of its checks", () => {
  world.registerBy("ann", ...entries(["a"]));
  world.found.set("a.local", DOWN);
  world.run(SETTLED_MS);
  world.unregister("a");
  world.registerBy("bob", ...entries(["a"]));
  expect([world.checks.countOf("principal ann"), world.checks.countOf("principal bob")]).toEqual([0, 1]);
  world.run(SETTLED_MS);
  expect(world.seen("a")?.health).toBe(CRITICAL);
});
