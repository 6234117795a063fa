import fc from "fast-check";
import { expect, test } from "vitest";
import {
  addEvidence,
  isListed,
  type MemberClaim,
  Members,
  mergeVerdict,
  type UpdateVerdict,
} from "../../../src/fabric/membership/members.ts";
import type { MemberStatus, MemberUpdate } from "../../../src/fabric/wire/messages.ts";
import { Rng } from "../../../src/lib/rng.ts";
import { factsOf } from "../membership-world.ts";

const STATUSES: readonly MemberStatus[] = ["alive", "suspect", "dead", "left"];

function word(status: MemberStatus, incarnation: number, generation = 1, address = "a:1"): MemberClaim {
  return { status, incarnation, generation, address };
}

function update(nodeId: string, status: MemberStatus, over: Partial<MemberUpdate> = {}): MemberUpdate {
  return { ...factsOf(nodeId), status, incarnation: 1, accuser: "", ...over };
}

// Rows: held. Columns: incoming alive, suspect, dead, left.
const SAME_INCARNATION: Record<MemberStatus, readonly UpdateVerdict[]> = {
  alive: ["stale", "apply", "apply", "apply"],
  suspect: ["stale", "confirm", "apply", "apply"],
  dead: ["stale", "stale", "stale", "apply"],
  left: ["stale", "stale", "stale", "stale"],
};

const PAIRS = STATUSES.flatMap((held) => STATUSES.map((incoming) => ({ held, incoming })));

test.each(PAIRS)("held $held, incoming $incoming: by incarnation and generation, then by rank", ({ held, incoming }) => {
  const isHeldListed = held === "alive" || held === "suspect";
  expect(mergeVerdict(word(held, 5), word(incoming, 4))).toBe("stale");
  expect(mergeVerdict(word(held, 5), word(incoming, 5))).toBe(SAME_INCARNATION[held][STATUSES.indexOf(incoming)]);
  expect(mergeVerdict(word(held, 5), word(incoming, 6))).toBe("apply");
  expect(mergeVerdict(word(held, 5, 2), word(incoming, 9, 1))).toBe("stale");
  expect(mergeVerdict(word(held, 5, 1), word(incoming, 1, 2))).toBe("apply");
  expect(mergeVerdict(word(held, 5, 1), word(incoming, 1, 2, "b:1"))).toBe(isHeldListed ? "challenge" : "apply");
  expect(mergeVerdict(word(held, 5, 1), word(incoming, 6, 1, "b:1"))).toBe("apply");
});

test("any words in any order, also twice, end in the same table", () => {
  const words = fc.array(
    fc.record({
      nodeId: fc.constantFrom("a", "b", "c"),
      status: fc.constantFrom(...STATUSES),
      incarnation: fc.nat(4),
      generation: fc.nat(2),
    }),
    { maxLength: 40 },
  );
  const fold = (all: readonly { nodeId: string; status: MemberStatus; incarnation: number; generation: number }[]): unknown => {
    const members = new Members();
    for (const { nodeId, ...said } of all) {
      const held = members.find(nodeId);
      const incoming = update(nodeId, said.status, said);
      if (held === undefined || mergeVerdict(held.update, incoming) === "apply") members.put(incoming, 0);
    }
    return [...members.all()].map((member) => member.update).toSorted((a, b) => (a.nodeId < b.nodeId ? -1 : 1));
  };
  fc.assert(
    fc.property(words, fc.nat(), (all, salt) => {
      const rng = new Rng(salt);
      const shuffled = [...all, ...all]
        .map((said) => ({ said, place: rng.next() }))
        .toSorted((a, b) => a.place - b.place)
        .map(({ said }) => said);
      expect(fold(shuffled)).toEqual(fold(all));
    }),
  );
});

test("the table counts, lists and finds by address what it holds", () => {
  const steps = fc.array(fc.record({ id: fc.nat(6), status: fc.constantFrom(...STATUSES), isForgotten: fc.boolean() }), { maxLength: 60 });
  fc.assert(
    fc.property(steps, (all) => {
      const members = new Members(update("n0", "alive").clusterId);
      const model = new Map<string, MemberStatus>();
      for (const { id, status, isForgotten } of all) {
        const known = members.find(`n${id}`);
        if (isForgotten && known !== undefined) {
          members.forget(known);
          model.delete(`n${id}`);
        } else {
          members.put(update(`n${id}`, status), 0);
          model.set(`n${id}`, status);
        }
      }
      const held = [...model];
      const listed = held.filter(([, status]) => isListed(status)).map(([nodeId]) => nodeId);
      expect(members.size).toBe(model.size);
      for (const names of [members.listed, members.ours])
        expect(names.map(({ update: { nodeId } }) => nodeId).toSorted()).toEqual(listed.toSorted());
      for (const status of STATUSES) expect(members.counts[status]).toBe(held.filter(([, is]) => is === status).length);
      for (const [nodeId, status] of held) {
        expect(members.holderOf(`${nodeId}:1`)?.update.nodeId).toBe(isListed(status) ? nodeId : undefined);
      }
    }),
  );
});

test("who lost its address to another does not take it back by being suspected", () => {
  const members = new Members();
  members.put(update("old", "alive", { address: "x:1" }), 0);
  members.put(update("new", "alive", { address: "x:1" }), 0);
  members.put(update("old", "suspect", { address: "x:1" }), 0);
  expect(members.holderOf("x:1")?.update.nodeId).toBe("new");
  members.put(update("old", "dead", { address: "x:1" }), 0);
  expect(members.holderOf("x:1")?.update.nodeId).toBe("new");
  members.put(update("new", "alive", { address: "y:1", incarnation: 2 }), 0);
  expect(members.holderOf("x:1")).toBeUndefined();
});

test("picks are different members, never the excepted one, and everybody's chance is the same", () => {
  const members = new Members();
  for (let i = 0; i < 30; i++) members.put(update(`n${i}`, "alive"), 0);
  const except = members.find("n7");
  const counts = new Map<string, number>();
  const rng = new Rng("picks");
  for (let i = 0; i < 3000; i++) {
    const picked = members.pick(rng, 3, except).map((member) => member.update.nodeId);
    expect(new Set(picked).size).toBe(3);
    for (const nodeId of picked) counts.set(nodeId, (counts.get(nodeId) ?? 0) + 1);
  }
  expect(counts.has("n7")).toBe(false);
  for (const count of counts.values()) expect(Math.abs(count - 9000 / 29)).toBeLessThan(100);
  const few = new Members();
  few.put(update("a", "alive"), 0);
  few.put(update("b", "alive"), 0);
  expect(few.pick(rng, 3, few.find("a")).map((member) => member.update.nodeId)).toEqual(["b"]);
  expect(new Members().pick(rng, 3)).toEqual([]);
});

test("the evidence kept of a member is the newest, and bounded", () => {
  const { member } = new Members().put(update("a", "alive"), 0);
  for (let i = 0; i < 100; i++)
    addEvidence(member, { atWallMs: i, status: "suspect", incarnation: i, accuser: "b", path: "direct", via: [] });
  expect(member.evidence.length).toBeLessThanOrEqual(16);
  expect(member.evidence.at(-1)?.atWallMs).toBe(99);
});
