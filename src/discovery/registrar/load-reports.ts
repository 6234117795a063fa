/**
 * Keeps the load reports on this node's entries. This node keeps each report, but sends it to other nodes only if it differs enough from the previous
 * one (semantics.md, Load).
 */
import type { LoadView } from "../../catalog/entry/view.ts";
import { type Health, type KeyText, namespaceOfKey } from "../../catalog/record/record.ts";
import { hasHighErrorRate, loadScore } from "../../consumer/load-score.ts";

/** The report on one entry in a renewal. */
export interface EntryReport {
  readonly key: KeyText;
  /** Path of the report in the request, for errors. */
  readonly path: string;
  readonly health: Health | undefined;
  readonly load: LoadView | undefined;
}

export interface RenewalResult {
  readonly expiredLeaseIds: readonly string[];
  /** The shortest ttl among the renewed leases. Undefined if no lease was renewed or all are static. */
  readonly ttlMs: number | undefined;
}

/**
 * A report of high load is sent again after this time even if its band has not changed: readers halve its weight every minute, and would otherwise
 * start calling the instance again.
 */
const HIGH_LOAD_REPEAT_MS = 30_000;
/** Minimum score that is considered high load. */
const HIGH_LOAD_SCORE = 0.75;
const LATENCY_BANDS = 64;
const CLIENT_BANDS = 10;
/** A value that is different from the band of any report. */
const NO_BAND = -1;

interface StoredReport {
  load: LoadView;
  band: number;
  sentMonoMs: number;
}

/** Receives each report that is kept or forgotten, in order. This is enough to maintain a copy of the reports. */
export interface LoadObserver {
  notes(key: KeyText, load: LoadView): void;
  forgets(key: KeyText): void;
}

export class LoadReports {
  /** Observers of reports. Observers are notified of all events after they are added. */
  readonly followers = new Set<LoadObserver>();
  readonly #intervalMs: number;
  readonly #byKey = new Map<KeyText, StoredReport>();
  /** Number of reports in each namespace that has any. */
  readonly #counts = new Map<string, number>();

  /** `intervalMs`: minimum time between two reports of one entry to other nodes. */
  constructor(intervalMs: number) {
    this.#intervalMs = intervalMs;
  }

  /**
   * Returns the last report, even if it was not sent to other nodes. HOT: once per entry of an answer. Every node reports on itself, but most
   * namespaces have no reports. There the text of the key is not read, because it is not next to the record in memory (bench/growth.ts).
   */
  of(key: KeyText, namespace = namespaceOfKey(key)): LoadView | undefined {
    return this.#counts.has(namespace) ? this.#byKey.get(key)?.load : undefined;
  }

  /**
   * Iterates over all reports. May include reports that are added during the iteration. Does not include reports that are forgotten before they are
   * reached.
   */
  *list(): Generator<readonly [KeyText, LoadView], undefined> {
    for (const [key, { load }] of this.#byKey) yield [key, load];
  }

  /** Keeps a report. Returns whether the report must be sent to other nodes. */
  note(key: KeyText, load: LoadView, monoMs: number): boolean {
    for (const follower of this.followers) follower.notes(key, load);
    const band = loadBand(load);
    const before = this.#byKey.get(key);
    if (before === undefined) {
      this.#byKey.set(key, { load, band, sentMonoMs: monoMs });
      this.#count(namespaceOfKey(key), 1);
      return true;
    }
    before.load = load;
    const sinceSentMs = monoMs - before.sentMonoMs;
    const isDue = before.band !== band || (sinceSentMs >= HIGH_LOAD_REPEAT_MS && loadScore(load, load.observedWallMs) >= HIGH_LOAD_SCORE);
    if (!isDue || sinceSentMs < this.#intervalMs) return false;
    before.band = band;
    before.sentMonoMs = monoMs;
    return true;
  }

  /** Records that the last report was not sent to other nodes, so that the next report is treated as new. */
  markUnsent(key: KeyText): void {
    const reported = this.#byKey.get(key);
    if (reported === undefined) return;
    reported.band = NO_BAND;
    reported.sentMonoMs = Number.NEGATIVE_INFINITY;
  }

  forget(key: KeyText): void {
    if (!this.#byKey.delete(key)) return;
    this.#count(namespaceOfKey(key), -1);
    for (const follower of this.followers) follower.forgets(key);
  }

  #count(namespace: string, change: number): void {
    const count = (this.#counts.get(namespace) ?? 0) + change;
    if (count === 0) this.#counts.delete(namespace);
    else this.#counts.set(namespace, count);
  }
}

/**
 * Maps a report to a band: quarters of utilisation with the last quarter divided at 90 %, powers of two of latency, powers of four of
 * clients, and five levels of errors (none, below 1 %, below 10 %, below the 50 % at which an entry is ejected, and above). A report in the same band
 * as the previous one is not considered new.
 */
export function loadBand(load: LoadView): number {
  const quarter = load.utilization >= 0.9 ? 4 : Math.min(3, Math.floor(load.utilization * 4));
  const octave = load.latencyMs < 1 ? 0 : Math.min(LATENCY_BANDS - 1, 1 + Math.floor(Math.log2(load.latencyMs)));
  const crowd = load.activeClients < 1 ? 0 : Math.min(CLIENT_BANDS - 1, 1 + Math.floor(Math.log2(load.activeClients) / 2));
  const errors = load.errorRate <= 0 ? 0 : load.errorRate < 0.01 ? 1 : load.errorRate < 0.1 ? 2 : hasHighErrorRate(load) ? 4 : 3;
  return ((errors * CLIENT_BANDS + crowd) * 5 + quarter) * LATENCY_BANDS + octave;
}
