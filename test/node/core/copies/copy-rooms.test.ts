/** The rooms of a read worker, told of everything by those of its node: policies, their changes, loads, and what concerns all watches. */
import { expect, test } from "vitest";
import { SCOPE } from "../../../../src/catalog/entry/scope.ts";
import { ANY, type EntryFilter } from "../../../../src/catalog/query/filter.ts";
import { WatchFeed } from "../../../../src/catalog/watch/feed.ts";
import { Fanout, type WatchStream } from "../../../../src/discovery/fanout.ts";
import { isAdmitted, SwitchQueue } from "../../../../src/discovery/policy-switch-queue.ts";
import { CatalogReads } from "../../../../src/discovery/reads.ts";
import { NO_POLICY, PENDING_POLICY, Policy } from "../../../../src/policy/set/verdict.ts";
import { DiscoveryBytes } from "../../../../src/services/discovery/response-bytes.ts";
import { Copy } from "../../../fakes/copies.ts";
import { rule, set } from "../../../fakes/policies.ts";
import { at, caller, keyOf, Registry, stamped } from "../../../fakes/registry.ts";

const MANY = 1000;
const OF_SVC: EntryFilter = { ...ANY, namespace: "svc" };
const BLUE = { ...caller("ann"), tenant: "blue" };
const RED = { ...caller("bob"), tenant: "red" };
const FOR_BLUE = new Policy(set([rule("svc", { visibilityTenants: ["blue"] })], { defaultAllow: true }), 1, { checksum: "1".repeat(64) });
const OWNED_ELSEWHERE = new Policy(set([rule("svc", { owners: ["c9"] })], { defaultAllow: true }), 2, { checksum: "2".repeat(64) });
const LOAD = { activeClients: 7, errorRate: 0.25, latencyMs: 12.5, utilization: 0.5, observedWallMs: 1_700_000_000_123 };

/** A node that serves readers, with its policies. */
function openNode(policy = NO_POLICY) {
  const r = new Registry();
  const policies = { policy };
  const { replica, registrar } = r;
  replica.setAdmission((stored) => isAdmitted(policies.policy, stored, "c1"));
  const reads = new CatalogReads(replica, { nodeId: "a", clusterId: "c1", region: "r1", boot: "b" }, { policies, onDenied: () => {} });
  const fanout = new Fanout();
  const switches = new SwitchQueue({ replica, reads, fanout, clusterId: "c1", policies });
  return { r, replica, registrar, policies, reads, fanout, switches };
}

function register({ r }: ReturnType<typeof openNode>, ...names: readonly string[]): void {
  r.register(
    "ann",
    names.map((name) => stamped(name, { scope: SCOPE.REGION })),
    at(0),
    { isStatic: true },
  );
}

function openBoth(policy = NO_POLICY) {
  const node = openNode(policy);
  register(node, "web", "db");
  let news = 0;
  const copy = new Copy(node, { onNews: () => (news += 1) });
  copy.hear(MANY);
  expect(copy.isWhole).toBe(true);
  const put = (next: Policy) => {
    node.policies.policy = next;
    return node.switches.look();
  };
  /** Does all that the node has to do for the change. */
  const stepNode = () => {
    for (let n = 0; n < 20; n++) node.switches.step(MANY, { monoMs: 0 });
  };
  const stepCopy = (monoMs = 0) => {
    for (let n = 0; n < 20; n++) copy.rooms.switches.step(MANY, { monoMs });
  };
  return { node, copy, put, stepNode, stepCopy, newsOf: () => news };
}

function namesFor({ reads }: Pick<Copy["rooms"], "reads">, who = RED): readonly string[] {
  const request = { filter: ANY, limit: MANY, token: "", isExplained: false, salt: "q" };
  return reads.page(who, request).records.map(({ name }) => name);
}

/** Opens a watch; `take` returns what it is told next. */
function watchAt({ reads, fanout, replica }: Pick<Copy["rooms"], "fanout" | "reads" | "replica">, who = RED, filter: EntryFilter = OF_SVC) {
  const reader = reads.reader(who, { filter, isNamesOnly: false, withDigest: false });
  const feed = new WatchFeed(reader, { from: undefined, bookmarkIntervalMs: 60_000 }, at(0));
  const watcher = { feed, isReady: false, isStopped: false, wake: () => {}, stop: () => void (watcher.isStopped = true) };
  fanout.add(watcher satisfies WatchStream);
  const held = new Set<string>();
  const take = () => {
    for (let message = feed.next(at(0), 1_000_000, true); message !== undefined; message = feed.next(at(0), 1_000_000, true)) {
      if (message.snapshot === 1) held.clear();
      for (const { action, record } of message.changes)
        if (action === 3) held.delete(record.name);
        else held.add(record.name);
    }
    return [...held].toSorted();
  };
  expect(replica.revision).toBeGreaterThan(0);
  return { watcher, take };
}

test("a policy hides at once at a copy that hears of it, and shows when all records follow it, as at the node", () => {
  const { node, copy, put, stepNode, stepCopy } = openBoth(FOR_BLUE);
  expect([namesFor(copy.rooms), namesFor(copy.rooms, BLUE)]).toEqual([[], ["db", "web"]]);
  const opened = new Policy(set([], { defaultAllow: true }), 3, { checksum: "3".repeat(64) });
  put(opened);
  copy.hear(MANY);
  // Nothing that one of the two policies hides is shown before the change is.
  expect([copy.rooms.policies.policy.epoch, namesFor(copy.rooms), namesFor(node)]).toEqual([opened.epoch, [], []]);
  expect(copy.rooms.reads.node.boot).toBe(node.reads.node.boot);
  stepNode();
  expect(namesFor(node)).toEqual(["db", "web"]);
  expect(namesFor(copy.rooms)).toEqual([]);
  copy.hear(MANY);
  expect(namesFor(copy.rooms)).toEqual(["db", "web"]);
  expect([copy.rooms.reads.isSettled, node.reads.isSettled]).toEqual([false, true]);
  stepCopy();
  expect([copy.rooms.reads.isSettled, copy.rooms.reads.node.boot]).toEqual([true, node.reads.node.boot]);
  put(OWNED_ELSEWHERE);
  register(node, "late");
  copy.hear(MANY);
  expect(namesFor(copy.rooms)).toEqual(namesFor(node));
});

test("a change is complete when every copy that is there has shown it, and the next one waits for that", () => {
  const { node, copy, put, stepNode, stepCopy } = openBoth();
  const [first, second] = [put(FOR_BLUE), put(OWNED_ELSEWHERE)];
  stepNode();
  expect([node.switches.shown, node.switches.isRunning, node.switches.isWaiting, node.switches.step(MANY, { monoMs: 0 })]).toEqual([
    0,
    true,
    true,
    false,
  ]);
  copy.hear(MANY);
  stepCopy();
  expect(copy.rooms.switches.shown).toBe(1);
  let followed = 0;
  node.switches.onFollowed = () => (followed += 1);
  copy.feed.shown(copy.rooms.switches.shown);
  expect([followed, node.switches.isWaiting]).toEqual([1, false]);
  expect(node.switches.step(MANY, { monoMs: 0 })).toBe(true);
  expect([first, second, node.switches.shown]).toEqual([1, 2, 1]);
  stepNode();
  expect([node.switches.shown, node.switches.isWaiting]).toEqual([1, true]);
  // A copy that is gone counts as one that has shown it.
  copy.close();
  expect([followed, node.switches.isWaiting]).toEqual([2, false]);
  stepNode();
  expect([node.switches.shown, node.switches.isRunning, namesFor(node)]).toEqual([2, false, []]);
});

test("a copy that begins while a policy is put in force is whole only afterwards, and nobody waits for it", () => {
  const { node, copy, put, stepNode, stepCopy } = openBoth();
  put(FOR_BLUE);
  const late = new Copy(node);
  late.hear(MANY);
  expect(late.isWhole).toBe(false);
  stepNode();
  // The node is through with the change, and waits for the first copy alone.
  late.hear(MANY);
  expect([late.isWhole, namesFor(late.rooms), namesFor(late.rooms, BLUE)]).toEqual([true, [], ["db", "web"]]);
  copy.hear(MANY);
  stepCopy();
  copy.feed.shown(1);
  stepNode();
  expect([node.switches.shown, late.feed.isShown, late.rooms.switches.isRunning]).toEqual([1, true, false]);
});

test("watches of a copy are told what a policy hides and shows", () => {
  const { copy, put, stepNode, stepCopy } = openBoth();
  const [red, blue] = [watchAt(copy.rooms), watchAt(copy.rooms, BLUE)];
  expect([red.take(), blue.take()]).toEqual([
    ["db", "web"],
    ["db", "web"],
  ]);
  const change = (policy: Policy) => {
    put(policy);
    stepNode();
    copy.hear(MANY);
    stepCopy();
    copy.feed.shown(copy.rooms.switches.shown);
    stepNode();
    return [red.take(), blue.take()];
  };
  expect(change(FOR_BLUE)).toEqual([[], ["db", "web"]]);
  expect(change(OWNED_ELSEWHERE)).toEqual([[], []]);
  expect(change(NO_POLICY)).toEqual([
    ["db", "web"],
    ["db", "web"],
  ]);
});

test("the next policy waits for the watches of copies, but not for ever", () => {
  const { node, copy, put, stepNode, stepCopy } = openBoth();
  const watch = watchAt(copy.rooms);
  watch.take();
  put(FOR_BLUE);
  stepNode();
  copy.hear(MANY);
  stepCopy(5);
  const { switches } = copy.rooms;
  expect([switches.isAcknowledged({ monoMs: 5 }), switches.nextDeadlineMs()]).toEqual([false, 25]);
  copy.feed.shown(1);
  stepNode();
  expect([node.switches.isAcknowledged({ monoMs: 0 }), node.switches.nextDeadlineMs()]).toEqual([false, 20]);
  watch.take();
  expect(switches.isAcknowledged({ monoMs: 25 })).toBe(true);
  expect(node.switches.isAcknowledged({ monoMs: 20 })).toBe(false);
  copy.feed.delivered(1);
  expect(node.switches.isAcknowledged({ monoMs: 40 })).toBe(true);
  put(NO_POLICY);
  stepNode();
  copy.hear(MANY);
  stepCopy();
  copy.feed.shown(2);
  stepNode();
  // This one never says that it has heard.
  expect([9999, 10_000].map((monoMs) => node.switches.isAcknowledged({ monoMs }))).toEqual([false, true]);
});

test("a copy that was told nothing yet shows nothing, and no policy and a pending one are themselves there", () => {
  const node = openNode(PENDING_POLICY);
  register(node, "web");
  const copy = new Copy(node);
  expect([copy.rooms.policies.policy, namesFor(copy.rooms)]).toEqual([PENDING_POLICY, []]);
  copy.hear(MANY);
  expect([copy.rooms.policies.policy, namesFor(copy.rooms), copy.rooms.reads.node.boot]).toEqual([
    PENDING_POLICY,
    [],
    node.reads.node.boot,
  ]);
  node.policies.policy = NO_POLICY;
  node.switches.look();
  copy.hear(MANY);
  expect(copy.rooms.policies.policy).toBe(NO_POLICY);
  expect(new Copy(openNode()).rooms.policies.policy).toBe(PENDING_POLICY);
});

test("reports of load are as the node has them: those from before, new ones, and none any more", () => {
  const node = openNode();
  register(node, "web", "db", "old");
  const { loads } = node.registrar;
  loads.note(keyOf("web"), LOAD, 0);
  loads.note(keyOf("old"), LOAD, 0);
  const copy = new Copy(node);
  copy.hear(1);
  expect(copy.isWhole).toBe(false);
  const later = { ...LOAD, activeClients: 8 };
  for (const name of ["web", "db"]) loads.note(keyOf(name), later, 1);
  loads.forget(keyOf("old"));
  for (let n = 0; n < 10; n++) copy.hear(1);
  const own = new DiscoveryBytes(node.replica.slab, loads);
  const compare = () => {
    for (const name of ["web", "db", "old"]) {
      expect(copy.rooms.loads.of(keyOf(name))).toEqual(loads.of(keyOf(name)));
      const [there, here] = [copy.replica.view(keyOf(name)), node.replica.view(keyOf(name))];
      if (there !== undefined && here !== undefined) expect(copy.rooms.bytes.entry(there).equals(own.entry(here))).toBe(true);
    }
  };
  expect(copy.isWhole).toBe(true);
  compare();
  const { watcher, take } = watchAt(copy.rooms, RED, ANY);
  take();
  loads.note(keyOf("old"), LOAD, 2);
  copy.hear(MANY);
  compare();
  // A report alone is no change of the catalog.
  expect(watcher.isReady).toBe(false);
  node.r.registrar.unregisterKeys(caller("ann"), [keyOf("web")], at(1));
  node.r.flush(at(1));
  copy.hear(MANY);
  compare();
  expect([loads.of(keyOf("web")), copy.rooms.loads.of(keyOf("db"))]).toEqual([undefined, later]);
});

test("what concerns all watches of the node concerns those of its copies, and is news by itself", () => {
  const { node, copy, newsOf } = openBoth();
  const { watcher, take } = watchAt(copy.rooms);
  take();
  copy.hear(MANY);
  expect([watcher.isReady, newsOf()]).toEqual([false, 0]);
  node.fanout.all();
  expect(newsOf()).toBe(1);
  copy.hear(MANY);
  expect([watcher.isReady, watcher.isStopped]).toEqual([true, false]);
  node.fanout.end();
  copy.hear(MANY);
  expect([watcher.isStopped, newsOf()]).toEqual([true, 2]);
  const late = new Copy(node);
  late.hear(MANY);
  expect([late.isWhole, watchAt(late.rooms).watcher.isStopped]).toEqual([true, true]);
  late.close();
  copy.close();
  node.fanout.end();
  node.registrar.loads.note(keyOf("web"), LOAD, 0);
  expect([newsOf(), node.replica.followers.size]).toEqual([2, 0]);
});

test("a change of the catalog wakes the watches of a copy that it concerns, and DNS knows its name", () => {
  const { node, copy } = openBoth();
  const { watcher, take } = watchAt(copy.rooms);
  take();
  register(node, "new");
  copy.hear(MANY);
  expect([watcher.isReady, take()]).toEqual([true, ["db", "new", "web"]]);
  const all = { sees: () => true, counts: () => true };
  expect([copy.rooms.dnsNames.hasNameUnder("svc", "zone", all), copy.rooms.dnsNames.hasNameUnder("none", "zone", all)]).toEqual([
    true,
    false,
  ]);
});
