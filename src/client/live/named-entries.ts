/** The entries of one name in a live map, with the choosers that select an entry and the outcomes of calls. */
import { timestampMs } from "@bufbuild/protobuf/wkt";
import { type Entry, EntryKind, type Target } from "../../../gen/waymark/catalog/v1/entry_pb.js";
import { Chooser } from "../../consumer/chooser.ts";
import type { Candidate } from "../../consumer/endpoint.ts";
import { isHosted } from "../../consumer/health-tiers.ts";
import { SELECT_POLICY, type SelectPolicy, type ZoneLocality } from "../../consumer/locality-levels.ts";

/** An entry as seen by the chooser. */
export interface LiveEntry extends Candidate {
  readonly view: Candidate["view"] & { readonly targets: readonly Target[] };
  readonly entry: Entry;
}

/** Statistics for one name since the map was opened. */
export interface NameStats {
  /** Number of choices that `resolve` returned. */
  readonly choices: number;
  /** Number of choices that were based on load. */
  readonly choicesByLoad: number;
  /** Number of calls that the program reported as successful. */
  readonly succeeded: number;
  /** Number of calls that the program reported as failed. */
  readonly failed: number;
  /** Latencies of the successful calls. */
  readonly latencyMs: LatencyHistogram;
}

/** External inputs to the choice. */
export interface ChoiceInputs {
  /** Uniform in [0, 1). */
  readonly random: () => number;
  /** The preferred location. */
  readonly place: ZoneLocality;
}

export class NamedEntries {
  readonly kind: EntryKind;
  /** The entries with the same namespace and name but another kind. */
  next: NamedEntries | undefined;
  /** Entries indexed by their key as a string. */
  readonly live = new Map<string, Entry>();
  /** Entries that have vanished but are still shown as ORPHANED. */
  readonly held = new Map<string, Entry>();
  readonly latencies = new LatencyCounts();
  succeededCount = 0;
  failedCount = 0;
  /**
   * Choosers by policy, each created on first use. The default chooser also has its own field, because following each pointer costs a cache miss.
   */
  readonly #choosers = new Map<SelectPolicy, Chooser<LiveEntry>>();
  #usual: Chooser<LiveEntry> | undefined;
  /** The location for which the choosers were created. */
  #place: ZoneLocality | undefined;
  /** Totals from choosers that were created for another location. */
  #earlier = { choices: 0, byLoad: 0 };

  constructor(kind: EntryKind) {
    this.kind = kind;
  }

  get size(): number {
    return this.live.size + this.held.size;
  }

  put(key: string, entry: Entry): void {
    this.held.delete(key);
    this.live.set(key, entry);
    for (const chooser of this.#choosers.values()) chooser.put(candidateOf(key, entry));
  }

  /** Shows a removed entry as ORPHANED. */
  hold(key: string, entry: Entry): void {
    this.held.set(key, entry);
    for (const chooser of this.#choosers.values()) chooser.put(candidateOf(key, entry));
  }

  remove(key: string): void {
    this.live.delete(key);
    this.held.delete(key);
    for (const chooser of this.#choosers.values()) chooser.remove(key);
  }

  find(key: string): Entry | undefined {
    return this.live.get(key) ?? this.held.get(key);
  }

  *entries(): Iterable<Entry> {
    yield* this.live.values();
    yield* this.held.values();
  }

  /** HOT: runs once per `resolve` (bench/resolve.ts), so it does not create any objects if the chooser exists. */
  chooser(policy: SelectPolicy, { random, place }: ChoiceInputs): Chooser<LiveEntry> {
    if (this.#place !== place) this.#moveTo(place);
    if (policy === DEFAULT_POLICY && this.#usual !== undefined) return this.#usual;
    let chooser = this.#choosers.get(policy);
    if (chooser === undefined) {
      chooser = new Chooser<LiveEntry>({ policy, region: place.region, zone: place.zone, start: random() });
      for (const [key, entry] of this.live) chooser.put(candidateOf(key, entry));
      for (const [key, entry] of this.held) chooser.put(candidateOf(key, entry));
      this.#choosers.set(policy, chooser);
      if (policy === DEFAULT_POLICY) this.#usual = chooser;
    }
    return chooser;
  }

  stats(): NameStats {
    const { choices, byLoad } = this.#counts();
    const { succeededCount: succeeded, failedCount: failed } = this;
    return { choices, choicesByLoad: byLoad, succeeded, failed, latencyMs: this.latencies.histogram() };
  }

  #counts(): { readonly choices: number; readonly byLoad: number } {
    let { choices, byLoad } = this.#earlier;
    for (const { counts } of this.#choosers.values()) {
      choices += counts.choices;
      byLoad += counts.byLoad;
    }
    return { choices, byLoad };
  }

  /** Sets the program's new location, for which the choosers must be created again. */
  #moveTo(place: ZoneLocality): void {
    this.#earlier = this.#counts();
    this.#choosers.clear();
    this.#usual = undefined;
    this.#place = place;
  }
}

/** The default policy. */
export const DEFAULT_POLICY: SelectPolicy = SELECT_POLICY.LOAD_AWARE;

function candidateOf(key: string, entry: Entry): LiveEntry {
  const { region, zone, health, targets, load } = entry;
  const reported = load && {
    utilization: load.utilization,
    errorRate: load.errorRate,
    latencyMs: load.latencyMs,
    activeClients: load.activeClients,
    observedWallMs: load.observedAt === undefined ? 0 : timestampMs(load.observedAt),
  };
  return {
    key,
    entry,
    view: { region, zone, health, targets, isHosted: isHosted(entry.key?.kind ?? EntryKind.UNSPECIFIED), load: reported },
  };
}

// A histogram of latencies with cumulative buckets, as in Prometheus.

/** Upper bounds of the buckets in ms. An additional bucket contains slower calls. */
const LATENCY_ENDS_MS = [0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 10_000] as const;

/** Latencies in cumulative buckets, as in Prometheus. */
export interface LatencyHistogram {
  /** Number of latencies. */
  readonly count: number;
  /** Sum of the latencies in ms. */
  readonly sumMs: number;
  /** The upper bound of each bucket in ms, and the number of latencies up to that bound. The last bound is infinite. */
  readonly ranges: readonly { readonly endMs: number; readonly count: number }[];
}

class LatencyCounts {
  readonly #counts = new Float64Array(LATENCY_ENDS_MS.length + 1);
  #sumMs = 0;

  add(latencyMs: number): void {
    const at = LATENCY_ENDS_MS.findIndex((endMs) => latencyMs <= endMs);
    const range = at === -1 ? LATENCY_ENDS_MS.length : at;
    this.#counts[range] = (this.#counts[range] ?? 0) + 1;
    this.#sumMs += latencyMs;
  }

  histogram(): LatencyHistogram {
    let count = 0;
    const ranges = [...this.#counts].map((own, i) => {
      count += own;
      return { endMs: LATENCY_ENDS_MS[i] ?? Number.POSITIVE_INFINITY, count };
    });
    return { count, sumMs: this.#sumMs, ranges };
  }
}
