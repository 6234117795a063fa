/** What is noted of a fabric's machine as it goes: who was heard when, how long probes took. */
import { expect, test } from "vitest";
import type { FabricInput, FabricOutput } from "../../../src/fabric/io-types.ts";
import { Metrics } from "../../../src/lib/metrics/metrics.ts";
import { PeerActivity } from "../../../src/node/core/peer-activity.ts";
import { nodeRef } from "../../fakes/fabric-values.ts";
import { FabricWorld, greetingOf, type WorldNode } from "../../fakes/fabric-world.ts";

const PROOF = { address: "9.9.9.9:9", isLoopback: true, certificate: undefined, clusterToken: "secret" } as const;

/** A node alone whose machine is looked at; the test is everybody else. */
class Watched {
  readonly world = new FabricWorld();
  readonly metrics = new Metrics();
  readonly node: WorldNode = this.world.start({ nodeId: "a" });
  readonly watched = new PeerActivity(this.node.fabric, this.metrics);

  give(input: FabricInput): readonly FabricOutput[] {
    const out: FabricOutput[] = [];
    this.node.fabric.handle(input, this.world.time(), out);
    this.watched.handled(input, out, this.world.time());
    return out;
  }

  /** B asks, and says of itself that it is alive. */
  askedBy(nodeId: string, call = 1): readonly FabricOutput[] {
    const facts = { ...greetingOf(nodeId), transports: ["h2"], roles: [], labels: {}, healthScore: 0 };
    const update = { ...facts, status: "alive" as const, incarnation: 1_760_000_000, accuser: "" };
    const request = { kind: "probe" as const, from: nodeRef(nodeId, 1, "r1"), targetNodeId: "a", updates: [update] };
    return this.give({ kind: "asked", call, request, identity: PROOF });
  }

  get timedCount(): number {
    return this.metrics.histogram("mesh_gossip_rtt_ms", {}).count;
  }
}

test("a member is heard when it asks; a stranger that is refused is not", () => {
  const a = new Watched();
  a.askedBy("b");
  // Known by its own word; heard from then on.
  a.world.nowMs += 1000;
  a.askedBy("b", 2);
  expect(a.watched.heardWallMs("b")).toBe(a.world.time().wallMs);
  const request = { kind: "probe" as const, from: nodeRef("m", 1, "r1"), targetNodeId: "a", updates: [] };
  a.give({ kind: "asked", call: 3, request, identity: { ...PROOF, clusterToken: "guessed" } });
  expect([a.watched.heardWallMs("m"), a.node.fabric.calls.refusedCount]).toEqual([undefined, 1]);
});

test("who is refused is not heard, whichever member it says it is", () => {
  const a = new Watched();
  a.askedBy("b");
  a.askedBy("b", 9);
  const { wallMs } = a.world.time();
  expect(a.watched.heardWallMs("b")).toBe(wallMs);
  a.world.nowMs += 1000;
  const request = { kind: "probe" as const, from: nodeRef("b", 1, "r1"), targetNodeId: "a", updates: [] };
  a.give({ kind: "asked", call: 2, request, identity: { ...PROOF, clusterToken: "guessed" } });
  a.give({ kind: "asked", call: 3, request: { ...request, targetNodeId: "z" }, identity: PROOF });
  a.give({ kind: "opened", link: 1, isIncoming: true, identity: { ...PROOF, clusterToken: "" } });
  a.give({ kind: "received", link: 1, frame: { kind: "hello", hello: greetingOf("b", { clusterToken: "guessed" }) } });
  a.give({ kind: "received", link: 1, frame: { kind: "linked", nodeIds: [] } });
  expect(a.watched.heardWallMs("b")).toBe(wallMs);
});

test("a peer is heard by its hello and by each frame after it", () => {
  const a = new Watched();
  a.askedBy("b");
  a.give({ kind: "opened", link: 1, isIncoming: true, identity: PROOF });
  for (const frame of [
    { kind: "hello", hello: greetingOf("b") },
    { kind: "linked", nodeIds: [] },
  ] as const) {
    a.world.nowMs += 1000;
    a.give({ kind: "received", link: 1, frame });
    expect(a.watched.heardWallMs("b")).toBe(a.world.time().wallMs);
  }
  a.give({ kind: "closed", link: 1, detail: "" });
  const { wallMs } = a.world.time();
  a.world.nowMs += 1000;
  a.give({ kind: "received", link: 1, frame: { kind: "linked", nodeIds: [] } });
  expect(a.watched.heardWallMs("b")).toBe(wallMs);
});

test("an answer is timed and its node heard; silence is not, and nobody is heard", () => {
  const a = new Watched();
  a.askedBy("b");
  a.askedBy("b", 2);
  const calls: Extract<FabricOutput, { kind: "call" }>[] = [];
  for (let i = 0; i < 50 && calls.length < 2; i++) {
    a.world.nowMs = Math.max(a.world.nowMs, a.node.fabric.nextDeadlineMs());
    for (const output of a.give({ kind: "tick" })) if (output.kind === "call" && output.request.kind === "probe") calls.push(output);
  }
  const [first, second] = calls;
  if (first === undefined || second === undefined) throw new Error("it did not probe");
  a.world.nowMs += 7;
  const wallMs = a.world.time().wallMs;
  a.give({ kind: "answered", call: first.call, response: { kind: "probe", from: nodeRef("b", 1, "r1"), updates: [] } });
  expect([a.watched.heardWallMs("b"), a.timedCount]).toEqual([wallMs, 1]);
  a.world.nowMs += 500;
  a.give({ kind: "answered", call: second.call, response: undefined });
  expect([a.watched.heardWallMs("b"), a.timedCount]).toEqual([wallMs, 1]);
});

test.each(["dead", "left"] as const)(
  "of a member that is %s nothing is remembered: nodes with new names come and go for ever",
  (status) => {
    const a = new Watched();
    a.askedBy("b");
    a.askedBy("b", 2);
    expect(a.watched.heardWallMs("b")).toBeDefined();
    const facts = { ...greetingOf("b"), transports: ["h2"], roles: [], labels: {}, healthScore: 0 };
    const update = { ...facts, status, incarnation: 1_760_000_001, accuser: "c" };
    a.give({
      kind: "asked",
      call: 9,
      request: { kind: "probe", from: nodeRef("c", 1, "r1"), targetNodeId: "a", updates: [update] },
      identity: PROOF,
    });
    expect([a.node.fabric.membership.find("b")?.status, a.watched.heardWallMs("b")]).toEqual([status, undefined]);
  },
);
