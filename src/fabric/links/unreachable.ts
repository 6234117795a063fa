/** Remembers members to which no link could be opened recently. The choice of neighbours skips them, for a longer time after each failure. */
import { NEVER, type OptionsOf, type Time } from "../../lib/machine.ts";

/** Constants that are not settings. */
const REACH_FIXED = {
  /** Number of consecutive failed attempts after which a member is skipped. */
  passOverAttempts: 2,
  /** How long a member is skipped for the first time. This time is doubled on each further skip, up to `maxPassOverMs`. */
  passOverMs: 30_000,
  maxPassOverMs: 300_000,
  /**
   * For this long after the first failure, this node must still be in sync with the member. It is the maximum duration of a suspicion, so by then a
   * dead member has been declared dead.
   */
  countMs: 30_000,
} as const;

export type ReachOptions = OptionsOf<typeof REACH_FIXED>;

interface UnreachableRow {
  sinceMonoMs: number;
  failures: number;
  /** The member is skipped until this time. The value is 0 for a member that was never skipped. */
  untilMonoMs: number;
  lengthMs: number;
}

type ListedNodes = readonly { readonly nodeId: string }[];

const NONE: ReadonlySet<string> = new Set();

/**
 * Unreachable members. Unreachable neighbours matter when a firewall allows sites to connect only to a central site. If a node insisted on
 * unreachable neighbours, it would not have any links, and if it waited to be in sync with them, it would wait forever. The records of unreachable
 * neighbours arrive through reachable nodes.
 */
export class UnreachableMembers {
  readonly #options: ReachOptions;
  /** By node id. Rows for nodes that are no longer members are removed at the next choice. */
  readonly #rows = new Map<string, UnreachableRow>();
  #dueMonoMs = NEVER;

  constructor(options: ReachOptions = REACH_FIXED) {
    this.#options = options;
  }

  /** Counts a failed attempt to open a link. Returns whether the member will be skipped from now on. */
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

  /** Forgets the failures of a member, because a link to it is up. */
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

  /** Excludes a pause of this process from the failure times, because this node could not reach any member during the pause. */
  postpone(byMs: number): void {
    for (const row of this.#rows.values()) row.sinceMonoMs += byMs;
  }

  /** Returns when neighbours must be chosen again. */
  nextDeadlineMs(): number {
    return this.#dueMonoMs;
  }

  /** Returns whether the choice is due. Returns true only once per deadline. */
  takeDue(time: Time): boolean {
    if (time.monoMs < this.#dueMonoMs) return false;
    this.#dueMonoMs = NEVER;
    return true;
  }

  /**
   * Returns the members from which neighbours are chosen: all except those that are skipped. If none is left, this node itself is isolated,
   * and all members are candidates. The same applies to the members of its own `cluster`, because their records do not arrive through any other
   * cluster. Forgets nodes that are no longer members.
   */
  candidates<T extends { readonly nodeId: string }>(
    members: readonly T[],
    linked: ReadonlyMap<string, unknown>,
    time: Time,
    cluster = NONE,
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
   * Returns the members that this node must be in sync with: the wanted members and the skipped members. A member that has been unreachable for
   * `countMs` is left out, because it is still listed as a member and therefore other nodes can reach it. If none is left, this node itself is
   * isolated, and all wanted members are returned. If no member of its own `cluster` is left, the wanted members of the cluster are included too.
   */
  counted(members: ListedNodes, wanted: ListedNodes, { monoMs, wallMs }: Time, cluster = NONE): ListedNodes {
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
