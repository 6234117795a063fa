/** Which stream resets close a connection: floods do, also with short deadlines during a pause. Calls that a pause delayed, and watches that end together, do not. */
import { expect, test } from "vitest";
import { ResetLimiter, type StreamReset } from "../../src/grpc/server/reset-limiter.ts";

const LIMITS = { resetBurst: 100, resetsPerSecond: 10 };
const PAUSE = { endMonoMs: 5_000, lengthMs: 1_000 };

/** Number of allowed resets among `count`. */
function passed(limiter: ResetLimiter, count: number, reset: StreamReset): number {
  for (let n = 0; n < count; n++) if (limiter.reset(reset)) return n;
  return count;
}

test("a burst is allowed, then the configured rate per second", () => {
  const limiter = new ResetLimiter(LIMITS);
  expect(passed(limiter, 1_000, { monoMs: 0 })).toBe(100);
  expect(passed(limiter, 1_000, { monoMs: 5_000 })).toBe(49); // The one that was too many counts as well.
  expect(passed(limiter, 1_000, { monoMs: 60_000 })).toBe(100);
});

test("all long-lived streams may end together, each only once", () => {
  const limiter = new ResetLimiter(LIMITS);
  limiter.lastingStreams = 600;
  for (let left = 600; left > 0; left--) {
    expect(limiter.reset({ monoMs: 0 })).toBe(false);
    limiter.lastingStreams -= 1;
  }
  expect(passed(limiter, 2_000, { monoMs: 0 })).toBe(100);
  // A stream that is opened and reset repeatedly allows only one reset.
  const one = new ResetLimiter(LIMITS);
  const again = () => {
    one.lastingStreams += 1;
    const isTooMany = one.reset({ monoMs: 0 });
    one.lastingStreams -= 1;
    return isTooMany;
  };
  let count = 0;
  while (!again()) count += 1;
  expect(count).toBe(101);
});

test.each([
  // 256 concurrent calls for 1 s: each can be two calls of 500 ms in sequence.
  { what: "calls of 500 ms", timeoutMs: 500, want: 512 },
  { what: "calls of 50 ms", timeoutMs: 50, want: 5_120 },
  { what: "calls with a deadline after the pause", timeoutMs: 60_000, want: 256 },
  { what: "calls that announced no deadline", timeoutMs: undefined, want: 1_024 },
  { what: "calls of 49 ms", timeoutMs: 49, want: 0 },
  { what: "calls of 1 ns", timeoutMs: 1e-6, want: 0 },
])("of $what that a pause of 1 s delayed, $want do not count", ({ timeoutMs, want }) => {
  const limiter = new ResetLimiter(LIMITS);
  expect(passed(limiter, 10_000, { monoMs: 5_000, timeoutMs, pause: PAUSE })).toBe(want + 100);
});

test("each pause explains resets once, and without a pause all of them count", () => {
  const limiter = new ResetLimiter(LIMITS);
  const reset = { monoMs: 5_000, timeoutMs: 500, pause: PAUSE };
  expect(passed(limiter, 512, reset)).toBe(512);
  expect(passed(limiter, 101, reset)).toBe(100);
  expect(limiter.reset({ ...reset, pause: { endMonoMs: 6_000, lengthMs: 1_000 } })).toBe(false);
  expect(limiter.reset({ monoMs: 5_000, timeoutMs: 500 })).toBe(true);
});
