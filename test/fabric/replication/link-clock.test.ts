/** When a peer said what comes over a link: by echoes of our own stamps, whatever held it up. */
import { expect, test } from "vitest";
import { Rng } from "../../../src/lib/rng.ts";
import { some } from "../../fakes/effort.ts";
import { framesOf, open, ReplicatingNode, vectorOf, Wire, type WireOptions } from "../../fakes/replication.ts";

test("own writes that are still gathered were not there when the vector was made: it is as of the last that are told", () => {
  const options = { gatherMsALink: 50 };
  const [a, b] = ["a", "b"].map((nodeId) => new ReplicatingNode({ nodeId, options }));
  if (a === undefined || b === undefined) throw new Error("nodes");
  const wire = new Wire(a, b, 0, { delayMs: 1 });
  const writtenMs = new Map<number, number>();
  let worstMs = 0;
  // A change every 7 ms, while news is gathered for 50, as where there are many links.
  for (let monoMs = 0; monoMs < 20_000; monoMs += 1) {
    if (monoMs % 7 === 0) {
      b.put(`x${monoMs % 5}`, monoMs);
      writtenMs.set(b.replica.self.through, monoMs);
    }
    wire.step(monoMs);
    const through = a.replica.origins.get(b.replica.self.id)?.through ?? 0;
    for (const seq of writtenMs.keys()) if (seq <= through) writtenMs.delete(seq);
    const lackedMs = Math.min(Number.POSITIVE_INFINITY, ...writtenMs.values());
    worstMs = Math.max(worstMs, (wire.a.link.inStepMonoMs ?? 0) - lackedMs);
  }
  expect(worstMs).toBeLessThanOrEqual(0);
});

test.each(some([1, 2, 3, 4, 5, 6, 7, 8]))(
  "however long either way is held up, nothing is lacked that the peer had when we were in step: seed %i",
  (seed) => {
    const rng = new Rng(`held up ${seed}`);
    const [a, b] = ["a", "b"].map((nodeId) => new ReplicatingNode({ nodeId }));
    if (a === undefined || b === undefined) throw new Error("nodes");
    const wire = new Wire(a, b, 0, { delayMs: 1 + rng.int(300) });
    const [{ link }, self] = [wire.a, b.replica.self];
    /** By number, when it was written. */
    const writtenMs = new Map<number, number>();
    let [heldUntilMs, checkedCount, lackedCount] = [0, 0, 0];
    for (let monoMs = 0; monoMs < 120_000; monoMs += 5) {
      if (monoMs >= heldUntilMs) {
        wire.heldFrom = [a, b, undefined, undefined][rng.int(4)];
        heldUntilMs = monoMs + rng.int(8000);
      }
      if (rng.int(100) === 0) {
        b.put(`x${rng.int(5)}`, monoMs);
        writtenMs.set(b.replica.self.through, monoMs);
      }
      wire.step(monoMs);
      const { inStepMonoMs } = link;
      if (inStepMonoMs === undefined) continue;
      checkedCount += 1;
      const through = a.replica.origins.get(self.id)?.through ?? 0;
      for (const [seq, writtenMonoMs] of writtenMs) {
        if (seq <= through) writtenMs.delete(seq);
        else if (writtenMonoMs < inStepMonoMs)
          expect.fail(`at ${monoMs}: in step up to ${inStepMonoMs}, without ${seq} of ${writtenMonoMs}`);
      }
      if (writtenMs.size > 0) lackedCount += 1;
    }
    expect(checkedCount).toBeGreaterThan(1000);
    expect(lackedCount).toBeGreaterThan(100);
  },
);

test("a vector that another has overtaken says what was so when it was said, not when the other was", () => {
  const [a, b] = [new ReplicatingNode({ nodeId: "a" }), new ReplicatingNode({ nodeId: "b" })];
  b.put("x", 0);
  const link = open(a, b, 0);
  const hear = (seq: number, soMonoMs: number, monoMs: number) =>
    link.receive({ ...vectorOf([{ nodeId: "b", seq }]), times: { atMs: soMonoMs, asOfMs: soMonoMs + 1 } }, a.timeOf(monoMs), a.outputs);
  link.receive(framesOf(b, 0), a.timeOf(100), a.outputs);
  hear(1, 1000, 1100);
  expect(link.inStepMonoMs).toBe(1000);
  b.put("y", 1500);
  hear(2, 2000, 2100);
  expect(link.inStepMonoMs).toBeUndefined();
  hear(1, 1000, 2200);
  expect(link.inStepMonoMs).toBe(1000);
  // An overtaken offer says nothing of the whole.
  hear(2, 2500, 2600);
  const offer = { ...vectorOf([{ nodeId: "b", seq: 1 }], { isPartial: true }), isOffer: true as const };
  link.receive(offer, a.timeOf(2700), a.outputs);
  expect(link.inStepMonoMs).toBeUndefined();
  hear(2, 3000, 3100);
  link.receive(framesOf(b, 1), a.timeOf(3200), a.outputs);
  expect(link.inStepMonoMs).toBe(3000);
});

const UNRULY: WireOptions = { lossPercent: 10, doublePercent: 20, jitterMs: 3000 };

test.each(
  some([
    { what: "few writes", perSecond: 2, seed: 1, net: {} },
    { what: "keys that change again before they are sent", perSecond: 50, seed: 1, net: {} },
    { what: "keys that change again before they are sent", perSecond: 50, seed: 2, net: {} },
    { what: "frames that are lost, doubled and overtaken", perSecond: 2, seed: 0, net: UNRULY },
    { what: "frames that are lost, doubled and overtaken", perSecond: 2, seed: 2, net: UNRULY },
  ]),
)("nothing that was said of any key is lacked that the peer had when we were in step: $what, seed $seed", ({ perSecond, seed, net }) => {
  const rng = new Rng(String(seed));
  const [a, b] = ["a", "b"].map((nodeId) => new ReplicatingNode({ nodeId, options: { maxFrameBytes: 300 } }));
  if (a === undefined || b === undefined) throw new Error("nodes");
  const wire = new Wire(a, b, 0, { delayMs: 1 + rng.int(300), ...net });
  const { link } = wire.a;
  let written: { readonly key: string; readonly seq: number; readonly monoMs: number }[] = [];
  let [turnsUntilMs, checkedCount, lackedCount] = [0, 0, 0];
  for (let monoMs = 0; monoMs < 100_000; monoMs += 5) {
    if (monoMs >= turnsUntilMs) {
      wire.heldFrom = [a, b, undefined, undefined][rng.int(4)];
      wire.isStalled = rng.int(4) === 0;
      turnsUntilMs = monoMs + rng.int(8000);
    }
    if (rng.int(200 / perSecond) === 0) {
      const key = b.put(`x${rng.int(5)}`, monoMs);
      written.push({ key, seq: b.replica.self.through, monoMs });
    }
    wire.step(monoMs);
    const { inStepMonoMs } = link;
    if (inStepMonoMs === undefined) continue;
    checkedCount += 1;
    const held = new Map<string, number>(
      a.replica.origins
        .get(b.replica.self.id)
        ?.log.list()
        .map(({ key, seq }) => [key, seq]) ?? [],
    );
    written = written.filter(({ key, seq }) => (held.get(key) ?? 0) < seq);
    const [lacked] = written;
    if (lacked === undefined) continue;
    lackedCount += 1;
    if (lacked.monoMs < inStepMonoMs) expect.fail(`at ${monoMs}: in step up to ${inStepMonoMs}, without ${lacked.seq} of ${lacked.monoMs}`);
  }
  expect(checkedCount).toBeGreaterThan(1000);
  expect(lackedCount).toBeGreaterThan(100);
});
