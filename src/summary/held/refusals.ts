/** Counts what is not taken, and tells some of it to the audit (docs/design/summaries.md, Taking). */
import { TokenBuckets } from "../../lib/buckets/token-bucket.ts";
import type { Time } from "../../lib/machine.ts";
import type { SummaryRefusal } from "../summary.ts";

export interface RefusalEvent {
  readonly why: SummaryRefusal;
  /** The claimed source. Empty if the bytes do not say it. */
  readonly source: string;
  /** The cluster at the other end of the border. */
  readonly via: string;
  /** Namespace and name, or nothing for a beacon. */
  readonly namespace: string;
  readonly name: string;
}

/** Events in a minute, of one word and source, and of all. */
const A_MINUTE = { one: 5, all: 60 };
/** Words and sources whose rate is known. */
const MAX_RATES = 4096;
const ALL = "";
const NONE: Readonly<Record<SummaryRefusal, number>> = {
  unsigned: 0,
  unknown_key: 0,
  bad_signature: 0,
  stale: 0,
  future: 0,
  older: 0,
  not_owner: 0,
  echo: 0,
  conflict: 0,
  limit: 0,
};

export class Refusals {
  readonly counts: Record<SummaryRefusal, number> = { ...NONE };
  readonly #each = new TokenBuckets({ limit: A_MINUTE.one, windowMs: 60_000, maxKeys: MAX_RATES });
  readonly #all = new TokenBuckets({ limit: A_MINUTE.all, windowMs: 60_000, maxKeys: 2 });
  #events: RefusalEvent[] = [];

  note(event: RefusalEvent, { monoMs }: Time): void {
    this.counts[event.why] += 1;
    if (this.#each.take(`${event.why} ${event.source}`, monoMs) === 0 && this.#all.take(ALL, monoMs) === 0) this.#events.push(event);
    // Somebody who never takes them must not fill the memory.
    if (this.#events.length > A_MINUTE.all) this.#events.shift();
  }

  /** The events since the last call. */
  take(): readonly RefusalEvent[] {
    const events = this.#events;
    if (events.length > 0) this.#events = [];
    return events;
  }
}
