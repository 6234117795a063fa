/** The numbers of a node's inside, filled when somebody asks. */
import { expect, test } from "vitest";
import { Leases } from "../../src/catalog/leases.ts";
import { Fanout } from "../../src/discovery/fanout.ts";
import { Metrics } from "../../src/lib/metrics/metrics.ts";
import { observeCatalog, observeJournal } from "../../src/node/metrics.ts";
import { at, caller, command, Registry, stamped } from "../fakes/registry.ts";

test("what is held is counted by kind, what waits for the disk apart, and whether callers are to be sent here", () => {
  const r = new Registry();
  r.registrar.register(caller("ann"), command([stamped("web")], { isStatic: true }), at(0));
  const metrics = new Metrics();
  const machine = { isServing: false };
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
  machine.isServing = true;
  expect(look()).toEqual([1, 0, 1, 7]);
});
