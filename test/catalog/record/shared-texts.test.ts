import { expect, test } from "vitest";
import { SharedTexts } from "../../../src/summary/stamper.ts";

test("a text comes back as it was given, whichever others share its place", () => {
  const shared = new SharedTexts(4);
  for (let n = 0; n < 200; n++) {
    const text = `svc.team-${(n * 7) % 40}.prod`;
    expect(shared.text(text)).toBe(text);
  }
});
