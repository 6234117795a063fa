/** The hashes with which two regions compare what they hold (docs/design/summaries.md, What crosses a border). All versions of the program compute the same. */
import { fnv64, type Hash64, mix32 } from "../lib/hash64.ts";

/** Buckets of a digest. */
export const BUCKETS = 256;

/** The hash of a summary, of which nobody can make one from its name: a neighbour cannot try whether this node holds it. */
export function tagHash(source: string, tag: bigint): Hash64 {
  return fnv64(tag.toString(16), fnv64(`${source}\0`));
}

/** The bucket of such a hash: its first eight bits. */
export function bucketOf({ high }: Hash64): number {
  return high >>> 24;
}

/** The same of a hash as one number. */
export function bucketOfNumber(hash: bigint): number {
  return Number(hash >> 56n);
}

/**
 * What one summary adds to a digest. It is mixed: hashes of FNV of two versions of one key differ by a small number of steps, so that in a sum a key that
 * went ahead here and another that went ahead there would often cancel out.
 */
export function contribution(hash: Hash64, version: number): Hash64 {
  const text = fnv64(String(version), hash);
  const low = mix32(text.low ^ mix32(text.high));
  return { high: mix32(text.high ^ low), low };
}
