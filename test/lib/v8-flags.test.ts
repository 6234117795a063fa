import { execFileSync } from "node:child_process";
import { expect, test } from "vitest";
import { V8_FLAGS } from "../../src/lib/v8-flags.ts";

/** V8 ignores a flag it does not know: a newer Node.js without one would stop as long as before, and nothing would say so. */
test("V8 has every flag a node sets", () => {
  const options = execFileSync(process.execPath, ["--v8-options"], { encoding: "utf8" });
  const known = new Set(options.match(/^ {2}--[\w-]+/gm)?.map((option) => option.trim()));
  const names = V8_FLAGS.map((flag) => flag.replace(/^--no-/, "--").replace(/=.*/, ""));
  expect(names.filter((name) => !known.has(name))).toEqual([]);
});
