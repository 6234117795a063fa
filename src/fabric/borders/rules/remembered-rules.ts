/** What the neighbours of the clusters of a region told last, for as long as that counts though no node of the cluster has a link with them. */
import type { HeardRule } from "../../wire/messages.ts";
import { ruleOf } from "./heard-rules.ts";

/**
 * Neighbours of a cluster of which it is remembered what they told last: its nodes may make up others, and those that were told last stay. Also clusters
 * of which no node is left and it is remembered what was let through to them.
 */
export const MAX_REMEMBERED = 64;

type Told = Pick<HeardRule, "clusterId" | "region" | "exports" | "reached">;

interface Remembered {
  /** What was told, by which it is seen that the row is the same. */
  readonly text: string;
  readonly row: HeardRule;
  readonly untilMonoMs: number;
}

export class RememberedRules {
  readonly #forMs: number;
  /** By cluster and neighbour. The node that had the link may be gone. By the end what the neighbour said is heard from others, or dropped. */
  readonly #byCluster = new Map<string, Map<string, Remembered>>();

  /** `forMs`: by then all is lost that a neighbour told, unless somebody heard it since. */
  constructor(forMs: number) {
    this.#forMs = forMs;
  }

  /** The clusters of which something is remembered. */
  get clusters(): Iterable<string> {
    return this.#byCluster.keys();
  }

  /** One neighbour of the cluster told this on a link, or to several nodes on theirs. */
  note(cluster: string, told: readonly Told[], monoMs: number): void {
    const neighbour = told[0]?.clusterId ?? "";
    const its = this.#byCluster.get(cluster) ?? new Map<string, Remembered>();
    this.#byCluster.set(cluster, its);
    const text = JSON.stringify(told);
    const before = its.get(neighbour);
    const row = before?.text === text ? before.row : ruleOf(told, { hasLink: false });
    // The one that was told last is last.
    its.delete(neighbour);
    its.set(neighbour, { text, row, untilMonoMs: monoMs + this.#forMs });
  }

  /** What a neighbour of the cluster told last. */
  lastOf(cluster: string, neighbour: string, monoMs: number): HeardRule | undefined {
    const last = this.#byCluster.get(cluster)?.get(neighbour);
    return last !== undefined && monoMs < last.untilMonoMs ? last.row : undefined;
  }

  /** Notes what the nodes of a cluster tell of links, and forgets what is past. Returns what is remembered of the neighbours in these rows. */
  follow(cluster: string, rows: readonly HeardRule[], monoMs: number): readonly HeardRule[] {
    const byNeighbour = Map.groupBy(rows, ({ clusterId }) => clusterId);
    for (const its of byNeighbour.values()) {
      const linked = its.filter(({ hasLink }) => hasLink);
      if (linked.length > 0) this.note(cluster, linked, monoMs);
    }
    const known = this.#byCluster.get(cluster) ?? new Map<string, Remembered>();
    for (const [neighbour, { untilMonoMs }] of known) if (untilMonoMs <= monoMs || known.size > MAX_REMEMBERED) known.delete(neighbour);
    if (known.size === 0) this.#byCluster.delete(cluster);
    return [...known.values()].flatMap(({ row }) => (byNeighbour.has(row.clusterId) ? [row] : []));
  }
}
