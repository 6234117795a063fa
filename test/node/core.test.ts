/** The machine of a node, alone and joined to others: what it orders for what comes in. */
import { expect, test } from "vitest";
import { BODY, keyText } from "../../src/catalog/record/record.ts";
import { Fanout } from "../../src/discovery/fanout.ts";
import { Metrics } from "../../src/lib/metrics/metrics.ts";
import { NodeMachine } from "../../src/node/core.ts";
import type { NodeInput, NodeOutput } from "../../src/node/core-io.ts";
import { FabricWorld, greetingOf } from "../fakes/fabric-world.ts";
import { at, caller, command, Registry, stamped } from "../fakes/registry.ts";

function machineOf() {
  const r = new Registry();
  const { replica, registrar } = r;
  const machine = new NodeMachine({ replica, registrar, fanout: new Fanout(), metrics: new Metrics(), newGeneration: () => 9 }, at(0));
  const out: NodeOutput[] = [];
  const give = (input: NodeInput, ms = 0): readonly string[] => {
    out.length = 0;
    machine.handle(input, at(ms), out);
    return out.map(({ kind }) => kind);
  };
  const register = (name: string) => registrar.register(caller("ann"), command([stamped(name)], { isStatic: true }), at(0));
  return { r, machine, out, give, register };
}

/** Joined to nobody yet. */
function joined() {
  const all = machineOf();
  const world = new FabricWorld();
  const { fabric } = world.start({ nodeId: "a" });
  const facts = { ...greetingOf("a"), transports: ["h2"], roles: [], labels: {}, healthScore: 0 };
  all.machine.join(fabric, facts);
  return { ...all, fabric, world };
}

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

test("the fabric hears of all commits of one turn at once", () => {
  const { machine, give, register } = joined();
  const kinds = [];
  for (const name of ["web", "db"]) {
    register(name);
    machine.durable([]);
    kinds.push(...give({ kind: "persisted" }));
  }
  expect(kinds.filter((kind) => kind === "soon")).toEqual(["soon"]);
  give({ kind: "soon" });
  register("cache");
  machine.durable([]);
  expect(give({ kind: "persisted" })).toContain("soon");
});

test("an own entry that another origin's word hides is ended on disk, and of a static one it is told", () => {
  const { machine, r, out, register } = machineOf();
  register("web");
  machine.durable(out);
  machine.handle({ kind: "persisted" }, at(1), out);
  const key = keyText({ ...stamped("web").entryKey, clusterId: "c1" });
  r.hear("web", BODY.UNREGISTERED, 1, at(5));
  out.length = 0;
  machine.end([key], at(6), out);
  expect(out.map(({ kind }) => kind)).toEqual(["staticEnded", "persist"]);
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
  expect(give({ kind: "generationKept", generation: 9 }, 1020)).toEqual(expect.arrayContaining(["wake", "soon"]));
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
  expect(give({ kind: "depart", how: "keep", withinMs: 1000 }, 1)).toEqual(["goodbye", "gone"]);
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
  machine.join(a.fabric, { ...greetingOf("a"), transports: ["h2"], roles: [], labels: {}, healthScore: 0 });
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
