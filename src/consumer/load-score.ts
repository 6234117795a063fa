/** Computes the known load of an entry from its own reports and this program's observations. */
import type { Time } from "../lib/machine.ts";

/** The last report of an instance about itself. */
export interface ReportedLoad {
  readonly utilization: number;
  readonly errorRate: number;
  readonly latencyMs: number;
  readonly activeClients: number;
  readonly observedWallMs: number;
}

/** Half-life of a load report, and of this program's observations. Older data has less weight. */
const LOAD_HALF_LIFE_MS = 60_000;
/** The load of an entry without data, between idle and full. */
export const UNKNOWN_LOAD = 0.5;
/** The latency and the number of clients at which the respective part of the score is one half. */
const HALF_LATENCY_MS = 100;
const HALF_CLIENTS = 100;
/** Largest weight of the client count in a report. It has less weight than the other values, because a client may be idle. */
const CLIENTS_WEIGHT = 0.25;
/**
 * Half-life of earlier reports in an entry's score. Reports are several seconds old, so without smoothing, all callers would switch to another entry
 * with each report.
 */
const REPORTS_HALF_LIFE_MS = 10_000;
/** An entry that reports at least this share of errors is ejected, unless its report is older than a half-life. */
const FAULTY_ERROR_RATE = 0.5;

/**
 * Returns the load of an entry according to its report, from 0 for idle to 1 for overloaded. The value for an unknown load is in between, and a
 * report fades to that value as it ages.
 */
export function loadScore(load: ReportedLoad | undefined, nowWallMs: number): number {
  return load === undefined ? UNKNOWN_LOAD : faded(reportedScore(load), nowWallMs - load.observedWallMs);
}

/** Whether a report has so many errors that its entry is ejected. */
export function hasHighErrorRate(load: ReportedLoad | undefined): boolean {
  return load !== undefined && load.errorRate >= FAULTY_ERROR_RATE;
}

/** Returns for how long a report will still eject its entry, in ms, or 0 or less if it does not eject the entry. */
export function errorEjectionMs(load: ReportedLoad | undefined, nowWallMs: number): number {
  return load === undefined || !hasHighErrorRate(load) ? 0 : load.observedWallMs + LOAD_HALF_LIFE_MS - nowWallMs;
}

/**
 * Smooths the reports of one entry into one score. The first report has full weight. The weight of a later report depends on the time since the
 * previous report.
 */
export class SmoothedReports {
  /** The smoothed score, before it is faded by the age of the last report. */
  score = UNKNOWN_LOAD;
  #last: ReportedLoad | undefined;

  /** Adds the current report of the entry, which can be the same as before. */
  note(load: ReportedLoad | undefined): void {
    const before = this.#last;
    this.#last = load;
    if (load === undefined || load === before) {
      if (load === undefined) this.score = UNKNOWN_LOAD;
      return;
    }
    const score = reportedScore(load);
    const ageMs = before === undefined ? Number.POSITIVE_INFINITY : load.observedWallMs - before.observedWallMs;
    // A report that is not newer replaces the previous report.
    if (ageMs <= 0 || before === undefined) this.score = before !== undefined && score === reportedScore(before) ? this.score : score;
    else this.score += (score - this.score) * (1 - 2 ** (-ageMs / REPORTS_HALF_LIFE_MS));
  }

  /** The time of the last report. */
  get observedWallMs(): number {
    return this.#last?.observedWallMs ?? 0;
  }
}

/** The score of a new report, before smoothing. */
function reportedScore(load: ReportedLoad): number {
  // The parts are combined like probabilities of rejection: if one part is full, the entry is full, even if the other parts are idle.
  const headroom =
    (1 - share(load.utilization)) *
    (1 - share(load.errorRate)) *
    (1 - saturating(load.latencyMs, HALF_LATENCY_MS)) *
    (1 - CLIENTS_WEIGHT * saturating(load.activeClients, HALF_CLIENTS));
  return 1 - headroom;
}

/** Fades a score by its age. A negative age results from a clock that is ahead, and is treated as 0. */
function faded(score: number, ageMs: number): number {
  return score === UNKNOWN_LOAD ? score : UNKNOWN_LOAD + (score - UNKNOWN_LOAD) * 2 ** (-Math.max(0, ageMs) / LOAD_HALF_LIFE_MS);
}

function share(value: number): number {
  return Math.min(1, Math.max(0, value));
}

function saturating(value: number, half: number): number {
  return value <= 0 ? 0 : value / (value + half);
}

/** Half-life of a call's weight in the observations. It is 10 s, which is also Finagle's default decay time. */
const CALL_HALF_LIFE_MS = 10_000;
/** A single failed call is weak evidence, so the share of failed calls is computed as if one more call had succeeded. */
const TRUSTED_CALLS = 1;

/**
 * This program's observations of one endpoint: the latency of calls and the share of failed calls. The latency is a peak-sensitive average: it rises
 * immediately with a slow call and falls slowly (Finagle's Peak EWMA,
 * https://twitter.github.io/finagle/guide/Clients.html#power-of-two-choices-p2c-least-loaded).
 */
export class ObservedCalls {
  /** Number of calls in progress. */
  inFlightCount = 0;
  /** Negative before the first successful call. */
  #latencyMs = -1;
  #calls = 0;
  #failed = 0;
  #lastMonoMs = 0;

  /** Whether a call has ended. */
  get isKnown(): boolean {
    return this.#calls > 0;
  }

  /** Records the end of a call. `latencyMs` is undefined for a failed call, because a rejection is fast. */
  note(latencyMs: number | undefined, nowMonoMs: number): void {
    const kept = 2 ** (-Math.max(0, nowMonoMs - this.#lastMonoMs) / CALL_HALF_LIFE_MS);
    this.#calls = this.#calls * kept + 1;
    this.#failed = this.#failed * kept + (latencyMs === undefined ? 1 : 0);
    if (latencyMs !== undefined) this.#latencyMs = Math.max(latencyMs, this.#latencyMs * kept + latencyMs * (1 - kept));
    this.#lastMonoMs = nowMonoMs;
  }

  /** Negative before the first successful call. */
  get latencyMs(): number {
    return this.#latencyMs;
  }

  /** Share of the calls that succeeded. */
  get okShare(): number {
    return 1 - this.#failed / (this.#calls + TRUSTED_CALLS);
  }

  /** Time at which the last call ended. */
  get lastMonoMs(): number {
    return this.#lastMonoMs;
  }
}

/** Number of values that `noteLoad` writes for one entry. */
export const LOAD_NUMBERS = 8;
const REPORTED = 0;
const REPORTED_WALL_MS = 1;
const LATENCY_MS = 2;
const OK_SHARE = 3;
const SEEN_MONO_MS = 4;
const IN_FLIGHT = 5;

/**
 * Writes the known load of an entry to `numbers`, starting at `at`. HOT: the entries that a choice compares are not in the processor cache, so
 * their numbers are in one cache line. As objects, they used ten lines, and a choice among 100,000 entries took three times as long
 * (bench/resolve.ts).
 */
export function noteLoad(numbers: number[], at: number, { reports, seen, weight }: KnownLoad): void {
  numbers[at + REPORTED] = reports.score;
  numbers[at + REPORTED_WALL_MS] = reports.observedWallMs;
  numbers[at + LATENCY_MS] = seen?.latencyMs ?? -1;
  numbers[at + OK_SHARE] = seen?.okShare ?? 1;
  numbers[at + SEEN_MONO_MS] = seen?.lastMonoMs ?? 0;
  numbers[at + IN_FLIGHT] = (seen?.inFlightCount ?? 0) / weight;
  numbers[at + 6] = 0;
  numbers[at + 7] = 0;
}

interface KnownLoad {
  readonly reports: SmoothedReports;
  readonly seen: ObservedCalls | undefined;
  readonly weight: number;
}

/** External inputs of a load comparison. */
interface LoadContext {
  readonly time: Time;
  /** The typical latency of the service, which is neither good nor bad. */
  readonly typicalMs: number;
  /** The average weight of the compared entries. An entry with twice the weight can have twice as many calls in flight. */
  readonly meanWeight: number;
}

/** The entry's headroom for one more call, computed from the numbers that `noteLoad` wrote. Of two entries, the one with more headroom is better. */
export function headroomOf(numbers: readonly number[], at: number, { time, typicalMs, meanWeight }: LoadContext): number {
  const reported = faded(numbers[at + REPORTED] ?? UNKNOWN_LOAD, time.wallMs - (numbers[at + REPORTED_WALL_MS] ?? 0));
  const latencyMs = numbers[at + LATENCY_MS] ?? -1;
  const slowness = latencyMs < 0 ? UNKNOWN_LOAD : saturating(latencyMs, typicalMs);
  const seen = faded(1 - (1 - slowness) * (numbers[at + OK_SHARE] ?? 1), time.monoMs - (numbers[at + SEEN_MONO_MS] ?? 0));
  return ((1 - reported) * (1 - seen)) / (1 + (numbers[at + IN_FLIGHT] ?? 0) * meanWeight);
}

/**
 * An entry keeps all its calls while its headroom is at least this fraction of the other entry's headroom. Below that, the share falls quickly: with
 * a quarter of the headroom, it keeps 6 % of its calls.
 */
const EQUAL_ROOM = 0.5;
const STEEPNESS = 4;

/**
 * The probability that an entry with headroom `room` keeps a call instead of losing it to the other entry. A plain comparison would send all calls to
 * the same one of two equal entries for some time, and noise would outweigh the weights. A probability that is 1 within a range avoids both problems.
 */
export function keepProbability(room: number, otherRoom: number): number {
  const enough = EQUAL_ROOM * otherRoom;
  return room >= enough ? 1 : (room / enough) ** STEEPNESS;
}
