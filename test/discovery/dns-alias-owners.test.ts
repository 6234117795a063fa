/** A list of more names than a page can need: the least of them come first, in order. */
import { expect, test } from "vitest";
import { EntryIndex } from "../../src/catalog/query/entry-index.ts";
import { ANY } from "../../src/catalog/query/filter.ts";
import { SCAN_BUDGET } from "../../src/catalog/query/query.ts";
import type { KeyText } from "../../src/catalog/record/record.ts";
import type { StoredRecord } from "../../src/catalog/record/stored-record.ts";
import { openAliasOwners } from "../../src/discovery/dns-alias-owners.ts";

test("of many carriers of an alias a page has the next ones, without those in namespaces that its reader may not see", () => {
  const keyOf = (n: number) => `${n % 2 === 0 ? "a" : "b"}\0${String(n).padStart(6, "0")}` as KeyText;
  const count = 5 * SCAN_BUDGET;
  // In no order: the factor has no divisor in common with the count.
  const keys = Array.from({ length: count }, (_, n) => keyOf((n * 7919) % count));
  const names = {
    lookups: [new EntryIndex()],
    keysOf: () => keys,
    namesBelow: () => [][Symbol.iterator]() as never,
    view: (key: KeyText) => ({ key, namespace: key[0] }) as unknown as StoredRecord,
  };
  const walk = (afterKey: string) => {
    const cursor = openAliasOwners({ aliases: ["x"], hosts: [] }, names, ANY, {
      afterKey,
      allowed: (namespace) => namespace === "b",
    });
    const walked: string[] = [];
    for (let record = cursor.next(); record !== undefined; record = cursor.next()) walked.push(record.key);
    return walked;
  };
  const sorted = keys.filter((key) => key.startsWith("b")).toSorted();
  expect(walk("")).toEqual(sorted.slice(0, SCAN_BUDGET + 1));
  const at = 15_000;
  expect(walk(sorted[at] ?? "")).toEqual(sorted.slice(at + 1, at + 2 + SCAN_BUDGET));
});
