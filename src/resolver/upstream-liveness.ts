/** Tracks whether the upstream of the watches is alive: since when it is silent, and whether answers are stale because of it. */
import { NEVER, type Time } from "../lib/machine.ts";
import { SILENT_MS, UpstreamFreshness } from "./upstream-freshness.ts";
import type { UpstreamSet } from "./upstreams.ts";
import type { UpstreamWatches } from "./watching/upstream-watches.ts";

/** A resolver stops using an upstream that is silent for this time. */
const DEAD_MS = 10_000;

export interface UpstreamLivenessParts {
  readonly upstreams: Pick<UpstreamSet, "cutOffMonoMs" | "isCutOff">;
  readonly watches: Pick<UpstreamWatches, "isOpen">;
}

export class UpstreamLiveness {
  readonly freshness = new UpstreamFreshness();
  /** Whether the upstream last reported its data as stale, because it is cut off from its own sources. */
  isUpstreamStale = false;
  readonly #parts: UpstreamLivenessParts;
  /** Since when the upstream has been expected to send messages. */
  #openedMonoMs = Number.NEGATIVE_INFINITY;

  constructor(parts: UpstreamLivenessParts) {
    this.#parts = parts;
  }

  /** Call when the first watch is opened, when the upstream changes, and when streams are opened again: from now on messages are expected. */
  opened({ monoMs }: Time): void {
    this.#openedMonoMs = monoMs;
  }

  /** Monotonic time of the last message on the watch, or of its opening if that was later. */
  get lastMessageMonoMs(): number {
    return Math.max(this.freshness.lastMessageMonoMs, this.#openedMonoMs);
  }

  /** Monotonic time at which a silent upstream is given up. Messages of the previous upstream neither make answers fresh nor shorten this time. */
  get deadMonoMs(): number {
    return this.#parts.watches.isOpen ? this.lastMessageMonoMs + DEAD_MS : NEVER;
  }

  /** Returns the time in ms since the opening in which the upstream sent nothing but single changes. */
  changesOnlyMs(time: Time): number {
    return this.freshness.changesOnlyMs(this.#openedMonoMs, time);
  }

  /** Returns the monotonic time since which no upstream has sent anything; fetched answers do not expire meanwhile. Undefined while an upstream is alive. */
  silentSince({ monoMs }: Time): number | undefined {
    const { cutOffMonoMs } = this.#parts.upstreams;
    if (cutOffMonoMs !== undefined) return cutOffMonoMs;
    const { lastMessageMonoMs: heardMonoMs } = this;
    return this.#parts.watches.isOpen && monoMs - heardMonoMs > SILENT_MS ? heardMonoMs : undefined;
  }

  /** Returns whether fetched answers may be outdated: no upstream answers, or the current one is silent or reports stale data. */
  isAway({ monoMs }: Time): boolean {
    if (this.#parts.upstreams.isCutOff) return true;
    return this.#parts.watches.isOpen && (this.isUpstreamStale || monoMs - this.lastMessageMonoMs > SILENT_MS);
  }

  /** Returns whether the followed entries match the upstream, as far as the upstream reports. */
  isWell(time: Time): boolean {
    return !this.isUpstreamStale && !this.#parts.upstreams.isCutOff && !this.freshness.isSilent(time);
  }
}
