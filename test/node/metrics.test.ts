/** The numbers of a node's inside, filled when somebody asks. */
import { expect, test } from "vitest";
import { Leases } from "../../src/catalog/leases.ts";
import { Fanout } from "../../src/discovery/fanout.ts";
import { Metrics } from "../../src/lib/metrics/metrics.ts";
import { observeCatalog, observeClusters, observeJournal } from "../../src/node/metrics.ts";
import { HeldWorld, MEMORY, STALE_KEEP, TTL } from "../fakes/held-world.ts";
import { at, caller, command, Registry, stamped } from "../fakes/registry.ts";

test("what is held is counted by kind, what waits for the disk apart, and whether callers are to be sent here", () => {
  const r = new Registry();
  r.registrar.register(caller("ann"), command([stamped("web")], { isStatic: true }), at(0));
  const metrics = new Metrics();
  const machine = { readiness: { isServing: false } };
  const observed = { metrics, replica: r.replica, leases: new Leases(1), registrar: r.registrar, fanout: new Fanout(), machine };
  const journal = { stats: () => ({ fileBytes: 3, walBytes: 4, failures: 2 }) };
  const value = (name: string) => {
    for (const family of metrics.collect())
      if (family.name === name && "series" in family) return [...family.series.values()].reduce((sum, each) => sum + each.value, 0);
    return undefined;
  };
  const look = () => {
    observeCatalog(observed);
    observeJournal({ metrics, replica: r.replica, journal: journal as Parameters<typeof observeJournal>[0]["journal"] });
    return ["waymark_catalog_entries", "waymark_journal_pending_records", "waymark_ready", "waymark_journal_bytes"].map(value);
  };
  expect(look()).toEqual([0, 1, 0, 7]);
  r.flush(at(1));
  machine.readiness.isServing = true;
  expect(look()).toEqual([1, 0, 1, 7]);
});

test("a cluster of the settings is gone from when it is dropped until it is heard again, also after it is forgotten", () => {
  const world = new HeldWorld();
  const [a, b] = [world.node({ nodeId: "a1", clusterId: "A" }), world.node({ nodeId: "b1", clusterId: "B" })];
  const metrics = new Metrics();
  const statesAt = (ms: number) => {
    world.nowMs = ms;
    b.settle();
    observeClusters(metrics, b.held, ["A", "never"], b.time);
    const family = metrics.collect().find(({ name }) => name === "discovery_summary_clusters");
    return family !== undefined && "series" in family ? [...family.series.values()].map(({ value }) => value) : [];
  };
  expect(statesAt(0)).toEqual([0, 0, 2]);
  a.beacon();
  b.takeFrom(a, "beacon");
  expect(statesAt(TTL - 1)).toEqual([1, 0, 1]);
  expect(statesAt(TTL + 1)).toEqual([0, 1, 1]);
  expect(statesAt(TTL + STALE_KEEP + 1)).toEqual([0, 0, 2]);
  expect(statesAt(2 * MEMORY)).toEqual([0, 0, 2]);
  a.beacon();
  b.takeFrom(a, "beacon");
  expect(statesAt(2 * MEMORY + 1)).toEqual([1, 0, 1]);
});
