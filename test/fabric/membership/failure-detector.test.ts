/** Probing, as a member does it: one of the others in each period, by itself and by way of others. */
import { expect, test } from "vitest";
import type { FabricCallRequest, FabricCallResponse } from "../../../src/fabric/wire/messages.ts";
import { callAsReceived } from "../../fakes/fabric-messages.ts";
import { nodeRef } from "../../fakes/fabric-values.ts";
import { MEMBERSHIP_OPTIONS } from "../../fakes/options.ts";
import { type BenchSpec, type Call, MemberBench, type Output, said } from "../membership-bench.ts";
import { factsOf } from "../membership-world.ts";

/** A node among these, who told it all there is when it joined: it has no news, so that it probes and does nothing else. */
function among(names: readonly string[], options: BenchSpec["options"] = {}, others: readonly string[] = [], self = "self"): MemberBench {
  const bench = new MemberBench({ facts: factsOf(self), options, isSilent: true });
  const [join] = bench.join([`${names[0] ?? ""}:1`]);
  const members = [...names.map((name) => said(name)), ...others.map((name) => said(name, "alive", { clusterId: "other" }))];
  bench.answer(join, { kind: "pushPull", from: nodeRef(names[0] ?? ""), members });
  return bench;
}

/** To its next probe. */
function nextProbe(bench: MemberBench): Call {
  bench.probes.length = 0;
  while (bench.probes.length === 0) bench.step();
  const [call, more] = bench.probes;
  if (call === undefined || more !== undefined) throw new Error("one probe");
  return call;
}

function callsIn(out: readonly Output[]): readonly Extract<Output, { readonly kind: "call" }>[] {
  return out.flatMap((output) => (output.kind === "call" ? [output] : []));
}

/** What that led to. */
function answer(bench: MemberBench, call: Pick<Call, "call"> | undefined, response: FabricCallResponse | undefined, atMs: number) {
  bench.runUntil(atMs);
  return callsIn(bench.answer(call as Call | undefined, response));
}

function targetOf(request: FabricCallRequest | undefined): string {
  if (request === undefined || request.kind === "pushPull") throw new Error("no probe");
  return request.targetNodeId;
}

const NO: FabricCallResponse = { kind: "probeIndirect", isAcknowledged: false, updates: [] };
const YES: FabricCallResponse = { kind: "probeIndirect", isAcknowledged: true, updates: [] };

function yesOf(nodeId: string): FabricCallResponse {
  return { kind: "probe", from: nodeRef(nodeId), updates: [] };
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
  const bench = among(own, {}, others);
  const periods = 4 * Math.ceil(Math.max(ownCount / share, otherCount === 0 ? 0 : otherCount / (1 - share)));
  const probed = Array.from({ length: periods }, () => {
    const call = nextProbe(bench);
    const nodeId = targetOf(call.request);
    const clusterId = bench.held(nodeId)?.clusterId ?? "";
    answer(bench, call, { kind: "probe", from: { ...nodeRef(nodeId), clusterId }, updates: [] }, call.atMs);
    return nodeId;
  });
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

test("in one period each is probed by one node, where all know the same", () => {
  const names = Array.from({ length: 20 }, (_, i) => `n${i}`);
  const benches = names.map((self) =>
    among(
      names.filter((name) => name !== self),
      {},
      [],
      self,
    ),
  );
  for (let period = 0; period < 21; period++) {
    const probed = benches.map((bench) => {
      const call = nextProbe(bench);
      answer(bench, call, yesOf(targetOf(call.request)), call.atMs);
      return targetOf(call.request);
    });
    expect(new Set(probed).size).toBe(20);
  }
});

test("a period has one direct probe; its answer gives the round trip", () => {
  const bench = among(["a", "b", "c", "d", "e"]);
  const first = nextProbe(bench);
  expect(first.atMs).toBeLessThan(1000);
  expect(first).toMatchObject({ timeoutMs: 500, request: { kind: "probe" } });
  const target = targetOf(first.request);
  answer(bench, first, yesOf(target), first.atMs + 16);
  expect(bench.machine.explain(target)?.rttMs).toBe(16);
  const next = nextProbe(bench);
  expect(next.atMs).toBe(first.atMs + 1000);
  answer(bench, next, yesOf(targetOf(next.request)), next.atMs + 8);
  expect(bench.held(target)?.status).toBe("alive");
});

test("after a failed probe three others are asked, who must answer before the period ends, and the target once more", () => {
  const bench = among(["a", "b", "c", "d", "e"]);
  const probe = nextProbe(bench);
  const asked = answer(bench, probe, undefined, probe.atMs + 500);
  expect(asked.map(({ request }) => request.kind)).toEqual(["probe", "probeIndirect", "probeIndirect", "probeIndirect"]);
  for (const { to, request, timeoutMs } of asked.slice(1)) {
    expect(targetOf(request)).toBe(targetOf(probe.request));
    expect(to).not.toBe(probe.to);
    expect(timeoutMs).toBe(500);
    expect(request.kind === "probeIndirect" && request.timeoutMs).toBe(350);
  }
  answer(bench, asked[1], NO, probe.atMs + 900);
  answer(bench, asked[2], YES, probe.atMs + 950);
  bench.runUntil(probe.atMs + 1000);
  expect(bench.held(targetOf(probe.request))?.status).toBe("alive");
  expect(bench.machine.stats().healthScore).toBe(0);
});

test("silence until the end of the period makes a suspect, and helpers that said nothing make the prober doubt itself", () => {
  const bench = among(["a", "b", "c", "d", "e"]);
  const probe = nextProbe(bench);
  const target = targetOf(probe.request);
  const asked = answer(bench, probe, undefined, probe.atMs + 500);
  answer(bench, asked[1], NO, probe.atMs + 900);
  bench.runUntil(probe.atMs + 999);
  expect(bench.held(target)?.status).toBe("alive");
  bench.runUntil(probe.atMs + 1000);
  expect(bench.held(target)?.status).toBe("suspect");
  expect(bench.machine.stats().healthScore).toBe(2);
  expect(bench.machine.explain(target)?.evidence[0]).toMatchObject({ accuser: "self", path: "indirect" });
});

test("when everybody has said no, nobody waits for the end of the period", () => {
  const bench = among(["a", "b", "c", "d", "e"]);
  const probe = nextProbe(bench);
  const asked = answer(bench, probe, undefined, probe.atMs + 5);
  for (const [i, call] of asked.entries()) answer(bench, call, i === 0 ? undefined : NO, probe.atMs + 20);
  expect(bench.held(targetOf(probe.request))?.status).toBe("suspect");
  expect(bench.machine.stats().healthScore).toBe(0);
});

test("one helper is enough for the evidence to name it", () => {
  const bench = among(["a", "b"]);
  const probe = nextProbe(bench);
  const target = targetOf(probe.request);
  answer(bench, probe, undefined, probe.atMs + 500);
  bench.runUntil(probe.atMs + 1000);
  expect(bench.machine.explain(target)?.evidence[0]).toMatchObject({ path: "indirect", via: [target === "a" ? "b" : "a"] });
});

test("an answer by another node at the address is none", () => {
  const bench = among(["a", "b"]);
  const probe = nextProbe(bench);
  expect(answer(bench, probe, yesOf("z"), probe.atMs + 5).length).toBeGreaterThan(1);
});

test("with nobody to ask, a failed probe is the prober's own doubt too", () => {
  const bench = among(["a"]);
  const probe = nextProbe(bench);
  answer(bench, probe, undefined, probe.atMs + 500);
  bench.runUntil(probe.atMs + 1000);
  expect(bench.held("a")?.status).toBe("suspect");
  expect(bench.machine.stats().healthScore).toBe(1);
  expect(bench.machine.explain("a")?.evidence[0]).toMatchObject({ path: "direct", via: [] });
});

test("a node that does badly gives others more time", () => {
  const bench = among(["a", "b", "c", "d", "e"]);
  bench.give({ kind: "lagged", lagMs: 2500 });
  expect(bench.machine.stats().healthScore).toBe(3);
  bench.runUntil(10_000);
  // Those by which it asks whether it is still the one of its id are not in its turn.
  const [first, second] = bench.probes.filter(({ timeoutMs }) => timeoutMs !== 500);
  expect([first?.timeoutMs, (second?.atMs ?? 0) - (first?.atMs ?? 0)]).toEqual([2000, 4000]);
});

test("nobody is asked to wait for longer than the protocol allows, whatever the settings and the health of the one that asks", () => {
  const bench = among(["a", "b", "c", "d", "e"], { intervalMs: 60_000, pingTimeoutMs: 30_000 });
  bench.give({ kind: "lagged", lagMs: 8 * 60_000 });
  expect(bench.machine.stats().healthScore).toBe(8);
  let probe: Call | undefined;
  while (probe === undefined) {
    bench.step();
    probe = bench.probes.find(({ timeoutMs }) => timeoutMs > 30_000);
  }
  const asked = answer(bench, probe, undefined, probe.atMs + 1000).flatMap(({ request }) =>
    request.kind === "probeIndirect" ? [request] : [],
  );
  expect(asked.length).toBe(3);
  for (const request of asked) expect(callAsReceived(request)).toEqual(request);
});

test("what was asked before this node stood still gives no verdict, whatever comes later", () => {
  const bench = among(["a", "b", "c", "d", "e"]);
  const probe = nextProbe(bench);
  bench.freeze(5000);
  const asked = callsIn(bench.answer(probe, undefined)).filter(({ request }) => request.kind === "probeIndirect");
  expect(asked).toEqual([]);
  bench.onProbe = (call) => (call.request.kind === "probe" ? yesOf(targetOf(call.request)) : NO);
  bench.runUntil(bench.nowMs + 2000);
  expect(bench.held(targetOf(probe.request))?.status).toBe("alive");
});

test("nobody is made to call an address that is no member's, nor more at a time than the bound", () => {
  const bench = among(["a", "b"]);
  const request = { kind: "probeIndirect", from: nodeRef("a"), targetNodeId: "b", timeoutMs: 300, updates: [] } as const;
  const relay = (call: number, more: { readonly targetAddress: string; readonly targetNodeId?: string }) =>
    bench.give({
      kind: "asked",
      call,
      request: { ...request, ...more },
      identity: { address: "a:9", isLoopback: true, certificate: undefined, clusterToken: "" },
    });
  expect([...relay(1, { targetAddress: "victim:22" }), ...relay(2, { targetNodeId: "unknown", targetAddress: "b:1" })]).toMatchObject(
    [1, 2].map((call) => ({ kind: "answer", call, response: { isAcknowledged: false } })),
  );
  const out = Array.from({ length: 100 }, (_, call) => relay(call, { targetAddress: "b:1" })).flat();
  expect(callsIn(out)).toHaveLength(MEMBERSHIP_OPTIONS.maxRelays);
  expect(out).toHaveLength(100);
});

test("a call that fails because a certificate has ended accuses nobody; a call that fails otherwise does", () => {
  const bench = among(["a", "b"]);
  for (let n = 0; n < 20; n++) {
    const call = nextProbe(bench);
    bench.give({ kind: "answered", call: call.call, response: undefined, hasEnded: true });
    expect([bench.held("a")?.status, bench.held("b")?.status]).toEqual(["alive", "alive"]);
  }
  bench.failUntil(() => bench.held("a")?.status !== "alive" || bench.held("b")?.status !== "alive");
});
