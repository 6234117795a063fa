import * as fc from "fast-check";
import { expect, test } from "vitest";
import { SCOPE, type Scope } from "../../../src/catalog/entry/scope.ts";
import { EntryIndex, type IndexFields } from "../../../src/catalog/query/entry-index.ts";
import type { ListCursor } from "../../../src/catalog/query/ordered-records.ts";
import { type CatalogRecord, KIND, type Kind } from "../../../src/catalog/record/record.ts";
import { runs } from "../../fakes/effort.ts";
import { byKey, type TestRecord, testRecord, testTraits } from "../../fakes/records.ts";

const KINDS: readonly Kind[] = Object.values(KIND);
const SCOPES: readonly Scope[] = Object.values(SCOPE);
const NAMESPACES = ["a", "a.b", "a-b"] as const;
const NAMES = ["x", "y"] as const;
const TERMS = ["t1", "t2", "t3"] as const;
const TENANTS = ["", "t1", "t2"] as const;
const TERM_FIELDS = ["tags", "capabilities", "resources"] as const;

function drain(cursor: ListCursor): readonly CatalogRecord[] {
  const records: CatalogRecord[] = [];
  for (let record = cursor.next(); record !== undefined; record = cursor.next()) records.push(record);
  return records;
}

/** Everything a lookup says, from the lookup and worked out from a plain array. */
function said(lookup: EntryIndex): unknown {
  const byField = (field: "tags" | "capabilities" | "resources" | "names", term: string) => [
    field,
    term,
    lookup[field].count(term),
    drain(lookup[field].cursor(term)),
  ];
  return {
    all: drain(lookup.cursor()),
    namespaces: lookup.namespaces.list(),
    namespaceCounts: NAMESPACES.map((namespace) => lookup.namespaceCount(namespace)),
    usage: [...NAMESPACES.map((name) => lookup.namespaceUsage(name)), ...TENANTS.map((name) => lookup.tenantUsage(name))],
    kinds: KINDS.map((kind) => [lookup.ofKind(kind).size, SCOPES.map((scope) => lookup.count(kind, scope))]),
    terms: [...NAMES.map((name) => byField("names", name)), ...TERM_FIELDS.flatMap((field) => TERMS.map((term) => byField(field, term)))],
  };
}

function expected(model: readonly CatalogRecord[]): unknown {
  const records = model.toSorted(byKey);
  const where = (holds: (record: CatalogRecord) => boolean) => records.filter(holds);
  const held = (found: readonly CatalogRecord[]) => ({
    entries: found.length,
    bytes: found.reduce((sum, record) => sum + record.contentBytes, 0),
  });
  const list = (field: string, term: string, found: readonly CatalogRecord[]) => [field, term, found.length, found];
  return {
    all: records,
    namespaces: [...new Set(records.map((record) => record.namespace))].toSorted(),
    namespaceCounts: NAMESPACES.map((namespace) => where((record) => record.namespace === namespace).length),
    usage: [
      ...NAMESPACES.map((name) => held(where((record) => record.namespace === name))),
      ...TENANTS.map((name) => held(where((record) => name !== "" && record.traits.tenantId === name))),
    ],
    kinds: KINDS.map((kind) => [
      where((record) => record.kind === kind).length,
      SCOPES.map((scope) => where((record) => record.kind === kind && record.scope === scope).length),
    ]),
    terms: [
      ...NAMES.map((name) =>
        list(
          "names",
          name,
          where((record) => record.name === name),
        ),
      ),
      ...TERM_FIELDS.flatMap((field) =>
        TERMS.map((term) =>
          list(
            field,
            term,
            where((record) => record.traits[field].includes(term)),
          ),
        ),
      ),
    ],
  };
}

const terms = fc.subarray([...TERMS]);
const spec = fc.record({
  namespace: fc.constantFrom(...NAMESPACES),
  name: fc.constantFrom(...NAMES),
  kind: fc.constantFrom(...KINDS),
  instanceId: fc.constantFrom("1", "2", "3"),
  scope: fc.constantFrom(...SCOPES),
  tags: terms,
  capabilities: terms,
  resources: terms,
  tenantId: fc.constantFrom(...TENANTS),
  contentBytes: fc.nat(1000),
});
const steps = fc.array(
  fc.record({ spec, act: fc.constantFrom("put", "putObject", "update", "remove", "removeChanged", "putObjectChanged") }),
  {
    maxLength: 80,
  },
);

type Step = (typeof steps extends fc.Arbitrary<(infer T)[]> ? T : never) & { readonly seq: number };

function follow(step: Step, lookup: EntryIndex, model: Map<string, TestRecord>): void {
  // The seq tells objects of one key apart.
  const next = { ...testRecord(step.spec), seq: step.seq };
  const old = model.get(next.key);
  const before: IndexFields | undefined = old && { traits: old.traits, scope: old.scope, contentBytes: old.contentBytes };
  if (step.act === "remove" || step.act === "removeChanged") {
    if (old !== undefined && step.act === "removeChanged")
      Object.assign(old, { traits: testTraits({}), scope: SCOPE.LOCAL, contentBytes: 0 });
    lookup.remove(old ?? next, before);
    model.delete(next.key);
  } else if (old !== undefined && step.act === "putObjectChanged") {
    Object.assign(old, { traits: testTraits({}), scope: SCOPE.LOCAL, contentBytes: 0 });
    lookup.put(next, before);
    model.set(next.key, next);
  } else if (old === undefined || before === undefined || step.act === "putObject") {
    lookup.put(next);
    model.set(next.key, next);
  } else {
    Object.assign(old, { traits: next.traits, scope: next.scope, contentBytes: next.contentBytes });
    if (step.act === "update") lookup.update(old, before);
    else lookup.put(old, before);
  }
}

test("every list equals a filtered array after any puts, changes in place and removals", () => {
  fc.assert(
    fc.property(steps, (history) => {
      const lookup = new EntryIndex();
      const model = new Map<string, TestRecord>();
      history.forEach((step, i) => follow({ ...step, seq: i }, lookup, model));
      expect(said(lookup)).toEqual(expected([...model.values()]));
    }),
    { numRuns: runs(200) },
  );
});
