/**
 * How many answers one network gets over UDP, where addresses can be forged: above the rate an answer is cut to "ask again over TCP", which is no
 * larger than the question, so that nobody gains by having us answer somebody else, and honest clients get theirs (semantics.md, DNS).
 */
import { TokenBuckets } from "../lib/token-bucket.ts";
import { networkOf } from "../policy/limits/rate-limits.ts";

export interface ResponseRateOptions {
  /** Whole answers a second to one network; above 0. */
  readonly perSecond: number;
  /** Networks whose answers are counted; at least 2. */
  readonly maxNetworks: number;
}

const WINDOW_MS = 1000;
const IPV4 = /^(\d+\.\d+\.\d+)\.\d+$/;

export class ResponseRate {
  readonly #buckets: TokenBuckets;

  constructor({ perSecond, maxNetworks }: ResponseRateOptions) {
    this.#buckets = new TokenBuckets({ limit: perSecond, windowMs: WINDOW_MS, maxKeys: maxNetworks });
  }

  /** Networks counted now. */
  get size(): number {
    return this.#buckets.size;
  }

  /** Whether a whole answer may go to this address now; then it is counted. HOT: once a UDP question, where a rate is set. */
  takes(address: string, monoMs: number): boolean {
    return this.#buckets.take(prefixOf(address), monoMs) === 0;
  }
}

/** The network that a forger has behind one victim: the first 24 bits of an IPv4 address, 56 of an IPv6 one, as other name servers count. */
export function prefixOf(address: string): string {
  const network = networkOf(address);
  const v4 = IPV4.exec(network);
  if (v4?.[1] !== undefined) return v4[1];
  const [first = "", second = "", third = "", fourth = ""] = network.split(":");
  return [first, second, third, fourth.padStart(4, "0").slice(0, 2)].join(":");
}
