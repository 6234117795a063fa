import { expect, test } from "vitest";
import { Metrics } from "../../src/lib/metrics/metrics.ts";
import { LOOK_MS, LoopBlocks } from "../../src/node/loop-blocks.ts";

/** `second` plays one in which the loop was held once for that long, and gives what the operator is told. */
function seconds() {
  const histogram = new Metrics().histogram("waymark_event_loop_block_ms", {});
  const blocks = new LoopBlocks(histogram);
  let monoMs = 5000;
  blocks.look(monoMs);
  const second = (blockMs: number) => {
    const endMonoMs = monoMs + 1000;
    let told = blocks.look((monoMs += LOOK_MS + blockMs));
    while (monoMs < endMonoMs) told = blocks.look((monoMs += LOOK_MS));
    return told;
  };
  return { histogram, second };
}

test("the longest hold of each second is counted, without the time between two looks", () => {
  const { histogram, second } = seconds();
  for (const blockMs of [0, 15, 300]) second(blockMs);
  expect([histogram.count, histogram.sum]).toEqual([3, 315]);
});

test("the operator is told of the first long hold at once, and of later ones once a minute, the longest of them with the number of seconds", () => {
  const { second } = seconds();
  expect(second(249)).toBeUndefined();
  expect(second(250)).toEqual({ blockMs: 250, seconds: 1 });
  for (let s = 1; s < 60; s++) expect(second(s === 10 ? 900 : s === 20 ? 400 : 3)).toBeUndefined();
  expect(second(300)).toEqual({ blockMs: 900, seconds: 3 });
  for (let s = 0; s < 200; s++) expect(second(3)).toBeUndefined();
  expect(second(260)).toEqual({ blockMs: 260, seconds: 1 });
});
