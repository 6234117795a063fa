/** What is told of lost origins with tables of members. */
import { expect, test } from "vitest";
import { LostWords } from "../../src/fabric/lost-words.ts";
import type { CallResponse, LostWord, MemberUpdate } from "../../src/fabric/messages.ts";
import type { FabricOutput } from "../../src/fabric/seam.ts";
import { nodeRef, updateOf } from "../fakes/fabric-values.ts";
import { ReplicatingNode } from "../fakes/replication.ts";

const answer = (lost?: readonly LostWord[]): CallResponse => ({
  kind: "pushPull",
  from: nodeRef("b"),
  members: [],
  ...(lost !== undefined && { lost }),
});
const word = (nodeId: string, through: number, mark = 0, generation = 1): LostWord => ({ nodeId, generation, through, mark });

function bench(...members: readonly MemberUpdate[]) {
  const node = new ReplicatingNode({ nodeId: "a" });
  const words = new LostWords(node.replica, (nodeId) => members.find((member) => member.nodeId === nodeId));
  const hear = (...lost: readonly LostWord[]): readonly FabricOutput[] => {
    const out: FabricOutput[] = [];
    words.heard(answer(lost), out);
    return out;
  };
  return { node, words, hear };
}

test("tables carry what is known, and nothing where nothing is; other calls carry none", () => {
  const { words, hear } = bench();
  const table = { kind: "answer", call: 1, response: answer() } as const;
  expect(words.told(table)).toBe(table);
  hear(word("x", 5));
  expect(words.told(table)).toEqual({ ...table, response: answer([word("x", 5)]) });
  const request = { kind: "pushPull", from: nodeRef("a"), isJoin: true, members: [] } as const;
  const call = { kind: "call", call: 2, to: "b:1", request, timeoutMs: 1 } as const;
  expect(words.told(call)).toEqual({ ...call, request: { ...request, lost: [word("x", 5)] } });
  const probe = { kind: "answer", call: 3, response: { kind: "probe", from: nodeRef("a"), updates: [] } } as const;
  expect(words.told(probe)).toBe(probe);
});

test("an older peer says nothing, and changes nothing", () => {
  const { words, node } = bench();
  const out: FabricOutput[] = [];
  words.heard(answer(), out);
  words.heard(undefined, out);
  expect([out, node.replica.lost.list]).toEqual([[], []]);
});

test("of who is there only the mark is heard, of who has left or lives on in a later generation nothing", () => {
  const gone = updateOf("left", { status: "left" });
  const { node, hear } = bench(updateOf("there"), gone, updateOf("later", { generation: 2 }), updateOf("dead", { status: "dead" }));
  hear(word("there", 9, 4), word("left", 9, 4), word("later", 9, 4), word("dead", 9, 4), word("unknown", 9));
  expect(node.replica.lost.list).toEqual([word("there", 4, 4), word("dead", 9, 4), word("unknown", 9)]);
});

test("a mark of this node's own is for its registrar, once, and never beyond what it has written", () => {
  const { node, hear } = bench();
  node.put("web", 0);
  node.shared.changed(node.timeOf(0));
  const { id, nodeId, generation } = node.replica.self;
  const [first] = hear(word(nodeId, 900, 900, generation));
  expect(first).toMatchObject({ kind: "superseded" });
  expect(first?.kind === "superseded" && first.keys.length).toBe(1);
  expect([id, node.replica.self.markedSeq]).toEqual([`${nodeId}/${generation}`, 1]);
  expect(hear(word(nodeId, 900, 900, generation))).toEqual([]);
});
