/** What a node does with an end of its key that another cluster wrote. */
import { expect, test } from "vitest";
import { SCOPE } from "../../../src/catalog/entry/scope.ts";
import { BODY } from "../../../src/catalog/record/record.ts";
import { newestHlc } from "../../../src/discovery/registrar/entry-removals.ts";
import { ReplicatingNode, run, Wire } from "../../fakes/replication.ts";

test("a key of another cluster that is said to be taken out here ends nothing, there or here, and draws no later stamp after it", () => {
  const [a, b] = ["c1", "c2"].map((clusterId, i) => new ReplicatingNode({ nodeId: "ab"[i] ?? "", clusterId })) as [
    ReplicatingNode,
    ReplicatingNode,
  ];
  const wire = new Wire(a, b, 0);
  const key = a.put("x", 0, { scope: SCOPE.REGION });
  run([wire], 0, 500);
  expect(b.shown().length).toBe(1);
  b.end(key, BODY.UNREGISTERED, 500);
  const drawnHlc = newestHlc(a.replica, key);
  run([wire], 500, 500);
  expect(b.replica.records(key).map(({ body }) => body)).toEqual([BODY.UNREGISTERED, BODY.ENTRY]);
  // It is held, so that both know all that the other wrote.
  expect(a.replica.records(key).length).toBe(2);
  for (const each of [a, b]) expect(each.shown().length).toBe(1);
  expect(a.outputs.filter(({ kind }) => kind === "superseded")).toEqual([]);
  expect(newestHlc(a.replica, key)).toBe(drawnHlc);
});
