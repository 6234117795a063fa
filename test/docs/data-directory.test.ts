/** The guide for operators and the sources have the same files of a data directory. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { ROOT } from "../../scripts/run.ts";
import { DATA_FILES } from "../../src/store/data-directory.ts";

test("every file that a node keeps has a row in the guide, and the guide has no other", () => {
  const guide = readFileSync(join(ROOT, "docs/guides/persistence.md"), "utf8");
  const rows = [...guide.matchAll(/^\| (`[^|]+) \|/gm)].flatMap(([, cell = ""]) =>
    [...cell.matchAll(/`([^`]+)`/g)].map(([, file = ""]) => file),
  );
  // Each database has a log, a watermark and a lock against a second process. Most have a seal.
  const aside = /\.db-wal$|\.sum$|\.mark$|\.lock$|\.pid$|^(?:control|audit|journal)$/;
  expect(rows.filter((file) => !aside.test(file)).toSorted()).toEqual(Object.values(DATA_FILES).toSorted());
});
