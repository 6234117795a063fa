import fc from "fast-check";
import { expect, test } from "vitest";
import { WaymarkError } from "../../../src/lib/errors.ts";
import { anonymousCaller } from "../../../src/policy/identity/caller.ts";
import {
  type HolderQuota,
  NamespaceQuotas,
  type QuotaBound,
  type QuotaChange,
  type QuotaEntry,
  type QuotaHolder,
} from "../../../src/policy/limits/quotas.ts";
import type { LimitRefusal } from "../../../src/policy/limits/rate-limits.ts";
import type { NamespaceQuota } from "../../../src/policy/set/rules.ts";
import { runs } from "../../fakes/effort.ts";

const NO_QUOTA: NamespaceQuota = { entries: 0, watches: 0, bytes: 0 };
const CALLER = { ...anonymousCaller("c1", "192.0.2.1"), tenant: "t" };

/** A catalog that is a map of key to entry, and quotas over it. */
class Catalog {
  readonly visible = new Map<string, QuotaEntry>();
  readonly refusals: (LimitRefusal & { holder: QuotaHolder; bound: QuotaBound })[] = [];
  readonly quotas: NamespaceQuotas;
  namespaceQuota: Partial<NamespaceQuota> = {};
  tenantQuota: Partial<HolderQuota> = {};

  constructor() {
    const sum = (of: (held: QuotaEntry) => boolean) => {
      const found = [...this.visible.values()].filter(of);
      return {
        entries: found.length,
        bytes: found.reduce((bytes, held) => bytes + held.bytes, 0),
        checks: found.reduce((checks, held) => checks + held.checks, 0),
      };
    };
    this.quotas = new NamespaceQuotas({
      namespaceQuota: () => ({ ...NO_QUOTA, ...this.namespaceQuota }),
      tenantQuota: () => ({ ...NO_QUOTA, ...this.tenantQuota }),
      namespaceUsage: (name) => sum((held) => held.namespace === name),
      tenantUsage: (name) => sum((held) => held.tenant === name),
      isSet: () => true,
      sees: (_caller, namespace) => namespace !== "hidden",
      onRefusal: (refusal, holder, bound) => this.refusals.push({ ...refusal, holder, bound }),
    });
  }
}

const entry = (namespace: string, bytes = 100, tenant = "t"): QuotaEntry => ({ namespace, tenant, bytes, checks: 0 });
const added = (after: QuotaEntry): QuotaChange => ({ before: undefined, after });

test("checks of a tenant are limited, including staged checks, and an entry may change its own checks", () => {
  const catalog = new Catalog();
  catalog.tenantQuota = { checks: 5 };
  const checked = (checks: number, tenant = "t"): QuotaEntry => ({ ...entry("svc", 100, tenant), checks });
  catalog.visible.set("a", checked(2));
  catalog.quotas.stage(1, added(checked(2)));
  expect(() => catalog.quotas.check(CALLER, [added(checked(2))])).toThrow(
    'quota_exceeded: tenant "t" has 4 of at most 5 checks; this request would add 2: remove checks, or raise quotas.tenant_checks',
  );
  for (const change of [added(checked(1)), { before: checked(2), after: checked(3) }, added(checked(5, "u")), added(checked(0))])
    expect(() => catalog.quotas.check(CALLER, [change])).not.toThrow();
  catalog.quotas.abort();
  expect(() => catalog.quotas.check(CALLER, [added(checked(3))])).not.toThrow();
});

test.each([
  {
    what: "entries of a namespace",
    namespaceQuota: { entries: 2 },
    want: 'namespace "svc" has 2 of at most 2 entries; this request would add 1: unregister entries, or raise the quota in the policy rule of the namespace, or quotas.namespace_entries if the rule has none',
  },
  {
    what: "bytes of a namespace",
    namespaceQuota: { bytes: 250 },
    want: 'namespace "svc" has 200 of at most 250 bytes; this request would add 100: unregister entries, or raise the quota in the policy rule of the namespace, or quotas.namespace_bytes if the rule has none',
  },
  {
    what: "entries of a tenant",
    tenantQuota: { entries: 2 },
    want: 'tenant "t" has 2 of at most 2 entries; this request would add 1: unregister entries, or raise quotas.tenant_entries',
  },
  {
    what: "bytes of a tenant",
    tenantQuota: { bytes: 299 },
    want: 'tenant "t" has 200 of at most 299 bytes; this request would add 100: unregister entries, or raise quotas.tenant_bytes',
  },
])("$what are bounded, and the refusal names what is full", ({ namespaceQuota = {}, tenantQuota = {}, want }) => {
  const catalog = new Catalog();
  Object.assign(catalog, { namespaceQuota, tenantQuota });
  catalog.visible.set("a", entry("svc")).set("b", entry("svc"));
  expect(() => catalog.quotas.check(CALLER, [added(entry("svc"))])).toThrow(`quota_exceeded: ${want}`);
  expect(catalog.refusals).toMatchObject([{ reason: "quota_exceeded", action: "write", detail: want.split(";")[0] }]);
});

test("who may not see a namespace is not told how much is in it", () => {
  const catalog = new Catalog();
  catalog.namespaceQuota = { entries: 1 };
  catalog.visible.set("a", entry("hidden"));
  const thrown = () => catalog.quotas.check(CALLER, [added(entry("hidden"))]);
  expect(thrown).toThrow('quota_exceeded: namespace "hidden" may have at most 1 entries; this request would add 1');
  expect(thrown).toThrow(expect.objectContaining({ details: { metadata: { namespace: "hidden", bound: "entries", max: "1" } } }) as Error);
});

test("a refusal carries holder, bound, current and most as facts", () => {
  const catalog = new Catalog();
  catalog.namespaceQuota = { entries: 1 };
  const thrown = () => catalog.quotas.check(CALLER, [added(entry("svc")), added(entry("svc"))]);
  expect(thrown).toThrow(WaymarkError);
  expect(thrown).toThrow(
    expect.objectContaining({ details: { metadata: { namespace: "svc", bound: "entries", current: "0", max: "1" } } }) as Error,
  );
});

test.each([
  { what: "replacing an entry adds none", before: entry("svc", 100), after: entry("svc", 100), ok: true },
  { what: "replacing by a smaller one frees bytes", before: entry("svc", 100), after: entry("svc", 50), ok: true },
  { what: "replacing by a larger one adds bytes", before: entry("svc", 100), after: entry("svc", 101), ok: false },
  { what: "what another tenant had counts as added", before: entry("svc", 100, "other"), after: entry("svc", 100), ok: false },
  { what: "the control plane's own namespaces have no quota", before: undefined, after: entry("discovery.nodes"), ok: true },
  { what: "an entry of no tenant fills no tenant", before: entry("svc", 1, ""), after: entry("svc", 1, ""), ok: true },
])("over a lowered quota, $what: passes $ok", ({ before, after, ok }) => {
  const catalog = new Catalog();
  catalog.visible
    .set("a", entry("svc"))
    .set("b", entry("svc"))
    .set("c", entry("svc", 1, ""));
  [catalog.namespaceQuota, catalog.tenantQuota] = [
    { entries: 1, bytes: 10 },
    { entries: 1, bytes: 10 },
  ];
  const check = () => catalog.quotas.check(CALLER, [{ before, after }]);
  if (ok) expect(check).not.toThrow();
  else expect(check).toThrow("quota_exceeded");
});

test("a burst that is not on disk yet counts, and an undone one does not", () => {
  const all = new Catalog();
  all.namespaceQuota = { entries: 3 };
  for (let seq = 1; seq <= 3; seq++) {
    all.quotas.check(CALLER, [added(entry("svc"))]);
    all.quotas.stage(seq, added(entry("svc")));
  }
  expect(() => all.quotas.check(CALLER, [added(entry("svc"))])).toThrow("has 3 of at most 3 entries");
  all.quotas.abort();
  expect(() => all.quotas.check(CALLER, [added(entry("svc"))])).not.toThrow();
  expect(all.quotas.stagedCount).toBe(0);
});

test("watches are bounded by namespace and tenant while they are open", () => {
  const catalog = new Catalog();
  [catalog.namespaceQuota, catalog.tenantQuota] = [{ watches: 1 }, { watches: 2 }];
  const close = catalog.quotas.openWatch(CALLER, "svc.a");
  expect(() => catalog.quotas.openWatch(CALLER, "svc.a")).toThrow('namespace "svc.a" has 1 of at most 1 watches');
  // All namespaces at once count for the tenant alone.
  catalog.quotas.openWatch(CALLER, "");
  expect(() => catalog.quotas.openWatch(CALLER, "svc.b")).toThrow(
    'tenant "t" has 2 of at most 2 watches; this request would add 1: close watches, or raise quotas.tenant_watches',
  );
  expect(catalog.quotas.watchCount("namespace", "svc.b")).toBe(0);
  close();
  close();
  catalog.quotas.openWatch(CALLER, "svc.b");
  expect(catalog.quotas.watchCount("tenant", "t")).toBe(2);
  expect(catalog.refusals.map(({ holder, action }) => `${holder} ${action}`)).toEqual(["namespace watch", "tenant watch"]);
});

const NAMESPACE_QUOTA = { entries: 3, bytes: 200 };
const TENANT_QUOTA = { entries: 2, bytes: 150 };

/** Whether any namespace or tenant would hold more than it does, and more than it may: counted anew from all that is held. */
function exceedsQuota(held: ReadonlyMap<string, QuotaEntry>, puts: readonly { key: string; after: QuotaEntry }[]): boolean {
  const then = new Map(held);
  for (const { key, after } of puts) then.set(key, after);
  const passes = (field: "namespace" | "tenant", name: string, quota: { entries: number; bytes: number }) => {
    const [before, after] = [held, then].map((map) => [...map.values()].filter((each) => each[field] === name));
    const bytes = (list: readonly QuotaEntry[] = []) => list.reduce((sum, each) => sum + each.bytes, 0);
    const isMoreEntries = (after?.length ?? 0) > Math.max(quota.entries, before?.length ?? 0);
    return isMoreEntries || bytes(after) > Math.max(quota.bytes, bytes(before));
  };
  return puts.some(
    ({ after }) =>
      passes("namespace", after.namespace, NAMESPACE_QUOTA) || (after.tenant !== "" && passes("tenant", after.tenant, TENANT_QUOTA)),
  );
}

test("whatever is put, replaced, removed, committed and undone: refused is exactly what a naive count refuses", () => {
  const step = fc.record({
    act: fc.constantFrom("put", "put", "put", "remove", "commit", "abort"),
    keys: fc.uniqueArray(fc.constantFrom("k1", "k2", "k3", "k4", "k5", "k6"), { minLength: 1, maxLength: 3 }),
    namespace: fc.constantFrom("n1", "n2"),
    tenant: fc.constantFrom("t1", "t2", ""),
    bytes: fc.integer({ min: 1, max: 100 }),
    part: fc.nat(5),
  });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      const catalog = new Catalog();
      [catalog.namespaceQuota, catalog.tenantQuota] = [NAMESPACE_QUOTA, TENANT_QUOTA];
      let staged: { seq: number; key: string; change: QuotaChange }[] = [];
      let seq = 0;
      const current = (key: string) => {
        const newest = staged.findLast((each) => each.key === key);
        return newest === undefined ? catalog.visible.get(key) : newest.change.after;
      };
      const held = () => {
        const keys = new Set([...catalog.visible.keys(), ...staged.map(({ key }) => key)]);
        return new Map(
          [...keys].flatMap((key) => [current(key)].flatMap((newest) => (newest === undefined ? [] : [[key, newest] as const]))),
        );
      };
      const stage = (key: string, after: QuotaEntry | undefined) => {
        const change = { before: current(key), after };
        seq += 1;
        catalog.quotas.stage(seq, change);
        staged.push({ seq, key, change });
      };
      const show = ({ key, change }: { key: string; change: QuotaChange }) =>
        change.after === undefined ? catalog.visible.delete(key) : catalog.visible.set(key, change.after);
      for (const { act, keys, namespace, tenant, bytes, part } of steps) {
        if (act === "put") {
          // A key is of one namespace, as in the catalog.
          const puts = keys.map((key) => ({ key: `${namespace}/${key}`, after: { namespace, tenant, bytes, checks: 0 } }));
          const check = () =>
            catalog.quotas.check(
              CALLER,
              puts.map(({ key, after }) => ({ before: current(key), after })),
            );
          const isRefused = exceedsQuota(held(), puts);
          if (isRefused) expect(check).toThrow("quota_exceeded");
          else expect(check).not.toThrow();
          if (!isRefused) for (const { key, after } of puts) stage(key, after);
        } else if (act === "remove") {
          for (const key of keys) if (current(`${namespace}/${key}`) !== undefined) stage(`${namespace}/${key}`, undefined);
        } else if (act === "abort") {
          catalog.quotas.abort();
          staged = [];
        } else {
          const through = seq - part;
          for (const each of staged) if (each.seq <= through) show(each);
          staged = staged.filter((each) => each.seq > through);
          catalog.quotas.commit(through);
        }
        expect(catalog.quotas.stagedCount).toBe(staged.length);
      }
    }),
    { numRuns: runs(300) },
  );
});
