/** The records that the gateway builds from the catalog: the data of each type, the settings, and the definition of a record type. */

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
  /** `next` is in wire format, because its labels can contain any bytes. */
  readonly NSEC: { readonly next: Uint8Array; readonly types: readonly number[] };
  readonly RRSIG: SignatureData;
}

/** A public key used by all zones. */
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

/** The digest of a zone key, as published by the parent zone (RFC 4034, 5). */
export interface DigestData {
  readonly keyTag: number;
  readonly algorithm: number;
  readonly digestType: number;
  readonly digest: Uint8Array;
}

/** Data of RRSIG (RFC 4034, 3.1). */
export interface SignatureData {
  /** The type covered. */
  readonly covered: number;
  readonly algorithm: number;
  readonly labelCount: number;
  readonly originalTtlSeconds: number;
  /** Seconds since 1970. */
  readonly expiresSeconds: number;
  readonly beginsSeconds: number;
  readonly keyTag: number;
  /** The signer's name, which is the zone. */
  readonly signer: string;
  readonly signature: Uint8Array;
}

/** Data of SVCB and HTTPS (RFC 9460). Empty and zero values are omitted from the record. */
export interface BindingData {
  /** 0 means AliasMode. */
  readonly priority: number;
  /** Empty for the owner name itself, which is written as `.`. */
  readonly target: string;
  /** Keys of the mandatory parameters, which clients must understand. */
  readonly mandatory: readonly number[];
  readonly alpn: readonly string[];
  /** Whether the default protocol of the type is not supported (no-default-alpn). */
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
  /**
   * Zones as returned by `parseZone`. There is at least one. The first zone is used for host names in reverse zones, and for names outside all zones.
   */
  readonly zones: readonly string[];
  /** Reverse zones, as returned by `parseReverseZone`. */
  readonly reverseZones: readonly string[];
  /** The serving node. The zone's name server is `<nodeId>.node.<zone>`. */
  readonly nodeId: string;
  /** Bounds for the TTL of records that are built from entries. */
  readonly minTtlMs: number;
  readonly maxTtlMs: number;
  /** TTL for entries without their own TTL (static leases). */
  readonly defaultTtlMs: number;
  /** Maximum TTL of answers with an ORPHANED entry, or with data that may be stale. */
  readonly staleTtlMs: number;
  /** TTL of NXDOMAIN and NODATA answers. */
  readonly negativeTtlMs: number;
  /** Whether an SRV record's priority combines health, distance and the target's priority, or is only the target's priority. */
  readonly srvPriority: "health" | "target";
  /** Whether SRV answers contain targets of all health tiers. Otherwise they contain only the best tier, like A answers. */
  readonly srvTiers: "all" | "best";
  /** Whether names outside our zones are looked up with the first zone appended. */
  readonly allowExternalNames: boolean;
  /** Returns the current keys, which are the same for all zones. The first key signs. If absent, the zones are not signed. */
  readonly zoneKeys?: (() => readonly ZoneKey[]) | undefined;
}

export interface RecordContext {
  /** The owner name of the records. */
  readonly owner: string;
  readonly zone: string;
  /** The location of the clients. Undefined when their location is unknown. */
  readonly locality: DnsView["locality"];
  readonly settings: DnsSettings;
}

/** Writes the data of a record. Names may be compressed only where RFC 3597 allows it. */
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
  /** Type number (IANA, DNS Parameters). */
  readonly code: number;
  /** Whether names in the data are converted to lower case for signing (see the list in RFC 4034, 6.2). Defaults to false. */
  readonly isFolded?: true;
  /** Whether a sample of the RRset is useful, because its records are alternative targets. Defaults to false. */
  readonly isSampled?: true;
  /** Returns the records of this type that the subject has, in groups in order of preference. Each group is shuffled for every response. */
  readonly find: (subject: DnsSubject, context: RecordContext) => readonly (readonly RecordOf<T>[])[];
  readonly write: (data: RecordData[T], out: DataWriter) => void;
  /**
   * Returns the number of characters and address bytes in the data. This number is close to the size in a message, because few names in the data are
   * compressed.
   */
  readonly sizeBytes: (data: RecordData[T]) => number;
  /** Returns whether the records found are incomplete, so that TC is set. If absent, the records are always complete. */
  readonly isCut?: (subject: DnsSubject) => boolean;
  /** Returns the host name in the data for which the additional section provides addresses. */
  readonly namedHost?: (data: RecordData[T]) => string;
}

// TTLs of records.

/** Returns the record TTL, in whole seconds, for the TTL of an entry, within the configured bounds if whole seconds allow. */
export function ttlSeconds(ttlMs: number | undefined, settings: DnsSettings): number {
  const least = Math.ceil(settings.minTtlMs / 1000);
  return Math.min(Math.max(seconds(ttlMs ?? settings.defaultTtlMs), least), seconds(settings.maxTtlMs));
}

/**
 * Returns one TTL for the complete RRset (RFC 2181, 5.2): the lowest TTL of its entries. The remaining lease time is ignored, because only one node knows it.
 * An ORPHANED entry may no longer exist, so its TTL is at most `staleTtlMs`.
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

/** Returns whole seconds, rounded down, so that an answer is never cached longer than its entry allows. */
export function seconds(ms: number): number {
  return Math.floor(ms / 1000);
}
