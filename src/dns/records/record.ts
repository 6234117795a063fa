/** What the gateway makes of the catalog: records of each type, the settings that they depend on, and the form of a row of the table of types. */

import type { EntryView } from "../../catalog/entry/view.ts";
import { HEALTH } from "../../catalog/record/record.ts";
import type { IpAddress } from "../../lib/addresses.ts";
import type { DnsSubject, DnsView } from "../subject/subject.ts";

export interface RecordData {
  readonly A: { readonly address: IpAddress };
  readonly AAAA: { readonly address: IpAddress };
  readonly SRV: { readonly priority: number; readonly weight: number; readonly port: number; readonly target: string };
  readonly TXT: { readonly strings: readonly string[] };
  readonly CNAME: { readonly target: string };
  readonly NS: { readonly target: string };
  readonly PTR: { readonly target: string };
  readonly SOA: {
    readonly primary: string;
    readonly mailbox: string;
    readonly serial: number;
    readonly refreshSeconds: number;
    readonly retrySeconds: number;
    readonly expireSeconds: number;
    readonly minimumSeconds: number;
  };
  readonly SVCB: BindingData;
  readonly HTTPS: BindingData;
  readonly HINFO: { readonly cpu: string; readonly os: string };
  readonly DNSKEY: KeyData;
  readonly CDNSKEY: KeyData;
  readonly CDS: DigestData;
  readonly DS: DigestData;
  /** `next` is on the wire already, since its labels may have any bytes. */
  readonly NSEC: { readonly next: Uint8Array; readonly types: readonly number[] };
  readonly RRSIG: SignatureData;
}

/** A public key of the zones. */
export interface ZoneKey {
  /** X and Y, 32 bytes each. */
  readonly publicKey: Uint8Array;
  readonly keyTag: number;
}

export interface KeyData {
  readonly flags: number;
  readonly algorithm: number;
  readonly publicKey: Uint8Array;
}

/** The digest of a key of a zone, as the zone above it has it (RFC 4034, 5). */
export interface DigestData {
  readonly keyTag: number;
  readonly algorithm: number;
  readonly digestType: number;
  readonly digest: Uint8Array;
}

/** Data of RRSIG (RFC 4034, 3.1). */
export interface SignatureData {
  /** The type that is signed. */
  readonly covered: number;
  readonly algorithm: number;
  readonly labelCount: number;
  readonly originalTtlSeconds: number;
  /** Seconds since 1970. */
  readonly expiresSeconds: number;
  readonly beginsSeconds: number;
  readonly keyTag: number;
  /** The zone. */
  readonly signer: string;
  readonly signature: Uint8Array;
}

/** Data of SVCB and HTTPS (RFC 9460). What is empty or 0 is not told. */
export interface BindingData {
  /** 0 is the AliasMode. */
  readonly priority: number;
  /** Empty for the owner itself, which is written `.`. */
  readonly target: string;
  /** Keys that a client must understand. */
  readonly mandatory: readonly number[];
  readonly alpn: readonly string[];
  /** Whether the protocol that the type means by itself is not spoken (no-default-alpn). */
  readonly isDefaultAlpnOff: boolean;
  readonly port: number;
  readonly ipv4Hints: readonly IpAddress[];
  readonly ipv6Hints: readonly IpAddress[];
}

export type RecordType = keyof RecordData;

/** One resource record of class IN. `name` is lower-case text without the final dot. */
export type DnsRecord = { readonly [T in RecordType]: RecordOf<T> }[RecordType];
export interface RecordOf<T extends RecordType> {
  readonly type: T;
  readonly name: string;
  readonly ttlSeconds: number;
  readonly data: RecordData[T];
}

/** The settings of the gateway. */
export interface DnsSettings {
  /** Zones as `parseZone` gives them; at least one. Names are written in the first. */
  readonly zones: readonly string[];
  /** Zones of names of addresses, as `parseReverseZone` gives them. */
  readonly reverseZones: readonly string[];
  /** The serving node: the zone's name server is `<nodeId>.node.<zone>`. */
  readonly nodeId: string;
  /** Bounds for the TTL of records that are made from entries. */
  readonly minTtlMs: number;
  readonly maxTtlMs: number;
  /** TTL for entries without one (static leases). */
  readonly defaultTtlMs: number;
  /** Most of the TTL of answers with an ORPHANED entry, or from data that may be old. */
  readonly staleTtlMs: number;
  /** How long clients may keep "no such name" and "no such type". */
  readonly negativeTtlMs: number;
  /** Whether the priority of an SRV record is made of health, distance and its target's priority, or is the target's alone. */
  readonly srvPriority: "health" | "target";
  /** Whether SRV answers contain the targets of all health tiers, or only of the best tier, as A answers do. */
  readonly srvTiers: "all" | "best";
  /** Whether names outside our zones are tried as if the first zone followed them. */
  readonly allowExternalNames: boolean;
  /** The keys of all zones at this time; the first signs. Absent: the zones are not signed. */
  readonly zoneKeys?: (() => readonly ZoneKey[]) | undefined;
}

export interface RecordContext {
  /** The name that the records belong to. */
  readonly owner: string;
  readonly zone: string;
  /** Where the askers are. Undefined without a place. */
  readonly locality: DnsView["locality"];
  readonly settings: DnsSettings;
}

/** Where a row writes its data. Names may be compressed only where RFC 3597 allows it. */
export interface DataWriter {
  u8(value: number): void;
  u16(value: number): void;
  u32(value: number): void;
  bytes(value: Uint8Array): void;
  /** Writes a length octet and at most 255 octets of UTF-8. */
  string(value: string): void;
  name(value: string): void;
  compressedName(value: string): void;
}

export interface RecordRow<T extends RecordType> {
  /** Type number (IANA, DNS parameters). */
  readonly code: number;
  /** Whether names in the data are written in lower case where they are signed (RFC 4034, 6.2 has the list). Absent: no. */
  readonly isFolded?: true;
  /** Whether a set is one of targets, of which a sample will do. Absent: no. */
  readonly isSampled?: true;
  /** The records of this type that the subject has: groups in order of preference, each of which is shuffled for every answer. */
  readonly find: (subject: DnsSubject, context: RecordContext) => readonly (readonly RecordOf<T>[])[];
  readonly write: (data: RecordData[T], out: DataWriter) => void;
  /** Characters and address bytes of the data. A message has about as many, because few names in it are compressed. */
  readonly sizeBytes: (data: RecordData[T]) => number;
  /** Whether the records found are only a part of what there is, so that TC is set. Absent: never. */
  readonly isCut?: (subject: DnsSubject) => boolean;
  /** The host that the data names, if the addresses of that host go along in the additional section. */
  readonly namedHost?: (data: RecordData[T]) => string;
}

// How long clients may keep records.

/** TTL in seconds for the ttl of an entry, within the configured bounds as far as whole seconds are. */
export function ttlSeconds(ttlMs: number | undefined, settings: DnsSettings): number {
  const least = Math.ceil(settings.minTtlMs / 1000);
  return Math.min(Math.max(seconds(ttlMs ?? settings.defaultTtlMs), least), seconds(settings.maxTtlMs));
}

/**
 * One TTL for the whole set (RFC 2181, 5.2): the least of its entries. What remains of a lease does not count, because only one node knows it. Of an ORPHANED entry nobody
 * knows whether it is still there.
 */
export function setTtlSeconds(entries: readonly Pick<EntryView, "health" | "ttlMs">[], settings: DnsSettings): number {
  const stale = seconds(settings.staleTtlMs);
  return Math.min(
    ...entries.map(({ ttlMs, health }) => {
      const own = ttlSeconds(ttlMs, settings);
      return health === HEALTH.ORPHANED ? Math.min(own, stale) : own;
    }),
  );
}

/** Whole seconds, rounded down, so that no answer is kept longer than its entry allows. */
export function seconds(ms: number): number {
  return Math.floor(ms / 1000);
}
