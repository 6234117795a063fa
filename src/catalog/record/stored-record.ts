/** The replica's own, mutable form of a record and of an origin. Everybody else sees `CatalogRecord` and `OriginRef`. */

import type { Scope } from "../entry/scope.ts";
import type { ChangeLog } from "../replica/change-log.ts";
import { compareForView } from "../replica/view.ts";
import type { UnknownFields } from "./codec.ts";
import {
  BODY,
  type Body,
  type CatalogRecord,
  type Health,
  type KeyText,
  type Kind,
  type OriginLife,
  type OriginRef,
  type Traits,
  viewHealth,
} from "./record.ts";

/** An origin as this node knows it. */
export interface Origin extends OriginRef {
  /** Only this node's own ever changes, with its generation (`renew.ts`). */
  id: string;
  generation: number;
  /** Where it is at home; empty while unknown. */
  clusterId: string;
  region: string;
  life: OriginLife;
  markedSeq: number;
  /** All of its newest records up to this seq are held: its entry in the version vector. */
  through: number;
  /** Present while what is held is not exactly what the origin held at `through`; see `settledOf`. */
  unsettled?: Unsettled | undefined;
  /** Present while records of it were refused here: it is *partial* until it has come whole (semantics.md, Replication). */
  lacks?: Lacking | undefined;
  /** Its node has said itself, on a link of its own, where it is at home: no other cluster's node is taken for it. */
  isAtHome?: true;
  /** More is held of it than its node ever wrote: what it ended was not ended. */
  isDisproved?: true;
  /** Present while what a whole transfer did not list is being withdrawn. */
  closing?: Closing | undefined;
  /** Tombstones at or below this seq may be missing here. */
  floor: number;
  /** Its records by seq. */
  readonly log: ChangeLog<StoredRecord>;
}

/** A whole transfer that was taken in to its last frame. Until what it did not list is gone, it counts as under way: V stays where it was. */
export interface Closing {
  /** Everything up to there has come, with that transfer or after it: V is there at the end. */
  reached: number;
  /** What its senders knew of. */
  knownSeq: number;
  /** The giver's: of what was removed up to there no tombstone came. */
  readonly floor: number;
}

/** Records of an origin that could not be taken, since it last was whole. */
export interface Lacking {
  readonly count: number;
  /** Why the first of them was refused. */
  readonly why: string;
  /** It was so before this node restarted: what was refused is not remembered, only that something was. */
  readonly isFromBefore?: boolean;
}

/**
 * Frames carry newest records only, so what was cut off at `through` leaves out a key that had changed again by then: of the keys
 * touched after `from` some may be missing here or old, until everything up to `until` has come.
 */
export interface Unsettled {
  readonly from: number;
  readonly until: number;
}

/**
 * Up to here an origin's records are held as they were when it stood there: two nodes that are settled at one seq hold the same. Of one that
 * is partial nobody knows which are missing: who goes on elsewhere is told all of it again, and who comes from elsewhere may hold more.
 */
export function settledOf(origin: Origin): number {
  return origin.lacks === undefined ? tiedTo(origin) : 0;
}

/** Up to here nothing is missing that the origin held: what frames left out is still to come. What a dead one's left out may never come. */
export function heldThrough(origin: Origin): number {
  return origin.life === "live" ? tiedTo(origin) : origin.through;
}

/** As `settledOf`, but for what was refused. */
function tiedTo({ unsettled, through }: Origin): number {
  return unsettled?.from ?? through;
}

/**
 * Whether what is held of an origin may be taken for what was there at its number. What a dead origin's frames left out may never
 * come: then replicas have to agree on what there is.
 */
export function isFirm(origin: Origin): boolean {
  if (origin.lacks !== undefined || origin.closing !== undefined) return false;
  return origin.log.lastOrder <= origin.through && (origin.unsettled === undefined || origin.life !== "live");
}

/** Up to here everything of an origin was taken in: what comes of it again is no news. V, or where V is soon. */
export function takenThrough({ closing, through }: Origin): number {
  return closing?.reached ?? through;
}

/** V moved on, by a sender that knew of changes up to `knownSeq`. */
export function moveThrough(origin: Origin, through: number, knownSeq: number): void {
  if (through <= origin.through) return;
  const from = tiedTo(origin);
  const until = Math.max(origin.unsettled?.until ?? 0, knownSeq);
  origin.through = through;
  origin.unsettled = until > through ? { from, until } : undefined;
}

/** More was taken in while a whole transfer is being closed. */
export function followClosing(origin: Origin, closing: Closing, through: number, knownSeq: number): void {
  closing.reached = Math.max(closing.reached, through);
  closing.knownSeq = Math.max(closing.knownSeq, knownSeq);
  holdAbove(origin, Math.max(closing.reached, closing.knownSeq));
}

/** Records above V were taken in: the others of that transfer are still to come. */
export function holdAbove(origin: Origin, knownSeq: number): void {
  const until = Math.max(origin.unsettled?.until ?? 0, knownSeq);
  if (until > origin.through) origin.unsettled = { from: tiedTo(origin), until };
}

/** What a staged or received record says; the rest of a stored record is this node's bookkeeping. */
export interface StoredRecordFields {
  readonly key: KeyText;
  readonly namespace: string;
  readonly name: string;
  readonly kind: Kind;
  readonly origin: Origin;
  readonly seq: number;
  readonly hlc: number;
  readonly firstSeq: number;
  readonly filterSeq: number;
  readonly body: Body;
  readonly scope: Scope;
  readonly reach: Scope;
  readonly health: Health;
  readonly traits: Traits;
  readonly principal: string;
  readonly unregisteredHlc?: number | undefined;
  readonly at: number;
  readonly sizeBytes: number;
  readonly contentBytes: number;
  /** Absent: it is to be found out from the entry's bytes. */
  readonly hasAliases?: boolean | undefined;
}

/** Fields of newer versions, by stored record: hardly any record has some, and none pays for it. */
const unknownFields = new WeakMap<StoredRecord, UnknownFields>();

export function unknownOf(stored: StoredRecord): UnknownFields | undefined {
  return unknownFields.get(stored);
}

export function keepUnknown(stored: StoredRecord, unknown: UnknownFields): void {
  unknownFields.set(stored, unknown);
}

/** Bits of the packed small fields; packing them saves 40 B a record, which is 40 MB at 1M entries. */
const KIND_SHIFT = 0;
const BODY_SHIFT = 4;
const SCOPE_SHIFT = 6;
const REACH_SHIFT = 9;
const HEALTH_SHIFT = 12;
const SHOWN_SHIFT = 15;
const NO_ALIASES = 1 << 18;
/** Kinds have the numbers 1 to 9. */
const KIND_BITS = 15;
const THREE_BITS = 7;
const SIZE_BITS = 15;
const SIZE_MASK = (1 << SIZE_BITS) - 1;

// The casts below undo what `pack` did with values of exactly these types.
/* oxlint-disable typescript/no-unsafe-type-assertion */

export class StoredRecord implements CatalogRecord {
  readonly key: KeyText;
  readonly namespace: string;
  readonly name: string;
  readonly origin: Origin;
  seq: number;
  hlc: number;
  firstSeq: number;
  filterSeq: number;
  traits: Traits;
  principal: string;
  /** Not 0 for none: a number that is mostly 0 would cost every record a box of its own. */
  unregisteredHlc: number | undefined;
  at: number;
  /** This node's number of the last touch; 0 while staged, -1 once dropped. */
  revision = 0;
  /** Revision at which the key appeared in this stored record: a cursor before it has not seen it (CREATE). */
  bornRevision = 0;
  /** Revision at which what filters look at last changed; of a hidden one, at which it was hidden, and 0 if it was never seen. */
  filterRevision = 0;
  /** All stored records of this key in view order, shared by them; undefined while this is the only one. */
  peers: StoredRecord[] | undefined = undefined;
  #bits: number;
  #sizes: number;

  constructor(fields: StoredRecordFields) {
    this.key = fields.key;
    this.namespace = fields.namespace;
    this.name = fields.name;
    this.origin = fields.origin;
    this.seq = fields.seq;
    this.hlc = fields.hlc;
    this.firstSeq = fields.firstSeq;
    this.filterSeq = fields.filterSeq;
    this.traits = fields.traits;
    this.principal = fields.principal;
    this.unregisteredHlc = fields.unregisteredHlc;
    this.at = fields.at;
    this.#bits = pack(fields);
    this.#sizes = (fields.sizeBytes << SIZE_BITS) | fields.contentBytes;
  }

  get kind(): Kind {
    return ((this.#bits >> KIND_SHIFT) & KIND_BITS) as Kind;
  }
  get body(): Body {
    return ((this.#bits >> BODY_SHIFT) & 3) as Body;
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
  /** Of the record people see: the health they saw when its key was touched last. */
  get shownHealth(): Health {
    return ((this.#bits >> SHOWN_SHIFT) & THREE_BITS) as Health;
  }
  /** False: its entry has none for sure, and its bytes need not be looked at. */
  get mayHaveAliases(): boolean {
    return (this.#bits & NO_ALIASES) === 0;
  }
  get sizeBytes(): number {
    return this.#sizes >>> SIZE_BITS;
  }
  get contentBytes(): number {
    return this.#sizes & SIZE_MASK;
  }

  /** People see it, from this touch on with the health that it has now. */
  show(): void {
    this.#bits = (this.#bits & ~(THREE_BITS << SHOWN_SHIFT)) | (viewHealth(this) << SHOWN_SHIFT);
  }

  /** Turns an entry into an `expired` tombstone of the same number. What its content weighed stays: the lookup still counts it. */
  expire(): void {
    this.#bits = (this.#bits & ~(3 << BODY_SHIFT)) | (BODY.EXPIRED << BODY_SHIFT);
    this.#sizes &= SIZE_MASK;
  }

  /** Takes over a newer record of the same key and origin; bookkeeping stays. */
  become(next: StoredRecord): void {
    this.seq = next.seq;
    this.hlc = next.hlc;
    this.firstSeq = next.firstSeq;
    this.filterSeq = next.filterSeq;
    this.traits = next.traits;
    this.principal = next.principal;
    this.unregisteredHlc = next.unregisteredHlc;
    this.at = next.at;
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
    (fields.hasAliases === false ? NO_ALIASES : 0)
  );
}

/** An origin's record of the key that `any` is a record of. */
export function recordOf(any: StoredRecord | undefined, origin: Origin): StoredRecord | undefined {
  if (any?.peers === undefined) return any?.origin === origin ? any : undefined;
  return any.peers.find((stored) => stored.origin === origin);
}

/**
 * Puts a stored record into the list of its key, of which `any` is in it already. Sorted anew each time, thousands of origins with one key would stand in
 * everybody's way.
 */
export function join(any: StoredRecord, stored: StoredRecord): void {
  any.peers ??= [any];
  const { peers } = any;
  let [low, high] = [0, peers.length];
  while (low < high) {
    const middle = (low + high) >>> 1;
    const peer = peers[middle];
    if (peer !== undefined && compareForView(peer, stored) <= 0) low = middle + 1;
    else high = middle;
  }
  peers.splice(low, 0, stored);
  stored.peers = peers;
}

/** Takes a stored record out of its key's list; returns any that is left. */
export function leave(stored: StoredRecord): StoredRecord | undefined {
  const { peers } = stored;
  if (peers === undefined) return undefined;
  peers.splice(peers.indexOf(stored), 1);
  if (peers.length === 1) for (const peer of peers) peer.peers = undefined;
  stored.peers = undefined;
  return peers[0];
}

/** Revision of the last touch of the key that `any` is a record of. */
export function lastTouchOf(any: StoredRecord | undefined): number {
  if (any?.peers === undefined) return any?.revision ?? 0;
  let last = 0;
  for (const { revision } of any.peers) if (revision > last) last = revision;
  return last;
}
