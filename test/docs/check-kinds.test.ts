/** The guide on health has each kind of check: its form on the command line, and when it passes. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { ROOT } from "../../scripts/run.ts";
import { CHECK_KINDS } from "../../src/catalog/entry/checks.ts";
import { CHECK_FLAG_KINDS } from "../../src/cli/table/check-kinds.ts";

const GUIDE = readFileSync(join(ROOT, "docs/guides/health.md"), "utf8");

test.each(Object.keys(CHECK_KINDS))("the guide says when a check of the kind %s passes", (kind) => {
  const table = GUIDE.split("| kind | passes when |")[1]?.split("\n\n")[0];
  expect(table).toContain(`\n| \`${kind}\` | `);
});

test.each(Object.values(CHECK_FLAG_KINDS))("the guide has the form $form of the command line", ({ form }) => {
  expect(GUIDE).toContain(`\n| \`${form}\` | `);
});
