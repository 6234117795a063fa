/** Links that are up: looked at when there is something, told once, and never in a hurry for a peer that does not read. */
import { expect, test } from "vitest";
import type { FabricOutput } from "../../../src/fabric/io-types.ts";
import type { LinkChannel } from "../../../src/fabric/links/channel.ts";
import { Multiplexer } from "../../../src/fabric/links/multiplexer.ts";
import { PolicyExchange } from "../../../src/fabric/policy-sync.ts";
import type { LinkFrame, VectorTimes } from "../../../src/fabric/wire/messages.ts";
import { NEVER } from "../../../src/lib/machine.ts";
import { channelsOf, greetingOf } from "../../fakes/fabric-world.ts";
import { POLICY_OPTIONS } from "../../fakes/options.ts";
import { ReplicatingNode } from "../../fakes/replication.ts";

const GOING = { isStopping: false };
const WHOLE = { kind: "vector", entries: [], digest: 0n, isPartial: false, isWanted: false } as const;

function at(monoMs: number): { readonly monoMs: number; readonly wallMs: number } {
  return { monoMs, wallMs: monoMs };
}

function opened(): { readonly multiplexer: Multiplexer; readonly out: FabricOutput[] } {
  const policy = new PolicyExchange(POLICY_OPTIONS);
  const multiplexer = new Multiplexer(channelsOf(new ReplicatingNode({ nodeId: "a" }).shared, policy));
  const out: FabricOutput[] = [];
  multiplexer.open(1, { hello: greetingOf("b"), relation: "cluster", greetedMonoMs: 0 }, at(0), out);
  multiplexer.tick(at(0), GOING, out);
  return { multiplexer, out };
}

function drain(multiplexer: Multiplexer, monoMs: number): readonly string[] {
  const kinds: string[] = [];
  for (let frame = multiplexer.next(1, at(monoMs)); frame !== undefined; frame = multiplexer.next(1, at(monoMs))) kinds.push(frame.kind);
  return kinds;
}

test("the shell is told once that there is something to send, and again only after it found nothing", () => {
  const { multiplexer, out } = opened();
  multiplexer.receive(1, WHOLE, at(0), out);
  for (let ms = 0; ms < 3000; ms += 100) multiplexer.tick(at(ms), GOING, out);
  expect(out).toEqual([{ kind: "send", link: 1 }]);
  expect(drain(multiplexer, 3000)).toEqual(expect.arrayContaining(["policyHead", "vector", "linked"]));
  multiplexer.tick(at(3000), GOING, out);
  expect(out).toHaveLength(1);
  multiplexer.tick(at(5000), GOING, out);
  expect(out).toHaveLength(2);
});

test("a link that is not read is looked at again later, and the next time is never now", () => {
  const { multiplexer, out } = opened();
  for (let ms = 10; ms < 5000; ms += 10) {
    multiplexer.tick(at(ms), GOING, out);
    expect(multiplexer.nextDeadlineMs()).toBeGreaterThan(ms);
  }
});

test("caught up is who got what the peer had, and knows of its policy", () => {
  const { multiplexer, out } = opened();
  multiplexer.receive(1, WHOLE, at(1), out);
  expect(multiplexer.caughtUpWith()).toEqual([]);
  multiplexer.receive(1, { kind: "policyHead", head: { number: 0, hlc: 0, nodeId: "", checksum: "" } }, at(1), out);
  expect(multiplexer.caughtUpWith().map(({ nodeId }) => nodeId)).toEqual(["b"]);
  expect(multiplexer.receive(1, { ...WHOLE, times: { atMs: 2, asOfMs: 3 } }, at(2), out)).toContainEqual({
    kind: "inStep",
    nodeId: "b",
    monoMs: 2,
  });
});

test("in step is up to when the peer said its vector: not before this node greeted, where it names none of our times", () => {
  const { multiplexer, out } = opened();
  const says = (said: VectorTimes, monoMs: number) => multiplexer.receive(1, { ...WHOLE, times: said }, at(monoMs), out);
  expect(says({ atMs: 1 }, 900)).toContainEqual({ kind: "inStep", nodeId: "b", monoMs: 0 });
  expect(says({ atMs: 400, asOfMs: 701 }, 1900)).toContainEqual({ kind: "inStep", nodeId: "b", monoMs: 700 });
  // Records, and whom it is linked to, say nothing of what else it has.
  expect(multiplexer.receive(1, { kind: "linked", nodeIds: [] }, at(5000), out)).toContainEqual({
    kind: "inStep",
    nodeId: "b",
    monoMs: 700,
  });
});

test("what breaks the protocol is news for whoever ends links", () => {
  const { multiplexer, out } = opened();
  const nodeIds = Array.from({ length: 300 }, (_, i) => `n${i}`);
  expect(multiplexer.receive(1, { kind: "linked", nodeIds }, at(1), out)).toMatchObject([{ kind: "badFrame" }]);
});

test("a link that is gone has nothing to say and hears nothing", () => {
  const { multiplexer, out } = opened();
  multiplexer.close(1);
  expect([multiplexer.next(1, at(1)), multiplexer.receive(1, WHOLE, at(1), out), multiplexer.helloOf(1)]).toEqual([
    undefined,
    undefined,
    undefined,
  ]);
});

/** A channel that has so many frames to say, which it names. */
function counting(kind: LinkFrame["kind"], frameCount: number, more: Partial<LinkChannel> = {}): LinkChannel & { readonly got: string[] } {
  const got: string[] = [];
  let left = frameCount;
  return {
    kinds: [kind],
    speaks: "in turn",
    got,
    open: (link) => {
      got.push(`opened ${link}`);
      return {
        next: () => (left-- > 0 ? { kind: "goodbye", reason: "leave", detail: kind } : undefined),
        receive: (frame) => {
          got.push(frame.kind);
          return [];
        },
        hasWork: () => left > 0,
        tick: () => {},
        nextDeadlineMs: () => NEVER,
        get isCaughtUp() {
          return left <= 0;
        },
      };
    },
    closed: (link) => void got.push(`closed ${link}`),
    ...more,
  };
}

test("any number of channels share a link in turns; one that speaks last waits for the others, and each gets its own frames", () => {
  const channels = [counting("vector", 3), counting("policyHead", 1), counting("linked", 2), counting("handOver", 1, { speaks: "last" })];
  const multiplexer = new Multiplexer(channels);
  const out: FabricOutput[] = [];
  multiplexer.open(1, { hello: greetingOf("b"), relation: "cluster", greetedMonoMs: 0 }, at(0), out);
  multiplexer.tick(at(0), GOING, out);
  expect([out, multiplexer.caughtUpWith()]).toEqual([[{ kind: "send", link: 1 }], []]);
  const said: string[] = [];
  for (let frame = multiplexer.next(1, at(0)); frame !== undefined; frame = multiplexer.next(1, at(0)))
    said.push(frame.kind === "goodbye" ? frame.detail : frame.kind);
  expect(said).toEqual(["vector", "policyHead", "linked", "vector", "linked", "vector", "handOver"]);
  expect(multiplexer.caughtUpWith().map(({ nodeId }) => nodeId)).toEqual(["b"]);
  expect(multiplexer.receive(1, { kind: "linked", nodeIds: [] }, at(1), out)).toEqual([]);
  expect([multiplexer.receive(1, { kind: "unknown" }, at(1), out), multiplexer.skippedCount]).toEqual([[], 1]);
  multiplexer.close(1);
  expect(channels.map(({ got }) => got)).toEqual([
    ["opened 1", "closed 1"],
    ["opened 1", "closed 1"],
    ["opened 1", "linked", "closed 1"],
    ["opened 1", "closed 1"],
  ]);
});
