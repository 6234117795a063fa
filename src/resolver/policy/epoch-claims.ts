/**
 * Policy epochs that servers announced in their messages, but whose versions have not arrived. A resolver does not answer callers while there is such
 * a claim, so claims expire. A server that announces a version must send it on its policy stream in time (semantics.md, Resolver 15).
 */
import { NEVER } from "../../lib/machine.ts";

interface EpochClaim {
  readonly epoch: string;
  readonly number: number;
  /** The time since which a server has reported its policy versions. Undefined if no server has reported its versions. */
  sinceMonoMs: number | undefined;
}

/** A claim that expired. `upstream` is the server that made the claim. It is empty for the copy on disk. */
export interface UnmetClaim {
  readonly upstream: string;
  readonly epoch: string;
}

/** The server whose policy stream is open and has reported its versions. */
export interface PolicyServer {
  readonly upstream: string;
  /** When this server first reported its versions, or last sent a part of a version that the resolver may be waiting for. */
  readonly progressMonoMs: number;
}

/** Time within which a server must send an announced version, counted from the last version part that it sent. */
const CLAIM_MS = 10_000;
/**
 * Maximum wait for a version, even if a server keeps sending parts, or if the server that announced the version is gone and no other server has it.
 */
const LONGEST_MS = 60_000;

export class EpochClaims {
  /** The newest epoch that each upstream announced, by upstream. */
  readonly #claims = new Map<string, EpochClaim>();

  get isEmpty(): boolean {
    return this.#claims.size === 0;
  }

  /** The newest claimed epoch. */
  get newest(): string | undefined {
    const [newest] = [...this.#claims.values()].toSorted((a, b) => b.number - a.number);
    return newest?.epoch;
  }

  /** Returns the number of the version that an upstream announced and has not sent. */
  numberOf(upstream: string): number | undefined {
    return this.#claims.get(upstream)?.number;
  }

  /** Adds a claim from an upstream. A newer epoch replaces the upstream's previous claim and does not extend the deadline. */
  add({ upstream, epoch }: UnmetClaim, number: number, sinceMonoMs: number | undefined): void {
    const before = this.#claims.get(upstream);
    if (before === undefined || number >= before.number)
      this.#claims.set(upstream, { epoch, number, sinceMonoMs: before?.sinceMonoMs ?? sinceMonoMs });
  }

  /** Records that a server reported its policy versions. */
  stated(monoMs: number): void {
    for (const claim of this.#claims.values()) claim.sinceMonoMs ??= monoMs;
  }

  /** Removes the claims whose versions are now known. */
  settle(isKnown: (epoch: string, number: number) => boolean): void {
    for (const [upstream, { epoch, number }] of this.#claims) if (isKnown(epoch, number)) this.#claims.delete(upstream);
  }

  clear(): void {
    this.#claims.clear();
  }

  /** Removes and returns the expired claims. `stating` is undefined when no server has reported its versions. In this case, claims do not expire. */
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
    // HOT: runs per input. Claims are rare.
    if (this.#claims.size === 0) return NEVER;
    return Math.min(...[...this.#claims].map(([upstream, claim]) => dueMonoMs(upstream, claim, stating)));
  }
}

function dueMonoMs(upstream: string, { sinceMonoMs }: EpochClaim, stating: PolicyServer | undefined): number {
  if (stating === undefined || sinceMonoMs === undefined) return NEVER;
  const lastMonoMs = sinceMonoMs + LONGEST_MS;
  return stating.upstream === upstream ? Math.min(Math.max(sinceMonoMs, stating.progressMonoMs) + CLAIM_MS, lastMonoMs) : lastMonoMs;
}
