/** The state that a link keeps about its peer: identity, version vector, linked nodes, and the progress of each origin. */

import type { OriginRelation } from "../../catalog/entry/scope.ts";
import type { Origin } from "../../catalog/record/stored-record.ts";
import type { OriginFrame } from "../../catalog/replica/frames.ts";
import type { OriginLocation } from "../../catalog/replica/origins.ts";
import { Sum64 } from "../../lib/hash64.ts";
import type { Time } from "../../lib/machine.ts";
import type { Heartbeat, NodeRef, VectorEntry } from "../wire/messages.ts";
import type { Living } from "./hearsay.ts";
import type { ReplicationOptions } from "./options.ts";
import type { Replicator } from "./replicator.ts";
import { entryHash, shortHash, type VectorSlot } from "./version-vector.ts";

/** Maximum number of heartbeats in one frame. The remaining heartbeats follow in the next frame. */
const MAX_HEARTBEATS = 1000;
/** Ages are sent in tenths of a second, rounded up to compensate for the transit time. */
const TENTH_MS = 100;

/** An origin that has never written the records above `seq` that this node has. */
export interface Disproved {
  readonly origin: Origin;
  readonly seq: number;
}

export interface ReplicationPeer extends NodeRef, OriginLocation {
  /** Relation between the two nodes. It decides which records the link may carry. */
  readonly relation: OriginRelation;
}

/** An origin that the peer named, with its precomputed id. */
interface NamedOrigin extends NodeRef {
  readonly id: string;
}

/** Interval between searches for invented origins. */
const LOOK_MS = 1000;

export class PeerProgress {
  readonly peer: ReplicationPeer;
  readonly #replicator: Replicator;
  readonly #origins = new Map<string, OriginProgress>();
  /** Sum over all entries of the peer's vectors. The sum must equal the digest that the peer sends. */
  readonly #receivedSum = new Sum64();
  /** Sum over all entries of the vectors sent to the peer. */
  readonly #sentSum = new Sum64();
  /** Origins that the peer named with their full id, keyed by their short hash. */
  readonly #named = new Map<number, NamedOrigin>();
  #linked: ReadonlySet<string> | undefined;
  /** The peer's current generation. If the peer starts a new generation, the link stays up, and the peer's vector contains the new generation. */
  #generation: number;
  /** Generations of other clusters' nodes, as reported since `#lookedMonoMs`. */
  readonly #living = new Map<string, Living>();
  #lookedMonoMs = Number.NEGATIVE_INFINITY;
  /** The peer's whole vector has arrived, so the peer does not have any origin that it has not named. */
  hasWholeVector = false;

  constructor(replicator: Replicator, peer: ReplicationPeer) {
    this.#replicator = replicator;
    this.peer = peer;
    this.#generation = peer.generation;
  }

  find(id: string): OriginProgress | undefined {
    return this.#origins.get(id);
  }

  /** The seq that the peer reported for an origin, or 0 when it reported none. */
  reportedSeqOf(id: string): number {
    return this.#origins.get(id)?.reportedSeq ?? 0;
  }

  /** The highest seq that the peer knows for an origin whose records it partly refused, or 0 when it refused none. */
  lackingThroughOf(id: string): number {
    return this.#origins.get(id)?.lackingThrough ?? 0;
  }

  /**
   * The progress of an origin, which is created if needed. Undefined when there are too many origins. There is always room for the origins of the two
   * linked nodes.
   */
  take(id: string): OriginProgress | undefined {
    let known = this.#origins.get(id);
    const { options, replica } = this.#replicator;
    if (known === undefined && (this.#origins.size < options.maxOrigins || this.isOwn(id) || id === replica.self.id)) {
      known = new OriginProgress();
      this.#origins.set(id, known);
    }
    return known;
  }

  /** The origin of a short entry in the peer's vector. Undefined when the peer has not named it. */
  named(hash: number): NamedOrigin | undefined {
    return this.#named.get(hash);
  }

  /** Applies an entry of the peer's vector. Returns undefined when there are too many origins. `isShort`: the peer did not repeat the full id. */
  learn(id: string, entry: VectorEntry, isShort = false): OriginProgress | undefined {
    const known = this.take(id);
    if (known === undefined) return undefined;
    known.isShort = isShort;
    if (entry.nodeId === this.peer.nodeId) this.#generation = Math.max(this.#generation, entry.generation);
    if (!isShort) this.#named.set(shortHash(id), { id, nodeId: entry.nodeId, generation: entry.generation });
    if (entry.seq < known.reportedSeq) known.believe();
    this.#receivedSum.subtract(entryHash(id, known.reportedSeq));
    known.reportedSeq = entry.seq;
    // A short entry with 0 only means that the origin is no longer in the vector. Only full entries report whether records were refused.
    if (!isShort || entry.seq > 0) known.lackingThrough = entry.isLacking === true ? Math.max(1, entry.lackingThrough ?? 1) : 0;
    if (entry.isLacking === true) known.isOfOtherCluster = entry.isOfOtherCluster === true;
    this.#receivedSum.add(entryHash(id, entry.seq));
    known.reached(entry.seq);
    return known;
  }

  /** Digest of the vectors received on this link. */
  get digest(): bigint {
    return this.#receivedSum.value;
  }

  /** Digest of the vectors sent on this link. */
  get sentDigest(): bigint {
    return this.#sentSum.value;
  }

  /** Notes that this node's vector reports this seq. */
  noteSent(id: string, known: OriginProgress, seq: number): void {
    this.#sentSum.subtract(entryHash(id, known.sentSeq));
    known.sentSeq = seq;
    this.#sentSum.add(entryHash(id, seq));
  }

  /**
   * Returns the heartbeats of origins that the peer has no link to, unless the peer recently received one that is about as new. A peer of another
   * cluster also receives this node's own heartbeat. HOT: visits all origins for every vector.
   */
  heartbeats({ monoMs }: Time): readonly Heartbeat[] {
    const due: Heartbeat[] = [];
    const { heartbeats, vector, options, replica, isNewAtStart } = this.#replicator;
    // The age of an origin that changes at each start is never used.
    if (isNewAtStart) return due;
    const { heartbeatIntervalMs } = options;
    const addIfDue = (provenMonoMs: number, id: string) => {
      const known = this.#origins.get(id);
      // Most heartbeats are not due. Return before any further lookups.
      if (known === undefined || provenMonoMs < known.provenMonoMs + heartbeatIntervalMs || due.length === MAX_HEARTBEATS) return;
      const slot = vector.find(id);
      if (slot === undefined || this.#hasOtherSource(slot)) return;
      known.provenMonoMs = provenMonoMs;
      const ageMs = (Math.floor((monoMs - provenMonoMs) / TENTH_MS) + 1) * TENTH_MS;
      due.push({ hash: slot.short, ageMs, ...(slot.clusterId !== this.peer.clusterId && { seq: slot.seq }) });
    };
    if (this.peer.relation !== "cluster") addIfDue(monoMs, replica.self.id);
    heartbeats.forEach(addIfDue);
    return due;
  }

  /** Whether the peer gets this heartbeat from the origin itself, or cannot get it from this node. */
  #hasOtherSource(slot: VectorSlot): boolean {
    const { vector, replica } = this.#replicator;
    const isSelf = slot.id === replica.self.id;
    if (slot.nodeId === this.peer.nodeId || (!isSelf && this.isLinkedTo(slot.nodeId))) return true;
    if (slot.seq === 0 || !vector.mayName(slot, this.peer)) return true;
    const { clusterId } = this.peer;
    return vector.findShortOf(slot.short, clusterId, slot.clusterId === clusterId) !== slot;
  }

  /**
   * Applies a complete report: the peer sent its whole vector, or all changes to it, at most `lateMs` ago. The peer's seq for its own origin covers
   * everything that it wrote until then. The same is true of forwarded heartbeats of origins for which the peer is a first-hand source. Returns the
   * origins that the report disproves.
   */
  applyReport(heartbeats: readonly Heartbeat[], lateMs: number, time: Time): readonly Disproved[] {
    const { vector, replica, hearsay, place } = this.#replicator;
    const { nodeId, clusterId, generation } = this.peer;
    const disproved: Disproved[] = [];
    if (clusterId !== place.clusterId) this.#living.set(nodeId, { generation: this.#generation, clusterId, monoMs: time.monoMs - lateMs });
    hearsay.noteReport(clusterId, time);
    const id = `${nodeId}/${this.#generation}`;
    const own = replica.origins.get(id);
    // A node of another cluster may have the same id.
    if (own === undefined || ["", clusterId].includes(own.clusterId)) this.#noteHeartbeat(id, time.monoMs - lateMs);
    if (own !== undefined) this.noteHome(own);
    // A node of this node's cluster may report a later generation than its hello, which other nodes know from before its disk was restored.
    if (clusterId === place.clusterId && generation !== this.#generation)
      this.#noteHeartbeat(`${nodeId}/${generation}`, time.monoMs - lateMs);
    for (const { hash, ageMs, seq } of heartbeats) {
      // A heartbeat with a seq is for an origin of another cluster.
      const slot = vector.findShortOf(hash, place.clusterId, seq === undefined);
      if (slot === undefined || slot.id === replica.self.id || !hearsay.isFirstHand(this.peer, slot.clusterId)) continue;
      const monoMs = time.monoMs - lateMs - ageMs;
      hearsay.noteReport(slot.clusterId, time);
      this.#noteHeartbeat(slot.id, monoMs);
      const origin = replica.origins.get(slot.id);
      if (origin === undefined || seq === undefined) continue;
      if (hearsay.isDisproved(origin, { seq, monoMs }, time)) disproved.push({ origin, seq });
      this.#living.set(slot.nodeId, { generation: slot.generation, clusterId: slot.clusterId, monoMs });
    }
    for (const origin of this.#invented(time)) disproved.push({ origin, seq: 0 });
    return disproved;
  }

  /** Notes that the peer confirmed the location of its own origin on its own link, unless another node has the same id. */
  noteHome(own: Origin): void {
    const { nodeId, clusterId } = this.peer;
    if (own.clusterId === clusterId && !this.#replicator.hearsay.isElsewhere(nodeId, clusterId)) own.isAtHome = true;
  }

  /**
   * Returns the origins that must have been invented, according to the reports since the last search. The search visits all origins, so it runs at
   * most once per second.
   */
  #invented(time: Time): readonly Origin[] {
    if (this.#living.size === 0 || time.monoMs < this.#lookedMonoMs + LOOK_MS) return [];
    this.#lookedMonoMs = time.monoMs;
    const invented = [...this.#replicator.replica.origins.values()].filter((origin) => this.#isInvented(origin, time));
    this.#living.clear();
    return invented;
  }

  #isInvented(origin: Origin, time: Time): boolean {
    const { heartbeats, hearsay } = this.#replicator;
    const of = this.#living.get(origin.nodeId);
    return of !== undefined && heartbeats.provenMonoMs(origin.id) === undefined && hearsay.isInvented(origin, of, time);
  }

  #noteHeartbeat(id: string, provenMonoMs: number): void {
    const known = this.#origins.get(id);
    if (known !== undefined) known.provenMonoMs = Math.max(known.provenMonoMs, provenMonoMs);
    this.#replicator.heartbeats.heard(id, known?.reportedSeq ?? 0, provenMonoMs);
  }

  setLinked(nodeIds: readonly string[]): void {
    this.#linked = new Set(nodeIds);
  }

  isLinkedTo(nodeId: string): boolean {
    return this.#linked?.has(nodeId) === true;
  }

  /** Whether this is the peer's own origin. */
  isOwn(id: string): boolean {
    return id === `${this.peer.nodeId}/${this.peer.generation}`;
  }

  /** Whether the origin belongs to the peer, in any generation, because a link stays up when its node starts a new generation. */
  isOfPeer({ nodeId, clusterId }: Origin): boolean {
    return nodeId === this.peer.nodeId && clusterId === this.peer.clusterId;
  }

  /** Whether the link may carry the origin's records. */
  mayCarry(origin: Origin): boolean {
    return origin.lacks === undefined && this.#replicator.vector.mayName(origin, this.peer);
  }
}

/** Limits for repeated requests, and the current time. */
type RequestBounds = Pick<ReplicationOptions, "fetchTimeoutMs" | "fetchMaxWaitMs"> & Pick<Time, "monoMs">;

/** Number of repetitions of the same request after which a whole transfer is sent even if this node's copy is not complete (`isFirm`). */
const MAX_REPEATS = 3;

/** The state of one origin on one link: how far the peer has its records, which records were sent, and which were requested. */
export class OriginProgress {
  /** The seq in the peer's last vector. */
  reportedSeq = 0;
  /** The highest seq that the peer knows, if the peer refused some of the origin's records and therefore does not forward the origin. */
  lackingThrough = 0;
  /** Only for an origin with refused records: whether the peer reported that the origin belongs to a cluster other than its own. */
  isOfOtherCluster = false;
  /** The seq in this node's last vector, and whether one of its vectors contained the full id. */
  sentSeq = 0;
  isNamed = false;
  /** Whether the peer's last entry used the short hash, in which case a request may use it too. */
  isShort = false;
  /** The latest time, by this node's clock, until which the peer is known to have everything that this origin wrote. */
  provenMonoMs = Number.NEGATIVE_INFINITY;
  /** The seq up to which the peer has all records or they were sent on this link in order. The next frame starts after this seq. */
  at = 0;
  /** The peer has requested the origin but has not received all of it yet. */
  isRequested = false;
  /** This node refused a frame of this origin. The origin is not requested on this link again before this time. */
  refusedUntilMonoMs = Number.NEGATIVE_INFINITY;
  /** The peer reported seqs that the origin has never written. No records of the origin are accepted over this link before this time. */
  disbelievedUntilMonoMs = Number.NEGATIVE_INFINITY;
  /** State of a whole transfer: its current position, and the origin's seq at its beginning. */
  #transfer: { after: number; readonly startThrough: number } | undefined;
  #isWholeWanted = false;
  #requestSeq = -1;
  #requestMonoMs = 0;
  #repeatCount = 0;

  /** Handles a report of a seq that cannot exist. For a while, the origin's records are neither accepted nor requested. */
  disbelieve(untilMonoMs: number): void {
    this.disbelievedUntilMonoMs = untilMonoMs;
    this.refusedUntilMonoMs = untilMonoMs;
  }

  /** Called when the peer no longer reports such a seq. */
  believe(): void {
    if (this.isDisbelieved) this.disbelieve(Number.NEGATIVE_INFINITY);
  }

  /** Whether the peer still reports a seq that the origin has never written. */
  get isDisbelieved(): boolean {
    return this.disbelievedUntilMonoMs !== Number.NEGATIVE_INFINITY;
  }

  /** Whether a whole transfer is in progress or was requested repeatedly without success. In that case, the transfer no longer waits for `isFirm`. */
  get isPressing(): boolean {
    return this.#transfer !== undefined || this.#repeatCount >= MAX_REPEATS;
  }

  get isInTransfer(): boolean {
    return this.#transfer !== undefined;
  }

  /** Notes that the peer has everything up to this seq. */
  reached(seq: number): void {
    this.at = Math.max(this.at, seq);
  }

  /**
   * Handles the peer's request for records after `entry.seq`. A peer that repeats a request is answered at growing intervals, because it may be
   * malicious.
   */
  onRequest(entry: VectorEntry, origin: Origin, { monoMs, fetchTimeoutMs, fetchMaxWaitMs }: RequestBounds): "accepted" | "too_often" {
    const isProgress = entry.seq > this.#requestSeq;
    if (!isProgress && monoMs < this.#requestMonoMs) return "too_often";
    this.#repeatCount = isProgress ? 0 : this.#repeatCount + 1;
    this.#requestMonoMs = monoMs + Math.min(fetchMaxWaitMs, (fetchTimeoutMs / 4) * 2 ** this.#repeatCount);
    this.#requestSeq = entry.seq;
    this.at = entry.seq;
    this.isRequested = true;
    this.#transfer = undefined;
    this.#isWholeWanted = entry.floor > entry.seq;
    if (!this.#isWholeWanted && this.at >= origin.through) this.isRequested = false;
    return "accepted";
  }

  /** Position at which the next frame starts. */
  from(origin: Origin): { readonly after: number; readonly isComplete: boolean } {
    // A record that was listed before may have been removed since, and its tombstone may have been collected. The transfer starts again.
    if (this.#transfer !== undefined && origin.floor > this.#transfer.startThrough) this.#transfer = undefined;
    else if (this.#transfer !== undefined) return { after: this.#transfer.after, isComplete: true };
    else return this.#isWholeWanted ? { after: 0, isComplete: true } : { after: this.at, isComplete: false };
    return { after: 0, isComplete: true };
  }

  /** Notes that a frame was sent. `upTo` is the seq up to which there are records to send now. */
  sent(frame: OriginFrame, origin: Origin, upTo: number): void {
    this.#isWholeWanted = false;
    if (frame.isComplete && !frame.isLast) {
      this.#transfer = { after: frame.through, startThrough: this.#transfer?.startThrough ?? origin.through };
      return;
    }
    this.#transfer = undefined;
    this.at = Math.max(this.at, frame.through);
    if (this.at >= upTo) this.isRequested = false;
  }
}
