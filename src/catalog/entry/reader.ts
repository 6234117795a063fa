/**
 * Entries from bytes, by hand: records of the journal and of other nodes, and entries looked into by DNS and selection.
 * Throws `invalid_argument` on what is malformed; a field of a newer version is skipped, its bytes stay where they are.
 */
import { WaymarkError } from "../../lib/errors.ts";
import { WireReader } from "../../lib/protowire.ts";
import {
  type CacheFields,
  type DetailFields,
  type EntryFields,
  type FunctionFields,
  type KeyFields,
  type LoadFields,
  type NodeFields,
  type TargetFields,
  type TimeFields,
  timeMs,
} from "./fields.ts";
import { CACHE_TAG, ENTRY_TAG, FUNCTION_TAG, KEY_TAG, LIST_TAG, LOAD_TAG, NODE_TAG, PAIR_TAG, TARGET_TAG, TIME_TAG } from "./writer.ts";

/** Highest field of each message; a higher one comes from a newer version. */
const LAST_FIELD = {
  entry: 25,
  key: 5,
  target: 6,
  load: 5,
  time: 2,
  pair: 2,
  service: 0,
  function: 4,
  list: 1,
  cache: 8,
  node: 4,
} as const;

type Mutable<T> = { -readonly [Field in keyof T]: T[Field] };

/** An entry read, and how many of its bytes are content: what comes before load and times. */
export interface ReadEntry {
  readonly entry: EntryFields;
  readonly contentBytes: number;
}

/** An entry while it is being read. */
interface OpenEntry extends Mutable<EntryFields> {
  readonly targets: TargetFields[];
  readonly tags: string[];
  readonly capabilities: string[];
  readonly resources: string[];
  readonly aliases: string[];
  readonly metadata: Record<string, string>;
}

function newEntry(): OpenEntry {
  return {
    key: undefined,
    scope: 0,
    targets: [],
    tags: [],
    capabilities: [],
    resources: [],
    metadata: {},
    ttl: undefined,
    aliases: [],
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
  };
}

/** Reads a sealed entry. Refuses what our encoder never writes: singular messages twice, content after load or times. */
export function readEntry(bytes: Uint8Array): ReadEntry {
  const reader = new WireReader(bytes);
  const entry = newEntry();
  let contentBytes = 0;
  let isTail = false;
  while (!reader.isDone()) {
    const at = reader.at;
    const tag = reader.tag();
    const isTailField = tag === ENTRY_TAG.load || tag === ENTRY_TAG.registeredAt || tag === ENTRY_TAG.updatedAt;
    if (isTail && !isTailField) throw misplaced(`content after load or times at byte ${at}`);
    isTail = isTailField;
    switch (tag) {
      case ENTRY_TAG.key:
        once(entry.key, "key");
        entry.key = readKey(reader);
        break;
      case ENTRY_TAG.scope:
        entry.scope = reader.varint();
        break;
      case ENTRY_TAG.targets:
        entry.targets.push(readTarget(reader));
        break;
      case ENTRY_TAG.tags:
        entry.tags.push(reader.text());
        break;
      case ENTRY_TAG.capabilities:
        entry.capabilities.push(reader.text());
        break;
      case ENTRY_TAG.resources:
        entry.resources.push(reader.text());
        break;
      case ENTRY_TAG.metadata:
        readPair(reader, entry.metadata);
        break;
      case ENTRY_TAG.aliases:
        entry.aliases.push(reader.text());
        break;
      default:
        readRest(reader, tag, entry);
    }
    if (!isTail) contentBytes = reader.at;
  }
  return { entry, contentBytes };
}

/** The singular fields after the lists. */
function readRest(reader: WireReader, tag: number, entry: Mutable<EntryFields>): void {
  switch (tag) {
    case ENTRY_TAG.ttl:
      once(entry.ttl, "ttl");
      entry.ttl = readTime(reader);
      return;
    case ENTRY_TAG.clusterId:
      entry.clusterId = reader.text();
      return;
    case ENTRY_TAG.region:
      entry.region = reader.text();
      return;
    case ENTRY_TAG.zone:
      entry.zone = reader.text();
      return;
    case ENTRY_TAG.nodeId:
      entry.nodeId = reader.text();
      return;
    case ENTRY_TAG.tenantId:
      entry.tenantId = reader.text();
      return;
    case ENTRY_TAG.health:
      entry.health = reader.varint();
      return;
    case ENTRY_TAG.load:
      once(entry.load, "load");
      entry.load = readLoad(reader);
      return;
    case ENTRY_TAG.registeredAt:
      once(entry.registeredAt, "registered_at");
      entry.registeredAt = readTime(reader);
      return;
    case ENTRY_TAG.updatedAt:
      once(entry.updatedAt, "updated_at");
      entry.updatedAt = readTime(reader);
      return;
    case ENTRY_TAG.registeredByAdmin:
      entry.registeredByAdmin = reader.varint() !== 0;
      return;
    default: {
      const detail = readDetail(reader, tag);
      if (detail === undefined) return;
      once(entry.detail.case, "detail");
      entry.detail = detail;
    }
  }
}

/** When a sealed entry was registered; `from` is where its content ends. HOT: reading it whole costs ten times as much (bench/codec.ts). */
export function readRegisteredMs(sealed: Uint8Array, from: number): number {
  const reader = new WireReader(sealed, from);
  while (!reader.isDone()) {
    const tag = reader.tag();
    if (tag === ENTRY_TAG.registeredAt) return timeMs(readTime(reader));
    reader.skip(tag);
  }
  throw misplaced("no registered_at after the content");
}

/** The key field a message starts with, or undefined when it starts with something else. */
export function readLeadingKey(bytes: Uint8Array): { key: KeyFields; prefixBytes: number } | undefined {
  const reader = new WireReader(bytes);
  if (reader.isDone() || reader.tag() !== ENTRY_TAG.key) return undefined;
  return { key: readKey(reader), prefixBytes: reader.at };
}

/** Reads a key after its tag. */
export function readKey(reader: WireReader): KeyFields {
  const key = { kind: 0, namespace: "", name: "", instanceId: "", clusterId: "" };
  const outer = reader.enter();
  while (!reader.isDone()) {
    const tag = reader.tag();
    if (tag === KEY_TAG.kind) key.kind = reader.varint();
    else if (tag === KEY_TAG.namespace) key.namespace = reader.text();
    else if (tag === KEY_TAG.name) key.name = reader.text();
    else if (tag === KEY_TAG.instanceId) key.instanceId = reader.text();
    else if (tag === KEY_TAG.clusterId) key.clusterId = reader.text();
    else reader.skipUnknown(tag, LAST_FIELD.key);
  }
  reader.leave(outer);
  return key;
}

function readTarget(reader: WireReader): TargetFields {
  const target = { name: "", host: "", port: 0, priority: 0, weight: 0, protocol: "" };
  const outer = reader.enter();
  while (!reader.isDone()) {
    const tag = reader.tag();
    if (tag === TARGET_TAG.name) target.name = reader.text();
    else if (tag === TARGET_TAG.host) target.host = reader.text();
    else if (tag === TARGET_TAG.port) target.port = reader.varint();
    else if (tag === TARGET_TAG.priority) target.priority = reader.varint();
    else if (tag === TARGET_TAG.weight) target.weight = reader.varint();
    else if (tag === TARGET_TAG.protocol) target.protocol = reader.text();
    else reader.skipUnknown(tag, LAST_FIELD.target);
  }
  reader.leave(outer);
  return target;
}

function readLoad(reader: WireReader): LoadFields {
  const load: Mutable<LoadFields> = { activeClients: 0, errorRate: 0, latencyMs: 0, utilization: 0, observedAt: undefined };
  const outer = reader.enter();
  while (!reader.isDone()) {
    const tag = reader.tag();
    if (tag === LOAD_TAG.activeClients) load.activeClients = reader.varint();
    else if (tag === LOAD_TAG.errorRate) load.errorRate = reader.double();
    else if (tag === LOAD_TAG.latencyMs) load.latencyMs = reader.double();
    else if (tag === LOAD_TAG.utilization) load.utilization = reader.double();
    else if (tag === LOAD_TAG.observedAt) {
      once(load.observedAt, "load.observed_at");
      load.observedAt = readTime(reader);
    } else reader.skipUnknown(tag, LAST_FIELD.load);
  }
  reader.leave(outer);
  return load;
}

function readTime(reader: WireReader): TimeFields {
  const time = { seconds: 0n, nanos: 0 };
  const outer = reader.enter();
  while (!reader.isDone()) {
    const tag = reader.tag();
    if (tag === TIME_TAG.seconds) time.seconds = BigInt(reader.varint());
    else if (tag === TIME_TAG.nanos) time.nanos = reader.varint();
    else reader.skipUnknown(tag, LAST_FIELD.time);
  }
  reader.leave(outer);
  return time;
}

function readPair(reader: WireReader, into: Record<string, string>): void {
  let key = "";
  let value = "";
  const outer = reader.enter();
  while (!reader.isDone()) {
    const tag = reader.tag();
    if (tag === PAIR_TAG.key) key = reader.text();
    else if (tag === PAIR_TAG.value) value = reader.text();
    else reader.skipUnknown(tag, LAST_FIELD.pair);
  }
  reader.leave(outer);
  // A plain assignment to `__proto__`, which is a valid key, would be lost.
  if (key === "__proto__") Object.defineProperty(into, key, { value, enumerable: true, configurable: true, writable: true });
  else into[key] = value;
}

function readDetail(reader: WireReader, tag: number): DetailFields | undefined {
  switch (tag) {
    case ENTRY_TAG.service:
      readFields(reader, LAST_FIELD.service, () => false);
      return { case: "service", value: {} };
    case ENTRY_TAG.function:
      return { case: "function", value: readFunction(reader) };
    case ENTRY_TAG.topic:
      return { case: "topic", value: { patterns: readList(reader) } };
    case ENTRY_TAG.queue:
      return { case: "queue", value: { deliveryGuarantees: readList(reader) } };
    case ENTRY_TAG.cache:
      return { case: "cache", value: readCache(reader) };
    case ENTRY_TAG.node:
      return { case: "node", value: readNode(reader) };
    default:
      reader.skipUnknown(tag, LAST_FIELD.entry);
      return undefined;
  }
}

/** Reads a nested message; a field `take` does not know is skipped. */
function readFields(reader: WireReader, lastField: number, take: (tag: number) => boolean): void {
  const outer = reader.enter();
  while (!reader.isDone()) {
    const tag = reader.tag();
    if (!take(tag)) reader.skipUnknown(tag, lastField);
  }
  reader.leave(outer);
}

function readList(reader: WireReader): readonly string[] {
  const items: string[] = [];
  readFields(reader, LAST_FIELD.list, (tag) => tag === LIST_TAG && items.push(reader.text()) > 0);
  return items;
}

function readFunction(reader: WireReader): FunctionFields {
  const resources: string[] = [];
  const value: Mutable<FunctionFields> = { functionId: "", version: "", specDigest: "", resources };
  readFields(reader, LAST_FIELD.function, (tag) => {
    if (tag === FUNCTION_TAG.functionId) value.functionId = reader.text();
    else if (tag === FUNCTION_TAG.version) value.version = reader.text();
    else if (tag === FUNCTION_TAG.specDigest) value.specDigest = reader.text();
    else if (tag === FUNCTION_TAG.resources) resources.push(reader.text());
    else return false;
    return true;
  });
  return value;
}

function readCache(reader: WireReader): CacheFields {
  const modes: string[] = [];
  const value: Mutable<CacheFields> = {
    role: "",
    capacityBytes: 0n,
    latitude: 0,
    longitude: 0,
    modes,
    region: "",
    utilization: 0,
    latencyMs: 0,
  };
  readFields(reader, LAST_FIELD.cache, (tag) => {
    if (tag === CACHE_TAG.role) value.role = reader.text();
    else if (tag === CACHE_TAG.capacityBytes) value.capacityBytes = reader.varint64();
    else if (tag === CACHE_TAG.latitude) value.latitude = reader.double();
    else if (tag === CACHE_TAG.longitude) value.longitude = reader.double();
    else if (tag === CACHE_TAG.modes) modes.push(reader.text());
    else if (tag === CACHE_TAG.region) value.region = reader.text();
    else if (tag === CACHE_TAG.utilization) value.utilization = reader.double();
    else if (tag === CACHE_TAG.latencyMs) value.latencyMs = reader.double();
    else return false;
    return true;
  });
  return value;
}

function readNode(reader: WireReader): NodeFields {
  const labels: Record<string, string> = {};
  const lists = { advertisedUrls: [] as string[], transports: [] as string[], protocolVersions: [] as number[] };
  readFields(reader, LAST_FIELD.node, (tag) => {
    if (tag === NODE_TAG.advertisedUrls) lists.advertisedUrls.push(reader.text());
    else if (tag === NODE_TAG.transports) lists.transports.push(reader.text());
    else if (tag === NODE_TAG.protocolVersion) lists.protocolVersions.push(reader.varint());
    else if (tag === NODE_TAG.protocolVersions) readPacked(reader, lists.protocolVersions);
    else if (tag === NODE_TAG.labels) readPair(reader, labels);
    else return false;
    return true;
  });
  return { ...lists, labels };
}

function readPacked(reader: WireReader, into: number[]): void {
  const outer = reader.enter();
  while (!reader.isDone()) into.push(reader.varint());
  reader.leave(outer);
}

function once(have: unknown, field: string): void {
  if (have !== undefined) throw misplaced(`${field} is there twice`);
}

function misplaced(what: string): WaymarkError {
  return new WaymarkError("invalid_argument", `malformed entry: ${what}`);
}
