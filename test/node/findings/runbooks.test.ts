/** Each finding names a runbook that exists. */
import { existsSync, readFileSync } from "node:fs";
import { expect, test } from "vitest";

test("each finding names a runbook that exists", () => {
  const named = [...readFileSync("src/node/findings/findings.ts", "utf8").matchAll(/(?:critical|warning)\("([a-z-]+)"/g)].map(
    ([, name = ""]) => name,
  );
  expect(named.length).toBeGreaterThan(15);
  expect(named.filter((name) => !existsSync(`docs/runbooks/${name}.md`))).toEqual([]);
});
