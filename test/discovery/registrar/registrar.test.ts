/** Register, renew, unregister and expire (semantics.md, Leases and life). */
import fc from "fast-check";
import { expect, test } from "vitest";
import type { LoadView } from "../../../src/catalog/entry/view.ts";
import { BODY, type CatalogRecord, HEALTH } from "../../../src/catalog/record/record.ts";
import { WaymarkError } from "../../../src/lib/errors.ts";
import { hlcWallMs } from "../../../src/lib/hlc.ts";
import { NEVER } from "../../../src/lib/machine.ts";
import { runs } from "../../fakes/effort.ts";
import { at, caller, command, keyOf, Registry, stamped, WALL } from "../../fakes/registry.ts";

const NEVER_BEFORE = 1_000_000_000;
const [ANN, BOB, ADMIN] = [caller("ann"), caller("bob"), caller("root", ["mesh.admin"])];

function reasonOf(act: () => unknown): string {
  try {
    act();
  } catch (error) {
    if (error instanceof WaymarkError) return error.reason;
    throw error;
  }
  return "none";
}

function load(utilization: number, latencyMs = 1): LoadView {
  return { activeClients: 0, errorRate: 0, latencyMs, utilization, observedWallMs: 0 };
}

function report(name: string, said: { readonly health?: 1 | 2 | 3 | 4; readonly load?: LoadView }) {
  return { key: keyOf(name), path: "reports[0]", health: said.health, load: said.load };
}

test("a registration is visible when its batch is on disk, under a lease of 30 s unless it says otherwise", () => {
  const r = new Registry();
  const answer = r.registrar.register(ANN, command([stamped("web")]), at(0));
  expect([answer.ttlMs, answer.leaseId, r.names()]).toEqual([30_000, "a/1", []]);
  r.take();
  expect(r.names()).toEqual([]);
  r.land(at(0));
  expect([r.names(), r.registrar.hasWork, r.registrar.takeBatch()]).toEqual([["web"], false, undefined]);
  expect(r.disk.rows.get(keyOf("web"))?.leaseId).toBe("a/1");
});

test("the same content again is a no-op that moves the key to the new lease: no record, and the old lease is gone", () => {
  const r = new Registry();
  const first = r.register("ann", [stamped("web")], at(0));
  const { revision, lastSeq } = r.replica;
  const second = r.register("ann", [stamped("web")], at(20_000));
  expect([r.replica.revision, r.replica.lastSeq]).toEqual([revision, lastSeq]);
  expect(r.registrar.renew(ANN, [first, second], [], at(20_000))).toEqual({ expiredLeaseIds: [first], ttlMs: 30_000 });
  r.registrar.tick(at(40_000));
  r.flush(at(40_000));
  expect(r.names()).toEqual(["web"]);
  r.restart(at(40_000));
  r.registrar.tick(at(80_000));
  r.flush(at(80_000));
  expect(r.names()).toEqual([]);
});

test("the same content again, while the first is on its way to the disk, is no second record, and falls with it", () => {
  const r = new Registry();
  const first = r.registrar.register(ANN, command([stamped("web")]), at(0));
  r.take();
  const second = r.registrar.register(ANN, command([stamped("web")]), at(1));
  expect([r.replica.lastSeq, r.replica.staged.length]).toEqual([1, 1]);
  r.land(at(1));
  r.flush(at(1));
  expect([r.names(), r.leases.has(first.leaseId), r.disk.rows.get(keyOf("web"))?.leaseId]).toEqual([["web"], false, second.leaseId]);
  const other = new Registry();
  other.registrar.register(ANN, command([stamped("web")]), at(0));
  other.take();
  other.registrar.register(ANN, command([stamped("web")]), at(1));
  other.refuse();
  expect([other.names(), [...other.leases.ids()], other.registrar.hasWork]).toEqual([[], [], false]);
});

test("load and times are not content; anything else is, and makes one update", () => {
  const r = new Registry();
  r.register("ann", [stamped("web")], at(0));
  r.register("ann", [stamped("web", { load: { utilization: 0.5, latencyMs: 3 } })], at(1));
  expect(r.replica.lastSeq).toBe(1);
  r.register("ann", [stamped("web", { metadata: { note: "new" } })], at(2));
  expect([r.replica.lastSeq, r.replica.view(keyOf("web"))?.firstSeq]).toEqual([2, 1]);
});

test("joining a lease renews it and keeps its ttl; a lease that loses one of its keys lives on", () => {
  const r = new Registry();
  const first = r.register("ann", [stamped("web"), stamped("db")], at(0), { ttlMs: 5_000 });
  expect(r.registrar.register(ANN, command([stamped("api")], { leaseId: first }), at(4_000))).toEqual({ leaseId: first, ttlMs: 5_000 });
  r.register("ann", [stamped("db")], at(4_000));
  r.registrar.tick(at(8_999));
  r.flush(at(8_999));
  expect(r.names()).toEqual(["api", "db", "web"]);
  r.registrar.tick(at(9_000));
  r.flush(at(9_000));
  expect(r.names()).toEqual(["db"]);
});

test.each([
  { what: "a ttl below the least", rest: { ttlMs: 999 }, want: "invalid_argument" },
  { what: "a ttl above the most", rest: { ttlMs: 86_400_001 }, want: "invalid_argument" },
  { what: "a ttl for a static lease", rest: { ttlMs: 5_000, isStatic: true }, want: "invalid_argument" },
  { what: "a lease this node does not hold", rest: { leaseId: "b/1" }, want: "lease_not_found" },
  { what: "another principal's lease", rest: { leaseId: "a/1" }, want: "lease_not_found" },
  { what: "the least ttl", rest: { ttlMs: 1_000 }, want: "none" },
  { what: "the longest ttl", rest: { ttlMs: 86_400_000 }, want: "none" },
])("register with $what: $want, and nothing is staged when refused", ({ rest, want }) => {
  const r = new Registry();
  r.register("bob", [stamped("other")], at(0));
  const before = r.state();
  expect(reasonOf(() => r.registrar.register(ANN, command([stamped("web")], rest), at(1)))).toBe(want);
  if (want !== "none") expect([r.state(), r.registrar.hasWork]).toEqual([before, false]);
});

test("a request that names a key twice is refused whole, by the index of both", () => {
  const r = new Registry();
  const twice = command([stamped("web"), stamped("db"), stamped("web")]);
  expect(() => r.registrar.register(ANN, twice, at(0))).toThrow("entries[2].key: is the same as entries[0].key");
  expect([r.registrar.hasWork, r.leases.size]).toEqual([false, 0]);
});

test("a static lease never ends by time, only by unregistering its last key or itself", () => {
  const r = new Registry();
  const one = r.register("ann", [stamped("web"), stamped("db")], at(0), { isStatic: true });
  r.registrar.tick(at(NEVER_BEFORE));
  expect([r.names(), r.registrar.nextDeadlineMs()]).toEqual([["db", "web"], NEVER]);
  expect(r.registrar.renew(ANN, [one], [], at(1))).toEqual({ expiredLeaseIds: [], ttlMs: undefined });
  r.restart(at(0));
  expect(r.leases.find(one)?.ttlMs).toBeUndefined();
  r.registrar.unregisterKeys(ANN, [keyOf("web")], at(1));
  expect(r.leases.has(one)).toBe(true);
  r.registrar.unregisterKeys(ANN, [keyOf("db")], at(2));
  r.flush(at(2));
  expect([r.leases.has(one), r.disk.leases.size, r.names()]).toEqual([false, 0, []]);
});

test("a key belongs to who registered it; mesh.admin may do what the owner may, and takes it over by registering", () => {
  const r = new Registry();
  r.register("ann", [stamped("web")], at(0));
  const changed = command([stamped("new"), stamped("web", { tags: ["x"] })]);
  expect(reasonOf(() => r.registrar.register(BOB, changed, at(1)))).toBe("discovery_access_denied");
  expect(reasonOf(() => r.registrar.register(BOB, command([stamped("web")]), at(1)))).toBe("discovery_access_denied");
  expect(reasonOf(() => r.registrar.unregisterKeys(BOB, [keyOf("web")], at(1)))).toBe("discovery_access_denied");
  expect(reasonOf(() => r.registrar.renew(BOB, [], [report("web", { health: 2 })], at(1)))).toBe("discovery_access_denied");
  expect(r.registrar.renew(BOB, ["a/1"], [], at(1)).expiredLeaseIds).toEqual(["a/1"]);
  expect([r.registrar.hasWork, r.leases.size]).toEqual([false, 1]);
  r.registrar.register(ADMIN, command([stamped("web")]), at(2));
  r.flush(at(2));
  expect(r.replica.view(keyOf("web"))?.principal).toBe("root");
  expect(reasonOf(() => r.registrar.unregisterKeys(ANN, [keyOf("web")], at(3)))).toBe("discovery_access_denied");
  expect(r.registrar.unregisterKeys(ADMIN, [keyOf("web")], at(3))).toHaveLength(1);
});

test("ownership holds for what is staged and not yet on disk", () => {
  const r = new Registry();
  r.registrar.register(ANN, command([stamped("web")]), at(0));
  expect(reasonOf(() => r.registrar.register(BOB, command([stamped("web")]), at(0)))).toBe("discovery_access_denied");
  r.registrar.unregisterKeys(ANN, [keyOf("web")], at(0));
  expect(reasonOf(() => r.registrar.register(BOB, command([stamped("web")]), at(0)))).toBe("none");
});

test("unregistering keys: unknown ones count 0, repeated ones once, and one of another's refuses the whole", () => {
  const r = new Registry();
  r.register("ann", [stamped("web"), stamped("db")], at(0));
  r.register("bob", [stamped("api")], at(0));
  expect(r.registrar.unregisterKeys(ANN, [keyOf("nothing")], at(1))).toEqual([]);
  expect(reasonOf(() => r.registrar.unregisterKeys(ANN, [keyOf("web"), keyOf("api")], at(1)))).toBe("discovery_access_denied");
  expect(r.registrar.hasWork).toBe(false);
  expect(r.registrar.unregisterKeys(ANN, [keyOf("web"), keyOf("web"), keyOf("nothing")], at(1))).toHaveLength(1);
  expect(r.registrar.unregisterKeys(ANN, [keyOf("web")], at(1))).toEqual([]);
  r.flush(at(1));
  expect([r.names(), r.replica.own(keyOf("web"))?.body]).toEqual([["api", "db"], BODY.UNREGISTERED]);
});

test("unregistering a lease removes its entries; an unknown one and another's are not found", () => {
  const r = new Registry();
  const lease = r.register("ann", [stamped("web"), stamped("db")], at(0));
  for (const id of ["a/9", "b/1"]) expect(reasonOf(() => r.registrar.unregisterLease(ANN, id, at(1)))).toBe("lease_not_found");
  expect(reasonOf(() => r.registrar.unregisterLease(BOB, lease, at(1)))).toBe("lease_not_found");
  expect(r.registrar.unregisterLease(ANN, lease, at(1))).toHaveLength(2);
  r.flush(at(1));
  expect([r.names(), r.disk.leases.size]).toEqual([[], 0]);
});

test("at expiry every entry of the lease gets an expired tombstone, and renewal in time prevents it", () => {
  const r = new Registry();
  const kept = r.register("ann", [stamped("db")], at(0));
  r.register("ann", [stamped("web"), stamped("api")], at(0));
  r.registrar.renew(ANN, [kept], [], at(29_000));
  r.registrar.tick(at(29_999));
  expect(r.registrar.hasWork).toBe(false);
  r.registrar.tick(at(30_000));
  r.flush(at(30_000));
  expect([r.names(), r.registrar.expiredCount]).toEqual([["db"], 1]);
  expect(["web", "api"].map((name) => r.replica.own(keyOf(name))?.body)).toEqual([BODY.EXPIRED, BODY.EXPIRED]);
});

test("expiry costs what expires, a bounded amount a tick, and says when to come back", () => {
  const r = new Registry();
  for (let n = 0; n < 2_500; n++) r.registrar.register(ANN, command([stamped(`s${n}`)], { ttlMs: 5_000 }), at(0));
  r.flush(at(0));
  r.register("ann", [stamped("late")], at(0), { ttlMs: 60_000 });
  expect(r.registrar.nextDeadlineMs()).toBe(5_000);
  r.registrar.tick(at(5_000));
  r.flush(at(5_000));
  expect(r.leases.size).toBe(501);
  expect(r.registrar.nextDeadlineMs()).toBe(5_000);
  r.registrar.tick(at(5_000));
  r.flush(at(5_000));
  expect([r.names(), r.leases.size]).toEqual([["late"], 1]);
});

test("leases with many entries expire whole, and few in one tick: what is bounded is the number of entries", () => {
  const r = new Registry();
  const entries = (lease: number) => Array.from({ length: 100 }, (_, n) => stamped(`l${lease}-s${n}`));
  for (let lease = 0; lease < 50; lease++) r.register("ann", entries(lease), at(0), { ttlMs: 5_000 });
  const left: number[] = [];
  for (let tick = 0; tick < 3; tick++) {
    r.registrar.tick(at(5_000));
    r.flush(at(5_000));
    left.push(r.names().length);
  }
  expect(left).toEqual([3_000, 1_000, 0]);
  expect([r.registrar.expiredCount, r.registrar.nextDeadlineMs() > at(5_000).monoMs]).toEqual([50, true]);
});

test("an idempotency key gives the first answer for the ttl, to its own principal, also after a restart", () => {
  const r = new Registry();
  const first = r.register("ann", [stamped("web")], at(0), { idempotencyKey: "k", ttlMs: 5_000 });
  const again = (who = "ann", ms = 1): string =>
    r.register(who, [stamped(who === "ann" ? "web" : who)], at(ms), { idempotencyKey: "k", ttlMs: 5_000 });
  expect(again()).toBe(first);
  expect(r.names()).toEqual(["web"]);
  expect(again("bob")).not.toBe(first);
  r.restart(at(0));
  expect(again()).toBe(first);
  expect(again("ann", 5_000)).not.toBe(first);
});

test("an idempotency key of another request is refused, and nothing of it is registered, also after a restart", () => {
  const r = new Registry();
  const first = r.register("ann", [stamped("web")], at(0), { idempotencyKey: "k" });
  const other = () => reasonOf(() => r.register("ann", [stamped("db")], at(1), { idempotencyKey: "k" }));
  expect(other()).toBe("invalid_argument");
  r.restart(at(0));
  expect([other(), r.names()]).toEqual(["invalid_argument", ["web"]]);
  expect(r.register("ann", [stamped("web")], at(1), { idempotencyKey: "k" })).toBe(first);
});

test("idempotency keys are bounded: the oldest is forgotten first", () => {
  const r = new Registry();
  const ids = [0, 1, 2, 3, 4].map((n) => r.register("ann", [stamped(`s${n}`)], at(0), { idempotencyKey: `k${n}` }));
  expect(r.register("ann", [stamped("s4")], at(1), { idempotencyKey: "k4" })).toBe(ids[4]);
  expect(r.register("ann", [stamped("s0")], at(1), { idempotencyKey: "k0" })).not.toBe(ids[0]);
});

test("a restart gives back entries and leases, each for its ttl once more, and never a seq twice", () => {
  const r = new Registry();
  const lease = r.register("ann", [stamped("web")], at(0));
  r.register("ann", [stamped("gone")], at(0));
  r.registrar.unregisterKeys(ANN, [keyOf("gone")], at(1));
  r.flush(at(1));
  r.restart(at(100));
  expect([r.names(), r.replica.lastSeq, r.replica.self.through]).toEqual([["web"], 3, 3]);
  r.registrar.tick(at(30_099));
  expect(r.registrar.renew(ANN, [lease], [], at(30_099)).expiredLeaseIds).toEqual([]);
  r.register("ann", [stamped("next")], at(30_099));
  expect(r.replica.own(keyOf("next"))?.seq).toBe(4);
});

test("a health report is one update and keeps everything else; the same health again is none", () => {
  const r = new Registry();
  r.register("ann", [stamped("web", { tags: ["x"] })], at(0));
  for (const ms of [1, 2]) r.registrar.renew(ANN, [], [report("web", { health: HEALTH.CRITICAL })], at(ms));
  r.flush(at(2));
  const view = r.replica.view(keyOf("web"));
  expect([r.replica.lastSeq, view?.health, view?.traits.tags, view?.filterSeq]).toEqual([2, HEALTH.CRITICAL, ["x"], 2]);
  expect(reasonOf(() => r.registrar.renew(ANN, [], [report("none", { health: 1 })], at(3)))).toBe("not_found");
  r.register("ann", [stamped("web", { tags: ["x"] })], at(3));
  expect(r.replica.view(keyOf("web"))?.health).toBe(HEALTH.HEALTHY);
});

test("Why: load goes to others when its band changes, at most once in 30 s an entry; the last report is kept here", () => {
  const r = new Registry();
  r.register("ann", [stamped("web")], at(0));
  const said: [number, number, number?][] = [
    [1, 0.1],
    [2, 0.2],
    [10_000, 0.9],
    [20_000, 0.1],
    [30_001, 0.9],
    [40_000, 0.1],
    [60_001, 0.1],
    [60_002, 0.1, 500],
    [90_001, 0.12, 500],
  ];
  const seqs = said.map(([ms, utilization, latencyMs]) => {
    r.registrar.renew(ANN, [], [report("web", { load: load(utilization, latencyMs) })], at(ms));
    r.flush(at(ms));
    return r.replica.lastSeq;
  });
  expect(seqs).toEqual([2, 2, 2, 2, 3, 3, 4, 4, 5]);
  expect(r.registrar.loads.of(keyOf("web"))?.utilization).toBe(0.12);
  expect(r.replica.view(keyOf("web"))?.filterSeq).toBe(1);
});

test("a key that is gone takes its load report with it, however it went", () => {
  const r = new Registry();
  for (const how of ["keys", "lease", "expiry"]) {
    const lease = r.register("ann", [stamped("web")], at(0));
    r.registrar.renew(ANN, [], [report("web", { load: load(0.9) })], at(1));
    r.flush(at(1));
    if (how === "keys") r.registrar.unregisterKeys(ANN, [keyOf("web")], at(2));
    else if (how === "lease") r.registrar.unregisterLease(ANN, lease, at(2));
    else r.registrar.tick(at(40_000));
    r.flush(at(2));
    expect([how, r.registrar.loads.of(keyOf("web"))]).toEqual([how, undefined]);
  }
});

test("a refused batch undoes the load it would have told: it is told with the next report", () => {
  const r = new Registry();
  r.register("ann", [stamped("web")], at(0));
  r.registrar.renew(ANN, [], [report("web", { load: load(0.9) })], at(1));
  r.refuse();
  r.registrar.renew(ANN, [], [report("web", { load: load(0.9) })], at(2));
  r.flush(at(2));
  expect(r.replica.own(keyOf("web"))?.seq).toBe(3);
});

test("a refused unregister leaves the lease with the time it had", () => {
  const r = new Registry();
  const lease = r.register("ann", [stamped("web")], at(9_000), { ttlMs: 5_000 });
  r.registrar.unregisterLease(ANN, lease, at(10_000));
  r.refuse();
  expect(r.leases.find(lease)?.deadlineMonoMs).toBe(14_000);
  r.registrar.tick(at(13_999));
  r.flush(at(13_999));
  expect(r.names()).toEqual(["web"]);
});

test("a refused expiry is tried again", () => {
  const r = new Registry();
  r.register("ann", [stamped("web")], at(0), { ttlMs: 5_000 });
  r.registrar.tick(at(5_000));
  r.refuse();
  expect([r.names(), r.registrar.nextDeadlineMs()]).toEqual([["web"], 5_000]);
  r.registrar.tick(at(5_001));
  r.flush(at(5_001));
  expect(r.names()).toEqual([]);
});

const act = fc.record({
  kind: fc.constantFrom("register", "register", "join", "static", "keys", "lease", "report", "tick", "take", "land", "refuse", "refuse"),
  who: fc.constantFrom("ann", "bob"),
  name: fc.constantFrom("web", "db", "api", "job"),
  other: fc.constantFrom("web", "db", "api", "job"),
  note: fc.constantFrom("", "", "x"),
  pick: fc.nat(20),
});

test("whatever the journal refuses, before and behind what it takes, is as if never asked for: memory says what the disk says", () => {
  fc.assert(
    fc.property(fc.array(act, { minLength: 1, maxLength: 60, size: "max" }), (acts) => {
      const r = new Registry();
      acts.forEach(({ kind, who, name, other, note, pick }, n) => {
        const time = at(n * 700);
        const ids = [...r.leases.ids()];
        const leaseId = ids[pick % Math.max(1, ids.length)] ?? "a/0";
        const stampedEntries = [stamped(name, { metadata: { note } }), ...(other === name ? [] : [stamped(other)])];
        reasonOf(() => {
          if (kind === "register") r.registrar.register(caller(who), command(stampedEntries, { ttlMs: 1_000 + pick * 1_000 }), time);
          else if (kind === "static") r.registrar.register(caller(who), command(stampedEntries, { isStatic: true }), time);
          else if (kind === "join") r.registrar.register(caller(who), command(stampedEntries, { leaseId }), time);
          else if (kind === "keys") r.registrar.unregisterKeys(caller(who), [keyOf(name), keyOf(other)], time);
          else if (kind === "lease") r.registrar.unregisterLease(caller(who), leaseId, time);
          else if (kind === "report") r.registrar.renew(caller(who), [], [report(name, { health: pick % 2 === 0 ? 1 : 2 })], time);
          else if (kind === "tick") r.registrar.tick(time);
        });
        if (kind === "take") r.take();
        else if (kind === "land") r.land(time);
        else if (kind === "refuse") {
          r.refuse();
          expect(durableState(r)).toEqual(durableState(r.twin()));
          expect(r.registrar.takeBatch()?.puts ?? []).toEqual([]);
        }
        expect(r.unleased()).toEqual([]);
      });
      r.flush(at(60_000));
      expect(durableState(r)).toEqual(durableState(r.twin()));
    }),
    { numRuns: runs(200) },
  );
});

const DAY_MS = 86_400_000;

test.each([
  { what: "put it", body: BODY.ENTRY, wallMs: DAY_MS + 1 },
  { what: "unregistered it", body: BODY.UNREGISTERED, wallMs: DAY_MS + 1 },
  // That says nothing of a record of this node, so nothing needs to be above it.
  { what: "let it expire", body: BODY.EXPIRED, wallMs: 2 },
])(
  "Why: what is registered here is seen at once, though another node, a day ahead, $what; that clock is felt by this key only",
  ({ body, wallMs }) => {
    const r = new Registry();
    r.hear("web", body, DAY_MS, at(0));
    r.register("ann", [stamped("web", { tags: ["mine"] })], at(1));
    expect(r.replica.view(keyOf("web"))?.origin).toBe(r.replica.self);
    // The next change too, also when nothing of the first is durable yet.
    r.registrar.register(ANN, command([stamped("web", { tags: ["more"] })]), at(2));
    r.registrar.renew(ANN, [], [report("web", { health: HEALTH.DEGRADED })], at(3));
    r.flush(at(3));
    const view = r.replica.view(keyOf("web"));
    expect([view?.origin.id, view?.traits.tags, view?.health]).toEqual(["a/1", ["more"], HEALTH.DEGRADED]);
    const wallOf = (name: string): number => hlcWallMs(r.replica.own(keyOf(name))?.hlc ?? 0) - WALL;
    r.register("ann", [stamped("db")], at(4));
    // Two registrations, each half a millisecond above what was before. The report has no stamp of its own.
    expect([wallOf("web"), wallOf("db")]).toEqual([wallMs, 4]);
    // Nor does the own row, read back, take the clock along.
    r.restart(at(5));
    r.register("ann", [stamped("api")], at(6));
    expect([wallOf("web"), wallOf("db"), wallOf("api")]).toEqual([wallMs, 4, 6]);
    r.hear("web", BODY.UNREGISTERED, 2 * DAY_MS, at(7));
    r.register("ann", [stamped("web")], at(8));
    expect([r.names(), wallOf("web")]).toEqual([["api", "db", "web"], 2 * DAY_MS]);
  },
);

test.each([
  { what: "a node a day ahead put", own: false },
  { what: "is held here too, and a node a day ahead put since", own: true },
])("Why: a key that $what is gone at once when it is unregistered here, and comes back when it is registered again", ({ own }) => {
  const r = new Registry();
  if (own) r.register("ann", [stamped("web")], at(0));
  r.hear("web", BODY.ENTRY, DAY_MS, at(1));
  expect(r.registrar.unregisterKeys(ANN, [keyOf("web")], at(2))).toHaveLength(1);
  r.flush(at(2));
  expect([r.names(), r.replica.own(keyOf("web"))?.body]).toEqual([[], BODY.UNREGISTERED]);
  r.register("ann", [stamped("web")], at(3));
  expect(r.names()).toEqual(["web"]);
  // Both in one batch.
  r.registrar.unregisterKeys(ANN, [keyOf("web")], at(4));
  r.registrar.register(ANN, command([stamped("web", { tags: ["x"] })]), at(4));
  r.flush(at(4));
  expect(r.names()).toEqual(["web"]);
  r.registrar.register(ANN, command([stamped("web", { tags: ["y"] })]), at(5));
  r.registrar.unregisterKeys(ANN, [keyOf("web")], at(5));
  r.flush(at(5));
  expect(r.names()).toEqual([]);
});

test("Why: stamps of one key rise, whatever clocks others have: the newest write here is above all that shows or ends something", () => {
  const saidHlc = ({ body, hlc, unregisteredHlc }: Pick<CatalogRecord, "body" | "hlc" | "unregisteredHlc">) =>
    body === BODY.EXPIRED ? (unregisteredHlc ?? 0) : hlc;
  const body = fc.constantFrom(BODY.ENTRY, BODY.UNREGISTERED, BODY.EXPIRED);
  const step = fc.oneof(
    fc.record({ kind: fc.constant("hear" as const), body, hlcMs: fc.integer({ min: -DAY_MS, max: 2 * DAY_MS }) }),
    fc.record({ kind: fc.constantFrom("register" as const, "unregister" as const, "flush" as const, "restart" as const) }),
  );
  fc.assert(
    fc.property(fc.array(step, { maxLength: 30 }), (history) => {
      const r = new Registry();
      history.forEach((done, ms) => {
        const time = at(ms);
        const own = r.replica.own(keyOf("web"));
        const newest = Math.max(0, ...[...(own === undefined ? [] : [own]), ...r.replica.records(keyOf("web"))].map(saidHlc));
        if (done.kind === "hear") r.hear("web", done.body, done.hlcMs, time);
        else if (done.kind === "register") r.registrar.register(ANN, command([stamped("web", { tags: [`${ms}`] })]), time);
        else if (done.kind === "unregister" && r.registrar.unregisterKeys(ANN, [keyOf("web")], time).length === 0) return;
        else if (done.kind === "flush") r.flush(time);
        else if (done.kind === "restart") r.restart(time);
        if (done.kind === "register" || done.kind === "unregister") expect(r.replica.own(keyOf("web"))?.hlc).toBeGreaterThan(newest);
      });
    }),
    { numRuns: runs(200) },
  );
});

test("P6: while somebody may still come with what they end, old tombstones stay, and no deadline asks for them", () => {
  const r = new Registry();
  r.register("ann", [stamped("web")], at(0));
  r.registrar.unregisterKeys(ANN, [keyOf("web")], at(1));
  r.flush(at(1));
  r.registrar.unregisterLease(ANN, "a/1", at(1));
  r.flush(at(1));
  r.collectsBy = "count";
  r.registrar.tick(at(NEVER_BEFORE));
  r.flush(at(NEVER_BEFORE));
  expect([r.replica.tombstoneCount, r.disk.rows.size, r.registrar.nextDeadlineMs()]).toEqual([1, 1, NEVER]);
  r.collectsBy = "age";
  expect(r.registrar.nextDeadlineMs()).toBe(3_600_001);
  r.registrar.tick(at(NEVER_BEFORE));
  r.flush(at(NEVER_BEFORE));
  expect([r.replica.tombstoneCount, r.disk.rows.size, r.registrar.nextDeadlineMs()]).toEqual([0, 0, NEVER]);
});

test("P6: before it is known which origins are lost no tombstone goes, neither for its age nor for their number", () => {
  const r = new Registry();
  const names = ["a", "b", "c", "d", "e", "f"];
  r.register(
    "ann",
    names.map((name) => stamped(name)),
    at(0),
  );
  r.registrar.unregisterKeys(
    ANN,
    names.map((name) => keyOf(name)),
    at(1),
  );
  r.flush(at(1));
  r.collectsBy = "nothing";
  r.registrar.tick(at(NEVER_BEFORE));
  r.flush(at(NEVER_BEFORE));
  expect([r.replica.tombstoneCount, r.disk.rows.size]).toEqual([6, 6]);
  r.collectsBy = "count";
  r.registrar.tick(at(NEVER_BEFORE));
  expect(r.replica.tombstoneCount).toBe(4);
});

function durableState(r: Registry): unknown {
  const records = r.replica.self.log.list().map(({ key, seq, body, principal }) => `${key} ${seq} ${body} ${principal}`);
  const leases = [...r.leases.ids()].toSorted().map((id) => {
    const { ttlMs, principal } = r.leases.find(id) ?? {};
    return { id, ttlMs, principal, keys: r.leases.keysOf(id).toSorted() };
  });
  return { records, leases, names: r.names(), floor: r.replica.self.floor };
}

test("Orphans: a hidden entry is unregistered as any other, and does not come back with its node", () => {
  const r = new Registry();
  r.hear("web", BODY.ENTRY, 0, at(0));
  const origin = r.replica.origins.get("b/1");
  if (origin === undefined) throw new Error("no origin");
  r.replica.setLife(origin, "hidden");
  const ann = { principal: "ann", tenant: "", cluster: "c1", roles: [], isAuthenticated: true, address: "" };
  expect(r.registrar.unregisterKeys(ann, [keyOf("web")], at(1))).toHaveLength(1);
  expect(r.registrar.unregisterKeys(ann, [keyOf("web")], at(1))).toEqual([]);
  r.flush(at(1));
  expect(r.registrar.unregisterKeys(ann, [keyOf("web")], at(2))).toEqual([]);
  r.replica.setLife(origin, "live");
  expect(r.replica.view(keyOf("web"))).toBeUndefined();
});
