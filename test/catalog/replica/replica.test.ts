/** The replica ordered by change, against a naive model; and each rule of semantics.md that it keeps, by name. */
import fc from "fast-check";
import { expect, test } from "vitest";
import { SCOPE } from "../../../src/catalog/entry/scope.ts";
import { BODY, deltaId } from "../../../src/catalog/record/record.ts";
import { runs } from "../../fakes/effort.ts";
import { steps, take, timeOf } from "../../fakes/history.ts";
import { FabricComponent, KEYS } from "../../fakes/mesh.ts";
import { expectAsModel, listed } from "../../fakes/replica-check.ts";

const T = timeOf(1, 0);
const LATER = timeOf(10_000, 0);
const [K, L] = [KEYS[0]!, KEYS[1]!];
/** Index of the variant that is published REGION wide; the first one is ZONE. */
const REGION_WIDE = 5;

function pair(): readonly [FabricComponent, FabricComponent] {
  return [new FabricComponent("a"), new FabricComponent("b")];
}

function put(node: FabricComponent, key = K, variant = 0, time = T): void {
  node.put(key, variant, time);
  node.commit(time);
}

function end(node: FabricComponent, body: typeof BODY.EXPIRED | typeof BODY.UNREGISTERED, key = K, time = T): void {
  node.end(key, body, time);
  node.commit(time);
}

/** Both nodes tell each other everything of these two origins. */
function exchange(a: FabricComponent, b: FabricComponent, time = T): void {
  for (const id of [a.replica.self.id, b.replica.self.id]) {
    b.copy(a, id, time);
    a.copy(b, id, time);
  }
}

test("P5, P6: after any history, views, lookup, orders, digests, tombstones and slab are what a naive model says", () => {
  fc.assert(
    fc.property(steps({ max: 100 }), (history) => {
      const nodes = [new FabricComponent("n1"), new FabricComponent("n2"), new FabricComponent("n3")];
      // Asked for from the start, so that the sums are kept incrementally.
      for (const node of nodes) expectAsModel(node);
      history.forEach((step, n) => take(nodes, step, n));
      for (const node of nodes) expectAsModel(node);
    }),
    { numRuns: runs(120) },
  );
});

test("a staged record is visible to nobody before its batch is on disk (Durability)", () => {
  const [a, b] = pair();
  const { replica } = a;
  const stored = a.put(K, 0, T);
  expect(stored.revision).toBe(0);
  expect(replica.view(K)).toBeUndefined();
  expect(replica.records(K)).toEqual([]);
  expect([replica.revision, replica.self.through, replica.self.log.size, listed(a).length]).toEqual([0, 0, 0, 0]);
  expect([...replica.takeTouched()]).toEqual([]);
  b.copy(a, replica.self.id, T);
  expect(b.replica.view(K)).toBeUndefined();
  a.commit(T);
  expect(replica.view(K)).toBe(stored);
  expect([...replica.takeTouched()]).toEqual(["svc"]);
});

test("a batch makes visible what it holds and no more", () => {
  const { replica } = new FabricComponent("a");
  const node = new FabricComponent("c");
  const first = node.put(K, 0, T);
  node.put(L, 0, T);
  node.replica.commit(first.seq, T);
  expect([node.replica.view(K)?.seq, node.replica.view(L), node.replica.self.through]).toEqual([1, undefined, 1]);
  expect(node.replica.own(L)?.seq).toBe(2);
  expect(replica.revision).toBe(0);
});

test("seqs of a refused batch stay used: a number that may have been on disk is never given twice", () => {
  const { replica, ...rest } = new FabricComponent("a");
  expect(rest.disk.lastSeq).toBe(0);
  const node = new FabricComponent("a");
  put(node);
  node.put(K, 1, T);
  node.put(L, 0, T);
  const used = node.replica.slab.stats().usedBytes;
  node.replica.abort();
  expect(node.replica.slab.stats().usedBytes).toBeLessThan(used);
  expect([node.replica.view(K)?.seq, node.replica.own(K)?.seq, node.replica.own(L)]).toEqual([1, 1, undefined]);
  expect(node.put(L, 0, T).seq).toBe(4);
  expect(replica.lastSeq).toBe(0);
});

test("Why: a seq handed out before a crash is not handed out again, also when its row has been overwritten or forgotten", () => {
  const node = new FabricComponent("a");
  put(node);
  end(node, BODY.EXPIRED);
  node.collect(LATER);
  expect(node.disk.rows.size).toBe(0);
  node.restart(LATER, "disk kept");
  expect(node.replica.self.through).toBe(2);
  expect(node.replica.self.floor).toBe(2);
  expect(node.put(K, 0, LATER).seq).toBe(3);
});

test("Why: A→B→A during a partition ends with the client registered", () => {
  const [a, b] = pair();
  put(a, K, 0, timeOf(1, 0));
  put(b, K, 0, timeOf(2, 0));
  put(a, K, 0, timeOf(3, 0));
  // Its leases at a (the first) and b run out; that ends those origins' own records only.
  exchange(a, b, timeOf(4, 0));
  end(b, BODY.EXPIRED, K, timeOf(5, 0));
  exchange(a, b, timeOf(6, 0));
  for (const node of [a, b]) {
    expect(node.replica.view(K)?.origin.id).toBe("a/1");
    expectAsModel(node);
  }
});

test("Why: unregistering at B does not let A's older record reappear, not even when A comes back or B expires", () => {
  const [a, b] = pair();
  put(a, K, 0, timeOf(1, 0));
  exchange(a, b, timeOf(2, 0));
  put(b, K, 0, timeOf(3, 0));
  end(b, BODY.UNREGISTERED, K, timeOf(4, 0));
  exchange(a, b, timeOf(5, 0));
  expect([a.replica.view(K), b.replica.view(K)]).toEqual([undefined, undefined]);
  b.setLife("a/1", "hidden");
  b.setLife("a/1", "live");
  a.setLife("b/1", "hidden");
  expect([a.replica.view(K), b.replica.view(K)]).toEqual([undefined, undefined]);
});

test("Why: what was unregistered at B stays hidden though B put the key again and that expired too", () => {
  const [a, b] = pair();
  put(a);
  exchange(a, b);
  end(b, BODY.UNREGISTERED);
  put(b, K, 1, LATER);
  end(b, BODY.EXPIRED, K, LATER);
  exchange(a, b, LATER);
  for (const node of [a, b]) expect(node.replica.view(K)).toBeUndefined();
  // A node that hears of A only now is told the same.
  const c = new FabricComponent("c");
  exchange(b, c, LATER);
  exchange(a, c, LATER);
  expect(c.replica.view(K)).toBeUndefined();
});

test("an unregistered tombstone is kept, however old, while a record that it hides is held", () => {
  const [a, b] = pair();
  put(a, K, 0, timeOf(1, 0));
  exchange(a, b, timeOf(2, 0));
  end(b, BODY.UNREGISTERED, K, timeOf(3, 0));
  b.collect(LATER, 10);
  expect(b.replica.tombstoneCount).toBe(1);
  expect(b.replica.view(K)).toBeUndefined();
  end(a, BODY.EXPIRED, K, timeOf(4, 0));
  b.copy(a, "a/1", LATER);
  b.collect(timeOf(30_000, 0), 10);
  b.collect(timeOf(60_000, 0), 10);
  expect(b.replica.tombstoneCount).toBe(0);
});

test("Why: an unregistered tombstone of a clock that was ahead is no older than its stamp: else who is away comes back with it and hides what was put since", () => {
  const [a, b] = pair();
  put(a, K, 0, timeOf(1, 0));
  end(a, BODY.UNREGISTERED, K, { ...timeOf(3, 0), wallMs: 90_000_000 });
  exchange(a, b, timeOf(4, 0));
  b.collect(LATER, 10);
  expect(b.replica.records(K)).toMatchObject([{ body: BODY.UNREGISTERED, origin: { id: "a/1" } }]);
  // By count it goes all the same, and by age when its stamp is past.
  for (const key of KEYS.slice(1, 6)) put(b, key, 0, LATER);
  for (const key of KEYS.slice(1, 6)) end(b, BODY.EXPIRED, key, LATER);
  b.collect(LATER, 2);
  expect([b.replica.tombstoneCount, b.replica.view(K)]).toEqual([4, undefined]);
});

test("P6: forgetting an origin does not bring back what it unregistered", () => {
  const [a, b] = pair();
  const c = new FabricComponent("c");
  put(a, K, 0, timeOf(1, 0));
  exchange(a, b, timeOf(2, 0));
  end(b, BODY.UNREGISTERED, K, timeOf(3, 0));
  for (const node of [a, b]) c.copy(node, node.replica.self.id, timeOf(4, 0));
  c.forget("b/1", timeOf(5, 0));
  expect(c.replica.view(K)).toBeUndefined();
  expect(c.replica.origins.has("b/1")).toBe(false);
  expectAsModel(c);
});

test("Why: an orphan that was hidden keeps its records and its place in the vector, so its return shows them again", () => {
  const [a, b] = pair();
  put(a);
  b.copy(a, "a/1", T);
  b.setLife("a/1", "orphaned");
  expect(b.replica.view(K)?.origin.life).toBe("orphaned");
  b.setLife("a/1", "hidden");
  expect(b.replica.view(K)).toBeUndefined();
  expect(b.replica.origins.get("a/1")?.through).toBe(1);
  const before = b.replica.revision;
  b.setLife("a/1", "live");
  expect(b.replica.view(K)?.seq).toBe(1);
  expect(b.replica.revision).toBe(before + 1);
});

test("Why: a forgotten origin loses its records and its place in the vector together, and is refused until it lives again", () => {
  const [a, b] = pair();
  put(a);
  b.copy(a, "a/1", T);
  b.forget("a/1", T);
  expect([b.replica.view(K), b.replica.origins.has("a/1"), b.replica.forgotten.has("a/1")]).toEqual([undefined, false, true]);
  expect(b.replica.slab.stats().usedBytes).toBe(0);
  const frame = a.frame(a.replica.self, { after: 0, isComplete: false }, 10_000);
  expect(b.receive(frame, T, a).kind).toBe("refused");
});

test("a record not newer than the one held of its origin is skipped and its bytes are given back", () => {
  const [a, b] = pair();
  put(a, K, 0);
  const old = a.frame(a.replica.self, { after: 0, isComplete: false }, 10_000);
  put(a, K, 1);
  b.copy(a, "a/1", T);
  const { revision } = b.replica;
  const used = b.replica.slab.stats().usedBytes;
  b.receive(old, T, a);
  expect([b.replica.view(K)?.seq, b.replica.revision, b.replica.slab.stats().usedBytes]).toEqual([2, revision, used]);
});

test.each([
  { what: "a first put", steps: [0], want: { firstSeq: 1, filterSeq: 1 } },
  { what: "the same facets again", steps: [0, 6], want: { firstSeq: 1, filterSeq: 1 } },
  { what: "another tag", steps: [0, 1], want: { firstSeq: 1, filterSeq: 2 } },
  { what: "another tag, then other content", steps: [0, 6, 1, 1], want: { firstSeq: 1, filterSeq: 3 } },
  { what: "expired and put again", steps: [0, "expire", 0], want: { firstSeq: 3, filterSeq: 3 } },
  { what: "expired, put again and changed", steps: [0, "expire", 0, 6], want: { firstSeq: 3, filterSeq: 3 } },
] as const)("first_seq and filter_seq after $what", ({ steps: done, want }) => {
  const node = new FabricComponent("a");
  for (const step of done) {
    if (step === "expire") end(node, BODY.EXPIRED);
    else put(node, K, step);
  }
  const { firstSeq, filterSeq } = node.replica.view(K)!;
  expect({ firstSeq, filterSeq }).toEqual(want);
});

test("P1: reach is the widest scope since the key's last collected tombstone, through narrowing and removal", () => {
  const node = new FabricComponent("a");
  const reach = (): number | undefined => node.replica.records(K)[0]?.reach;
  put(node, K, 0);
  expect(reach()).toBe(SCOPE.ZONE);
  put(node, K, REGION_WIDE);
  put(node, K, 0);
  expect([reach(), node.replica.view(K)?.scope]).toEqual([SCOPE.REGION, SCOPE.ZONE]);
  end(node, BODY.EXPIRED);
  expect(reach()).toBe(SCOPE.REGION);
  put(node, K, 0);
  expect(reach()).toBe(SCOPE.REGION);
  end(node, BODY.EXPIRED);
  node.restart(T, "disk kept");
  expect(reach()).toBe(SCOPE.REGION);
  node.collect(LATER);
  put(node, K, 0, LATER);
  expect(reach()).toBe(SCOPE.ZONE);
});

test("tombstones go oldest first: by age, and before their age above max(minimum, live records); the floor says up to where", () => {
  const node = new FabricComponent("a");
  for (const key of KEYS.slice(0, 8)) put(node, key);
  for (const key of KEYS.slice(0, 8)) end(node, BODY.EXPIRED, key);
  // Eight tombstones, nothing live, four may stay.
  node.collect(T, 100);
  expect([node.replica.tombstoneCount, node.replica.self.floor, node.replica.collectedRevision]).toEqual([4, 12, 12]);
  expect(node.replica.nextCollectMonoMs()).toBe(T.monoMs + 1000);
  node.collect({ ...T, monoMs: T.monoMs + 999 }, 100);
  expect(node.replica.tombstoneCount).toBe(4);
  node.collect({ ...T, monoMs: T.monoMs + 1000 }, 3);
  expect([node.replica.tombstoneCount, node.replica.self.floor]).toEqual([1, 15]);
  expectAsModel(node);
});

test("P6: while somebody may come with what they end, tombstones go by count alone: old ones stay as long as there is room", () => {
  const node = new FabricComponent("a");
  for (const key of KEYS.slice(0, 8)) put(node, key);
  for (const key of KEYS.slice(0, 3)) end(node, BODY.EXPIRED, key);
  expect([node.replica.collect(LATER, 100, "count"), node.replica.tombstoneCount]).toEqual([[], 3]);
  for (const key of KEYS.slice(3, 8)) end(node, BODY.EXPIRED, key);
  // Above max(minimum, live records) the oldest go; a part at a time.
  expect(node.replica.collect(LATER, 3, "count")).toEqual(KEYS.slice(0, 3));
  expect(node.replica.collect(LATER, 3, "count")).toEqual(KEYS.slice(3, 4));
  expect([node.replica.collect(LATER, 100, "count"), node.replica.tombstoneCount]).toEqual([[], 4]);
  expect([node.replica.collect(LATER, 100, "age"), node.replica.tombstoneCount]).toEqual([KEYS.slice(4, 8), 0]);
});

test("P6: an unregistered tombstone that hides another origin's record does not go by count either", () => {
  const [a, b] = pair();
  put(a, K, 0, timeOf(1, 0));
  exchange(a, b, timeOf(2, 0));
  end(b, BODY.UNREGISTERED, K, timeOf(3, 0));
  for (const key of KEYS.slice(1, 8)) put(b, key, 0, timeOf(4, 0));
  for (const key of KEYS.slice(1, 8)) end(b, BODY.EXPIRED, key, timeOf(5, 0));
  b.collect(LATER, 100, "count");
  expect([b.replica.tombstoneCount, b.replica.own(K)?.body, b.replica.view(K)]).toEqual([4, BODY.UNREGISTERED, undefined]);
  expectAsModel(b);
});

test("a tombstone whose key is being put again is not collected: the journal would forget the new row", () => {
  const node = new FabricComponent("a");
  put(node);
  end(node, BODY.EXPIRED);
  node.put(K, 0, LATER);
  const forgotten = node.replica.collect(LATER, 10);
  node.commit(LATER);
  for (const key of forgotten) node.disk.rows.delete(key);
  node.restart(LATER, "disk kept");
  expect(node.replica.view(K)?.seq).toBe(3);
});

test("a tombstone whose key was to be put again is collected later when that batch was refused", () => {
  const node = new FabricComponent("a");
  put(node);
  end(node, BODY.EXPIRED);
  node.put(K, 0, LATER);
  node.replica.collect(LATER, 10);
  node.replica.abort();
  expect(node.replica.collect(timeOf(20_000, 0), 10)).toEqual([K]);
});

test("equal stamps: of entries the higher origin id wins, and a tombstone does not hide its equal", () => {
  const [a, b] = pair();
  a.put(K, 0, T, 5000);
  a.commit(T);
  b.put(K, 0, T, 5000);
  b.commit(T);
  exchange(a, b);
  for (const node of [a, b]) expect(deltaId(node.replica.view(K)!)).toBe("b/1/1");
});

test("namespace digests: one that nobody has entries in is not remembered, whoever asks for it", () => {
  const { replica } = new FabricComponent("a");
  for (let n = 0; n < 100; n++) replica.digests.fill(`asked.${n}`, 1, () => () => undefined);
  expect(replica.digests.isTracked("asked.7")).toBe(false);
});
