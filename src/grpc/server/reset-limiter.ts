/**
 * Limits how many streams of one HTTP/2 connection end by a reset before their answer was sent. HEADERS that are followed by RST_STREAM cost a
 * client nothing and never reach the limit on open streams (rapid reset, CVE-2023-44487). nghttp2 has a limit of its own, but it cannot know
 * that a pause of this process kept a call waiting until its client gave up.
 */
import type { ProcessPause } from "../../lib/patience.ts";

export interface ResetLimits {
  /** Resets in one burst, in addition to one for each lasting stream, because all watches of a client may end together. */
  readonly resetBurst: number;
  readonly resetsPerSecond: number;
}

/**
 * Node's own limits, out of the way: they end the connection with INTERNAL_ERROR, and nothing is reported. Node rejects the streams beyond the
 * bound on concurrent streams, and until the end of a turn of the event loop it counts those that ended in this turn as open.
 */
export const NODE_STREAM_LIMITS = { streamResetBurst: 1e9, streamResetRate: 1e9, maxSessionRejectedStreams: 1e9 } as const;

/** Calls that a client has open at a time, in addition to lasting streams. */
const OPEN_CALLS = 256;
/** A call with a shorter deadline fails without a pause too, so that its reset always counts. */
const MIN_TIMEOUT_MS = 50;
/** Assumed for calls that announce no deadline: their client's own timeout is unknown. */
const UNKNOWN_TIMEOUT_MS = 250;

export interface StreamReset {
  readonly monoMs: number;
  readonly timeoutMs?: number | undefined;
  readonly pause?: ProcessPause | undefined;
}

export class ResetLimiter {
  readonly #limits: ResetLimits;
  /** Resets that count, less those that the rate has given back. */
  #level = 0;
  #levelMonoMs = 0;
  #lastingStreams = 0;
  /** The most lasting streams since the level was last 0. */
  #lastingPeak = 0;
  #pauseEndMonoMs: number | undefined;
  /** Calls that the last pause can have kept waiting: the sum of their timeouts that is left. */
  #waitMs = 0;

  constructor(limits: ResetLimits) {
    this.#limits = limits;
  }

  get lastingStreams(): number {
    return this.#lastingStreams;
  }

  set lastingStreams(count: number) {
    this.#lastingStreams = count;
    this.#lastingPeak = Math.max(this.#lastingPeak, count);
  }

  /** A stream was reset. `timeoutMs` is what its headers announced; `pause` has just ended. A lasting stream still counts as open. Returns whether that is one reset too many. */
  reset({ monoMs, timeoutMs, pause }: StreamReset): boolean {
    if (pause !== undefined && this.#wasKeptWaiting(timeoutMs, pause)) return false;
    const { resetBurst, resetsPerSecond } = this.#limits;
    this.#level = Math.max(0, this.#level - ((monoMs - this.#levelMonoMs) / 1_000) * resetsPerSecond);
    if (this.#level === 0) this.#lastingPeak = this.#lastingStreams;
    this.#levelMonoMs = monoMs;
    this.#level += 1;
    return this.#level > resetBurst + this.#lastingPeak;
  }

  /**
   * Whether the pause explains the reset. Calls that follow each other in one place of a connection ran out of time one after the other, so
   * the timeouts of all of them together are at most the pause once for each place. Without this bound, the work of reading such
   * resets could cause the next pause.
   */
  #wasKeptWaiting(timeoutMs = UNKNOWN_TIMEOUT_MS, { endMonoMs, lengthMs }: ProcessPause): boolean {
    if (endMonoMs !== this.#pauseEndMonoMs) {
      this.#pauseEndMonoMs = endMonoMs;
      // A short pause may follow a long one whose backlog is still being read.
      this.#waitMs = Math.max(this.#waitMs, OPEN_CALLS * lengthMs);
    }
    const waitedMs = Math.min(timeoutMs, lengthMs);
    if (timeoutMs < MIN_TIMEOUT_MS || waitedMs > this.#waitMs) return false;
    this.#waitMs -= waitedMs;
    return true;
  }
}
