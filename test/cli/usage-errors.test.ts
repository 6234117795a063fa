/** What the contract has for later: the lists that `run.io.test.ts` cannot see once a command is there. */
import { expect, test } from "vitest";
import { VERBS } from "../../src/cli/table/verbs.ts";
import { isUnimplementedCommand } from "../../src/cli/usage-errors.ts";

test("no command that is there is listed as one for later", () => {
  expect(VERBS.map(({ path }) => path).filter((path) => isUnimplementedCommand(path))).toEqual([]);
});
