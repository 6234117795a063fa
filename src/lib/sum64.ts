/** Sums of 64-bit hashes: of what can come and go in any order, equal on nodes that hold the same. */
import type { Hash64 } from "./fnv.ts";

/** A sum modulo 2^64. Order-independent: adding and taking away commute. */
export class Sum64 {
  #high = 0;
  #low = 0;

  add(hash: Hash64): void {
    const low = this.#low + hash.low;
    this.#low = low >>> 0;
    this.#high = (this.#high + hash.high + (low > 0xffffffff ? 1 : 0)) >>> 0;
  }

  subtract(hash: Hash64): void {
    const low = this.#low - hash.low;
    this.#low = low >>> 0;
    this.#high = (this.#high - hash.high - (low < 0 ? 1 : 0)) >>> 0;
  }

  get hash(): Hash64 {
    return { high: this.#high, low: this.#low };
  }

  get value(): bigint {
    return (BigInt(this.#high) << 32n) | BigInt(this.#low);
  }
}
