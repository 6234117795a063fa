import { execFileSync } from "node:child_process";
import { expect, test } from "vitest";

/** Lowers the priority in a process of its own, and prints the name and the niceness of each of its threads (proc(5): field 19 of stat). */
const PROGRAM = `
import { readdirSync, readFileSync } from "node:fs";
import { lowerWorkerPriority } from ${JSON.stringify(new URL("../../src/lib/v8/worker-priority.io.ts", import.meta.url).href)};
lowerWorkerPriority();
const threads = readdirSync("/proc/self/task").map((id) => readFileSync("/proc/self/task/" + id + "/stat", "latin1"));
for (const stat of threads) {
  const end = stat.lastIndexOf(")");
  console.log(stat.slice(stat.indexOf("(") + 1, end), stat.slice(end + 2).split(" ")[16]);
}
`;

test("V8's threads get a lower priority than all others", () => {
  const printed = execFileSync(process.execPath, ["--input-type=module", "--eval", PROGRAM], { encoding: "utf8" });
  const threads = printed.trim().split("\n");
  const nicenessOf = (isV8: boolean) =>
    new Set(threads.filter((line) => line.startsWith("V8Worker ") === isV8).map((line) => Number(line.split(" ").at(-1))));
  const [others = 0] = nicenessOf(false);
  expect([...nicenessOf(true)]).toEqual([others + 10]);
  expect([...nicenessOf(false)]).toEqual([others]);
});
