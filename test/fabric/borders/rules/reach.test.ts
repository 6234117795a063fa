/** What regions tell each other that they hold, and what may stand by it. */
import fc from "fast-check";
import { expect, test } from "vitest";
import { ANY_REACH } from "../../../../src/fabric/borders/rules/lengths.ts";
import { Patterns } from "../../../../src/fabric/borders/rules/patterns.ts";
import {
  beyond,
  type Held,
  isMoreThan,
  joined,
  Support,
  through,
  toldTo,
  unknownThrough,
} from "../../../../src/fabric/borders/rules/reach.ts";
import type { Reach } from "../../../../src/fabric/wire/messages.ts";
import { runs } from "../../../fakes/effort.ts";

const reach = (hops: number, regions: string, ...patterns: readonly string[]): Reach => ({
  hops,
  regions: regions === "" ? [] : regions.split(" "),
  patterns,
});
const rule = (region: string, exports: readonly string[], ...reached: readonly Reach[]) => ({ region, exports, reached });
const EVERYTHING = ["*"];

test.each<{ readonly name: string; readonly held: readonly Held[]; readonly exports?: readonly string[]; readonly told: readonly Reach[] }>(
  [
    { name: "nothing", held: [], told: [] },
    { name: "what a neighbour exports", held: through(rule("a", ["svc"])), told: [reach(1, "a", "svc")] },
    { name: "nothing that comes through the listener", held: through(rule("b", EVERYTHING, reach(1, "a", "*"))), told: [] },
    {
      name: "nothing of the listener or of the teller",
      held: through(rule("a", EVERYTHING, reach(1, "b h", "*"))),
      told: [reach(1, "a", "*")],
    },
    {
      name: "what was told is one border further",
      held: through(rule("a", EVERYTHING, reach(1, "c d", "svc"), reach(3, "e", "svc.x"))),
      told: [reach(1, "a", "*"), reach(2, "c d", "svc"), reach(4, "e", "svc.x")],
    },
    {
      name: "a neighbour tells no more of others than it exports",
      held: through(rule("a", ["svc"], reach(1, "c", "svc.x", "inner"))),
      told: [reach(1, "a", "svc"), reach(2, "c", "svc.x")],
    },
    {
      name: "a neighbour tells nothing more of itself",
      held: through(rule("a", ["svc"], reach(1, "a", "*"))),
      told: [reach(1, "a", "svc")],
    },
    {
      name: "nothing behind eight borders",
      held: through(rule("a", ["*"], reach(6, "c", "*"), reach(7, "d", "*"))),
      told: [reach(1, "a", "*"), reach(7, "c", "*")],
    },
    { name: "no more than is exported", held: through(rule("a", EVERYTHING)), exports: ["svc"], told: [reach(1, "a", "svc")] },
    {
      name: "what is nearer is not said again, and equal regions share a row",
      held: [rule("a", ["svc", "inner"]), rule("c", EVERYTHING, reach(1, "a", "svc", "inner.x", "other")), rule("d", EVERYTHING)].flatMap(
        through,
      ),
      told: [reach(1, "a", "inner", "svc"), reach(1, "c d", "*"), reach(2, "a", "other")],
    },
    {
      name: "everything while a neighbour was not heard",
      held: [...unknownThrough("a"), ...through(rule("c", ["svc"]))],
      told: [reach(1, "", "*")],
    },
    {
      name: "everything where it is too long",
      held: Array.from({ length: 20 }, (_, n) => through(rule(`${n}`.padStart(60, "r"), [`${n}`.padStart(60, "p")]))).flat(),
      told: ANY_REACH,
    },
  ],
)("a region tells another one what it holds: $name", ({ held, exports = EVERYTHING, told }) => {
  expect(toldTo(held, "h", "b", exports)).toEqual(told);
});

test("inside a cluster what a nearer neighbour exports is left out, and what several links told is one", () => {
  const direct = new Map([["a", new Patterns(["svc"])]]);
  expect(beyond([reach(1, "a c", "svc.x", "inner")], direct)).toEqual([reach(1, "a", "inner"), reach(1, "c", "inner", "svc.x")]);
  expect(beyond([reach(1, "a", "svc")], direct)).toEqual([]);
  expect(beyond(ANY_REACH, direct)).toEqual(ANY_REACH);
  expect(joined([reach(2, "a", "svc"), reach(1, "c", "svc"), reach(1, "a", "svc")])).toEqual([reach(1, "a c", "svc")]);
});

test("a word about any region is about all but that of the neighbour", () => {
  const support = new Support(through(rule("a", ["svc", "x"], reach(1, "", "svc"))));
  expect([support.covers("svc", "b"), support.covers("x", "b"), support.covers("x", "a"), support.covers("other", "a")]).toEqual([
    true,
    false,
    true,
    false,
  ]);
  expect([support.covers("x", undefined), support.covers("other", undefined)]).toEqual([true, false]);
  expect(support.isOpenTo(new Set(["a"]))).toBe(false);
  expect(new Support(through(rule("a", EVERYTHING, ...ANY_REACH))).isOpenTo(new Set(["a", "b"]))).toBe(true);
  expect(new Support(through(rule("a", EVERYTHING))).isOpenTo(new Set(["a", "b"]))).toBe(false);
});

test("more is what was not told before", () => {
  const before = [reach(1, "a", "svc"), reach(2, "b", "*")];
  expect([reach(3, "a", "svc.x"), reach(1, "b", "*")].map((row) => isMoreThan([row], before))).toEqual([false, false]);
  expect([reach(1, "c", "svc"), reach(1, "a", "*"), ...ANY_REACH].map((row) => isMoreThan([row], before))).toEqual([true, true, true]);
  expect(isMoreThan(before, ANY_REACH)).toBe(false);
});

/** Regions of one cluster each that tell each other what they hold, one word after another in any order. */
class Told {
  readonly #exports = new Map<string, readonly string[]>();
  readonly #heard = new Map<string, readonly Reach[]>();
  readonly #due = new Set<string>();
  readonly #places: readonly string[];

  constructor(places: readonly string[]) {
    this.#places = places;
  }

  /** From now on one region exports this to another. */
  rule(from: string, to: string, exports: readonly string[]): void {
    this.#exports.set(`${from} ${to}`, exports);
    for (const each of this.#places) this.#due.add(`${to} ${each}`).add(`${from} ${each}`);
  }

  /** One word is said. Returns whether there was one. */
  step(nth: number): boolean {
    const due = [...this.#due];
    const one = due[nth % Math.max(1, due.length)];
    if (one === undefined) return false;
    this.#due.delete(one);
    const [from = "", to = ""] = one.split(" ");
    const exports = this.#exports.get(one);
    if (exports === undefined) return true;
    const said = toldTo(this.held(from), from, to, exports);
    if (JSON.stringify(said) === JSON.stringify(this.#heard.get(one))) return true;
    this.#heard.set(one, said);
    for (const each of this.#places) this.#due.add(`${to} ${each}`);
    return true;
  }

  /** All is said that is to be said, which comes to an end. */
  rest(): void {
    for (let n = 0; this.step(n * 7); n++) if (n > 20_000) throw new Error("they never come to rest");
  }

  held(at: string): readonly Held[] {
    return this.#places.flatMap((from) => {
      const exports = this.#exports.get(`${from} ${at}`);
      return exports === undefined ? [] : through({ region: from, exports, reached: this.#heard.get(`${from} ${at}`) ?? [] });
    });
  }

  /** The dumb model: whether there is a way from a region to another one on which everybody exports the namespace. */
  isReached(from: string, to: string, namespace: string): boolean {
    let reached = new Set([from]);
    for (let n = 0; n < 8; n++) {
      const more = this.#places.filter((next) =>
        [...reached].some((at) => new Patterns(this.#exports.get(`${at} ${next}`) ?? []).covers(namespace)),
      );
      reached = new Set([...reached, ...more]);
    }
    return reached.has(to);
  }
}

test("whatever regions export to each other, and however that changes, in the end each holds what comes to it on some way, and nothing else", () => {
  const places = ["a", "b", "c", "d", "e", "f"];
  const namespaces = ["x", "x.y", "x.y.z", "w"];
  const place = fc.constantFrom(...places);
  const exports = fc.oneof(fc.constant(EVERYTHING), fc.subarray(["x", "x.*", "x.y", "x.y.*", "w"]));
  // Often all has been said before the next change, so that what is taken back was known everywhere.
  const change = fc.record({ from: place, to: place, exports, isAtRest: fc.boolean(), steps: fc.array(fc.nat(100), { maxLength: 12 }) });
  fc.assert(
    fc.property(fc.array(change, { minLength: 1, maxLength: 60, size: "max" }), (changes) => {
      const world = new Told(places);
      for (const { from, to, exports: its, isAtRest, steps } of changes) {
        if (from === to) continue;
        world.rule(from, to, its);
        for (const nth of steps) world.step(nth);
        if (isAtRest) world.rest();
      }
      world.rest();
      for (const at of places) {
        const support = new Support(world.held(at));
        for (const from of places.filter((each) => each !== at))
          for (const namespace of namespaces)
            expect([from, at, namespace, support.covers(namespace, from)]).toEqual([
              from,
              at,
              namespace,
              world.isReached(from, at, namespace),
            ]);
      }
    }),
    { numRuns: runs(60) },
  );
});
