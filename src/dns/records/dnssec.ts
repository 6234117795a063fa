/**
 * DNSSEC key records of a zone, and their digests for the parent zone. Signatures and denials are created separately for each answer (`signing/`).
 */

import { sha256 } from "../../lib/crypto.ts";
import { wireName } from "../names/wire-names.ts";
import type { DnsSubject } from "../subject/subject.ts";
import {
  type DataWriter,
  type DigestData,
  type DnsSettings,
  type RecordContext,
  type RecordData,
  type RecordOf,
  seconds,
  type ZoneKey,
} from "./record.ts";

/** Returns all DNSKEY records if the subject is the zone apex. A replaced key stays published, because caches may contain its signatures. */
export function keyRecords(subject: DnsSubject, { owner, settings }: RecordContext): RecordOf<"DNSKEY">[][] {
  if (subject.kind !== "apex") return [];
  const ttlSeconds = seconds(settings.maxTtlMs);
  const keys = settings.zoneKeys?.() ?? [];
  return [
    keys.map(({ publicKey }) => ({ type: "DNSKEY", name: owner, ttlSeconds, data: { flags: KEY_FLAGS, algorithm: ALGORITHM, publicKey } })),
  ];
}

/** Returns the signing key, whose digest the parent zone should publish. */
export function wantedKeyRecords(subject: DnsSubject, { owner, settings }: RecordContext): RecordOf<"CDNSKEY">[][] {
  const [key] = subject.kind === "apex" ? (settings.zoneKeys?.() ?? []) : [];
  if (key === undefined) return [];
  const data = { flags: KEY_FLAGS, algorithm: ALGORITHM, publicKey: key.publicKey };
  return [[{ type: "CDNSKEY", name: owner, ttlSeconds: seconds(settings.maxTtlMs), data }]];
}

/** Returns the digest that the parent zone should publish as DS. */
export function wantedDigestRecords(subject: DnsSubject, { owner, settings }: RecordContext): RecordOf<"CDS">[][] {
  if (subject.kind !== "apex") return [];
  return [digestsOf(owner, settings).map((data) => ({ type: "CDS", name: owner, ttlSeconds: seconds(settings.maxTtlMs), data }))];
}

/** Returns the DS records of a child zone that this gateway also serves. Their digest is computed from our own keys, which all zones share. */
export function digestRecords(owner: string, settings: DnsSettings): readonly RecordOf<"DS">[] {
  return digestsOf(owner, settings).map((data) => ({ type: "DS", name: owner, ttlSeconds: seconds(settings.maxTtlMs), data }));
}

/** Returns the digests of the signing key. */
function digestsOf(zone: string, { zoneKeys }: DnsSettings): readonly DigestData[] {
  const [key] = zoneKeys?.() ?? [];
  if (key === undefined) return [];
  return [{ keyTag: key.keyTag, algorithm: ALGORITHM, digestType: DIGEST_SHA256, digest: digestOf(zone, key) }];
}

export function writeKey({ flags, algorithm, publicKey }: RecordData["DNSKEY"], out: DataWriter): void {
  out.u16(flags);
  out.u8(KEY_PROTOCOL);
  out.u8(algorithm);
  out.bytes(publicKey);
}

export function writeDigest({ keyTag, algorithm, digestType, digest }: DigestData, out: DataWriter): void {
  out.u16(keyTag);
  out.u8(algorithm);
  out.u8(digestType);
  out.bytes(digest);
}

export function writeSignature(data: RecordData["RRSIG"], out: DataWriter): void {
  out.u16(data.covered);
  out.u8(data.algorithm);
  out.u8(data.labelCount);
  out.u32(data.originalTtlSeconds);
  out.u32(data.expiresSeconds);
  out.u32(data.beginsSeconds);
  out.u16(data.keyTag);
  // Never compressed (RFC 4034, 3.1.7).
  out.name(data.signer);
  out.bytes(data.signature);
}

// The public zone keys in wire format (RFC 4034, 2; RFC 6605), and their digests for the parent.

/** ECDSAP256SHA256 (ECDSA with P-256 and SHA-256). */
export const ALGORITHM = 13;
export const PUBLIC_KEY_BYTES = 64;
export const SIGNATURE_BYTES = 64;
/** Zone Key and Secure Entry Point (SEP) flags: a combined signing key, which signs the DNSKEY RRset and all other RRsets. */
const KEY_FLAGS = 257;
/** Always 3 (RFC 4034, 2.1.2). */
const KEY_PROTOCOL = 3;
const DIGEST_SHA256 = 2;

export function zoneKey(publicKey: Uint8Array): ZoneKey {
  return { publicKey, keyTag: keyTagOf(keyData(publicKey)) };
}

/** Returns the data of the DNSKEY record. */
function keyData(publicKey: Uint8Array): Uint8Array {
  return Uint8Array.of(KEY_FLAGS >> 8, KEY_FLAGS & 0xff, KEY_PROTOCOL, ALGORITHM, ...publicKey);
}

/** Returns the key tag of a DNSKEY (RFC 4034, appendix B). */
function keyTagOf(data: Uint8Array): number {
  let sum = 0;
  for (const [i, byte] of data.entries()) sum += i % 2 === 0 ? byte << 8 : byte;
  return (sum + (sum >>> 16)) & 0xffff;
}

/** Returns the digest of a zone key for a DS or CDS record (RFC 4034, 5.1.4). */
function digestOf(zone: string, { publicKey }: ZoneKey): Uint8Array {
  return sha256(Buffer.concat([wireName(zone), keyData(publicKey)]));
}
