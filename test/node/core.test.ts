/** The machine of a node, alone and joined to others: what it orders for what comes in. */
import { expect, test } from "vitest";
import { BODY, keyParts, keyText } from "../../src/catalog/record/record.ts";
import { Fanout } from "../../src/discovery/fanout.ts";
import { Metrics } from "../../src/lib/metrics/metrics.ts";
import { NodeParts } from "../../src/node/core/parts/list.ts";
import { NodeMachine } from "../../src/node/core.ts";
import type { NodeInput, NodeNews, NodeOutput } from "../../src/node/core-io.ts";
import { observeFabric } from "../../src/node/fabric/metrics.ts";
import { FabricPeers } from "../../src/node/fabric/peer-directory.ts";
import { PolicyEngine } from "../../src/policy/versions/engine.ts";
import { FabricWorld, greetingOf } from "../fakes/fabric-world.ts";
import { at, caller, command, Registry, stamped } from "../fakes/registry.ts";
import { noChecks } from "../fakes/watched-entries.ts";

/** Nobody asks by DNS, and nothing is limited. */
const IDLE = { dnsNames: { refresh: () => {} }, limits: { nextDeadlineMs: () => Number.POSITIVE_INFINITY, tick: () => {} } };
const NO_SNAPSHOTS = { intervalMs: 0, isOtherThere: false };

function machineOf(hasSeeds = false) {
  const r = new Registry();
  const { replica, registrar } = r;
  const policies = new PolicyEngine({ nodeId: "a", clusterId: "c1", maxVersions: 3, maxBytes: 1e6 });
  const fanout = new Fanout();
  const rooms = {
    replica,
    registrar,
    fanout,
    policies,
    metrics: new Metrics(),
    checks: noChecks(),
    hasSeeds,
    addressesMs: 60_000,
    hasWorkers: false,
    newGeneration: () => 9,
    ...IDLE,
  };
  const machine = new NodeMachine(rooms, at(0));
  const out: NodeOutput[] = [];
  const give = (input: NodeInput, ms = 0): readonly string[] => {
    out.length = 0;
    machine.handle(input, at(ms), out);
    return out.map(({ kind }) => kind);
  };
  const register = (name: string) => registrar.register(caller("ann"), command([stamped(name)], { isStatic: true }), at(0));
  return { r, machine, out, give, register, policies, rooms };
}

function factsOf(nodeId: string) {
  return { ...greetingOf(nodeId), transports: ["h2"], roles: [], labels: {}, healthScore: 0 };
}

/** Joined to nobody yet. */
function joined() {
  const all = machineOf();
  all.give({ kind: "tick" });
  const world = new FabricWorld();
  const { fabric } = world.start({ nodeId: "a" });
  all.machine.join({ fabric, facts: factsOf("a"), superseded: [], snapshots: NO_SNAPSHOTS });
  all.give({ kind: "begin" });
  return { ...all, fabric, world };
}

/** Without the inputs at which the machine calls every part. */
const HANDLED = {
  tick: true,
  asked: true,
  answered: true,
  opened: true,
  received: true,
  closed: true,
  policy: true,
  policyRead: true,
  maintain: true,
  persisted: true,
  notPersisted: true,
  generationKept: true,
  generationNotKept: true,
  rosterKept: true,
  snapshotKept: true,
  policyAdopted: true,
  begin: false,
  serve: true,
  policyShown: true,
  publish: true,
  probed: true,
  resolved: true,
  load: true,
  strangerRefused: true,
  unanswered: true,
  drain: false,
  depart: true,
  facts: true,
  lagged: true,
  leaving: true,
  offer: true,
  policyRefused: true,
  stop: true,
  controlStore: true,
  security: true,
  desired: true,
  forget: true,
  leadersLeft: true,
  summariesChanged: true,
  changed: true,
  superseded: true,
  generationLost: true,
  offered: true,
  ordered: true,
} as const satisfies Record<(NodeInput | NodeNews)["kind"], boolean>;

test("every input of a node, and all news among its parts, are handled by a part: what is not would leave as an order", () => {
  const { list } = new NodeParts(machineOf().rooms, at(0));
  const handled = Object.entries(HANDLED).flatMap(([kind, isHandled]) => (isHandled ? [kind] : []));
  expect(list.kinds.toSorted()).toEqual(handled.toSorted());
});

test("the control store that a node shares is announced when it is read, and in all later facts", () => {
  const { fabric, give } = joined();
  const announced = () => fabric.membership.members()[0]?.controlStore;
  expect(announced()).toBeUndefined();
  give({ kind: "controlStore", id: "s1" });
  expect(announced()).toBe("s1");
  give({ kind: "generationKept", generation: 9 });
  expect(announced()).toBe("s1");
  give({ kind: "controlStore", id: "" });
  expect(announced()).toBeUndefined();
});

test("what others say before a node may say anything is kept, and answered in its order when it begins", () => {
  const { machine, give } = machineOf();
  const { fabric } = new FabricWorld().start({ nodeId: "a" });
  machine.join({ fabric, facts: factsOf("a"), superseded: [], snapshots: NO_SNAPSHOTS });
  const identity = { address: "b:1", isLoopback: true, certificate: undefined, clusterToken: "secret" };
  expect(give({ kind: "opened", link: 2, isIncoming: true, identity })).toEqual([]);
  expect(give({ kind: "received", link: 2, frame: { kind: "hello", hello: greetingOf("b") } })).toEqual([]);
  expect(fabric.links()).toEqual([]);
  expect(give({ kind: "begin" })).toContain("send");
  expect(fabric.helloOf(2)?.nodeId).toBe("b");
});

test("what is staged goes to the disk with whatever comes next, and is shown and answered when it is there", () => {
  const { machine, r, out, give, register } = machineOf();
  register("web");
  const orders: NodeOutput[] = [];
  expect([machine.durable(orders), orders.map(({ kind }) => kind)]).toEqual([1, ["persist"]]);
  register("db");
  expect(give({ kind: "tick" })).toEqual([]);
  expect(give({ kind: "persisted" })).toEqual(["wake", "settled", "persist"]);
  expect([r.names(), out[1]]).toEqual([["web"], { kind: "settled", through: 1 }]);
  const error = new Error("full");
  expect(give({ kind: "notPersisted", error })).toEqual(["settled"]);
  expect([r.names(), out[0]]).toEqual([["web"], { kind: "settled", through: 3, refusal: { error } }]);
});

test("an own entry that another origin's word hides is ended on disk, and of a static one it is told", () => {
  const { machine, r, out, register } = machineOf();
  register("web");
  machine.durable(out);
  machine.handle({ kind: "persisted" }, at(1), out);
  const key = keyText({ ...keyParts(stamped("web").key), clusterId: "c1" });
  r.hear("web", BODY.UNREGISTERED, 1, at(5));
  out.length = 0;
  const { fabric } = new FabricWorld().start({ nodeId: "a" });
  machine.join({ fabric, facts: factsOf("a"), superseded: [key], snapshots: NO_SNAPSHOTS });
  machine.handle({ kind: "begin" }, at(6), out);
  expect(out.map(({ kind }) => kind)).toEqual(expect.arrayContaining(["staticEnded", "wake", "persist"]));
});

test("a lost generation is written before anything goes on under it, and again when that was refused", () => {
  const { machine, r, out, give } = joined();
  give({ kind: "tick" });
  out.length = 0;
  machine.loseGeneration({ peerNodeId: "b", seq: 3 }, at(0), out);
  expect(out).toEqual([
    { kind: "generationLost", why: { peerNodeId: "b", seq: 3 }, generation: 9 },
    { kind: "keepGeneration", generation: 9 },
  ]);
  expect([give({ kind: "generationNotKept" }, 10), r.replica.self.generation]).toEqual([[], 1]);
  expect(machine.nextDeadlineMs()).toBeLessThanOrEqual(at(1010).monoMs);
  expect(give({ kind: "tick" }, 1010)).toContain("keepGeneration");
  expect(give({ kind: "generationKept", generation: 9 }, 1020)).toContain("wake");
  expect(r.replica.self.generation).toBe(9);
});

test("a node that stands alone leaves nobody: it is gone at once, and what it has stays", () => {
  const { give, r, register, machine } = machineOf();
  register("web");
  machine.durable([]);
  give({ kind: "persisted" });
  expect([give({ kind: "depart", how: "leave", withinMs: 1000 }), r.names()]).toEqual([["gone"], ["web"]]);
});

test("while it stops it takes no new generation, and says goodbye within its time", () => {
  const { give, out, machine } = joined();
  give({ kind: "tick" });
  expect(give({ kind: "depart", how: "keep", withinMs: 1000 }, 1)).toEqual(["gone"]);
  out.length = 0;
  machine.loseGeneration({ peerNodeId: "b", seq: 3 }, at(2), out);
  expect(out).toEqual([]);
});

test("what the disk refuses to end while a node leaves is ended again, and its new generation is said to others", () => {
  const { machine, r } = machineOf();
  const world = new FabricWorld();
  const a = world.start({ nodeId: "a" });
  world.start({ nodeId: "b", seeds: ["a:1"] });
  world.runUntil(() => a.upLinks().length === 1, 10_000);
  machine.join({ fabric: a.fabric, facts: factsOf("a"), superseded: [], snapshots: NO_SNAPSHOTS });
  machine.handle({ kind: "begin" }, world.time(), []);
  const kindsOf = (input: NodeInput, afterMs = 0): readonly string[] => {
    const out: NodeOutput[] = [];
    const { monoMs, wallMs } = world.time();
    machine.handle(input, { monoMs: monoMs + afterMs, wallMs: wallMs + afterMs }, out);
    return out.map(({ kind }) => kind);
  };
  machine.loseGeneration({ peerNodeId: "b", seq: 3 }, world.time(), []);
  kindsOf({ kind: "generationKept", generation: 9 });
  expect(a.fabric.membership.find("a")?.generation).toBe(9);
  r.registrar.register(caller("ann"), command([stamped("web")], { ttlMs: 60_000 }), world.time());
  machine.durable([]);
  kindsOf({ kind: "persisted" });
  expect(kindsOf({ kind: "depart", how: "leave", withinMs: 10_000 })).toContain("persist");
  kindsOf({ kind: "notPersisted", error: new Error("full") });
  expect([r.names(), kindsOf({ kind: "tick" }, 50)]).toEqual([["web"], expect.arrayContaining(["persist"])]);
  kindsOf({ kind: "persisted" }, 50);
  expect(r.names()).toEqual([]);
});

test("a node that stands alone is ready once callers are served and see its policy, and not before", () => {
  const { machine, give, policies } = machineOf();
  policies.isAwaiting = true;
  expect([give({ kind: "tick" }), machine.collectsBy(at(0))]).toEqual([[], "nothing"]);
  expect([give({ kind: "serve" }), policies.isAwaiting, machine.readiness.isReady]).toEqual([["caughtUp"], false, false]);
  expect(give({ kind: "policyShown" })).toEqual(["ready", "wake", "serving"]);
  expect([machine.readiness.isWhole, machine.readiness.isServing, machine.collectsBy(at(0))]).toEqual([true, true, "age"]);
  expect(give({ kind: "drain" })).toEqual(["wake", "serving"]);
  expect([machine.readiness.isServing, machine.readiness.isReady, machine.readiness.isDraining]).toEqual([false, true, true]);
});

/** Three nodes; the machine under test is that of the last, which has joined the others and knows their clocks. */
function amongOthers() {
  const all = machineOf(true);
  const world = new FabricWorld();
  const nodes = ["a", "b", "c"].map((nodeId) => world.start({ nodeId, seeds: nodeId === "a" ? [] : ["a:1"] }));
  const own = nodes[2];
  if (own === undefined) throw new Error("no node");
  world.runUntil(() => own.upLinks().length === 2 && own.fabric.readiness.isReady, 30_000);
  all.machine.join({ fabric: own.fabric, facts: factsOf("c"), superseded: [], snapshots: NO_SNAPSHOTS });
  const give = (input: NodeInput): readonly NodeOutput[] => {
    const out: NodeOutput[] = [];
    all.machine.handle(input, world.time(), out);
    return out;
  };
  const kinds = (input: NodeInput) => give(input).map(({ kind }) => kind);
  give({ kind: "begin" });
  return { ...all, world, own, give, kinds };
}

const CLOCKS_UNHEARD = "this node refuses writes until it has compared its clock with other nodes, for at most 3 s";

test("who is to meet others is not ready, and takes no writes, before their clocks are known; then it says so once", () => {
  const { machine, world, own, kinds } = amongOthers();
  expect([kinds({ kind: "serve" }), machine.writeEligibility.clockFault]).toEqual([[], CLOCKS_UNHEARD]);
  expect(() => machine.writeEligibility.checkWrites()).toThrow("not_ready");
  world.run(4000);
  expect(kinds({ kind: "tick" })).toContain("caughtUp");
  expect(() => machine.writeEligibility.checkWrites()).not.toThrow();
  expect(kinds({ kind: "policyShown" })).toEqual(expect.arrayContaining(["ready", "serving"]));
  expect(own.fabric.isWhole && machine.readiness.isWhole).toBe(true);
  world.run(1000);
  expect(kinds({ kind: "tick" })).not.toContain("ready");
});

test("a node that has caught up and is not ready tells the age of what it started with: it hides everything while it awaits a policy", () => {
  const { machine, world, kinds, policies, own } = amongOthers();
  policies.isAwaiting = true;
  kinds({ kind: "serve" });
  const { monoMs, wallMs } = world.time();
  expect(own.fabric.readiness.read(world.time()).ageMs).toBeLessThan(5000);
  expect([policies.isAwaiting, machine.ageMs({ monoMs, wallMs })]).toEqual([true, wallMs]);
  world.run(4000);
  kinds({ kind: "tick" });
  kinds({ kind: "policyShown" });
  expect([policies.isAwaiting, machine.readiness.isReady]).toEqual([false, true]);
  expect(machine.ageMs(world.time())).toBe(own.fabric.readiness.read(world.time()).ageMs);
});

test("lag and the metric of the age say what the machine says, and why the node is not ready", () => {
  const { machine, world, kinds, own } = amongOthers();
  const peers = new FabricPeers({ identity: { nodeId: "c" }, machine, replica: own.replica }, { follow: () => () => {} });
  const metrics = new Metrics();
  const driver = { counts: () => undefined, stats: () => [] };
  metrics.onCollect(() => observeFabric({ metrics, fabric: own.fabric, driver, machine, now: () => world.time() }));
  const ageMs = () => {
    const family = metrics.collect().find(({ name }) => name === "mesh_replication_lag_seconds");
    return family !== undefined && "series" in family ? [...family.series.values()].map(({ value }) => value * 1000) : [];
  };
  const lag = () => {
    const { isReady, detail } = peers.lag(world.time());
    return { isReady, detail };
  };
  kinds({ kind: "serve" });
  expect(own.fabric.readiness.isReady).toBe(true);
  expect(lag()).toEqual({ isReady: false, detail: `${CLOCKS_UNHEARD}; in sync with all peers` });
  expect(ageMs()).toEqual([world.time().wallMs]);
  world.run(4000);
  kinds({ kind: "tick" });
  expect(lag()).toEqual({ isReady: false, detail: "waiting for the current policy of the cluster; in sync with all peers" });
  kinds({ kind: "policyShown" });
  expect(lag()).toEqual({ isReady: true, detail: "in sync with all peers" });
  expect(ageMs()).toEqual([own.fabric.readiness.read(world.time()).ageMs]);
});

test("after a standstill nobody is told that something is durable before others have confirmed this start", () => {
  const { machine, register, world, give, kinds, r } = amongOthers();
  const { monoMs, wallMs } = world.time();
  expect(machine.look({ monoMs: monoMs - 20_000, wallMs: wallMs - 20_000 }, [])).toBe(false);
  expect(machine.look(world.time(), [])).toBe(true);
  expect(machine.mustConfirm(world.time())).toBe(true);
  register("web");
  machine.durable([]);
  expect(kinds({ kind: "persisted" })).not.toContain("settled");
  expect(r.names()).toEqual(["web"]);
  register("db");
  machine.durable([]);
  // A refusal is held as well: answers come in their order.
  expect(kinds({ kind: "notPersisted", error: new Error("full") })).not.toContain("settled");
  const told: NodeOutput[] = [];
  for (let i = 0; i < 100 && !told.some(({ kind }) => kind === "confirmed"); i++) {
    world.run(100);
    told.push(...give({ kind: "tick" }));
  }
  const answers = told.filter(({ kind }) => kind === "settled" || kind === "confirmed");
  expect(answers).toMatchObject([{ kind: "confirmed" }, { kind: "settled", through: 1 }, { kind: "settled", through: 3, refusal: {} }]);
  expect(answers[1]).not.toHaveProperty("refusal");
});

test("entries that a leaving node offers count as taken over when they are on the disk, and not when it refuses them", () => {
  const { machine, r, own, world, give } = amongOthers();
  give({ kind: "tick" });
  const { link, nodeId } = own.fabric.links().find(({ state }) => state === "up") ?? { link: 0, nodeId: "" };
  const offered = (name: string, seq: number): readonly NodeOutput[] => {
    r.receive(stamped(name), { body: BODY.ENTRY, hlcMs: 10, nodeId }, at(10));
    return give({ kind: "received", link, frame: { kind: "handOver", seqs: [seq], isRefused: false } });
  };
  const counted = (outputs: readonly NodeOutput[]) => outputs.filter(({ kind }) => kind === "takenOver");
  expect(offered("web", 1).map(({ kind }) => kind)).toContain("persist");
  expect(counted(give({ kind: "notPersisted", error: new Error("full") }))).toEqual([]);
  expect(offered("db", 2).map(({ kind }) => kind)).toContain("persist");
  expect(counted(give({ kind: "persisted" }))).toEqual([{ kind: "takenOver", count: 1 }]);
  expect([machine.nextDeadlineMs() > world.time().monoMs, counted(give({ kind: "persisted" }))]).toEqual([true, []]);
});

test("a node that drains measures its load no more", () => {
  const { give } = machineOf();
  give({ kind: "serve" });
  give({ kind: "publish", entry: { caller: caller("a"), urls: [], stampAt: () => stamped("self") } });
  expect(give({ kind: "tick" }, 5000)).toContain("measureLoad");
  give({ kind: "drain" }, 6000);
  expect(give({ kind: "tick" }, 60_000)).not.toContain("measureLoad");
});
