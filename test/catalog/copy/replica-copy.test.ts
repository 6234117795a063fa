/** A copy of a replica answers as the replica does, whatever happens to that, and whenever the copy begins. */
import fc from "fast-check";
import { expect, test } from "vitest";
import { ANY } from "../../../src/catalog/query/filter.ts";
import type { Replica } from "../../../src/catalog/replica/replica.ts";
import { bareRooms, Copies, Copy } from "../../fakes/copies.ts";
import { runs } from "../../fakes/effort.ts";
import { timeOf } from "../../fakes/history.ts";
import { FabricComponent, KEYS } from "../../fakes/mesh.ts";
import { WATCH_FILTERS } from "../../fakes/stream.ts";
import { playWatches, turns } from "../../fakes/watch-history.ts";

test("P3 at copies: streams read at a node and at copies of it in turn, from each other's cursors", () => {
  const filters = fc.array(fc.nat(WATCH_FILTERS.length - 1), { minLength: 3, maxLength: 3 });
  let wholeCount = 0;
  fc.assert(
    fc.property(turns(80), filters, fc.constantFrom(undefined, 1, 12), (history, chosen, pastTouches) => {
      const copies = new Copies(pastTouches);
      playWatches(history, chosen, pastTouches, copies);
      wholeCount += copies.wholeCount;
    }),
    { numRuns: runs(200) },
  );
  expect(wholeCount).toBeGreaterThan(1000);
});

test("a copy that began late remembers what was seen before a touch as the replica does, before and after its memory is full", () => {
  const remembered = KEYS.length + 8;
  const of = new FabricComponent("n1", remembered);
  const putAll = (from: number) => {
    KEYS.forEach((key, n) => of.put(key, n, timeOf(from + n, 0)));
    of.commit(timeOf(from + 99, 0));
  };
  putAll(0);
  const copy = new Copy(bareRooms(of.replica), { pastTouches: remembered });
  copy.hear(3);
  expect(copy.isWhole).toBe(false);
  copy.hear(100);
  expect(copy.isWhole).toBe(true);
  for (const [round, count] of [KEYS.length, remembered, remembered].entries()) {
    putAll(100 + round * 100);
    copy.hear(100);
    const { revision } = of.replica;
    const holdings = ({ past }: Replica) =>
      Array.from({ length: count }, (_, back) => {
        const place = { settled: revision - back - 1, until: revision - back - 1 };
        return past.holding(revision - back, undefined, place, ANY, of.facts);
      });
    expect(holdings(copy.replica)).toEqual(holdings(of.replica));
    expect(holdings(of.replica)).not.toContain("unknown");
  }
});
