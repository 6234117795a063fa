import { performance } from "node:perf_hooks";
import { expect, test, vi } from "vitest";
import { Metrics } from "../../src/lib/metrics/metrics.ts";
import { StopDeadline } from "../../src/node/components.io.ts";
import { watchEventLoop } from "../../src/node/loop-blocks.io.ts";

test("work that holds the event loop of this process is measured, and the log tells it", async () => {
  const metrics = new Metrics();
  const warn = vi.fn<(fields: Readonly<Record<string, unknown>>, message: string) => void>();
  const watch = watchEventLoop({ warn }, metrics);
  await watch.start?.();
  const histogram = metrics.histogram("waymark_event_loop_block_ms", {});
  const startMonoMs = performance.now();
  while (performance.now() - startMonoMs < 400);
  await vi.waitFor(() => expect(warn).toHaveBeenCalled(), { timeout: 10_000 });
  expect(histogram.sum).toBeGreaterThan(370);
  await watch.stop?.(new StopDeadline(0));
});
