import * as fc from "fast-check";
import { expect, test } from "vitest";
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

/** Of one list of links with room for twice as many: what is copied there is a list of numbers. */
const LIST_SLOTS = 131_072;
/** Of a table: its links are looked for places one by one. */
const TABLE_SLOTS = 16_384;

test.each([
  { what: "one lease with all keys", count: 100_000, ownerOf: () => 0 },
  { what: "a lease a key", count: 85_000, ownerOf: (i: number) => i },
])("no key that is attached moves more than a part of all keys: what grows, grows one after the other ($what)", ({ count, ownerOf }) => {
  const keys = new LeaseKeys(1);
  const slots = () => [...keys.slots.tables, ...keys.slots.lists];
  let most = 0;
  let before = slots();
  for (let i = 0; i < count; i++) {
    keys.attach(key(`i${i}`), ownerOf(i));
    const after = slots();
    const made = after.filter((length, at) => length !== before[at]);
    most = Math.max(
      most,
      made.reduce((sum, length) => sum + length, 0),
    );
    before = after;
  }
  expect(most).toBe(LIST_SLOTS);
  expect(Math.max(...keys.slots.tables)).toBeLessThanOrEqual(TABLE_SLOTS);
  expect([keys.size, keys.ownerOf(key(`i${count - 1}`))]).toEqual([count, ownerOf(count - 1)]);
});
