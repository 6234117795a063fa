/** Hashes. Only this pure file may import node:crypto, because its results depend on nothing but the arguments. */
import { createHmac, hash, timingSafeEqual } from "node:crypto";
import type { Hash64 } from "./hash64.ts";

/** SHA-256 of UTF-8 text or bytes. */
export function sha256(data: string | Uint8Array): Uint8Array {
  return hash("sha256", data, "buffer");
}

/** SHA-256 of UTF-8 text or bytes, in lower-case hexadecimal digits. */
export function sha256Hex(data: string | Uint8Array): string {
  return hash("sha256", data, "hex");
}

/** First 8 bytes of SHA-256, big-endian, in two unsigned halves: adding such halves is cheaper than adding bigints. */
export function sha256Halves(text: string): Hash64 {
  const digest = hash("sha256", text, "buffer");
  return { high: digest.readUInt32BE(0), low: digest.readUInt32BE(4) };
}

/** Whether two secrets are equal, in time that does not depend on where they differ. */
export function equalSecrets(a: string | Uint8Array, b: string | Uint8Array): boolean {
  return timingSafeEqual(sha256(a), sha256(b));
}

export type HmacAlgorithm = "hmac-sha256" | "hmac-sha384" | "hmac-sha512";

/** The HMAC of the parts, one after the other. */
export function hmac(algorithm: HmacAlgorithm, secret: Uint8Array, parts: readonly Uint8Array[]): Uint8Array {
  const made = createHmac(algorithm.slice("hmac-".length), secret);
  for (const part of parts) made.update(part);
  return made.digest();
}
