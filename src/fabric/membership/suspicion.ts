/**
 * The lifecycle of a suspicion: a suspected member has a limited time to refute, which shrinks with each further accuser, and is then declared dead.
 * This file also contains the local health score, which indicates how far a node trusts its own probes (Lifeguard, arXiv 1707.00788 §IV).
 * `MembershipState` starts a suspicion after a probe failed or another node accused a member, gossips it, and declares the member dead.
 * `origin-lifecycle.ts` handles the member's entries.
 */
import { NEVER } from "../../lib/machine.ts";
import type { MemberUpdate } from "../wire/messages.ts";
import type { MembershipOptions } from "./options.ts";

type SuspicionOptions = Pick<
  MembershipOptions,
  "intervalMs" | "suspicionMult" | "suspicionMaxMult" | "suspicionCapMs" | "suspicionFloorMs" | "suspicionMinMs"
>;

/**
 * If there are fewer members, two independent confirmations are hard or impossible to get. One member's bad network must not cause another to be
 * declared dead.
 */
const FEW_MEMBERS = 5;
/** Worst local health score (Lifeguard's S, memberlist's AwarenessMaxMultiplier). */
export const WORST_SCORE = 8;

export interface SuspicionBounds {
  readonly minMs: number;
  readonly maxMs: number;
  /** Number of confirmations by others after which `minMs` is reached. */
  readonly wanted: number;
}

/** Returns the limits of a suspicion that starts in a group of `memberCount` members, including this node. */
export function suspicionBounds(memberCount: number, o: SuspicionOptions): SuspicionBounds {
  const logMs = o.suspicionMult * Math.max(1, Math.log10(Math.max(1, memberCount))) * o.intervalMs;
  const cappedMs = Math.min(logMs, Math.max(o.suspicionCapMs, o.suspicionMult * o.intervalMs));
  const minMs = Math.max(cappedMs, o.suspicionMinMs, memberCount < FEW_MEMBERS ? o.suspicionFloorMs : 0);
  const wanted = o.suspicionMult - 2;
  // As in memberlist, when too few members are left to confirm, do not wait for confirmations.
  return { minMs, maxMs: minMs * o.suspicionMaxMult, wanted: memberCount - 2 < wanted ? 0 : wanted };
}

/** Returns the time from the start of a suspicion to the death, after the given number of confirmations by other members (Lifeguard §IV-B). */
export function suspicionTimeoutMs(confirmations: number, { minMs, maxMs, wanted }: SuspicionBounds): number {
  if (wanted < 1) return minMs;
  const share = Math.log(confirmations + 1) / Math.log(wanted + 1);
  return Math.max(minMs, maxMs - (maxMs - minMs) * share);
}

/** An active suspicion of one member. */
export class Suspicion {
  readonly startMonoMs: number;
  readonly bounds: SuspicionBounds;
  readonly #accusers = new Set<string>();
  #postponedMs = 0;

  constructor(accuser: string, startMonoMs: number, bounds: SuspicionBounds) {
    this.startMonoMs = startMonoMs;
    this.bounds = bounds;
    this.#accusers.add(accuser);
  }

  /** The accusers, in order: at most the first accuser and the wanted number of confirmations. */
  get accusers(): readonly string[] {
    return [...this.#accusers];
  }

  get deadlineMonoMs(): number {
    return this.startMonoMs + this.#postponedMs + suspicionTimeoutMs(this.#accusers.size - 1, this.bounds);
  }

  /** Adds an accuser. Returns false when the accuser is already known, or when enough others have confirmed. */
  confirm(accuser: string): boolean {
    if (this.#accusers.size > this.bounds.wanted || this.#accusers.has(accuser)) return false;
    this.#accusers.add(accuser);
    return true;
  }

  /**
   * Extends the suspicion by the length of a pause, because no refutation could arrive during the pause. The suspicion then ends at `notBeforeMonoMs`
   * at the earliest.
   */
  postpone(byMs: number, notBeforeMonoMs: number = Number.NEGATIVE_INFINITY): void {
    this.#postponedMs += Math.max(byMs, notBeforeMonoMs - this.deadlineMonoMs);
  }
}

/** The part of a member that a suspicion uses. */
interface SuspectedMember {
  update: MemberUpdate;
  suspicion: Suspicion | undefined;
}

/** All active suspicions on this node. */
export class SuspicionTable<M extends SuspectedMember> {
  readonly #options: SuspicionOptions;
  readonly #suspects = new Set<M>();
  #nextMonoMs = NEVER;

  constructor(options: SuspicionOptions) {
    this.#options = options;
  }

  /** Starts a suspicion in a group of `memberCount` members, including this node. */
  start(member: M, memberCount: number, monoMs: number): void {
    member.suspicion = new Suspicion(member.update.accuser, monoMs, suspicionBounds(memberCount, this.#options));
    // A member that is suspected again may have had the earliest deadline before, and now has a later one.
    if (this.#suspects.has(member)) return this.#schedule();
    this.#suspects.add(member);
    this.#nextMonoMs = Math.min(this.#nextMonoMs, member.suspicion.deadlineMonoMs);
  }

  /** Ends the suspicion of a member that has refuted it, left, or died. */
  end(member: M): void {
    member.suspicion = undefined;
    this.#suspects.delete(member);
    this.#schedule();
  }

  /** Adds an accuser of the member. Returns false when the accuser makes no difference. */
  confirm({ suspicion }: M, accuser: string): boolean {
    if (suspicion?.confirm(accuser) !== true) return false;
    this.#nextMonoMs = Math.min(this.#nextMonoMs, suspicion.deadlineMonoMs);
    return true;
  }

  /** Returns the members whose suspicion has expired, each with its accusers. Suspicions may be removed during the iteration. */
  *expired(monoMs: number): Generator<{ readonly member: M; readonly accusers: readonly string[] }> {
    if (monoMs < this.#nextMonoMs) return;
    for (const member of this.#suspects) {
      const { suspicion } = member;
      if (suspicion !== undefined && suspicion.deadlineMonoMs <= monoMs) yield { member, accusers: suspicion.accusers };
    }
  }

  /** Extends all suspicions by the length of a pause of this process. Responses that are missing because of the pause prove nothing. */
  postpone(byMs: number, nowMonoMs: number): void {
    // During a long pause, suspected members may have sent refutations. This node receives those refutations again only after it gossips its
    // suspicions.
    const isLong = byMs >= this.#options.intervalMs;
    for (const { suspicion } of this.#suspects) suspicion?.postpone(byMs, isLong ? nowMonoMs + suspicion.bounds.minMs : undefined);
    this.#schedule();
  }

  nextDeadlineMs(): number {
    return this.#nextMonoMs;
  }

  #schedule(): void {
    this.#nextMonoMs = NEVER;
    for (const { suspicion } of this.#suspects)
      this.#nextMonoMs = Math.min(this.#nextMonoMs, suspicion?.deadlineMonoMs ?? this.#nextMonoMs);
  }
}

/** Local health multiplier (Lifeguard §IV-A): the worse a node performs, the more time it gives to other members. */
export class LocalHealth {
  #score = 0;

  /** 0 is healthy, 8 is worst. */
  get score(): number {
    return this.#score;
  }

  worsen(by: number): void {
    this.#score = Math.min(WORST_SCORE, this.#score + by);
  }

  improve(): void {
    this.#score = Math.max(0, this.#score - 1);
  }

  scaleMs(ms: number): number {
    return ms * (1 + this.#score);
  }
}
