/** What is said on the links when a node leaves: to whom, in which order, and who refuses (semantics.md, Stop). */
import { expect, test } from "vitest";
import { GracefulLeave } from "../../src/fabric/graceful-leave.ts";
import type { FabricOutput } from "../../src/fabric/io-types.ts";
import type { Hello } from "../../src/fabric/wire/messages.ts";

function hello(nodeId: string, more: Partial<Hello> = {}): Hello {
  const place = { clusterId: "c1", region: "r1", zone: "z1", address: `${nodeId}:1`, version: "1" };
  return {
    nodeId,
    generation: 1,
    ...place,
    protocolVersions: [2],
    clusterToken: "",
    isReady: false,
    runsChecks: false,
    holdsSummaries: false,
    policyFrom: [],
    ...more,
  };
}

const AT = { monoMs: 0, wallMs: 0 };
const SAYS_SO = { kind: "handOver", seqs: [], isRefused: false } as const;
const REFUSAL = { kind: "handOver", seqs: [], isRefused: true } as const;
const OFFER = { kind: "handOver", seqs: [3, 5], isRefused: false } as const;

test("who leaves says so to nodes of its cluster, also on later links, and offers to one of them", () => {
  const leaving = new GracefulLeave("c1", () => true);
  const out: FabricOutput[] = [];
  const b = leaving.open(1, { hello: hello("b") }, AT, out);
  const other = leaving.open(3, { hello: hello("other", { clusterId: "c2" }) }, AT, out);
  leaving.announce({ kind: "leaving" }, out);
  const c = leaving.open(4, { hello: hello("c") }, AT, out);
  expect(out).toEqual([
    { kind: "send", link: 1 },
    { kind: "send", link: 4 },
  ]);
  expect([b?.next(AT), other, c?.next(AT)]).toEqual([SAYS_SO, undefined, SAYS_SO]);
  leaving.announce({ kind: "offer", nodeId: "c", seqs: [3, 5] }, out);
  expect([b?.next(AT), c?.next(AT), c?.next(AT)]).toEqual([undefined, OFFER, undefined]);
});

test("an offer is given to the node, with who made it; one that is not ready, or leaves itself, refuses", () => {
  for (const [isReady, isLeaving, isTaken] of [
    [true, false, true],
    [false, false, false],
    [true, true, false],
  ] as const) {
    const leaving = new GracefulLeave("c1", () => isReady);
    const b = leaving.open(1, { hello: hello("b") }, AT, []);
    if (isLeaving) leaving.announce({ kind: "leaving" }, []);
    while (b?.next(AT) !== undefined);
    const out: FabricOutput[] = [];
    b?.receive(OFFER, AT, out);
    expect(out).toEqual([isTaken ? { kind: "offered", nodeId: "b", generation: 1, seqs: [3, 5] } : { kind: "send", link: 1 }]);
    expect(b?.next(AT)).toEqual(isTaken ? undefined : REFUSAL);
  }
});

test("takers are those that are not leaving and still linked, with how often each refused", () => {
  const leaving = new GracefulLeave("c1", () => true);
  const out: FabricOutput[] = [];
  const [b, c] = ["b", "c", "d"].map((nodeId, link) => leaving.open(link, { hello: hello(nodeId) }, AT, out));
  b?.receive(SAYS_SO, AT, out);
  c?.receive(REFUSAL, AT, out);
  leaving.closed(2);
  expect(leaving.takers()).toEqual([{ nodeId: "c", refusals: 1, runsChecks: false }]);
  expect(out).toMatchObject([{ kind: "event", event: { name: "member_leaving", detail: { nodeId: "b" } } }]);
});

test("an offer waits until the peer was told all own news", () => {
  const state = { isAllSent: false };
  const leaving = new GracefulLeave(
    "c1",
    () => true,
    () => state.isAllSent,
  );
  const b = leaving.open(1, { hello: hello("b") }, AT, []);
  leaving.announce({ kind: "offer", nodeId: "b", seqs: [3, 5] }, []);
  expect([b?.hasWork(AT), b?.next(AT)]).toEqual([false, undefined]);
  state.isAllSent = true;
  expect([b?.hasWork(AT), b?.next(AT), b?.hasWork(AT)]).toEqual([true, OFFER, false]);
});
