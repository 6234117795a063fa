/**
 * Which keys a lost origin had entries of when it was forgotten, four bytes a key: a tombstone of any other key ended nothing of it. Two
 * keys of one hash are taken for one, so that a tombstone may be kept in vain, and none is missed.
 */
import { mix32 } from "../../lib/hash64.ts";
import { BODY, type KeyText } from "../record/record.ts";
import { type Origin, type StoredRecord, settledOf } from "../record/stored-record.ts";

/** Keys remembered of one lost origin, 1 MiB; of one with more nothing is known, and every tombstone may have ended something of it. */
export const MAX_LOST_KEYS = 262_144;

export interface LostKeys {
  /** They are those of its entries when it stood there. */
  readonly through: number;
  /** Ascending. */
  readonly hashes: Uint32Array;
}

/** Takes down the keys of an origin while its records go. */
export class KeysLeft {
  readonly #through: number;
  readonly #hashes: Uint32Array;
  #count = 0;

  /** Undefined where not all of its entries are known here, or there are too many. */
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

/** FNV-1a over the key's UTF-16 code units, finished as in MurmurHash3. Part of the protocol: never to be changed. */
export function keyHash(key: KeyText): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < key.length; i++) hash = Math.imul(hash ^ key.charCodeAt(i), 0x01000193);
  return mix32(hash);
}

export function hasHash({ hashes }: LostKeys, hash: number): boolean {
  let [from, to] = [0, hashes.length];
  while (from < to) {
    const middle = (from + to) >>> 1;
    const at = hashes[middle] ?? 0;
    if (at === hash) return true;
    if (at < hash) from = middle + 1;
    else to = middle;
  }
  return false;
}

const HASH_BYTES = 4;

/** Little-endian, as they travel and are kept. */
export function bytesOfKeys({ hashes }: LostKeys): Uint8Array {
  const bytes = new Uint8Array(hashes.length * HASH_BYTES);
  const view = new DataView(bytes.buffer);
  for (const [i, hash] of hashes.entries()) view.setUint32(i * HASH_BYTES, hash, true);
  return bytes;
}

/** Undefined for bytes that are no such list. */
export function keysOfBytes(bytes: Uint8Array, through: number): LostKeys | undefined {
  if (bytes.length % HASH_BYTES !== 0 || bytes.length > MAX_LOST_KEYS * HASH_BYTES) return undefined;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const hashes = Uint32Array.from({ length: bytes.length / HASH_BYTES }, (_, i) => view.getUint32(i * HASH_BYTES, true));
  return { through, hashes: hashes.toSorted() };
}
