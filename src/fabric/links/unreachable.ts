/** Remembers members to which no link could be opened lately. The choice of neighbours passes them over, for longer each time. */
import { NEVER, type OptionsOf, type Time } from "../../lib/machine.ts";

/** What is not a setting. */
const REACH_FIXED = {
  /** Number of failed attempts in a row after which a member is passed over. */
  passOverAttempts: 2,
  /** How long a member is passed over the first time. Each further time takes twice as long, up to `maxPassOverMs`. */
  passOverMs: 30_000,
  maxPassOverMs: 300_000,
  /** After its first failure a member still counts for this time as one to be in step with. It is the longest suspicion, after which a dead member is known to be dead. */
  countMs: 30_000,
} as const;

export type ReachOptions = OptionsOf<typeof REACH_FIXED>;

interface UnreachableRow {
  sinceMonoMs: number;
  failures: number;
  /** The member is passed over until then. 0 for a member that never was. */
  untilMonoMs: number;
  lengthMs: number;
}

type ListedNodes = readonly { readonly nodeId: string }[];

const NOBODY: ReadonlySet<string> = new Set();

/**
 * Members out of reach. They matter where a firewall lets sites talk only to a centre. A node that insisted on neighbours out of reach would have
 * no link at all, and a node that waited to be in step with them would never be in step. Their records arrive through nodes in reach.
 */
export class UnreachableMembers {
  readonly #options: ReachOptions;
  /** By node id. Rows of nodes that are no longer members go at the next choice. */
  readonly #rows = new Map<string, UnreachableRow>();
  #dueMonoMs = NEVER;

  constructor(options: ReachOptions = REACH_FIXED) {
    this.#options = options;
  }

  /** An attempt to open a link failed. Returns whether the member is passed over from now on. */
  failed(nodeId: string, { monoMs }: Time): boolean {
    const { passOverAttempts, passOverMs, maxPassOverMs, countMs } = this.#options;
    const row = this.#rows.get(nodeId) ?? { sinceMonoMs: monoMs, failures: 0, untilMonoMs: 0, lengthMs: passOverMs / 2 };
    this.#rows.set(nodeId, row);
    if (row.sinceMonoMs === monoMs) this.#dueMonoMs = Math.min(this.#dueMonoMs, monoMs + countMs);
    row.failures += 1;
    if (row.failures < passOverAttempts) return false;
    row.failures = 0;
    row.lengthMs = Math.min(maxPassOverMs, row.lengthMs * 2);
    row.untilMonoMs = monoMs + row.lengthMs;
    this.#dueMonoMs = Math.min(this.#dueMonoMs, row.untilMonoMs);
    return true;
  }

  /** A link to the member is up. */
  reached(nodeId: string): void {
    this.#rows.delete(nodeId);
  }

  clear(): void {
    this.#rows.clear();
    this.#dueMonoMs = NEVER;
  }

  isPassedOver(nodeId: string, time: Time): boolean {
    return (this.#rows.get(nodeId)?.untilMonoMs ?? 0) > time.monoMs;
  }

  /** This node stood still. That time does not count, because no member could be reached in it. */
  postpone(byMs: number): void {
    for (const row of this.#rows.values()) row.sinceMonoMs += byMs;
  }

  /** When neighbours must be chosen anew. */
  nextDeadlineMs(): number {
    return this.#dueMonoMs;
  }

  /** Whether the choice is due. True once for each time. */
  takeDue(time: Time): boolean {
    if (time.monoMs < this.#dueMonoMs) return false;
    this.#dueMonoMs = NEVER;
    return true;
  }

  /**
   * The members from which neighbours are chosen: all but those that are passed over. If that is nobody, this node itself is cut off, and all
   * members are candidates. The same holds for the members of its own `cluster`, because their records come through no other cluster. Forgets
   * nodes that are no longer members.
   */
  candidates<T extends { readonly nodeId: string }>(
    members: readonly T[],
    linked: ReadonlyMap<string, unknown>,
    time: Time,
    cluster = NOBODY,
  ): readonly T[] {
    const known = new Set(members.map(({ nodeId }) => nodeId));
    this.#dueMonoMs = NEVER;
    for (const [nodeId, { untilMonoMs, sinceMonoMs }] of this.#rows) {
      if (!known.has(nodeId)) this.#rows.delete(nodeId);
      for (const atMonoMs of [untilMonoMs, sinceMonoMs + this.#options.countMs])
        if (atMonoMs > time.monoMs && known.has(nodeId)) this.#dueMonoMs = Math.min(this.#dueMonoMs, atMonoMs);
    }
    const isIn = ({ nodeId }: T) => linked.has(nodeId) || !this.isPassedOver(nodeId, time);
    const isCutOff = !members.some((member) => cluster.has(member.nodeId) && isIn(member));
    const inReach = members.filter((member) => isIn(member) || (isCutOff && cluster.has(member.nodeId)));
    return inReach.length === 0 ? members : inReach;
  }

  /**
   * The members that this node must be in step with: the wanted ones and those that are passed over. A member that is out of reach for `countMs`
   * does not count: it is still a member, so other nodes reach it. If nobody is left, this node itself is cut off, and all wanted members count.
   * If nobody of its own `cluster` is left, the wanted members of the cluster count too.
   */
  counted(members: ListedNodes, wanted: ListedNodes, { monoMs, wallMs }: Time, cluster = NOBODY): ListedNodes {
    const ids = new Set(wanted.map(({ nodeId }) => nodeId));
    const counted = members.filter(({ nodeId }) => {
      const sinceMonoMs = this.#rows.get(nodeId)?.sinceMonoMs ?? Number.POSITIVE_INFINITY;
      return (ids.has(nodeId) || this.isPassedOver(nodeId, { monoMs, wallMs })) && monoMs - sinceMonoMs < this.#options.countMs;
    });
    if (counted.length === 0) return wanted;
    const isCutOff = !counted.some(({ nodeId }) => cluster.has(nodeId));
    return isCutOff ? [...counted, ...wanted.filter(({ nodeId }) => cluster.has(nodeId))] : counted;
  }
}
