/**
 * Parses queries (RFC 1035) with the options of their OPT record (RFC 6891) in one pass over the bytes. One object is reused for all queries, because
 * allocating objects per query took a tenth of the time of an answer.
 */
import { MAX_LABEL_BYTES } from "../names/labels.ts";
import { MAX_NAME_BYTES, readName, skipName } from "../names/wire-names.ts";
import { plannedType, type QueryQuestion, RCODE, type Rcode } from "../plan/answer.ts";
import type { ClientSubnet } from "../views/query-client.ts";
import { CLIENT_COOKIE_BYTES } from "./cookies.ts";
import { TYPE_TSIG } from "./tsig.ts";

export const HEADER_BYTES = 12;
export const TYPE_OPT = 41;
const TYPE_SOA = 6;
/** EDNS option codes (IANA, DNS Parameters). */
export const OPTION = { CLIENT_SUBNET: 8, COOKIE: 10, KEEPALIVE: 11, PADDING: 12, EXTENDED_ERROR: 15 } as const;
const OPCODE_QUERY = 0;
const NO_BYTES = new Uint8Array();
/** A server cookie has 8 to 32 bytes and follows the 8-byte client cookie. */
const MIN_COOKIE_PAIR_BYTES = 16;
const MAX_COOKIE_PAIR_BYTES = 40;
/** SOA data contains two names and then five numbers, the first of which is the serial. */
const SOA_NUMBERS_BYTES = 20;
const MIN_SOA_BYTES = SOA_NUMBERS_BYTES + 2;

export class DnsQuery {
  bytes: Uint8Array = NO_BYTES;
  id = 0;
  /** Bytes 2 and 3 of the header. */
  flags = 0;
  /**
   * NOERROR if the query is valid. A valid query without a question then receives only a cookie. If the query is invalid, the response code that
   * refuses it.
   */
  rcode: Rcode = RCODE.NOERROR;
  /** End of the question, which the response repeats with the same case, or 12 without a question. */
  questionEnd = HEADER_BYTES;
  type = 0;
  class = 0;
  hasEdns = false;
  udpSizeBytes = 0;
  version = 0;
  isDnssecOk = false;
  /** Whether the client understands NXDOMAIN with a compact denial (the CO flag; RFC 9824, 5). */
  isCompactOk = false;
  /** Position of the client cookie, and the total length of the client and server cookies. Both are 0 without cookies. */
  cookieAt = 0;
  cookieBytes = 0;
  /** Position and length of the client subnet data. Both are 0 without a client subnet. */
  subnetAt = 0;
  subnetBytes = 0;
  subnet: ClientSubnet | undefined = undefined;
  hasKeepalive = false;
  hasPadding = false;
  /** Position of the TSIG record, which is the last record of the message (RFC 8945), or 0 without TSIG. */
  tsigAt = 0;
  /** The serial in the SOA record of the authority section, which is the secondary server's current version (RFC 1995, 3). */
  knownSerial: number | undefined = undefined;

  readonly #lower = Buffer.alloc(MAX_NAME_BYTES + 6);

  get hasQuestion(): boolean {
    return this.questionEnd > HEADER_BYTES;
  }

  /**
   * Parses a message. Returns false for a message that must not be answered: one without a complete header, or a response, because answering responses causes
   * loops. HOT: runs per packet.
   */
  read(bytes: Uint8Array): boolean {
    this.#reset(bytes);
    if (bytes.length < HEADER_BYTES) return false;
    this.id = u16(bytes, 0);
    this.flags = u16(bytes, 2);
    if (this.flags >= 0x8000) return false;
    if (((this.flags >> 11) & 0xf) !== OPCODE_QUERY) {
      this.#readOther();
      return true;
    }
    const questionCount = u16(bytes, 4);
    // A query must have at most one question and no answers, because more have no defined meaning (RFC 9619). A query without a question can request
    // a cookie (RFC 7873, 5.4).
    if (questionCount > 1 || u16(bytes, 6) !== 0) return this.#malformed();
    const nameEnd = questionCount === 0 ? HEADER_BYTES : this.#readName();
    if (nameEnd < 0 || nameEnd + 4 * questionCount > bytes.length) return this.#malformed();
    const end = nameEnd + 4 * questionCount;
    if (questionCount === 1) {
      this.type = u16(bytes, nameEnd);
      this.class = u16(bytes, nameEnd + 2);
      const lower = this.#lower;
      for (let i = nameEnd; i < end; i++) lower[i - HEADER_BYTES] = bytes[i] ?? 0;
      this.questionEnd = end;
      if (this.type === TYPE_OPT) return this.#malformed();
    }
    if (!this.#readRest(end, u16(bytes, 8), u16(bytes, 10))) return this.#malformed();
    if (questionCount === 0 && this.cookieBytes === 0 && this.rcode === RCODE.NOERROR) this.rcode = RCODE.FORMERR;
    return true;
  }

  /** Returns the key of the plan for `question`, as `planKey` builds it. Must be called only for a query with a question. HOT: runs per query. */
  planKey(viewIndex: number, isSigned: boolean): string {
    const end = this.questionEnd - HEADER_BYTES;
    const type = plannedType(this.type);
    this.#lower[end - 4] = type >> 8;
    this.#lower[end - 3] = type;
    this.#lower[end] = viewIndex;
    this.#lower[end + 1] = 1;
    return this.#lower.toString("latin1", 0, end + (isSigned ? 2 : 1));
  }

  /** Changes the question type to SOA. The response still repeats the original question. */
  askForSoa(): void {
    this.type = TYPE_SOA;
  }

  /** Returns the question as text, with the type under which it is planned. Must be called only for a query with a question. */
  question(): QueryQuestion {
    const { name = "" } = readName(this.bytes, HEADER_BYTES, { mayPoint: false }) ?? {};
    return { name, type: plannedType(this.type), class: this.class };
  }

  #reset(bytes: Uint8Array): void {
    this.bytes = bytes;
    this.rcode = RCODE.NOERROR;
    this.questionEnd = HEADER_BYTES;
    this.type = 0;
    this.class = 0;
    this.#forgetEdns();
  }

  #forgetEdns(): void {
    this.hasEdns = false;
    this.udpSizeBytes = 0;
    this.version = 0;
    this.isDnssecOk = false;
    this.isCompactOk = false;
    this.cookieAt = 0;
    this.cookieBytes = 0;
    this.subnetAt = 0;
    this.subnetBytes = 0;
    this.subnet = undefined;
    this.hasKeepalive = false;
    this.hasPadding = false;
    this.tsigAt = 0;
    this.knownSerial = undefined;
  }

  /** Rejects a message. The response has only a header, because no part of the query can be trusted. */
  #malformed(): true {
    this.#forgetEdns();
    this.questionEnd = HEADER_BYTES;
    this.rcode = RCODE.FORMERR;
    return true;
  }

  /** Reads a query with an unsupported opcode. If its OPT record is valid, the response also has an OPT record. */
  #readOther(): void {
    const { bytes } = this;
    let at: number | undefined = HEADER_BYTES;
    for (let left = u16(bytes, 4); left > 0 && at !== undefined; left--) {
      const end = skipName(bytes, at);
      at = end === undefined || end + 4 > bytes.length ? undefined : end + 4;
    }
    if (at === undefined || !this.#readRest(at, u16(bytes, 6) + u16(bytes, 8), u16(bytes, 10))) this.#forgetEdns();
    this.rcode = RCODE.NOTIMP;
  }

  /**
   * Copies the question's name in lower case and returns its end, or -1 if it is invalid. Compression pointers are rejected, because no other name
   * precedes this name.
   */
  #readName(): number {
    const { bytes } = this;
    const lower = this.#lower;
    let at = HEADER_BYTES;
    while (at < bytes.length) {
      const length = bytes[at] ?? 0;
      lower[at - HEADER_BYTES] = length;
      if (length === 0) return at + 1;
      const end = at + 1 + length;
      if (length > MAX_LABEL_BYTES || end >= bytes.length || end - HEADER_BYTES >= MAX_NAME_BYTES) return -1;
      for (at += 1; at < end; at++) lower[at - HEADER_BYTES] = LOWER[bytes[at] ?? 0] ?? 0;
    }
    return -1;
  }

  /**
   * Reads the records after the question. They must be complete and extend to the end of the message. Only the OPT record, the TSIG record and the
   * serial of an SOA record are used. Returns false if the records are invalid.
   */
  #readRest(start: number, beforeCount: number, additionalCount: number): boolean {
    const { bytes } = this;
    let at = start;
    // A record has at least 11 bytes, so the loop ends with the message even if a forged count is larger.
    for (let i = 0; i < beforeCount + additionalCount; i++) {
      const nameEnd = skipName(bytes, at);
      if (nameEnd === undefined || nameEnd + 10 > bytes.length) return false;
      const end = nameEnd + 10 + u16(bytes, nameEnd + 8);
      if (end > bytes.length) return false;
      if (u16(bytes, nameEnd) === TYPE_OPT) {
        // OPT must be at the root, in the additional section, and at most once (RFC 6891, 6.1.1).
        if (this.hasEdns || nameEnd !== at + 1 || i < beforeCount || !areOptionsWhole(bytes, nameEnd + 10, end)) return false;
        this.#readOpt(nameEnd, end);
      } else if (u16(bytes, nameEnd) === TYPE_TSIG) {
        // TSIG must be the last record (RFC 8945, 5.1).
        if (i < beforeCount || i < beforeCount + additionalCount - 1) return false;
        this.tsigAt = at;
      } else if (u16(bytes, nameEnd) === TYPE_SOA && i < beforeCount && end - nameEnd - 10 >= MIN_SOA_BYTES)
        this.knownSerial = Buffer.from(bytes.buffer, bytes.byteOffset + end - SOA_NUMBERS_BYTES, 4).readUInt32BE();
      at = end;
    }
    return at === bytes.length;
  }

  #readOpt(nameEnd: number, end: number): void {
    const { bytes } = this;
    this.hasEdns = true;
    this.udpSizeBytes = u16(bytes, nameEnd + 2);
    this.version = bytes[nameEnd + 5] ?? 0;
    this.isDnssecOk = ((bytes[nameEnd + 6] ?? 0) & 0x80) !== 0;
    this.isCompactOk = ((bytes[nameEnd + 6] ?? 0) & 0x40) !== 0;
    // Options of another EDNS version may have another format.
    if (this.version !== 0) this.rcode = RCODE.BADVERS;
    else if (!this.#readOptions(nameEnd + 10, end)) this.rcode = RCODE.FORMERR;
  }

  /** Reads the options. Unknown options are ignored (RFC 6891, 6.1.2). Returns false if a known option is malformed. */
  #readOptions(start: number, end: number): boolean {
    const { bytes } = this;
    let isWhole = true;
    for (let at = start; at < end; ) {
      const code = u16(bytes, at);
      const length = u16(bytes, at + 2);
      at += 4;
      // If there are several cookies, only the first is used (RFC 7873, 4).
      if (code === OPTION.COOKIE && this.cookieBytes === 0) {
        const isPair = length >= MIN_COOKIE_PAIR_BYTES && length <= MAX_COOKIE_PAIR_BYTES;
        if (length === CLIENT_COOKIE_BYTES || isPair) {
          this.cookieAt = at;
          this.cookieBytes = length;
        } else isWhole = false;
      } else if (code === OPTION.CLIENT_SUBNET) isWhole = this.#readSubnet(at, length) && isWhole;
      else if (code === OPTION.KEEPALIVE) this.hasKeepalive = true;
      else if (code === OPTION.PADDING) this.hasPadding = true;
      at += length;
    }
    return isWhole;
  }

  /**
   * Reads a client subnet (RFC 7871, 6 and 7.1.1). It must have as many bytes as the prefix needs, zero bits after the prefix, and no scope. Family 0
   * without an address means that the client does not want its address to be used.
   */
  #readSubnet(at: number, length: number): boolean {
    const { bytes } = this;
    if (length < 4 || this.subnetBytes !== 0) return false;
    const family = u16(bytes, at);
    const sourcePrefix = bytes[at + 2] ?? 0;
    const mostBits = family === 1 ? 32 : family === 2 ? 128 : 0;
    if (family > 2 || sourcePrefix > mostBits || bytes[at + 3] !== 0 || length !== 4 + ((sourcePrefix + 7) >> 3)) return false;
    const last = bytes[at + length - 1] ?? 0;
    if ((sourcePrefix & 7) !== 0 && (last & (0xff >> (sourcePrefix & 7))) !== 0) return false;
    this.subnetAt = at;
    this.subnetBytes = length;
    if (family === 1 || family === 2) this.subnet = { family, sourcePrefix, address: Uint8Array.from(bytes.subarray(at + 4, at + length)) };
    return true;
  }
}

function areOptionsWhole(bytes: Uint8Array, start: number, end: number): boolean {
  let at = start;
  while (at + 4 <= end) at += 4 + u16(bytes, at + 2);
  return at === end;
}

/** Maps letters to lower case and leaves other bytes unchanged (RFC 4343). */
const LOWER = Uint8Array.from({ length: 256 }, (_, byte) => (byte >= 65 && byte <= 90 ? byte + 32 : byte));

function u16(bytes: Uint8Array, at: number): number {
  return ((bytes[at] ?? 0) << 8) | (bytes[at + 1] ?? 0);
}
