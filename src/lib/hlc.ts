/** Hybrid logical clock: wall time that never goes back and never repeats, in one safe integer. */
import { assert, WaymarkError } from "./errors.ts";

/** Stamps per millisecond; a busier millisecond borrows from the next one. */
const PER_MS = 2048;

/**
 * The newest stamp that is allowed: the beginning of the year 2100. It is absolute, so that all nodes refuse the same stamps whatever their
 * clocks say, and low enough that sums with a stamp stay exact.
 */
export const MAX_STAMP = Date.UTC(2100, 0, 1) * PER_MS;

/** Wall time of a stamp, in ms. It is ahead by as much as the clock has borrowed. */
export function hlcWallMs(stamp: number): number {
  return Math.floor(stamp / PER_MS);
}

/** The first stamp of a wall time. Beyond the newest allowed stamp it is not a stamp (`isStamp`). */
export function stampOf(wallMs: number): number {
  return Math.floor(wallMs) * PER_MS;
}

/** Whether a number from outside is a valid stamp. */
export function isStamp(stamp: number): boolean {
  return Number.isSafeInteger(stamp) && stamp >= 0 && stamp <= MAX_STAMP;
}

function beyondStamps(whose: string): WaymarkError {
  return new WaymarkError("clock_skew", `${whose} stands in the year 2100 or later: no record can be stamped after that`);
}

export class Hlc {
  #last: number;

  /** Continues after `last`, the newest known stamp of an earlier life; 0 when there is none. */
  constructor(last = 0) {
    assert(isStamp(last), "hlc start is not a stamp", { last });
    this.#last = last;
  }

  /** The newest stamp given or merged. */
  last(): number {
    return this.#last;
  }

  /** A stamp above every stamp given or merged before. Throws `clock_skew` when there is no valid one. */
  stamp(wallMs: number): number {
    const stamp = Math.max(this.#last + 1, stampOf(wallMs));
    if (!(stamp <= MAX_STAMP)) throw beyondStamps("this node's clock");
    this.#last = stamp;
    return stamp;
  }

  /**
   * A stamp that is also above `newestHlc`, the newest held stamp of the written key, so that a write is never hidden by what its writer
   * saw. A `newestHlc` far ahead of the wall clock does not move this clock, so that a wrong clock elsewhere affects this key only.
   * Throws `clock_skew` when no stamp can be above it. Then only this write fails.
   */
  stampAbove(newestHlc: number, wallMs: number): number {
    if (newestHlc >= MAX_STAMP) throw beyondStamps("the newest record of this key");
    return Math.max(this.stamp(wallMs), newestHlc + 1);
  }

  /**
   * As `stampAbove`, for writes that must not fail: journal rows that are put again, and policy versions. When no stamp can be above
   * `newestHlc`, it is the newest allowed stamp.
   */
  stampEnd(newestHlc: number, wallMs: number): number {
    const isBeyond = newestHlc >= MAX_STAMP || Math.max(this.#last, stampOf(wallMs)) >= MAX_STAMP;
    return isBeyond ? MAX_STAMP : this.stampAbove(newestHlc, wallMs);
  }

  /**
   * Learns a stamp of another node, or of an earlier life of this node, so that later stamps here are newer. A stamp more than `maxSkewMs` ahead
   * of the wall clock never moves this clock (semantics.md, Several origins for one key): one wrong clock must not drag the
   * fleet into the future.
   */
  merge(remoteHlc: number, wallMs: number, maxSkewMs: number): "merged" | "beyond_skew" {
    if (!isStamp(remoteHlc) || hlcWallMs(remoteHlc) > wallMs + maxSkewMs) return "beyond_skew";
    if (remoteHlc > this.#last) this.#last = remoteHlc;
    return "merged";
  }
}
