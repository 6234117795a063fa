/** Whether what is followed is what the upstream has is known by count and digest, whatever changes on either side meanwhile. */
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import { EntrySchema } from "../../gen/waymark/catalog/v1/entry_pb.js";
import type { CatalogRecord, KeyText } from "../../src/catalog/record/record.ts";
import { DigestSum } from "../../src/catalog/replica/namespace-digest.ts";
import { SNAPSHOT } from "../../src/catalog/watch/reader.ts";
import type { UpstreamWatchMessage, WatchDelta } from "../../src/resolver/codec.ts";
import { DigestCheck } from "../../src/resolver/maintenance/digest-check.ts";

type Content = ReadonlyMap<string, number>;

function digestOf(content: Content) {
  const sum = new DigestSum();
  for (const seq of content.values()) sum.add(`n/1/${seq}`);
  return { count: sum.count, digest: sum.value };
}

const record = (seq: number | undefined) => seq && ({ origin: { id: "n/1" }, seq } as unknown as CatalogRecord);

/** The name of an entry stands for its whole key. */
function delta(key: string, seq: number, isPut: boolean): WatchDelta {
  const at = { nodeId: "n", generation: 1, seq };
  const entry = toBinary(EntrySchema, create(EntrySchema, { key: { name: key }, updatedAt: {} }));
  return { ...at, change: isPut ? { entry } : { key: {} as never, text: key as KeyText, cause: 0 } };
}

function message(fields: Partial<UpstreamWatchMessage>): UpstreamWatchMessage {
  const place = { text: "p", cursor: {} as never };
  const nothing = {
    deltas: [],
    snapshot: SNAPSHOT.NONE,
    replaces: [],
    ageMs: 0,
    isStale: false,
    servedBy: "a",
    via: [],
    digest: undefined,
  } as const;
  return { ...nothing, policyEpoch: "7", place, ...fields };
}

function checkOf(own: Content, now: Content = own): DigestCheck {
  const view = (key: KeyText) => record(now.get(key)) || undefined;
  const stamper = { entryOfStored: (bytes: Uint8Array) => ({ key: fromBinary(EntrySchema, bytes).key?.name }) as never };
  return new DigestCheck({ prefix: "svc", own: digestOf(own), policyEpoch: "7", stamper, view });
}

const OWN = new Map([
  ["svc\0a", 1],
  ["svc\0b", 2],
]);

test.each([
  { what: "the same", said: { digest: digestOf(OWN) }, verdict: "same" },
  { what: "one entry less", said: { digest: digestOf(new Map([["svc\0a", 1]])) }, verdict: "differs" },
  { what: "another version of one", said: { digest: digestOf(new Map([...OWN, ["svc\0b", 3]])) }, verdict: "differs" },
  { what: "no digest", said: {}, verdict: "unknown" },
  { what: "another policy", said: { digest: digestOf(OWN), policyEpoch: "8" }, verdict: "unknown" },
  { what: "a snapshot", said: { digest: digestOf(OWN), snapshot: SNAPSHOT.BEGIN }, verdict: "unknown" },
  { what: "no place yet", said: { digest: digestOf(OWN), place: undefined }, verdict: undefined },
])("the upstream says $what: $verdict", ({ said, verdict }) => {
  expect(checkOf(OWN).receive(message(said))).toBe(verdict);
});

test("too much that changes meanwhile is not compared", () => {
  const check = checkOf(OWN);
  const deltas = Array.from({ length: 10_001 }, (_, n) => delta(`svc\0${n}`, n + 10, false));
  expect(check.receive(message({ deltas, digest: digestOf(OWN) }))).toBe("unknown");
  const other = checkOf(OWN);
  for (let n = 0; n <= 10_001; n++) other.touch(`svc\0${n}` as KeyText, "svc", undefined);
  expect(other.receive(message({ digest: digestOf(OWN) }))).toBe("unknown");
});

test.each([
  { what: "before it is told here too", isKnown: false },
  { what: "after it was told here too", isKnown: true },
])("what the upstream tells meanwhile is reckoned in, $what", ({ isKnown }) => {
  const theirs = new Map([
    ["svc\0b", 3],
    ["svc\0c", 4],
  ]);
  const check = checkOf(OWN, isKnown ? theirs : OWN);
  if (isKnown) for (const key of ["svc\0a", "svc\0b", "svc\0c"]) check.touch(key as KeyText, "svc", record(OWN.get(key)) || undefined);
  const deltas = [delta("svc\0b", 3, true), delta("svc\0c", 4, true), delta("svc\0a", 5, false)];
  expect(check.receive(message({ deltas, digest: digestOf(theirs) }))).toBe("same");
});
