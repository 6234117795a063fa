/**
 * Reads and writes `waymark.fabric.v1.Record` without generated code, for rows of the journal and the content of replication frames. The bytes of an
 * entry are copied without being decoded and encoded again.
 */
import { readEntryKey, roomEntryKey, writeEntryKey } from "../../../gen/waymark/catalog/v1/entry_codec.ts";
import { checkEntryKey } from "../../../gen/waymark/catalog/v1/entry_rules.ts";
import { RECORD_LAST_FIELD, RECORD_TAG, TOMBSTONE_LAST_FIELD, TOMBSTONE_TAG } from "../../../gen/waymark/fabric/v1/record_tags.ts";
import { assert, WaymarkError } from "../../lib/errors.ts";
import { isStamp } from "../../lib/hlc.ts";
import {
  closeLength,
  openLength,
  takeBytes,
  WireReader,
  writeBytes,
  writeBytesField,
  writeNumberField,
  writeTextField,
  writeVarint,
} from "../../lib/protowire.ts";
import { findKind } from "../entry/kinds.ts";
import type { EntryBounds } from "../entry/names.ts";
import { FieldProblems } from "../entry/names.ts";
import { SCOPE, type Scope } from "../entry/scope.ts";
import { type MaintenanceOverride, overridesRoom, readOverride, writeOverrides } from "./maintenance.ts";
import { BODY, type CatalogRecord, type EntryKey } from "./record.ts";

/** The highest seq. This limit is the same on every node and leaves room for arithmetic. */
export const MAX_SEQ = 2 ** 52;

/** Whether a received number is a valid seq or generation. */
export function isSeq(n: number): boolean {
  return Number.isSafeInteger(n) && n >= 0 && n <= MAX_SEQ;
}

/** Maximum size of a record's unknown fields, which are stored with the record. */
const MAX_UNKNOWN_BYTES = 16_384;

/** Maximum length of a record's principal, in UTF-16 units. */
const MAX_PRINCIPAL_LENGTH = 512;
/** Space for six numbers, and for the tags and lengths of four strings. */
const FIXED_BYTES = 96;

/** The content of a record: an entry or a tombstone. */
export type RecordBody =
  | { readonly body: typeof BODY.ENTRY; readonly entry: Uint8Array }
  /** The causes of tombstones, with the numbers of the enum `Tombstone.Cause`. */
  | { readonly body: typeof BODY.EXPIRED | typeof BODY.UNREGISTERED; readonly key: EntryKey };

/** The fields of a record, except its body. The principal has at most 512 characters. */
export type RecordHead = Pick<
  CatalogRecord,
  "seq" | "hlc" | "reach" | "filterSeq" | "firstSeq" | "principal" | "unregisteredHlc" | "orders"
>;

/** Unknown fields from a newer version. They are kept unchanged, so that they can be passed on. */
export interface UnknownFields {
  /** Unknown fields of the record. */
  readonly record: Uint8Array;
  /** Unknown fields of the record's tombstone. */
  readonly tombstone: Uint8Array;
}

export type WireRecord = RecordHead & RecordBody & { readonly unknown?: UnknownFields | undefined };

/** Encodes a record. */
export function encodeRecord(head: RecordHead, body: RecordBody, unknown: UnknownFields = NO_UNKNOWN): Uint8Array {
  const { seq, hlc, filterSeq, firstSeq } = head;
  assert(seq > 0 && Number.isSafeInteger(seq) && hlc >= 0 && Number.isSafeInteger(hlc), "a record has an invalid seq or hlc", {
    seq,
    hlc,
  });
  assert(filterSeq <= seq && firstSeq <= seq, "the filter_seq or first_seq of a record is greater than its seq", {
    seq,
    filterSeq,
    firstSeq,
  });
  const { orders } = head;
  const headBytes = FIXED_BYTES + 3 * head.principal.length + overridesRoom(orders) + unknown.record.length + unknown.tombstone.length;
  const out = takeBytes(headBytes + (body.body === BODY.ENTRY ? body.entry.length : roomEntryKey(body.key)));
  let at = writeVarint(out, writeVarint(out, 0, RECORD_TAG.seq), seq);
  at = writeNumberField(out, at, RECORD_TAG.hlc, hlc);
  at = writeNumberField(out, at, RECORD_TAG.reach, head.reach);
  at = writeNumberField(out, at, RECORD_TAG.filterSeq, filterSeq);
  at = writeNumberField(out, at, RECORD_TAG.firstSeq, firstSeq);
  at = writeTextField(out, at, RECORD_TAG.principal, head.principal);
  at = writeBody(out, at, body, unknown.tombstone);
  at = writeNumberField(out, at, RECORD_TAG.unregisteredHlc, head.unregisteredHlc ?? 0);
  if (orders !== undefined) at = writeOverrides(out, at, orders);
  return out.subarray(0, writeBytes(out, at, unknown.record));
}

function writeBody(out: Uint8Array, start: number, body: RecordBody, unknown: Uint8Array): number {
  if (body.body === BODY.ENTRY) {
    return writeBytesField(out, start, RECORD_TAG.entry, body.entry);
  }
  const inner = openLength(writeVarint(out, start, RECORD_TAG.tombstone));
  const at = writeEntryKey(out, inner, TOMBSTONE_TAG.key, body.key);
  return closeLength(out, inner, writeBytes(out, writeNumberField(out, at, TOMBSTONE_TAG.cause, body.body), unknown));
}

/**
 * Decodes a record. The entry's bytes are a view, and are not parsed yet (`EntryStamper.entryOfStored`). Throws `invalid_argument` for malformed
 * bytes, for numbers so high that no node could continue after them, and for records that violate one of these conditions: seqs start at 1, an
 * earlier seq is not after the record's own seq, the reach is known, and there is exactly one body.
 */
export function decodeRecord(bytes: Uint8Array, bounds: EntryBounds): WireRecord {
  const reader = new WireReader(bytes);
  let [seq, hlc, reach, filterSeq, firstSeq] = [0, 0, 0, 0, 0];
  let principal = "";
  let unregisteredHlc: number | undefined;
  let operators: MaintenanceOverride | undefined;
  let owners: MaintenanceOverride | undefined;
  let entry: Uint8Array | undefined;
  let tombstone: Tombstone | undefined;
  let unknown: UnknownFields | undefined;
  while (!reader.isDone()) {
    const from = reader.at;
    const tag = reader.tag();
    if (tag === RECORD_TAG.seq) seq = reader.varint();
    else if (tag === RECORD_TAG.hlc) hlc = reader.varint();
    else if (tag === RECORD_TAG.reach) reach = reader.varint();
    else if (tag === RECORD_TAG.filterSeq) filterSeq = reader.varint();
    else if (tag === RECORD_TAG.firstSeq) firstSeq = reader.varint();
    else if (tag === RECORD_TAG.unregisteredHlc) unregisteredHlc = reader.varint();
    else if (tag === RECORD_TAG.order) operators = readOverride(reader);
    else if (tag === RECORD_TAG.ownerOrder) owners = readOverride(reader);
    else if (tag === RECORD_TAG.principal) principal = reader.text();
    else if ((entry ?? tombstone) !== undefined && (tag === RECORD_TAG.entry || tag === RECORD_TAG.tombstone))
      throw malformed("it has more than one body");
    else if (tag === RECORD_TAG.entry) entry = reader.view();
    else if (tag === RECORD_TAG.tombstone) {
      tombstone = readTombstone(reader, bounds);
      if (tombstone.unknown.length > 0) unknown = { record: unknown?.record ?? NOTHING, tombstone: tombstone.unknown };
    } else {
      reader.skipUnknown(tag, RECORD_LAST_FIELD);
      unknown = { record: joined(unknown?.record, bytes.subarray(from, reader.at)), tombstone: unknown?.tombstone ?? NOTHING };
    }
  }
  if (seq > MAX_SEQ) throw malformed(`seq ${seq} is above 2^52`);
  if (!isStamp(hlc)) throw malformed(`hlc ${hlc} is after the year 2100`);
  if (seq < 1 || filterSeq > seq || firstSeq > seq)
    throw malformed(`seq ${seq} must be at least 1, and must not be less than filter_seq ${filterSeq} or first_seq ${firstSeq}`);
  if (reach < SCOPE.LOCAL || reach > SCOPE.GLOBAL) throw malformed(`unknown reach ${reach}`);
  if (unregisteredHlc !== undefined && unregisteredHlc > hlc) throw malformed(`unregistered_hlc ${unregisteredHlc} is after hlc ${hlc}`);
  if (principal.length > MAX_PRINCIPAL_LENGTH)
    throw malformed(`principal has ${principal.length} characters; at most ${MAX_PRINCIPAL_LENGTH} are allowed`);
  const unknownBytes = unknown === undefined ? 0 : unknown.record.length + unknown.tombstone.length;
  if (unknownBytes > MAX_UNKNOWN_BYTES)
    throw malformed(`it has ${unknownBytes} bytes of unknown fields; at most ${MAX_UNKNOWN_BYTES} are allowed`);
  const orders = operators === undefined && owners === undefined ? undefined : { operators, owners };
  // HOT: one literal for each body; a spread of another object costs as much as reading a field (bench/restart.ts).
  // biome-ignore format: one line per body
  if (entry !== undefined)
    return { seq, hlc, reach: reach as Scope, filterSeq, firstSeq, principal, unregisteredHlc, orders, unknown, body: BODY.ENTRY, entry };
  if (tombstone === undefined) throw malformed("it has neither an entry nor a tombstone");
  const { cause: body, key } = tombstone;
  return { seq, hlc, reach: reach as Scope, filterSeq, firstSeq, principal, unregisteredHlc, orders, unknown, body, key };
}

const NOTHING = new Uint8Array();
const NO_UNKNOWN: UnknownFields = { record: NOTHING, tombstone: NOTHING };

/** Joins bytes. Returns a copy of the bytes, because the argument is a view of a frame. */
function joined(before: Uint8Array = NOTHING, more: Uint8Array): Uint8Array {
  const both = new Uint8Array(before.length + more.length);
  both.set(before);
  both.set(more, before.length);
  return both;
}

interface Tombstone {
  readonly key: EntryKey;
  readonly cause: typeof BODY.EXPIRED | typeof BODY.UNREGISTERED;
  readonly unknown: Uint8Array;
}

function readTombstone(reader: WireReader, bounds: EntryBounds): Tombstone {
  let key: EntryKey | undefined;
  let cause = 0;
  let unknown: Uint8Array = NOTHING;
  const outer = reader.enter();
  while (!reader.isDone()) {
    const from = reader.at;
    const tag = reader.tag();
    if (tag === TOMBSTONE_TAG.key) key = readStampedKey(reader, bounds);
    else if (tag === TOMBSTONE_TAG.cause) cause = reader.varint();
    else {
      reader.skipUnknown(tag, TOMBSTONE_LAST_FIELD);
      unknown = joined(unknown, reader.bytes.subarray(from, reader.at));
    }
  }
  reader.leave(outer);
  if (key === undefined) throw malformed("the tombstone has no key");
  if (cause === BODY.EXPIRED || cause === BODY.UNREGISTERED) return { key, cause, unknown };
  throw malformed(`unknown tombstone cause ${cause}`);
}

/** Reads a key, which must have a kind and a cluster. Throws `invalid_argument` for a key that is not valid in any record. */
export function readStampedKey(reader: WireReader, bounds: EntryBounds): EntryKey {
  const key = readEntryKey(reader);
  const problems = new FieldProblems(bounds);
  checkEntryKey(key, problems);
  problems.throwIfAny("key.");
  if (findKind(key.kind) === undefined || key.clusterId === "") throw malformed("the key has no kind or no cluster");
  return key as EntryKey; // `findKind` knows the kind.
}

function malformed(what: string): WaymarkError {
  return new WaymarkError("invalid_argument", `malformed record: ${what}`);
}
