/**
 * A queue for calls that check or change the policy. The queue runs one call at a time, and schedules callers fairly. Calls that exceed a budget of
 * bytes are rejected.
 */
import { FairShareLimiter } from "../../discovery/checks/fair-share-limiter.ts";
import { WaymarkError } from "../../lib/errors.ts";
import { callerKey } from "../../policy/limits/rate-limits.ts";
import type { CallContext } from "../service.ts";

/** Largest total size of the sets in all queued calls, including the running call. */
const MAX_HELD_BYTES = 16 * 1024 * 1024;
/** Largest size for one tenant or principal. This limit never rejects a call if its caller has no other call in the queue. */
const MAX_CALLER_BYTES = MAX_HELD_BYTES / 4;
/** Minimum size that is counted for a call, so that the budget also limits the number of small calls. */
const MIN_CALL_BYTES = 64 * 1024;
/** Approximate ratio of the decoded size to the encoded size, for a set with many ids. The ratio is larger for sets with many short windows. */
const DECODED_RATIO = 4;
const RETRY_MS = 1000;

/** Returns the approximate size of a decoded set in memory, in bytes. */
export function decodedSizeOf(encodedBytes: number): number {
  return encodedBytes * DECODED_RATIO;
}

export class PolicyQueue {
  /** Has a single slot, for the running call. Each queued item is a function that starts its call. */
  readonly #slot = new FairShareLimiter<() => void>({ slotCount: 1, reservedCount: 0 });
  #heldBytes = 0;
  /** Bytes by caller. Callers that have no call in the queue are not in the map. */
  readonly #callers = new Map<string, number>();

  /**
   * Runs the work when it is the caller's turn. Throws `discovery_rate_limited` if too much work is queued; no role is exempt. A call that ends while
   * it is waiting is removed from the queue.
   */
  async run<T>(context: CallContext, setBytes: number, work: () => Promise<T>): Promise<T> {
    const sizeBytes = Math.max(setBytes, MIN_CALL_BYTES);
    const key = callerKey(context.caller);
    const own = this.#callers.get(key) ?? 0;
    if (own > 0 && own + sizeBytes > MAX_CALLER_BYTES) throw refused("this caller has");
    if (!this.#hasRoom(sizeBytes)) throw refused("there are");
    this.#add(key, sizeBytes);
    try {
      await this.#turn(key, context);
      return await this.#runInTurn(key, work);
    } finally {
      this.#add(key, -sizeBytes);
    }
  }

  /**
   * If the queue has no room for the decoded set of a request with this size, returns the error. The check is made before decoding, because even the
   * set in a rejected call uses memory until it is garbage-collected.
   */
  refuseEarly(requestBytes: number): WaymarkError | undefined {
    return this.#hasRoom(decodedSizeOf(requestBytes)) ? undefined : refused("there are");
  }

  async #runInTurn<T>(key: string, work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } finally {
      this.#slot.release(key);
      this.#next();
    }
  }

  #turn(key: string, context: CallContext): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    this.#slot.enqueue(key, resolve);
    // Once the call is running, these two lines have no effect.
    context.onOver = () => {
      this.#slot.cancel(key, resolve);
      reject(new WaymarkError("deadline_exceeded", "the call ended while it was queued behind other policy calls"));
    };
    this.#next();
    return promise;
  }

  #next(): void {
    this.#slot.acquireNext()?.();
  }

  #hasRoom(sizeBytes: number): boolean {
    return this.#heldBytes === 0 || this.#heldBytes + sizeBytes <= MAX_HELD_BYTES;
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
