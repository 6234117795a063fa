/**
 * The record types that the gateway answers: a row for each, with the records that a subject has of it, and their wire form. To add a type, add
 * a member to `RecordData` and a row to `RECORDS`.
 */

import { SCOPE_NAMES } from "../../catalog/entry/scope.ts";
import type { EntryView } from "../../catalog/entry/view.ts";
import { HEALTH } from "../../catalog/record/record.ts";
import type { Address } from "../../lib/addresses.ts";
import { healthOrder } from "../../reading/levels.ts";
import { addressLabel } from "../names/addresses.ts";
import { formatName, nodeName, parseHostName } from "../names/names.ts";
import { type Subject, type SubjectTarget } from "../plan/subject.ts";

export interface RecordData {
  readonly A: { readonly address: Address };
  readonly AAAA: { readonly address: Address };
  readonly SRV: { readonly priority: number; readonly weight: number; readonly port: number; readonly target: string };
  readonly TXT: { readonly strings: readonly string[] };
  readonly CNAME: { readonly target: string };
  readonly NS: { readonly target: string };
  readonly SOA: {
    readonly primary: string;
    readonly mailbox: string;
    readonly serial: number;
    readonly refreshSeconds: number;
    readonly retrySeconds: number;
    readonly expireSeconds: number;
    readonly minimumSeconds: number;
  };
  readonly HINFO: { readonly cpu: string; readonly os: string };
}
export type RecordType = keyof RecordData;

/** One resource record of class IN. `name` is lower-case text without the final dot. */
export type DnsRecord = { readonly [T in RecordType]: RecordOf<T> }[RecordType];
export interface RecordOf<T extends RecordType> {
  readonly type: T;
  readonly name: string;
  readonly ttlSeconds: number;
  readonly data: RecordData[T];
}

/** The settings of the gateway. */
export interface DnsSettings {
  /** Zones as `parseZone` gives them; at least one. Names are written in the first. */
  readonly zones: readonly string[];
  /** The serving node: the zone's name server is `<nodeId>.node.<zone>`. */
  readonly nodeId: string;
  /** Bounds for the TTL of records that are made from entries. */
  readonly minTtlMs: number;
  readonly maxTtlMs: number;
  /** TTL for entries without one (static leases). */
  readonly defaultTtlMs: number;
  /** How long clients may keep "no such name" and "no such type". */
  readonly negativeTtlMs: number;
  /** Whether names outside our zones are tried as if the first zone followed them. */
  readonly allowExternalNames: boolean;
}

export interface RecordContext {
  /** The name that the records belong to. */
  readonly owner: string;
  readonly zone: string;
  readonly revision: number;
  readonly settings: DnsSettings;
}

/** Where a row writes its data. Names may be compressed only where RFC 3597 allows it. */
export interface DataWriter {
  u8(value: number): void;
  u16(value: number): void;
  u32(value: number): void;
  bytes(value: Uint8Array): void;
  /** Writes a length octet and at most 255 octets. */
  string(value: string): void;
  name(value: string): void;
  compressedName(value: string): void;
}

interface RecordRow<T extends RecordType> {
  /** Type number (IANA, DNS parameters). */
  readonly code: number;
  /** The records of this type that the subject has: groups in order of preference, each of which is shuffled for every answer. */
  readonly find: (subject: Subject, context: RecordContext) => readonly (readonly RecordOf<T>[])[];
  readonly write: (data: RecordData[T], out: DataWriter) => void;
  /** Characters and address bytes of the data. A message has about as many, because few names in it are compressed. */
  readonly sizeBytes: (data: RecordData[T]) => number;
  /** The host that the data names, if the addresses of that host go along in the additional section. */
  readonly hostOf?: (data: RecordData[T]) => string;
}

export const RECORDS: { readonly [T in RecordType]: RecordRow<T> } = {
  A: {
    code: 1,
    find: (subject, context) => addressRecords("A", 4, subject, context),
    write: (data, out) => out.bytes(data.address),
    sizeBytes: ({ address }) => address.length,
  },
  NS: {
    code: 2,
    find: (subject, context) => apexRecords(subject, { type: "NS", data: { target: nameServer(context) }, context }),
    write: (data, out) => out.compressedName(data.target),
    sizeBytes: ({ target }) => target.length,
    hostOf: ({ target }) => target,
  },
  CNAME: {
    code: 5,
    // `planAnswer` follows aliases before it asks the rows.
    find: () => [],
    write: (data, out) => out.compressedName(data.target),
    sizeBytes: ({ target }) => target.length,
  },
  SOA: {
    code: 6,
    find: (subject, context) => apexRecords(subject, { type: "SOA", data: soaData(context), context }),
    write: (data, out) => {
      out.compressedName(data.primary);
      out.compressedName(data.mailbox);
      out.u32(data.serial);
      out.u32(data.refreshSeconds);
      out.u32(data.retrySeconds);
      out.u32(data.expireSeconds);
      out.u32(data.minimumSeconds);
    },
    sizeBytes: ({ primary, mailbox }) => primary.length + mailbox.length,
  },
  HINFO: {
    code: 13,
    // Used only as the answer to ANY (RFC 8482, 4.2).
    find: () => [],
    write: (data, out) => {
      out.string(data.cpu);
      out.string(data.os);
    },
    sizeBytes: ({ cpu, os }) => cpu.length + os.length,
  },
  TXT: {
    code: 16,
    find: (subject, context) => textRecords(subject, context),
    write: (data, out) => {
      for (const text of data.strings) out.string(text);
    },
    sizeBytes: ({ strings }) => strings.reduce((sum, text) => sum + text.length, 0),
  },
  AAAA: {
    code: 28,
    find: (subject, context) => addressRecords("AAAA", 16, subject, context),
    write: (data, out) => out.bytes(data.address),
    sizeBytes: ({ address }) => address.length,
  },
  SRV: {
    code: 33,
    find: (subject, context) => serviceRecords(subject, context),
    write: (data, out) => {
      out.u16(data.priority);
      out.u16(data.weight);
      out.u16(data.port);
      // Never compressed (RFC 2782).
      out.name(data.target);
    },
    sizeBytes: ({ target }) => target.length,
    hostOf: ({ target }) => target,
  },
};

const TYPES_BY_CODE: ReadonlyMap<number, RecordType> = new Map(
  Object.keys(RECORDS)
    .filter(isRecordType)
    .map((type) => [RECORDS[type].code, type]),
);

/** Whether there is a row for this type name. */
function isRecordType(text: string): text is RecordType {
  return Object.hasOwn(RECORDS, text);
}

/** The type with this number; undefined when there is no row for it. */
export function findRecordType(code: number): RecordType | undefined {
  return TYPES_BY_CODE.get(code);
}

/** Writes a record's data, without its length. */
export function writeRecordData<T extends RecordType>(record: RecordOf<T>, out: DataWriter): void {
  RECORDS[record.type].write(record.data, out);
}

/** The characters and address bytes of a record's data. */
export function dataBytes<T extends RecordType>(record: RecordOf<T>): number {
  return RECORDS[record.type].sizeBytes(record.data);
}

/** The host that a record names and whose addresses go along with it. In lower case, because the case of a host name does not matter. */
export function hostOf<T extends RecordType>(record: RecordOf<T>): string | undefined {
  return RECORDS[record.type].hostOf?.(record.data).toLowerCase();
}

/** The zone's SOA for the authority section. Its TTL says how long the negative answer may be kept (RFC 2308, 3). */
export function negativeSoa(zone: string, context: RecordContext): DnsRecord {
  return { type: "SOA", name: zone, ttlSeconds: seconds(context.settings.negativeTtlMs), data: soaData({ ...context, zone }) };
}

/** The host name that replaces the addresses of a subject without any: that of its best target, or of its entries' metadata. */
export function hostNameInstead(subject: Subject): { readonly host: string; readonly ttlMs: number | undefined } | undefined {
  if (subject.kind !== "entries" || subject.shape === "located") return undefined;
  const best = bestTargets(subject.targets);
  if (best.some((target) => target.address !== undefined)) return undefined;
  const named =
    best.length > 0
      ? best.map(({ entry, target }) => ({ name: target.host, ttlMs: entry.ttlMs }))
      : subject.entries.map(({ metadata, ttlMs }) => ({ name: metadata[CNAME_KEY] ?? "", ttlMs }));
  for (const { name, ttlMs } of named) {
    const host = parseHostName(name);
    if (host !== undefined) return { host, ttlMs };
  }
  return undefined;
}

/** Metadata key for entries without targets: a host name, such as that of an ExternalName service in Kubernetes. */
const CNAME_KEY = "waymark.dns.cname";

/** TTL in seconds for the ttl of an entry, within the configured bounds. */
export function ttlSeconds(ttlMs: number | undefined, settings: DnsSettings): number {
  return seconds(Math.min(Math.max(ttlMs ?? settings.defaultTtlMs, settings.minTtlMs), settings.maxTtlMs));
}

/** The address record of the name of an IP target, for the additional section. */
export function addressRecord(name: string, address: Address, ttl: number): DnsRecord {
  return { type: address.length === 4 ? "A" : "AAAA", name, ttlSeconds: ttl, data: { address } };
}

function addressRecords<T extends "A" | "AAAA">(type: T, sizeBytes: number, subject: Subject, context: RecordContext): RecordOf<T>[][] {
  const { owner, settings } = context;
  if (subject.kind === "address") {
    if (subject.address.length !== sizeBytes) return [];
    return [[{ type, name: owner, ttlSeconds: seconds(settings.maxTtlMs), data: { address: subject.address } }]];
  }
  // `_svc._tcp` names have SRV and TXT; addresses are at the service's own name.
  if (subject.kind !== "entries" || subject.shape === "located") return [];
  const best = bestTargets(subject.targets);
  const unique = new Map<string, Address>();
  for (const { address } of best) {
    if (address?.length === sizeBytes) unique.set(addressLabel(address), address);
  }
  const ttl = setTtlSeconds(best, settings);
  return [[...unique.values()].map((address) => ({ type, name: owner, ttlSeconds: ttl, data: { address } }))];
}

/** The targets of healthy entries; those that may be chosen when no entry is healthy (semantics.md, DNS). */
function bestTargets(targets: readonly SubjectTarget[]): readonly SubjectTarget[] {
  const healthy = targets.filter(({ entry }) => healthOrder(entry.health) === 0);
  return healthy.length > 0 ? healthy : withoutMaintenance(targets);
}

/** The targets of entries that are not in maintenance; all targets when there are no others. */
function withoutMaintenance(targets: readonly SubjectTarget[]): readonly SubjectTarget[] {
  const others = targets.filter(({ entry }) => entry.health !== HEALTH.MAINTENANCE);
  return others.length > 0 ? others : targets;
}

function serviceRecords(subject: Subject, context: RecordContext): RecordOf<"SRV">[][] {
  if (subject.kind !== "entries" || subject.shape !== "located") return [];
  const targets = withoutMaintenance(subject.targets);
  const ttl = setTtlSeconds(targets, context.settings);
  const groups = new Map<number, RecordOf<"SRV">[]>();
  const seen = new Set<string>();
  for (const { entry, target, address } of targets) {
    const { priority, weight, port } = target;
    const name = address === undefined ? parseHostName(target.host) : formatName({ form: "address", address }, context.zone);
    // A host that DNS cannot write is left out, because the rest of the answer is still useful.
    if (name === undefined) continue;
    const data = { priority, weight, port, target: name };
    const identity = `${priority} ${weight} ${port} ${name}`;
    if (seen.has(identity)) continue;
    seen.add(identity);
    const rank = healthOrder(entry.health);
    const group = groups.get(rank) ?? [];
    if (group.length === 0) groups.set(rank, group);
    group.push({ type: "SRV", name: context.owner, ttlSeconds: ttl, data });
  }
  return byHealth([...groups.values()]);
}

/**
 * Gives groups, which come best health first, priorities in that order, because clients go by priority (RFC 2782). The first group keeps
 * the priorities of its targets. Each next group is moved behind the one before it, and keeps its order inside.
 */
function byHealth(groups: readonly RecordOf<"SRV">[][]): RecordOf<"SRV">[][] {
  let free = 0;
  const moved = groups.map((group) => {
    const priorities = group.map(({ data }) => data.priority);
    const by = Math.max(0, free - Math.min(...priorities));
    free = Math.max(...priorities) + by + 1;
    return by === 0 ? group : group.map((record) => withPriority(record, record.data.priority + by));
  });
  return free > HIGHEST_PRIORITY + 1 ? numbered(moved) : moved;
}

/** Numbers the priorities anew from 0, in the same order, when they do not fit into their field. There are fewer targets than numbers. */
function numbered(groups: readonly RecordOf<"SRV">[][]): RecordOf<"SRV">[][] {
  const used = new Set(groups.flat().map(({ data }) => data.priority));
  const numbers = new Map([...used].toSorted((a, b) => a - b).map((priority, i) => [priority, i]));
  return groups.map((group) => group.map((record) => withPriority(record, numbers.get(record.data.priority) ?? HIGHEST_PRIORITY)));
}

const HIGHEST_PRIORITY = 65_535;

function withPriority(record: RecordOf<"SRV">, priority: number): RecordOf<"SRV"> {
  return { ...record, data: { ...record.data, priority } };
}

function textRecords(subject: Subject, context: RecordContext): RecordOf<"TXT">[][] {
  if (subject.kind !== "entries") return [];
  const ttl = Math.min(...subject.entries.map((entry) => ttlSeconds(entry.ttlMs, context.settings)));
  const unique = new Map<string, RecordOf<"TXT">>();
  for (const entry of subject.entries) {
    const strings = entryStrings(entry);
    const identity = strings.join("\0");
    if (!unique.has(identity)) unique.set(identity, { type: "TXT", name: context.owner, ttlSeconds: ttl, data: { strings } });
  }
  return [[...unique.values()]];
}

function apexRecords<T extends "NS" | "SOA">(
  subject: Subject,
  { type, data, context }: { readonly type: T; readonly data: RecordData[T]; readonly context: RecordContext },
): RecordOf<T>[][] {
  if (subject.kind !== "apex") return [];
  return [[{ type, name: context.owner, ttlSeconds: seconds(context.settings.maxTtlMs), data }]];
}

function soaData(context: RecordContext): RecordData["SOA"] {
  return {
    primary: nameServer(context),
    mailbox: `hostmaster.${context.zone}`,
    // Serial arithmetic (RFC 1982) makes the wrap harmless.
    serial: context.revision % 0x1_0000_0000,
    refreshSeconds: 60,
    retrySeconds: 30,
    expireSeconds: 3600,
    minimumSeconds: seconds(context.settings.negativeTtlMs),
  };
}

function nameServer({ zone, settings }: RecordContext): string {
  return nodeName(settings.nodeId, zone) ?? `ns.${zone}`;
}

/** One TTL for the whole set (RFC 2181, 5.2): the shortest of its records. */
function setTtlSeconds(targets: readonly SubjectTarget[], settings: DnsSettings): number {
  return Math.min(...targets.map(({ entry }) => ttlSeconds(entry.ttlMs, settings)));
}

/** Whole seconds, rounded down, so that no answer is kept longer than its entry allows. */
function seconds(ms: number): number {
  return Math.floor(ms / 1000);
}

const MAX_STRING_BYTES = 255;

/** The strings of an entry's TXT record, each at most 255 bytes. Lists are split between items, and empty facts are left out. */
function entryStrings(entry: EntryView): string[] {
  return [
    ...listStrings("namespace", [entry.key.namespace]),
    ...listStrings("scope", [SCOPE_NAMES[entry.scope]]),
    ...listStrings("tags", entry.tags),
    ...listStrings("cluster_id", [entry.key.clusterId]),
    ...listStrings("node_id", [entry.nodeId]),
    ...listStrings("spec_digest", entry.detail.case === "function" ? [entry.detail.value.specDigest] : []),
    ...listStrings("capabilities", entry.capabilities),
  ];
}

/** `key=a,b,c` in as few strings as it takes. An item is at most 128 characters, so one always fits. */
function listStrings(key: string, items: readonly string[]): string[] {
  const strings: string[] = [];
  let parts: string[] = [];
  let length = 0;
  // Joined, because a text that grows by `+=` is stored as all its pieces, at several times its size.
  const finish = (): void => {
    if (parts.length > 0) strings.push(parts.join(","));
    parts = [];
  };
  for (const item of items) {
    if (item === "") continue;
    if (parts.length > 0 && length + 1 + item.length > MAX_STRING_BYTES) finish();
    length = 1 + item.length + (parts.length === 0 ? key.length : length);
    parts.push(parts.length === 0 ? `${key}=${item}` : item);
  }
  finish();
  return strings;
}
