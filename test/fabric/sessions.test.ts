/** Links that are up: looked at when there is something, told once, and never in a hurry for a peer that does not read. */
import { expect, test } from "vitest";
import type { Said } from "../../src/fabric/messages.ts";
import { PolicyExchange } from "../../src/fabric/policy-exchange.ts";
import type { FabricOutput } from "../../src/fabric/seam.ts";
import { Sessions } from "../../src/fabric/sessions.ts";
import { greetingOf } from "../fakes/fabric-world.ts";
import { ReplicatingNode } from "../fakes/replication.ts";

const GOING = { isStopping: false };
const WHOLE = { kind: "vector", entries: [], digest: 0n, isPartial: false, isWanted: false } as const;

function at(monoMs: number): { readonly monoMs: number; readonly wallMs: number } {
  return { monoMs, wallMs: monoMs };
}

function opened(): { readonly sessions: Sessions; readonly out: FabricOutput[] } {
  const policy = new PolicyExchange();
  const sessions = new Sessions(new ReplicatingNode({ nodeId: "a" }).shared, policy);
  const out: FabricOutput[] = [];
  sessions.open(1, { hello: greetingOf("b"), relation: "cluster", greetedMonoMs: 0 }, at(0));
  sessions.tick(at(0), GOING, out);
  return { sessions, out };
}

function drain(sessions: Sessions, monoMs: number): readonly string[] {
  const kinds: string[] = [];
  for (let frame = sessions.next(1, at(monoMs)); frame !== undefined; frame = sessions.next(1, at(monoMs))) kinds.push(frame.kind);
  return kinds;
}

test("the shell is told once that there is something to send, and again only after it found nothing", () => {
  const { sessions, out } = opened();
  sessions.receive(1, WHOLE, at(0), out);
  for (let ms = 0; ms < 3000; ms += 100) sessions.tick(at(ms), GOING, out);
  expect(out).toEqual([{ kind: "send", link: 1 }]);
  expect(drain(sessions, 3000)).toEqual(expect.arrayContaining(["policyHead", "vector", "linked"]));
  sessions.tick(at(3000), GOING, out);
  expect(out).toHaveLength(1);
  sessions.tick(at(5000), GOING, out);
  expect(out).toHaveLength(2);
});

test("a link that is not read is looked at again later, and the next time is never now", () => {
  const { sessions, out } = opened();
  for (let ms = 10; ms < 5000; ms += 10) {
    sessions.tick(at(ms), GOING, out);
    expect(sessions.nextDeadlineMs() ?? Number.POSITIVE_INFINITY).toBeGreaterThan(ms);
  }
});

test("caught up is who got what the peer had, and knows of its policy", () => {
  const { sessions, out } = opened();
  sessions.receive(1, WHOLE, at(1), out);
  expect(sessions.caughtUpWith()).toEqual([]);
  sessions.receive(1, { kind: "policyHead", head: { number: 0, hlc: 0, nodeId: "", checksum: "" } }, at(1), out);
  expect(sessions.caughtUpWith().map(({ nodeId }) => nodeId)).toEqual(["b"]);
  expect(sessions.receive(1, WHOLE, at(2), out)).toContainEqual({ kind: "inStep", nodeId: "b", monoMs: 2 });
});

test("in step is up to when the peer said its vector: not before this node greeted, where it names none of our times", () => {
  const { sessions, out } = opened();
  const says = (said: Said, monoMs: number) => sessions.receive(1, { ...WHOLE, said }, at(monoMs), out);
  expect(says({ atMs: 1 }, 900)).toContainEqual({ kind: "inStep", nodeId: "b", monoMs: 0 });
  expect(says({ atMs: 400, asOfMs: 701 }, 1900)).toContainEqual({ kind: "inStep", nodeId: "b", monoMs: 700 });
  // Records, and whom it is linked to, say nothing of what else it has.
  expect(sessions.receive(1, { kind: "linked", nodeIds: [] }, at(5000), out)).toContainEqual({ kind: "inStep", nodeId: "b", monoMs: 700 });
});

test("what breaks the protocol is news for whoever ends links", () => {
  const { sessions, out } = opened();
  const nodeIds = Array.from({ length: 300 }, (_, i) => `n${i}`);
  expect(sessions.receive(1, { kind: "linked", nodeIds }, at(1), out)).toMatchObject([{ kind: "badFrame", link: 1 }]);
});

test("a link that is gone has nothing to say and hears nothing", () => {
  const { sessions, out } = opened();
  sessions.close(1);
  expect([sessions.next(1, at(1)), sessions.receive(1, WHOLE, at(1), out), sessions.find(1)]).toEqual([undefined, [], undefined]);
});
