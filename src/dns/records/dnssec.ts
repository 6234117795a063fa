/** Records of DNSSEC: the keys of a zone and what its parent should have of them. Signatures and denials are made for an answer (`signing/`). */

import type { Subject } from "../subject/subject.ts";
import type { DataWriter, DigestData, DnsSettings, RecordContext, RecordData, RecordOf } from "./record.ts";
import { seconds } from "./ttl.ts";
import { ALGORITHM, DIGEST_SHA256, digestOf, KEY_FLAGS, KEY_PROTOCOL } from "./zone-keys.ts";

/** All keys, if the subject is the zone itself: signatures of each may be in caches. */
export function keyRecords(subject: Subject, { owner, settings }: RecordContext): RecordOf<"DNSKEY">[][] {
  if (subject.kind !== "apex") return [];
  const ttlSeconds = seconds(settings.maxTtlMs);
  const keys = settings.zoneKeys?.() ?? [];
  return [
    keys.map(({ publicKey }) => ({ type: "DNSKEY", name: owner, ttlSeconds, data: { flags: KEY_FLAGS, algorithm: ALGORITHM, publicKey } })),
  ];
}

/** The key that signs, of which the parent should have the digest. */
export function wantedKeyRecords(subject: Subject, { owner, settings }: RecordContext): RecordOf<"CDNSKEY">[][] {
  const [key] = subject.kind === "apex" ? (settings.zoneKeys?.() ?? []) : [];
  if (key === undefined) return [];
  const data = { flags: KEY_FLAGS, algorithm: ALGORITHM, publicKey: key.publicKey };
  return [[{ type: "CDNSKEY", name: owner, ttlSeconds: seconds(settings.maxTtlMs), data }]];
}

/** The digest that the parent should have as DS. */
export function wantedDigestRecords(subject: Subject, { owner, settings }: RecordContext): RecordOf<"CDS">[][] {
  if (subject.kind !== "apex") return [];
  return [digestsOf(owner, settings).map((data) => ({ type: "CDS", name: owner, ttlSeconds: seconds(settings.maxTtlMs), data }))];
}

/** What a zone of ours has of the one that begins in it under this name: the same, as both have these keys. */
export function digestRecords(owner: string, settings: DnsSettings): readonly RecordOf<"DS">[] {
  return digestsOf(owner, settings).map((data) => ({ type: "DS", name: owner, ttlSeconds: seconds(settings.maxTtlMs), data }));
}

/** Of the key that signs. */
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
