/** Limits the number of questions that wait for a fetch, so that no client can use all waiting slots. */
import { type AddressBlock, isWithin } from "../../lib/addresses.ts";
import type { QuerySender } from "./responder.ts";
import { prefixOf } from "./response-rate.ts";

/**
 * This fraction (1/4) of the slots is reserved for senders with a verified address, which use TCP, send a valid cookie, or are trusted forwarders.
 */
const PROVED_PART = 4;

export interface PendingQueryLimits {
  /** Maximum number of waiting questions. */
  readonly maxWaiting: number;
  /**
   * Maximum number of waiting questions per network, across all transports. This limit does not apply to trusted forwarders, which send queries for
   * other clients.
   */
  readonly maxWaitingOfNetwork: number;
}

export class PendingQueryLimiter {
  readonly #limits: PendingQueryLimits;
  readonly #trusted: readonly AddressBlock[];
  /** Number of waiting questions, by network. */
  readonly #ofNetwork = new Map<string, number>();
  #count = 0;

  constructor(limits: PendingQueryLimits, trusted: readonly AddressBlock[] = []) {
    this.#limits = limits;
    this.#trusted = trusted;
  }

  /** Returns which questions from this address can wait now. HOT: runs per question. */
  roomFor(address: string): QuerySender["room"] {
    // The common case is that no question is waiting.
    if (this.#count === 0) return "all";
    const { maxWaiting, maxWaitingOfNetwork } = this.#limits;
    if (this.#count >= maxWaiting) return "nobody";
    const own = this.#ofNetwork.get(prefixOf(address)) ?? 0;
    if (own >= maxWaitingOfNetwork && !isWithin(this.#trusted, address)) return "nobody";
    return this.#count < maxWaiting - Math.floor(maxWaiting / PROVED_PART) ? "all" : "proved";
  }

  take(address: string): void {
    this.#add(prefixOf(address), 1);
  }

  leave(address: string): void {
    this.#add(prefixOf(address), -1);
  }

  #add(network: string, count: 1 | -1): void {
    this.#count += count;
    const own = (this.#ofNetwork.get(network) ?? 0) + count;
    if (own === 0) this.#ofNetwork.delete(network);
    else this.#ofNetwork.set(network, own);
  }
}
