import { expect, test } from "vitest";
import { Membership } from "../../src/fabric/membership/membership.ts";
import type { MembershipOptions } from "../../src/fabric/membership/options.ts";
import type { FabricCallRequest, FabricCallResponse, MemberUpdate, PeerIdentity } from "../../src/fabric/wire/messages.ts";
import { NEVER } from "../../src/lib/machine.ts";
import { Rng } from "../../src/lib/rng.ts";
import { nodeRef } from "../fakes/fabric-values.ts";
import { MEMBERSHIP_OPTIONS } from "../fakes/options.ts";
import { factsOf } from "./membership-world.ts";

const PROOF: PeerIdentity = { address: "127.0.0.1:9", isLoopback: true, certificate: undefined, clusterToken: "" };
const FROM = nodeRef("a");

function said(nodeId: string, status: MemberUpdate["status"] = "alive"): MemberUpdate {
  return { ...factsOf(nodeId), status, incarnation: 1, accuser: "" };
}

type Output = Parameters<Membership["handle"]>[2][number];

class Bench {
  readonly machine: Membership;
  nowMs = 0;

  constructor(known: readonly MemberUpdate[] = [], options: MembershipOptions = MEMBERSHIP_OPTIONS) {
    this.machine = new Membership(factsOf("self"), new Rng("rules"), options);
    this.give({ kind: "tick" });
    this.ask({ kind: "pushPull", from: FROM, isJoin: false, members: known });
  }

  give(input: Parameters<Membership["handle"]>[0]): readonly Output[] {
    const out: Output[] = [];
    this.machine.handle(input, { monoMs: this.nowMs, wallMs: 5000 + this.nowMs }, out);
    return out;
  }

  ask(request: FabricCallRequest, identity = PROOF): FabricCallResponse | undefined {
    const answer = this.give({ kind: "asked", call: 1, request, identity }).find((output) => output.kind === "answer");
    return answer?.kind === "answer" ? answer.response : undefined;
  }
}

test("a probe is answered by the one it names, and by nobody else at the address", () => {
  const bench = new Bench();
  const probe = { kind: "probe", from: FROM, updates: [] } as const;
  expect(bench.ask({ ...probe, targetNodeId: "self" })).toMatchObject({ kind: "probe", from: nodeRef("self", 1, "r1") });
  expect(bench.ask({ ...probe, targetNodeId: "other" })).toBeUndefined();
  expect(bench.machine.stats().traffic).toMatchObject({ taken: 2, refused: 1 });
});

test("who asks in another's name, or in ours, is refused and what it tells is not heard", () => {
  const bench = new Bench();
  const certificate = { nodeId: "b", clusterId: "c1" };
  const probe = { kind: "probe", targetNodeId: "self", updates: [said("x")] } as const;
  expect(bench.ask({ ...probe, from: FROM }, { ...PROOF, certificate })).toBeUndefined();
  expect(bench.ask({ ...probe, from: nodeRef("self") })).toBeUndefined();
  expect(bench.machine.find("x")).toBeUndefined();
  expect(bench.ask({ ...probe, from: nodeRef("b") }, { ...PROOF, certificate })).toBeDefined();
  expect(bench.machine.find("x")).toBeDefined();
});

test("an asker that is dead here is told so first, and answers by contradicting", () => {
  const bench = new Bench([said("a"), said("a", "dead"), said("b")]);
  bench.ask({ kind: "probe", from: nodeRef("b"), targetNodeId: "self", updates: [said("a", "dead")] });
  const answer = bench.ask({ kind: "probe", from: FROM, targetNodeId: "self", updates: [] });
  expect(answer?.kind === "probe" && answer.updates[0]).toMatchObject({ nodeId: "a", status: "dead" });
  const again = { ...said("a"), incarnation: 2 };
  bench.ask({ kind: "probe", from: FROM, targetNodeId: "self", updates: [again] });
  expect(bench.machine.find("a")?.status).toBe("alive");
});

test("with a refresh a node says anew what it is, though nothing changed; without one it does not", () => {
  for (const [refreshMs, want] of [
    [0, 1],
    [30_000, 4],
  ] as const) {
    const bench = new Bench([said("a"), said("b")], { ...MEMBERSHIP_OPTIONS, refreshMs, healthTellMs: 1e9 });
    const words = new Set<number>();
    for (; bench.nowMs < 100_000; bench.nowMs += 100) {
      for (const output of bench.give({ kind: "tick" })) {
        if (output.kind !== "call" || output.request.kind === "pushPull" || output.request.kind === "maintain") continue;
        for (const { nodeId, incarnation } of output.request.updates) if (nodeId === "self") words.add(incarnation);
      }
      words.add(bench.machine.find("self")?.incarnation ?? 0);
    }
    expect(words.size).toBe(want);
  }
});

test("an exchange of tables is answered with what the asker did not say", () => {
  const bench = new Bench([said("a"), said("b")]);
  const answer = bench.ask({ kind: "pushPull", from: FROM, isJoin: true, members: [said("a"), said("c")] });
  expect(answer?.kind === "pushPull" && answer.members.map(({ nodeId }) => nodeId)).toEqual(["self", "b"]);
  expect(bench.machine.counts()).toEqual({ alive: 3, suspect: 0, left: 0, dead: 0, conflicts: 0 });
});

test("an indirect probe becomes our own, and is answered when that is", () => {
  const bench = new Bench([said("a"), said("b")]);
  const request = { kind: "probeIndirect", from: FROM, targetNodeId: "b", targetAddress: "b:1", timeoutMs: 300, updates: [] } as const;
  const out = bench.give({ kind: "asked", call: 77, request, identity: PROOF });
  const call = out.find((output) => output.kind === "call" && output.to === "b:1" && output.timeoutMs === 300);
  expect(out.some(({ kind }) => kind === "answer")).toBe(false);
  if (call?.kind !== "call") throw new Error("no call");
  const response = { kind: "probe", from: nodeRef("b"), updates: [] } as const;
  const answered = bench.give({ kind: "answered", call: call.call, response });
  expect(answered).toMatchObject([{ kind: "answer", call: 77, response: { kind: "probeIndirect", isAcknowledged: true } }]);
});

test("a tick too early, or twice, changes nothing", () => {
  const bench = new Bench([said("a"), said("b")]);
  bench.nowMs = bench.machine.nextDeadlineMs();
  bench.give({ kind: "tick" });
  const deadlineMs = bench.machine.nextDeadlineMs();
  expect(bench.give({ kind: "tick" })).toEqual([]);
  expect(bench.machine.nextDeadlineMs()).toBe(deadlineMs);
});

test("an answer to a call that is not ours, or was answered, changes nothing", () => {
  const bench = new Bench([said("a")]);
  expect(bench.give({ kind: "answered", call: 4711, response: undefined })).toEqual([]);
  expect(bench.machine.stats().traffic).toMatchObject({ answered: 0, failed: 0 });
});

test("an event loop that is late makes the node doubt itself, a little lateness does not", () => {
  const bench = new Bench();
  bench.give({ kind: "lagged", lagMs: 100 });
  expect(bench.machine.stats().healthScore).toBe(0);
  bench.give({ kind: "lagged", lagMs: 2500 });
  expect(bench.machine.stats().healthScore).toBe(3);
});

test("a bad score is told to others, now and then", () => {
  const bench = new Bench([said("a")]);
  bench.give({ kind: "lagged", lagMs: 4000 });
  for (let i = 0; i < 400; i++) {
    bench.nowMs = Math.max(bench.nowMs, bench.machine.nextDeadlineMs());
    const out = bench.give({ kind: "tick" });
    for (const output of out) if (output.kind === "call") bench.give({ kind: "answered", call: output.call, response: undefined });
  }
  expect(bench.machine.find("self")?.healthScore).toBeGreaterThan(1);
});

test("reads say who is there", () => {
  const bench = new Bench([said("a"), said("b"), said("b", "left")]);
  expect(bench.machine.members().map(({ nodeId }) => nodeId)).toEqual(["self", "a", "b"]);
  expect(bench.machine.listed().map(({ nodeId }) => nodeId)).toEqual(["a"]);
  expect(bench.machine.isSelf("self")).toBe(true);
  expect(bench.machine.explain("nobody")).toBeUndefined();
  expect(bench.machine.explain("b")).toMatchObject({ update: { status: "left" }, accusers: [], rttMs: undefined });
  expect(new Membership(factsOf("new"), new Rng("new"), MEMBERSHIP_OPTIONS).nextDeadlineMs()).toBe(NEVER);
});

test("after leaving a node probes nobody, and is quiet when all is told", () => {
  const bench = new Bench([said("a"), said("b")]);
  bench.give({ kind: "leave" });
  expect(bench.machine.isQuiet).toBe(false);
  for (let i = 0; i < 50 && !bench.machine.isQuiet; i++) {
    bench.nowMs = Math.max(bench.nowMs, bench.machine.nextDeadlineMs());
    bench.give({ kind: "tick" });
  }
  expect(bench.machine.isQuiet).toBe(true);
  expect(bench.nowMs).toBeLessThan(2000);
});

test("only clocks of the own cluster count: others that all agree on another time say nothing of ours", () => {
  const ours = ["a", "b"];
  const strangers = ["x1", "x2", "x3", "x4", "x5"];
  const bench = new Bench([...ours.map((id) => said(id)), ...strangers.map((id) => ({ ...said(id), clusterId: "other" }))]);
  const heard = new Set<string>();
  for (; heard.size < 7 && bench.nowMs < 60_000; bench.nowMs += 250) {
    for (const output of bench.give({ kind: "tick" })) {
      if (output.kind !== "call" || output.request.kind !== "probe") continue;
      const nodeId = output.request.targetNodeId;
      heard.add(nodeId);
      const wallMs = 5000 + bench.nowMs + (ours.includes(nodeId) ? 0 : 86_400_000);
      bench.give({
        kind: "answered",
        call: output.call,
        response: { kind: "probe", from: nodeRef(nodeId), updates: [], wallMs },
      });
    }
  }
  expect(heard.size).toBe(7);
  expect(bench.machine.clock({ monoMs: bench.nowMs, wallMs: 5000 + bench.nowMs })).toMatchObject({
    knownCount: 2,
    offCount: 0,
    isOff: false,
  });
});
