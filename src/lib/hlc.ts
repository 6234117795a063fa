/** Hybrid logical clock: wall time that never goes back and never repeats, in one safe integer. */
import { assert } from "./errors.ts";

/** Stamps per millisecond; a busier millisecond borrows from the next one. Safe until the year 2109. */
const PER_MS = 2048;

/** Wall time of a stamp, in ms; ahead of the truth by as much as the clock has borrowed. */
export function hlcWallMs(stamp: number): number {
  return Math.floor(stamp / PER_MS);
}

export class Hlc {
  #last: number;

  /** Goes on after `last`, the newest stamp known of an earlier life; 0 when there is none. */
  constructor(last = 0) {
    assert(Number.isSafeInteger(last) && last >= 0, "hlc start is not a stamp", { last });
    this.#last = last;
  }

  /** The newest stamp given or merged. */
  last(): number {
    return this.#last;
  }

  /** A stamp above every stamp given or merged before. */
  stamp(wallMs: number): number {
    const stamp = Math.max(this.#last + 1, Math.floor(wallMs) * PER_MS);
    assert(Number.isSafeInteger(stamp), "hlc left the safe integers", { stamp, wallMs });
    this.#last = stamp;
    return stamp;
  }

  /**
   * A stamp above `newestHlc` too, the newest one held of the key that is written: a write is never hidden by what its writer
   * saw. One that is far ahead of the wall does not move this clock, so that a wrong clock elsewhere is felt by this key only.
   */
  stampAbove(newestHlc: number, wallMs: number): number {
    return Math.max(this.stamp(wallMs), newestHlc + 1);
  }

  /**
   * Learns another node's stamp, or one of this node's own earlier life, so that what is stamped here afterwards is newer. A stamp more than `maxSkewMs` ahead
   * of the wall never moves this clock (semantics.md, Several origins for one key): one wrong clock must not drag the
   * fleet into the future.
   */
  merge(remoteHlc: number, wallMs: number, maxSkewMs: number): "merged" | "beyond_skew" {
    if (!Number.isSafeInteger(remoteHlc) || hlcWallMs(remoteHlc) > wallMs + maxSkewMs) return "beyond_skew";
    if (remoteHlc > this.#last) this.#last = remoteHlc;
    return "merged";
  }
}
