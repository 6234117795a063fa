/** An origin of which more is held than was ever written: when it goes, and when it does not. */
import { expect, test } from "vitest";
import { SCOPE } from "../../../src/catalog/entry/scope.ts";
import { framesOf, open, ReplicatingNode, vectorOf } from "../../fakes/replication.ts";

/** A node that holds three entries of an origin of another cluster. */
function told() {
  const [a, c] = [new ReplicatingNode({ nodeId: "a", clusterId: "A" }), new ReplicatingNode({ nodeId: "c", clusterId: "C" })];
  for (const name of ["x", "y", "z"]) c.put(name, 0, { scope: SCOPE.REGION });
  const link = open(a, c, 0);
  const tell = (monoMs: number) => link.receive(framesOf(c, 0), a.timeOf(monoMs), a.outputs);
  tell(0);
  const origin = a.replica.origins.get("c/1");
  if (origin === undefined) throw new Error("a knows c");
  return { a, c, link, origin, tell, disproved: a.shared.disproved };
}

test("it is hidden, then dropped, some a turn; what comes of it meanwhile is not taken, and what comes after that is", () => {
  const { a, tell, disproved, origin } = told();
  expect([1, 2].map((seq) => disproved.add(origin, seq, a.timeOf(1)))).toEqual([true, false]);
  const seen: string[] = [];
  for (let monoMs = 2; disproved.isUnderWay("c/1"); monoMs++) {
    // As its node's word in the table of members does.
    a.shared.readmit("c", 1);
    tell(monoMs);
    a.replica.sweep(2, a.timeOf(monoMs));
    disproved.step(a.timeOf(monoMs));
    seen.push(`shows ${a.records().length}, holds ${origin.log.size}`);
  }
  expect(seen).toEqual(["shows 1, holds 3", "shows 0, holds 3", "shows 0, holds 1", "shows 0, holds 0"]);
  tell(100);
  expect([a.records().length, a.vector()]).toEqual([3, ["c/1 3"]]);
});

test("one that is forgotten meanwhile for its node's sake stays forgotten", () => {
  const { a, origin, disproved } = told();
  disproved.add(origin, 1, a.timeOf(1));
  a.shared.forgetOrigin(origin, a.timeOf(2));
  disproved.step(a.timeOf(3));
  expect([a.replica.forgotten.has("c/1"), disproved.isUnderWay("c/1")]).toEqual([true, false]);
});

test("one whose node comes back while it is being hidden is hidden again before it goes", () => {
  const { a, origin, disproved } = told();
  disproved.add(origin, 1, a.timeOf(1));
  a.replica.sweep(Number.POSITIVE_INFINITY, a.timeOf(2));
  a.replica.setLife(origin, "live");
  expect(a.records().length).toBe(3);
  disproved.step(a.timeOf(3));
  expect([a.replica.forgotten.has("c/1"), a.replica.sweeps.isOwedTo(origin)]).toEqual([false, true]);
});

test("what is told of it beyond what it wrote is not taken while it is being hidden", () => {
  const { a, c, link, origin, tell, disproved } = told();
  link.receive(vectorOf([{ nodeId: "c", seq: 4 }]), a.timeOf(1), a.outputs);
  disproved.add(origin, 1, a.timeOf(1));
  c.put("later", 2, { scope: SCOPE.REGION });
  tell(2);
  expect([origin.log.size, a.vector()]).toEqual([3, ["c/1 3"]]);
});

test("nor is it for a while from whoever told of it while it was being dropped", () => {
  const { a, link, origin, tell, disproved } = told();
  disproved.add(origin, 1, a.timeOf(1));
  a.replica.sweep(3, a.timeOf(2));
  disproved.step(a.timeOf(2));
  expect([a.replica.forgotten.has("c/1"), disproved.isUnderWay("c/1")]).toEqual([true, true]);
  link.receive(vectorOf([{ nodeId: "c", seq: 3 }]), a.timeOf(3), a.outputs);
  a.replica.sweep(Number.POSITIVE_INFINITY, a.timeOf(4));
  disproved.step(a.timeOf(4));
  expect([a.replica.forgotten.has("c/1"), disproved.isUnderWay("c/1")]).toEqual([false, false]);
  tell(5);
  expect(a.vector()).toEqual([]);
  tell(a.shared.options.refusedMs + 4);
  expect(a.vector()).toEqual(["c/1 3"]);
});

test("it waits until another one that is being dropped is gone: two at once would take one long turn", () => {
  const { a, origin, disproved } = told();
  const d = new ReplicatingNode({ nodeId: "d" });
  for (const name of ["u", "v", "w"]) d.put(name, 0, { scope: SCOPE.REGION });
  open(a, d, 0).receive(framesOf(d, 0), a.timeOf(0), a.outputs);
  const other = a.replica.origins.get("d/1");
  if (other === undefined) throw new Error("a knows d");
  disproved.add(origin, 1, a.timeOf(1));
  a.replica.sweep(Number.POSITIVE_INFINITY, a.timeOf(1));
  a.replica.forgetOrigin(other, a.timeOf(1), true, 1);
  disproved.step(a.timeOf(2));
  expect([other.log.size > 0, a.replica.forgotten.has("c/1")]).toEqual([true, false]);
  while (a.replica.sweep(1, a.timeOf(3)));
  disproved.step(a.timeOf(3));
  expect(a.replica.forgotten.has("c/1")).toBe(true);
});
