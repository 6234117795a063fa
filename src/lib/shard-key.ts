/** The shard of a key. Each client computes it, so `docs/examples/shards/keys.json` has examples that all languages must agree on. */
import { sha256Halves } from "./crypto.ts";

/**
 * Returns floor(count × u / 2⁶⁴), where u is the first 8 bytes, big-endian, of SHA-256(namespace, 0x00, key). A text is its UTF-8 bytes. The namespace
 * must not contain the character 0, and the count must be between 1 and 2²⁰. Costs about 0.5 µs for a text. HOT: runs for each routed call.
 */
export function shardOfKey(namespace: string, count: number, key: string | Uint8Array): number {
  const { high, low } = sha256Halves(
    typeof key === "string" ? `${namespace}\0${key}` : Buffer.concat([Buffer.from(`${namespace}\0`), key]),
  );
  // Exact: the products are below 2^52, and dividing by a power of two does not round them.
  return Math.floor((count * high + Math.floor((count * low) / 2 ** 32)) / 2 ** 32);
}
