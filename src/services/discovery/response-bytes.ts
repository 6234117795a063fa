/**
 * Builds query and watch responses from existing bytes: entries are copied out of the slab, and never decoded or encoded again
 * (docs/architecture.md). The view's health and load are appended to the entry, because in protobuf the last value of a field wins.
 */

import { create, toBinary } from "@bufbuild/protobuf";
import {
  ENTRY_TAG,
  type EntryFields,
  LOAD_REPORT_MAX_BYTES,
  readEntryField,
  writeEntryKey,
} from "../../../gen/waymark/catalog/v1/entry_codec.ts";
import {
  CatalogWatchResponseSchema,
  type KeepAliveRequest,
  KeepAliveRequestSchema,
  type RegisterRequest,
  RegisterRequestSchema,
} from "../../../gen/waymark/discovery/v1/discovery_pb.js";
import {
  DISCOVERY_DELTA_TAG as DELTA,
  KEEP_ALIVE_REQUEST_TAG as KEEP_ALIVE,
  KEEP_ALIVE_REQUEST_LAST_FIELD,
  KEEP_ALIVE_RESPONSE_TAG as KEPT_ALIVE,
  CATALOG_QUERY_RESPONSE_TAG as QUERY,
  REGISTER_REQUEST_TAG as REGISTER,
  REGISTER_REQUEST_LAST_FIELD,
  UNREACHABLE_NODES_TAG as UNREACHABLE,
  CATALOG_WATCH_RESPONSE_TAG as WATCH,
} from "../../../gen/waymark/discovery/v1/discovery_tags.ts";
import { RESOLVE_RESPONSE_TAG as NAMED } from "../../../gen/waymark/resolver/v1/resolver_tags.ts";
import { keyPrefixBytes } from "../../catalog/entry/codec.ts";
import { writeLoad } from "../../catalog/entry/view.ts";
import { type CatalogRecord, deltaId, HEALTH, keyParts, viewHealth } from "../../catalog/record/record.ts";
import type { Slab } from "../../catalog/record/slab.ts";
import type { UnreachableNodes } from "../../catalog/unreachable-nodes.ts";
import { CAUSE } from "../../catalog/watch/change-cause.ts";
import { ACTION, type FeedMessage, type HiddenNamespaces, SNAPSHOT, type WatchChange } from "../../catalog/watch/reader.ts";
import type { LoadReports, RenewalResult } from "../../discovery/registrar/load-reports.ts";
import { WaymarkError } from "../../lib/errors.ts";
import {
  closeLength,
  once,
  openLength,
  readTime,
  type TimeFields,
  textsRoom,
  timeOf,
  WireReader,
  writeBytesField,
  writeNumberField,
  writeText,
  writeTextField,
  writeTexts,
  writeTimeField,
  writeVarint,
} from "../../lib/protowire.ts";
import type { RequestReader } from "../service.ts";
import type { AnswerAge } from "./answer-age.ts";

/** Largest number of bytes that a view appends to an entry: a health or a load. */
const SUFFIX_ROOM = LOAD_REPORT_MAX_BYTES;
/** Largest size of a query response in bytes, without items, token and explanations. */
const QUERY_ROOM = 512;
/** Largest size of a delta in bytes, without its texts and the stored entry. */
const DELTA_ROOM = 160 + SUFFIX_ROOM;
const WATCH_ROOM = 256;
/** Largest size of the answer to a renewal in bytes, without its ids. */
const KEPT_ALIVE_ROOM = 32;

export interface QueryAnswer {
  readonly records: readonly CatalogRecord[];
  readonly nextToken: string;
  readonly revision: number;
  readonly cursor: string;
  readonly servedBy: string;
  readonly age: AnswerAge;
  readonly generatedWallMs: number;
  /** Encoded Explanation messages. */
  readonly explanations: readonly Uint8Array[];
  /** Present in answers for a resolver. */
  readonly resolved?: ResolvedMark | undefined;
}

/** A page of a name's entries. The cursor is empty on later pages. */
export type NamedAnswer = Pick<QueryAnswer, "age" | "cursor" | "nextToken" | "records" | "servedBy">;

/** The additional fields of an answer for a resolver. */
export interface ResolvedMark {
  /** Identifies the policy under which the answer was made. */
  readonly policyEpoch: string;
  /** The resolvers through which the data passed, nearest first. */
  readonly via: readonly string[];
  /** Encoded `heard` fields for a watch on summaries, with the times of the last beacons from clusters. Absent in other answers. */
  readonly heard?: Uint8Array | undefined;
}

/** A delta with its tag, as encoded in a message. */
interface EncodedDelta extends Pick<WatchChange, "action" | "revision"> {
  readonly bytes: Uint8Array;
}

export interface WatchMessageOptions {
  readonly isNamesOnly: boolean;
  readonly sentWallMs: number;
  readonly servedBy: string;
  readonly age: AnswerAge;
  /** Present in a watch by a resolver. */
  readonly resolved?: ResolvedMark | undefined;
}

/** Encodes the payload of deltas in watches on data other than entries. */
export interface DeltaPayload {
  /** Returns an upper bound of the encoded size in bytes. */
  room(record: CatalogRecord): number;
  /** Writes the length and the payload after the tag, and returns the offset after them. */
  write(out: Uint8Array, tagged: number, record: CatalogRecord): number;
  /** Writes the payload for resolvers, which receive records in their stored form. */
  writeSealed(out: Uint8Array, tagged: number, record: CatalogRecord): number;
}

/** Writes responses into a scratch buffer and copies them out, so that sizes need not be computed first. */
export class DiscoveryBytes {
  readonly #slab: Slab;
  readonly #loads: Pick<LoadReports, "of">;
  readonly #summaries: DeltaPayload | undefined;
  #scratch = Buffer.allocUnsafeSlow(256 * 1024);
  /** Deltas from the same millisecond, which watches with different filters share. */
  readonly #deltas = new Map<CatalogRecord, EncodedDelta>();
  #deltasWallMs = 0;

  /** With `summaries`, the records in watches are summaries. */
  constructor(slab: Slab, loads: Pick<LoadReports, "of">, summaries?: DeltaPayload) {
    this.#slab = slab;
    this.#loads = loads;
    this.#summaries = summaries;
  }

  // HOT: runs once per query. According to bench/query.ts, encoding ten entries costs 12 µs with protobuf-es and 1 µs with this method.
  query(answer: QueryAnswer): Buffer {
    let room = QUERY_ROOM + 3 * (answer.nextToken.length + answer.cursor.length + answer.servedBy.length) + roomOf(answer.resolved);
    room += unreachableRoom(answer.age.unreachable);
    for (const record of answer.records) room += record.sizeBytes + SUFFIX_ROOM;
    for (const explanation of answer.explanations) room += explanation.length + 16;
    const out = this.#room(room);
    let at = 0;
    const reader = readerOf(answer);
    for (const record of answer.records) at = this.#entry(out, writeVarint(out, at, QUERY.items), record, reader);
    at = writeTextField(out, at, QUERY.nextPageToken, answer.nextToken);
    at = writeTime(out, at, QUERY.generatedAt, answer.generatedWallMs);
    at = writeNumberField(out, at, QUERY.revision, answer.revision);
    at = writeText(out, writeVarint(out, at, QUERY.cursor), answer.cursor);
    at = writeText(out, writeVarint(out, at, QUERY.servedBy), answer.servedBy);
    at = writeTime(out, at, QUERY.age, answer.age.ageMs);
    for (const explanation of answer.explanations) at = writeBytesField(out, at, QUERY.explanation, explanation);
    at = writeNumberField(out, at, QUERY.stale, answer.age.isStale ? 1 : 0);
    at = writeNumberField(out, at, QUERY.source, answer.age.source);
    at = writeUnreachable(out, at, QUERY.unreachableNodes, answer.age.unreachable);
    if (answer.resolved !== undefined) {
      at = writeTextField(out, at, QUERY.policyEpoch, answer.resolved.policyEpoch);
      at = writeTexts(out, at, QUERY.via, answer.resolved.via);
    }
    return Buffer.from(out.subarray(0, at));
  }

  /** Encodes a page of a name's entries, as a ResolveResponse of ResolverService. */
  named({ records, nextToken, cursor, servedBy, age }: NamedAnswer): Buffer {
    let room = QUERY_ROOM + 3 * (nextToken.length + cursor.length + servedBy.length) + unreachableRoom(age.unreachable);
    for (const record of records) room += record.sizeBytes + SUFFIX_ROOM;
    const out = this.#room(room);
    let at = 0;
    for (const record of records) at = this.#entry(out, writeVarint(out, at, NAMED.entries), record, "client");
    at = writeNumberField(out, at, NAMED.stale, age.isStale ? 1 : 0);
    at = writeTime(out, at, NAMED.age, age.ageMs);
    at = writeTextField(out, at, NAMED.nextPageToken, nextToken);
    at = writeNumberField(out, at, NAMED.source, age.source);
    at = writeTextField(out, at, NAMED.servedBy, servedBy);
    at = writeTextField(out, at, NAMED.cursor, cursor);
    at = writeUnreachable(out, at, NAMED.unreachableNodes, age.unreachable);
    return Buffer.from(out.subarray(0, at));
  }

  watch(message: FeedMessage, options: WatchMessageOptions): Buffer {
    let room = WATCH_ROOM + 3 * options.servedBy.length + message.cursor.length + message.portableCursor.length + roomOf(options.resolved);
    room += unreachableRoom(options.age.unreachable);
    for (const namespace of message.replaces) room += namespace.length + 8;
    for (const { record } of message.changes) room += DELTA_ROOM + record.sizeBytes + record.origin.id.length + 3 * record.key.length;
    if (this.#summaries !== undefined) for (const { record } of message.changes) room += this.#summaries.room(record);
    const out = this.#room(room);
    let at = 0;
    const isShared = message.snapshot === SNAPSHOT.NONE && !options.isNamesOnly;
    for (const change of message.changes)
      at = isShared ? this.#sharedDelta(out, at, change, options) : this.#delta(out, writeVarint(out, at, WATCH.deltas), change, options);
    at = writeNumberField(out, at, WATCH.revision, message.revision);
    at = writeTextField(out, at, WATCH.cursor, message.cursor);
    at = writeTextField(out, at, WATCH.portableCursor, message.portableCursor);
    at = writeNumberField(out, at, WATCH.snapshot, message.snapshot);
    for (const namespace of message.replaces) at = writeText(out, writeVarint(out, at, WATCH.replaces), namespace);
    if (message.isBookmark) at = writeNumberField(out, at, WATCH.bookmark, 1);
    if (message.digest !== undefined) {
      at = writeNumberField(out, at, WATCH.count, message.digest.count);
      at = out.writeBigUInt64LE(message.digest.digest, writeVarint(out, at, WATCH.digest));
    }
    // Only the rare messages that need these fields have them, because they would add a tenth to the size of a delta.
    if (message.isBookmark || message.snapshot !== SNAPSHOT.NONE || message.portableCursor !== "") {
      at = writeText(out, writeVarint(out, at, WATCH.servedBy), options.servedBy);
      at = writeTime(out, at, WATCH.age, options.age.ageMs);
      at = writeNumberField(out, at, WATCH.stale, options.age.isStale ? 1 : 0);
      at = writeNumberField(out, at, WATCH.source, options.age.source);
      at = writeUnreachable(out, at, WATCH.unreachableNodes, options.age.unreachable);
      if (options.resolved !== undefined) at = this.#mark(out, at, options.resolved);
    }
    if (options.resolved !== undefined) at = writeTextField(out, at, WATCH.policyEpoch, options.resolved.policyEpoch);
    return Buffer.from(out.subarray(0, at));
  }

  #mark(out: Uint8Array, start: number, { via, heard }: ResolvedMark): number {
    const at = writeTexts(out, start, WATCH.via, via);
    if (heard === undefined) return at;
    out.set(heard, at);
    return at + heard.length;
  }

  /** Returns the bytes of an entry as readers see it, for answers that are built as messages. */
  entry(record: CatalogRecord): Buffer {
    const out = this.#room(record.sizeBytes + SUFFIX_ROOM);
    return Buffer.from(out.subarray(0, this.#body(out, 0, record, "client")));
  }

  #room(bytes: number): Buffer {
    if (bytes > this.#scratch.length) this.#scratch = Buffer.allocUnsafeSlow(bytes * 2);
    return this.#scratch;
  }

  /** Writes the length and the bytes of an entry. */
  #entry(out: Uint8Array, at: number, record: CatalogRecord, reader: ReaderKind): number {
    const load = record.origin.life === "live" ? this.#loads.of(record.key, record.namespace) : undefined;
    if (load === undefined && record.origin.life === "live") {
      return this.#slab.copyTo(record.at, record.sizeBytes, out, writeVarint(out, at, record.sizeBytes));
    }
    const start = openLength(at);
    return closeLength(out, start, this.#body(out, start, record, reader));
  }

  #body(out: Uint8Array, at: number, record: CatalogRecord, reader: ReaderKind): number {
    const end = this.#slab.copyTo(record.at, record.sizeBytes, out, at);
    if (record.origin.life !== "live") {
      // For clients, the health of an entry in maintenance does not change even if its node is orphaned. A resolver uses the health as the state of
      // the origin, so it always gets ORPHANED. The resolver's own readers still see maintenance.
      const isMarked = reader === "resolver" || viewHealth(record) === HEALTH.ORPHANED;
      return isMarked ? writeVarint(out, writeVarint(out, end, ENTRY_TAG.health), HEALTH.ORPHANED) : end;
    }
    const load = this.#loads.of(record.key, record.namespace);
    return load === undefined ? end : writeLoad(out, end, load);
  }

  /** Writes a delta that readers with different filters share. HOT: runs once per change and filter; see bench/watch.ts. */
  #sharedDelta(out: Uint8Array, at: number, change: WatchChange, options: WatchMessageOptions): number {
    if (options.sentWallMs !== this.#deltasWallMs) {
      this.#deltas.clear();
      this.#deltasWallMs = options.sentWallMs;
    }
    const { record: changed } = change;
    // The bytes of such an entry differ for clients and resolvers.
    const isOfReader = changed.origin.life !== "live" && changed.health === HEALTH.MAINTENANCE;
    if (isOfReader || (this.#summaries !== undefined && options.resolved !== undefined))
      return this.#delta(out, writeVarint(out, at, WATCH.deltas), change, options);
    const known = this.#deltas.get(changed);
    if (known !== undefined && known.action === change.action && known.revision === change.revision) {
      out.set(known.bytes, at);
      return at + known.bytes.length;
    }
    const end = this.#delta(out, writeVarint(out, at, WATCH.deltas), change, options);
    const { action, record, revision } = change;
    this.#deltas.set(record, { action, revision, bytes: Buffer.from(out.subarray(at, end)) });
    return end;
  }

  #delta(
    out: Uint8Array,
    tagged: number,
    change: WatchChange,
    options: Pick<WatchMessageOptions, "isNamesOnly" | "resolved" | "sentWallMs">,
  ): number {
    const { record, action } = change;
    const start = openLength(tagged);
    let at = writeText(out, writeVarint(out, start, DELTA.deltaId), deltaId(record));
    at = writeText(out, writeVarint(out, at, DELTA.namespace), record.namespace);
    at = writeNumberField(out, at, DELTA.scope, record.scope);
    at = writeNumberField(out, at, DELTA.action, action);
    if (action === ACTION.REMOVE) at = writeEntryKey(out, at, DELTA.removed, keyParts(record.key));
    else if (this.#summaries !== undefined && options.resolved !== undefined)
      at = this.#summaries.writeSealed(out, writeVarint(out, at, DELTA.sealedRecord), record);
    else if (this.#summaries !== undefined) at = this.#summaries.write(out, writeVarint(out, at, DELTA.summary), record);
    else if (options.isNamesOnly) {
      const bytes = this.#slab.view(record.at, record.sizeBytes);
      const sizeBytes = keyPrefixBytes(bytes);
      at = writeBytesField(out, at, DELTA.entry, bytes.subarray(0, sizeBytes));
    } else at = this.#entry(out, writeVarint(out, at, DELTA.entry), record, readerOf(options));
    at = writeTime(out, at, DELTA.sentAt, options.sentWallMs);
    at = writeNumberField(out, at, DELTA.revision, change.revision);
    return closeLength(out, start, writeNumberField(out, at, DELTA.cause, change.cause ?? CAUSE.NONE));
  }
}

/** Appends the field `hidden_by` to an encoded answer. The field has the same number in all answers that are built from bytes. */
export function withHiddenBy<B extends Uint8Array>(answer: B, hiddenBy: HiddenNamespaces | undefined): B | Buffer {
  if (hiddenBy === undefined) return answer;
  const field = create(CatalogWatchResponseSchema, { hiddenBy: { ...hiddenBy } });
  return Buffer.concat([answer, toBinary(CatalogWatchResponseSchema, field)]);
}

/** The last answer to a renewal in which all leases were known. Most renewals have the same answer as the previous one. */
let renewed: { readonly ttlMs: number | undefined; readonly bytes: Uint8Array } | undefined;

// HOT: runs once per renewal. Returns the same array again, so that the array's cached frame can be reused too.
export function keepAliveBytes({ expiredLeaseIds, ttlMs }: RenewalResult): Uint8Array {
  if (expiredLeaseIds.length === 0 && renewed?.ttlMs === ttlMs && renewed !== undefined) return renewed.bytes;
  const out = new Uint8Array(KEPT_ALIVE_ROOM + textsRoom(expiredLeaseIds));
  let at = writeTexts(out, 0, KEPT_ALIVE.expiredLeaseIds, expiredLeaseIds);
  if (ttlMs !== undefined) at = writeTime(out, at, KEPT_ALIVE.ttl, ttlMs);
  const bytes = out.subarray(0, at);
  if (expiredLeaseIds.length === 0) renewed = { ttlMs, bytes };
  return bytes;
}

/** The kind of reader for which an answer is made. */
type ReaderKind = "client" | "resolver";

function readerOf({ resolved }: Pick<QueryAnswer, "resolved">): ReaderKind {
  return resolved === undefined ? "client" : "resolver";
}

function roomOf(resolved: ResolvedMark | undefined): number {
  return resolved === undefined ? 0 : textsRoom([resolved.policyEpoch, ...resolved.via]) + (resolved.heard?.length ?? 0);
}

function writeTime(out: Uint8Array, at: number, tag: number, ms: number): number {
  return writeTimeField(out, at, tag, timeOf(ms));
}

/** Returns the largest encoded size of the field `unreachable_nodes`. */
export function unreachableRoom(nodes: UnreachableNodes | undefined): number {
  return nodes === undefined ? 0 : 32 + textsRoom(nodes.nodeIds);
}

/** Writes the field `unreachable_nodes`, if there are such nodes. */
export function writeUnreachable(out: Uint8Array, at: number, tag: number, nodes: UnreachableNodes | undefined): number {
  if (nodes === undefined) return at;
  const start = openLength(writeVarint(out, at, tag));
  return closeLength(
    out,
    start,
    writeNumberField(out, writeTexts(out, start, UNREACHABLE.nodeIds, nodes.nodeIds), UNREACHABLE.count, nodes.count),
  );
}

// Decoders for the most frequent requests. protobuf-es needs several times as long for an entry, and its messages are slower to read. Unusual
// requests are left to protobuf-es: malformed bytes, a message in two parts, a number with more than 31 bits, and fields that this file does not
// know.

/** HOT: runs once per registration. Decoding an entry costs 0.5 µs, or 1.6 µs with protobuf-es (bench/register.ts). */
export function readRegisterRequest(bytes: Uint8Array): RegisterRequest | undefined {
  return usual(bytes, registerRequest);
}

/** HOT: runs once per renewal. */
export function readKeepAliveRequest(bytes: Uint8Array): KeepAliveRequest | undefined {
  return usual(bytes, keepAliveRequest);
}

/** Returns the fast decoder for a request type. Undefined for all types except the two most frequent ones. */
export function requestReader(typeName: string): RequestReader | undefined {
  if (typeName === RegisterRequestSchema.typeName) return readRegisterRequest;
  return typeName === KeepAliveRequestSchema.typeName ? readKeepAliveRequest : undefined;
}

function usual<M>(bytes: Uint8Array, read: (reader: WireReader) => M): M | undefined {
  const reader = new WireReader(bytes);
  try {
    const message = read(reader);
    return reader.hasWide ? undefined : message;
  } catch (error) {
    if (error instanceof WaymarkError) return undefined;
    throw error;
  }
}

function registerRequest(reader: WireReader): RegisterRequest {
  const entries: EntryFields[] = [];
  const request = { entries, ttl: undefined as TimeFields | undefined, leaseId: "", idempotencyKey: "", staticLease: false };
  while (!reader.isDone()) {
    const tag = reader.tag();
    if (tag === REGISTER.entries) entries.push(readEntryField(reader));
    else if (tag === REGISTER.ttl) {
      once(request.ttl, "ttl");
      request.ttl = readTime(reader);
    } else if (tag === REGISTER.leaseId) request.leaseId = reader.text();
    else if (tag === REGISTER.idempotencyKey) request.idempotencyKey = reader.text();
    else if (tag === REGISTER.staticLease) request.staticLease = reader.varint() !== 0;
    else reader.skipUnknown(tag, REGISTER_REQUEST_LAST_FIELD);
  }
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- it has the fields of the message, and no handler looks for more
  return request as unknown as RegisterRequest;
}

/** Decodes a request without reports. A request with reports is left to protobuf-es. */
function keepAliveRequest(reader: WireReader): KeepAliveRequest {
  const request = { leaseIds: [] as string[], reports: [] };
  while (!reader.isDone()) {
    const tag = reader.tag();
    if (tag === KEEP_ALIVE.leaseIds) request.leaseIds.push(reader.text());
    else reader.skipUnknown(tag, KEEP_ALIVE_REQUEST_LAST_FIELD);
  }
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- it has the fields of the message, and no handler looks for more
  return request as unknown as KeepAliveRequest;
}
