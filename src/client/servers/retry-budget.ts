/**
 * How many tries a client may make beyond the first ones (gRPC A6, "Throttling Retry Attempts and Hedged RPCs"; Finagle's `RetryBudget`). Each call
 * earns a tenth of a token and each retry spends a whole one, so retries are at most a tenth of the calls, beside the tokens of the start. In an outage
 * the tokens run out, and the clients do not multiply the traffic to the servers that are left.
 */

/** Tokens that a call earns: the most retries a call, in the long run. */
const EARNED = 0.1;
/** Most tokens, and those of the start: that many calls in a row can fail over before any has succeeded. */
const MOST = 10;

export class RetryBudget {
  #tokens = MOST;

  /** A call begins. */
  earn(): void {
    this.#tokens = Math.min(MOST, this.#tokens + EARNED);
  }

  /** Takes a token for one more try, if there is one. */
  spend(): boolean {
    // Ten times a tenth is a little less than one.
    if (this.#tokens < 1 - 1e-9) return false;
    this.#tokens -= 1;
    return true;
  }
}
