/**
 * Entries as bytes, by hand: content (fields 1 to 15, then the detail and what follows) deterministically, then load and times, which do
 * not count as content. protobuf-es needs 6 µs to encode what this does in under one (bench/codec.ts).
 */
import { closeLength, openLength, tagOf, WIRE, writeDouble, writeText, writeVarint, writeVarint64 } from "../../lib/protowire.ts";
import type { EntryKey, Health } from "../record/record.ts";
import { type DetailFields, type EntryFields, type LoadFields, type TargetFields, type TimeFields, timeMs } from "./fields.ts";
import type { Scope } from "./scope.ts";
import type { LoadView } from "./view.ts";

const bytesTag = (field: number): number => tagOf(field, WIRE.BYTES);
const varintTag = (field: number): number => tagOf(field, WIRE.VARINT);
const doubleTag = (field: number): number => tagOf(field, WIRE.FIXED64);

/** Tags of `Entry`, in the order they are written. */
export const ENTRY_TAG = {
  key: bytesTag(1),
  scope: varintTag(2),
  targets: bytesTag(3),
  tags: bytesTag(4),
  capabilities: bytesTag(5),
  resources: bytesTag(6),
  metadata: bytesTag(7),
  ttl: bytesTag(8),
  aliases: bytesTag(9),
  clusterId: bytesTag(10),
  region: bytesTag(11),
  zone: bytesTag(12),
  nodeId: bytesTag(13),
  tenantId: bytesTag(14),
  health: varintTag(15),
  service: bytesTag(19),
  function: bytesTag(20),
  topic: bytesTag(21),
  queue: bytesTag(22),
  cache: bytesTag(23),
  node: bytesTag(24),
  registeredByAdmin: varintTag(25),
  load: bytesTag(16),
  registeredAt: bytesTag(17),
  updatedAt: bytesTag(18),
} as const;

/** Fields 1 to 5 of a key, a target, a load report and a time, by wire type. */
export const KEY_TAG = {
  kind: varintTag(1),
  namespace: bytesTag(2),
  name: bytesTag(3),
  instanceId: bytesTag(4),
  clusterId: bytesTag(5),
} as const;
export const TARGET_TAG = {
  name: bytesTag(1),
  host: bytesTag(2),
  port: varintTag(3),
  priority: varintTag(4),
  weight: varintTag(5),
  protocol: bytesTag(6),
} as const;
export const LOAD_TAG = {
  activeClients: varintTag(1),
  errorRate: doubleTag(2),
  latencyMs: doubleTag(3),
  utilization: doubleTag(4),
  observedAt: bytesTag(5),
} as const;
export const TIME_TAG = { seconds: varintTag(1), nanos: varintTag(2) } as const;
export const PAIR_TAG = { key: bytesTag(1), value: bytesTag(2) } as const;
export const FUNCTION_TAG = { functionId: bytesTag(1), version: bytesTag(2), specDigest: bytesTag(3), resources: bytesTag(4) } as const;
/** `TopicDetail.patterns`, `QueueDetail.delivery_guarantees`. */
export const LIST_TAG = bytesTag(1);
export const CACHE_TAG = {
  role: bytesTag(1),
  capacityBytes: varintTag(2),
  latitude: doubleTag(3),
  longitude: doubleTag(4),
  modes: bytesTag(5),
  region: bytesTag(6),
  utilization: doubleTag(7),
  latencyMs: doubleTag(8),
} as const;
export const NODE_TAG = {
  advertisedUrls: bytesTag(1),
  transports: bytesTag(2),
  protocolVersions: bytesTag(3),
  protocolVersion: varintTag(3),
  labels: bytesTag(4),
} as const;

/** Most bytes `writeTail` can need: a load report of 59 bytes and two times of 16. */
export const MAX_TAIL_BYTES = 96;

/** What is stamped over or added to what the client said. */
export interface Stamped {
  readonly key: EntryKey;
  readonly scope: Scope;
  readonly health: Health;
  readonly clusterId: string;
  readonly region: string;
  readonly zone: string;
  readonly nodeId: string;
  readonly tenantId: string;
  readonly registeredByAdmin: boolean;
}

/** Bytes that surely hold an entry's content. Cost: one step a text. */
export function contentRoom(entry: EntryFields): number {
  // Five 64-character ids, the key, and every scalar at its longest fit the constant.
  let room = 4096 + 7 * (entry.tags.length + entry.capabilities.length + entry.resources.length + entry.aliases.length);
  for (const target of entry.targets) room += 48 + 3 * (target.name.length + target.host.length + target.protocol.length);
  room += 3 * (lengthOf(entry.tags) + lengthOf(entry.capabilities) + lengthOf(entry.resources) + lengthOf(entry.aliases));
  room += pairsRoom(entry.metadata);
  return entry.detail.case === undefined ? room : room + detailRoom(entry.detail);
}

function detailRoom(detail: DetailFields): number {
  switch (detail.case) {
    case "service":
      return 0;
    case "function": {
      const { functionId, version, specDigest, resources } = detail.value;
      return 3 * (functionId.length + version.length + specDigest.length) + listRoom(resources);
    }
    case "topic":
      return listRoom(detail.value.patterns);
    case "queue":
      return listRoom(detail.value.deliveryGuarantees);
    case "cache":
      return 3 * (detail.value.role.length + detail.value.region.length) + listRoom(detail.value.modes);
    case "node": {
      const { advertisedUrls, transports, protocolVersions, labels } = detail.value;
      return listRoom(advertisedUrls) + listRoom(transports) + 5 * protocolVersions.length + pairsRoom(labels);
    }
  }
}

function lengthOf(texts: readonly string[]): number {
  let length = 0;
  for (let i = 0; i < texts.length; i++) length += texts[i]?.length ?? 0;
  return length;
}

function listRoom(texts: readonly string[]): number {
  return 7 * texts.length + 3 * lengthOf(texts);
}

function pairsRoom(pairs: Readonly<Record<string, string>>): number {
  let room = 0;
  for (const key in pairs) room += 24 + 3 * (key.length + (pairs[key]?.length ?? 0));
  return room;
}

/** Writes a stamped entry without load and times; `out` has `contentRoom` bytes after `start`. Returns the offset after it. */
export function writeContent(out: Uint8Array, start: number, entry: EntryFields, stamped: Stamped): number {
  let at = writeKeyField(out, start, ENTRY_TAG.key, stamped.key);
  at = writeNumber(out, at, ENTRY_TAG.scope, stamped.scope);
  for (let i = 0; i < entry.targets.length; i++) {
    const target = entry.targets[i];
    if (target !== undefined) at = writeTarget(out, at, target);
  }
  at = writeTexts(out, at, ENTRY_TAG.tags, entry.tags);
  at = writeTexts(out, at, ENTRY_TAG.capabilities, entry.capabilities);
  at = writeTexts(out, at, ENTRY_TAG.resources, entry.resources);
  at = writePairs(out, at, ENTRY_TAG.metadata, entry.metadata);
  if (entry.ttl !== undefined) at = writeTime(out, at, ENTRY_TAG.ttl, entry.ttl);
  at = writeTexts(out, at, ENTRY_TAG.aliases, entry.aliases);
  at = writeTextField(out, at, ENTRY_TAG.clusterId, stamped.clusterId);
  at = writeTextField(out, at, ENTRY_TAG.region, stamped.region);
  at = writeTextField(out, at, ENTRY_TAG.zone, stamped.zone);
  at = writeTextField(out, at, ENTRY_TAG.nodeId, stamped.nodeId);
  at = writeTextField(out, at, ENTRY_TAG.tenantId, stamped.tenantId);
  at = writeNumber(out, at, ENTRY_TAG.health, stamped.health);
  if (entry.detail.case !== undefined) at = writeDetail(out, at, entry.detail);
  return writeNumber(out, at, ENTRY_TAG.registeredByAdmin, stamped.registeredByAdmin ? 1 : 0);
}

export interface Tail {
  readonly registeredWallMs: number;
  readonly updatedWallMs: number;
  readonly load: LoadView | undefined;
}

/** Writes load and times; `out` has `MAX_TAIL_BYTES` after `start`. Returns the offset after it. */
export function writeTail(out: Uint8Array, start: number, tail: Tail): number {
  let at = start;
  if (tail.load !== undefined) {
    const { activeClients, errorRate, latencyMs, utilization, observedWallMs } = tail.load;
    const body = openLength(writeVarint(out, at, ENTRY_TAG.load));
    at = writeNumber(out, body, LOAD_TAG.activeClients, activeClients);
    at = writeDoubleField(out, at, LOAD_TAG.errorRate, errorRate);
    at = writeDoubleField(out, at, LOAD_TAG.latencyMs, latencyMs);
    at = writeDoubleField(out, at, LOAD_TAG.utilization, utilization);
    at = closeLength(out, body, writeWallMs(out, at, LOAD_TAG.observedAt, observedWallMs));
  }
  at = writeWallMs(out, at, ENTRY_TAG.registeredAt, tail.registeredWallMs);
  return writeWallMs(out, at, ENTRY_TAG.updatedAt, tail.updatedWallMs);
}

/** Writes a key as a field; needs 20 bytes more than its texts, which are ASCII. */
export function writeKeyField(out: Uint8Array, start: number, tag: number, key: EntryKey): number {
  const body = openLength(writeVarint(out, start, tag));
  let at = writeNumber(out, body, KEY_TAG.kind, key.kind);
  at = writeTextField(out, at, KEY_TAG.namespace, key.namespace);
  at = writeTextField(out, at, KEY_TAG.name, key.name);
  at = writeTextField(out, at, KEY_TAG.instanceId, key.instanceId);
  at = writeTextField(out, at, KEY_TAG.clusterId, key.clusterId);
  return closeLength(out, body, at);
}

function writeTarget(out: Uint8Array, start: number, target: TargetFields): number {
  const body = openLength(writeVarint(out, start, ENTRY_TAG.targets));
  let at = writeTextField(out, body, TARGET_TAG.name, target.name);
  at = writeTextField(out, at, TARGET_TAG.host, target.host);
  at = writeNumber(out, at, TARGET_TAG.port, target.port);
  at = writeNumber(out, at, TARGET_TAG.priority, target.priority);
  at = writeNumber(out, at, TARGET_TAG.weight, target.weight);
  at = writeTextField(out, at, TARGET_TAG.protocol, target.protocol);
  return closeLength(out, body, at);
}

function writeDetail(out: Uint8Array, start: number, detail: DetailFields): number {
  const body = openLength(writeVarint(out, start, ENTRY_TAG[detail.case]));
  return closeLength(out, body, writeDetailFields(out, body, detail));
}

function writeDetailFields(out: Uint8Array, start: number, detail: DetailFields): number {
  let at = start;
  switch (detail.case) {
    case "service":
      return at;
    case "function": {
      at = writeTextField(out, at, FUNCTION_TAG.functionId, detail.value.functionId);
      at = writeTextField(out, at, FUNCTION_TAG.version, detail.value.version);
      at = writeTextField(out, at, FUNCTION_TAG.specDigest, detail.value.specDigest);
      return writeTexts(out, at, FUNCTION_TAG.resources, detail.value.resources);
    }
    case "topic":
      return writeTexts(out, at, LIST_TAG, detail.value.patterns);
    case "queue":
      return writeTexts(out, at, LIST_TAG, detail.value.deliveryGuarantees);
    case "cache": {
      const { role, capacityBytes, latitude, longitude, modes, region, utilization, latencyMs } = detail.value;
      at = writeTextField(out, at, CACHE_TAG.role, role);
      if (capacityBytes !== 0n) at = writeVarint64(out, writeVarint(out, at, CACHE_TAG.capacityBytes), capacityBytes);
      at = writeDoubleField(out, at, CACHE_TAG.latitude, latitude);
      at = writeDoubleField(out, at, CACHE_TAG.longitude, longitude);
      at = writeTexts(out, at, CACHE_TAG.modes, modes);
      at = writeTextField(out, at, CACHE_TAG.region, region);
      at = writeDoubleField(out, at, CACHE_TAG.utilization, utilization);
      return writeDoubleField(out, at, CACHE_TAG.latencyMs, latencyMs);
    }
    case "node": {
      const { advertisedUrls, transports, protocolVersions, labels } = detail.value;
      at = writeTexts(out, at, NODE_TAG.advertisedUrls, advertisedUrls);
      at = writeTexts(out, at, NODE_TAG.transports, transports);
      if (protocolVersions.length > 0) {
        const body = openLength(writeVarint(out, at, NODE_TAG.protocolVersions));
        at = body;
        for (const version of protocolVersions) at = writeVarint(out, at, version);
        at = closeLength(out, body, at);
      }
      return writePairs(out, at, NODE_TAG.labels, labels);
    }
  }
}

/** Empty and zero are not written, as proto3 has it. */
function writeTextField(out: Uint8Array, at: number, tag: number, text: string): number {
  return text === "" ? at : writeText(out, writeVarint(out, at, tag), text);
}

function writeNumber(out: Uint8Array, at: number, tag: number, value: number): number {
  return value === 0 ? at : writeVarint(out, writeVarint(out, at, tag), value);
}

function writeDoubleField(out: Uint8Array, at: number, tag: number, value: number): number {
  // Minus zero is a value of its own to protobuf.
  return Object.is(value, 0) ? at : writeDouble(out, writeVarint(out, at, tag), value);
}

function writeTexts(out: Uint8Array, start: number, tag: number, texts: readonly string[]): number {
  let at = start;
  for (let i = 0; i < texts.length; i++) at = writeText(out, writeVarint(out, at, tag), texts[i] ?? "");
  return at;
}

/** By key in code-unit order, so that equal maps are equal bytes. */
function writePairs(out: Uint8Array, start: number, tag: number, pairs: Readonly<Record<string, string>>): number {
  const keys = Object.keys(pairs);
  if (keys.length > 1) keys.sort();
  let at = start;
  for (let i = 0; i < keys.length; i++) {
    const key = keys[i] ?? "";
    const body = openLength(writeVarint(out, at, tag));
    at = writeText(out, writeVarint(out, body, PAIR_TAG.key), key);
    at = closeLength(out, body, writeText(out, writeVarint(out, at, PAIR_TAG.value), pairs[key] ?? ""));
  }
  return at;
}

function writeTime(out: Uint8Array, start: number, tag: number, time: TimeFields): number {
  const body = openLength(writeVarint(out, start, tag));
  const at = writeNumber(out, body, TIME_TAG.seconds, Number(time.seconds));
  return closeLength(out, body, writeNumber(out, at, TIME_TAG.nanos, time.nanos));
}

function writeWallMs(out: Uint8Array, start: number, tag: number, wallMs: number): number {
  const seconds = Math.floor(wallMs / 1000);
  const body = openLength(writeVarint(out, start, tag));
  const at = writeNumber(out, body, TIME_TAG.seconds, seconds);
  return closeLength(out, body, writeNumber(out, at, TIME_TAG.nanos, Math.round((wallMs - seconds * 1000) * 1_000_000)));
}

/** Load as plain values; `receivedWallMs` stands in for a report that does not say when it was measured. */
export function loadViewOf(load: LoadFields, receivedWallMs: number): LoadView {
  return {
    activeClients: load.activeClients,
    errorRate: load.errorRate,
    latencyMs: load.latencyMs,
    utilization: load.utilization,
    observedWallMs: load.observedAt === undefined ? receivedWallMs : timeMs(load.observedAt),
  };
}
