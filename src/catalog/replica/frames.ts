/**
 * Replication between replicas: what an origin's frame carries to a peer, and what a received frame does
 * (semantics.md, Replication). Moves bytes only; links and their scheduling are the fabric's.
 */
import { invalid, WaymarkError } from "../../lib/errors.ts";
import { hlcWallMs } from "../../lib/hlc.ts";
import type { Time } from "../../lib/machine.ts";
import type { EntryStamper } from "../entry/codec.ts";
import type { Bounds } from "../entry/names.ts";
import { mayHold, type Relation, relationOf, SCOPE, SCOPE_NAMES, type Scope } from "../entry/scope.ts";
import { decodeRecord, encodeRecord, isSeq, type WireRecord } from "../record/codec.ts";
import { BODY, HEALTH, type KeyText, keyParts, keyText } from "../record/record.ts";
import {
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
import type { OriginPlace } from "./origins.ts";
import type { Replica } from "./replica.ts";
import { endsBeforeHlc } from "./view.ts";
import { WholeTransfer } from "./whole-transfer.ts";

export interface Frame {
  readonly nodeId: string;
  readonly generation: number;
  /** Applies only where at least this is known. */
  readonly after: number;
  readonly through: number;
  /** Encoded `waymark.fabric.v1.Record`, ascending by seq. */
  readonly records: readonly Uint8Array[];
  /** Part of a whole transfer: all live records and the tombstones above `floor`; what is not listed is gone. */
  readonly isComplete: boolean;
  /**
   * What the sender knows of, absent when that is `through`: a key that changed again beyond `through` is not in the frame, so what
   * the receiver then holds is not what the origin held there (`Unsettled`).
   */
  readonly knownSeq?: number;
  /** The last frame of a whole transfer. */
  readonly isLast: boolean;
  readonly floor: number;
}

/** Records looked at for one frame: most may be none of its reader's. */
const MAX_LOOKED = 10_000;

/** Whom a frame is for. */
export interface Link {
  readonly relation: Relation;
  readonly clusterId: string;
}

/**
 * The next frame of an origin for a peer that has everything up to `after`; at least one record if there is one among those it looks at, then
 * as many as the budget holds, and none above `upTo`. A peer below the floor gets a whole transfer: call again with `isComplete`
 * and the last `through` until `isLast`; start again when meanwhile the floor passes the `through` it was begun at: what was
 * listed may have been removed since, and the tombstone be gone.
 */
export function buildFrame(
  replica: Replica,
  origin: Origin,
  from: { readonly after: number; readonly isComplete: boolean; readonly upTo?: number },
  link: Link,
  budgetBytes: number,
): Frame {
  const isComplete = from.isComplete || from.after < origin.floor;
  const after = isComplete && !from.isComplete ? 0 : from.after;
  const upTo = Math.min(from.upTo ?? origin.through, origin.through);
  const records: Uint8Array[] = [];
  let through = after;
  let left = budgetBytes;
  let isCut = false;
  let lookedCount = 0;
  origin.log.forEachSince(after, (stored, seq) => {
    // In the middle of a whole transfer more is held than is known: passed on, it would hide what is still missing.
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

/** What a peer may be told of a record: all of it, that it is out of its reach now, or nothing. */
function encodeFor(replica: Replica, stored: StoredRecord, link: Link): Uint8Array | undefined {
  if (!mayHold(stored.reach, link.relation)) return undefined;
  const key = keyParts(stored.key);
  // Never back into its origin's cluster by way of another: that cluster's own nodes would believe they had everything. A
  // tombstone may be of another cluster's key, from nodes that let it be taken out anywhere: it ends nothing.
  const home = stored.origin.clusterId === "" ? key.clusterId : stored.origin.clusterId;
  if (link.relation !== "cluster" && link.relation !== "self" && home === link.clusterId) return undefined;
  if (stored.body !== BODY.ENTRY) return encodeRecord(stored, { body: stored.body, key }, unknownOf(stored));
  if (mayHold(stored.scope, link.relation))
    return encodeRecord(stored, { body: BODY.ENTRY, entry: replica.slab.view(stored.at, stored.sizeBytes) }, unknownOf(stored));
  // Narrowed since, or moved here from where it was wider: outside the scope, inside the reach (P1). What anybody put before is over there.
  const { seq, hlc, reach, filterSeq, firstSeq, principal } = stored;
  return encodeRecord({ seq, hlc, reach, filterSeq, firstSeq, principal, unregisteredHlc: hlc }, { body: BODY.EXPIRED, key });
}

export type Applied =
  | {
      readonly kind: "applied";
      /** Records refused alone, and why. */
      readonly refused: readonly WaymarkError[];
      /** This node's own live records that an arriving `unregistered` tombstone hides: to be ended at once (`Endings.superseded`). */
      readonly superseded: readonly StoredRecord[];
      /** Stamps seen, for the clock: the newest that is no more than the bound ahead of the wall, and the newest beyond. */
      readonly maxHlc: number;
      readonly beyondHlc: number;
      /** Records that changed something here. */
      readonly changedCount: number;
    }
  /** What lies between is not known here: ask from `knows`. */
  | { readonly kind: "gap"; readonly knows: number }
  /** An origin forgotten here, or our own; or nonsense. */
  | { readonly kind: "refused" };

/** One a link: the frames of a whole transfer are those of one sender, in the order it sent them. */
export class FrameReceiver {
  readonly #replica: Replica;
  readonly #stamper: EntryStamper;
  readonly #bounds: Bounds;
  /** Whole transfers under way, by origin. */
  readonly #transfers = new Map<string, WholeTransfer>();

  /** Whole transfers that repair: their origins, and the seq up to which both sides hold everything. */
  readonly #repairs = new Map<string, number>();

  readonly #maxOriginRecords: number;

  constructor(replica: Replica, stamper: EntryStamper, bounds: Bounds, maxOriginRecords: number = Number.POSITIVE_INFINITY) {
    this.#maxOriginRecords = maxOriginRecords;
    this.#replica = replica;
    this.#stamper = stamper;
    this.#bounds = bounds;
  }

  /**
   * The next whole transfer of this origin is taken in though V covers it: the digests of both sides differ at `through`. What
   * is held and not listed ends, what is listed and not held is installed. Forgotten when the transfer ends.
   */
  repair(originId: string, through: number): void {
    this.#repairs.set(originId, through);
  }

  /**
   * Applies a frame. The same frame twice, late or out of order leaves the same replica (P5). A stamp more than `maxSkewMs`
   * ahead of the wall is told apart: it must not move this node's clock.
   */
  apply(frame: Frame, time: Time, { place, maxSkewMs = 60_000 }: { place?: OriginPlace; maxSkewMs?: number } = {}): Applied {
    const { self } = this.#replica;
    const id = `${frame.nodeId}/${frame.generation}`;
    if (id === self.id || this.#replica.forgotten.has(id) || !isSound(frame)) return { kind: "refused" };
    const origin = this.#replica.origin(frame.nodeId, frame.generation, place);
    const taken = new Taken(time.wallMs + maxSkewMs);
    // One whole transfer after the other: whoever is still behind after this one asks again.
    if (frame.isComplete && origin.closing !== undefined) return taken;
    const isGap = frame.isComplete ? !this.#continues(frame, origin) : frame.after > takenThrough(origin);
    if (isGap) return { kind: "gap", knows: origin.through };
    // Many peers send the same: what is known already is not looked at.
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

  /** What V covers is held, or was removed and its tombstone collected: a late frame must not bring it back (P5). */
  #knownIn(frame: Frame, origin: Origin): number {
    const repaired = frame.isComplete ? this.#repairs.get(origin.id) : undefined;
    // A tombstone above what both sides held is gone: the sender may not have heard of that removal.
    if (repaired === undefined || origin.floor > repaired) return takenThrough(origin);
    return 0;
  }

  #take(bytes: Uint8Array, of: { frame: Frame; origin: Origin; known: number }, time: Time, taken: Taken): void {
    const { frame, origin, known } = of;
    const record = decodeRecord(bytes, this.#bounds);
    if (record.seq <= frame.after || record.seq > frame.through)
      throw invalid("seq", `${record.seq} is outside the frame's ${frame.after} to ${frame.through}`);
    if (record.seq <= known && !frame.isComplete) return;
    const stored = this.#storedOf(record, origin);
    // Where many origins have a key, one record of it costs what ten of other keys do.
    if (!taken.isFirstOf(stored.key)) {
      if (stored.sizeBytes > 0) this.#replica.slab.free(stored.at, stored.sizeBytes);
      throw invalid("key", "is in the frame twice, which has the newest record of each");
    }
    if (record.unknown !== undefined) keepUnknown(stored, record.unknown);
    taken.stamp(stored.hlc);
    // A tombstone may have the number of the entry held here: a sender that was told of no removal gave it none of its own.
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
  }

  /** Whether a frame of a whole transfer is the next one; the first one starts it anew. What a lost one listed would count as gone. */
  #continues({ after, through, knownSeq = through }: Frame, origin: Origin): boolean {
    let transfer = this.#transfers.get(origin.id);
    if (after === 0) {
      // Not asked for: the sender was told of none of it. What was refused is not held, though V covers it.
      if (origin.lacks !== undefined && knownSeq >= origin.through && !this.#repairs.has(origin.id)) this.repair(origin.id, origin.through);
      transfer = new WholeTransfer(origin);
      this.#transfers.set(origin.id, transfer);
    }
    // An origin that was forgotten meanwhile begins anew.
    if (transfer?.through !== after || transfer.origin !== origin) return false;
    transfer.through = through;
    return true;
  }

  /** What is refused makes its origin partial: it counts as moved on, and as not whole. */
  #note({ lackCount, refused }: Taken, frame: Frame, origin: Origin): void {
    if (lackCount === 0) return;
    const transfer = frame.isComplete ? this.#transfers.get(origin.id) : undefined;
    if (transfer !== undefined) transfer.lackCount += lackCount;
    const why = refused.find((error) => !(error instanceof OutOfReach))?.message ?? "";
    const before = origin.lacks?.isFromBefore === true && why !== "" ? undefined : origin.lacks;
    origin.lacks = { ...before, count: (before?.count ?? 0) + lackCount, why: (before?.why ?? why).slice(0, MAX_WHY) };
  }

  #settle(frame: Frame, origin: Origin): void {
    if (!frame.isComplete) {
      if (origin.through === 0) origin.floor = Math.max(origin.floor, frame.floor);
      if (origin.closing !== undefined) followClosing(origin, origin.closing, frame.through, frame.knownSeq ?? 0);
      else moveThrough(origin, frame.through, frame.knownSeq ?? 0);
      return;
    }
    // V moves at the end only, when also all removals are here: a transfer that breaks off in the middle has told of none yet.
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
    if (record.body === BODY.ENTRY) return this.#readEntry(record, origin);
    const gone = { at: 0, sizeBytes: 0, contentBytes: 0, health: HEALTH.HEALTHY, scope: record.reach, traits: NO_TRAITS };
    return new StoredRecord({ ...record, ...record.key, ...gone, origin, key: keyText(record.key) });
  }

  #readEntry(record: WireRecord & { body: typeof BODY.ENTRY }, origin: Origin): StoredRecord {
    const stamped = this.#stamper.entryOfStored(record.entry);
    if (stamped.traits.nodeId !== origin.nodeId)
      throw invalid("node_id", `${stamped.traits.nodeId} is not the frame's origin ${origin.nodeId}`);
    if (origin.clusterId !== "" && stamped.traits.clusterId !== origin.clusterId)
      throw invalid("cluster_id", `${stamped.traits.clusterId} is not the origin's ${origin.clusterId}`);
    if (!this.#mayBeHere(stamped.scope, origin)) throw new OutOfReach(SCOPE_NAMES[stamped.scope]);
    const { key, namespace, name, kind, scope, health, traits, hasAliases, contentBytes } = stamped;
    if (!this.#hasRoom(key, origin)) throw new WaymarkError("quota_exceeded", `more than ${this.#maxOriginRecords} records of one origin`);
    const { seq, hlc, firstSeq, filterSeq, reach, principal, unregisteredHlc, entry, body } = record;
    const at = this.#replica.slab.put(entry);
    const sizeBytes = entry.length;
    // HOT: one literal; each object that is spread into another costs as much as reading a field (bench/versions.ts, replication).
    // biome-ignore format: a line a group
    return new StoredRecord({
      key, namespace, name, kind, scope, health, traits, hasAliases, contentBytes,
      seq, hlc, firstSeq, filterSeq, reach, principal, unregisteredHlc,
      origin, body, at, sizeBytes,
    });
  }

  /** Whether an origin may have an entry of that key here: it has no more than its quota, or has the key already. */
  #hasRoom(key: KeyText, origin: Origin): boolean {
    return origin.log.size < this.#maxOriginRecords || this.#replica.records(key).some((record) => record.origin === origin);
  }

  /** Whether an entry, or what came after it, is here: also its end. */
  #isHeld({ key, seq, body, origin }: StoredRecord): boolean {
    return body !== BODY.ENTRY || this.#replica.records(key).some((record) => record.origin === origin && record.seq >= seq);
  }

  /** Whether a record of that origin may be published this wide and be here (P1). */
  #mayBeHere(scope: Scope, origin: Origin): boolean {
    const { self } = this.#replica;
    if (origin.clusterId === "" || self.clusterId === "") return scope > SCOPE.LOCAL;
    return mayHold(scope, relationOf(self, origin));
  }

  /**
   * This node's own record that is ended by it: the one that is on its way to the disk, or else the one before it, which
   * stands again when that batch is refused.
   */
  #superseded(stored: StoredRecord): readonly StoredRecord[] {
    const endedHlc = endsBeforeHlc(stored);
    const { self } = this.#replica;
    const own = [this.#replica.own(stored.key) ?? [], this.#replica.records(stored.key).filter(({ origin }) => origin === self)].flat();
    return own.filter((each) => each.body === BODY.ENTRY && each.hlc < endedHlc).slice(0, 1);
  }
}

/** Longest reason that is kept. */
const MAX_WHY = 200;

/** A record that may not be here at all (P1): whoever sent it should not have, and nothing is lacking without it. */
class OutOfReach extends WaymarkError {
  constructor(scope: string) {
    super("invalid_argument", `scope: ${scope} never leaves its origin's reach`);
  }
}

/** Numbers that a frame may carry at all: no node can count on from higher ones. */
function isSound({ generation, after, through, floor, knownSeq = 0 }: Frame): boolean {
  return [generation, after, through, floor, knownSeq].every(isSeq) && through >= after;
}

/** What came of one frame. */
class Taken {
  readonly kind = "applied";
  readonly refused: WaymarkError[] = [];
  readonly superseded: StoredRecord[] = [];
  maxHlc = 0;
  beyondHlc = 0;
  changedCount = 0;
  /** Refused records that should be here. */
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
