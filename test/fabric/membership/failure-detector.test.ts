import { expect, test } from "vitest";
import { MemberCalls } from "../../../src/fabric/membership/calls.ts";
import { FailureDetector } from "../../../src/fabric/membership/failure-detector.ts";
import type { MembershipOutput } from "../../../src/fabric/membership/io-types.ts";
import type { MembershipOptions } from "../../../src/fabric/membership/options.ts";
import { MembershipState } from "../../../src/fabric/membership/state.ts";
import { decodeCallRequest, encodeCallRequest } from "../../../src/fabric/wire/call-codec.ts";
import type { CallRequest, CallResponse } from "../../../src/fabric/wire/messages.ts";
import type { Time } from "../../../src/lib/machine.ts";
import { Rng } from "../../../src/lib/rng.ts";
import { MEMBERSHIP_OPTIONS } from "../../fakes/options.ts";
import { factsOf } from "../membership-world.ts";

type Call = Extract<MembershipOutput, { readonly kind: "call" }>;

function at(monoMs: number): Time {
  return { monoMs, wallMs: monoMs };
}

/** A prober among `names`, and the hands of its composer. */
class Bench {
  readonly state = new MembershipState(factsOf("self"), MEMBERSHIP_OPTIONS);
  readonly memberCalls = new MemberCalls(this.state, MEMBERSHIP_OPTIONS);
  readonly failureDetector: FailureDetector;

  constructor(names: readonly string[], options: Partial<MembershipOptions> = {}, others: readonly string[] = []) {
    this.failureDetector = new FailureDetector(this.memberCalls, new Rng("prober"), { ...MEMBERSHIP_OPTIONS, ...options });
    for (const name of [...names, ...others]) {
      const update = {
        ...factsOf(name, others.includes(name) ? { clusterId: "other" } : {}),
        status: "alive",
        incarnation: 1,
        accuser: "",
      } as const;
      this.state.learn(update, { nodeId: "a", path: "table" }, at(0), []);
    }
    this.failureDetector.begin(at(0));
    this.failureDetector.settle(at(0), []);
  }

  /** Ticks at the next deadline; gives when that was and the calls made. */
  step(): { readonly atMs: number; readonly calls: readonly Call[] } {
    const atMs = this.failureDetector.nextDeadlineMs();
    const out: MembershipOutput[] = [];
    this.failureDetector.tick(at(atMs), out);
    return { atMs, calls: callsIn(out) };
  }

  answer(call: Call | undefined, response: CallResponse | undefined, atMs: number): readonly Call[] {
    if (call === undefined) throw new Error("no call");
    const pending = this.memberCalls.finish(call.call, response);
    const out: MembershipOutput[] = [];
    if (pending?.purpose.kind === "direct") this.failureDetector.directAnswered(pending.purpose.round, pending, response, at(atMs), out);
    if (pending?.purpose.kind === "indirect") {
      this.failureDetector.indirectAnswered(pending.purpose.round, pending.purpose.helper, response, at(atMs), out);
    }
    return callsIn(out);
  }

  statusOf(nodeId: string): string | undefined {
    return this.state.members.find(nodeId)?.update.status;
  }
}

function callsIn(out: readonly MembershipOutput[]): readonly Call[] {
  return out.flatMap((output) => (output.kind === "call" ? [output] : []));
}

function targetOf(request: CallRequest | undefined): string {
  if (request === undefined || request.kind === "pushPull") throw new Error("no probe");
  return request.targetNodeId;
}

const NO: CallResponse = { kind: "probeIndirect", isAcknowledged: false, updates: [] };
const YES: CallResponse = { kind: "probeIndirect", isAcknowledged: true, updates: [] };

/** Who is probed in so many periods, of which each has one probe that is answered. */
function probedBy(bench: Bench, periods: number): string[] {
  return Array.from({ length: periods }, () => {
    const { atMs, calls } = bench.step();
    const [call] = calls;
    const nodeId = targetOf(call?.request);
    const from = { nodeId, generation: 1, clusterId: bench.state.members.find(nodeId)?.update.clusterId ?? "", region: "r1" };
    bench.answer(call, { kind: "probe", from, updates: [] }, atMs);
    return nodeId;
  });
}

test.each([
  [4, 0],
  [4, 1],
  [4, 6],
  [5, 20],
  [1, 3],
])("of %i nodes of its own cluster and %i of another each is probed once in each pass", (ownCount, otherCount) => {
  const own = Array.from({ length: ownCount }, (_, i) => `n${i}`);
  const others = Array.from({ length: otherCount }, (_, i) => `other${i}`);
  const share = Math.max(0.5, ownCount / (ownCount + otherCount));
  const bench = new Bench(own, {}, others);
  const probed = probedBy(bench, 4 * Math.ceil(Math.max(ownCount / share, otherCount === 0 ? 0 : otherCount / (1 - share))));
  for (const [names, part] of [
    [own, share],
    [others, 1 - share],
  ] as const) {
    for (const name of names) {
      const count = probed.filter((id) => id === name).length;
      expect(Math.abs(count - (probed.length * part) / names.length)).toBeLessThanOrEqual(1);
    }
  }
});

test("a period has one direct probe; its answer gives the round trip", () => {
  const bench = new Bench(["a", "b", "c", "d", "e"]);
  const { atMs, calls } = bench.step();
  expect(atMs).toBeLessThan(1000);
  expect(calls).toHaveLength(1);
  expect(calls[0]).toMatchObject({ timeoutMs: 500, request: { kind: "probe" } });
  const target = targetOf(calls[0]?.request);
  bench.answer(calls[0], { kind: "probe", from: { nodeId: target, generation: 1 }, updates: [] }, atMs + 16);
  expect(bench.state.members.find(target)?.rttMs).toBe(16);
  const next = bench.step();
  expect(next.atMs).toBe(atMs + 1000);
  const other = targetOf(next.calls[0]?.request);
  bench.answer(next.calls[0], { kind: "probe", from: { nodeId: other, generation: 1 }, updates: [] }, next.atMs + 8);
  expect(bench.statusOf(target)).toBe("alive");
});

test("after a failed probe three others are asked, who must answer before the period ends, and the target once more", () => {
  const bench = new Bench(["a", "b", "c", "d", "e"]);
  const { atMs, calls } = bench.step();
  const asked = bench.answer(calls[0], undefined, atMs + 500);
  expect(asked.map(({ request }) => request.kind)).toEqual(["probe", "probeIndirect", "probeIndirect", "probeIndirect"]);
  for (const { to, request, timeoutMs } of asked.slice(1)) {
    expect(targetOf(request)).toBe(targetOf(calls[0]?.request));
    expect(to).not.toBe(calls[0]?.to);
    expect(timeoutMs).toBe(500);
    expect(request.kind === "probeIndirect" && request.timeoutMs).toBe(350);
  }
  bench.answer(asked[1], NO, atMs + 900);
  bench.answer(asked[2], YES, atMs + 950);
  bench.step();
  expect(bench.statusOf(targetOf(calls[0]?.request))).toBe("alive");
  expect(bench.state.health.score).toBe(0);
});

test("silence until the end of the period makes a suspect, and helpers that said nothing make the prober doubt itself", () => {
  const bench = new Bench(["a", "b", "c", "d", "e"]);
  const { atMs, calls } = bench.step();
  const target = targetOf(calls[0]?.request);
  const asked = bench.answer(calls[0], undefined, atMs + 500);
  bench.answer(asked[1], NO, atMs + 900);
  expect(bench.statusOf(target)).toBe("alive");
  bench.step();
  expect(bench.statusOf(target)).toBe("suspect");
  expect(bench.state.health.score).toBe(2);
  expect(bench.state.members.find(target)?.evidence[0]).toMatchObject({ accuser: "self", path: "indirect" });
});

test("when everybody has said no, nobody waits for the end of the period", () => {
  const bench = new Bench(["a", "b", "c", "d", "e"]);
  const { atMs, calls } = bench.step();
  const asked = bench.answer(calls[0], undefined, atMs + 5);
  for (const [i, call] of asked.entries()) bench.answer(call, i === 0 ? undefined : NO, atMs + 20);
  expect(bench.statusOf(targetOf(calls[0]?.request))).toBe("suspect");
  expect(bench.state.health.score).toBe(0);
});

test("one helper is enough for the evidence to name it", () => {
  const bench = new Bench(["a", "b"]);
  const { atMs, calls } = bench.step();
  const target = targetOf(calls[0]?.request);
  bench.answer(calls[0], undefined, atMs + 500);
  bench.step();
  expect(bench.state.members.find(target)?.evidence[0]).toMatchObject({ path: "indirect", via: [target === "a" ? "b" : "a"] });
});

test("an answer by another node at the address is none", () => {
  const bench = new Bench(["a", "b"]);
  const { atMs, calls } = bench.step();
  const asked = bench.answer(calls[0], { kind: "probe", from: { nodeId: "z", generation: 1 }, updates: [] }, atMs + 5);
  expect(asked.length).toBeGreaterThan(1);
});

test("with nobody to ask, a failed probe is the prober's own doubt too", () => {
  const bench = new Bench(["a"]);
  const { atMs, calls } = bench.step();
  bench.answer(calls[0], undefined, atMs + 500);
  bench.step();
  expect(bench.statusOf("a")).toBe("suspect");
  expect(bench.state.health.score).toBe(1);
  expect(bench.state.members.find("a")?.evidence[0]).toMatchObject({ path: "direct", via: [] });
});

test("a node that does badly gives others more time", () => {
  const bench = new Bench(["a", "b", "c", "d", "e"]);
  bench.state.health.worsen(3);
  const first = bench.step();
  expect(first.calls[0]?.timeoutMs).toBe(2000);
  expect(bench.step().atMs).toBe(first.atMs + 4000);
});

test("nobody is asked to wait for longer than the protocol allows, whatever the settings and the health of the one that asks", () => {
  const bench = new Bench(["a", "b", "c", "d", "e"], { intervalMs: 60_000, pingTimeoutMs: 30_000 });
  bench.state.health.worsen(8);
  const { atMs, calls } = bench.step();
  const asked = bench
    .answer(calls[0], undefined, atMs + 1000)
    .flatMap(({ request }) => (request.kind === "probeIndirect" ? [request] : []));
  expect(asked.length).toBe(3);
  for (const request of asked) expect(decodeCallRequest("probeIndirect", encodeCallRequest(request))).toEqual(request);
});

test("forgotten rounds give no verdict, whatever comes later", () => {
  const bench = new Bench(["a", "b", "c", "d", "e"]);
  const { atMs, calls } = bench.step();
  bench.failureDetector.forgetRounds();
  expect(bench.answer(calls[0], undefined, atMs + 500)).toEqual([]);
  bench.step();
  expect(bench.statusOf(targetOf(calls[0]?.request))).toBe("alive");
});

test("nobody is made to call an address that is no member's, nor more at a time than the bound", () => {
  const bench = new Bench(["a", "b"]);
  const request = { kind: "probeIndirect", from: { nodeId: "a", generation: 1 }, targetNodeId: "b", timeoutMs: 300, updates: [] } as const;
  const out: MembershipOutput[] = [];
  bench.failureDetector.relay(1, { ...request, targetAddress: "victim:22" }, at(0), out);
  bench.failureDetector.relay(2, { ...request, targetNodeId: "unknown", targetAddress: "b:1" }, at(0), out);
  expect(out).toMatchObject([1, 2].map((call) => ({ kind: "answer", call, response: { isAcknowledged: false } })));
  out.length = 0;
  for (let call = 0; call < 100; call++) bench.failureDetector.relay(call, { ...request, targetAddress: "b:1" }, at(0), out);
  expect(callsIn(out)).toHaveLength(MEMBERSHIP_OPTIONS.maxRelays);
  expect(out).toHaveLength(100);
});
