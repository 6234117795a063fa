/** Writes responses from prepared answers (RFC 1035; EDNS, RFC 6891). */

import { RCODE } from "../plan/answer.ts";
import { RECORDS } from "../records/records.ts";
import { CLIENT_COOKIE_BYTES, SERVER_COOKIE_BYTES } from "./cookies.ts";
import {
  MAX_MESSAGE_BYTES,
  MAX_POINTER,
  ownerEnd,
  type Prepared,
  type PreparedGlue,
  type PreparedGroup,
  type PreparedRecord,
} from "./prepared.ts";
import { HEADER_BYTES, OPTION, type Query, TYPE_OPT } from "./query.ts";

/** The OPT record of a response without options: root name, type, size, flags, length. */
const OPT_BYTES = 11;
const OPTION_HEAD_BYTES = 4;
const SOA_NUMBERS_BYTES = 20;
/** A pointer as owner, type, class, TTL and length. */
const SIGNATURE_HEAD_BYTES = 12;
/** Largest UDP answer that every network path carries in one piece (RFC 9715). */
const MAX_UDP_BYTES = 1232;
/** Largest UDP answer without EDNS (RFC 1035, 4.2.1). */
const MIN_UDP_BYTES = 512;
const EXTENDED_ERROR_BYTES = OPTION_HEAD_BYTES + 2;
const KEEPALIVE_BYTES = OPTION_HEAD_BYTES + 2;
/** Padded answers have a multiple of this size, so that it tells little of what they are about (RFC 8467, 4.1). */
const PADDED_BYTES = 468;
/** Pieces up to this size are copied faster by a loop than by a call. */
const LOOP_BYTES = 64;
/** Responses over UDP are slices of one buffer, until it is full. */
const SLAB_BYTES = 1 << 16;

/** `dot` is DNS over TLS. */
export type DnsTransport = "udp" | "tcp" | "dot";

/** The largest response in bytes for a transport and the OPT record of the query. */
export function responseLimitBytes(transport: DnsTransport, query: Pick<Query, "hasEdns" | "udpSizeBytes">): number {
  if (transport !== "udp") return MAX_MESSAGE_BYTES;
  return query.hasEdns ? Math.min(Math.max(query.udpSizeBytes, MIN_UDP_BYTES), MAX_UDP_BYTES) : MIN_UDP_BYTES;
}

/** What a response says besides its plan. One object serves all responses. */
export interface ResponseFacts {
  limitBytes: number;
  /** Has no records and sets TC whatever fits, so that the client asks again over TCP. */
  isCut: boolean;
  /** Most records of the set that is asked for; undefined for all. The others are drawn by weight. */
  answerLimit: number | undefined;
  /** Of the zone in this moment: plans are kept for longer than a version of it. Undefined: that of the plan. */
  serial: number | undefined;
  /** The data of the signature of SOA with that serial, if the plan is signed and has SOA. */
  soaSignature: Uint8Array | undefined;
  /** Whether a signed NXDOMAIN is NOERROR, because its denial says it (RFC 9824, 5). */
  isCompact: boolean;
  /** The bits of the query's flags that the response has too. */
  copiedFlags: number;
  /** RFC 8914. */
  extendedError: number | undefined;
  /** The server's cookie, if the query has a client's cookie. */
  readonly cookie: Uint8Array;
  /** Where everybody has the same view, for a query with a client subnet. */
  scopePrefix: number;
  /** How long a connection may be quiet, in tenths of a second (RFC 7828); undefined where it is not said. */
  keepalive: number | undefined;
  /** Whether the response is padded (RFC 7830). */
  isPadded: boolean;
  /** Whether caches may not keep that something does not exist, because a subnet decided it (RFC 7871, 7.4). */
  isUncached: boolean;
}

export class ResponseWriter {
  readonly #random: () => number;
  #slab = Buffer.allocUnsafeSlow(SLAB_BYTES);
  #slabAt = 0;
  readonly #large = Buffer.alloc(MAX_MESSAGE_BYTES);
  #out: Uint8Array = this.#slab;
  /** Where the message begins in `#out`. */
  #start = 0;
  #at = 0;
  /** Where it must end. */
  #limit = 0;
  #count = 0;
  #response = 0;
  /** Of the last response. */
  isTruncated = false;
  /** Glue of the response and where its hosts are in it; 0 for nowhere. */
  readonly #glue: PreparedGlue[] = [];
  readonly #hostAts: number[] = [];

  /** `random` gives numbers in [0, 1), and draws the order of records. */
  constructor(random: () => number) {
    this.#random = random;
  }

  /**
   * Writes a response. Additional records that do not fit are left out, and TC is set when the answer or authority section is not whole (RFC 2181, 9). A cut
   * answer has at least one record, if any fits. The bytes stay as they are.
   */
  write(query: Query, prepared: Prepared, facts: ResponseFacts): Uint8Array {
    const optBytes = query.hasEdns ? optSizeOf(query, facts) : 0;
    this.#begin(facts.limitBytes);
    this.#limit -= optBytes;
    this.#copyFrom(query.bytes, HEADER_BYTES, query.questionEnd);
    this.#count = 0;
    this.#response++;
    this.#glue.length = 0;
    this.#hostAts.length = 0;
    const isWhole = !facts.isCut && this.#groups(prepared.groups, facts) && !prepared.isPart;
    const isAuthorityWhole = isWhole && this.#authority(prepared, facts);
    if (prepared.isSigned && !isAuthorityWhole) this.#drop(query);
    const answers = this.#count;
    this.isTruncated = !isAuthorityWhole;
    const additional = isAuthorityWhole && prepared.hasGlue ? this.#additional() : 0;
    this.#limit += optBytes;
    const isDenied = facts.isCompact && prepared.isSigned && prepared.rcode === RCODE.NXDOMAIN;
    const rcode = isDenied ? RCODE.NOERROR : prepared.rcode;
    if (query.hasEdns) this.#opt(query, rcode, facts, optBytes + (facts.isPadded ? this.#paddingBytes(optBytes) : 0));
    const end = this.#at;
    this.#at = this.#start;
    this.#u16(query.id);
    const authoritative = prepared.isAuthoritative && !facts.isCut ? 0x0400 : 0;
    this.#u16(0x8000 | (query.flags & facts.copiedFlags) | authoritative | (this.isTruncated ? 0x0200 : 0) | (rcode & 0xf));
    this.#u16(query.hasQuestion ? 1 : 0);
    this.#u16(answers);
    const signatures = prepared.soaAt > 0 && facts.soaSignature !== undefined ? 1 : 0;
    this.#u16(isAuthorityWhole ? prepared.authorityCount + signatures : 0);
    this.#u16(additional + (query.hasEdns ? 1 : 0));
    return this.#finish(end);
  }

  #begin(limitBytes: number): void {
    if (limitBytes > MAX_UDP_BYTES) {
      this.#out = this.#large;
      this.#start = 0;
    } else {
      if (this.#slabAt + limitBytes > SLAB_BYTES) {
        this.#slab = Buffer.allocUnsafeSlow(SLAB_BYTES);
        this.#slabAt = 0;
      }
      this.#out = this.#slab;
      this.#start = this.#slabAt;
    }
    this.#at = this.#start + HEADER_BYTES;
    this.#limit = this.#start + limitBytes;
  }

  #finish(end: number): Uint8Array {
    if (this.#out === this.#large) return Buffer.from(this.#large.subarray(0, end));
    this.#slabAt = end;
    return this.#slab.subarray(this.#start, end);
  }

  /** Writes the groups, each in a new order. Returns whether they are whole. */
  #groups(groups: readonly PreparedGroup[], { answerLimit, serial, soaSignature }: ResponseFacts): boolean {
    let isWhole = true;
    let hasOne = false;
    let left = answerLimit ?? Number.POSITIVE_INFINITY;
    for (const { records, isChain, isSampled } of groups) {
      const wanted = isSampled ? Math.min(left, records.length) : records.length;
      if (wanted < records.length) this.#sample(records, wanted);
      for (let i = 0; i < wanted; i++) {
        const record = this.#draw(records, i, wanted);
        if (this.#at + record.sizeBytes > this.#limit) {
          isWhole = false;
          // One of the others may be smaller. Nothing may follow a chain that is broken.
          if (hasOne || isChain) return false;
          continue;
        }
        this.#noteGlue(record);
        const at = this.#at;
        this.#copy(record.bytes);
        this.#count++;
        if (record.isSoa) {
          this.#serial(serial);
          if (soaSignature !== undefined && !this.#soaSignature(soaSignature, at, at + ownerEnd(record.bytes))) return false;
          if (soaSignature !== undefined) this.#count++;
        }
        if (!isChain) hasOne = true;
        if (!isWhole) return false;
      }
      if (isSampled) left -= wanted;
    }
    return isWhole;
  }

  /** The next record of a random order (Fisher and Yates), of which those before `i` were drawn. */
  #draw(records: PreparedRecord[], i: number, end: number): PreparedRecord {
    const record = records[i];
    const j = end - 1 - Math.floor(this.#random() * (end - i));
    const other = records[j];
    if (record === undefined || other === undefined) throw new RangeError("a draw outside of its group");
    records[j] = record;
    records[i] = other;
    return other;
  }

  /** Puts a sample of so many to the front: each next one is drawn by weight, or evenly where no weight is left. */
  #sample(records: PreparedRecord[], wanted: number): void {
    let total = records.reduce((sum, { weight }) => sum + weight, 0);
    for (let i = 0; i < wanted; i++) {
      if (total === 0) {
        this.#draw(records, i, records.length);
        continue;
      }
      let left = Math.floor(this.#random() * total);
      let j = i;
      while (j < records.length - 1 && left >= (records[j]?.weight ?? 0)) left -= records[j++]?.weight ?? 0;
      const [record, other] = [records[i], records[j]];
      if (record === undefined || other === undefined) return;
      records[i] = other;
      records[j] = record;
      total -= other.weight;
    }
  }

  #noteGlue({ glue, hostAt }: PreparedRecord): void {
    if (glue === undefined || glue.response === this.#response) return;
    glue.response = this.#response;
    this.#glue.push(glue);
    this.#hostAts.push(hostAt === 0 ? 0 : this.#at - this.#start + hostAt);
  }

  /** Half an authority section would say something else. */
  #authority(
    { authority, authorityCount, soaAt, soaStart, ttlAts }: Prepared,
    { isUncached, serial, soaSignature }: ResponseFacts,
  ): boolean {
    if (authorityCount === 0) return true;
    if (this.#at + authority.length > this.#limit) return false;
    const at = this.#at;
    this.#copy(authority);
    if (soaAt === 0) return true;
    // Behind type and class, and at the end of the data: the TTL, and the least TTL of what does not exist.
    if (isUncached) {
      this.#out.fill(0, at + soaAt + 4, at + soaAt + 8);
      this.#out.fill(0, this.#at - 4, this.#at);
      for (const ttlAt of ttlAts) this.#out.fill(0, at + ttlAt, at + ttlAt + 4);
    }
    this.#serial(serial);
    return soaSignature === undefined || this.#soaSignature(soaSignature, at + soaStart, at + soaAt);
  }

  /** Writes the signature of the SOA record that begins at `start`, with its TTL. Returns whether there was room. */
  #soaSignature(data: Uint8Array, start: number, ownerEndAt: number): boolean {
    if (this.#at + SIGNATURE_HEAD_BYTES + data.length > this.#limit || start - this.#start > MAX_POINTER) return false;
    this.#u16(0xc000 | (start - this.#start));
    this.#u16(RECORDS.RRSIG.code);
    // Behind the type: the class and the TTL.
    this.#copyFrom(this.#out, ownerEndAt + 2, ownerEndAt + 8);
    this.#u16(data.length);
    this.#copy(data);
    return true;
  }

  /** Takes back what was written behind the question. */
  #drop({ questionEnd }: Query): void {
    this.#at = this.#start + questionEnd;
    this.#count = 0;
    this.#glue.length = 0;
    this.#hostAts.length = 0;
  }

  /** Puts the serial into the SOA record that was just written: it is the first of the five numbers at its end. */
  #serial(serial: number | undefined): void {
    if (serial === undefined) return;
    const end = this.#at;
    this.#at = end - SOA_NUMBERS_BYTES;
    this.#u16(serial >>> 16);
    this.#u16(serial & 0xffff);
    this.#at = end;
  }

  /** Writes the addresses of the hosts that the answer names, until those of one do not fit. Returns how many. */
  #additional(): number {
    let count = 0;
    for (let i = 0; i < this.#glue.length; i++) {
      const glue = this.#glue[i];
      const hostAt = this.#hostAts[i] ?? 0;
      if (glue === undefined) return count;
      const isPointer = hostAt > 0 && hostAt <= MAX_POINTER;
      const sizeBytes = isPointer ? glue.sizeBytes : glue.sizeBytes + glue.tails.length * (glue.owner.length - 2);
      if (this.#at + sizeBytes > this.#limit) return count;
      for (const tail of glue.tails) {
        if (isPointer) this.#u16(0xc000 | hostAt);
        else this.#copy(glue.owner);
        this.#copy(tail);
        count++;
      }
    }
    return count;
  }

  /** What is missing to a whole multiple, behind an OPT record of this size. */
  #paddingBytes(optBytes: number): number {
    const end = this.#at + optBytes;
    const sizeBytes = end - this.#start;
    return Math.min(this.#limit - end, Math.ceil(sizeBytes / PADDED_BYTES) * PADDED_BYTES - sizeBytes);
  }

  /** `optBytes`: the size of the whole record. What its options do not need is padding. */
  #opt(query: Query, rcode: number, facts: ResponseFacts, optBytes: number): void {
    this.#u8(0);
    this.#u16(TYPE_OPT);
    this.#u16(MAX_UDP_BYTES);
    this.#u8(rcode >> 4);
    this.#u8(0);
    // DO comes back as it was, although nothing is signed (RFC 3225, 3).
    this.#u16(query.isDnssecOk ? 0x8000 : 0);
    const end = this.#at + 2 + optBytes - OPT_BYTES;
    this.#u16(optBytes - OPT_BYTES);
    if (query.cookieBytes > 0) {
      this.#option(OPTION.COOKIE, CLIENT_COOKIE_BYTES + SERVER_COOKIE_BYTES);
      this.#copyFrom(query.bytes, query.cookieAt, query.cookieAt + CLIENT_COOKIE_BYTES);
      this.#copy(facts.cookie);
    }
    if (query.subnetBytes > 0) {
      this.#option(OPTION.CLIENT_SUBNET, query.subnetBytes);
      const at = this.#at;
      this.#copyFrom(query.bytes, query.subnetAt, query.subnetAt + query.subnetBytes);
      this.#out[at + 3] = facts.scopePrefix;
    }
    if (facts.keepalive !== undefined) {
      this.#option(OPTION.KEEPALIVE, 2);
      this.#u16(facts.keepalive);
    }
    if (facts.extendedError !== undefined) {
      this.#option(OPTION.EXTENDED_ERROR, 2);
      this.#u16(facts.extendedError);
    }
    if (!facts.isPadded) return;
    this.#option(OPTION.PADDING, end - this.#at - OPTION_HEAD_BYTES);
    this.#out.fill(0, this.#at, end);
    this.#at = end;
  }

  #option(code: number, lengthBytes: number): void {
    this.#u16(code);
    this.#u16(lengthBytes);
  }

  #u8(value: number): void {
    this.#out[this.#at++] = value;
  }

  #u16(value: number): void {
    this.#out[this.#at++] = value >> 8;
    this.#out[this.#at++] = value;
  }

  #copy(piece: Uint8Array): void {
    if (piece.length > LOOP_BYTES) {
      this.#out.set(piece, this.#at);
      this.#at += piece.length;
    } else this.#copyFrom(piece, 0, piece.length);
  }

  // HOT: once a record. A loop copies 16 bytes in the third of the time of a call (bench/dns.ts).
  #copyFrom(piece: Uint8Array, start: number, end: number): void {
    const out = this.#out;
    let at = this.#at;
    for (let i = start; i < end; i++) out[at++] = piece[i] ?? 0;
    this.#at = at;
  }
}

function optSizeOf(query: Query, facts: ResponseFacts): number {
  let size = OPT_BYTES;
  if (query.cookieBytes > 0) size += OPTION_HEAD_BYTES + CLIENT_COOKIE_BYTES + SERVER_COOKIE_BYTES;
  if (query.subnetBytes > 0) size += OPTION_HEAD_BYTES + query.subnetBytes;
  if (facts.keepalive !== undefined) size += KEEPALIVE_BYTES;
  if (facts.extendedError !== undefined) size += EXTENDED_ERROR_BYTES;
  if (facts.isPadded) size += OPTION_HEAD_BYTES;
  return size;
}
