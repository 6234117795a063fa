/** A later generation of another cluster's node, which a third cluster made up while that cluster was away (semantics.md, Membership: Accepted reports). */
import { expect, test } from "vitest";
import { SCOPE } from "../../src/catalog/entry/scope.ts";
import { BODY } from "../../src/catalog/record/record.ts";
import { startNewGeneration } from "../../src/catalog/replica/new-generation.ts";
import { framesOf, open, ReplicatingNode, run, vectorOf, Wire } from "../fakes/replication.ts";

function node(nodeId: string, clusterId: string, generation = 1): ReplicatingNode {
  return new ReplicatingNode({ nodeId, clusterId, generation });
}

const put = (of: ReplicatingNode, name: string, monoMs: number, tag?: string) =>
  of.put(name, monoMs, { scope: SCOPE.REGION, ...(tag !== undefined && { tag }) });

/** What it shows: names, with the tag of those that were told otherwise. */
function shown(of: ReplicatingNode): string {
  return of
    .records()
    .map(({ name, traits }) => (traits.tags.join() === "blue" ? name : `${name}:${traits.tags.join()}`))
    .join(" ");
}

function disproved(of: ReplicatingNode): readonly unknown[] {
  return of.outputs.flatMap((output) =>
    output.kind === "event" && output.event.name === "origin_disproved" ? [output.event.detail["origin"]] : [],
  );
}

/** Of generation `generation` of `c`: an end of "ended", another "rewritten", and a new entry. All of it is later than what `c` wrote. */
function invented(generation: number): ReplicatingNode {
  const liar = node("c", "C", generation);
  put(liar, "ended", 10_000);
  liar.replica.stageTombstone(endOf(liar, "ended"), BODY.UNREGISTERED, liar.hlc.stamp(liar.timeOf(20_000).wallMs));
  liar.commit(20_000);
  put(liar, "rewritten", 20_000, "red");
  put(liar, "forged", 20_000);
  return liar;
}

function endOf(of: ReplicatingNode, name: string) {
  const record = of.records().find((each) => each.name === name);
  if (record === undefined) throw new Error(`${name} is there`);
  return record;
}

/** Nodes of cluster A, of which `a1` has a link to `evil` of cluster B; `tell` is what that says of an origin of cluster C. */
function mesh() {
  const [a1, a2, a3, c, evil] = [node("a1", "A"), node("a2", "A"), node("a3", "A"), node("c", "C"), node("evil", "B")];
  const link = open(a1, evil, 0);
  const tell = (liar: ReplicatingNode, monoMs: number, how: Partial<ReturnType<typeof framesOf>["frame"]> = {}) => {
    const { generation, through } = liar.replica.self;
    const said = framesOf(liar, 0);
    link.receive(vectorOf([{ nodeId: "c", generation, seq: through }], { isPartial: true }), a1.timeOf(monoMs), a1.outputs);
    link.receive({ ...said, frame: { ...said.frame, ...how } }, a1.timeOf(monoMs), a1.outputs);
  };
  for (const name of ["ended", "rewritten", "kept"]) put(c, name, 0);
  const ours = [new Wire(a1, a2, 0), new Wire(a2, a3, 0), new Wire(a1, a3, 0)];
  return { a1, a2, a3, c, tell, ours, all: [a1, a2, a3] };
}

test("once the node says in which generation it lives, a later one goes everywhere: what it hid is shown, what it wrote is not", () => {
  const { c, tell, ours, all, a3 } = mesh();
  // They knew the node before.
  const first = new Wire(a3, c, 0);
  let now = run([...ours, first], 0, 10_000);
  first.close();
  now = run(ours, now, 40_000);
  tell(invented(9), now);
  now = run(ours, now, 10_000);
  for (const each of all) expect(shown(each)).toBe("forged kept rewritten:red");
  // One of them alone has a link to it.
  const wires = [...ours, new Wire(a3, c, now)];
  now = run(wires, now, 30_000);
  for (const each of all) expect([shown(each), each.vector()]).toEqual(["ended kept rewritten", ["c/1 3"]]);
  for (const each of all) expect(disproved(each)).toEqual(["c/9"]);
});

test("so it does where the node was not known before, and where a whole transfer of it was never ended", () => {
  for (const how of [{}, { isComplete: true, isLast: false }]) {
    const { a1, c, tell } = mesh();
    tell(invented(9), 0, how);
    run([new Wire(a1, c, 0)], 0, 20_000);
    expect([shown(a1), a1.replica.origins.has("c/9")]).toEqual(["ended kept rewritten", false]);
  }
});

test("what is told of an origin itself beyond what it wrote ends nothing of another node of its cluster for good", () => {
  const { a1, c, tell } = mesh();
  const d = node("d", "C");
  const wire = new Wire(a1, d, 0);
  put(d, "theirs", 0);
  let now = run([wire], 0, 2000);
  wire.close();
  now = run([], now, 40_000);
  const liar = node("c", "C");
  for (let n = 0; n < 5; n++) put(liar, `lie${n}`, now);
  const [record] = a1.records();
  if (record === undefined) throw new Error("it was told");
  liar.replica.stageTombstone(record, BODY.UNREGISTERED, liar.hlc.stamp(liar.timeOf(now).wallMs));
  liar.commit(now);
  tell(liar, now);
  expect(shown(a1)).not.toContain("theirs");
  now = run([new Wire(a1, c, now), new Wire(a1, d, now)], now, 20_000);
  expect(shown(a1)).toBe("ended kept rewritten theirs");
});

test("a generation that the node took while nobody but a hub heard it is kept", () => {
  const { a1, a2, c } = mesh();
  const hub = node("hub", "B");
  const [ours, own] = [new Wire(a1, a2, 0), new Wire(a1, c, 0)];
  let now = run([ours, own], 0, 10_000);
  own.close();
  const later = node("c", "C", 2);
  put(later, "later", now);
  const far = [ours, new Wire(a2, hub, now), new Wire(hub, later, now)];
  now = run(far, now, 120_000);
  expect(a1.vector()).toEqual(["c/1 3", "c/2 1"]);
  now = run([...far, new Wire(a1, later, now)], now, 30_000);
  expect([a1.vector(), disproved(a1), disproved(a2)]).toEqual([["c/1 3", "c/2 1"], [], []]);
});

test("a generation that the node takes while its links stand is kept, also where others tell of it", () => {
  const { a1, a2 } = mesh();
  const c = new ReplicatingNode({ nodeId: "c", clusterId: "C" });
  for (const name of ["x", "y", "z"]) put(c, name, 0);
  const wires = [new Wire(a1, a2, 0), new Wire(a1, c, 0)];
  let now = run(wires, 0, 10_000);
  startNewGeneration(c.replica, 2);
  put(c, "more", now);
  now = run(wires, now, 40_000);
  for (const each of [a1, a2]) expect([each.vector().includes("c/2 4"), disproved(each)]).toEqual([true, []]);
});

test("an earlier generation is kept, for its node may have lived in it; so is a later one that was heard itself: it may be a backup's", () => {
  const { a1, c, tell } = mesh();
  const [older, newer] = [node("c", "C", 0), node("c", "C", 5)];
  put(older, "older", 0);
  put(newer, "newer", 0);
  tell(older, 0);
  const own = new Wire(a1, newer, 0);
  const now = run([own], 0, 10_000);
  own.close();
  run([new Wire(a1, c, now)], now, 30_000);
  expect([a1.vector(), disproved(a1)]).toEqual([["c/0 1", "c/1 3", "c/5 1"], []]);
});

test("of a cluster that is back in part only what its nodes say of themselves is taken from them: another one's generation waits for its word", () => {
  const { a1, tell } = mesh();
  tell(invented(9), 0);
  const c2 = node("c2", "C");
  put(c2, "own", 0);
  run([new Wire(a1, c2, 0)], 0, 30_000);
  expect([shown(a1), disproved(a1)]).toEqual(["forged own rewritten:red", []]);
});

test("a later generation of which the table of members tells is kept: an older peer may go on naming the earlier one", () => {
  const { a1 } = mesh();
  const origin = a1.replica.origin("c", 9, { clusterId: "C", region: "r1" });
  const isInvented = (generation: number) => {
    const members = { find: () => ({ clusterId: "C", region: "r1", generation }) };
    const { hearsay } = new ReplicatingNode({ nodeId: "h", clusterId: "A", members }).shared;
    const [, last] = [0, 5000].map((monoMs) => hearsay.isInvented(origin, { generation: 1, clusterId: "C", monoMs }, a1.timeOf(monoMs)));
    return last;
  };
  expect([isInvented(1), isInvented(8), isInvented(9), isInvented(10)]).toEqual([true, true, false, false]);
});

test("a later generation is not compared with what a node of that name in another cluster says, nor is one of our own cluster", () => {
  const { a1 } = mesh();
  const isInvented = (ofOrigin: string, ofWord: string) => {
    const origin = a1.replica.origin(`c${ofOrigin}`, 9, { clusterId: ofOrigin, region: "r1" });
    const { hearsay } = new ReplicatingNode({ nodeId: "h", clusterId: "A" }).shared;
    const [, last] = [0, 5000].map((monoMs) => hearsay.isInvented(origin, { generation: 1, clusterId: ofWord, monoMs }, a1.timeOf(monoMs)));
    return last;
  };
  expect([isInvented("C", "C"), isInvented("C", "B"), isInvented("A", "A")]).toEqual([true, false, false]);
});
