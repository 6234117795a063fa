/** Replication frames (semantics.md, Replication; P1, P5, P6). */
import fc from "fast-check";
import { expect, test } from "vitest";
import { EntryStamper, finishEntry } from "../../../src/catalog/entry/codec.ts";
import { SCOPE } from "../../../src/catalog/entry/scope.ts";
import { encodeRecord } from "../../../src/catalog/record/codec.ts";
import { BODY, keyParts } from "../../../src/catalog/record/record.ts";
import type { StoredRecord } from "../../../src/catalog/record/stored-record.ts";
import { TraitsPool } from "../../../src/catalog/record/traits.ts";
import { buildFrame, type FrameReceiverSide, type OriginFrame } from "../../../src/catalog/replica/frames.ts";
import type { Time } from "../../../src/lib/machine.ts";
import { nodeEntry } from "../../../src/services/node-entry.ts";
import { runs } from "../../fakes/effort.ts";
import { steps, take, timeOf } from "../../fakes/history.ts";
import { FabricComponent, KEYS } from "../../fakes/mesh.ts";
import { BOUNDS } from "../../fakes/options.ts";
import { byKey } from "../../fakes/records.ts";
import { expectAsModel, said } from "../../fakes/replica-check.ts";

const T = timeOf(1, 0);
const LATER = timeOf(10_000, 0);
const K = KEYS[0]!;
/** Index of the variant that is published REGION wide; the first one is ZONE. */
const [ZONE_WIDE, REGION_WIDE] = [0, 5];
const PLACE = { clusterId: "c1", region: "r1", zone: "z1", tenantId: "", receivedWallMs: 0 };
const NEIGHBOUR: FrameReceiverSide = { relation: "region", clusterId: "c2" };

function put(node: FabricComponent, key = K, variant = 0, time: Time = T): void {
  node.put(key, variant, time);
  node.commit(time);
}

function end(node: FabricComponent, key = K, body: typeof BODY.EXPIRED | typeof BODY.UNREGISTERED = BODY.EXPIRED): void {
  node.end(key, body, T);
  node.commit(T);
}

/** What a put of the same entry says. */
function plain({ key, namespace, name, kind, hlc, scope, health, traits, principal, contentBytes }: StoredRecord) {
  return { key, namespace, name, kind, hlc, scope, health, traits, principal, contentBytes };
}

/** Every frame of the node's own records for a peer that has everything up to `after`. */
function framesOf(node: FabricComponent, after: number, budgetBytes: number): readonly OriginFrame[] {
  const frames: OriginFrame[] = [];
  let from = { after, isComplete: false };
  for (let isDone = false; !isDone; ) {
    const frame = node.frame(node.replica.self, from, budgetBytes);
    frames.push(frame);
    from = { after: frame.through, isComplete: frame.isComplete };
    isDone = frame.isComplete ? frame.isLast : frame.through >= node.replica.self.through;
  }
  return frames;
}

/** What a replica holds of an origin, in order. */
function heldOf(node: FabricComponent, originId: string): unknown {
  const origin = node.replica.origins.get(originId);
  return { through: origin?.through, records: origin?.log.list().map(said) };
}

/** What links to another region's or cluster's node carry of the node's own records: key index and whether live. */
function told(node: FabricComponent, link: FrameReceiverSide, after = 0): readonly string[] {
  const { records } = buildFrame(node.replica, node.replica.self, { after, isComplete: false }, link, 100_000);
  const reader = new FabricComponent("reader");
  const frame = {
    nodeId: "a",
    generation: 1,
    after,
    through: node.replica.self.through,
    records,
    isComplete: false,
    isLast: false,
    floor: 0,
  };
  reader.apply(frame, T);
  const storedRecords = reader.replica.origins.get("a/1")?.log.list() ?? [];
  return storedRecords.map((stored) => `${KEYS.indexOf(stored.key)} ${stored.body === BODY.ENTRY ? "live" : "gone"}`);
}

test("P5: frames applied twice, late, in any order, with some lost, leave the replica that applying them in order leaves", () => {
  const history = steps({ max: 60, without: ["copy", "life", "forget", "restart", "abort"] });
  const picks = fc.array(fc.record({ which: fc.nat(999), lost: fc.nat(9), swept: fc.nat(3) }), {
    minLength: 5,
    maxLength: 30,
    size: "max",
  });
  fc.assert(
    fc.property(history, picks, fc.integer({ min: 80, max: 900 }), (done, order, budgetBytes) => {
      const [source, late, ordered] = [new FabricComponent("a"), new FabricComponent("b"), new FabricComponent("c")];
      // A frame that stands alone may come at any time; the frames of a whole transfer come one after the other or not at all.
      const sent: (readonly OriginFrame[])[] = [];
      done.forEach((step, n) => {
        take([source], { ...step, node: 0, other: 0 }, n);
        source.commit(timeOf(n, 0));
        const frames = framesOf(source, (step.detail * 7) % (source.replica.self.through + 1), budgetBytes);
        if (frames[0]?.isComplete === true) sent.push(frames);
        else sent.push(...frames.map((frame) => [frame]));
        if (step.detail % 7 === 0) ordered.copy(source, "a/1", T, budgetBytes);
      });
      for (const { which, lost, swept } of order) {
        const frames = sent[which % Math.max(1, sent.length)] ?? [];
        frames.forEach((frame, i) => (i !== 0 && i === lost) || late.receiver.apply(frame, T));
        late.replica.sweep(swept, T);
      }
      while (late.replica.sweep(3, T));
      for (const node of [late, ordered]) node.copy(source, "a/1", LATER, budgetBytes);
      const want = source.model.views().map(said);
      for (const node of [late, ordered]) {
        expect(
          KEYS.flatMap((key) => node.replica.view(key) ?? [])
            .toSorted(byKey)
            .map(said),
        ).toEqual(want);
        expect(node.replica.origins.get("a/1")?.through).toBe(source.replica.self.through);
      }
    }),
    { numRuns: runs(120) },
  );
});

test("P5: the same frame again changes nothing, not even a revision or a byte of the slab", () => {
  const [a, b] = [new FabricComponent("a"), new FabricComponent("b")];
  for (const key of KEYS.slice(0, 5)) put(a, key);
  end(a, KEYS[4]);
  const frames = framesOf(a, 0, 200);
  expect(frames.length).toBeGreaterThan(2);
  for (const frame of frames) b.receive(frame, T, a);
  const before = [b.replica.revision, b.replica.slab.stats().usedBytes, heldOf(b, "a/1")];
  for (const frame of frames) b.receive(frame, T, a);
  expect([b.replica.revision, b.replica.slab.stats().usedBytes, heldOf(b, "a/1")]).toEqual(before);
  expectAsModel(b);
});

test("Why: a frame that does not join what is known is discarded whole: conflation makes gaps normal, so a gap proves nothing", () => {
  const [a, b] = [new FabricComponent("a"), new FabricComponent("b")];
  put(a);
  put(a, KEYS[1]);
  put(a, KEYS[2]);
  const [first, second, third] = framesOf(a, 0, 1);
  expect(b.receive(third!, T, a)).toEqual({ kind: "gap", knows: 0 });
  expect([b.replica.revision, b.receive(first!, T, a).kind]).toEqual([0, "applied"]);
  expect(b.receive(third!, T, a)).toEqual({ kind: "gap", knows: 1 });
  b.receive(second!, T, a);
  b.receive(third!, T, a);
  expect(b.replica.origins.get("a/1")?.through).toBe(3);
});

test("a frame cut by size ends at its last record", () => {
  const a = new FabricComponent("a");
  for (const key of KEYS.slice(0, 6)) put(a, key);
  put(a, K);
  expect(framesOf(a, 0, 1).map(({ after, through }) => [after, through])).toEqual([
    [0, 2],
    [2, 3],
    [3, 4],
    [4, 5],
    [5, 6],
    [6, 7],
  ]);
});

test("a node in the middle of a whole transfer passes on no more than it knows", () => {
  const [a, b, c] = [new FabricComponent("a"), new FabricComponent("b"), new FabricComponent("c")];
  for (const key of KEYS.slice(0, 8)) put(a, key);
  for (const key of KEYS.slice(0, 8)) end(a, key);
  put(a, KEYS[8]);
  put(a, KEYS[9]);
  a.collect(T);
  const [first, ...rest] = framesOf(a, 0, 1);
  expect([first!.isComplete, rest.length > 1]).toEqual([true, true]);
  b.receive(first!, T, a);
  c.copy(b, "a/1", T);
  expect(heldOf(c, "a/1")).toEqual({ through: 0, records: [] });
  for (const frame of rest) b.receive(frame, T, a);
  c.copy(b, "a/1", T);
  expect(c.replica.lookup.size).toBe(2);
});

test("below the floor a whole transfer ends what it does not list; a part of it that was lost ends nothing", () => {
  const [a, b] = [new FabricComponent("a"), new FabricComponent("b")];
  for (const key of KEYS.slice(0, 10)) put(a, key);
  b.copy(a, "a/1", T);
  for (const key of KEYS.slice(0, 8)) end(a, key);
  a.collect(LATER);
  const frames = framesOf(a, b.replica.origins.get("a/1")!.through, 1);
  expect([frames.length, frames.every((frame) => frame.isComplete)]).toEqual([2, true]);
  // The first is lost, comes twice, or comes again at the end: what it lists must not count as gone.
  expect(b.receive(frames[1]!, T, a).kind).toBe("gap");
  b.receive(frames[0]!, T, a);
  b.receive(frames[0]!, T, a);
  expect(b.replica.lookup.size).toBe(10);
  b.receive(frames[1]!, T, a);
  expect(b.replica.lookup.size).toBe(2);
  b.receive(frames[0]!, T, a);
  expect([b.receive(frames[1]!, T, a).kind, b.replica.lookup.size]).toEqual(["applied", 2]);
  expectAsModel(b);
});

test("a whole transfer whose middle frame was lost is not taken for whole", () => {
  const [a, b] = [new FabricComponent("a"), new FabricComponent("b")];
  for (const key of KEYS.slice(0, 12)) put(a, key);
  b.copy(a, "a/1", T);
  for (const key of KEYS.slice(0, 8)) end(a, key);
  a.collect(LATER);
  const [first, middle, third, last] = framesOf(a, 12, 1);
  expect([middle?.isComplete, last?.isLast]).toEqual([true, true]);
  b.receive(first!, T, a);
  expect([third!, last!].map((frame) => b.receive(frame, T, a).kind)).toEqual(["gap", "gap"]);
  expect(b.replica.lookup.size).toBe(12);
  for (const frame of framesOf(a, 12, 1)) b.receive(frame, T, a);
  expect(b.replica.lookup.size).toBe(4);
});

test("a newcomer's floor is the sender's, so that it asks its own readers for no more than it can tell", () => {
  const [a, b] = [new FabricComponent("a"), new FabricComponent("b")];
  for (const key of KEYS.slice(0, 6)) put(a, key);
  for (const key of KEYS.slice(0, 6)) end(a, key);
  a.collect(T);
  b.copy(a, "a/1", T);
  expect([a.replica.self.floor, b.replica.origins.get("a/1")?.floor]).toEqual([8, 8]);
});

test.each([
  { link: "cluster", want: ["0 live", "1 live"] },
  { link: "region", want: ["1 live"] },
  { link: "remote", want: [] },
] as const)("P1: a ZONE and a REGION entry, over a link of relation $link: $want", ({ link, want }) => {
  const a = new FabricComponent("a");
  put(a, KEYS[0], ZONE_WIDE);
  put(a, KEYS[1], REGION_WIDE);
  expect(told(a, { relation: link, clusterId: link === "cluster" ? "c1" : "c2" })).toEqual(want);
});

test("P1 Why: REGION narrowed to ZONE is a tombstone for the other cluster, also after more changes and the entry's own end", () => {
  const a = new FabricComponent("a");
  put(a, K, REGION_WIDE);
  expect(told(a, NEIGHBOUR)).toEqual(["0 live"]);
  put(a, K, ZONE_WIDE);
  expect(told(a, NEIGHBOUR)).toEqual(["0 gone"]);
  put(a, K, 1);
  end(a, K);
  expect(told(a, NEIGHBOUR)).toEqual(["0 gone"]);
  put(a, K, ZONE_WIDE);
  expect([told(a, NEIGHBOUR), told(a, { relation: "cluster", clusterId: "c1" })]).toEqual([["0 gone"], ["0 live"]]);
});

test("P1 Why: records never travel back into their origin's cluster: its own nodes would believe they had everything", () => {
  const a = new FabricComponent("a");
  put(a, K, REGION_WIDE);
  expect(told(a, { relation: "region", clusterId: "c1" })).toEqual([]);
});

test("Why: frames carry what a key's origin unregistered before it put the key again, and that hides what others put before", () => {
  const [a, b, c] = [new FabricComponent("a"), new FabricComponent("b"), new FabricComponent("c")];
  put(b, K, 0, timeOf(1, 0));
  put(a, K, 0, timeOf(2, 0));
  a.end(K, BODY.UNREGISTERED, timeOf(3, 0));
  a.commit(timeOf(3, 0));
  const endedHlc = a.replica.records(K)[0]!.hlc;
  put(a, K, 1, timeOf(4, 0));
  a.end(K, BODY.EXPIRED, timeOf(5, 0));
  a.commit(timeOf(5, 0));
  const frame = a.frame(a.replica.self, { after: 0, isComplete: false }, 100_000);
  const applied = b.receive(frame, timeOf(6, 0), a);
  // B's own is handed to its lease, though the frame holds no `unregistered` any more.
  expect(applied.kind === "applied" && applied.superseded.map((stored) => [stored.key, stored.origin.id])).toEqual([[K, "b/1"]]);
  // C hears of A by way of B, and of B's older record last.
  c.copy(b, "a/1", timeOf(7, 0));
  c.copy(b, "b/1", timeOf(7, 0));
  for (const node of [b, c]) {
    const ofA = node.replica.records(K).find(({ origin }) => origin.id === "a/1");
    expect([ofA?.body, ofA?.unregisteredHlc]).toEqual([BODY.EXPIRED, endedHlc]);
    expect(node.replica.view(K)).toBeUndefined();
    expectAsModel(node);
  }
});

test("P1: what is told of a narrowed entry to who had it carries what its origin unregistered before", () => {
  const [a, reader] = [new FabricComponent("a"), new FabricComponent("reader")];
  put(a, K, REGION_WIDE, timeOf(1, 0));
  a.end(K, BODY.UNREGISTERED, timeOf(2, 0));
  a.commit(timeOf(2, 0));
  const endedHlc = a.replica.records(K)[0]!.hlc;
  put(a, K, REGION_WIDE, timeOf(3, 0));
  const frameOf = (): OriginFrame => {
    const frame = buildFrame(a.replica, a.replica.self, { after: 0, isComplete: false }, NEIGHBOUR, 100_000);
    return { ...frame, records: frame.records.map((record) => Uint8Array.from(record)) };
  };
  const heard = (): unknown => {
    reader.apply(frameOf(), T);
    return reader.replica.records(K).map(({ body, unregisteredHlc }) => ({ body, unregisteredHlc }));
  };
  expect(heard()).toEqual([{ body: BODY.ENTRY, unregisteredHlc: endedHlc }]);
  put(a, K, ZONE_WIDE, timeOf(4, 0));
  // All that was put before is over there, and so what was unregistered before.
  const narrowedHlc = a.replica.records(K)[0]!.hlc;
  expect(heard()).toEqual([{ body: BODY.EXPIRED, unregisteredHlc: narrowedHlc }]);
});

test("P1 Why: moved to another node with a narrower scope, a key is gone where only the record before it reached, until it is that again", () => {
  const [a, b, c] = [new FabricComponent("a"), new FabricComponent("b"), new FabricComponent("c")];
  const tell = (from: FabricComponent, to: FabricComponent, link: FrameReceiverSide): void => {
    const frame = buildFrame(from.replica, from.replica.self, { after: 0, isComplete: false }, link, 100_000);
    to.apply({ ...frame, records: frame.records.map((record) => Uint8Array.from(record)) }, T);
  };
  put(a, K, REGION_WIDE, timeOf(1, 0));
  tell(a, b, { relation: "cluster", clusterId: "c1" });
  tell(a, c, NEIGHBOUR);
  expect(c.replica.view(K)?.origin.nodeId).toBe("a");
  put(b, K, ZONE_WIDE, timeOf(2, 0));
  tell(b, c, NEIGHBOUR);
  expect(c.replica.view(K)).toBeUndefined();
  // Who forgets the node that it moved to, shows what its cluster shows: the record before, as long as that is there.
  const moved = c.replica.origins.get("b/1");
  if (moved !== undefined) c.replica.forgetOrigin(moved, timeOf(3, 0));
  expect(c.replica.view(K)?.origin.nodeId).toBe("a");
  c.replica.restoreOrigin("b", 1);
  tell(b, c, NEIGHBOUR);
  end(b, K);
  tell(b, c, NEIGHBOUR);
  expect(c.replica.view(K)?.origin.nodeId).toBe("a");
  put(a, K, ZONE_WIDE, timeOf(4, 0));
  tell(a, c, NEIGHBOUR);
  expect(c.replica.view(K)).toBeUndefined();
});

test("a bad record is refused alone: the others of its frame are applied and the vector moves", () => {
  const [a, b, c] = [new FabricComponent("a"), new FabricComponent("b"), new FabricComponent("c")];
  put(a, KEYS[0]);
  put(a, KEYS[1]);
  put(c, KEYS[2]);
  put(c, KEYS[2], 1);
  put(c, KEYS[2]);
  const frame = a.frame(a.replica.self, { after: 0, isComplete: false }, 100_000);
  const foreign = c.frame(c.replica.self, { after: 0, isComplete: false }, 100_000).records[0]!;
  const stored = a.replica.records(KEYS[0]!)[0]!;
  const beyond = encodeRecord(
    { reach: stored.reach, seq: 9, hlc: 9, filterSeq: 1, firstSeq: 1, principal: "" },
    { body: BODY.EXPIRED, key: keyParts(K) },
  );
  const bad = [...frame.records, foreign, beyond, new Uint8Array([1, 2, 3])];
  const applied = b.apply({ ...frame, through: 3, records: bad }, T);
  expect(applied.kind === "applied" && applied.refused.map((error) => error.message)).toEqual([
    "invalid_argument: node_id: c is not the frame's origin a",
    "invalid_argument: seq: 9 is outside the frame's range 0 to 3",
    expect.stringContaining("invalid_argument"),
  ]);
  expect([b.replica.lookup.size, b.replica.origins.get("a/1")?.through]).toEqual([2, 3]);
  const held = [...KEYS].reduce((sum, key) => sum + b.replica.records(key).reduce((s, r) => s + Math.ceil(r.sizeBytes / 16) * 16, 0), 0);
  expect(b.replica.slab.stats().usedBytes).toBe(held);
});

test("a node says of itself alone where it is: what it says of another one is refused", () => {
  const stamper = new EntryStamper({ bounds: BOUNDS, traits: new TraitsPool(16) });
  const b = new FabricComponent("b");
  const recordOf = (nodeId: string, seq: number) => {
    const entry = nodeEntry({ nodeId, name: undefined, roles: [], resources: [], labels: {}, dnsZones: [], listeners: {} });
    const { content } = stamper.entryOfNode(entry, { ...PLACE, nodeId: "a" });
    const bytes = finishEntry(content, { registeredWallMs: 1, updatedWallMs: 1, load: undefined });
    const stamps = { reach: SCOPE.REGION, seq, hlc: seq, filterSeq: 1, firstSeq: seq, principal: "" } as const;
    return encodeRecord(stamps, { body: BODY.ENTRY, entry: bytes });
  };
  const records = ["a", "b", "c"].map((nodeId, i) => recordOf(nodeId, i + 1));
  const frame = { nodeId: "a", generation: 1, after: 0, through: 3, records, isComplete: false, isLast: false, floor: 0 };
  const applied = b.apply(frame, T);
  expect(applied.kind === "applied" && applied.refused.map(({ message }) => message.split(" in ")[0])).toEqual([
    "invalid_argument: key.name: b",
    "invalid_argument: key.name: c",
  ]);
  expect([b.replica.lookup.size, b.replica.origins.get("a/1")?.through]).toEqual([1, 3]);
});

test.for([
  { isComplete: false, isLast: false },
  { isComplete: true, isLast: true },
])("a key that is in a frame twice is taken once, and its origin is not whole: no honest frame has it twice (%o)", (kind) => {
  const b = new FabricComponent("b");
  const key = keyParts(K);
  const written = (seq: number) =>
    encodeRecord({ reach: SCOPE.REGION, seq, hlc: seq, filterSeq: 1, firstSeq: 1, principal: "" }, { body: BODY.EXPIRED, key });
  const frame = { nodeId: "a", generation: 1, after: 0, through: 500, ...kind, floor: 0 };
  const records = Array.from({ length: 500 }, (_, i) => written(i + 1));
  const before = b.replica.revision;
  const applied = b.receiver.apply({ ...frame, records }, T);
  expect(applied.kind === "applied" && [applied.changedCount, applied.refused.length, b.replica.revision - before]).toEqual([1, 499, 1]);
  expect(applied.kind === "applied" && applied.refused[0]?.message).toContain("key: appears twice in the frame");
  const origin = b.replica.origins.get("a/1");
  expect([origin?.through, origin?.lacks?.count]).toEqual([500, 499]);
});

test("so is a key that is twice in a whole transfer which says nothing new", () => {
  const b = new FabricComponent("b");
  const key = keyParts(K);
  const written = (seq: number) =>
    encodeRecord({ reach: SCOPE.REGION, seq, hlc: seq, filterSeq: 1, firstSeq: 1, principal: "" }, { body: BODY.UNREGISTERED, key });
  const frame = { nodeId: "a", generation: 1, after: 0, through: 500, floor: 0 };
  b.receiver.apply({ ...frame, isComplete: false, isLast: false, records: [] }, T);
  const records = Array.from({ length: 400 }, (_, i) => written(i + 1));
  const applied = b.receiver.apply({ ...frame, isComplete: true, isLast: false, records }, T);
  expect(applied.kind === "applied" && [applied.changedCount, applied.refused.length]).toEqual([0, 399]);
});

test("frames of this node's own origin are refused, whatever they say", () => {
  const a = new FabricComponent("a");
  put(a);
  const frame = a.frame(a.replica.self, { after: 0, isComplete: false }, 100_000);
  expect(a.apply({ ...frame, through: 99 }, T)).toEqual({ kind: "refused" });
  expect(a.replica.self.through).toBe(1);
});

test("Why: an unregister that arrives while this node's own is on its way to the disk ends it as well", () => {
  const [a, b] = [new FabricComponent("a"), new FabricComponent("b")];
  put(b, K, 0, timeOf(1, 0));
  b.end(K, BODY.UNREGISTERED, timeOf(9, 0));
  b.commit(timeOf(9, 0));
  a.put(K, 0, timeOf(2, 0));
  const frame = b.frame(b.replica.self, { after: 0, isComplete: false }, 100_000);
  const applied = a.receive(frame, timeOf(9, 0), b);
  expect(applied.kind === "applied" && applied.superseded.map((stored) => stored.key)).toEqual([K]);
});

test.each([
  { what: "end", stage: (a: FabricComponent) => a.end(K, BODY.UNREGISTERED, timeOf(9, 1)) },
  { what: "newer entry", stage: (a: FabricComponent) => a.put(K, 1, timeOf(9, 1)) },
])("Why: an unregister that arrives while this node's own $what is on its way ends what stands again when that is refused", ({ stage }) => {
  const [a, b] = [new FabricComponent("a"), new FabricComponent("b")];
  put(a);
  b.copy(a, "a/1", T);
  end(b, K, BODY.UNREGISTERED);
  stage(a);
  const frame = b.frame(b.replica.self, { after: 0, isComplete: false }, 100_000);
  const applied = a.receiver.apply(frame, T);
  expect(applied.kind === "applied" && applied.superseded.map((stored) => stored.key)).toEqual([K]);
});

test("Why: what an arriving unregister hides of this node's own is handed to its lease to be ended", () => {
  const [a, b] = [new FabricComponent("a"), new FabricComponent("b")];
  put(a);
  b.copy(a, "a/1", T);
  end(b, K, BODY.UNREGISTERED);
  const frame = b.frame(b.replica.self, { after: 0, isComplete: false }, 100_000);
  const applied = a.apply(frame, T);
  expect(applied.kind === "applied" && applied.superseded.map((stored) => stored.key)).toEqual([K]);
  expect(a.replica.view(K)).toBeUndefined();
});

test.each([
  { what: "a newer order than its own", ownHlc: 6, isHeard: true },
  { what: "the order that it goes by", ownHlc: 7, isHeard: false },
  { what: "an older order than its own", ownHlc: 8, isHeard: false },
])("a record with $what about a live key of this node: looked at $isHeard", ({ ownHlc, isHeard }) => {
  const [a, b] = [new FabricComponent("a"), new FabricComponent("b")];
  const ordersOf = (hlc: number) => ({ operators: { hlc, isOn: true, reason: "", untilMs: 0, giver: "" } });
  a.put(K, 0, timeOf(2, 0));
  a.commit(timeOf(2, 0));
  const own = a.replica.own(K)!;
  a.replica.stagePut({
    ...plain(own),
    orders: ordersOf(ownHlc),
    bytes: a.replica.slab.view(own.at, own.sizeBytes).slice(),
    isFilterChange: false,
  });
  a.commit(timeOf(2, 0));
  put(b);
  const ended = b.replica.own(K)!;
  b.replica.stageTombstone(ended, BODY.EXPIRED, ended.hlc, ordersOf(7));
  b.commit(T);
  const applied = a.receive(b.frame(b.replica.self, { after: 0, isComplete: false }, 100_000), T, b);
  expect(applied.kind === "applied" && applied.superseded.map((stored) => stored.key)).toEqual(isHeard ? [K] : []);
  // The order goes on to others, with the tombstone, and stays with it.
  expect(a.replica.records(K).map(({ orders }) => orders?.operators?.hlc)).toEqual([ownHlc, 7]);
});

test("Why: what this node put with the very stamp of an arriving unregister is shown, so it is not ended", () => {
  const [a, b] = [new FabricComponent("a"), new FabricComponent("b")];
  put(a, K, 0, timeOf(9, 0));
  put(b, K, 0, timeOf(1, 0));
  b.end(K, BODY.UNREGISTERED, timeOf(9, 0));
  b.commit(timeOf(9, 0));
  expect(b.replica.records(K)[0]?.hlc).toBe(a.replica.own(K)?.hlc);
  const applied = a.receive(b.frame(b.replica.self, { after: 0, isComplete: false }, 100_000), timeOf(9, 0), b);
  expect([applied.kind === "applied" && applied.superseded, a.replica.view(K)?.origin.id]).toEqual([[], "a/1"]);
});
