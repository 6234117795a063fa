/**
 * `waymark.fabric.v1.RecordsFrame` by hand: records are moved as the bytes they are, and a frame that goes to many peers is
 * encoded once. Everything else nodes say is rare, and left to `codec.ts`.
 */
import type { Frame } from "../../catalog/replica/frames.ts";
import { PREFIX_BYTES, writePrefix } from "../../grpc/wire/framing.ts";
import { invalid } from "../../lib/errors.ts";
import { tagOf, utf8Size, varintSize, WIRE, type WireReader, writeBytes, writeText, writeVarint } from "../../lib/protowire.ts";
import type { RecordsFrame } from "./messages.ts";
import { checkCount, idField, type MessageBounds } from "./validation.ts";

/** `LinkRequest.frame` and `LinkResponse.frame` alike. */
export const LINK_FRAME_TAG = tagOf(1, WIRE.BYTES);
const RECORDS_TAG = tagOf(3, WIRE.BYTES);
const TAG = {
  origin: tagOf(1, WIRE.BYTES),
  after: tagOf(2, WIRE.VARINT),
  through: tagOf(3, WIRE.VARINT),
  record: tagOf(4, WIRE.BYTES),
  complete: tagOf(5, WIRE.VARINT),
  floor: tagOf(6, WIRE.VARINT),
  last: tagOf(7, WIRE.VARINT),
  clusterId: tagOf(8, WIRE.BYTES),
  region: tagOf(9, WIRE.BYTES),
  known: tagOf(10, WIRE.VARINT),
} as const;
const LAST_FIELD = 10;
const ORIGIN_TAG = { nodeId: tagOf(1, WIRE.BYTES), generation: tagOf(2, WIRE.VARINT) } as const;
const ORIGIN_LAST_FIELD = 2;

/** A message, and what goes on the wire: the same bytes after gRPC's prefix. */
interface EncodedRecords {
  readonly message: Uint8Array;
  readonly framed: Uint8Array;
}

/** A frame is one origin's, so its cluster and region are always the same. */
const encoded = new WeakMap<Frame, EncodedRecords>();

/** The whole message of a frame of records, as both directions send it; the same arrays for the same `Frame`. HOT. */
export function encodeRecords(records: RecordsFrame): EncodedRecords {
  const known = encoded.get(records.frame);
  if (known !== undefined) return known;
  const framed = writeFramed(records);
  const message = framed.subarray(PREFIX_BYTES);
  const both = { message, framed };
  encoded.set(records.frame, both);
  return both;
}

function writeFramed(message: RecordsFrame): Uint8Array {
  const { frame } = message;
  const originSize = 1 + textSize(frame.nodeId) + numberSize(frame.generation);
  const size = recordsSize(message, originSize);
  const outerSize = 1 + varintSize(size) + size;
  // `writeText` wants room for three bytes a character.
  const slack = 2 * (message.clusterId.length + message.region.length);
  const messageSize = 1 + varintSize(outerSize) + outerSize;
  const out = new Uint8Array(PREFIX_BYTES + messageSize + slack);
  let at = writeVarint(out, writeVarint(out, writePrefix(out, messageSize), LINK_FRAME_TAG), outerSize);
  at = writeVarint(out, writeVarint(out, at, RECORDS_TAG), size);
  at = writeVarint(out, writeVarint(out, at, TAG.origin), originSize);
  at = writeText(out, writeVarint(out, at, ORIGIN_TAG.nodeId), frame.nodeId);
  at = writeNumber(out, at, ORIGIN_TAG.generation, frame.generation);
  at = writeNumber(out, at, TAG.after, frame.after);
  at = writeNumber(out, at, TAG.through, frame.through);
  for (const record of frame.records) at = writeBytes(out, writeVarint(out, writeVarint(out, at, TAG.record), record.length), record);
  at = writeNumber(out, at, TAG.complete, frame.isComplete ? 1 : 0);
  at = writeNumber(out, at, TAG.floor, frame.floor);
  at = writeNumber(out, at, TAG.last, frame.isLast ? 1 : 0);
  if (message.clusterId !== "") at = writeText(out, writeVarint(out, at, TAG.clusterId), message.clusterId);
  if (message.region !== "") at = writeText(out, writeVarint(out, at, TAG.region), message.region);
  at = writeNumber(out, at, TAG.known, frame.knownSeq ?? 0);
  return out.subarray(0, at);
}

function recordsSize({ frame, clusterId, region }: RecordsFrame, originSize: number): number {
  let size = 1 + varintSize(originSize) + originSize + numberSize(frame.after) + numberSize(frame.through) + numberSize(frame.floor);
  size += numberSize(frame.knownSeq ?? 0);
  for (const record of frame.records) size += 1 + varintSize(record.length) + record.length;
  size += (frame.isComplete ? 2 : 0) + (frame.isLast ? 2 : 0);
  if (clusterId !== "") size += 1 + textSize(clusterId);
  return region === "" ? size : size + 1 + textSize(region);
}

function textSize(text: string): number {
  const size = utf8Size(text);
  return varintSize(size) + size;
}

/** With its tag of one byte; a zero is not written. */
function numberSize(value: number): number {
  return value === 0 ? 0 : 1 + varintSize(value);
}

function writeNumber(out: Uint8Array, at: number, tag: number, value: number): number {
  return value === 0 ? at : writeVarint(out, writeVarint(out, at, tag), value);
}

/** Reads the `RecordsFrame` a reader was narrowed to; records are views of the reader's bytes. HOT. */
export function readRecords(reader: WireReader, bounds: MessageBounds): RecordsFrame {
  const records: Uint8Array[] = [];
  let recordsBytes = 0;
  const frame = { after: 0, through: 0, floor: 0, isComplete: false, isLast: false };
  let knownSeq = 0;
  let origin = { nodeId: "", generation: 0 };
  let clusterId = "";
  let region = "";
  while (!reader.isDone()) {
    const tag = reader.tag();
    if (tag === TAG.record) {
      const record = reader.view();
      records.push(record);
      recordsBytes += record.length;
      checkCount(records.length, "records.records", bounds.maxRecords);
      if (records.length > 1) checkCount(recordsBytes, "records.bytes", bounds.maxRecordsBytes);
    } else if (tag === TAG.origin) origin = readOrigin(reader);
    else if (tag === TAG.after) frame.after = reader.varint();
    else if (tag === TAG.through) frame.through = reader.varint();
    else if (tag === TAG.complete) frame.isComplete = reader.varint() !== 0;
    else if (tag === TAG.floor) frame.floor = reader.varint();
    else if (tag === TAG.last) frame.isLast = reader.varint() !== 0;
    else if (tag === TAG.clusterId) clusterId = reader.text();
    else if (tag === TAG.region) region = reader.text();
    else if (tag === TAG.known) knownSeq = reader.varint();
    else reader.skipUnknown(tag, LAST_FIELD);
  }
  idField(origin.nodeId, "records.origin.node_id", bounds);
  idField(clusterId, "records.cluster_id", bounds);
  idField(region, "records.region", bounds);
  if (frame.through < frame.after) throw invalid("records.through", `${frame.through} is before after, ${frame.after}`);
  return { kind: "records", frame: { ...origin, ...frame, records, ...(knownSeq > 0 && { knownSeq }) }, clusterId, region };
}

function readOrigin(reader: WireReader): { nodeId: string; generation: number } {
  const origin = { nodeId: "", generation: 0 };
  const outer = reader.enter();
  while (!reader.isDone()) {
    const tag = reader.tag();
    if (tag === ORIGIN_TAG.nodeId) origin.nodeId = reader.text();
    else if (tag === ORIGIN_TAG.generation) origin.generation = reader.varint();
    else reader.skipUnknown(tag, ORIGIN_LAST_FIELD);
  }
  reader.leave(outer);
  return origin;
}
