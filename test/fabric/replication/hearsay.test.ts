/** What a third cluster's node tells of another cluster's origins: heard only where neither that cluster nor ours tells of them. */
import { expect, test } from "vitest";
import { SCOPE } from "../../../src/catalog/entry/scope.ts";
import { BODY } from "../../../src/catalog/record/record.ts";
import type { ReplicationFrame } from "../../../src/fabric/wire/messages.ts";
import { framesOf, open, ReplicatingNode, run, vectorOf, Wire } from "../../fakes/replication.ts";

const FAR = 2 ** 51;

function node(nodeId: string, clusterId: string): ReplicatingNode {
  return new ReplicatingNode({ nodeId, clusterId });
}

const put = (of: ReplicatingNode, name: string, monoMs: number) => of.put(name, monoMs, { scope: SCOPE.REGION });

/** Nodes a1 and a2 of cluster A, c of cluster C, and a link on which a node of cluster B tells a1 what it likes. */
function mesh() {
  const [a1, a2, c, evil] = [node("a1", "A"), node("a2", "A"), node("c", "C"), node("evil", "B")];
  const link = open(a1, evil, 0);
  a1.shared.setLinked(["evil"]);
  /** An empty whole transfer of `c`: nothing of it is there, up to a number that it never reaches. */
  const grave = (monoMs: number, place = c.place): void => {
    const frame = { nodeId: "c", generation: 1, after: 0, through: FAR, records: [], isComplete: true, isLast: true, floor: 0 };
    const frames: readonly ReplicationFrame[] = [vectorOf([{ nodeId: "c", seq: FAR }]), { kind: "records", frame, ...place }];
    for (const each of frames) link.receive(each, a1.timeOf(monoMs), a1.outputs);
  };
  return { a1, a2, c, evil, link, grave };
}

function names(of: ReplicatingNode): readonly string[] {
  return of.records().map(({ name }) => name);
}

function eventsOf(of: ReplicatingNode): readonly string[] {
  return of.outputs.flatMap((output) => (output.kind === "event" ? [output.event.name] : []));
}

test("truth first, lie later: what a third cluster tells of an origin whose cluster is linked here is not taken", () => {
  const { a1, c, grave } = mesh();
  const wires = [new Wire(a1, c, 0)];
  put(c, "x", 0);
  let now = run(wires, 0, 2000);
  grave(now);
  put(c, "y", now);
  now = run(wires, now, 2000);
  expect([names(a1), a1.vector()]).toEqual([["x", "y"], ["c/1 2"]]);
});

test("truth first, lie later: nor where another node of ours has the link, and tells how old what it knows is", () => {
  const { a1, a2, c, grave } = mesh();
  const wires = [new Wire(a1, a2, 0), new Wire(a2, c, 0)];
  put(c, "x", 0);
  let now = run(wires, 0, 8000);
  expect(names(a1)).toEqual(["x"]);
  grave(now);
  put(c, "y", now);
  now = run(wires, now, 8000);
  for (const each of [a1, a2]) expect([names(each), each.vector()]).toEqual([["x", "y"], ["c/1 2"]]);
});

test("lie first, truth later: what the origin itself says ends what was told of it, and what it writes later is taken", () => {
  const { a1, c, grave } = mesh();
  grave(0);
  expect(a1.vector()).toEqual([`c/1 ${FAR}`]);
  put(c, "x", 0);
  const wires = [new Wire(a1, c, 0)];
  let now = run(wires, 0, 20_000, () => names(a1).includes("x"));
  expect(eventsOf(a1)).toEqual(["origin_disproved"]);
  put(c, "y", now);
  grave(now);
  now = run(wires, now, 5000);
  expect([names(a1), a1.vector()]).toEqual([["x", "y"], ["c/1 2"]]);
});

test("lie first, truth later: in all of our cluster, of which one node alone is linked to the origin", () => {
  const { a1, a2, c, grave } = mesh();
  const a3 = node("a3", "A");
  grave(0);
  const ours = [new Wire(a1, a2, 0), new Wire(a2, a3, 0), new Wire(a1, a3, 0)];
  let now = run(ours, 0, 4000);
  for (const each of [a1, a2, a3]) expect(each.vector()).toEqual([`c/1 ${FAR}`]);
  put(c, "x", now);
  const wires = [...ours, new Wire(a3, c, now)];
  now = run(wires, now, 40_000);
  for (const each of [a1, a2, a3]) expect([names(each), each.vector()]).toEqual([["x"], ["c/1 1"]]);
  put(c, "y", now);
  grave(now);
  now = run(wires, now, 10_000);
  for (const each of [a1, a2, a3]) expect([names(each), each.vector()]).toEqual([["x", "y"], ["c/1 2"]]);
});

/** What another node of the name of `c` wrote, of which `c` knows nothing: a hundred entries, and the end of "x". */
function madeUp(monoMs: number): ReplicatingNode {
  const liar = node("c", "C");
  for (let n = 0; n < 100; n++) put(liar, `lie${n}`, monoMs);
  liar.end(put(liar, "x", monoMs), BODY.UNREGISTERED, monoMs + 60_000);
  return liar;
}

test("lie first, truth later: what was told of an origin goes in slices, and what it says itself comes after that, whole", () => {
  const { a1, c, link } = mesh();
  const liar = madeUp(0);
  for (const frame of [vectorOf([{ nodeId: "c", seq: 102 }]), framesOf(liar, 0)]) link.receive(frame, a1.timeOf(0), a1.outputs);
  expect(a1.records().length).toBe(100);
  put(c, "x", 0);
  const wires = [new Wire(a1, c, 0)];
  let [now, longest, heldTwice] = [0, 0, 0];
  while (now < 30_000 && names(a1).join() !== "x") {
    const { revision } = a1.replica;
    now = run(wires, now, 5);
    longest = Math.max(longest, a1.replica.revision - revision);
    if (a1.replica.isForgetting && a1.replica.origins.has("c/1")) heldTwice += 1;
    // As its node's word in the table of members does.
    if (a1.replica.forgotten.has("c/1")) a1.shared.readmit("c", 1);
  }
  expect([names(a1), a1.vector(), eventsOf(a1)]).toEqual([["x"], ["c/1 1"], ["origin_disproved"]]);
  expect(longest).toBeLessThan(10);
  expect(heldTwice).toBe(0);
});

test("a hub's word counts where nobody else tells: neither the origin's cluster nor ours", () => {
  const [a1, a2, c, hub] = [node("a1", "A"), node("a2", "A"), node("c", "C"), node("hub", "B")];
  const wires = [new Wire(a1, a2, 0), new Wire(a1, hub, 0), new Wire(hub, c, 0), new Wire(a2, hub, 0)];
  put(c, "x", 0);
  let now = run(wires, 0, 8000);
  put(c, "y", now);
  now = run(wires, now, 8000);
  for (const each of [a1, a2]) expect(names(each)).toEqual(["x", "y"]);
  // Its own link comes, goes, and the hub is heard again.
  const own = new Wire(a1, c, now);
  now = run([...wires, own], now, 8000);
  own.close();
  put(c, "z", now);
  now = run(wires, now, 60_000);
  for (const each of [a1, a2]) expect(names(each)).toEqual(["x", "y", "z"]);
});

test("an origin that is ahead for a moment, since another way is faster than its own link, is kept", () => {
  const [a1, a2, c] = [node("a1", "A"), node("a2", "A"), node("c", "C")];
  const wires = [new Wire(a1, a2, 0), new Wire(a2, c, 0), new Wire(a1, c, 0, { delayMs: 3000 })];
  let now = 0;
  for (let n = 0; n < 60; n++) {
    put(c, `x${n}`, now);
    now = run(wires, now, 500);
  }
  now = run(wires, now, 8000);
  expect(names(a1).length).toBe(60);
  expect(eventsOf(a1)).toEqual([]);
});

test("a node that a third cluster puts elsewhere than its own word does is heard all the same", () => {
  const { a1, c, grave, evil } = mesh();
  grave(0, evil.place);
  put(c, "x", 0);
  const wires = [new Wire(a1, c, 0)];
  run(wires, 0, 20_000);
  expect([names(a1), a1.vector()]).toEqual([["x"], ["c/1 1"]]);
});

test("what is held is compared with a word of 5 s later, and not with an earlier one: the link of that may be slower than another way", () => {
  const { a1 } = mesh();
  const { hearsay } = a1.shared;
  const origin = a1.replica.origin("c", 1, { clusterId: "C", region: "eu" });
  origin.through = 10;
  const isDisprovedAt = (seq: number, monoMs: number) => hearsay.isDisproved(origin, { seq, monoMs }, a1.timeOf(monoMs));
  expect([isDisprovedAt(10, 0), isDisprovedAt(9, 4999), isDisprovedAt(10, 5000), isDisprovedAt(9, 9999), isDisprovedAt(9, 10_000)]).toEqual(
    [false, false, false, false, true],
  );
});

test("an origin that was forgotten and is back from its first number on is not compared with what was held before", () => {
  const { a1 } = mesh();
  const { hearsay } = a1.shared;
  const origin = a1.replica.origin("c", 1, { clusterId: "C", region: "eu" });
  origin.through = 10;
  hearsay.isDisproved(origin, { seq: 10, monoMs: 0 }, a1.timeOf(0));
  hearsay.drop(origin.id);
  origin.through = 3;
  expect(hearsay.isDisproved(origin, { seq: 3, monoMs: 6000 }, a1.timeOf(6000))).toBe(false);
});

test("of very many clusters the one that was told of longest ago is forgotten, not the one that was known first", () => {
  const { a1, evil } = mesh();
  const { hearsay } = a1.shared;
  for (let n = 0; n < 1000; n++) hearsay.noteReport(`c${n}`, a1.timeOf(n));
  hearsay.noteReport("c0", a1.timeOf(1000));
  hearsay.noteReport("one more", a1.timeOf(1001));
  const isHearsay = (of: string) => hearsay.isHearsay({ relation: "region", clusterId: evil.place.clusterId }, of, a1.timeOf(1002));
  expect([isHearsay("c0"), isHearsay("c1"), isHearsay("c2"), isHearsay("one more")]).toEqual([true, false, true, true]);
});

test("what is partial here is not asked of a third cluster's node while others tell of it: what that sends is not taken", () => {
  const { a1, a2, c, link } = mesh();
  put(c, "x", 0);
  const now = run([new Wire(a1, a2, 0), new Wire(a2, c, 0)], 0, 8000);
  link.receive(vectorOf([{ nodeId: "c", seq: 1 }]), a1.timeOf(now), a1.outputs);
  const origin = a1.replica.origins.get("c/1");
  if (origin === undefined) throw new Error("a1 knows c");
  origin.lacks = { count: 1, why: "before" };
  a1.shared.partial.resume(origin);
  link.tick(a1.timeOf(now), a1.outputs);
  expect(a1.shared.partial.take(a1.timeOf(now), () => true)).toEqual([origin]);
});

test("how far another cluster's tombstone of our key reaches does not carry our own end of it out of our cluster", () => {
  const [a, evil] = [node("a1", "A"), node("evil", "B")];
  const key = a.put("x", 0);
  const own = a.replica.own(key);
  if (own === undefined) throw new Error("it was just put");
  const { namespace, name, kind, scope, health, traits, principal } = own;
  const of = { key, namespace, name, kind, scope, health, traits, principal, reach: SCOPE.REGION };
  evil.replica.stageTombstone(of, BODY.UNREGISTERED, own.hlc + 1);
  evil.commit(0);
  const now = run([new Wire(a, evil, 0)], 0, 2000);
  expect(a.replica.records(key).map(({ origin, reach }) => [origin.nodeId, reach])).toContainEqual(["evil", SCOPE.REGION]);
  a.end(key, BODY.UNREGISTERED, now);
  const end = a.replica.own(key);
  expect([end?.body, end?.reach]).toEqual([BODY.UNREGISTERED, SCOPE.ZONE]);
});
