/**
 * How much compressed messages may cost together: bytes being inflated or not handled yet, what a second may gain over
 * what came on the wire, and what came itself. A few kilobytes of gzip become megabytes, and a few megabytes that become nothing
 * take half a second to read, so the connection that sends the most of them waits behind all others. Pure: the caller gives the time, and the shell inflates.
 */

import { TokenBucket } from "../../lib/buckets/token-bucket.ts";

/** Bounds over all connections. */
export interface InflationLimits {
  /** Inflated bytes being made or not yet handled. One message may always be larger. */
  readonly maxBytes: number;
  /** Bytes a second that inflating may gain, and how many may be saved up. A message needs what it gains, at most `burstBytes`. */
  readonly gainPerSecond: number;
  readonly burstBytes: number;
  /** Bytes a second, as they came, that may be read, and how many may be saved up: each takes up to 0.1 µs, whatever it becomes. */
  readonly workPerSecond: number;
  readonly workBurstBytes: number;
  /** Messages that wait, and their bytes as they came; beyond it the dearest is refused. */
  readonly maxWaiting: number;
  /** Of them, of one connection: more of its messages are refused at once. */
  readonly maxWaitingEach: number;
  readonly maxWaitingBytes: number;
  /** What waited for so long is refused. */
  readonly waitMs: number;
}

/** They are not settings. */
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

/** A message that inflates to at most this many times its size, or to at most this many bytes, costs no more than one that is sent plain. */
const FREE_RATIO = 16;
const FREE_BYTES = 4_096;
/** A message of up to so many bytes, as it came, is read in 0.1 ms at most: as many bytes of small plain calls take longer. */
export const FREE_WORK_BYTES = 1_024;

/** Messages that came together are late together. Each refusal is an answer to write, and 256 of them in one turn kept all calls waiting for 0.3 s. */
const REFUSALS_A_CHECK = 8;

/** A message that asks to be inflated. */
export interface InflationClaim {
  /** The connection that the message came on. What the message gains is charged to it. */
  readonly owner: object;
  /** As it came. */
  readonly wireBytes: number;
  /** As it will be. */
  readonly inflatedBytes: number;
  /** Called once for a claim that waited, later. */
  readonly decided: (isGranted: boolean) => void;
}

/** A claim that was taken in. */
export interface InflationTicket {
  readonly claim: InflationClaim;
  readonly gainBytes: number;
  readonly workBytes: number;
  /** Lowest first: where its connection's turn is, and what it gains and takes to read on top. 0 for one that does neither. */
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
  /** By price. */
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

  /** Inflated bytes being made or held. */
  get usedBytes(): number {
    return this.#usedBytes;
  }

  get waitingCount(): number {
    return this.#waiting.length;
  }

  /** Whether so much of a connection waits that more of what it sends is refused. */
  isCrowdedBy(owner: object): boolean {
    return (this.#accounts.get(owner)?.waitingCount ?? 0) >= this.#limits.maxWaitingEach;
  }

  /** Takes a claim: the ticket is granted, waits for `decided`, or is over, which refuses it. */
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

  /** What was inflated is handled, or its stream is gone. Harmless when done again. */
  release(ticket: InflationTicket, monoMs: number): void {
    if (ticket.state === "waiting") this.#leave(ticket);
    if (ticket.state === "granted") this.#usedBytes -= ticket.claim.inflatedBytes;
    ticket.state = "over";
    this.#grantWaiting(monoMs);
  }

  /** Grants what may go on by now, and refuses some of what waited too long; called often while anything waits. */
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
    // One message may always be larger.
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
    if (ticket.state !== "waiting") return; // `decided` of another ticket may have refused this one already.
    this.#leave(ticket);
    ticket.state = "over";
    ticket.claim.decided(false);
  }

  /** In bytes of gain: what came counts as much less as more of it is allowed a second. */
  #costOf({ gainBytes, workBytes }: Pick<InflationTicket, "gainBytes" | "workBytes">): number {
    return gainBytes + (workBytes * this.#limits.gainPerSecond) / this.#limits.workPerSecond;
  }

  /**
   * The start tag of the connection's next message, in bytes that may have been gained since the clock began: behind what its earlier messages cost, and
   * not before now. So a connection that asks again and again moves behind those that wait (start-time fair queueing: Goyal, Vin, Cheng 1996).
   */
  #chargedUntil(owner: object, monoMs: number): number {
    return Math.max(this.#accounts.get(owner)?.chargedUntil ?? 0, (monoMs * this.#limits.gainPerSecond) / 1_000);
  }
}
