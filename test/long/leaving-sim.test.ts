/** A node with 100,000 static entries leaves, in the simulator: others have them within the stop's time, or it says "restart" (semantics.md, Stop). */
import { create } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import { EntryKeySchema, EntrySchema } from "../../gen/waymark/catalog/v1/entry_pb.js";
import { BODY, KIND, keyParts, keyText } from "../../src/catalog/record/record.ts";
import { anonymousCaller } from "../../src/policy/identity/caller.ts";
import { ORIGIN_LIFECYCLE_OPTIONS } from "../fakes/options.ts";
import { SIM_FABRIC } from "../sim/fabric-of.ts";
import type { Scenario } from "../sim/scenario.ts";
import { settled } from "../sim/scenarios.ts";
import type { SimNode, SimProcess } from "../sim/sim-node.ts";

const COUNT = 100_000;
const BATCH = 1000;
/** Records touched at a time as in the product: two, as in plans, would be 50,000 turns. */
const FABRIC = { ...SIM_FABRIC, lifecycle: { ...SIM_FABRIC.lifecycle, maxTouches: ORIGIN_LIFECYCLE_OPTIONS.maxTouches } };

function fill(process: SimProcess): void {
  const { registrar, stamper, node } = process;
  const { nodeId, clusterId, region, zone } = node.options;
  const caller = anonymousCaller(clusterId, "", []);
  for (let from = 0; from < COUNT; from += BATCH) {
    const stampedEntries = Array.from({ length: BATCH }, (_, i) => {
      const key = create(EntryKeySchema, { namespace: "svc", name: "web", instanceId: `i${from + i}` });
      const stamp = { nodeId, clusterId, region, zone, tenantId: "", receivedWallMs: 0 };
      return stamper.entryOf(create(EntrySchema, { key, targets: [{ host: "10.0.0.1", port: 80 }] }), i, stamp);
    });
    registrar.register(caller, { stampedEntries, ttlMs: undefined, leaseId: "", idempotencyKey: "", isStatic: true }, process.time());
  }
}

/** Own live static entries. */
function ownCount({ process }: SimNode): number {
  const storedRecords = process?.replica.self.log.list() ?? [];
  return storedRecords.filter((stored) => stored.body === BODY.ENTRY && process?.replica.own(stored.key) === stored).length;
}

function filled(nodes: number): { readonly scenario: Scenario; readonly leaver: SimNode; readonly others: readonly SimNode[] } {
  const scenario = settled({ nodes, seed: 1, fabric: FABRIC });
  const [leaver, ...others] = scenario.sim.nodes;
  if (leaver?.process === undefined) throw new Error("no node");
  fill(leaver.process);
  leaver.process.durable(() => undefined);
  const arrivedMs = scenario.until(() => scenario.areEqual() && (leaver.process?.replica.self.through ?? 0) >= COUNT, 300_000);
  expect(arrivedMs).toBeDefined();
  return { scenario, leaver, others };
}

/** What readers at a node see, by instance. */
function seenAt({ process }: SimNode): ReadonlySet<string> {
  const seen = new Set<string>();
  const cursor = process?.replica.lookup.cursor();
  for (let record = cursor?.next(); record !== undefined; record = cursor?.next())
    if (record.namespace === "svc") seen.add(keyParts(record.key).instanceId);
  return seen;
}

test("100,000 static entries are taken over, each once, within the 5 s that a stop of 10 s leaves for it", () => {
  const { scenario, leaver, others } = filled(3);
  const { process } = leaver;
  leaver.stop("leave", 30_000, 5000);
  const tookMs = scenario.until(() => process?.registrar.handOver.left().length === 0, 30_000, 10);
  console.error("handed over in virtual ms:", tookMs);
  expect(tookMs).toBeLessThanOrEqual(5000);
  scenario.run(40_000);
  expect(others.map(ownCount).reduce((sum, count) => sum + count, 0)).toBe(COUNT);
  for (const node of others) expect(seenAt(node).size).toBe(COUNT);
  expect(scenario.differences()).toEqual([]);
});

test("two leave at once with too little time: what nobody took stands as kept, what was unregistered elsewhere meanwhile is gone", () => {
  const { scenario, leaver, others } = filled(4);
  const [second, third, fourth] = others;
  const { process } = leaver;
  if (second === undefined || third === undefined || fourth === undefined) throw new Error("no nodes");
  leaver.stop("leave", 3000, 1000);
  scenario.run(20);
  second.stop("leave", 3000, 1000);
  const gone = new Set<string>();
  for (let round = 0; round < 10; round++) {
    const ids = Array.from({ length: 100 }, (_, i) => `i${(round * 9973 + i * 991) % COUNT}`);
    const at = round % 2 === 0 ? third.process : fourth.process;
    if (at === undefined) throw new Error("a node is gone");
    const keys = ids.map((instanceId) => keyText({ kind: KIND.SERVICE, namespace: "svc", name: "web", instanceId, clusterId: "c1" }));
    at.registrar.unregisterKeys(anonymousCaller("c1", "", []), keys, at.time());
    at.durable(() => undefined);
    for (const id of ids) gone.add(id);
    scenario.run(80);
  }
  scenario.run(2000);
  const { takenCount = 0 } = process?.registrar.handOver ?? {};
  console.error("of too many were handed over in time:", takenCount);
  expect(takenCount).toBeGreaterThan(1000);
  expect(takenCount).toBeLessThan(COUNT - gone.size);
  // Longer than orphans are shown.
  scenario.run(60_000);
  for (const node of [third, fourth]) {
    const seen = seenAt(node);
    expect([seen.size, [...gone].filter((id) => seen.has(id))]).toEqual([COUNT - gone.size, []]);
    expect(node.process?.fabric.lifecycle.counts().kept).toBe(1);
    expect(node.process?.fabric.membership.find("n0")?.status).not.toBe("left");
    expect(node.process?.fabric.membership.find("n1")?.status).toBe("left");
  }
  expect(scenario.differences()).toEqual([]);
});
