/**
 * Reads queries (RFC 1035) with the options of their OPT record (RFC 6891) in one pass over at most their bytes. One object is used for every
 * query, because an object for each part of each query was a tenth of the time of an answer.
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
/** Codes of options (IANA, DNS parameters). */
export const OPTION = { CLIENT_SUBNET: 8, COOKIE: 10, KEEPALIVE: 11, PADDING: 12, EXTENDED_ERROR: 15 } as const;
const OPCODE_QUERY = 0;
const NO_BYTES = new Uint8Array();
/** A server cookie has 8 to 32 bytes, and follows the client's 8. */
const MIN_COOKIE_PAIR_BYTES = 16;
const MAX_COOKIE_PAIR_BYTES = 40;
/** The data of SOA end with five numbers, the first of which is the serial. Before them are two names. */
const SOA_NUMBERS_BYTES = 20;
const MIN_SOA_BYTES = SOA_NUMBERS_BYTES + 2;

export class DnsQuery {
  bytes: Uint8Array = NO_BYTES;
  id = 0;
  /** The second word of the header. */
  flags = 0;
  /** NOERROR: to be answered from the catalog, or, without a question, with a cookie alone. Else what the query is refused with. */
  rcode: Rcode = RCODE.NOERROR;
  /** Where the question ends that the response repeats, case included; 12 without one. */
  questionEnd = HEADER_BYTES;
  type = 0;
  class = 0;
  hasEdns = false;
  udpSizeBytes = 0;
  version = 0;
  isDnssecOk = false;
  /** Whether NXDOMAIN is understood where it comes with a compact denial (RFC 9824, 5). */
  isCompactOk = false;
  /** Where the client's cookie is, with the length of it and of the server's cookie behind it; 0 without one. */
  cookieAt = 0;
  cookieBytes = 0;
  /** Where the data of a client subnet are, and their length; 0 without one. */
  subnetAt = 0;
  subnetBytes = 0;
  subnet: ClientSubnet | undefined = undefined;
  hasKeepalive = false;
  hasPadding = false;
  /** Where the record with the signature of the message begins, its last one (RFC 8945); 0 without one. */
  tsigAt = 0;
  /** Of the SOA record in the authority section, with which a secondary says what it has (RFC 1995, 3). */
  knownSerial: number | undefined = undefined;

  readonly #lower = Buffer.alloc(MAX_NAME_BYTES + 6);

  get hasQuestion(): boolean {
    return this.questionEnd > HEADER_BYTES;
  }

  /**
   * Reads a message. Returns false for one that must not be answered: without a whole header, or a response, since answering responses makes
   * loops. HOT: once a packet.
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
    // One question and no answers: more has no agreed meaning (RFC 9619). Without a question a cookie may be asked for (RFC 7873, 5.4).
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

  /** The key of the plan of `question`, as `planKey` makes it. Only for a query that has a question. HOT: once a query. */
  planKey(viewIndex: number, isSigned: boolean): string {
    const end = this.questionEnd - HEADER_BYTES;
    const type = plannedType(this.type);
    this.#lower[end - 4] = type >> 8;
    this.#lower[end - 3] = type;
    this.#lower[end] = viewIndex;
    this.#lower[end + 1] = 1;
    return this.#lower.toString("latin1", 0, end + (isSigned ? 2 : 1));
  }

  /** From here on the question is for SOA; the response repeats it came. */
  askForSoa(): void {
    this.type = TYPE_SOA;
  }

  /** The question as text, with the type under which it is planned. Only for a query that has one. */
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

  /** Answered with a header only, since nothing of the message can be trusted. */
  #malformed(): true {
    this.#forgetEdns();
    this.questionEnd = HEADER_BYTES;
    this.rcode = RCODE.FORMERR;
    return true;
  }

  /** An opcode that is not served. Its OPT record is still answered by one, if it can be read. */
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

  /** Where the question's name ends, which is put into lower case on the way; -1 if it is none. A pointer is refused: there is no name before it. */
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

  /** Reads the records after the question, which must be whole and end with the message. Only the OPT record, the signature and the serial of an SOA count. False if they are not. */
  #readRest(start: number, beforeCount: number, additionalCount: number): boolean {
    const { bytes } = this;
    let at = start;
    // A record has at least 11 bytes, so a false huge count ends with the bytes.
    for (let i = 0; i < beforeCount + additionalCount; i++) {
      const nameEnd = skipName(bytes, at);
      if (nameEnd === undefined || nameEnd + 10 > bytes.length) return false;
      const end = nameEnd + 10 + u16(bytes, nameEnd + 8);
      if (end > bytes.length) return false;
      if (u16(bytes, nameEnd) === TYPE_OPT) {
        // At the root, in the additional section, once (RFC 6891, 6.1.1).
        if (this.hasEdns || nameEnd !== at + 1 || i < beforeCount || !areOptionsWhole(bytes, nameEnd + 10, end)) return false;
        this.#readOpt(nameEnd, end);
      } else if (u16(bytes, nameEnd) === TYPE_TSIG) {
        // Nothing may follow it (RFC 8945, 5.1).
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
    // Options of another version may have another form.
    if (this.version !== 0) this.rcode = RCODE.BADVERS;
    else if (!this.#readOptions(nameEnd + 10, end)) this.rcode = RCODE.FORMERR;
  }

  /** Options that are not known are ignored (RFC 6891, 6.1.2). False if one that is known is malformed. */
  #readOptions(start: number, end: number): boolean {
    const { bytes } = this;
    let isWhole = true;
    for (let at = start; at < end; ) {
      const code = u16(bytes, at);
      const length = u16(bytes, at + 2);
      at += 4;
      // Only the first of several cookies counts (RFC 7873, 4).
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

  /** RFC 7871, 6 and 7.1.1: as many bytes as the prefix needs, with 0 after it, and no scope. Family 0 without an address is said by who wants none to be used. */
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

/** Letters as lower case; other bytes as they are (RFC 4343). */
const LOWER = Uint8Array.from({ length: 256 }, (_, byte) => (byte >= 65 && byte <= 90 ? byte + 32 : byte));

function u16(bytes: Uint8Array, at: number): number {
  return ((bytes[at] ?? 0) << 8) | (bytes[at + 1] ?? 0);
}
