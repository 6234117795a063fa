/** Packs the records of a zone into messages (RFC 5936, 2.2). */

import type { LabelsOf } from "../../lib/metrics/metrics.ts";
import { CLASS_IN } from "../plan/answer.ts";
import type { DataWriter, DnsRecord } from "../records/record.ts";
import { RECORDS, writeRecordData } from "../records/records.ts";
import { HEADER_BYTES, OPTION } from "../wire/dns-query.ts";
import { MAX_MESSAGE_BYTES, MAX_POINTER } from "../wire/prepared-response.ts";
import { OPTION_HEAD_BYTES, paddingOf } from "../wire/response.ts";
import type { ResponseSignature } from "../wire/tsig.ts";

/** A message is sent when it reaches this size, because compression pointers cannot address more. */
const FULL_BYTES = 14_000;
const MAX_BYTES = 65_000;
/** QR and AA. */
const FLAGS = 0x8400;
const UTF8 = new TextEncoder();

export interface MessageStart {
  readonly id: number;
  /** The question in the query, which is repeated only in the first message. */
  readonly question: Uint8Array;
  /** The OPT record of each message, without options. Empty if the query had no OPT record. */
  readonly opt: Uint8Array;
  /** Size of each message's TSIG record, which is included in the padded size. Undefined without padding. */
  readonly paddedWithBytes: number | undefined;
}

export class ZoneMessages implements DataWriter {
  readonly #start: MessageStart;
  readonly #bytes = Buffer.alloc(2 * MAX_BYTES);
  readonly #offsets = new Map<string, number>();
  #at = 0;
  #count = 0;
  #isFirst = true;

  constructor(start: MessageStart) {
    this.#start = start;
    this.#begin();
  }

  /**
   * Adds a record. Returns the messages that are now full: two if a large record did not fit into the current message. A record that is too large for
   * any message is omitted, as in answers.
   */
  add(record: DnsRecord): readonly Uint8Array[] {
    const before = this.#at;
    this.compressedName(record.name);
    this.u16(RECORDS[record.type].code);
    this.u16(CLASS_IN);
    this.u32(record.ttlSeconds);
    const lengthAt = this.#at;
    this.#at += 2;
    writeRecordData(record, this);
    if (this.#at > MAX_BYTES) {
      this.#at = before;
      for (const [name, offset] of this.#offsets) if (offset >= before) this.#offsets.delete(name);
      return this.#count === 0 ? [] : [this.end(), ...this.add(record)];
    }
    this.#bytes.writeUInt16BE(this.#at - lengthAt - 2, lengthAt);
    this.#count += 1;
    return this.#at >= FULL_BYTES ? [this.end()] : [];
  }

  /** Returns the current message and starts the next one. */
  end(): Uint8Array {
    const { opt, paddedWithBytes } = this.#start;
    this.#bytes.writeUInt16BE(this.#count, 6);
    this.#bytes.writeUInt16BE(opt.length > 0 ? 1 : 0, 10);
    this.bytes(opt);
    if (paddedWithBytes !== undefined) this.#pad(paddedWithBytes);
    const message = Uint8Array.from(this.#bytes.subarray(0, this.#at));
    this.#isFirst = false;
    this.#begin();
    return message;
  }

  /** Adds padding as the only option of the OPT record that was just written. */
  #pad(signatureBytes: number): void {
    const sizeBytes = this.#at + OPTION_HEAD_BYTES + signatureBytes;
    const padding = Math.min(paddingOf(sizeBytes), MAX_MESSAGE_BYTES - sizeBytes);
    this.#bytes.writeUInt16BE(OPTION_HEAD_BYTES + padding, this.#at - 2);
    this.u16(OPTION.PADDING);
    this.u16(padding);
    this.#bytes.fill(0, this.#at, this.#at + padding);
    this.#at += padding;
  }

  #begin(): void {
    const { id, question } = this.#start;
    this.#offsets.clear();
    this.#count = 0;
    this.#bytes.fill(0, 0, HEADER_BYTES);
    this.#bytes.writeUInt16BE(id, 0);
    this.#bytes.writeUInt16BE(FLAGS, 2);
    this.#at = HEADER_BYTES;
    if (!this.#isFirst) return;
    this.#bytes.writeUInt16BE(1, 4);
    this.bytes(question);
  }

  u8(value: number): void {
    this.#bytes[this.#at++] = value;
  }

  u16(value: number): void {
    this.u8(value >> 8);
    this.u8(value & 0xff);
  }

  u32(value: number): void {
    this.u16(value >>> 16);
    this.u16(value & 0xffff);
  }

  bytes(value: Uint8Array): void {
    // A write past the bound only moves the position. Such a record is not sent.
    if (this.#at + value.length <= this.#bytes.length) this.#bytes.set(value, this.#at);
    this.#at += value.length;
  }

  string(value: string): void {
    const bytes = UTF8.encode(value).subarray(0, 255);
    this.u8(bytes.length);
    this.bytes(bytes);
  }

  name(value: string): void {
    for (const label of value === "" ? [] : value.split(".")) this.#label(label);
    this.u8(0);
  }

  compressedName(value: string): void {
    for (let rest = value; rest !== ""; ) {
      const offset = this.#offsets.get(rest);
      if (offset !== undefined) return this.u16(0xc000 | offset);
      if (this.#at <= MAX_POINTER) this.#offsets.set(rest, this.#at);
      const dot = rest.indexOf(".");
      this.#label(dot < 0 ? rest : rest.slice(0, dot));
      rest = dot < 0 ? "" : rest.slice(dot + 1);
    }
    this.u8(0);
  }

  #label(label: string): void {
    this.u8(label.length);
    this.bytes(Buffer.from(label, "latin1"));
  }
}

// The request for a zone transfer, and its result.

/** A requested transfer. */
export interface RequestedTransfer {
  readonly keyName: string;
  readonly zone: string;
  readonly viewIndex: number;
  /** The source address of the request. */
  readonly address: string;
}

/** The result of a transfer. */
export interface EndedTransfer extends RequestedTransfer {
  readonly outcome: LabelsOf<"dns_transfers_total">["outcome"];
  readonly serial: number;
  readonly recordCount: number;
  /** Number of names for which only some targets were sent. */
  readonly crowdedNameCount: number;
  readonly sizeBytes: number;
}

export interface TransferRequest {
  readonly id: number;
  /** The same as in the query. */
  readonly question: Uint8Array;
  /** The OPT record of each message. Empty if the query has no OPT record. */
  readonly opt: Uint8Array;
  /** Whether each message is padded, which requires an OPT record (RFC 7830). */
  readonly isPadded: boolean;
  readonly zone: string;
  readonly signing: ResponseSignature;
  readonly viewIndex: number;
}
