/** What a resolver keeps: within its bounds, what is asked for most; a scan costs little. */
import fc from "fast-check";
import { expect, test } from "vitest";
import { Rng } from "../../../src/lib/rng.ts";
import { BoundedCache } from "../../../src/resolver/cache/bounded-cache.ts";
import { NamePopularity } from "../../../src/resolver/cache/popularity.ts";
import { runs } from "../../fakes/effort.ts";
import { Zipf } from "../../fakes/zipf.ts";

const NAMES = 10_000;
const ENTRIES_A_NAME = 10;

function nameOf(index: number): string {
  return `svc.ns${index % 1000}\0name${index}`;
}

class Cache {
  readonly bounded: BoundedCache<number>;
  hits = 0;
  asks = 0;

  constructor(names: number, seed: number) {
    const rng = new Rng(seed);
    this.bounded = new BoundedCache({
      maxEntries: names * ENTRIES_A_NAME,
      maxBytes: 1e9,
      worthOf: () => 1,
      onEvicted: () => undefined,
      random: () => rng.next(),
    });
  }

  ask(name: string): void {
    this.asks += 1;
    if (this.bounded.ask(name) !== undefined) this.hits += 1;
    else this.bounded.put(name, 1, { entries: ENTRIES_A_NAME, bytes: 2000 });
  }

  /** The share of hits since the last call. */
  rate(): number {
    const rate = this.hits / this.asks;
    this.hits = 0;
    this.asks = 0;
    return rate;
  }
}

test.each([1, 2])(
  "P13: with room for a tenth of the names it gets at least 0.95 of what the most asked tenth gets, and a scan costs at most 2 points (seed %i)",
  (seed) => {
    const zipf = new Zipf(NAMES, new Rng(seed));
    const cache = new Cache(NAMES / 10, seed);
    for (let i = 0; i < 200_000; i++) cache.ask(nameOf(zipf.draw()));
    cache.rate();
    for (let i = 0; i < 200_000; i++) cache.ask(nameOf(zipf.draw()));
    const before = cache.rate();
    expect(before).toBeGreaterThanOrEqual(0.95 * zipf.share(NAMES / 10));
    for (let i = 0; i < NAMES; i++) cache.ask(nameOf(i));
    cache.rate();
    for (let i = 0; i < 20_000; i++) cache.ask(nameOf(zipf.draw()));
    expect(before - cache.rate()).toBeLessThanOrEqual(0.02);
  },
);

test("what is asked for changes: names that become popular take the room of those that are no longer asked for", {
  tags: ["night"],
}, () => {
  const zipf = new Zipf(NAMES, new Rng(7));
  const cache = new Cache(NAMES / 10, 7);
  for (let i = 0; i < 200_000; i++) cache.ask(nameOf(zipf.draw()));
  for (let i = 0; i < 400_000; i++) cache.ask(`new ${nameOf(zipf.draw())}`);
  cache.rate();
  for (let i = 0; i < 100_000; i++) cache.ask(`new ${nameOf(zipf.draw())}`);
  expect(cache.rate()).toBeGreaterThanOrEqual(0.93 * zipf.share(NAMES / 10));
});

test("its bounds hold after every step, and its sums are those of what it keeps", () => {
  const step = fc.record({
    what: fc.constantFrom("put", "put", "put", "ask", "take"),
    key: fc.nat(20).map(String),
    entries: fc.nat(30),
    bytes: fc.nat(5000),
    worth: fc.constantFrom(0, 1),
  });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), fc.nat(1000), (steps, seed) => {
      const rng = new Rng(seed);
      const kept = new Map<string, { entries: number; bytes: number; worth: number }>();
      const bounded = new BoundedCache<{ worth: number }>({
        maxEntries: 100,
        maxBytes: 100_000,
        worthOf: ({ worth }) => worth,
        onEvicted: (key) => void kept.delete(key),
        random: () => rng.next(),
      });
      const empty = bounded.bytes;
      for (const { what, key, entries, bytes, worth } of steps) {
        if (what === "ask") bounded.ask(key);
        else if (what === "take") {
          bounded.take(key);
          kept.delete(key);
        } else if (bounded.put(key, { worth }, { entries, bytes })) kept.set(key, { entries, bytes, worth });
        else kept.delete(key);
        const sum = [...kept.values()].reduce((all, one) => ({ entries: all.entries + one.entries, bytes: all.bytes + one.bytes }), {
          entries: 0,
          bytes: 0,
        });
        expect(bounded.contentBytes).toBe(sum.bytes);
        expect(bounded.bytes).toBeGreaterThanOrEqual(empty + sum.bytes);
        expect([sum.entries <= 100, bounded.bytes <= 100_000]).toEqual([true, true]);
        expect([...bounded.items()].map(([name]) => name).toSorted()).toEqual([...kept.keys()].toSorted());
      }
    }),
    { numRuns: runs(300) },
  );
});

test("what is worth less goes first, however often it is asked for", () => {
  const gone: string[] = [];
  const bounded = new BoundedCache<{ readonly worth: number }>({
    maxEntries: 2,
    maxBytes: 1e9,
    worthOf: ({ worth }) => worth,
    onEvicted: (key) => void gone.push(key),
    random: new Rng(1).next.bind(new Rng(1)),
  });
  for (let i = 0; i < 50; i++) bounded.ask("nothing");
  bounded.put("nothing", { worth: 0 }, { entries: 1, bytes: 10 });
  bounded.put("answer", { worth: 1 }, { entries: 1, bytes: 10 });
  expect(bounded.put("other", { worth: 1 }, { entries: 1, bytes: 10 })).toBe(true);
  expect(gone).toEqual(["nothing"]);
  expect(bounded.put("nothing", { worth: 0 }, { entries: 1, bytes: 10 })).toBe(false);
});

test("a count is never too low, and old asks count less", () => {
  const popularity = new NamePopularity(1000);
  for (let i = 0; i < 5000; i++) popularity.ask(`n${i % 500}`);
  for (let i = 0; i < 500; i++) expect(popularity.of(`n${i}`)).toBeGreaterThanOrEqual(10);
  for (let i = 0; i < 600_000; i++) popularity.ask("other");
  expect(popularity.of("n1")).toBeLessThan(10);
  expect(popularity.of("other")).toBeGreaterThan(100);
});

test("counts are halved from time to time, each by itself, and a count never rises above 255", () => {
  const popularity = new NamePopularity(1);
  const asked = { often: 1000, some: 201, few: 3, once: 1 };
  let left = 262_144;
  for (const [name, count] of Object.entries(asked)) for (let i = 0; i < count; i++, left--) popularity.ask(name);
  expect(Object.keys(asked).map((name) => popularity.of(name))).toEqual([255, 201, 3, 1]);
  for (; left > 0; left--) popularity.ask("other");
  expect(Object.keys(asked).map((name) => popularity.of(name))).toEqual([127, 100, 1, 0]);
});
