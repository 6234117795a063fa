/** Counts what is not taken, and tells some of it to the audit (docs/design/summaries.md, Taking). */
import { TokenBuckets } from "../../lib/buckets/token-bucket.ts";
import type { Time } from "../../lib/machine.ts";
import type { SummaryRefusal } from "../summary.ts";

export interface RefusalEvent {
  readonly why: SummaryRefusal;
  readonly atWallMs: number;
  /** The claimed source. Empty if the bytes do not say it. */
  readonly source: string;
  /** The cluster at the other end of the border. */
  readonly via: string;
  /** Namespace and name, or nothing for a beacon. */
  readonly namespace: string;
  readonly name: string;
}

/** Events in a minute, of one word and source, and of all that comes by one neighbour, so that nobody hides what comes by another. */
const A_MINUTE = { one: 5, via: 60 };
/** Words and sources whose rate is known. */
const MAX_RATES = 4096;
/** Neighbours whose rate is known: more than settings can name. */
const MAX_NEIGHBOURS = 256;
/** Most events that are kept until they are taken. */
const MAX_EVENTS = 240;
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
  readonly #byVia = new TokenBuckets({ limit: A_MINUTE.via, windowMs: 60_000, maxKeys: MAX_NEIGHBOURS });
  #events: RefusalEvent[] = [];

  /** Whether somebody is to be told. */
  get hasEvents(): boolean {
    return this.#events.length > 0;
  }

  note(event: Omit<RefusalEvent, "atWallMs">, { monoMs, wallMs }: Time): void {
    this.counts[event.why] += 1;
    const { why, source, via } = event;
    // Each neighbour can make up any source.
    if (this.#each.take(`${why} ${source} ${via}`, monoMs) === 0 && this.#byVia.take(via, monoMs) === 0)
      this.#events.push({ ...event, atWallMs: wallMs });
    // A node that has not begun takes none of them, and they must not fill its memory.
    if (this.#events.length > MAX_EVENTS) this.#events.shift();
  }

  /** The events since the last call. */
  take(): readonly RefusalEvent[] {
    const events = this.#events;
    if (events.length > 0) this.#events = [];
    return events;
  }
}
