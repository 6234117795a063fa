/**
 * Limits the answers to one network over UDP, where source addresses can be forged. Above the rate every second answer is cut to "ask again over TCP", which is
 * no larger than the question, and the others are not sent: an attacker gains nothing by forging addresses, and honest clients still get their answer
 * (semantics.md, DNS).
 */
import { type AddressBlock, isWithin, networkOf } from "../../lib/addresses.ts";
import type { KeyedBuckets } from "../../lib/buckets/token-bucket.ts";
import { tableSlot } from "../../lib/hash64.ts";
import { type MakeBuckets, ownBuckets } from "../../policy/limits/shared-limits.ts";
import { RCODE } from "../plan/answer.ts";
import type { PreparedResponse } from "../wire/prepared-response.ts";

export interface ResponseRateOptions {
  /** Whole answers of one class a second for one network; above 0. */
  readonly perSecond: number;
  /** Most pairs of a network and a class that are counted; at least 2. */
  readonly maxNetworks: number;
  /** They are not bounded. */
  readonly trusted?: readonly AddressBlock[] | undefined;
  /** Present where several threads share the rate. */
  readonly makeBuckets?: MakeBuckets | undefined;
  /** Length in ms of the pause of this process whose queued queries are being read at this time. 0 without such a pause. Default: always 0. */
  readonly pauseMs?: ((monoMs: number) => number) | undefined;
}

const WINDOW_MS = 1000;
/** Longest pause that counts. Shared buckets can only compare times that are less than four windows apart. */
const MAX_PAUSE_MS = 2 * WINDOW_MS;
/** Answers of more than three times their question, for all unverified senders together: as many as so many networks may have. */
const LARGE_NETWORKS = 50;
/** Networks over their rate share so many marks of which answer was cut last. Two that share one only change whose answer is cut. */
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

  /** How many pairs are counted now. */
  get size(): number {
    return this.#buckets.size;
  }

  /** What may be sent to this address now, and counts it if that is a whole answer. HOT: once for each UDP question, if a rate is set. */
  judge(address: string, rateClass: string, monoMs: number): "whole" | "cut" | "dropped" {
    if (this.trusts(address)) return "whole";
    const key = prefixOf(address) + rateClass;
    if (this.#takes(this.#buckets, key, monoMs)) return "whole";
    const { place: mark } = tableSlot(key, MARKS);
    const wasCut = this.#wasCut[mark] ?? 0;
    this.#wasCut[mark] = 1 - wasCut;
    return wasCut === 1 ? "dropped" : "cut";
  }

  /** Whether an answer of more than three times its question may go out now, and counts it. */
  takesLarge(address: string, monoMs: number): boolean {
    return this.trusts(address) || this.#takes(this.#large, "", monoMs);
  }

  /** Takes a token. After a pause, the tokens that were added during the pause are used first, even if they are more than a bucket can hold. */
  #takes(buckets: KeyedBuckets, key: string, monoMs: number): boolean {
    const pauseMs = Math.min(this.#pauseMs(monoMs), MAX_PAUSE_MS);
    for (let atMs = monoMs - pauseMs; atMs < monoMs; atMs += WINDOW_MS) if (buckets.take(key, atMs) === 0) return true;
    return buckets.take(key, monoMs) === 0;
  }

  /** Whether it is one of the forwarders that are not bounded. */
  trusts(address: string): boolean {
    if (this.#trusted.length === 0) return false;
    if (address !== this.#trustedAddress) {
      this.#isTrusted = isWithin(this.#trusted, address);
      this.#trustedAddress = address;
    }
    return this.#isTrusted;
  }
}

/** Answers that a network may have a whole rate of. "No such name" is counted for each zone, whatever the names are. */
export function rateClassOf({ rcode, hasAnswers, zone }: PreparedResponse): string {
  if (rcode === RCODE.NXDOMAIN) return `!${zone}`;
  if (rcode !== RCODE.NOERROR) return "?";
  return hasAnswers ? "" : "-";
}

/** The network of an address: its first 24 bits (IPv4) or 56 bits (IPv6), as other name servers count. A forger can use all addresses of a victim's network. */
export function prefixOf(address: string): string {
  // HOT: the short way is for what sockets of one family show.
  if (!address.includes(":")) return address.slice(0, address.lastIndexOf("."));
  const network = networkOf(address);
  const v4 = IPV4.exec(network);
  if (v4?.[1] !== undefined) return v4[1];
  const [first = "", second = "", third = "", fourth = ""] = network.split(":");
  return [first, second, third, fourth.padStart(4, "0").slice(0, 2)].join(":");
}
