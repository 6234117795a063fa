/** The vector as links report it: what moved. */
import { expect, test } from "vitest";
import { hashOf, shortHash, VersionVector } from "../../../src/fabric/replication/version-vector.ts";

const HOME = { clusterId: "c1", region: "r1" };
const READERS = [
  { nodeId: "b", clusterId: "c1", region: "r1" },
  { nodeId: "x", clusterId: "c2", region: "r1" },
  { nodeId: "y", clusterId: "c2", region: "r2" },
] as const;

function origin(nodeId: string, clusterId = "c1", floor = 0) {
  return { id: `${nodeId}/1`, nodeId, generation: 1, clusterId, region: "r1", floor };
}

test.each([
  { reader: READERS[0], relation: "of the cluster", want: ["a/1", "p/1", "q/1"] },
  { reader: READERS[1], relation: "of another cluster: nothing of its own, nothing of unknown place", want: ["a/1"] },
  { reader: READERS[2], relation: "of another region", want: [] },
])("Why: a reader $relation is named $want", ({ reader, want }) => {
  const vector = new VersionVector(HOME);
  vector.note(origin("a"), 1);
  vector.note(origin("p", "c2"), 1);
  vector.note(origin("q", ""), 1);
  expect(vector.entriesSince(0, reader).map(({ nodeId, generation }) => `${nodeId}/${generation}`)).toEqual(want);
});

test("only what moved since is told, once, in its newest state", () => {
  const vector = new VersionVector(HOME);
  vector.note(origin("a"), 1);
  vector.note(origin("b"), 1);
  const { order } = vector;
  expect(vector.note(origin("a"), 1)).toBe(false);
  vector.note(origin("a"), 2);
  vector.note(origin("a", "c1", 2), 3);
  expect(vector.entriesSince(order, READERS[0])).toEqual([{ nodeId: "a", generation: 1, seq: 3, floor: 2 }]);
  expect(vector.entriesSince(vector.order, READERS[0])).toEqual([]);
});

test("what is forgotten is told as 0", () => {
  const vector = new VersionVector(HOME);
  vector.note(origin("a"), 5);
  const { order } = vector;
  vector.drop("a/1");
  vector.drop("unknown/1");
  expect(vector.entriesSince(order, READERS[0])).toEqual([{ nodeId: "a", generation: 1, seq: 0, floor: 0 }]);
  expect(vector.note(origin("b"), 0)).toBe(false);
});

test("gone origins are remembered up to a bound", () => {
  const vector = new VersionVector(HOME);
  for (let n = 0; n < 1500; n++) {
    vector.note(origin(`n${n}`), 1);
    vector.drop(`n${n}/1`);
  }
  expect(vector.entriesSince(0, READERS[0]).length).toBe(1000);
});

test("an origin whose place becomes known later is told to other clusters then", () => {
  const vector = new VersionVector(HOME);
  vector.note(origin("q", ""), 4);
  expect(vector.entriesSince(0, READERS[1])).toEqual([]);
  vector.note(origin("q", "c3"), 4);
  expect(vector.entriesSince(0, READERS[1])).toEqual([{ nodeId: "q", generation: 1, seq: 4, floor: 0 }]);
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
  const vector = new VersionVector(HOME);
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
  const vector = new VersionVector(HOME);
  vector.note(origin("a"), 1);
  for (const nodeId of ["a", ...Array.from({ length: 1000 }, (_, i) => `n${i}`)]) {
    vector.note(origin(nodeId), 1);
    vector.drop(`${nodeId}/1`);
  }
  expect(vector.findShort(shortHash("a/1"))).toBeUndefined();
  vector.note(origin("a"), 2);
  expect(vector.findShort(shortHash("a/1"))).toMatchObject({ nodeId: "a", seq: 2 });
});
