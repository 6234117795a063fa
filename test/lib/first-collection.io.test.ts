/** A node gives back what loading it has left, while that is cheap. */
import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";

const MODULE = fileURLToPath(new URL("../../src/lib/v8/first-collection.io.ts", import.meta.url));

/** The text that a process writes which is busy until it has asked for a collection several times, and then has nothing to do until one happens. */
function whenIdle(): string {
  const script = `
    import { constants, PerformanceObserver } from "node:perf_hooks";
    import { collectWhenIdle } from ${JSON.stringify(MODULE)};
    let isBusy = true;
    new PerformanceObserver((list) => {
      if (list.getEntries().every(({ detail }) => detail.kind !== constants.NODE_PERFORMANCE_GC_MAJOR)) return;
      console.log(isBusy ? "busy" : "idle");
      process.exit();
    }).observe({ entryTypes: ["gc"] });
    collectWhenIdle(20);
    const fromMs = performance.now();
    const spin = () => {
      isBusy = performance.now() - fromMs < 200;
      if (isBusy) setImmediate(spin);
    };
    spin();
    setTimeout(() => console.log("never"), 30_000);
  `;
  return spawnSync(process.execPath, ["--input-type=module", "--eval", script], { encoding: "utf8" }).stdout.trim();
}

/** Whether all was collected by the call, and whether the program can ask by itself afterwards, in a process that holds so many MiB. */
function after(heldMiB: number): unknown {
  const script = `
    import { constants, PerformanceObserver } from "node:perf_hooks";
    import { collectFirst } from ${JSON.stringify(MODULE)};
    globalThis.held = Array.from({ length: ${heldMiB} }, () => Array.from({ length: 65_536 }, () => ({})));
    const seen = [];
    new PerformanceObserver((list) => seen.push(...list.getEntries())).observe({ entryTypes: ["gc"] });
    const fromMs = performance.now();
    collectFirst();
    const toMs = performance.now();
    // The observer is told in a later turn.
    setImmediate(() => setImmediate(() => {
      const within = seen.filter(({ startTime }) => startTime >= fromMs && startTime <= toMs);
      const isCollected = within.some(({ detail }) => detail.kind === constants.NODE_PERFORMANCE_GC_MAJOR);
      console.log(JSON.stringify({ isCollected, gc: typeof globalThis.gc }));
    }));
  `;
  const { stdout, stderr } = spawnSync(process.execPath, ["--input-type=module", "--eval", script], { encoding: "utf8" });
  expect(stderr).toBe("");
  return JSON.parse(stdout);
}

test.each([
  { what: "a small heap is collected", heldMiB: 1, isCollected: true },
  { what: "a large one is not: that would take seconds of a start with a million entries", heldMiB: 40, isCollected: false },
])("$what", ({ heldMiB, isCollected }) => {
  expect(after(heldMiB)).toEqual({ isCollected, gc: "undefined" });
});

test("a node that has just started and is busy answers its clients first", () => {
  expect(whenIdle()).toBe("idle");
});
