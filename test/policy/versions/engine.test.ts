import { expect, test } from "vitest";
import { runThrough } from "../../../src/lib/machine.ts";
import type { PolicySet } from "../../../src/policy/set/rules.ts";
import { encodeVersion } from "../../../src/policy/versions/codec.ts";
import { type ApplyTerms, PolicyEngine } from "../../../src/policy/versions/engine.ts";
import type { PolicyVersion, VersionFacts, VersionRow } from "../../../src/policy/versions/version.ts";
import { containing, rule, set, span } from "../../fakes/policies.ts";

const BLUE = { clusterId: "eu-1", tenant: "blue" };
const TERMS: ApplyTerms = { expectedNumber: 0, stage: undefined, principal: "ann", reason: "because", changeTicket: "T-1" };

/** Sets that show svc.a to this tenant only. */
function only(tenant: string): PolicySet {
  return set([rule("svc.a", { visibilityTenants: [tenant] })], { version: tenant });
}

class Bench {
  readonly engine: PolicyEngine;
  readonly rows: VersionRow[] = [];

  constructor(options: { readonly nodeId?: string; readonly maxVersions?: number; readonly maxBytes?: number } = {}) {
    this.engine = new PolicyEngine({ nodeId: "n1", clusterId: "eu-1", maxVersions: 100, maxBytes: 1e6, ...options });
  }

  /** Drafts, stores and commits. Returns the numbers that were dropped. */
  apply(one: PolicySet, terms: Partial<ApplyTerms> = {}): readonly number[] {
    const version = runThrough(this.engine.stamped(one, { ...TERMS, ...terms }, 1000));
    const bytes = encodeVersion(version);
    this.rows.push({ number: version.number, bytes });
    return this.engine.commit(version, bytes.length);
  }

  sees(tenant: string): boolean {
    return this.engine.policy.viewer("svc.a", { ...BLUE, tenant }).allowed;
  }
}

function stamped(bench: Bench, one: PolicySet, terms: Partial<ApplyTerms> = {}): PolicyVersion {
  return runThrough(bench.engine.stamped(one, { ...TERMS, ...terms }, 1000));
}

test("no policy is in force until one is applied; then its number is 1", () => {
  const bench = new Bench();
  expect(bench.engine.status).toEqual({ isEnabled: false, inForce: undefined, newest: undefined, degraded: "", conflict: "" });
  expect(bench.engine.policy.viewer("svc.a", BLUE).reason).toBe("policy_disabled");
  bench.apply(only("blue"));
  expect(bench.engine.status).toMatchObject({
    isEnabled: true,
    inForce: { number: 1, version: "blue", ruleCount: 1, appliedWallMs: 1000, principal: "ann", reason: "because", changeTicket: "T-1" },
  });
  expect(bench.sees("blue")).toBe(true);
  expect(bench.sees("red")).toBe(false);
});

test("a version says how it differs from the newest before it, at most 200 rules", () => {
  const bench = new Bench();
  bench.apply(only("blue"));
  bench.apply(only("red"));
  expect(bench.engine.status.newest?.changes).toMatchObject([{ pattern: "" }, { pattern: "svc.a", change: "changed" }]);
  bench.apply(set(Array.from({ length: 300 }, (_, i) => rule(`x${i}`))));
  expect(bench.engine.status.newest).toMatchObject({ changesLeftOut: 102 });
});

test("an expected number that is not the newest is a version conflict, and nothing happens", () => {
  const bench = new Bench();
  bench.apply(only("blue"));
  expect(() => stamped(bench, only("red"), { expectedNumber: 2 })).toThrow(
    "version_conflict: the newest policy version is 1, but the request expects 2",
  );
  bench.apply(only("red"), { expectedNumber: 1 });
  expect(bench.engine.newestNumber).toBe(2);
});

test("of two drafts of the same number the one that is committed first wins", () => {
  const bench = new Bench();
  const [first, second] = [stamped(bench, only("blue")), stamped(bench, only("red"))];
  bench.engine.commit(second, 10);
  expect(() => bench.engine.commit(first, 10)).toThrow("version_conflict");
  expect(bench.sees("red")).toBe(true);
});

test("a stage by clusters puts a version in force there, and elsewhere the one before stays", () => {
  const bench = new Bench();
  bench.apply(only("blue"));
  bench.apply(only("red"), { stage: { by: "clusters", clusterIds: ["us-1"] } });
  expect(bench.engine.status).toMatchObject({ inForce: { number: 1 }, newest: { number: 2 } });
  bench.apply(only("green"), { stage: { by: "clusters", clusterIds: ["us-1", "eu-1"] } });
  expect(bench.engine.status).toMatchObject({ inForce: { number: 3 }, newest: { number: 3 } });
});

test("a stage by percent takes about that share of nodes, and a wider stage of the same rules keeps those it had", () => {
  const nodes = Array.from({ length: 1000 }, (_, i) => new Bench({ nodeId: `node-${i}` }));
  const takenBy = (percent: number) => {
    for (const node of nodes) node.apply(only("blue"), { stage: { by: "percent", percent } });
    return new Set(nodes.filter(({ engine }) => engine.inForce?.number === engine.newestNumber));
  };
  const ten = takenBy(10);
  for (const node of nodes) node.apply(only("red"), { stage: { by: "percent", percent: 10 } });
  const others = nodes.filter(({ engine }) => engine.inForce?.version === "red");
  expect(others.some((node) => !ten.has(node))).toBe(true);
  expect(ten.size).toBeGreaterThan(60);
  expect(ten.size).toBeLessThan(140);
  const half = takenBy(50);
  expect(half.size).toBeGreaterThan(430);
  expect(half.size).toBeLessThan(570);
  expect([...ten].every((node) => half.has(node))).toBe(true);
  expect(takenBy(100).size).toBe(1000);
});

test.each([
  { stage: { by: "percent", percent: 0 }, says: "stage.percent: must be from 1 to 100, got 0" },
  { stage: { by: "percent", percent: 1.5 }, says: "stage.percent: must be from 1 to 100, got 1.5" },
  { stage: { by: "percent", percent: 101 }, says: "stage.percent" },
  { stage: { by: "clusters", clusterIds: [] }, says: "stage.clusters.cluster_ids: must contain at least one cluster" },
] as const)("a stage that reaches nobody or too many is refused: $says", ({ stage, says }) => {
  expect(() => stamped(new Bench(), only("blue"), { stage })).toThrow(says);
});

test("a rollback goes to the version before the newest, or to the one that is named", () => {
  const bench = new Bench();
  expect(() => bench.engine.rollbackTarget(0)).toThrow("not_found: no policy version before the newest exists: there are no versions");
  bench.apply(only("blue"));
  expect(() => bench.engine.rollbackTarget(0)).toThrow("versions 1 to 1 are kept");
  bench.apply(only("red"));
  bench.apply(only("green"));
  expect(bench.engine.rollbackTarget(0)).toMatchObject({ number: 2 });
  expect(bench.engine.rollbackTarget(1)).toMatchObject({ number: 1 });
  expect(() => bench.engine.rollbackTarget(9)).toThrow("versions 1 to 3 are kept");
});

test("history is bounded by number and by bytes, but never forgets the newest two and the one in force", () => {
  const few = new Bench({ maxVersions: 3 });
  expect([1, 2, 3, 4, 5].map(() => few.apply(only("blue")))).toEqual([[], [], [], [1], [2]]);
  const small = new Bench({ maxBytes: 1 });
  expect([1, 2, 3].map(() => small.apply(only("blue")))).toEqual([[], [], [1]]);
  const staged = new Bench({ maxVersions: 2 });
  staged.apply(only("blue"));
  for (const _ of [1, 2, 3]) staged.apply(only("red"), { stage: { by: "clusters", clusterIds: ["us-1"] } });
  expect(staged.engine.history().map(({ number }) => number)).toEqual([4, 1]);
});

test("what the store kept is in force again after a restart, stage and history included", () => {
  const before = new Bench();
  before.apply(only("blue"));
  before.apply(only("red"), { stage: { by: "clusters", clusterIds: ["us-1"] } });
  const after = new Bench();
  after.engine.restore(before.rows.toReversed());
  expect(after.engine.status).toEqual(before.engine.status);
  expect(after.engine.history()).toEqual(before.engine.history());
  expect(after.engine.newestNumber).toBe(2);
  const elsewhere = new PolicyEngine({ nodeId: "n2", clusterId: "us-1", maxVersions: 100, maxBytes: 1e6 });
  elsewhere.restore(before.rows);
  expect(elsewhere.inForce?.number).toBe(2);
});

function damaged({ number, bytes }: VersionRow): VersionRow {
  const copy = bytes.slice();
  copy[copy.length - 20] = (copy[copy.length - 20] ?? 0) ^ 1;
  return { number, bytes: copy };
}

test("with a newest version that cannot be read the last known good one is in force, and the status says so", () => {
  const before = new Bench();
  for (const tenant of ["blue", "red", "green"]) before.apply(only(tenant));
  const [one, two, three] = before.rows;
  if (one === undefined || two === undefined || three === undefined) throw new Error("three rows");
  const bench = new Bench();
  bench.engine.restore([one, two, damaged(three)]);
  expect(bench.engine.status.degraded).toBe("version 3 cannot be read: it was modified or truncated; version 2 is in force");
  expect(bench.sees("red")).toBe(true);
  expect(bench.engine.newestNumber).toBe(3);
  bench.apply(only("blue"));
  expect(bench.engine.status).toMatchObject({ inForce: { number: 4 }, degraded: "" });
});

test.each([
  { why: "changed", spoil: (row: VersionRow) => damaged(row) },
  { why: "cut off", spoil: ({ number, bytes }: VersionRow) => ({ number, bytes: bytes.slice(0, 30) }) },
  { why: "empty", spoil: ({ number }: VersionRow) => ({ number, bytes: new Uint8Array() }) },
  { why: "of another number", spoil: ({ bytes }: VersionRow) => ({ number: 7, bytes }) },
])("with no version that can be read ($why) everything is denied", ({ spoil }) => {
  const before = new Bench();
  before.apply(set([], { defaultAllow: true }));
  const bench = new Bench();
  bench.engine.restore(before.rows.map(spoil));
  expect(bench.engine.policy.viewer("svc.a", BLUE)).toMatchObject({ allowed: false, reason: "no_policy" });
  expect(bench.engine.status).toMatchObject({ isEnabled: true, inForce: undefined, degraded: containing("all requests are denied") });
});

test("a policy file that cannot be had keeps what is in force, and with nothing in force denies everything", () => {
  const bench = new Bench();
  bench.engine.fileRead("policy file p.yaml: no such file");
  expect(bench.engine.status.degraded).toBe("policy file p.yaml: no such file; all requests are denied");
  expect(bench.sees("blue")).toBe(false);
  bench.engine.fileRead("");
  bench.apply(only("blue"));
  bench.engine.fileRead("policy file p.yaml: line 1: broken");
  expect(bench.engine.status.degraded).toBe("policy file p.yaml: line 1: broken; version 1 is in force");
  expect(bench.sees("blue")).toBe(true);
  bench.engine.fileRead("");
  expect(bench.engine.status.degraded).toBe("");
});

test("a version found in the store is adopted, and one that cannot be read takes its number but not the force", () => {
  const other = new Bench();
  other.apply(only("blue"));
  other.apply(only("red"));
  const bench = new Bench();
  const [one, two] = other.rows;
  if (one === undefined || two === undefined) throw new Error("two rows");
  bench.engine.adopt(one);
  bench.engine.adopt(one);
  bench.engine.adopt(damaged(two));
  expect(bench.engine.status).toMatchObject({ inForce: { number: 1 }, degraded: containing("version 2 cannot be read") });
  expect(bench.engine.newestNumber).toBe(2);
});

test("the next edge is that of any window of any rule, whichever way the clock jumps", () => {
  const bench = new Bench();
  expect(bench.engine.nextEdgeWallMs(0)).toBeUndefined();
  bench.apply(set([rule("a", { cutoverWindows: [span(100, 300)] }), rule("b", { cutoverWindows: [span(200), span(50, 100)] })]));
  expect([400, 0, 50, 99, 100, 250, 299, 300, 60].map((at) => bench.engine.nextEdgeWallMs(at))).toEqual([
    undefined,
    50,
    100,
    100,
    200,
    300,
    300,
    undefined,
    100,
  ]);
});

test("denying everything is not taken for any version, so that no cursor given under one goes on", () => {
  const denying = new PolicyEngine({ nodeId: "n", clusterId: "c", maxVersions: 2, maxBytes: 1_000_000 });
  denying.denyAll("unreadable");
  expect(denying.policy.epoch).toBe("0");
  expect(denying.policy.viewer("svc", { clusterId: "c", tenant: "" })).toMatchObject({ allowed: false, reason: "no_policy" });
});

test("while a cluster's policy is awaited nobody sees anything and everybody may register; a version, or that there is none, ends it", () => {
  const bench = new Bench();
  bench.engine.isAwaiting = true;
  const { policy } = bench.engine;
  expect(policy.viewer("svc.a", BLUE)).toMatchObject({ allowed: false, reason: "no_policy" });
  expect(policy.viewer("discovery.nodes", BLUE).allowed).toBe(true);
  expect(policy.source("svc.a", { clusterId: "eu-1", region: "eu" }).allowed).toBe(true);
  expect([policy.epoch, policy.isPending, bench.engine.policy]).toEqual(["pending", true, policy]);
  bench.apply(only("blue"));
  expect([bench.sees("blue"), bench.engine.policy.isPending]).toEqual([true, false]);
  const alone = new Bench();
  alone.engine.isAwaiting = true;
  alone.engine.isAwaiting = false;
  expect(alone.engine.policy.viewer("svc.a", BLUE).reason).toBe("policy_disabled");
});

/** Facts of a version of this number, by ann at that node; empty for versions from before nodes were kept. */
function factsOf(number: number, nodeId: string): VersionFacts {
  const { set: _set, ...facts } = stamped(new Bench({ nodeId }), only(`${number} at ${nodeId}`));
  return { ...facts, number };
}

test("after a restart losers are there newest first, and a conflict is told where one has the newest number", () => {
  const bench = new Bench();
  bench.apply(only("blue"));
  const { rows } = bench;
  const again = (losers: readonly VersionFacts[]) => {
    bench.engine.restore(rows, losers);
    return bench.engine.status.conflict;
  };
  expect(again([factsOf(1, "b"), factsOf(2, "c")])).toBe(
    "version 1 of ann on b was superseded by version 1 of ann on n1, which is not based on it",
  );
  expect(bench.engine.history().map(({ number, isSuperseded }) => [number, isSuperseded])).toEqual([
    [2, true],
    [1, false],
    [1, true],
  ]);
  expect(again([factsOf(1, "")])).toContain("on an unknown node was superseded");
  expect(again([factsOf(2, "c")])).toBe("");
  const [early, late] = [
    { ...factsOf(1, "b"), hlc: 1 },
    { ...factsOf(1, "c"), hlc: 2 },
  ];
  for (const losers of [
    [early, late],
    [late, early],
  ]) {
    expect(again(losers)).toContain("version 1 of ann on c was superseded");
    expect(bench.engine.history().flatMap(({ isSuperseded, facts }) => (isSuperseded ? [facts?.nodeId] : []))).toEqual(["c", "b"]);
  }
  // A crash between keeping the loser and the winner's taking its place leaves the same version twice.
  expect(again([bench.engine.newest ?? factsOf(1, "n1")])).toBe("");
});
