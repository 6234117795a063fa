import fc from "fast-check";
import { expect, test } from "vitest";
import { EntryStamper } from "../../../src/catalog/entry/codec.ts";
import { isName } from "../../../src/catalog/entry/names.ts";
import { BODY, type OriginStatus } from "../../../src/catalog/record/record.ts";
import { TraitsPool } from "../../../src/catalog/record/traits.ts";
import type { Replica } from "../../../src/catalog/replica/replica.ts";
import { KIND, readLostKeys } from "../../../src/fabric/snapshot/codec.ts";
import { nodesInSnapshot, readSnapshot, restoreSnapshot, snapshotBlocks } from "../../../src/fabric/snapshot/snapshot.ts";
import { WaymarkError } from "../../../src/lib/errors.ts";
import { runThrough } from "../../../src/lib/machine.ts";
import { runs } from "../../fakes/effort.ts";
import { asReceived } from "../../fakes/fabric-messages.ts";
import { timeOf } from "../../fakes/history.ts";
import { FabricComponent, KEYS } from "../../fakes/mesh.ts";
import { BOUNDS } from "../../fakes/options.ts";
import { resealed, saying } from "../../fakes/resealed.ts";

const parts = { stamper: new EntryStamper({ bounds: BOUNDS, traits: new TraitsPool(1024) }), bounds: BOUNDS };
const SELF = { nodeId: "n1", clusterId: "" };

/** As a node does it: some blocks a turn, with `between` in the turns. */
function save(node: FabricComponent, between: (n: number) => void = () => undefined): Uint8Array {
  const stateOf = ({ life }: { life: OriginStatus }) => ({ life, absentWallMs: life === "live" ? undefined : 77 });
  const blocks: Uint8Array[] = [];
  for (const block of snapshotBlocks(node.replica, { ...SELF, savedWallMs: 1000, starts: [], sourceAges: [] }, stateOf, 300)) {
    blocks.push(block);
    between(blocks.length);
  }
  return Uint8Array.from(Buffer.concat(blocks));
}

function restore(node: FabricComponent, bytes: Uint8Array, isForeign?: (place: { clusterId: string }) => boolean) {
  const read = runThrough(readSnapshot(bytes, SELF));
  if (!read.ok) throw new Error(read.fault);
  return runThrough(restoreSnapshot(read.snapshot, { ...parts, replica: node.replica, isForeign }, timeOf(0, 0)));
}

/** What a replica holds of others. */
function contentOf({ origins, self }: Replica) {
  return [...origins.values()]
    .filter((origin) => origin !== self)
    .map(({ id, life, through, floor, clusterId, region, log }) => ({
      place: [id, life, through, floor, clusterId, region],
      records: log.list().map(({ key, seq, hlc, firstSeq, filterSeq, body, reach, principal }) => [
        [key, seq, hlc, firstSeq],
        [filterSeq, body, reach, principal],
      ]),
    }));
}

function viewOf({ lookup }: Replica) {
  const cursor = lookup.cursor();
  const keys: string[] = [];
  for (let record = cursor.next(); record !== undefined; record = cursor.next())
    keys.push(`${record.key} ${record.origin.id} ${record.seq}`);
  return keys;
}

/** Three nodes; the first knows all. */
function mesh() {
  const nodes = ["n1", "n2", "n3"].map((id) => new FabricComponent(id)) as [FabricComponent, FabricComponent, FabricComponent];
  const [first, ...others] = nodes;
  others.forEach((node, i) => {
    KEYS.forEach((key, n) => {
      if (n % 2 === i) node.put(key, n, timeOf(n, 0));
    });
    node.commit(timeOf(1, 0));
    first.copy(node, node.replica.self.id, timeOf(2, 0));
  });
  return nodes;
}

test("after a restart a snapshot brings back what others told, with the vector, floors, lives and places", () => {
  const [n1, n2] = mesh();
  n2.end(KEYS[0]!, BODY.UNREGISTERED, timeOf(3, 0));
  n2.commit(timeOf(3, 0));
  n1.copy(n2, "n2/1", timeOf(3, 0));
  n1.setLife("n3/1", "hidden");
  const [before, seen] = [contentOf(n1.replica), viewOf(n1.replica)];
  const bytes = save(n1);
  n1.restart(timeOf(4, 0), "disk kept");
  expect(contentOf(n1.replica)).toEqual([]);
  const restored = restore(n1, bytes);
  expect(contentOf(n1.replica)).toEqual(before);
  expect(viewOf(n1.replica)).toEqual(seen);
  expect(restored).toMatchObject({ recordCount: 16, refusedCount: 0, superseded: [], absentWallMs: new Map([["n3/1", 77]]) });
  expect(restored.maxHlc).toBeGreaterThan(0);
  // Only the difference is to be had from a peer.
  n2.put(KEYS[0]!, 1, timeOf(5, 0));
  n2.commit(timeOf(5, 0));
  const after = n1.replica.origins.get("n2/1")?.through ?? 0;
  expect(n2.frame(n2.replica.self, { after, isComplete: false }, 1e6).records).toHaveLength(1);
});

test("below the floor it is a whole transfer, also to itself", () => {
  const [n1, n2] = mesh();
  for (const key of KEYS.slice(0, 12)) {
    n2.end(key, BODY.UNREGISTERED, timeOf(3, 0));
    n2.commit(timeOf(3, 0));
  }
  n1.copy(n2, "n2/1", timeOf(3, 0));
  n1.collect(timeOf(1_000_000, 0));
  expect(n1.replica.origins.get("n2/1")?.floor).toBeGreaterThan(0);
  const before = contentOf(n1.replica);
  const bytes = save(n1);
  n1.restart(timeOf(4, 0), "disk kept");
  restore(n1, bytes);
  expect(contentOf(n1.replica)).toEqual(before);
});

test("forgotten origins stay forgotten", () => {
  const [n1, n2] = mesh();
  n1.forget("n2/1", timeOf(3, 0));
  const bytes = save(n1);
  n1.restart(timeOf(4, 0), "disk kept");
  restore(n1, bytes);
  expect([...n1.replica.forgotten.keys()]).toEqual(["n2/1"]);
  expect(n1.receiver.apply(n2.frame(n2.replica.self, { after: 0, isComplete: false }, 1e6), timeOf(5, 0)).kind).toBe("refused");
});

test("an own record that another's unregistering hid is told of again", () => {
  const [n1, n2] = mesh();
  const key = KEYS[0]!;
  n1.put(key, 0, timeOf(1, 0));
  n1.commit(timeOf(1, 0));
  n2.end(key, BODY.UNREGISTERED, timeOf(50, 0));
  n2.commit(timeOf(50, 0));
  n1.copy(n2, "n2/1", timeOf(51, 0));
  const bytes = save(n1);
  n1.restart(timeOf(5, 0), "disk kept");
  expect(restore(n1, bytes).superseded.map((stored) => stored.key)).toEqual([key]);
});

test("cut anywhere, changed anywhere, or of another node, cluster or format it is of no use, and nothing is changed", () => {
  const [n1] = mesh();
  const bytes = save(n1);
  fc.assert(
    fc.property(fc.nat(), fc.integer({ min: 1, max: 255 }), (any, flip) => {
      const at = any % bytes.length;
      expect(runThrough(readSnapshot(bytes.subarray(0, at), SELF)).ok).toBe(false);
      const changed = bytes.slice();
      changed[at] = (changed[at] ?? 0) ^ flip;
      expect(runThrough(readSnapshot(changed, SELF)).ok).toBe(false);
    }),
    { numRuns: runs(300) },
  );
  expect(runThrough(readSnapshot(bytes, { nodeId: "n2", clusterId: "" }))).toEqual({ ok: false, fault: "it belongs to node n1" });
  expect(runThrough(readSnapshot(bytes, { nodeId: "n1", clusterId: "x" }))).toEqual({ ok: false, fault: "it belongs to cluster " });
  expect(runThrough(readSnapshot(new Uint8Array(), SELF))).toEqual({ ok: false, fault: "it is truncated: its last block is missing" });
});

test("whatever changes between two blocks, what is restored is what a peer would have made of the same frames", () => {
  const change = fc.record({ key: fc.nat(KEYS.length - 1), what: fc.constantFrom("put", "end", "expire", "collect"), at: fc.nat(20) });
  fc.assert(
    fc.property(fc.array(change, { maxLength: 30 }), (changes) => {
      const [n1, n2, n3] = mesh();
      const bytes = save(n1, (n) => {
        for (const { key, what } of changes.filter(({ at }) => at === n)) {
          const time = timeOf(100 * n, 0);
          if (what === "put") n2.put(KEYS[key]!, n + key, time);
          else if (what === "collect") n1.collect(timeOf(1_000_000, 0));
          else n2.end(KEYS[key]!, what === "end" ? BODY.UNREGISTERED : BODY.EXPIRED, time);
          n2.commit(time);
          n1.copy(n2, "n2/1", time);
        }
      });
      n1.restart(timeOf(1, 0), "disk kept");
      restore(n1, bytes);
      // The rest comes by link; then all is as at a node that has been there throughout.
      for (const peer of [n2, n3]) n1.copy(peer, peer.replica.self.id, timeOf(2, 0));
      expect(viewOf(n1.replica)).toEqual(expected(n2, n3));
    }),
    { numRuns: runs(200) },
  );
});

function expected(n2: FabricComponent, n3: FabricComponent): readonly string[] {
  const fresh = new FabricComponent("n9");
  for (const peer of [n2, n3]) fresh.copy(peer, peer.replica.self.id, timeOf(2, 0));
  return viewOf(fresh.replica);
}

test("the nodes a snapshot tells of are known without restoring it; of one that is cut nobody is", () => {
  const [first] = mesh();
  const bytes = save(first);
  expect(new Set(nodesInSnapshot(bytes))).toEqual(new Set(["n2", "n3"]));
  expect(nodesInSnapshot(save(new FabricComponent("n1")))).toEqual([]);
  expect(nodesInSnapshot(bytes.subarray(0, bytes.length - 1))).toBeUndefined();
});

test("of a cluster that is not let in any more nothing is restored", () => {
  const [n1] = mesh();
  for (const [id, clusterId] of [
    ["n2/1", "c2"],
    ["n3/1", "c3"],
  ] as const)
    Object.assign(n1.replica.origins.get(id) ?? {}, { clusterId, region: "r1" });
  const bytes = save(n1);
  const origins = (isForeign?: (place: { clusterId: string }) => boolean) => {
    const again = new FabricComponent("n1");
    const { refusedCount } = restore(again, bytes, isForeign);
    return [[...again.replica.origins.keys()], refusedCount];
  };
  expect(origins()[0]).toEqual(["n1/1", "n2/1", "n3/1"]);
  expect(origins(({ clusterId }) => clusterId === "c2")[0]).toEqual(["n1/1", "n3/1"]);
  expect(origins(() => true)).toEqual([["n1/1"], 0]);
});

test.each([
  { what: "of a node that was right as of 1970, with what its clock was put right by since", savedWallMs: 0.35 },
  { what: "of a node that was alone for long", savedWallMs: 60 },
])("who was away is away since it went, not since when what is held was right: $what", ({ savedWallMs }) => {
  const [n1] = mesh();
  n1.setLife("n3/1", "hidden");
  const bytes = resealed(save(n1), saying(KIND.HEADER, { savedWallMs }));
  n1.restart(timeOf(4, 0), "disk kept");
  expect(restore(n1, bytes).absentWallMs).toEqual(new Map([["n3/1", 77]]));
});

test.each([
  { what: "and still is", isWholeAgain: false },
  { what: "and is whole again before the last block", isWholeAgain: true },
])("an origin of which a record is refused while it is written is partial after the restart: $what", ({ isWholeAgain }) => {
  const [n1] = mesh();
  const bytes = save(n1, (n) => {
    const origin = n1.replica.origins.get("n2/1");
    if (origin === undefined) throw new Error("an origin");
    // The header and the origin's own block are written by then.
    if (n === 2) origin.lacks = { count: 1, why: "quota_exceeded" };
    if (n === 3 && isWholeAgain) origin.lacks = undefined;
  });
  n1.restart(timeOf(4, 0), "disk kept");
  restore(n1, bytes);
  expect([...n1.replica.origins.values()].filter(({ lacks }) => lacks !== undefined).map(({ id }) => id)).toEqual(["n2/1"]);
});

test("of what was refused before a restart it is only known that something was, until a record is refused again: that one is the first", () => {
  const [n1] = mesh();
  const originOf = () => n1.replica.origins.get("n2/1") ?? expect.fail();
  originOf().lacks = { count: 7, why: "quota_exceeded" };
  const bytes = save(n1);
  n1.restart(timeOf(4, 0), "disk kept");
  restore(n1, bytes);
  const origin = originOf();
  expect(origin.lacks).toMatchObject({ count: 1, why: "records were refused before this node restarted" });
  const refuse = () => {
    const { nodeId, generation, through: after } = origin;
    const numbers = { after, through: after + 1, floor: 0, isComplete: false, isLast: false };
    n1.receiver.apply({ nodeId, generation, ...numbers, records: [Uint8Array.of(255)] }, timeOf(5, 0));
    return origin.lacks;
  };
  const first = refuse();
  expect([first?.count, first?.why]).toEqual([1, expect.not.stringMatching(/before this node|^$/)]);
  expect(refuse()).toEqual({ ...first, count: 2 });
});

/** Whatever JSON can say. */
const ANY_VALUE = fc.oneof(
  fc.constantFrom(0, -1, 0.5, 1e300, 2 ** 52, 2 ** 53, "", "n1", "n3", "x".repeat(5000), "two words", "live", true),
  fc.jsonValue({ maxDepth: 2 }),
  fc.constantFrom([["n2/1", "n1/1"]], [{ nodeId: "n2", generation: 1, through: 3, mark: 0 }], [[]], [{ nodeId: 5 }]),
);
const HEADER_FIELDS = ["savedWallMs", "forgotten", "lost", "format"];
const ORIGIN_FIELDS = ["nodeId", "generation", "clusterId", "region", "life", "absentWallMs", "isOver", "isPartial", "isAtHome"];

test("whatever header and origins say, a snapshot is of no use, or what comes of it can be told, saved and restored again", () => {
  const bytes = save(mesh()[0]);
  const said = fc.record({ field: fc.constantFrom(...HEADER_FIELDS, ...ORIGIN_FIELDS), value: ANY_VALUE });
  fc.assert(
    fc.property(said, ({ field, value }) => {
      const kind = HEADER_FIELDS.includes(field) ? KIND.HEADER : KIND.ORIGIN;
      const poisoned = resealed(bytes, saying(kind, { [field]: value }));
      const nodes = nodesInSnapshot(poisoned);
      const read = runThrough(readSnapshot(poisoned, SELF));
      const [n1] = mesh();
      n1.restart(timeOf(4, 0), "disk kept");
      const own = viewOf(n1.replica);
      if (!read.ok) {
        expect(viewOf(n1.replica)).toEqual(own);
        return;
      }
      expect(nodes).toBeDefined();
      runThrough(restoreSnapshot(read.snapshot, { ...parts, replica: n1.replica }, timeOf(4, 0)));
      expect(n1.replica.self.life).toBe("live");
      for (const { nodeId, generation, through: seq, floor } of n1.replica.origins.values()) {
        const vector = {
          kind: "vector",
          entries: [{ nodeId, generation, seq, floor }],
          digest: 0n,
          isPartial: true,
          isWanted: false,
        } as const;
        expect(asReceived(vector)).toMatchObject({ entries: [{ nodeId, generation, seq, floor }] });
      }
      expect(n1.replica.lost.list.every(({ nodeId }) => isName(nodeId, 64))).toBe(true);
      expect(runThrough(readSnapshot(save(n1), SELF)).ok).toBe(true);
    }),
    { numRuns: runs(400) },
  );
});

test("what a snapshot says of this very origin is left: its journal says it", () => {
  const [n1] = mesh();
  const bytes = resealed(save(n1), saying(KIND.ORIGIN, { nodeId: "n1", generation: 1, life: "hidden", isPartial: true }));
  n1.restart(timeOf(4, 0), "disk kept");
  const before = viewOf(n1.replica);
  restore(n1, bytes);
  expect([n1.replica.self.life, n1.replica.self.lacks, viewOf(n1.replica)]).toEqual(["live", undefined, before]);
});

test("of which origins the nodes said themselves where they are at home is known after a restart", () => {
  const [n1] = mesh();
  const [said] = [...n1.replica.origins.values()].filter(({ id }) => id === "n2/1");
  if (said === undefined) throw new Error("n1 knows n2");
  said.isAtHome = true;
  const bytes = save(n1);
  n1.restart(timeOf(4, 0), "disk kept");
  restore(n1, bytes);
  expect(["n2/1", "n3/1"].map((id) => n1.replica.origins.get(id)?.isAtHome)).toEqual([true, undefined]);
});

test("keys of lost origins are restored; a block of them that no version writes spoils the snapshot", () => {
  const [n1, again] = [new FabricComponent("n1"), new FabricComponent("n1")];
  for (const nodeId of ["x", "y"]) n1.replica.lost.note({ nodeId, generation: 1, through: 5, mark: 0 });
  n1.replica.lost.noteKeys("x/1", { through: 5, hashes: Uint32Array.from([3, 9]) });
  const bytes = save(n1);
  restore(again, bytes);
  expect([again.replica.lost.keysOf("x/1"), again.replica.lost.keysOf("y/1")]).toEqual([n1.replica.lost.keysOf("x/1"), undefined]);
  const block = (payload: Uint8Array) => ({ kind: KIND.LOST_KEYS, payload, end: 0 });
  for (const payload of [new Uint8Array(), new Uint8Array(9).fill(255), Buffer.from("\0\0\0\u0002{}"), Buffer.from("\0\0\0\u0002[]abc")])
    expect(() => readLostKeys(block(payload))).toThrow(WaymarkError);
});
