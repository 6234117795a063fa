/** The keys of the zones as others see them (RFC 4034, 2; RFC 6605), and what a parent has of them. */
import { sha256 } from "../../lib/crypto.ts";
import { wireName } from "../names/wire-names.ts";
import type { ZoneKey } from "./record.ts";

/** ECDSA with P-256 and SHA-256. */
export const ALGORITHM = 13;
export const PUBLIC_KEY_BYTES = 64;
export const SIGNATURE_BYTES = 64;
/** A zone key that is a secure entry point: it signs the keys and everything else. */
export const KEY_FLAGS = 257;
/** Always this (RFC 4034, 2.1.2). */
export const KEY_PROTOCOL = 3;
export const DIGEST_SHA256 = 2;

export function zoneKey(publicKey: Uint8Array): ZoneKey {
  return { publicKey, keyTag: keyTagOf(keyData(publicKey)) };
}

/** The data of the DNSKEY record. */
function keyData(publicKey: Uint8Array): Uint8Array {
  return Uint8Array.of(KEY_FLAGS >> 8, KEY_FLAGS & 0xff, KEY_PROTOCOL, ALGORITHM, ...publicKey);
}

/** RFC 4034, appendix B. */
function keyTagOf(data: Uint8Array): number {
  let sum = 0;
  for (const [i, byte] of data.entries()) sum += i % 2 === 0 ? byte << 8 : byte;
  return (sum + (sum >>> 16)) & 0xffff;
}

/** The digest of a DS or CDS record for the key of this zone (RFC 4034, 5.1.4). */
export function digestOf(zone: string, { publicKey }: ZoneKey): Uint8Array {
  return sha256(Buffer.concat([wireName(zone), keyData(publicKey)]));
}
