/** What a whole transfer leaves, and how much of it is looked at at once (semantics.md, Watch 11). */
import { expect, test } from "vitest";
import { EntryStamper } from "../../../src/catalog/entry/codec.ts";
import { BODY } from "../../../src/catalog/record/record.ts";
import { TraitsPool } from "../../../src/catalog/record/traits.ts";
import { FrameReceiver, type OriginFrame } from "../../../src/catalog/replica/frames.ts";
import { timeOf } from "../../fakes/history.ts";
import { counting, fill, keysOf } from "../../fakes/many.ts";
import { FabricComponent, KEYS } from "../../fakes/mesh.ts";
import { BOUNDS } from "../../fakes/options.ts";

const T = timeOf(1, 0);

test("the last frame of a whole transfer looks at what it covers, not at everything before it", () => {
  const [giver, newcomer] = [new FabricComponent("a"), new FabricComponent("b")];
  fill(giver, keysOf(2000));
  const frames = framesOf(giver, 4000);
  const origin = newcomer.replica.origin("a", 1);
  const visited = counting(origin.log);
  for (const frame of frames) {
    const before = visited.count;
    newcomer.apply(frame, T);
    expect(visited.count - before).toBeLessThanOrEqual(frame.records.length + 1);
  }
  expect([newcomer.replica.lookup.size, origin.through]).toEqual([2000, 2000]);
});

test("what others brought under a number that a whole transfer had passed is found at its end, and goes when it is not listed", () => {
  const [origin, behind, newcomer] = [new FabricComponent("a"), new FabricComponent("c"), new FabricComponent("b")];
  for (const key of KEYS.slice(0, 4)) {
    origin.put(key, 0, T);
    origin.commit(T);
  }
  behind.copy(origin, "a/1", T);
  origin.end(KEYS[1]!, BODY.EXPIRED, T);
  origin.commit(T);
  origin.collect(timeOf(1000, 0));
  const frames = framesOf(origin, 1);
  expect(frames.map(({ after, through }) => [after, through])).toEqual([
    [0, 1],
    [1, 3],
    [3, 5],
  ]);
  const other = new FrameReceiver(newcomer.replica, new EntryStamper({ bounds: BOUNDS, traits: new TraitsPool(16) }), BOUNDS);
  newcomer.apply(frames[0]!, T);
  newcomer.apply(frames[1]!, T);
  const old = behind.replica.origins.get("a/1")!;
  other.apply(behind.frame(old, { after: 0, isComplete: false }, 10_000), T);
  expect(newcomer.replica.view(KEYS[1]!)).toBeDefined();
  newcomer.apply(frames[2]!, T);
  expect(KEYS.slice(0, 4).map((key) => newcomer.replica.view(key) !== undefined)).toEqual([true, false, true, true]);
});

test("what was held and is not listed goes at the end of a whole transfer, also where it had another number than what is listed", () => {
  const [origin, repaired] = [new FabricComponent("a"), new FabricComponent("b")];
  fill(origin, KEYS.slice(0, 6));
  repaired.copy(origin, "a/1", T);
  origin.put(KEYS[0]!, 1, T);
  origin.end(KEYS[2]!, BODY.EXPIRED, T);
  origin.commit(T);
  origin.collect(timeOf(1000, 0));
  for (const frame of framesOf(origin, 1)) repaired.apply(frame, T);
  expect(KEYS.slice(0, 6).map((key) => repaired.replica.view(key)?.seq)).toEqual([7, 2, undefined, 4, 5, 6]);
});

function framesOf(node: FabricComponent, budgetBytes: number): readonly OriginFrame[] {
  const frames: OriginFrame[] = [];
  for (let after = 0; ; ) {
    const frame = node.frame(node.replica.self, { after, isComplete: true }, budgetBytes);
    frames.push(frame);
    if (frame.isLast) return frames;
    after = frame.through;
  }
}
