/** Load reports of own entries. They are kept here, and sent to other nodes only if they differ enough (semantics.md, Load). */
import type { LoadView } from "../../catalog/entry/view.ts";
import type { Health, KeyText } from "../../catalog/record/record.ts";
import { hasHighErrorRate, loadScore } from "../../consumer/load-score.ts";

/** The report about one entry in a renewal. */
export interface EntryReport {
  readonly key: KeyText;
  /** Path in the request, for errors. */
  readonly path: string;
  readonly health: Health | undefined;
  readonly load: LoadView | undefined;
}

export interface RenewalResult {
  readonly expiredLeaseIds: readonly string[];
  /** The shortest ttl among the renewed leases. Undefined if none was renewed or all are static. */
  readonly ttlMs: number | undefined;
}

/** A report of a bad load is sent again after this time even if its band did not change: readers halve its weight every minute, and would otherwise call the instance again. */
const BAD_AGAIN_MS = 30_000;
/** A report with this score or more is bad. */
const BAD_SCORE = 0.75;
const LATENCY_BANDS = 64;
const CLIENT_BANDS = 10;
/** No report has this band. */
const UNTOLD = -1;

interface StoredReport {
  load: LoadView;
  band: number;
  toldMonoMs: number;
}

/** Hears of each report that is kept or forgotten, in order. That is enough to keep a copy. */
export interface LoadObserver {
  notes(key: KeyText, load: LoadView): void;
  forgets(key: KeyText): void;
}

export class LoadReports {
  /** They hear of every report from when they are added. */
  readonly followers = new Set<LoadObserver>();
  readonly #intervalMs: number;
  readonly #byKey = new Map<KeyText, StoredReport>();

  /** `intervalMs`: least time between two reports of one entry to other nodes. */
  constructor(intervalMs: number) {
    this.#intervalMs = intervalMs;
  }

  /** The last report, including one that was not sent to other nodes. HOT: once an entry of an answer; without reports the key is not hashed. */
  of(key: KeyText): LoadView | undefined {
    return this.#byKey.size === 0 ? undefined : this.#byKey.get(key)?.load;
  }

  /** All reports, one by one. Those that are kept while it goes on may be among them, and those that are forgotten by then are not. */
  *list(): Generator<readonly [KeyText, LoadView], undefined> {
    for (const [key, { load }] of this.#byKey) yield [key, load];
  }

  /** Keeps a report. Returns whether other nodes must hear of it. */
  note(key: KeyText, load: LoadView, monoMs: number): boolean {
    for (const follower of this.followers) follower.notes(key, load);
    const band = loadBand(load);
    const before = this.#byKey.get(key);
    if (before === undefined) {
      this.#byKey.set(key, { load, band, toldMonoMs: monoMs });
      return true;
    }
    before.load = load;
    const toldForMs = monoMs - before.toldMonoMs;
    const isDue = before.band !== band || (toldForMs >= BAD_AGAIN_MS && loadScore(load, load.observedWallMs) >= BAD_SCORE);
    if (!isDue || toldForMs < this.#intervalMs) return false;
    before.band = band;
    before.toldMonoMs = monoMs;
    return true;
  }

  /** Other nodes were not told after all: the next report is new in any case. */
  untell(key: KeyText): void {
    const reported = this.#byKey.get(key);
    if (reported === undefined) return;
    reported.band = UNTOLD;
    reported.toldMonoMs = Number.NEGATIVE_INFINITY;
  }

  forget(key: KeyText): void {
    if (!this.#byKey.delete(key)) return;
    for (const follower of this.followers) follower.forgets(key);
  }
}

/**
 * The band of a report: quarters of utilisation with the last one divided at 90 %, powers of two of latency, powers of four of clients, and five levels
 * of errors (none, below 1 %, below 10 %, below 50 %, above which an entry is ejected, or more). A report in the same band is not new.
 */
export function loadBand(load: LoadView): number {
  const quarter = load.utilization >= 0.9 ? 4 : Math.min(3, Math.floor(load.utilization * 4));
  const octave = load.latencyMs < 1 ? 0 : Math.min(LATENCY_BANDS - 1, 1 + Math.floor(Math.log2(load.latencyMs)));
  const crowd = load.activeClients < 1 ? 0 : Math.min(CLIENT_BANDS - 1, 1 + Math.floor(Math.log2(load.activeClients) / 2));
  const errors = load.errorRate <= 0 ? 0 : load.errorRate < 0.01 ? 1 : load.errorRate < 0.1 ? 2 : hasHighErrorRate(load) ? 4 : 3;
  return ((errors * CLIENT_BANDS + crowd) * 5 + quarter) * LATENCY_BANDS + octave;
}
