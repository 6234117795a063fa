/** Load reports of own entries: kept here, told to others only when they say something new (semantics.md, Load). */
import type { LoadView } from "../../catalog/entry/view.ts";
import type { Health, KeyText } from "../../catalog/record/record.ts";

/** What a renewal says of one entry. */
export interface Report {
  readonly key: KeyText;
  /** Path in the request, for errors. */
  readonly path: string;
  readonly health: Health | undefined;
  readonly load: LoadView | undefined;
}

export interface Renewed {
  readonly expiredLeaseIds: readonly string[];
  /** Shortest of the renewed; undefined when none was or all are static. */
  readonly ttlMs: number | undefined;
}

const LATENCY_BANDS = 64;
const CLIENT_BANDS = 10;
/** No report has this band. */
const UNTOLD = -1;

interface Reported {
  load: LoadView;
  band: number;
  toldMonoMs: number;
}

export class Loads {
  readonly #intervalMs: number;
  readonly #byKey = new Map<KeyText, Reported>();

  /** `intervalMs`: least time between two tellings of one entry. */
  constructor(intervalMs: number) {
    this.#intervalMs = intervalMs;
  }

  /** Last report, also when it was not told to others. */
  of(key: KeyText): LoadView | undefined {
    return this.#byKey.get(key)?.load;
  }

  /** Keeps a report; returns whether others should hear of it. */
  note(key: KeyText, load: LoadView, monoMs: number): boolean {
    const band = loadBand(load);
    const before = this.#byKey.get(key);
    if (before === undefined) {
      this.#byKey.set(key, { load, band, toldMonoMs: monoMs });
      return true;
    }
    before.load = load;
    if (before.band === band || monoMs - before.toldMonoMs < this.#intervalMs) return false;
    before.band = band;
    before.toldMonoMs = monoMs;
    return true;
  }

  /** Others were not told after all: the next report is news whatever it says. */
  untell(key: KeyText): void {
    const reported = this.#byKey.get(key);
    if (reported === undefined) return;
    reported.band = UNTOLD;
    reported.toldMonoMs = Number.NEGATIVE_INFINITY;
  }

  forget(key: KeyText): void {
    this.#byKey.delete(key);
  }
}

/**
 * Quarters of utilisation, powers of two of latency and of four of clients, errors none, below 1 %, below 10 %, more. A report in the same band says
 * nothing new.
 */
export function loadBand(load: LoadView): number {
  const quarter = Math.min(3, Math.floor(load.utilization * 4));
  const octave = load.latencyMs < 1 ? 0 : Math.min(LATENCY_BANDS - 1, 1 + Math.floor(Math.log2(load.latencyMs)));
  const crowd = load.activeClients < 1 ? 0 : Math.min(CLIENT_BANDS - 1, 1 + Math.floor(Math.log2(load.activeClients) / 2));
  const errors = load.errorRate <= 0 ? 0 : load.errorRate < 0.01 ? 1 : load.errorRate < 0.1 ? 2 : 3;
  return ((errors * CLIENT_BANDS + crowd) * 4 + quarter) * LATENCY_BANDS + octave;
}
