/** Where a caller is sent whose name has nothing to choose here. */
import fc from "fast-check";
import { expect, test } from "vitest";
import { SCOPE } from "../../src/catalog/entry/scope.ts";
import { chooseRedirect, type RedirectCandidate, type RedirectOptions } from "../../src/summary/redirect.ts";
import { BAND } from "../../src/summary/summary.ts";
import { runs } from "../fakes/effort.ts";

const OPTIONS: RedirectOptions = { name: "svc/web", clusterId: "here", visited: [], region: "eu" };

function cluster(source: string, rest: Partial<RedirectCandidate> = {}): RedirectCandidate {
  const known = { region: "us", isStale: false, urls: [`grpc://${source}:1`] };
  return { source, channel: SCOPE.GLOBAL, endpointCount: 3, band: BAND.HEALTHY, latency: { minMs: 0, maxMs: 0 }, ...known, ...rest };
}

const ROWS: readonly { why: string; of: readonly RedirectCandidate[]; options?: Partial<RedirectOptions>; want: string | undefined }[] = [
  { why: "nothing is known", of: [], want: undefined },
  { why: "fresh and bad before stale and well", of: [cluster("a", { isStale: true }), cluster("b", { band: BAND.CRITICAL })], want: "b" },
  { why: "stale is better than nothing", of: [cluster("a", { isStale: true })], want: "a" },
  {
    why: "well and slow before degraded and fast",
    of: [cluster("a", { latency: { minMs: 64, maxMs: 512 } }), cluster("b", { band: BAND.DEGRADED, latency: { minMs: 1, maxMs: 1 } })],
    want: "a",
  },
  {
    why: "the smaller 90th percentile before the preferred region",
    of: [cluster("a", { region: "eu", latency: { minMs: 1, maxMs: 64 } }), cluster("b", { latency: { minMs: 16, maxMs: 32 } })],
    want: "b",
  },
  {
    why: "of equal 90th percentiles the smaller 10th",
    of: [cluster("a", { latency: { minMs: 16, maxMs: 64 } }), cluster("b", { latency: { minMs: 1, maxMs: 64 } })],
    want: "b",
  },
  {
    why: "of equal 90th percentiles the smaller 10th, whichever name the hash prefers",
    of: [cluster("a", { latency: { minMs: 1, maxMs: 64 } }), cluster("b", { latency: { minMs: 16, maxMs: 64 } })],
    want: "a",
  },
  {
    why: "a slow one before one that tells no latency",
    of: [cluster("a"), cluster("b", { latency: { minMs: 1, maxMs: 8192 } })],
    want: "b",
  },
  { why: "the preferred region", of: [cluster("a"), cluster("b", { region: "eu" })], want: "b" },
  { why: "the preferred region, whichever name the hash prefers", of: [cluster("a", { region: "eu" }), cluster("b")], want: "a" },
  { why: "never where the caller is", of: [cluster("here")], want: undefined },
  { why: "never where the caller was", of: [cluster("a"), cluster("b", { isStale: true })], options: { visited: ["a", "c"] }, want: "b" },
  { why: "the whole fleet was tried", of: [cluster("a"), cluster("b")], options: { visited: ["b", "a"] }, want: undefined },
  { why: "another cluster of the region", of: [cluster("a", { channel: SCOPE.REGION })], want: "a" },
  { why: "what a cluster says to itself", of: [cluster("a", { channel: SCOPE.ZONE })], want: undefined },
  { why: "no endpoints are left", of: [cluster("a", { endpointCount: 0 })], want: undefined },
  { why: "nobody could follow", of: [cluster("a", { urls: [] }), cluster("b", { isStale: true })], want: "b" },
];

test.each(ROWS)("$why: $want", ({ of, options, want }) => {
  expect(chooseRedirect(of, { ...OPTIONS, ...options })?.source).toBe(want);
  expect(chooseRedirect(of.toReversed(), { ...OPTIONS, ...options })?.source).toBe(want);
});

test("equal clusters share names, in whatever order they are known, and one that goes moves only its own names", () => {
  const all = ["a", "b", "c", "d"].map((source) => cluster(source));
  const names = Array.from({ length: 400 }, (_, i) => `svc/${i}`);
  const toCluster = (of: readonly RedirectCandidate[]) => names.map((name) => chooseRedirect(of, { ...OPTIONS, name })?.source);
  const chosen = toCluster(all);
  for (const { source } of all) expect(chosen.filter((one) => one === source).length).toBeGreaterThan(60);
  fc.assert(
    fc.property(fc.shuffledSubarray(all, { minLength: 4 }), fc.nat(3), (shuffled, gone) => {
      expect(toCluster(shuffled)).toEqual(chosen);
      const [left, lost] = [all.toSpliced(gone, 1), all[gone]?.source];
      expect(toCluster(left).every((one, i) => one === chosen[i] || chosen[i] === lost)).toBe(true);
    }),
    { numRuns: runs(20) },
  );
});
