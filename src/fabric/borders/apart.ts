/**
 * Since when something has been due in each neighbouring region that nobody knows to be taken: the region has no link now, or its links were lost or dropped
 * what waited, and no comparison went well since (docs/design/summaries.md, What crosses a border). It outlives links.
 */
import { SCOPE } from "../../catalog/entry/scope.ts";
import type { Time } from "../../lib/machine.ts";
import { MAX_HOPS } from "../../summary/summary.ts";
import type { BorderSummaries } from "./options.ts";
import { Patterns } from "./rules/patterns.ts";
import { allWhenEmpty } from "./rules/rules.ts";

/** The export rules of the borders with a region, one for each border. */
type Exports = readonly (readonly string[])[];

/** A link of this node, as far as it is known what was taken over it. */
export interface Handing {
  /** The list of what waits was dropped. */
  readonly isDropped: boolean;
  /** All that was due at this time was handed over, as a comparison showed. Undefined: not known. */
  handedMonoMs(time: Time): number | undefined;
}

interface Standing {
  /** Changes up to this revision were looked at. */
  revision: number;
  /** When something changed that is due there, the oldest first. */
  changes: number[];
  /** What changed by then counts as taken. */
  takenMonoMs: number;
  /** Since when it is not known whether what was handed over was taken. Undefined: it counts as taken. */
  openMonoMs: number | undefined;
}

export class Apart {
  readonly #summaries: BorderSummaries;
  readonly #standings = new Map<string, Standing>();
  /** Regions to which the last link of this node went down since the last look. */
  readonly #lost = new Set<string>();
  readonly #standstills = new Standstills(UNSURE_MS);

  constructor(summaries: BorderSummaries) {
    this.#summaries = summaries;
  }

  /** Meanwhile no link could be found dead. */
  stoodStill(lagMs: number, time: Time): void {
    this.#standstills.add(lagMs, time);
  }

  /** This node has no link with the region any more. */
  lose(region: string): void {
    this.#lost.add(region);
  }

  /** Looks at what changed. `regions` have borders here, with these rules; this region has links with `linked`, and this node has these of them. */
  look(regions: ReadonlyMap<string, Exports>, linked: ReadonlySet<string>, own: ReadonlyMap<string, readonly Handing[]>, time: Time): void {
    const { monoMs } = time;
    const unsureMonoMs = monoMs - UNSURE_MS - this.#standstills.sumMs(time);
    for (const region of this.#standings.keys()) if (!regions.has(region)) this.#standings.delete(region);
    for (const [region, exports] of regions) {
      const standing = this.#standings.get(region) ?? newStanding(this.#summaries.revision);
      this.#standings.set(region, standing);
      if (this.#isAnyDue(region, exports, standing)) add(standing, monoMs);
      const links = own.get(region) ?? [];
      if (!linked.has(region) || this.#lost.has(region) || links.some(({ isDropped }) => isDropped))
        open(standing, { monoMs, unsureMonoMs });
      else if (links.length === 0) close(standing, monoMs);
      for (const link of links) {
        const handedMonoMs = link.handedMonoMs(time);
        if (handedMonoMs !== undefined && handedMonoMs >= (standing.openMonoMs ?? Number.NEGATIVE_INFINITY)) close(standing, handedMonoMs);
      }
      const forgottenMonoMs = Math.min(standing.takenMonoMs, unsureMonoMs);
      if (standing.openMonoMs === undefined) standing.changes = standing.changes.filter((changeMonoMs) => changeMonoMs > forgottenMonoMs);
    }
    this.#lost.clear();
  }

  /** The age of the oldest change, with all regions or with one. 0 when none is due. */
  lagMs({ monoMs }: Time, only?: string): number {
    let lagMs = 0;
    for (const [region, { openMonoMs, changes, takenMonoMs }] of this.#standings) {
      if (openMonoMs === undefined || (only !== undefined && region !== only)) continue;
      const oldestMonoMs = changes.find((changeMonoMs) => changeMonoMs > takenMonoMs);
      if (oldestMonoMs !== undefined) lagMs = Math.max(lagMs, monoMs - oldestMonoMs);
    }
    return lagMs;
  }

  #isAnyDue(region: string, exports: Exports, standing: Standing): boolean {
    if (standing.revision === this.#summaries.revision) return false;
    let isDue = false;
    const rules = exports.map((patterns) => new Patterns(allWhenEmpty(patterns)));
    const isLetOut = (namespace: string) => rules.some((rule) => rule.covers(namespace));
    this.#summaries.changesSince(standing.revision, (held) => {
      const { isBeacon, channel, source, namespace } = held;
      isDue = !isBeacon && channel === SCOPE.GLOBAL && this.#summaries.regionOf(source) !== region && isLetOut(namespace);
      isDue &&= held.hops < MAX_HOPS;
      return !isDue;
    });
    standing.revision = this.#summaries.revision;
    return isDue;
  }
}

function newStanding(revision: number): Standing {
  return { revision, changes: [], takenMonoMs: Number.NEGATIVE_INFINITY, openMonoMs: undefined };
}

/** What was handed over last may have gone into a link that was dead already. */
function open(standing: Standing, { monoMs, unsureMonoMs }: { readonly monoMs: number; readonly unsureMonoMs: number }): void {
  standing.takenMonoMs = standing.openMonoMs === undefined ? Math.min(standing.takenMonoMs, unsureMonoMs) : standing.takenMonoMs;
  standing.openMonoMs = monoMs;
}

function close(standing: Standing, takenMonoMs: number): void {
  standing.takenMonoMs = Math.max(standing.takenMonoMs, takenMonoMs);
  standing.openMonoMs = undefined;
}

/** The first is kept whatever comes, and of the others fewer the more there are. */
function add(standing: Standing, monoMs: number): void {
  if (standing.changes.length >= MAX_CHANGES) standing.changes = standing.changes.filter((_, n) => n % 2 === 0);
  standing.changes.push(monoMs);
}

/** A link may be dead for so long before it goes down, and for as long as this node stands still. */
const UNSURE_MS = 20_000;
const MAX_CHANGES = 512;

// For how long this node stood still lately. What it hears next may have waited as long, and what it said before may be as old.

interface Standstill {
  readonly forMs: number;
  readonly untilMonoMs: number;
}

export class Standstills {
  /** Each counts for so long. */
  readonly #keptMs: number;
  #all: readonly Standstill[] = [];

  constructor(keptMs: number) {
    this.#keptMs = keptMs;
  }

  /** This node stood still for so long until now. */
  add(forMs: number, { monoMs }: Time): void {
    const lately = this.#all.filter(({ untilMonoMs }) => monoMs < untilMonoMs);
    this.#all = [...lately, { forMs, untilMonoMs: monoMs + this.#keptMs }];
  }

  /** All of them together. */
  sumMs({ monoMs }: Time): number {
    return this.#all.reduce((sum, { forMs, untilMonoMs }) => sum + (monoMs < untilMonoMs ? forMs : 0), 0);
  }
}
