/** Members that no link could be opened to lately: passed over when neighbours are chosen, and tried again later and later. */
import { NEVER, type OptionsOf, type Time } from "../../lib/machine.ts";

/** What is not a setting. */
const REACH_FIXED = {
  /** Attempts that fail one after the other until a member is passed over. */
  passOverAttempts: 2,
  /** How long it is passed over the first time; twice as long each time after. */
  passOverMs: 30_000,
  maxPassOverMs: 300_000,
  /** So long after the first failure it still counts among those to be in step with: the longest suspicion, so the dead are known for it by then. */
  countMs: 30_000,
} as const;

export type ReachOptions = OptionsOf<typeof REACH_FIXED>;

interface Row {
  sinceMonoMs: number;
  failures: number;
  /** Not passed over after this; of one that never was, in the past. */
  untilMonoMs: number;
  lengthMs: number;
}

type Listed = readonly { readonly nodeId: string }[];

const NOBODY: ReadonlySet<string> = new Set();

/**
 * Why: where a firewall lets sites talk to a centre only, a node that insists on neighbours it cannot reach has no link at all, and
 * one that counts them as peers to be in step with is never in step. What they write comes by way of those in reach.
 */
export class UnreachableMembers {
  readonly #options: ReachOptions;
  /** At most one for each member, and those of members gone since the last choice. */
  readonly #rows = new Map<string, Row>();
  #dueMonoMs = NEVER;

  constructor(options: ReachOptions = REACH_FIXED) {
    this.#options = options;
  }

  /** An attempt to open a link came to nothing; returns whether the member is passed over from now on. */
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

  /** A link to it is up. */
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

  /** This node stood still: that time says nothing of who is in reach. */
  postpone(byMs: number): void {
    for (const row of this.#rows.values()) row.sinceMonoMs += byMs;
  }

  /** When the choice is to be made anew. */
  nextDeadlineMs(): number {
    return this.#dueMonoMs;
  }

  /** Whether it is due; asked once. */
  takeDue(time: Time): boolean {
    if (time.monoMs < this.#dueMonoMs) return false;
    this.#dueMonoMs = NEVER;
    return true;
  }

  /**
   * Whom to choose neighbours from now: all but those passed over, or all of them where that is nobody: then it is this node
   * that is cut off, and behind everybody. So with its own `cluster`: what that writes comes back into it by no other. Whoever is not a member any
   * more is forgotten.
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
   * Whom to be in step with: the wanted, and those passed over, but nobody who was out of reach for `countMs` and is a member all the
   * same, so others reach it. When nobody else is left, or nobody else of the own `cluster`, it is this node that is cut off, and all
   * the wanted count, or those of it.
   */
  counted(members: Listed, wanted: Listed, { monoMs, wallMs }: Time, cluster = NOBODY): Listed {
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
