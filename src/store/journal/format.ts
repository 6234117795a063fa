/**
 * The contents of the journal, and its flat binary format. A batch is transferred to the writer thread as one buffer, and a row has the same layout
 * on disk, so neither thread creates an object for each row.
 */
import type { BatchLease, BatchPut, RestoredPut, SeqNumbers, WriteBatch } from "../../catalog/batch.ts";
import { assert } from "../../lib/errors.ts";

/** A lease, and the number that identifies it in rows. */
export interface NumberedLease extends BatchLease {
  readonly lease: number;
}

/** The data that a directory stores about its node. */
export interface JournalMeta extends SeqNumbers {
  readonly nodeId: string;
  readonly generation: number;
  /** Number of times that the directory was opened, including this time. */
  readonly boots: number;
}

/** The layout of a row: crc32 of the rest, seq, lease number, key length, record length, key, record. Little endian. */
const ROW = { CRC: 0, SEQ: 4, LEASE: 12, KEY_BYTES: 16, RECORD_BYTES: 20, KEY: 24 } as const;

/** The lease number in a row without a lease. */
export const NO_LEASE = 0;
/** The highest lease number that fits into a row. */
export const MAX_LEASE = 2 ** 32 - 1;

const BATCH_HEAD_BYTES = 32;
const encoder = new TextEncoder();
const decoder = new TextDecoder("utf-8", { ignoreBOM: true });

class RowWriter {
  readonly #buffer: ArrayBuffer;
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  #at = 0;

  constructor(capacityBytes: number) {
    this.#buffer = new ArrayBuffer(capacityBytes);
    this.#bytes = new Uint8Array(this.#buffer);
    this.#view = new DataView(this.#buffer);
  }

  u32(value: number): void {
    this.#view.setUint32(this.#at, value, true);
    this.#at += 4;
  }

  f64(value: number): void {
    this.#view.setFloat64(this.#at, value, true);
    this.#at += 8;
  }

  text(value: string): void {
    const sizeBytes = this.#utf8(value, this.#at + 4);
    this.u32(sizeBytes);
    this.#at += sizeBytes;
  }

  put(put: BatchPut): void {
    this.text(put.leaseId);
    const row = this.#at;
    const keyBytes = this.#utf8(put.key, row + ROW.KEY);
    this.#at = row + ROW.SEQ;
    this.f64(put.seq);
    this.u32(NO_LEASE);
    this.u32(keyBytes);
    this.u32(put.record.length);
    this.#bytes.set(put.record, row + ROW.KEY + keyBytes);
    this.#at = row + ROW.KEY + keyBytes + put.record.length;
  }

  /** Writes a string. Returns the size of the string in bytes. */
  // HOT: runs twice per row. Keys and IDs are ASCII. `encodeInto`, with the view that it needs, would cost as much as the rest of a row
  // (bench/register.ts).
  #utf8(value: string, at: number): number {
    const bytes = this.#bytes;
    for (let i = 0; i < value.length; i++) {
      const unit = value.charCodeAt(i);
      if (unit >= 0x80) return encoder.encodeInto(value, bytes.subarray(at)).written;
      bytes[at + i] = unit;
    }
    return value.length;
  }

  /** Returns only the written bytes, because the capacity was an upper bound. */
  finish(): ArrayBuffer {
    return this.#buffer.transfer(this.#at);
  }
}

function textCapacity(value: string): number {
  return 4 + value.length * 3;
}

/** Encodes a batch into one buffer, which can be transferred to another thread. Cost: one copy of each record. */
export function encodeBatch(batch: WriteBatch): ArrayBuffer {
  let capacityBytes = BATCH_HEAD_BYTES;
  for (const lease of batch.leases)
    capacityBytes += 16 + textCapacity(lease.leaseId) + textCapacity(lease.principal) + textCapacity(lease.idempotencyKey);
  for (const put of batch.puts) capacityBytes += textCapacity(put.leaseId) + ROW.KEY + put.key.length * 3 + put.record.length;
  for (const key of batch.forget) capacityBytes += textCapacity(key);
  for (const leaseId of batch.endedLeases) capacityBytes += textCapacity(leaseId);
  const writer = new RowWriter(capacityBytes);
  writer.f64(batch.lastSeq);
  writer.f64(batch.floor);
  writer.u32(batch.forget.length);
  writer.u32(batch.leases.length);
  writer.u32(batch.puts.length);
  writer.u32(batch.endedLeases.length);
  for (const key of batch.forget) writer.text(key);
  for (const lease of batch.leases) {
    writer.f64(lease.ttlMs);
    writer.f64(lease.grantedWallMs);
    writer.text(lease.leaseId);
    writer.text(lease.principal);
    writer.text(lease.idempotencyKey);
  }
  for (const put of batch.puts) writer.put(put);
  for (const leaseId of batch.endedLeases) writer.text(leaseId);
  return writer.finish();
}

/** Handles the parts of a batch in the writer thread, in the order of `WriteBatch`. */
export interface BatchVisitor {
  forget(keyBytes: Uint8Array): void;
  lease(lease: BatchLease): void;
  /** `row` has the layout `ROW`, but its crc and lease number are not filled in. `row` is a view into the batch and may be written to. */
  put(row: JournalRow, leaseId: string): void;
  endLease(leaseId: string): void;
}

/** One row, as a view of a larger buffer. */
export interface JournalRow {
  readonly seq: number;
  readonly bytes: Uint8Array;
}

/** Offset at which the key starts in the bytes of a row. */
export const ROW_KEY = ROW.KEY;

/** Offset at which the key of the row at `at` ends. */
export function rowKeyEnd(bytes: Uint8Array, at = 0): number {
  return at + ROW.KEY + readU32(bytes, at + ROW.KEY_BYTES);
}

function readU32(bytes: Uint8Array, at: number): number {
  return ((bytes[at] ?? 0) | ((bytes[at + 1] ?? 0) << 8) | ((bytes[at + 2] ?? 0) << 16) | ((bytes[at + 3] ?? 0) << 24)) >>> 0;
}

function writeU32(bytes: Uint8Array, at: number, value: number): void {
  for (let i = 0; i < 4; i++) bytes[at + i] = value >>> (8 * i);
}

class RowReader {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  #at: number;

  constructor(buffer: ArrayBuffer, at: number) {
    this.#bytes = new Uint8Array(buffer);
    this.#view = new DataView(buffer);
    this.#at = at;
  }

  u32(): number {
    const value = this.#view.getUint32(this.#at, true);
    this.#at += 4;
    return value;
  }

  f64(): number {
    const value = this.#view.getFloat64(this.#at, true);
    this.#at += 8;
    return value;
  }

  bytes(): Uint8Array {
    const length = this.u32();
    this.#at += length;
    return this.#bytes.subarray(this.#at - length, this.#at);
  }

  text(): string {
    const bytes = this.bytes();
    return bytes.length === 0 ? "" : decoder.decode(bytes);
  }

  row(): JournalRow {
    const at = this.#at;
    const keyBytes = this.#view.getUint32(at + ROW.KEY_BYTES, true);
    const recordBytes = this.#view.getUint32(at + ROW.RECORD_BYTES, true);
    this.#at = at + ROW.KEY + keyBytes + recordBytes;
    return {
      seq: this.#view.getFloat64(at + ROW.SEQ, true),
      bytes: this.#bytes.subarray(at, this.#at),
    };
  }
}

export interface BatchMarks extends SeqNumbers {
  readonly leaseCount: number;
  readonly putCount: number;
}

/** Returns the numbers of an encoded batch that are needed before its parts are read. */
export function batchMarks(buffer: ArrayBuffer): BatchMarks {
  const reader = new RowReader(buffer, 0);
  const [lastSeq, floor] = [reader.f64(), reader.f64()];
  reader.u32();
  return { lastSeq, floor, leaseCount: reader.u32(), putCount: reader.u32() };
}

/** Calls the matching method of the visitor for each part of an encoded batch. */
export function visitBatch(buffer: ArrayBuffer, visitor: BatchVisitor): void {
  const counts = new RowReader(buffer, 16);
  const [forgets, leases, puts, ended] = [counts.u32(), counts.u32(), counts.u32(), counts.u32()];
  const reader = new RowReader(buffer, BATCH_HEAD_BYTES);
  for (let i = 0; i < forgets; i++) visitor.forget(reader.bytes());
  for (let i = 0; i < leases; i++) {
    const ttlMs = reader.f64();
    const grantedWallMs = reader.f64();
    visitor.lease({ ttlMs, grantedWallMs, leaseId: reader.text(), principal: reader.text(), idempotencyKey: reader.text() });
  }
  for (let i = 0; i < puts; i++) {
    const leaseId = reader.text();
    visitor.put(reader.row(), leaseId);
  }
  for (let i = 0; i < ended; i++) visitor.endLease(reader.text());
}

/** Damage in a chunk of stored rows: the seq of the last valid row, and the fault in the next row. */
export interface RowDamage {
  readonly seq: number;
  readonly problem: string;
}

/**
 * Calls `onRow` with the seq and the offset of each row in `chunk`, in its on-disk layout, after checking that the row is complete, that seqs ascend
 * from `afterSeq`, and that the checksum is correct. Returns the first damage that it finds, after it has visited the rows before it.
 */
export function visitRows(
  chunk: Uint8Array,
  options: { readonly afterSeq: number; readonly crc32: (bytes: Uint8Array) => number },
  onRow: (seq: number, at: number) => void,
): RowDamage | undefined {
  const view = new DataView(chunk.buffer, chunk.byteOffset, chunk.byteLength);
  let seq = options.afterSeq;
  for (let at = 0; at < chunk.length; ) {
    if (at + ROW.KEY > chunk.length) return { seq, problem: "is truncated" };
    const keyEnd = at + ROW.KEY + view.getUint32(at + ROW.KEY_BYTES, true);
    const end = keyEnd + view.getUint32(at + ROW.RECORD_BYTES, true);
    if (end > chunk.length) return { seq, problem: "is longer than the stored data" };
    if (options.crc32(chunk.subarray(at + ROW.SEQ, end)) !== view.getUint32(at + ROW.CRC, true))
      return { seq, problem: "has a wrong checksum" };
    const next = view.getFloat64(at + ROW.SEQ, true);
    if (!(next > seq && Number.isSafeInteger(next))) return { seq, problem: `has an invalid seq: ${next}` };
    seq = next;
    onRow(seq, at);
    at = end;
  }
  return undefined;
}

/** Returns the lease number of the row at `at`. */
export function rowLease(bytes: Uint8Array, at: number): number {
  return readU32(bytes, at + ROW.LEASE);
}

/** Fills in the lease number and the checksum, which only the writer thread knows. */
export function sealRow(row: Uint8Array, lease: number, crc32: (bytes: Uint8Array) => number): void {
  writeU32(row, ROW.LEASE, lease);
  writeU32(row, ROW.CRC, crc32(row.subarray(ROW.SEQ)));
}

/** Decodes checked rows into puts. `leaseId` returns the ID for a lease number, or undefined if that lease has ended. */
export function decodeRows(chunk: Uint8Array, leaseId: (lease: number) => string | undefined, onRow: (put: RestoredPut) => void): void {
  const view = new DataView(chunk.buffer, chunk.byteOffset, chunk.byteLength);
  // HOT: runs for each row when a journal is restored (bench/restart.ts). Creating the views that `visitRows` creates would cost a quarter more.
  for (let at = 0; at < chunk.length; ) {
    const keyEnd = at + ROW.KEY + view.getUint32(at + ROW.KEY_BYTES, true);
    const end = keyEnd + view.getUint32(at + ROW.RECORD_BYTES, true);
    assert(end <= chunk.length, "a row with a valid checksum is incomplete", { at, end, chunkBytes: chunk.length });
    onRow({
      seq: view.getFloat64(at + ROW.SEQ, true),
      record: chunk.subarray(keyEnd, end),
      leaseId: leaseId(view.getUint32(at + ROW.LEASE, true)) ?? "",
    });
    at = end;
  }
}
