/** Answers kept for retried requests (`idempotency_key`), each for its lease's ttl, a bounded number of them. */
import type { Caller } from "../policy/caller.ts";

export interface Registered {
  readonly leaseId: string;
  /** Undefined for a static lease. */
  readonly ttlMs: number | undefined;
}

interface Answer extends Registered {
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

  find(caller: Pick<Caller, "principal">, key: string, monoMs: number): Registered | undefined {
    const answer = key === "" ? undefined : this.#byKey.get(nameOf(caller, key));
    return answer !== undefined && answer.untilMonoMs > monoMs ? answer : undefined;
  }

  /** Keeps an answer; the oldest goes when there are too many. */
  keep(caller: Pick<Caller, "principal">, key: string, answer: Registered, monoMs: number): void {
    if (key === "") return;
    const [oldest] = this.#byKey.keys();
    if (this.#byKey.size >= this.#maxCount && oldest !== undefined) this.#byKey.delete(oldest);
    this.#byKey.set(nameOf(caller, key), { ...answer, untilMonoMs: monoMs + (answer.ttlMs ?? this.#maxTtlMs) });
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
