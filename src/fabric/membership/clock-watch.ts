/** Whether this node's wall clock agrees with those of others, as far as their answers to probes tell (semantics.md, Several origins for one key). */
import type { Time } from "../../lib/machine.ts";

/** How this clock stands to those of the members that were heard. */
export interface ClockState {
  readonly knownCount: number;
  /** Of them those that differ by more than the bound. */
  readonly offCount: number;
  /** This node is the one that is wrong: it differs from more than half, of at least two. */
  readonly isOff: boolean;
  /** By how much it is ahead of the middle one of those; below zero: behind. */
  readonly aheadMs: number;
  /** There are enough others to judge this clock by, and too few of them have been heard. */
  readonly isUnheard: boolean;
}

interface ClockEstimate {
  /** Its wall time at this node's monotonic 0: set right here, or there, it agrees again at once. */
  readonly baseMs: number;
  /** It may be so much off: half of the way there and back. */
  readonly doubtMs: number;
}

/** Two may be wrong about each other; of three, one is. */
export const LEAST_OTHERS = 2;

export class ClockWatch {
  readonly #maxSkewMs: number;
  readonly #clocks = new Map<string, ClockEstimate>();

  constructor(maxSkewMs: number) {
    this.#maxSkewMs = maxSkewMs;
  }

  /** A member answered, and its clock stood at `wallMs` somewhere between the question and now. */
  note(nodeId: string, { wallMs, sentMonoMs }: { readonly wallMs: number; readonly sentMonoMs: number }, { monoMs }: Time): void {
    const doubtMs = (monoMs - sentMonoMs) / 2;
    this.#clocks.set(nodeId, { baseMs: wallMs - sentMonoMs - doubtMs, doubtMs });
  }

  has(nodeId: string): boolean {
    return this.#clocks.has(nodeId);
  }

  /** Compared with those of `listed`; the rest is forgotten. O(clocks). */
  read(listed: ReadonlySet<string>, { monoMs, wallMs }: Time): ClockState {
    let knownCount = 0;
    const off: number[] = [];
    for (const [nodeId, { baseMs, doubtMs }] of this.#clocks) {
      if (!listed.has(nodeId)) {
        this.#clocks.delete(nodeId);
        continue;
      }
      knownCount += 1;
      const aheadMs = wallMs - (baseMs + monoMs);
      if (Math.abs(aheadMs) - doubtMs > this.#maxSkewMs) off.push(aheadMs);
    }
    off.sort((a, b) => a - b);
    const isOff = knownCount >= LEAST_OTHERS && off.length * 2 > knownCount;
    const isUnheard = knownCount < LEAST_OTHERS && listed.size >= LEAST_OTHERS;
    return { knownCount, offCount: off.length, isOff, aheadMs: off[off.length >>> 1] ?? 0, isUnheard };
  }
}
