/** Runs calls that check or change the policy one at a time. Other calls wait within a byte budget, or are refused. */
import { WaymarkError } from "../../lib/errors.ts";
import type { Caller } from "../../policy/identity/caller.ts";
import { callerKey } from "../../policy/limits/rate-limits.ts";

/** Maximum total size of the sets of all calls here, including the running call. */
const MAX_HELD_BYTES = 16 * 1024 * 1024;
/** Maximum for one tenant or principal. A call is never refused for this limit if its caller has no other call here. */
const MAX_CALLER_BYTES = MAX_HELD_BYTES / 4;
/** Minimum size that is counted for a call, so that the budget also bounds the number of small calls. */
const MIN_CALL_BYTES = 64 * 1024;
/** A decoded set of many ids takes about this many times the bytes of its request. Sets of many short windows take more. */
const DECODED_RATIO = 4;
const RETRY_MS = 1000;

export class PolicyQueue {
  #last: Promise<unknown> = Promise.resolve();
  #heldBytes = 0;
  /** Bytes by caller. Callers without a call here are not in the map. */
  readonly #callers = new Map<string, number>();

  /** Runs the work when all earlier work has ended. Throws `discovery_rate_limited` if too much work waits; no role is exempt. */
  async run<T>(caller: Caller, setBytes: number, work: () => Promise<T>): Promise<T> {
    const sizeBytes = Math.max(setBytes, MIN_CALL_BYTES);
    const key = callerKey(caller);
    const own = this.#callers.get(key) ?? 0;
    if (own > 0 && own + sizeBytes > MAX_CALLER_BYTES) throw refused("this caller has");
    if (!this.#hasRoom(sizeBytes)) throw refused("there are");
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

  /** Why a request of this size is refused before its set is decoded, because the set would find no room. Decoded sets are garbage for a while even when their calls are refused. */
  refuseEarly(requestBytes: number): WaymarkError | undefined {
    return this.#hasRoom(requestBytes * DECODED_RATIO) ? undefined : refused("there are");
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
