/** What a whole transfer did not list is withdrawn in slices, and V moves when the last of it is gone (replication.md, Removal). */
import { expect, test } from "vitest";
import { EntryStamper } from "../../src/catalog/entry/codec.ts";
import { BODY } from "../../src/catalog/record/record.ts";
import { TraitsPool } from "../../src/catalog/record/traits.ts";
import { FrameReceiver, type OriginFrame } from "../../src/catalog/replica/frames.ts";
import { timeOf } from "../fakes/history.ts";
import { counting, fill, keysOf } from "../fakes/many.ts";
import { FabricComponent, KEYS } from "../fakes/mesh.ts";
import { BOUNDS } from "../fakes/options.ts";

const T = timeOf(1, 0);
const LATER = timeOf(2000, 0);
const GONE = 10;

/** `b` and `old` hold all that `a` had; `a` has removed ten of the entries since, and the tombstones are gone. */
function known() {
  const [a, b, old] = [new FabricComponent("a"), new FabricComponent("b"), new FabricComponent("c")];
  for (const key of KEYS) a.put(key, 0, T);
  a.commit(T);
  for (const node of [b, old]) node.copy(a, "a/1", T);
  for (const key of KEYS.slice(0, GONE)) a.end(key, BODY.EXPIRED, T);
  a.commit(T);
  a.collect(LATER);
  const origin = b.replica.origins.get("a/1");
  if (origin === undefined) throw new Error("b knows a");
  return { a, b, old, origin };
}

function news(a: FabricComponent, after: number): OriginFrame {
  return a.frame(a.replica.self, { after, isComplete: false }, 10_000);
}

function whole(of: FabricComponent): OriginFrame {
  const origin = of.replica.origins.get("a/1");
  if (origin === undefined) throw new Error("it knows a");
  return of.frame(origin, { after: 0, isComplete: true }, 10_000);
}

function otherLink(node: FabricComponent): FrameReceiver {
  return new FrameReceiver(node.replica, new EntryStamper({ bounds: BOUNDS, traits: new TraitsPool(16) }), BOUNDS);
}

test("the last frame withdraws nothing; slices do, and V moves with the last of them, not before", () => {
  const { a, b, origin } = known();
  const { through } = origin;
  expect(b.receiver.apply(whole(a), T).kind).toBe("applied");
  expect([b.replica.lookup.size, origin.through, b.replica.sweeps.isOwed]).toEqual([KEYS.length, through, true]);
  const seen: [number, number][] = [];
  while (b.replica.sweep(4, T)) seen.push([b.replica.lookup.size, origin.through]);
  expect(seen).toEqual([
    [12, through],
    [8, through],
    [6, through + GONE],
  ]);
  expect([b.replica.sweeps.takeClosed(), b.replica.sweeps.takeClosed(), origin.closing]).toEqual([[origin], [], undefined]);
});

test("what its origin writes meanwhile joins on, is seen at once, and is not withdrawn; V is there at the end", () => {
  const { a, b, origin } = known();
  const { through } = origin;
  b.receiver.apply(whole(a), T);
  b.replica.sweep(3, T);
  const after = a.replica.self.through;
  // One that is about to be withdrawn here, and one that is gone already.
  for (const key of [KEYS[9]!, KEYS[0]!]) a.put(key, 1, LATER);
  a.commit(LATER);
  for (const receiver of [b.receiver, otherLink(b)]) expect(receiver.apply(news(a, after), LATER)).toMatchObject({ kind: "applied" });
  expect([b.replica.view(KEYS[9]!)?.seq, b.replica.view(KEYS[0]!)?.seq, origin.through]).toEqual([after + 1, after + 2, through]);
  while (b.replica.sweep(1, T));
  expect(b.replica.lookup.size).toBe(KEYS.length - GONE + 2);
  expect([origin.through, origin.unsettled]).toEqual([after + 2, undefined]);
  // What does not join on is still a gap.
  expect(b.receiver.apply({ ...news(a, after), after: after + 9, through: after + 10, records: [] }, T)).toEqual({
    kind: "gap",
    knows: after + 2,
  });
});

test("neither late differences nor another whole transfer, of whoever knows less, bring back what goes, before or after it is gone", () => {
  const { a, b, old } = known();
  b.receiver.apply(whole(a), T);
  const [origin] = [old.replica.origins.get("a/1")!];
  const late = old.frame(origin, { after: 0, isComplete: false }, 10_000);
  const link = otherLink(b);
  for (let n = 0; b.replica.sweeps.isOwed; n++) {
    link.apply(n % 2 === 0 ? late : whole(old), T);
    b.replica.sweep(1, T);
  }
  link.apply(late, T);
  expect(KEYS.map((key) => b.replica.view(key) !== undefined)).toEqual(KEYS.map((_, n) => n >= GONE));
});

test("forgotten in the middle, it is forgotten with all it had; whoever comes back under the name starts from 0", () => {
  const { a, b, origin } = known();
  b.receiver.apply(whole(a), T);
  b.replica.sweep(3, T);
  b.replica.forgetOrigin(origin, T, false, 2);
  expect(b.replica.lookup.size).toBe(0);
  while (b.replica.sweep(2, T));
  expect([origin.log.size, b.replica.origins.has("a/1"), b.replica.sweeps.isOwed, b.replica.sweeps.takeClosed()]).toEqual([
    0,
    false,
    false,
    [],
  ]);
  b.replica.restoreOrigin("a", 1);
  b.copy(a, "a/1", T);
  const back = b.replica.origins.get("a/1");
  expect([back === origin, back?.through, b.replica.lookup.size]).toEqual([false, a.replica.self.through, KEYS.length - GONE]);
});

test("told on in the middle, it says no more than V does; hidden and shown again, the rest goes all the same", () => {
  const { a, b, origin } = known();
  const { through } = origin;
  b.receiver.apply(whole(a), T);
  b.replica.sweep(3, T);
  const frame = b.frame(origin, { after: 0, isComplete: false }, 10_000);
  expect([frame.through, frame.knownSeq]).toEqual([through, through + GONE]);
  b.setLife("a/1", "hidden");
  b.replica.sweep(3, T);
  b.setLife("a/1", "live");
  while (b.replica.sweep(3, T));
  expect(KEYS.map((key) => b.replica.view(key) !== undefined)).toEqual(KEYS.map((_, n) => n >= GONE));
});

test("a floor that rose meanwhile stays where it is: what is below it cannot be told one by one", () => {
  const { a, b, origin } = known();
  b.receiver.apply(whole(a), T);
  const raised = a.replica.self.floor + 5;
  origin.floor = raised;
  while (b.replica.sweep(3, T));
  expect([origin.closing, origin.floor]).toEqual([undefined, raised]);
});

test("what is refused meanwhile is lacking after the end, too", () => {
  const { a, b, origin } = known();
  b.receiver.apply(whole(a), T);
  const after = a.replica.self.through;
  b.receiver.apply({ ...news(a, after), through: after + 1, records: [new Uint8Array([255])] }, T);
  while (b.replica.sweep(3, T));
  expect([origin.lacks?.count, origin.through]).toEqual([1, after + 1]);
});

test("what others brought under a number that was passed is found in slices, and looking costs less than removing", () => {
  const [a, b, old] = [new FabricComponent("a"), new FabricComponent("b"), new FabricComponent("c")];
  for (const key of KEYS) {
    a.put(key, 0, T);
    a.commit(T);
  }
  old.copy(a, "a/1", T);
  a.end(KEYS[0]!, BODY.EXPIRED, T);
  a.commit(T);
  a.collect(LATER);
  const first = a.frame(a.replica.self, { after: 0, isComplete: true }, 1);
  b.receiver.apply(first, T);
  otherLink(b).apply(old.frame(old.replica.origins.get("a/1")!, { after: 0, isComplete: false }, 10_000), T);
  b.receiver.apply(a.frame(a.replica.self, { after: first.through, isComplete: true }, 10_000), T);
  expect(b.replica.view(KEYS[0]!)).toBeDefined();
  let slices = 0;
  while (b.replica.sweep(0.5, T)) slices += 1;
  expect([b.replica.view(KEYS[0]!), slices > 1, slices < 5]).toEqual([undefined, true, true]);
});

test("a last frame that covers very many numbers and lists none of them looks at no more than others; all of it goes all the same", () => {
  const [a, b] = [new FabricComponent("a"), new FabricComponent("b")];
  const keys = keysOf(12_000);
  fill(a, keys);
  const receiver = otherLink(b);
  for (let after = 0, isLast = false; !isLast; ) {
    const frame = a.frame(a.replica.self, { after, isComplete: true }, 100_000);
    receiver.apply(frame, T);
    [after, isLast] = [frame.through, frame.isLast];
  }
  const origin = b.replica.origins.get("a/1")!;
  const { through } = origin;
  const visited = counting(origin.log);
  receiver.repair("a/1", through);
  const empty = { nodeId: "a", generation: 1, after: 0, through, floor: through, records: [], isComplete: true, isLast: true };
  receiver.apply(empty, T);
  expect([visited.count <= 10_001, b.replica.lookup.size, origin.through]).toEqual([true, 12_000, through]);
  const before = visited.count;
  b.replica.sweep(250, T);
  expect([visited.count - before < 5001, b.replica.lookup.size]).toEqual([true, 11_750]);
  while (b.replica.sweep(250, T));
  expect([b.replica.lookup.size, origin.through, origin.closing]).toEqual([0, through, undefined]);
});
