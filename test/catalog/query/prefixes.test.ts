import fc from "fast-check";
import { expect, test } from "vitest";
import { namespaceCovers } from "../../../src/catalog/entry/names.ts";
import { ANY, coveredNamespaces } from "../../../src/catalog/query/filter.ts";
import { NamespacePrefixes } from "../../../src/catalog/query/prefixes.ts";
import { SortedNames } from "../../../src/catalog/query/sorted-blocks.ts";
import { runs } from "../../fakes/effort.ts";

const NAMES = ["a", "a-b", "a-b.c", "a.b", "a.b-c", "a.b.c", "a.bc", "a0", "b", "b.a", "c.d.e"];
const someNames = fc.subarray(NAMES);

test("prefixes cover what any of them covers, are listed without those below others, and a filter walks just the covered names in order", () => {
  fc.assert(
    fc.property(fc.subarray(["", ...NAMES, "none"]), someNames, fc.constantFrom("", ...NAMES), (prefixes, names, prefix) => {
      const resolved = new NamespacePrefixes(prefixes);
      const covers = (name: string) => prefixes.some((each) => namespaceCovers(each, name));
      expect(NAMES.filter((name) => resolved.covers(name))).toEqual(NAMES.filter(covers));
      expect(resolved.list).toEqual(
        prefixes.filter((one) => !prefixes.some((other) => other !== one && namespaceCovers(other, one))).toSorted(),
      );
      const sorted = new SortedNames();
      for (const name of names) sorted.add(name);
      const want = names.filter((name) => covers(name) && namespaceCovers(prefix, name)).toSorted();
      expect([...coveredNamespaces(sorted, { ...ANY, prefix, resolved })]).toEqual(want);
    }),
    { numRuns: runs(2000) },
  );
});

test("prefixes given twice count once", () => {
  expect(new NamespacePrefixes(["b", "a.b", "a", "b"]).list).toEqual(["a", "b"]);
});
