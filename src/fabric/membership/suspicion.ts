/**
 * What happens to a member that is suspected: it has a bounded time to contradict, the more accusers the shorter, and is dead after that; and how
 * far a node trusts its own senses (Lifeguard, arXiv 1707.00788 §IV). `MembershipState` starts a suspicion when a probe failed or another node
 * accused, tells it to others, and declares the death. `origin-lifecycle.ts` says what becomes of the entries.
 */
import { NEVER } from "../../lib/machine.ts";
import type { MemberUpdate } from "../wire/messages.ts";
import type { MembershipOptions } from "./options.ts";

type SuspicionOptions = Pick<
  MembershipOptions,
  "intervalMs" | "suspicionMult" | "suspicionMaxMult" | "suspicionCapMs" | "suspicionFloorMs" | "suspicionMinMs"
>;

/** Fewer members cannot give two independent confirmations, or only just: one member's bad luck must not kill. */
const FEW_MEMBERS = 5;
/** Worst local health score (Lifeguard's S, memberlist's AwarenessMaxMultiplier). */
export const WORST_SCORE = 8;

export interface SuspicionBounds {
  readonly minMs: number;
  readonly maxMs: number;
  /** Confirmations by others after which `minMs` is reached. */
  readonly wanted: number;
}

/** Bounds of a suspicion that starts in a group of `memberCount`, self included. */
export function suspicionBounds(memberCount: number, o: SuspicionOptions): SuspicionBounds {
  const logMs = o.suspicionMult * Math.max(1, Math.log10(Math.max(1, memberCount))) * o.intervalMs;
  const cappedMs = Math.min(logMs, Math.max(o.suspicionCapMs, o.suspicionMult * o.intervalMs));
  const minMs = Math.max(cappedMs, o.suspicionMinMs, memberCount < FEW_MEMBERS ? o.suspicionFloorMs : 0);
  const wanted = o.suspicionMult - 2;
  // As memberlist: where too few are left to confirm, nobody waits for them.
  return { minMs, maxMs: minMs * o.suspicionMaxMult, wanted: memberCount - 2 < wanted ? 0 : wanted };
}

/** Time from the start of a suspicion to death, after so many confirmations by others (Lifeguard §IV-B). */
export function suspicionTimeoutMs(confirmations: number, { minMs, maxMs, wanted }: SuspicionBounds): number {
  if (wanted < 1) return minMs;
  const share = Math.log(confirmations + 1) / Math.log(wanted + 1);
  return Math.max(minMs, maxMs - (maxMs - minMs) * share);
}

/** A running suspicion of one member. */
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

  /** Who accused, first one first; at most the first and those wanted to confirm. */
  get accusers(): readonly string[] {
    return [...this.#accusers];
  }

  get deadlineMonoMs(): number {
    return this.startMonoMs + this.#postponedMs + suspicionTimeoutMs(this.#accusers.size - 1, this.bounds);
  }

  /** False when the accuser is known already, or enough have confirmed. */
  confirm(accuser: string): boolean {
    if (this.#accusers.size > this.bounds.wanted || this.#accusers.has(accuser)) return false;
    this.#accusers.add(accuser);
    return true;
  }

  /** The time did not count: nothing could be heard in it. It ends at `notBeforeMonoMs` at the earliest. */
  postpone(byMs: number, notBeforeMonoMs: number = Number.NEGATIVE_INFINITY): void {
    this.#postponedMs += Math.max(byMs, notBeforeMonoMs - this.deadlineMonoMs);
  }
}

/** A member, as far as a suspicion concerns it. */
interface SuspectedMember {
  update: MemberUpdate;
  suspicion: Suspicion | undefined;
}

/** The suspicions that are running here. */
export class SuspicionTable<M extends SuspectedMember> {
  readonly #options: SuspicionOptions;
  readonly #suspects = new Set<M>();
  #nextMonoMs = NEVER;

  constructor(options: SuspicionOptions) {
    this.#options = options;
  }

  /** From now on the member is suspect, in a group of `memberCount` with this node. */
  start(member: M, memberCount: number, monoMs: number): void {
    member.suspicion = new Suspicion(member.update.accuser, monoMs, suspicionBounds(memberCount, this.#options));
    // A member that is suspected anew may have been the next one to be due, and has more time now.
    if (this.#suspects.has(member)) return this.#schedule();
    this.#suspects.add(member);
    this.#nextMonoMs = Math.min(this.#nextMonoMs, member.suspicion.deadlineMonoMs);
  }

  /** The member contradicted, left, or is dead. */
  end(member: M): void {
    member.suspicion = undefined;
    this.#suspects.delete(member);
    this.#schedule();
  }

  /** One more accuses the member. Returns false when that changes nothing. */
  confirm({ suspicion }: M, accuser: string): boolean {
    if (suspicion?.confirm(accuser) !== true) return false;
    this.#nextMonoMs = Math.min(this.#nextMonoMs, suspicion.deadlineMonoMs);
    return true;
  }

  /** Members whose time to contradict is over, each with its accusers. Suspicions may end while it is read. */
  *expired(monoMs: number): Generator<{ readonly member: M; readonly accusers: readonly string[] }> {
    if (monoMs < this.#nextMonoMs) return;
    for (const member of this.#suspects) {
      const { suspicion } = member;
      if (suspicion !== undefined && suspicion.deadlineMonoMs <= monoMs) yield { member, accusers: suspicion.accusers };
    }
  }

  /** The process slept: what was not heard meanwhile proves nothing. */
  postpone(byMs: number, nowMonoMs: number): void {
    // Others may have been contradicted meanwhile. A node that slept long does not hear that word again unless it says whom it suspects.
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

/** Local health multiplier (Lifeguard §IV-A): the worse a node does, the more time it gives others. */
export class LocalHealth {
  #score = 0;

  /** 0 is well, 8 is worst. */
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
