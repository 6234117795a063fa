import { expect, test } from "vitest";
import {
  blockOf,
  headerBlock,
  headerFault,
  KIND,
  originBlock,
  readBlock,
  readHeader,
  readOrigin,
} from "../../src/fabric/snapshot-codec.ts";

const STARTS = [{ nodeId: "n9", generation: 7, boot: "b", address: "n9:1" }];
const HEADER = { nodeId: "n1", clusterId: "c1", savedWallMs: 1000, lost: [], forgotten: ["n9/1"], starts: STARTS };
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
  expect(headerFault(block, { ...SELF, nodeId: "n2" })).toBe("it is of the node n1");
  expect(headerFault(block, { ...SELF, clusterId: "c2" })).toBe("it is of the cluster c1");
  expect(headerFault({ ...block, kind: KIND.ORIGIN }, SELF)).toBe("it does not begin with a header");
  const newer = new TextEncoder().encode(JSON.stringify({ ...HEADER, format: 2 }));
  expect(headerFault({ ...block, payload: newer }, SELF)).toContain("the format 2, which this version of waymark does not know");
});

test("an origin comes back as it was", () => {
  const origin = { nodeId: "n2", generation: 7, clusterId: "c1", region: "r1", life: "hidden", absentWallMs: 5 } as const;
  const block = readBlock(originBlock(3, origin), 0, 3);
  if (block === undefined) throw new Error("there is a block");
  expect(readOrigin(block)).toEqual(origin);
});
