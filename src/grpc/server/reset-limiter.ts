/**
 * Limits how many streams on one HTTP/2 connection can be reset before their answers are sent. Sending HEADERS followed by RST_STREAM costs the
 * client nothing and never reaches the limit on open streams (rapid reset, CVE-2023-44487). nghttp2 has its own limit, but it cannot know that a
 * pause of this process delayed a call until its client gave up.
 */
import { TokenBucket } from "../../lib/buckets/token-bucket.ts";
import type { ProcessPause } from "../../lib/stall-aware-clock.ts";

export interface ResetLimits {
  /** Number of resets in one burst, in addition to one per long-lived stream, because all watches of a client may end at the same time. */
  readonly resetBurst: number;
  readonly resetsPerSecond: number;
}

/**
 * Disables the limits of Node.js, which close the connection with INTERNAL_ERROR without reporting it. Node.js rejects streams over the limit on
 * concurrent streams. Until the end of an event loop turn, it counts streams that ended in that turn as open.
 */
export const NODE_STREAM_LIMITS = { streamResetBurst: 1e9, streamResetRate: 1e9, maxSessionRejectedStreams: 1e9 } as const;

/** Assumed number of a client's concurrent calls, in addition to long-lived streams. */
const OPEN_CALLS = 256;
/** A call with a shorter deadline would fail even without a pause, so its reset is always counted. */
const MIN_TIMEOUT_MS = 50;
/** Assumed timeout of calls without a deadline, because the client's own timeout is unknown. */
const UNKNOWN_TIMEOUT_MS = 250;

export interface StreamReset {
  readonly monoMs: number;
  readonly timeoutMs?: number | undefined;
  readonly pause?: ProcessPause | undefined;
}

export class ResetLimiter {
  readonly #burst: number;
  readonly #allowed: TokenBucket;
  #lastingStreams = 0;
  /** Highest number of long-lived streams since the bucket was last full. */
  #lastingPeak = 0;
  #pauseEndMonoMs: number | undefined;
  /** Remaining sum of timeouts for calls that the last pause may have delayed. */
  #waitMs = 0;

  constructor(limits: ResetLimits) {
    this.#burst = limits.resetBurst;
    this.#allowed = new TokenBucket(limits.resetBurst, 1_000 / limits.resetsPerSecond);
  }

  get lastingStreams(): number {
    return this.#lastingStreams;
  }

  set lastingStreams(count: number) {
    this.#lastingStreams = count;
    this.#lastingPeak = Math.max(this.#lastingPeak, count);
  }

  /**
   * Counts a reset. `timeoutMs` is the timeout in the stream's headers. `pause` is a pause that has just ended. At this time, a long-lived stream is
   * still counted as open. Returns whether the limit has been exceeded.
   */
  reset({ monoMs, timeoutMs, pause }: StreamReset): boolean {
    if (pause !== undefined && this.#wasKeptWaiting(timeoutMs, pause)) return false;
    if (this.#allowed.has(monoMs, this.#burst)) this.#lastingPeak = this.#lastingStreams;
    this.#allowed.take(monoMs);
    return !this.#allowed.has(monoMs, -this.#lastingPeak);
  }

  /**
   * Whether the pause explains the reset. A client has at most `OPEN_CALLS` concurrent calls, and calls that replace each other time out one after
   * the other. The sum of the timeouts of all delayed calls is therefore at most `OPEN_CALLS` times the length of the pause. Without this bound, the
   * work of processing such resets could cause the next pause.
   */
  #wasKeptWaiting(timeoutMs = UNKNOWN_TIMEOUT_MS, { endMonoMs, lengthMs }: ProcessPause): boolean {
    if (endMonoMs !== this.#pauseEndMonoMs) {
      this.#pauseEndMonoMs = endMonoMs;
      // A short pause may follow a long pause whose backlog is still being processed.
      this.#waitMs = Math.max(this.#waitMs, OPEN_CALLS * lengthMs);
    }
    const waitedMs = Math.min(timeoutMs, lengthMs);
    if (timeoutMs < MIN_TIMEOUT_MS || waitedMs > this.#waitMs) return false;
    this.#waitMs -= waitedMs;
    return true;
  }
}
