/** The vector as links tell it: what moved, and a digest of the whole that needs no walk. */
import fc from "fast-check";
import { expect, test } from "vitest";
import { entryHash, hashOf, shortHash, Vector } from "../../../src/fabric/replication/version-vector.ts";
import { Sum64 } from "../../../src/lib/hash64.ts";

const HOME = { clusterId: "c1", region: "r1" };
const READERS = [
  { nodeId: "b", clusterId: "c1", region: "r1" },
  { nodeId: "x", clusterId: "c2", region: "r1" },
  { nodeId: "y", clusterId: "c2", region: "r2" },
] as const;

function origin(nodeId: string, clusterId = "c1", floor = 0) {
  return { id: `${nodeId}/1`, nodeId, generation: 1, clusterId, region: "r1", floor };
}

test("the digest is that of the entries a link may carry, whatever happened in whatever order", () => {
  const step = fc.record({ node: fc.nat(6), seq: fc.nat(5), isGone: fc.boolean() });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      const vector = new Vector(HOME);
      for (const { node, seq, isGone } of steps) {
        const of = origin(`n${node}`, ["c1", "c2", "c3", ""][node % 4]);
        if (isGone) vector.drop(of.id);
        else vector.note(of, seq);
      }
      for (const reader of READERS) {
        const sum = new Sum64();
        for (const { nodeId, generation, seq } of vector.entriesSince(0, reader)) sum.add(entryHash(`${nodeId}/${generation}`, seq));
        expect(vector.digest(reader)).toBe(sum.value);
      }
    }),
  );
});

test.each([
  { reader: READERS[0], relation: "of the cluster", want: ["a/1", "p/1", "q/1"] },
  { reader: READERS[1], relation: "of another cluster: nothing of its own, nothing of unknown place", want: ["a/1"] },
  { reader: READERS[2], relation: "of another region", want: [] },
])("Why: a reader $relation is named $want", ({ reader, want }) => {
  const vector = new Vector(HOME);
  vector.note(origin("a"), 1);
  vector.note(origin("p", "c2"), 1);
  vector.note(origin("q", ""), 1);
  expect(vector.entriesSince(0, reader).map(({ nodeId, generation }) => `${nodeId}/${generation}`)).toEqual(want);
});

test("only what moved since is told, once, in its newest state", () => {
  const vector = new Vector(HOME);
  vector.note(origin("a"), 1);
  vector.note(origin("b"), 1);
  const { order } = vector;
  expect(vector.note(origin("a"), 1)).toBe(false);
  vector.note(origin("a"), 2);
  vector.note(origin("a", "c1", 2), 3);
  expect(vector.entriesSince(order, READERS[0])).toEqual([{ nodeId: "a", generation: 1, seq: 3, floor: 2 }]);
  expect(vector.entriesSince(vector.order, READERS[0])).toEqual([]);
});

test("what is forgotten is told as 0, and counts for nothing", () => {
  const vector = new Vector(HOME);
  vector.note(origin("a"), 5);
  const { order } = vector;
  vector.drop("a/1");
  vector.drop("unknown/1");
  expect(vector.entriesSince(order, READERS[0])).toEqual([{ nodeId: "a", generation: 1, seq: 0, floor: 0 }]);
  expect(vector.digest(READERS[0])).toBe(0n);
  expect(vector.note(origin("b"), 0)).toBe(false);
});

test("gone origins are remembered up to a bound", () => {
  const vector = new Vector(HOME);
  for (let n = 0; n < 1500; n++) {
    vector.note(origin(`n${n}`), 1);
    vector.drop(`n${n}/1`);
  }
  expect(vector.entriesSince(0, READERS[0]).length).toBe(1000);
});

test("an origin whose place becomes known later is told to other clusters then", () => {
  const vector = new Vector(HOME);
  vector.note(origin("q", ""), 4);
  expect(vector.digest(READERS[1])).toBe(0n);
  vector.note(origin("q", "c3"), 4);
  expect(vector.digest(READERS[1])).toBe(vector.digest(READERS[0]));
});

test("the hash is part of the protocol: its values stand", () => {
  expect([hashOf("", 0), hashOf("a/1", 1), hashOf("svc\0db\u00001", 2 ** 40 + 5)]).toMatchInlineSnapshot(`
    [
      {
        "high": 2089568200,
        "low": 1102608451,
      },
      {
        "high": 617817048,
        "low": 2455448256,
      },
      {
        "high": 2803739858,
        "low": 2660942467,
      },
    ]
  `);
});

/** Their origins have one short hash. */
const ALIKE = ["n696399", "n898030"] as const;

test("of two origins with one short hash each is found as its cluster's; two of one cluster are told apart by nothing", () => {
  const [ours, theirs] = ALIKE;
  const hash = shortHash(`${ours}/1`);
  expect(shortHash(`${theirs}/1`)).toBe(hash);
  const vector = new Vector(HOME);
  const found = () => [vector.findShort(hash), vector.findShortOf(hash, "c1", true), vector.findShortOf(hash, "c1", false)];
  const names = () => found().map((mark) => mark?.nodeId);
  expect(names()).toEqual([undefined, undefined, undefined]);
  vector.note(origin(ours), 1);
  expect(names()).toEqual([ours, ours, undefined]);
  vector.note(origin(theirs, "c2"), 1);
  expect(names()).toEqual([undefined, ours, theirs]);
  vector.note(origin(theirs, "c1"), 2);
  expect(names()).toEqual([undefined, undefined, undefined]);
});

test("an origin that went so long ago that it is forgotten is found when it is back, once", () => {
  const vector = new Vector(HOME);
  vector.note(origin("a"), 1);
  for (const nodeId of ["a", ...Array.from({ length: 1000 }, (_, i) => `n${i}`)]) {
    vector.note(origin(nodeId), 1);
    vector.drop(`${nodeId}/1`);
  }
  expect(vector.findShort(shortHash("a/1"))).toBeUndefined();
  vector.note(origin("a"), 2);
  expect(vector.findShort(shortHash("a/1"))).toMatchObject({ nodeId: "a", seq: 2 });
});
