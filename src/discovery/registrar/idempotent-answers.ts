/** Keeps a bounded number of answers for retried requests (`idempotency_key`), each for the ttl of its lease. */

import type { StampedEntry } from "../../catalog/entry/codec.ts";
import { BoundedMap } from "../../lib/bounded-map.ts";
import { sha256, sha256Hex } from "../../lib/crypto.ts";
import { invalid } from "../../lib/errors.ts";
import type { Caller } from "../../policy/identity/caller.ts";

/** The parts of a request that identify a retry. */
export interface RetryIdentity {
  /** The `idempotency_key`. Empty if the request is never a retry. */
  readonly key: string;
  /** Digest of all fields of the request. Empty if the request has no idempotency key. */
  readonly digest: string;
}

export const NO_ATTEMPT: RetryIdentity = { key: "", digest: "" };

/** The fields of a registration. */
export interface RegisterFields {
  readonly stampedEntries: readonly Pick<StampedEntry, "content">[];
  /** Undefined if the default or the ttl of the joined lease applies. */
  readonly ttlMs: number | undefined;
  /** Empty if the request requires a new lease. */
  readonly leaseId: string;
  readonly isStatic: boolean;
  readonly idempotencyKey: string;
}

/**
 * Returns the identity of a request for detecting retries. The load in entries is not part of the identity. If there is no idempotency key, no digest
 * is computed.
 */
export function attemptOf({ stampedEntries, ttlMs, leaseId, isStatic, idempotencyKey }: RegisterFields): RetryIdentity {
  if (idempotencyKey === "") return NO_ATTEMPT;
  // All hashes have the same length, so different lists of entries result in different texts.
  const entries = stampedEntries.map(({ content }) => Buffer.from(sha256(content)).toString("hex")).join("");
  return { key: idempotencyKey, digest: sha256Hex(JSON.stringify([ttlMs, leaseId, isStatic, entries])).slice(0, DIGEST_CHARS) };
}

const DIGEST_CHARS = 32;

/** Returns the answers in the form that is stored in the journal. */
export function storedAttempt({ key, digest }: RetryIdentity): string {
  return `${key}${digest}`;
}

export function restoredAttempt(stored: string): RetryIdentity {
  return { key: stored.slice(0, -DIGEST_CHARS), digest: stored.slice(-DIGEST_CHARS) };
}

export interface RegisterResult {
  readonly leaseId: string;
  /** Undefined for a static lease. */
  readonly ttlMs: number | undefined;
}

interface StoredAnswer extends RegisterResult {
  readonly digest: string;
  readonly untilMonoMs: number;
}

export class IdempotentAnswers {
  /** How long an answer about a static lease is kept. */
  readonly #maxTtlMs: number;
  readonly #byKey: BoundedMap<string, StoredAnswer>;

  constructor(options: { readonly maxCount: number; readonly maxTtlMs: number }) {
    this.#byKey = new BoundedMap(options.maxCount);
    this.#maxTtlMs = options.maxTtlMs;
  }

  /** Returns the earlier answer to the same request. Throws `invalid_argument` if a different request has used the key. */
  find(caller: Pick<Caller, "principal">, { key, digest }: RetryIdentity, monoMs: number): RegisterResult | undefined {
    const answer = key === "" ? undefined : this.#byKey.get(nameOf(caller, key));
    if (answer === undefined || answer.untilMonoMs <= monoMs) return undefined;
    if (answer.digest !== digest)
      throw invalid(
        "idempotency_key",
        "was already used for a request with different entries, ttl, lease_id or static_lease: use a new key for each request",
      );
    return answer;
  }

  /** Keeps an answer. If there are too many answers, the oldest is dropped. */
  keep(caller: Pick<Caller, "principal">, { key, digest }: RetryIdentity, answer: RegisterResult, monoMs: number): void {
    if (key === "") return;
    this.#byKey.set(nameOf(caller, key), { ...answer, digest, untilMonoMs: monoMs + (answer.ttlMs ?? this.#maxTtlMs) });
  }

  forget(caller: Pick<Caller, "principal">, key: string): void {
    this.#byKey.delete(nameOf(caller, key));
  }

  /** Forgets answers about an ended lease, so that a retry does not return the lease. O(answers). */
  forgetLease(leaseId: string): void {
    for (const [name, answer] of this.#byKey) if (answer.leaseId === leaseId) this.#byKey.delete(name);
  }

  /** Drops expired answers, oldest first. */
  sweep(monoMs: number): void {
    for (const [name, answer] of this.#byKey) {
      if (answer.untilMonoMs > monoMs) return;
      this.#byKey.delete(name);
    }
  }
}

function nameOf({ principal }: Pick<Caller, "principal">, key: string): string {
  return `${principal}\0${key}`;
}
