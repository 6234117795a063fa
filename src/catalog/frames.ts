/**
 * Replication between replicas: what an origin's frame carries to a peer, and what a received frame does
 * (semantics.md, Replication). Moves bytes only; links and their scheduling are the fabric's.
 */
import { invalid, WaymarkError } from "../lib/errors.ts";
import type { Time } from "../lib/machine.ts";
import { Cell, type Origin } from "./cell.ts";
import type { Drafter } from "./codec.ts";
import type { Bounds } from "./names.ts";
import { BODY, HEALTH, keyParts, keyText } from "./record.ts";
import { decodeRecord, encodeRecord, type WireRecord } from "./record-codec.ts";
import type { Replica } from "./replica.ts";
import { mayHold, type Relation } from "./scope.ts";
import { NO_TRAITS } from "./traits.ts";

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
  /** The last frame of a whole transfer. */
  readonly isLast: boolean;
  readonly floor: number;
}

/** Whom a frame is for. */
export interface Link {
  readonly relation: Relation;
  readonly clusterId: string;
}

/**
 * The next frame of an origin for a peer that has everything up to `after`; at least one record if there is one, then as
 * many as the budget holds. A peer below the floor gets a whole transfer: call again with `isComplete` and the last
 * `through` until `isLast`.
 */
export function buildFrame(
  replica: Replica,
  origin: Origin,
  from: { readonly after: number; readonly isComplete: boolean },
  link: Link,
  budgetBytes: number,
): Frame {
  const isComplete = from.isComplete || from.after < origin.floor;
  const after = isComplete && !from.isComplete ? 0 : from.after;
  const records: Uint8Array[] = [];
  let through = after;
  let left = budgetBytes;
  let isCut = false;
  origin.log.forEachSince(after, (cell, seq) => {
    // In the middle of a whole transfer more is held than is known: passed on, it would hide what is still missing.
    if (seq > origin.through) return false;
    const bytes = encodeFor(replica, cell, link);
    if (bytes !== undefined) {
      left -= bytes.length;
      isCut = left < 0 && records.length > 0;
      if (isCut) return false;
      records.push(bytes);
    }
    through = seq;
    return true;
  });
  if (!isCut) through = Math.max(origin.through, after);
  return {
    nodeId: origin.nodeId,
    generation: origin.generation,
    after,
    through,
    records,
    isComplete,
    isLast: isComplete && !isCut,
    floor: origin.floor,
  };
}

/** What a peer may be told of a record: all of it, that it is out of its reach now, or nothing. */
function encodeFor(replica: Replica, cell: Cell, link: Link): Uint8Array | undefined {
  const key = keyParts(cell.key);
  // Never back into its origin's cluster by way of another: that cluster's own nodes would believe they had everything.
  if (link.relation !== "cluster" && link.relation !== "self" && key.clusterId === link.clusterId) return undefined;
  if (!mayHold(cell.reach, link.relation)) return undefined;
  if (cell.body !== BODY.ENTRY) return encodeRecord(cell, { body: cell.body, key });
  if (mayHold(cell.scope, link.relation))
    return encodeRecord(cell, { body: BODY.ENTRY, entry: replica.slab.view(cell.at, cell.sizeBytes) });
  // Narrowed since: outside the scope, inside the reach (P1).
  return encodeRecord(cell, { body: BODY.EXPIRED, key });
}

export type Applied =
  | {
      readonly kind: "applied";
      /** Records refused alone, and why. */
      readonly refused: readonly WaymarkError[];
      /** This node's own live records that an arriving `unregistered` tombstone hides: to be dropped by their lease. */
      readonly superseded: readonly Cell[];
      /** Newest stamp seen, for the clock. */
      readonly maxHlc: number;
    }
  /** What lies between is not known here: ask from `knows`. */
  | { readonly kind: "gap"; readonly knows: number }
  /** An origin forgotten here, or our own. */
  | { readonly kind: "refused" };

/** One a link: the frames of a whole transfer are those of one sender, in the order it sent them. */
export class FrameReceiver {
  readonly #replica: Replica;
  readonly #drafter: Drafter;
  readonly #bounds: Bounds;
  /** Whole transfers under way, by origin: what was listed so far, and up to where. */
  readonly #transfers = new Map<string, { readonly listed: Set<string>; through: number }>();

  constructor(replica: Replica, drafter: Drafter, bounds: Bounds) {
    this.#replica = replica;
    this.#drafter = drafter;
    this.#bounds = bounds;
  }

  /** Applies a frame. The same frame twice, late or out of order leaves the same replica (P5). */
  apply(frame: Frame, time: Time): Applied {
    const { self } = this.#replica;
    const id = `${frame.nodeId}/${frame.generation}`;
    if (id === self.id || this.#replica.forgotten.has(id) || frame.through < frame.after) return { kind: "refused" };
    const origin = this.#replica.origin(frame.nodeId, frame.generation);
    if (frame.isComplete ? !this.#continues(frame, id) : frame.after > origin.through) return { kind: "gap", knows: origin.through };
    const refused: WaymarkError[] = [];
    const superseded: Cell[] = [];
    let maxHlc = 0;
    const known = origin.through;
    for (const bytes of frame.records) {
      try {
        const cell = this.#read(bytes, frame, origin);
        maxHlc = Math.max(maxHlc, cell.hlc);
        if (frame.isComplete) this.#transfers.get(id)?.listed.add(cell.key);
        // What V covers is held, or was removed and its tombstone collected: a late frame must not bring it back (P5).
        if (cell.seq > known) this.#replica.install(cell, time);
        else if (cell.sizeBytes > 0) this.#replica.slab.free(cell.at, cell.sizeBytes);
        superseded.push(...this.#superseded(cell));
      } catch (error) {
        if (!(error instanceof WaymarkError)) throw error;
        refused.push(error);
      }
    }
    this.#settle(frame, origin, time);
    return { kind: "applied", refused, superseded, maxHlc };
  }

  /** Whether a frame of a whole transfer is the next one; the first one starts it anew. What a lost one listed would count as gone. */
  #continues({ after, through }: Frame, id: string): boolean {
    let transfer = this.#transfers.get(id);
    if (after === 0) {
      transfer = { listed: new Set(), through: 0 };
      this.#transfers.set(id, transfer);
    }
    if (transfer?.through !== after) return false;
    transfer.through = through;
    return true;
  }

  #settle(frame: Frame, origin: Origin, time: Time): void {
    if (!frame.isComplete) {
      if (origin.through === 0) origin.floor = Math.max(origin.floor, frame.floor);
      origin.through = Math.max(origin.through, frame.through);
      return;
    }
    // V moves at the end only: a transfer that breaks off in the middle has told of no removal yet.
    if (!frame.isLast) return;
    const listed = this.#transfers.get(origin.id)?.listed ?? new Set();
    this.#transfers.delete(origin.id);
    const gone: Cell[] = [];
    origin.log.forEachSince(0, (cell, seq) => {
      if (seq > frame.through) return false;
      if (cell.body === BODY.ENTRY && !listed.has(cell.key)) gone.push(cell);
      return true;
    });
    for (const cell of gone) this.#replica.withdraw(cell, time);
    origin.floor = Math.max(origin.floor, frame.floor);
    origin.through = Math.max(origin.through, frame.through);
  }

  #read(bytes: Uint8Array, frame: Frame, origin: Origin): Cell {
    const record = decodeRecord(bytes, this.#bounds);
    if (record.seq <= frame.after || record.seq > frame.through)
      throw invalid("seq", `${record.seq} is outside the frame's ${frame.after} to ${frame.through}`);
    const head = { ...record, origin };
    if (record.body !== BODY.ENTRY) {
      const gone = { at: 0, sizeBytes: 0, contentBytes: 0, health: HEALTH.HEALTHY, scope: record.reach, traits: NO_TRAITS };
      return new Cell({ ...head, ...record.key, ...gone, key: keyText(record.key) });
    }
    return this.#readEntry(record, head, origin);
  }

  #readEntry(
    record: WireRecord & { body: typeof BODY.ENTRY },
    head: Omit<WireRecord, "body" | "entry"> & { origin: Origin },
    origin: Origin,
  ): Cell {
    const draft = this.#drafter.draftOfStored(record.entry);
    if (draft.traits.nodeId !== origin.nodeId)
      throw invalid("node_id", `${draft.traits.nodeId} is not the frame's origin ${origin.nodeId}`);
    const { key, namespace, name, kind, scope, health, traits, contentBytes } = draft;
    const at = this.#replica.slab.put(record.entry);
    const { seq, hlc, firstSeq, filterSeq, reach, principal } = head;
    const fields = { key, namespace, name, kind, scope, health, traits, contentBytes, seq, hlc, firstSeq, filterSeq, reach, principal };
    return new Cell({ ...fields, origin, body: BODY.ENTRY, at, sizeBytes: record.entry.length });
  }

  #superseded(cell: Cell): readonly Cell[] {
    if (cell.body !== BODY.UNREGISTERED) return [];
    const own = this.#replica.records(cell.key).find((record) => record.origin === this.#replica.self);
    return own !== undefined && own.body === BODY.ENTRY && own.hlc < cell.hlc ? [own] : [];
  }
}
