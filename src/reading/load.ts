/** What is known of the load of an entry: its own reports, and what this program saw of it. */
import type { Time } from "../lib/machine.ts";

/** What an instance last reported about itself. */
export interface Load {
  readonly utilization: number;
  readonly errorRate: number;
  readonly latencyMs: number;
  readonly activeClients: number;
  readonly observedWallMs: number;
}

/** Half-life of a load report, and of what this program saw. Old knowledge counts less, and never excludes an entry. */
const LOAD_HALF_LIFE_MS = 60_000;
/** The load of an entry of which nothing is known: between idle and full. */
const UNKNOWN_LOAD = 0.5;
/** The latency and the number of clients at which their part of the score is half. */
const HALF_LATENCY_MS = 100;
const HALF_CLIENTS = 100;
/** Weight of the worst latency and of the most clients in a report. They matter less than utilisation and errors. */
const LATENCY_WEIGHT = 0.5;
const CLIENTS_WEIGHT = 0.25;

/** 0 for idle to 1 for overloaded. Unknown load is in between, and a report fades to that value with its age. */
function loadScore(load: Load | undefined, nowWallMs: number): number {
  if (load === undefined) return UNKNOWN_LOAD;
  // The parts combine like chances of refusal: one full part makes the entry full, even if the others are idle.
  const headroom =
    (1 - share(load.utilization)) *
    (1 - share(load.errorRate)) *
    (1 - LATENCY_WEIGHT * saturating(load.latencyMs, HALF_LATENCY_MS)) *
    (1 - CLIENTS_WEIGHT * saturating(load.activeClients, HALF_CLIENTS));
  return faded(1 - headroom, nowWallMs - load.observedWallMs);
}

/** What has become of a score with its age. An age below 0 comes from a clock ahead of ours; the score is not newer than now. */
function faded(score: number, ageMs: number): number {
  return UNKNOWN_LOAD + (score - UNKNOWN_LOAD) * 2 ** (-Math.max(0, ageMs) / LOAD_HALF_LIFE_MS);
}

function share(value: number): number {
  return Math.min(1, Math.max(0, value));
}

function saturating(value: number, half: number): number {
  return value <= 0 ? 0 : value / (value + half);
}

/** Half-life of one call's part in what this program saw, as in Finagle's default decay time of 10 s. */
const CALL_HALF_LIFE_MS = 10_000;
/** A single failed call is no proof: the share of failed calls is taken as if one more had gone well. */
const TRUSTED_CALLS = 1;

/**
 * What this program saw of one endpoint: the latency of its calls and the share that failed. The latency is a peak-sensitive average: it rises at
 * once to a slow call and falls slowly (Finagle's Peak EWMA, https://twitter.github.io/finagle/guide/Clients.html#power-of-two-choices-p2c-least-loaded).
 */
export class Seen {
  /** Calls that have started and not ended. */
  inFlightCount = 0;
  /** Below 0 before the first call that went well. */
  #latencyMs = -1;
  #calls = 0;
  #failed = 0;
  #lastMonoMs = 0;

  /** Whether a call has ended. */
  get isKnown(): boolean {
    return this.#calls > 0;
  }

  /** Notes the end of a call. The latency of a failed call is not counted, because a refusal is quick. */
  note(isOk: boolean, latencyMs: number, nowMonoMs: number): void {
    const kept = 2 ** (-Math.max(0, nowMonoMs - this.#lastMonoMs) / CALL_HALF_LIFE_MS);
    this.#calls = this.#calls * kept + 1;
    this.#failed = this.#failed * kept + (isOk ? 0 : 1);
    if (isOk) this.#latencyMs = Math.max(latencyMs, this.#latencyMs * kept + latencyMs * (1 - kept));
    this.#lastMonoMs = nowMonoMs;
  }

  /** Like `loadScore`. `typicalMs` is the latency that is neither good nor bad, because it is usual for this service. */
  score(typicalMs: number, nowMonoMs: number): number {
    if (this.#calls === 0) return UNKNOWN_LOAD;
    const slowness = this.#latencyMs < 0 ? UNKNOWN_LOAD : saturating(this.#latencyMs, typicalMs);
    const headroom = (1 - slowness) * (1 - this.#failed / (this.#calls + TRUSTED_CALLS));
    return faded(1 - headroom, nowMonoMs - this.#lastMonoMs);
  }
}

/** What a judgement of load takes from outside. */
export interface Moment {
  readonly time: Time;
  /** The latency that is usual for the service. */
  readonly typicalMs: number;
}

/** The room of an entry for one more call, in comparison: of two, the one with more room is better. It leaves out the calls in flight. */
export function roomOf(load: Load | undefined, seen: Seen | undefined, { time, typicalMs }: Moment): number {
  const seenScore = seen === undefined ? UNKNOWN_LOAD : seen.score(typicalMs, time.monoMs);
  return (1 - loadScore(load, time.wallMs)) * (1 - seenScore);
}
