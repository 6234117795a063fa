/** Reads of one caller under one policy and between two. */
import { expect, test } from "vitest";
import { ANY } from "../../src/catalog/query/filter.ts";
import { KIND } from "../../src/catalog/record/record.ts";
import type { WatchReader } from "../../src/catalog/watch/reader.ts";
import { healthRank } from "../../src/discovery/candidates.ts";
import { CatalogReads } from "../../src/discovery/reads.ts";
import type { Caller } from "../../src/policy/identity/caller.ts";
import { NO_POLICY, PENDING_POLICY, Policy } from "../../src/policy/set/verdict.ts";
import { rule, set } from "../fakes/policies.ts";
import { at, caller, Registry, stamped } from "../fakes/registry.ts";

const NODE = { nodeId: "a", clusterId: "c1", region: "r1", boot: "b1" };
const HIDING = new Policy(set([rule("svc", { visibilityTenants: ["blue"] })], { defaultAllow: true }), 1);
const SAMPLING = { form: "spread", at: 0, rank: healthRank, ideal: 0, fit: 0, wanted: 1 } as const;
const BLUE: Caller = { ...caller("ann"), tenant: "blue" };
const RED: Caller = { ...caller("bob"), tenant: "red" };

function open(names: readonly string[] = ["a", "b", "c"]) {
  const r = new Registry();
  r.register(
    "ann",
    names.map((name) => stamped(name)),
    at(0),
    { isStatic: true },
  );
  const policies = { policy: NO_POLICY };
  const denials: string[] = [];
  const reads = new CatalogReads(r.replica, NODE, {
    policies,
    onDenied: (who, { action, namespace, verdict }) => denials.push(`${who.tenant} ${action} ${namespace} ${verdict.reason}`),
  });
  /** As the node does when another policy is in force. */
  const change = (policy: Policy) => {
    policies.policy = policy;
    reads.show(policy);
    reads.settle(policy);
  };
  return { reads, policies, denials, change };
}

const page = (filter: Partial<typeof ANY>, token = "", limit = 2) => ({
  filter: { ...ANY, ...filter },
  limit,
  token,
  isExplained: false,
  salt: "q",
});

test("pages go through everything in key order, with a token that is of the filter and not of the viewer", () => {
  const { reads, change } = open();
  const first = reads.page(RED, page({ namespace: "svc" }));
  expect(first.records.map(({ name }) => name)).toEqual(["a", "b"]);
  const last = reads.page(RED, page({ namespace: "svc" }, first.nextToken));
  expect([last.records.map(({ name }) => name), last.nextToken]).toEqual([["c"], ""]);
  expect(() => reads.page(RED, page({ namespace: "other" }, first.nextToken))).toThrow("page_token");
  change(HIDING);
  // A token from before policy hid all of it is as good as for a namespace that never was.
  expect(reads.page(RED, page({ namespace: "svc" }, first.nextToken))).toMatchObject({ records: [], nextToken: "" });
  expect(reads.page(BLUE, page({ namespace: "svc" }, first.nextToken)).records).toHaveLength(1);
});

test.each([{ namespace: "svc" }, { prefix: "svc" }, {}])("what is hidden is an empty page and one denial: %o", (filter) => {
  const { reads, denials, change } = open();
  change(HIDING);
  expect(reads.page(RED, page(filter))).toMatchObject({ records: [], nextToken: "" });
  expect(denials).toEqual(["red query svc viewer_denied"]);
  expect(reads.page(BLUE, page(filter)).records).toHaveLength(2);
});

test("a watch of exactly a hidden namespace is refused, there or not; one of a prefix is not", () => {
  const { reads, denials, change } = open();
  change(HIDING);
  expect(() => reads.checkWatch(RED, "svc")).toThrow("discovery_access_denied");
  expect(() => reads.checkWatch(RED, "svc.never.was")).toThrow("svc.never.was is not visible to this caller (viewer_denied)");
  expect(() => reads.checkWatch(RED, "")).not.toThrow();
  expect(() => reads.checkWatch(BLUE, "svc")).not.toThrow();
  expect(denials).toEqual(["red watch svc viewer_denied", "red watch svc.never.was viewer_denied"]);
});

test("a name is found by who sees it", () => {
  const { reads, denials, change } = open();
  change(HIDING);
  const key = { kind: KIND.SERVICE, namespace: "svc", name: "a" };
  const find = (who: Caller) => reads.find(who, key, { sampling: SAMPLING, read: (record) => record });
  expect(find(BLUE).found).toHaveLength(1);
  expect(find(RED)).toEqual({ found: [], isSample: false });
  expect(denials).toEqual(["red query svc viewer_denied"]);
});

test("until the new policy's owner rules are applied a viewer sees only what both policies show", () => {
  const { reads, policies } = open();
  const opened = new Policy(set([], { defaultAllow: true }), 2);
  policies.policy = HIDING;
  reads.show(HIDING);
  reads.settle(HIDING);
  policies.policy = opened;
  expect(reads.isSettled).toBe(false);
  expect(reads.verdict(RED, "svc").reason).toBe("viewer_denied");
  reads.show(opened);
  expect(reads.verdict(RED, "svc").allowed).toBe(true);
  expect(reads.isSettled).toBe(false);
  reads.settle(opened);
  expect(reads.isSettled).toBe(true);
});

test("a watch that was told under a policy in between is owed what the next one hides, although the one before hid it too", () => {
  const { reads, policies, change } = open();
  change(HIDING);
  const opened = new Policy(set([], { defaultAllow: true }), 2);
  policies.policy = opened;
  reads.show(opened);
  const reader = reads.reader(RED, { filter: { ...ANY, namespace: "svc" }, isNamesOnly: false, withDigest: false });
  expect(reader.isOwed).toBe(true);
  policies.policy = new Policy(HIDING.set, 3);
  expect(reader.isOwed).toBe(true);
  reads.settle(opened);
  expect(reader.isOwed).toBe(true);
  reads.show(policies.policy);
  reads.settle(policies.policy);
  expect(reader.isOwed).toBe(false);
});

test("the holder of short cursors says the state of the policy, and nothing of how often that changed", () => {
  const [one, other] = [open(), open()];
  const holder = (of: typeof one) => of.reads.node.boot;
  const holders = [holder(one)];
  expect(holders).toEqual(["b1"]);
  for (const policy of [HIDING, NO_POLICY, HIDING]) one.change(policy);
  other.change(HIDING);
  expect(holder(other)).toBe(holder(one));
  holders.push(holder(one));
  const opened = new Policy(HIDING.set, 2, { checksum: "a".repeat(64) });
  for (const { policies } of [one, other]) policies.policy = opened;
  expect(holder(other)).toBe(holder(one));
  holders.push(holder(one));
  // Neither that all records follow it changes the holder, nor is it the one from afterwards.
  one.reads.show(opened);
  expect(holder(one)).toBe(holders.at(-1));
  one.reads.settle(opened);
  holders.push(holder(one));
  one.policies.policy = HIDING;
  holders.push(holder(one));
  expect(new Set(holders).size).toBe(5);
  // A boot of 16 digits and the hash of a reader go with it.
  for (const text of holders) expect(text.length - "b1".length + 16 + 17).toBeLessThanOrEqual(64);
  one.change(NO_POLICY);
  expect(holder(one)).toBe("b1");
});

test("a namespace that the reads hide is shown to nobody, on no page and in no digest, and that is no denial", () => {
  const { reads: all } = open();
  const denials: string[] = [];
  const policies = { policy: HIDING };
  const reads = new CatalogReads(all.replica, NODE, {
    policies,
    onDenied: (_, { namespace }) => denials.push(namespace),
    hides: (n) => n === "svc",
  });
  for (const filter of [{ namespace: "svc" }, { prefix: "svc" }, {}])
    expect(reads.page(BLUE, page(filter))).toMatchObject({ records: [], nextToken: "" });
  const reader = reads.reader(BLUE, { filter: ANY, isNamesOnly: false, withDigest: true });
  expect([reader.options.allowed("svc"), reader.prepareDigest(), reader.digest()]).toEqual([false, true, { count: 0, digest: 0n }]);
  expect([reads.allowed(BLUE)("svc"), denials]).toEqual([false, []]);
});

test("records that are shown in another way give cursors another name, and the old name comes back with the old way", () => {
  const { reads, change } = open();
  const reader = reads.reader(BLUE, { filter: ANY, isNamesOnly: false, withDigest: false });
  const names = () => [reads.node.boot, reader.options.policyEpoch()];
  const plain = names();
  reads.noteAnswers("x");
  expect(names().every((name, i) => name !== plain[i])).toBe(true);
  expect(names()[0]?.length).toBeLessThan(16);
  reads.noteAnswers("");
  expect(names()).toEqual(plain);
  change(HIDING);
  const under = names();
  reads.noteAnswers("x");
  expect(new Set([...plain, ...under, ...names()]).size).toBe(6);
});

test("equal watches of one class of viewers share a reader until the last is closed; other viewers have their own", () => {
  const { reads } = open();
  const request = { filter: { ...ANY, namespace: "svc" }, isNamesOnly: false, withDigest: false };
  const [one, two] = [reads.reader(RED, request), reads.reader({ ...RED, principal: "another" }, request)];
  expect(two).toBe(one);
  expect(reads.reader(BLUE, request)).not.toBe(one);
  reads.release(one);
  expect(reads.reader(RED, request)).toBe(one);
  reads.release(one);
  reads.release(one);
  expect(reads.reader(RED, request)).not.toBe(one);
});

test("a filter made for it, whose 64-bit hash is that of another tenant's watch, does not get that one's reader", () => {
  const { reads, change } = open();
  change(HIDING);
  const options = { isNamesOnly: false, withDigest: false };
  const seen = reads.reader(BLUE, { ...options, filter: { ...ANY, namespace: "svc" } });
  const forged = { ...ANY, namespace: "open", resources: ["fFc:m5ih-alwvANhL1msuBVBiJjp"] };
  const got = reads.reader(RED, { ...options, filter: forged });
  expect(got.options.hash).toBe(seen.options.hash);
  expect(got).not.toBe(seen);
  expect([seen.options.allowed("svc"), got.options.allowed("svc")]).toEqual([true, false]);
});

test("open watches keep so much text of long filters in all, short ones go on, and what is closed makes room", () => {
  const { reads } = open();
  const names = Array.from({ length: 1_000 }, (_, i) => String(i).padEnd(128, "x"));
  const long = (number: number) => ({ filter: { ...ANY, names, region: `r${number}` }, isNamesOnly: false, withDigest: false });
  const opened: WatchReader[] = [];
  expect(() => {
    for (let i = 0; i < 10_000; i += 1) opened.push(reads.reader(RED, long(i)));
  }).toThrow("filters of all open watches together are too long");
  expect(opened.length).toBeGreaterThan(400);
  expect(opened.length).toBeLessThan(1_200);
  reads.reader(RED, { filter: { ...ANY, names: names.slice(0, 10) }, isNamesOnly: false, withDigest: false });
  reads.reader(RED, long(0));
  const [, second] = opened;
  if (second !== undefined) reads.release(second);
  expect(() => reads.reader(RED, long(20_000))).not.toThrow();
});

test("a watch is owed what another policy changes for its viewer in namespaces that it is about, until it is told", () => {
  const { reads, policies } = open();
  const owed = (who: Caller, filter: Partial<typeof ANY>) => {
    const reader = reads.reader(who, { filter: { ...ANY, ...filter }, isNamesOnly: false, withDigest: false });
    return [reader.isOwed, reader.options.isOwed?.("svc")];
  };
  expect(owed(RED, { prefix: "svc" })).toEqual([false, false]);
  policies.policy = HIDING;
  expect([owed(RED, { prefix: "svc" }), owed(RED, {}), owed(RED, { namespace: "svc" })]).toEqual([
    [true, true],
    [true, true],
    [true, true],
  ]);
  expect(owed(RED, { prefix: "svc.eu" })).toEqual([false, true]);
  expect(owed(BLUE, { prefix: "svc" })).toEqual([false, false]);
  reads.show(HIDING);
  expect(owed(RED, { prefix: "svc" })).toEqual([true, true]);
  reads.settle(HIDING);
  expect(owed(RED, { prefix: "svc" })).toEqual([false, false]);
  // Owners' rules: until they are applied to all records nobody can say what there is, and afterwards everybody can.
  const owned = new Policy(set([rule("svc", { owners: ["c9"], visibilityTenants: ["blue"] })], { defaultAllow: true }), 2);
  policies.policy = owned;
  expect([owed(BLUE, { prefix: "svc" }), owed(BLUE, { prefix: "other" })]).toEqual([
    [true, true],
    [false, true],
  ]);
  reads.show(owned);
  expect(owed(BLUE, { prefix: "svc" })).toEqual([false, false]);
});

test("a newcomer that does not know its cluster's policy shows nothing, refuses a watch for the moment, and has denied nobody", () => {
  const { reads, change, denials } = open();
  change(PENDING_POLICY);
  expect(reads.page(BLUE, page({ namespace: "svc" }))).toMatchObject({ records: [], nextToken: "" });
  expect(() => reads.checkWatch(BLUE, "svc")).toThrow("not_ready");
  expect(() => reads.checkWatch(BLUE, "")).not.toThrow();
  expect(denials).toEqual([]);
  change(NO_POLICY);
  expect(reads.page(BLUE, page({ namespace: "svc" })).records).toHaveLength(2);
  expect(() => reads.checkWatch(BLUE, "svc")).not.toThrow();
});

test("no watch goes on from a cursor until the watches know the first policy: before that it would be sent everything", () => {
  const { reads, policies, change } = open();
  expect(() => reads.checkResume()).not.toThrow();
  change(PENDING_POLICY);
  expect(() => reads.checkResume()).toThrow("not_ready");
  policies.policy = NO_POLICY;
  reads.show(NO_POLICY);
  expect(() => reads.checkResume()).toThrow("not_ready");
  reads.settle(NO_POLICY);
  expect(() => reads.checkResume()).not.toThrow();
  // A policy that follows another one waits for watches too, and may change what a reader sees: that one begins anew.
  policies.policy = HIDING;
  expect(() => reads.checkResume()).not.toThrow();
});
