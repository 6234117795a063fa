import fc from "fast-check";
import { expect, test } from "vitest";
import {
  type CatalogRecord,
  deltaId,
  type EntryKey,
  HEALTH,
  isKeyOf,
  KIND,
  keyParts,
  keyText,
  type OriginStatus,
  viewHealth,
} from "../../../src/catalog/record/record.ts";

const ORIGIN = { id: "n1/3", nodeId: "n1", generation: 3 };

/** As much of a record as these functions look at. */
function recordOf(fields: { readonly health: CatalogRecord["health"]; readonly life: OriginStatus; readonly seq?: number }): CatalogRecord {
  return { health: fields.health, seq: fields.seq ?? 1, origin: { ...ORIGIN, life: fields.life } } as CatalogRecord;
}

const word = fc.stringMatching(/^[A-Za-z0-9._:/@+-]{1,12}$/);
const key: fc.Arbitrary<EntryKey> = fc.record({
  kind: fc.constantFrom(...Object.values(KIND)),
  namespace: fc.stringMatching(/^[a-z0-9]{1,5}(\.[a-z0-9]{1,5}){0,2}$/),
  name: word,
  instanceId: word,
  clusterId: word,
});

test("a key's text holds its parts, and two keys share a text only when they are one", () => {
  fc.assert(
    fc.property(key, key, (a, b) => {
      expect(keyParts(keyText(a))).toEqual(a);
      expect(keyText(a) === keyText(b)).toBe(JSON.stringify(keyParts(keyText(a))) === JSON.stringify(keyParts(keyText(b))));
    }),
  );
});

test("the order of key texts is the order of lists: namespace, name, kind, instance, cluster", () => {
  const inOrder = (a: EntryKey, b: EntryKey): number => {
    const parts = (each: EntryKey) => [each.namespace, each.name, String(each.kind), each.instanceId, each.clusterId];
    const [left, right] = [parts(a), parts(b)];
    const at = left.findIndex((part, i) => part !== right[i]);
    return at < 0 ? 0 : (left[at] ?? "") < (right[at] ?? "") ? -1 : 1;
  };
  fc.assert(
    fc.property(key, key, (a, b) => {
      const [left, right] = [keyText(a), keyText(b)];
      expect(left < right ? -1 : left > right ? 1 : 0).toBe(inOrder(a, b));
    }),
  );
});

test.each([
  { life: "live", health: HEALTH.DEGRADED, want: HEALTH.DEGRADED },
  { life: "orphaned", health: HEALTH.HEALTHY, want: HEALTH.ORPHANED },
  { life: "hidden", health: HEALTH.CRITICAL, want: HEALTH.ORPHANED },
  { life: "live", health: HEALTH.MAINTENANCE, want: HEALTH.MAINTENANCE },
  { life: "orphaned", health: HEALTH.MAINTENANCE, want: HEALTH.MAINTENANCE },
] as const)("Orphans: readers see $want of a record of health $health whose origin is $life", ({ life, health, want }) => {
  expect(viewHealth(recordOf({ health, life }))).toBe(want);
});

test("a delta is named after its origin's node, generation and seq, the same everywhere", () => {
  expect(deltaId(recordOf({ health: HEALTH.HEALTHY, life: "live", seq: 42 }))).toBe("n1/3/42");
});

test.each([
  { clusterId: "c1", asked: "c1", want: true },
  { clusterId: "c1", asked: "c2", want: false },
  { clusterId: "dc1", asked: "c1", want: false },
  { clusterId: "c1", asked: "dc1", want: false },
  { clusterId: "", asked: "", want: true },
  { clusterId: "c1", asked: "", want: false },
])("a key of cluster $clusterId is one of $asked: $want", ({ clusterId, asked, want }) => {
  expect(isKeyOf(asked, keyText({ kind: KIND.SERVICE, namespace: "svc", name: "web", instanceId: "1", clusterId }))).toBe(want);
});
