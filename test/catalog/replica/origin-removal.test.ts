/** An origin is forgotten in slices, and what many records are owed is done in slices (semantics.md, Orphans). */
import fc from "fast-check";
import { expect, test } from "vitest";
import { BODY } from "../../../src/catalog/record/record.ts";
import type { Replica } from "../../../src/catalog/replica/replica.ts";
import { snapshotBlocks } from "../../../src/fabric/snapshot/snapshot.ts";
import { runs } from "../../fakes/effort.ts";
import { type Step, steps, take, timeOf } from "../../fakes/history.ts";
import { FabricComponent, KEYS } from "../../fakes/mesh.ts";

const LATE = timeOf(1_000, 0);
const HEADER = { nodeId: "n1", clusterId: "c1", savedWallMs: 1, starts: [], sourceAges: [] };

function seen({ lookup, lost, origins }: Replica) {
  const records = KEYS.flatMap((key) => lookup.find(key) ?? []);
  const marks = [...origins.values()].map(({ id, markedSeq }) => `${id} ${markedSeq}`);
  return [records.map(({ key, origin, seq }) => `${key} ${origin.id} ${seq}`), lost.list, marks];
}

/** Where a history of three nodes ends; each call makes it anew. */
function after(history: readonly Step[]): FabricComponent {
  const mesh = ["n1", "n2", "n3"].map((id) => new FabricComponent(id));
  history.forEach((step, n) => take(mesh, step, n));
  return mesh[0]!;
}

test("forgotten in slices of any size, everything is as if it had been forgotten in one go, and nothing comes up in between", () => {
  fc.assert(
    fc.property(steps({ max: 60, without: ["restart"] }), fc.integer({ min: 1, max: 4 }), fc.boolean(), (history, size, isOver) => {
      const [once, sliced] = [after(history).replica, after(history).replica];
      for (const id of ["n2/1", "n3/1"]) {
        const [a, b] = [once.origins.get(id), sliced.origins.get(id)];
        if (a === undefined || b === undefined) continue;
        once.setLife(a, "hidden");
        sliced.setLife(b, "hidden");
        const before = new Set(KEYS.filter((key) => sliced.view(key) !== undefined));
        once.forgetOrigin(a, LATE, isOver);
        const late = new Set(KEYS.filter((key) => once.view(key) !== undefined));
        sliced.forgetOrigin(b, LATE, isOver, 0);
        expect([sliced.origins.has(id), sliced.forgotten.has(id)]).toEqual([false, true]);
        do expect(KEYS.filter((key) => sliced.view(key) !== undefined && !before.has(key) && !late.has(key))).toEqual([]);
        while (sliced.sweep(size, LATE));
        expect(seen(sliced)).toEqual(seen(once));
      }
    }),
    { numRuns: runs(200) },
  );
});

/** n1 knows n2, which has all keys. */
function pair(): readonly [FabricComponent, FabricComponent] {
  const [n1, n2] = [new FabricComponent("n1"), new FabricComponent("n2")];
  KEYS.forEach((key, n) => n2.put(key, n, timeOf(n, 1)));
  n2.commit(timeOf(20, 1));
  n1.copy(n2, "n2/1", timeOf(21, 0));
  n1.setLife("n2/1", "hidden");
  return [n1, n2];
}

test("an origin that comes back while it is being forgotten is told anew from 0 on, and all of it is seen", () => {
  const [n1, n2] = pair();
  const { replica } = n1;
  const former = replica.origins.get("n2/1")!;
  replica.forgetOrigin(former, LATE, false, 3);
  replica.restoreOrigin("n2", 1);
  expect([replica.origins.get("n2/1"), replica.isForgetting]).toEqual([undefined, true]);
  n1.copy(n2, "n2/1", LATE, 600, 1);
  replica.sweep(2, LATE);
  n1.copy(n2, "n2/1", LATE);
  while (replica.sweep(2, LATE));
  expect([replica.lookup.size, former.log.size, replica.origins.get("n2/1")?.through]).toEqual([KEYS.length, 0, n2.replica.lastSeq]);
  expect(KEYS.every((key) => replica.records(key).length === 1)).toBe(true);
});

test("a whole transfer that began before its origin was forgotten does not go on where it is back", () => {
  const [n1, n2] = pair();
  const [first, second] = [{ after: 0, isComplete: true }, 300] as const;
  const begun = n2.frame(n2.replica.self, first, second);
  expect(n1.receiver.apply(begun, LATE).kind).toBe("applied");
  n1.replica.forgetOrigin(n1.replica.origins.get("n2/1")!, LATE);
  n1.replica.restoreOrigin("n2", 1);
  const next = n2.frame(n2.replica.self, { after: begun.through, isComplete: true }, 1e6);
  expect(n1.receiver.apply(next, LATE)).toEqual({ kind: "gap", knows: 0 });
});

test("no snapshot is made while an origin is being forgotten, and one that was begun before is none", () => {
  const [n1] = pair();
  const { replica } = n1;
  const make = () => snapshotBlocks(replica, HEADER, ({ life }) => ({ life, absentWallMs: undefined }), 300);
  const begun = make();
  begun.next();
  replica.forgetOrigin(replica.origins.get("n2/1")!, LATE, false, 3);
  expect(() => [...make()]).toThrow("forgotten");
  while (replica.sweep(3, LATE));
  expect(() => [...begun]).toThrow("forgotten");
  expect([...make()].length).toBeGreaterThan(0);
});

test("two that are forgotten at once go one after the other, and what the first ended is known to the second", () => {
  const nodes = ["n1", "n2", "n3"].map((id) => new FabricComponent(id)) as [FabricComponent, FabricComponent, FabricComponent];
  const [n1, n2, n3] = nodes;
  n2.put(KEYS[0]!, 0, timeOf(1, 1));
  n2.commit(timeOf(1, 1));
  n3.copy(n2, "n2/1", timeOf(2, 2));
  n3.end(KEYS[0]!, BODY.UNREGISTERED, timeOf(30, 2));
  n3.commit(timeOf(30, 2));
  for (const [node, id] of [
    [n2, "n2/1"],
    [n3, "n3/1"],
  ] as const)
    n1.copy(node, id, timeOf(31, 0));
  const { replica } = n1;
  const [second, third] = [replica.origins.get("n2/1")!, replica.origins.get("n3/1")!];
  for (const id of ["n2/1", "n3/1"]) n1.setLife(id, "hidden");
  replica.forgetOrigin(second, LATE, false, 0);
  replica.forgetOrigin(third, LATE, false, 0);
  while (replica.sweep(1, LATE));
  // What n2 wrote stays hidden: the tombstone that ended it is gone.
  expect([replica.lost.markOf("n2/1"), replica.lost.markOf("n3/1")]).toEqual([1, 0]);
  expect(replica.records(KEYS[0]!)).toEqual([]);
});

/** n1 knows n2's entry, and n3's end of it, which n2 has not heard of. n2 is in that state when n3 is forgotten for good. */
function endedUnheard(life: "live" | "orphaned" | "hidden", hasEndedAgain: boolean): Replica {
  const [n1, n2, n3] = ["n1", "n2", "n3"].map((id) => new FabricComponent(id)) as [FabricComponent, FabricComponent, FabricComponent];
  n2.put(KEYS[0]!, 0, timeOf(1, 1));
  n2.commit(timeOf(1, 1));
  n3.copy(n2, "n2/1", timeOf(2, 2));
  n3.end(KEYS[0]!, BODY.UNREGISTERED, timeOf(30, 2));
  n3.commit(timeOf(30, 2));
  if (hasEndedAgain) {
    n3.put(KEYS[0]!, 1, timeOf(31, 2));
    n3.commit(timeOf(31, 2));
    n3.end(KEYS[0]!, BODY.EXPIRED, timeOf(32, 2));
    n3.commit(timeOf(32, 2));
  }
  n1.copy(n2, "n2/1", timeOf(33, 0));
  n1.copy(n3, "n3/1", timeOf(33, 0));
  n1.setLife("n2/1", life);
  n1.setLife("n3/1", "hidden");
  expect(n1.replica.view(KEYS[0]!)).toBeUndefined();
  n1.replica.forgetOrigin(n1.replica.origins.get("n3/1")!, LATE, true);
  while (n1.replica.sweep(1, LATE));
  return n1.replica;
}

test.each([
  { life: "live", mark: 0 },
  // It comes back and does not know: nobody but the mark tells it.
  { life: "orphaned", mark: 1 },
  { life: "hidden", mark: 1 },
] as const)(
  "what an origin unregistered stays gone when that is forgotten, its entry's node being $life: by a mark, where it may come back",
  ({ life, mark }) => {
    for (const hasEndedAgain of [false, true]) {
      const replica = endedUnheard(life, hasEndedAgain);
      expect([replica.lost.markOf("n2/1"), replica.view(KEYS[0]!)]).toEqual([mark, undefined]);
    }
  },
);

test("an own entry that an origin unregistered stays when that is forgotten: its lease ends it, and peers are told", () => {
  const [n1, n3] = ["n1", "n3"].map((id) => new FabricComponent(id)) as [FabricComponent, FabricComponent];
  const key = KEYS[0]!;
  n1.put(key, 0, timeOf(1, 1));
  n1.commit(timeOf(1, 1));
  n3.copy(n1, "n1/1", timeOf(2, 2));
  n3.end(key, BODY.UNREGISTERED, timeOf(30, 2));
  n3.commit(timeOf(30, 2));
  n1.copy(n3, "n3/1", timeOf(33, 0));
  n1.setLife("n3/1", "hidden");
  n1.replica.forgetOrigin(n1.replica.origins.get("n3/1")!, LATE, true);
  while (n1.replica.sweep(1, LATE));
  expect(n1.replica.own(key)?.body).toBe(BODY.ENTRY);
});

test("an origin that unregistered nothing is forgotten without marks for others that have the same keys", () => {
  const [n1, n2, n3] = ["n1", "n2", "n3"].map((id) => new FabricComponent(id)) as [FabricComponent, FabricComponent, FabricComponent];
  for (const [i, node] of [n2, n3].entries()) {
    node.put(KEYS[0]!, 0, timeOf(1 + i, 1 + i));
    node.commit(timeOf(1 + i, 1 + i));
    n1.copy(node, `${node.replica.self.nodeId}/1`, timeOf(10, 0));
    n1.setLife(`${node.replica.self.nodeId}/1`, "hidden");
  }
  for (const id of ["n2/1", "n3/1"]) {
    n1.replica.forgetOrigin(n1.replica.origins.get(id)!, LATE);
    while (n1.replica.sweep(1, LATE));
  }
  expect([n1.replica.lost.size, n1.replica.lost.markOf("n2/1"), n1.replica.lost.markOf("n3/1")]).toEqual([2, 0, 0]);
});

test.each([
  { isDisproved: false, mark: 1 },
  { isDisproved: true, mark: 0 },
])(
  "of an origin that unregistered something marks are left for the lost ones, unless it never did: disproved $isDisproved",
  ({ isDisproved, mark }) => {
    const [n1, n2, n3] = ["n1", "n2", "n3"].map((id) => new FabricComponent(id)) as [FabricComponent, FabricComponent, FabricComponent];
    const key = KEYS[0]!;
    n2.put(key, 0, timeOf(1, 1));
    n2.commit(timeOf(1, 1));
    n3.copy(n2, "n2/1", timeOf(2, 2));
    n3.end(key, BODY.UNREGISTERED, timeOf(30, 2));
    n3.commit(timeOf(30, 2));
    n1.copy(n2, "n2/1", timeOf(10, 0));
    for (const [node, id] of [
      [n2, "n2/1"],
      [n3, "n3/1"],
    ] as const) {
      if (node === n3) n1.copy(n3, id, timeOf(33, 0));
      n1.setLife(id, "hidden");
      const origin = n1.replica.origins.get(id)!;
      if (node === n3 && isDisproved) origin.isDisproved = true;
      n1.replica.forgetOrigin(origin, LATE);
      while (n1.replica.sweep(1, LATE));
    }
    expect(n1.replica.lost.markOf("n2/1")).toBe(mark);
  },
);
