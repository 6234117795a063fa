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
      const turns = new Map();
      const first = new Rotation<(typeof members)[number]>(turns, 0);
      for (const member of members.toReversed()) first.put(member);
      const found = Array.from({ length: cut }, () => first.next()?.i);
      // Another rotation of the same members goes on with the turns.
      const second = new Rotation<(typeof members)[number]>(turns, 0);
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
      const rotation = new Rotation<(typeof members)[number]>(new Map(), 0.4);
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

test("an order of keys finds the next after any key, also after puts and removals", () => {
  const order = new KeyOrder<{ readonly key: string }>();
  const held = new Map<string, { readonly key: string }>();
  const key = fc.integer({ min: 0, max: 2000 }).map((n) => String((n * 7919) % 2003).padStart(4, "0"));
  fc.assert(
    fc.property(fc.array(key, { maxLength: 400 }), key, (flips, asked) => {
      for (const one of flips) {
        const member = held.get(one);
        if (member !== undefined) {
          order.remove(member);
          held.delete(one);
        } else {
          held.set(one, { key: one });
          order.put(held.get(one) ?? { key: one });
        }
      }
      const sorted = [...held.keys()].toSorted();
      expect(order.size).toBe(sorted.length);
      expect(order.last()?.key).toBe(sorted.at(-1));
      let last = asked;
      for (let i = 0; i < 20; i++) {
        const next = order.after(last)?.key;
        expect(next).toBe(sorted.find((one) => one > last) ?? sorted[0]);
        last = next ?? "";
      }
      expect(order.at(sorted.length >> 1)?.key).toBe(sorted[sorted.length >> 1]);
    }),
  );
});
