import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { networkOf } from "../../../src/lib/addresses.ts";
import { WaymarkError } from "../../../src/lib/errors.ts";
import type { Caller } from "../../../src/policy/identity/caller.ts";
import { anonymousCaller } from "../../../src/policy/identity/caller.ts";
import {
  areLimitsSet,
  type CallCost,
  callerKey,
  type LimitRefusal,
  RateLimiter,
  type RateLimits,
} from "../../../src/policy/limits/rate-limits.ts";
import { BUCKET_FORMS } from "../../fakes/bucket-forms.ts";
import { runs, sized } from "../../fakes/effort.ts";

const OFF: RateLimits = {
  readsPerMinute: 0,
  writesPerMinute: 0,
  namespaceReadsPerMinute: 0,
  namespaceWritesPerMinute: 0,
  watches: 0,
  windowMs: 60_000,
  maxKeys: 2000,
};

const stranger = (address: string): Caller => anonymousCaller("c1", address);
const tenant = (name: string, principal = ""): Caller => ({ ...stranger("192.0.2.1"), tenant: name, principal });

/** Whether a call passes; how long to wait, when it does not. */
function waitOf(act: () => void): number {
  try {
    act();
    return 0;
  } catch (error) {
    if (!(error instanceof WaymarkError) || error.reason !== "discovery_rate_limited") throw error;
    return error.details.retryMs ?? -1;
  }
}

describe.each(BUCKET_FORMS)("buckets $form", ({ makeBuckets, mostKept }) => {
  function limitsOf(limits: Partial<RateLimits>): { limits: RateLimiter; refusals: LimitRefusal[] } {
    const refusals: LimitRefusal[] = [];
    return { limits: new RateLimiter({ ...OFF, ...limits }, (refusal) => refusals.push(refusal), makeBuckets), refusals };
  }

  test("without a limit everything passes and nothing is kept", () => {
    const { limits } = limitsOf({});
    expect(areLimitsSet(OFF)).toBe(false);
    for (let i = 0; i < 1000; i++) {
      limits.admit(tenant("a"), "write", 0);
      limits.admitIn(["svc"], tenant("a"), "write", 0);
      limits.openWatch(tenant("a"));
    }
    expect([limits.size, limits.watcherCount]).toEqual([0, 0]);
  });

  test.each(["readsPerMinute", "writesPerMinute", "namespaceReadsPerMinute", "namespaceWritesPerMinute", "watches"] as const)(
    "%s alone counts as a limit",
    (name) => {
      expect(areLimitsSet({ ...OFF, [name]: 1 })).toBe(true);
    },
  );

  test.each([
    { what: "reads and writes have their own", first: "read", second: "write", wait: 0 },
    { what: "a second read waits for its token", first: "read", second: "read", wait: 60_000 },
    { what: "a second write waits for its token", first: "write", second: "write", wait: 60_000 },
  ] as const)("$what", ({ first, second, wait }) => {
    const { limits } = limitsOf({ readsPerMinute: 1, writesPerMinute: 1 });
    limits.admit(tenant("a"), first, 0);
    expect(waitOf(() => limits.admit(tenant("a"), second, 0))).toBe(wait);
  });

  test.each([
    { what: "principals of a tenant share", one: tenant("a", "p1"), other: tenant("a", "p2"), shared: true },
    { what: "tenants do not share", one: tenant("a", "p"), other: tenant("b", "p"), shared: false },
    { what: "principals without a tenant do not share", one: tenant("", "p1"), other: tenant("", "p2"), shared: false },
    { what: "a principal is no tenant of that name", one: tenant("a"), other: tenant("", "a"), shared: false },
    {
      what: "a principal from two addresses is one",
      one: tenant("", "p"),
      other: { ...tenant("", "p"), address: "198.51.100.7" },
      shared: true,
    },
    { what: "strangers are told apart by address", one: stranger("192.0.2.1"), other: stranger("192.0.2.2"), shared: false },
    { what: "an IPv6 customer is one", one: stranger("2001:db8::1"), other: stranger("2001:db8::ffff:1"), shared: true },
    { what: "IPv6 customers are told apart", one: stranger("2001:db8:0:1::1"), other: stranger("2001:db8:0:2::1"), shared: false },
  ])("$what", ({ one, other, shared }) => {
    const { limits } = limitsOf({ readsPerMinute: 1 });
    limits.admit(one, "read", 0);
    expect(waitOf(() => limits.admit(other, "read", 0)) > 0).toBe(shared);
  });

  test.each([
    { address: "192.0.2.1", network: "192.0.2.1" },
    { address: "::ffff:192.0.2.1", network: "192.0.2.1" },
    { address: "::1", network: "0:0:0:0::/64" },
    { address: "2001:db8::1", network: "2001:db8:0:0::/64" },
    { address: "2001:0DB8:0:1:2:3:4:5", network: "2001:db8:0:1::/64" },
    { address: "fe80::1%eth0", network: "fe80:0:0:0::/64" },
    { address: "2001:db8:1:2:3::", network: "2001:db8:1:2::/64" },
    { address: "", network: "" },
  ])("the network of $address is $network", ({ address, network }) => {
    expect(networkOf(address)).toBe(network);
    expect(callerKey(stranger(address))).toBe(`address ${network}`);
  });

  test("a refusal says who, which limit and when, and is told of", () => {
    const { limits, refusals } = limitsOf({ readsPerMinute: 120, windowMs: 1000 });
    const refuse = (caller: Caller) => {
      for (;;) limits.admit(caller, "read", 0);
    };
    expect(() => refuse(tenant("a"))).toThrow(
      'discovery_rate_limited: limit exceeded: tenant "a" has a limit of 120 reads per minute; try again in 500 ms',
    );
    const slow = limitsOf({ readsPerMinute: 2, windowMs: 1000 }).limits;
    slow.admit(tenant("a"), "read", 0);
    expect(() => slow.admit(tenant("a"), "read", 0.5)).toThrow("has a limit of 2 reads per minute; try again in 30 s");
    expect(() => refuse(stranger("192.0.2.9"))).toThrow("this address has a limit of 120 reads per minute");
    expect(refusals).toMatchObject([
      { action: "read", namespace: "", reason: "rate_limited", detail: 'tenant "a" has a limit of 120 reads per minute' },
      { action: "read", caller: { address: "192.0.2.9" } },
    ]);
  });

  test.each([
    { perMinute: 120, windowMs: 60_000, burst: 120, nextMs: 500 },
    { perMinute: 120, windowMs: 1000, burst: 2, nextMs: 500 },
    { perMinute: 6000, windowMs: 10_000, burst: 1000, nextMs: 10 },
    { perMinute: 1, windowMs: 1000, burst: 1, nextMs: 60_000 },
    { perMinute: 3, windowMs: 30_000, burst: 1, nextMs: 10_000 },
  ])("$perMinute a minute with a window of $windowMs ms gives $burst at once and one more each $nextMs ms", (row) => {
    const { limits } = limitsOf({ readsPerMinute: row.perMinute, windowMs: row.windowMs });
    const read = (monoMs: number) => waitOf(() => limits.admit(tenant("a"), "read", monoMs));
    let burst = 0;
    while (read(5) === 0) burst += 1;
    expect(burst).toBe(row.burst);
    expect(read(5 + row.nextMs - 2)).toBeGreaterThan(0);
    expect(read(5 + row.nextMs)).toBe(0);
  });

  test("a namespace's limit holds over all callers, and a caller it refuses gets its own token back", () => {
    const { limits, refusals } = limitsOf({ writesPerMinute: 2, namespaceWritesPerMinute: 1 });
    const write = (caller: Caller, namespace: string) =>
      waitOf(() => {
        limits.admit(caller, "write", 0);
        limits.admitIn([namespace], caller, "write", 0);
      });
    expect(write(tenant("a"), "svc.x")).toBe(0);
    expect(write(tenant("b"), "svc.x")).toBe(60_000);
    expect(write(tenant("b"), "svc.x")).toBe(60_000);
    expect(write(tenant("b"), "svc.x")).toBe(60_000);
    expect(refusals.at(-1)).toMatchObject({ namespace: "svc.x", detail: 'namespace "svc.x" has a limit of 1 writes per minute' });
    // Both of b's own are still there.
    expect([write(tenant("b"), "svc.y"), write(tenant("b"), "svc.z")]).toEqual([0, 0]);
    expect(write(tenant("b"), "svc.w")).toBe(30_000);
  });

  test("a request over several namespaces takes from each once, or from none", () => {
    const { limits } = limitsOf({ namespaceWritesPerMinute: 1 });
    const write = (...namespaces: string[]) => waitOf(() => limits.admitIn(namespaces, tenant("a"), "write", 0));
    expect(write("full")).toBe(0);
    expect(write("x", "y", "full")).toBe(60_000);
    expect(write("x", "y", "x", "y")).toBe(0);
    expect(write("x")).toBe(60_000);
  });

  test("watches are counted while they are open, each once", () => {
    const { limits, refusals } = limitsOf({ watches: 2 });
    const [first, second] = [limits.openWatch(tenant("a")), limits.openWatch(tenant("a"))];
    expect(waitOf(() => limits.openWatch(tenant("a")))).toBe(5000);
    expect(refusals).toMatchObject([{ action: "watch", detail: 'tenant "a" has a limit of 2 open watches' }]);
    limits.openWatch(tenant("b"))();
    first();
    first();
    limits.openWatch(tenant("a"));
    expect(waitOf(() => limits.openWatch(tenant("a")))).toBe(5000);
    second();
    expect(limits.watcherCount).toBe(1);
  });

  test("a million strangers are bounded, and make nobody forget what a tenant used", () => {
    const { limits } = limitsOf({ readsPerMinute: 1, namespaceReadsPerMinute: 1000, maxKeys: 2000 });
    limits.admit(tenant("a"), "read", 0);
    let most = 0;
    for (let i = 0; i < sized(1_000_000, 100_000); i++) {
      const caller = stranger(`10.${(i >>> 16) & 255}.${(i >>> 8) & 255}.${i & 255}`);
      limits.admit(caller, "read", i / 1000);
      limits.admitIn([`svc.n${i}`], caller, "read", i / 1000);
      if (i % 9_991 === 0) most = Math.max(most, limits.size);
    }
    // Strangers, namespaces, and the one tenant.
    expect(most).toBeLessThanOrEqual(2 * mostKept(2000) + 1);
    expect(waitOf(() => limits.admit(tenant("a"), "read", 1000))).toBeGreaterThan(0);
  });

  test("no caller gets more than its allowance, whatever namespaces and methods it varies", () => {
    const call = fc.record({
      caller: fc.constantFrom("a", "b"),
      cost: fc.constantFrom<CallCost>("read", "write"),
      namespaces: fc.array(fc.constantFrom("n1", "n2", "n3", "n4"), { maxLength: 4 }),
      gapMs: fc.nat(400),
    });
    fc.assert(
      fc.property(fc.array(call, { maxLength: 150 }), (calls) => {
        const perMinute = { readsPerMinute: 300, writesPerMinute: 120, namespaceReadsPerMinute: 240, namespaceWritesPerMinute: 60 };
        const { limits } = limitsOf({ ...perMinute, windowMs: 2000 });
        const passed: { name: string; atMs: number }[] = [];
        let atMs = 0;
        for (const { caller, cost, namespaces, gapMs } of calls) {
          atMs += gapMs;
          const wait = waitOf(() => {
            limits.admit(tenant(caller), cost, atMs);
            limits.admitIn(namespaces, tenant(caller), cost, atMs);
          });
          if (wait > 0) continue;
          for (const name of new Set([`${cost} ${caller}`, ...namespaces.map((n) => `${cost} in ${n}`)])) passed.push({ name, atMs });
        }
        // From any call on: never more than a full bucket and what came back since.
        const allowance = (name: string) => {
          if (name.startsWith("read in")) return perMinute.namespaceReadsPerMinute;
          if (name.startsWith("write in")) return perMinute.namespaceWritesPerMinute;
          return name.startsWith("read") ? perMinute.readsPerMinute : perMinute.writesPerMinute;
        };
        for (const from of passed) {
          const rate = allowance(from.name) / 60_000;
          const since = passed.filter(({ name, atMs: at }) => name === from.name && at >= from.atMs);
          since.forEach(({ atMs: at }, i) => expect(i + 1).toBeLessThanOrEqual(rate * (2000 + at - from.atMs) + 1e-6));
        }
      }),
      { numRuns: runs(200) },
    );
  });

  test("a token given back is one the same caller can use, so a refusing namespace costs its caller nothing", () => {
    fc.assert(
      fc.property(fc.nat(50), (refusedCount) => {
        const { limits } = limitsOf({ readsPerMinute: 3, namespaceReadsPerMinute: 1 });
        limits.admitIn(["full"], tenant("x"), "read", 0);
        for (let i = 0; i < refusedCount; i++) {
          limits.admit(tenant("a"), "read", 0);
          expect(waitOf(() => limits.admitIn(["full"], tenant("a"), "read", 0))).toBeGreaterThan(0);
        }
        for (let i = 0; i < 3; i++) expect(waitOf(() => limits.admit(tenant("a"), "read", 0))).toBe(0);
        expect(waitOf(() => limits.admit(tenant("a"), "read", 0))).toBeGreaterThan(0);
      }),
    );
  });

  test("a flood is refused with few errors, and they do not pile up", () => {
    const { limits } = limitsOf({ readsPerMinute: 60, maxKeys: 10_000 });
    const errorAt = (caller: Caller, monoMs: number): unknown => {
      try {
        limits.admit(caller, "read", monoMs);
      } catch (error) {
        return error;
      }
      return undefined;
    };
    for (let i = 0; i < 60; i++) limits.admit(tenant("a"), "read", 0);
    const seen = new Set(Array.from({ length: 10_000 }, (_, i) => errorAt(tenant("a"), (i % 100) / 10)));
    expect(seen.size).toBeLessThanOrEqual(11);
    const first = errorAt(tenant("a"), 0);
    for (let i = 0; i < 2000; i++) for (let n = 0; n <= 60; n++) errorAt(tenant(`t${i}`), 0);
    expect(errorAt(tenant("a"), 0)).not.toBe(first);
    expect(errorAt(tenant("a"), 0)).toEqual(first);
  });
});
