import fc from "fast-check";
import { expect, test } from "vitest";
import { hashBytes, KeyTable } from "../../../src/store/journal/key-table.ts";

/** The table with the store it proposes candidates from: value → name. */
class Named {
  readonly table = new KeyTable();
  readonly stored = new Map<number, string>();
  readonly #hash: (name: string) => number;

  constructor(hash: (name: string) => number) {
    this.#hash = hash;
  }

  put(name: string, value: number): void {
    this.table.replace(this.#hash(name), value, (candidate) => this.#take(candidate, name));
    this.stored.set(value, name);
  }

  remove(name: string): void {
    this.table.remove(this.#hash(name), (candidate) => this.#take(candidate, name));
  }

  find(name: string): number | undefined {
    return this.table.find(this.#hash(name), (candidate) => this.stored.get(candidate) === name);
  }

  #take(candidate: number, name: string): boolean {
    return this.stored.get(candidate) === name && this.stored.delete(candidate);
  }
}

const steps = fc.array(
  fc.record({ kind: fc.constantFrom("put", "put", "put", "remove", "undo"), name: fc.integer({ min: 0, max: 40 }).map((n) => `name${n}`) }),
  { maxLength: 300 },
);

test.each([
  { hashing: "good", hash: (name: string) => hashBytes(new TextEncoder().encode(name), 99) },
  { hashing: "colliding", hash: (name: string) => name.length },
])("with $hashing hashes the table holds what a map holds, also after changes were taken back", ({ hash }) => {
  fc.assert(
    fc.property(steps, (history) => {
      const named = new Named(hash);
      const model = new Map<string, number>();
      history.forEach(({ kind, name }, i) => {
        named.table.begin(1);
        if (kind === "remove") {
          named.remove(name);
          model.delete(name);
        } else if (kind === "put") {
          named.put(name, i + 1);
          model.set(name, i + 1);
        } else {
          const before = new Map(named.stored);
          named.put(name, i + 1);
          named.remove(`${name}x`);
          named.table.rollback();
          named.stored.clear();
          for (const [value, text] of before) named.stored.set(value, text);
        }
      });
      expect(named.table.size).toBe(model.size);
      for (const [name, value] of model) expect(named.find(name)).toBe(value);
      expect(new Set(named.stored.values())).toEqual(new Set(model.keys()));
    }),
  );
});

test("a table that grows through thousands of names keeps all of them", () => {
  const named = new Named((name) => hashBytes(new TextEncoder().encode(name), 1));
  for (let i = 1; i <= 5000; i++) {
    named.table.add(hashBytes(new TextEncoder().encode(`k${i}`), 1), i);
    named.stored.set(i, `k${i}`);
  }
  named.table.begin(5000);
  for (let i = 5001; i <= 10_000; i++) named.put(`k${i}`, i);
  expect(named.table.size).toBe(10_000);
  for (let i = 1; i <= 10_000; i++) expect(named.find(`k${i}`)).toBe(i);
});

test("names put and removed for ever do not fill the table", () => {
  const named = new Named((name) => hashBytes(new TextEncoder().encode(name), 5));
  for (let i = 1; i <= 20_000; i++) {
    named.table.begin(1);
    named.put(`k${i}`, i);
    named.remove(`k${i}`);
  }
  expect(named.table.size).toBe(0);
  expect(named.find("k20000")).toBeUndefined();
});

test("the seed changes which names collide", () => {
  const bytes = new TextEncoder().encode("svc.market");
  expect(hashBytes(bytes, 1)).not.toBe(hashBytes(bytes, 2));
  expect(hashBytes(bytes, 1)).toBe(hashBytes(bytes, 1));
});
