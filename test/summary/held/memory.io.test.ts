/** What a summary takes of the memory of a node (`bench/summaries.ts` measures more of them). */
import { execFileSync } from "node:child_process";
import { join } from "node:path";
import { expect, test } from "vitest";
import type { SummaryMemory } from "../../fakes/summaries-memory-child.ts";

const CHILD = join(import.meta.dirname, "../../fakes/summaries-memory-child.ts");
const COUNT = 20_000;

function measured(links: number): SummaryMemory {
  return JSON.parse(execFileSync(process.execPath, ["--expose-gc", CHILD, `${COUNT}`, `${links}`], { encoding: "utf8" })) as SummaryMemory;
}

test("border links add less than 60 B to each summary", { timeout: 300_000 }, () => {
  const [none, four] = [measured(0), measured(4)];
  expect([none.held, four.held]).toEqual([COUNT, COUNT]);
  expect(four.bytesPerSummary - none.bytesPerSummary).toBeLessThan(60);
  // With so few, what a node has once is a tenth of it.
  expect(four.bytesPerSummary).toBeLessThan(850);
});
