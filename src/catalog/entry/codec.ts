/**
 * Between wire entries and the catalog: what a client sends becomes a stamped entry, encoded once; what the journal or
 * another node sends is parsed and checked again. The only file of this room that imports generated code.
 */
import { fromBinary } from "@bufbuild/protobuf";
import {
  ENTRY_TAG,
  type EntryFields,
  type EntryKeyFields,
  type LoadReportFields,
  readEntry,
  roomEntry,
  type StampedFields,
  writeContent,
} from "../../../gen/waymark/catalog/v1/entry_codec.ts";
import { type Entry, EntrySchema } from "../../../gen/waymark/catalog/v1/entry_pb.js";
import { checkEntryKey, checkLoadReport } from "../../../gen/waymark/catalog/v1/entry_rules.ts";
import { assert, invalid, WaymarkError } from "../../lib/errors.ts";
import { takeBytes, timeMs, WireReader } from "../../lib/protowire.ts";
import { type EntryKey, HEALTH, type Health, type KeyText, type Kind, keyText, type OriginLife, type Traits } from "../record/record.ts";
import type { TraitsPool } from "../record/traits.ts";
import { withHealth, withNode } from "./edit.ts";
import { findKind } from "./kinds.ts";
import { type Bounds, isName, nameRule, PROTOCOL_BOUNDS } from "./names.ts";
import { portWords } from "./ports.ts";
import { Problems } from "./problems.ts";
import { checkEntry, kindOf } from "./rules.ts";
import { SCOPE, type Scope } from "./scope.ts";
import { loadViewOf, MAX_TAIL_BYTES, type Tail, writeTail } from "./tail.ts";
import { type EntryView, type LoadView, versionOf } from "./view.ts";

/** What the serving node writes into every entry, whatever the client sent. All are ids: parsed, at most 64 characters. */
export interface Stamp {
  readonly nodeId: string;
  readonly clusterId: string;
  readonly region: string;
  /** Given to entries that name none. */
  readonly zone: string;
  /** Empty for a caller without a tenant. */
  readonly tenantId: string;
  /** The caller has the role mesh.admin; noted in entries with aliases. Absent: no. */
  readonly registeredByAdmin?: boolean;
  /** When the request came in: the time of a load report that does not say when it was measured. */
  readonly receivedWallMs: number;
}

/** An entry checked, stamped and encoded, without load and times; ready to be sealed. */
export interface StampedEntry {
  readonly key: KeyText;
  readonly entryKey: EntryKey;
  readonly kind: Kind;
  readonly namespace: string;
  readonly name: string;
  readonly scope: Scope;
  readonly health: Health;
  readonly traits: Traits;
  readonly hasAliases: boolean;
  /** The encoded entry without load and times: equal bytes are equal content. */
  readonly content: Uint8Array;
  readonly load: LoadView | undefined;
}

/** A stamped entry read back from a record. `content` is a view into the bytes that were read. */
export interface StoredEntry extends StampedEntry {
  readonly contentBytes: number;
  readonly registeredWallMs: number;
  readonly updatedWallMs: number;
}

/** Bytes that surely hold what is stamped: a key and five ids, all parsed. */
const STAMPS_ROOM = 8192;

/** Of an entry with load and times, as much as a record's size has room for. */
const MAX_SEALED_BYTES = 32_767;

export interface EntryStamperOptions {
  readonly bounds: Bounds;
  readonly traits: TraitsPool;
}

/** Makes stamped entries. Keeps a scratch buffer, so one a node. */
export class EntryStamper {
  readonly #bounds: Bounds;
  readonly #traits: TraitsPool;
  readonly #problems: Problems;
  readonly #stored = new Problems(PROTOCOL_BOUNDS, true);
  readonly #scratch = new Uint8Array(65_536);

  constructor(options: EntryStamperOptions) {
    this.#bounds = options.bounds;
    this.#traits = options.traits;
    this.#problems = new Problems(options.bounds);
  }

  /** Longest advisory ttl that an entry may say. */
  get maxTtlMs(): number {
    return this.#bounds.maxEntryTtlMs;
  }

  /**
   * A client's entry. Throws `invalid_argument` with every violation found in it, each by its path in the request
   * (`entries[3].targets[0].port`). Unknown fields and the times it carries are dropped.
   */
  entryOf(entry: Entry, index: number, stamp: Stamp): StampedEntry {
    checkEntry(entry, this.#problems, "client");
    // The path is only built for what is wrong.
    if (this.#problems.count > 0) this.#problems.throwIfAny(`entries[${index}].`);
    const newEntry = this.#newEntry(entry, stamp);
    if (newEntry.content.length > this.#bounds.maxEntryBytes)
      throw invalid(`entries[${index}]`, tooLarge(newEntry.content.length, this.#bounds));
    return newEntry;
  }

  /** An entry of this node's own making, which may stand in the control plane's namespaces; its clients' limits are not its own. */
  entryOfNode(entry: Entry, stamp: Stamp): StampedEntry {
    checkEntry(entry, this.#stored, "node");
    this.#stored.throwIfAny();
    const newEntry = this.#newEntry(entry, stamp);
    if (newEntry.content.length > PROTOCOL_BOUNDS.maxEntryBytes) throw invalid("entry", tooLarge(newEntry.content.length, PROTOCOL_BOUNDS));
    return newEntry;
  }

  /**
   * A sealed entry as a record of the journal or of another node carries it, stamped already. Throws `invalid_argument`
   * on anything that no node may have stored, so that a bad record is refused alone: what this node's own settings allow does
   * not count. A health status of a newer version counts as unset.
   */
  entryOfStored(bytes: Uint8Array): StoredEntry {
    const { entry, contentBytes } = readEntry(bytes);
    const problems = this.#stored;
    checkEntry(entry, problems, "record");
    checkStamps(entry, problems);
    if (contentBytes > PROTOCOL_BOUNDS.maxEntryBytes) problems.add("entry", tooLarge(contentBytes, PROTOCOL_BOUNDS));
    if (bytes.length > MAX_SEALED_BYTES) problems.add("entry", `is ${bytes.length} bytes with load and times, at most ${MAX_SEALED_BYTES}`);
    problems.throwIfAny();
    const { key, registeredAt, updatedAt } = entry;
    if (key === undefined || registeredAt === undefined || updatedAt === undefined || bytes[0] !== ENTRY_TAG.key) {
      throw new WaymarkError("invalid_argument", "malformed entry: it must start with its key and end with its times");
    }
    const entryKey = this.#entryKey(key, kindOf(key, entry.detail), key.clusterId);
    return {
      key: keyText(entryKey),
      entryKey,
      kind: entryKey.kind,
      namespace: entryKey.namespace,
      name: entryKey.name,
      scope: entry.scope as Scope, // Checked: it is 1 to 4.
      health: entry.health > HEALTH.MAINTENANCE ? HEALTH.UNSET : (entry.health as Health),
      traits: this.#traits.intern(entry, versionOf(entry), portWords(entry.targets)),
      hasAliases: entry.aliases.length > 0,
      content: bytes.subarray(0, contentBytes),
      load: entry.load === undefined ? undefined : loadViewOf(entry.load, timeMs(updatedAt)),
      contentBytes,
      registeredWallMs: timeMs(registeredAt),
      updatedWallMs: timeMs(updatedAt),
    };
  }

  /** The stamped entry of a stored entry with another health; all else, stamps and fields of later versions included, is as stored. */
  entryWithHealth(bytes: Uint8Array, health: Health): StoredEntry {
    return this.entryOfStored(withHealth(bytes, health));
  }

  /**
   * A stored entry as another node of its cluster serves it: the same bytes, load and times included, but for the node's name. Throws
   * `invalid_argument` when it would be too large under that.
   */
  storedAtNode(bytes: Uint8Array, nodeId: string): { readonly stamped: StoredEntry; readonly bytes: Uint8Array } {
    const moved = withNode(bytes, nodeId);
    return { stamped: this.entryOfStored(moved), bytes: moved };
  }

  #newEntry(entry: EntryFields, stamp: Stamp): StampedEntry {
    assert(entry.key !== undefined, "a checked entry has a key");
    const key = this.#entryKey(entry.key, kindOf(entry.key, entry.detail), stamp.clusterId);
    const scope = entry.scope === SCOPE.UNSET ? SCOPE.ZONE : (entry.scope as Scope); // Checked: it is 0 to 4.
    const health = entry.health === HEALTH.UNSET ? HEALTH.HEALTHY : (entry.health as Health); // Checked: it is 0 to 4.
    const hasAliases = entry.aliases.length > 0;
    const { clusterId, region, nodeId, tenantId } = stamp;
    const zone = entry.zone === "" ? stamp.zone : entry.zone;
    const registeredByAdmin = hasAliases && stamp.registeredByAdmin === true;
    const { tags, capabilities, resources } = entry;
    const traits = { tags, capabilities, resources, clusterId, region, zone, nodeId, tenantId, registeredByAdmin };
    return {
      key: keyText(key),
      entryKey: key,
      kind: key.kind,
      namespace: key.namespace,
      name: key.name,
      scope,
      health,
      traits: this.#traits.intern(traits, versionOf(entry), portWords(entry.targets)),
      hasAliases,
      content: this.#encode(entry, { key, scope, health, clusterId, region, zone, nodeId, tenantId, registeredByAdmin }),
      load: entry.load === undefined ? undefined : loadViewOf(entry.load, stamp.receivedWallMs),
    };
  }

  #entryKey(key: EntryKeyFields, kind: Kind, clusterId: string): EntryKey {
    // Namespaces and names repeat over many keys; instances do not.
    const namespace = this.#traits.text(key.namespace);
    const name = this.#traits.text(key.name);
    return { kind, namespace, name, instanceId: key.instanceId, clusterId };
  }

  #encode(entry: EntryFields, stamped: StampedFields): Uint8Array {
    const room = STAMPS_ROOM + roomEntry(entry);
    // One hostile entry must not leave a large buffer behind.
    const scratch = room > this.#scratch.length ? new Uint8Array(room) : this.#scratch;
    const sizeBytes = writeContent(scratch, 0, entry, stamped);
    const content = takeBytes(sizeBytes);
    content.set(scratch.subarray(0, sizeBytes));
    return content;
  }
}

/** The key a request names, with this cluster's id when it gives none. Throws `invalid_argument` on what cannot be a key. */
export function parseKey(key: EntryKeyFields, path: string, clusterId: string, bounds: Bounds): KeyText {
  const problems = new Problems(bounds);
  checkEntryKey(key, problems);
  if (problems.count > 0) problems.throwIfAny(`${path}.`);
  const kind = kindOf(key, { case: undefined });
  return keyText({ ...key, kind, clusterId: key.clusterId === "" ? clusterId : key.clusterId });
}

/** A load report of a request. Throws `invalid_argument`. */
export function parseLoad(load: LoadReportFields, path: string, receivedWallMs: number, bounds: Bounds): LoadView {
  const problems = new Problems(bounds);
  checkLoadReport(load, problems);
  if (problems.count > 0) problems.throwIfAny(`${path}.`);
  return loadViewOf(load, receivedWallMs);
}

/** What a record's entry must carry beyond what a client's must. */
function checkStamps(entry: EntryFields, problems: Problems): void {
  const { maxIdLength } = problems.bounds;
  if (entry.scope === SCOPE.UNSET) problems.add("scope", "is required");
  if (entry.registeredAt !== undefined) problems.time(entry.registeredAt, "registered_at");
  if (entry.updatedAt !== undefined) problems.time(entry.updatedAt, "updated_at");
  if (entry.key?.clusterId !== entry.clusterId) problems.add("key.cluster_id", "differs from cluster_id");
  if (!isName(entry.clusterId, maxIdLength)) problems.add("cluster_id", nameRule(entry.clusterId, maxIdLength));
  if (!isName(entry.region, maxIdLength)) problems.add("region", nameRule(entry.region, maxIdLength));
  if (!isName(entry.nodeId, maxIdLength)) problems.add("node_id", nameRule(entry.nodeId, maxIdLength));
  if (entry.tenantId !== "" && !isName(entry.tenantId, maxIdLength)) problems.add("tenant_id", nameRule(entry.tenantId, maxIdLength));
}

function tooLarge(sizeBytes: number, bounds: Bounds): string {
  return `is ${sizeBytes} bytes encoded, at most ${bounds.maxEntryBytes}`;
}

/** Content followed by load and times: the whole parses as one `Entry`, its first `content.length` bytes are content. */
export function finishEntry(content: Uint8Array, tail: Tail): Uint8Array {
  const tailBytes = writeTail(tailScratch, 0, tail);
  const sealed = takeBytes(content.length + tailBytes);
  sealed.set(content);
  for (let i = 0; i < tailBytes; i++) sealed[content.length + i] = tailScratch[i] ?? 0;
  return sealed;
}

const tailScratch = new Uint8Array(MAX_TAIL_BYTES);

/** Bytes of the leading key field, tag included: what a watch of names only copies of a sealed entry. */
export function keyPrefixBytes(bytes: Uint8Array): number {
  const reader = new WireReader(bytes);
  const tag = reader.tag();
  assert(tag === ENTRY_TAG.key, "a sealed entry starts with its key");
  reader.skip(tag);
  return reader.at;
}

/** A sealed entry as a message, for what is answered field by field. */
export function decodeMessage(bytes: Uint8Array): Entry {
  return fromBinary(EntrySchema, bytes);
}

/** The function_id of an entry's content or of a sealed entry; empty for another kind. */
export function functionId(bytes: Uint8Array): string {
  const { detail } = readEntry(bytes).entry;
  return detail.case === "function" ? detail.value.functionId : "";
}

/** Subject patterns of a sealed TOPIC entry; none of another kind. */
export function topicPatterns(bytes: Uint8Array): readonly string[] {
  const { detail } = readEntry(bytes).entry;
  return detail.case === "topic" ? detail.value.patterns : [];
}

/** A sealed entry as plain values; `life` is its origin's. */
export function decodeEntry(bytes: Uint8Array, life: OriginLife): EntryView {
  const { entry } = readEntry(bytes);
  const { key, ttl, load, updatedAt } = entry;
  assert(key !== undefined && findKind(key.kind) !== undefined, "a sealed entry has a key with a kind", { kind: key?.kind });
  return {
    ...entry,
    key: key as EntryKey, // Its kind is known, and its texts were checked when it was stored.
    scope: entry.scope as Scope, // Checked when it was stored.
    ttlMs: ttl === undefined ? undefined : timeMs(ttl),
    health: life === "live" ? (entry.health as Health) : HEALTH.ORPHANED,
    load: load === undefined ? undefined : loadViewOf(load, updatedAt === undefined ? 0 : timeMs(updatedAt)),
  };
}
