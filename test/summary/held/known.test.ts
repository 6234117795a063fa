/** What is known of the keys of a source, beside a plain map of them. */
import fc from "fast-check";
import { expect, test } from "vitest";
import { SCOPE } from "../../../src/catalog/entry/scope.ts";
import type { KeyText } from "../../../src/catalog/record/record.ts";
import { type Fact, Known } from "../../../src/summary/held/known.ts";
import { recordKey } from "../../../src/summary/keys.ts";
import { runs } from "../../fakes/effort.ts";
import { facts } from "../../fakes/held-world.ts";

/** Some names begin alike, and keys do not come in their order. */
function keyAt(n: number): KeyText {
  return recordKey(facts(`s-${(n * 7919) % 1000}`, { namespace: `svc.team-${n % 7}`, channel: n % 2 === 0 ? SCOPE.GLOBAL : SCOPE.REGION }));
}

class Model {
  readonly facts = new Map<KeyText, Fact>();
  readonly orders = new Map<KeyText, number>();
}

test("facts and numbers of keys are as they were set last, whatever comes and goes", () => {
  const KEYS = 900;
  const step = fc.record({
    kind: fc.constantFrom("set", "set", "set", "set", "order", "order", "delete", "delete many"),
    at: fc.nat(KEYS - 1),
    count: fc.integer({ min: 1, max: 400 }),
    value: fc.integer({ min: -(2 ** 40), max: 2 ** 40 }),
  });
  const check = (known: Known, { facts: held, orders }: Model) => {
    expect(known.size).toBe(held.size);
    const wanted = new Map([...held].map(([key, fact]) => [key, { ...fact, order: orders.get(key) ?? 0 }]));
    expect(new Map(known.entries())).toEqual(wanted);
    expect([...known.keys()].toSorted()).toEqual([...held.keys()].toSorted());
    for (let n = 0; n < KEYS; n++) {
      expect(known.get(keyAt(n))).toEqual(wanted.get(keyAt(n)));
      expect(known.orderOf(keyAt(n))).toBe(orders.get(keyAt(n)) ?? 0);
    }
  };
  fc.assert(
    fc.property(fc.array(step, { maxLength: 40, size: "max" }), (steps) => {
      const [known, model] = [new Known(), new Model()];
      for (const { kind, at, count, value } of steps) {
        for (let n = at; n < Math.min(at + count, KEYS); n++) {
          const key = keyAt(n);
          const isOne = n === at;
          if (kind === "set") {
            const fact = { version: value, tag: BigInt.asUintN(64, BigInt(value) * BigInt(n + 1)) };
            known.set(key, fact);
            model.facts.set(key, fact);
          } else if (kind === "order" && model.facts.has(key)) {
            known.setOrder(key, Math.abs(value));
            model.orders.set(key, Math.abs(value));
          } else if (kind === "delete many" || (kind === "delete" && isOne)) {
            known.delete(key);
            model.facts.delete(key);
            model.orders.delete(key);
          }
        }
      }
      check(known, model);
    }),
    { numRuns: runs(30) },
  );
});

test("a walk visits each key that stays once, whatever comes and goes meanwhile", () => {
  const known = new Known();
  const fact = { version: 1, tag: 1n };
  for (let n = 0; n < 1000; n++) known.set(keyAt(n), fact);
  const visited: KeyText[] = [];
  for (const key of known.keys()) {
    visited.push(key);
    // Keys before and behind the walk go, and others come in their places.
    const n = visited.length;
    if (n % 3 === 0) known.delete(keyAt(2 * ((n * 31) % 500)));
    if (n % 5 === 0) known.set(keyAt(1000 + n), fact);
  }
  const stayed = Array.from({ length: 500 }, (_, n) => keyAt(2 * n + 1));
  expect(new Set(visited).size).toBe(visited.length);
  expect(new Set(visited).isSupersetOf(new Set(stayed))).toBe(true);
});

test("a walk ends when all is forgotten", () => {
  const known = new Known();
  for (let n = 0; n < 600; n++) known.set(keyAt(n), { version: 1, tag: 1n });
  const walk = known.keys();
  walk.next();
  for (let n = 0; n < 600; n++) known.delete(keyAt(n));
  expect(walk.next().done).toBe(true);
  known.set(keyAt(0), { version: 2, tag: 2n });
  expect([...known.entries()]).toEqual([[keyAt(0), { version: 2, tag: 2n, order: 0 }]]);
});
