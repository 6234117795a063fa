/** The entries of one name in a live map, the choice among them, and what came of the calls to them. */
import { timestampMs } from "@bufbuild/protobuf/wkt";
import { type Entry, EntryKind, type Target } from "../../../gen/waymark/catalog/v1/entry_pb.js";
import { Chooser } from "../../consumer/chooser.ts";
import type { Candidate } from "../../consumer/endpoint.ts";
import { isHosted } from "../../consumer/health-tiers.ts";
import { SELECT_POLICY, type SelectPolicy, type ZoneLocality } from "../../consumer/locality-levels.ts";

/** An entry as the chooser sees it. */
export interface LiveEntry extends Candidate {
  readonly view: Candidate["view"] & { readonly targets: readonly Target[] };
  readonly entry: Entry;
}

/** What was counted of one name since the map was opened. */
export interface NameStats {
  /** Answers of `resolve`, and those of them that were chosen by load. */
  readonly choices: number;
  readonly choicesByLoad: number;
  /** Calls that the program reported. */
  readonly succeeded: number;
  readonly failed: number;
  /** Of the calls that succeeded. */
  readonly latencyMs: LatencyHistogram;
}

/** What the choice takes from outside. */
export interface ChoiceInputs {
  /** Uniform in [0, 1). */
  readonly random: () => number;
  /** The preferred place. */
  readonly place: ZoneLocality;
}

export class NamedEntries {
  readonly kind: EntryKind;
  /** Another kind under the same namespace and name. */
  next: NamedEntries | undefined;
  /** By key as one text. */
  readonly live = new Map<string, Entry>();
  /** Those that are gone and held, shown as ORPHANED. */
  readonly held = new Map<string, Entry>();
  readonly latencies = new LatencyCounts();
  succeededCount = 0;
  failedCount = 0;
  /** By policy; each is made when it is first asked for. The usual one has a place of its own, because each step to it is a miss of the cache. */
  readonly #choosers = new Map<SelectPolicy, Chooser<LiveEntry>>();
  #usual: Chooser<LiveEntry> | undefined;
  /** The place for which they were made. */
  #place: ZoneLocality | undefined;
  /** Counts of choosers that were made for another place. */
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

  /** Shows an entry that is gone as ORPHANED. */
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

  /** HOT: once a `resolve` (bench/resolve.ts), so it makes nothing when the chooser is there. */
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

  /** The place of the program became known, so nearness must be judged anew. */
  #moveTo(place: ZoneLocality): void {
    this.#earlier = this.#counts();
    this.#choosers.clear();
    this.#usual = undefined;
    this.#place = place;
  }
}

/** The policy when none is asked for. */
export const DEFAULT_POLICY: SelectPolicy = SELECT_POLICY.LOAD_AWARE;

function candidateOf(key: string, entry: Entry): LiveEntry {
  const { region, zone, health, targets, load } = entry;
  const said = load && {
    utilization: load.utilization,
    errorRate: load.errorRate,
    latencyMs: load.latencyMs,
    activeClients: load.activeClients,
    observedWallMs: load.observedAt === undefined ? 0 : timestampMs(load.observedAt),
  };
  return { key, entry, view: { region, zone, health, targets, isHosted: isHosted(entry.key?.kind ?? EntryKind.UNSPECIFIED), load: said } };
}

// Latencies counted in ranges, as a histogram of Prometheus has them.

/** Upper ends of the ranges in ms. One more range has what is slower. */
const LATENCY_ENDS_MS = [0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 10_000] as const;

export interface LatencyHistogram {
  readonly count: number;
  readonly sumMs: number;
  /** For each range its upper end in ms, and how many latencies are in it and in those below. The last one has no end. */
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
