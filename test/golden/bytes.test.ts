/**
 * What other processes keep and hand back: cursors, page tokens, journal rows. The files in `bytes/` were written by
 * released code and must be read for ever; when an encoding changes, a new file joins them and the old ones stay.
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { timestampMs } from "@bufbuild/protobuf/wkt";
import { expect, test } from "vitest";
import { decodeMessage, EntryStamper, finishEntry } from "../../src/catalog/entry/codec.ts";
import { SCOPE } from "../../src/catalog/entry/scope.ts";
import { ANY, filterHash } from "../../src/catalog/query/filter.ts";
import { decodePageToken, encodePageToken } from "../../src/catalog/query/query.ts";
import { decodeRecord, encodeRecord } from "../../src/catalog/record/codec.ts";
import { BODY, KIND, keyText } from "../../src/catalog/record/record.ts";
import { TraitsPool } from "../../src/catalog/record/traits.ts";
import { parseCursor, portableCursorText, shortCursorText, shortHolder } from "../../src/catalog/watch/cursor.ts";
import { BOUNDS } from "../fakes/options.ts";
import { stamped, WALL } from "../fakes/registry.ts";

const FOLDER = join(import.meta.dirname, "bytes");
const KEY = { kind: KIND.SERVICE, namespace: "svc.market", name: "web", instanceId: "i-1", clusterId: "c1" } as const;
const FILTER = { ...ANY, prefix: "svc", tags: ["blue", "green"], kindMask: 2, scope: SCOPE.ZONE };
const CURSOR = {
  clusterId: "c1",
  readerHash: "0123456789abcdef",
  policyEpoch: "none",
  origins: [
    { nodeId: "n1", generation: 1_846_000_000_123, seq: 4711, life: "live" as const },
    { nodeId: "n2", generation: 7, seq: 0, life: "hidden" as const },
  ],
};
const HEAD = { seq: 42, hlc: WALL * 2048 + 3, reach: SCOPE.REGION, filterSeq: 41, firstSeq: 7, principal: "ann" };
const DRAFT = stamped("web", { tags: ["blue"], targets: [{ host: "10.0.0.1", port: 8080, weight: 5 }], metadata: { b: "2", a: "1" } });
const ENTRY = finishEntry(DRAFT.content, { registeredWallMs: WALL, updatedWallMs: WALL + 5, load: undefined });

function kept(name: string): string {
  return readFileSync(join(FOLDER, `${name}.txt`), "utf8").trim();
}

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString("hex");
}

test.each([
  { name: "cursor-short-3", text: () => shortCursorText("Ab3_-x", 123_456) },
  { name: "cursor-short-4", text: () => shortCursorText(shortHolder("Ab3_-x", "0123456789abcdef"), 123_456) },
  { name: "cursor-portable-1", text: () => portableCursorText(CURSOR) },
  { name: "page-token-1", text: () => encodePageToken(keyText(KEY), filterHash(FILTER, "query")) },
  { name: "record-entry-1", text: () => hex(encodeRecord(HEAD, { body: BODY.ENTRY, entry: ENTRY })) },
  { name: "record-unregistered-1", text: () => hex(encodeRecord(HEAD, { body: BODY.UNREGISTERED, key: KEY })) },
])("$name is still what is written", async ({ name, text }) => {
  await expect(`${text()}\n`).toMatchFileSnapshot(join(FOLDER, `${name}.txt`));
});

test("cursors that were given out are still read", () => {
  const place = { kind: "short", revision: 123_456, settled: 123_456 };
  expect(parseCursor(kept("cursor-short-3"))).toEqual({ ...place, holder: "Ab3_-x" });
  const holder = "Ab3_-x-0123456789abcdef";
  expect(parseCursor(kept("cursor-short-4"))).toEqual({ ...place, holder });
  expect(parseCursor(kept("cursor-portable-1"))).toEqual({ kind: "portable", ...CURSOR });
});

test("page tokens that were given out still go on at their place", () => {
  expect(decodePageToken(kept("page-token-1"), filterHash(FILTER, "query"))).toBe(keyText(KEY));
});

test("journal rows that were written are still read", () => {
  const entry = decodeRecord(Buffer.from(kept("record-entry-1"), "hex"), BOUNDS);
  expect(entry).toMatchObject({ ...HEAD, body: BODY.ENTRY });
  const bytes = entry.body === BODY.ENTRY ? entry.entry : new Uint8Array();
  const stored = new EntryStamper({ bounds: BOUNDS, traits: new TraitsPool(64) }).entryOfStored(bytes);
  const { registeredAt, updatedAt } = decodeMessage(bytes);
  expect([stored.key, stored.traits.tags]).toEqual([DRAFT.key, ["blue"]]);
  expect([registeredAt, updatedAt].map((time) => time && timestampMs(time))).toEqual([WALL, WALL + 5]);
  expect(decodeRecord(Buffer.from(kept("record-unregistered-1"), "hex"), BOUNDS)).toEqual({
    ...HEAD,
    body: BODY.UNREGISTERED,
    key: KEY,
  });
});
