import { createHash } from "node:crypto";
import fc from "fast-check";
import { expect, test } from "vitest";
import { SCOPE } from "../../../src/catalog/entry/scope.ts";
import type { CatalogRecord, KeyText } from "../../../src/catalog/record/record.ts";
import { DigestSum, NamespaceDigests } from "../../../src/catalog/replica/namespace-digest.ts";
import { runs } from "../../fakes/effort.ts";
import { testRecord } from "../../fakes/records.ts";

/** The definition, word for word: the sum mod 2^64 of the first 8 bytes, big-endian, of SHA-256(delta_id). */
function naive(ids: readonly string[]): bigint {
  return ids.reduce((sum, id) => BigInt.asUintN(64, sum + createHash("sha256").update(id).digest().readBigUInt64BE()), 0n);
}

test("what is added and not taken away again is summed as defined, in any order", () => {
  const id = fc.tuple(fc.constantFrom("a", "b", "c"), fc.nat(50)).map(([node, seq]) => `${node}/1/${seq}`);
  fc.assert(
    fc.property(fc.uniqueArray(id), fc.uniqueArray(id), (kept, passing) => {
      const sum = new DigestSum();
      for (const one of [...passing, ...kept]) sum.add(one);
      for (const one of passing) sum.subtract(one);
      expect([sum.count, sum.value]).toEqual([kept.length, naive(kept)]);
    }),
  );
});

/** Every third record is LOCAL. */
function recordOf(key: KeyText, seq: number): CatalogRecord {
  const record = testRecord({ namespace: "svc", scope: isLocal(seq) ? SCOPE.LOCAL : SCOPE.ZONE });
  return { ...record, key, seq, origin: { ...record.origin, id: "a/1" } };
}

function isLocal(seq: number): boolean {
  return seq % 3 === 0;
}

/** What is visible in the namespace "svc": each key's record by its number. */
class Visible {
  readonly digests = new NamespaceDigests();
  readonly seqs = new Map<string, number>();
  #seq = 0;

  ids(): readonly string[] {
    return [...this.seqs.values()].map((seq) => `a/1/${seq}`);
  }

  change(name: string, isThere: boolean): void {
    const key = `svc\0${name}` as KeyText;
    const before = this.seqs.get(key);
    if (isThere) this.seqs.set(key, ++this.#seq);
    else this.seqs.delete(key);
    const counted = (seq: number | undefined) => this.digests.trackedDelta(seq === undefined ? undefined : recordOf(key, seq));
    this.digests.viewChanged({ namespace: "svc", key }, counted(before), counted(this.seqs.get(key)));
  }

  fill(maxCount: number): number {
    return this.digests.fill("svc", maxCount, (after) => {
      const keys = [...this.seqs.keys()].filter((key) => key > after).toSorted();
      return () => {
        const key = keys.shift();
        return key === undefined ? undefined : recordOf(key as KeyText, this.seqs.get(key) ?? 0);
      };
    });
  }
}

test("a namespace is summed when it is first asked for, and follows its views from then on", () => {
  const svc = new Visible();
  svc.change("a", true);
  expect([svc.digests.isTracked("svc"), svc.digests.find("svc")]).toEqual([false, undefined]);
  expect(svc.fill(10)).toBe(1);
  svc.change("a", true);
  svc.change("b", true);
  expect(svc.digests.find("svc")).toMatchObject({ count: 2, digest: naive(svc.ids()) });
});

test("a namespace that became empty is forgotten and summed anew", () => {
  const svc = new Visible();
  svc.change("a", true);
  svc.fill(10);
  svc.change("a", false);
  expect(svc.digests.isTracked("svc")).toBe(false);
  expect(svc.fill(10)).toBe(0);
  expect(svc.digests.isTracked("svc")).toBe(false);
});

test("it may be summed a few at a time: what changes meanwhile, before the place and behind it, is in the sum as it is in the end", () => {
  const change = fc.tuple(fc.constantFrom("a", "b", "c", "d", "e", "f", "g", "h"), fc.boolean());
  fc.assert(
    fc.property(fc.array(change), fc.array(fc.tuple(fc.integer({ min: 1, max: 3 }), fc.array(change))), (first, turns) => {
      const svc = new Visible();
      for (const [name, isThere] of first) svc.change(name, isThere);
      for (const [maxCount, changes] of turns) {
        if (!svc.digests.isTracked("svc")) expect(svc.fill(maxCount)).toBeLessThanOrEqual(maxCount);
        for (const [name, isThere] of changes) svc.change(name, isThere);
      }
      if (!svc.digests.isTracked("svc")) svc.fill(Number.POSITIVE_INFINITY);
      const sum = svc.digests.find("svc");
      expect([sum?.count ?? 0, sum?.digest ?? 0n]).toEqual([svc.seqs.size, naive(svc.ids())]);
      const shared = [...svc.seqs.values()].filter((seq) => !isLocal(seq)).map((seq) => `a/1/${seq}`);
      const without = svc.digests.find("svc", true);
      expect([without?.count ?? 0, without?.digest ?? 0n]).toEqual([shared.length, naive(shared)]);
    }),
    { numRuns: runs(500) },
  );
});
