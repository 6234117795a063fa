/** From one policy to the next, in slices: which records are told of anew, and what each watch hears. */
import { expect, test } from "vitest";
import { SCOPE } from "../../src/catalog/entry/scope.ts";
import { ANY } from "../../src/catalog/query/filter.ts";
import { KIND, keyText } from "../../src/catalog/record/record.ts";
import { Fanout, type WatchStream } from "../../src/discovery/fanout.ts";
import { isAdmitted, PolicySwitch } from "../../src/discovery/policy-switch-queue.ts";
import { CatalogReads } from "../../src/discovery/reads.ts";
import type { Caller } from "../../src/policy/identity/caller.ts";
import { NO_POLICY, Policy } from "../../src/policy/set/verdict.ts";
import { rule, set } from "../fakes/policies.ts";
import { at, caller, draftAt, keyOf, Registry, stamped } from "../fakes/registry.ts";

const BLUE: Caller = { ...caller("ann"), tenant: "blue" };
const RED: Caller = { ...caller("bob"), tenant: "red" };
const FOR_BLUE = new Policy(set([rule("svc", { visibilityTenants: ["blue"] })], { defaultAllow: true }), 1);
const OWNED_ELSEWHERE = new Policy(set([rule("svc", { owners: ["c9"] })], { defaultAllow: true }), 2);

function open(count = 5) {
  const r = new Registry();
  const stampedEntries = Array.from({ length: count }, (_, i) => stamped(`web${i}`, { scope: i === 0 ? SCOPE.ZONE : SCOPE.REGION }));
  r.register("ann", stampedEntries, at(0), { isStatic: true });
  const policies = { policy: NO_POLICY };
  r.replica.setAdmission((stored) => isAdmitted(policies.policy, stored, "c1"));
  const facts = { nodeId: "a", clusterId: "c1", region: "r1", boot: "b" };
  const reads = new CatalogReads(r.replica, facts, { policies, onDenied: () => {} });
  const again = { count: 0 };
  const fanout = new Fanout(() => (again.count += 1));
  const heard: string[] = [];
  const watch = (who: Caller, prefix = "svc", lagRevisions = 0) => {
    const reader = reads.reader(who, { filter: { ...ANY, prefix }, isNamesOnly: false, withDigest: false });
    const watcher: WatchStream = {
      feed: {
        bookmarkDueMonoMs: Number.POSITIVE_INFINITY,
        get revision() {
          return r.replica.revision - lagRevisions;
        },
        get settledRevision() {
          return r.replica.revision - lagRevisions;
        },
        reader,
        refresh: (namespaces) => void heard.push(`${who.tenant}: ${namespaces === "all" ? "all" : namespaces.join(" ")}`),
        isTelling: false,
      },
      isReady: false,
      wake: () => {},
      stop: () => {},
    };
    fanout.add(watcher);
  };
  const start = (after: Policy) => {
    const before = policies.policy;
    policies.policy = after;
    return new PolicySwitch({ replica: r.replica, reads, fanout, clusterId: "c1" }, { before, after });
  };
  /** Runs it through; returns the steps that took. */
  const change = (after: Policy, maxCount = 100) => {
    const work = start(after);
    let steps = 1;
    while (!work.step(maxCount)) steps += 1;
    return steps;
  };
  return { r, reads, fanout, again, heard, watch, start, change };
}

test("who loses sight of a namespace and who gains it hears so, and nobody else", () => {
  const { heard, watch, change, reads } = open();
  watch(RED);
  watch(BLUE);
  watch(RED, "other");
  change(FOR_BLUE);
  expect(heard.toSorted()).toEqual(["blue: ", "red: ", "red: svc"]);
  expect(reads.isSettled).toBe(true);
  heard.length = 0;
  change(NO_POLICY);
  expect(heard.toSorted()).toEqual(["blue: ", "red: ", "red: svc"]);
});

test("who hears of something is to be woken for it, as soon as it is noted", () => {
  const { fanout, watch, start, again } = open();
  watch(RED);
  watch(BLUE);
  again.count = 0;
  const work = start(FOR_BLUE);
  while (!work.step(1)) expect(again.count).toBe(fanout.readyCount);
  expect([again.count, fanout.take()?.feed === [...fanout.watchers()][0]?.feed, fanout.readyCount]).toEqual([1, true, 0]);
});

test("a namespace that had entries before and has some after is named once", () => {
  const { heard, watch, change } = open();
  watch(RED, "");
  for (const after of [FOR_BLUE, NO_POLICY]) change(after);
  expect(heard).toEqual(["red: svc", "red: svc"]);
});

test("what owner rules hide is told as gone and comes back, but what stays in the cluster stays", () => {
  const { r, change } = open();
  const revision = () => r.replica.revision;
  const first = revision();
  change(OWNED_ELSEWHERE);
  expect(r.names()).toEqual(["web0"]);
  expect(revision() - first).toBe(4);
  change(NO_POLICY);
  expect(r.names()).toEqual(["web0", "web1", "web2", "web3", "web4"]);
  expect(revision() - first).toBe(8);
});

test("a removal read back from the journal is as visible as what it ended was", () => {
  const { r } = open();
  r.registrar.unregisterKeys(caller("ann"), [keyOf("web0"), keyOf("web1")], at(1));
  r.flush(at(1));
  const again = r.twin();
  const admitted = (name: string) => again.replica.records(keyOf(name)).map((stored) => isAdmitted(OWNED_ELSEWHERE, stored, "c1"));
  expect([admitted("web0"), admitted("web1")]).toEqual([[true], [false]]);
});

test("a policy that changes nothing about the records changes no revision", () => {
  const { r, change } = open();
  const before = r.replica.revision;
  change(FOR_BLUE);
  expect(r.replica.revision).toBe(before);
});

test("a step looks at so many records or watches and no more, and all are looked at", () => {
  const { r, heard, watch, change, start } = open(50);
  for (let i = 0; i < 7; i++) watch(RED, i % 2 === 0 ? "svc" : "");
  expect(change(OWNED_ELSEWHERE, 5)).toBeGreaterThanOrEqual(50 / 5);
  expect([r.names(), heard.length]).toEqual([["web0"], 7]);
  heard.length = 0;
  const work = start(FOR_BLUE);
  // Records first: no watch hears of a namespace while some of its records are still as before.
  while (r.names().length < 50) expect([work.step(5), heard.length]).toEqual([false, 0]);
});

test("a watch that lags hears also of a namespace that is empty by now", () => {
  const { r, heard, watch, change } = open(1);
  watch(RED, "svc", 1);
  watch(BLUE, "svc", 1);
  watch(RED, "svc");
  r.registrar.unregisterLease(caller("ann"), [...r.leases.ids()][0] ?? "", at(1));
  r.flush(at(1));
  expect(r.names()).toEqual([]);
  change(FOR_BLUE);
  // The third has been told of the removal already.
  expect(heard).toEqual(["red: svc", "blue: ", "red: "]);
});

test("a watch that lags by more emptied namespaces than are remembered is told of all, because it may hold entries of any of them", () => {
  const { r, heard, watch, change } = open(0);
  const keys = Array.from({ length: 4100 }, (_, i) => ({ kind: KIND.SERVICE, namespace: `svc.n${i}`, name: "web", instanceId: "1" }));
  const stampedEntries = keys.map((key) => draftAt(key, { scope: SCOPE.REGION }));
  r.register("ann", stampedEntries, at(0), { isStatic: true });
  const removed = keys.map((key) => keyText({ ...key, clusterId: "c1" }));
  r.registrar.unregisterKeys(caller("ann"), removed, at(1));
  r.flush(at(1));
  watch(RED, "svc", 4100);
  watch(RED, "svc", 1);
  watch(RED, "svc");
  change(FOR_BLUE);
  expect(heard).toEqual(["red: all", "red: svc.n4099", "red: "]);
});

test("what is registered meanwhile follows the new policy already and is not looked at: a switch ends however much that is", () => {
  const { r, start } = open(10);
  const work = start(OWNED_ELSEWHERE);
  let steps = 0;
  while (!work.step(5) && (steps += 1) < 20)
    r.register(
      "ann",
      Array.from({ length: 10 }, (_, i) => stamped(`more${steps}-${i}`, { scope: SCOPE.REGION })),
      at(steps),
      { isStatic: true },
    );
  expect(steps).toBeLessThan(10);
  expect(r.names()).toEqual(["web0"]);
});

test("of a namespace that had nothing when the change began, who loses it is told nothing", () => {
  const { r, heard, watch, start } = open(0);
  watch(RED);
  const work = start(FOR_BLUE);
  r.register("ann", [stamped("web")], at(1), { isStatic: true });
  while (!work.step(100));
  expect(heard).toEqual(["red: "]);
});

test.each([5, 100])(
  "a step judges at most %i times, however many rules there are and viewers that nothing is judged for yet",
  (maxCount) => {
    const { r, reads, heard, watch, start } = open(0);
    const names = Array.from({ length: 40 }, (_, i) => `svc.n${i}`);
    const stampedEntries = names.map((namespace) =>
      draftAt({ kind: KIND.SERVICE, namespace, name: "web", instanceId: "1" }, { scope: SCOPE.REGION }),
    );
    r.register("ann", stampedEntries, at(0), { isStatic: true });
    for (let i = 0; i < 7; i++) watch({ ...RED, tenant: `t${i}` });
    const after = new Policy(set(names.map((name) => rule(name, { visibilityTenants: ["blue"] }))), 1);
    let judged = 0;
    const ask = after.viewer.bind(after);
    after.viewer = (namespace, viewer) => {
      judged += 1;
      return ask(namespace, viewer);
    };
    const work = start(after);
    for (let isDone = false; !isDone; ) {
      judged = 0;
      isDone = work.step(maxCount);
      expect(judged).toBeLessThanOrEqual(maxCount);
    }
    expect([heard.length, reads.isSettled]).toEqual([7, true]);
  },
);
