/** Where the answer to a query is found. */
import { expect, test } from "vitest";
import { namespaceCovers } from "../../src/catalog/entry/names.ts";
import { ANY, type EntryFilter } from "../../src/catalog/query/filter.ts";
import { NamespacePrefixes } from "../../src/catalog/query/prefixes.ts";
import { KIND } from "../../src/catalog/record/record.ts";
import { querySourceOf } from "../../src/services/resolving/upstream-query.ts";

const SERVICE = 1 << KIND.SERVICE;
const TOPIC = 1 << KIND.TOPIC;

/** `svc` is followed, with all below it. */
function isComplete(namespace: string): boolean {
  return namespaceCovers("svc", namespace);
}

test.each<{ what: string; filter: Partial<EntryFilter>; want: string }>([
  { what: "a namespace that is followed", filter: { namespace: "svc.eu" }, want: "followed" },
  { what: "all below a prefix that is followed, whatever else is asked", filter: { prefix: "svc", tags: ["blue"] }, want: "followed" },
  { what: "all below a prefix of which only a part is followed", filter: { prefix: "s" }, want: "upstream" },
  { what: "everything", filter: {}, want: "upstream" },
  { what: "a name elsewhere", filter: { namespace: "other", names: ["db"], kindMask: SERVICE }, want: "names 1 other db" },
  {
    what: "names of two kinds elsewhere",
    filter: { namespace: "other", names: ["a", "b"], kindMask: SERVICE | TOPIC },
    want: `names 1 other a, 1 other b, ${KIND.TOPIC} other a, ${KIND.TOPIC} other b`,
  },
  {
    what: "a name of any kind elsewhere",
    filter: { namespace: "other", names: ["db"] },
    want: "names any other db",
  },
  {
    what: "too many names of any kind elsewhere",
    filter: { namespace: "other", names: Array.from({ length: 101 }, (_, i) => `n${i}`) },
    want: "upstream",
  },
  { what: "a whole namespace elsewhere", filter: { namespace: "other", kindMask: SERVICE }, want: "upstream" },
  {
    what: "too many names elsewhere",
    filter: { namespace: "other", names: Array.from({ length: 101 }, (_, i) => `n${i}`), kindMask: SERVICE },
    want: "upstream",
  },
  {
    what: "another resolver's query of what is followed",
    filter: { resolved: new NamespacePrefixes(["svc.a", "svc.b"]) },
    want: "followed",
  },
  { what: "another resolver's query of more than that", filter: { resolved: new NamespacePrefixes(["svc.a", "other"]) }, want: "upstream" },
  { what: "another resolver's query of everything", filter: { resolved: new NamespacePrefixes([""]), namespace: "svc" }, want: "followed" },
  {
    what: "another resolver's query of a name elsewhere",
    filter: { resolved: new NamespacePrefixes([""]), namespace: "other", names: ["db"], kindMask: SERVICE },
    want: "names 1 other db",
  },
])("$what is answered from: $want", ({ filter, want }) => {
  const plan = querySourceOf({ ...ANY, ...filter }, isComplete);
  const names =
    plan.from === "names" ? ` ${plan.names.map(({ kind = "any", namespace, name }) => `${kind} ${namespace} ${name}`).join(", ")}` : "";
  expect(`${plan.from}${names}`).toBe(want);
});
