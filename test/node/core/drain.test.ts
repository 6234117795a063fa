/** A cordoned node accepts nothing new, and a draining node moves everything away, step by step, without making any entry absent. */
import { expect, test } from "vitest";
import { decodeMessage } from "../../../src/catalog/entry/codec.ts";
import { NODES_NAMESPACE } from "../../../src/catalog/entry/names.ts";
import { BODY, HEALTH, KIND, keyText } from "../../../src/catalog/record/record.ts";
import { DRAIN_STEPS } from "../../../src/control/peers/drain.ts";
import { ACTIVE_NODE, type DesiredNode } from "../../../src/control/peers/records.ts";
import { Fanout, type WatchStream } from "../../../src/discovery/fanout.ts";
import type { HandOverTarget } from "../../../src/discovery/registrar/hand-over.ts";
import { NodeDrain } from "../../../src/node/core/drain.ts";
import { SelfEntry } from "../../../src/node/core/self-entry.ts";
import type { NodeNews, NodeOutput, SelfState } from "../../../src/node/core-io.ts";
import { nodeEntry } from "../../../src/services/node-entry.ts";
import { driven } from "../../fakes/node-part.ts";
import { at, caller, keyOf, Registry, stamped, WALL, WIDEST_STAMPER } from "../../fakes/registry.ts";

const B: HandOverTarget = { nodeId: "b", refusals: 0, runsChecks: false };
const ADDRESSES_MS = 2000;
/** Time between two looks of the driver. */
const LOOK_MS = 200;
const ANN = caller("ann");
const OPEN = { isOpen: true, labels: {} };

const drained = (deadlineMs: number, isForced = false): DesiredNode => ({
  ...ACTIVE_NODE,
  desired: "drained",
  drain: { sinceWallMs: WALL, deadlineWallMs: WALL + deadlineMs, isForced },
});

function watcher(ended: WatchStream[]): WatchStream {
  const feed = { reader: { options: { filter: { namespace: "", prefix: "" } } }, bookmarkDueMonoMs: 0 };
  const stream = { feed, isReady: false, wake: () => {}, stop: () => void ended.push(stream) } as never as WatchStream;
  return stream;
}

const OWN = { nodeId: "a", name: undefined, roles: [], resources: [], dnsZones: [], listeners: {} };
const PLACE = { nodeId: "a", clusterId: "c1", region: "r1", zone: "z1", tenantId: "", receivedWallMs: WALL };
const URLS = ["grpc://a:1", "http://a:2"];
const OWN_KEY = keyText({ kind: KIND.NODE, namespace: NODES_NAMESPACE, name: "a", instanceId: "a", clusterId: "c1" });

const stampAt = (_: unknown, { isInMaintenance, labels }: SelfState) =>
  WIDEST_STAMPER.entryOfNode(nodeEntry({ ...OWN, isInMaintenance, labels }), PLACE);

/** A node with its own entry, a registrar, and a real fan-out. */
class DrainedNode {
  readonly r = new Registry();
  readonly fanout = new Fanout();
  /** The nodes that may take over static entries. */
  takers: readonly HandOverTarget[] = [B];
  readonly news: NodeNews[] = [];
  readonly outputs: NodeOutput[] = [];
  readonly drain: NodeDrain;
  /** Answers `standDown` with this number of leaders. */
  leaderCount = 0;
  nowMs = 0;
  isDiskFull = false;
  readonly #give: ReturnType<typeof driven>;

  constructor() {
    const { r, fanout } = this;
    const self = new SelfEntry(r.registrar);
    const parts = {
      nodeId: "a",
      registrar: r.registrar,
      fanout,
      self,
      takers: () => this.takers,
      addressesMs: ADDRESSES_MS,
      isServing: () => true,
      isWriting: () => r.replica.staged.length > 0,
      hasWorkers: true,
      deliver: (news: NodeNews) => void this.news.push(news),
    };
    this.drain = new NodeDrain(parts);
    driven(self)({ kind: "publish", entry: { caller: caller("node a"), urls: URLS, stampAt } }, at(0));
    this.#give = driven(this.drain);
    r.flush(at(0));
  }

  desire(desired: DesiredNode): void {
    this.#input({ kind: "desired", ...desired });
  }

  /** Lets time pass. `onLook` runs before each look. */
  run(ms: number, onLook: () => void = () => {}): void {
    for (const untilMs = this.nowMs + ms; this.nowMs < untilMs; ) {
      this.nowMs += LOOK_MS;
      onLook();
      this.r.registrar.tick(at(this.nowMs));
      this.#input({ kind: "tick" });
    }
  }

  #input(input: Parameters<ReturnType<typeof driven>>[0]): void {
    const outputs = this.#give(input, at(this.nowMs));
    this.outputs.push(...outputs);
    if (this.isDiskFull) this.r.refuse();
    else this.r.flush(at(this.nowMs));
    for (const output of outputs)
      if (output.kind === "standDown" && output.isDown) this.#input({ kind: "leadersLeft", leaderCount: this.leaderCount, ownerCount: 0 });
  }

  get step() {
    return this.drain.progress?.step;
  }

  get left() {
    return Object.fromEntries(this.drain.progress?.left.map(({ kind, count }) => [kind, count]) ?? []);
  }

  /** The health and the labels of the node's own entry. Undefined if it is not published. */
  get self() {
    const { replica } = this.r;
    const record = replica.view(OWN_KEY);
    if (record === undefined) return undefined;
    const { detail } = decodeMessage(replica.slab.view(record.at, record.sizeBytes));
    return { isOpen: record.health !== HEALTH.MAINTENANCE, labels: detail.case === "node" ? detail.value.labels : undefined };
  }

  /** The names of the clients' entries. */
  get names(): readonly string[] {
    return this.r.names().filter((name) => name !== OWN.nodeId);
  }

  get standDowns(): readonly boolean[] {
    return this.outputs.flatMap((output) => (output.kind === "standDown" ? [output.isDown] : []));
  }

  /** Registers an entry with a lease of 10 s, or a static entry. Returns the id of the lease. */
  register(name: string, isStatic = false): string {
    return this.r.register("ann", [stamped(name)], at(this.nowMs), isStatic ? { isStatic } : { ttlMs: 10_000 });
  }

  renew(leaseId: string) {
    return this.r.registrar.renew(ANN, [leaseId], [], at(this.nowMs));
  }

  /** Another node has registered the entry. */
  moved(name: string): void {
    this.r.hear(name, BODY.ENTRY, this.nowMs + 1, at(this.nowMs));
  }
}

test("a cordoned node is in MAINTENANCE with the labels of operators, and keeps all that it has", () => {
  const node = new DrainedNode();
  const leaseId = node.register("web");
  node.desire({ ...ACTIVE_NODE, desired: "cordoned", labels: { rack: "7" } });
  expect([node.drain.isCordoned, node.self, node.drain.progress]).toEqual([true, { isOpen: false, labels: { rack: "7" } }, undefined]);
  expect(node.renew(leaseId)).toEqual({ expiredLeaseIds: [], ttlMs: 10_000 });
  node.desire({ ...ACTIVE_NODE, labels: { rack: "7" } });
  expect([node.drain.isCordoned, node.self, node.names]).toEqual([false, { isOpen: true, labels: { rack: "7" } }, ["web"]]);
});

test("a drained node reports where it is reached, because its own entry is gone", () => {
  const node = new DrainedNode();
  expect(node.drain.facts().drain).toBeUndefined();
  node.desire(drained(600_000));
  node.run(60_000);
  expect([node.step, node.self, node.drain.facts().drain?.urls]).toEqual(["drained", undefined, URLS]);
});

test("leases of a draining node are reported as expired and extended all the same; static leases are not", () => {
  const node = new DrainedNode();
  const [leased, fixed] = [node.register("web"), node.register("db", true)];
  node.desire(drained(600_000));
  node.run(8000);
  expect([node.step, node.left, node.renew(leased), node.renew(fixed).expiredLeaseIds]).toEqual([
    "leases",
    { leases: 1 },
    { expiredLeaseIds: [leased], ttlMs: undefined },
    [],
  ]);
  node.run(9800);
  expect(node.names).toEqual(["db", "web"]);
  node.run(400);
  expect([node.names, node.step]).toEqual([["db"], "static_entries"]);
});

test("an entry ends when a newer record of another live node is seen, and not before", () => {
  const node = new DrainedNode();
  node.run(5000);
  node.register("web");
  node.desire(drained(600_000));
  const own = () => node.r.replica.own(keyOf("web"))?.body;
  const look = (hear: () => void) => {
    hear();
    node.run(2 * LOOK_MS);
    return [own(), node.left["leases"]];
  };
  expect(look(() => node.r.hear("web", BODY.ENTRY, 1000, at(node.nowMs), "older"))).toEqual([BODY.ENTRY, 1]);
  expect(look(() => node.r.hear("other", BODY.ENTRY, node.nowMs, at(node.nowMs)))).toEqual([BODY.ENTRY, 1]);
  const away = node.r.replica.origin("away", 1);
  away.life = "orphaned";
  expect(look(() => node.r.hear("web", BODY.ENTRY, node.nowMs + 1, at(node.nowMs), "away"))).toEqual([BODY.ENTRY, 1]);
  expect(look(() => node.moved("web"))).toEqual([BODY.EXPIRED, undefined]);
  expect([node.r.replica.view(keyOf("web"))?.origin.nodeId, node.step]).toEqual(["b", "addresses"]);
});

test("an entry whose client never moves stays while the client renews, and the late drain is stuck and drops nothing", () => {
  const node = new DrainedNode();
  const leaseId = node.register("web");
  node.register("db", true);
  node.desire(drained(5000));
  let renewedMs = 0;
  node.run(60_000, () => {
    if (node.nowMs >= renewedMs + 3000) node.renew(leaseId);
    renewedMs = node.nowMs >= renewedMs + 3000 ? node.nowMs : renewedMs;
  });
  expect([node.drain.progress?.isStuck, node.step, node.left, node.names]).toEqual([true, "leases", { leases: 1 }, ["db", "web"]]);
  const events = node.outputs.flatMap((output) => (output.kind === "event" ? [output.event] : []));
  // The audit log lists the node as the subject of audited events.
  expect(events.map(({ name, isAudited, detail }) => [name, isAudited ? detail["nodeId"] : ""])).toEqual([
    ["node_desired", "a"],
    ["drain_step", ""],
    ["drain_stuck", "a"],
  ]);
  node.run(10_200);
  expect([node.step, node.left]).toEqual(["static_entries", { static_entries: 1 }]);
});

test("a forced drain ends leases and static entries after its deadline, and not before", () => {
  const node = new DrainedNode();
  const leaseId = node.register("web");
  node.register("db", true);
  node.takers = [];
  node.desire(drained(5000, true));
  node.run(4800, () => node.renew(leaseId));
  expect(node.names).toEqual(["db", "web"]);
  node.run(1000);
  expect([node.names, node.step, node.drain.progress?.isStuck]).toEqual([[], "drained", false]);
});

test("each entry that a forced drain ends is a subject of an audit record", () => {
  const node = new DrainedNode();
  const names = Array.from({ length: 150 }, (_, i) => `web-${i}`);
  for (const name of names) node.register(name);
  node.register("db", true);
  node.takers = [];
  node.desire(drained(1000, true));
  node.run(2000);
  const events = node.outputs.flatMap((output) => (output.kind === "event" && output.event.name === "drain_forced" ? [output.event] : []));
  expect(events.map(({ isAudited, detail, subjects }) => [isAudited, detail, subjects?.length])).toEqual([
    [true, { nodeId: "a", kind: "leased", count: 99 }, 99],
    [true, { nodeId: "a", kind: "leased", count: 51 }, 51],
    [true, { nodeId: "a", kind: "static", count: 1 }, 1],
  ]);
  const labels = [...names, "db"].map((name) => `svc/${name}/1`);
  expect(events.flatMap(({ subjects }) => subjects ?? []).toSorted()).toEqual(labels.toSorted());
});

test("static entries are offered until another node has taken them over, also after a refusal", () => {
  const node = new DrainedNode();
  node.register("db", true);
  const seq = node.r.replica.own(keyOf("db"))?.seq;
  const offer = { kind: "offer", nodeId: "b", seqs: [seq] };
  node.takers = [];
  node.desire(drained(600_000));
  node.run(3000);
  expect([node.news, node.step]).toEqual([[], "static_entries"]);
  node.takers = [B];
  node.run(600);
  expect(node.news).toEqual([offer]);
  node.takers = [{ ...B, refusals: 1 }];
  node.run(1000);
  expect([node.news, node.names]).toEqual([[offer, offer], ["db"]]);
  node.moved("db");
  node.run(2 * LOOK_MS);
  expect([node.r.replica.own(keyOf("db"))?.body, node.step]).toEqual([BODY.EXPIRED, "addresses"]);
});

test("a step is not done while the disk refuses the ends of its entries", () => {
  const node = new DrainedNode();
  node.register("web");
  node.register("db", true);
  node.desire(drained(600_000));
  node.run(LOOK_MS);
  node.isDiskFull = true;
  node.moved("web");
  node.run(1000);
  expect([node.step, node.r.replica.own(keyOf("web"))?.body]).toEqual(["leases", BODY.ENTRY]);
  node.isDiskFull = false;
  node.run(2 * LOOK_MS);
  node.isDiskFull = true;
  node.moved("db");
  node.run(1000);
  expect([node.step, node.r.replica.own(keyOf("db"))?.body]).toEqual(["static_entries", BODY.ENTRY]);
  node.isDiskFull = false;
  node.run(1000);
  expect([node.step, node.r.replica.own(keyOf("web"))?.body, node.r.replica.own(keyOf("db"))?.body]).toEqual([
    "addresses",
    BODY.EXPIRED,
    BODY.EXPIRED,
  ]);
});

test("the node's own entry is not published in the step of the addresses, which lasts as long as caches may have them", () => {
  const node = new DrainedNode();
  node.desire(drained(600_000));
  node.run(LOOK_MS);
  expect([node.self, node.step, node.left]).toEqual([undefined, "addresses", { seconds: 2 }]);
  node.run(ADDRESSES_MS - LOOK_MS);
  expect([node.step, node.left]).toEqual(["addresses", { seconds: 1 }]);
  node.run(LOOK_MS);
  expect([node.step, node.self]).toEqual(["watches", undefined]);
  node.desire(ACTIVE_NODE);
  expect(node.self).toEqual(OPEN);
});

test("the node's own entry is hidden although the disk refused that at first", () => {
  const node = new DrainedNode();
  node.desire(drained(600_000));
  node.isDiskFull = true;
  node.run(2 * LOOK_MS);
  expect([node.step, node.self]).toEqual(["addresses", { isOpen: false, labels: {} }]);
  node.isDiskFull = false;
  node.run(LOOK_MS);
  expect([node.step, node.self]).toEqual(["addresses", undefined]);
  node.desire(ACTIVE_NODE);
  expect(node.self).toEqual(OPEN);
});

test("watches end spread over 10 s, and those that come meanwhile end immediately", () => {
  const node = new DrainedNode();
  const ended: WatchStream[] = [];
  const open = () => node.fanout.add(watcher(ended));
  for (let i = 0; i < 100; i++) open();
  node.desire(drained(600_000));
  node.run(ADDRESSES_MS + LOOK_MS);
  const beginMs = node.nowMs;
  const counts = Array.from({ length: 5 }, () => {
    node.run(2000, () => {
      for (const stream of ended) node.fanout.remove(stream);
    });
    return ended.length;
  });
  expect(counts).toEqual([20, 40, 60, 80, 100]);
  open();
  expect([ended.length, node.step]).toEqual([101, "watches"]);
  node.run(LOOK_MS, () => {
    for (const stream of ended) node.fanout.remove(stream);
  });
  expect([node.step, node.nowMs - beginMs]).toEqual(["drained", 10_200]);
  node.desire(ACTIVE_NODE);
  open();
  expect([ended.length, node.fanout.size]).toEqual([101, 1]);
});

test("facts are announced at most once a second, apart from changes of the step and the state", () => {
  const node = new DrainedNode();
  const announced: unknown[] = [];
  const look = () => {
    if (!node.drain.takeNews(at(node.nowMs))) return;
    const { desired, drain } = node.drain.facts();
    announced.push([node.nowMs, desired, drain?.step, drain?.left[0]?.count]);
  };
  look();
  for (let i = 0; i < 10; i++) node.register(`web${i}`);
  node.run(1000, look);
  node.desire(drained(600_000));
  look();
  let count = 0;
  // One entry moves with each look, until one is left.
  node.run(3000, () => {
    look();
    if (count < 9) node.moved(`web${count++}`);
  });
  expect(announced).toEqual([
    [0, undefined, undefined, undefined],
    [1000, "drained", "leaders", 1],
    [1400, "drained", "leases", 9],
    [2400, "drained", "leases", 4],
    [3400, "drained", "leases", 1],
  ]);
  node.moved("web9");
  node.run(2 * LOOK_MS);
  look();
  expect(announced.at(-1)).toEqual([4400, "drained", "addresses", 2]);
});

test.each(DRAIN_STEPS)("a drain that is cancelled in the step %s leaves an active node, and can begin again", (step) => {
  const node = new DrainedNode();
  const ended: WatchStream[] = [];
  node.fanout.add(watcher(ended));
  const leaseId = node.register("web");
  node.register("db", true);
  const order = DRAIN_STEPS.indexOf(step);
  node.takers = order > DRAIN_STEPS.indexOf("static_entries") ? [B] : [];
  if (step === "leaders") node.leaderCount = 1;
  node.desire(drained(600_000));
  if (order > DRAIN_STEPS.indexOf("leases")) node.moved("web");
  for (let i = 0; i < 100 && node.step !== step; i++)
    node.run(LOOK_MS, () => {
      // Another node registers what is offered to it.
      if (node.news.length > 0) node.moved("db");
      for (const stream of ended) node.fanout.remove(stream);
    });
  expect(node.step).toBe(step);
  node.desire(ACTIVE_NODE);
  expect(node.standDowns).toEqual([true, false]);
  expect([node.drain.progress, node.drain.isCordoned, node.drain.facts()]).toEqual([undefined, false, { isServing: true, labels: {} }]);
  expect([node.self, node.r.registrar.isDraining, node.fanout.drainShare]).toEqual([OPEN, false, 0]);
  const { length: newsCount } = node.news;
  const own = node.r.replica.own(keyOf("web"))?.body;
  node.run(3000, () => {
    if (own === BODY.ENTRY) expect(node.renew(leaseId).expiredLeaseIds).toEqual([]);
  });
  // What has moved stays moved, and nothing else moves.
  expect([node.news.length, node.r.replica.own(keyOf("web"))?.body, node.names]).toEqual([
    newsCount,
    own,
    expect.arrayContaining(["web", "db"]),
  ]);
  node.leaderCount = 0;
  node.desire(drained(600_000));
  node.run(LOOK_MS);
  expect([node.standDowns, node.step === "leaders"]).toEqual([[true, false, true], false]);
});
