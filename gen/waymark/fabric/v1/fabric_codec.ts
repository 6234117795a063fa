// Made by scripts/gen-codec.ts from waymark/fabric/v1/fabric.proto: change that, then `npm run gen`.
import {
  bytesRoom,
  closeLength,
  mayGrow,
  misplaced,
  NO_TIME,
  once,
  openLength,
  pairsRoom,
  readPair,
  readTime,
  textsRoom,
  type TimeFields,
  WireReader,
  writeBytesField,
  writeFixed64Field,
  writeNumberField,
  writePackedField,
  writePackedFixed32Field,
  writePackedFixed64Field,
  writePairs,
  writeTextField,
  writeTexts,
  writeTimeField,
  writeVarint,
} from "../../../../src/lib/protowire.ts";

/** A message while it is being read. */
type Open<T> = { -readonly [F in keyof T]: OpenValue<T[F]> };
type OpenValue<V> = V extends readonly (infer I)[] ? I[] : V extends Readonly<Record<string, string>> ? Record<string, string> : V;

/** `HelloFrameOrigin` as plain values; a decoded message is one too. */
export interface HelloFrameOriginFields {
  readonly nodeId: string;
  readonly generation: number;
  readonly boot?: string;
  readonly bootBefore?: string;
}

/** Reads the fields of the message around it. */
function readHelloFrameOrigin(reader: WireReader, value: Open<HelloFrameOriginFields>): void {
  const end = reader.enter();
  while (!reader.isDone()) {
    const tag = reader.tag();
    switch (tag) {
      case 10:
        value.nodeId = reader.text();
        break;
      case 16:
        value.generation = reader.number();
        break;
      case 42: {
        const said = reader.text();
        if (said !== "") value.boot = said;
        break;
      }
      case 50: {
        const said = reader.text();
        if (said !== "") value.bootBefore = said;
        break;
      }
      default:
        reader.skipUnknown(tag, 6);
    }
  }
  reader.leave(end);
}

/** Bytes that surely hold `HelloFrameOrigin`. Cost: one step a text. */
export function roomHelloFrameOrigin(value: HelloFrameOriginFields): number {
  return 41 + 3 * (value.nodeId.length + (value.boot?.length ?? 0) + (value.bootBefore?.length ?? 0));
}

/** Writes `HelloFrameOrigin` as a field; returns the offset after it. */
export function writeHelloFrameOrigin(out: Uint8Array, start: number, tag: number, value: HelloFrameOriginFields): number {
  const body = openLength(writeVarint(out, start, tag));
  let at = body;
  at = writeTextField(out, at, 10, value.nodeId);
  at = writeNumberField(out, at, 16, value.generation);
  at = writeTextField(out, at, 42, (value.boot ?? ""));
  at = writeTextField(out, at, 50, (value.bootBefore ?? ""));
  return closeLength(out, body, at);
}

/** `HelloFrame` as plain values; a decoded message is one too. */
export interface HelloFrameFields extends HelloFrameOriginFields {
  readonly clusterId: string;
  readonly region: string;
  readonly protocolVersions: readonly number[];
  readonly clusterToken: string;
  readonly zone: string;
  readonly address: string;
  readonly version: string;
  readonly policyFrom: readonly string[];
  readonly borderTo?: string;
  readonly isReady: boolean;
  readonly runsChecks: boolean;
  readonly holdsSummaries: boolean;
}

export function newHelloFrame(): Open<HelloFrameFields> {
  return {
    nodeId: "",
    generation: 0,
    clusterId: "",
    region: "",
    protocolVersions: [],
    clusterToken: "",
    zone: "",
    address: "",
    version: "",
    policyFrom: [],
    isReady: false,
    runsChecks: false,
    holdsSummaries: false,
  };
}

export const MAX_HELLO_FRAME_PROTOCOL_VERSIONS = 64;

export const MAX_HELLO_FRAME_POLICY_FROM = 256;

/** Reads `HelloFrame` after its tag. */
export function readHelloFrame(reader: WireReader): HelloFrameFields {
  const value = newHelloFrame();
  const end = reader.enter();
  while (!reader.isDone()) {
    const tag = reader.tag();
    switch (tag) {
      case 10:
        readHelloFrameOrigin(reader, value);
        break;
      case 18:
        value.clusterId = reader.text();
        break;
      case 26:
        value.region = reader.text();
        break;
      case 34: {
        const outer = reader.enter();
        while (!reader.isDone()) {
        mayGrow(value.protocolVersions.length, MAX_HELLO_FRAME_PROTOCOL_VERSIONS, "HelloFrame.protocol_versions");
        value.protocolVersions.push(reader.varint());
        }
        reader.leave(outer);
        break;
      }
      case 32:
        mayGrow(value.protocolVersions.length, MAX_HELLO_FRAME_PROTOCOL_VERSIONS, "HelloFrame.protocol_versions");
        value.protocolVersions.push(reader.varint());
        break;
      case 50:
        value.clusterToken = reader.text();
        break;
      case 58:
        value.zone = reader.text();
        break;
      case 66:
        value.address = reader.text();
        break;
      case 74:
        value.version = reader.text();
        break;
      case 82:
        mayGrow(value.policyFrom.length, MAX_HELLO_FRAME_POLICY_FROM, "HelloFrame.policy_from");
        value.policyFrom.push(reader.text());
        break;
      case 114: {
        const said = reader.text();
        if (said !== "") value.borderTo = said;
        break;
      }
      case 120:
        value.isReady = reader.varint() !== 0;
        break;
      case 128:
        value.runsChecks = reader.varint() !== 0;
        break;
      case 136:
        value.holdsSummaries = reader.varint() !== 0;
        break;
      case 40:
      case 41:
      case 42:
      case 45:
      case 88:
      case 89:
      case 90:
      case 93:
      case 96:
      case 97:
      case 98:
      case 101:
      case 104:
      case 105:
      case 106:
      case 109:
        reader.skip(tag);
        break;
      default:
        reader.skipUnknown(tag, 17);
    }
  }
  reader.leave(end);
  return value;
}

/** Bytes that surely hold `HelloFrame`. Cost: one step a text. */
export function roomHelloFrame(value: HelloFrameFields): number {
  let room = 113 + 3 * (value.clusterId.length + value.region.length + value.clusterToken.length + value.zone.length + value.address.length + value.version.length + (value.borderTo?.length ?? 0));
  room += roomHelloFrameOrigin(value);
  room += 10 + 8 * value.protocolVersions.length;
  room += textsRoom(value.policyFrom);
  return room;
}

/** Writes `HelloFrame` as a field; returns the offset after it. */
export function writeHelloFrame(out: Uint8Array, start: number, tag: number, value: HelloFrameFields): number {
  const body = openLength(writeVarint(out, start, tag));
  let at = body;
  at = writeHelloFrameOrigin(out, at, 10, value);
  at = writeTextField(out, at, 18, value.clusterId);
  at = writeTextField(out, at, 26, value.region);
  at = writePackedField(out, at, 34, value.protocolVersions);
  at = writeTextField(out, at, 50, value.clusterToken);
  at = writeTextField(out, at, 58, value.zone);
  at = writeTextField(out, at, 66, value.address);
  at = writeTextField(out, at, 74, value.version);
  at = writeTexts(out, at, 82, value.policyFrom);
  at = writeTextField(out, at, 114, (value.borderTo ?? ""));
  at = writeNumberField(out, at, 120, value.isReady ? 1 : 0);
  at = writeNumberField(out, at, 128, value.runsChecks ? 1 : 0);
  at = writeNumberField(out, at, 136, value.holdsSummaries ? 1 : 0);
  return closeLength(out, body, at);
}

/** `VectorEntryOrigin` as plain values; a decoded message is one too. */
export interface VectorEntryOriginFields {
  readonly nodeId: string;
  readonly generation: number;
}

/** Reads the fields of the message around it. */
function readVectorEntryOrigin(reader: WireReader, value: Open<VectorEntryOriginFields>): void {
  const end = reader.enter();
  while (!reader.isDone()) {
    const tag = reader.tag();
    switch (tag) {
      case 10:
        value.nodeId = reader.text();
        break;
      case 16:
        value.generation = reader.number();
        break;
      default:
        reader.skipUnknown(tag, 6);
    }
  }
  reader.leave(end);
}

/** Bytes that surely hold `VectorEntryOrigin`. Cost: one step a text. */
export function roomVectorEntryOrigin(value: VectorEntryOriginFields): number {
  return 21 + 3 * (value.nodeId.length);
}

/** Writes `VectorEntryOrigin` as a field; returns the offset after it. */
export function writeVectorEntryOrigin(out: Uint8Array, start: number, tag: number, value: VectorEntryOriginFields): number {
  const body = openLength(writeVarint(out, start, tag));
  let at = body;
  at = writeTextField(out, at, 10, value.nodeId);
  at = writeNumberField(out, at, 16, value.generation);
  return closeLength(out, body, at);
}

/** `VectorEntry` as plain values; a decoded message is one too. */
export interface VectorEntryFields extends VectorEntryOriginFields {
  readonly seq: number;
  readonly floor: number;
  readonly isHidden?: boolean;
  readonly isLacking?: boolean;
  readonly lackingThrough?: number;
  readonly isOfOtherCluster?: boolean;
}

export function newVectorEntry(): Open<VectorEntryFields> {
  return {
    nodeId: "",
    generation: 0,
    seq: 0,
    floor: 0,
  };
}

/** Reads `VectorEntry` after its tag. */
export function readVectorEntry(reader: WireReader): VectorEntryFields {
  const value = newVectorEntry();
  const end = reader.enter();
  while (!reader.isDone()) {
    const tag = reader.tag();
    switch (tag) {
      case 10:
        readVectorEntryOrigin(reader, value);
        break;
      case 16:
        value.seq = reader.number();
        break;
      case 24:
        value.floor = reader.number();
        break;
      case 32: {
        const said = reader.varint() !== 0;
        if (said !== false) value.isHidden = said;
        break;
      }
      case 40: {
        const said = reader.varint() !== 0;
        if (said !== false) value.isLacking = said;
        break;
      }
      case 48: {
        const said = reader.number();
        if (said !== 0) value.lackingThrough = said;
        break;
      }
      case 56: {
        const said = reader.varint() !== 0;
        if (said !== false) value.isOfOtherCluster = said;
        break;
      }
      default:
        reader.skipUnknown(tag, 7);
    }
  }
  reader.leave(end);
  return value;
}

/** Bytes that surely hold `VectorEntry`. Cost: one step a text. */
export function roomVectorEntry(value: VectorEntryFields): number {
  let room = 76;
  room += roomVectorEntryOrigin(value);
  return room;
}

/** Writes `VectorEntry` as a field; returns the offset after it. */
export function writeVectorEntry(out: Uint8Array, start: number, tag: number, value: VectorEntryFields): number {
  const body = openLength(writeVarint(out, start, tag));
  let at = body;
  at = writeVectorEntryOrigin(out, at, 10, value);
  at = writeNumberField(out, at, 16, value.seq);
  at = writeNumberField(out, at, 24, value.floor);
  at = writeNumberField(out, at, 32, (value.isHidden ?? false) ? 1 : 0);
  at = writeNumberField(out, at, 40, (value.isLacking ?? false) ? 1 : 0);
  at = writeNumberField(out, at, 48, (value.lackingThrough ?? 0));
  at = writeNumberField(out, at, 56, (value.isOfOtherCluster ?? false) ? 1 : 0);
  return closeLength(out, body, at);
}

/** `VectorFrame` as plain values; a decoded message is one too. */
export interface VectorFrameFields {
  readonly entries: readonly VectorEntryFields[];
  readonly digest: bigint;
  readonly isPartial: boolean;
  readonly isWanted: boolean;
  readonly hashes: readonly number[];
  readonly seqs: readonly number[];
  readonly isOffer?: boolean;
  readonly heartbeatHashes: readonly number[];
  readonly heartbeatTenths: readonly number[];
  readonly heartbeatSeqs: readonly number[];
  readonly saidMs: number;
  readonly asOfMs: number;
}

export function newVectorFrame(): Open<VectorFrameFields> {
  return {
    entries: [],
    digest: 0n,
    isPartial: false,
    isWanted: false,
    hashes: [],
    seqs: [],
    heartbeatHashes: [],
    heartbeatTenths: [],
    heartbeatSeqs: [],
    saidMs: 0,
    asOfMs: 0,
  };
}

export const MAX_VECTOR_FRAME_ENTRIES = 10000;

export const MAX_VECTOR_FRAME_HASHES = 10000;

export const MAX_VECTOR_FRAME_SEQS = 10000;

export const MAX_VECTOR_FRAME_HEARTBEAT_HASHES = 10000;

export const MAX_VECTOR_FRAME_HEARTBEAT_TENTHS = 10000;

export const MAX_VECTOR_FRAME_HEARTBEAT_SEQS = 10000;

/** Reads `VectorFrame` after its tag. */
export function readVectorFrame(reader: WireReader): VectorFrameFields {
  const value = newVectorFrame();
  const end = reader.enter();
  while (!reader.isDone()) {
    const tag = reader.tag();
    switch (tag) {
      case 10:
        mayGrow(value.entries.length, MAX_VECTOR_FRAME_ENTRIES, "VectorFrame.entries");
        value.entries.push(readVectorEntry(reader));
        break;
      case 17:
        value.digest = reader.fixed64();
        break;
      case 24:
        value.isPartial = reader.varint() !== 0;
        break;
      case 32:
        value.isWanted = reader.varint() !== 0;
        break;
      case 42: {
        const outer = reader.enter();
        while (!reader.isDone()) {
        mayGrow(value.hashes.length, MAX_VECTOR_FRAME_HASHES, "VectorFrame.hashes");
        value.hashes.push(reader.fixed32());
        }
        reader.leave(outer);
        break;
      }
      case 45:
        mayGrow(value.hashes.length, MAX_VECTOR_FRAME_HASHES, "VectorFrame.hashes");
        value.hashes.push(reader.fixed32());
        break;
      case 50: {
        const outer = reader.enter();
        while (!reader.isDone()) {
        mayGrow(value.seqs.length, MAX_VECTOR_FRAME_SEQS, "VectorFrame.seqs");
        value.seqs.push(reader.number());
        }
        reader.leave(outer);
        break;
      }
      case 48:
        mayGrow(value.seqs.length, MAX_VECTOR_FRAME_SEQS, "VectorFrame.seqs");
        value.seqs.push(reader.number());
        break;
      case 56: {
        const said = reader.varint() !== 0;
        if (said !== false) value.isOffer = said;
        break;
      }
      case 66: {
        const outer = reader.enter();
        while (!reader.isDone()) {
        mayGrow(value.heartbeatHashes.length, MAX_VECTOR_FRAME_HEARTBEAT_HASHES, "VectorFrame.heartbeat_hashes");
        value.heartbeatHashes.push(reader.fixed32());
        }
        reader.leave(outer);
        break;
      }
      case 69:
        mayGrow(value.heartbeatHashes.length, MAX_VECTOR_FRAME_HEARTBEAT_HASHES, "VectorFrame.heartbeat_hashes");
        value.heartbeatHashes.push(reader.fixed32());
        break;
      case 74: {
        const outer = reader.enter();
        while (!reader.isDone()) {
        mayGrow(value.heartbeatTenths.length, MAX_VECTOR_FRAME_HEARTBEAT_TENTHS, "VectorFrame.heartbeat_tenths");
        value.heartbeatTenths.push(reader.varint());
        }
        reader.leave(outer);
        break;
      }
      case 72:
        mayGrow(value.heartbeatTenths.length, MAX_VECTOR_FRAME_HEARTBEAT_TENTHS, "VectorFrame.heartbeat_tenths");
        value.heartbeatTenths.push(reader.varint());
        break;
      case 82: {
        const outer = reader.enter();
        while (!reader.isDone()) {
        mayGrow(value.heartbeatSeqs.length, MAX_VECTOR_FRAME_HEARTBEAT_SEQS, "VectorFrame.heartbeat_seqs");
        value.heartbeatSeqs.push(reader.number());
        }
        reader.leave(outer);
        break;
      }
      case 80:
        mayGrow(value.heartbeatSeqs.length, MAX_VECTOR_FRAME_HEARTBEAT_SEQS, "VectorFrame.heartbeat_seqs");
        value.heartbeatSeqs.push(reader.number());
        break;
      case 88:
        value.saidMs = reader.number();
        break;
      case 96:
        value.asOfMs = reader.number();
        break;
      default:
        reader.skipUnknown(tag, 12);
    }
  }
  reader.leave(end);
  return value;
}

/** Bytes that surely hold `VectorFrame`. Cost: one step a text. */
export function roomVectorFrame(value: VectorFrameFields): number {
  let room = 66;
  for (let i = 0; i < value.entries.length; i++) room += 10 + roomVectorEntry(value.entries[i] ?? newVectorEntry());
  room += 10 + 8 * value.hashes.length;
  room += 10 + 8 * value.seqs.length;
  room += 10 + 8 * value.heartbeatHashes.length;
  room += 10 + 8 * value.heartbeatTenths.length;
  room += 10 + 8 * value.heartbeatSeqs.length;
  return room;
}

/** Writes `VectorFrame` as a field; returns the offset after it. */
export function writeVectorFrame(out: Uint8Array, start: number, tag: number, value: VectorFrameFields): number {
  const body = openLength(writeVarint(out, start, tag));
  let at = body;
  for (let i = 0; i < value.entries.length; i++) {
    const item = value.entries[i];
    if (item !== undefined) at = writeVectorEntry(out, at, 10, item);
  }
  at = writeFixed64Field(out, at, 17, value.digest);
  at = writeNumberField(out, at, 24, value.isPartial ? 1 : 0);
  at = writeNumberField(out, at, 32, value.isWanted ? 1 : 0);
  at = writePackedFixed32Field(out, at, 42, value.hashes);
  at = writePackedField(out, at, 50, value.seqs);
  at = writeNumberField(out, at, 56, (value.isOffer ?? false) ? 1 : 0);
  at = writePackedFixed32Field(out, at, 66, value.heartbeatHashes);
  at = writePackedField(out, at, 74, value.heartbeatTenths);
  at = writePackedField(out, at, 82, value.heartbeatSeqs);
  at = writeNumberField(out, at, 88, value.saidMs);
  at = writeNumberField(out, at, 96, value.asOfMs);
  return closeLength(out, body, at);
}

/** `RecordsFrameOrigin` as plain values; a decoded message is one too. */
export interface RecordsFrameOriginFields {
  readonly nodeId: string;
  readonly generation: number;
}

/** Reads the fields of the message around it. */
function readRecordsFrameOrigin(reader: WireReader, value: Open<RecordsFrameOriginFields>): void {
  const end = reader.enter();
  while (!reader.isDone()) {
    const tag = reader.tag();
    switch (tag) {
      case 10:
        value.nodeId = reader.text();
        break;
      case 16:
        value.generation = reader.number();
        break;
      default:
        reader.skipUnknown(tag, 6);
    }
  }
  reader.leave(end);
}

/** Bytes that surely hold `RecordsFrameOrigin`. Cost: one step a text. */
export function roomRecordsFrameOrigin(value: RecordsFrameOriginFields): number {
  return 21 + 3 * (value.nodeId.length);
}

/** Writes `RecordsFrameOrigin` as a field; returns the offset after it. */
export function writeRecordsFrameOrigin(out: Uint8Array, start: number, tag: number, value: RecordsFrameOriginFields): number {
  const body = openLength(writeVarint(out, start, tag));
  let at = body;
  at = writeTextField(out, at, 10, value.nodeId);
  at = writeNumberField(out, at, 16, value.generation);
  return closeLength(out, body, at);
}

/** `RecordsFrame` as plain values; a decoded message is one too. */
export interface RecordsFrameFields extends RecordsFrameOriginFields {
  readonly after: number;
  readonly through: number;
  readonly records: readonly Uint8Array[];
  readonly isComplete: boolean;
  readonly floor: number;
  readonly isLast: boolean;
  readonly clusterId: string;
  readonly region: string;
  readonly knownSeq?: number;
}

export function newRecordsFrame(): Open<RecordsFrameFields> {
  return {
    nodeId: "",
    generation: 0,
    after: 0,
    through: 0,
    records: [],
    isComplete: false,
    floor: 0,
    isLast: false,
    clusterId: "",
    region: "",
  };
}

export const MAX_RECORDS_FRAME_RECORDS = 16384;

/** Reads `RecordsFrame` after its tag. */
export function readRecordsFrame(reader: WireReader): RecordsFrameFields {
  const value = newRecordsFrame();
  const end = reader.enter();
  while (!reader.isDone()) {
    const tag = reader.tag();
    switch (tag) {
      case 10:
        readRecordsFrameOrigin(reader, value);
        break;
      case 16:
        value.after = reader.number();
        break;
      case 24:
        value.through = reader.number();
        break;
      case 34:
        mayGrow(value.records.length, MAX_RECORDS_FRAME_RECORDS, "RecordsFrame.records");
        value.records.push(reader.view());
        break;
      case 40:
        value.isComplete = reader.varint() !== 0;
        break;
      case 48:
        value.floor = reader.number();
        break;
      case 56:
        value.isLast = reader.varint() !== 0;
        break;
      case 66:
        value.clusterId = reader.text();
        break;
      case 74:
        value.region = reader.text();
        break;
      case 80: {
        const said = reader.number();
        if (said !== 0) value.knownSeq = said;
        break;
      }
      default:
        reader.skipUnknown(tag, 10);
    }
  }
  reader.leave(end);
  return value;
}

/** Bytes that surely hold `RecordsFrame`. Cost: one step a text. */
export function roomRecordsFrame(value: RecordsFrameFields): number {
  let room = 96 + 3 * (value.clusterId.length + value.region.length);
  room += roomRecordsFrameOrigin(value);
  room += bytesRoom(value.records);
  return room;
}

/** Writes `RecordsFrame` as a field; returns the offset after it. */
export function writeRecordsFrame(out: Uint8Array, start: number, tag: number, value: RecordsFrameFields): number {
  const body = openLength(writeVarint(out, start, tag));
  let at = body;
  at = putRecordsFrame(out, at, value);
  return closeLength(out, body, at);
}

/** The whole bytes of `RecordsFrame`. Refuses what is malformed; `checkRecordsFrame` has the rules. */
export function decodeRecordsFrame(bytes: Uint8Array): RecordsFrameFields {
  const reader = new WireReader(bytes);
  const value = newRecordsFrame();
  while (!reader.isDone()) {
    const tag = reader.tag();
    switch (tag) {
      case 10:
        readRecordsFrameOrigin(reader, value);
        break;
      case 16:
        value.after = reader.number();
        break;
      case 24:
        value.through = reader.number();
        break;
      case 34:
        mayGrow(value.records.length, MAX_RECORDS_FRAME_RECORDS, "RecordsFrame.records");
        value.records.push(reader.view());
        break;
      case 40:
        value.isComplete = reader.varint() !== 0;
        break;
      case 48:
        value.floor = reader.number();
        break;
      case 56:
        value.isLast = reader.varint() !== 0;
        break;
      case 66:
        value.clusterId = reader.text();
        break;
      case 74:
        value.region = reader.text();
        break;
      case 80: {
        const said = reader.number();
        if (said !== 0) value.knownSeq = said;
        break;
      }
      default:
        reader.skipUnknown(tag, 10);
    }
  }
  return value;
}

/** Writes the fields of `RecordsFrame`; `out` has `roomRecordsFrame` bytes after `start`. Returns the offset after them. */
export function putRecordsFrame(out: Uint8Array, start: number, value: RecordsFrameFields): number {
  let at = start;
  at = writeRecordsFrameOrigin(out, at, 10, value);
  at = writeNumberField(out, at, 16, value.after);
  at = writeNumberField(out, at, 24, value.through);
  for (let i = 0; i < value.records.length; i++) {
    const item = value.records[i];
    if (item !== undefined) at = writeBytesField(out, at, 34, item);
  }
  at = writeNumberField(out, at, 40, value.isComplete ? 1 : 0);
  at = writeNumberField(out, at, 48, value.floor);
  at = writeNumberField(out, at, 56, value.isLast ? 1 : 0);
  at = writeTextField(out, at, 66, value.clusterId);
  at = writeTextField(out, at, 74, value.region);
  at = writeNumberField(out, at, 80, (value.knownSeq ?? 0));
  return at;
}

export function encodeRecordsFrame(value: RecordsFrameFields): Uint8Array {
  const out = new Uint8Array(roomRecordsFrame(value));
  return out.subarray(0, putRecordsFrame(out, 0, value));
}

/** `GoodbyeFrame` as plain values; a decoded message is one too. */
export interface GoodbyeFrameFields {
  readonly reason: string;
  readonly detail: string;
}

export function newGoodbyeFrame(): Open<GoodbyeFrameFields> {
  return {
    reason: "",
    detail: "",
  };
}

/** Reads `GoodbyeFrame` after its tag. */
export function readGoodbyeFrame(reader: WireReader): GoodbyeFrameFields {
  const value = newGoodbyeFrame();
  const end = reader.enter();
  while (!reader.isDone()) {
    const tag = reader.tag();
    switch (tag) {
      case 10:
        value.reason = reader.text();
        break;
      case 18:
        value.detail = reader.text();
        break;
      default:
        reader.skipUnknown(tag, 2);
    }
  }
  reader.leave(end);
  return value;
}

/** Bytes that surely hold `GoodbyeFrame`. Cost: one step a text. */
export function roomGoodbyeFrame(value: GoodbyeFrameFields): number {
  return 20 + 3 * (value.reason.length + value.detail.length);
}

/** Writes `GoodbyeFrame` as a field; returns the offset after it. */
export function writeGoodbyeFrame(out: Uint8Array, start: number, tag: number, value: GoodbyeFrameFields): number {
  const body = openLength(writeVarint(out, start, tag));
  let at = body;
  at = writeTextField(out, at, 10, value.reason);
  at = writeTextField(out, at, 18, value.detail);
  return closeLength(out, body, at);
}

/** `LinkedFrame` as plain values; a decoded message is one too. */
export interface LinkedFrameFields {
  readonly nodeIds: readonly string[];
}

export function newLinkedFrame(): Open<LinkedFrameFields> {
  return {
    nodeIds: [],
  };
}

export const MAX_LINKED_FRAME_NODE_IDS = 256;

/** Reads `LinkedFrame` after its tag. */
export function readLinkedFrame(reader: WireReader): LinkedFrameFields {
  const value = newLinkedFrame();
  const end = reader.enter();
  while (!reader.isDone()) {
    const tag = reader.tag();
    switch (tag) {
      case 10:
        mayGrow(value.nodeIds.length, MAX_LINKED_FRAME_NODE_IDS, "LinkedFrame.node_ids");
        value.nodeIds.push(reader.text());
        break;
      default:
        reader.skipUnknown(tag, 1);
    }
  }
  reader.leave(end);
  return value;
}

/** Bytes that surely hold `LinkedFrame`. Cost: one step a text. */
export function roomLinkedFrame(value: LinkedFrameFields): number {
  let room = 0;
  room += textsRoom(value.nodeIds);
  return room;
}

/** Writes `LinkedFrame` as a field; returns the offset after it. */
export function writeLinkedFrame(out: Uint8Array, start: number, tag: number, value: LinkedFrameFields): number {
  const body = openLength(writeVarint(out, start, tag));
  let at = body;
  at = writeTexts(out, at, 10, value.nodeIds);
  return closeLength(out, body, at);
}

/** `OriginDigestOrigin` as plain values; a decoded message is one too. */
export interface OriginDigestOriginFields {
  readonly nodeId: string;
  readonly generation: number;
}

/** Reads the fields of the message around it. */
function readOriginDigestOrigin(reader: WireReader, value: Open<OriginDigestOriginFields>): void {
  const end = reader.enter();
  while (!reader.isDone()) {
    const tag = reader.tag();
    switch (tag) {
      case 10:
        value.nodeId = reader.text();
        break;
      case 16:
        value.generation = reader.number();
        break;
      default:
        reader.skipUnknown(tag, 6);
    }
  }
  reader.leave(end);
}

/** Bytes that surely hold `OriginDigestOrigin`. Cost: one step a text. */
export function roomOriginDigestOrigin(value: OriginDigestOriginFields): number {
  return 21 + 3 * (value.nodeId.length);
}

/** Writes `OriginDigestOrigin` as a field; returns the offset after it. */
export function writeOriginDigestOrigin(out: Uint8Array, start: number, tag: number, value: OriginDigestOriginFields): number {
  const body = openLength(writeVarint(out, start, tag));
  let at = body;
  at = writeTextField(out, at, 10, value.nodeId);
  at = writeNumberField(out, at, 16, value.generation);
  return closeLength(out, body, at);
}

/** `OriginDigest` as plain values; a decoded message is one too. */
export interface OriginDigestFields extends OriginDigestOriginFields {
  readonly through: number;
  readonly liveCount: number;
  readonly digest: bigint;
}

export function newOriginDigest(): Open<OriginDigestFields> {
  return {
    nodeId: "",
    generation: 0,
    through: 0,
    liveCount: 0,
    digest: 0n,
  };
}

/** Reads `OriginDigest` after its tag. */
export function readOriginDigest(reader: WireReader): OriginDigestFields {
  const value = newOriginDigest();
  const end = reader.enter();
  while (!reader.isDone()) {
    const tag = reader.tag();
    switch (tag) {
      case 10:
        readOriginDigestOrigin(reader, value);
        break;
      case 16:
        value.through = reader.number();
        break;
      case 24:
        value.liveCount = reader.number();
        break;
      case 33:
        value.digest = reader.fixed64();
        break;
      default:
        reader.skipUnknown(tag, 4);
    }
  }
  reader.leave(end);
  return value;
}

/** Bytes that surely hold `OriginDigest`. Cost: one step a text. */
export function roomOriginDigest(value: OriginDigestFields): number {
  let room = 43;
  room += roomOriginDigestOrigin(value);
  return room;
}

/** Writes `OriginDigest` as a field; returns the offset after it. */
export function writeOriginDigest(out: Uint8Array, start: number, tag: number, value: OriginDigestFields): number {
  const body = openLength(writeVarint(out, start, tag));
  let at = body;
  at = writeOriginDigestOrigin(out, at, 10, value);
  at = writeNumberField(out, at, 16, value.through);
  at = writeNumberField(out, at, 24, value.liveCount);
  at = writeFixed64Field(out, at, 33, value.digest);
  return closeLength(out, body, at);
}

/** `DigestFrame` as plain values; a decoded message is one too. */
export interface DigestFrameFields {
  readonly origins: readonly OriginDigestFields[];
}

export function newDigestFrame(): Open<DigestFrameFields> {
  return {
    origins: [],
  };
}

export const MAX_DIGEST_FRAME_ORIGINS = 256;

/** Reads `DigestFrame` after its tag. */
export function readDigestFrame(reader: WireReader): DigestFrameFields {
  const value = newDigestFrame();
  const end = reader.enter();
  while (!reader.isDone()) {
    const tag = reader.tag();
    switch (tag) {
      case 10:
        mayGrow(value.origins.length, MAX_DIGEST_FRAME_ORIGINS, "DigestFrame.origins");
        value.origins.push(readOriginDigest(reader));
        break;
      default:
        reader.skipUnknown(tag, 1);
    }
  }
  reader.leave(end);
  return value;
}

/** Bytes that surely hold `DigestFrame`. Cost: one step a text. */
export function roomDigestFrame(value: DigestFrameFields): number {
  let room = 0;
  for (let i = 0; i < value.origins.length; i++) room += 10 + roomOriginDigest(value.origins[i] ?? newOriginDigest());
  return room;
}

/** Writes `DigestFrame` as a field; returns the offset after it. */
export function writeDigestFrame(out: Uint8Array, start: number, tag: number, value: DigestFrameFields): number {
  const body = openLength(writeVarint(out, start, tag));
  let at = body;
  for (let i = 0; i < value.origins.length; i++) {
    const item = value.origins[i];
    if (item !== undefined) at = writeOriginDigest(out, at, 10, item);
  }
  return closeLength(out, body, at);
}

/** `PolicyHead` as plain values; a decoded message is one too. */
export interface PolicyHeadFields {
  readonly number: number;
  readonly hlc: number;
  readonly nodeId: string;
  readonly checksum: string;
}

export function newPolicyHead(): Open<PolicyHeadFields> {
  return {
    number: 0,
    hlc: 0,
    nodeId: "",
    checksum: "",
  };
}

/** Reads `PolicyHead` after its tag. */
export function readPolicyHead(reader: WireReader): PolicyHeadFields {
  const value = newPolicyHead();
  const end = reader.enter();
  while (!reader.isDone()) {
    const tag = reader.tag();
    switch (tag) {
      case 8:
        value.number = reader.number();
        break;
      case 16:
        value.hlc = reader.number();
        break;
      case 26:
        value.nodeId = reader.text();
        break;
      case 34:
        value.checksum = reader.text();
        break;
      default:
        reader.skipUnknown(tag, 4);
    }
  }
  reader.leave(end);
  return value;
}

/** Bytes that surely hold `PolicyHead`. Cost: one step a text. */
export function roomPolicyHead(value: PolicyHeadFields): number {
  return 42 + 3 * (value.nodeId.length + value.checksum.length);
}

/** Writes `PolicyHead` as a field; returns the offset after it. */
export function writePolicyHead(out: Uint8Array, start: number, tag: number, value: PolicyHeadFields): number {
  const body = openLength(writeVarint(out, start, tag));
  let at = body;
  at = writeNumberField(out, at, 8, value.number);
  at = writeNumberField(out, at, 16, value.hlc);
  at = writeTextField(out, at, 26, value.nodeId);
  at = writeTextField(out, at, 34, value.checksum);
  return closeLength(out, body, at);
}

/** `PolicyFrame` as plain values; a decoded message is one too. */
export interface PolicyFrameFields {
  readonly head?: PolicyHeadFields;
  readonly wantedNumber?: number;
  readonly part?: Uint8Array;
  readonly offset?: number;
  readonly sizeBytes?: number;
  readonly settled?: PolicyHeadFields;
}

export function newPolicyFrame(): Open<PolicyFrameFields> {
  return {};
}

/** Reads `PolicyFrame` after its tag. */
export function readPolicyFrame(reader: WireReader): PolicyFrameFields {
  const value = newPolicyFrame();
  const end = reader.enter();
  while (!reader.isDone()) {
    const tag = reader.tag();
    switch (tag) {
      case 10:
        once(value.head, "head");
        value.head = readPolicyHead(reader);
        break;
      case 16: {
        const said = reader.number();
        if (said !== 0) value.wantedNumber = said;
        break;
      }
      case 26:
        value.part = reader.view();
        break;
      case 32: {
        const said = reader.number();
        if (said !== 0) value.offset = said;
        break;
      }
      case 40: {
        const said = reader.number();
        if (said !== 0) value.sizeBytes = said;
        break;
      }
      case 50:
        once(value.settled, "settled");
        value.settled = readPolicyHead(reader);
        break;
      default:
        reader.skipUnknown(tag, 6);
    }
  }
  reader.leave(end);
  return value;
}

/** Bytes that surely hold `PolicyFrame`. Cost: one step a text. */
export function roomPolicyFrame(value: PolicyFrameFields): number {
  let room = 63;
  if (value.head !== undefined) room += roomPolicyHead(value.head);
  room += (value.part?.length ?? 0);
  if (value.settled !== undefined) room += roomPolicyHead(value.settled);
  return room;
}

/** Writes `PolicyFrame` as a field; returns the offset after it. */
export function writePolicyFrame(out: Uint8Array, start: number, tag: number, value: PolicyFrameFields): number {
  const body = openLength(writeVarint(out, start, tag));
  let at = body;
  if (value.head !== undefined) at = writePolicyHead(out, at, 10, value.head);
  at = writeNumberField(out, at, 16, (value.wantedNumber ?? 0));
  if (value.part !== undefined && value.part.length > 0) at = writeBytesField(out, at, 26, value.part);
  at = writeNumberField(out, at, 32, (value.offset ?? 0));
  at = writeNumberField(out, at, 40, (value.sizeBytes ?? 0));
  if (value.settled !== undefined) at = writePolicyHead(out, at, 50, value.settled);
  return closeLength(out, body, at);
}

/** `HandOverFrame` as plain values; a decoded message is one too. */
export interface HandOverFrameFields {
  readonly seqs: readonly number[];
  readonly isRefused: boolean;
}

export function newHandOverFrame(): Open<HandOverFrameFields> {
  return {
    seqs: [],
    isRefused: false,
  };
}

export const MAX_HAND_OVER_FRAME_SEQS = 1024;

/** Reads `HandOverFrame` after its tag. */
export function readHandOverFrame(reader: WireReader): HandOverFrameFields {
  const value = newHandOverFrame();
  const end = reader.enter();
  while (!reader.isDone()) {
    const tag = reader.tag();
    switch (tag) {
      case 10: {
        const outer = reader.enter();
        while (!reader.isDone()) {
        mayGrow(value.seqs.length, MAX_HAND_OVER_FRAME_SEQS, "HandOverFrame.seqs");
        value.seqs.push(reader.number());
        }
        reader.leave(outer);
        break;
      }
      case 8:
        mayGrow(value.seqs.length, MAX_HAND_OVER_FRAME_SEQS, "HandOverFrame.seqs");
        value.seqs.push(reader.number());
        break;
      case 16:
        value.isRefused = reader.varint() !== 0;
        break;
      default:
        reader.skipUnknown(tag, 2);
    }
  }
  reader.leave(end);
  return value;
}

/** Bytes that surely hold `HandOverFrame`. Cost: one step a text. */
export function roomHandOverFrame(value: HandOverFrameFields): number {
  let room = 11;
  room += 10 + 8 * value.seqs.length;
  return room;
}

/** Writes `HandOverFrame` as a field; returns the offset after it. */
export function writeHandOverFrame(out: Uint8Array, start: number, tag: number, value: HandOverFrameFields): number {
  const body = openLength(writeVarint(out, start, tag));
  let at = body;
  at = writePackedField(out, at, 10, value.seqs);
  at = writeNumberField(out, at, 16, value.isRefused ? 1 : 0);
  return closeLength(out, body, at);
}

export type SpaceFields =
  | { readonly case: "vector"; readonly value: VectorFrameFields }
  | { readonly case: "records"; readonly value: RecordsFrameFields }
  | { readonly case: "digests"; readonly value: DigestFrameFields }
  | { readonly case: "linked"; readonly value: LinkedFrameFields };

/** `SummarySpaceFrame` as plain values; a decoded message is one too. */
export interface SummarySpaceFrameFields {
  readonly space: SpaceFields | { readonly case: undefined; readonly value?: undefined };
}

export function newSummarySpaceFrame(): Open<SummarySpaceFrameFields> {
  return {
    space: { case: undefined },
  };
}

/** Reads `SummarySpaceFrame` after its tag. */
export function readSummarySpaceFrame(reader: WireReader): SummarySpaceFrameFields {
  const value = newSummarySpaceFrame();
  const end = reader.enter();
  while (!reader.isDone()) {
    const tag = reader.tag();
    switch (tag) {
      case 10:
        once(value.space.case, "space");
        value.space = { case: "vector", value: readVectorFrame(reader) };
        break;
      case 18:
        once(value.space.case, "space");
        value.space = { case: "records", value: readRecordsFrame(reader) };
        break;
      case 26:
        once(value.space.case, "space");
        value.space = { case: "digests", value: readDigestFrame(reader) };
        break;
      case 34:
        once(value.space.case, "space");
        value.space = { case: "linked", value: readLinkedFrame(reader) };
        break;
      default:
        reader.skipUnknown(tag, 4);
    }
  }
  reader.leave(end);
  return value;
}

/** Bytes that surely hold `SummarySpaceFrame`. Cost: one step a text. */
export function roomSummarySpaceFrame(value: SummarySpaceFrameFields): number {
  let room = 0;
  switch (value.space.case) {
    case "vector":
      room += 10 + roomVectorFrame(value.space.value);
      break;
    case "records":
      room += 10 + roomRecordsFrame(value.space.value);
      break;
    case "digests":
      room += 10 + roomDigestFrame(value.space.value);
      break;
    case "linked":
      room += 10 + roomLinkedFrame(value.space.value);
      break;
    case undefined:
  }
  return room;
}

/** Writes `SummarySpaceFrame` as a field; returns the offset after it. */
export function writeSummarySpaceFrame(out: Uint8Array, start: number, tag: number, value: SummarySpaceFrameFields): number {
  const body = openLength(writeVarint(out, start, tag));
  let at = body;
  switch (value.space.case) {
    case "vector":
      at = writeVectorFrame(out, at, 10, value.space.value);
      break;
    case "records":
      at = writeRecordsFrame(out, at, 18, value.space.value);
      break;
    case "digests":
      at = writeDigestFrame(out, at, 26, value.space.value);
      break;
    case "linked":
      at = writeLinkedFrame(out, at, 34, value.space.value);
      break;
    case undefined:
  }
  return closeLength(out, body, at);
}

/** `SourceAge` as plain values; a decoded message is one too. */
export interface SourceAgeFields {
  readonly sourceCluster: string;
  readonly version: number;
  readonly ageMs: number;
}

export function newSourceAge(): Open<SourceAgeFields> {
  return {
    sourceCluster: "",
    version: 0,
    ageMs: 0,
  };
}

/** Reads `SourceAge` after its tag. */
export function readSourceAge(reader: WireReader): SourceAgeFields {
  const value = newSourceAge();
  const end = reader.enter();
  while (!reader.isDone()) {
    const tag = reader.tag();
    switch (tag) {
      case 10:
        value.sourceCluster = reader.text();
        break;
      case 16:
        value.version = reader.number();
        break;
      case 24:
        value.ageMs = reader.number();
        break;
      default:
        reader.skipUnknown(tag, 3);
    }
  }
  reader.leave(end);
  return value;
}

/** Bytes that surely hold `SourceAge`. Cost: one step a text. */
export function roomSourceAge(value: SourceAgeFields): number {
  return 32 + 3 * (value.sourceCluster.length);
}

/** Writes `SourceAge` as a field; returns the offset after it. */
export function writeSourceAge(out: Uint8Array, start: number, tag: number, value: SourceAgeFields): number {
  const body = openLength(writeVarint(out, start, tag));
  let at = body;
  at = writeTextField(out, at, 10, value.sourceCluster);
  at = writeNumberField(out, at, 16, value.version);
  at = writeNumberField(out, at, 24, value.ageMs);
  return closeLength(out, body, at);
}

/** `SourceAgesFrame` as plain values; a decoded message is one too. */
export interface SourceAgesFrameFields {
  readonly sources: readonly SourceAgeFields[];
  readonly saidMs: number;
  readonly asOfMs: number;
}

export function newSourceAgesFrame(): Open<SourceAgesFrameFields> {
  return {
    sources: [],
    saidMs: 0,
    asOfMs: 0,
  };
}

export const MAX_SOURCE_AGES_FRAME_SOURCES = 256;

/** Reads `SourceAgesFrame` after its tag. */
export function readSourceAgesFrame(reader: WireReader): SourceAgesFrameFields {
  const value = newSourceAgesFrame();
  const end = reader.enter();
  while (!reader.isDone()) {
    const tag = reader.tag();
    switch (tag) {
      case 10:
        mayGrow(value.sources.length, MAX_SOURCE_AGES_FRAME_SOURCES, "SourceAgesFrame.sources");
        value.sources.push(readSourceAge(reader));
        break;
      case 16:
        value.saidMs = reader.number();
        break;
      case 24:
        value.asOfMs = reader.number();
        break;
      default:
        reader.skipUnknown(tag, 3);
    }
  }
  reader.leave(end);
  return value;
}

/** Bytes that surely hold `SourceAgesFrame`. Cost: one step a text. */
export function roomSourceAgesFrame(value: SourceAgesFrameFields): number {
  let room = 22;
  for (let i = 0; i < value.sources.length; i++) room += 10 + roomSourceAge(value.sources[i] ?? newSourceAge());
  return room;
}

/** Writes `SourceAgesFrame` as a field; returns the offset after it. */
export function writeSourceAgesFrame(out: Uint8Array, start: number, tag: number, value: SourceAgesFrameFields): number {
  const body = openLength(writeVarint(out, start, tag));
  let at = body;
  for (let i = 0; i < value.sources.length; i++) {
    const item = value.sources[i];
    if (item !== undefined) at = writeSourceAge(out, at, 10, item);
  }
  at = writeNumberField(out, at, 16, value.saidMs);
  at = writeNumberField(out, at, 24, value.asOfMs);
  return closeLength(out, body, at);
}

/** `Reach` as plain values; a decoded message is one too. */
export interface ReachFields {
  readonly hops: number;
  readonly regions: readonly string[];
  readonly patterns: readonly string[];
}

export function newReach(): Open<ReachFields> {
  return {
    hops: 0,
    regions: [],
    patterns: [],
  };
}

export const MAX_REACH_REGIONS = 64;

export const MAX_REACH_PATTERNS = 64;

/** Reads `Reach` after its tag. */
export function readReach(reader: WireReader): ReachFields {
  const value = newReach();
  const end = reader.enter();
  while (!reader.isDone()) {
    const tag = reader.tag();
    switch (tag) {
      case 8:
        value.hops = reader.varint();
        break;
      case 18:
        mayGrow(value.regions.length, MAX_REACH_REGIONS, "Reach.regions");
        value.regions.push(reader.text());
        break;
      case 26:
        mayGrow(value.patterns.length, MAX_REACH_PATTERNS, "Reach.patterns");
        value.patterns.push(reader.text());
        break;
      default:
        reader.skipUnknown(tag, 3);
    }
  }
  reader.leave(end);
  return value;
}

/** Bytes that surely hold `Reach`. Cost: one step a text. */
export function roomReach(value: ReachFields): number {
  let room = 11;
  room += textsRoom(value.regions);
  room += textsRoom(value.patterns);
  return room;
}

/** Writes `Reach` as a field; returns the offset after it. */
export function writeReach(out: Uint8Array, start: number, tag: number, value: ReachFields): number {
  const body = openLength(writeVarint(out, start, tag));
  let at = body;
  at = writeNumberField(out, at, 8, value.hops);
  at = writeTexts(out, at, 18, value.regions);
  at = writeTexts(out, at, 26, value.patterns);
  return closeLength(out, body, at);
}

/** `BorderRules` as plain values; a decoded message is one too. */
export interface BorderRulesFields {
  readonly exports: readonly string[];
  readonly directSources: readonly string[];
  readonly reach: readonly ReachFields[];
}

export function newBorderRules(): Open<BorderRulesFields> {
  return {
    exports: [],
    directSources: [],
    reach: [],
  };
}

export const MAX_BORDER_RULES_EXPORTS = 1024;

export const MAX_BORDER_RULES_DIRECT_SOURCES = 256;

export const MAX_BORDER_RULES_REACH = 64;

/** Reads `BorderRules` after its tag. */
export function readBorderRules(reader: WireReader): BorderRulesFields {
  const value = newBorderRules();
  const end = reader.enter();
  while (!reader.isDone()) {
    const tag = reader.tag();
    switch (tag) {
      case 10:
        mayGrow(value.exports.length, MAX_BORDER_RULES_EXPORTS, "BorderRules.exports");
        value.exports.push(reader.text());
        break;
      case 18:
        mayGrow(value.directSources.length, MAX_BORDER_RULES_DIRECT_SOURCES, "BorderRules.direct_sources");
        value.directSources.push(reader.text());
        break;
      case 26:
        mayGrow(value.reach.length, MAX_BORDER_RULES_REACH, "BorderRules.reach");
        value.reach.push(readReach(reader));
        break;
      default:
        reader.skipUnknown(tag, 3);
    }
  }
  reader.leave(end);
  return value;
}

/** Bytes that surely hold `BorderRules`. Cost: one step a text. */
export function roomBorderRules(value: BorderRulesFields): number {
  let room = 0;
  room += textsRoom(value.exports);
  room += textsRoom(value.directSources);
  for (let i = 0; i < value.reach.length; i++) room += 10 + roomReach(value.reach[i] ?? newReach());
  return room;
}

/** Writes `BorderRules` as a field; returns the offset after it. */
export function writeBorderRules(out: Uint8Array, start: number, tag: number, value: BorderRulesFields): number {
  const body = openLength(writeVarint(out, start, tag));
  let at = body;
  at = writeTexts(out, at, 10, value.exports);
  at = writeTexts(out, at, 18, value.directSources);
  for (let i = 0; i < value.reach.length; i++) {
    const item = value.reach[i];
    if (item !== undefined) at = writeReach(out, at, 26, item);
  }
  return closeLength(out, body, at);
}

/** `Sealed` as plain values; a decoded message is one too. */
export interface SealedFields {
  readonly signed: Uint8Array;
  readonly signature: Uint8Array;
  readonly hops: number;
}

export function newSealed(): Open<SealedFields> {
  return {
    signed: new Uint8Array(),
    signature: new Uint8Array(),
    hops: 0,
  };
}

/** Reads `Sealed` after its tag. */
export function readSealed(reader: WireReader): SealedFields {
  const value = newSealed();
  const end = reader.enter();
  while (!reader.isDone()) {
    const tag = reader.tag();
    switch (tag) {
      case 10:
        value.signed = reader.view();
        break;
      case 18:
        value.signature = reader.view();
        break;
      case 24:
        value.hops = reader.varint();
        break;
      default:
        reader.skipUnknown(tag, 3);
    }
  }
  reader.leave(end);
  return value;
}

/** Bytes that surely hold `Sealed`. Cost: one step a text. */
export function roomSealed(value: SealedFields): number {
  let room = 31;
  room += value.signed.length;
  room += value.signature.length;
  return room;
}

/** Writes `Sealed` as a field; returns the offset after it. */
export function writeSealed(out: Uint8Array, start: number, tag: number, value: SealedFields): number {
  const body = openLength(writeVarint(out, start, tag));
  let at = body;
  if (value.signed.length > 0) at = writeBytesField(out, at, 10, value.signed);
  if (value.signature.length > 0) at = writeBytesField(out, at, 18, value.signature);
  at = writeNumberField(out, at, 24, value.hops);
  return closeLength(out, body, at);
}

/** `BorderBatch` as plain values; a decoded message is one too. */
export interface BorderBatchFields {
  readonly summaries: readonly SealedFields[];
  readonly beacons: readonly SealedFields[];
  readonly keys: readonly SealedFields[];
  readonly beaconAgesMs: readonly number[];
}

export function newBorderBatch(): Open<BorderBatchFields> {
  return {
    summaries: [],
    beacons: [],
    keys: [],
    beaconAgesMs: [],
  };
}

export const MAX_BORDER_BATCH_SUMMARIES = 1024;

export const MAX_BORDER_BATCH_BEACONS = 256;

export const MAX_BORDER_BATCH_KEYS = 256;

export const MAX_BORDER_BATCH_BEACON_AGES_MS = 256;

/** Reads `BorderBatch` after its tag. */
export function readBorderBatch(reader: WireReader): BorderBatchFields {
  const value = newBorderBatch();
  const end = reader.enter();
  while (!reader.isDone()) {
    const tag = reader.tag();
    switch (tag) {
      case 10:
        mayGrow(value.summaries.length, MAX_BORDER_BATCH_SUMMARIES, "BorderBatch.summaries");
        value.summaries.push(readSealed(reader));
        break;
      case 18:
        mayGrow(value.beacons.length, MAX_BORDER_BATCH_BEACONS, "BorderBatch.beacons");
        value.beacons.push(readSealed(reader));
        break;
      case 26:
        mayGrow(value.keys.length, MAX_BORDER_BATCH_KEYS, "BorderBatch.keys");
        value.keys.push(readSealed(reader));
        break;
      case 34: {
        const outer = reader.enter();
        while (!reader.isDone()) {
        mayGrow(value.beaconAgesMs.length, MAX_BORDER_BATCH_BEACON_AGES_MS, "BorderBatch.beacon_ages_ms");
        value.beaconAgesMs.push(reader.varint());
        }
        reader.leave(outer);
        break;
      }
      case 32:
        mayGrow(value.beaconAgesMs.length, MAX_BORDER_BATCH_BEACON_AGES_MS, "BorderBatch.beacon_ages_ms");
        value.beaconAgesMs.push(reader.varint());
        break;
      default:
        reader.skipUnknown(tag, 4);
    }
  }
  reader.leave(end);
  return value;
}

/** Bytes that surely hold `BorderBatch`. Cost: one step a text. */
export function roomBorderBatch(value: BorderBatchFields): number {
  let room = 0;
  for (let i = 0; i < value.summaries.length; i++) room += 10 + roomSealed(value.summaries[i] ?? newSealed());
  for (let i = 0; i < value.beacons.length; i++) room += 10 + roomSealed(value.beacons[i] ?? newSealed());
  for (let i = 0; i < value.keys.length; i++) room += 10 + roomSealed(value.keys[i] ?? newSealed());
  room += 10 + 8 * value.beaconAgesMs.length;
  return room;
}

/** Writes `BorderBatch` as a field; returns the offset after it. */
export function writeBorderBatch(out: Uint8Array, start: number, tag: number, value: BorderBatchFields): number {
  const body = openLength(writeVarint(out, start, tag));
  let at = body;
  for (let i = 0; i < value.summaries.length; i++) {
    const item = value.summaries[i];
    if (item !== undefined) at = writeSealed(out, at, 10, item);
  }
  for (let i = 0; i < value.beacons.length; i++) {
    const item = value.beacons[i];
    if (item !== undefined) at = writeSealed(out, at, 18, item);
  }
  for (let i = 0; i < value.keys.length; i++) {
    const item = value.keys[i];
    if (item !== undefined) at = writeSealed(out, at, 26, item);
  }
  at = writePackedField(out, at, 34, value.beaconAgesMs);
  return closeLength(out, body, at);
}

/** `BorderDigest` as plain values; a decoded message is one too. */
export interface BorderDigestFields {
  readonly digest: bigint;
  readonly count: number;
  readonly isAnswer: boolean;
  readonly buckets: readonly bigint[];
}

export function newBorderDigest(): Open<BorderDigestFields> {
  return {
    digest: 0n,
    count: 0,
    isAnswer: false,
    buckets: [],
  };
}

export const MAX_BORDER_DIGEST_BUCKETS = 256;

/** Reads `BorderDigest` after its tag. */
export function readBorderDigest(reader: WireReader): BorderDigestFields {
  const value = newBorderDigest();
  const end = reader.enter();
  while (!reader.isDone()) {
    const tag = reader.tag();
    switch (tag) {
      case 9:
        value.digest = reader.fixed64();
        break;
      case 16:
        value.count = reader.varint();
        break;
      case 24:
        value.isAnswer = reader.varint() !== 0;
        break;
      case 34: {
        const outer = reader.enter();
        while (!reader.isDone()) {
        mayGrow(value.buckets.length, MAX_BORDER_DIGEST_BUCKETS, "BorderDigest.buckets");
        value.buckets.push(reader.fixed64());
        }
        reader.leave(outer);
        break;
      }
      case 33:
        mayGrow(value.buckets.length, MAX_BORDER_DIGEST_BUCKETS, "BorderDigest.buckets");
        value.buckets.push(reader.fixed64());
        break;
      default:
        reader.skipUnknown(tag, 4);
    }
  }
  reader.leave(end);
  return value;
}

/** Bytes that surely hold `BorderDigest`. Cost: one step a text. */
export function roomBorderDigest(value: BorderDigestFields): number {
  let room = 33;
  room += 10 + 8 * value.buckets.length;
  return room;
}

/** Writes `BorderDigest` as a field; returns the offset after it. */
export function writeBorderDigest(out: Uint8Array, start: number, tag: number, value: BorderDigestFields): number {
  const body = openLength(writeVarint(out, start, tag));
  let at = body;
  at = writeFixed64Field(out, at, 9, value.digest);
  at = writeNumberField(out, at, 16, value.count);
  at = writeNumberField(out, at, 24, value.isAnswer ? 1 : 0);
  at = writePackedFixed64Field(out, at, 34, value.buckets);
  return closeLength(out, body, at);
}

/** `BorderHave` as plain values; a decoded message is one too. */
export interface BorderHaveFields {
  readonly buckets: readonly number[];
  readonly isAnswer: boolean;
  readonly hashes: readonly bigint[];
  readonly versions: readonly number[];
}

export function newBorderHave(): Open<BorderHaveFields> {
  return {
    buckets: [],
    isAnswer: false,
    hashes: [],
    versions: [],
  };
}

export const MAX_BORDER_HAVE_BUCKETS = 256;

export const MAX_BORDER_HAVE_HASHES = 16384;

export const MAX_BORDER_HAVE_VERSIONS = 16384;

/** Reads `BorderHave` after its tag. */
export function readBorderHave(reader: WireReader): BorderHaveFields {
  const value = newBorderHave();
  const end = reader.enter();
  while (!reader.isDone()) {
    const tag = reader.tag();
    switch (tag) {
      case 10: {
        const outer = reader.enter();
        while (!reader.isDone()) {
        mayGrow(value.buckets.length, MAX_BORDER_HAVE_BUCKETS, "BorderHave.buckets");
        value.buckets.push(reader.varint());
        }
        reader.leave(outer);
        break;
      }
      case 8:
        mayGrow(value.buckets.length, MAX_BORDER_HAVE_BUCKETS, "BorderHave.buckets");
        value.buckets.push(reader.varint());
        break;
      case 16:
        value.isAnswer = reader.varint() !== 0;
        break;
      case 26: {
        const outer = reader.enter();
        while (!reader.isDone()) {
        mayGrow(value.hashes.length, MAX_BORDER_HAVE_HASHES, "BorderHave.hashes");
        value.hashes.push(reader.fixed64());
        }
        reader.leave(outer);
        break;
      }
      case 25:
        mayGrow(value.hashes.length, MAX_BORDER_HAVE_HASHES, "BorderHave.hashes");
        value.hashes.push(reader.fixed64());
        break;
      case 34: {
        const outer = reader.enter();
        while (!reader.isDone()) {
        mayGrow(value.versions.length, MAX_BORDER_HAVE_VERSIONS, "BorderHave.versions");
        value.versions.push(reader.number());
        }
        reader.leave(outer);
        break;
      }
      case 32:
        mayGrow(value.versions.length, MAX_BORDER_HAVE_VERSIONS, "BorderHave.versions");
        value.versions.push(reader.number());
        break;
      default:
        reader.skipUnknown(tag, 4);
    }
  }
  reader.leave(end);
  return value;
}

/** Bytes that surely hold `BorderHave`. Cost: one step a text. */
export function roomBorderHave(value: BorderHaveFields): number {
  let room = 11;
  room += 10 + 8 * value.buckets.length;
  room += 10 + 8 * value.hashes.length;
  room += 10 + 8 * value.versions.length;
  return room;
}

/** Writes `BorderHave` as a field; returns the offset after it. */
export function writeBorderHave(out: Uint8Array, start: number, tag: number, value: BorderHaveFields): number {
  const body = openLength(writeVarint(out, start, tag));
  let at = body;
  at = writePackedField(out, at, 10, value.buckets);
  at = writeNumberField(out, at, 16, value.isAnswer ? 1 : 0);
  at = writePackedFixed64Field(out, at, 26, value.hashes);
  at = writePackedField(out, at, 34, value.versions);
  return closeLength(out, body, at);
}

export type BorderFields =
  | { readonly case: "rules"; readonly value: BorderRulesFields }
  | { readonly case: "batch"; readonly value: BorderBatchFields }
  | { readonly case: "digest"; readonly value: BorderDigestFields }
  | { readonly case: "have"; readonly value: BorderHaveFields };

/** `BorderFrame` as plain values; a decoded message is one too. */
export interface BorderFrameFields {
  readonly border: BorderFields | { readonly case: undefined; readonly value?: undefined };
}

export function newBorderFrame(): Open<BorderFrameFields> {
  return {
    border: { case: undefined },
  };
}

/** Reads `BorderFrame` after its tag. */
export function readBorderFrame(reader: WireReader): BorderFrameFields {
  const value = newBorderFrame();
  const end = reader.enter();
  while (!reader.isDone()) {
    const tag = reader.tag();
    switch (tag) {
      case 10:
        once(value.border.case, "border");
        value.border = { case: "rules", value: readBorderRules(reader) };
        break;
      case 18:
        once(value.border.case, "border");
        value.border = { case: "batch", value: readBorderBatch(reader) };
        break;
      case 26:
        once(value.border.case, "border");
        value.border = { case: "digest", value: readBorderDigest(reader) };
        break;
      case 34:
        once(value.border.case, "border");
        value.border = { case: "have", value: readBorderHave(reader) };
        break;
      default:
        reader.skipUnknown(tag, 4);
    }
  }
  reader.leave(end);
  return value;
}

/** Bytes that surely hold `BorderFrame`. Cost: one step a text. */
export function roomBorderFrame(value: BorderFrameFields): number {
  let room = 0;
  switch (value.border.case) {
    case "rules":
      room += 10 + roomBorderRules(value.border.value);
      break;
    case "batch":
      room += 10 + roomBorderBatch(value.border.value);
      break;
    case "digest":
      room += 10 + roomBorderDigest(value.border.value);
      break;
    case "have":
      room += 10 + roomBorderHave(value.border.value);
      break;
    case undefined:
  }
  return room;
}

/** Writes `BorderFrame` as a field; returns the offset after it. */
export function writeBorderFrame(out: Uint8Array, start: number, tag: number, value: BorderFrameFields): number {
  const body = openLength(writeVarint(out, start, tag));
  let at = body;
  switch (value.border.case) {
    case "rules":
      at = writeBorderRules(out, at, 10, value.border.value);
      break;
    case "batch":
      at = writeBorderBatch(out, at, 18, value.border.value);
      break;
    case "digest":
      at = writeBorderDigest(out, at, 26, value.border.value);
      break;
    case "have":
      at = writeBorderHave(out, at, 34, value.border.value);
      break;
    case undefined:
  }
  return closeLength(out, body, at);
}

export type FrameFields =
  | { readonly case: "hello"; readonly value: HelloFrameFields }
  | { readonly case: "vector"; readonly value: VectorFrameFields }
  | { readonly case: "records"; readonly value: RecordsFrameFields }
  | { readonly case: "goodbye"; readonly value: GoodbyeFrameFields }
  | { readonly case: "linked"; readonly value: LinkedFrameFields }
  | { readonly case: "digests"; readonly value: DigestFrameFields }
  | { readonly case: "policy"; readonly value: PolicyFrameFields }
  | { readonly case: "handOver"; readonly value: HandOverFrameFields }
  | { readonly case: "summaries"; readonly value: SummarySpaceFrameFields }
  | { readonly case: "sourceAges"; readonly value: SourceAgesFrameFields }
  | { readonly case: "border"; readonly value: BorderFrameFields };

/** `LinkFrame` as plain values; a decoded message is one too. */
export interface LinkFrameFields {
  readonly frame: FrameFields | { readonly case: undefined; readonly value?: undefined };
}

export function newLinkFrame(): Open<LinkFrameFields> {
  return {
    frame: { case: undefined },
  };
}

/** Reads `LinkFrame` after its tag. */
export function readLinkFrame(reader: WireReader): LinkFrameFields {
  const value = newLinkFrame();
  const end = reader.enter();
  while (!reader.isDone()) {
    const tag = reader.tag();
    switch (tag) {
      case 10:
        once(value.frame.case, "frame");
        value.frame = { case: "hello", value: readHelloFrame(reader) };
        break;
      case 18:
        once(value.frame.case, "frame");
        value.frame = { case: "vector", value: readVectorFrame(reader) };
        break;
      case 26:
        once(value.frame.case, "frame");
        value.frame = { case: "records", value: readRecordsFrame(reader) };
        break;
      case 34:
        once(value.frame.case, "frame");
        value.frame = { case: "goodbye", value: readGoodbyeFrame(reader) };
        break;
      case 42:
        once(value.frame.case, "frame");
        value.frame = { case: "linked", value: readLinkedFrame(reader) };
        break;
      case 50:
        once(value.frame.case, "frame");
        value.frame = { case: "digests", value: readDigestFrame(reader) };
        break;
      case 58:
        once(value.frame.case, "frame");
        value.frame = { case: "policy", value: readPolicyFrame(reader) };
        break;
      case 66:
        once(value.frame.case, "frame");
        value.frame = { case: "handOver", value: readHandOverFrame(reader) };
        break;
      case 74:
        once(value.frame.case, "frame");
        value.frame = { case: "summaries", value: readSummarySpaceFrame(reader) };
        break;
      case 82:
        once(value.frame.case, "frame");
        value.frame = { case: "sourceAges", value: readSourceAgesFrame(reader) };
        break;
      case 90:
        once(value.frame.case, "frame");
        value.frame = { case: "border", value: readBorderFrame(reader) };
        break;
      default:
        reader.skipUnknown(tag, 11);
    }
  }
  reader.leave(end);
  return value;
}

/** Bytes that surely hold `LinkFrame`. Cost: one step a text. */
export function roomLinkFrame(value: LinkFrameFields): number {
  let room = 0;
  switch (value.frame.case) {
    case "hello":
      room += 10 + roomHelloFrame(value.frame.value);
      break;
    case "vector":
      room += 10 + roomVectorFrame(value.frame.value);
      break;
    case "records":
      room += 10 + roomRecordsFrame(value.frame.value);
      break;
    case "goodbye":
      room += 10 + roomGoodbyeFrame(value.frame.value);
      break;
    case "linked":
      room += 10 + roomLinkedFrame(value.frame.value);
      break;
    case "digests":
      room += 10 + roomDigestFrame(value.frame.value);
      break;
    case "policy":
      room += 10 + roomPolicyFrame(value.frame.value);
      break;
    case "handOver":
      room += 10 + roomHandOverFrame(value.frame.value);
      break;
    case "summaries":
      room += 10 + roomSummarySpaceFrame(value.frame.value);
      break;
    case "sourceAges":
      room += 10 + roomSourceAgesFrame(value.frame.value);
      break;
    case "border":
      room += 10 + roomBorderFrame(value.frame.value);
      break;
    case undefined:
  }
  return room;
}

/** Writes `LinkFrame` as a field; returns the offset after it. */
export function writeLinkFrame(out: Uint8Array, start: number, tag: number, value: LinkFrameFields): number {
  const body = openLength(writeVarint(out, start, tag));
  let at = body;
  switch (value.frame.case) {
    case "hello":
      at = writeHelloFrame(out, at, 10, value.frame.value);
      break;
    case "vector":
      at = writeVectorFrame(out, at, 18, value.frame.value);
      break;
    case "records":
      at = writeRecordsFrame(out, at, 26, value.frame.value);
      break;
    case "goodbye":
      at = writeGoodbyeFrame(out, at, 34, value.frame.value);
      break;
    case "linked":
      at = writeLinkedFrame(out, at, 42, value.frame.value);
      break;
    case "digests":
      at = writeDigestFrame(out, at, 50, value.frame.value);
      break;
    case "policy":
      at = writePolicyFrame(out, at, 58, value.frame.value);
      break;
    case "handOver":
      at = writeHandOverFrame(out, at, 66, value.frame.value);
      break;
    case "summaries":
      at = writeSummarySpaceFrame(out, at, 74, value.frame.value);
      break;
    case "sourceAges":
      at = writeSourceAgesFrame(out, at, 82, value.frame.value);
      break;
    case "border":
      at = writeBorderFrame(out, at, 90, value.frame.value);
      break;
    case undefined:
  }
  return closeLength(out, body, at);
}

/** `LinkRequest` as plain values; a decoded message is one too. */
export interface LinkRequestFields {
  readonly frame?: LinkFrameFields;
}

export function newLinkRequest(): Open<LinkRequestFields> {
  return {};
}

/** Bytes that surely hold `LinkRequest`. Cost: one step a text. */
export function roomLinkRequest(value: LinkRequestFields): number {
  let room = 10;
  if (value.frame !== undefined) room += roomLinkFrame(value.frame);
  return room;
}

/** The whole bytes of `LinkRequest`. Refuses what is malformed; `checkLinkRequest` has the rules. */
export function decodeLinkRequest(bytes: Uint8Array): LinkRequestFields {
  const reader = new WireReader(bytes);
  const value = newLinkRequest();
  while (!reader.isDone()) {
    const tag = reader.tag();
    switch (tag) {
      case 10:
        once(value.frame, "frame");
        value.frame = readLinkFrame(reader);
        break;
      default:
        reader.skipUnknown(tag, 1);
    }
  }
  return value;
}

/** Writes the fields of `LinkRequest`; `out` has `roomLinkRequest` bytes after `start`. Returns the offset after them. */
export function putLinkRequest(out: Uint8Array, start: number, value: LinkRequestFields): number {
  let at = start;
  if (value.frame !== undefined) at = writeLinkFrame(out, at, 10, value.frame);
  return at;
}

export function encodeLinkRequest(value: LinkRequestFields): Uint8Array {
  const out = new Uint8Array(roomLinkRequest(value));
  return out.subarray(0, putLinkRequest(out, 0, value));
}

export type ContentFields =
  | { readonly case: "summary"; readonly value: SealedFields }
  | { readonly case: "beacon"; readonly value: SealedFields }
  | { readonly case: "key"; readonly value: SealedFields };

/** `SealedRecord` as plain values; a decoded message is one too. */
export interface SealedRecordFields {
  readonly content: ContentFields | { readonly case: undefined; readonly value?: undefined };
}

export function newSealedRecord(): Open<SealedRecordFields> {
  return {
    content: { case: undefined },
  };
}

/** Bytes that surely hold `SealedRecord`. Cost: one step a text. */
export function roomSealedRecord(value: SealedRecordFields): number {
  let room = 0;
  switch (value.content.case) {
    case "summary":
      room += 10 + roomSealed(value.content.value);
      break;
    case "beacon":
      room += 10 + roomSealed(value.content.value);
      break;
    case "key":
      room += 10 + roomSealed(value.content.value);
      break;
    case undefined:
  }
  return room;
}

/** The whole bytes of `SealedRecord`. Refuses what is malformed; `checkSealedRecord` has the rules. */
export function decodeSealedRecord(bytes: Uint8Array): SealedRecordFields {
  const reader = new WireReader(bytes);
  const value = newSealedRecord();
  while (!reader.isDone()) {
    const tag = reader.tag();
    switch (tag) {
      case 10:
        once(value.content.case, "content");
        value.content = { case: "summary", value: readSealed(reader) };
        break;
      case 18:
        once(value.content.case, "content");
        value.content = { case: "beacon", value: readSealed(reader) };
        break;
      case 26:
        once(value.content.case, "content");
        value.content = { case: "key", value: readSealed(reader) };
        break;
      default:
        reader.skipUnknown(tag, 3);
    }
  }
  return value;
}

/** Writes the fields of `SealedRecord`; `out` has `roomSealedRecord` bytes after `start`. Returns the offset after them. */
export function putSealedRecord(out: Uint8Array, start: number, value: SealedRecordFields): number {
  let at = start;
  switch (value.content.case) {
    case "summary":
      at = writeSealed(out, at, 10, value.content.value);
      break;
    case "beacon":
      at = writeSealed(out, at, 18, value.content.value);
      break;
    case "key":
      at = writeSealed(out, at, 26, value.content.value);
      break;
    case undefined:
  }
  return at;
}

export function encodeSealedRecord(value: SealedRecordFields): Uint8Array {
  const out = new Uint8Array(roomSealedRecord(value));
  return out.subarray(0, putSealedRecord(out, 0, value));
}

/** `IngressNode` as plain values; a decoded message is one too. */
export interface IngressNodeFields {
  readonly urls: readonly string[];
  readonly scope: number;
  readonly capabilities: readonly string[];
  readonly tags: readonly string[];
}

export function newIngressNode(): Open<IngressNodeFields> {
  return {
    urls: [],
    scope: 0,
    capabilities: [],
    tags: [],
  };
}

export const MAX_INGRESS_NODE_URLS = 8;

export const MAX_INGRESS_NODE_CAPABILITIES = 64;

export const MAX_INGRESS_NODE_TAGS = 64;

/** Reads `IngressNode` after its tag. */
export function readIngressNode(reader: WireReader): IngressNodeFields {
  const value = newIngressNode();
  const end = reader.enter();
  while (!reader.isDone()) {
    const tag = reader.tag();
    switch (tag) {
      case 10:
        mayGrow(value.urls.length, MAX_INGRESS_NODE_URLS, "IngressNode.urls");
        value.urls.push(reader.text());
        break;
      case 16:
        value.scope = reader.varint();
        break;
      case 26:
        mayGrow(value.capabilities.length, MAX_INGRESS_NODE_CAPABILITIES, "IngressNode.capabilities");
        value.capabilities.push(reader.text());
        break;
      case 34:
        mayGrow(value.tags.length, MAX_INGRESS_NODE_TAGS, "IngressNode.tags");
        value.tags.push(reader.text());
        break;
      default:
        reader.skipUnknown(tag, 4);
    }
  }
  reader.leave(end);
  return value;
}

/** Bytes that surely hold `IngressNode`. Cost: one step a text. */
export function roomIngressNode(value: IngressNodeFields): number {
  let room = 11;
  room += textsRoom(value.urls);
  room += textsRoom(value.capabilities);
  room += textsRoom(value.tags);
  return room;
}

/** Writes `IngressNode` as a field; returns the offset after it. */
export function writeIngressNode(out: Uint8Array, start: number, tag: number, value: IngressNodeFields): number {
  const body = openLength(writeVarint(out, start, tag));
  let at = body;
  at = writeTexts(out, at, 10, value.urls);
  at = writeNumberField(out, at, 16, value.scope);
  at = writeTexts(out, at, 26, value.capabilities);
  at = writeTexts(out, at, 34, value.tags);
  return closeLength(out, body, at);
}

/** `Withdrawal` as plain values; a decoded message is one too. */
export interface WithdrawalFields {
  readonly tag: bigint;
  readonly version: number;
}

export function newWithdrawal(): Open<WithdrawalFields> {
  return {
    tag: 0n,
    version: 0,
  };
}

/** Reads `Withdrawal` after its tag. */
export function readWithdrawal(reader: WireReader): WithdrawalFields {
  const value = newWithdrawal();
  const end = reader.enter();
  while (!reader.isDone()) {
    const tag = reader.tag();
    switch (tag) {
      case 9:
        value.tag = reader.fixed64();
        break;
      case 16:
        value.version = reader.number();
        break;
      default:
        reader.skipUnknown(tag, 2);
    }
  }
  reader.leave(end);
  return value;
}

/** Bytes that surely hold `Withdrawal`. Cost: one step a text. */
export function roomWithdrawal(_value: WithdrawalFields): number {
  return 22;
}

/** Writes `Withdrawal` as a field; returns the offset after it. */
export function writeWithdrawal(out: Uint8Array, start: number, tag: number, value: WithdrawalFields): number {
  const body = openLength(writeVarint(out, start, tag));
  let at = body;
  at = writeFixed64Field(out, at, 9, value.tag);
  at = writeNumberField(out, at, 16, value.version);
  return closeLength(out, body, at);
}

/** `Beacon` as plain values; a decoded message is one too. */
export interface BeaconFields {
  readonly sourceCluster: string;
  readonly region: string;
  readonly generatedAtMs: number;
  readonly version: number;
  readonly exporter: string;
  readonly keyId: string;
  readonly ttlMs: number;
  readonly ingress: readonly IngressNodeFields[];
  readonly withdrawals: readonly WithdrawalFields[];
}

export function newBeacon(): Open<BeaconFields> {
  return {
    sourceCluster: "",
    region: "",
    generatedAtMs: 0,
    version: 0,
    exporter: "",
    keyId: "",
    ttlMs: 0,
    ingress: [],
    withdrawals: [],
  };
}

export const MAX_BEACON_INGRESS = 32;

export const MAX_BEACON_WITHDRAWALS = 100;

/** Bytes that surely hold `Beacon`. Cost: one step a text. */
export function roomBeacon(value: BeaconFields): number {
  let room = 73 + 3 * (value.sourceCluster.length + value.region.length + value.exporter.length + value.keyId.length);
  for (let i = 0; i < value.ingress.length; i++) room += 10 + roomIngressNode(value.ingress[i] ?? newIngressNode());
  for (let i = 0; i < value.withdrawals.length; i++) room += 10 + roomWithdrawal(value.withdrawals[i] ?? newWithdrawal());
  return room;
}

/** The whole bytes of `Beacon`. Refuses what is malformed; `checkBeacon` has the rules. */
export function decodeBeacon(bytes: Uint8Array): BeaconFields {
  const reader = new WireReader(bytes);
  const value = newBeacon();
  while (!reader.isDone()) {
    const tag = reader.tag();
    switch (tag) {
      case 10:
        value.sourceCluster = reader.text();
        break;
      case 18:
        value.region = reader.text();
        break;
      case 24:
        value.generatedAtMs = reader.number();
        break;
      case 32:
        value.version = reader.number();
        break;
      case 42:
        value.exporter = reader.text();
        break;
      case 50:
        value.keyId = reader.text();
        break;
      case 56:
        value.ttlMs = reader.number();
        break;
      case 66:
        mayGrow(value.ingress.length, MAX_BEACON_INGRESS, "Beacon.ingress");
        value.ingress.push(readIngressNode(reader));
        break;
      case 74:
        mayGrow(value.withdrawals.length, MAX_BEACON_WITHDRAWALS, "Beacon.withdrawals");
        value.withdrawals.push(readWithdrawal(reader));
        break;
      default:
        reader.skipUnknown(tag, 9);
    }
  }
  return value;
}

/** Writes the fields of `Beacon`; `out` has `roomBeacon` bytes after `start`. Returns the offset after them. */
export function putBeacon(out: Uint8Array, start: number, value: BeaconFields): number {
  let at = start;
  at = writeTextField(out, at, 10, value.sourceCluster);
  at = writeTextField(out, at, 18, value.region);
  at = writeNumberField(out, at, 24, value.generatedAtMs);
  at = writeNumberField(out, at, 32, value.version);
  at = writeTextField(out, at, 42, value.exporter);
  at = writeTextField(out, at, 50, value.keyId);
  at = writeNumberField(out, at, 56, value.ttlMs);
  for (let i = 0; i < value.ingress.length; i++) {
    const item = value.ingress[i];
    if (item !== undefined) at = writeIngressNode(out, at, 66, item);
  }
  for (let i = 0; i < value.withdrawals.length; i++) {
    const item = value.withdrawals[i];
    if (item !== undefined) at = writeWithdrawal(out, at, 74, item);
  }
  return at;
}

export function encodeBeacon(value: BeaconFields): Uint8Array {
  const out = new Uint8Array(roomBeacon(value));
  return out.subarray(0, putBeacon(out, 0, value));
}

/** `KeyAnnouncement` as plain values; a decoded message is one too. */
export interface KeyAnnouncementFields {
  readonly clusterId: string;
  readonly keyId: string;
  readonly publicKey: Uint8Array;
  readonly signedBy: string;
  readonly notBeforeMs: number;
  readonly notAfterMs: number;
  readonly holderSignature: Uint8Array;
}

export function newKeyAnnouncement(): Open<KeyAnnouncementFields> {
  return {
    clusterId: "",
    keyId: "",
    publicKey: new Uint8Array(),
    signedBy: "",
    notBeforeMs: 0,
    notAfterMs: 0,
    holderSignature: new Uint8Array(),
  };
}

/** Bytes that surely hold `KeyAnnouncement`. Cost: one step a text. */
export function roomKeyAnnouncement(value: KeyAnnouncementFields): number {
  let room = 72 + 3 * (value.clusterId.length + value.keyId.length + value.signedBy.length);
  room += value.publicKey.length;
  room += value.holderSignature.length;
  return room;
}

/** The whole bytes of `KeyAnnouncement`. Refuses what is malformed; `checkKeyAnnouncement` has the rules. */
export function decodeKeyAnnouncement(bytes: Uint8Array): KeyAnnouncementFields {
  const reader = new WireReader(bytes);
  const value = newKeyAnnouncement();
  while (!reader.isDone()) {
    const tag = reader.tag();
    switch (tag) {
      case 10:
        value.clusterId = reader.text();
        break;
      case 18:
        value.keyId = reader.text();
        break;
      case 26:
        value.publicKey = reader.view();
        break;
      case 34:
        value.signedBy = reader.text();
        break;
      case 40:
        value.notBeforeMs = reader.number();
        break;
      case 48:
        value.notAfterMs = reader.number();
        break;
      case 58:
        value.holderSignature = reader.view();
        break;
      default:
        reader.skipUnknown(tag, 7);
    }
  }
  return value;
}

/** Writes the fields of `KeyAnnouncement`; `out` has `roomKeyAnnouncement` bytes after `start`. Returns the offset after them. */
export function putKeyAnnouncement(out: Uint8Array, start: number, value: KeyAnnouncementFields): number {
  let at = start;
  at = writeTextField(out, at, 10, value.clusterId);
  at = writeTextField(out, at, 18, value.keyId);
  if (value.publicKey.length > 0) at = writeBytesField(out, at, 26, value.publicKey);
  at = writeTextField(out, at, 34, value.signedBy);
  at = writeNumberField(out, at, 40, value.notBeforeMs);
  at = writeNumberField(out, at, 48, value.notAfterMs);
  if (value.holderSignature.length > 0) at = writeBytesField(out, at, 58, value.holderSignature);
  return at;
}

export function encodeKeyAnnouncement(value: KeyAnnouncementFields): Uint8Array {
  const out = new Uint8Array(roomKeyAnnouncement(value));
  return out.subarray(0, putKeyAnnouncement(out, 0, value));
}

/** `LatencyBand` as plain values; a decoded message is one too. */
export interface LatencyBandFields {
  readonly min: number;
  readonly max: number;
}

export function newLatencyBand(): Open<LatencyBandFields> {
  return {
    min: 0,
    max: 0,
  };
}

/** Reads `LatencyBand` after its tag. */
export function readLatencyBand(reader: WireReader): LatencyBandFields {
  const value = newLatencyBand();
  const end = reader.enter();
  while (!reader.isDone()) {
    const tag = reader.tag();
    switch (tag) {
      case 8:
        value.min = reader.varint();
        break;
      case 16:
        value.max = reader.varint();
        break;
      default:
        reader.skipUnknown(tag, 2);
    }
  }
  reader.leave(end);
  return value;
}

/** Bytes that surely hold `LatencyBand`. Cost: one step a text. */
export function roomLatencyBand(_value: LatencyBandFields): number {
  return 22;
}

/** Writes `LatencyBand` as a field; returns the offset after it. */
export function writeLatencyBand(out: Uint8Array, start: number, tag: number, value: LatencyBandFields): number {
  const body = openLength(writeVarint(out, start, tag));
  let at = body;
  at = writeNumberField(out, at, 8, value.min);
  at = writeNumberField(out, at, 16, value.max);
  return closeLength(out, body, at);
}

/** `ServiceSummary` as plain values; a decoded message is one too. */
export interface ServiceSummaryFields {
  readonly namespace: string;
  readonly serviceId: string;
  readonly regions: readonly string[];
  readonly endpointCount: number;
  readonly healthBand: number;
  readonly latencyBandMs?: LatencyBandFields;
  readonly ttl: TimeFields;
  readonly generatedAt: TimeFields;
  readonly policyVersion: string;
  readonly sourceCluster: string;
  readonly scope: number;
  readonly signature: Uint8Array;
  readonly keyId: string;
  readonly kind: number;
  readonly version: number;
  readonly exporter: string;
  readonly notAfter?: TimeFields;
  readonly noStale: boolean;
  readonly withdrawn: boolean;
  readonly stale: boolean;
  readonly signedBytes: Uint8Array;
  readonly policyNumber: number;
  readonly policyRule: string;
  readonly tag: bigint;
}

export function newServiceSummary(): Open<ServiceSummaryFields> {
  return {
    namespace: "",
    serviceId: "",
    regions: [],
    endpointCount: 0,
    healthBand: 0,
    ttl: NO_TIME,
    generatedAt: NO_TIME,
    policyVersion: "",
    sourceCluster: "",
    scope: 0,
    signature: new Uint8Array(),
    keyId: "",
    kind: 0,
    version: 0,
    exporter: "",
    noStale: false,
    withdrawn: false,
    stale: false,
    signedBytes: new Uint8Array(),
    policyNumber: 0,
    policyRule: "",
    tag: 0n,
  };
}

export const MAX_SERVICE_SUMMARY_REGIONS = 64;

/** Bytes that surely hold `ServiceSummary`. Cost: one step a text. */
export function roomServiceSummary(value: ServiceSummaryFields): number {
  let room = 270 + 3 * (value.namespace.length + value.serviceId.length + value.policyVersion.length + value.sourceCluster.length + value.keyId.length + value.exporter.length + value.policyRule.length);
  room += textsRoom(value.regions);
  if (value.latencyBandMs !== undefined) room += roomLatencyBand(value.latencyBandMs);
  room += value.signature.length;
  room += value.signedBytes.length;
  return room;
}

/** The whole bytes of `ServiceSummary`. Refuses what is malformed; `checkServiceSummary` has the rules. */
export function decodeServiceSummary(bytes: Uint8Array): ServiceSummaryFields {
  const reader = new WireReader(bytes);
  const value = newServiceSummary();
  while (!reader.isDone()) {
    const tag = reader.tag();
    switch (tag) {
      case 10:
        value.namespace = reader.text();
        break;
      case 18:
        value.serviceId = reader.text();
        break;
      case 26:
        mayGrow(value.regions.length, MAX_SERVICE_SUMMARY_REGIONS, "ServiceSummary.regions");
        value.regions.push(reader.text());
        break;
      case 32:
        value.endpointCount = reader.varint();
        break;
      case 40:
        value.healthBand = reader.varint();
        break;
      case 50:
        once(value.latencyBandMs, "latency_band_ms");
        value.latencyBandMs = readLatencyBand(reader);
        break;
      case 58:
        if (value.ttl !== NO_TIME) throw misplaced("ttl is there twice");
        value.ttl = readTime(reader, true);
        break;
      case 66:
        if (value.generatedAt !== NO_TIME) throw misplaced("generated_at is there twice");
        value.generatedAt = readTime(reader, true);
        break;
      case 74:
        value.policyVersion = reader.text();
        break;
      case 82:
        value.sourceCluster = reader.text();
        break;
      case 88:
        value.scope = reader.varint();
        break;
      case 98:
        value.signature = reader.view();
        break;
      case 106:
        value.keyId = reader.text();
        break;
      case 112:
        value.kind = reader.varint();
        break;
      case 120:
        value.version = reader.number();
        break;
      case 130:
        value.exporter = reader.text();
        break;
      case 138:
        once(value.notAfter, "not_after");
        value.notAfter = readTime(reader, true);
        break;
      case 144:
        value.noStale = reader.varint() !== 0;
        break;
      case 152:
        value.withdrawn = reader.varint() !== 0;
        break;
      case 160:
        value.stale = reader.varint() !== 0;
        break;
      case 170:
        value.signedBytes = reader.view();
        break;
      case 176:
        value.policyNumber = reader.number();
        break;
      case 186:
        value.policyRule = reader.text();
        break;
      case 193:
        value.tag = reader.fixed64();
        break;
      default:
        reader.skipUnknown(tag, 24);
    }
  }
  return value;
}

/** Writes the fields of `ServiceSummary`; `out` has `roomServiceSummary` bytes after `start`. Returns the offset after them. */
export function putServiceSummary(out: Uint8Array, start: number, value: ServiceSummaryFields): number {
  let at = start;
  at = writeTextField(out, at, 10, value.namespace);
  at = writeTextField(out, at, 18, value.serviceId);
  at = writeTexts(out, at, 26, value.regions);
  at = writeNumberField(out, at, 32, value.endpointCount);
  at = writeNumberField(out, at, 40, value.healthBand);
  if (value.latencyBandMs !== undefined) at = writeLatencyBand(out, at, 50, value.latencyBandMs);
  at = writeTimeField(out, at, 58, value.ttl);
  at = writeTimeField(out, at, 66, value.generatedAt);
  at = writeTextField(out, at, 74, value.policyVersion);
  at = writeTextField(out, at, 82, value.sourceCluster);
  at = writeNumberField(out, at, 88, value.scope);
  if (value.signature.length > 0) at = writeBytesField(out, at, 98, value.signature);
  at = writeTextField(out, at, 106, value.keyId);
  at = writeNumberField(out, at, 112, value.kind);
  at = writeNumberField(out, at, 120, value.version);
  at = writeTextField(out, at, 130, value.exporter);
  if (value.notAfter !== undefined) at = writeTimeField(out, at, 138, value.notAfter);
  at = writeNumberField(out, at, 144, value.noStale ? 1 : 0);
  at = writeNumberField(out, at, 152, value.withdrawn ? 1 : 0);
  at = writeNumberField(out, at, 160, value.stale ? 1 : 0);
  if (value.signedBytes.length > 0) at = writeBytesField(out, at, 170, value.signedBytes);
  at = writeNumberField(out, at, 176, value.policyNumber);
  at = writeTextField(out, at, 186, value.policyRule);
  at = writeFixed64Field(out, at, 193, value.tag);
  return at;
}

export function encodeServiceSummary(value: ServiceSummaryFields): Uint8Array {
  const out = new Uint8Array(roomServiceSummary(value));
  return out.subarray(0, putServiceSummary(out, 0, value));
}

/** `Origin` as plain values; a decoded message is one too. */
export interface OriginFields {
  readonly nodeId: string;
  readonly generation: number;
  readonly clusterId: string;
  readonly region: string;
  readonly boot?: string;
  readonly bootBefore?: string;
}

export function newOrigin(): Open<OriginFields> {
  return {
    nodeId: "",
    generation: 0,
    clusterId: "",
    region: "",
  };
}

const NO_ORIGIN: OriginFields = newOrigin();

/** Reads `Origin` after its tag. */
export function readOrigin(reader: WireReader): OriginFields {
  const value = newOrigin();
  const end = reader.enter();
  while (!reader.isDone()) {
    const tag = reader.tag();
    switch (tag) {
      case 10:
        value.nodeId = reader.text();
        break;
      case 16:
        value.generation = reader.number();
        break;
      case 26:
        value.clusterId = reader.text();
        break;
      case 34:
        value.region = reader.text();
        break;
      case 42: {
        const said = reader.text();
        if (said !== "") value.boot = said;
        break;
      }
      case 50: {
        const said = reader.text();
        if (said !== "") value.bootBefore = said;
        break;
      }
      default:
        reader.skipUnknown(tag, 6);
    }
  }
  reader.leave(end);
  return value;
}

/** Bytes that surely hold `Origin`. Cost: one step a text. */
export function roomOrigin(value: OriginFields): number {
  return 61 + 3 * (value.nodeId.length + value.clusterId.length + value.region.length + (value.boot?.length ?? 0) + (value.bootBefore?.length ?? 0));
}

/** Writes `Origin` as a field; returns the offset after it. */
export function writeOrigin(out: Uint8Array, start: number, tag: number, value: OriginFields): number {
  const body = openLength(writeVarint(out, start, tag));
  let at = body;
  at = writeTextField(out, at, 10, value.nodeId);
  at = writeNumberField(out, at, 16, value.generation);
  at = writeTextField(out, at, 26, value.clusterId);
  at = writeTextField(out, at, 34, value.region);
  at = writeTextField(out, at, 42, (value.boot ?? ""));
  at = writeTextField(out, at, 50, (value.bootBefore ?? ""));
  return closeLength(out, body, at);
}

/** `BorderCount` as plain values; a decoded message is one too. */
export interface BorderCountFields {
  readonly region: string;
  readonly links: number;
}

export function newBorderCount(): Open<BorderCountFields> {
  return {
    region: "",
    links: 0,
  };
}

/** Reads `BorderCount` after its tag. */
export function readBorderCount(reader: WireReader): BorderCountFields {
  const value = newBorderCount();
  const end = reader.enter();
  while (!reader.isDone()) {
    const tag = reader.tag();
    switch (tag) {
      case 10:
        value.region = reader.text();
        break;
      case 16:
        value.links = reader.varint();
        break;
      default:
        reader.skipUnknown(tag, 2);
    }
  }
  reader.leave(end);
  return value;
}

/** Bytes that surely hold `BorderCount`. Cost: one step a text. */
export function roomBorderCount(value: BorderCountFields): number {
  return 21 + 3 * (value.region.length);
}

/** Writes `BorderCount` as a field; returns the offset after it. */
export function writeBorderCount(out: Uint8Array, start: number, tag: number, value: BorderCountFields): number {
  const body = openLength(writeVarint(out, start, tag));
  let at = body;
  at = writeTextField(out, at, 10, value.region);
  at = writeNumberField(out, at, 16, value.links);
  return closeLength(out, body, at);
}

/** `HeardRule` as plain values; a decoded message is one too. */
export interface HeardRuleFields {
  readonly clusterId: string;
  readonly region: string;
  readonly isHeard: boolean;
  readonly hasLink: boolean;
  readonly exports: readonly string[];
  readonly reached?: readonly ReachFields[];
}

export function newHeardRule(): Open<HeardRuleFields> {
  return {
    clusterId: "",
    region: "",
    isHeard: false,
    hasLink: false,
    exports: [],
  };
}

export const MAX_HEARD_RULE_EXPORTS = 64;

export const MAX_HEARD_RULE_REACHED = 64;

/** Reads `HeardRule` after its tag. */
export function readHeardRule(reader: WireReader): HeardRuleFields {
  const value = newHeardRule();
  const end = reader.enter();
  while (!reader.isDone()) {
    const tag = reader.tag();
    switch (tag) {
      case 10:
        value.clusterId = reader.text();
        break;
      case 18:
        value.region = reader.text();
        break;
      case 24:
        value.isHeard = reader.varint() !== 0;
        break;
      case 32:
        value.hasLink = reader.varint() !== 0;
        break;
      case 42:
        mayGrow(value.exports.length, MAX_HEARD_RULE_EXPORTS, "HeardRule.exports");
        value.exports.push(reader.text());
        break;
      case 50:
        mayGrow(value.reached?.length ?? 0, MAX_HEARD_RULE_REACHED, "HeardRule.reached");
        (value.reached ??= []).push(readReach(reader));
        break;
      default:
        reader.skipUnknown(tag, 6);
    }
  }
  reader.leave(end);
  return value;
}

/** Bytes that surely hold `HeardRule`. Cost: one step a text. */
export function roomHeardRule(value: HeardRuleFields): number {
  let room = 42 + 3 * (value.clusterId.length + value.region.length);
  room += textsRoom(value.exports);
  if (value.reached !== undefined) for (let i = 0; i < value.reached.length; i++) room += 10 + roomReach(value.reached[i] ?? newReach());
  return room;
}

/** Writes `HeardRule` as a field; returns the offset after it. */
export function writeHeardRule(out: Uint8Array, start: number, tag: number, value: HeardRuleFields): number {
  const body = openLength(writeVarint(out, start, tag));
  let at = body;
  at = writeTextField(out, at, 10, value.clusterId);
  at = writeTextField(out, at, 18, value.region);
  at = writeNumberField(out, at, 24, value.isHeard ? 1 : 0);
  at = writeNumberField(out, at, 32, value.hasLink ? 1 : 0);
  at = writeTexts(out, at, 42, value.exports);
  if (value.reached !== undefined) for (let i = 0; i < value.reached.length; i++) {
    const item = value.reached[i];
    if (item !== undefined) at = writeReach(out, at, 50, item);
  }
  return closeLength(out, body, at);
}

/** `DrainCount` as plain values; a decoded message is one too. */
export interface DrainCountFields {
  readonly kind: string;
  readonly count: number;
}

export function newDrainCount(): Open<DrainCountFields> {
  return {
    kind: "",
    count: 0,
  };
}

/** Reads `DrainCount` after its tag. */
export function readDrainCount(reader: WireReader): DrainCountFields {
  const value = newDrainCount();
  const end = reader.enter();
  while (!reader.isDone()) {
    const tag = reader.tag();
    switch (tag) {
      case 10:
        value.kind = reader.text();
        break;
      case 16:
        value.count = reader.number();
        break;
      default:
        reader.skipUnknown(tag, 2);
    }
  }
  reader.leave(end);
  return value;
}

/** Bytes that surely hold `DrainCount`. Cost: one step a text. */
export function roomDrainCount(value: DrainCountFields): number {
  return 21 + 3 * (value.kind.length);
}

/** Writes `DrainCount` as a field; returns the offset after it. */
export function writeDrainCount(out: Uint8Array, start: number, tag: number, value: DrainCountFields): number {
  const body = openLength(writeVarint(out, start, tag));
  let at = body;
  at = writeTextField(out, at, 10, value.kind);
  at = writeNumberField(out, at, 16, value.count);
  return closeLength(out, body, at);
}

/** `DrainProgress` as plain values; a decoded message is one too. */
export interface DrainProgressFields {
  readonly step: string;
  readonly sinceMs: number;
  readonly isStuck: boolean;
  readonly left: readonly DrainCountFields[];
  readonly urls: readonly string[];
}

export function newDrainProgress(): Open<DrainProgressFields> {
  return {
    step: "",
    sinceMs: 0,
    isStuck: false,
    left: [],
    urls: [],
  };
}

export const MAX_DRAIN_PROGRESS_LEFT = 8;

export const MAX_DRAIN_PROGRESS_URLS = 4;

/** Reads `DrainProgress` after its tag. */
export function readDrainProgress(reader: WireReader): DrainProgressFields {
  const value = newDrainProgress();
  const end = reader.enter();
  while (!reader.isDone()) {
    const tag = reader.tag();
    switch (tag) {
      case 10:
        value.step = reader.text();
        break;
      case 16:
        value.sinceMs = reader.number();
        break;
      case 24:
        value.isStuck = reader.varint() !== 0;
        break;
      case 34:
        mayGrow(value.left.length, MAX_DRAIN_PROGRESS_LEFT, "DrainProgress.left");
        value.left.push(readDrainCount(reader));
        break;
      case 42:
        mayGrow(value.urls.length, MAX_DRAIN_PROGRESS_URLS, "DrainProgress.urls");
        value.urls.push(reader.text());
        break;
      default:
        reader.skipUnknown(tag, 5);
    }
  }
  reader.leave(end);
  return value;
}

/** Bytes that surely hold `DrainProgress`. Cost: one step a text. */
export function roomDrainProgress(value: DrainProgressFields): number {
  let room = 32 + 3 * (value.step.length);
  for (let i = 0; i < value.left.length; i++) room += 10 + roomDrainCount(value.left[i] ?? newDrainCount());
  room += textsRoom(value.urls);
  return room;
}

/** Writes `DrainProgress` as a field; returns the offset after it. */
export function writeDrainProgress(out: Uint8Array, start: number, tag: number, value: DrainProgressFields): number {
  const body = openLength(writeVarint(out, start, tag));
  let at = body;
  at = writeTextField(out, at, 10, value.step);
  at = writeNumberField(out, at, 16, value.sinceMs);
  at = writeNumberField(out, at, 24, value.isStuck ? 1 : 0);
  for (let i = 0; i < value.left.length; i++) {
    const item = value.left[i];
    if (item !== undefined) at = writeDrainCount(out, at, 34, item);
  }
  at = writeTexts(out, at, 42, value.urls);
  return closeLength(out, body, at);
}

/** `MemberSecurity` as plain values; a decoded message is one too. */
export interface MemberSecurityFields {
  readonly source: string;
  readonly issuer: string;
  readonly expiresS: number;
  readonly root: string;
  readonly roots: readonly string[];
}

export function newMemberSecurity(): Open<MemberSecurityFields> {
  return {
    source: "",
    issuer: "",
    expiresS: 0,
    root: "",
    roots: [],
  };
}

export const MAX_MEMBER_SECURITY_ROOTS = 16;

/** Reads `MemberSecurity` after its tag. */
export function readMemberSecurity(reader: WireReader): MemberSecurityFields {
  const value = newMemberSecurity();
  const end = reader.enter();
  while (!reader.isDone()) {
    const tag = reader.tag();
    switch (tag) {
      case 10:
        value.source = reader.text();
        break;
      case 18:
        value.issuer = reader.text();
        break;
      case 24:
        value.expiresS = reader.number();
        break;
      case 42:
        value.root = reader.text();
        break;
      case 50:
        mayGrow(value.roots.length, MAX_MEMBER_SECURITY_ROOTS, "MemberSecurity.roots");
        value.roots.push(reader.text());
        break;
      case 32:
      case 33:
      case 34:
      case 37:
        reader.skip(tag);
        break;
      default:
        reader.skipUnknown(tag, 6);
    }
  }
  reader.leave(end);
  return value;
}

/** Bytes that surely hold `MemberSecurity`. Cost: one step a text. */
export function roomMemberSecurity(value: MemberSecurityFields): number {
  let room = 41 + 3 * (value.source.length + value.issuer.length + value.root.length);
  room += textsRoom(value.roots);
  return room;
}

/** Writes `MemberSecurity` as a field; returns the offset after it. */
export function writeMemberSecurity(out: Uint8Array, start: number, tag: number, value: MemberSecurityFields): number {
  const body = openLength(writeVarint(out, start, tag));
  let at = body;
  at = writeTextField(out, at, 10, value.source);
  at = writeTextField(out, at, 18, value.issuer);
  at = writeNumberField(out, at, 24, value.expiresS);
  at = writeTextField(out, at, 42, value.root);
  at = writeTexts(out, at, 50, value.roots);
  return closeLength(out, body, at);
}

/** `MemberUpdate` as plain values; a decoded message is one too. */
export interface MemberUpdateFields {
  readonly nodeId: string;
  readonly status: string;
  readonly incarnation: number;
  readonly address: string;
  readonly clusterId: string;
  readonly region: string;
  readonly zone: string;
  readonly generation: number;
  readonly version: string;
  readonly protocolVersions: readonly number[];
  readonly transports: readonly string[];
  readonly healthScore: number;
  readonly roles: readonly string[];
  readonly labels: Readonly<Record<string, string>>;
  readonly accuser: string;
  readonly keepsEntries?: boolean;
  readonly boot?: string;
  readonly bootBefore?: string;
  readonly exportsSummaries?: boolean;
  readonly borders?: readonly BorderCountFields[];
  readonly heardRules?: readonly HeardRuleFields[];
  readonly controlStore?: string;
  readonly isServing?: boolean;
  readonly desired?: string;
  readonly drain?: DrainProgressFields;
  readonly configDigest?: string;
  readonly security?: MemberSecurityFields;
}

export function newMemberUpdate(): Open<MemberUpdateFields> {
  return {
    nodeId: "",
    status: "",
    incarnation: 0,
    address: "",
    clusterId: "",
    region: "",
    zone: "",
    generation: 0,
    version: "",
    protocolVersions: [],
    transports: [],
    healthScore: 0,
    roles: [],
    labels: {},
    accuser: "",
  };
}

export const MAX_MEMBER_UPDATE_PROTOCOL_VERSIONS = 64;

export const MAX_MEMBER_UPDATE_TRANSPORTS = 64;

export const MAX_MEMBER_UPDATE_ROLES = 64;

export const MAX_MEMBER_UPDATE_BORDERS = 32;

export const MAX_MEMBER_UPDATE_HEARD_RULES = 64;

/** Reads `MemberUpdate` after its tag. */
export function readMemberUpdate(reader: WireReader): MemberUpdateFields {
  const value = newMemberUpdate();
  const end = reader.enter();
  while (!reader.isDone()) {
    const tag = reader.tag();
    switch (tag) {
      case 10:
        value.nodeId = reader.text();
        break;
      case 18:
        value.status = reader.text();
        break;
      case 24:
        value.incarnation = reader.number();
        break;
      case 34:
        value.address = reader.text();
        break;
      case 42:
        value.clusterId = reader.text();
        break;
      case 50:
        value.region = reader.text();
        break;
      case 58:
        value.zone = reader.text();
        break;
      case 72:
        value.generation = reader.number();
        break;
      case 82:
        value.version = reader.text();
        break;
      case 90: {
        const outer = reader.enter();
        while (!reader.isDone()) {
        mayGrow(value.protocolVersions.length, MAX_MEMBER_UPDATE_PROTOCOL_VERSIONS, "MemberUpdate.protocol_versions");
        value.protocolVersions.push(reader.varint());
        }
        reader.leave(outer);
        break;
      }
      case 88:
        mayGrow(value.protocolVersions.length, MAX_MEMBER_UPDATE_PROTOCOL_VERSIONS, "MemberUpdate.protocol_versions");
        value.protocolVersions.push(reader.varint());
        break;
      case 98:
        mayGrow(value.transports.length, MAX_MEMBER_UPDATE_TRANSPORTS, "MemberUpdate.transports");
        value.transports.push(reader.text());
        break;
      case 104:
        value.healthScore = reader.varint();
        break;
      case 114:
        mayGrow(value.roles.length, MAX_MEMBER_UPDATE_ROLES, "MemberUpdate.roles");
        value.roles.push(reader.text());
        break;
      case 122:
        readPair(reader, value.labels);
        break;
      case 130:
        value.accuser = reader.text();
        break;
      case 136: {
        const said = reader.varint() !== 0;
        if (said !== false) value.keepsEntries = said;
        break;
      }
      case 146: {
        const said = reader.text();
        if (said !== "") value.boot = said;
        break;
      }
      case 154: {
        const said = reader.text();
        if (said !== "") value.bootBefore = said;
        break;
      }
      case 160: {
        const said = reader.varint() !== 0;
        if (said !== false) value.exportsSummaries = said;
        break;
      }
      case 170:
        mayGrow(value.borders?.length ?? 0, MAX_MEMBER_UPDATE_BORDERS, "MemberUpdate.borders");
        (value.borders ??= []).push(readBorderCount(reader));
        break;
      case 178:
        mayGrow(value.heardRules?.length ?? 0, MAX_MEMBER_UPDATE_HEARD_RULES, "MemberUpdate.heard_rules");
        (value.heardRules ??= []).push(readHeardRule(reader));
        break;
      case 186: {
        const said = reader.text();
        if (said !== "") value.controlStore = said;
        break;
      }
      case 192: {
        const said = reader.varint() !== 0;
        if (said !== false) value.isServing = said;
        break;
      }
      case 202: {
        const said = reader.text();
        if (said !== "") value.desired = said;
        break;
      }
      case 210:
        once(value.drain, "drain");
        value.drain = readDrainProgress(reader);
        break;
      case 218: {
        const said = reader.text();
        if (said !== "") value.configDigest = said;
        break;
      }
      case 226:
        once(value.security, "security");
        value.security = readMemberSecurity(reader);
        break;
      case 64:
      case 65:
      case 66:
      case 69:
        reader.skip(tag);
        break;
      default:
        reader.skipUnknown(tag, 28);
    }
  }
  reader.leave(end);
  return value;
}

/** Bytes that surely hold `MemberUpdate`. Cost: one step a text. */
export function roomMemberUpdate(value: MemberUpdateFields): number {
  let room = 216 + 3 * (value.nodeId.length + value.status.length + value.address.length + value.clusterId.length + value.region.length + value.zone.length + value.version.length + value.accuser.length + (value.boot?.length ?? 0) + (value.bootBefore?.length ?? 0) + (value.controlStore?.length ?? 0) + (value.desired?.length ?? 0) + (value.configDigest?.length ?? 0));
  room += 10 + 8 * value.protocolVersions.length;
  room += textsRoom(value.transports);
  room += textsRoom(value.roles);
  room += pairsRoom(value.labels);
  if (value.borders !== undefined) for (let i = 0; i < value.borders.length; i++) room += 10 + roomBorderCount(value.borders[i] ?? newBorderCount());
  if (value.heardRules !== undefined) for (let i = 0; i < value.heardRules.length; i++) room += 10 + roomHeardRule(value.heardRules[i] ?? newHeardRule());
  if (value.drain !== undefined) room += roomDrainProgress(value.drain);
  if (value.security !== undefined) room += roomMemberSecurity(value.security);
  return room;
}

/** Writes `MemberUpdate` as a field; returns the offset after it. */
export function writeMemberUpdate(out: Uint8Array, start: number, tag: number, value: MemberUpdateFields): number {
  const body = openLength(writeVarint(out, start, tag));
  let at = body;
  at = writeTextField(out, at, 10, value.nodeId);
  at = writeTextField(out, at, 18, value.status);
  at = writeNumberField(out, at, 24, value.incarnation);
  at = writeTextField(out, at, 34, value.address);
  at = writeTextField(out, at, 42, value.clusterId);
  at = writeTextField(out, at, 50, value.region);
  at = writeTextField(out, at, 58, value.zone);
  at = writeNumberField(out, at, 72, value.generation);
  at = writeTextField(out, at, 82, value.version);
  at = writePackedField(out, at, 90, value.protocolVersions);
  at = writeTexts(out, at, 98, value.transports);
  at = writeNumberField(out, at, 104, value.healthScore);
  at = writeTexts(out, at, 114, value.roles);
  at = writePairs(out, at, 122, value.labels);
  at = writeTextField(out, at, 130, value.accuser);
  at = writeNumberField(out, at, 136, (value.keepsEntries ?? false) ? 1 : 0);
  at = writeTextField(out, at, 146, (value.boot ?? ""));
  at = writeTextField(out, at, 154, (value.bootBefore ?? ""));
  at = writeNumberField(out, at, 160, (value.exportsSummaries ?? false) ? 1 : 0);
  if (value.borders !== undefined) for (let i = 0; i < value.borders.length; i++) {
    const item = value.borders[i];
    if (item !== undefined) at = writeBorderCount(out, at, 170, item);
  }
  if (value.heardRules !== undefined) for (let i = 0; i < value.heardRules.length; i++) {
    const item = value.heardRules[i];
    if (item !== undefined) at = writeHeardRule(out, at, 178, item);
  }
  at = writeTextField(out, at, 186, (value.controlStore ?? ""));
  at = writeNumberField(out, at, 192, (value.isServing ?? false) ? 1 : 0);
  at = writeTextField(out, at, 202, (value.desired ?? ""));
  if (value.drain !== undefined) at = writeDrainProgress(out, at, 210, value.drain);
  at = writeTextField(out, at, 218, (value.configDigest ?? ""));
  if (value.security !== undefined) at = writeMemberSecurity(out, at, 226, value.security);
  return closeLength(out, body, at);
}

/** `ProbeRequest` as plain values; a decoded message is one too. */
export interface ProbeRequestFields {
  readonly from: OriginFields;
  readonly updates: readonly MemberUpdateFields[];
  readonly targetNodeId: string;
}

export function newProbeRequest(): Open<ProbeRequestFields> {
  return {
    from: NO_ORIGIN,
    updates: [],
    targetNodeId: "",
  };
}

export const MAX_PROBE_REQUEST_UPDATES = 256;

/** Bytes that surely hold `ProbeRequest`. Cost: one step a text. */
export function roomProbeRequest(value: ProbeRequestFields): number {
  let room = 20 + 3 * (value.targetNodeId.length);
  room += roomOrigin(value.from);
  for (let i = 0; i < value.updates.length; i++) room += 10 + roomMemberUpdate(value.updates[i] ?? newMemberUpdate());
  return room;
}

/** The whole bytes of `ProbeRequest`. Refuses what is malformed; `checkProbeRequest` has the rules. */
export function decodeProbeRequest(bytes: Uint8Array): ProbeRequestFields {
  const reader = new WireReader(bytes);
  const value = newProbeRequest();
  while (!reader.isDone()) {
    const tag = reader.tag();
    switch (tag) {
      case 10:
        if (value.from !== NO_ORIGIN) throw misplaced("origin is there twice");
        value.from = readOrigin(reader);
        break;
      case 18:
        mayGrow(value.updates.length, MAX_PROBE_REQUEST_UPDATES, "ProbeRequest.updates");
        value.updates.push(readMemberUpdate(reader));
        break;
      case 26:
        value.targetNodeId = reader.text();
        break;
      default:
        reader.skipUnknown(tag, 3);
    }
  }
  return value;
}

/** Writes the fields of `ProbeRequest`; `out` has `roomProbeRequest` bytes after `start`. Returns the offset after them. */
export function putProbeRequest(out: Uint8Array, start: number, value: ProbeRequestFields): number {
  let at = start;
  at = writeOrigin(out, at, 10, value.from);
  for (let i = 0; i < value.updates.length; i++) {
    const item = value.updates[i];
    if (item !== undefined) at = writeMemberUpdate(out, at, 18, item);
  }
  at = writeTextField(out, at, 26, value.targetNodeId);
  return at;
}

export function encodeProbeRequest(value: ProbeRequestFields): Uint8Array {
  const out = new Uint8Array(roomProbeRequest(value));
  return out.subarray(0, putProbeRequest(out, 0, value));
}

/** `HeldStart` as plain values; a decoded message is one too. */
export interface HeldStartFields {
  readonly boot: string;
  readonly address: string;
}

export function newHeldStart(): Open<HeldStartFields> {
  return {
    boot: "",
    address: "",
  };
}

/** Reads `HeldStart` after its tag. */
export function readHeldStart(reader: WireReader): HeldStartFields {
  const value = newHeldStart();
  const end = reader.enter();
  while (!reader.isDone()) {
    const tag = reader.tag();
    switch (tag) {
      case 10:
        value.boot = reader.text();
        break;
      case 18:
        value.address = reader.text();
        break;
      default:
        reader.skipUnknown(tag, 2);
    }
  }
  reader.leave(end);
  return value;
}

/** Bytes that surely hold `HeldStart`. Cost: one step a text. */
export function roomHeldStart(value: HeldStartFields): number {
  return 20 + 3 * (value.boot.length + value.address.length);
}

/** Writes `HeldStart` as a field; returns the offset after it. */
export function writeHeldStart(out: Uint8Array, start: number, tag: number, value: HeldStartFields): number {
  const body = openLength(writeVarint(out, start, tag));
  let at = body;
  at = writeTextField(out, at, 10, value.boot);
  at = writeTextField(out, at, 18, value.address);
  return closeLength(out, body, at);
}

/** `ProbeResponse` as plain values; a decoded message is one too. */
export interface ProbeResponseFields {
  readonly from: OriginFields;
  readonly updates: readonly MemberUpdateFields[];
  readonly wallMs?: number;
  readonly heldStart?: HeldStartFields;
}

export function newProbeResponse(): Open<ProbeResponseFields> {
  return {
    from: NO_ORIGIN,
    updates: [],
  };
}

export const MAX_PROBE_RESPONSE_UPDATES = 256;

/** Bytes that surely hold `ProbeResponse`. Cost: one step a text. */
export function roomProbeResponse(value: ProbeResponseFields): number {
  let room = 31;
  room += roomOrigin(value.from);
  for (let i = 0; i < value.updates.length; i++) room += 10 + roomMemberUpdate(value.updates[i] ?? newMemberUpdate());
  if (value.heldStart !== undefined) room += roomHeldStart(value.heldStart);
  return room;
}

/** The whole bytes of `ProbeResponse`. Refuses what is malformed; `checkProbeResponse` has the rules. */
export function decodeProbeResponse(bytes: Uint8Array): ProbeResponseFields {
  const reader = new WireReader(bytes);
  const value = newProbeResponse();
  while (!reader.isDone()) {
    const tag = reader.tag();
    switch (tag) {
      case 10:
        if (value.from !== NO_ORIGIN) throw misplaced("origin is there twice");
        value.from = readOrigin(reader);
        break;
      case 18:
        mayGrow(value.updates.length, MAX_PROBE_RESPONSE_UPDATES, "ProbeResponse.updates");
        value.updates.push(readMemberUpdate(reader));
        break;
      case 24: {
        const said = reader.number();
        if (said !== 0) value.wallMs = said;
        break;
      }
      case 34:
        once(value.heldStart, "held_start");
        value.heldStart = readHeldStart(reader);
        break;
      default:
        reader.skipUnknown(tag, 4);
    }
  }
  return value;
}

/** Writes the fields of `ProbeResponse`; `out` has `roomProbeResponse` bytes after `start`. Returns the offset after them. */
export function putProbeResponse(out: Uint8Array, start: number, value: ProbeResponseFields): number {
  let at = start;
  at = writeOrigin(out, at, 10, value.from);
  for (let i = 0; i < value.updates.length; i++) {
    const item = value.updates[i];
    if (item !== undefined) at = writeMemberUpdate(out, at, 18, item);
  }
  at = writeNumberField(out, at, 24, (value.wallMs ?? 0));
  if (value.heldStart !== undefined) at = writeHeldStart(out, at, 34, value.heldStart);
  return at;
}

export function encodeProbeResponse(value: ProbeResponseFields): Uint8Array {
  const out = new Uint8Array(roomProbeResponse(value));
  return out.subarray(0, putProbeResponse(out, 0, value));
}

/** `ProbeIndirectRequest` as plain values; a decoded message is one too. */
export interface ProbeIndirectRequestFields {
  readonly from: OriginFields;
  readonly targetNodeId: string;
  readonly targetAddress: string;
  readonly timeout: TimeFields;
  readonly updates: readonly MemberUpdateFields[];
}

export function newProbeIndirectRequest(): Open<ProbeIndirectRequestFields> {
  return {
    from: NO_ORIGIN,
    targetNodeId: "",
    targetAddress: "",
    timeout: NO_TIME,
    updates: [],
  };
}

export const MAX_PROBE_INDIRECT_REQUEST_UPDATES = 256;

/** Bytes that surely hold `ProbeIndirectRequest`. Cost: one step a text. */
export function roomProbeIndirectRequest(value: ProbeIndirectRequestFields): number {
  let room = 50 + 3 * (value.targetNodeId.length + value.targetAddress.length);
  room += roomOrigin(value.from);
  for (let i = 0; i < value.updates.length; i++) room += 10 + roomMemberUpdate(value.updates[i] ?? newMemberUpdate());
  return room;
}

/** The whole bytes of `ProbeIndirectRequest`. Refuses what is malformed; `checkProbeIndirectRequest` has the rules. */
export function decodeProbeIndirectRequest(bytes: Uint8Array): ProbeIndirectRequestFields {
  const reader = new WireReader(bytes);
  const value = newProbeIndirectRequest();
  while (!reader.isDone()) {
    const tag = reader.tag();
    switch (tag) {
      case 10:
        if (value.from !== NO_ORIGIN) throw misplaced("origin is there twice");
        value.from = readOrigin(reader);
        break;
      case 18:
        value.targetNodeId = reader.text();
        break;
      case 26:
        value.targetAddress = reader.text();
        break;
      case 34:
        if (value.timeout !== NO_TIME) throw misplaced("timeout is there twice");
        value.timeout = readTime(reader, true);
        break;
      case 42:
        mayGrow(value.updates.length, MAX_PROBE_INDIRECT_REQUEST_UPDATES, "ProbeIndirectRequest.updates");
        value.updates.push(readMemberUpdate(reader));
        break;
      default:
        reader.skipUnknown(tag, 5);
    }
  }
  return value;
}

/** Writes the fields of `ProbeIndirectRequest`; `out` has `roomProbeIndirectRequest` bytes after `start`. Returns the offset after them. */
export function putProbeIndirectRequest(out: Uint8Array, start: number, value: ProbeIndirectRequestFields): number {
  let at = start;
  at = writeOrigin(out, at, 10, value.from);
  at = writeTextField(out, at, 18, value.targetNodeId);
  at = writeTextField(out, at, 26, value.targetAddress);
  at = writeTimeField(out, at, 34, value.timeout);
  for (let i = 0; i < value.updates.length; i++) {
    const item = value.updates[i];
    if (item !== undefined) at = writeMemberUpdate(out, at, 42, item);
  }
  return at;
}

export function encodeProbeIndirectRequest(value: ProbeIndirectRequestFields): Uint8Array {
  const out = new Uint8Array(roomProbeIndirectRequest(value));
  return out.subarray(0, putProbeIndirectRequest(out, 0, value));
}

/** `ProbeIndirectResponse` as plain values; a decoded message is one too. */
export interface ProbeIndirectResponseFields {
  readonly isAcknowledged: boolean;
  readonly updates: readonly MemberUpdateFields[];
}

export function newProbeIndirectResponse(): Open<ProbeIndirectResponseFields> {
  return {
    isAcknowledged: false,
    updates: [],
  };
}

export const MAX_PROBE_INDIRECT_RESPONSE_UPDATES = 256;

/** Bytes that surely hold `ProbeIndirectResponse`. Cost: one step a text. */
export function roomProbeIndirectResponse(value: ProbeIndirectResponseFields): number {
  let room = 11;
  for (let i = 0; i < value.updates.length; i++) room += 10 + roomMemberUpdate(value.updates[i] ?? newMemberUpdate());
  return room;
}

/** The whole bytes of `ProbeIndirectResponse`. Refuses what is malformed; `checkProbeIndirectResponse` has the rules. */
export function decodeProbeIndirectResponse(bytes: Uint8Array): ProbeIndirectResponseFields {
  const reader = new WireReader(bytes);
  const value = newProbeIndirectResponse();
  while (!reader.isDone()) {
    const tag = reader.tag();
    switch (tag) {
      case 8:
        value.isAcknowledged = reader.varint() !== 0;
        break;
      case 18:
        mayGrow(value.updates.length, MAX_PROBE_INDIRECT_RESPONSE_UPDATES, "ProbeIndirectResponse.updates");
        value.updates.push(readMemberUpdate(reader));
        break;
      default:
        reader.skipUnknown(tag, 2);
    }
  }
  return value;
}

/** Writes the fields of `ProbeIndirectResponse`; `out` has `roomProbeIndirectResponse` bytes after `start`. Returns the offset after them. */
export function putProbeIndirectResponse(out: Uint8Array, start: number, value: ProbeIndirectResponseFields): number {
  let at = start;
  at = writeNumberField(out, at, 8, value.isAcknowledged ? 1 : 0);
  for (let i = 0; i < value.updates.length; i++) {
    const item = value.updates[i];
    if (item !== undefined) at = writeMemberUpdate(out, at, 18, item);
  }
  return at;
}

export function encodeProbeIndirectResponse(value: ProbeIndirectResponseFields): Uint8Array {
  const out = new Uint8Array(roomProbeIndirectResponse(value));
  return out.subarray(0, putProbeIndirectResponse(out, 0, value));
}

/** `EntryKey` as plain values; a decoded message is one too. */
export interface EntryKeyFields {
  readonly kind: number;
  readonly namespace: string;
  readonly name: string;
  readonly instanceId: string;
  readonly clusterId: string;
}

export function newEntryKey(): Open<EntryKeyFields> {
  return {
    kind: 0,
    namespace: "",
    name: "",
    instanceId: "",
    clusterId: "",
  };
}

/** Reads `EntryKey` after its tag. */
export function readEntryKey(reader: WireReader): EntryKeyFields {
  const value = newEntryKey();
  const end = reader.enter();
  while (!reader.isDone()) {
    const tag = reader.tag();
    switch (tag) {
      case 8:
        value.kind = reader.varint();
        break;
      case 18:
        value.namespace = reader.text();
        break;
      case 26:
        value.name = reader.text();
        break;
      case 34:
        value.instanceId = reader.text();
        break;
      case 42:
        value.clusterId = reader.text();
        break;
      default:
        reader.skipUnknown(tag, 5);
    }
  }
  reader.leave(end);
  return value;
}

/** Bytes that surely hold `EntryKey`. Cost: one step a text. */
export function roomEntryKey(value: EntryKeyFields): number {
  return 51 + 3 * (value.namespace.length + value.name.length + value.instanceId.length + value.clusterId.length);
}

/** Writes `EntryKey` as a field; returns the offset after it. */
export function writeEntryKey(out: Uint8Array, start: number, tag: number, value: EntryKeyFields): number {
  const body = openLength(writeVarint(out, start, tag));
  let at = body;
  at = writeNumberField(out, at, 8, value.kind);
  at = writeTextField(out, at, 18, value.namespace);
  at = writeTextField(out, at, 26, value.name);
  at = writeTextField(out, at, 34, value.instanceId);
  at = writeTextField(out, at, 42, value.clusterId);
  return closeLength(out, body, at);
}

/** `MaintainRequest` as plain values; a decoded message is one too. */
export interface MaintainRequestFields {
  readonly from: OriginFields;
  readonly targetNodeId: string;
  readonly keys: readonly EntryKeyFields[];
  readonly isOn: boolean;
  readonly reason: string;
  readonly untilMs: number;
  readonly principal: string;
  readonly isForAll: boolean;
}

export function newMaintainRequest(): Open<MaintainRequestFields> {
  return {
    from: NO_ORIGIN,
    targetNodeId: "",
    keys: [],
    isOn: false,
    reason: "",
    untilMs: 0,
    principal: "",
    isForAll: false,
  };
}

export const MAX_MAINTAIN_REQUEST_KEYS = 1000;

/** Bytes that surely hold `MaintainRequest`. Cost: one step a text. */
export function roomMaintainRequest(value: MaintainRequestFields): number {
  let room = 73 + 3 * (value.targetNodeId.length + value.reason.length + value.principal.length);
  room += roomOrigin(value.from);
  for (let i = 0; i < value.keys.length; i++) room += 10 + roomEntryKey(value.keys[i] ?? newEntryKey());
  return room;
}

/** The whole bytes of `MaintainRequest`. Refuses what is malformed; `checkMaintainRequest` has the rules. */
export function decodeMaintainRequest(bytes: Uint8Array): MaintainRequestFields {
  const reader = new WireReader(bytes);
  const value = newMaintainRequest();
  while (!reader.isDone()) {
    const tag = reader.tag();
    switch (tag) {
      case 10:
        if (value.from !== NO_ORIGIN) throw misplaced("origin is there twice");
        value.from = readOrigin(reader);
        break;
      case 18:
        value.targetNodeId = reader.text();
        break;
      case 26:
        mayGrow(value.keys.length, MAX_MAINTAIN_REQUEST_KEYS, "MaintainRequest.keys");
        value.keys.push(readEntryKey(reader));
        break;
      case 32:
        value.isOn = reader.varint() !== 0;
        break;
      case 42:
        value.reason = reader.text();
        break;
      case 48:
        value.untilMs = reader.number();
        break;
      case 58:
        value.principal = reader.text();
        break;
      case 64:
        value.isForAll = reader.varint() !== 0;
        break;
      default:
        reader.skipUnknown(tag, 8);
    }
  }
  return value;
}

/** Writes the fields of `MaintainRequest`; `out` has `roomMaintainRequest` bytes after `start`. Returns the offset after them. */
export function putMaintainRequest(out: Uint8Array, start: number, value: MaintainRequestFields): number {
  let at = start;
  at = writeOrigin(out, at, 10, value.from);
  at = writeTextField(out, at, 18, value.targetNodeId);
  for (let i = 0; i < value.keys.length; i++) {
    const item = value.keys[i];
    if (item !== undefined) at = writeEntryKey(out, at, 26, item);
  }
  at = writeNumberField(out, at, 32, value.isOn ? 1 : 0);
  at = writeTextField(out, at, 42, value.reason);
  at = writeNumberField(out, at, 48, value.untilMs);
  at = writeTextField(out, at, 58, value.principal);
  at = writeNumberField(out, at, 64, value.isForAll ? 1 : 0);
  return at;
}

export function encodeMaintainRequest(value: MaintainRequestFields): Uint8Array {
  const out = new Uint8Array(roomMaintainRequest(value));
  return out.subarray(0, putMaintainRequest(out, 0, value));
}

/** `MaintainRefusal` as plain values; a decoded message is one too. */
export interface MaintainRefusalFields {
  readonly index: number;
  readonly reason: string;
  readonly detail: string;
}

export function newMaintainRefusal(): Open<MaintainRefusalFields> {
  return {
    index: 0,
    reason: "",
    detail: "",
  };
}

/** Reads `MaintainRefusal` after its tag. */
export function readMaintainRefusal(reader: WireReader): MaintainRefusalFields {
  const value = newMaintainRefusal();
  const end = reader.enter();
  while (!reader.isDone()) {
    const tag = reader.tag();
    switch (tag) {
      case 8:
        value.index = reader.varint();
        break;
      case 18:
        value.reason = reader.text();
        break;
      case 26:
        value.detail = reader.text();
        break;
      default:
        reader.skipUnknown(tag, 3);
    }
  }
  reader.leave(end);
  return value;
}

/** Bytes that surely hold `MaintainRefusal`. Cost: one step a text. */
export function roomMaintainRefusal(value: MaintainRefusalFields): number {
  return 31 + 3 * (value.reason.length + value.detail.length);
}

/** Writes `MaintainRefusal` as a field; returns the offset after it. */
export function writeMaintainRefusal(out: Uint8Array, start: number, tag: number, value: MaintainRefusalFields): number {
  const body = openLength(writeVarint(out, start, tag));
  let at = body;
  at = writeNumberField(out, at, 8, value.index);
  at = writeTextField(out, at, 18, value.reason);
  at = writeTextField(out, at, 26, value.detail);
  return closeLength(out, body, at);
}

/** `MaintainResponse` as plain values; a decoded message is one too. */
export interface MaintainResponseFields {
  readonly from: OriginFields;
  readonly changed: number;
  readonly refusals: readonly MaintainRefusalFields[];
}

export function newMaintainResponse(): Open<MaintainResponseFields> {
  return {
    from: NO_ORIGIN,
    changed: 0,
    refusals: [],
  };
}

export const MAX_MAINTAIN_RESPONSE_REFUSALS = 1000;

/** Bytes that surely hold `MaintainResponse`. Cost: one step a text. */
export function roomMaintainResponse(value: MaintainResponseFields): number {
  let room = 21;
  room += roomOrigin(value.from);
  for (let i = 0; i < value.refusals.length; i++) room += 10 + roomMaintainRefusal(value.refusals[i] ?? newMaintainRefusal());
  return room;
}

/** The whole bytes of `MaintainResponse`. Refuses what is malformed; `checkMaintainResponse` has the rules. */
export function decodeMaintainResponse(bytes: Uint8Array): MaintainResponseFields {
  const reader = new WireReader(bytes);
  const value = newMaintainResponse();
  while (!reader.isDone()) {
    const tag = reader.tag();
    switch (tag) {
      case 10:
        if (value.from !== NO_ORIGIN) throw misplaced("origin is there twice");
        value.from = readOrigin(reader);
        break;
      case 16:
        value.changed = reader.varint();
        break;
      case 26:
        mayGrow(value.refusals.length, MAX_MAINTAIN_RESPONSE_REFUSALS, "MaintainResponse.refusals");
        value.refusals.push(readMaintainRefusal(reader));
        break;
      default:
        reader.skipUnknown(tag, 3);
    }
  }
  return value;
}

/** Writes the fields of `MaintainResponse`; `out` has `roomMaintainResponse` bytes after `start`. Returns the offset after them. */
export function putMaintainResponse(out: Uint8Array, start: number, value: MaintainResponseFields): number {
  let at = start;
  at = writeOrigin(out, at, 10, value.from);
  at = writeNumberField(out, at, 16, value.changed);
  for (let i = 0; i < value.refusals.length; i++) {
    const item = value.refusals[i];
    if (item !== undefined) at = writeMaintainRefusal(out, at, 26, item);
  }
  return at;
}

export function encodeMaintainResponse(value: MaintainResponseFields): Uint8Array {
  const out = new Uint8Array(roomMaintainResponse(value));
  return out.subarray(0, putMaintainResponse(out, 0, value));
}

/** `LostOriginOrigin` as plain values; a decoded message is one too. */
export interface LostOriginOriginFields {
  readonly nodeId: string;
  readonly generation: number;
}

/** Reads the fields of the message around it. */
function readLostOriginOrigin(reader: WireReader, value: Open<LostOriginOriginFields>): void {
  const end = reader.enter();
  while (!reader.isDone()) {
    const tag = reader.tag();
    switch (tag) {
      case 10:
        value.nodeId = reader.text();
        break;
      case 16:
        value.generation = reader.number();
        break;
      default:
        reader.skipUnknown(tag, 6);
    }
  }
  reader.leave(end);
}

/** Bytes that surely hold `LostOriginOrigin`. Cost: one step a text. */
export function roomLostOriginOrigin(value: LostOriginOriginFields): number {
  return 21 + 3 * (value.nodeId.length);
}

/** Writes `LostOriginOrigin` as a field; returns the offset after it. */
export function writeLostOriginOrigin(out: Uint8Array, start: number, tag: number, value: LostOriginOriginFields): number {
  const body = openLength(writeVarint(out, start, tag));
  let at = body;
  at = writeTextField(out, at, 10, value.nodeId);
  at = writeNumberField(out, at, 16, value.generation);
  return closeLength(out, body, at);
}

/** `LostOrigin` as plain values; a decoded message is one too. */
export interface LostOriginFields extends LostOriginOriginFields {
  readonly through: number;
  readonly mark: number;
  readonly keysThrough?: number;
  readonly keys?: Uint8Array;
}

export function newLostOrigin(): Open<LostOriginFields> {
  return {
    nodeId: "",
    generation: 0,
    through: 0,
    mark: 0,
  };
}

/** Reads `LostOrigin` after its tag. */
export function readLostOrigin(reader: WireReader): LostOriginFields {
  const value = newLostOrigin();
  const end = reader.enter();
  while (!reader.isDone()) {
    const tag = reader.tag();
    switch (tag) {
      case 10:
        readLostOriginOrigin(reader, value);
        break;
      case 16:
        value.through = reader.number();
        break;
      case 24:
        value.mark = reader.number();
        break;
      case 32: {
        const said = reader.number();
        if (said !== 0) value.keysThrough = said;
        break;
      }
      case 42:
        value.keys = reader.view();
        break;
      default:
        reader.skipUnknown(tag, 5);
    }
  }
  reader.leave(end);
  return value;
}

/** Bytes that surely hold `LostOrigin`. Cost: one step a text. */
export function roomLostOrigin(value: LostOriginFields): number {
  let room = 53;
  room += roomLostOriginOrigin(value);
  room += (value.keys?.length ?? 0);
  return room;
}

/** Writes `LostOrigin` as a field; returns the offset after it. */
export function writeLostOrigin(out: Uint8Array, start: number, tag: number, value: LostOriginFields): number {
  const body = openLength(writeVarint(out, start, tag));
  let at = body;
  at = writeLostOriginOrigin(out, at, 10, value);
  at = writeNumberField(out, at, 16, value.through);
  at = writeNumberField(out, at, 24, value.mark);
  at = writeNumberField(out, at, 32, (value.keysThrough ?? 0));
  if (value.keys !== undefined) at = writeBytesField(out, at, 42, value.keys);
  return closeLength(out, body, at);
}

/** `PushPullRequest` as plain values; a decoded message is one too. */
export interface PushPullRequestFields {
  readonly members: readonly MemberUpdateFields[];
  readonly from: OriginFields;
  readonly isJoin: boolean;
  readonly digest?: bigint;
  readonly lost?: readonly LostOriginFields[];
  readonly takesLostKeys?: boolean;
}

export function newPushPullRequest(): Open<PushPullRequestFields> {
  return {
    members: [],
    from: NO_ORIGIN,
    isJoin: false,
  };
}

export const MAX_PUSH_PULL_REQUEST_MEMBERS = 10000;

export const MAX_PUSH_PULL_REQUEST_LOST = 1000;

/** Bytes that surely hold `PushPullRequest`. Cost: one step a text. */
export function roomPushPullRequest(value: PushPullRequestFields): number {
  let room = 43;
  for (let i = 0; i < value.members.length; i++) room += 10 + roomMemberUpdate(value.members[i] ?? newMemberUpdate());
  room += roomOrigin(value.from);
  if (value.lost !== undefined) for (let i = 0; i < value.lost.length; i++) room += 10 + roomLostOrigin(value.lost[i] ?? newLostOrigin());
  return room;
}

/** The whole bytes of `PushPullRequest`. Refuses what is malformed; `checkPushPullRequest` has the rules. */
export function decodePushPullRequest(bytes: Uint8Array): PushPullRequestFields {
  const reader = new WireReader(bytes);
  const value = newPushPullRequest();
  while (!reader.isDone()) {
    const tag = reader.tag();
    switch (tag) {
      case 10:
        mayGrow(value.members.length, MAX_PUSH_PULL_REQUEST_MEMBERS, "PushPullRequest.members");
        value.members.push(readMemberUpdate(reader));
        break;
      case 18:
        if (value.from !== NO_ORIGIN) throw misplaced("origin is there twice");
        value.from = readOrigin(reader);
        break;
      case 24:
        value.isJoin = reader.varint() !== 0;
        break;
      case 33: {
        const said = reader.fixed64();
        if (said !== 0n) value.digest = said;
        break;
      }
      case 42:
        mayGrow(value.lost?.length ?? 0, MAX_PUSH_PULL_REQUEST_LOST, "PushPullRequest.lost");
        (value.lost ??= []).push(readLostOrigin(reader));
        break;
      case 48: {
        const said = reader.varint() !== 0;
        if (said !== false) value.takesLostKeys = said;
        break;
      }
      default:
        reader.skipUnknown(tag, 6);
    }
  }
  return value;
}

/** Writes the fields of `PushPullRequest`; `out` has `roomPushPullRequest` bytes after `start`. Returns the offset after them. */
export function putPushPullRequest(out: Uint8Array, start: number, value: PushPullRequestFields): number {
  let at = start;
  for (let i = 0; i < value.members.length; i++) {
    const item = value.members[i];
    if (item !== undefined) at = writeMemberUpdate(out, at, 10, item);
  }
  at = writeOrigin(out, at, 18, value.from);
  at = writeNumberField(out, at, 24, value.isJoin ? 1 : 0);
  at = writeFixed64Field(out, at, 33, (value.digest ?? 0n));
  if (value.lost !== undefined) for (let i = 0; i < value.lost.length; i++) {
    const item = value.lost[i];
    if (item !== undefined) at = writeLostOrigin(out, at, 42, item);
  }
  at = writeNumberField(out, at, 48, (value.takesLostKeys ?? false) ? 1 : 0);
  return at;
}

export function encodePushPullRequest(value: PushPullRequestFields): Uint8Array {
  const out = new Uint8Array(roomPushPullRequest(value));
  return out.subarray(0, putPushPullRequest(out, 0, value));
}

/** `PushPullResponse` as plain values; a decoded message is one too. */
export interface PushPullResponseFields {
  readonly members: readonly MemberUpdateFields[];
  readonly from: OriginFields;
  readonly ownUpdateRefused?: string;
  readonly lost?: readonly LostOriginFields[];
  readonly heldStart?: HeldStartFields;
}

export function newPushPullResponse(): Open<PushPullResponseFields> {
  return {
    members: [],
    from: NO_ORIGIN,
  };
}

export const MAX_PUSH_PULL_RESPONSE_MEMBERS = 10000;

export const MAX_PUSH_PULL_RESPONSE_LOST = 1000;

/** Bytes that surely hold `PushPullResponse`. Cost: one step a text. */
export function roomPushPullResponse(value: PushPullResponseFields): number {
  let room = 30 + 3 * ((value.ownUpdateRefused?.length ?? 0));
  for (let i = 0; i < value.members.length; i++) room += 10 + roomMemberUpdate(value.members[i] ?? newMemberUpdate());
  room += roomOrigin(value.from);
  if (value.lost !== undefined) for (let i = 0; i < value.lost.length; i++) room += 10 + roomLostOrigin(value.lost[i] ?? newLostOrigin());
  if (value.heldStart !== undefined) room += roomHeldStart(value.heldStart);
  return room;
}

/** The whole bytes of `PushPullResponse`. Refuses what is malformed; `checkPushPullResponse` has the rules. */
export function decodePushPullResponse(bytes: Uint8Array): PushPullResponseFields {
  const reader = new WireReader(bytes);
  const value = newPushPullResponse();
  while (!reader.isDone()) {
    const tag = reader.tag();
    switch (tag) {
      case 10:
        mayGrow(value.members.length, MAX_PUSH_PULL_RESPONSE_MEMBERS, "PushPullResponse.members");
        value.members.push(readMemberUpdate(reader));
        break;
      case 18:
        if (value.from !== NO_ORIGIN) throw misplaced("origin is there twice");
        value.from = readOrigin(reader);
        break;
      case 26: {
        const said = reader.text();
        if (said !== "") value.ownUpdateRefused = said;
        break;
      }
      case 34:
        mayGrow(value.lost?.length ?? 0, MAX_PUSH_PULL_RESPONSE_LOST, "PushPullResponse.lost");
        (value.lost ??= []).push(readLostOrigin(reader));
        break;
      case 42:
        once(value.heldStart, "held_start");
        value.heldStart = readHeldStart(reader);
        break;
      default:
        reader.skipUnknown(tag, 5);
    }
  }
  return value;
}

/** Writes the fields of `PushPullResponse`; `out` has `roomPushPullResponse` bytes after `start`. Returns the offset after them. */
export function putPushPullResponse(out: Uint8Array, start: number, value: PushPullResponseFields): number {
  let at = start;
  for (let i = 0; i < value.members.length; i++) {
    const item = value.members[i];
    if (item !== undefined) at = writeMemberUpdate(out, at, 10, item);
  }
  at = writeOrigin(out, at, 18, value.from);
  at = writeTextField(out, at, 26, (value.ownUpdateRefused ?? ""));
  if (value.lost !== undefined) for (let i = 0; i < value.lost.length; i++) {
    const item = value.lost[i];
    if (item !== undefined) at = writeLostOrigin(out, at, 34, item);
  }
  if (value.heldStart !== undefined) at = writeHeldStart(out, at, 42, value.heldStart);
  return at;
}

export function encodePushPullResponse(value: PushPullResponseFields): Uint8Array {
  const out = new Uint8Array(roomPushPullResponse(value));
  return out.subarray(0, putPushPullResponse(out, 0, value));
}
