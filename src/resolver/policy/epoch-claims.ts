/**
 * Policy epochs that servers named in their messages and whose versions have not arrived. A resolver answers no callers while there is such a claim, so a
 * claim expires: a server that names a version must send it on its policy stream in time (semantics.md, Resolver 15).
 */
import { NEVER } from "../../lib/machine.ts";

interface EpochClaim {
  readonly epoch: string;
  readonly number: number;
  /** Since when a server has reported its policy versions. Undefined while none has. */
  sinceMonoMs: number | undefined;
}

/** A claim that expired. `upstream` is the server that made it; empty for the copy on disk. */
export interface UnmetClaim {
  readonly upstream: string;
  readonly epoch: string;
}

/** The server whose policy stream is open and has reported its versions. */
export interface PolicyServer {
  readonly upstream: string;
  /** When it first reported its versions, or last sent a part of a version that may be awaited. */
  readonly progressMonoMs: number;
}

/** Time within which a server must send a version that it named, counted from the last part of a version that it sent. */
const CLAIM_MS = 10_000;
/** Maximum wait for a version, even while a server keeps sending parts, or when the server that named it is gone and no other has it. */
const LONGEST_MS = 60_000;

export class EpochClaims {
  /** The newest epoch that each upstream named, by upstream. */
  readonly #claims = new Map<string, EpochClaim>();

  get isEmpty(): boolean {
    return this.#claims.size === 0;
  }

  /** The newest claimed epoch. */
  get newest(): string | undefined {
    const [newest] = [...this.#claims.values()].toSorted((a, b) => b.number - a.number);
    return newest?.epoch;
  }

  /** Returns the number of the version that an upstream named and has not sent. */
  numberOf(upstream: string): number | undefined {
    return this.#claims.get(upstream)?.number;
  }

  /** Adds the claim of an upstream. A newer epoch replaces its previous claim and does not extend the time. */
  add({ upstream, epoch }: UnmetClaim, number: number, sinceMonoMs: number | undefined): void {
    const before = this.#claims.get(upstream);
    if (before === undefined || number >= before.number)
      this.#claims.set(upstream, { epoch, number, sinceMonoMs: before?.sinceMonoMs ?? sinceMonoMs });
  }

  /** Records that a server reported its policy versions. */
  stated(monoMs: number): void {
    for (const claim of this.#claims.values()) claim.sinceMonoMs ??= monoMs;
  }

  /** Removes the claims whose versions are known now. */
  settle(isKnown: (epoch: string, number: number) => boolean): void {
    for (const [upstream, { epoch, number }] of this.#claims) if (isKnown(epoch, number)) this.#claims.delete(upstream);
  }

  clear(): void {
    this.#claims.clear();
  }

  /** Removes and returns the expired claims. `stating` is undefined when no server has reported its versions; then no claim expires. */
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
    // HOT: runs per input. There is rarely a claim.
    if (this.#claims.size === 0) return NEVER;
    return Math.min(...[...this.#claims].map(([upstream, claim]) => dueMonoMs(upstream, claim, stating)));
  }
}

function dueMonoMs(upstream: string, { sinceMonoMs }: EpochClaim, stating: PolicyServer | undefined): number {
  if (stating === undefined || sinceMonoMs === undefined) return NEVER;
  const lastMonoMs = sinceMonoMs + LONGEST_MS;
  return stating.upstream === upstream ? Math.min(Math.max(sinceMonoMs, stating.progressMonoMs) + CLAIM_MS, lastMonoMs) : lastMonoMs;
}
