import { expect, test } from "vitest";
import { isJustResumed, stallAwareNowMs, stallAwareTimeout } from "../../src/lib/stall-aware-time.io.ts";
import { until } from "../fakes/until.ts";

/** Keeps the event loop from running. */
function standStill(forMs: number): void {
  const endMonoMs = performance.now() + forMs;
  while (performance.now() < endMonoMs);
}

test("a timer that ran out while the loop stood still has what was left of it, a refreshed one all of it, and a cleared one none", async () => {
  const fired: string[] = [];
  const startMs = stallAwareNowMs();
  const tookMs = () => stallAwareNowMs() - startMs;
  stallAwareTimeout(() => fired.push("short"), 400);
  const refreshed = stallAwareTimeout(() => fired.push("refreshed"), 400);
  const cleared = stallAwareTimeout(() => fired.push("cleared"), 400);
  standStill(1500);
  // What waited in the sockets is read in this turn, before any of them.
  await new Promise<void>((resolve) => setImmediate(resolve));
  expect([fired, isJustResumed()]).toEqual([[], true]);
  cleared.clear();
  refreshed.refresh();
  await until("the first is due", () => fired.includes("short"));
  expect(tookMs()).toBeGreaterThanOrEqual(399);
  await until("the refreshed is due", () => fired.includes("refreshed"));
  expect(fired).toEqual(["short", "refreshed"]);
});

test("a timer that its callback refreshes fires again, as often as it is refreshed", async () => {
  const fired: number[] = [];
  const timer = stallAwareTimeout(() => {
    fired.push(stallAwareNowMs());
    if (fired.length < 3) timer.refresh();
  }, 20);
  await until("it fired three times", () => fired.length === 3);
  await new Promise<void>((resolve) => setTimeout(resolve, 60));
  expect(fired).toHaveLength(3);
  for (const [i, atMs] of fired.slice(1).entries()) expect(atMs - (fired[i] ?? 0)).toBeGreaterThanOrEqual(19);
});
