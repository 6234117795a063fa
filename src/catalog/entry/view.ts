/** A decoded entry as plain values, for components that need its fields (DNS, selection, listings). */
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

/** Fields that may be large and that few readers need. */
export type LargeFields = Pick<EntryFields, "aliases" | "capabilities" | "detail" | "metadata" | "tags">;

/** The fields of an entry that answers need from every instance of a name. `read` returns the other fields. */
export interface EntryView extends Pick<EntryFields, "nodeId" | "region" | "targets" | "zone"> {
  readonly key: EntryKey;
  readonly scope: Scope;
  /** Recommended ttl for caches. Undefined if the entry has none. */
  readonly ttlMs: number | undefined;
  /** The health that readers see: ORPHANED while the origin is unreachable. */
  readonly health: Health;
  readonly load: LoadView | undefined;
  /** Time at which the entry's node last changed any of its fields, by that node's clock. Undefined if it is unknown. */
  readonly updatedWallMs?: number | undefined;
  /**
   * Decodes a large field on each call. For an entry of the catalog, it must be called in the same turn of the event loop in which the
   * entry was read, because the bytes are not kept.
   */
  readonly read: <F extends keyof LargeFields>(field: F) => LargeFields[F];
}

/** Returns the version of a FUNCTION. Empty without a version and for other kinds. */
export function versionOf({ detail }: Pick<EntryFields, "detail">): string {
  return detail.case === "function" ? detail.value.version : "";
}

/** Returns an entry built from targets, for an answer about a name that has no entry in the catalog. */
export function viewOfPlaces(
  targets: readonly TargetView[],
  facts: Pick<EntryView, "health" | "key" | "region" | "scope" | "ttlMs">,
): EntryView {
  return { nodeId: "", zone: "", ...facts, load: undefined, targets, read: (field) => newEntry()[field] };
}

// The words by which an entry is found by transport and port. They are computed once, when the entry arrives, so that a query need not
// decode the entry.

/** The leading space distinguishes these words from any name. */
const TRANSPORT_WORDS = { tcp: " tcp", udp: " udp", sctp: " sctp" } as const satisfies Record<TransportProtocol, string>;

export const TRANSPORTS: readonly TransportProtocol[] = ["tcp", "udp", "sctp"];

/** The words of an entry whose targets are unnamed, have ports and use TCP, which is true for most entries. */
export const PLAIN_PORTS: readonly string[] = [TRANSPORT_WORDS.tcp];
/** The words of an entry without targets. DNS lists its TXT records under TCP, and no query uses the second word. */
export const NO_PORTS: readonly string[] = [TRANSPORT_WORDS.tcp, " none"];

/** The word for an entry with a target that has no port. */
const NO_PORT_WORD = " -";

const LOWER_CASE_BIT = 0x20;
const SMALL_S = 0x73;
const SMALL_U = 0x75;

export function transportOf({ protocol }: Pick<TargetView, "protocol">): TransportProtocol {
  // HOT: avoids a lower-case copy unless the protocol begins with u or s (bench/codec.ts).
  const first = protocol.charCodeAt(0) | LOWER_CASE_BIT;
  if (first !== SMALL_S && first !== SMALL_U) return "tcp";
  return protocolOf(protocol).transport;
}

/** Returns the word for a named port, or for a transport. */
export function portWord(transport: TransportProtocol, port?: string): string {
  if (port === undefined) return TRANSPORT_WORDS[transport];
  // HOT: most ports use TCP, and an unchanged name costs nothing (bench/codec.ts).
  return transport === "tcp" ? port : `${port} ${transport}`;
}

/** Whether this target has a port. */
export function hasPort({ port }: { readonly port: number }): boolean {
  return port !== 0;
}

/** Returns the words of the targets' transports and named ports. Port names are unique in an entry. */
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

// The end of an entry's stored bytes: load and times, which change without a change of content.

export interface EntryTail {
  readonly registeredWallMs: number;
  readonly updatedWallMs: number;
  readonly load: LoadView | undefined;
}

/** Size of a time with its tag and length. */
const TIME_BYTES = 24;
/** Size of a health with its tag. */
const ORPHANED_BYTES = 4;
/** Maximum size of a tail. */
export const MAX_TAIL_BYTES = LOAD_REPORT_MAX_BYTES + 2 * TIME_BYTES;

/** Writes load and times. `out` must have `MAX_TAIL_BYTES` after `start`. Returns the offset after the written bytes. */
export function writeTail(out: Uint8Array, start: number, { load, registeredWallMs, updatedWallMs }: EntryTail): number {
  const at = load === undefined ? start : writeLoad(out, start, load);
  return writeTimeField(
    out,
    writeTimeField(out, at, ENTRY_TAG.registeredAt, timeOf(registeredWallMs)),
    ENTRY_TAG.updatedAt,
    timeOf(updatedWallMs),
  );
}

/** Writes an entry's load. `out` must have `LOAD_REPORT_MAX_BYTES` after `start`. Returns the offset after the written bytes. */
export function writeLoad(out: Uint8Array, start: number, load: LoadView): number {
  return writeLoadReport(out, start, ENTRY_TAG.load, { ...load, observedAt: timeOf(load.observedWallMs) });
}

/** Returns load as plain values. `receivedWallMs` is used if the time of measurement is missing. */
export function loadViewOf(report: LoadReportFields, receivedWallMs: number): LoadView {
  const { observedAt, ...load } = copyLoadReport(report);
  return { ...load, observedWallMs: observedAt === undefined ? receivedWallMs : timeMs(observedAt) };
}

/**
 * Returns the registration time of a finished entry. `from` is the end of its content. HOT: decoding the whole entry costs ten times as
 * much (bench/codec.ts).
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
 * Returns the recommended ttl of a finished entry, in ms. Undefined if it has none. HOT: runs for each entry of a list of services, and
 * decodes only this field.
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
 * Returns the latency in the load of a finished entry, in ms; 0 if it has none. `from` is the end of its content. HOT: runs for each
 * entry of a service that is counted for a summary.
 */
export function readLatencyMs(sealed: Uint8Array, from: number): number {
  const reader = new WireReader(sealed, from);
  // `writeTail` writes the load first.
  return !reader.isDone() && reader.tag() === ENTRY_TAG.load ? readLoadReport(reader).latencyMs : 0;
}

/** The parts of an entry in the form of `shownBytes`: the stored bytes, and the fields that a view has appended. */
interface StoredView {
  /** Bytes of the entry as its origin stored it. */
  readonly storedBytes: number;
  /** Whether the entry's origin was unreachable. */
  readonly isOrphaned: boolean;
  /** A load report that is newer than the stored report. */
  readonly load: LoadView | undefined;
}

/**
 * Returns the bytes of an entry as a view shows it: fields that are not in the stored bytes are appended. `readShown` separates them
 * again.
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
 * Separates the stored bytes of an entry from the fields that a view appended. Throws `invalid_argument` for bytes that no view can have
 * made.
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
      if (reader.varint() !== HEALTH.ORPHANED) throw misplaced("a health other than ORPHANED follows updated_at");
      isOrphaned = true;
    } else if (tag === ENTRY_TAG.load) load = loadViewOf(readLoadReport(reader), updatedWallMs);
    else throw misplaced("a field other than health and load follows updated_at");
  }
  if (storedBytes === 0) throw misplaced("updated_at is missing");
  return { storedBytes, isOrphaned, load };
}
