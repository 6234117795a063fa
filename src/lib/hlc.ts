/** Hybrid logical clock: wall time that never moves backwards and never repeats, in one safe integer. */
import { assert, WaymarkError } from "./errors.ts";

/** Stamps per millisecond. If more stamps are needed in a millisecond, the clock uses stamps of the next one. */
const PER_MS = 2048;

/**
 * The highest valid stamp, which is the beginning of the year 2100. It is absolute, so that all nodes refuse the same stamps independently of their
 * clocks, and it is low enough that sums with a stamp stay exact.
 */
export const MAX_STAMP = Date.UTC(2100, 0, 1) * PER_MS;

/** The wall time of a stamp, in ms. If the clock has used stamps of later milliseconds, this time is ahead of the wall clock by that amount. */
export function hlcWallMs(stamp: number): number {
  return Math.floor(stamp / PER_MS);
}

/** The first stamp of a wall time. If it is above `MAX_STAMP`, the result is not a valid stamp (`isStamp`). */
export function stampOf(wallMs: number): number {
  return Math.floor(wallMs) * PER_MS;
}

/** Whether an external number is a valid stamp. */
export function isStamp(stamp: number): boolean {
  return Number.isSafeInteger(stamp) && stamp >= 0 && stamp <= MAX_STAMP;
}

function beyondStamps(whose: string): WaymarkError {
  return new WaymarkError("clock_skew", `${whose} has reached the last valid timestamp, at the beginning of the year 2100`);
}

export class Hlc {
  #last: number;

  /** Continues after `last`, the newest known stamp of an earlier process instance, or 0 if there is none. */
  constructor(last = 0) {
    assert(isStamp(last), "the initial value of the clock is not a valid timestamp", { last });
    this.#last = last;
  }

  /** The newest stamp that was assigned or merged. */
  last(): number {
    return this.#last;
  }

  /** Returns a stamp above every stamp that was assigned or merged. Throws `clock_skew` if there is no such valid stamp. */
  stamp(wallMs: number): number {
    const stamp = Math.max(this.#last + 1, stampOf(wallMs));
    if (!(stamp <= MAX_STAMP)) throw beyondStamps("this node's clock");
    this.#last = stamp;
    return stamp;
  }

  /**
   * Returns a stamp that is also above `newestHlc`, the newest stored stamp of the written key, so that a write is never hidden by records that its
   * writer has seen. A `newestHlc` far ahead of the wall clock does not move this clock, so that a wrong clock elsewhere affects only this key.
   * Throws `clock_skew` if no valid stamp is above it. In that case, only this write fails.
   */
  stampAbove(newestHlc: number, wallMs: number): number {
    if (newestHlc >= MAX_STAMP) throw beyondStamps("the newest record of this key");
    return Math.max(this.stamp(wallMs), newestHlc + 1);
  }

  /**
   * Like `stampAbove`, for writes that must not fail: journal rows that are written again, and policy versions. If no valid stamp is above
   * `newestHlc`, the result is the highest valid stamp.
   */
  stampEnd(newestHlc: number, wallMs: number): number {
    const isBeyond = newestHlc >= MAX_STAMP || Math.max(this.#last, stampOf(wallMs)) >= MAX_STAMP;
    return isBeyond ? MAX_STAMP : this.stampAbove(newestHlc, wallMs);
  }

  /**
   * Merges a stamp from another node, or from an earlier process instance of this node, so that later stamps on this node are newer. A stamp more
   * than `maxSkewMs` ahead of the wall clock never moves this clock (semantics.md, Several origins for one key), because one wrong clock must not
   * move all nodes' clocks into the future.
   */
  merge(remoteHlc: number, wallMs: number, maxSkewMs: number): "merged" | "beyond_skew" {
    if (!isStamp(remoteHlc) || hlcWallMs(remoteHlc) > wallMs + maxSkewMs) return "beyond_skew";
    if (remoteHlc > this.#last) this.#last = remoteHlc;
    return "merged";
  }
}
