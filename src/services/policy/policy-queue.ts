/** Runs calls that check or change the policy one at a time. The others wait within a budget of bytes, or are refused. */
import { WaymarkError } from "../../lib/errors.ts";
import type { Caller } from "../../policy/identity/caller.ts";
import { callerKey } from "../../policy/limits/rate-limits.ts";

/** Most bytes of sets that are held at a time, the one of the running call included. */
const MAX_HELD_BYTES = 16 * 1024 * 1024;
/** Most of them that one tenant or principal may hold. A call is never refused while its caller has no other one here. */
const MAX_CALLER_BYTES = MAX_HELD_BYTES / 4;
/** Least size of a call, so that the budget also bounds how many small calls wait. */
const MIN_CALL_BYTES = 64 * 1024;
const RETRY_MS = 1000;

export class PolicyQueue {
  #last: Promise<unknown> = Promise.resolve();
  #heldBytes = 0;
  /** Bytes by caller. Callers without a call here are not in the map. */
  readonly #callers = new Map<string, number>();

  /** Does the work when all work before it has ended. Throws `discovery_rate_limited` when too much waits; roles do not exempt a caller. */
  async run<T>(caller: Caller, setBytes: number, work: () => Promise<T>): Promise<T> {
    const sizeBytes = Math.max(setBytes, MIN_CALL_BYTES);
    const key = callerKey(caller);
    const own = this.#callers.get(key) ?? 0;
    if (own > 0 && own + sizeBytes > MAX_CALLER_BYTES) throw refused("this caller has");
    if (this.#heldBytes > 0 && this.#heldBytes + sizeBytes > MAX_HELD_BYTES) throw refused("there are");
    this.#add(key, sizeBytes);
    const before = this.#last;
    const done = before.then(work);
    this.#last = done.catch(() => undefined);
    try {
      return await done;
    } finally {
      this.#add(key, -sizeBytes);
    }
  }

  #add(key: string, sizeBytes: number): void {
    this.#heldBytes += sizeBytes;
    const own = (this.#callers.get(key) ?? 0) + sizeBytes;
    if (own === 0) this.#callers.delete(key);
    else this.#callers.set(key, own);
  }
}

function refused(whose: string): WaymarkError {
  const message = `${whose} too many policy calls in progress; policy calls run one at a time: try again in ${RETRY_MS} ms`;
  return new WaymarkError("discovery_rate_limited", message, { retryMs: RETRY_MS });
}
