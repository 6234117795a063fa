/**
 * Limits the answers to one network over UDP, where source addresses can be forged. Above the rate an answer is cut to "ask again over TCP". That is no
 * larger than the question, so an attacker gains nothing by forging addresses, and honest clients still get their answer (semantics.md, DNS).
 */
import type { Buckets } from "../../lib/buckets/token-bucket.ts";
import { networkOf } from "../../policy/limits/rate-limits.ts";
import { type MakeBuckets, ownBuckets } from "../../policy/limits/shared-limits.ts";

export interface ResponseRateOptions {
  /** Whole answers a second for one network; above 0. */
  readonly perSecond: number;
  /** Most networks that are counted; at least 2. */
  readonly maxNetworks: number;
  /** Present where several threads share the rate. */
  readonly makeBuckets?: MakeBuckets | undefined;
}

const WINDOW_MS = 1000;
const IPV4 = /^(\d+\.\d+\.\d+)\.\d+$/;

export class ResponseRate {
  readonly #buckets: Buckets;

  constructor({ perSecond, maxNetworks, makeBuckets = ownBuckets }: ResponseRateOptions) {
    this.#buckets = makeBuckets("dns responses", { limit: perSecond, windowMs: WINDOW_MS, maxKeys: maxNetworks });
  }

  /** How many networks are counted now. */
  get size(): number {
    return this.#buckets.size;
  }

  /** Whether a whole answer may go to this address now, and counts it if so. HOT: once for each UDP question, if a rate is set. */
  takes(address: string, monoMs: number): boolean {
    return this.#buckets.take(prefixOf(address), monoMs) === 0;
  }
}

/** The network of an address: its first 24 bits (IPv4) or 56 bits (IPv6), as other name servers count. A forger can use all addresses of a victim's network. */
export function prefixOf(address: string): string {
  const network = networkOf(address);
  const v4 = IPV4.exec(network);
  if (v4?.[1] !== undefined) return v4[1];
  const [first = "", second = "", third = "", fourth = ""] = network.split(":");
  return [first, second, third, fourth.padStart(4, "0").slice(0, 2)].join(":");
}
