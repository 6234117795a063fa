import fc from "fast-check";
import { expect, test } from "vitest";
import { SCOPE } from "../../../src/catalog/entry/scope.ts";
import { runThrough } from "../../../src/lib/machine.ts";
import type { DigestFilter } from "../../../src/summary/held/digests.ts";
import { runs } from "../../fakes/effort.ts";
import { bucketOfKey, definedDigest as defined, facts, HeldWorld, keyOf, liveOf, MINUTE, STALE_KEEP, TTL } from "../../fakes/held-world.ts";

const ALL_BUCKETS: ReadonlySet<number> = new Set(Array.from({ length: 256 }, (_, n) => n));
const FACTS = facts("x", { source: "A" });
const EVERYTHING = { passes: () => true };
const SHOP = { passes: (source: string, namespace: string) => source !== "B" && namespace === "svc.shop" };

test("digests follow each change and equal their definition, whatever our own rules hide", () => {
  const NAMES = ["a", "b", "c", "d", "e"];
  const op = fc.record({
    kind: fc.constantFrom("say", "say", "say", "withdraw", "carry", "carry", "carry", "beacon", "pass", "hear", "ask"),
    name: fc.constantFrom(...NAMES),
    namespace: fc.constantFrom("svc.shop", "svc.pay"),
    source: fc.constantFrom("A", "C"),
    channel: fc.constantFrom(SCOPE.GLOBAL, SCOPE.GLOBAL, SCOPE.REGION),
    minutes: fc.constantFrom(0.1, 1, 5, 12),
  });
  fc.assert(
    fc.property(fc.array(op, { maxLength: 60 }), (ops) => {
      const world = new HeldWorld();
      const exporters = { A: world.node({ nodeId: "a1", clusterId: "A" }), C: world.node({ nodeId: "c1", clusterId: "C" }) };
      const b1 = world.node({ nodeId: "b1", clusterId: "B", parts: { isOwner: () => false, imports: () => false } });
      const b2 = world.node({ nodeId: "b2", clusterId: "B" });
      for (const { kind, name, namespace, source, channel, minutes } of ops) {
        const from = exporters[source];
        if (kind === "say" || kind === "withdraw") from.say(name, { namespace, channel, withdrawn: kind === "withdraw" });
        if (kind === "beacon") from.beacon();
        if (kind === "beacon" || kind === "carry") {
          for (const key of ["beacon", ...NAMES]) {
            const isThere = key === "beacon" ? from.held.beaconOf(source) : from.held.best(keyOf(key, source));
            if (isThere !== undefined) b1.takeFrom(from, key);
          }
        }
        if (kind === "pass") world.nowMs += minutes * MINUTE;
        if (kind === "hear") b2.hear(b1);
        for (const node of [b1, b2]) {
          node.settle();
          if (kind === "ask")
            for (const filter of [EVERYTHING, SHOP]) expect(node.held.digest(filter)).toMatchObject(defined(node, liveOf(node, filter)));
        }
      }
      for (const node of [exporters.A, exporters.C, b1, b2]) {
        node.settle();
        for (const filter of [EVERYTHING, SHOP]) {
          const live = liveOf(node, filter);
          expect(node.held.digest(filter)).toMatchObject(defined(node, live));
          const listed = runThrough(node.held.list(filter, ALL_BUCKETS)).filter(({ isWithdrawn }) => !isWithdrawn);
          expect(new Map(listed.map(({ key, version }) => [key, version]))).toEqual(live);
        }
      }
    }),
    { numRuns: runs(40) },
  );
});

test("sums equal their definition after keys and regions of clusters were changed, in any order with all else", () => {
  const NAMES = ["a", "b", "c"];
  const op = fc.record({
    kind: fc.constantFrom("say", "say", "withdraw", "carry", "carry", "beacon", "remove", "restore", "move", "rules", "pass", "work"),
    name: fc.constantFrom(...NAMES),
    source: fc.constantFrom("A", "C"),
    isToldLate: fc.boolean(),
    minutes: fc.constantFrom(0.1, 1, 12),
  });
  fc.assert(
    fc.property(fc.array(op, { maxLength: 40 }), (ops) => {
      const world = new HeldWorld();
      const exporters = { A: world.node({ nodeId: "a1", clusterId: "A" }), C: world.node({ nodeId: "c1", clusterId: "C" }) };
      const b = world.node({ nodeId: "b1", clusterId: "B" });
      // As the filters of borders: nothing passes of a cluster that has no region, and nothing of the other side's own region.
      const filter: DigestFilter = { passes: (source) => ![undefined, "far"].includes(b.held.regionOf(source)) };
      b.held.digest(filter);
      for (const { kind, name, source, isToldLate, minutes } of ops) {
        const from = exporters[source];
        if (kind === "say" || kind === "withdraw") from.say(name, { withdrawn: kind === "withdraw" });
        if (kind === "beacon") from.beacon();
        if (kind === "beacon" || kind === "carry") {
          for (const key of ["beacon", ...NAMES]) {
            const isThere = key === "beacon" ? from.held.beaconOf(source) : from.held.best(keyOf(key, source));
            if (isThere !== undefined) b.takeFrom(from, key);
          }
        }
        if (kind === "remove" || kind === "restore" || kind === "move") {
          if (kind === "remove") world.keys.remove(source);
          else world.keys.add(source, kind === "move" ? "far" : source);
          // What it holds may change before it is told of it.
          if (isToldLate) world.nowMs += minutes * MINUTE;
          if (isToldLate) b.settle();
          b.held.keysChanged([source]);
        }
        if (kind === "rules") b.held.rulesChanged();
        if (kind === "pass") world.nowMs += minutes * MINUTE;
        if (kind === "work") b.held.work(b.time);
        else b.settle();
      }
      b.settle();
      b.held.digest(filter);
      b.settle();
      expect(b.held.digest(filter)).toMatchObject(defined(b, liveOf(b, filter)));
      const anew: DigestFilter = { passes: (source, namespace) => filter.passes(source, namespace) };
      expect(b.held.digest(filter)).toEqual(b.held.digest(anew));
    }),
    { numRuns: runs(100) },
  );
});

test("a cluster that the settings have in another region is in no sum for that region, though nothing that it said changed", () => {
  const world = new HeldWorld();
  const [a, b] = [world.node({ nodeId: "a1", clusterId: "A" }), world.node({ nodeId: "b1", clusterId: "B" })];
  const filter: DigestFilter = { passes: (source) => b.held.regionOf(source) !== "far" };
  a.beacon();
  a.say("cart", { regions: [] });
  for (const name of ["beacon", "cart"]) b.takeFrom(a, name);
  expect(b.held.digest(filter)?.count).toBe(1);
  world.keys.add("A", "far");
  b.held.keysChanged(["A"]);
  b.settle();
  expect(b.held.digest(filter)?.count).toBe(0);
});

test("a list has the keys of some buckets, and what was withdrawn; what is dropped is in none", () => {
  const world = new HeldWorld();
  const [a, b] = [world.node({ nodeId: "a1", clusterId: "A" }), world.node({ nodeId: "b1", clusterId: "B" })];
  a.beacon();
  b.takeFrom(a, "beacon");
  for (let n = 0; n < 20; n++) {
    a.say(`s${n}`);
    if (n % 2 === 0) a.say(`s${n}`, { withdrawn: true });
    b.takeFrom(a, `s${n}`);
  }
  const all = runThrough(b.held.list(EVERYTHING, ALL_BUCKETS));
  expect([all.length, all.filter(({ isWithdrawn }) => isWithdrawn).length, b.held.digest(EVERYTHING)?.count]).toEqual([20, 10, 10]);
  const [one] = all;
  const bucket = bucketOfKey(b, one?.key);
  const some = runThrough(b.held.list(EVERYTHING, new Set([bucket])));
  expect(some).toEqual(all.filter(({ hash }) => Number(hash >> 56n) === bucket));
  expect(b.held.digest(EVERYTHING)?.buckets.filter((each) => each !== 0n).length).toBeGreaterThan(0);
  world.nowMs = TTL + STALE_KEEP;
  b.settle();
  expect([b.held.digest(EVERYTHING)?.count, runThrough(b.held.list(EVERYTHING, ALL_BUCKETS))]).toEqual([0, []]);
});

test("a digest of many summaries is summed in slices, while they change", () => {
  const world = new HeldWorld();
  const a = world.node({ nodeId: "a1", clusterId: "A" });
  for (let n = 0; n < 6000; n++) a.held.export({ ...FACTS, serviceId: `s${n}` }, a.time);
  a.settle();
  expect(a.held.digest(EVERYTHING)).toBeUndefined();
  a.say("s1");
  a.say("s2", { withdrawn: true });
  a.say("s5999");
  a.settle();
  expect(a.held.digest(EVERYTHING)).toMatchObject(defined(a, liveOf(a, EVERYTHING)));
  for (let n = 0; n < 70; n++) a.held.digest({ passes: () => false });
  expect(a.held.digest(EVERYTHING)).toBeUndefined();
});

test("what changes of a source of which nothing is summed yet is summed once, with the rest of it", () => {
  const world = new HeldWorld();
  const [a, b] = ["A", "B"].map((clusterId) => world.node({ nodeId: clusterId, clusterId, region: "R" }));
  const reader = world.node({ nodeId: "r", clusterId: "R", region: "R" });
  for (const node of [a, b]) {
    for (let n = 0; n < 2500; n++) node?.held.export({ ...FACTS, source: node.clusterId, serviceId: `s${n}` }, node.time);
    node?.beacon();
    if (node !== undefined) reader.hear(node);
  }
  expect(reader.held.digest(EVERYTHING)).toBeUndefined();
  for (const node of [a, b]) {
    node?.say("s7");
    if (node !== undefined) reader.receive(node);
  }
  reader.settle();
  expect(reader.held.digest(EVERYTHING)).toMatchObject(defined(reader, liveOf(reader, EVERYTHING)));
});
