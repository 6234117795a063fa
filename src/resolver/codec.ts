/**
 * Decodes upstream messages: watches, fetched pages and policies. Entries are stored without decoding them. In `src/resolver`, only this file and
 * `disk/codec.ts` import generated code.
 */
import { fromBinary } from "@bufbuild/protobuf";
import {
  DISCOVERY_DELTA_TAG as DELTA,
  CATALOG_QUERY_RESPONSE_TAG as QUERY,
  UNREACHABLE_NODES_TAG as UNREACHABLE,
  CATALOG_WATCH_RESPONSE_TAG as WATCH,
} from "../../gen/waymark/discovery/v1/discovery_tags.ts";
import { HEARD_CLUSTER_TAG as HEARD, SUMMARY_WATCH_RESPONSE_TAG as SUMMARIES } from "../../gen/waymark/discovery/v1/summary_tags.ts";
import { type PolicyPlace, type WatchPolicyResponse, WatchPolicyResponseSchema } from "../../gen/waymark/policy/v1/policy_pb.js";
import { isName, PROTOCOL_BOUNDS } from "../catalog/entry/names.ts";
import { isSeq, readStampedKey } from "../catalog/record/codec.ts";
import { type EntryKey, type KeyText, keyText } from "../catalog/record/record.ts";
import { joinUnreachable, MAX_UNREACHABLE_IDS, type UnreachableNodes } from "../catalog/unreachable-nodes.ts";
import { CAUSE, type ChangeCause } from "../catalog/watch/change-cause.ts";
import { type PortableCursor, parseCursor } from "../catalog/watch/cursor.ts";
import { ACTION, SNAPSHOT, type SnapshotPhase } from "../catalog/watch/reader.ts";
import { misplaced, readTime, timeMs, WireReader } from "../lib/protowire.ts";
import type { VersionPlace } from "../policy/versions/version.ts";
import type { SourceAge } from "../summary/held/options.ts";
import { MAX_VERSION } from "../summary/summary.ts";

/** A page of a query response. */
export interface FetchedPage {
  /** Encoded entries, as the server sent them. */
  readonly entries: readonly Uint8Array[];
  /** Empty in the last page. */
  readonly nextPageToken: string;
  readonly ageMs: number;
  /** Whether the server marked its answer as stale. */
  readonly isStale: boolean;
  /** Nodes that are excluded from the age, as reported by the server. Defaults to none. */
  readonly unreachable?: UnreachableNodes | undefined;
  readonly policyEpoch: string;
  readonly via: readonly string[];
}

/** A part of an encoded policy version. */
export interface PolicyPart {
  readonly place: VersionPlace;
  readonly offset: number;
  readonly bytes: Uint8Array;
  readonly sizeBytes: number;
}

/** The upstream's policy state. The upstream has already sent all policy versions referenced in this message. */
export interface PolicyState {
  /** Newest first. */
  readonly versions: readonly VersionPlace[];
  readonly policyEpoch: string;
}

export interface PolicyMessage {
  readonly part: PolicyPart | undefined;
  readonly state: PolicyState | undefined;
}

/** One change: an entry to store or a key to remove. */
export interface WatchDelta {
  /** The source node, and the sequence number of the change on that node. */
  readonly nodeId: string;
  readonly generation: number;
  readonly seq: number;
  readonly change: { readonly entry: Uint8Array } | { readonly key: EntryKey; readonly text: KeyText; readonly cause: ChangeCause };
}

export interface UpstreamWatchMessage {
  readonly deltas: readonly WatchDelta[];
  readonly snapshot: SnapshotPhase;
  readonly replaces: readonly string[];
  /** The portable cursor in encoded and decoded form. Undefined when the watch cannot resume after this message. */
  readonly place: { readonly text: string; readonly cursor: PortableCursor } | undefined;
  /** Age of the data as reported by the server, in ms. Undefined when the message does not contain an age. */
  readonly ageMs: number | undefined;
  /** Whether the server marked its data stale. Set only in messages that contain an age. */
  readonly isStale: boolean;
  /** Nodes that are excluded from the age. Set only in messages that contain an age. Defaults to none. */
  readonly unreachable?: UnreachableNodes | undefined;
  readonly servedBy: string;
  readonly policyEpoch: string;
  readonly via: readonly string[];
  readonly digest: { readonly count: number; readonly digest: bigint } | undefined;
}

/** A message of a watch of summaries. The entries are signed records. */
export interface SummaryMessage extends UpstreamWatchMessage {
  /** When data from each source cluster last arrived. Set only in messages that contain an age. */
  readonly heard: readonly SourceAge[];
}

/** Maximum number of source clusters in a message. A node accepts summaries from at most this many clusters. */
const MAX_HEARD = 256;
const MAX_NODE_ID = 64;
/** Maximum length of an epoch. While one epoch replaces another, the value may contain both, with a separator. */
const MAX_EPOCH_CHARS = 100;

/** Decodes a message of a watch. Throws `invalid_argument` for malformed bytes. */
export function readWatchMessage(bytes: Uint8Array): UpstreamWatchMessage {
  return readMessage(bytes, DELTA.entry);
}

/** Decodes a message of a watch of summaries. Throws `invalid_argument` for malformed bytes. */
export function readSummaryMessage(bytes: Uint8Array): SummaryMessage {
  return readMessage(bytes, DELTA.sealedRecord);
}

/** `payload` is the tag of the delta field with the entry to store. The two kinds of watch messages share most field numbers. */
function readMessage(bytes: Uint8Array, payload: number): SummaryMessage {
  const heard: SourceAge[] = [];
  const reader = new WireReader(bytes);
  const deltas: WatchDelta[] = [];
  const replaces: string[] = [];
  const via: string[] = [];
  const fields = { portable: "", snapshot: 0, servedBy: "", policyEpoch: "", count: 0, stale: 0 };
  let ageMs: number | undefined;
  let digest: bigint | undefined;
  let unreachable: UnreachableNodes | undefined;
  while (!reader.isDone()) {
    const tag = reader.tag();
    if (tag === WATCH.deltas) deltas.push(readDelta(reader, payload));
    else if (tag === WATCH.portableCursor) fields.portable = reader.text();
    else if (tag === WATCH.snapshot) fields.snapshot = reader.varint();
    else if (tag === WATCH.replaces) replaces.push(reader.text());
    else if (tag === WATCH.count) fields.count = reader.varint();
    else if (tag === WATCH.digest) digest = reader.fixed64();
    else if (tag === WATCH.servedBy) fields.servedBy = reader.text();
    else if (tag === WATCH.stale) fields.stale = reader.varint();
    else if (tag === WATCH.age) ageMs = timeMs(readTime(reader));
    else if (tag === WATCH.unreachableNodes) unreachable = joinUnreachable(unreachable, readUnreachable(reader));
    else if (tag === WATCH.policyEpoch) fields.policyEpoch = epochIn(reader);
    else if (tag === WATCH.via) via.push(reader.text());
    else if (tag === SUMMARIES.heard && payload === DELTA.sealedRecord) heard.push(readHeard(reader));
    else reader.skip(tag);
  }
  if (heard.length > MAX_HEARD) throw misplaced(`more than ${MAX_HEARD} source clusters`);
  const { portable, servedBy, policyEpoch, count } = fields;
  return {
    deltas,
    snapshot: snapshotOf(fields.snapshot),
    replaces,
    place: portable === "" ? undefined : placeOf(portable),
    ageMs,
    isStale: fields.stale !== 0,
    unreachable,
    servedBy,
    policyEpoch,
    via,
    digest: digest === undefined ? undefined : { count, digest },
    heard,
  };
}

/** Decodes a page of a query. The entries are views into `bytes`. Throws `invalid_argument` for malformed bytes. */
export function readFetchedPage(bytes: Uint8Array): FetchedPage {
  const reader = new WireReader(bytes);
  const entries: Uint8Array[] = [];
  const via: string[] = [];
  let [nextPageToken, policyEpoch, ageMs, stale] = ["", "", 0, 0];
  let unreachable: UnreachableNodes | undefined;
  while (!reader.isDone()) {
    const tag = reader.tag();
    if (tag === QUERY.items) entries.push(reader.view());
    else if (tag === QUERY.nextPageToken) nextPageToken = reader.text();
    else if (tag === QUERY.stale) stale = reader.varint();
    else if (tag === QUERY.age) ageMs = timeMs(readTime(reader));
    else if (tag === QUERY.unreachableNodes) unreachable = joinUnreachable(unreachable, readUnreachable(reader));
    else if (tag === QUERY.policyEpoch) policyEpoch = epochIn(reader);
    else if (tag === QUERY.via) via.push(reader.text());
    else reader.skip(tag);
  }
  return { entries, nextPageToken, ageMs, isStale: stale !== 0, unreachable, policyEpoch, via };
}

function epochIn(reader: WireReader): string {
  return epochOf(reader.text());
}

/** Accepts an epoch that starts with a version number or has no number. Epochs in other forms come from newer servers. */
function epochOf(text: string): string {
  const [number = "0"] = /^\d+/.exec(text) ?? [];
  if (text.length > MAX_EPOCH_CHARS || !Number.isSafeInteger(Number(number)))
    throw misplaced(`invalid policy epoch ${JSON.stringify(text.slice(0, 100))}`);
  return text;
}

function placeOf(text: string): UpstreamWatchMessage["place"] {
  const cursor = parseCursor(text);
  if (cursor.kind !== "portable") throw misplaced("portable_cursor is not a portable cursor");
  return { text, cursor };
}

function snapshotOf(value: number): SnapshotPhase {
  const known = Object.values(SNAPSHOT).find((one) => one === value);
  if (known === undefined) throw misplaced(`unknown snapshot phase ${value}`);
  return known;
}

/** Maps unknown causes from newer servers to `NONE`. */
function causeOf(value: number): ChangeCause {
  return Object.values(CAUSE).find((one) => one === value) ?? CAUSE.NONE;
}

function readHeard(reader: WireReader): SourceAge {
  const outer = reader.enter();
  let [source, version, ageMs] = ["", 0, 0];
  while (!reader.isDone()) {
    const tag = reader.tag();
    if (tag === HEARD.sourceCluster) source = reader.text();
    else if (tag === HEARD.version) version = reader.varint();
    else if (tag === HEARD.age) ageMs = timeMs(readTime(reader));
    else reader.skip(tag);
  }
  reader.leave(outer);
  if (!isName(source, PROTOCOL_BOUNDS.maxIdLength) || version > MAX_VERSION)
    throw misplaced("a summary age has an invalid source cluster or version");
  return { source, version, ageMs };
}

function readUnreachable(reader: WireReader): UnreachableNodes {
  const outer = reader.enter();
  const nodeIds: string[] = [];
  let count = 0;
  while (!reader.isDone()) {
    const tag = reader.tag();
    if (tag === UNREACHABLE.nodeIds) nodeIds.push(reader.text());
    else if (tag === UNREACHABLE.count) count = reader.varint();
    else reader.skip(tag);
  }
  reader.leave(outer);
  const isOdd =
    nodeIds.length > MAX_UNREACHABLE_IDS || nodeIds.length > count || nodeIds.some((id) => !isName(id, PROTOCOL_BOUNDS.maxIdLength));
  if (isOdd) throw misplaced("invalid unreachable_nodes");
  return { nodeIds, count };
}

function readDelta(reader: WireReader, payload: number): WatchDelta {
  const outer = reader.enter();
  let [id, action, cause] = ["", 0, 0];
  let entry: Uint8Array | undefined;
  let key: EntryKey | undefined;
  while (!reader.isDone()) {
    const tag = reader.tag();
    if (tag === DELTA.deltaId) id = reader.text();
    else if (tag === DELTA.action) action = reader.varint();
    else if (tag === payload) entry = reader.view();
    else if (tag === DELTA.removed) key = readStampedKey(reader, PROTOCOL_BOUNDS);
    else if (tag === DELTA.cause) cause = reader.varint();
    else reader.skip(tag);
  }
  reader.leave(outer);
  const origin = originOf(id);
  if (action === ACTION.REMOVE) {
    if (key === undefined) throw misplaced(`removal ${id} has no key`);
    return { ...origin, change: { key, text: keyText(key), cause: causeOf(cause) } };
  }
  if (entry === undefined || (action !== ACTION.CREATE && action !== ACTION.UPDATE)) throw misplaced(`change ${id} has no entry`);
  return { ...origin, change: { entry } };
}

/** Splits `<node_id>/<generation>/<seq>`. A node id may contain slashes. */
function originOf(id: string): Pick<WatchDelta, "nodeId" | "generation" | "seq"> {
  const seqAt = id.lastIndexOf("/");
  const generationAt = id.lastIndexOf("/", seqAt - 1);
  const [nodeId, generation, seq] = [id.slice(0, generationAt), Number(id.slice(generationAt + 1, seqAt)), Number(id.slice(seqAt + 1))];
  if (generationAt < 1 || !isName(nodeId, PROTOCOL_BOUNDS.maxIdLength) || !isSeq(generation) || !isSeq(seq) || seq === 0)
    throw misplaced(`invalid delta_id ${JSON.stringify(id.slice(0, 100))}`);
  return { nodeId, generation, seq };
}

/** Decodes a message of WatchPolicy. Throws `invalid_argument` for malformed bytes. */
export function readPolicyMessage(bytes: Uint8Array): PolicyMessage {
  const { part, state } = decoded(bytes);
  return {
    part: part && { place: versionPlaceOf(part.place), offset: part.offset, bytes: part.bytes, sizeBytes: part.sizeBytes },
    state: state && { versions: state.versions.map(versionPlaceOf), policyEpoch: epochOf(state.policyEpoch) },
  };
}

function decoded(bytes: Uint8Array): WatchPolicyResponse {
  try {
    return fromBinary(WatchPolicyResponseSchema, bytes);
  } catch (error) {
    throw misplaced(error instanceof Error ? error.message : "invalid WatchPolicyResponse");
  }
}

function versionPlaceOf(place: PolicyPlace | undefined): VersionPlace {
  const [number, hlc] = [Number(place?.number ?? 0), Number(place?.hlc ?? 0)];
  const { nodeId = "", checksum = "" } = place ?? {};
  const isPlace =
    Number.isSafeInteger(number) &&
    number >= 1 &&
    Number.isSafeInteger(hlc) &&
    nodeId.length <= MAX_NODE_ID &&
    /^(?:[0-9a-f]{64})?$/.test(checksum);
  if (!isPlace) throw misplaced("a policy version has an invalid number, hlc, node_id or checksum");
  return { number, hlc, nodeId, checksum };
}
