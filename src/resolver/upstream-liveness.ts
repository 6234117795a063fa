/** How well a resolver hears the upstream of its watches: how old what is held may be, since when the upstream is silent, and what that makes of answers. */
import { NEVER, type Time } from "../lib/machine.ts";
import { SILENT_MS, UpstreamFreshness } from "./upstream-freshness.ts";
import type { UpstreamSet } from "./upstreams.ts";
import type { UpstreamWatches } from "./watching/upstream-watches.ts";

/** An upstream that is silent for so long is left. */
const DEAD_MS = 10_000;

export interface UpstreamLivenessParts {
  readonly upstreams: Pick<UpstreamSet, "cutOffMonoMs" | "isCutOff">;
  readonly watches: Pick<UpstreamWatches, "isOpen">;
}

export class UpstreamLiveness {
  readonly freshness = new UpstreamFreshness();
  /** Whether the upstream last called its data stale: it is a resolver that is cut off, or a node that is. */
  isUpstreamStale = false;
  readonly #parts: UpstreamLivenessParts;
  /** Since when the upstream has had something to say. */
  #openedMonoMs = Number.NEGATIVE_INFINITY;

  constructor(parts: UpstreamLivenessParts) {
    this.#parts = parts;
  }

  /** From now on the upstream has something to say: another one, or the first watch, or the same streams anew. */
  opened({ monoMs }: Time): void {
    this.#openedMonoMs = monoMs;
  }

  /** When the upstream last said something on its watch, or was first asked to. */
  get heardMonoMs(): number {
    return Math.max(this.freshness.heardMonoMs, this.#openedMonoMs);
  }

  /** When the upstream is left if it says nothing until then. What another one said before makes no answer fresh, and gives this one no less time. */
  get deadMonoMs(): number {
    return this.#parts.watches.isOpen ? this.heardMonoMs + DEAD_MS : NEVER;
  }

  /** For how many ms of the time since it was opened the upstream has said nothing but single changes. */
  changesOnlyMs(time: Time): number {
    return this.freshness.changesOnlyMs(this.#openedMonoMs, time);
  }

  /** Since when no upstream says anything, by monotonic ms, so that nothing expires. Undefined while one does. */
  silentSince({ monoMs }: Time): number | undefined {
    const { cutOffMonoMs } = this.#parts.upstreams;
    if (cutOffMonoMs !== undefined) return cutOffMonoMs;
    const { heardMonoMs } = this;
    return this.#parts.watches.isOpen && monoMs - heardMonoMs > SILENT_MS ? heardMonoMs : undefined;
  }

  /** Whether what was fetched before cannot be trusted to be so still: no upstream answers, or the one that is followed is silent, or says so of itself. */
  isAway({ monoMs }: Time): boolean {
    if (this.#parts.upstreams.isCutOff) return true;
    return this.#parts.watches.isOpen && (this.isUpstreamStale || monoMs - this.heardMonoMs > SILENT_MS);
  }

  /** Whether what is followed is as the upstream has it, as far as the upstream says. */
  isWell(time: Time): boolean {
    return !this.isUpstreamStale && !this.#parts.upstreams.isCutOff && !this.freshness.isSilent(time);
  }
}
