/** What a mark hides (semantics.md, Orphans). */
import { expect, test } from "vitest";
import { BODY } from "../../../src/catalog/record/record.ts";
import { applyMarks } from "../../../src/catalog/replica/lost-marks.ts";
import { FabricComponent, KEYS } from "../../fakes/mesh.ts";

const time = (monoMs: number) => ({ monoMs, wallMs: 1_760_000_000_000 + monoMs });
const [FIRST, SECOND] = KEYS as unknown as readonly [(typeof KEYS)[number], (typeof KEYS)[number]];

test("what was written up to the mark is hidden, what comes later is not; also where the origin is not known yet", () => {
  const [a, b, c] = [new FabricComponent("a"), new FabricComponent("b"), new FabricComponent("c")];
  for (const key of [FIRST, SECOND]) a.put(key, 0, time(1));
  a.commit(time(1));
  b.copy(a, "a/1", time(2));
  const word = { nodeId: "a", generation: 1, through: 2, mark: 1 };
  for (const { replica } of [b, c]) {
    replica.lost.note(word);
    expect(applyMarks(replica)).toBe(false);
    replica.sweep(Number.POSITIVE_INFINITY, time(2));
  }
  c.copy(a, "a/1", time(3));
  for (const { replica } of [b, c]) expect([replica.view(FIRST), replica.view(SECOND)?.seq]).toEqual([undefined, 2]);
  a.put(FIRST, 1, time(4));
  a.commit(time(4));
  for (const node of [b, c]) {
    node.copy(a, "a/1", time(5));
    expect(node.replica.view(FIRST)?.seq).toBe(3);
  }
});

test("the tombstone's own origin is forgotten: what it hid of one that is away stays hidden, by a mark", () => {
  const [a, b, c] = [new FabricComponent("a"), new FabricComponent("b"), new FabricComponent("c")];
  a.put(FIRST, 0, time(1));
  a.commit(time(1));
  for (const node of [b, c]) node.copy(a, "a/1", time(2));
  b.end(FIRST, BODY.UNREGISTERED, time(3));
  b.commit(time(3));
  c.copy(b, "b/1", time(4));
  const [ofA, ofB] = [c.replica.origins.get("a/1"), c.replica.origins.get("b/1")];
  if (ofA === undefined || ofB === undefined) throw new Error("c knows both");
  c.replica.setLife(ofA, "hidden");
  c.replica.forgetOrigin(ofB, time(5), true);
  c.replica.setLife(ofA, "live");
  expect([c.replica.view(FIRST), c.replica.lost.markOf("a/1")]).toEqual([undefined, 1]);
});

test("a mark of this node's own origin hides nothing that it has not written yet, whatever number it names", () => {
  const a = new FabricComponent("a");
  a.put(FIRST, 0, time(1));
  a.commit(time(1));
  a.replica.lost.note({ nodeId: "a", generation: 1, through: 100, mark: 100 });
  // A staged record has its number, and is not written.
  a.put(SECOND, 0, time(1));
  expect(applyMarks(a.replica)).toBe(true);
  a.replica.sweep(Number.POSITIVE_INFINITY, time(2));
  a.commit(time(3));
  expect([a.replica.view(FIRST), a.replica.view(SECOND)?.seq]).toEqual([undefined, 2]);
});
