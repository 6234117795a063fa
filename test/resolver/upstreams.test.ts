/** Which upstream a resolver follows. */
import { expect, test } from "vitest";
import { type UpstreamFacts, UpstreamSet } from "../../src/resolver/upstreams.ts";

const OURS: UpstreamFacts = { clusterId: "c1", region: "r1", via: [] };

function upstreams(...addresses: readonly string[]): UpstreamSet {
  return new UpstreamSet({ addresses, name: "me", clusterId: "c1", region: "r1", random: () => 0.5 }, 0);
}

test("the quickest of those that answer is followed, and of equals the first", () => {
  const list = upstreams("a", "b", "c");
  expect(list.takeProbes(0)).toEqual(["a", "b", "c"]);
  expect([list.current, list.isCutOff]).toEqual([undefined, true]);
  list.answered("b", 5, OURS, 10);
  expect(list.current).toBe("b");
  list.failed("b", 20);
  expect(list.current).toBeUndefined();
  list.answered("c", 5, OURS, 30);
  list.answered("a", 5, OURS, 30);
  list.failed("c", 40);
  expect(list.current).toBe("a");
});

test("one whose data is stale is followed only while no other may be", () => {
  const list = upstreams("a", "b");
  list.answered("a", 5, OURS, 0);
  list.noteStale("a", true, 10);
  expect(list.current).toBe("a");
  list.answered("b", 9, OURS, 20);
  expect(list.current).toBe("b");
  list.failed("b", 30);
  expect(list.current).toBe("a");
  list.answered("b", 9, OURS, 11_000);
  expect(list.current).toBe("b");
  list.noteStale("b", true, 11_010);
  expect(list.current).toBe("b");
  list.noteStale("b", false, 11_020);
  expect(probe(list, { a: 5, b: 9 }, 15_000, 10_000).at(-1)).toBe("b");
  expect(probe(list, { a: 5, b: 9 }, 30_010, 60_000).at(-1)).toBe("a");
});

test("one that named a policy which nobody has is left alone for a minute, each time for twice as long, and an hour at most", () => {
  const list = upstreams("a");
  const rests: number[] = [];
  let monoMs = 0;
  for (let n = 0; n < 8; n++) {
    list.answered("a", 5, OURS, monoMs);
    expect([list.current, list.refused]).toEqual(["a", []]);
    list.noteUnmetClaim("a", monoMs);
    list.answered("a", 5, OURS, monoMs + 1);
    list.noteVia("a", [], monoMs + 1);
    expect([list.current, list.refused, list.takeRefused()]).toMatchObject([undefined, [{ refusal: "policy" }], []]);
    rests.push((list.nextDeadlineMs() - monoMs) / 1000);
    monoMs = list.nextDeadlineMs();
  }
  expect(rests).toEqual([60, 120, 240, 480, 960, 1920, 3600, 3600]);
  list.answered("a", 5, OURS, monoMs + 86_400_001);
  list.noteUnmetClaim("a", monoMs + 86_400_001);
  expect([list.nextDeadlineMs() - monoMs - 86_400_001, list.faults.policy]).toEqual([60_000, 9]);
});

/** Probes both every 5 s from `from` on, for so long. Returns what is followed at each time. */
function probe(list: UpstreamSet, latency: Record<string, number>, from: number, forMs: number): readonly (string | undefined)[] {
  const followed: (string | undefined)[] = [];
  for (let monoMs = from; monoMs <= from + forMs; monoMs += 5000) {
    for (const [address, latencyMs] of Object.entries(latency)) list.answered(address, latencyMs, OURS, monoMs);
    followed.push(list.current);
  }
  return followed;
}

test.each([
  { what: "better by a fifth for 30 s is followed", latency: 8, forMs: 35_000, want: "b" },
  { what: "better by a fifth for less is not", latency: 8, forMs: 25_000, want: "a" },
  { what: "better by less is not", latency: 8.2, forMs: 300_000, want: "a" },
])("another one that is $what", ({ latency, forMs, want }) => {
  const list = upstreams("a", "b");
  list.answered("a", 10, OURS, 0);
  expect(probe(list, { a: 10, b: latency }, 1000, forMs).at(-1)).toBe(want);
});

test("one that was better only now and then is not followed", () => {
  const list = upstreams("a", "b");
  list.answered("a", 10, OURS, 0);
  for (let n = 0; n < 50; n++) {
    probe(list, { a: 10, b: 1 }, n * 40_000, 20_000);
    probe(list, { a: 10, b: 100 }, n * 40_000 + 25_000, 10_000);
    expect(list.current).toBe("a");
  }
});

test.each([
  { facts: { ...OURS, clusterId: "c2" }, refusal: "cluster", why: /"c2".*"c1"; set node\.cluster_id/ },
  { facts: { ...OURS, clusterId: "c".repeat(1000) }, refusal: "cluster", why: /^.{60,200}$/ },
  { facts: { ...OURS, region: "r2" }, refusal: "region", why: /"r2".*"r1"; set node\.region/ },
  { facts: { ...OURS, via: ["x", "me"] }, refusal: "loop", why: /"me"; set resolver\.upstreams .* node\.id/ },
  {
    facts: { ...OURS, via: ["p", "q", "r", "s", "t"] },
    refusal: "chain",
    why: /through 5 .* at most 4 are allowed; set resolver\.upstreams/,
  },
] as const)("an upstream is refused, and it is said once why: $refusal", ({ facts, refusal, why }) => {
  const list = upstreams("a", "b");
  list.answered("a", 1, facts, 0);
  const refused = [{ upstream: "a", refusal, fault: expect.stringMatching(why) as string }];
  expect([list.current, list.refused, list.takeRefused()]).toEqual([undefined, refused, refused]);
  list.answered("a", 1, facts, 10);
  expect([list.refused, list.takeRefused(), list.faults[refusal]]).toEqual([refused, [], 1]);
  list.answered("b", 100, { ...OURS, via: ["p", "q", "r", "s"] }, 0);
  expect(list.current).toBe("b");
  // It may be mended.
  list.answered("a", 1, OURS, 5000);
  expect([list.refused, list.takeRefused()]).toEqual([[], []]);
  list.answered("a", 1, facts, 10_000);
  list.answered("a", 1, { ...facts, clusterId: "c3" }, 10_001);
  const said = refusal === "cluster" ? ["cluster"] : [refusal, "cluster"];
  expect(list.takeRefused().map((each) => each.refusal)).toEqual(said);
});

test("what was under way when an upstream turned out to be of another cluster does not make it ours", () => {
  const list = upstreams("a");
  list.answered("a", 1, OURS, 0);
  list.answered("a", 1, { ...OURS, clusterId: "c2" }, 5000);
  list.noteVia("a", [], 5001);
  expect([list.current, list.refused]).toMatchObject([undefined, [{ refusal: "cluster" }]]);
});

test("a loop that closes while an upstream is followed is seen by what its messages say", () => {
  const list = upstreams("a", "b");
  for (const address of ["a", "b"]) list.answered(address, 5, OURS, 0);
  list.noteVia("a", ["x"], 100);
  expect(list.current).toBe("a");
  list.noteVia("a", ["x", "me"], 200);
  expect(list.current).toBe("b");
});

test("one that fails is tried again after waits that grow to 10 s, or after what it asks for", () => {
  const list = upstreams("a");
  list.takeProbes(0);
  const waits: number[] = [];
  for (let n = 0; n < 8; n++) {
    list.failed("a", 1000);
    waits.push(list.nextDeadlineMs() - 1000);
  }
  expect(waits.every((wait, n) => n === 0 || wait >= (waits[n - 1] ?? 0))).toBe(true);
  expect([waits[0], waits.at(-1)]).toEqual([138, 5500]);
  list.failed("a", 1000, 60_000);
  expect([list.nextDeadlineMs(), list.takeProbes(60_999)]).toEqual([61_000, []]);
});

test("an address is probed once at a time", () => {
  const list = upstreams("a");
  expect([list.takeProbes(0), list.takeProbes(100_000), list.nextDeadlineMs()]).toEqual([["a"], [], Number.POSITIVE_INFINITY]);
  list.answered("a", 1, OURS, 100_000);
  expect(list.nextDeadlineMs()).toBe(105_000);
});

test("calls go to the one that is followed, then to the quickest of the others", () => {
  const list = upstreams("a", "b", "c", "d");
  expect(list.usable).toEqual([]);
  for (const [address, latencyMs] of [
    ["a", 5],
    ["b", 9],
    ["c", 7],
  ] as const)
    list.answered(address, latencyMs, OURS, 10);
  list.answered("d", 6, { ...OURS, clusterId: "c2" }, 10);
  list.failed("a", 20);
  list.answered("a", 1, OURS, 1000);
  expect([list.current, list.usable]).toEqual(["c", ["c", "a", "b"]]);
});

test("one that answers probes, but breaks whatever is followed there, is tried less and less often until it goes well", () => {
  const list = upstreams("a");
  list.takeProbes(0);
  list.answered("a", 5, OURS, 0);
  const waits: number[] = [];
  let monoMs = 0;
  const breakAndReturn = () => {
    list.broke("a", monoMs);
    const dueMonoMs = list.nextDeadlineMs();
    waits.push(dueMonoMs - monoMs);
    monoMs = dueMonoMs;
    expect(list.takeProbes(monoMs)).toEqual(["a"]);
    list.answered("a", 5, OURS, monoMs);
    expect(list.current).toBe("a");
  };
  for (let n = 0; n < 8; n++) breakAndReturn();
  list.markHealthy("a");
  breakAndReturn();
  expect(waits).toEqual([138, 275, 550, 1100, 2200, 4400, 5500, 5500, 138]);
});

test("a probe that was under way when its server broke does not bring it back before its time", () => {
  const list = upstreams("a");
  list.answered("a", 5, OURS, 0);
  expect(list.takeProbes(6000)).toEqual(["a"]);
  list.broke("a", 6001, 10_000);
  list.answered("a", 5, OURS, 6002);
  expect([list.current, list.nextDeadlineMs(), list.takeProbes(16_000)]).toEqual([undefined, 16_001, []]);
  expect(list.takeProbes(16_001)).toEqual(["a"]);
  list.answered("a", 5, OURS, 16_002);
  expect(list.current).toBe("a");
});

test("one that was answered again begins with short waits when it fails later", () => {
  const list = upstreams("a");
  for (let n = 0; n < 8; n++) {
    list.failed("a", n * 20_000);
    list.answered("a", 5, OURS, n * 20_000 + 15_000);
  }
  list.failed("a", 200_000);
  expect(list.nextDeadlineMs() - 200_000).toBeLessThanOrEqual(250);
});
