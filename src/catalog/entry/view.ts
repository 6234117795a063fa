/** Entries decoded to plain values, for components that need their fields (DNS, selection, listings). */
import {
  copyLoadReport,
  ENTRY_TAG,
  type EntryFields,
  LOAD_REPORT_MAX_BYTES,
  type LoadReportFields,
  newEntry,
  readLoadReport,
  type TargetFields,
  writeLoadReport,
} from "../../../gen/waymark/catalog/v1/entry_codec.ts";
import { protocolOf, type TransportProtocol } from "../../lib/protocols.ts";
import { misplaced, readTime, timeMs, timeOf, WireReader, writeTimeField, writeVarint } from "../../lib/protowire.ts";
import { type EntryKey, HEALTH, type Health } from "../record/record.ts";
import type { Scope } from "./scope.ts";

export type TargetView = TargetFields;

export interface LoadView extends Omit<LoadReportFields, "observedAt"> {
  readonly observedWallMs: number;
}

/** Fields that may be large and that most readers do not need. */
export type LargeFields = Pick<EntryFields, "aliases" | "capabilities" | "detail" | "metadata" | "tags">;

/** The fields of an entry that an answer needs for every instance of a name. The method `read` returns the other fields. */
export interface EntryView extends Pick<EntryFields, "nodeId" | "region" | "targets" | "zone"> {
  readonly key: EntryKey;
  readonly scope: Scope;
  /** How long caches should keep the entry. Undefined if the entry does not recommend a ttl. */
  readonly ttlMs: number | undefined;
  /** The health that readers see: ORPHANED while the origin is unreachable. */
  readonly health: Health;
  readonly load: LoadView | undefined;
  /** Time at which the entry's node last changed any of the entry's fields, by that node's clock. Undefined if it is unknown. */
  readonly updatedWallMs?: number | undefined;
  /**
   * Decodes a large field on each call. For a catalog entry, it must be called in the same turn of the event loop in which the entry was read,
   * because the bytes are not kept.
   */
  readonly read: <F extends keyof LargeFields>(field: F) => LargeFields[F];
}

/** Returns the version of a FUNCTION entry. Empty for a FUNCTION without a version and for other kinds. */
export function versionOf({ detail }: Pick<EntryFields, "detail">): string {
  return detail.case === "function" ? detail.value.version : "";
}

/** Returns an entry built from targets. It is used to answer a query for a name that has no entry in the catalog. */
export function viewOfPlaces(
  targets: readonly TargetView[],
  facts: Pick<EntryView, "health" | "key" | "region" | "scope" | "ttlMs">,
): EntryView {
  return { nodeId: "", zone: "", ...facts, load: undefined, targets, read: (field) => newEntry()[field] };
}

// The words that make an entry searchable by transport and port. They are computed once, when the entry arrives, so that queries need not decode the
// entry.

/** The leading space distinguishes these words from any name. */
const TRANSPORT_WORDS = { tcp: " tcp", udp: " udp", sctp: " sctp" } as const satisfies Record<TransportProtocol, string>;

export const TRANSPORTS: readonly TransportProtocol[] = ["tcp", "udp", "sctp"];

/** The words for an entry whose targets are unnamed, have ports and use TCP, as most entries do. */
export const PLAIN_PORTS: readonly string[] = [TRANSPORT_WORDS.tcp];
/** The words for an entry without targets. DNS lists the TXT records of such an entry under TCP; the second word is never used in a query. */
export const NO_PORTS: readonly string[] = [TRANSPORT_WORDS.tcp, " none"];

/** The word for an entry that has a target without a port. */
const NO_PORT_WORD = " -";

const LOWER_CASE_BIT = 0x20;
const SMALL_S = 0x73;
const SMALL_U = 0x75;

export function transportOf({ protocol }: Pick<TargetView, "protocol">): TransportProtocol {
  // HOT: makes a lower-case copy only if the protocol begins with u or s (bench/codec.ts).
  const first = protocol.charCodeAt(0) | LOWER_CASE_BIT;
  if (first !== SMALL_S && first !== SMALL_U) return "tcp";
  return protocolOf(protocol).transport;
}

/** Returns the word for a named port or a transport. */
export function portWord(transport: TransportProtocol, port?: string): string {
  if (port === undefined) return TRANSPORT_WORDS[transport];
  // HOT: most ports use TCP, and returning the name unchanged costs nothing (bench/codec.ts).
  return transport === "tcp" ? port : `${port} ${transport}`;
}

/** Whether the target has a port. */
export function hasPort({ port }: { readonly port: number }): boolean {
  return port !== 0;
}

/** Returns the words for the transports and named ports of an entry's targets. Port names are unique within an entry. */
export function portWords(targets: readonly Pick<TargetView, "name" | "port" | "protocol">[]): readonly string[] {
  if (targets.length === 0) return NO_PORTS;
  if (targets.every((target) => target.name === "" && hasPort(target) && transportOf(target) === "tcp")) return PLAIN_PORTS;
  const words: string[] = [];
  for (const target of targets) {
    const transport = transportOf(target);
    if (!words.includes(TRANSPORT_WORDS[transport])) words.unshift(TRANSPORT_WORDS[transport]);
    if (target.name !== "") words.push(portWord(transport, target.name));
    if (!hasPort(target) && !words.includes(NO_PORT_WORD)) words.push(NO_PORT_WORD);
  }
  return words;
}

// The tail of an entry's stored bytes: load and times, which can change while the content stays the same.

export interface EntryTail {
  readonly registeredWallMs: number;
  readonly updatedWallMs: number;
  readonly load: LoadView | undefined;
}

/** Size of a time with its tag and length prefix. */
const TIME_BYTES = 24;
/** Size of a health value with its tag. */
const ORPHANED_BYTES = 4;
/** Maximum size of a tail in bytes. */
export const MAX_TAIL_BYTES = LOAD_REPORT_MAX_BYTES + 2 * TIME_BYTES;

/** Writes the load and times. `out` must have room for `MAX_TAIL_BYTES` after `start`. Returns the offset after the written bytes. */
export function writeTail(out: Uint8Array, start: number, { load, registeredWallMs, updatedWallMs }: EntryTail): number {
  const at = load === undefined ? start : writeLoad(out, start, load);
  return writeTimeField(
    out,
    writeTimeField(out, at, ENTRY_TAG.registeredAt, timeOf(registeredWallMs)),
    ENTRY_TAG.updatedAt,
    timeOf(updatedWallMs),
  );
}

/** Writes an entry's load. `out` must have room for `LOAD_REPORT_MAX_BYTES` after `start`. Returns the offset after the written bytes. */
export function writeLoad(out: Uint8Array, start: number, load: LoadView): number {
  return writeLoadReport(out, start, ENTRY_TAG.load, { ...load, observedAt: timeOf(load.observedWallMs) });
}

/** Returns the load as plain values. `receivedWallMs` is used if the load contains no time of measurement. */
export function loadViewOf(report: LoadReportFields, receivedWallMs: number): LoadView {
  const { observedAt, ...load } = copyLoadReport(report);
  return { ...load, observedWallMs: observedAt === undefined ? receivedWallMs : timeMs(observedAt) };
}

/**
 * Returns the time at which a finished entry was registered. `from` is the offset at which its content ends. HOT: decoding the whole entry would cost
 * ten times as much (bench/codec.ts).
 */
export function readRegisteredMs(sealed: Uint8Array, from: number): number {
  const reader = new WireReader(sealed, from);
  while (!reader.isDone()) {
    const tag = reader.tag();
    if (tag === ENTRY_TAG.registeredAt) return timeMs(readTime(reader));
    reader.skip(tag);
  }
  throw misplaced("registered_at is missing after the content");
}

/**
 * Returns the ttl that a finished entry recommends to caches, in ms. Undefined if it recommends no ttl. HOT: runs for each entry in a list of
 * services, and decodes only this field.
 */
export function readTtlMs(sealed: Uint8Array): number | undefined {
  const reader = new WireReader(sealed);
  let ttlMs: number | undefined;
  while (!reader.isDone()) {
    const tag = reader.tag();
    if (tag === ENTRY_TAG.ttl) ttlMs = timeMs(readTime(reader));
    else reader.skip(tag);
  }
  return ttlMs;
}

/**
 * Returns the latency in a finished entry's load, in ms; 0 if there is none. `from` is the offset at which its content ends. HOT: runs for each entry
 * that is counted for a service summary.
 */
export function readLatencyMs(sealed: Uint8Array, from: number): number {
  const reader = new WireReader(sealed, from);
  // `writeTail` writes the load before the times.
  return !reader.isDone() && reader.tag() === ENTRY_TAG.load ? readLoadReport(reader).latencyMs : 0;
}

/** The parts of an entry that `shownBytes` encodes: the stored bytes, and the fields that a view has appended. */
interface StoredView {
  /** The bytes of the entry as its origin stored them. */
  readonly storedBytes: number;
  /** Whether the entry's origin was unreachable. */
  readonly isOrphaned: boolean;
  /** A load report that is newer than the one in the stored bytes. */
  readonly load: LoadView | undefined;
}

/**
 * Returns the bytes of an entry as readers see it: the stored bytes, followed by the view's own fields. `readShown` separates the two again.
 */
export function shownBytes(stored: Uint8Array, isOrphaned: boolean, load: LoadView | undefined): Uint8Array {
  const out = new Uint8Array(stored.length + ORPHANED_BYTES + (load === undefined ? 0 : LOAD_REPORT_MAX_BYTES));
  out.set(stored);
  let at = stored.length;
  if (isOrphaned) at = writeVarint(out, writeVarint(out, at, ENTRY_TAG.health), HEALTH.ORPHANED);
  if (load !== undefined) at = writeLoad(out, at, load);
  return out.subarray(0, at);
}

/**
 * Separates an entry's stored bytes from the fields that a view appended. Throws `invalid_argument` for bytes that cannot come from a view.
 */
export function readShown(bytes: Uint8Array): StoredView {
  const reader = new WireReader(bytes);
  let [storedBytes, updatedWallMs, isOrphaned] = [0, 0, false];
  let load: LoadView | undefined;
  while (!reader.isDone()) {
    const tag = reader.tag();
    if (storedBytes === 0) {
      if (tag === ENTRY_TAG.updatedAt) {
        updatedWallMs = timeMs(readTime(reader));
        storedBytes = reader.at;
      } else reader.skip(tag);
    } else if (tag === ENTRY_TAG.health) {
      if (reader.varint() !== HEALTH.ORPHANED) throw misplaced("a health value other than ORPHANED follows updated_at");
      isOrphaned = true;
    } else if (tag === ENTRY_TAG.load) load = loadViewOf(readLoadReport(reader), updatedWallMs);
    else throw misplaced("a field other than health and load follows updated_at");
  }
  if (storedBytes === 0) throw misplaced("updated_at is missing");
  return { storedBytes, isOrphaned, load };
}
