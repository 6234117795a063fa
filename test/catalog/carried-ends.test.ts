/** An end says what its node knew to be unregistered of the key: it may come before that word (semantics.md, Several origins for one key). */
import { expect, test } from "vitest";
import { SCOPE } from "../../src/catalog/entry/scope.ts";
import { BODY } from "../../src/catalog/record/record.ts";
import { startNewGeneration } from "../../src/catalog/replica/new-generation.ts";
import { MAX_STAMP } from "../../src/lib/hlc.ts";
import { FabricComponent, KEYS } from "../fakes/mesh.ts";

const WALL = 1_760_000_000_000;
const time = (monoMs: number) => ({ monoMs, wallMs: WALL + monoMs });
const KEY = KEYS[0]!;

/** The key is at a, and moved to b; c knows both. */
function moved() {
  const [a, b, c] = [new FabricComponent("a"), new FabricComponent("b"), new FabricComponent("c")];
  for (const [node, monoMs] of [
    [a, 1],
    [b, 2],
  ] as const) {
    node.put(KEY, 0, time(monoMs));
    node.commit(time(monoMs));
    for (const other of [a, b, c]) if (other !== node) other.copy(node, `${node.nodeId}/1`, time(monoMs));
  }
  expect(a.replica.view(KEY)?.origin.id).toBe("b/1");
  return { a, b, c };
}

function end(node: FabricComponent, body: typeof BODY.EXPIRED | typeof BODY.UNREGISTERED, monoMs: number): void {
  node.end(KEY, body, time(monoMs));
  node.commit(time(monoMs));
}

/** As `moved`; taken out at c, which b hears and a does not. */
function takenOut() {
  const { a, b, c } = moved();
  end(c, BODY.UNREGISTERED, 3);
  b.copy(c, "c/1", time(4));
  return { a, b, c };
}

test("an end that overtakes the `unregistered` that made it hides what is older too", () => {
  const { a, b, c } = takenOut();
  end(b, BODY.EXPIRED, 5);
  a.copy(b, "b/1", time(6));
  expect(a.replica.view(KEY)).toBeUndefined();
  a.copy(c, "c/1", time(7));
  expect(a.replica.view(KEY)).toBeUndefined();
});

test("so does one that is heard of in a whole transfer, after a restart from the journal, and after a new generation", () => {
  const { a, b } = takenOut();
  end(b, BODY.EXPIRED, 5);
  b.restart(time(6), "disk kept");
  const origin = b.replica.self;
  a.receive(b.frame(origin, { after: 0, isComplete: true }, 600), time(7), b);
  expect(a.replica.view(KEY)).toBeUndefined();
  const fresh = new FabricComponent("d");
  startNewGeneration(b.replica, 2);
  fresh.copy(a, "a/1", time(8));
  fresh.copy(b, "b/2", time(8));
  expect(fresh.replica.view(KEY)).toBeUndefined();
});

test("so does that of a node that ended its own record because of such an end", () => {
  const [d, e] = [new FabricComponent("d"), new FabricComponent("e")];
  d.put(KEY, 0, time(0));
  d.commit(time(0));
  e.copy(d, "d/1", time(0));
  const { a, b } = takenOut();
  end(b, BODY.EXPIRED, 5);
  e.copy(a, "a/1", time(5));
  expect(e.replica.view(KEY)?.origin.id).toBe("a/1");
  a.copy(b, "b/1", time(6));
  end(a, BODY.EXPIRED, 7);
  e.copy(a, "a/1", time(8));
  expect(e.replica.view(KEY)).toBeUndefined();
});

test("so does the end of a record that was put after the key was taken out elsewhere, with its own stamp", () => {
  const { a, b } = takenOut();
  end(b, BODY.EXPIRED, 5);
  b.put(KEY, 1, time(6));
  b.commit(time(6));
  const { hlc } = b.replica.own(KEY)!;
  end(b, BODY.EXPIRED, 7);
  expect(b.replica.own(KEY)?.hlc).toBe(hlc);
  a.copy(b, "b/1", time(8));
  expect(a.replica.view(KEY)).toBeUndefined();
});

test("A→B→A: an end of which nothing was unregistered ends what its own node said", () => {
  const { a, b } = moved();
  end(b, BODY.EXPIRED, 5);
  a.copy(b, "b/1", time(6));
  expect(a.replica.view(KEY)?.origin.id).toBe("a/1");
});

test("what is put for fewer readers is nothing unregistered: who ends its record for that does not say so of others", () => {
  const { a, b, c } = moved();
  c.put(KEY, 0, time(3), undefined, SCOPE.LOCAL);
  c.commit(time(3));
  b.copy(c, "c/1", time(4));
  expect(b.replica.view(KEY)).toBeUndefined();
  end(b, BODY.EXPIRED, 5);
  expect(b.replica.own(KEY)?.unregisteredHlc).toBeUndefined();
  a.copy(b, "b/1", time(6));
  expect(a.replica.view(KEY)?.origin.id).toBe("a/1");
});

test("an end because of an `unregistered` of the newest stamp that there may be has that stamp", () => {
  const { a, b } = moved();
  const c = new FabricComponent("c");
  c.put(KEY, 0, time(3));
  c.replica.stageTombstone(c.replica.own(KEY)!, BODY.UNREGISTERED, MAX_STAMP);
  c.commit(time(3));
  b.copy(c, "c/1", time(4));
  end(b, BODY.EXPIRED, 5);
  expect(b.replica.own(KEY)?.hlc).toBe(MAX_STAMP);
  a.copy(b, "b/1", time(6));
  expect(a.replica.view(KEY)).toBeUndefined();
});

/** As `takenOut`, with d, which knows everything: `a` is away, with the key's eldest record, and b ended its own. */
function away() {
  const { a, b, c } = takenOut();
  end(b, BODY.EXPIRED, 5);
  const d = new FabricComponent("d");
  for (const node of [a, b, c]) d.copy(node, `${node.nodeId}/1`, time(6));
  d.setLife("a/1", "hidden");
  return { a, b, c, d };
}

test("who forgets the node of such an end marks nobody: the `unregistered` itself is still held", () => {
  const { a, d } = away();
  d.setLife("b/1", "hidden");
  d.forget("b/1", time(7));
  expect(d.replica.lost.markOf("a/1")).toBe(0);
  d.setLife("a/1", "live");
  expect([d.replica.view(KEY), d.replica.records(KEY).map(({ origin }) => origin.id)]).toEqual([undefined, ["c/1", "a/1"]]);
  // The last one to say so is another matter.
  d.setLife("a/1", "hidden");
  d.forget("c/1", time(8));
  expect(d.replica.lost.markOf("a/1")).toBe(a.replica.self.through);
});

test("nor does who forgets the node that took it out, while such an end is held", () => {
  const { d } = away();
  d.forget("a/1", time(7));
  d.setLife("c/1", "hidden");
  d.forget("c/1", time(8));
  expect(d.replica.lost.markOf("a/1")).toBe(0);
  d.setLife("b/1", "hidden");
  d.forget("b/1", time(9));
  expect(d.replica.lost.markOf("a/1")).toBeGreaterThan(0);
});

test("while an origin is lost such an end goes with its age where the `unregistered` itself is held, and stays where it is not", () => {
  const { d } = away();
  d.forget("a/1", time(7));
  d.collect(time(60_000));
  expect(d.replica.records(KEY).map(({ origin }) => origin.id)).toEqual(["c/1"]);
  const { b, d: without } = away();
  without.setLife("c/1", "hidden");
  without.forget("c/1", time(7));
  without.forget("a/1", time(8));
  without.collect(time(60_000));
  expect(without.replica.records(KEY).map(({ origin }) => origin.id)).toEqual([b.replica.self.id]);
});

/** The key at l, b and c; taken out at u while l is cut off. b and c hear of it and end what they said; then l and u are forgotten, and all are old. */
function endedTwice() {
  const [l, u, b, c] = ["l", "u", "b", "c"].map((id) => new FabricComponent(id)) as [
    FabricComponent,
    FabricComponent,
    FabricComponent,
    FabricComponent,
  ];
  const hearAll = (...nodes: readonly FabricComponent[]) => {
    for (const node of nodes)
      for (const other of nodes) if (other !== node) for (const id of other.replica.origins.keys()) node.copy(other, id, time(10));
  };
  for (const [at, node] of [l, b, c].entries()) {
    node.put(KEY, 0, time(at));
    node.commit(time(at));
  }
  hearAll(l, u, b, c);
  end(u, BODY.UNREGISTERED, 11);
  hearAll(u, b, c);
  for (const node of [b, c]) end(node, BODY.EXPIRED, 12);
  hearAll(u, b, c);
  for (const node of [b, c])
    for (const id of ["l/1", "u/1"]) {
      node.setLife(id, "hidden");
      node.forget(id, time(13));
    }
  for (const node of [b, c]) node.collect(time(60_000));
  return { l, b, c, hearBoth: () => hearAll(b, c) };
}

test.each(["are put again and ended", "are restarted with their journals"] as const)(
  "two nodes that each hold the other's end do not both give way: what was unregistered stays gone when they %s",
  (what) => {
    const { l, b, c, hearBoth } = endedTwice();
    for (const node of [c, b]) {
      if (what === "are restarted with their journals") node.restart(time(61_000), "disk kept");
      else {
        node.put(KEY, 0, time(61_000));
        node.commit(time(61_000));
      }
      hearBoth();
    }
    if (what === "are put again and ended") for (const node of [b, c]) end(node, BODY.EXPIRED, 62_000);
    hearBoth();
    for (const node of [b, c]) {
      node.replica.restoreOrigin("l", 1);
      node.copy(l, "l/1", time(63_000));
    }
    expect([b, c].map(({ replica }) => replica.view(KEY)?.origin.id)).toEqual([undefined, undefined]);
  },
);

test("what gives way to another end hands on that a lost origin may need it, also where the keys of that are not known", () => {
  const [l, u, b, d] = ["l", "u", "b", "d"].map((id) => new FabricComponent(id)) as [
    FabricComponent,
    FabricComponent,
    FabricComponent,
    FabricComponent,
  ];
  for (const [at, node] of [l, b].entries()) {
    node.put(KEY, 0, time(at));
    node.commit(time(at));
  }
  for (const node of [u, b, d]) for (const from of [l, b]) if (node !== from) node.copy(from, `${from.nodeId}/1`, time(3));
  end(u, BODY.UNREGISTERED, 4);
  for (const node of [d, b]) node.copy(u, "u/1", time(5));
  // As of one with more keys than are kept.
  d.replica.lost.noteKeys = () => {};
  const forget = (id: string) => {
    d.setLife(id, "hidden");
    d.forget(id, time(6));
  };
  forget("l/1");
  end(b, BODY.EXPIRED, 7);
  d.copy(b, "b/1", time(8));
  forget("u/1");
  forget("b/1");
  d.replica.restoreOrigin("l", 1);
  d.copy(l, "l/1", time(11));
  expect(d.replica.view(KEY)).toBeUndefined();
});
