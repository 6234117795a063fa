import { expect, test } from "vitest";
import { SCOPE, type Scope } from "../../../src/catalog/entry/scope.ts";
import { BODY, type CatalogRecord, KIND, keyText, type OriginRef, type OriginStatus } from "../../../src/catalog/record/record.ts";
import { compareForView, hiddenOrphanOf, winnerOf } from "../../../src/catalog/replica/view.ts";

type Said = Pick<CatalogRecord, "key" | "hlc" | "body" | "reach" | "unregisteredHlc"> & {
  readonly origin: OriginRef;
};

const KEY = keyText({ kind: KIND.SERVICE, namespace: "svc", name: "web", instanceId: "1", clusterId: "c1" });

function said(
  id: string,
  hlc: number,
  body: Said["body"],
  more: { readonly life?: OriginStatus; readonly reach?: Scope; readonly clusterId?: string; readonly unregisteredHlc?: number } = {},
): CatalogRecord {
  const { life = "live", reach = SCOPE.ZONE, clusterId = "c1", unregisteredHlc } = more;
  // Only these fields decide a view; the rest of a record is of no use here.
  const [, nodeId = id, generation = 1] = /^(.*)\/(\d+)$/.exec(id) ?? [];
  const origin = { id, nodeId, generation: Number(generation), life, clusterId };
  return { key: KEY, hlc, body, reach, unregisteredHlc, origin } satisfies Said as unknown as CatalogRecord;
}

/** Its node lives in another generation by now, or is away. */
const AWAY = { life: "orphaned" } as const;

function winner(...records: readonly CatalogRecord[]): string | undefined {
  return winnerOf(records.toSorted(compareForView))?.origin.id;
}

test.each([
  { name: "the newest stamp wins", records: [said("a", 1, BODY.ENTRY), said("b", 2, BODY.ENTRY)], want: "b" },
  { name: "of equal stamps the higher origin id", records: [said("a", 1, BODY.ENTRY), said("b", 1, BODY.ENTRY)], want: "b" },
  {
    name: "and of ids it is the node's alone, without the generation",
    records: [said("a-b/1", 1, BODY.ENTRY), said("a/1", 1, BODY.ENTRY)],
    want: "a-b/1",
  },
  { name: "an expired record ends nothing of another node's", records: [said("a", 1, BODY.ENTRY), said("b", 2, BODY.EXPIRED)], want: "a" },
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
    records: [said("a/1", 2, BODY.ENTRY, AWAY), said("a/2", 2, BODY.EXPIRED)],
    want: undefined,
  },
  {
    name: "not in the generation that the node lives in: who speaks for a later one is not that node",
    records: [said("a/1", 2, BODY.ENTRY), said("a/2", 3, BODY.EXPIRED)],
    want: "a/1",
  },
  {
    name: "nor where another cluster than the key's says so of its own",
    records: [said("a/1", 2, BODY.ENTRY, AWAY), said("a/2", 3, BODY.EXPIRED, { clusterId: "c2" })],
    want: "a/1",
  },
  {
    name: "nor where another cluster says that it unregistered it",
    records: [said("a/1", 2, BODY.ENTRY, AWAY), said("a/2", 3, BODY.UNREGISTERED, { clusterId: "c2" })],
    want: "a/1",
  },
  {
    name: "not what they said after that: a disk was put back, and the later generation never knew of it",
    records: [said("a/1", 3, BODY.ENTRY, AWAY), said("a/2", 2, BODY.EXPIRED)],
    want: "a/1",
  },
  {
    name: "nor what a later one says, or a node whose name begins like it",
    records: [said("a/3", 1, BODY.ENTRY, AWAY), said("ab/1", 1, BODY.ENTRY, AWAY), said("a/2", 2, BODY.EXPIRED)],
    want: "ab/1",
  },
  {
    name: "nor where no other node is told of it",
    records: [said("a/1", 1, BODY.ENTRY, AWAY), said("a/2", 2, BODY.EXPIRED, { reach: SCOPE.LOCAL })],
    want: "a/1",
  },
  {
    name: "and what is left of other nodes is seen",
    records: [said("b", 1, BODY.ENTRY), said("a/1", 2, BODY.ENTRY, AWAY), said("a/2", 3, BODY.EXPIRED)],
    want: "b",
  },
  {
    name: "of several ends the newest generation counts, and each up to its own stamp",
    records: [
      said("a/1", 1, BODY.ENTRY, AWAY),
      said("a/2", 2, BODY.ENTRY, AWAY),
      said("a/4", 1, BODY.EXPIRED),
      said("a/3", 2, BODY.EXPIRED),
      said("a/3", 3, BODY.ENTRY, AWAY),
    ],
    want: "a/3",
  },
  {
    name: "of several ends above one entry the newest generation counts, also where an older one's comes after it",
    records: [said("a/4", 5, BODY.EXPIRED), said("a/2", 4, BODY.EXPIRED), said("a/3", 3, BODY.ENTRY, AWAY)],
    want: undefined,
  },
  {
    name: "of equal stamps of one node its later generation",
    records: [said("a/9", 1, BODY.ENTRY, AWAY), said("a/10", 1, BODY.ENTRY)],
    want: "a/10",
  },
  { name: "a hidden origin is passed over", records: [said("a", 1, BODY.ENTRY), said("b", 2, BODY.ENTRY, { life: "hidden" })], want: "a" },
  { name: "an orphaned one is not", records: [said("a", 1, BODY.ENTRY), said("b", 2, BODY.ENTRY, { life: "orphaned" })], want: "b" },
  { name: "nothing is seen of no records", records: [], want: undefined },
])("$name", ({ records, want }) => {
  expect(winner(...records)).toBe(want);
});

test("of equal stamps the same is seen in whatever order the records came, where a node's id goes on from another's with a slash", () => {
  const records = ["a/9", "a/10", "a/2/1"].map((id) => said(id, 1, BODY.ENTRY));
  const orders = records.flatMap((first) => {
    const [second, third] = records.filter((record) => record !== first);
    return second && third ? [winner(first, second, third), winner(first, third, second)] : [];
  });
  expect(orders).toEqual(Array.from({ length: 6 }, () => "a/2/1"));
});

test("a record that is not admitted is passed over like a hidden one", () => {
  const records = [said("b", 2, BODY.ENTRY), said("a", 1, BODY.ENTRY)];
  expect(winnerOf(records, (record) => record.origin.id !== "b")?.origin.id).toBe("a");
});

test.each([
  { what: "that nothing ended", end: [], want: "a/1" },
  { what: "that a later generation of its node ended", end: [said("a/2", 2, BODY.EXPIRED)], want: undefined },
  { what: "with the very stamp of what another node unregistered", end: [said("b", 2, BODY.UNREGISTERED)], want: "a/1" },
  { what: "older than that", end: [said("b", 3, BODY.UNREGISTERED)], want: undefined },
  { what: "that was put after what a later generation ended", end: [said("a/2", 1, BODY.EXPIRED)], want: "a/1" },
])("of an entry whose node is away for too long, $what, an unregister ends $want", ({ end, want }) => {
  const records = [said("a/1", 2, BODY.ENTRY, { life: "hidden" }), ...end].toSorted(compareForView);
  expect(hiddenOrphanOf(records)?.origin.id).toBe(want);
});
