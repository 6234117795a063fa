/** The benchmarks' own words: what gives no figures does not pass for a run. */
import { spawnSync } from "node:child_process";
import { expect, test } from "vitest";

test("versions without a checkout to compare with is no run: it says so, and its exit code too", () => {
  const { status, stderr } = spawnSync("node", ["bench/versions.ts"], { encoding: "utf8" });
  expect({ status, stderr }).toEqual({ status: 2, stderr: expect.stringContaining("--other, a checkout to compare with") as string });
});
