/**
 * What the neighbours of a cluster let through to it, as its nodes heard, and so what may still stand of what they took (docs/design/summaries.md, Narrowed export
 * rules).
 */
import type { LinkId } from "../../io-types.ts";
import type { HeardRule, Reach } from "../../wire/messages.ts";
import type { Neighbour } from "../border.ts";
import { ALL, ANY_REACH, fitting, shortReaches, shortRules } from "./lengths.ts";
import { EVERYTHING, Patterns } from "./patterns.ts";
import { beyond, exportedOf, joined, Support, through } from "./reach.ts";

/** What a neighbour told: its export rule, and what it holds of others. */
export interface Told extends Neighbour {
  readonly exports: readonly string[];
  readonly reached: readonly Reach[];
}

/** What counts no more: a link ended, or something else was told on it. */
export interface Past {
  readonly told: Told;
  /** The link ended. */
  readonly isClosed: boolean;
}

/** Of more than these one counts as a rule that exported everything. */
const MAX_PAST = 64;

/** What this node hears on its links now. */
export class HeardRules {
  readonly #byLink = new Map<LinkId, { readonly told: Told; readonly support: Support }>();
  #past: Past[] = [];
  #rows: ReadonlyMap<string, HeardRule> | undefined;
  /** Moves with each change. */
  revision = 0;

  heard(link: LinkId, { reached, ...rule }: Told): void {
    this.#end(link, false);
    const told = { ...rule, reached: fitting(reached) };
    this.#byLink.set(link, { told, support: new Support(through(told)) });
    this.#changed();
  }

  closed(link: LinkId): void {
    this.#end(link, true);
    this.#changed();
  }

  /** Whether a neighbour with a link to this node lets the namespace of sources of a region through now. */
  passes(namespace: string, region: string | undefined): boolean {
    return this.#byLink.values().some(({ support }) => support.covers(namespace, region));
  }

  /** What counts no more since this was asked last. */
  takePast(): readonly Past[] {
    const past = this.#past;
    this.#past = [];
    return past;
  }

  /** Of each neighbour, as other nodes are told it. `lastOf`: what a node of the cluster heard of one with which this node has no link. */
  list(neighbours: readonly Neighbour[], lastOf: (clusterId: string) => HeardRule | undefined): readonly HeardRule[] {
    const linked = (this.#rows ??= this.#linked());
    const rows = neighbours.map(({ clusterId, region }): HeardRule => {
      const own = linked.get(clusterId);
      if (own !== undefined) return { ...own, region };
      const last = lastOf(clusterId);
      return last === undefined
        ? { clusterId, region, isHeard: false, hasLink: false, exports: [] }
        : { ...last, clusterId, region, isHeard: true, hasLink: false };
    });
    return shortRules(rows);
  }

  #linked(): ReadonlyMap<string, HeardRule> {
    const byCluster = Map.groupBy(
      [...this.#byLink.values()].map(({ told }) => told),
      ({ clusterId }) => clusterId,
    );
    return new Map([...byCluster].map(([clusterId, its]) => [clusterId, ruleOf(its, { hasLink: true })]));
  }

  #end(link: LinkId, isClosed: boolean): void {
    const heard = this.#byLink.get(link);
    this.#byLink.delete(link);
    if (heard === undefined) return;
    if (this.#past.length < MAX_PAST) this.#past.push({ told: heard.told, isClosed });
    else this.#past[0] = { told: { ...heard.told, exports: ALL, reached: ANY_REACH }, isClosed: false };
  }

  #changed(): void {
    this.#rows = undefined;
    this.revision += 1;
  }
}

/** What was told of a neighbour on some links, or to some nodes, as one rule. */
export function ruleOf(
  told: readonly Pick<HeardRule, "clusterId" | "region" | "exports" | "reached">[],
  { hasLink }: Pick<HeardRule, "hasLink">,
): HeardRule {
  const { clusterId = "", region = "" } = told[0] ?? {};
  const exports = [...new Set(told.flatMap((each) => each.exports))].toSorted();
  const reached = joined(told.flatMap(exportedOf));
  const isAll = exports.includes(EVERYTHING);
  return { clusterId, region, isHeard: true, hasLink, exports: isAll ? ALL : exports, ...(reached.length > 0 && { reached }) };
}

/**
 * What other nodes of the cluster are told: of what a neighbour holds of others only what the cluster does not hear nearer. Where many regions have links with each
 * other, that is nothing.
 */
export function prunedBy(rules: readonly HeardRule[], rows: readonly HeardRule[]): readonly HeardRule[] {
  const direct = new Map(
    [...Map.groupBy(rules, ({ region }) => region)].map(([region, its]) => [region, new Patterns(its.flatMap(({ exports }) => exports))]),
  );
  const pruned = rows.map(({ reached = [], ...row }): HeardRule => {
    const left = beyond(reached, direct);
    return left.length === 0 ? row : { ...row, reached: left };
  });
  return shortReaches(pruned);
}

/** What counts of what the nodes of a cluster tell of its neighbours. */
export interface Counting {
  readonly rules: readonly HeardRule[];
  /** Those that nobody of the cluster heard. */
  readonly unheard: readonly Neighbour[];
}

/** A link tells more than who has none any more. */
export function countingOf(told: readonly (readonly HeardRule[])[]): Counting {
  const rules: HeardRule[] = [];
  const unheard: Neighbour[] = [];
  for (const [clusterId, rows] of Map.groupBy(told.flat(), (row) => row.clusterId)) {
    const linked = rows.filter(({ hasLink }) => hasLink);
    const heard = linked.length > 0 ? linked : rows.filter(({ isHeard }) => isHeard);
    rules.push(...heard);
    if (heard.length === 0) unheard.push({ clusterId, region: rows[0]?.region ?? "" });
  }
  return { rules, unheard };
}

export interface HeardSince {
  /** By now a node has the links that it is to have. */
  readonly isSettled: boolean;
  /** All is lost by now that a neighbour told before. */
  readonly isLost: boolean;
}

/**
 * What some neighbour of a cluster lets through to it. Undefined: nobody knows.
 *
 * Each neighbour must have been heard. One that has no link need not, where its region has one and `isSettled`: it exports nothing for itself. Nor need one that
 * nobody heard for so long that `isLost`.
 */
export function letThrough(counting: Counting, since: HeardSince): Support | undefined {
  const { rules } = counting;
  return rules.length === 0 || missingOf(counting, since).length > 0 ? undefined : new Support(rules.flatMap(through));
}

/** The neighbours that nobody heard and of which nobody knows therefore what they let through. */
export function missingOf({ rules, unheard }: Counting, { isSettled, isLost }: HeardSince): readonly Neighbour[] {
  const linked = new Set(rules.flatMap(({ hasLink, region }) => (hasLink ? [region] : [])));
  return isLost ? [] : unheard.filter(({ region }) => !(isSettled && linked.has(region)));
}
