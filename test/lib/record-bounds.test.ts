/** The bounds that settings and the protocol share. */
import { expect, test } from "vitest";
import { DEFAULT_BOUNDS, PROTOCOL_BOUNDS } from "../../src/catalog/names.ts";
import { LIMIT_KNOBS } from "../../src/config-limits.ts";
import { RECORD_BOUNDS } from "../../src/lib/record-bounds.ts";

test("each bound is the top of its setting's range, so what any node's settings allow every node holds", () => {
  for (const [name, bound] of Object.entries(RECORD_BOUNDS)) {
    const knob = Object.entries(LIMIT_KNOBS).find(([each]) => each === name)?.[1];
    expect([name, knob?.max]).toEqual([name, bound]);
  }
  expect(Object.keys(PROTOCOL_BOUNDS).toSorted()).toEqual(Object.keys(DEFAULT_BOUNDS).toSorted());
});
