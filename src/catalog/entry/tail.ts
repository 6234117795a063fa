/** The end of an entry's stored bytes: load and times, which change without a change of content. */
import {
  copyLoadReport,
  ENTRY_TAG,
  LOAD_REPORT_MAX_BYTES,
  type LoadReportFields,
  readLoadReport,
  writeLoadReport,
} from "../../../gen/waymark/catalog/v1/entry_codec.ts";
import { misplaced, readTime, timeMs, timeOf, WireReader, writeTimeField, writeVarint } from "../../lib/protowire.ts";
import { HEALTH } from "../record/record.ts";
import type { LoadView } from "./view.ts";

export interface Tail {
  readonly registeredWallMs: number;
  readonly updatedWallMs: number;
  readonly load: LoadView | undefined;
}

/** A time with its tag and length. */
const TIME_BYTES = 24;
/** Of a health with its tag. */
const ORPHANED_BYTES = 4;
/** The largest size of a tail. */
export const MAX_TAIL_BYTES = LOAD_REPORT_MAX_BYTES + 2 * TIME_BYTES;

/** Writes load and times; `out` has `MAX_TAIL_BYTES` after `start`. Returns the offset after it. */
export function writeTail(out: Uint8Array, start: number, { load, registeredWallMs, updatedWallMs }: Tail): number {
  const at = load === undefined ? start : writeLoad(out, start, load);
  return writeTimeField(
    out,
    writeTimeField(out, at, ENTRY_TAG.registeredAt, timeOf(registeredWallMs)),
    ENTRY_TAG.updatedAt,
    timeOf(updatedWallMs),
  );
}

/** Writes an entry's load; needs `LOAD_REPORT_MAX_BYTES`. Returns the offset after it. */
export function writeLoad(out: Uint8Array, start: number, load: LoadView): number {
  return writeLoadReport(out, start, ENTRY_TAG.load, { ...load, observedAt: timeOf(load.observedWallMs) });
}

/** Load as plain values. `receivedWallMs` stands in for a missing time of measurement. */
export function loadViewOf(report: LoadReportFields, receivedWallMs: number): LoadView {
  const { observedAt, ...load } = copyLoadReport(report);
  return { ...load, observedWallMs: observedAt === undefined ? receivedWallMs : timeMs(observedAt) };
}

/**
 * The registration time of a finished entry. `from` is the end of its content. HOT: decoding the whole entry costs ten times as much
 * (bench/codec.ts).
 */
export function readRegisteredMs(sealed: Uint8Array, from: number): number {
  const reader = new WireReader(sealed, from);
  while (!reader.isDone()) {
    const tag = reader.tag();
    if (tag === ENTRY_TAG.registeredAt) return timeMs(readTime(reader));
    reader.skip(tag);
  }
  throw misplaced("no registered_at after the content");
}

/** The ttl that a finished entry advises, in ms; undefined if it has none. HOT: once an entry of a list of services, of which nothing else is decoded. */
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
 * The latency in the load of a finished entry, in ms; 0 if it has none. `from` is the end of its content. HOT: once an entry of a service that is
 * counted for a summary.
 */
export function readLatencyMs(sealed: Uint8Array, from: number): number {
  const reader = new WireReader(sealed, from);
  // `writeTail` puts the load first.
  return !reader.isDone() && reader.tag() === ENTRY_TAG.load ? readLoadReport(reader).latencyMs : 0;
}

/** A stored entry as a view showed it: what it says beside the stored bytes comes after them. */
export interface Shown {
  /** Bytes of the entry as its origin stored it. */
  readonly storedBytes: number;
  /** Whether its origin was away. */
  readonly isOrphaned: boolean;
  /** A report that is newer than the stored one. */
  readonly load: LoadView | undefined;
}

/** The bytes of an entry as a view shows it: what is not in the stored bytes comes after them. `readShown` tells them apart. */
export function shownBytes(stored: Uint8Array, isOrphaned: boolean, load: LoadView | undefined): Uint8Array {
  const out = new Uint8Array(stored.length + ORPHANED_BYTES + (load === undefined ? 0 : LOAD_REPORT_MAX_BYTES));
  out.set(stored);
  let at = stored.length;
  if (isOrphaned) at = writeVarint(out, writeVarint(out, at, ENTRY_TAG.health), HEALTH.ORPHANED);
  if (load !== undefined) at = writeLoad(out, at, load);
  return out.subarray(0, at);
}

/** Tells the stored bytes of an entry from what a view added. Throws `invalid_argument` for bytes that no view can have shown. */
export function readShown(bytes: Uint8Array): Shown {
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
      if (reader.varint() !== HEALTH.ORPHANED) throw misplaced("a health other than ORPHANED after updated_at");
      isOrphaned = true;
    } else if (tag === ENTRY_TAG.load) load = loadViewOf(readLoadReport(reader), updatedWallMs);
    else throw misplaced("a field after updated_at");
  }
  if (storedBytes === 0) throw misplaced("no updated_at");
  return { storedBytes, isOrphaned, load };
}
