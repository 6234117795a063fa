/** Places of questions that wait for what is fetched. They are few, so that no sender may take those of all others. */
import { type AddressBlock, isWithin } from "../../lib/addresses.ts";
import type { QuerySender } from "./responder.ts";
import { prefixOf } from "./response-rate.ts";

/** This part of the places is for questions whose addresses are not forged: over TCP, with a valid cookie, or of a trusted forwarder. */
const PROVED_PART = 4;

export interface PendingQueryLimits {
  /** Questions that wait at a time. */
  readonly maxWaiting: number;
  /** Of these, those of one network, however they came. Trusted forwarders ask for others, and have no such bound. */
  readonly maxWaitingOfNetwork: number;
}

export class PendingQueryLimiter {
  readonly #limits: PendingQueryLimits;
  readonly #trusted: readonly AddressBlock[];
  /** How many wait of each network of which any does. */
  readonly #ofNetwork = new Map<string, number>();
  #count = 0;

  constructor(limits: PendingQueryLimits, trusted: readonly AddressBlock[] = []) {
    this.#limits = limits;
    this.#trusted = trusted;
  }

  /** Who of this address finds a place now. HOT: once a question. */
  roomFor(address: string): QuerySender["room"] {
    // Mostly nobody waits.
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
