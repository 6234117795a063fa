/**
 * Replication between replicas: builds the frame of an origin for a peer, and applies a received frame (semantics.md, Replication). It only
 * moves bytes; the fabric has the links and their scheduling.
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
  /** The frame applies only where at least this seq is known. */
  readonly after: number;
  readonly through: number;
  /** Encoded `waymark.fabric.v1.Record`, ascending by seq. */
  readonly records: readonly Uint8Array[];
  /** Part of a whole transfer: all live records, and the tombstones above `floor`. Keys that are not listed are removed. */
  readonly isComplete: boolean;
  /**
   * The highest seq that the sender knows. Absent if that is `through`. A key that changed again beyond `through` is not in the frame, so
   * the receiver then holds less than the origin had there (`Unsettled`).
   */
  readonly knownSeq?: number;
  /** The last frame of a whole transfer. */
  readonly isLast: boolean;
  readonly floor: number;
}

/** Most records that are looked at for one frame, because its reader may be allowed none of them. */
const MAX_LOOKED = 10_000;

/** The receiver of a frame. */
export interface FrameReceiverSide {
  readonly relation: OriginRelation;
  readonly clusterId: string;
}

/**
 * The next frame of an origin for a peer that has everything up to `after`: at least one record if there is one among those looked at, then
 * as many as the budget allows, and none above `upTo`. A peer below the floor gets a whole transfer: call again with `isComplete` and the
 * last `through` until `isLast`. Start again if the floor meanwhile passes the `through` at which the transfer began, because listed
 * records may have been removed since, and their tombstones be gone.
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
    // During a whole transfer this node holds records above its vector. Passed on, they would hide the missing ones.
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

/** The form in which a peer may receive a record: the record itself, a tombstone if it is now out of the peer's reach, or nothing. */
function encodeFor(replica: Replica, stored: StoredRecord, link: FrameReceiverSide): Uint8Array | undefined {
  if (!mayHold(stored.reach, link.relation)) return undefined;
  const key = keyParts(stored.key);
  // No record goes back into its origin's cluster by way of another cluster, because the nodes there would believe that they had
  // everything. A tombstone may be for another cluster's key, from nodes that let it be removed anywhere; it then ends nothing.
  const home = stored.origin.clusterId === "" ? key.clusterId : stored.origin.clusterId;
  if (link.relation !== "cluster" && link.relation !== "self" && home === link.clusterId) return undefined;
  if (stored.body !== BODY.ENTRY) return encodeRecord(stored, { body: stored.body, key }, unknownOf(stored));
  if (mayHold(stored.scope, link.relation))
    return encodeRecord(stored, { body: BODY.ENTRY, entry: replica.slab.view(stored.at, stored.sizeBytes) }, unknownOf(stored));
  // The entry was narrowed, or moved here from a wider one: outside the scope, inside the reach (P1). The tombstone ends all earlier
  // entries there.
  const { seq, hlc, reach, filterSeq, firstSeq, principal } = stored;
  return encodeRecord({ seq, hlc, reach, filterSeq, firstSeq, principal, unregisteredHlc: hlc }, { body: BODY.EXPIRED, key });
}

export type FrameResult =
  | Readonly<Pick<FrameOutcome, "kind" | "refused" | "superseded" | "maxHlc" | "beyondHlc" | "changedCount">>
  /** Records in between are unknown here: ask from `knows`. */
  | { readonly kind: "gap"; readonly knows: number }
  /** The origin is forgotten or our own, or the frame is invalid. */
  | { readonly kind: "refused" };

/** How entries are read back from records. */
export interface EntryReader extends Pick<EntryStamper, "entryOfStored"> {
  /** An entry says who made it under that one's signature, which any node may take and pass on under its own origin. */
  readonly isSealed?: boolean;
}

/** Reads entries that are sealed. */
export function sealed(stamper: EntryReader): EntryReader {
  return { isSealed: true, entryOfStored: (bytes) => stamper.entryOfStored(bytes) };
}

/** Receives the frames of one link. The frames of a whole transfer come from one sender, in its order. */
export class FrameReceiver {
  readonly #replica: Replica;
  readonly #stamper: EntryReader;
  readonly #bounds: EntryBounds;
  /** Whole transfers under way, by origin. */
  readonly #transfers = new Map<string, WholeTransfer>();

  /** Origins whose whole transfers repair, with the seq up to which both sides hold everything. */
  readonly #repairs = new Map<string, number>();

  readonly #maxOriginRecords: number;

  constructor(replica: Replica, stamper: EntryReader, bounds: EntryBounds, maxOriginRecords: number = Number.POSITIVE_INFINITY) {
    this.#maxOriginRecords = maxOriginRecords;
    this.#replica = replica;
    this.#stamper = stamper;
    this.#bounds = bounds;
  }

  /**
   * Takes the next whole transfer of this origin although V covers it, because the digests of both sides differ at `through`. Records that
   * are held and not listed end, and listed records that are not held are installed. Forgotten when the transfer ends.
   */
  repair(originId: string, through: number): void {
    this.#repairs.set(originId, through);
  }

  /**
   * Applies a frame. A repeated, late or reordered frame leaves the same replica (P5). Stamps more than `maxSkewMs` ahead of the wall clock
   * are reported apart, because they must not move this node's clock.
   */
  apply(frame: OriginFrame, time: Time, { place, maxSkewMs = 60_000 }: { place?: OriginLocation; maxSkewMs?: number } = {}): FrameResult {
    const { self } = this.#replica;
    const id = `${frame.nodeId}/${frame.generation}`;
    if (id === self.id || this.#replica.forgotten.has(id) || !isSound(frame)) return { kind: "refused" };
    const origin = this.#replica.origin(frame.nodeId, frame.generation, place);
    const taken = new FrameOutcome(time.wallMs + maxSkewMs);
    // Whole transfers are taken one after the other. A node that is still behind after this one asks again.
    if (frame.isComplete && origin.closing !== undefined) return taken;
    const isGap = frame.isComplete ? !this.#continues(frame, origin) : frame.after > takenThrough(origin);
    if (isGap) return { kind: "gap", knows: origin.through };
    // Many peers send the same records. Known ones are skipped.
    if (!frame.isComplete && frame.through <= takenThrough(origin)) return taken;
    const known = this.#knownIn(frame, origin);
    for (const bytes of frame.records) {
      try {
        this.#take(bytes, { frame, origin, known }, time, taken);
      } catch (error) {
        if (!(error instanceof WaymarkError)) throw error;
        taken.refused.push(error);
        if (!(error instanceof OutOfReach)) taken.lackCount += 1;
      }
    }
    if (frame.isComplete) this.#transfers.get(id)?.look(frame);
    this.#note(taken, frame, origin);
    this.#settle(frame, origin);
    return taken;
  }

  /** Records covered by V are held, or were removed and their tombstones collected. A late frame must not bring them back (P5). */
  #knownIn(frame: OriginFrame, origin: Origin): number {
    const repaired = frame.isComplete ? this.#repairs.get(origin.id) : undefined;
    // A tombstone above the common state is gone, so the sender may not have heard of that removal.
    if (repaired === undefined || origin.floor > repaired) return takenThrough(origin);
    return 0;
  }

  #take(bytes: Uint8Array, of: { frame: OriginFrame; origin: Origin; known: number }, time: Time, taken: FrameOutcome): void {
    const { frame, origin, known } = of;
    const record = decodeRecord(bytes, this.#bounds);
    if (record.seq <= frame.after || record.seq > frame.through)
      throw invalid("seq", `${record.seq} is outside the frame's ${frame.after} to ${frame.through}`);
    if (record.seq <= known && !frame.isComplete) return;
    const stored = this.#storedOf(record, origin);
    // If many origins have a key, one record of it costs as much as ten of other keys.
    if (!taken.isFirstOf(stored.key)) {
      if (stored.sizeBytes > 0) this.#replica.slab.free(stored.at, stored.sizeBytes);
      throw invalid("key", "is in the frame twice, which has the newest record of each");
    }
    if (record.unknown !== undefined) keepUnknown(stored, record.unknown);
    taken.stamp(stored.hlc);
    // A tombstone may have the number of the entry that is held here: a sender without knowledge of the removal gave the entry no new
    // number.
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
   * Whether a frame is the next one of its whole transfer; the first frame starts the transfer anew. After a lost frame, the keys that it
   * listed would count as removed.
   */
  #continues({ after, through, knownSeq = through }: OriginFrame, origin: Origin): boolean {
    let transfer = this.#transfers.get(origin.id);
    if (after === 0) {
      // This frame was not asked for, because its keys are unknown to the sender's vector. Refused records are not held although V covers
      // them.
      if (origin.lacks !== undefined && knownSeq >= origin.through && !this.#repairs.has(origin.id)) this.repair(origin.id, origin.through);
      transfer = new WholeTransfer(origin);
      this.#transfers.set(origin.id, transfer);
    }
    // An origin that was forgotten meanwhile begins anew.
    if (transfer?.through !== after || transfer.origin !== origin) return false;
    transfer.through = through;
    return true;
  }

  /** A refused record makes its origin partial: its vector moves, but it is not whole. */
  #note({ lackCount, refused }: FrameOutcome, frame: OriginFrame, origin: Origin): void {
    if (lackCount === 0) return;
    const transfer = frame.isComplete ? this.#transfers.get(origin.id) : undefined;
    if (transfer !== undefined) transfer.lackCount += lackCount;
    const why = refused.find((error) => !(error instanceof OutOfReach))?.message ?? "";
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
    // V moves only at the end, when all removals have arrived too: a transfer that breaks off has not told any of them.
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
    // What is sealed is ended by what is sealed, and not by the word of a node.
    if (this.#stamper.isSealed === true && (record.body === BODY.UNREGISTERED || record.unregisteredHlc !== undefined))
      throw invalid("unregistered", "ends what others hold, which nobody may do to what is sealed");
    if (record.body === BODY.ENTRY) return this.#readEntry(record, origin);
    const gone = { at: 0, sizeBytes: 0, contentBytes: 0, health: HEALTH.HEALTHY, scope: record.reach, traits: NO_TRAITS };
    return new StoredRecord({ ...record, ...record.key, ...gone, origin, key: keyText(record.key) });
  }

  #readEntry(record: WireRecord & { body: typeof BODY.ENTRY }, origin: Origin): StoredRecord {
    const stamped = this.#stamper.entryOfStored(record.entry);
    if (this.#stamper.isSealed !== true) checkMaker(stamped, origin);
    if ((stamped.version ?? record.hlc) !== record.hlc) throw invalid("hlc", `${record.hlc} is not the version ${stamped.version}`);
    if (!this.#mayBeHere(stamped.scope, origin)) throw new OutOfReach(SCOPE_NAMES[stamped.scope]);
    if (!this.#hasRoom(stamped.key, origin))
      throw new WaymarkError("quota_exceeded", `more than ${this.#maxOriginRecords} records of one origin`);
    return new StoredRecord(entryFields(record, stamped, { origin, slab: this.#replica.slab }));
  }

  /** Whether there is room for an entry of this origin and key: the origin is below its quota, or has the key already. */
  #hasRoom(key: KeyText, origin: Origin): boolean {
    return origin.log.size < this.#maxOriginRecords || this.#replica.records(key).some((record) => record.origin === origin);
  }

  /** Whether this record, or a later one of its key and origin, is held. */
  #isHeld({ key, seq, body, origin }: StoredRecord): boolean {
    return body !== BODY.ENTRY || this.#replica.records(key).some((record) => record.origin === origin && record.seq >= seq);
  }

  /** Whether a record of that origin with that scope may be here (P1). */
  #mayBeHere(scope: Scope, origin: Origin): boolean {
    const { self } = this.#replica;
    if (origin.clusterId === "" || self.clusterId === "") return scope > SCOPE.LOCAL;
    return mayHold(scope, relationOf(self, origin));
  }

  /**
   * This node's own record that the tombstone ends: the one that is on its way to the disk, or the one before it, which counts again if
   * that batch is refused.
   */
  #superseded(stored: StoredRecord): readonly StoredRecord[] {
    const endedHlc = endsBeforeHlc(stored);
    const { self } = this.#replica;
    const own = [this.#replica.own(stored.key) ?? [], this.#replica.records(stored.key).filter(({ origin }) => origin === self)].flat();
    return own.filter((each) => each.body === BODY.ENTRY && each.hlc < endedHlc).slice(0, 1);
  }

  /** This node's own live record of the key, which does not go by these orders about its maintenance yet. */
  #reordered({ key, orders }: StoredRecord): readonly StoredRecord[] {
    const own = this.#replica.own(key);
    return own?.body === BODY.ENTRY && hasNewerOverride(orders, own.orders) ? [own] : [];
  }
}

/** An entry says in the open which node made it: the origin of its record, and no other. */
function checkMaker(stamped: StoredEntry, origin: Origin): void {
  const { nodeId, clusterId, region } = stamped.traits;
  if (nodeId !== origin.nodeId) throw invalid("node_id", `${nodeId} is not the frame's origin ${origin.nodeId}`);
  if (origin.clusterId !== "" && clusterId !== origin.clusterId)
    throw invalid("cluster_id", `${clusterId} is not the origin's ${origin.clusterId}`);
  if (origin.region !== "" && region !== origin.region) throw invalid("region", `${region} is not the origin's ${origin.region}`);
  // A node of another cluster would be told in DNS under the name of one of ours.
  if (stamped.namespace === NODES_NAMESPACE && stamped.name !== origin.nodeId)
    throw invalid(
      "key.name",
      `${stamped.name} in ${NODES_NAMESPACE} is not the frame's origin ${origin.nodeId}: each node says where it is itself`,
    );
}

/** Longest reason that is kept. */
const MAX_WHY = 200;

/** A record that must not be here (P1). Its sender should not have sent it, so nothing is missing without it. */
class OutOfReach extends WaymarkError {
  constructor(scope: string) {
    super("invalid_argument", `scope: ${scope} never leaves its origin's reach`);
  }
}

/** Whether the numbers of a frame are possible: no node could continue after higher ones. */
function isSound({ generation, after, through, floor, knownSeq = 0 }: OriginFrame): boolean {
  return [generation, after, through, floor, knownSeq].every(isSeq) && through >= after;
}

/** The result of one frame. */
class FrameOutcome {
  readonly kind = "applied";
  /** Records that were refused alone, with the reasons. */
  readonly refused: WaymarkError[] = [];
  /**
   * This node's own live records of which a received record says something: an `unregistered` tombstone hides them, or it carries a newer order. They
   * are to be looked at, at once (`Registrar.hear`).
   */
  readonly superseded: StoredRecord[] = [];
  /** The stamps seen, for the clock: the newest that is within the bound of the wall clock, and the newest beyond it. */
  maxHlc = 0;
  beyondHlc = 0;
  /** Number of records that changed something here. */
  changedCount = 0;
  /** Number of refused records that should be here. */
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
