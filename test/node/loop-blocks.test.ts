import { expect, test } from "vitest";
import { Metrics } from "../../src/lib/metrics/metrics.ts";
import { LoopBlocks, RESOLUTION_MS } from "../../src/node/loop-blocks.ts";

function blocks() {
  const histogram = new Metrics().histogram("waymark_event_loop_block_ms", {});
  const watched = new LoopBlocks(histogram);
  return { histogram, second: (blockMs: number) => watched.second(blockMs + RESOLUTION_MS) };
}

test("the longest hold of each second is counted, without the time between two looks", () => {
  const { histogram, second } = blocks();
  for (const blockMs of [0, 15, 300]) second(blockMs);
  expect(histogram.count).toBe(3);
  expect(histogram.sum).toBe(315);
  // A look that came early is no hold of less than nothing.
  second(-RESOLUTION_MS);
  expect(histogram.sum).toBe(315);
});

test("the operator is told of the first long hold at once, and of later ones once a minute, the longest of them with the number of seconds", () => {
  const { second } = blocks();
  expect(second(249)).toBeUndefined();
  expect(second(250)).toEqual({ blockMs: 250, seconds: 1 });
  for (let s = 1; s < 60; s++) expect(second(s === 10 ? 900 : s === 20 ? 400.4 : 3)).toBeUndefined();
  expect(second(300)).toEqual({ blockMs: 900, seconds: 3 });
  for (let s = 0; s < 200; s++) expect(second(3)).toBeUndefined();
});
