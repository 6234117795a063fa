/**
 * What clusters sign, and the records in which it travels. A signature is over these bytes, so they are read for ever as they were written, as in
 * `fabric-bytes.test.ts`.
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import {
  decodeAnnouncement,
  decodeBeacon,
  decodeRecord,
  decodeSummary,
  encodeBeacon,
  encodeRecord,
  encodeSummary,
} from "../../src/summary/codec.ts";
import { ANNOUNCEMENT, BEACON, SUMMARY, sealedAs } from "../fakes/summaries.ts";

const FOLDER = join(import.meta.dirname, "bytes");
const ENDING = { ...SUMMARY, notAfterWallMs: 1_764_300_000_000, noStale: true, withdrawn: true, regions: ["eu", "us"] };
const sealed = sealedAs(encodeSummary(SUMMARY), 3);

const ALL = [
  { name: "signed-summary-1", value: SUMMARY, write: () => encodeSummary(SUMMARY), read: decodeSummary },
  { name: "signed-summary-2", value: ENDING, write: () => encodeSummary(ENDING), read: decodeSummary },
  { name: "signed-beacon-1", value: BEACON, write: () => encodeBeacon(BEACON), read: decodeBeacon },
  { name: "signed-key-1", value: decodeAnnouncement(ANNOUNCEMENT), write: () => ANNOUNCEMENT, read: decodeAnnouncement },
  {
    name: "record-sealed-1",
    value: { what: "summary", sealed, summary: SUMMARY },
    write: () => encodeRecord("summary", sealed),
    read: decodeRecord,
  },
];

test.each(ALL)("$name is still what is written", async ({ name, write }) => {
  await expect(`${Buffer.from(write()).toString("hex")}\n`).toMatchFileSnapshot(join(FOLDER, `${name}.txt`));
});

test.each(ALL)("$name that was written is still read", ({ name, value, read }) => {
  const bytes = Uint8Array.from(Buffer.from(readFileSync(join(FOLDER, `${name}.txt`), "utf8").trim(), "hex"));
  expect(read(bytes)).toEqual(value);
});
