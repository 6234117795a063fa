/** The lists beside the table of commands: what is for later, and what each group is. */
import { expect, test } from "vitest";
import { GROUPS, VERBS } from "../../src/cli/table/verbs.ts";
import { isUnimplementedCommand } from "../../src/cli/usage-errors.ts";

test("no command that is there is listed as one for later", () => {
  expect(VERBS.map(({ path }) => path).filter((path) => isUnimplementedCommand(path))).toEqual([]);
});

test("every group of commands has a description in the help", () => {
  const groups = VERBS.flatMap(({ path }) => {
    const words = path.split(" ");
    return words.slice(1).map((_, depth) => words.slice(0, depth + 1).join(" "));
  });
  expect([...new Set(groups)].filter((path) => GROUPS[path] === undefined)).toEqual([]);
});
