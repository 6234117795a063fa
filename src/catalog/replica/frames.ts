/**
 * Replication between replicas: builds the frames of an origin for a peer, and applies received frames (semantics.md, Replication). This module only
 * converts records to and from bytes. The fabric owns the links and schedules the frames.
 */
import { invalid, WaymarkError } from "../../lib/errors.ts";
import { hlcWallMs } from "../../lib/hlc.ts";
import type { Time } from "../../lib/machine.ts";
import type { EntryStamper, StoredEntry } from "../entry/codec.ts";
import { type EntryBounds, NODES_NAMESPACE } from "../entry/names.ts";
import { mayHold, type OriginRelation, relationOf, SCOPE, SCOPE_NAMES, type Scope } from "../entry/scope.ts";
import { decodeRecord, encodeRecord, isSeq, type WireRecord } from "../record/codec.ts";
import { hasNewerOverride } from "../record/maintenance.ts";
import { BODY, HEALTH, type KeyText, keyParts, keyText } from "../record/record.ts";
import {
  entryFields,
  followClosing,
  holdAbove,
  keepUnknown,
  moveThrough,
  type Origin,
  StoredRecord,
  takenThrough,
  unknownOf,
} from "../record/stored-record.ts";
import { NO_TRAITS } from "../record/traits.ts";
import type { OriginLocation } from "./origins.ts";
import type { Replica } from "./replica.ts";
import { endsBeforeHlc } from "./view.ts";
import { WholeTransfer } from "./whole-transfer.ts";

export interface OriginFrame {
  readonly nodeId: string;
  readonly generation: number;
  /** The frame can only be applied by a replica that has everything up to this seq. */
  readonly after: number;
  readonly through: number;
  /** Encoded `waymark.fabric.v1.Record` messages, in ascending order of seq. */
  readonly records: readonly Uint8Array[];
  /**
   * Whether the frame is part of a whole transfer: all live records, and the tombstones above `floor`. The receiver removes keys that are
   * not listed.
   */
  readonly isComplete: boolean;
  /**
   * The highest seq that the sender knows. Absent if it equals `through`. A key that changed again after `through` is not in the frame,
   * so the receiver then has fewer records than the origin had at `through` (`IncompleteRange`).
   */
  readonly knownSeq?: number;
  /** Whether this is the last frame of a whole transfer. */
  readonly isLast: boolean;
  readonly floor: number;
}

/**
 * Maximum number of records that are examined for one frame. This limit is needed because possibly none of the records may be sent to the receiver.
 */
const MAX_LOOKED = 10_000;

/** The replica that receives a frame. */
export interface FrameReceiverSide {
  readonly relation: OriginRelation;
  readonly clusterId: string;
}

/**
 * Returns the next frame of an origin for a peer that has everything up to `after`. The frame contains as many records as the budget allows, at least
 * one if any examined record qualifies, and none above `upTo`. A peer below the floor gets a whole transfer: the caller must call again with
 * `isComplete` and the last `through` until `isLast` is true. The caller must start again if the floor passes the `through` at which the transfer
 * began, because listed records may have been removed since then, and their tombstones may have been collected.
 */
export function buildFrame(
  replica: Replica,
  origin: Origin,
  from: { readonly after: number; readonly isComplete: boolean; readonly upTo?: number },
  link: FrameReceiverSide,
  budgetBytes: number,
): OriginFrame {
  const isComplete = from.isComplete || from.after < origin.floor;
  const after = isComplete && !from.isComplete ? 0 : from.after;
  const upTo = Math.min(from.upTo ?? origin.through, origin.through);
  const records: Uint8Array[] = [];
  let through = after;
  let left = budgetBytes;
  let isCut = false;
  let lookedCount = 0;
  origin.log.forEachSince(after, (stored, seq) => {
    // During a whole transfer this node has records above its version vector. If it passed them on, the receiver would not detect the
    // gap.
    if (seq > upTo) return false;
    isCut = lookedCount === MAX_LOOKED;
    if (isCut) return false;
    lookedCount += 1;
    const bytes = encodeFor(replica, stored, link);
    if (bytes !== undefined) {
      left -= bytes.length;
      isCut = left < 0 && records.length > 0;
      if (isCut) return false;
      records.push(bytes);
    }
    through = seq;
    return true;
  });
  if (!isCut) through = Math.max(upTo, after);
  const knownSeq = Math.max(origin.through, origin.unsettled?.until ?? 0);
  return {
    nodeId: origin.nodeId,
    generation: origin.generation,
    after,
    through,
    records,
    isComplete,
    isLast: isComplete && !isCut,
    ...(knownSeq > through && { knownSeq }),
    floor: origin.floor,
  };
}

/** Returns the form in which a peer may receive a record: the record itself, a tombstone if the peer is no longer in reach, or undefined. */
function encodeFor(replica: Replica, stored: StoredRecord, link: FrameReceiverSide): Uint8Array | undefined {
  if (!mayHold(stored.reach, link.relation)) return undefined;
  const key = keyParts(stored.key);
  // No record returns to its origin's cluster through another cluster, because the nodes there would assume that they had everything. A tombstone may
  // have a key of another cluster if it was written by nodes that permit removals from anywhere; such a tombstone has no effect.
  const home = stored.origin.clusterId === "" ? key.clusterId : stored.origin.clusterId;
  if (link.relation !== "cluster" && link.relation !== "self" && home === link.clusterId) return undefined;
  if (stored.body !== BODY.ENTRY) return encodeRecord(stored, { body: stored.body, key }, unknownOf(stored));
  if (mayHold(stored.scope, link.relation))
    return encodeRecord(stored, { body: BODY.ENTRY, entry: replica.slab.view(stored.at, stored.sizeBytes) }, unknownOf(stored));
  // The scope of the entry was narrowed, or the entry moved here from a node where it had a wider scope: the peer is outside the scope but inside the
  // reach (P1). The tombstone ends all earlier entries on the peer.
  const { seq, hlc, reach, filterSeq, firstSeq, principal } = stored;
  return encodeRecord({ seq, hlc, reach, filterSeq, firstSeq, principal, unregisteredHlc: hlc }, { body: BODY.EXPIRED, key });
}

export type FrameResult =
  | Readonly<Pick<FrameOutcome, "kind" | "refused" | "superseded" | "maxHlc" | "beyondHlc" | "changedCount">>
  /** This replica does not have the records in between: the peer must send again from `knows`. */
  | { readonly kind: "gap"; readonly knows: number }
  /** The origin is forgotten or is this node's own, or the frame is invalid. */
  | { readonly kind: "refused" };

/** Reads entries from the bytes of records. */
export interface EntryReader extends Pick<EntryStamper, "entryOfStored"> {
  /**
   * Whether each entry contains its maker and the maker's signature, so that any node may accept the entry and pass it on under its own origin.
   */
  readonly isSealed?: boolean;
}

/** Returns a reader of signed entries. */
export function sealed(stamper: EntryReader): EntryReader {
  return { isSealed: true, entryOfStored: (bytes) => stamper.entryOfStored(bytes) };
}

/** Receives the frames of one link. The frames of a whole transfer come from one sender, in the sender's order. */
export class FrameReceiver {
  readonly #replica: Replica;
  readonly #stamper: EntryReader;
  readonly #bounds: EntryBounds;
  /** Whole transfers in progress, by origin. */
  readonly #transfers = new Map<string, WholeTransfer>();

  /** Origins whose whole transfers repair differences, with the seq up to which both sides have everything. */
  readonly #repairs = new Map<string, number>();

  readonly #maxOriginRecords: number;

  constructor(replica: Replica, stamper: EntryReader, bounds: EntryBounds, maxOriginRecords: number = Number.POSITIVE_INFINITY) {
    this.#maxOriginRecords = maxOriginRecords;
    this.#replica = replica;
    this.#stamper = stamper;
    this.#bounds = bounds;
  }

  /**
   * Accepts the next whole transfer of this origin although the version vector covers it, because the digests of both sides differ at
   * `through`. Stored records that the transfer does not list are ended, and listed records that are missing are installed. This permission is valid
   * for one transfer.
   */
  repair(originId: string, through: number): void {
    this.#repairs.set(originId, through);
  }

  /**
   * Applies a frame. Repeated, late or reordered frames result in the same replica (P5). Stamps more than `maxSkewMs` ahead of the wall
   * clock are reported separately, because they must not move this node's clock.
   */
  apply(frame: OriginFrame, time: Time, { place, maxSkewMs = 60_000 }: { place?: OriginLocation; maxSkewMs?: number } = {}): FrameResult {
    const { self } = this.#replica;
    const id = `${frame.nodeId}/${frame.generation}`;
    if (id === self.id || this.#replica.forgotten.has(id) || !isSound(frame)) return { kind: "refused" };
    const origin = this.#replica.origin(frame.nodeId, frame.generation, place);
    const taken = new FrameOutcome(time.wallMs + maxSkewMs);
    // Whole transfers are applied one after the other. A node that is still behind after this transfer requests another one.
    if (frame.isComplete && origin.closing !== undefined) return taken;
    const isGap = frame.isComplete ? !this.#continues(frame, origin) : frame.after > takenThrough(origin);
    if (isGap) return { kind: "gap", knows: origin.through };
    // Several peers send the same records, and known records are skipped.
    if (!frame.isComplete && frame.through <= takenThrough(origin)) return taken;
    const known = this.#knownIn(frame, origin);
    for (const bytes of frame.records) {
      try {
        this.#take(bytes, { frame, origin, known }, time, taken);
      } catch (error) {
        if (!(error instanceof WaymarkError)) throw error;
        taken.refused.push(error);
        if (!(error instanceof ScopeExclusion)) taken.lackCount += 1;
      }
    }
    if (frame.isComplete) this.#transfers.get(id)?.look(frame);
    this.#note(taken, frame, origin);
    this.#settle(frame, origin);
    return taken;
  }

  /**
   * Returns the seq up to which received records are skipped. Records covered by the version vector are stored, or were removed and their
   * tombstones collected. A late frame must not restore removed records (P5).
   */
  #knownIn(frame: OriginFrame, origin: Origin): number {
    const repaired = frame.isComplete ? this.#repairs.get(origin.id) : undefined;
    // A tombstone above the common state was collected, so it is possible that the sender does not know of that removal.
    if (repaired === undefined || origin.floor > repaired) return takenThrough(origin);
    return 0;
  }

  #take(bytes: Uint8Array, of: { frame: OriginFrame; origin: Origin; known: number }, time: Time, taken: FrameOutcome): void {
    const { frame, origin, known } = of;
    const record = decodeRecord(bytes, this.#bounds);
    if (record.seq <= frame.after || record.seq > frame.through)
      throw invalid("seq", `${record.seq} is outside the frame's range ${frame.after} to ${frame.through}`);
    if (record.seq <= known && !frame.isComplete) return;
    const stored = this.#storedOf(record, origin);
    // Each further record of a key costs as much as ten records of other keys if many origins have the key.
    if (!taken.isFirstOf(stored.key)) {
      if (stored.sizeBytes > 0) this.#replica.slab.free(stored.at, stored.sizeBytes);
      throw invalid("key", "appears twice in the frame: a frame must contain only the newest record for each key");
    }
    if (record.unknown !== undefined) keepUnknown(stored, record.unknown);
    taken.stamp(stored.hlc);
    // The stored tombstone may have the same seq as the received entry: if a sender does not know of the removal, it sends the entry with its old
    // seq.
    const transfer = frame.isComplete ? this.#transfers.get(origin.id) : undefined;
    if (stored.body === BODY.ENTRY) transfer?.list(stored.key);
    if (known < origin.through && stored.body === BODY.ENTRY) this.#replica.undoEnd(stored);
    if (stored.seq <= known) {
      if (stored.sizeBytes > 0) this.#replica.slab.free(stored.at, stored.sizeBytes);
      if (origin.lacks !== undefined && !this.#isHeld(stored)) taken.lackCount += 1;
    } else if (this.#replica.install(stored, time)) {
      taken.changedCount += 1;
      transfer?.installed();
    }
    if (endsBeforeHlc(stored) > 0) taken.superseded.push(...this.#superseded(stored));
    if (stored.orders !== undefined) taken.superseded.push(...this.#reordered(stored));
  }

  /**
   * Whether a frame is the next one in its whole transfer. The first frame of a transfer starts it. If a frame were lost, the keys that it listed
   * would be treated as removed.
   */
  #continues({ after, through, knownSeq = through }: OriginFrame, origin: Origin): boolean {
    let transfer = this.#transfers.get(origin.id);
    if (after === 0) {
      // This node did not request the transfer: the sender starts it when its version vector does not cover the keys. Refused records are not stored
      // here, although the version vector covers them.
      if (origin.lacks !== undefined && knownSeq >= origin.through && !this.#repairs.has(origin.id)) this.repair(origin.id, origin.through);
      transfer = new WholeTransfer(origin);
      this.#transfers.set(origin.id, transfer);
    }
    // An origin that was forgotten in the meantime starts again with a new object.
    if (transfer?.through !== after || transfer.origin !== origin) return false;
    transfer.through = through;
    return true;
  }

  /** Marks the origin as partial if records were refused: its version vector advances, but its records are incomplete. */
  #note({ lackCount, refused }: FrameOutcome, frame: OriginFrame, origin: Origin): void {
    if (lackCount === 0) return;
    const transfer = frame.isComplete ? this.#transfers.get(origin.id) : undefined;
    if (transfer !== undefined) transfer.lackCount += lackCount;
    const why = refused.find((error) => !(error instanceof ScopeExclusion))?.message ?? "";
    const before = origin.lacks?.isFromBefore === true && why !== "" ? undefined : origin.lacks;
    origin.lacks = { ...before, count: (before?.count ?? 0) + lackCount, why: (before?.why ?? why).slice(0, MAX_WHY) };
  }

  #settle(frame: OriginFrame, origin: Origin): void {
    if (!frame.isComplete) {
      if (origin.through === 0) origin.floor = Math.max(origin.floor, frame.floor);
      if (origin.closing !== undefined) followClosing(origin, origin.closing, frame.through, frame.knownSeq ?? 0);
      else moveThrough(origin, frame.through, frame.knownSeq ?? 0);
      return;
    }
    // The version vector advances only at the end, when all removals have also arrived: an interrupted transfer has not reported any
    // removal.
    if (!frame.isLast) {
      holdAbove(origin, frame.knownSeq ?? frame.through);
      return;
    }
    const transfer = this.#transfers.get(origin.id);
    this.#transfers.delete(origin.id);
    this.#repairs.delete(origin.id);
    transfer?.end(frame);
    if (transfer !== undefined) this.#replica.sweeps.close(transfer);
  }

  #storedOf(record: WireRecord, origin: Origin): StoredRecord {
    // Only a signed record may end signed records. An unsigned statement by a node cannot end them.
    if (this.#stamper.isSealed === true && (record.body === BODY.UNREGISTERED || record.unregisteredHlc !== undefined))
      throw invalid("unregistered", "an unsigned record cannot unregister signed entries");
    if (record.body === BODY.ENTRY) return this.#readEntry(record, origin);
    const gone = { at: 0, sizeBytes: 0, contentBytes: 0, health: HEALTH.HEALTHY, scope: record.reach, traits: NO_TRAITS };
    return new StoredRecord({ ...record, ...record.key, ...gone, origin, key: keyText(record.key) });
  }

  #readEntry(record: WireRecord & { body: typeof BODY.ENTRY }, origin: Origin): StoredRecord {
    const stamped = this.#stamper.entryOfStored(record.entry);
    if (this.#stamper.isSealed !== true) checkMaker(stamped, origin);
    if ((stamped.version ?? record.hlc) !== record.hlc)
      throw invalid("hlc", `${record.hlc} differs from the entry's version ${stamped.version}`);
    if (!this.#mayBeHere(stamped.scope, origin)) throw new ScopeExclusion(SCOPE_NAMES[stamped.scope]);
    if (!this.#hasRoom(stamped.key, origin))
      throw new WaymarkError("quota_exceeded", `more than ${this.#maxOriginRecords} records from one origin`);
    return new StoredRecord(entryFields(record, stamped, { origin, slab: this.#replica.slab }));
  }

  /** Whether an entry with this origin and key can be stored: the origin is below its quota, or already has the key. */
  #hasRoom(key: KeyText, origin: Origin): boolean {
    return origin.log.size < this.#maxOriginRecords || this.#replica.records(key).some((record) => record.origin === origin);
  }

  /** Whether this record, or a later record with the same key and origin, is stored. */
  #isHeld({ key, seq, body, origin }: StoredRecord): boolean {
    return body !== BODY.ENTRY || this.#replica.records(key).some((record) => record.origin === origin && record.seq >= seq);
  }

  /** Whether this node may store a record with that origin and scope (P1). */
  #mayBeHere(scope: Scope, origin: Origin): boolean {
    const { self } = this.#replica;
    if (origin.clusterId === "" || self.clusterId === "") return scope > SCOPE.LOCAL;
    return mayHold(scope, relationOf(self, origin));
  }

  /**
   * Returns this node's own record that the tombstone ends: the staged record, and the record before it, which becomes current again if
   * the staged batch is refused.
   */
  #superseded(stored: StoredRecord): readonly StoredRecord[] {
    const endedHlc = endsBeforeHlc(stored);
    const { self } = this.#replica;
    const own = [this.#replica.own(stored.key) ?? [], this.#replica.records(stored.key).filter(({ origin }) => origin === self)].flat();
    return own.filter((each) => each.body === BODY.ENTRY && each.hlc < endedHlc).slice(0, 1);
  }

  /** Returns this node's own live record of the key if these maintenance overrides have not been applied to it yet. */
  #reordered({ key, orders }: StoredRecord): readonly StoredRecord[] {
    const own = this.#replica.own(key);
    return own?.body === BODY.ENTRY && hasNewerOverride(orders, own.orders) ? [own] : [];
  }
}

/** Checks that an entry's node is the origin of its record. */
function checkMaker(stamped: StoredEntry, origin: Origin): void {
  const { nodeId, clusterId, region } = stamped.traits;
  if (nodeId !== origin.nodeId) throw invalid("node_id", `${nodeId} is not the frame's origin ${origin.nodeId}`);
  if (origin.clusterId !== "" && clusterId !== origin.clusterId)
    throw invalid("cluster_id", `${clusterId} is not the origin's cluster ${origin.clusterId}`);
  if (origin.region !== "" && region !== origin.region) throw invalid("region", `${region} is not the origin's region ${origin.region}`);
  // In DNS, a node of another cluster could otherwise appear under the name of a node of this cluster.
  if (stamped.namespace === NODES_NAMESPACE && stamped.name !== origin.nodeId)
    throw invalid(
      "key.name",
      `${stamped.name} in ${NODES_NAMESPACE} is not the frame's origin ${origin.nodeId}: each node registers only its own entry`,
    );
}

/** Maximum length of a stored reason, in characters. */
const MAX_WHY = 200;

/**
 * The error for a record whose scope excludes this node (P1). The sender should not have sent the record, so this node lacks nothing without it.
 */
class ScopeExclusion extends WaymarkError {
  constructor(scope: string) {
    super("invalid_argument", `scope: ${scope} does not include this node`);
  }
}

/** Whether the numbers in a frame are plausible. No node could continue after a number that is too high. */
function isSound({ generation, after, through, floor, knownSeq = 0 }: OriginFrame): boolean {
  return [generation, after, through, floor, knownSeq].every(isSeq) && through >= after;
}

/** The result of one frame. */
class FrameOutcome {
  readonly kind = "applied";
  /** The reasons for which individual records were refused. */
  readonly refused: WaymarkError[] = [];
  /**
   * This node's own live records that are affected by a received record, because an `unregistered` tombstone hides them, or because it
   * contains a newer maintenance override. The caller must process them immediately (`Registrar.applyRemoteChanges`).
   */
  readonly superseded: StoredRecord[] = [];
  /** Stamps for updating the clock: the newest stamp within the permitted distance from the wall clock, and the newest stamp beyond it. */
  maxHlc = 0;
  beyondHlc = 0;
  /** Number of records that changed something on this node. */
  changedCount = 0;
  /** Number of records that were refused although this node should have them. */
  lackCount = 0;
  readonly #latestWallMs: number;
  readonly #keys = new Set<KeyText>();

  constructor(latestWallMs: number) {
    this.#latestWallMs = latestWallMs;
  }

  isFirstOf(key: KeyText): boolean {
    const before = this.#keys.size;
    return this.#keys.add(key).size > before;
  }

  stamp(hlc: number): void {
    if (hlcWallMs(hlc) > this.#latestWallMs) this.beyondHlc = Math.max(this.beyondHlc, hlc);
    else this.maxHlc = Math.max(this.maxHlc, hlc);
  }
}
