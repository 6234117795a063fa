/** The replica's internal, mutable form of a record and of an origin. Other code sees `CatalogRecord` and `OriginRef`. */

import { firstIndex } from "../../lib/bisect.ts";
import type { IndexFields } from "../entry/codec.ts";
import type { Scope } from "../entry/scope.ts";
import type { ChangeLog } from "../replica/change-log.ts";
import { compareForView } from "../replica/view.ts";
import type { RecordHead, UnknownFields } from "./codec.ts";
import type { MaintenanceOverrides } from "./maintenance.ts";
import {
  BODY,
  type BodyKind,
  type CatalogRecord,
  type Health,
  type KeyText,
  type Kind,
  type OriginRef,
  type OriginStatus,
  type SharedTraits,
  viewHealth,
} from "./record.ts";
import type { Slab } from "./slab.ts";

/** An origin as this node knows it. */
export interface Origin extends OriginRef {
  /** The id of this node's own origin changes with its generation (`startNewGeneration`). All other ids are constant. */
  id: string;
  generation: number;
  /** The cluster of the origin's node. Empty while unknown. */
  clusterId: string;
  region: string;
  life: OriginStatus;
  markedSeq: number;
  /** This node has stored all of the origin's newest records up to this seq. This seq is the origin's entry in the version vector. */
  through: number;
  /** Present while the stored records differ from those that the origin had at `through`; see `settledOf`. */
  unsettled?: IncompleteRange | undefined;
  /**
   * Present while this node has refused some of the origin's records. The origin is *partial* until all of its records have arrived (semantics.md,
   * Replication).
   */
  lacks?: Lacking | undefined;
  /** Only in a summary replica: no node writes as this origin any more, so other origins publish its records. */
  isTakenOver?: boolean;
  /** Whether the origin's node reported its cluster on a direct link. If so, no node of another cluster can replace the origin. */
  isAtHome?: true;
  /**
   * Whether this node has more changes from the origin than the origin's node ever wrote. If so, the origin's tombstones are treated as having ended
   * no records.
   */
  isDisproved?: true;
  /** Present while records that a whole transfer did not list are being withdrawn. */
  closing?: ClosingTransfer | undefined;
  /** Tombstones at or below this seq may be missing here. */
  floor: number;
  /** The origin's records, by seq. */
  readonly log: ChangeLog<StoredRecord>;
}

/**
 * The state of a whole transfer whose last frame has arrived. The transfer remains in progress, and the version vector does not advance, until all
 * records that it did not list have been withdrawn.
 */
export interface ClosingTransfer {
  /**
   * Everything up to this seq has arrived, either with this transfer or after it. When the transfer is complete, the version vector advances to this
   * seq.
   */
  reached: number;
  /** The highest seq that the senders of the transfer knew. */
  knownSeq: number;
  /** The sender's floor: tombstones at or below it were not sent. */
  readonly floor: number;
}

/** Records of an origin that were refused since the origin was last complete. */
export interface Lacking {
  readonly count: number;
  /** The reason why the first of these records was refused. */
  readonly why: string;
  /** Whether the records were refused before this node's restart. The details of such records are not stored. */
  readonly isFromBefore?: boolean;
}

/**
 * The range of seqs in which records may be missing or outdated. Frames contain only the newest records, so a frame that was cut at `through` lacks
 * the keys that had changed again by then. Some of the keys touched after `from` may be missing or outdated on this node until everything up to
 * `until` has arrived.
 */
export interface IncompleteRange {
  readonly from: number;
  readonly until: number;
}

/**
 * Returns the seq up to which the origin's records are stored as they were on the origin: two nodes that are settled at the same seq have the same
 * records. For a partial origin the missing records are unknown, so this is 0: a reader that moves to another node gets all records again.
 */
export function settledOf(origin: Origin): number {
  return origin.lacks === undefined ? tiedTo(origin) : 0;
}

/**
 * Returns the seq up to which no record of the origin is missing, except keys that frames omitted and that are still expected. If the origin is dead,
 * these keys may never arrive.
 */
export function heldThrough(origin: Origin): number {
  return origin.life === "live" ? tiedTo(origin) : origin.through;
}

/** Like `settledOf`, but ignores refused records. */
function tiedTo({ unsettled, through }: Origin): number {
  return unsettled?.from ?? through;
}

/**
 * Whether the stored records are considered complete at the origin's seq. Keys that were omitted from a dead origin's frames may never arrive, so the
 * replicas need only agree on the records that exist.
 */
export function isFirm(origin: Origin): boolean {
  if (origin.lacks !== undefined || origin.closing !== undefined) return false;
  return origin.log.lastOrder <= origin.through && (origin.unsettled === undefined || origin.life !== "live");
}

/**
 * Returns the seq up to which everything from the origin has been received. Records up to this seq are not new. This seq is the origin's entry in the
 * version vector, or the next value of that entry.
 */
export function takenThrough({ closing, through }: Origin): number {
  return closing?.reached ?? through;
}

/** Advances the origin's entry in the version vector. The sender knew changes up to `knownSeq`. */
export function moveThrough(origin: Origin, through: number, knownSeq: number): void {
  if (through <= origin.through) return;
  const from = tiedTo(origin);
  const until = Math.max(origin.unsettled?.until ?? 0, knownSeq);
  origin.through = through;
  origin.unsettled = until > through ? { from, until } : undefined;
}

/** Notes that more changes were received while a whole transfer is being closed. */
export function followClosing(origin: Origin, closing: ClosingTransfer, through: number, knownSeq: number): void {
  closing.reached = Math.max(closing.reached, through);
  closing.knownSeq = Math.max(closing.knownSeq, knownSeq);
  holdAbove(origin, Math.max(closing.reached, closing.knownSeq));
}

/** Notes that changes above the version vector were received while the other records of their transfer are still expected. */
export function holdAbove(origin: Origin, knownSeq: number): void {
  const until = Math.max(origin.unsettled?.until ?? 0, knownSeq);
  if (until > origin.through) origin.unsettled = { from: tiedTo(origin), until };
}

/** The content of a staged or received record. The other fields of a stored record are this node's own bookkeeping. */
export interface StoredRecordFields extends Omit<CatalogRecord, "origin" | "revision"> {
  readonly origin: Origin;
  /** If absent, the value must be read from the entry's bytes. */
  readonly hasAliases?: boolean | undefined;
  /** If absent, the value must be read from the entry's bytes. */
  readonly hasChecks?: boolean | undefined;
}

/**
 * Returns the fields of an entry that was read from a record, which came from the journal or from another node. Stores the entry's bytes in the slab.
 */
export function entryFields(
  record: RecordHead & { readonly entry: Uint8Array },
  stamped: IndexFields,
  { origin, slab }: { readonly origin: Origin; readonly slab: Pick<Slab, "put"> },
): StoredRecordFields {
  const { key, namespace, name, kind, scope, health, traits, hasAliases, hasChecks, contentBytes } = stamped;
  const { seq, hlc, firstSeq, filterSeq, reach, principal, unregisteredHlc, orders, entry } = record;
  const at = slab.put(entry);
  const sizeBytes = entry.length;
  // HOT: one literal; spreading an object into another costs as much as reading a field (bench/versions.ts, replication).
  // biome-ignore format: one line per group
  return {
    key, namespace, name, kind, scope, health, traits, hasAliases, hasChecks, contentBytes,
    origin, seq, hlc, firstSeq, filterSeq, body: BODY.ENTRY, reach, principal, unregisteredHlc, orders, at, sizeBytes,
  };
}

/** Unknown fields from newer versions, by stored record. Few records have such fields, so the other records need no space for them. */
const unknownFields = new WeakMap<StoredRecord, UnknownFields>();

export function unknownOf(stored: StoredRecord): UnknownFields | undefined {
  return unknownFields.get(stored);
}

export function keepUnknown(stored: StoredRecord, unknown: UnknownFields): void {
  unknownFields.set(stored, unknown);
}

/** Maintenance overrides by stored record. Few records have overrides, so the other records need no space for them. */
const ordersOf = new WeakMap<StoredRecord, MaintenanceOverrides>();

/** Positions of the small fields, which are packed into one number. Packing saves 40 B per record, which is 40 MB for 1M entries. */
const KIND_SHIFT = 0;
const BODY_SHIFT = 4;
const SCOPE_SHIFT = 6;
const REACH_SHIFT = 9;
const HEALTH_SHIFT = 12;
const SHOWN_SHIFT = 15;
const NO_ALIASES = 1 << 18;
const NO_CHECKS = 1 << 19;
const HAS_ORDERS = 1 << 20;
const FINDING_SHIFT = 21;
/** The highest value that `finding` can have. */
const FINDING_BITS = 31;
/** Kinds have the numbers 1 to 9. */
const KIND_BITS = 15;
const THREE_BITS = 7;
const SIZE_BITS = 15;
const SIZE_MASK = (1 << SIZE_BITS) - 1;
/** Stamps are below 2^53, so that both of their parts are small integers. */
const HLC_LOW = 2 ** 26;

// The casts below are the reverse of `pack`, whose inputs have exactly these types.
/* oxlint-disable typescript/no-unsafe-type-assertion */

export class StoredRecord implements CatalogRecord {
  readonly key: KeyText;
  readonly namespace: string;
  readonly name: string;
  readonly origin: Origin;
  seq: number;
  /**
   * The stamp in two small integers. A single number of this size would need a box of 16 B, and each box is one more object for the garbage
   * collector.
   */
  #hlcHigh: number;
  #hlcLow: number;
  firstSeq: number;
  filterSeq: number;
  traits: SharedTraits;
  principal: string;
  /** Undefined instead of 0, because a number field that is usually 0 would cost every record its own box. */
  unregisteredHlc: number | undefined;
  at: number;
  /** This node's revision of the last touch. 0 while staged, -1 once dropped. */
  revision = 0;
  /** Revision at which the key appeared in this stored record. A reader with an earlier cursor has not seen the key (CREATE). */
  bornRevision = 0;
  /**
   * Revision of the last change of a field that filters use. For a hidden record, the revision at which the record became hidden, or 0 if it was
   * never visible.
   */
  filterRevision = 0;
  /** All stored records of this key in view order. All of these records share the list. Undefined while there is only one record. */
  peers: StoredRecord[] | undefined = undefined;
  #bits: number;
  #sizes: number;

  constructor(fields: StoredRecordFields) {
    this.key = fields.key;
    this.namespace = fields.namespace;
    this.name = fields.name;
    this.origin = fields.origin;
    this.seq = fields.seq;
    this.#hlcHigh = Math.floor(fields.hlc / HLC_LOW);
    // Without `| 0`, some compiled code stores the remainder in a box of 16 B in one of eight records (test/fakes/summaries-memory-child.ts).
    this.#hlcLow = (fields.hlc % HLC_LOW) | 0;
    this.firstSeq = fields.firstSeq;
    this.filterSeq = fields.filterSeq;
    this.traits = fields.traits;
    this.principal = fields.principal;
    this.unregisteredHlc = fields.unregisteredHlc;
    this.at = fields.at;
    this.#bits = pack(fields);
    this.#sizes = (fields.sizeBytes << SIZE_BITS) | fields.contentBytes;
    if (fields.orders !== undefined) ordersOf.set(this, fields.orders);
  }

  get hlc(): number {
    return this.#hlcHigh * HLC_LOW + this.#hlcLow;
  }
  get kind(): Kind {
    return ((this.#bits >> KIND_SHIFT) & KIND_BITS) as Kind;
  }
  get body(): BodyKind {
    return ((this.#bits >> BODY_SHIFT) & 3) as BodyKind;
  }
  get scope(): Scope {
    return ((this.#bits >> SCOPE_SHIFT) & THREE_BITS) as Scope;
  }
  get reach(): Scope {
    return ((this.#bits >> REACH_SHIFT) & THREE_BITS) as Scope;
  }
  get health(): Health {
    return ((this.#bits >> HEALTH_SHIFT) & THREE_BITS) as Health;
  }
  /** If the record is visible: its health when its key was last touched. */
  get shownHealth(): Health {
    return ((this.#bits >> SHOWN_SHIFT) & THREE_BITS) as Health;
  }
  /** False if the record's entry has no aliases, so that its bytes need not be read. */
  get mayHaveAliases(): boolean {
    return (this.#bits & NO_ALIASES) === 0;
  }
  /** False if the record's entry has no checks, so that its bytes need not be read. */
  get mayHaveChecks(): boolean {
    return (this.#bits & NO_CHECKS) === 0;
  }
  get orders(): MaintenanceOverrides | undefined {
    return (this.#bits & HAS_ORDERS) === 0 ? undefined : ordersOf.get(this);
  }
  /** The replica owner's verdict on this content, in five bits. 0 before the check, and again after a newer record replaces the content. */
  get finding(): number {
    return (this.#bits >> FINDING_SHIFT) & FINDING_BITS;
  }
  set finding(finding: number) {
    this.#bits = (this.#bits & ~(FINDING_BITS << FINDING_SHIFT)) | (finding << FINDING_SHIFT);
  }
  get sizeBytes(): number {
    return this.#sizes >>> SIZE_BITS;
  }
  get contentBytes(): number {
    return this.#sizes & SIZE_MASK;
  }

  /** Marks the record as visible to readers, with its current health. */
  show(): void {
    this.#bits = (this.#bits & ~(THREE_BITS << SHOWN_SHIFT)) | (viewHealth(this) << SHOWN_SHIFT);
  }

  /**
   * Changes an entry into an `expired` tombstone with the same seq. The size of its content is kept, because the index still counts it.
   */
  expire(): void {
    this.#bits = (this.#bits & ~(3 << BODY_SHIFT)) | (BODY.EXPIRED << BODY_SHIFT);
    this.#sizes &= SIZE_MASK;
  }

  /** Copies the content of a newer record of the same key and origin. The bookkeeping fields are kept. */
  become(next: StoredRecord): void {
    this.seq = next.seq;
    this.#hlcHigh = next.#hlcHigh;
    this.#hlcLow = next.#hlcLow;
    this.firstSeq = next.firstSeq;
    this.filterSeq = next.filterSeq;
    this.traits = next.traits;
    this.principal = next.principal;
    this.unregisteredHlc = next.unregisteredHlc;
    this.at = next.at;
    if (next.orders !== undefined) ordersOf.set(this, next.orders);
    else if (this.orders !== undefined) ordersOf.delete(this);
    this.#bits = next.#bits;
    this.#sizes = next.#sizes;
    const unknown = unknownFields.get(next);
    if (unknown === undefined) unknownFields.delete(this);
    else unknownFields.set(this, unknown);
  }
}

function pack(fields: StoredRecordFields): number {
  return (
    (fields.kind << KIND_SHIFT) |
    (fields.body << BODY_SHIFT) |
    (fields.scope << SCOPE_SHIFT) |
    (fields.reach << REACH_SHIFT) |
    (fields.health << HEALTH_SHIFT) |
    (fields.hasAliases === false ? NO_ALIASES : 0) |
    (fields.hasChecks === false ? NO_CHECKS : 0) |
    (fields.orders === undefined ? 0 : HAS_ORDERS)
  );
}

/** Returns the given origin's record for the key that `any` has. */
export function recordOf(any: StoredRecord | undefined, origin: Origin): StoredRecord | undefined {
  if (any?.peers === undefined) return any?.origin === origin ? any : undefined;
  return any.peers.find((stored) => stored.origin === origin);
}

/**
 * Adds a stored record to the list of its key, which contains `any`. The record is inserted in order, because sorting the list each time
 * would be slow when thousands of origins have one key.
 */
export function join(any: StoredRecord, stored: StoredRecord): void {
  any.peers ??= [any];
  const { peers } = any;
  const isBehind = (peer: StoredRecord | undefined) => peer === undefined || compareForView(peer, stored) > 0;
  const index = firstIndex(peers.length, (at) => isBehind(peers[at]));
  peers.splice(index, 0, stored);
  stored.peers = peers;
}

/** Removes a stored record from the list of its key. Returns one of the remaining records, if any. */
export function leave(stored: StoredRecord): StoredRecord | undefined {
  const { peers } = stored;
  if (peers === undefined) return undefined;
  peers.splice(peers.indexOf(stored), 1);
  if (peers.length === 1) for (const peer of peers) peer.peers = undefined;
  stored.peers = undefined;
  return peers[0];
}

/** Returns the revision at which the key of `any` was last touched. */
export function lastTouchOf(any: StoredRecord | undefined): number {
  if (any?.peers === undefined) return any?.revision ?? 0;
  let last = 0;
  for (const { revision } of any.peers) if (revision > last) last = revision;
  return last;
}
