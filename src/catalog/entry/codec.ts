/**
 * Converts entries between their wire form and the catalog's form. A client's entry becomes a stamped entry, which is encoded once. An entry from the
 * journal or from another node is parsed and checked again.
 */
import { fromBinary } from "@bufbuild/protobuf";
import {
  ENTRY_TAG,
  type EntryFields,
  type EntryKeyFields,
  type LoadReportFields,
  type ReadEntry,
  readEntry,
  roomEntry,
  type StampedFields,
  writeContent,
} from "../../../gen/waymark/catalog/v1/entry_codec.ts";
import { KIND_OF_DETAIL } from "../../../gen/waymark/catalog/v1/entry_kinds.ts";
import { type Entry, EntrySchema } from "../../../gen/waymark/catalog/v1/entry_pb.js";
import { checkEntryKey, checkLoadReport } from "../../../gen/waymark/catalog/v1/entry_rules.ts";
import { assert, invalid, WaymarkError } from "../../lib/errors.ts";
import { takeBytes, timeMs, WireReader } from "../../lib/protowire.ts";
import {
  type EntryKey,
  HEALTH,
  type Health,
  type KeyText,
  type Kind,
  keyText,
  type OriginStatus,
  type SharedTraits,
  shownWhile,
} from "../record/record.ts";
import type { TraitsPool } from "../record/traits.ts";
import { storedStates } from "./checks.ts";
import { applyHealthInputs, type HealthInputs, shownHealth, withNode, withRegion } from "./edit.ts";
import { findKind } from "./kinds.ts";
import { type EntryBounds, FieldProblems, isName, nameRule, PROTOCOL_BOUNDS } from "./names.ts";
import { checkEntry, kindOf } from "./rules.ts";
import { SCOPE, type Scope } from "./scope.ts";
import {
  type EntryTail,
  type EntryView,
  type LargeFields,
  type LoadView,
  loadViewOf,
  MAX_TAIL_BYTES,
  portWords,
  versionOf,
  writeTail,
} from "./view.ts";

/**
 * The fields that the serving node sets in every entry, regardless of the client's values. All ids are parsed and have at most 64
 * characters.
 */
export interface Stamp {
  readonly nodeId: string;
  readonly clusterId: string;
  readonly region: string;
  /** Default zone for entries without a zone. */
  readonly zone: string;
  /** Empty for a caller without a tenant. */
  readonly tenantId: string;
  /** True if the caller has the role mesh.admin. Entries with aliases store this fact. Absent means false. */
  readonly registeredByAdmin?: boolean;
  /** Time at which the request arrived. Used as the time of measurement if a load report does not contain one. */
  readonly receivedWallMs: number;
}

/** A checked, stamped and encoded entry without load and times. `finishEntry` adds load and times. */
export interface StampedEntry {
  readonly key: KeyText;
  readonly kind: Kind;
  readonly namespace: string;
  readonly name: string;
  readonly scope: Scope;
  readonly health: Health;
  readonly traits: SharedTraits;
  readonly hasAliases: boolean;
  readonly hasChecks: boolean;
  /** The encoded entry without load and times. Equal bytes mean equal content. */
  readonly content: Uint8Array;
  readonly load: LoadView | undefined;
}

/** A stamped entry that was read from a record. `content` is a view of the bytes that were read. */
export interface StoredEntry extends StampedEntry {
  readonly contentBytes: number;
  /** Only for entries of the summary replica: this is the stamp of their record. */
  readonly version?: number;
}

/** The fields of a stored entry that the index needs. */
export type IndexFields = Omit<StoredEntry, "content">;

/** An upper bound for the size of all stamped fields: a key and five parsed ids. */
const STAMPS_ROOM = 8192;

/** Maximum size of an entry with load and times that fits into a record. */
const MAX_SEALED_BYTES = 32_767;

/** Maximum size of the encoded states of four checks. Each state has a tag, a length, a health, a failure and a status. */
const CHECK_STATES_ROOM = 48;

const NO_STATES: readonly never[] = [];

export interface EntryStamperOptions {
  readonly bounds: EntryBounds;
  readonly traits: TraitsPool;
}

/** Builds stamped entries. It reuses a scratch buffer, so a node needs only one stamper. */
export class EntryStamper {
  readonly #bounds: EntryBounds;
  readonly #traits: TraitsPool;
  readonly #problems: FieldProblems;
  readonly #stored = new FieldProblems(PROTOCOL_BOUNDS, true);
  readonly #scratch = new Uint8Array(65_536);
  /** The interned namespace and name of the last key. */
  #namespace = "";
  #name = "";

  constructor(options: EntryStamperOptions) {
    this.#bounds = options.bounds;
    this.#traits = options.traits;
    this.#problems = new FieldProblems(options.bounds);
  }

  /** Maximum cache ttl that an entry may recommend. */
  get maxTtlMs(): number {
    return this.#bounds.maxEntryTtlMs;
  }

  /**
   * Stamps a client's entry. Throws `invalid_argument` with every violation and its path in the request (`entries[3].targets[0].port`). Unknown
   * fields, and times in the client's entry, are dropped.
   */
  entryOf(entry: Entry, index: number, stamp: Stamp): StampedEntry {
    checkEntry(entry, this.#problems, "client");
    // Paths are only built if there are violations.
    if (this.#problems.count > 0) this.#problems.throwIfAny(`entries[${index}].`);
    const newEntry = this.#newEntry(entry, stamp);
    // Check results are added later, and the entry must not become too large then.
    const sizeBytes = newEntry.content.length + (newEntry.hasChecks ? CHECK_STATES_ROOM : 0);
    if (sizeBytes > this.#bounds.maxEntryBytes) throw invalid(`entries[${index}]`, tooLarge(sizeBytes, this.#bounds));
    return newEntry;
  }

  /** Stamps an entry that this node creates itself. The entry may be in the control plane's namespaces, and client limits do not apply to it. */
  entryOfNode(entry: Entry, stamp: Stamp): StampedEntry {
    checkEntry(entry, this.#stored, "node");
    this.#stored.throwIfAny();
    const newEntry = this.#newEntry(entry, stamp);
    if (newEntry.content.length > PROTOCOL_BOUNDS.maxEntryBytes) throw invalid("entry", tooLarge(newEntry.content.length, PROTOCOL_BOUNDS));
    return newEntry;
  }

  /**
   * Reads a finished entry, which is already stamped, from the journal or from another node. Throws `invalid_argument` for an entry that cannot have
   * been stored by any node, so that only the invalid record is rejected. This node's own limits are not applied. An unknown health value comes from
   * a newer version and is treated as unset.
   */
  entryOfStored(bytes: Uint8Array): StoredEntry {
    const read = readEntry(bytes);
    const { entry, contentBytes } = read;
    const problems = this.#stored;
    checkEntry(entry, problems, "record");
    checkStamps(entry, problems);
    if (contentBytes > PROTOCOL_BOUNDS.maxEntryBytes) problems.add("entry", tooLarge(contentBytes, PROTOCOL_BOUNDS));
    if (bytes.length > MAX_SEALED_BYTES)
      problems.add("entry", `has ${bytes.length} bytes including load and timestamps; at most ${MAX_SEALED_BYTES} are allowed`);
    problems.throwIfAny();
    if (entry.registeredAt === undefined || entry.updatedAt === undefined) throw malformed("it must end with its timestamps");
    return this.#storedOf(bytes.subarray(0, contentBytes), read);
  }

  /**
   * Reads an entry from a row of this node's own journal. The entry was checked before the row was written, and the checksum of the row is correct.
   * Therefore only the fields that the index needs are read, and only the conditions on which the index relies are checked. Throws
   * `invalid_argument` if one of them is violated. HOT: runs for each row when a node starts (bench/restart.ts).
   */
  entryOfJournal(bytes: Uint8Array): IndexFields {
    const read = readEntry(bytes, INDEXED);
    const { key, scope } = read.entry;
    if (bytes.length > MAX_SEALED_BYTES) throw malformed(`it has ${bytes.length} bytes; at most ${MAX_SEALED_BYTES} are allowed`);
    if (findKind(key?.kind ?? 0) === undefined || scope < SCOPE.LOCAL || scope > SCOPE.GLOBAL)
      throw malformed("its kind or scope is unknown");
    return this.#storedOf(bytes, read);
  }

  #storedOf(content: Uint8Array, { entry, contentBytes }: ReadEntry): StoredEntry {
    const { key, load, updatedAt } = entry;
    if (key === undefined || content[0] !== ENTRY_TAG.key) throw malformed("it must start with its key");
    const entryKey = this.#entryKey(key, kindOf(key, entry.detail), key.clusterId);
    return {
      key: keyText(entryKey),
      kind: entryKey.kind,
      namespace: entryKey.namespace,
      name: entryKey.name,
      scope: entry.scope as Scope, // The value was checked: it is from 1 to 4.
      health: entry.health > HEALTH.MAINTENANCE ? HEALTH.UNSET : (entry.health as Health),
      traits: this.#traits.intern(entry, versionOf(entry), portWords(entry.targets)),
      hasAliases: entry.aliases.length > 0,
      hasChecks: entry.checks.length > 0,
      content,
      load: load === undefined || updatedAt === undefined ? undefined : loadViewOf(load, timeMs(updatedAt)),
      contentBytes,
    };
  }

  /**
   * Moves a stored entry to another node in the same cluster. All other bytes are kept, including load and times. Throws `invalid_argument` if the
   * entry would become too large.
   */
  storedAtNode(bytes: Uint8Array, nodeId: string): { readonly stamped: StoredEntry; readonly bytes: Uint8Array } {
    const moved = withNode(bytes, nodeId);
    return { stamped: this.entryOfStored(moved), bytes: moved };
  }

  /** Moves one of this node's stored entries to another region, because the node's region was changed. */
  storedInRegion(bytes: Uint8Array, region: string): { readonly stamped: StoredEntry; readonly bytes: Uint8Array } {
    const moved = withRegion(bytes, region);
    return { stamped: this.entryOfStored(moved), bytes: moved };
  }

  #newEntry(given: EntryFields, stamp: Stamp): StampedEntry {
    const entry = withPlainProtocols(given);
    assert(entry.key !== undefined, "a validated entry has no key");
    const key = this.#entryKey(entry.key, kindOf(entry.key, entry.detail), stamp.clusterId);
    const scope = entry.scope === SCOPE.UNSET ? SCOPE.ZONE : (entry.scope as Scope); // The value was checked: it is from 0 to 4.
    const health = entry.health === HEALTH.UNSET ? HEALTH.HEALTHY : (entry.health as Health); // The value was checked: it is from 0 to 4.
    const hasAliases = entry.aliases.length > 0;
    const { clusterId, region, nodeId, tenantId } = stamp;
    const zone = entry.zone === "" ? stamp.zone : entry.zone;
    const registeredByAdmin = hasAliases && stamp.registeredByAdmin === true;
    const { tags, capabilities, resources } = entry;
    const hasChecks = entry.checks.length > 0;
    // These fields are read from other sources, so the client's values are dropped.
    const reportedHealth = hasChecks ? health : HEALTH.UNSET;
    const checked = { reportedHealth, checkStates: NO_STATES, maintenance: undefined };
    const stamps = { clusterId, region, zone, nodeId, tenantId, registeredByAdmin, ...checked };
    const stamped = { key, scope, health, tags, capabilities, resources, ...stamps };
    return {
      key: keyText(key),
      kind: key.kind,
      namespace: key.namespace,
      name: key.name,
      scope,
      health,
      traits: this.#traits.intern(stamped, versionOf(entry), portWords(entry.targets)),
      hasAliases,
      hasChecks,
      content: this.#encode(entry, stamped),
      load: entry.load === undefined ? undefined : loadViewOf(entry.load, stamp.receivedWallMs),
    };
  }

  #entryKey(key: EntryKeyFields, kind: Kind, clusterId: string): EntryKey {
    // Many keys, usually consecutive ones, have the same namespace and name. Instances do not.
    if (key.namespace !== this.#namespace) this.#namespace = this.#traits.text(key.namespace);
    if (key.name !== this.#name) this.#name = this.#traits.text(key.name);
    return { kind, namespace: this.#namespace, name: this.#name, instanceId: key.instanceId, clusterId };
  }

  #encode(entry: EntryFields, stamped: StampedFields): Uint8Array {
    const room = STAMPS_ROOM + roomEntry(entry);
    // Otherwise a hostile client could send one large entry and make the buffer stay large.
    const scratch = room > this.#scratch.length ? new Uint8Array(room) : this.#scratch;
    const sizeBytes = writeContent(scratch, 0, entry, stamped);
    const content = takeBytes(sizeBytes);
    content.set(scratch.subarray(0, sizeBytes));
    return content;
  }
}

const UPPER_CASE = /[A-Z]/;

/**
 * Converts the protocols of the targets to lower case, so that all readers see the same spelling. An empty protocol means `tcp` and is kept empty.
 */
function withPlainProtocols(entry: EntryFields): EntryFields {
  if (!entry.targets.some(({ protocol }) => UPPER_CASE.test(protocol))) return entry;
  return { ...entry, targets: entry.targets.map((target) => ({ ...target, protocol: target.protocol.toLowerCase() })) };
}

/**
 * Returns a stamped entry in which these health inputs are set, with one state for each check. All other bytes are kept. If the entry would be too
 * large, the maintenance reason is omitted. Throws `quota_exceeded` if the entry is too large even without that reason.
 */
export function withHealthInputs(stamped: StampedEntry, condition: HealthInputs): StampedEntry {
  const { maintenance } = condition;
  const stored = { ...condition, states: storedStates(condition.states) };
  let content = applyHealthInputs(stamped.content, stamped.hasChecks, stored);
  if (content.length > PROTOCOL_BOUNDS.maxEntryBytes && maintenance !== undefined) {
    content = applyHealthInputs(stamped.content, stamped.hasChecks, { ...stored, maintenance: { ...maintenance, reason: "" } });
    if (content.length > PROTOCOL_BOUNDS.maxEntryBytes)
      throw new WaymarkError("quota_exceeded", `the entry, including its maintenance state, ${tooLarge(content.length, PROTOCOL_BOUNDS)}`);
  }
  return { ...stamped, health: shownHealth(condition), content };
}

/**
 * Returns the key from a request, and adds this node's cluster id if the request does not specify a cluster. Throws `invalid_argument` for an invalid
 * key.
 */
export function parseKey(key: EntryKeyFields, path: string, clusterId: string, bounds: EntryBounds): KeyText {
  const problems = new FieldProblems(bounds);
  checkEntryKey(key, problems);
  if (problems.count > 0) problems.throwIfAny(`${path}.`);
  const kind = kindOf(key, { case: undefined });
  return keyText({ ...key, kind, clusterId: key.clusterId === "" ? clusterId : key.clusterId });
}

/** Returns the load report from a request. Throws `invalid_argument` for an invalid report. */
export function parseLoad(load: LoadReportFields, path: string, receivedWallMs: number, bounds: EntryBounds): LoadView {
  const problems = new FieldProblems(bounds);
  checkLoadReport(load, problems);
  if (problems.count > 0) problems.throwIfAny(`${path}.`);
  return loadViewOf(load, receivedWallMs);
}

/** Checks the fields that a record's entry must have but a client's entry may omit. */
function checkStamps(entry: EntryFields, problems: FieldProblems): void {
  const { maxIdLength } = problems.bounds;
  if (entry.scope === SCOPE.UNSET) problems.add("scope", "is required");
  if (entry.registeredAt !== undefined) problems.time(entry.registeredAt, "registered_at");
  if (entry.updatedAt !== undefined) problems.time(entry.updatedAt, "updated_at");
  if (entry.key?.clusterId !== entry.clusterId) problems.add("key.cluster_id", "must equal cluster_id");
  if (!isName(entry.clusterId, maxIdLength)) problems.add("cluster_id", nameRule(entry.clusterId, maxIdLength));
  if (!isName(entry.region, maxIdLength)) problems.add("region", nameRule(entry.region, maxIdLength));
  if (!isName(entry.nodeId, maxIdLength)) problems.add("node_id", nameRule(entry.nodeId, maxIdLength));
  if (entry.tenantId !== "" && !isName(entry.tenantId, maxIdLength)) problems.add("tenant_id", nameRule(entry.tenantId, maxIdLength));
}

function malformed(problem: string): WaymarkError {
  return new WaymarkError("invalid_argument", `malformed entry: ${problem}`);
}

function tooLarge(sizeBytes: number, bounds: EntryBounds): string {
  return `has ${sizeBytes} bytes when encoded; at most ${bounds.maxEntryBytes} are allowed`;
}

/**
 * Returns the content followed by load and times. The result can be parsed as one `Entry`, and its first `content.length` bytes are the content.
 */
export function finishEntry(content: Uint8Array, tail: EntryTail): Uint8Array {
  const tailBytes = writeTail(tailScratch, 0, tail);
  const sealed = takeBytes(content.length + tailBytes);
  sealed.set(content);
  for (let i = 0; i < tailBytes; i++) sealed[content.length + i] = tailScratch[i] ?? 0;
  return sealed;
}

const tailScratch = new Uint8Array(MAX_TAIL_BYTES);

/** Returns the size of the key field at the start of an entry, including its tag. A watch with `names_only` copies only these bytes. */
export function keyPrefixBytes(bytes: Uint8Array): number {
  const reader = new WireReader(bytes);
  const tag = reader.tag();
  assert(tag === ENTRY_TAG.key, "an encoded entry does not start with its key");
  reader.skip(tag);
  return reader.at;
}

/** Decodes a finished entry to a message, for answers that contain its fields. */
export function decodeMessage(bytes: Uint8Array): Entry {
  return fromBinary(EntrySchema, bytes);
}

/** Returns the function_id from an entry's content or from a finished entry. Empty for other kinds. */
export function functionId(bytes: Uint8Array): string {
  const { detail } = readEntry(bytes).entry;
  return detail.case === "function" ? detail.value.functionId : "";
}

/** Returns the subject patterns from a finished TOPIC entry. Empty for other kinds. */
export function topicPatterns(bytes: Uint8Array): readonly string[] {
  const { detail } = readEntry(bytes).entry;
  return detail.case === "topic" ? detail.value.patterns : [];
}

/** Returns the bit mask that selects these fields in `readEntry`. */
function fieldBits(...names: readonly (keyof typeof ENTRY_TAG)[]): number {
  return names.reduce((bits, name) => bits | (1 << (ENTRY_TAG[name] >> 3)), 0);
}

// The only detail that the index needs is the version of a function.
// biome-ignore format: one line per group
const INDEXED = fieldBits(
  "key", "scope", "targets", "tags", "capabilities", "resources", "aliases", "clusterId", "region", "zone", "nodeId", "tenantId", "health",
  "function", "registeredByAdmin", "checks",
);
const VIEW_FIELDS = ["key", "scope", "targets", "ttl", "region", "zone", "nodeId", "health", "load", "updatedAt"] as const;
const VIEWED = fieldBits(...VIEW_FIELDS);
const LARGE: Readonly<Record<keyof LargeFields, number>> = {
  aliases: fieldBits("aliases"),
  capabilities: fieldBits("capabilities"),
  detail: fieldBits(...(Object.keys(KIND_OF_DETAIL) as (keyof typeof KIND_OF_DETAIL)[])),
  metadata: fieldBits("metadata"),
  tags: fieldBits("tags"),
};

/**
 * Decodes a finished entry to plain values. `life` is the state of the entry's origin. Large fields are skipped; the view's `read` method decodes
 * them on demand.
 */
export function decodeEntry(bytes: Uint8Array, life: OriginStatus): EntryView {
  const entry: Pick<EntryFields, (typeof VIEW_FIELDS)[number]> = readEntry(bytes, VIEWED).entry;
  const { key, scope, targets, ttl, region, zone, nodeId, health, load, updatedAt } = entry;
  assert(key !== undefined && findKind(key.kind) !== undefined, "the key of an encoded entry is missing or has an unknown kind", {
    kind: key?.kind,
  });
  return {
    key: key as EntryKey, // The kind is known, and the strings were checked when the entry was stored.
    scope: scope as Scope, // The value was checked when the entry was stored.
    targets,
    ttlMs: ttl === undefined ? undefined : timeMs(ttl),
    region,
    zone,
    nodeId,
    health: shownWhile(life, health as Health),
    load: load === undefined ? undefined : loadViewOf(load, updatedAt === undefined ? 0 : timeMs(updatedAt)),
    updatedWallMs: updatedAt && timeMs(updatedAt),
    read: (field) => readEntry(bytes, LARGE[field]).entry[field],
  };
}
