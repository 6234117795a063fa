/**
 * Limits the responses to one network over UDP, where source addresses can be forged. When the limit is exceeded, every second response has TC set
 * and is no larger than the query. The other responses are not sent. Forged addresses therefore give an attacker no amplification, and legitimate
 * clients can retry over TCP (semantics.md, DNS).
 */
import { type AddressBlock, isWithin, networkOf } from "../../lib/addresses.ts";
import type { KeyedBuckets } from "../../lib/buckets/token-bucket.ts";
import { tableSlot } from "../../lib/hash64.ts";
import { type MakeBuckets, ownBuckets } from "../../policy/limits/shared-limits.ts";
import { RCODE } from "../plan/answer.ts";
import type { PreparedResponse } from "../wire/prepared-response.ts";

export interface ResponseRateOptions {
  /** Maximum number of complete responses per second, class and network. Must be above 0. */
  readonly perSecond: number;
  /** Maximum number of tracked pairs of network and class. Must be at least 2. */
  readonly maxNetworks: number;
  /** Networks without a limit. */
  readonly trusted?: readonly AddressBlock[] | undefined;
  /** Creates buckets that several threads share. If absent, the limit applies per thread. */
  readonly makeBuckets?: MakeBuckets | undefined;
  /**
   * Returns the length of a process pause, in ms, while the queries that arrived during the pause are being read. Otherwise returns 0. If absent, the
   * length is always 0.
   */
  readonly pauseMs?: ((monoMs: number) => number) | undefined;
}

const WINDOW_MS = 1000;
/** Longest pause for which the limit is compensated. Shared buckets can only compare times that are less than four windows apart. */
const MAX_PAUSE_MS = 2 * WINDOW_MS;
/** Total limit for responses to unverified senders that are more than three times the query size, as a multiple of the per-network limit. */
const LARGE_NETWORKS = 50;
/**
 * Number of flags that remember whether the last limited response was cut. If networks share a flag, this only affects which of their responses are
 * cut.
 */
const MARKS = 1 << 12;
const IPV4 = /^(\d+\.\d+\.\d+)\.\d+$/;

export class ResponseRates {
  readonly #buckets: KeyedBuckets;
  readonly #large: KeyedBuckets;
  readonly #trusted: readonly AddressBlock[];
  readonly #pauseMs: (monoMs: number) => number;
  readonly #wasCut = new Uint8Array(MARKS);
  #trustedAddress = "";
  #isTrusted = false;

  constructor({ perSecond, maxNetworks, trusted = [], makeBuckets = ownBuckets, pauseMs = () => 0 }: ResponseRateOptions) {
    this.#trusted = trusted;
    this.#pauseMs = pauseMs;
    this.#buckets = makeBuckets("dns responses", { limit: perSecond, windowMs: WINDOW_MS, maxKeys: maxNetworks });
    this.#large = makeBuckets("dns large responses", { limit: perSecond * LARGE_NETWORKS, windowMs: WINDOW_MS, maxKeys: 2 });
  }

  /** Number of pairs that are currently tracked. */
  get size(): number {
    return this.#buckets.size;
  }

  /**
   * Decides whether a response to this address is sent complete, cut or dropped, and counts complete responses. HOT: runs per UDP question if a rate
   * is configured.
   */
  judge(address: string, rateClass: string, monoMs: number): "whole" | "cut" | "dropped" {
    if (this.trusts(address)) return "whole";
    const key = prefixOf(address) + rateClass;
    if (this.#takes(this.#buckets, key, monoMs)) return "whole";
    const { place: mark } = tableSlot(key, MARKS);
    const wasCut = this.#wasCut[mark] ?? 0;
    this.#wasCut[mark] = 1 - wasCut;
    return wasCut === 1 ? "dropped" : "cut";
  }

  /** Returns whether a response larger than three times the query size can be sent now, and counts the response. */
  takesLarge(address: string, monoMs: number): boolean {
    return this.trusts(address) || this.#takes(this.#large, "", monoMs);
  }

  /** Consumes a token. After a pause, the tokens added during the pause are used first, even if they exceed the bucket capacity. */
  #takes(buckets: KeyedBuckets, key: string, monoMs: number): boolean {
    const pauseMs = Math.min(this.#pauseMs(monoMs), MAX_PAUSE_MS);
    for (let atMs = monoMs - pauseMs; atMs < monoMs; atMs += WINDOW_MS) if (buckets.take(key, atMs) === 0) return true;
    return buckets.take(key, monoMs) === 0;
  }

  /** Returns whether the address belongs to a trusted forwarder, which has no limit. */
  trusts(address: string): boolean {
    if (this.#trusted.length === 0) return false;
    if (address !== this.#trustedAddress) {
      this.#isTrusted = isWithin(this.#trusted, address);
      this.#trustedAddress = address;
    }
    return this.#isTrusted;
  }
}

/** Returns the rate class of a response. Each class has its own limit per network. NXDOMAIN is counted per zone, regardless of the names. */
export function rateClassOf({ rcode, hasAnswers, zone }: PreparedResponse): string {
  if (rcode === RCODE.NXDOMAIN) return `!${zone}`;
  if (rcode !== RCODE.NOERROR) return "?";
  return hasAnswers ? "" : "-";
}

/**
 * Returns the network of an address: its first 24 bits (IPv4) or 56 bits (IPv6), as other name servers do. An attacker can forge all addresses of a
 * victim's network.
 */
export function prefixOf(address: string): string {
  // HOT: the fast path for addresses from IPv4 sockets.
  if (!address.includes(":")) return address.slice(0, address.lastIndexOf("."));
  const network = networkOf(address);
  const v4 = IPV4.exec(network);
  if (v4?.[1] !== undefined) return v4[1];
  const [first = "", second = "", third = "", fourth = ""] = network.split(":");
  return [first, second, third, fourth.padStart(4, "0").slice(0, 2)].join(":");
}
