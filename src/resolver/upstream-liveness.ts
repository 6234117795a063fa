/** Tracks whether the upstream of the watches is alive: since when it has been silent, and whether answers are therefore stale. */
import { NEVER, type Time } from "../lib/machine.ts";
import { SILENT_MS, UpstreamFreshness } from "./upstream-freshness.ts";
import type { UpstreamSet } from "./upstreams.ts";
import type { UpstreamWatches } from "./watching/upstream-watches.ts";

/** A resolver stops using an upstream that is silent for this long. */
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
  /** The time since which the upstream has been expected to send messages. */
  #openedMonoMs = Number.NEGATIVE_INFINITY;

  constructor(parts: UpstreamLivenessParts) {
    this.#parts = parts;
  }

  /** Must be called when the first watch is opened, when the upstream changes, and when streams are reopened. Messages are expected from then on. */
  opened({ monoMs }: Time): void {
    this.#openedMonoMs = monoMs;
  }

  /** Monotonic time of the last message on the watch, or of the watch's opening if later. */
  get lastMessageMonoMs(): number {
    return Math.max(this.freshness.lastMessageMonoMs, this.#openedMonoMs);
  }

  /** Monotonic time at which a silent upstream is given up. Messages from the previous upstream neither make answers fresh nor shorten this time. */
  get deadMonoMs(): number {
    return this.#parts.watches.isOpen ? this.lastMessageMonoMs + DEAD_MS : NEVER;
  }

  /** Returns for how long since the opening, in ms, the upstream has sent only single changes. */
  changesOnlyMs(time: Time): number {
    return this.freshness.changesOnlyMs(this.#openedMonoMs, time);
  }

  /**
   * Returns the monotonic time since which no upstream has sent a message. Fetched answers do not expire in the meantime. Returns undefined while an
   * upstream is alive.
   */
  silentSince({ monoMs }: Time): number | undefined {
    const { cutOffMonoMs } = this.#parts.upstreams;
    if (cutOffMonoMs !== undefined) return cutOffMonoMs;
    const { lastMessageMonoMs: heardMonoMs } = this;
    return this.#parts.watches.isOpen && monoMs - heardMonoMs > SILENT_MS ? heardMonoMs : undefined;
  }

  /**
   * Returns whether fetched answers may be outdated because no upstream responds, or because the current upstream is silent or reports stale data.
   */
  isAway({ monoMs }: Time): boolean {
    if (this.#parts.upstreams.isCutOff) return true;
    return this.#parts.watches.isOpen && (this.isUpstreamStale || monoMs - this.lastMessageMonoMs > SILENT_MS);
  }

  /** Returns whether the followed entries match the upstream, according to the upstream's reports. */
  isWell(time: Time): boolean {
    return !this.isUpstreamStale && !this.#parts.upstreams.isCutOff && !this.freshness.isSilent(time);
  }
}
