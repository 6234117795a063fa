import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { ROOT } from "../../scripts/run.ts";

test("each RFC of the DNS gateway names tests that are there and speak of DNS", () => {
  const rows = readFileSync(join(ROOT, "docs/reference/dns-rfcs.md"), "utf8").match(/^\| \d.*\|$/gm) ?? [];
  expect(rows.length).toBeGreaterThan(10);
  for (const row of rows) {
    const tests = [...row.matchAll(/`(test\/[^`]+)`/g)].map(([, path = ""]) => path);
    expect(tests.length, `tests of ${row}`).toBeGreaterThan(0);
    for (const path of tests)
      expect(existsSync(join(ROOT, path)) && readFileSync(join(ROOT, path), "utf8").includes("dns"), `${path} is about DNS`).toBe(true);
  }
});
