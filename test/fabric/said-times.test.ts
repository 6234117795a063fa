/** When a peer said what comes over a link: by echoes of our own stamps, whatever held it up. */
import { expect, test } from "vitest";
import { decodeLinkFrame, encodeLinkFrame } from "../../src/fabric/codec.ts";
import type { LinkFrame } from "../../src/fabric/messages.ts";
import { SaidTimes } from "../../src/fabric/said-times.ts";
import { Rng } from "../../src/lib/rng.ts";
import { ReplicatingNode, Wire } from "../fakes/replication.ts";

const at = (monoMs: number) => ({ monoMs, wallMs: 0 });

test("what echoes a stamp of ours was said after it, by as much as the peer had it; what echoes none, after we greeted", () => {
  // This node's clock is 9,000 s ahead of the peer's.
  const [me, peer] = [new SaidTimes(at(9_000_100), 9_000_000), new SaidTimes(at(50), 0)];
  expect(me.heard(peer.stamp(at(60)), at(9_004_000))).toBe(9_000_000);
  const mine = me.stamp(at(9_005_000.9));
  expect(mine).toEqual({ atMs: 4901, echo: { atMs: 11, sinceMs: 1000 } });
  peer.heard(mine, at(5055));
  const said = peer.stamp(at(5755.5));
  // On its way for 20 s, and then another for no time: both count from when they were said.
  expect(me.heard(said, at(9_025_000))).toBe(9_005_700);
  expect(me.heard(peer.stamp(at(25_055)), at(9_025_010))).toBe(9_025_000);
});

test("a peer that claims to have said it later than it came is taken at its coming", () => {
  const me = new SaidTimes(at(0), 0);
  expect(me.heard({ atMs: 1, echo: { atMs: Number.MAX_SAFE_INTEGER, sinceMs: Number.MAX_SAFE_INTEGER } }, at(500))).toBe(500);
  expect(me.heard({ atMs: Number.MAX_SAFE_INTEGER }, at(600))).toBe(0);
  expect(me.stamp(at(700)).echo).toEqual({ atMs: Number.MAX_SAFE_INTEGER, sinceMs: 100 });
});

test("stamps travel in a few bytes, and a frame without them is read as it was", () => {
  const nothing: LinkFrame = { kind: "vector", entries: [], digest: 0n, isPartial: true, isWanted: false };
  for (const said of [{ atMs: 1 }, { atMs: 86_400_000, echo: { atMs: 86_400_000, sinceMs: 1250 } }]) {
    const bytes = encodeLinkFrame({ ...nothing, said });
    expect(bytes.length - encodeLinkFrame(nothing).length).toBeLessThanOrEqual(15);
    expect(decodeLinkFrame(bytes)).toEqual({ ...nothing, said });
  }
  expect(decodeLinkFrame(encodeLinkFrame(nothing))).toEqual(nothing);
});

test.each([1, 2, 3, 4, 5, 6, 7, 8])(
  "however long either way is held up, nothing is lacked that the peer had when we were in step: seed %i",
  (seed) => {
    const rng = new Rng(`held up ${seed}`);
    const [a, b] = ["a", "b"].map((nodeId) => new ReplicatingNode({ nodeId, takesOffers: true }));
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
