/** The bounds that settings and the protocol share. */
import { expect, test } from "vitest";
import { DEFAULT_BOUNDS, PROTOCOL_BOUNDS } from "../../../src/catalog/entry/names.ts";
import { LIMIT_SETTINGS } from "../../../src/config/limits.ts";
import { RECORD_BOUNDS } from "../../../src/lib/bounds/record.ts";

test("each bound is the top of its setting's range, so what any node's settings allow every node holds", () => {
  for (const [name, bound] of Object.entries(RECORD_BOUNDS)) {
    const setting = Object.entries(LIMIT_SETTINGS).find(([each]) => each === name)?.[1];
    expect([name, setting?.max]).toEqual([name, bound]);
  }
  expect(Object.keys(PROTOCOL_BOUNDS).toSorted()).toEqual(Object.keys(DEFAULT_BOUNDS).toSorted());
});
