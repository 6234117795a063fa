/**
 * What the neighbours of a cluster let through to it, as its nodes heard, and so what may still stand of what they took (docs/design/summaries.md, Narrowed export
 * rules).
 */
import type { LinkId } from "../io-types.ts";
import type { HeardRule } from "../wire/messages.ts";
import { EVERYTHING, Patterns } from "./patterns.ts";

interface Neighbour {
  readonly clusterId: string;
  readonly region: string;
}

/** What one node heard since its start, by the other cluster. */
export class HeardRules {
  readonly #byLink = new Map<LinkId, { readonly clusterId: string; readonly exports: readonly string[]; readonly patterns: Patterns }>();
  /** Of clusters without a link: what was told on the one that ended last. */
  readonly #last = new Map<string, readonly string[]>();

  heard(link: LinkId, clusterId: string, exports: readonly string[]): void {
    this.#byLink.set(link, { clusterId, exports, patterns: new Patterns(exports) });
  }

  /** A neighbour that is merely away exports what it did. */
  closed(link: LinkId): void {
    const heard = this.#byLink.get(link);
    if (heard !== undefined) this.#last.set(heard.clusterId, heard.exports);
    this.#byLink.delete(link);
  }

  /** Whether a neighbour with a link to this node exports the namespace now. */
  passes(namespace: string): boolean {
    return this.#byLink.values().some(({ patterns }) => patterns.covers(namespace));
  }

  /** Of each neighbour, as other nodes are told it. `lastOf`: what another node of the cluster heard of one that this node did not hear. */
  list(
    neighbours: readonly Neighbour[],
    lastOf: (clusterId: string) => readonly string[] | undefined = () => undefined,
  ): readonly HeardRule[] {
    const rows = neighbours.map(({ clusterId, region }): HeardRule => {
      const linked = [...this.#byLink.values()].filter((heard) => heard.clusterId === clusterId);
      const last = this.#last.get(clusterId) ?? lastOf(clusterId);
      const hasLink = linked.length > 0;
      const exports = hasLink ? [...new Set(linked.flatMap((heard) => heard.exports))].toSorted() : (last ?? []);
      return { clusterId, region, isHeard: hasLink || last !== undefined, hasLink, exports: exports.includes(EVERYTHING) ? ALL : exports };
    });
    const length = rows.reduce((sum, { exports }) => sum + exports.join("").length, 0);
    const isLong = length > MAX_TOLD_LENGTH || rows.some(({ exports }) => exports.length > MAX_TOLD_PATTERNS);
    return isLong ? rows.map((row) => (row.isHeard ? { ...row, exports: ALL } : row)) : rows;
  }
}

/**
 * The patterns that cover what some neighbour of a cluster exports to it, by what its nodes tell; `*` alone for everything. Undefined: nobody knows.
 *
 * Each neighbour must have been heard. One that has no link need not, where its region has one and `isSettled`: it exports nothing for itself.
 */
export function letThrough(told: readonly (readonly HeardRule[])[], isSettled: boolean): readonly string[] | undefined {
  const byCluster = Map.groupBy(told.flat(), ({ clusterId }) => clusterId);
  const linkedRegions = new Set(told.flat().flatMap(({ hasLink, region }) => (hasLink ? [region] : [])));
  const patterns = new Set<string>();
  for (const rows of byCluster.values()) {
    const linked = rows.filter(({ hasLink }) => hasLink);
    const heard = linked.length > 0 ? linked : rows.filter(({ isHeard }) => isHeard);
    const isAbsent = isSettled && rows.every(({ region }) => linkedRegions.has(region));
    if (heard.length === 0 && !isAbsent) return undefined;
    for (const { exports } of heard) for (const pattern of exports) patterns.add(pattern);
  }
  if (byCluster.size === 0) return undefined;
  return patterns.has(EVERYTHING) ? ALL : [...patterns].toSorted();
}

const ALL: readonly string[] = [EVERYTHING];
/** What is longer is told to other nodes as everything, so that members are not told much: then nothing ends by it. */
export const MAX_TOLD_LENGTH = 2048;
const MAX_TOLD_PATTERNS = 64;
