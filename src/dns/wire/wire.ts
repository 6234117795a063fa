/**
 * Messages on the wire: decodes queries and encodes responses (RFC 1035; EDNS, RFC 6891). Written by hand, because dns-packet
 * does not compress names, loses the case and bytes of a question, and reads every record that a stranger sends. The
 * tests compare this file with dns-packet.
 */
import { type Answer, type Question, RCODE, type Rcode } from "../plan/answer.ts";
import type { DataWriter, DnsRecord } from "../records/record.ts";
import { RECORDS, writeRecordData } from "../records/records.ts";

const HEADER_BYTES = 12;
/** Size of the OPT record of a response: root name, type, size, flags, no options. */
const OPT_BYTES = 11;
const TYPE_OPT = 41;
const CLASS_IN = 1;
const OPCODE_QUERY = 0;
const DOT = 46;
/** Largest UDP answer that every network path carries in one piece (DNS flag day 2020). */
const MAX_UDP_BYTES = 1232;
/** Largest UDP answer without EDNS (RFC 1035, 4.2.1). */
const MIN_UDP_BYTES = 512;
/** Largest TCP answer: its length has two bytes. */
const MAX_TCP_BYTES = 0xffff;

export type DnsTransport = "udp" | "tcp";

export interface QueryHeader {
  readonly id: number;
  readonly opcode: number;
  readonly isRecursionDesired: boolean;
}

/** The part of a query's OPT record that changes answers. Its options and the DO flag change nothing. */
export interface Edns {
  readonly udpSizeBytes: number;
  readonly version: number;
}

export type Decoded =
  /** Must not be answered: a message without a whole header, or a response, since answering responses makes loops. */
  | { readonly kind: "dropped" }
  /** Answered with a header only. */
  | { readonly kind: "refused"; readonly header: QueryHeader; readonly rcode: Rcode; readonly edns: Edns | undefined }
  | {
      readonly kind: "query";
      readonly header: QueryHeader;
      readonly question: Question;
      /** The question as it was sent. The response repeats it, case included. */
      readonly questionBytes: Uint8Array;
      readonly edns: Edns | undefined;
    };

/** Decodes a query. Any bytes give a result, in one pass over at most their length. */
export function decodeQuery(bytes: Uint8Array): Decoded {
  if (bytes.length < HEADER_BYTES) return { kind: "dropped" };
  const flags = u16(bytes, 2);
  if (flags >= 0x8000) return { kind: "dropped" };
  const header = { id: u16(bytes, 0), opcode: (flags >> 11) & 0xf, isRecursionDesired: (flags & 0x0100) !== 0 };
  if (header.opcode !== OPCODE_QUERY) return { kind: "refused", header, rcode: RCODE.NOTIMP, edns: undefined };
  const malformed: Decoded = { kind: "refused", header, rcode: RCODE.FORMERR, edns: undefined };
  // One question and no answers: more has no agreed meaning (RFC 9619).
  if (u16(bytes, 4) !== 1 || u16(bytes, 6) !== 0) return malformed;
  const name = readName(bytes, HEADER_BYTES);
  if (name === undefined || name.end + 4 > bytes.length) return malformed;
  const question = { name: name.text, type: u16(bytes, name.end), class: u16(bytes, name.end + 2) };
  const end = name.end + 4;
  const rest = readRest(bytes, end, { authorityCount: u16(bytes, 8), additionalCount: u16(bytes, 10) });
  if (rest === undefined || question.type === TYPE_OPT) return malformed;
  const { edns } = rest;
  if (edns !== undefined && edns.version !== 0) return { kind: "refused", header, rcode: RCODE.BADVERS, edns };
  return { kind: "query", header, question, questionBytes: bytes.subarray(HEADER_BYTES, end), edns };
}

/** The largest response in bytes for a transport and the OPT record of the query. */
export function responseLimitBytes(transport: DnsTransport, edns: Edns | undefined): number {
  if (transport === "tcp") return MAX_TCP_BYTES;
  return Math.min(Math.max(edns?.udpSizeBytes ?? MIN_UDP_BYTES, MIN_UDP_BYTES), MAX_UDP_BYTES);
}

interface Response {
  readonly header: QueryHeader;
  readonly question: Question | undefined;
  readonly questionBytes: Uint8Array;
  readonly edns: Edns | undefined;
  readonly answer: Answer;
  readonly limitBytes: number;
  /** Sets TC whatever fits, so that the client asks again over TCP. */
  readonly isCut?: boolean;
}

/** The bytes of a response, and whether records that were asked for did not fit (TC). The encoder uses the bytes again at its next call. */
export interface Encoded {
  readonly bytes: Uint8Array;
  readonly isTruncated: boolean;
}

/** Encodes responses into one buffer, which it uses again. */
export class ResponseEncoder {
  readonly #out = new MessageWriter();

  /**
   * Encodes a response. What does not fit is left out: additional records first, then the authority section, then answers from the end (one
   * stays if it fits at all). TC is set when the answer or authority section is not whole; additional records do not count (RFC 2181, 9).
   */
  encode(response: Response): Encoded {
    const { header, question, questionBytes, edns, answer, limitBytes, isCut = false } = response;
    const out = this.#out;
    out.start(limitBytes - (edns === undefined ? 0 : OPT_BYTES));
    out.seek(HEADER_BYTES);
    out.bytes(questionBytes);
    if (question !== undefined) out.remember(question.name, HEADER_BYTES);
    const answers = out.records(answer.answers);
    const authorityStart = out.at;
    const areAnswersWhole = answers === answer.answers.length;
    let authority = areAnswersWhole ? out.records(answer.authority) : 0;
    // Half an authority section would say something else.
    const isAuthorityWhole = authority === answer.authority.length;
    if (!isAuthorityWhole) {
      out.rewind(authorityStart);
      authority = 0;
    }
    const isTruncated = isCut || !areAnswersWhole || !isAuthorityWhole;
    let additional = isTruncated ? 0 : out.records(answer.additional);
    if (edns !== undefined) {
      out.raise(OPT_BYTES);
      writeOpt(out, answer.rcode);
      additional++;
    }
    const end = out.at;
    out.seek(0);
    out.u16(header.id);
    out.u16(flagsOf(header, answer, isTruncated));
    out.u16(question === undefined ? 0 : 1);
    out.u16(answers);
    out.u16(authority);
    out.u16(additional);
    return { bytes: out.view(end), isTruncated };
  }
}

function flagsOf(header: QueryHeader, answer: Answer, isTruncated: boolean): number {
  return (
    0x8000 |
    (header.opcode << 11) |
    (answer.isAuthoritative ? 0x0400 : 0) |
    (isTruncated ? 0x0200 : 0) |
    (header.isRecursionDesired ? 0x0100 : 0) |
    (answer.rcode & 0xf)
  );
}

/** Writes the OPT record. DO is never set, because we do not sign (RFC 3225, 3). */
function writeOpt(out: MessageWriter, rcode: Rcode): void {
  out.u8(0);
  out.u16(TYPE_OPT);
  out.u16(MAX_UDP_BYTES);
  out.u8(rcode >> 4);
  out.u8(0);
  out.u16(0);
  out.u16(0);
}

/** A message that is written, with the offsets of its names. A write past the buffer only moves the position, and `records` undoes it. */
class MessageWriter implements DataWriter {
  readonly #bytes = new Uint8Array(MAX_TCP_BYTES);
  readonly #offsets = new Map<string, number>();
  #at = 0;
  #limit = 0;

  get at(): number {
    return this.#at;
  }

  start(limitBytes: number): void {
    this.#at = 0;
    this.#limit = limitBytes;
    this.#offsets.clear();
  }

  view(end: number): Uint8Array {
    return this.#bytes.subarray(0, end);
  }

  seek(at: number): void {
    this.#at = at;
  }

  /** Goes back to an earlier position, and forgets the names that were written since. */
  rewind(at: number): void {
    this.seek(at);
    for (const [name, offset] of this.#offsets) if (offset >= at) this.#offsets.delete(name);
  }

  raise(bytes: number): void {
    this.#limit += bytes;
  }

  /** Writes records until one does not fit. Returns how many were written. */
  records(records: readonly DnsRecord[]): number {
    let count = 0;
    for (const record of records) {
      const start = this.#at;
      this.#record(record);
      if (this.#at > this.#limit) {
        this.rewind(start);
        return count;
      }
      count++;
    }
    return count;
  }

  u8(value: number): void {
    this.#bytes[this.#at++] = value;
  }

  u16(value: number): void {
    this.#bytes[this.#at++] = value >> 8;
    this.#bytes[this.#at++] = value;
  }

  u32(value: number): void {
    this.u16(value >>> 16);
    this.u16(value & 0xffff);
  }

  bytes(value: Uint8Array): void {
    if (this.#at + value.length <= this.#bytes.length) this.#bytes.set(value, this.#at);
    this.#at += value.length;
  }

  string(value: string): void {
    const length = Math.min(value.length, 255);
    this.u8(length);
    for (let i = 0; i < length; i++) this.#bytes[this.#at++] = value.charCodeAt(i);
  }

  name(value: string): void {
    this.#labels(value);
    this.u8(0);
  }

  compressedName(value: string): void {
    let rest = value;
    while (rest !== "") {
      const offset = this.#offsets.get(rest);
      if (offset !== undefined) {
        this.u16(0xc000 | offset);
        return;
      }
      this.#note(rest, this.#at);
      const dot = rest.indexOf(".");
      this.#labels(dot < 0 ? rest : rest.slice(0, dot));
      rest = dot < 0 ? "" : rest.slice(dot + 1);
    }
    this.u8(0);
  }

  /** Notes the suffixes of a name that was written uncompressed at `offset`. */
  remember(name: string, offset: number): void {
    // An escape is longer as text than on the wire, so offsets after it would be wrong. No name that we write ends in such a label.
    if (name.includes("\\")) return this.#rememberPlainTail(name, offset);
    let at = 0;
    while (at < name.length) {
      this.#note(name.slice(at), offset + at);
      const dot = name.indexOf(".", at);
      if (dot < 0) return;
      at = dot + 1;
    }
  }

  #rememberPlainTail(name: string, offset: number): void {
    const tailAt = name.indexOf(".", name.lastIndexOf("\\")) + 1;
    if (tailAt === 0) return;
    const escapes = name.split("\\").length - 1;
    // Each `\DDD` is four characters for one octet.
    this.remember(name.slice(tailAt), offset + tailAt - 3 * escapes);
  }

  #record(record: DnsRecord): void {
    this.compressedName(record.name);
    this.u16(RECORDS[record.type].code);
    this.u16(CLASS_IN);
    this.u32(record.ttlSeconds);
    const lengthAt = this.#at;
    this.#at += 2;
    writeRecordData(record, this);
    const end = this.#at;
    this.#at = lengthAt;
    this.u16(end - lengthAt - 2);
    this.#at = end;
  }

  #note(name: string, offset: number): void {
    // A pointer holds 14 bits.
    if (offset < 0x4000 && !this.#offsets.has(name)) this.#offsets.set(name, offset);
  }

  // HOT: runs for one name in each SRV record. Splitting names into labels first cost a third of an answer with ten targets.
  #labels(value: string): void {
    if (value === "") return;
    let lengthAt = this.#at++;
    for (let i = 0; i < value.length; i++) {
      const unit = value.charCodeAt(i);
      if (unit === DOT) {
        this.#bytes[lengthAt] = this.#at - lengthAt - 1;
        lengthAt = this.#at++;
      } else this.#bytes[this.#at++] = unit;
    }
    this.#bytes[lengthAt] = this.#at - lengthAt - 1;
  }
}

/** Checks that the records after the question are whole and end with the message. Reads only the OPT record. */
function readRest(
  bytes: Uint8Array,
  start: number,
  { authorityCount, additionalCount }: { readonly authorityCount: number; readonly additionalCount: number },
): { readonly edns: Edns | undefined } | undefined {
  let at = start;
  let edns: Edns | undefined;
  // A record has at least 11 bytes, so a false huge count ends with the bytes.
  for (let i = 0; i < authorityCount + additionalCount; i++) {
    const nameEnd = skipName(bytes, at);
    if (nameEnd === undefined || nameEnd + 10 > bytes.length) return undefined;
    const end = nameEnd + 10 + u16(bytes, nameEnd + 8);
    if (end > bytes.length) return undefined;
    if (u16(bytes, nameEnd) === TYPE_OPT) {
      // At the root, in the additional section, once (RFC 6891, 6.1.1).
      if (edns !== undefined || nameEnd !== at + 1 || i < authorityCount || !areOptionsWhole(bytes, nameEnd + 10, end)) return undefined;
      edns = { udpSizeBytes: u16(bytes, nameEnd + 2), version: bytes[nameEnd + 5] ?? 0 };
    }
    at = end;
  }
  return at === bytes.length ? { edns } : undefined;
}

function areOptionsWhole(bytes: Uint8Array, start: number, end: number): boolean {
  let at = start;
  while (at + 4 <= end) at += 4 + u16(bytes, at + 2);
  return at === end;
}

/** Where the name at `start` ends. A pointer ends it, and is not followed, because the name itself is not needed. */
function skipName(bytes: Uint8Array, start: number): number | undefined {
  let at = start;
  while (at < bytes.length) {
    const length = bytes[at] ?? 0;
    if (length === 0) return at + 1;
    if (length >= 0xc0) return at + 2;
    if (length > 63) return undefined;
    at += length + 1;
  }
  return undefined;
}

/** Reads the question's name, in lower case. A pointer is refused: there is no name before the question. */
function readName(bytes: Uint8Array, start: number): { readonly text: string; readonly end: number } | undefined {
  let at = start;
  let text = "";
  while (at < bytes.length) {
    const length = bytes[at] ?? 0;
    if (length === 0) return { text, end: at + 1 };
    if (length > 63 || at + 1 + length >= bytes.length || at + 1 + length - start >= 255) return undefined;
    if (text !== "") text += ".";
    for (let i = at + 1; i <= at + length; i++) text += characterOf(bytes[i] ?? 0);
    at += length + 1;
  }
  return undefined;
}

/** A byte as text: letters, digits, `-` and `_` as they are, all others as `\DDD`, so that a dot inside a label does not end it. */
function characterOf(byte: number): string {
  return CHARACTERS[byte] ?? "";
}

const CHARACTERS: readonly string[] = Array.from({ length: 256 }, (_, byte) => {
  const char = String.fromCharCode(byte).toLowerCase();
  return byte < 128 && /[a-z0-9_-]/.test(char) ? char : `\\${String(byte).padStart(3, "0")}`;
});

function u16(bytes: Uint8Array, at: number): number {
  return ((bytes[at] ?? 0) << 8) | (bytes[at + 1] ?? 0);
}
