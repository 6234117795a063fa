import { expect, test } from "vitest";
import {
  headerBlock,
  headerFault,
  KIND,
  originBlock,
  readHeader,
  readOrigin,
  readRosterFile,
  rosterFile,
} from "../../../src/fabric/snapshot/codec.ts";
import { blockOf, readBlock } from "../../../src/lib/file-blocks.ts";

const STARTS = [{ nodeId: "n9", generation: 7, boot: "b", address: "n9:1" }];
const HEADER = { nodeId: "n1", clusterId: "c1", savedWallMs: 1000, lost: [], forgotten: ["n9/1"], starts: STARTS, sourceAges: [] };
const SELF = { nodeId: "n1", clusterId: "c1" };

test("a block comes back at its place and its index, and nowhere else", () => {
  const one = blockOf(0, KIND.FRAME, Uint8Array.of(1, 2, 3));
  const bytes = Uint8Array.from([...one, ...blockOf(1, KIND.END, new Uint8Array())]);
  const first = readBlock(bytes, 0, 0);
  expect(first).toMatchObject({ kind: KIND.FRAME, payload: Uint8Array.of(1, 2, 3), end: one.length });
  expect(readBlock(bytes, one.length, 1)).toMatchObject({ kind: KIND.END, end: bytes.length });
  for (const [at, index] of [
    [0, 1],
    [1, 0],
    [one.length, 0],
    [bytes.length, 2],
  ] as const)
    expect(readBlock(bytes, at, index)).toBeUndefined();
});

test("the bytes of a block stay what they are", () => {
  expect(Buffer.from(blockOf(2, KIND.FRAME, Uint8Array.of(7))).toString("hex")).toBe("00000001ff220acabb33fa99000000020307");
});

test("a header says whose snapshot it is; another node's, cluster's or format's is of no use", () => {
  const block = readBlock(headerBlock(0, HEADER), 0, 0);
  if (block === undefined) throw new Error("there is a block");
  expect(readHeader(block)).toEqual(HEADER);
  expect(headerFault(block, SELF)).toBe("");
  expect(headerFault(block, { ...SELF, nodeId: "n2" })).toBe("it belongs to node n1");
  expect(headerFault(block, { ...SELF, clusterId: "c2" })).toBe("it belongs to cluster c1");
  expect(headerFault({ ...block, kind: KIND.ORIGIN }, SELF)).toBe("it does not begin with a header");
  const newer = new TextEncoder().encode(JSON.stringify({ ...HEADER, format: 2 }));
  expect(headerFault({ ...block, payload: newer }, SELF)).toContain("its format 2 is not supported by this version of waymark");
});

test("an origin comes back as it was", () => {
  const origin = { nodeId: "n2", generation: 7, clusterId: "c1", region: "r1", life: "hidden", absentWallMs: 5 } as const;
  const block = readBlock(originBlock(3, origin), 0, 3);
  if (block === undefined) throw new Error("there is a block");
  expect(readOrigin(block)).toEqual(origin);
});

test("numbers that a peer made up are passed over, and the rest of a snapshot is read", () => {
  const lost = ["x", "y"].map((nodeId) => ({ nodeId, generation: 1, through: nodeId === "x" ? 2 ** 53 - 1 : 5, mark: 0 }));
  const header = readBlock(headerBlock(0, { ...HEADER, lost }), 0, 0);
  const place = { clusterId: "c1", region: "r1", life: "live", absentWallMs: undefined } as const;
  const origin = readBlock(originBlock(1, { nodeId: "n2", generation: 2 ** 53 - 1, ...place }), 0, 1);
  if (header === undefined || origin === undefined) throw new Error("there are blocks");
  expect([readHeader(header).lost, readOrigin(origin)]).toEqual([lost.slice(1), undefined]);
});

test("the members of a cluster come back from their file; another node's or cluster's, or one that was changed, is of no use", () => {
  const bytes = rosterFile(SELF, ["n2", "n3"]);
  expect(readRosterFile(bytes, SELF, 10)).toEqual(["n2", "n3"]);
  expect(() => readRosterFile(bytes, { ...SELF, nodeId: "n2" }, 10)).toThrow("it belongs to node n1");
  expect(() => readRosterFile(bytes, { ...SELF, clusterId: "c2" }, 10)).toThrow("it belongs to cluster c1");
  expect(() => readRosterFile(headerBlock(0, HEADER), SELF, 10)).toThrow("it is not a member list");
  for (const spoilt of [
    new Uint8Array(),
    bytes.subarray(0, -1),
    Uint8Array.from([...bytes, 0]),
    bytes.map((byte, i) => (i === 30 ? byte ^ 1 : byte)),
  ])
    expect(() => readRosterFile(spoilt, SELF, 10)).toThrow("it is truncated or modified");
});

test("of members that no version writes none is taken, and no more than there is room for", () => {
  const fileOf = (nodeIds: unknown) => blockOf(0, KIND.ROSTER, new TextEncoder().encode(JSON.stringify({ format: 1, ...SELF, nodeIds })));
  expect(readRosterFile(fileOf(["n2", 7, "", "a b", [], "x".repeat(1000), "n3", "n4"]), SELF, 2)).toEqual(["n2", "n3"]);
  for (const odd of [undefined, "n2", { length: 3 }, 7]) expect(readRosterFile(fileOf(odd), SELF, 2)).toEqual([]);
  expect(() => readRosterFile(blockOf(0, KIND.ROSTER, Uint8Array.of(1)), SELF, 2)).toThrow("it contains a block that is not JSON");
});
