import * as fc from "fast-check";
import { expect, test, vi } from "vitest";
import { LeaseKeys } from "../../src/catalog/lease-keys.ts";
import { type KeyText, KIND, keyText } from "../../src/catalog/record/record.ts";
import { runs } from "../fakes/effort.ts";

function key(instanceId: string): KeyText {
  return keyText({ kind: KIND.SERVICE, namespace: "a", name: "b", instanceId, clusterId: "c" });
}

test("links of keys to owners survive growth, reuse and probe runs that wrap around", () => {
  fc.assert(
    fc.property(
      fc.integer(),
      fc.array(fc.tuple(fc.boolean(), fc.nat(400), fc.nat(40)), { minLength: 200, maxLength: 1500 }),
      (seed, history) => {
        const links = new LeaseKeys(seed);
        const model = new Map<KeyText, number>();
        for (const [attaches, i, owner] of history) {
          const text = key(String(i));
          const before = model.get(text);
          const told = attaches ? links.attach(text, owner) : links.ownerOf(text);
          expect(told).toBe(before);
          if (attaches) {
            model.set(text, owner);
          } else {
            links.detach(text);
            model.delete(text);
          }
        }
        expect(links.size).toBe(model.size);
        for (let i = 0; i <= 400; i += 1) expect(links.ownerOf(key(String(i)))).toBe(model.get(key(String(i))));
        for (let owner = 0; owner <= 40; owner += 1) {
          const expected = [...model].filter(([, held]) => held === owner).map(([text]) => text);
          expect(links.countOf(owner)).toBe(expected.length);
          expect(links.clear(owner).toSorted()).toEqual(expected.toSorted());
        }
        expect(links.size).toBe(0);
      },
    ),
    { numRuns: runs(40) },
  );
});

test("one owner may have very many keys, and they go in one call", () => {
  const links = new LeaseKeys(3);
  for (let i = 0; i < 50_000; i += 1) links.attach(key(String(i)), 5);
  expect(links.countOf(5)).toBe(50_000);
  expect(links.clear(5).length).toBe(50_000);
  expect(links.size).toBe(0);
  expect(links.ownerOf(key("7"))).toBeUndefined();
});

test("no key that is attached moves more than a part of all keys: what grows, grows one after the other", () => {
  const Whole = Int32Array;
  let made = 0;
  class Counted extends Whole {
    constructor(length: number) {
      super(length);
      made += length;
    }
  }
  vi.stubGlobal("Int32Array", Counted);
  const keys = new LeaseKeys(1);
  let most = 0;
  for (let i = 0; i < 70_000; i++) {
    made = 0;
    keys.attach(key(`i${i}`), 0);
    most = Math.max(most, made);
  }
  vi.unstubAllGlobals();
  // One list of links with room for twice as many: what is copied there is a list of numbers.
  expect(most).toBeLessThanOrEqual(131_072);
  expect([keys.size, keys.ownerOf(key("i69999"))]).toEqual([70_000, 0]);
});
