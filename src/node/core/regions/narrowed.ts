/**
 * What neighbours no longer export to the clusters of this region, as their nodes tell each other, and so what of it ends here (docs/design/summaries.md, Narrowed
 * export rules).
 */
import { type HeardRules, letThrough } from "../../../fabric/borders/heard-rules.ts";
import { Allowance } from "../../../fabric/borders/options.ts";
import { EVERYTHING, Patterns } from "../../../fabric/borders/patterns.ts";
import type { HeardRule, MemberUpdate } from "../../../fabric/wire/messages.ts";
import type { Time } from "../../../lib/machine.ts";
import type { HeldSummaries } from "../../../summary/held/summaries.ts";
import type { Neighbour } from "./lag.ts";

export interface NarrowedParts {
  readonly held: Pick<HeldSummaries, "exportsChanged" | "lostAfterMs">;
  readonly clusterId: string;
  readonly neighbours: readonly Neighbour[];
}

type Member = Pick<MemberUpdate, "clusterId" | "heardRules">;

/** Other nodes are told so many changes at once, and then one in this time. All that is held is looked at for them, so a rule that flaps must cost little. */
const BURST = 3;
const EVERY_MS = 20_000;
/** Neighbours of a cluster of which it is remembered what they told last: its nodes may make up others, and those that were told last stay. */
const MAX_KNOWN = 64;
/** By then a node of some age has the links that it is to have. */
const SETTLED_MS = 60_000;

export class Narrowed {
  readonly #parts: NarrowedParts;
  readonly #tells = new Allowance(BURST, EVERY_MS);
  readonly #uses = new Allowance(BURST, EVERY_MS);
  #settledMonoMs: number | undefined;
  #heard: HeardRules | undefined;
  #now: readonly HeardRule[] = [];
  /** As other nodes are told it. */
  told: readonly HeardRule[] = [];
  /**
   * By cluster and neighbour what was told last by who had a link, and until when that counts though nobody of the cluster has one: the node that had it may be gone.
   * By then what the neighbour said is heard from others, or dropped.
   */
  readonly #known = new Map<string, Map<string, { readonly row: HeardRule; readonly untilMonoMs: number }>>();
  /** By cluster the patterns in use. What is not known any more stays in use: a neighbour that is merely away changes nothing. */
  #patterns = new Map<string, readonly string[]>();

  constructor(parts: NarrowedParts) {
    this.#parts = parts;
  }

  /** From now on this node has border links. */
  follow(heard: HeardRules): void {
    this.#heard = heard;
  }

  /** Looks at what this node and the other ones of the region heard. Returns whether others are to be told. */
  look(members: readonly Member[], time: Time): boolean {
    const isToTell = this.#tell(time);
    this.#use(members, time);
    return isToTell;
  }

  #tell({ monoMs }: Time): boolean {
    const { neighbours } = this.#parts;
    const known = this.#known.get(this.#parts.clusterId);
    const lastOf = (neighbour: string) => {
      const last = known?.get(neighbour);
      return last !== undefined && monoMs < last.untilMonoMs ? last.row.exports : undefined;
    };
    this.#now = this.#heard?.list(neighbours, lastOf) ?? [];
    if (isSame(this.#now, this.told) || !this.#tells.isLeft(monoMs)) return false;
    this.#tells.take(monoMs);
    this.told = this.#now;
    return true;
  }

  #use(members: readonly Member[], { monoMs }: Time): void {
    this.#settledMonoMs ??= monoMs + SETTLED_MS;
    const { clusterId, held } = this.#parts;
    const self = { clusterId, heardRules: this.#now };
    const byCluster = Map.groupBy([self, ...members], (member) => member.clusterId);
    const patterns = new Map(this.#patterns);
    for (const [cluster, kin] of byCluster) {
      const told = kin.flatMap(({ heardRules = [] }) => (heardRules.length > 0 ? [heardRules] : []));
      const through = letThrough([...told, this.#remembered(cluster, told.flat(), monoMs)], monoMs >= this.#settledMonoMs);
      if (through !== undefined) patterns.set(cluster, through);
    }
    // Clusters of which no node is left are forgotten as their neighbours are.
    for (const cluster of this.#known.keys()) if (!byCluster.has(cluster)) this.#remembered(cluster, NO_ROWS, monoMs);
    if (isSame([...patterns], [...this.#patterns]) || !this.#uses.isLeft(monoMs)) return;
    this.#uses.take(monoMs);
    this.#patterns = patterns;
    const narrowed = [...patterns].filter(([, each]) => !each.includes(EVERYTHING));
    held.exportsChanged(new Map(narrowed.map(([cluster, each]) => [cluster, this.#passes(cluster, each)])));
  }

  /** What is remembered of the neighbours in these rows. */
  #remembered(cluster: string, rows: readonly HeardRule[], monoMs: number): readonly HeardRule[] {
    const known = this.#known.get(cluster) ?? new Map<string, { row: HeardRule; untilMonoMs: number }>();
    const byNeighbour = Map.groupBy(rows, ({ clusterId }) => clusterId);
    for (const [neighbour, its] of byNeighbour) {
      const linked = its.filter(({ hasLink }) => hasLink);
      const exports = [...new Set(linked.flatMap((row) => row.exports))].toSorted();
      const [first] = linked;
      const untilMonoMs = monoMs + this.#parts.held.lostAfterMs;
      if (first === undefined) continue;
      known.delete(neighbour);
      known.set(neighbour, { row: { ...first, hasLink: false, exports }, untilMonoMs });
    }
    for (const [neighbour, { untilMonoMs }] of known) if (untilMonoMs <= monoMs || known.size > MAX_KNOWN) known.delete(neighbour);
    if (known.size > 0) this.#known.set(cluster, known);
    else this.#known.delete(cluster);
    return [...known.values()].flatMap(({ row }) => (byNeighbour.has(row.clusterId) ? [row] : []));
  }

  /** What a link of this node exports now counts at once, so that what comes with a wider rule is taken. */
  #passes(cluster: string, patterns: readonly string[]): (namespace: string) => boolean {
    const heard = cluster === this.#parts.clusterId ? this.#heard : undefined;
    const told = new Patterns(patterns);
    return (namespace) => told.covers(namespace) || heard?.passes(namespace) === true;
  }
}

const NO_ROWS: readonly HeardRule[] = [];

function isSame(a: unknown, b: unknown): boolean {
  return JSON.stringify(a) === JSON.stringify(b);
}
