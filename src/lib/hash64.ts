/**
 * 64-bit hashes (FNV-1a) and sums of hashes, which are the same on every node. They are not suitable for protecting secrets or preventing forgeries.
 */

export interface Hash64 {
  /** The upper and lower 32 bits, unsigned. */
  readonly high: number;
  readonly low: number;
}

const START: Hash64 = { high: 0xcbf29ce4, low: 0x84222325 };

/** FNV's prime is 2^40 + 0x1b3. Its square modulo 2^64 is 0x366 × 2^40 + 0x2e329. */
const [PRIME, SQUARE_UPPER, SQUARE] = [0x1b3, 0x366, 0x2e329];

/**
 * Hash of the text's UTF-16 code units, starting with the low byte of each. To hash several texts, it can continue from another hash. HOT: runs for
 * each query. The upper byte of most units is 0 and changes no bit, so that one multiplication by the prime's square is enough.
 */
export function fnv64(text: string, from: Hash64 = START): Hash64 {
  let high = from.high | 0;
  let low = from.low | 0;
  for (let i = 0; i < text.length; i += 1) {
    const unit = text.charCodeAt(i);
    low ^= unit & 0xff;
    if (unit > 0xff) {
      high = upperHalf(high, low, 1, PRIME);
      low = Math.imul(low, PRIME) ^ (unit >>> 8);
      high = upperHalf(high, low, 1, PRIME);
      low = Math.imul(low, PRIME);
    } else {
      high = upperHalf(high, low, SQUARE_UPPER, SQUARE);
      low = Math.imul(low, SQUARE);
    }
  }
  return { high: high >>> 0, low: low >>> 0 };
}

/** The upper half of the product of a hash and `upper * 2^40 + lower`. The product of `low` and `lower` is below 2^53, so it is exact. */
function upperHalf(high: number, low: number, upper: number, lower: number): number {
  return (Math.imul(high, lower) + ((((low >>> 0) * lower) / 2 ** 32) | 0) + (Math.imul(low, upper) << 8)) | 0;
}

/** The hash of a text, formatted like the result of `hashHex`. */
export function textHash(text: string): string {
  return hashHex(fnv64(text));
}

/** Each byte as two hex digits. */
const HEX = Array.from({ length: 256 }, (_, byte) => byte.toString(16).padStart(2, "0"));

/** The hash as sixteen hex digits in lower case. HOT: runs for each query; `toString(16)` would cost five times as much. */
export function hashHex({ high, low }: Hash64): string {
  return halfHex(high) + halfHex(low);
}

function halfHex(half: number): string {
  return `${HEX[half >>> 24]}${HEX[(half >>> 16) & 0xff]}${HEX[(half >>> 8) & 0xff]}${HEX[half & 0xff]}`;
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
