/**
 * The budget for compressed messages. It limits the inflated bytes held at a time, the bytes per second that inflating may add to the bytes on the
 * wire, and the compressed bytes per second that may be read. A few kilobytes of gzip can become megabytes, and a few megabytes that inflate to
 * nothing take half a second to read. Therefore, the connection that sends the most compressed data waits behind all others. This module does not
 * perform I/O: the caller passes the time, and the shell inflates messages.
 */

import { TokenBucket } from "../../lib/buckets/token-bucket.ts";

/** Limits over all connections. */
export interface InflationLimits {
  /**
   * Maximum number of inflated bytes that are being produced or have not been processed yet. If there are no such bytes, one message may exceed the
   * limit.
   */
  readonly maxBytes: number;
  /**
   * Number of gained bytes allowed per second, and the maximum that can accumulate. The gain of a message is its inflated size minus its free size
   * (`FREE_RATIO`, `FREE_BYTES`), and is charged up to `burstBytes`.
   */
  readonly gainPerSecond: number;
  readonly burstBytes: number;
  /**
   * Number of compressed bytes that may be read per second, and the maximum that can accumulate. Reading a byte needs up to 0.1 µs, regardless of the
   * inflated size.
   */
  readonly workPerSecond: number;
  readonly workBurstBytes: number;
  /**
   * Maximum number of waiting messages. `maxWaitingBytes` limits their compressed bytes. If either limit is exceeded, the most expensive message is
   * rejected.
   */
  readonly maxWaiting: number;
  /** Maximum number of waiting messages per connection. Further messages on the connection are rejected immediately. */
  readonly maxWaitingEach: number;
  readonly maxWaitingBytes: number;
  /** A message that has waited for this long is rejected. */
  readonly waitMs: number;
}

/** These limits are not configurable. */
export const INFLATION_LIMITS: InflationLimits = {
  maxBytes: 8 * 1_024 * 1_024,
  gainPerSecond: 2 * 1_024 * 1_024,
  burstBytes: 4 * 1_024 * 1_024,
  workPerSecond: 4 * 1_024 * 1_024,
  workBurstBytes: 4 * 1_024 * 1_024,
  maxWaiting: 256,
  maxWaitingEach: 16,
  maxWaitingBytes: 8 * 1_024 * 1_024,
  waitMs: 2_000,
};

/**
 * A message that inflates to at most this multiple of its size, or to at most this many bytes, costs no more than an uncompressed message.
 */
const FREE_RATIO = 16;
const FREE_BYTES = 4_096;
/**
 * A compressed message of up to this size is read in at most 0.1 ms. Reading the same number of bytes in small uncompressed calls costs more time.
 */
export const FREE_WORK_BYTES = 1_024;

/**
 * Maximum number of timed-out messages that one check rejects. Messages that arrive at the same time also time out at the same time, and each
 * rejection writes an answer: 256 rejections in one turn delayed all calls by 0.3 s.
 */
const REFUSALS_A_CHECK = 8;

/** A request to inflate a message. */
export interface InflationClaim {
  /** The connection on which the message arrived. The message's gain is charged to this connection. */
  readonly owner: object;
  /** Compressed size. */
  readonly wireBytes: number;
  /** Inflated size. */
  readonly inflatedBytes: number;
  /** Called once, in a later turn, for a claim that had to wait. */
  readonly decided: (isGranted: boolean) => void;
}

/** A claim and its state. */
export interface InflationTicket {
  readonly claim: InflationClaim;
  readonly gainBytes: number;
  readonly workBytes: number;
  /**
   * Claims are granted in ascending order of price. The price is the connection's position in the queue plus the message's gain and reading cost. It
   * is 0 for a message that has neither.
   */
  readonly price: number;
  readonly untilMonoMs: number;
  state: "waiting" | "granted" | "over";
}

interface OwnerAccount {
  chargedUntil: number;
  waitingCount: number;
}

export class InflationBudget {
  readonly #limits: InflationLimits;
  readonly #accounts = new WeakMap<object, OwnerAccount>();
  /** Waiting claims in ascending order of price. */
  readonly #waiting: InflationTicket[] = [];
  #waitingBytes = 0;
  #usedBytes = 0;
  readonly #gains: TokenBucket;
  readonly #work: TokenBucket;

  constructor(limits: InflationLimits) {
    this.#limits = limits;
    this.#gains = new TokenBucket(limits.burstBytes, 1_000 / limits.gainPerSecond);
    this.#work = new TokenBucket(limits.workBurstBytes, 1_000 / limits.workPerSecond);
  }

  /** Number of inflated bytes that are being produced or held. */
  get usedBytes(): number {
    return this.#usedBytes;
  }

  get waitingCount(): number {
    return this.#waiting.length;
  }

  /** Whether further messages on a connection are rejected because it already has too many waiting messages. */
  isCrowdedBy(owner: object): boolean {
    return (this.#accounts.get(owner)?.waitingCount ?? 0) >= this.#limits.maxWaitingEach;
  }

  /** Adds a claim. The returned ticket is either granted, waiting for `decided`, or over, which means that it was rejected. */
  claim(claim: InflationClaim, monoMs: number): InflationTicket {
    const gainBytes = Math.max(0, claim.inflatedBytes - Math.max(FREE_BYTES, claim.wireBytes * FREE_RATIO));
    const workBytes = claim.wireBytes <= FREE_WORK_BYTES ? 0 : claim.wireBytes;
    const price = gainBytes + workBytes === 0 ? 0 : this.#costOf({ gainBytes, workBytes }) + this.#chargedUntil(claim.owner, monoMs);
    const ticket: InflationTicket = { claim, gainBytes, workBytes, price, untilMonoMs: monoMs + this.#limits.waitMs, state: "waiting" };
    const isFirst = price < (this.#waiting[0]?.price ?? Number.POSITIVE_INFINITY);
    if (isFirst && this.#fits(ticket, monoMs)) this.#grant(ticket, monoMs);
    else if (gainBytes > 0 && this.isCrowdedBy(claim.owner)) ticket.state = "over";
    else this.#queue(ticket);
    return ticket;
  }

  /** Releases a claim whose message has been processed or whose stream no longer exists. Further calls have no effect. */
  release(ticket: InflationTicket, monoMs: number): void {
    if (ticket.state === "waiting") this.#leave(ticket);
    if (ticket.state === "granted") this.#usedBytes -= ticket.claim.inflatedBytes;
    ticket.state = "over";
    this.#grantWaiting(monoMs);
  }

  /** Grants the waiting claims that the budget allows now, and rejects some that have waited too long. Called frequently while a claim is waiting. */
  check(monoMs: number): void {
    const late = this.#waiting.filter((ticket) => ticket.untilMonoMs <= monoMs).slice(0, REFUSALS_A_CHECK);
    for (const ticket of late) this.#refuse(ticket);
    this.#grantWaiting(monoMs);
  }

  #grantWaiting(monoMs: number): void {
    for (let next = this.#waiting[0]; next !== undefined && this.#fits(next, monoMs); next = this.#waiting[0]) {
      this.#leave(next);
      this.#grant(next, monoMs);
      next.claim.decided(true);
    }
  }

  #fits({ claim, gainBytes, workBytes }: InflationTicket, monoMs: number): boolean {
    const { maxBytes, burstBytes, workBurstBytes } = this.#limits;
    if (!this.#gains.has(monoMs, Math.min(gainBytes, burstBytes)) || !this.#work.has(monoMs, Math.min(workBytes, workBurstBytes)))
      return false;
    return this.#usedBytes === 0 || this.#usedBytes + claim.inflatedBytes <= maxBytes;
  }

  #grant(ticket: InflationTicket, monoMs: number): void {
    const { claim, gainBytes, workBytes } = ticket;
    ticket.state = "granted";
    this.#usedBytes += claim.inflatedBytes;
    this.#gains.take(monoMs, Math.min(gainBytes, this.#limits.burstBytes));
    this.#work.take(monoMs, Math.min(workBytes, this.#limits.workBurstBytes));
    const cost = this.#costOf(ticket);
    if (cost > 0) Object.assign(this.#accountOf(claim.owner), { chargedUntil: this.#chargedUntil(claim.owner, monoMs) + cost });
  }

  #accountOf(owner: object): OwnerAccount {
    const account = this.#accounts.get(owner) ?? { chargedUntil: 0, waitingCount: 0 };
    this.#accounts.set(owner, account);
    return account;
  }

  #queue(ticket: InflationTicket): void {
    const at = this.#waiting.findIndex((other) => other.price > ticket.price);
    this.#waiting.splice(at < 0 ? this.#waiting.length : at, 0, ticket);
    this.#waitingBytes += ticket.claim.wireBytes;
    this.#accountOf(ticket.claim.owner).waitingCount += 1;
    const isTooMuch = () => this.#waiting.length > this.#limits.maxWaiting || this.#waitingBytes > this.#limits.maxWaitingBytes;
    // One message may always exceed the limit.
    while (this.#waiting.length > 1 && isTooMuch()) {
      const dearest = this.#waiting.at(-1);
      if (dearest === undefined) return;
      if (dearest === ticket) {
        this.#leave(ticket);
        ticket.state = "over";
      } else this.#refuse(dearest);
    }
  }

  #leave(ticket: InflationTicket): void {
    this.#waiting.splice(this.#waiting.indexOf(ticket), 1);
    this.#waitingBytes -= ticket.claim.wireBytes;
    this.#accountOf(ticket.claim.owner).waitingCount -= 1;
  }

  #refuse(ticket: InflationTicket): void {
    if (ticket.state !== "waiting") return; // The `decided` callback of another ticket may already have rejected this one.
    this.#leave(ticket);
    ticket.state = "over";
    ticket.claim.decided(false);
  }

  /** Returns the cost, expressed as bytes of gain. Compressed bytes are scaled by the ratio of the two allowed rates. */
  #costOf({ gainBytes, workBytes }: Pick<InflationTicket, "gainBytes" | "workBytes">): number {
    return gainBytes + (workBytes * this.#limits.gainPerSecond) / this.#limits.workPerSecond;
  }

  /**
   * Returns the start tag of the connection's next message, in bytes that could have been gained since time 0. It is derived from the connection's
   * earlier costs, and is never before now. A connection that keeps sending messages therefore moves behind the waiting connections (start-time fair
   * queueing: Goyal, Vin, Cheng 1996).
   */
  #chargedUntil(owner: object, monoMs: number): number {
    return Math.max(this.#accounts.get(owner)?.chargedUntil ?? 0, (monoMs * this.#limits.gainPerSecond) / 1_000);
  }
}
