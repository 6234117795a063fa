/** A page of what an upstream shows and what is held, in the order of the keys (semantics.md, Resolver 16). */
import { create } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import { EntrySchema } from "../../gen/waymark/catalog/v1/entry_pb.js";
import { type PagePart, withRetained } from "../../src/services/resolving/retained-entries.ts";

const part = (keys: string, isMore: boolean): PagePart => ({
  shown: Array.from(keys, (key) => ({ key, entry: create(EntrySchema), encoded: new Uint8Array() })),
  isMore,
});

test.each([
  { what: "both are whole", upstream: part("ac", false), held: part("bd", false), limit: 10, keys: "abcd", isMore: false },
  { what: "the upstream goes on", upstream: part("ac", true), held: part("bd", false), limit: 10, keys: "abc", isMore: true },
  { what: "more is held", upstream: part("ad", false), held: part("bc", true), limit: 10, keys: "abc", isMore: true },
  { what: "there is more than asked for", upstream: part("ac", false), held: part("bd", false), limit: 2, keys: "ab", isMore: true },
])("nothing is shown beyond what is known of both parts: $what", ({ upstream, held, limit, keys, isMore }) => {
  const page = withRetained(upstream, held, limit);
  expect([page.shown.map(({ key }) => key).join(""), page.isMore]).toEqual([keys, isMore]);
});
