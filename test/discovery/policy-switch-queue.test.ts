/** Changes of policy one after another, with time between them in which watches come to their END; the time is the test's own. */
import { expect, test } from "vitest";
import { ANY } from "../../src/catalog/query/filter.ts";
import { NamespacePrefixes } from "../../src/catalog/query/prefixes.ts";
import { Fanout, type WatchStream } from "../../src/discovery/fanout.ts";
import { SwitchQueue } from "../../src/discovery/policy-switch-queue.ts";
import { CatalogReads } from "../../src/discovery/reads.ts";
import { NEVER } from "../../src/lib/machine.ts";
import { NO_POLICY, Policy } from "../../src/policy/set/verdict.ts";
import { rule, set } from "../fakes/policies.ts";
import { at, caller, Registry, stamped } from "../fakes/registry.ts";

const MANY = 1000;

function hiding(...patterns: readonly string[]): Policy {
  const rules = patterns.map((pattern) => rule(pattern, { owners: ["c9"] }));
  return new Policy(set(rules, { defaultAllow: true }), patterns.length);
}

function open() {
  const r = new Registry();
  r.register("ann", [stamped("web")], at(0), { isStatic: true });
  const policies = { policy: NO_POLICY };
  const reads = new CatalogReads(r.replica, { nodeId: "a", clusterId: "c1", region: "r1", boot: "b" }, { policies, onDenied: () => {} });
  const fanout = new Fanout();
  const reader = reads.reader(caller("ann"), { filter: ANY, isNamesOnly: false, withDigest: false });
  const feed = {
    reader,
    isTelling: false,
    bookmarkDueMonoMs: Number.POSITIVE_INFINITY,
    lagRevisions: 0,
    get revision() {
      return r.replica.revision - this.lagRevisions;
    },
    settledRevision: 0,
    refresh: () => {},
  };
  // The queue looks at nothing else of a watcher.
  fanout.add({ feed, isReady: false } as Partial<WatchStream> as WatchStream);
  const queue = new SwitchQueue({ replica: r.replica, reads, fanout, clusterId: "c1", policies });
  const put = (policy: Policy) => {
    policies.policy = policy;
    return queue.look();
  };
  /** Until one has ended. */
  const end = (monoMs: number) => {
    while (!queue.step(MANY, { monoMs }));
  };
  /** Asks until another policy may be put in force; returns when that was. */
  const heardAt = (fromMonoMs: number, onLook: (monoMs: number) => void = () => {}) => {
    let monoMs = fromMonoMs;
    while (!queue.isAcknowledged({ monoMs })) {
      monoMs = queue.nextDeadlineMs();
      onLook(monoMs);
    }
    return monoMs;
  };
  return { feed, fanout, reads, reader, queue, policies, put, end, heardAt };
}

test("the next change may begin when watches have heard of the one before, and not before", () => {
  const { feed, queue, put, end, heardAt } = open();
  expect([heardAt(0), queue.nextDeadlineMs()]).toEqual([0, NEVER]);
  put(hiding("svc"));
  expect([queue.isAcknowledged({ monoMs: 5 }), queue.nextDeadlineMs()]).toEqual([false, NEVER]);
  end(10);
  feed.isTelling = true;
  expect(heardAt(10, (monoMs) => (feed.isTelling = monoMs < 160))).toBe(170);
  expect([queue.nextDeadlineMs(), queue.isAcknowledged({ monoMs: 170 })]).toEqual([NEVER, true]);
});

test("nobody waits for who stands still, nor for ever for who comes further", () => {
  const { feed, put, end, heardAt } = open();
  put(hiding("svc"));
  end(0);
  // It stands before the change, and so has not heard of it.
  feed.lagRevisions = 1;
  // Who waits later waits as long: nobody looked whether it came further.
  expect([heardAt(4000), heardAt(5000)]).toEqual([5000, 5000]);
  put(NO_POLICY);
  end(6000);
  feed.lagRevisions = 1_000_000;
  expect(heardAt(6000, () => (feed.lagRevisions -= 1))).toBe(16_000);
});

test("what is in force already waits for no watch, but for the change before", () => {
  const { feed, queue, put, end } = open();
  feed.isTelling = true;
  const first = put(hiding("svc"));
  const second = put(hiding("svc", "web"));
  // The same, and nothing at all, are shown when that is.
  expect([first, second, put(hiding("svc", "web", "ops")), queue.shown]).toEqual([1, 2, 2, 0]);
  end(3);
  expect([queue.shown, queue.isRunning]).toEqual([1, true]);
  end(4);
  expect([queue.shown, queue.isRunning]).toEqual([2, false]);
  const third = put(NO_POLICY);
  expect([third, queue.look()]).toEqual([3, 4]);
  end(6);
  expect([queue.shown, queue.isRunning, queue.look()]).toEqual([4, false, 4]);
});

test("when a change is through every watch is readied, also one that it does not concern", () => {
  const { fanout, put, end } = open();
  put(hiding("elsewhere"));
  expect(fanout.readyCount).toBe(0);
  end(0);
  expect(fanout.readyCount).toBe(1);
});

test("a slice takes 5 ms, and 15 once its change has taken one and a half seconds", () => {
  const { queue, put, end } = open();
  put(hiding("svc"));
  expect([1000, 2499, 2500].map((monoMs) => queue.sliceMs({ monoMs }))).toEqual([5, 5, 15]);
  put(hiding("svc", "web"));
  end(2500);
  expect([2500, 4000].map((monoMs) => queue.sliceMs({ monoMs }))).toEqual([5, 15]);
});

test("a namespace is owed to readers while anything may follow a policy in between that had other owners, though the ones before and after have the same", () => {
  const { reads, reader, queue, put, end } = open();
  const { options } = reader;
  const owed = () => ["svc.market", "svc.other"].map((namespace) => options.isOwed?.(namespace));
  // Both come before anything follows the first, and no reader asks meanwhile.
  put(hiding("svc.market"));
  put(new Policy(set([], { defaultAllow: true }), 2));
  expect(owed()).toEqual([true, false]);
  end(2);
  expect(owed()).toEqual([true, false]);
  end(3);
  expect([queue.isRunning, reads.isSettled, ...owed()]).toEqual([false, true, false, false]);
});

test("what came into force after the policy that is followed by now is still owed: what arrived meanwhile may follow it", () => {
  const { reader, queue, put, end } = open();
  const { options } = reader;
  put(new Policy(set([], { defaultAllow: true }), 2));
  put(hiding("svc.market"));
  put(new Policy(set([], { defaultAllow: true }), 3));
  const owed = [3, 4].map((ms) => {
    end(ms);
    return [queue.isRunning, options.isOwed?.("svc.market"), options.isOwed?.("svc.other")];
  });
  expect(owed).toEqual([
    [true, true, false],
    [false, false, false],
  ]);
});

test.each([
  { filter: {}, isOwed: true },
  { filter: { prefix: "svc" }, isOwed: true },
  { filter: { prefix: "svc.market" }, isOwed: true },
  { filter: { prefix: "svc.market.deep" }, isOwed: true },
  { filter: { prefix: "svc.mark" }, isOwed: false },
  { filter: { prefix: "svc.market-x" }, isOwed: false },
  { filter: { prefix: "svc.other" }, isOwed: false },
  { filter: { resolved: new NamespacePrefixes(["svc.market", "svc.zebra"]) }, isOwed: true },
  { filter: { resolved: new NamespacePrefixes(["svc.market-x", "svc.other"]) }, isOwed: false },
  { filter: { resolved: new NamespacePrefixes(["svc"]), prefix: "svc.other" }, isOwed: false },
])(
  "a namespace whose owners change is owed to a watch of $filter also when none of its entries was seen until now: $isOwed",
  ({ filter, isOwed }) => {
    const policies = { policy: hiding("svc.market") };
    const { replica } = new Registry();
    const reads = new CatalogReads(replica, { nodeId: "a", clusterId: "c1", region: "r1", boot: "b" }, { policies, onDenied: () => {} });
    const { options } = reads.reader(caller("ann"), { filter: { ...ANY, ...filter }, isNamesOnly: false, withDigest: false });
    expect(options.isOwedAny?.()).toBe(false);
    const after = new Policy(set([], { defaultAllow: true }), 2);
    policies.policy = after;
    reads.notePolicy();
    expect(options.isOwedAny?.()).toBe(isOwed);
    reads.show(after);
    expect(options.isOwedAny?.()).toBe(false);
  },
);

test("at a copy a change has the number that it was begun with, and waits for the word that all records follow it; a next one begins only afterwards", () => {
  const { queue, policies, reads, end } = open();
  const time = { monoMs: 3 };
  policies.policy = hiding("svc");
  queue.begin(7);
  expect([queue.shown, queue.isRunning, queue.isWaiting, queue.step(MANY, time)]).toEqual([0, true, true, false]);
  expect([queue.isAcknowledged(time), queue.nextDeadlineMs(), reads.isSettled]).toEqual([false, NEVER, false]);
  queue.show();
  expect([queue.isWaiting, reads.isSettled]).toEqual([false, false]);
  expect(() => queue.begin(8)).toThrow("the previous policy change is not complete");
  end(3);
  expect([queue.shown, queue.isRunning, reads.isSettled, queue.step(MANY, time)]).toEqual([7, false, true, false]);
});

test("what is in force when a copy is whole was never changed to", () => {
  const { queue, policies, reads } = open();
  policies.policy = hiding("svc");
  expect(reads.isSettled).toBe(false);
  queue.start();
  expect([reads.isSettled, queue.isRunning, queue.look(), reads.verdict(caller("ann"), "svc").allowed]).toEqual([true, false, 0, true]);
});
