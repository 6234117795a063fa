/** Own entries that end by another origin's word, or because the node leaves (semantics.md, Several origins for one key, Stop). */
import fc from "fast-check";
import { expect, test } from "vitest";
import { BODY, type CatalogRecord, deltaId } from "../../../src/catalog/record/record.ts";
import { startNewGeneration } from "../../../src/catalog/replica/new-generation.ts";
import { runs } from "../../fakes/effort.ts";
import { at, caller, command, keyOf, Registry, stamped, WALL } from "../../fakes/registry.ts";
import { sumOf } from "../../fakes/replica-check.ts";

test("an own record that another origin's `unregistered` hides ends, and its lease only when that was static and is empty", () => {
  const r = new Registry();
  const kept = r.register("ann", [stamped("web"), stamped("db")], at(0));
  const gone = r.register("ann", [stamped("api")], at(0), { isStatic: true });
  for (const name of ["web", "api"]) r.hear(name, BODY.UNREGISTERED, 10, at(10));
  expect(r.names()).toEqual(["db"]);
  expect(r.registrar.entryRemovals.superseded([keyOf("web"), keyOf("api"), keyOf("db"), keyOf("none")], at(20))).toBe(2);
  r.flush(at(20));
  expect([r.leases.find(kept)?.keyCount, r.leases.has(gone), r.unleased()]).toEqual([1, false, []]);
  expect(r.replica.own(keyOf("web"))?.body).toBe(BODY.EXPIRED);
  expect(r.twin().names()).toEqual(["db"]);
});

test("what ends because of an `unregistered` says so, stamped one step above it, also after a restart: it may be heard of before that word", () => {
  const r = new Registry();
  r.register("ann", [stamped("web")], at(0));
  r.hear("web", BODY.UNREGISTERED, 10, at(10));
  const [their] = r.replica.records(keyOf("web"));
  r.registrar.entryRemovals.superseded([keyOf("web")], at(20));
  r.flush(at(20));
  const said = () => {
    const { hlc = 0, unregisteredHlc, body } = r.replica.own(keyOf("web")) ?? {};
    return [body, hlc - (their?.hlc ?? 0), unregisteredHlc];
  };
  expect(said()).toEqual([BODY.EXPIRED, 1, their?.hlc]);
  r.restart(at(30));
  expect(said()).toEqual([BODY.EXPIRED, 1, their?.hlc]);
});

test.each([
  { what: "put again since", put: 30, body: BODY.UNREGISTERED, want: 0 },
  { what: "hidden by nobody: an `expired` ends nothing that another node said", put: 0, body: BODY.EXPIRED, want: 0 },
  { what: "older", put: 0, body: BODY.UNREGISTERED, want: 1 },
])("a record that is $what: $want end", ({ put, body, want }) => {
  const r = new Registry();
  r.register("ann", [stamped("web")], at(put));
  r.hear("web", body, 10, at(10));
  expect(r.registrar.entryRemovals.superseded([keyOf("web")], at(40))).toBe(want);
});

test("one that was put again and is not durable yet stays; when that is refused, the next word ends it", () => {
  const r = new Registry();
  r.register("ann", [stamped("web")], at(0));
  r.registrar.register(caller("ann"), again(), at(30));
  r.hear("web", BODY.UNREGISTERED, 10, at(10));
  expect(r.registrar.entryRemovals.superseded([keyOf("web")], at(40))).toBe(0);
  r.refuse();
  expect(r.replica.own(keyOf("web"))?.body).toBe(BODY.ENTRY);
  r.registrar.tick(at(50));
  r.flush(at(50));
  expect(r.replica.own(keyOf("web"))?.body).toBe(BODY.EXPIRED);
});

test("what another origin took out ends with the next look, when the disk refused it at first", () => {
  const r = new Registry();
  r.register("ann", [stamped("web")], at(0));
  r.hear("web", BODY.UNREGISTERED, 10, at(10));
  expect(r.registrar.entryRemovals.superseded([keyOf("web")], at(20))).toBe(1);
  r.refuse();
  expect(r.replica.own(keyOf("web"))?.body).toBe(BODY.ENTRY);
  r.registrar.tick(at(30));
  r.flush(at(30));
  expect([r.replica.own(keyOf("web"))?.body, r.unleased()]).toEqual([BODY.EXPIRED, []]);
});

test("a node that leaves ends what has a lease in bounded parts, with the lease, and nothing else", () => {
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 30 }), fc.integer({ min: 1, max: 9 }), fc.boolean(), (count, most, isRefused) => {
      const r = new Registry();
      for (let i = 0; i < count; i++) r.register("ann", [stamped(`web-${i}`)], at(i), { isStatic: i % 2 === 0 });
      const before = r.state();
      const kept = r
        .names()
        .filter((name) => Number(name.slice("web-".length)) % 2 === 0)
        .toSorted();
      if (isRefused) {
        r.registrar.endOwn(0, 1000, at(100));
        r.refuse();
        expect(r.state()).toEqual(before);
      }
      let after: number | undefined = 0;
      while (after !== undefined) {
        after = r.registrar.endOwn(after, most, at(200));
        expect(r.replica.staged.length).toBeLessThanOrEqual(most);
        r.flush(at(200));
      }
      const { length } = kept;
      expect([r.names().toSorted(), r.leases.size, r.twin().names().toSorted(), r.twin().leases.size]).toEqual([
        kept,
        length,
        kept,
        length,
      ]);
    }),
    { numRuns: runs(100) },
  );
});

test("a new generation holds what the old one held, staged or not, under the same numbers, and tells readers of each", () => {
  const r = new Registry();
  r.register("ann", [stamped("web"), stamped("db")], at(0));
  r.registrar.register(caller("ann"), again("api"), at(1));
  const { revision } = r.replica;
  const sum = () => sumOf(r.replica.digests, "svc", records(r));
  const before = sum().digest;
  startNewGeneration(r.replica, 2);
  r.flush(at(2));
  while (r.replica.sweep(1, at(2)));
  expect(r.names()).toEqual(["api", "db", "web"]);
  expect(seen(r)).toEqual(["a/2/3", "a/2/2", "a/2/1"]);
  expect([...r.replica.origins.keys()]).toEqual(["a/2"]);
  expect(r.replica.revision).toBeGreaterThanOrEqual(revision + 2);
  expect(sum().digest).not.toBe(before);
  const fresh = new Registry(r.disk);
  startNewGeneration(fresh.replica, 2);
  expect(sum().digest).toBe(sumOf(fresh.replica.digests, "svc", records(fresh)).digest);
});

test("what others hold of the old generation comes back as another origin's: newer wins, and what it unregistered stays gone", () => {
  const r = new Registry();
  r.register("ann", [stamped("web"), stamped("db")], at(0));
  startNewGeneration(r.replica, 2);
  const old = r.replica.origin("a", 1);
  expect(old).not.toBe(r.replica.self);
  r.hear("web", BODY.UNREGISTERED, 10, at(10));
  expect(r.names()).toEqual(["db"]);
  expect(r.registrar.entryRemovals.superseded([keyOf("web")], at(20))).toBe(1);
});

function again(name = "web") {
  return command([stamped(name, { tags: ["new"] })]);
}

/** Delta ids of what is visible, in key order. */
function seen(r: Registry): readonly string[] {
  return records(r).map(deltaId);
}

function records(r: Registry): readonly CatalogRecord[] {
  const all: CatalogRecord[] = [];
  const cursor = r.replica.lookup.cursor();
  for (let record = cursor.next(); record !== undefined; record = cursor.next()) all.push(record);
  return all;
}

test("Why: an `expired` of a clock that is a day ahead draws no later write after it: those of two sides of a cut stay in order", () => {
  const r = new Registry();
  r.hear("web", BODY.EXPIRED, 86_400_000, at(0));
  r.register("ann", [stamped("web")], at(10));
  expect(r.replica.own(keyOf("web"))?.hlc).toBeLessThan((WALL + 11) * 2048);
  r.hear("api", BODY.UNREGISTERED, 86_400_000, at(20));
  r.register("ann", [stamped("api")], at(30));
  expect(r.replica.own(keyOf("api"))?.hlc).toBeGreaterThan((WALL + 86_400_000) * 2048);
  expect(r.names()).toEqual(["api", "web"]);
});

test("a lease's end has the stamp of what it ends, whatever is newer: what an earlier generation of this node said after that is not ended by it", () => {
  const r = new Registry();
  r.register("ann", [stamped("web")], at(0), { ttlMs: 1000 });
  r.flush(at(0));
  const stamp = r.replica.own(keyOf("web"))?.hlc;
  r.hear("web", BODY.ENTRY, 500, at(1));
  r.registrar.tick(at(2000));
  r.flush(at(2000));
  const own = r.replica.own(keyOf("web"));
  expect([own?.body, own?.hlc]).toEqual([BODY.EXPIRED, stamp]);
});
