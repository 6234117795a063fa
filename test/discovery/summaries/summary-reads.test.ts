/** What the reads of summaries do beside a catalog: they follow its changes of policy, and find the clusters that have a name. */
import { expect, test } from "vitest";
import { Snapshot } from "../../../gen/waymark/catalog/v1/watch_pb.js";
import { SCOPE } from "../../../src/catalog/entry/scope.ts";
import { KIND } from "../../../src/catalog/record/record.ts";
import { Fanout } from "../../../src/discovery/fanout.ts";
import { SwitchQueue } from "../../../src/discovery/policy-switch-queue.ts";
import { CatalogReads } from "../../../src/discovery/reads.ts";
import { Policy } from "../../../src/policy/set/verdict.ts";
import { rule, set } from "../../fakes/policies.ts";
import { at, Registry } from "../../fakes/registry.ts";
import { ANYONE, NODE, nameOf, SummaryFold, SummaryWorld } from "../../fakes/summary-readers.ts";

const OWNED = new Policy(set([rule("svc.a", { owners: ["us-1"] })], { defaultAllow: true }), 1);
const HIDING = new Policy(set([rule("svc.a", { visibilityTenants: ["blue"] })], { defaultAllow: true }), 2);
const BLUE = { ...ANYONE, tenant: "blue" };

test("a change of policy is complete only when the summaries follow it and their watches heard of it; the next one waits for that", () => {
  const world = new SummaryWorld();
  for (const source of ["us-1", "ap-1"]) for (const serviceId of ["a", "b", "c"]) world.put({ namespace: "svc.a", serviceId, source });
  const fold = new SummaryFold(world);
  fold.settle();
  const { replica } = new Registry();
  const { policies } = world;
  const reads = new CatalogReads(replica, NODE, { policies, onDenied: () => {} });
  const queue = new SwitchQueue({ policies, replica, reads, fanout: new Fanout(), clusterId: NODE.clusterId });
  queue.followers.add(world.summaries);
  const shown = () => world.query().items.map(nameOf).length;
  for (const [policy, count] of [
    [OWNED, 3],
    [HIDING, 0],
  ] as const) {
    world.policies.policy = policy;
    queue.look();
    for (let n = 0; n < 50; n += 1) queue.step(10, at(0));
    expect([queue.isWaiting, queue.isAcknowledged(at(0)), world.summaries.isShown]).toEqual([true, false, false]);
    while (!world.summaries.step(1)) expect(queue.isRunning).toBe(true);
    world.summaries.changed();
    expect([queue.isWaiting, queue.step(10, at(0)), queue.isRunning, shown()]).toEqual([false, true, false, count]);
    // The watch has not heard of it yet.
    expect([world.summaries.isAcknowledged, queue.isAcknowledged(at(0))]).toEqual([false, false]);
    fold.settle();
    expect([world.summaries.isAcknowledged, queue.isAcknowledged(at(0)), fold.held.length]).toEqual([true, true, count]);
  }
});

test("watches of summaries become ready, and end, with those of the catalog, also one that is opened when all are told to end", () => {
  const world = new SummaryWorld();
  world.isReady = false;
  const catalog = new Fanout();
  world.summaries.follow(catalog);
  const fold = new SummaryFold(world);
  fold.pull();
  expect([fold.messages.map(({ snapshot }) => snapshot), world.summaries.fanout.take()]).toEqual([[Snapshot.BEGIN], undefined]);
  world.isReady = true;
  catalog.all();
  expect([world.summaries.fanout.take() === undefined, world.wakes]).toEqual([false, 1]);
  fold.pull();
  expect(fold.messages.map(({ snapshot }) => snapshot)).toEqual([Snapshot.END]);
  catalog.end();
  fold.pull();
  expect([fold.messages.length, fold.end]).toMatchObject([1, { reason: "draining" }]);
  const late = new SummaryFold(world);
  late.pull();
  late.pull();
  expect(late.end).toMatchObject({ reason: "draining" });
  const other = new SummaryWorld();
  other.summaries.follow(catalog);
  expect(other.summaries.fanout.isEnding).toBe(true);
});

test("the clusters that have a name are found for a caller that may see its namespace, whatever channel they say it on", () => {
  const world = new SummaryWorld();
  world.put({ namespace: "svc.a", serviceId: "web", source: "us-1" });
  world.put({ namespace: "svc.a", serviceId: "web", source: "eu-2", channel: SCOPE.REGION });
  world.put({ namespace: "svc.a", serviceId: "web", source: "ap-1", kind: KIND.QUEUE });
  world.put({ namespace: "svc.a", serviceId: "webs", source: "ap-1" });
  world.beacon("us-1");
  const find = (caller = ANYONE, name = { kind: KIND.SERVICE, namespace: "svc.a", name: "web" } as const) =>
    world.summaries.named(caller, name).map(({ traits }) => traits.clusterId);
  expect(find()).toEqual(["us-1", "eu-2"]);
  expect(world.summaries.named(ANYONE, { kind: KIND.NODE, namespace: "discovery.summaries", name: "us-1" })).toEqual([]);
  world.change(HIDING);
  expect([find(), find(BLUE), world.denials]).toEqual([[], ["us-1", "eu-2"], []]);
});
