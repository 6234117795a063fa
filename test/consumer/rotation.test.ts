/** Choices in turn: smooth weighted round robin beside nginx's plain form, also while entries come and go. */
import * as fc from "fast-check";
import { expect, test } from "vitest";
import { HEALTH } from "../../src/catalog/record/record.ts";
import { Chooser } from "../../src/consumer/chooser.ts";
import { SELECT_POLICY } from "../../src/consumer/locality-levels.ts";
import { NameRotation } from "../../src/consumer/rotation-cache.ts";
import { select } from "../../src/consumer/select.ts";
import { runs } from "../fakes/effort.ts";

const TIME = { monoMs: 0, wallMs: 1_700_000_000_000 };
const chance = () => 0;
const PLACE = { policy: SELECT_POLICY.ROUND_ROBIN, region: "", zone: "" } as const;

function candidate(i: number, weight = 1) {
  const view = { region: "r1", zone: "z1", health: HEALTH.HEALTHY, load: undefined, targets: [{ priority: 0, weight }] };
  return { key: String(i).padStart(4, "0"), view, i };
}
type Made = ReturnType<typeof candidate>;

/** nginx's `ngx_http_upstream_get_peer`: all gain their weight, the highest wins and loses the sum of all weights. */
function naive(weights: readonly number[], turns: number): readonly number[] {
  const current = weights.map(() => 0);
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  return Array.from({ length: turns }, () => {
    let best = 0;
    for (const [i, weight] of weights.entries()) {
      current[i] = (current[i] ?? 0) + weight;
      if ((current[i] ?? 0) > (current[best] ?? 0)) best = i;
    }
    current[best] = (current[best] ?? 0) - total;
    return best;
  });
}

const weightsOf = fc.array(fc.integer({ min: 1, max: 6 }), { minLength: 1, maxLength: 12 });

test("turns are those of nginx's algorithm, for any weights, at a client and at a server that keeps the turns alone", () => {
  fc.assert(
    fc.property(weightsOf, (weights) => {
      const all = weights.map((weight, i) => candidate(i, weight));
      const want = naive(weights, 60);
      const chooser = new Chooser<Made>({ ...PLACE, start: 0 });
      for (const one of all.toReversed()) chooser.put(one);
      expect(want.map(() => chooser.choose(TIME, chance)?.candidate.i)).toEqual(want);
      const turns = new NameRotation(0);
      const options = { ...PLACE, hashKey: "", turns, random: chance, time: TIME, limit: 1, counts: undefined, explain: false };
      expect(want.map(() => select(all, options).ranked[0]?.i)).toEqual(want);
    }),
    { numRuns: runs(50) },
  );
});

test("after entries came and went, each has its share of turns within two", () => {
  fc.assert(
    fc.property(weightsOf, fc.array(fc.tuple(fc.nat(11), fc.nat(5)), { maxLength: 30 }), (weights, steps) => {
      const chooser = new Chooser<Made>({ ...PLACE, start: 0.4 });
      const flip = (i: number, weight: number) => {
        const { key } = candidate(i);
        if (chooser.find(key) === undefined) chooser.put(candidate(i, weight));
        else chooser.remove(key);
      };
      for (const [i, turns] of steps) {
        const weight = weights[i];
        if (weight !== undefined) flip(i, weight);
        for (let turn = 0; turn < turns; turn++) chooser.choose(TIME, chance);
      }
      for (const [i, weight] of weights.entries()) if (chooser.find(candidate(i).key) === undefined) flip(i, weight);
      const total = weights.reduce((sum, weight) => sum + weight, 0);
      const counts = weights.map(() => 0);
      // What changed left some ahead of others; that is over after a few rounds and does not grow.
      for (let i = 0; i < total * 40; i++) chooser.choose(TIME, chance);
      for (let i = 0; i < total * 10; i++) {
        const at = chooser.choose(TIME, chance)?.candidate.i ?? -1;
        counts[at] = (counts[at] ?? 0) + 1;
      }
      for (const [i, weight] of weights.entries()) expect(Math.abs((counts[i] ?? 0) - weight * 10)).toBeLessThanOrEqual(2);
    }),
  );
});

test("among many of one weight the next in key order has its turn, whatever came and went", () => {
  const step = fc.oneof(fc.record({ flip: fc.nat(900), count: fc.constantFrom(1, 1, 200) }), fc.record({ turns: fc.nat(300) }));
  fc.assert(
    fc.property(fc.nat(900), fc.array(step, { maxLength: 60 }), (size, steps) => {
      const chooser = new Chooser<Made>({ ...PLACE, start: 0 });
      const held = new Set<number>();
      const flip = (i: number) => {
        if (held.delete(i)) chooser.remove(candidate(i).key);
        else chooser.put(candidate([...held.add(i)].at(-1) ?? i));
      };
      for (let i = 0; i < size; i++) flip((i * 467) % 901);
      let last = -1;
      for (const one of steps) {
        if ("flip" in one) {
          for (let i = 0; i < one.count; i++) flip((one.flip + i) % 901);
          // The turn of one that went is that of the one before it.
          while (last >= 0 && !held.has(last)) last -= 1;
          continue;
        }
        const sorted = [...held].toSorted((a, b) => a - b);
        for (let i = 0; i < one.turns; i++) {
          const want = sorted.find((each) => each > last) ?? sorted[0];
          expect(chooser.choose(TIME, chance)?.candidate.i).toBe(want);
          last = want ?? last;
        }
      }
    }),
    { numRuns: runs(50) },
  );
});

test("turns go on behind hundreds of entries that come before them in key order, and when those go again", () => {
  const chooser = new Chooser<Made>({ ...PLACE, start: 0 });
  const turns = (count: number) => Array.from({ length: count }, () => chooser.choose(TIME, chance)?.candidate.i ?? -1);
  const from = (first: number, count: number) => Array.from({ length: count }, (_, i) => first + i);
  for (const i of from(2000, 300)) chooser.put(candidate(i));
  // The last turn is that of the first, of the middle and of the last member of a block of keys.
  for (const taken of [1, 128, 129, 130, 256, 257, 299, 300]) {
    turns(300 - 1);
    while (turns(1)[0] !== 1999 + taken);
    for (const i of from(1000, 600)) chooser.put(candidate(i));
    const rest = from(2000 + taken, 300 - taken);
    expect(turns(rest.length + 600 + 5)).toEqual([...rest, ...from(1000, 600), ...from(2000, 5)]);
    for (const i of from(1000, 600)) chooser.remove(candidate(i).key);
    expect(turns(300)).toEqual([...from(2005, 295), ...from(2000, 5)]);
  }
  // Others come behind the one that had the last turn, until their block is too full.
  while (turns(1)[0] !== 2256);
  for (const i of from(2300, 700)) chooser.put(candidate(i));
  expect(turns(743)).toEqual(from(2257, 743));
  // The one that had the last turn goes with all before it, and some behind it.
  turns(50);
  for (const i of from(2000, 210)) chooser.remove(candidate(i).key);
  expect(turns(791)).toEqual([...from(2210, 790), 2210]);
});
