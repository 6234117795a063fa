/**
 * The keys of a lost origin's entries when it was forgotten, as hashes of four bytes per key. A tombstone of any other key has ended none of the
 * origin's records. Two keys with the same hash are treated as one, so a tombstone may be kept unnecessarily, but no necessary tombstone is dropped.
 */
import { firstIndex } from "../../lib/bisect.ts";
import { mix32 } from "../../lib/hash64.ts";
import { BODY, type KeyText } from "../record/record.ts";
import { type Origin, type StoredRecord, settledOf } from "../record/stored-record.ts";

/**
 * Maximum number of keys that are remembered for one lost origin; they use 1 MiB. If an origin has more keys, any tombstone may have ended one of its
 * records.
 */
export const MAX_LOST_KEYS = 262_144;

export interface LostKeys {
  /** The origin's seq at the time when it had these keys. */
  readonly through: number;
  /** In ascending order. */
  readonly hashes: Uint32Array;
}

/** Collects the keys of an origin while its records are dropped. */
export class KeysLeft {
  readonly #through: number;
  readonly #hashes: Uint32Array;
  #count = 0;

  /** Creates the collection for an origin. Undefined if this node does not know all entries of the origin, or if there are too many. */
  static of(origin: Origin): KeysLeft | undefined {
    const through = Math.max(origin.through, origin.log.lastOrder);
    return settledOf(origin) < through || origin.log.size > MAX_LOST_KEYS ? undefined : new KeysLeft(through, origin.log.size);
  }

  constructor(through: number, maxCount: number) {
    this.#through = through;
    this.#hashes = new Uint32Array(maxCount);
  }

  add({ key, body }: StoredRecord): void {
    if (body === BODY.ENTRY) this.#hashes[this.#count++] = keyHash(key);
  }

  get all(): LostKeys {
    return { through: this.#through, hashes: this.#hashes.slice(0, this.#count).toSorted() };
  }
}

/**
 * Returns the FNV-1a hash of the key's UTF-16 code units, with the final mix of MurmurHash3. This hash is part of the protocol and must never change.
 */
export function keyHash(key: KeyText): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < key.length; i++) hash = Math.imul(hash ^ key.charCodeAt(i), 0x01000193);
  return mix32(hash);
}

export function hasHash({ hashes }: LostKeys, hash: number): boolean {
  return hashes[firstIndex(hashes.length, (index) => (hashes[index] ?? 0) >= hash)] === hash;
}

const HASH_BYTES = 4;

/** Returns the hashes as little-endian bytes, for messages and files. */
export function bytesOfKeys({ hashes }: LostKeys): Uint8Array {
  const bytes = new Uint8Array(hashes.length * HASH_BYTES);
  const view = new DataView(bytes.buffer);
  for (const [i, hash] of hashes.entries()) view.setUint32(i * HASH_BYTES, hash, true);
  return bytes;
}

/** Parses such bytes. Undefined if the bytes do not encode such a list. */
export function keysOfBytes(bytes: Uint8Array, through: number): LostKeys | undefined {
  if (bytes.length % HASH_BYTES !== 0 || bytes.length > MAX_LOST_KEYS * HASH_BYTES) return undefined;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const hashes = Uint32Array.from({ length: bytes.length / HASH_BYTES }, (_, i) => view.getUint32(i * HASH_BYTES, true));
  return { through, hashes: hashes.toSorted() };
}
