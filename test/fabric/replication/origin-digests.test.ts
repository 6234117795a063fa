/** What an origin's live records come to: the same on every node that holds the same, whatever way it came to hold it. */
import fc from "fast-check";
import { expect, test } from "vitest";
import { SCOPE } from "../../../src/catalog/entry/scope.ts";
import { BODY } from "../../../src/catalog/record/record.ts";
import { framesOf, open, ReplicatingNode } from "../../fakes/replication.ts";

const T = { monoMs: 0, wallMs: 0 };

function sumOf(node: ReplicatingNode, originId: string, relation: "cluster" | "region" = "cluster") {
  const origin = node.replica.origins.get(originId)!;
  const { digests } = node.shared;
  for (let n = 0; n < 100 && digests.find(origin, relation, T) === undefined; n++) digests.work(T);
  return digests.find(origin, relation, T);
}

test("whoever holds the same has the same sum, with tombstones, by frames of any size", () => {
  const step = fc.record({ name: fc.nat(5), isEnd: fc.boolean(), isWide: fc.boolean() });
  fc.assert(
    fc.property(fc.array(step, { minLength: 1, maxLength: 30 }), fc.integer({ min: 1, max: 900 }), (steps, budgetBytes) => {
      const [a, b] = [new ReplicatingNode({ nodeId: "a" }), new ReplicatingNode({ nodeId: "b" })];
      const link = open(b, a, 0);
      for (const { name, isEnd, isWide } of steps) {
        const key = a.put(`x${name}`, 0, { scope: isWide ? SCOPE.REGION : SCOPE.ZONE });
        if (isEnd) a.end(key, BODY.EXPIRED, 0);
      }
      for (let after = 0; after < a.replica.self.through; ) {
        const frame = framesOf(a, after, budgetBytes);
        link.receive(frame, b.timeOf(0), b.outputs);
        after = frame.frame.through;
      }
      for (const relation of ["cluster", "region"] as const) expect(sumOf(b, "a/1", relation)).toEqual(sumOf(a, "a/1", relation));
    }),
  );
});

test("a wrong or missing record changes the sum, and what is dropped is summed anew", () => {
  const a = new ReplicatingNode({ nodeId: "a" });
  for (let n = 0; n < 5; n++) a.put(`x${n}`, 0);
  const before = sumOf(a, "a/1");
  a.replica.withdraw(a.replica.self.log.list()[2]!, a.timeOf(0));
  expect(sumOf(a, "a/1")).toEqual(before);
  a.shared.heldChanged(a.replica.self);
  expect(sumOf(a, "a/1")?.liveCount).toBe(4);
});
