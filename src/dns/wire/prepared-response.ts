/**
 * Encodes a plan as reusable pieces of a message, once per plan. A response then consists of its header, the question as sent, copies of the pieces
 * in a drawn order, and the OPT record.
 *
 * A prepared answer is one sequence of bytes, because an object per record used ten times the memory of the records. Numbers are big-endian, and
 * positions count from the first byte:
 *
 * | part | bytes |
 * | --- | --- |
 * | head | `HEAD`: fields that occur once |
 * | groups | for each: 4 number of records, 1 flags (`GROUP`) |
 * | records | for each: 4 start, 2 number of its glue (`NO_GLUE`: none), 2 position of its host name in the record (0: none); then 4 end of the last record |
 * | glue | for each host: 4 start; then 4 end of the last |
 * | pieces | the records as they are sent, then the glue, then the authority section |
 *
 * A record of 0 bytes does not fit into any message. The glue of a host is: 2 number of records, 1 length of the host name, the name (only if no record
 * contains it; otherwise the length is 0), and each record without its owner.
 */
import { type AnswerPlan, CLASS_IN, RCODE, type Rcode } from "../plan/answer.ts";
import type { DataWriter, DnsRecord, RecordOf } from "../records/record.ts";
import { areSampled, namedHost, RECORDS, writeRecordData } from "../records/records.ts";
import { HEADER_BYTES } from "./dns-query.ts";

/** Largest message size. Over TCP, the length field has two bytes. */
export const MAX_MESSAGE_BYTES = 0xffff;
/** A compression pointer has 14 bits. */
export const MAX_POINTER = 0x3fff;
const DOT = 46;
const UTF8 = new TextEncoder();

/** Positions in the head. Fields have two bytes, except those marked as four bytes. */
export const HEAD = {
  RCODE: 0,
  /** Bits of `FLAG`. */
  FLAGS: 2,
  EXTENDED_ERROR: 4,
  AUTHORITY_COUNT: 6,
  /** If the last record of the authority section is an SOA, the position after its owner within that section. Otherwise 0. */
  SOA_AT: 8,
  /** Start of the SOA within the authority section. */
  SOA_START: 10,
  GLUE_COUNT: 12,
  GROUP_COUNT: 14,
  /** This field and the next field have four bytes. */
  RECORD_COUNT: 16,
  AUTHORITY_AT: 20,
  BYTES: 24,
} as const;
export const FLAG = {
  AUTHORITATIVE: 1,
  /** The records are incomplete, so TC is also set over TCP. */
  PART: 2,
  /** RRsets are signed, so each RRset is sent complete or not at all. */
  SIGNED: 4,
} as const;
export const GROUP = {
  /** A CNAME whose target has the records in the next groups. */
  CHAIN: 1,
  /** An answer limit draws a sample of the group. */
  SAMPLED: 2,
  /** An SOA, whose serial is filled in for each response. */
  SOA: 4,
} as const;
export const GROUP_BYTES = 5;
export const RECORD_BYTES = 8;
export const GLUE_BYTES = 4;
export const GLUE_HEAD_BYTES = 3;
export const NO_GLUE = 0xffff;
const NO_ERROR = 0xffff;
/** Answers up to this size are stored as Latin-1 strings, which need 24 bytes of extra memory. A byte array needs 600 bytes. */
const STRING_BYTES = 4096;
const STRING_HEAD_BYTES = 24;
const ARRAY_HEAD_BYTES = 640;
const OBJECT_BYTES = 40;
/**
 * Buffer in which pieces are built before they are copied. It is shared, because allocating 64 KiB per nonexistent name was half of the cost of an
 * answer.
 */
const ROOM = new Uint8Array(MAX_MESSAGE_BYTES);
const RCODES = new Map<number, Rcode>(Object.values(RCODE).map((rcode) => [rcode, rcode]));

/** A prepared answer. It is immutable. */
export class PreparedResponse {
  /** A string with one character per byte, or the bytes themselves. `bytesOf` returns the bytes in both cases. */
  readonly packed: string | Uint8Array;
  /** The owner of the SOA record in the authority section. */
  readonly zone: string;

  constructor(bytes: Buffer, zone: string) {
    this.packed = bytes.length <= STRING_BYTES ? bytes.toString("latin1") : Uint8Array.from(bytes);
    this.zone = zone;
  }

  get rcode(): Rcode {
    return RCODES.get(this.#number(HEAD.RCODE)) ?? RCODE.SERVFAIL;
  }

  get hasAnswers(): boolean {
    return this.#number(HEAD.GROUP_COUNT) > 0;
  }

  /** Whether RRsets are signed, so that each RRset is sent complete or not at all. */
  get isSigned(): boolean {
    return (this.#number(HEAD.FLAGS) & FLAG.SIGNED) !== 0;
  }

  /** Whether the authority section has an SOA. */
  get hasNegativeSoa(): boolean {
    return this.#number(HEAD.SOA_AT) > 0;
  }

  /** The extended DNS error (RFC 8914). */
  get extendedError(): number | undefined {
    const code = this.#number(HEAD.EXTENDED_ERROR);
    return code === NO_ERROR ? undefined : code;
  }

  /** Estimated memory in bytes, rounded up. */
  get sizeBytes(): number {
    const { packed } = this;
    return OBJECT_BYTES + packed.length + (typeof packed === "string" ? STRING_HEAD_BYTES : ARRAY_HEAD_BYTES);
  }

  /**
   * Returns the bytes. The bytes of a string are written to `room` and are valid until the next call with the same `room`. HOT: runs per response.
   */
  bytesOf(room: Buffer): Uint8Array {
    const { packed } = this;
    if (typeof packed !== "string") return packed;
    room.write(packed, 0, "latin1");
    return room;
  }

  #number(at: number): number {
    const { packed } = this;
    return typeof packed === "string" ? (packed.charCodeAt(at) << 8) | packed.charCodeAt(at + 1) : u16(packed, at);
  }
}

/** Returns a buffer for the bytes of any prepared answer that is stored as a string. */
export function newRoom(): Buffer {
  return Buffer.alloc(STRING_BYTES);
}

export function u16(bytes: Uint8Array, at: number): number {
  return ((bytes[at] ?? 0) << 8) | (bytes[at + 1] ?? 0);
}

export function u32(bytes: Uint8Array, at: number): number {
  return (bytes[at] ?? 0) * 0x1_00_00_00 + (((bytes[at + 1] ?? 0) << 16) | ((bytes[at + 2] ?? 0) << 8) | (bytes[at + 3] ?? 0));
}

/** Returns the end offset of the name that starts at `start`. */
export function nameEnd(bytes: Uint8Array, start: number): number {
  let at = start;
  for (;;) {
    const length = bytes[at] ?? 0;
    if (length >= 0xc0) return at + 2;
    if (length === 0) return at + 1;
    at += length + 1;
  }
}

/**
 * Prepares denials that consist only of a zone's SOA record. Denials for all names of the same length have the same bytes, because they refer only to
 * the zone at the end of the question. HOT: runs for nonexistent names.
 */
export class NameDenials {
  #soa: RecordOf<"SOA"> | undefined;
  #rcode: Rcode = RCODE.NOERROR;
  /** Denials by the zone's position in the message. */
  readonly #byPlace = new Map<number, PreparedResponse>();

  /** Prepares a plan for the question of this name. Returns undefined if the plan is not just a denial or the name is not in its zone. */
  prepare(plan: AnswerPlan, name: string): PreparedResponse | undefined {
    const { groups, authority, rcode, isAuthoritative, isCut = false, signed, extendedError } = plan;
    const [soa] = authority;
    if (groups.length > 0 || authority.length > 1 || soa?.type !== "SOA") return undefined;
    if (name !== soa.name && !name.endsWith(`.${soa.name}`)) return undefined;
    if (!isAuthoritative || isCut || signed !== undefined || extendedError !== undefined) return undefined;
    if (this.#soa === undefined || rcode !== this.#rcode || !isSameSoa(soa, this.#soa)) {
      this.#byPlace.clear();
      this.#soa = soa;
      this.#rcode = rcode;
    }
    const place = HEADER_BYTES + wireBytes(name) - wireBytes(soa.name);
    let prepared = this.#byPlace.get(place);
    if (prepared === undefined) {
      prepared = prepare(plan, soa.name, place);
      this.#byPlace.set(place, prepared);
    }
    return prepared;
  }
}

function isSameSoa({ name, ttlSeconds, data: a }: RecordOf<"SOA">, other: RecordOf<"SOA">): boolean {
  const { data: b } = other;
  if (name !== other.name || ttlSeconds !== other.ttlSeconds || a.primary !== b.primary || a.mailbox !== b.mailbox) return false;
  return a.minimumSeconds === b.minimumSeconds;
}

/**
 * Prepares a plan for the question of this name. `name` is undefined for a plan without records, which can be used for any question. `place` is the
 * position of the name, if it is only the end of the question's name. The cost is proportional to the number of records in the plan.
 */
export function prepare(plan: AnswerPlan, name: string | undefined, place = HEADER_BYTES): PreparedResponse {
  const writer = new PieceWriter(name, place);
  const glue = new GluePieces(writer, plan.glue);
  const records = plan.groups.flatMap((group) => group.map((record) => recordPiece(writer, record, { isChain: isChain(group), glue })));
  const isEmpty = records.every(({ bytes }) => bytes.length === 0);
  const authority = plan.authority.map((record) => copyOf(writer.record(record, isEmpty)));
  // The SOA comes last, after the denial records.
  const soa = plan.authority.at(-1);
  const soaBytes = authority.at(-1);
  const soaStart = lengthOf(authority.slice(0, -1));
  const hasSoa = soa?.type === "SOA" && soaBytes !== undefined && soaBytes.length > 0;
  const tablesEnd = HEAD.BYTES + GROUP_BYTES * plan.groups.length + RECORD_BYTES * records.length + 4 + GLUE_BYTES * glue.pieces.length + 4;
  const recordsBytes = lengthOf(records.map(({ bytes }) => bytes));
  const authorityAt = tablesEnd + recordsBytes + lengthOf(glue.pieces);
  // The buffer can be uninitialized, because every byte is written below.
  const bytes = Buffer.allocUnsafe(authorityAt + lengthOf(authority));
  bytes.writeUInt16BE(plan.rcode, HEAD.RCODE);
  const flags =
    (plan.isAuthoritative ? FLAG.AUTHORITATIVE : 0) | (plan.isCut === true ? FLAG.PART : 0) | (plan.signed === undefined ? 0 : FLAG.SIGNED);
  bytes.writeUInt16BE(flags, HEAD.FLAGS);
  bytes.writeUInt16BE(plan.extendedError ?? NO_ERROR, HEAD.EXTENDED_ERROR);
  bytes.writeUInt16BE(authority.length, HEAD.AUTHORITY_COUNT);
  bytes.writeUInt16BE(hasSoa ? soaStart + nameEnd(soaBytes, 0) : 0, HEAD.SOA_AT);
  bytes.writeUInt16BE(soaStart, HEAD.SOA_START);
  bytes.writeUInt16BE(glue.pieces.length, HEAD.GLUE_COUNT);
  bytes.writeUInt16BE(plan.groups.length, HEAD.GROUP_COUNT);
  bytes.writeUInt32BE(records.length, HEAD.RECORD_COUNT);
  bytes.writeUInt32BE(authorityAt, HEAD.AUTHORITY_AT);
  let at: number = HEAD.BYTES;
  for (const group of plan.groups) {
    at = bytes.writeUInt32BE(group.length, at);
    at = bytes.writeUInt8(groupFlags(group), at);
  }
  let pieceAt = tablesEnd;
  for (const record of records) {
    at = bytes.writeUInt32BE(pieceAt, at);
    at = bytes.writeUInt16BE(record.glue, at);
    at = bytes.writeUInt16BE(record.hostAt, at);
    pieceAt += record.bytes.length;
  }
  at = bytes.writeUInt32BE(pieceAt, at);
  for (const piece of glue.pieces) {
    at = bytes.writeUInt32BE(pieceAt, at);
    pieceAt += piece.length;
  }
  at = bytes.writeUInt32BE(pieceAt, at);
  for (const piece of [...records.map((record) => record.bytes), ...glue.pieces, ...authority]) {
    bytes.set(piece, at);
    at += piece.length;
  }
  return new PreparedResponse(bytes, soa?.name ?? "");
}

/**
 * HOT: runs per record, including for nonexistent names. Small buffers share pooled memory. Collecting a separate array would cost more than all
 * other work on the record.
 */
function copyOf(bytes: Uint8Array): Uint8Array {
  return Buffer.from(bytes);
}

/** Returns whether the group is a CNAME whose target has the records in the next groups. */
function isChain(group: readonly DnsRecord[]): boolean {
  return group.length === 1 && group[0]?.type === "CNAME";
}

function groupFlags(group: readonly DnsRecord[]): number {
  return (isChain(group) ? GROUP.CHAIN : 0) | (areSampled(group) ? GROUP.SAMPLED : 0) | (group[0]?.type === "SOA" ? GROUP.SOA : 0);
}

function lengthOf(pieces: readonly Uint8Array[]): number {
  return pieces.reduce((sum, { length }) => sum + length, 0);
}

interface RecordPiece {
  readonly bytes: Uint8Array;
  readonly glue: number;
  readonly hostAt: number;
}

function recordPiece(
  writer: PieceWriter,
  record: DnsRecord,
  { isChain: isPlaced, glue }: { readonly isChain: boolean; readonly glue: GluePieces },
): RecordPiece {
  const bytes = copyOf(writer.record(record, isPlaced));
  const host = namedHost(record);
  if (host === undefined) return { bytes, glue: NO_GLUE, hostAt: 0 };
  const hostAt = writer.lastName.toLowerCase() === host ? writer.lastNameAt : 0;
  return { bytes, glue: glue.numberOf(host, hostAt > 0), hostAt };
}

/** The addresses of the host names in an answer. */
class GluePieces {
  readonly pieces: Uint8Array[] = [];
  readonly #writer: PieceWriter;
  readonly #glue: AnswerPlan["glue"];
  readonly #numbers = new Map<string, number>();

  constructor(writer: PieceWriter, glue: AnswerPlan["glue"]) {
    this.#writer = writer;
    this.#glue = glue;
  }

  /** `isNamed` means that the record contains the host name. */
  numberOf(host: string, isNamed: boolean): number {
    const key = `${isNamed}${host}`;
    const found = this.#numbers.get(key);
    if (found !== undefined) return found;
    const records = this.#glue.get(host) ?? [];
    if (records.length === 0 || this.pieces.length === NO_GLUE) return NO_GLUE;
    const owner = isNamed ? new Uint8Array() : copyOf(this.#writer.fullName(host));
    const tails = records.map((record) => copyOf(this.#writer.tail(record)));
    const head = Uint8Array.of(records.length >> 8, records.length & 0xff, owner.length);
    this.#numbers.set(key, this.pieces.length);
    return this.pieces.push(Buffer.concat([head, owner, ...tails])) - 1;
  }
}

/**
 * Writes pieces. Compression pointers may refer only to positions that are the same in every response: the question, and the CNAME records before all
 * other records. A write past the end of the buffer only moves the position.
 */
class PieceWriter implements DataWriter {
  readonly #bytes = ROOM;
  readonly #offsets = new Map<string, number>();
  /** Position of the piece in a response, if known. */
  #pieceAt = HEADER_BYTES;
  #isPlaced = false;
  at = 0;
  lastName = "";
  lastNameAt = 0;

  constructor(question: string | undefined, place: number) {
    if (question === undefined) return;
    this.#remember(question, place);
    this.#pieceAt = place + wireBytes(question) + 4;
  }

  /**
   * Writes a record, or an empty piece if the record does not fit into any message. With `isPlaced`, the record directly follows the previous pieces,
   * and later names may refer to it.
   */
  record(record: DnsRecord, isPlaced: boolean): Uint8Array {
    this.at = 0;
    this.#isPlaced = isPlaced;
    this.compressedName(record.name);
    this.#rest(record);
    this.#pieceAt += this.at;
    return this.#written();
  }

  /** Writes a record without its owner. */
  tail(record: DnsRecord): Uint8Array {
    this.at = 0;
    this.#isPlaced = false;
    this.#rest(record);
    return this.#written();
  }

  fullName(name: string): Uint8Array {
    this.at = 0;
    this.name(name);
    return this.#written();
  }

  u8(value: number): void {
    this.#bytes[this.at++] = value;
  }

  u16(value: number): void {
    this.#bytes[this.at++] = value >> 8;
    this.#bytes[this.at++] = value;
  }

  u32(value: number): void {
    this.u16(value >>> 16);
    this.u16(value & 0xffff);
  }

  bytes(value: Uint8Array): void {
    if (this.at + value.length <= this.#bytes.length) this.#bytes.set(value, this.at);
    this.at += value.length;
  }

  string(value: string): void {
    const bytes = UTF8.encode(value).subarray(0, 255);
    this.u8(bytes.length);
    this.bytes(bytes);
  }

  name(value: string): void {
    this.#begin(value);
    this.#labels(value);
    this.u8(0);
  }

  compressedName(value: string): void {
    this.#begin(value);
    let rest = value;
    while (rest !== "") {
      const offset = this.#offsets.get(rest);
      if (offset !== undefined) {
        this.u16(0xc000 | offset);
        return;
      }
      if (this.#isPlaced) this.#note(rest, this.#pieceAt + this.at);
      const dot = rest.indexOf(".");
      this.#labels(dot < 0 ? rest : rest.slice(0, dot));
      rest = dot < 0 ? "" : rest.slice(dot + 1);
    }
    this.u8(0);
  }

  #rest(record: DnsRecord): void {
    this.u16(RECORDS[record.type].code);
    this.u16(CLASS_IN);
    this.u32(record.ttlSeconds);
    const lengthAt = this.at;
    this.at += 2;
    writeRecordData(record, this);
    const end = this.at;
    this.at = lengthAt;
    this.u16(end - lengthAt - 2);
    this.at = end;
  }

  #written(): Uint8Array {
    return this.at > this.#bytes.length ? this.#bytes.subarray(0, 0) : this.#bytes.subarray(0, this.at);
  }

  #begin(name: string): void {
    this.lastName = name;
    this.lastNameAt = this.at;
  }

  /** Records the suffixes of a name that is uncompressed at `offset`. */
  #remember(name: string, offset: number): void {
    let at = 0;
    let wireAt = offset;
    while (at < name.length) {
      this.#note(name.slice(at), wireAt);
      const dot = name.indexOf(".", at);
      if (dot < 0) return;
      wireAt += 1 + labelBytes(name.slice(at, dot));
      at = dot + 1;
    }
  }

  #note(name: string, offset: number): void {
    if (offset <= MAX_POINTER && !this.#offsets.has(name)) this.#offsets.set(name, offset);
  }

  // HOT: runs for one name in each SRV record. Splitting names into labels first took a third of the time for an answer with ten targets.
  #labels(value: string): void {
    if (value === "") return;
    let lengthAt = this.at++;
    for (let i = 0; i < value.length; i++) {
      const unit = value.charCodeAt(i);
      if (unit === DOT) {
        this.#bytes[lengthAt] = this.at - lengthAt - 1;
        lengthAt = this.at++;
      } else this.#bytes[this.at++] = unit;
    }
    this.#bytes[lengthAt] = this.at - lengthAt - 1;
  }
}

/** Returns the size of a label in wire format, without its length byte. Each `\DDD` is four characters for one byte. */
function labelBytes(label: string): number {
  return label.length - 3 * (label.split("\\").length - 1);
}

function wireBytes(name: string): number {
  return name === "" ? 1 : labelBytes(name) + 2;
}
