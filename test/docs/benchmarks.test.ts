/** What the benchmarks and the guide to them say: a run without figures fails, and each figure of the guide names the commit of a result. */
import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { expect, test } from "vitest";

test("versions without a checkout to compare with is no run: it says so, and its exit code too", () => {
  const { status, stderr } = spawnSync("node", ["bench/versions.ts"], { encoding: "utf8" });
  expect({ status, stderr }).toEqual({ status: 2, stderr: expect.stringContaining("--other, a checkout to compare with") as string });
});

test("each figure of the guide has a commit, and its section has a result of that commit", () => {
  const rows = readFileSync("docs/guides/performance.md", "utf8")
    .split("\n")
    .filter((line) => line.includes("](../reference/benchmarks.md#"))
    .flatMap((line) => {
      const [, work = "", , commit = "", link = ""] = line.split("|").map((cell) => cell.trim());
      return line.startsWith("|") ? [{ work, commit, section: /#([\w-]+)\)/.exec(link)?.[1] ?? "" }] : [];
    });
  expect(rows.length).toBeGreaterThan(5);
  const page = readFileSync("docs/reference/benchmarks.md", "utf8");
  const sectionOf = (name: string) => page.split(/^## /m).find((part) => part.startsWith(`${name}\n`)) ?? "";
  expect(
    rows.filter(({ commit, section }) => !/^[0-9a-f]{12}( with changes)?$/.test(commit) || !sectionOf(section).includes(commit)),
  ).toEqual([]);
});
