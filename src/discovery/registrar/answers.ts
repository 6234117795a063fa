/** Answers kept for retried requests (`idempotency_key`), each for its lease's ttl, a bounded number of them. */
import type { StampedEntry } from "../../catalog/entry/codec.ts";
import { sha256, sha256Hex } from "../../lib/crypto.ts";
import { invalid } from "../../lib/errors.ts";
import type { Caller } from "../../policy/identity/caller.ts";

/** What makes a request the same one when it is asked again. */
export interface Attempt {
  /** The `idempotency_key`; empty: the request is never the same. */
  readonly key: string;
  /** Of all that the request asks for; empty when that is not known any more. */
  readonly digest: string;
}

export const NO_ATTEMPT: Attempt = { key: "", digest: "" };

export interface Asked {
  readonly stampedEntries: readonly Pick<StampedEntry, "content">[];
  readonly ttlMs: number | undefined;
  readonly leaseId: string;
  readonly isStatic: boolean;
  readonly idempotencyKey: string;
}

/** The load that entries report is no part of what is asked for. Without a key nothing is computed. */
export function attemptOf({ stampedEntries, ttlMs, leaseId, isStatic, idempotencyKey }: Asked): Attempt {
  if (idempotencyKey === "") return NO_ATTEMPT;
  // Hashes have one length, so no two lists of entries are the same text.
  const entries = stampedEntries.map(({ content }) => Buffer.from(sha256(content)).toString("hex")).join("");
  return { key: idempotencyKey, digest: sha256Hex(JSON.stringify([ttlMs, leaseId, isStatic, entries])).slice(0, DIGEST_CHARS) };
}

const DIGEST_CHARS = 32;
const WITH_DIGEST = new RegExp(`^(.*)\\n([0-9a-f]{${DIGEST_CHARS}})$`, "s");

/** As the journal keeps it, where earlier versions had the key alone. */
export function storedAttempt({ key, digest }: Attempt): string {
  return digest === "" ? key : `${key}\n${digest}`;
}

export function restoredAttempt(stored: string): Attempt {
  const [, key = stored, digest = ""] = WITH_DIGEST.exec(stored) ?? [];
  return { key, digest };
}

export interface Registered {
  readonly leaseId: string;
  /** Undefined for a static lease. */
  readonly ttlMs: number | undefined;
}

interface Answer extends Registered {
  readonly digest: string;
  readonly untilMonoMs: number;
}

export class Answers {
  readonly #maxCount: number;
  /** How long an answer about a static lease is kept. */
  readonly #maxTtlMs: number;
  readonly #byKey = new Map<string, Answer>();

  constructor(options: { readonly maxCount: number; readonly maxTtlMs: number }) {
    this.#maxCount = options.maxCount;
    this.#maxTtlMs = options.maxTtlMs;
  }

  /** What the same request was answered. Throws `invalid_argument` when the key was of another request. */
  find(caller: Pick<Caller, "principal">, { key, digest }: Attempt, monoMs: number): Registered | undefined {
    const answer = key === "" ? undefined : this.#byKey.get(nameOf(caller, key));
    if (answer === undefined || answer.untilMonoMs <= monoMs) return undefined;
    if (answer.digest !== "" && digest !== "" && answer.digest !== digest)
      throw invalid(
        "idempotency_key",
        "was used for a request with other entries, ttl, lease_id or static_lease: each request has a key of its own",
      );
    return answer;
  }

  /** Keeps an answer; the oldest goes when there are too many. */
  keep(caller: Pick<Caller, "principal">, { key, digest }: Attempt, answer: Registered, monoMs: number): void {
    if (key === "") return;
    const [oldest] = this.#byKey.keys();
    if (this.#byKey.size >= this.#maxCount && oldest !== undefined) this.#byKey.delete(oldest);
    this.#byKey.set(nameOf(caller, key), { ...answer, digest, untilMonoMs: monoMs + (answer.ttlMs ?? this.#maxTtlMs) });
  }

  forget(caller: Pick<Caller, "principal">, key: string): void {
    this.#byKey.delete(nameOf(caller, key));
  }

  /** Whoever asks again is not to get a lease that is over through no doing of its own. O(answers). */
  forgetLease(leaseId: string): void {
    for (const [name, answer] of this.#byKey) if (answer.leaseId === leaseId) this.#byKey.delete(name);
  }

  /** Drops what has run out, as far as it is the oldest. */
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
