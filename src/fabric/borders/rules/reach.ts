/**
 * Reach: of which regions a region holds summaries, in which namespaces, and how many borders these passed (docs/design/summaries.md, Narrowed export rules). A
 * neighbour tells what it has from others than the listener, so nobody takes his own word for that of another one, and where words go in a circle the distance
 * ends it.
 */
import { MAX_HOPS } from "../../../summary/summary.ts";
import type { HeardRule, Reach } from "../../wire/messages.ts";
import { fitting } from "./lengths.ts";
import { EVERYTHING, meet, Patterns } from "./patterns.ts";

/** What a region holds through a neighbour. A row without regions is about all but that of the neighbour. */
export interface Held extends Reach {
  /** The region of the neighbour. */
  readonly via: string;
}

type Rule = Pick<HeardRule, "region" | "exports" | "reached">;

const ANY = "";
/** What a neighbour holds of other regions and exports. Of its own region it exports what its rule says, and no word about others makes that more. */
export function exportedOf({ region, exports, reached = [] }: Rule): readonly Reach[] {
  const passing = new Patterns(exports);
  return reached.flatMap((row): readonly Reach[] => {
    const regions = row.regions.filter((each) => each !== region);
    const patterns = meet(row.patterns, passing);
    return patterns.length === 0 || (row.regions.length > 0 && regions.length === 0) ? [] : [{ hops: row.hops, regions, patterns }];
  });
}

/** What this region holds through a neighbour that told this. */
export function through(rule: Rule): readonly Held[] {
  const { region: via, exports } = rule;
  const others = exportedOf(rule).flatMap((row) => (row.hops < MAX_HOPS ? [{ ...row, via, hops: row.hops + 1 }] : []));
  return exports.length === 0 ? [] : [{ via, hops: 1, regions: [via], patterns: exports }, ...others];
}

/** What a neighbour that nobody heard yet may export. */
export function unknownThrough(via: string): readonly Held[] {
  return [[], [via]].map((regions) => ({ via, hops: 1, regions, patterns: [EVERYTHING] }));
}

/** What this region tells a neighbour of what it holds: nothing that it has through the region of that one, nor of the two regions themselves. */
export function toldTo(held: readonly Held[], here: string, to: string, exports: readonly string[]): readonly Reach[] {
  const passing = new Patterns(exports);
  const rows = held.filter(({ via }) => via !== to).map((row) => ({ ...row, patterns: meet(row.patterns, passing) }));
  return fitting(compact(rows, [here, to], MAX_HOPS - 1));
}

/** Whether a region tells of more than before. */
export function isMoreThan(now: readonly Reach[], before: readonly Reach[]): boolean {
  const supportOf = (rows: readonly Reach[]) => new Support(rows.map((row) => ({ ...row, via: "" })));
  return !supportOf(before).includes(supportOf(now));
}

/** What was told on several links, or by several nodes, as one. */
export function joined(rows: readonly Reach[]): readonly Reach[] {
  return fitting(compact(rows, [], MAX_HOPS));
}

/** What is left of a neighbour's reach where the cluster hears nearer neighbours itself: by region, what these export. */
export function beyond(reached: readonly Reach[], direct: ReadonlyMap<string, Patterns>): readonly Reach[] {
  const rows = reached.flatMap((row): readonly Reach[] => {
    if (row.regions.length === 0) return [row];
    return row.regions.flatMap((region) => {
      const known = direct.get(region);
      const patterns = row.patterns.filter((pattern) => known?.includes(pattern) !== true);
      return patterns.length === 0 ? [] : [{ hops: row.hops, regions: [region], patterns }];
    });
  });
  return compact(rows, [], MAX_HOPS);
}

/** The same in as few rows as possible: what fewer borders bring is not said again, and regions of which the same is held share a row. */
function compact(rows: readonly Reach[], without: readonly string[], maxHops: number): readonly Reach[] {
  const byRegion = new Map<string, { readonly hops: number; readonly patterns: readonly string[] }[]>([[ANY, []]]);
  for (const { hops, regions, patterns } of rows.toSorted((a, b) => a.hops - b.hops)) {
    if (hops > maxHops) continue;
    for (const region of regions.length === 0 ? [ANY] : regions) {
      if (without.includes(region)) continue;
      const its = byRegion.get(region) ?? [];
      its.push({ hops, patterns });
      byRegion.set(region, its);
    }
  }
  const any = byRegion.get(ANY) ?? [];
  const grouped = new Map<string, { readonly hops: number; readonly regions: string[]; readonly patterns: readonly string[] }>();
  for (const [region, its] of [...byRegion].toSorted(([a], [b]) => (a < b ? -1 : 1)))
    for (const { hops, patterns } of nearest(its, region === ANY ? [] : any)) {
      const text = JSON.stringify([region === ANY, hops, patterns]);
      const row = grouped.get(text) ?? { hops, regions: [], patterns };
      grouped.set(text, row);
      if (region !== ANY) row.regions.push(region);
    }
  return [...grouped.values()].toSorted((a, b) => a.hops - b.hops);
}

/** By hops what no row of as few has. */
function nearest(
  rows: readonly Pick<Reach, "hops" | "patterns">[],
  any: readonly Pick<Reach, "hops" | "patterns">[],
): readonly Pick<Reach, "hops" | "patterns">[] {
  const nearer: string[] = [];
  const found: Pick<Reach, "hops" | "patterns">[] = [];
  for (const [hops, its] of Map.groupBy(rows, (row) => row.hops)) {
    const known = new Patterns([...nearer, ...any.flatMap((row) => (row.hops <= hops ? row.patterns : []))]);
    const patterns = new Patterns(its.flatMap((row) => row.patterns)).list.filter((pattern) => !known.includes(pattern));
    if (patterns.length > 0) found.push({ hops, patterns });
    nearer.push(...patterns);
  }
  return found;
}

/** What may stand of what the nodes of a cluster took: by the region of its source, the namespaces that some neighbour lets through. */
export class Support {
  /** The same text for the same. */
  readonly text: string;
  readonly #byRegion: ReadonlyMap<string, Patterns>;
  /** Of all regions but one. */
  readonly #butOne: ReadonlyMap<string, Patterns>;
  readonly #all: Patterns;
  readonly held: readonly Held[];

  constructor(held: readonly Held[]) {
    this.held = held;
    const named = held.flatMap(({ regions, patterns }) => regions.map((region) => ({ region, patterns })));
    this.#byRegion = joinedBy(named);
    this.#butOne = joinedBy(held.flatMap(({ via, regions, patterns }) => (regions.length === 0 ? [{ region: via, patterns }] : [])));
    this.#all = new Patterns(held.flatMap(({ patterns }) => patterns));
    this.text = JSON.stringify([this.#byRegion, this.#butOne].map((rows) => [...rows].map(([region, { list }]) => [region, list])));
  }

  /** Neighbours of one region say all of it, of that region. */
  get isOneWord(): boolean {
    const [first] = this.held;
    return this.held.every(({ via, regions }) => via === first?.via && regions[0] === via);
  }

  /** Of a source whose region the settings do not name it is enough that some neighbour lets the namespace through. */
  covers(namespace: string, region: string | undefined): boolean {
    if (region === undefined) return this.#all.covers(namespace);
    if (this.#byRegion.get(region)?.covers(namespace) === true) return true;
    return this.#butOne.size > 0 && this.#butOne.entries().some(([but, patterns]) => but !== region && patterns.covers(namespace));
  }

  /** Whether it lets through all that the other one does. */
  includes(other: Support): boolean {
    const isNamed = other.#byRegion.entries().every(([region, { list }]) => list.every((pattern) => this.#has(region, pattern)));
    return (
      isNamed &&
      other.#butOne.entries().every(([but, { list }]) => list.every((pattern) => this.#butOne.get(but)?.includes(pattern) === true))
    );
  }

  #has(region: string, pattern: string): boolean {
    if (this.#byRegion.get(region)?.includes(pattern) === true) return true;
    return this.#butOne.entries().some(([but, patterns]) => but !== region && patterns.includes(pattern));
  }

  /** Whether all namespaces of these regions are let through. */
  isOpenTo(regions: ReadonlySet<string>): boolean {
    return this.#all.includes(EVERYTHING) && [...regions].every((region) => this.#has(region, EVERYTHING));
  }
}

function joinedBy(rows: readonly { readonly region: string; readonly patterns: readonly string[] }[]): ReadonlyMap<string, Patterns> {
  const byRegion = [...Map.groupBy(rows, ({ region }) => region)].toSorted(([a], [b]) => (a < b ? -1 : 1));
  return new Map(byRegion.map(([region, its]) => [region, new Patterns(its.flatMap(({ patterns }) => patterns))]));
}
