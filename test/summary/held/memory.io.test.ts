/** What a summary takes of the memory of a node. */
import { execFileSync } from "node:child_process";
import { join } from "node:path";
import { expect, test } from "vitest";
import type { SummaryMemory } from "../../fakes/summaries-memory-child.ts";

const CHILD = join(import.meta.dirname, "../../fakes/summaries-memory-child.ts");
const COUNT = 20_000;

test("a summary takes less than 790 B at a node with border links, though it is one of only 20,000", {
  timeout: 300_000,
  tags: ["night"],
}, () => {
  const printed = execFileSync(process.execPath, ["--expose-gc", CHILD, `${COUNT}`, "4"], { encoding: "utf8" });
  const { held, bytesPerSummary } = JSON.parse(printed) as SummaryMemory;
  expect(held).toBe(COUNT);
  // Some 100 B of it are what a node has once.
  expect(bytesPerSummary).toBeLessThan(790);
});
