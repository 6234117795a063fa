/**
 * The text form of cursors, which represent positions of readers (semantics.md, Watch 3). A short cursor contains its holder and a revision, and uses
 * only a few bytes in each message. A portable cursor contains a version vector with each origin's state, and is valid on every node of the cluster.
 */

import { decodeBase64url, sha256 } from "../../lib/crypto.ts";
import { invalid } from "../../lib/errors.ts";
import { fnv64, type Hash64 } from "../../lib/hash64.ts";
import { tagOf, WIRE, WireReader, writeText, writeVarint } from "../../lib/protowire.ts";
import type { OriginStatus } from "../record/record.ts";

export interface ShortCursor {
  readonly kind: "short";
  /** The result of `shortHolder` for this process and the reader. */
  readonly holder: string;
  readonly revision: number;
  /** The reader has received every key's changes up to this revision. Within a batch of messages, this number is below `revision`. */
  readonly settled: number;
}

export interface CursorOrigin {
  readonly nodeId: string;
  readonly generation: number;
  /** The reader has received, up to this seq, all records that its server had from the origin. */
  readonly seq: number;
  /** The reader has received all of the origin's changes up to this seq. Absent if it equals `seq` (`IncompleteRange`). */
  readonly settled?: number;
  readonly life: OriginStatus;
}

export interface PortableCursor {
  readonly kind: "portable";
  readonly clusterId: string;
  /** Identifies the filter, the viewer class and the options that determine which entries a reader has. */
  readonly readerHash: string;
  readonly policyEpoch: string;
  /**
   * The origin that wrote the LOCAL entries that the reader may have. Absent if this origin has no LOCAL entries for the reader. Other nodes do not
   * have these entries, although version vectors cover them. A resolver's cursor identifies its node differently (`resolverPlace`).
   */
  readonly local?: string;
  readonly origins: readonly CursorOrigin[];
}

export type WatchCursor = ShortCursor | PortableCursor;

const [AT, WITHOUT] = ["at ", "without "];

/**
 * Returns the source of a resolver's cursor, for the `local` field. A resolver's cursor includes neither the LOCAL entries of that origin nor the
 * records that these entries hide there; `hides` is true if there are any in the resolver's namespaces. If the resolver's list of namespaces changes,
 * it can continue on the same node, regardless of the node's LOCAL entries.
 */
export function resolverPlace(originId: string, hides: boolean): string {
  return `${hides ? WITHOUT : AT}${originId}`;
}

/** Whether a reader has the same state at a cursor from either of two sources. */
export function isSamePlace(one: string | undefined, other: string | undefined): boolean {
  return one === other || (isBare(one) && isBare(other)) || (isOfResolver(one) && isOfResolver(other) && originOf(one) === originOf(other));
}

/** Returns the same cursor, but without its source if that source hides no records. */
export function withoutBarePlace(cursor: PortableCursor): PortableCursor {
  const { kind, clusterId, readerHash, policyEpoch, origins } = cursor;
  return isBare(cursor.local) ? { kind, clusterId, readerHash, policyEpoch, origins } : cursor;
}

/** Whether the source has no LOCAL entries for the reader. */
function isBare(local: string | undefined): boolean {
  return local === undefined || local.startsWith(AT);
}

function isOfResolver(local: string | undefined): local is string {
  return local !== undefined && (local.startsWith(AT) || local.startsWith(WITHOUT));
}

function originOf(local: string): string {
  return local.slice(local.indexOf(" ") + 1);
}

const LIVES: readonly OriginStatus[] = ["live", "orphaned", "hidden"];
const CHECK_BYTES = 4;
/** Maximum number of origins in a portable cursor. This service never issues a cursor with more origins. */
const MAX_ORIGINS = 10_000;
const FIELD = { CLUSTER: 1, READER: 2, POLICY: 3, NODE: 4, GENERATION: 5, SEQ: 6, LIFE: 7, SETTLED: 8, LOCAL: 9 } as const;

/**
 * Returns the holder of a short cursor: this process, and a reader (`ReaderOptions.hash`). Without a reader, the cursor only shows how recent an
 * answer is.
 */
export function shortHolder(boot: string, readerHash?: string): string {
  return readerHash === undefined ? boot : `${boot}-${readerHash}`;
}

/** The encoded short cursors of one process, or of one holder. HOT: runs for each query, and for each message and filter (bench/watch.ts). */
export class ShortCursorTexts {
  readonly #head: string;
  readonly #headHash: Hash64;

  constructor(holder: string) {
    this.#head = `s2.${holder}`;
    this.#headHash = fnv64(this.#head);
  }

  /** Returns a cursor of this holder. If the holder is only the process, `readerHash` adds a reader, as in `shortHolder`. */
  at(revision: number, settled = revision, readerHash?: string): string {
    const place = settled === revision ? revision.toString(36) : `${revision.toString(36)}-${settled.toString(36)}`;
    const rest = readerHash === undefined ? `.${place}` : `-${readerHash}.${place}`;
    return `${this.#head}${rest}.${checkText(fnv64(rest, this.#headHash))}`;
  }
}

export function shortCursorText(holder: string, revision: number, settled = revision): string {
  return new ShortCursorTexts(holder).at(revision, settled);
}

export function portableCursorText(cursor: Omit<PortableCursor, "kind">): string {
  let size = 64 + 3 * (cursor.clusterId.length + cursor.readerHash.length + cursor.policyEpoch.length + (cursor.local?.length ?? 0));
  for (const origin of cursor.origins) size += 50 + origin.nodeId.length;
  const bytes = new Uint8Array(size + CHECK_BYTES);
  let at = writeString(bytes, 0, FIELD.CLUSTER, cursor.clusterId);
  at = writeString(bytes, at, FIELD.READER, cursor.readerHash);
  at = writeString(bytes, at, FIELD.POLICY, cursor.policyEpoch);
  if (cursor.local !== undefined) at = writeString(bytes, at, FIELD.LOCAL, cursor.local);
  for (const origin of cursor.origins) {
    at = writeString(bytes, at, FIELD.NODE, origin.nodeId);
    at = writeNumber(bytes, at, FIELD.GENERATION, origin.generation);
    at = writeNumber(bytes, at, FIELD.SEQ, origin.seq);
    at = writeNumber(bytes, at, FIELD.LIFE, LIVES.indexOf(origin.life));
    if (origin.settled !== undefined) at = writeNumber(bytes, at, FIELD.SETTLED, origin.settled);
  }
  bytes.set(sha256(bytes.subarray(0, at)).subarray(0, CHECK_BYTES), at);
  return `p1.${Buffer.from(bytes.buffer, 0, at + CHECK_BYTES).toString("base64url")}`;
}

/**
 * Parses a cursor. Throws `invalid_argument` for a string that is not a cursor of this service because it is forged, truncated or in an unknown
 * format.
 */
export function parseCursor(text: string): WatchCursor {
  if (text.startsWith("s2.")) return parseShort(text);
  if (text.startsWith("p1.")) return parsePortable(text);
  throw malformed();
}

function parseShort(text: string): ShortCursor {
  const parts = /^(s2\.([A-Za-z0-9_-]{1,64})\.([0-9a-z]{1,11})(?:-([0-9a-z]{1,11}))?)\.([0-9a-z]+)$/.exec(text);
  const [, body, holder, place, below, check] = parts ?? [];
  if (body === undefined || holder === undefined || place === undefined || check !== checkText(fnv64(body))) throw malformed();
  const revision = Number.parseInt(place, 36);
  return { kind: "short", holder, revision, settled: below === undefined ? revision : Number.parseInt(below, 36) };
}

function parsePortable(text: string): PortableCursor {
  const bytes = decodeBase64url(text.slice(3));
  if (bytes === undefined || bytes.length <= CHECK_BYTES) throw malformed();
  const body = bytes.subarray(0, -CHECK_BYTES);
  if (
    !sha256(body)
      .subarray(0, CHECK_BYTES)
      .every((byte, i) => byte === bytes[body.length + i])
  )
    throw malformed();
  try {
    return readPortable(body);
  } catch {
    // The checksum is correct, so another program created this string. It does not matter which error is reported.
    throw malformed();
  }
}

function readPortable(body: Uint8Array): PortableCursor {
  const reader = new WireReader(body);
  let [clusterId, readerHash, policyEpoch, local] = ["", "", "", ""];
  const origins: { nodeId: string; generation: number; seq: number; settled?: number; life: OriginStatus }[] = [];
  while (!reader.isDone()) {
    const field = Math.floor(reader.tag() / 8);
    const origin = origins.at(-1);
    switch (field) {
      case FIELD.CLUSTER:
        clusterId = reader.text();
        break;
      case FIELD.READER:
        readerHash = reader.text();
        break;
      case FIELD.POLICY:
        policyEpoch = reader.text();
        break;
      case FIELD.LOCAL:
        local = reader.text();
        break;
      case FIELD.NODE:
        if (origins.length >= MAX_ORIGINS) throw malformed();
        origins.push({ nodeId: reader.text(), generation: 0, seq: 0, life: "live" });
        break;
      default: {
        const value = reader.varint();
        if (origin === undefined) throw malformed();
        if (field === FIELD.GENERATION) origin.generation = value;
        else if (field === FIELD.SEQ) origin.seq = value;
        else if (field === FIELD.LIFE) origin.life = LIVES[value] ?? "live";
        else if (field === FIELD.SETTLED) origin.settled = value;
        else throw malformed();
      }
    }
  }
  return { kind: "portable", clusterId, readerHash, policyEpoch, ...(local !== "" && { local }), origins };
}

function malformed(): Error {
  return invalid("cursor", "is not a cursor that this service issued; omit it to start with a snapshot");
}

/**
 * The hash detects mistakes, but not forgeries. The hash of the whole string continues from the hash of its beginning, so each holder is hashed only
 * once.
 */
function checkText({ low }: Hash64): string {
  return (low & 0xffff).toString(36);
}

function writeString(out: Uint8Array, at: number, field: number, text: string): number {
  return writeText(out, writeVarint(out, at, tagOf(field, WIRE.BYTES)), text);
}

function writeNumber(out: Uint8Array, at: number, field: number, value: number): number {
  return writeVarint(out, writeVarint(out, at, tagOf(field, WIRE.VARINT)), value);
}
