/** What the contract has for later: the lists that `run.io.test.ts` cannot see once a command is there. */
import { expect, test } from "vitest";
import { VERBS } from "../../src/cli/table/verbs.ts";
import { isUnimplementedCommand, LATER_FLAGS } from "../../src/cli/usage-errors.ts";

test("no command or flag that is there is listed as one for later", () => {
  expect(VERBS.map(({ path }) => path).filter((path) => isUnimplementedCommand(path))).toEqual([]);
  const serve = VERBS.find(({ path }) => path === "serve")?.flags ?? [];
  expect(serve.map(({ flags }) => flags.split(" ")[0] ?? "").filter((flag) => LATER_FLAGS.has(flag))).toEqual([]);
});
