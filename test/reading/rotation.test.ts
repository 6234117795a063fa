/** Smooth weighted round robin in lanes, beside nginx's plain form. */
import * as fc from "fast-check";
import { expect, test } from "vitest";
import { KeyOrder } from "../../src/reading/key-order.ts";
import { Rotation } from "../../src/reading/rotation.ts";

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
const membersOf = (weights: readonly number[]) => weights.map((weight, i) => ({ key: String(i).padStart(3, "0"), weight, i }));

test("turns are those of nginx's algorithm, for any weights", () => {
  fc.assert(
    fc.property(weightsOf, fc.nat(50), (weights, cut) => {
      const members = membersOf(weights);
      const first = new Rotation<(typeof members)[number]>(0, undefined);
      for (const member of members.toReversed()) first.put(member);
      const found = Array.from({ length: cut }, () => first.next()?.i);
      // Another rotation of the same members goes on with the turns.
      const second = new Rotation<(typeof members)[number]>(0, first.turns);
      for (const member of members) second.put(member);
      for (let i = 0; i < 60; i++) found.push(second.next()?.i);
      expect(found).toEqual(naive(weights, cut + 60));
    }),
  );
});

test("after members came and went, each has its share of turns within two", () => {
  fc.assert(
    fc.property(weightsOf, fc.array(fc.tuple(fc.nat(11), fc.nat(5)), { maxLength: 30 }), (weights, steps) => {
      const members = membersOf(weights);
      const rotation = new Rotation<(typeof members)[number]>(0.4, undefined);
      const held = new Set<(typeof members)[number]>();
      const flip = (member: (typeof members)[number]) => {
        if (held.delete(member)) rotation.remove(member);
        else rotation.put([...held.add(member)].at(-1) ?? member);
      };
      for (const [i, turns] of steps) {
        const member = members[i];
        if (member !== undefined) flip(member);
        for (let turn = 0; turn < turns; turn++) rotation.next();
      }
      for (const member of members) if (!held.has(member)) flip(member);
      const total = weights.reduce((sum, weight) => sum + weight, 0);
      const counts = members.map(() => 0);
      // What changed left some ahead of others; that is over after a few rounds and does not grow.
      for (let i = 0; i < total * 40; i++) rotation.next();
      for (let i = 0; i < total * 10; i++) {
        const next = rotation.next();
        if (next !== undefined) counts[next.i] = (counts[next.i] ?? 0) + 1;
      }
      for (const [i, weight] of weights.entries()) expect(Math.abs((counts[i] ?? 0) - weight * 10)).toBeLessThanOrEqual(2);
    }),
  );
});

test("an order of keys moves on from its place, also after puts and removals", () => {
  const step = fc.oneof(
    fc.record({ flip: fc.nat(900) }),
    fc.record({ moves: fc.nat(30) }),
    fc.record({ after: fc.nat(900) }),
    fc.record({ before: fc.nat(900) }),
  );
  fc.assert(
    fc.property(fc.nat(900), fc.array(step, { maxLength: 300 }), (size, steps) => {
      const order = new KeyOrder<{ readonly key: string }>();
      const held = new Map<string, { readonly key: string }>();
      const keyOf = (n: number) => String(n).padStart(4, "0");
      const flip = (key: string) => {
        const member = held.get(key) ?? { key };
        if (held.delete(key)) order.remove(member);
        else order.put(held.set(key, member).get(key) ?? member);
      };
      for (let i = 0; i < size; i++) flip(keyOf((i * 467) % 901));
      // The key at the place, in the plain form. Empty before all.
      let last = "";
      const before = (key: string) => [...held.keys()].toSorted().findLast((one) => one <= key) ?? "";
      for (const one of steps) {
        const sorted = [...held.keys()].toSorted();
        if ("flip" in one) {
          flip(keyOf(one.flip));
          last = before(last);
        } else if ("after" in one) {
          order.placeAfter(keyOf(one.after));
          last = before(keyOf(one.after));
        } else if ("before" in one && one.before < sorted.length) {
          order.placeBefore(one.before);
          last = sorted[one.before - 1] ?? "";
        } else if ("moves" in one) {
          for (let i = 0; i < one.moves; i++) {
            const want = sorted.find((key) => key > last) ?? sorted[0];
            expect([order.peek()?.key, order.next()?.key, order.isAtEnd]).toEqual([
              want,
              want,
              want !== undefined && want === sorted.at(-1),
            ]);
            last = want ?? last;
          }
        }
        expect(order.size).toBe(held.size);
      }
    }),
  );
});
