/**
 * Messages on the wire: a query in, a response out (RFC 1035, EDNS RFC 6891). Written by hand rather than with dns-packet,
 * which does not compress names, loses the case and bytes of a question, and reads every record a stranger sends;
 * the tests hold this file equal to it.
 */
import { type Answer, type Question, RCODE, type Rcode } from "./answer.ts";
import { type DataWriter, type DnsRecord, RECORDS, writeRecordData } from "./records.ts";

const HEADER_BYTES = 12;
/** OPT of ours: root name, type, size, flags, no options. */
const OPT_BYTES = 11;
const TYPE_OPT = 41;
const CLASS_IN = 1;
const OPCODE_QUERY = 0;
const DOT = 46;
/** Largest UDP answer that every path carries without fragments (DNS flag day 2020). */
const MAX_UDP_BYTES = 1232;
/** UDP without EDNS (RFC 1035, 4.2.1). */
const MIN_UDP_BYTES = 512;
/** The length field of TCP framing. */
const MAX_TCP_BYTES = 0xffff;

export type DnsTransport = "udp" | "tcp";

export interface QueryHeader {
  readonly id: number;
  readonly opcode: number;
  readonly isRecursionDesired: boolean;
}

/** The OPT record of a query; what else it holds (options, DO) changes nothing in our answers. */
export interface Edns {
  readonly udpSizeBytes: number;
}

export type Decoded =
  /** Nothing may be answered: no header, or a response (answering those makes loops). */
  | { readonly kind: "dropped" }
  /** Answered by its header alone. */
  | { readonly kind: "refused"; readonly header: QueryHeader; readonly rcode: Rcode; readonly edns: Edns | undefined }
  | {
      readonly kind: "query";
      readonly header: QueryHeader;
      readonly question: Question;
      /** The question as it was sent: echoed, case and all. */
      readonly questionBytes: Uint8Array;
      readonly edns: Edns | undefined;
    };

/** Reads a query. Total: any bytes give a result, in one pass over at most their length. */
export function decodeQuery(bytes: Uint8Array): Decoded {
  if (bytes.length < HEADER_BYTES) return { kind: "dropped" };
  const flags = u16(bytes, 2);
  if (flags >= 0x8000) return { kind: "dropped" };
  const header = { id: u16(bytes, 0), opcode: (flags >> 11) & 0xf, isRecursionDesired: (flags & 0x0100) !== 0 };
  if (header.opcode !== OPCODE_QUERY) return { kind: "refused", header, rcode: RCODE.NOTIMP, edns: undefined };
  const malformed: Decoded = { kind: "refused", header, rcode: RCODE.FORMERR, edns: undefined };
  // One question, and no answers: nobody agrees what more would mean (RFC 9619).
  if (u16(bytes, 4) !== 1 || u16(bytes, 6) !== 0) return malformed;
  const name = readName(bytes, HEADER_BYTES);
  if (name === undefined || name.end + 4 > bytes.length) return malformed;
  const question = { name: name.text, type: u16(bytes, name.end), class: u16(bytes, name.end + 2) };
  const end = name.end + 4;
  const rest = readRest(bytes, end, { authorityCount: u16(bytes, 8), additionalCount: u16(bytes, 10) });
  if (rest === undefined || question.type === TYPE_OPT) return malformed;
  const edns = rest.opt === undefined ? undefined : { udpSizeBytes: rest.opt.udpSizeBytes };
  if (rest.opt !== undefined && rest.opt.version !== 0) return { kind: "refused", header, rcode: RCODE.BADVERS, edns };
  return { kind: "query", header, question, questionBytes: bytes.subarray(HEADER_BYTES, end), edns };
}

/** How large an answer may be. */
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
  /** Says that there is more, whatever fits: the client asks again over TCP. */
  readonly isCut?: boolean;
}

/** Bytes of a response, and whether records the question asked for did not fit (TC). The bytes are the encoder's until its next call. */
export interface Encoded {
  readonly bytes: Uint8Array;
  readonly isTruncated: boolean;
}

/** Writes responses into one buffer that it keeps. */
export class ResponseEncoder {
  readonly #out = new MessageWriter();

  /**
   * Additional records are left out when they do not fit, then the authority section, then answers from the end (at least
   * one stays if it fits at all). TC is set when the answer or authority is not whole: additional ones do not count (RFC 2181, 9).
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
    // Half an authority section would be a different statement.
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

/** DO is never set: we do not sign (RFC 3225, 3). */
function writeOpt(out: MessageWriter, rcode: Rcode): void {
  out.u8(0);
  out.u16(TYPE_OPT);
  out.u16(MAX_UDP_BYTES);
  out.u8(rcode >> 4);
  out.u8(0);
  out.u16(0);
  out.u16(0);
}

/** A growing message with its name table. A write past the buffer moves the position only: `records` takes it back. */
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

  /** Back to an earlier position; names written since are forgotten. */
  rewind(at: number): void {
    this.seek(at);
    for (const [name, offset] of this.#offsets) if (offset >= at) this.#offsets.delete(name);
  }

  raise(bytes: number): void {
    this.#limit += bytes;
  }

  /** Writes records until one does not fit; returns how many are in. */
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

  /** Notes the suffixes of a name that stands uncompressed at `offset`. */
  remember(name: string, offset: number): void {
    // An escape is longer as text than on the wire, so offsets after it would be wrong; nothing we write ends in such a label.
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
    // A pointer has 14 bits.
    if (offset < 0x4000 && !this.#offsets.has(name)) this.#offsets.set(name, offset);
  }

  // HOT: one name an SRV record; splitting into labels first cost a third of a ten-target answer.
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

interface Rest {
  readonly opt: { readonly udpSizeBytes: number; readonly version: number } | undefined;
}

/** Checks that the records after the question are whole and end with the message; looks into OPT only. */
function readRest(
  bytes: Uint8Array,
  start: number,
  { authorityCount, additionalCount }: { readonly authorityCount: number; readonly additionalCount: number },
): Rest | undefined {
  let at = start;
  let opt: Rest["opt"];
  // A record takes 11 bytes at least, so a huge count ends where the bytes do.
  for (let i = 0; i < authorityCount + additionalCount; i++) {
    const nameEnd = skipName(bytes, at);
    if (nameEnd === undefined || nameEnd + 10 > bytes.length) return undefined;
    const end = nameEnd + 10 + u16(bytes, nameEnd + 8);
    if (end > bytes.length) return undefined;
    if (u16(bytes, nameEnd) === TYPE_OPT) {
      // At the root, in the additional section, once (RFC 6891, 6.1.1).
      if (opt !== undefined || nameEnd !== at + 1 || i < authorityCount || !areOptionsWhole(bytes, nameEnd + 10, end)) return undefined;
      opt = { udpSizeBytes: u16(bytes, nameEnd + 2), version: bytes[nameEnd + 5] ?? 0 };
    }
    at = end;
  }
  return at === bytes.length ? { opt } : undefined;
}

function areOptionsWhole(bytes: Uint8Array, start: number, end: number): boolean {
  let at = start;
  while (at + 4 <= end) at += 4 + u16(bytes, at + 2);
  return at === end;
}

/** Where the name at `start` ends; a pointer ends it and is not followed, since we do not need what it says. */
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

/** The question's name in lower case. A pointer cannot be right here: there is no name before it. */
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

/** Letters, digits, `-` and `_` stand for themselves; the rest as `\DDD`, so that a dot inside a label is no border. */
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
