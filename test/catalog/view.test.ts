import { expect, test } from "vitest";
import { BODY, type CatalogRecord, KIND, keyText, type OriginLife, type OriginRef } from "../../src/catalog/record.ts";
import { SCOPE, type Scope } from "../../src/catalog/scope.ts";
import { compareForView, winnerOf } from "../../src/catalog/view.ts";

type Said = Pick<CatalogRecord, "key" | "hlc" | "body" | "reach" | "unregisteredHlc"> & {
  readonly origin: OriginRef;
};

const KEY = keyText({ kind: KIND.SERVICE, namespace: "svc", name: "web", instanceId: "1", clusterId: "c1" });

function said(
  id: string,
  hlc: number,
  body: Said["body"],
  more: { readonly life?: OriginLife; readonly reach?: Scope; readonly clusterId?: string; readonly unregisteredHlc?: number } = {},
): CatalogRecord {
  const { life = "live", reach = SCOPE.ZONE, clusterId = "c1", unregisteredHlc } = more;
  // Only these fields decide a view; the rest of a record is of no use here.
  const [nodeId = "", generation = 1] = id.split("/");
  const origin = { id, nodeId, generation: Number(generation), life, clusterId };
  return { key: KEY, hlc, body, reach, unregisteredHlc, origin } satisfies Said as unknown as CatalogRecord;
}

function winner(...records: readonly CatalogRecord[]): string | undefined {
  return winnerOf(records.toSorted(compareForView))?.origin.id;
}

test.each([
  { name: "the newest stamp wins", records: [said("a", 1, BODY.ENTRY), said("b", 2, BODY.ENTRY)], want: "b" },
  { name: "of equal stamps the higher origin id", records: [said("a", 1, BODY.ENTRY), said("b", 1, BODY.ENTRY)], want: "b" },
  { name: "an expired record ends only its own origin's", records: [said("a", 1, BODY.ENTRY), said("b", 2, BODY.EXPIRED)], want: "a" },
  {
    name: "an unregistered one hides what is older",
    records: [said("a", 1, BODY.ENTRY), said("b", 2, BODY.UNREGISTERED)],
    want: undefined,
  },
  { name: "and not what is newer", records: [said("a", 3, BODY.ENTRY), said("b", 2, BODY.UNREGISTERED)], want: "a" },
  { name: "nor what is as old", records: [said("a", 2, BODY.ENTRY), said("b", 2, BODY.UNREGISTERED)], want: "a" },
  {
    name: "one that no other node is told of ends nothing of theirs",
    records: [said("a", 1, BODY.ENTRY), said("b", 2, BODY.UNREGISTERED, { reach: SCOPE.LOCAL })],
    want: "a",
  },
  {
    name: "one of another cluster than the key's ends nothing, however far it reaches",
    records: [said("a", 1, BODY.ENTRY), said("b", 2, BODY.UNREGISTERED, { reach: SCOPE.GLOBAL, clusterId: "c2" })],
    want: "a",
  },
  {
    name: "nor one of a cluster whose name the key's ends with",
    records: [said("a", 1, BODY.ENTRY), said("b", 2, BODY.UNREGISTERED, { clusterId: "1" })],
    want: "a",
  },
  {
    name: "nor what another cluster says that it narrowed, or unregistered before",
    records: [
      said("a", 1, BODY.ENTRY),
      said("b", 2, BODY.EXPIRED, { clusterId: "c2", unregisteredHlc: 2 }),
      said("c", 3, BODY.EXPIRED, { clusterId: "c2", unregisteredHlc: 2 }),
    ],
    want: "a",
  },
  {
    name: "what nobody has said the cluster of counts as of the key's",
    records: [said("a", 1, BODY.ENTRY), said("b", 2, BODY.UNREGISTERED, { clusterId: "" })],
    want: undefined,
  },
  {
    name: "an expired one ends what earlier generations of its node said, up to its stamp",
    records: [said("a/1", 2, BODY.ENTRY), said("a/2", 2, BODY.EXPIRED)],
    want: undefined,
  },
  {
    name: "not what they said after that: a disk was put back, and the later generation never knew of it",
    records: [said("a/1", 3, BODY.ENTRY), said("a/2", 2, BODY.EXPIRED)],
    want: "a/1",
  },
  {
    name: "nor what a later one says, or a node whose name begins like it",
    records: [said("a/3", 1, BODY.ENTRY), said("ab/1", 1, BODY.ENTRY), said("a/2", 2, BODY.EXPIRED)],
    want: "ab/1",
  },
  {
    name: "nor where no other node is told of it",
    records: [said("a/1", 1, BODY.ENTRY), said("a/2", 2, BODY.EXPIRED, { reach: SCOPE.LOCAL })],
    want: "a/1",
  },
  {
    name: "and what is left of other nodes is seen",
    records: [said("b", 1, BODY.ENTRY), said("a/1", 2, BODY.ENTRY), said("a/2", 3, BODY.EXPIRED)],
    want: "b",
  },
  { name: "a hidden origin is passed over", records: [said("a", 1, BODY.ENTRY), said("b", 2, BODY.ENTRY, { life: "hidden" })], want: "a" },
  { name: "an orphaned one is not", records: [said("a", 1, BODY.ENTRY), said("b", 2, BODY.ENTRY, { life: "orphaned" })], want: "b" },
  { name: "nothing is seen of no records", records: [], want: undefined },
])("$name", ({ records, want }) => {
  expect(winner(...records)).toBe(want);
});

test("a record that is not admitted is passed over like a hidden one", () => {
  const records = [said("b", 2, BODY.ENTRY), said("a", 1, BODY.ENTRY)];
  expect(winnerOf(records, (record) => record.origin.id !== "b")?.origin.id).toBe("a");
});
