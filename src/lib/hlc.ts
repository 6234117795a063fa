/** Hybrid logical clock: wall time that never goes back and never repeats, in one safe integer. */
import { assert, WaymarkError } from "./errors.ts";

/** Stamps per millisecond; a busier millisecond borrows from the next one. */
const PER_MS = 2048;

/**
 * The newest stamp there may be: the beginning of the year 2100. Absolute, so that all nodes refuse the same ones whatever their own
 * clocks say; and low enough that a stamp plus something stays exact.
 */
export const MAX_STAMP = Date.UTC(2100, 0, 1) * PER_MS;

/** Wall time of a stamp, in ms; ahead of the truth by as much as the clock has borrowed. */
export function hlcWallMs(stamp: number): number {
  return Math.floor(stamp / PER_MS);
}

/** The first stamp of a wall time; no stamp (`isStamp`) where that is beyond what may be stamped. */
export function stampOf(wallMs: number): number {
  return Math.floor(wallMs) * PER_MS;
}

/** Whether a number from outside is one that a clock may give. */
export function isStamp(stamp: number): boolean {
  return Number.isSafeInteger(stamp) && stamp >= 0 && stamp <= MAX_STAMP;
}

function beyondStamps(whose: string): WaymarkError {
  return new WaymarkError("clock_skew", `${whose} stands in the year 2100 or later: no record can be stamped after that`);
}

export class Hlc {
  #last: number;

  /** Goes on after `last`, the newest stamp known of an earlier life; 0 when there is none. */
  constructor(last = 0) {
    assert(isStamp(last), "hlc start is not a stamp", { last });
    this.#last = last;
  }

  /** The newest stamp given or merged. */
  last(): number {
    return this.#last;
  }

  /** A stamp above every stamp given or merged before. Throws `clock_skew` where that is no stamp any more. */
  stamp(wallMs: number): number {
    const stamp = Math.max(this.#last + 1, stampOf(wallMs));
    if (!(stamp <= MAX_STAMP)) throw beyondStamps("this node's clock");
    this.#last = stamp;
    return stamp;
  }

  /**
   * A stamp above `newestHlc` too, the newest one held of the key that is written: a write is never hidden by what its writer
   * saw. One that is far ahead of the wall does not move this clock, so that a wrong clock elsewhere is felt by this key only.
   * Throws `clock_skew` when nothing can be above it: that write fails, alone.
   */
  stampAbove(newestHlc: number, wallMs: number): number {
    if (newestHlc >= MAX_STAMP) throw beyondStamps("the newest record of this key");
    return Math.max(this.stamp(wallMs), newestHlc + 1);
  }

  /**
   * As `stampAbove`, for what is not to fail: rows of a journal that are put again, and versions of policy. Where nothing can be above
   * `newestHlc`, it is the newest stamp there may be.
   */
  stampEnd(newestHlc: number, wallMs: number): number {
    const isBeyond = newestHlc >= MAX_STAMP || Math.max(this.#last, stampOf(wallMs)) >= MAX_STAMP;
    return isBeyond ? MAX_STAMP : this.stampAbove(newestHlc, wallMs);
  }

  /**
   * Learns another node's stamp, or one of this node's own earlier life, so that what is stamped here afterwards is newer. A stamp more than `maxSkewMs` ahead
   * of the wall never moves this clock (semantics.md, Several origins for one key): one wrong clock must not drag the
   * fleet into the future.
   */
  merge(remoteHlc: number, wallMs: number, maxSkewMs: number): "merged" | "beyond_skew" {
    if (!isStamp(remoteHlc) || hlcWallMs(remoteHlc) > wallMs + maxSkewMs) return "beyond_skew";
    if (remoteHlc > this.#last) this.#last = remoteHlc;
    return "merged";
  }
}
