/**
 * Epochs of the policy that servers named with data, while no server has sent their versions. A resolver answers nobody while there is one, so what one server
 * says alone must not hold for ever: whoever names a version owes it on its stream of the policy (semantics.md, Resolver 15).
 */
import { NEVER } from "../../lib/machine.ts";

interface EpochClaim {
  readonly epoch: string;
  readonly number: number;
  /** Since when there has been a server that says which policy it has. Undefined while there was none. */
  sinceMonoMs: number | undefined;
}

/** A claim that is given up. `upstream`: who made it; empty for a copy on disk. */
export interface UnmetClaim {
  readonly upstream: string;
  readonly epoch: string;
}

/** The server whose stream of the policy is open and has said which versions there are. */
export interface PolicyServer {
  readonly upstream: string;
  /** When it said so first, or last sent a part of a version that somebody may be waiting for. */
  readonly heardMonoMs: number;
}

/** A server that names a version sends it within this time, counted from the last part that it sent of one. */
const OWED_MS = 10_000;
/** Nobody is waited for longer than this: neither a server that sends parts without end, nor one that is gone and whose version no other has. */
const LONGEST_MS = 60_000;

export class EpochClaims {
  /** By upstream: of each the newest that it named. */
  readonly #claims = new Map<string, EpochClaim>();

  get isEmpty(): boolean {
    return this.#claims.size === 0;
  }

  /** The newest of all. */
  get newest(): string | undefined {
    const [newest] = [...this.#claims.values()].toSorted((a, b) => b.number - a.number);
    return newest?.epoch;
  }

  /** The number of the version that an upstream owes. */
  numberOf(upstream: string): number | undefined {
    return this.#claims.get(upstream)?.number;
  }

  /** An upstream named an epoch of which nothing is known here. A newer one than it named before gives it no more time. */
  add({ upstream, epoch }: UnmetClaim, number: number, sinceMonoMs: number | undefined): void {
    const before = this.#claims.get(upstream);
    if (before === undefined || number >= before.number)
      this.#claims.set(upstream, { epoch, number, sinceMonoMs: before?.sinceMonoMs ?? sinceMonoMs });
  }

  /** A server says which policy it has. */
  stated(monoMs: number): void {
    for (const claim of this.#claims.values()) claim.sinceMonoMs ??= monoMs;
  }

  /** Versions arrived. */
  settle(isKnown: (epoch: string, number: number) => boolean): void {
    for (const [upstream, { epoch, number }] of this.#claims) if (isKnown(epoch, number)) this.#claims.delete(upstream);
  }

  clear(): void {
    this.#claims.clear();
  }

  /** Gives up what is overdue. `stating` of undefined: nobody can say anything, and everything is waited for. */
  takeUnmet(stating: PolicyServer | undefined, monoMs: number): readonly UnmetClaim[] {
    const unmet: UnmetClaim[] = [];
    for (const [upstream, claim] of this.#claims) {
      if (dueMonoMs(upstream, claim, stating) > monoMs) continue;
      this.#claims.delete(upstream);
      unmet.push({ upstream, epoch: claim.epoch });
    }
    return unmet;
  }

  nextDeadlineMs(stating: PolicyServer | undefined): number {
    // HOT: once an input; nearly always there is none.
    if (this.#claims.size === 0) return NEVER;
    return Math.min(...[...this.#claims].map(([upstream, claim]) => dueMonoMs(upstream, claim, stating)));
  }
}

function dueMonoMs(upstream: string, { sinceMonoMs }: EpochClaim, stating: PolicyServer | undefined): number {
  if (stating === undefined || sinceMonoMs === undefined) return NEVER;
  const lastMonoMs = sinceMonoMs + LONGEST_MS;
  return stating.upstream === upstream ? Math.min(Math.max(sinceMonoMs, stating.heardMonoMs) + OWED_MS, lastMonoMs) : lastMonoMs;
}
