/**
 * 64-bit hashes (FNV-1a) and sums of hashes, which are the same on every node. They are not suitable for protecting secrets or preventing forgeries.
 */

export interface Hash64 {
  /** The upper and lower 32 bits, unsigned. */
  readonly high: number;
  readonly low: number;
}

const START: Hash64 = { high: 0xcbf29ce4, low: 0x84222325 };

/**
 * Hash of the text's UTF-16 code units, starting with the low byte of each. To hash several texts, it can continue from another hash. HOT: runs for
 * each query.
 */
export function fnv64(text: string, from: Hash64 = START): Hash64 {
  let high = from.high | 0;
  let low = from.low | 0;
  for (let i = 0; i < text.length; i += 1) {
    const unit = text.charCodeAt(i);
    for (let n = 0, byte = unit & 0xff; n < 2; n += 1, byte = unit >>> 8) {
      low ^= byte;
      // Multiplies by 2^40 + 0x1b3, modulo 2^64, in 32-bit halves. The lower half is split into 16-bit halves, so that every number stays small.
      const lower = (low & 0xffff) * 0x1b3;
      const upper = (low >>> 16) * 0x1b3 + (lower >>> 16);
      high = (Math.imul(high, 0x1b3) + (upper >>> 16) + (low << 8)) | 0;
      low = (upper << 16) | (lower & 0xffff);
    }
  }
  return { high: high >>> 0, low: low >>> 0 };
}

/** The hash of a text, formatted like the result of `hashHex`. */
export function textHash(text: string): string {
  return hashHex(fnv64(text));
}

/** The hash as sixteen hex digits in lower case. */
export function hashHex(hash: Hash64): string {
  return hash.high.toString(16).padStart(8, "0") + hash.low.toString(16).padStart(8, "0");
}

/**
 * The hash as a number in [0, 1), distributed evenly over all its bits. With FNV alone, texts that differ only at their end have hashes close
 * together.
 */
export function hashFraction(hash: Hash64): number {
  return mixedFraction(hash.high, hash.low);
}

/** Like `hashFraction`, for a hash with these halves. HOT: runs for each endpoint of a choice, so it does not create objects. */
export function mixedFraction(upper: number, lower: number): number {
  const low = mix32(lower ^ mix32(upper));
  const high = mix32(upper ^ low);
  return (high * 2 ** 21 + (low >>> 11)) / 2 ** 53;
}

/** MurmurHash3's 32-bit finalizer, which distributes a half evenly over all its bits. The result is unsigned. */
export function mix32(value: number): number {
  let x = value | 0;
  x = Math.imul(x ^ (x >>> 16), 0x85ebca6b);
  x = Math.imul(x ^ (x >>> 13), 0xc2b2ae35);
  return (x ^ (x >>> 16)) >>> 0;
}

/**
 * A sum of hashes modulo 2^64. The order of additions and subtractions does not matter, so nodes with the same set have the same sum, in whatever
 * order its members were added and removed.
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

/**
 * A slot for a text in a table whose size is a power of two, and the hash from which the slot is computed. Texts with the same slot must not cause
 * any harm, because such texts are easy to find. HOT.
 */
export function tableSlot(text: string, places: number): { readonly place: number; readonly hash: number } {
  let hash = 0;
  for (let i = 0; i < text.length; i++) hash = (Math.imul(hash, 31) + text.charCodeAt(i)) | 0;
  return { place: (hash ^ (hash >>> 12)) & (places - 1), hash };
}
