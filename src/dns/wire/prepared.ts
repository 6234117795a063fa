/**
 * Plans as pieces of a message, made once for a plan. A response is then its header, the question as it was sent, copies of the pieces in a drawn order, and
 * the OPT record.
 */
import { CLASS_IN, type Plan, type Rcode } from "../plan/answer.ts";
import type { DataWriter, DnsRecord, RecordOf } from "../records/record.ts";
import { areSampled, hostOf, RECORDS, writeRecordData } from "../records/records.ts";
import { HEADER_BYTES } from "./query.ts";

/** Largest message: over TCP its length has two bytes. */
export const MAX_MESSAGE_BYTES = 0xffff;
/** A pointer holds 14 bits. */
export const MAX_POINTER = 0x3fff;
const DOT = 46;
const UTF8 = new TextEncoder();
/** Memory of a piece besides its bytes: the object and the head of its array. Measured on Node 24 and rounded up. */
const PIECE_BYTES = 240;

/** The addresses of a host, for the additional section. */
export interface PreparedGlue {
  /** What follows the owner in each record. */
  readonly tails: readonly Uint8Array[];
  /** The host's name in full, for where no pointer reaches it. */
  readonly owner: Uint8Array;
  /** With pointers as owners. */
  readonly sizeBytes: number;
  /** The last response that has it. It has it once. */
  response: number;
}

export interface PreparedRecord {
  readonly bytes: Uint8Array;
  /** Above that of any message for one that fits into none. */
  readonly sizeBytes: number;
  readonly weight: number;
  readonly isSoa: boolean;
  readonly glue: PreparedGlue | undefined;
  /** Where `bytes` have the host's name; 0 if they have no such name. */
  readonly hostAt: number;
}

export interface PreparedGroup {
  /** Their order is that of the last response. Each draw begins with it, which makes the next as random. */
  readonly records: PreparedRecord[];
  /** A CNAME that leads to what follows. */
  readonly isChain: boolean;
  /** Whether a limit of answers makes a sample of them. */
  readonly isSampled: boolean;
}

export interface Prepared {
  readonly rcode: Rcode;
  readonly isAuthoritative: boolean;
  readonly groups: readonly PreparedGroup[];
  /** Whether the records are a part of what there is, which TC says over TCP too. */
  readonly isPart: boolean;
  /** The owner of the first record of the authority section. */
  readonly zone: string;
  readonly authority: Uint8Array;
  readonly authorityCount: number;
  /** Where the authority section has its last record behind the owner, if that is SOA; else 0. */
  readonly soaAt: number;
  /** Where it begins. */
  readonly soaStart: number;
  readonly hasGlue: boolean;
  /** Whether sets have signatures, and are whole or not there. */
  readonly isSigned: boolean;
  /** Whose signature goes behind its record, because it is that of the zone's version. */
  readonly soa: RecordOf<"SOA"> | undefined;
  /** Where records of a signed authority section have their TTL. */
  readonly ttlAts: readonly number[];
  /** Of memory, rather too many than too few. */
  readonly sizeBytes: number;
}

/** Prepares a plan for the question of this name. `name` is undefined where a plan without records is for any question. Cost: its records. */
export function prepare(plan: Plan, name: string | undefined): Prepared {
  const writer = new PieceWriter(name);
  const glue = new Map<string, PreparedGlue>();
  const groups = plan.groups.map((records): PreparedGroup => {
    const isChain = records.length === 1 && records[0]?.type === "CNAME";
    return {
      isChain,
      isSampled: areSampled(records),
      records: records.map((record) => preparedRecord(writer, record, { isChain, plan, glue })),
    };
  });
  const answers = groups.flatMap(({ records }) => records);
  const isEmpty = answers.every(({ bytes }) => bytes.length === 0);
  const authority = plan.authority.map((record) => writer.record(record, isEmpty).slice());
  // It comes last, behind what is denied.
  const soa = plan.authority.at(-1);
  const soaBytes = authority.at(-1);
  let at = 0;
  const ownerEnds = authority.map((bytes) => {
    at += bytes.length;
    return at - bytes.length + ownerEnd(bytes);
  });
  const soaAt = soa?.type === "SOA" && soaBytes !== undefined && soaBytes.length > 0 ? (ownerEnds.at(-1) ?? 0) : 0;
  const pieces = [
    ...answers.map(({ bytes }) => bytes),
    ...authority,
    ...[...glue.values()].flatMap(({ tails, owner }) => [owner, ...tails]),
  ];
  return {
    rcode: plan.rcode,
    isAuthoritative: plan.isAuthoritative,
    groups,
    isPart: plan.isCut === true,
    zone: soa?.name ?? "",
    authority: joined(authority),
    authorityCount: authority.length,
    soaAt,
    soaStart: at - (soaBytes?.length ?? 0),
    hasGlue: glue.size > 0,
    isSigned: plan.signed !== undefined,
    soa: plan.signed?.soa,
    // Behind type and class.
    ttlAts: plan.signed === undefined ? [] : ownerEnds.map((end) => end + 4),
    sizeBytes: pieces.reduce((sum, { length }) => sum + PIECE_BYTES + length, PIECE_BYTES),
  };
}

function preparedRecord(
  writer: PieceWriter,
  record: DnsRecord,
  { isChain, plan, glue }: { readonly isChain: boolean; readonly plan: Plan; readonly glue: Map<string, PreparedGlue> },
): PreparedRecord {
  const bytes = writer.record(record, isChain);
  const sizeBytes = writer.at;
  const host = hostOf(record);
  const addresses = host === undefined ? undefined : plan.glue.get(host);
  const weight = record.type === "SRV" ? record.data.weight : 0;
  const hostAt = host !== undefined && writer.lastName.toLowerCase() === host ? writer.lastNameAt : 0;
  const own = { bytes: bytes.slice(), sizeBytes, weight, isSoa: record.type === "SOA", hostAt };
  if (host === undefined || addresses === undefined || addresses.length === 0) return { ...own, glue: undefined };
  const found = glue.get(host) ?? preparedGlue(writer, host, addresses);
  glue.set(host, found);
  return { ...own, glue: found };
}

function preparedGlue(writer: PieceWriter, host: string, addresses: readonly DnsRecord[]): PreparedGlue {
  const owner = writer.fullName(host).slice();
  const tails = addresses.map((record) => writer.tail(record).slice());
  return { owner, tails, sizeBytes: tails.reduce((sum, { length }) => sum + 2 + length, 0), response: 0 };
}

function joined(pieces: readonly Uint8Array[]): Uint8Array {
  const [first] = pieces;
  return pieces.length === 1 && first !== undefined ? first : Buffer.concat(pieces);
}

/** Where a record's owner ends. */
export function ownerEnd(bytes: Uint8Array): number {
  let at = 0;
  for (;;) {
    const length = bytes[at] ?? 0;
    if (length >= 0xc0) return at + 2;
    if (length === 0) return at + 1;
    at += length + 1;
  }
}

/**
 * Writes pieces. Names may be compressed into what lies at the same place in every response: the question, and CNAME records before everything else. A write
 * past the buffer only moves the position.
 */
class PieceWriter implements DataWriter {
  readonly #bytes = new Uint8Array(MAX_MESSAGE_BYTES);
  readonly #offsets = new Map<string, number>();
  /** Where in a response the piece begins, while that is known. */
  #pieceAt = HEADER_BYTES;
  #isPlaced = false;
  at = 0;
  lastName = "";
  lastNameAt = 0;

  constructor(question: string | undefined) {
    if (question === undefined) return;
    this.#remember(question, HEADER_BYTES);
    this.#pieceAt = HEADER_BYTES + wireBytes(question) + 4;
  }

  /** A record; empty if it fits into no message. With `isPlaced` it is where the pieces before it end, and later names may point into it. */
  record(record: DnsRecord, isPlaced: boolean): Uint8Array {
    this.at = 0;
    this.#isPlaced = isPlaced;
    this.compressedName(record.name);
    this.#rest(record);
    this.#pieceAt += this.at;
    return this.#written();
  }

  /** What follows the owner of a record. */
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

  /** Notes the suffixes of a name that is uncompressed at `offset`. */
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

  // HOT: runs for one name in each SRV record. Splitting names into labels first cost a third of an answer with ten targets.
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

/** Bytes of a label on the wire, without its length. Each `\DDD` is four characters for one byte. */
function labelBytes(label: string): number {
  return label.length - 3 * (label.split("\\").length - 1);
}

function wireBytes(name: string): number {
  return name === "" ? 1 : labelBytes(name) + 2;
}
