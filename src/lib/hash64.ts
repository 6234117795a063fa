/** 64-bit hashes (FNV-1a) and sums of them, the same on every node. They do not protect secrets and do not stop forgers. */

export interface Hash64 {
  /** Upper and lower 32 bits, unsigned. */
  readonly high: number;
  readonly low: number;
}

const START: Hash64 = { high: 0xcbf29ce4, low: 0x84222325 };

/** Hash of the text's UTF-16 code units, low byte first. It continues from another hash, to cover several texts. HOT: once a query. */
export function fnv64(text: string, from: Hash64 = START): Hash64 {
  let high = from.high | 0;
  let low = from.low | 0;
  for (let i = 0; i < text.length; i += 1) {
    const unit = text.charCodeAt(i);
    for (let n = 0, byte = unit & 0xff; n < 2; n += 1, byte = unit >>> 8) {
      low ^= byte;
      // Times 2^40 + 0x1b3, modulo 2^64, in halves of 32 bits; the lower half in halves of 16, so that every number stays small.
      const lower = (low & 0xffff) * 0x1b3;
      const upper = (low >>> 16) * 0x1b3 + (lower >>> 16);
      high = (Math.imul(high, 0x1b3) + (upper >>> 16) + (low << 8)) | 0;
      low = (upper << 16) | (lower & 0xffff);
    }
  }
  return { high: high >>> 0, low: low >>> 0 };
}

/** `hashHex` of a text's hash. */
export function textHash(text: string): string {
  return hashHex(fnv64(text));
}

/** Sixteen lower-case hex digits. */
export function hashHex(hash: Hash64): string {
  return hash.high.toString(16).padStart(8, "0") + hash.low.toString(16).padStart(8, "0");
}

/**
 * The hash spread evenly over all its bits, as a number in [0, 1). FNV alone leaves texts that differ at their end close together.
 */
export function hashFraction(hash: Hash64): number {
  return mixedFraction(hash.high, hash.low);
}

/** `hashFraction` of the hash with these halves. HOT: once an endpoint of a choice, so it makes no object. */
export function mixedFraction(upper: number, lower: number): number {
  const low = mix32(lower ^ mix32(upper));
  const high = mix32(upper ^ low);
  return (high * 2 ** 21 + (low >>> 11)) / 2 ** 53;
}

/** MurmurHash3's 32-bit finaliser: spreads a half evenly over all its bits; unsigned. */
export function mix32(value: number): number {
  let x = value | 0;
  x = Math.imul(x ^ (x >>> 16), 0x85ebca6b);
  x = Math.imul(x ^ (x >>> 13), 0xc2b2ae35);
  return (x ^ (x >>> 16)) >>> 0;
}

/**
 * A sum of hashes modulo 2^64. Adding and subtracting commute, so nodes that hold the same set have the same sum, in whatever order its
 * members came and went.
 */
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

/** A place for a text in a table of so many, a power of two, and the hash that it comes from. Texts that share a place must do no harm: anybody can find some. HOT. */
export function tableSlot(text: string, places: number): { readonly place: number; readonly hash: number } {
  let hash = 0;
  for (let i = 0; i < text.length; i++) hash = (Math.imul(hash, 31) + text.charCodeAt(i)) | 0;
  return { place: (hash ^ (hash >>> 12)) & (places - 1), hash };
}
