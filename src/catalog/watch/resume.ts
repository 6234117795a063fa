/** Computes deltas from a portable cursor, on any node, including a node that is behind the cursor (semantics.md, Watch 3 and 4). */
import type { Time } from "../../lib/machine.ts";
import { matches } from "../query/filter.ts";
import { BODY, type KeyText } from "../record/record.ts";
import { type Origin, type StoredRecord, settledOf } from "../record/stored-record.ts";
import { isOfOtherCluster } from "../replica/origins.ts";
import type { Replica } from "../replica/replica.ts";
import { isSamePlace, type PortableCursor, shortHolder, type WatchCursor } from "./cursor.ts";
import { type CursorCoverage, type CursorGap, MAX_WAIT_MS, WithheldKeys } from "./cursor-gap.ts";
import { ACTION, type WatchChange, type WatchReader } from "./reader.ts";

/** Whether the cursor comes from a reader of the same content in this cluster. All other readers need a snapshot. */
export function isOfReader(cursor: WatchCursor, { node, options }: WatchReader): boolean {
  if (cursor.kind === "short") return cursor.holder === shortHolder(node.boot, options.hash);
  return cursor.clusterId === node.clusterId && cursor.readerHash === options.hash;
}

/** Whether the cursor covers changes that this replica does not know. */
export function isAhead(cursor: PortableCursor, replica: Replica): boolean {
  return cursor.origins.some(({ nodeId, generation, seq }) => settledIn(replica, `${nodeId}/${generation}`) < seq);
}

/** Time to wait for the rest of an incomplete frame, in ms. */
const MAX_UNSETTLED_MS = 5000;

interface OriginRange {
  readonly origin: Origin;
  after: number;
  /** Whether the reader knows the origin in a different state. If so, the origin's keys are sent again. */
  readonly isLifeChanged: boolean;
}

export class ResumeGap implements CursorGap {
  readonly #reader: WatchReader;
  readonly #cursor: PortableCursor;
  readonly #sinceMonoMs: number;
  /** The seq up to which records may have been sent to the reader, by origin id. */
  readonly #sent = new Map<string, number>();
  /** The seq up to which the reader has received everything, by origin id. */
  readonly #known = new Map<string, number>();
  readonly #stretches: OriginRange[] = [];
  /** Keys outside the ranges are sent when they change after this revision. */
  readonly from: number;
  readonly held: WithheldKeys;
  /** Origins for which this node had fewer records than the cursor covers when the watch started. */
  readonly #late = new Set<string>();
  /**
   * Whether the cursor comes from a node with the same LOCAL entries: this node, or any node if the reader has no LOCAL entries.
   */
  readonly #isOfPlace: boolean;

  constructor(cursor: PortableCursor, reader: WatchReader, time: Time) {
    this.#reader = reader;
    this.#cursor = cursor;
    this.#sinceMonoMs = time.monoMs;
    this.from = reader.replica.revision;
    this.held = new WithheldKeys(reader);
    this.#isOfPlace = isSamePlace(cursor.local, reader.local);
    const lives = new Map<string, string>();
    for (const known of cursor.origins) {
      const id = `${known.nodeId}/${known.generation}`;
      this.#sent.set(id, known.seq);
      this.#known.set(id, known.settled ?? known.seq);
      if (settledIn(reader.replica, id) < known.seq) this.#late.add(id);
      lives.set(id, known.life);
    }
    for (const origin of reader.replica.origins.values()) {
      const life = lives.get(origin.id);
      const isLifeChanged = life !== undefined && life !== origin.life;
      const after = isLifeChanged ? 0 : (this.#known.get(origin.id) ?? 0);
      this.#stretches.push({ origin, after, isLifeChanged });
    }
  }

  get isFilled(): boolean {
    return this.#stretches.length === 0;
  }

  get isOfPolicy(): boolean {
    return this.#cursor.policyEpoch === this.#reader.options.policyEpoch();
  }

  isTellable(): boolean {
    const { replica } = this.#reader;
    if (!this.isOfPolicy || !this.#isOfPlace) return false;
    // This node may lack tombstones at or below the floor, so removals cannot be sent.
    for (const { origin, after } of this.#stretches) {
      const known = this.#known.get(origin.id);
      if (replica.origins.get(origin.id) !== origin) return false;
      // Records that a whole transfer did not list are withdrawn in slices. Some may already have been withdrawn without leaving a record.
      const floor = Math.max(origin.floor, origin.closing?.floor ?? 0);
      if (known !== undefined && floor > Math.max(known, after)) return false;
    }
    return (this.#sent.get(replica.self.id) ?? 0) <= replica.self.through;
  }

  coverage(time: Time, isReady: boolean): CursorCoverage {
    const { replica, node } = this.#reader;
    const waitedMs = isReady ? time.monoMs - this.#sinceMonoMs : 0;
    const [hasWaited, isOverdue] = [waitedMs >= MAX_WAIT_MS, waitedMs >= MAX_UNSETTLED_MS];
    let isLost = false;
    for (const { nodeId, generation, seq, settled } of this.#cursor.origins) {
      const id = `${nodeId}/${generation}`;
      const origin = replica.origins.get(id);
      if (origin !== undefined && settledOf(origin) >= seq) {
        // The records have arrived since then, but not the removals up to the floor. The reader may therefore have keys that were removed before this
        // node received them.
        if (this.#late.has(id) && origin.floor > seq) isLost = true;
        continue;
      }
      // A cursor above this node's own seq was issued before this node lost a journal.
      if (origin === replica.self || replica.forgotten.has(id)) isLost = true;
      else if (origin === undefined && isReady && nodeId === node.nodeId) isLost = true;
      else if (hasWaited && (!this.#mayGrow(origin) || (settled === 0 && this.#isAbroad(origin)))) isLost = true;
      // The rest of an incomplete frame either arrives soon or never: it was lost with its node, or its sender claimed more than it had.
      else if (isOverdue && origin !== undefined && origin.through >= seq) isLost = true;
      else return "behind";
    }
    return isLost ? "lost" : "covered";
  }

  /**
   * Whether the origin belongs to another cluster. Records that the cursor's node refused may never arrive, and another cluster must not delay
   * readers here.
   */
  #isAbroad(origin: Origin | undefined): boolean {
    return origin !== undefined && isOfOtherCluster(origin, this.#reader.node.clusterId);
  }

  /** Whether more records of the origin can arrive, because its node is alive in this generation. */
  #mayGrow(origin: Origin | undefined): boolean {
    if (origin === undefined || origin.life !== "live") return false;
    const all = [...this.#reader.replica.origins.values()];
    return !all.some(({ nodeId, generation }) => nodeId === origin.nodeId && generation > origin.generation);
  }

  take(budgetBytes: number): WatchChange[] {
    const changes: WatchChange[] = [];
    const sentKeys = new Set<KeyText>();
    let left = budgetBytes;
    for (let stretch = this.#stretches[0]; stretch !== undefined; stretch = this.#stretches[0]) {
      const { origin, isLifeChanged } = stretch;
      let isCut = false;
      origin.log.forEachSince(stretch.after, (stored, seq) => {
        const change = sentKeys.has(stored.key) ? undefined : this.#changeOf(stored, isLifeChanged);
        if (change !== undefined && this.maySend(change)) {
          left -= this.#reader.sizeOf(change);
          isCut = left < 0 && changes.length > 0;
          if (isCut) return false;
          changes.push(change);
          if (stored.peers !== undefined) sentKeys.add(stored.key);
        }
        stretch.after = seq;
        return true;
      });
      if (isCut) break;
      this.#stretches.shift();
    }
    return changes;
  }

  maySend(change: WatchChange): boolean {
    const { origin, seq } = change.record;
    const sentSeq = this.#sent.get(origin.id) ?? 0;
    if (seq > sentSeq || settledIn(this.#reader.replica, origin.id) >= sentSeq) {
      this.held.delete(change.record.key);
      return true;
    }
    this.held.add(change.record.key);
    return false;
  }

  #changeOf(stored: StoredRecord, isLifeChanged: boolean): WatchChange | undefined {
    const { replica, options, node } = this.#reader;
    if (!options.allowed(stored.namespace) || !this.#reader.mayHoldKey(stored)) return undefined;
    // For a hidden origin that the reader does not know, only its unregisters are relevant.
    if (stored.origin.life === "hidden" && stored.body === BODY.ENTRY && !this.#known.has(stored.origin.id)) return undefined;
    const winner = replica.view(stored.key);
    if (winner !== undefined && matches(options.filter, winner, node)) {
      const isNew = winner.firstSeq > (this.#known.get(winner.origin.id) ?? 0);
      return { action: isNew ? ACTION.CREATE : ACTION.UPDATE, record: winner, revision: stored.revision };
    }
    if (!this.#reader.mayReveal(stored)) return undefined;
    // The policy is the same as when the cursor was issued, so the reader never had the records that are hidden now.
    if (winner === undefined && stored.peers === undefined && !replica.isAdmitted(stored)) return undefined;
    // filter_seq: a record that did not match before the cursor was not sent to the reader, unless the reader saw another origin's record.
    const isSure = winner === stored && stored.peers === undefined && !isLifeChanged;
    const couldHave = !isSure || winner.filterSeq > (this.#known.get(stored.origin.id) ?? 0);
    return couldHave
      ? { action: ACTION.REMOVE, record: stored, revision: stored.revision, cause: this.#reader.causeOf(stored) }
      : undefined;
  }
}

/** Returns the seq up to which an origin's records are stored on this node as they were on the origin; 0 if that is unknown. */
function settledIn({ origins }: Replica, id: string): number {
  const origin = origins.get(id);
  return origin === undefined ? 0 : settledOf(origin);
}
