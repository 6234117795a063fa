import { createHash } from "node:crypto";
import fc from "fast-check";
import { expect, test } from "vitest";
import { DigestSum, NamespaceDigests } from "../../src/catalog/namespace-digest.ts";

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

test("a namespace is filled once, when it is first asked for, and follows its views from then on", () => {
  const digests = new NamespaceDigests();
  const fills: string[] = [];
  const of = (namespace: string, ids: readonly string[]) =>
    digests.of(namespace, (add) => {
      fills.push(namespace);
      for (const id of ids) add(id);
    });
  digests.viewChanged("svc", undefined, "a/1/1");
  expect(digests.isTracked("svc")).toBe(false);
  expect(of("svc", ["a/1/1"]).value).toBe(naive(["a/1/1"]));
  digests.viewChanged("svc", "a/1/1", "a/1/2");
  digests.viewChanged("svc", undefined, "b/1/1");
  expect(of("svc", []).value).toBe(naive(["a/1/2", "b/1/1"]));
  expect(fills).toEqual(["svc"]);
});

test("a namespace that became empty is forgotten and filled anew", () => {
  const digests = new NamespaceDigests();
  digests.of("svc", (add) => add("a/1/1"));
  digests.viewChanged("svc", "a/1/1", undefined);
  expect(digests.isTracked("svc")).toBe(false);
});
