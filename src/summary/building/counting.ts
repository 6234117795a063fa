/** Counts the entries of one service, in slices, because a name may have a hundred thousand (docs/design/summaries.md, Building). */
import { SCOPE, type Scope } from "../../catalog/entry/scope.ts";
import { readLatencyMs } from "../../catalog/entry/view.ts";
import type { EntryIndex } from "../../catalog/query/entry-index.ts";
import { type CatalogRecord, HEALTH, isKeyOf, viewHealth } from "../../catalog/record/record.ts";
import type { Slab } from "../../catalog/record/slab.ts";
import type { HealthCounts } from "./band.ts";

/** What is counted, of the entries of one scope or of several. */
export interface Tally extends HealthCounts {
  readonly count: number;
  /** Sorted. */
  readonly regions: readonly string[];
  /** 10th and 90th percentile of the reported latencies; 0 when none was reported. */
  readonly lowMs: number;
  readonly highMs: number;
}

/** Parts of a power of two into which latencies are sorted. A percentile is exact to one of them. */
const PARTS = 4;
const BINS = 31 * PARTS;

const LOW = 0.1;
const HIGH = 0.9;

/** The entries of one scope. */
class ScopeCounts {
  count = 0;
  fitCount = 0;
  healthyCount = 0;
  readonly regions = new Set<string>();
  /** Reports by the bin of their latency. Undefined while there is none. */
  latencies: Int32Array | undefined;
  #lastRegion = "";

  /** `latencyMs` is 0 when none was reported. HOT: once an entry of a service that is counted. */
  add({ traits: { region } }: CatalogRecord, health: number, latencyMs: number): void {
    this.count += 1;
    if (region !== this.#lastRegion) {
      this.#lastRegion = region;
      this.regions.add(region);
    }
    if (health === HEALTH.MAINTENANCE || health === HEALTH.ORPHANED) return;
    this.fitCount += 1;
    if (health === HEALTH.HEALTHY) this.healthyCount += 1;
    if (latencyMs <= 0) return;
    const bin = Math.min(BINS - 1, Math.max(0, Math.floor(Math.log2(latencyMs) * PARTS)));
    this.latencies ??= new Int32Array(BINS);
    this.latencies[bin] = (this.latencies[bin] ?? 0) + 1;
  }
}

/** A count that goes on. Entries that change meanwhile may be counted as they were; whoever marks services for their changes marks this one again. */
export class Counting {
  readonly #clusterId: string;
  readonly #name: string;
  /** The keys of the service are from `#from` to below `#end`. */
  #from: string;
  readonly #end: string;
  readonly #byScope: readonly ScopeCounts[] = Array.from({ length: SCOPE.GLOBAL + 1 }, () => new ScopeCounts());

  /** `nameKey`: as `nameOfKey` gives it. Entries of other clusters are not counted. */
  constructor(clusterId: string, { nameKey, name }: { readonly nameKey: string; readonly name: string }) {
    this.#clusterId = clusterId;
    this.#name = name;
    this.#from = `${nameKey}\0`;
    this.#end = `${nameKey}\u0001`;
  }

  /** Looks at no more than so many entries. Returns how many more it could have looked at: 0 when it has to go on. */
  step(lookup: EntryIndex, slab: Slab, maxCount: number): number {
    const cursor = lookup.names.cursor(this.#name);
    cursor.seek(this.#from);
    for (let left = maxCount; left > 0; left -= 1) {
      const record = cursor.next();
      if (record === undefined || record.key >= this.#end) return left;
      if (isKeyOf(this.#clusterId, record.key)) this.#add(record, slab);
      this.#from = `${record.key}\0`;
    }
    return 0;
  }

  #add(record: CatalogRecord, slab: Slab): void {
    const latencyMs = readLatencyMs(slab.view(record.at, record.sizeBytes), record.contentBytes);
    this.#byScope[record.scope]?.add(record, viewHealth(record), latencyMs);
  }

  /** What was counted of this scope and wider ones. */
  tally(leastScope: Scope): Tally {
    const scopes = this.#byScope.slice(leastScope);
    const sum = (of: (counts: ScopeCounts) => number) => scopes.reduce((total, counts) => total + of(counts), 0);
    const isReported = scopes.some(({ latencies }) => latencies !== undefined);
    const latencies = isReported ? Array.from({ length: BINS }, (_, bin) => sum((counts) => counts.latencies?.[bin] ?? 0)) : [];
    return {
      count: sum(({ count }) => count),
      fitCount: sum(({ fitCount }) => fitCount),
      healthyCount: sum(({ healthyCount }) => healthyCount),
      regions: [...new Set(scopes.flatMap(({ regions }) => [...regions]))].toSorted(),
      lowMs: percentile(latencies, LOW),
      highMs: percentile(latencies, HIGH),
    };
  }
}

/** The lower end of the bin in which the percentile is. */
function percentile(bins: readonly number[], share: number): number {
  const total = bins.reduce((sum, count) => sum + count, 0);
  let passed = 0;
  for (const [bin, count] of bins.entries()) {
    passed += count;
    if (count > 0 && passed >= total * share) return 2 ** (bin / PARTS);
  }
  return 0;
}
