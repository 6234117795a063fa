/**
 * Checks whether this node's wall clock agrees with other nodes' clocks, which are measured by probe responses (semantics.md, Several origins for one
 * key).
 */
import type { Time } from "../../lib/machine.ts";

/** Comparison of this node's clock with the known clocks of members. */
export interface ClockState {
  readonly knownCount: number;
  /** Number of known clocks that differ from this node's clock by more than the limit. */
  readonly offCount: number;
  /** Whether this node's clock is the wrong one, because at least two clocks are known and it differs from more than half of them. */
  readonly isOff: boolean;
  /** How far this node's clock is ahead of the median of the differing clocks. Negative when this node's clock is behind. */
  readonly aheadMs: number;
  /** Whether too few clocks are known, although there are enough members to judge this node's clock. */
  readonly isUnheard: boolean;
}

interface ClockEstimate {
  /** The member's wall time at this node's monotonic time 0. It stays valid even when either wall clock is corrected. */
  readonly baseMs: number;
  /** The uncertainty of `baseMs`: half of the round-trip time. */
  readonly uncertaintyMs: number;
}

/** With two nodes, either of the clocks may be wrong. With three, the wrong clock is the one that differs from both others. */
export const LEAST_OTHERS = 2;

export class ClockWatch {
  readonly #maxSkewMs: number;
  readonly #clocks = new Map<string, ClockEstimate>();

  constructor(maxSkewMs: number) {
    this.#maxSkewMs = maxSkewMs;
  }

  /** Notes the wall time that a member reported. The time was read between the request and now. */
  note(nodeId: string, { wallMs, sentMonoMs }: { readonly wallMs: number; readonly sentMonoMs: number }, { monoMs }: Time): void {
    const uncertaintyMs = (monoMs - sentMonoMs) / 2;
    this.#clocks.set(nodeId, { baseMs: wallMs - sentMonoMs - uncertaintyMs, uncertaintyMs });
  }

  has(nodeId: string): boolean {
    return this.#clocks.has(nodeId);
  }

  /** Compares this node's clock with the clocks of `listed` and forgets all others. O(clocks). */
  read(listed: ReadonlySet<string>, { monoMs, wallMs }: Time): ClockState {
    let knownCount = 0;
    const off: number[] = [];
    for (const [nodeId, { baseMs, uncertaintyMs }] of this.#clocks) {
      if (!listed.has(nodeId)) {
        this.#clocks.delete(nodeId);
        continue;
      }
      knownCount += 1;
      const aheadMs = wallMs - (baseMs + monoMs);
      if (Math.abs(aheadMs) - uncertaintyMs > this.#maxSkewMs) off.push(aheadMs);
    }
    off.sort((a, b) => a - b);
    const isOff = knownCount >= LEAST_OTHERS && off.length * 2 > knownCount;
    const isUnheard = knownCount < LEAST_OTHERS && listed.size >= LEAST_OTHERS;
    return { knownCount, offCount: off.length, isOff, aheadMs: off[off.length >>> 1] ?? 0, isUnheard };
  }
}
