// Made by scripts/gen-codec.ts from waymark/catalog/v1/entry.proto: change that, then `npm run gen`.
import {
  closeLength,
  grown,
  misplaced,
  NO_ITEMS,
  once,
  openLength,
  pairsRoom,
  readPacked,
  readPair,
  readTime,
  textsRoom,
  type TimeFields,
  WireReader,
  writeBigField,
  writeDoubleField,
  writeNumberField,
  writePackedField,
  writePairs,
  writeTextField,
  writeTexts,
  writeTimeField,
  writeVarint,
} from "../../../../src/lib/protowire.ts";

/** A message while it is being read. */
type Open<T> = { -readonly [F in keyof T]: OpenValue<T[F]> };
type OpenValue<V> = V extends readonly (infer I)[] ? I[] : V extends Readonly<Record<string, string>> ? Record<string, string> : V;

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

/** `Target` as plain values; a decoded message is one too. */
export interface TargetFields {
  readonly name: string;
  readonly host: string;
  readonly port: number;
  readonly priority: number;
  readonly weight: number;
  readonly protocol: string;
}

export function newTarget(): Open<TargetFields> {
  return {
    name: "",
    host: "",
    port: 0,
    priority: 0,
    weight: 0,
    protocol: "",
  };
}

/** Reads `Target` after its tag. */
export function readTarget(reader: WireReader): TargetFields {
  const value = newTarget();
  const end = reader.enter();
  while (!reader.isDone()) {
    const tag = reader.tag();
    switch (tag) {
      case 10:
        value.name = reader.text();
        break;
      case 18:
        value.host = reader.text();
        break;
      case 24:
        value.port = reader.varint();
        break;
      case 32:
        value.priority = reader.varint();
        break;
      case 40:
        value.weight = reader.varint();
        break;
      case 50:
        value.protocol = reader.text();
        break;
      default:
        reader.skipUnknown(tag, 6);
    }
  }
  reader.leave(end);
  return value;
}

/** Bytes that surely hold `Target`. Cost: one step a text. */
export function roomTarget(value: TargetFields): number {
  return 63 + 3 * (value.name.length + value.host.length + value.protocol.length);
}

/** Writes `Target` as a field; returns the offset after it. */
export function writeTarget(out: Uint8Array, start: number, tag: number, value: TargetFields): number {
  const body = openLength(writeVarint(out, start, tag));
  let at = body;
  at = writeTextField(out, at, 10, value.name);
  at = writeTextField(out, at, 18, value.host);
  at = writeNumberField(out, at, 24, value.port);
  at = writeNumberField(out, at, 32, value.priority);
  at = writeNumberField(out, at, 40, value.weight);
  at = writeTextField(out, at, 50, value.protocol);
  return closeLength(out, body, at);
}

/** `LoadReport` as plain values; a decoded message is one too. */
export interface LoadReportFields {
  readonly activeClients: number;
  readonly errorRate: number;
  readonly latencyMs: number;
  readonly utilization: number;
  readonly observedAt?: TimeFields | undefined;
}

export function newLoadReport(): Open<LoadReportFields> {
  return {
    activeClients: 0,
    errorRate: 0,
    latencyMs: 0,
    utilization: 0,
    observedAt: undefined,
  };
}

/** Reads `LoadReport` after its tag. */
export function readLoadReport(reader: WireReader): LoadReportFields {
  const value = newLoadReport();
  const end = reader.enter();
  while (!reader.isDone()) {
    const tag = reader.tag();
    switch (tag) {
      case 8:
        value.activeClients = reader.varint();
        break;
      case 17:
        value.errorRate = reader.double();
        break;
      case 25:
        value.latencyMs = reader.double();
        break;
      case 33:
        value.utilization = reader.double();
        break;
      case 42:
        once(value.observedAt, "observed_at");
        value.observedAt = readTime(reader);
        break;
      default:
        reader.skipUnknown(tag, 5);
    }
  }
  reader.leave(end);
  return value;
}

/** Bytes that surely hold `LoadReport`. Cost: one step a text. */
export function roomLoadReport(_value: LoadReportFields): number {
  return 64;
}

/** Writes `LoadReport` as a field; returns the offset after it. */
export function writeLoadReport(out: Uint8Array, start: number, tag: number, value: LoadReportFields): number {
  const body = openLength(writeVarint(out, start, tag));
  let at = body;
  at = writeNumberField(out, at, 8, value.activeClients);
  at = writeDoubleField(out, at, 17, value.errorRate);
  at = writeDoubleField(out, at, 25, value.latencyMs);
  at = writeDoubleField(out, at, 33, value.utilization);
  if (value.observedAt !== undefined) at = writeTimeField(out, at, 42, value.observedAt);
  return closeLength(out, body, at);
}

/** The fields alone, in the order of `newLoadReport`: a decoded message has more. */
export function copyLoadReport(value: LoadReportFields): LoadReportFields {
  return {
    activeClients: value.activeClients,
    errorRate: value.errorRate,
    latencyMs: value.latencyMs,
    utilization: value.utilization,
    observedAt: value.observedAt,
  };
}

/** Most bytes that `LoadReport` takes as a field, tag and length included. */
export const LOAD_REPORT_MAX_BYTES = 59;

/** `ServiceDetail` as plain values; a decoded message is one too. */
export type ServiceDetailFields = object;

export function newServiceDetail(): Open<ServiceDetailFields> {
  return {};
}

/** Reads `ServiceDetail` after its tag. */
export function readServiceDetail(reader: WireReader): ServiceDetailFields {
  const value = newServiceDetail();
  const end = reader.enter();
  while (!reader.isDone()) {
    const tag = reader.tag();
    reader.skipUnknown(tag, 0);
  }
  reader.leave(end);
  return value;
}

/** Bytes that surely hold `ServiceDetail`. Cost: one step a text. */
export function roomServiceDetail(_value: ServiceDetailFields): number {
  return 0;
}

/** Writes `ServiceDetail` as a field; returns the offset after it. */
export function writeServiceDetail(out: Uint8Array, start: number, tag: number, _value: ServiceDetailFields): number {
  const body = openLength(writeVarint(out, start, tag));
  return closeLength(out, body, body);
}

/** `FunctionDetail` as plain values; a decoded message is one too. */
export interface FunctionDetailFields {
  readonly functionId: string;
  readonly version: string;
  readonly specDigest: string;
  readonly resources: readonly string[];
}

export function newFunctionDetail(): Open<FunctionDetailFields> {
  return {
    functionId: "",
    version: "",
    specDigest: "",
    resources: NO_ITEMS,
  };
}

/** Reads `FunctionDetail` after its tag. */
export function readFunctionDetail(reader: WireReader): FunctionDetailFields {
  const value = newFunctionDetail();
  const end = reader.enter();
  while (!reader.isDone()) {
    const tag = reader.tag();
    switch (tag) {
      case 10:
        value.functionId = reader.text();
        break;
      case 18:
        value.version = reader.text();
        break;
      case 26:
        value.specDigest = reader.text();
        break;
      case 34:
        value.resources = grown(value.resources, reader.text());
        break;
      default:
        reader.skipUnknown(tag, 4);
    }
  }
  reader.leave(end);
  return value;
}

/** Bytes that surely hold `FunctionDetail`. Cost: one step a text. */
export function roomFunctionDetail(value: FunctionDetailFields): number {
  let room = 30 + 3 * (value.functionId.length + value.version.length + value.specDigest.length);
  room += textsRoom(value.resources);
  return room;
}

/** Writes `FunctionDetail` as a field; returns the offset after it. */
export function writeFunctionDetail(out: Uint8Array, start: number, tag: number, value: FunctionDetailFields): number {
  const body = openLength(writeVarint(out, start, tag));
  let at = body;
  at = writeTextField(out, at, 10, value.functionId);
  at = writeTextField(out, at, 18, value.version);
  at = writeTextField(out, at, 26, value.specDigest);
  at = writeTexts(out, at, 34, value.resources);
  return closeLength(out, body, at);
}

/** `TopicDetail` as plain values; a decoded message is one too. */
export interface TopicDetailFields {
  readonly patterns: readonly string[];
}

export function newTopicDetail(): Open<TopicDetailFields> {
  return {
    patterns: NO_ITEMS,
  };
}

/** Reads `TopicDetail` after its tag. */
export function readTopicDetail(reader: WireReader): TopicDetailFields {
  const value = newTopicDetail();
  const end = reader.enter();
  while (!reader.isDone()) {
    const tag = reader.tag();
    switch (tag) {
      case 10:
        value.patterns = grown(value.patterns, reader.text());
        break;
      default:
        reader.skipUnknown(tag, 1);
    }
  }
  reader.leave(end);
  return value;
}

/** Bytes that surely hold `TopicDetail`. Cost: one step a text. */
export function roomTopicDetail(value: TopicDetailFields): number {
  let room = 0;
  room += textsRoom(value.patterns);
  return room;
}

/** Writes `TopicDetail` as a field; returns the offset after it. */
export function writeTopicDetail(out: Uint8Array, start: number, tag: number, value: TopicDetailFields): number {
  const body = openLength(writeVarint(out, start, tag));
  let at = body;
  at = writeTexts(out, at, 10, value.patterns);
  return closeLength(out, body, at);
}

/** `QueueDetail` as plain values; a decoded message is one too. */
export interface QueueDetailFields {
  readonly deliveryGuarantees: readonly string[];
}

export function newQueueDetail(): Open<QueueDetailFields> {
  return {
    deliveryGuarantees: NO_ITEMS,
  };
}

/** Reads `QueueDetail` after its tag. */
export function readQueueDetail(reader: WireReader): QueueDetailFields {
  const value = newQueueDetail();
  const end = reader.enter();
  while (!reader.isDone()) {
    const tag = reader.tag();
    switch (tag) {
      case 10:
        value.deliveryGuarantees = grown(value.deliveryGuarantees, reader.text());
        break;
      default:
        reader.skipUnknown(tag, 1);
    }
  }
  reader.leave(end);
  return value;
}

/** Bytes that surely hold `QueueDetail`. Cost: one step a text. */
export function roomQueueDetail(value: QueueDetailFields): number {
  let room = 0;
  room += textsRoom(value.deliveryGuarantees);
  return room;
}

/** Writes `QueueDetail` as a field; returns the offset after it. */
export function writeQueueDetail(out: Uint8Array, start: number, tag: number, value: QueueDetailFields): number {
  const body = openLength(writeVarint(out, start, tag));
  let at = body;
  at = writeTexts(out, at, 10, value.deliveryGuarantees);
  return closeLength(out, body, at);
}

/** `CacheDetail` as plain values; a decoded message is one too. */
export interface CacheDetailFields {
  readonly role: string;
  readonly capacityBytes: bigint;
  readonly latitude: number;
  readonly longitude: number;
  readonly modes: readonly string[];
  readonly region: string;
  readonly utilization: number;
  readonly latencyMs: number;
}

export function newCacheDetail(): Open<CacheDetailFields> {
  return {
    role: "",
    capacityBytes: 0n,
    latitude: 0,
    longitude: 0,
    modes: NO_ITEMS,
    region: "",
    utilization: 0,
    latencyMs: 0,
  };
}

/** Reads `CacheDetail` after its tag. */
export function readCacheDetail(reader: WireReader): CacheDetailFields {
  const value = newCacheDetail();
  const end = reader.enter();
  while (!reader.isDone()) {
    const tag = reader.tag();
    switch (tag) {
      case 10:
        value.role = reader.text();
        break;
      case 16:
        value.capacityBytes = reader.varint64();
        break;
      case 25:
        value.latitude = reader.double();
        break;
      case 33:
        value.longitude = reader.double();
        break;
      case 42:
        value.modes = grown(value.modes, reader.text());
        break;
      case 50:
        value.region = reader.text();
        break;
      case 57:
        value.utilization = reader.double();
        break;
      case 65:
        value.latencyMs = reader.double();
        break;
      default:
        reader.skipUnknown(tag, 8);
    }
  }
  reader.leave(end);
  return value;
}

/** Bytes that surely hold `CacheDetail`. Cost: one step a text. */
export function roomCacheDetail(value: CacheDetailFields): number {
  let room = 77 + 3 * (value.role.length + value.region.length);
  room += textsRoom(value.modes);
  return room;
}

/** Writes `CacheDetail` as a field; returns the offset after it. */
export function writeCacheDetail(out: Uint8Array, start: number, tag: number, value: CacheDetailFields): number {
  const body = openLength(writeVarint(out, start, tag));
  let at = body;
  at = writeTextField(out, at, 10, value.role);
  at = writeBigField(out, at, 16, value.capacityBytes);
  at = writeDoubleField(out, at, 25, value.latitude);
  at = writeDoubleField(out, at, 33, value.longitude);
  at = writeTexts(out, at, 42, value.modes);
  at = writeTextField(out, at, 50, value.region);
  at = writeDoubleField(out, at, 57, value.utilization);
  at = writeDoubleField(out, at, 65, value.latencyMs);
  return closeLength(out, body, at);
}

/** `NodeDetail` as plain values; a decoded message is one too. */
export interface NodeDetailFields {
  readonly advertisedUrls: readonly string[];
  readonly transports: readonly string[];
  readonly protocolVersions: readonly number[];
  readonly labels: Readonly<Record<string, string>>;
}

export function newNodeDetail(): Open<NodeDetailFields> {
  return {
    advertisedUrls: NO_ITEMS,
    transports: NO_ITEMS,
    protocolVersions: [],
    labels: {},
  };
}

/** Reads `NodeDetail` after its tag. */
export function readNodeDetail(reader: WireReader): NodeDetailFields {
  const value = newNodeDetail();
  const end = reader.enter();
  while (!reader.isDone()) {
    const tag = reader.tag();
    switch (tag) {
      case 10:
        value.advertisedUrls = grown(value.advertisedUrls, reader.text());
        break;
      case 18:
        value.transports = grown(value.transports, reader.text());
        break;
      case 26:
        readPacked(reader, value.protocolVersions);
        break;
      case 24:
        value.protocolVersions.push(reader.varint());
        break;
      case 34:
        readPair(reader, value.labels);
        break;
      default:
        reader.skipUnknown(tag, 4);
    }
  }
  reader.leave(end);
  return value;
}

/** Bytes that surely hold `NodeDetail`. Cost: one step a text. */
export function roomNodeDetail(value: NodeDetailFields): number {
  let room = 0;
  room += textsRoom(value.advertisedUrls);
  room += textsRoom(value.transports);
  room += 10 + 8 * value.protocolVersions.length;
  room += pairsRoom(value.labels);
  return room;
}

/** Writes `NodeDetail` as a field; returns the offset after it. */
export function writeNodeDetail(out: Uint8Array, start: number, tag: number, value: NodeDetailFields): number {
  const body = openLength(writeVarint(out, start, tag));
  let at = body;
  at = writeTexts(out, at, 10, value.advertisedUrls);
  at = writeTexts(out, at, 18, value.transports);
  at = writePackedField(out, at, 26, value.protocolVersions);
  at = writePairs(out, at, 34, value.labels);
  return closeLength(out, body, at);
}

/** `GrpcCheck` as plain values; a decoded message is one too. */
export interface GrpcCheckFields {
  readonly service: string;
  readonly tls: boolean;
}

export function newGrpcCheck(): Open<GrpcCheckFields> {
  return {
    service: "",
    tls: false,
  };
}

/** Reads `GrpcCheck` after its tag. */
export function readGrpcCheck(reader: WireReader): GrpcCheckFields {
  const value = newGrpcCheck();
  const end = reader.enter();
  while (!reader.isDone()) {
    const tag = reader.tag();
    switch (tag) {
      case 10:
        value.service = reader.text();
        break;
      case 16:
        value.tls = reader.varint() !== 0;
        break;
      default:
        reader.skipUnknown(tag, 2);
    }
  }
  reader.leave(end);
  return value;
}

/** Bytes that surely hold `GrpcCheck`. Cost: one step a text. */
export function roomGrpcCheck(value: GrpcCheckFields): number {
  return 21 + 3 * (value.service.length);
}

/** Writes `GrpcCheck` as a field; returns the offset after it. */
export function writeGrpcCheck(out: Uint8Array, start: number, tag: number, value: GrpcCheckFields): number {
  const body = openLength(writeVarint(out, start, tag));
  let at = body;
  at = writeTextField(out, at, 10, value.service);
  at = writeNumberField(out, at, 16, value.tls ? 1 : 0);
  return closeLength(out, body, at);
}

/** `HttpCheck` as plain values; a decoded message is one too. */
export interface HttpCheckFields {
  readonly path: string;
  readonly statusMin: number;
  readonly statusMax: number;
  readonly tls: boolean;
}

export function newHttpCheck(): Open<HttpCheckFields> {
  return {
    path: "",
    statusMin: 0,
    statusMax: 0,
    tls: false,
  };
}

/** Reads `HttpCheck` after its tag. */
export function readHttpCheck(reader: WireReader): HttpCheckFields {
  const value = newHttpCheck();
  const end = reader.enter();
  while (!reader.isDone()) {
    const tag = reader.tag();
    switch (tag) {
      case 10:
        value.path = reader.text();
        break;
      case 16:
        value.statusMin = reader.varint();
        break;
      case 24:
        value.statusMax = reader.varint();
        break;
      case 32:
        value.tls = reader.varint() !== 0;
        break;
      default:
        reader.skipUnknown(tag, 4);
    }
  }
  reader.leave(end);
  return value;
}

/** Bytes that surely hold `HttpCheck`. Cost: one step a text. */
export function roomHttpCheck(value: HttpCheckFields): number {
  return 43 + 3 * (value.path.length);
}

/** Writes `HttpCheck` as a field; returns the offset after it. */
export function writeHttpCheck(out: Uint8Array, start: number, tag: number, value: HttpCheckFields): number {
  const body = openLength(writeVarint(out, start, tag));
  let at = body;
  at = writeTextField(out, at, 10, value.path);
  at = writeNumberField(out, at, 16, value.statusMin);
  at = writeNumberField(out, at, 24, value.statusMax);
  at = writeNumberField(out, at, 32, value.tls ? 1 : 0);
  return closeLength(out, body, at);
}

/** `TcpCheck` as plain values; a decoded message is one too. */
export type TcpCheckFields = object;

export function newTcpCheck(): Open<TcpCheckFields> {
  return {};
}

/** Reads `TcpCheck` after its tag. */
export function readTcpCheck(reader: WireReader): TcpCheckFields {
  const value = newTcpCheck();
  const end = reader.enter();
  while (!reader.isDone()) {
    const tag = reader.tag();
    reader.skipUnknown(tag, 0);
  }
  reader.leave(end);
  return value;
}

/** Bytes that surely hold `TcpCheck`. Cost: one step a text. */
export function roomTcpCheck(_value: TcpCheckFields): number {
  return 0;
}

/** Writes `TcpCheck` as a field; returns the offset after it. */
export function writeTcpCheck(out: Uint8Array, start: number, tag: number, _value: TcpCheckFields): number {
  const body = openLength(writeVarint(out, start, tag));
  return closeLength(out, body, body);
}

/** `TtlCheck` as plain values; a decoded message is one too. */
export type TtlCheckFields = object;

export function newTtlCheck(): Open<TtlCheckFields> {
  return {};
}

/** Reads `TtlCheck` after its tag. */
export function readTtlCheck(reader: WireReader): TtlCheckFields {
  const value = newTtlCheck();
  const end = reader.enter();
  while (!reader.isDone()) {
    const tag = reader.tag();
    reader.skipUnknown(tag, 0);
  }
  reader.leave(end);
  return value;
}

/** Bytes that surely hold `TtlCheck`. Cost: one step a text. */
export function roomTtlCheck(_value: TtlCheckFields): number {
  return 0;
}

/** Writes `TtlCheck` as a field; returns the offset after it. */
export function writeTtlCheck(out: Uint8Array, start: number, tag: number, _value: TtlCheckFields): number {
  const body = openLength(writeVarint(out, start, tag));
  return closeLength(out, body, body);
}

/** `AliasCheck` as plain values; a decoded message is one too. */
export interface AliasCheckFields {
  readonly key?: EntryKeyFields | undefined;
}

export function newAliasCheck(): Open<AliasCheckFields> {
  return {
    key: undefined,
  };
}

/** Reads `AliasCheck` after its tag. */
export function readAliasCheck(reader: WireReader): AliasCheckFields {
  const value = newAliasCheck();
  const end = reader.enter();
  while (!reader.isDone()) {
    const tag = reader.tag();
    switch (tag) {
      case 10:
        once(value.key, "key");
        value.key = readEntryKey(reader);
        break;
      default:
        reader.skipUnknown(tag, 1);
    }
  }
  reader.leave(end);
  return value;
}

/** Bytes that surely hold `AliasCheck`. Cost: one step a text. */
export function roomAliasCheck(value: AliasCheckFields): number {
  let room = 10;
  if (value.key !== undefined) room += roomEntryKey(value.key);
  return room;
}

/** Writes `AliasCheck` as a field; returns the offset after it. */
export function writeAliasCheck(out: Uint8Array, start: number, tag: number, value: AliasCheckFields): number {
  const body = openLength(writeVarint(out, start, tag));
  let at = body;
  if (value.key !== undefined) at = writeEntryKey(out, at, 10, value.key);
  return closeLength(out, body, at);
}

export type ProbeFields =
  | { readonly case: "grpc"; readonly value: GrpcCheckFields }
  | { readonly case: "http"; readonly value: HttpCheckFields }
  | { readonly case: "tcp"; readonly value: TcpCheckFields }
  | { readonly case: "ttl"; readonly value: TtlCheckFields }
  | { readonly case: "alias"; readonly value: AliasCheckFields };

/** `Check` as plain values; a decoded message is one too. */
export interface CheckFields {
  readonly target: string;
  readonly interval?: TimeFields | undefined;
  readonly timeout?: TimeFields | undefined;
  readonly failing: number;
  readonly passing: number;
  readonly probe: ProbeFields | { readonly case: undefined; readonly value?: undefined };
}

export function newCheck(): Open<CheckFields> {
  return {
    target: "",
    interval: undefined,
    timeout: undefined,
    failing: 0,
    passing: 0,
    probe: { case: undefined },
  };
}

/** Reads `Check` after its tag. */
export function readCheck(reader: WireReader): CheckFields {
  const value = newCheck();
  const end = reader.enter();
  while (!reader.isDone()) {
    const tag = reader.tag();
    switch (tag) {
      case 10:
        value.target = reader.text();
        break;
      case 18:
        once(value.interval, "interval");
        value.interval = readTime(reader);
        break;
      case 26:
        once(value.timeout, "timeout");
        value.timeout = readTime(reader);
        break;
      case 32:
        value.failing = reader.varint();
        break;
      case 40:
        value.passing = reader.varint();
        break;
      case 50:
        once(value.probe.case, "probe");
        value.probe = { case: "grpc", value: readGrpcCheck(reader) };
        break;
      case 58:
        once(value.probe.case, "probe");
        value.probe = { case: "http", value: readHttpCheck(reader) };
        break;
      case 66:
        once(value.probe.case, "probe");
        value.probe = { case: "tcp", value: readTcpCheck(reader) };
        break;
      case 74:
        once(value.probe.case, "probe");
        value.probe = { case: "ttl", value: readTtlCheck(reader) };
        break;
      case 82:
        once(value.probe.case, "probe");
        value.probe = { case: "alias", value: readAliasCheck(reader) };
        break;
      default:
        reader.skipUnknown(tag, 10);
    }
  }
  reader.leave(end);
  return value;
}

/** Bytes that surely hold `Check`. Cost: one step a text. */
export function roomCheck(value: CheckFields): number {
  let room = 72 + 3 * (value.target.length);
  switch (value.probe.case) {
    case "grpc":
      room += 10 + roomGrpcCheck(value.probe.value);
      break;
    case "http":
      room += 10 + roomHttpCheck(value.probe.value);
      break;
    case "tcp":
      room += 10 + roomTcpCheck(value.probe.value);
      break;
    case "ttl":
      room += 10 + roomTtlCheck(value.probe.value);
      break;
    case "alias":
      room += 10 + roomAliasCheck(value.probe.value);
      break;
    case undefined:
  }
  return room;
}

/** Writes `Check` as a field; returns the offset after it. */
export function writeCheck(out: Uint8Array, start: number, tag: number, value: CheckFields): number {
  const body = openLength(writeVarint(out, start, tag));
  let at = body;
  at = writeTextField(out, at, 10, value.target);
  if (value.interval !== undefined) at = writeTimeField(out, at, 18, value.interval);
  if (value.timeout !== undefined) at = writeTimeField(out, at, 26, value.timeout);
  at = writeNumberField(out, at, 32, value.failing);
  at = writeNumberField(out, at, 40, value.passing);
  switch (value.probe.case) {
    case "grpc":
      at = writeGrpcCheck(out, at, 50, value.probe.value);
      break;
    case "http":
      at = writeHttpCheck(out, at, 58, value.probe.value);
      break;
    case "tcp":
      at = writeTcpCheck(out, at, 66, value.probe.value);
      break;
    case "ttl":
      at = writeTtlCheck(out, at, 74, value.probe.value);
      break;
    case "alias":
      at = writeAliasCheck(out, at, 82, value.probe.value);
      break;
    case undefined:
  }
  return closeLength(out, body, at);
}

/** `CheckState` as plain values; a decoded message is one too. */
export interface CheckStateFields {
  readonly health: number;
  readonly failure: number;
  readonly httpStatus: number;
  readonly lastHealth: number;
}

export function newCheckState(): Open<CheckStateFields> {
  return {
    health: 0,
    failure: 0,
    httpStatus: 0,
    lastHealth: 0,
  };
}

/** Reads `CheckState` after its tag. */
export function readCheckState(reader: WireReader): CheckStateFields {
  const value = newCheckState();
  const end = reader.enter();
  while (!reader.isDone()) {
    const tag = reader.tag();
    switch (tag) {
      case 8:
        value.health = reader.varint();
        break;
      case 16:
        value.failure = reader.varint();
        break;
      case 24:
        value.httpStatus = reader.varint();
        break;
      case 32:
        value.lastHealth = reader.varint();
        break;
      default:
        reader.skipUnknown(tag, 4);
    }
  }
  reader.leave(end);
  return value;
}

/** Bytes that surely hold `CheckState`. Cost: one step a text. */
export function roomCheckState(_value: CheckStateFields): number {
  return 44;
}

/** Writes `CheckState` as a field; returns the offset after it. */
export function writeCheckState(out: Uint8Array, start: number, tag: number, value: CheckStateFields): number {
  const body = openLength(writeVarint(out, start, tag));
  let at = body;
  at = writeNumberField(out, at, 8, value.health);
  at = writeNumberField(out, at, 16, value.failure);
  at = writeNumberField(out, at, 24, value.httpStatus);
  at = writeNumberField(out, at, 32, value.lastHealth);
  return closeLength(out, body, at);
}

/** `Maintenance` as plain values; a decoded message is one too. */
export interface MaintenanceFields {
  readonly reason: string;
  readonly until?: TimeFields | undefined;
}

export function newMaintenance(): Open<MaintenanceFields> {
  return {
    reason: "",
    until: undefined,
  };
}

/** Reads `Maintenance` after its tag. */
export function readMaintenance(reader: WireReader): MaintenanceFields {
  const value = newMaintenance();
  const end = reader.enter();
  while (!reader.isDone()) {
    const tag = reader.tag();
    switch (tag) {
      case 10:
        value.reason = reader.text();
        break;
      case 18:
        once(value.until, "until");
        value.until = readTime(reader);
        break;
      default:
        reader.skipUnknown(tag, 2);
    }
  }
  reader.leave(end);
  return value;
}

/** Bytes that surely hold `Maintenance`. Cost: one step a text. */
export function roomMaintenance(value: MaintenanceFields): number {
  return 30 + 3 * (value.reason.length);
}

/** Writes `Maintenance` as a field; returns the offset after it. */
export function writeMaintenance(out: Uint8Array, start: number, tag: number, value: MaintenanceFields): number {
  const body = openLength(writeVarint(out, start, tag));
  let at = body;
  at = writeTextField(out, at, 10, value.reason);
  if (value.until !== undefined) at = writeTimeField(out, at, 18, value.until);
  return closeLength(out, body, at);
}

export type DetailFields =
  | { readonly case: "service"; readonly value: ServiceDetailFields }
  | { readonly case: "function"; readonly value: FunctionDetailFields }
  | { readonly case: "topic"; readonly value: TopicDetailFields }
  | { readonly case: "queue"; readonly value: QueueDetailFields }
  | { readonly case: "cache"; readonly value: CacheDetailFields }
  | { readonly case: "node"; readonly value: NodeDetailFields };

/** `Entry` as plain values; a decoded message is one too. */
export interface EntryFields {
  readonly key?: EntryKeyFields | undefined;
  readonly scope: number;
  readonly targets: readonly TargetFields[];
  readonly tags: readonly string[];
  readonly capabilities: readonly string[];
  readonly resources: readonly string[];
  readonly metadata: Readonly<Record<string, string>>;
  readonly ttl?: TimeFields | undefined;
  readonly aliases: readonly string[];
  readonly clusterId: string;
  readonly region: string;
  readonly zone: string;
  readonly nodeId: string;
  readonly tenantId: string;
  readonly health: number;
  readonly load?: LoadReportFields | undefined;
  readonly registeredAt?: TimeFields | undefined;
  readonly updatedAt?: TimeFields | undefined;
  readonly detail: DetailFields | { readonly case: undefined; readonly value?: undefined };
  readonly registeredByAdmin: boolean;
  readonly checks: readonly CheckFields[];
  readonly reportedHealth: number;
  readonly checkStates: readonly CheckStateFields[];
  readonly maintenance?: MaintenanceFields | undefined;
}

export function newEntry(): Open<EntryFields> {
  return {
    key: undefined,
    scope: 0,
    targets: NO_ITEMS,
    tags: NO_ITEMS,
    capabilities: NO_ITEMS,
    resources: NO_ITEMS,
    metadata: {},
    ttl: undefined,
    aliases: NO_ITEMS,
    clusterId: "",
    region: "",
    zone: "",
    nodeId: "",
    tenantId: "",
    health: 0,
    load: undefined,
    registeredAt: undefined,
    updatedAt: undefined,
    detail: { case: undefined },
    registeredByAdmin: false,
    checks: NO_ITEMS,
    reportedHealth: 0,
    checkStates: NO_ITEMS,
    maintenance: undefined,
  };
}

/** Tags of an entry's fields. */
export const ENTRY_TAG = {
  key: 10,
  scope: 16,
  targets: 26,
  tags: 34,
  capabilities: 42,
  resources: 50,
  metadata: 58,
  ttl: 66,
  aliases: 74,
  clusterId: 82,
  region: 90,
  zone: 98,
  nodeId: 106,
  tenantId: 114,
  health: 120,
  load: 130,
  registeredAt: 138,
  updatedAt: 146,
  service: 154,
  function: 162,
  topic: 170,
  queue: 178,
  cache: 186,
  node: 194,
  registeredByAdmin: 200,
  checks: 210,
  reportedHealth: 216,
  checkStates: 226,
  maintenance: 234,
} as const;

/** An entry read, and how many of its bytes are content: what comes before load, registered_at, updated_at. */
export interface ReadEntry {
  readonly entry: EntryFields;
  readonly contentBytes: number;
}

/**
 * Reads a sealed entry. Refuses singular messages that are there twice, and content after load, registered_at, updated_at, which are never written. Fields whose
 * bit is not set in `fields`, by their numbers, are skipped.
 */
export function readEntry(bytes: Uint8Array, fields = ~0): ReadEntry {
  const reader = new WireReader(bytes);
  const value = newEntry();
  let contentBytes = 0;
  let isTail = false;
  while (!reader.isDone()) {
    const from = reader.at;
    const tag = reader.tag();
    const isTailField = tag === 130 || tag === 138 || tag === 146;
    if (isTail && !isTailField) throw misplaced(`content after load or times at byte ${from}`);
    isTail = isTailField;
    if ((fields & (1 << (tag >> 3))) === 0) reader.skip(tag);
    else
      switch (tag) {
        case 10:
          once(value.key, "key");
          value.key = readEntryKey(reader);
          break;
        case 16:
          value.scope = reader.varint();
          break;
        case 26:
          value.targets = grown(value.targets, readTarget(reader));
          break;
        case 34:
          value.tags = grown(value.tags, reader.text());
          break;
        case 42:
          value.capabilities = grown(value.capabilities, reader.text());
          break;
        case 50:
          value.resources = grown(value.resources, reader.text());
          break;
        case 58:
          readPair(reader, value.metadata);
          break;
        case 66:
          once(value.ttl, "ttl");
          value.ttl = readTime(reader);
          break;
        case 74:
          value.aliases = grown(value.aliases, reader.text());
          break;
        case 82:
          value.clusterId = reader.text();
          break;
        case 90:
          value.region = reader.text();
          break;
        case 98:
          value.zone = reader.text();
          break;
        case 106:
          value.nodeId = reader.text();
          break;
        case 114:
          value.tenantId = reader.text();
          break;
        case 120:
          value.health = reader.varint();
          break;
        case 130:
          once(value.load, "load");
          value.load = readLoadReport(reader);
          break;
        case 138:
          once(value.registeredAt, "registered_at");
          value.registeredAt = readTime(reader);
          break;
        case 146:
          once(value.updatedAt, "updated_at");
          value.updatedAt = readTime(reader);
          break;
        case 154:
          once(value.detail.case, "detail");
          value.detail = { case: "service", value: readServiceDetail(reader) };
          break;
        case 162:
          once(value.detail.case, "detail");
          value.detail = { case: "function", value: readFunctionDetail(reader) };
          break;
        case 170:
          once(value.detail.case, "detail");
          value.detail = { case: "topic", value: readTopicDetail(reader) };
          break;
        case 178:
          once(value.detail.case, "detail");
          value.detail = { case: "queue", value: readQueueDetail(reader) };
          break;
        case 186:
          once(value.detail.case, "detail");
          value.detail = { case: "cache", value: readCacheDetail(reader) };
          break;
        case 194:
          once(value.detail.case, "detail");
          value.detail = { case: "node", value: readNodeDetail(reader) };
          break;
        case 200:
          value.registeredByAdmin = reader.varint() !== 0;
          break;
        case 210:
          value.checks = grown(value.checks, readCheck(reader));
          break;
        case 216:
          value.reportedHealth = reader.varint();
          break;
        case 226:
          value.checkStates = grown(value.checkStates, readCheckState(reader));
          break;
        case 234:
          once(value.maintenance, "maintenance");
          value.maintenance = readMaintenance(reader);
          break;
        default:
          reader.skipUnknown(tag, 29);
      }
    if (!isTail) contentBytes = reader.at;
  }
  return { entry: value, contentBytes };
}

/** Reads an entry of a request after its tag: its fields may come in any order. */
export function readEntryField(reader: WireReader): EntryFields {
  const value = newEntry();
  const end = reader.enter();
  while (!reader.isDone()) {
    const tag = reader.tag();
    switch (tag) {
      case 10:
        once(value.key, "key");
        value.key = readEntryKey(reader);
        break;
      case 16:
        value.scope = reader.varint();
        break;
      case 26:
        value.targets = grown(value.targets, readTarget(reader));
        break;
      case 34:
        value.tags = grown(value.tags, reader.text());
        break;
      case 42:
        value.capabilities = grown(value.capabilities, reader.text());
        break;
      case 50:
        value.resources = grown(value.resources, reader.text());
        break;
      case 58:
        readPair(reader, value.metadata);
        break;
      case 66:
        once(value.ttl, "ttl");
        value.ttl = readTime(reader);
        break;
      case 74:
        value.aliases = grown(value.aliases, reader.text());
        break;
      case 82:
        value.clusterId = reader.text();
        break;
      case 90:
        value.region = reader.text();
        break;
      case 98:
        value.zone = reader.text();
        break;
      case 106:
        value.nodeId = reader.text();
        break;
      case 114:
        value.tenantId = reader.text();
        break;
      case 120:
        value.health = reader.varint();
        break;
      case 130:
        once(value.load, "load");
        value.load = readLoadReport(reader);
        break;
      case 138:
        once(value.registeredAt, "registered_at");
        value.registeredAt = readTime(reader);
        break;
      case 146:
        once(value.updatedAt, "updated_at");
        value.updatedAt = readTime(reader);
        break;
      case 154:
        once(value.detail.case, "detail");
        value.detail = { case: "service", value: readServiceDetail(reader) };
        break;
      case 162:
        once(value.detail.case, "detail");
        value.detail = { case: "function", value: readFunctionDetail(reader) };
        break;
      case 170:
        once(value.detail.case, "detail");
        value.detail = { case: "topic", value: readTopicDetail(reader) };
        break;
      case 178:
        once(value.detail.case, "detail");
        value.detail = { case: "queue", value: readQueueDetail(reader) };
        break;
      case 186:
        once(value.detail.case, "detail");
        value.detail = { case: "cache", value: readCacheDetail(reader) };
        break;
      case 194:
        once(value.detail.case, "detail");
        value.detail = { case: "node", value: readNodeDetail(reader) };
        break;
      case 200:
        value.registeredByAdmin = reader.varint() !== 0;
        break;
      case 210:
        value.checks = grown(value.checks, readCheck(reader));
        break;
      case 216:
        value.reportedHealth = reader.varint();
        break;
      case 226:
        value.checkStates = grown(value.checkStates, readCheckState(reader));
        break;
      case 234:
        once(value.maintenance, "maintenance");
        value.maintenance = readMaintenance(reader);
        break;
      default:
        reader.skipUnknown(tag, 29);
    }
  }
  reader.leave(end);
  return value;
}

/** Bytes that surely hold `Entry`, without tail and stamps. Cost: one step a text. */
export function roomEntry(value: EntryFields): number {
  let room = 20;
  for (let i = 0; i < value.targets.length; i++) room += 10 + roomTarget(value.targets[i] ?? newTarget());
  room += textsRoom(value.tags);
  room += textsRoom(value.capabilities);
  room += textsRoom(value.resources);
  room += pairsRoom(value.metadata);
  room += textsRoom(value.aliases);
  for (let i = 0; i < value.checks.length; i++) room += 10 + roomCheck(value.checks[i] ?? newCheck());
  switch (value.detail.case) {
    case "service":
      room += 10 + roomServiceDetail(value.detail.value);
      break;
    case "function":
      room += 10 + roomFunctionDetail(value.detail.value);
      break;
    case "topic":
      room += 10 + roomTopicDetail(value.detail.value);
      break;
    case "queue":
      room += 10 + roomQueueDetail(value.detail.value);
      break;
    case "cache":
      room += 10 + roomCacheDetail(value.detail.value);
      break;
    case "node":
      room += 10 + roomNodeDetail(value.detail.value);
      break;
    case undefined:
  }
  return room;
}

/** What the server says of an entry, whatever the client said. */
export type StampedFields = Required<Pick<EntryFields, "key" | "scope" | "clusterId" | "region" | "zone" | "nodeId" | "tenantId" | "health" | "registeredByAdmin" | "reportedHealth" | "checkStates" | "maintenance">>;

/** Writes an entry without load, registered_at, updated_at; `out` has `roomEntry` bytes after `start`, and room for the stamps. Returns the offset after it. */
export function writeContent(out: Uint8Array, start: number, value: EntryFields, stamped: StampedFields): number {
  let at = start;
  if (stamped.key !== undefined) at = writeEntryKey(out, at, 10, stamped.key);
  at = writeNumberField(out, at, 16, stamped.scope);
  for (let i = 0; i < value.targets.length; i++) {
    const item = value.targets[i];
    if (item !== undefined) at = writeTarget(out, at, 26, item);
  }
  at = writeTexts(out, at, 34, value.tags);
  at = writeTexts(out, at, 42, value.capabilities);
  at = writeTexts(out, at, 50, value.resources);
  at = writePairs(out, at, 58, value.metadata);
  if (value.ttl !== undefined) at = writeTimeField(out, at, 66, value.ttl);
  at = writeTexts(out, at, 74, value.aliases);
  at = writeTextField(out, at, 82, stamped.clusterId);
  at = writeTextField(out, at, 90, stamped.region);
  at = writeTextField(out, at, 98, stamped.zone);
  at = writeTextField(out, at, 106, stamped.nodeId);
  at = writeTextField(out, at, 114, stamped.tenantId);
  at = writeNumberField(out, at, 120, stamped.health);
  switch (value.detail.case) {
    case "service":
      at = writeServiceDetail(out, at, 154, value.detail.value);
      break;
    case "function":
      at = writeFunctionDetail(out, at, 162, value.detail.value);
      break;
    case "topic":
      at = writeTopicDetail(out, at, 170, value.detail.value);
      break;
    case "queue":
      at = writeQueueDetail(out, at, 178, value.detail.value);
      break;
    case "cache":
      at = writeCacheDetail(out, at, 186, value.detail.value);
      break;
    case "node":
      at = writeNodeDetail(out, at, 194, value.detail.value);
      break;
    case undefined:
  }
  at = writeNumberField(out, at, 200, stamped.registeredByAdmin ? 1 : 0);
  for (let i = 0; i < value.checks.length; i++) {
    const item = value.checks[i];
    if (item !== undefined) at = writeCheck(out, at, 210, item);
  }
  at = writeNumberField(out, at, 216, stamped.reportedHealth);
  for (let i = 0; i < stamped.checkStates.length; i++) {
    const item = stamped.checkStates[i];
    if (item !== undefined) at = writeCheckState(out, at, 226, item);
  }
  if (stamped.maintenance !== undefined) at = writeMaintenance(out, at, 234, stamped.maintenance);
  return at;
}
