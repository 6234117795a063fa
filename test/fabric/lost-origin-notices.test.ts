/** What is told of lost origins with tables of members. */

import { expect, test } from "vitest";
import { applyMarks } from "../../src/catalog/replica/lost-marks.ts";
import type { FabricOutput } from "../../src/fabric/io-types.ts";
import { LostWords } from "../../src/fabric/membership-part.ts";
import type { FabricCallRequest, FabricCallResponse, LostWord, MemberUpdate } from "../../src/fabric/wire/messages.ts";
import { NEVER } from "../../src/lib/machine.ts";
import { nodeRef, updateOf } from "../fakes/fabric-values.ts";
import { ReplicatingNode } from "../fakes/replication.ts";

const answer = (lost?: readonly LostWord[], clusterId = "c1"): FabricCallResponse => ({
  kind: "pushPull",
  from: { ...nodeRef("b"), clusterId },
  members: [],
  ...(lost !== undefined && { lost }),
});
const word = (nodeId: string, through: number, mark = 0, generation = 1): LostWord => ({ nodeId, generation, through, mark });

function bench(...members: readonly MemberUpdate[]) {
  return benchOf(new ReplicatingNode({ nodeId: "a" }), members);
}

/** What a turn of it brings the registrar. */
function turnOf(words: LostWords): readonly string[] {
  const out: FabricOutput[] = [];
  words.look({ monoMs: 0, wallMs: 0 }, out);
  return out.flatMap((output) => (output.kind === "superseded" ? output.keys : [output.kind]));
}

function benchOf(node: ReplicatingNode, members: readonly MemberUpdate[] = []) {
  const words = new LostWords({
    replica: node.replica,
    clusterId: "c1",
    members: { find: (nodeId) => members.find((member) => member.nodeId === nodeId) },
    replication: node.shared,
  });
  const said = (response: FabricCallResponse | undefined): readonly FabricOutput[] => {
    const out: FabricOutput[] = [];
    words.heard(response, node.timeOf(0), out);
    return out;
  };
  const hear = (...lost: readonly LostWord[]) => said(answer(lost));
  return { node, words, hear, said };
}

test("tables carry what is known, and nothing where nothing is; other calls carry none", () => {
  const { words, hear } = bench();
  const table = { kind: "answer", call: 1, response: answer() } as const;
  expect(words.told(table)).toBe(table);
  hear(word("x", 5));
  expect(words.told(table)).toEqual({ ...table, response: answer([word("x", 5)]) });
  const request = { kind: "pushPull", from: nodeRef("a"), isJoin: true, members: [] } as const;
  const call = { kind: "call", call: 2, to: "b:1", request, timeoutMs: 1 } as const;
  expect(words.told(call)).toEqual({ ...call, request: { ...request, lost: [word("x", 5)], takesLostKeys: true } });
  const probe = { kind: "answer", call: 3, response: { kind: "probe", from: nodeRef("a"), updates: [] } } as const;
  expect(words.told(probe)).toBe(probe);
});

test("a peer that says nothing changes nothing", () => {
  const { said, node } = bench();
  expect([said(answer()), said(undefined), node.replica.lost.list]).toEqual([[], [], []]);
});

test("of who is there only the mark is heard, of who has left or lives on in a later generation nothing", () => {
  const gone = updateOf("left", { status: "left" });
  const { node, hear } = bench(updateOf("there"), gone, updateOf("later", { generation: 2 }), updateOf("dead", { status: "dead" }));
  hear(word("there", 9, 4), word("left", 9, 4), word("later", 9, 4), word("dead", 9, 4), word("unknown", 9));
  expect(node.replica.lost.list).toEqual([word("there", 4, 4), word("dead", 9, 4), word("unknown", 9)]);
});

test("a node of another cluster knows nothing of what is lost here", () => {
  const { said, node } = bench(updateOf("there"));
  said(answer([word("there", 9, 4), word("unknown", 9)], "other"));
  expect(node.replica.lost.list).toEqual([]);
});

test("a mark of this node's own is for its registrar, once, some entries a turn, those that it does not cover left out", () => {
  const { node, hear, words } = bench();
  for (let n = 0; n < 600; n++) node.put(`web${n}`, 0);
  node.shared.changed(node.timeOf(0));
  const { nodeId, generation } = node.replica.self;
  const turn = () => turnOf(words);
  expect([turn(), words.nextDeadlineMs()]).toEqual([[], NEVER]);
  expect(hear(word(nodeId, 590, 590, generation))).toEqual([{ kind: "changed" }]);
  const turns: (readonly string[])[] = [];
  while (words.nextDeadlineMs() === 0) turns.push(turn());
  const keys = turns.flat();
  expect([turns.map(({ length }) => length), new Set(keys).size]).toEqual([[250, 250, 90], 590]);
  expect([node.replica.self.markedSeq, turn()]).toEqual([590, []]);
  expect(hear(word(nodeId, 590, 590, generation))).toEqual([]);
});

test("a mark that was known before a restart hides entries of the journal: they are for the registrar too, some a turn", () => {
  const node = new ReplicatingNode({ nodeId: "a" });
  for (let n = 0; n < 600; n++) node.put(`web${n}`, 0);
  const { nodeId, generation } = node.replica.self;
  node.replica.lost.note({ nodeId, generation, through: 590, mark: 590 });
  applyMarks(node.replica);
  const { words } = benchOf(node);
  const turns: (readonly string[])[] = [];
  while (words.nextDeadlineMs() === 0) turns.push(turnOf(words));
  expect([turns.map(({ length }) => length), new Set(turns.flat()).size]).toEqual([[250, 250, 90], 590]);
});

test("what this node never wrote nobody can have forgotten: nothing ends, and it takes a new generation, which no such word names", () => {
  const { node, hear } = bench();
  node.put("web", 0);
  node.shared.changed(node.timeOf(0));
  const { nodeId, generation } = node.replica.self;
  const lie = word(nodeId, 2 ** 52 - 2, 2 ** 52 - 2, generation);
  expect(hear(lie)).toEqual([{ kind: "generationLost", peerNodeId: "b", seq: 2 ** 52 - 2 }]);
  expect([node.replica.lost.list, node.replica.self.markedSeq, hear(lie)]).toEqual([[], 0, []]);
});

test("a number that is staged was told to nobody: who names it as forgotten means another record", () => {
  const { node, hear } = bench();
  node.put("web", 0);
  node.stage("api", 0);
  const { nodeId, generation } = node.replica.self;
  expect(hear(word(nodeId, 2, 2, generation))).toEqual([{ kind: "generationLost", peerNodeId: "b", seq: 2 }]);
  expect([node.replica.lost.list, node.replica.self.markedSeq]).toEqual([[], 0]);
});

test("keys of lost origins go to an asker that takes them and has none as new; none to an older one", () => {
  const [knowing, asking] = [bench(), bench()];
  for (const { hear } of [knowing, asking]) hear(word("x", 5), word("y", 6));
  const keys = { through: 5, hashes: Uint32Array.from([3, 9]) };
  knowing.node.replica.lost.noteKeys("x/1", keys);
  knowing.node.replica.lost.noteKeys("y/1", { through: 6, hashes: new Uint32Array() });
  const ask = () => {
    const request = { kind: "pushPull", from: nodeRef("b"), isJoin: false, members: [] } as const;
    return asking.words.told({ kind: "call", call: 1, to: "a:1", request, timeoutMs: 1 } as const).request as FabricCallRequest;
  };
  const answerTo = (request: FabricCallRequest) =>
    knowing.words.told({ kind: "answer", call: 1, response: answer() } as const, request).response;
  const first = answerTo(ask());
  expect(first).toEqual(
    answer([
      { ...word("x", 5), keysThrough: 5, keys: Uint8Array.of(3, 0, 0, 0, 9, 0, 0, 0) },
      { ...word("y", 6), keysThrough: 6, keys: new Uint8Array() },
    ]),
  );
  asking.said(first);
  expect([asking.node.replica.lost.keysOf("x/1"), asking.node.replica.lost.keysOf("y/1")?.hashes.length]).toEqual([keys, 0]);
  const withNumbers = answer([
    { ...word("x", 5), keysThrough: 5 },
    { ...word("y", 6), keysThrough: 6 },
  ]);
  expect(answerTo(ask())).toEqual(withNumbers);
  expect(answerTo({ kind: "pushPull", from: nodeRef("old"), isJoin: false, members: [], lost: [word("x", 5)] })).toEqual(withNumbers);
});
