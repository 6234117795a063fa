/** The replication state that all links of a node share: the version vector, the frame cache, and the assignment of fetches to links. */

import type { EntryBounds } from "../../catalog/entry/names.ts";
import type { OriginRelation } from "../../catalog/entry/scope.ts";
import type { Origin } from "../../catalog/record/stored-record.ts";
import type { EntryReader } from "../../catalog/replica/frames.ts";
import type { OriginLocation } from "../../catalog/replica/origins.ts";
import type { Replica } from "../../catalog/replica/replica.ts";
import type { Hlc } from "../../lib/hlc.ts";
import { NEVER, type Time } from "../../lib/machine.ts";
import type { Rng } from "../../lib/rng.ts";
import { Heartbeats } from "../heartbeats.ts";
import { eventOutput, type FabricOutput } from "../io-types.ts";
import type { ForeignPeers } from "../links/foreign-peers.ts";
import type { MemberStatus, NodeRef } from "../wire/messages.ts";
import { FrameCache } from "./frame-cache.ts";
import { Disproved, Hearsay } from "./hearsay.ts";
import type { ReplicationOptions } from "./options.ts";
import { OriginDigests } from "./origin-digests.ts";
import { type PartialOrigin, PartialOrigins } from "./partial-origins.ts";
import { type PullingLink, type PullRequest, PullsInFlight } from "./pulls-in-flight.ts";
import { refOf, type VectorSlot, VersionVector } from "./version-vector.ts";

/** Counters since the node started. Each counter is exported as a metric (`node/fabric/metrics.ts`). */
const NO_STATS = {
  sentRecords: 0,
  receivedRecords: 0,
  /** Number of records that changed the replica. */
  appliedRecords: 0,
  /** Number of records that were refused while the rest of their frame was accepted. */
  refusedRecords: 0,
  /**
   * Number of refused frames and vector entries. Their origin is forgotten, is this node's own, belongs to a wrong cluster or region, or exceeds the
   * limit.
   */
  refusedOrigins: 0,
  /**
   * Number of origins that this node requested from peers, of origins that it sent to peers on request, and of requests that it ignored because they
   * came too often.
   */
  originsAsked: 0,
  originsGiven: 0,
  originsHeldBack: 0,
  /** Whole transfers sent. */
  wholeTransfers: 0,
  vectorsEqual: 0,
  vectorsDifferent: 0,
  digestsEqual: 0,
  digestsDifferent: 0,
  /** Number of whole transfers that were requested because digests differed. */
  repairs: 0,
  /** Number of frames whose stamps are too far ahead of this node's wall clock. */
  beyondSkew: 0,
};

interface MemberTable {
  find(nodeId: string): (OriginLocation & { readonly generation: number; readonly status?: MemberStatus }) | undefined;
  /** The other members that are alive or suspect. */
  listed(): readonly NodeRef[];
}

export interface ReplicatorParts {
  readonly replica: Replica;
  readonly stamper: EntryReader;
  readonly bounds: EntryBounds;
  /** The clock, which advances with the stamps of received records. Undefined when stamps are not times. */
  readonly hlc: Pick<Hlc, "merge"> | undefined;
  readonly rng: Rng;
  /** This node's own cluster and region. */
  readonly place: OriginLocation;
  readonly options: ReplicationOptions;
  readonly foreignPeers?: ForeignPeers;
  readonly members: MemberTable;
  /**
   * Whether this node has no journal, so that its origin is new at each start. In that case, a peer with a higher seq of the origin does not indicate
   * lost records.
   */
  readonly isNewAtStart?: boolean;
}

/**
 * Each node has one instance. `Fabric` calls `changed` after own records have been committed, and `setLinked` when links open and close. It calls
 * `forgetOrigin` and `readmit` instead of the corresponding methods of the replica. The constructor registers all origins that the replica already
 * has.
 */
export class Replicator {
  readonly replica: Replica;
  readonly stamper: EntryReader;
  readonly bounds: EntryBounds;
  readonly hlc: Pick<Hlc, "merge"> | undefined;
  readonly rng: Rng;
  readonly place: OriginLocation;
  readonly options: ReplicationOptions;
  readonly foreignPeers: ForeignPeers | undefined;
  readonly vector: VersionVector;
  readonly frameCache: FrameCache;
  readonly digests: OriginDigests;
  readonly partial: PartialOrigins;
  readonly heartbeats: Heartbeats;
  readonly hearsay: Hearsay;
  readonly #members: MemberTable;
  readonly isNewAtStart: boolean;
  readonly disproved: Disproved;
  readonly stats = { ...NO_STATS };
  /** Origins that this node did not know when a peer reported them as hidden. At most `maxOrigins`. */
  readonly hiddenElsewhere = new Set<string>();
  /** Origins whose frames omitted keys that had changed again in the meantime (`IncompleteRange`). */
  readonly unsettled = new Set<Origin>();
  /** Time at which own changes were last announced. */
  edgeMonoMs = Number.NEGATIVE_INFINITY;
  readonly #fetches: PullsInFlight;
  readonly #pullers = new Set<PullingLink>();
  /**
   * Whether a node of this node's cluster was ever linked, or a report by a node of another cluster was accepted before. Once this is true, nodes of
   * other clusters can no longer report that this node's journal lost records.
   */
  #hasWitness = false;
  #selfId: string;
  /** The vector slot of this node's own origin, once the origin has one. */
  #selfSlot: VectorSlot | undefined;
  #workMonoMs = Number.NEGATIVE_INFINITY;
  #lostId = "";
  #lostMonoMs = Number.NEGATIVE_INFINITY;
  /** Number of origins per cluster, which is valid while there are `#countedSize` origins. */
  readonly #counts = new Map<string, number>();
  #countedSize = -1;
  #linked: readonly string[] = [];
  #linkedIds: ReadonlySet<string> = new Set();

  constructor(parts: ReplicatorParts) {
    this.replica = parts.replica;
    this.stamper = parts.stamper;
    this.bounds = parts.bounds;
    this.hlc = parts.hlc;
    this.rng = parts.rng;
    this.place = parts.place;
    this.options = parts.options;
    this.foreignPeers = parts.foreignPeers;
    this.#fetches = new PullsInFlight(this.options);
    this.vector = new VersionVector(parts.place);
    this.frameCache = new FrameCache(this.options);
    this.digests = new OriginDigests(this.replica, this.options.digestSliceRecords);
    this.heartbeats = new Heartbeats((id) => this.replica.origins.get(id));
    this.#members = parts.members;
    this.isNewAtStart = parts.isNewAtStart === true;
    this.hearsay = new Hearsay(parts.place.clusterId, parts.members);
    this.disproved = new Disproved(this);
    this.#selfId = this.replica.self.id;
    const { self } = this.replica;
    self.clusterId = parts.place.clusterId;
    self.region = parts.place.region;
    this.partial = new PartialOrigins(this.options.partialRetryMs);
    for (const origin of this.replica.origins.values()) {
      if (origin.lacks !== undefined) this.partial.resume(origin);
      this.noteOrigin(origin);
    }
  }

  // ---- own changes ----

  /** The seq up to which own records are announced. Later records are still being batched. */
  // HOT: called several times per input and link.
  get horizon(): number {
    const { id } = this.replica.self;
    if (this.#selfSlot?.id !== id) this.#selfSlot = this.vector.find(id);
    return this.#selfSlot?.seq ?? 0;
  }

  /** Monotonic time (ms) from which batched own changes may be announced. `NEVER` when there are none. */
  get edgeDueMonoMs(): number {
    const { self } = this.replica;
    if (self.id === this.#selfId && self.through === this.horizon) return NEVER;
    return this.edgeMonoMs + Math.min(this.options.maxGatherMs, this.options.gatherMsALink * this.#linkedIds.size);
  }

  /** Returns the time for which the announced vector is complete. Records written during batching are announced later. */
  announcedMonoMs({ monoMs }: Time): number {
    return this.edgeDueMonoMs === NEVER ? monoMs : Math.min(monoMs, this.edgeMonoMs);
  }

  /** Called when own records may have been committed. Announces them immediately if nothing was announced recently, and otherwise batches them. */
  changed(time: Time): void {
    if (time.monoMs < this.edgeDueMonoMs) return;
    const { self } = this.replica;
    if (self.id !== this.#selfId) this.#renewed(this.#selfId);
    this.#selfId = self.id;
    this.edgeMonoMs = time.monoMs;
    this.noteOrigin(self);
  }

  /** Handles a new generation of this node. The peers' records of the old generation now belong to another origin. */
  #renewed(oldId: string): void {
    this.vector.drop(oldId);
    for (const puller of this.#pullers) puller.reconsider(oldId);
  }

  /**
   * Like `isLost`, but for a report from a peer of another cluster. Such a report is accepted once per start of this node, and only if no node of its
   * cluster has been linked, because a node that is alone in its cluster may have no other witness.
   */
  isLostAbroad(seq: number, time: Time): boolean {
    if (this.#hasWitness || !this.isLost(seq, time)) return false;
    this.#hasWitness = true;
    return true;
  }

  /**
   * Whether a peer's vector proves that this node's journal lost records, because the vector has a higher seq for this node's own origin than the
   * journal. Such a report is accepted once per generation and at most every `lostIntervalMs`. A seq that is only staged was never announced, so a
   * peer that reports it has a different record under that seq.
   */
  isLost(seq: number, time: Time): boolean {
    const { self } = this.replica;
    if (this.isNewAtStart) return false;
    if (seq <= self.through || this.#lostId === self.id || time.monoMs < this.#lostMonoMs + this.options.lostIntervalMs) return false;
    this.#lostId = self.id;
    this.#lostMonoMs = time.monoMs;
    return true;
  }

  // ---- origins ----

  /** Updates the vector when an origin's seq may have advanced. Links then announce the new seq. Returns whether the seq advanced. */
  noteOrigin(origin: Origin): boolean {
    if (origin.unsettled === undefined) this.unsettled.delete(origin);
    else this.unsettled.add(origin);
    // Peers must not fetch a partial origin from this node.
    if (origin.lacks !== undefined) {
      this.vector.drop(origin.id);
      return false;
    }
    this.heartbeats.arrived(origin);
    return this.vector.note(origin, origin.through);
  }

  /** Drops cached frames and digests, because an origin's records may have changed although its seq has not. */
  heldChanged(origin: Origin): void {
    this.frameCache.clear();
    this.digests.drop(origin);
  }

  /**
   * Called when a whole transfer has ended and all keys that it did not list have been removed. The seq has advanced, and the origin may be complete.
   */
  closed(origin: Origin, time: Time, out: FabricOutput[]): void {
    // The origin was forgotten in the meantime.
    if (this.replica.origins.get(origin.id) !== origin) return;
    this.heldChanged(origin);
    const { id } = origin;
    if (this.partial.note(origin, time) === "whole") out.push(eventOutput("origin_whole", "info", { origin: id }));
    this.noteOrigin(origin);
    this.arrived(origin, time);
  }

  /** Computes one slice of the digests, for all links. */
  workDigests(time: Time): void {
    if (time.monoMs <= this.#workMonoMs) return;
    this.#workMonoMs = time.monoMs;
    this.digests.work(time);
  }

  /** Forgets an origin together with its records and its seq (semantics.md, Orphans). */
  forgetOrigin(origin: Origin, time: Time, isOver = false, maxCount = Number.POSITIVE_INFINITY): void {
    this.replica.forgetOrigin(origin, time, isOver, maxCount);
    this.vector.drop(origin.id);
    this.heartbeats.drop(origin.id);
    this.hearsay.drop(origin.id);
    this.#fetches.forget(origin.id);
    this.partial.drop(origin);
    this.unsettled.delete(origin);
  }

  /** Restores a forgotten origin whose node is a live member again. A disproved origin waits until its last record is removed. */
  readmit(nodeId: string, generation: number): void {
    if (this.disproved.isUnderWay(`${nodeId}/${generation}`)) return;
    this.replica.restoreOrigin(nodeId, generation);
    this.reconsider(nodeId, generation);
  }

  /** Ignores, for a while, every peer that reports more than `seq` of an origin. */
  disbelieve({ id }: Origin, seq: number, time: Time): void {
    for (const puller of this.#pullers) puller.disbelieve(id, seq, time);
  }

  /** The partial origins: either this node refused some of their records, or a peer did and no other peer has sent these records. */
  notWhole(): readonly PartialOrigin[] {
    const found = new Map(this.partial.list().map((row) => [row.id, row]));
    for (const { lacking, peerNodeId } of this.#pullers)
      for (const id of lacking)
        if (!found.has(id))
          found.set(id, { id, count: 0, why: `${peerNodeId} refused records of this origin, and no other peer has sent them` });
    return [...found.values()];
  }

  /** Whether a member has not yet reported which origins it has. O(n). */
  hasSilentMember(): boolean {
    const reported = new Set([...this.#pullers].flatMap(({ hasWholeVector, peerNodeId }) => (hasWholeVector ? [peerNodeId] : [])));
    return this.#members.listed().some(({ nodeId }) => !reported.has(nodeId));
  }

  /** Whether an origin's own node has left permanently and therefore sends nothing more. */
  hasLeft(id: string): boolean {
    return this.#members.find(refOf(id).nodeId)?.status === "left";
  }

  /** Applies the peers' reports about an origin that was refused before. */
  reconsider(nodeId: string, generation: number): void {
    for (const puller of this.#pullers) puller.reconsider(`${nodeId}/${generation}`);
  }

  /**
   * Whether an origin belongs to a foreign node. Vector entries do not contain a cluster, so before the first record, only nodes that are recorded as
   * foreign are detected.
   */
  isForeign(id: string): boolean {
    const { foreignPeers } = this;
    return foreignPeers !== undefined && foreignPeers.size > 0 && foreignPeers.has(refOf(id).nodeId);
  }

  /** Sets the cluster and region of an origin, as reported by its own node. */
  rehome(origin: Origin, { clusterId, region }: OriginLocation): void {
    if (origin.clusterId === clusterId && origin.region === region) return;
    origin.clusterId = clusterId;
    origin.region = region;
    this.#countedSize = -1;
    // The location of an origin determines which other records are superseded by its tombstones.
    this.replica.sweeps.scheduleTouch(origin, { after: 0, until: Number.POSITIVE_INFINITY, withEnds: true });
    this.noteOrigin(origin);
    this.heldChanged(origin);
  }

  /** Notes whether a peer hides an origin. An origin that this node does not know is then created hidden or visible accordingly. */
  noteLife(id: string, isHidden: boolean): void {
    if (!isHidden) this.hiddenElsewhere.delete(id);
    else if (!this.replica.origins.has(id) && this.hiddenElsewhere.size < this.options.maxOrigins) this.hiddenElsewhere.add(id);
  }

  /**
   * Whether there is room for an origin that is not yet known. Origins that peers name are accepted up to `maxOrigins`. A peer's own origin
   * (`isOwn`) is accepted up to twice that limit, so that a node that invents origins cannot keep newcomers out. Each other cluster may use at most a
   * quarter of the limit, and all other clusters together half. The rest is reserved for nodes of this node's cluster. `clusterId` is the cluster of
   * the origin or of the peer that named it.
   */
  hasRoomFor(id: string, isOwn: boolean, clusterId: string): boolean {
    const { origins } = this.replica;
    if (origins.has(id)) return true;
    const room = (isOwn ? 2 : 1) * this.options.maxOrigins;
    if (origins.size >= room) return false;
    const here = this.place.clusterId;
    if (clusterId === here) return true;
    return this.#countOf(clusterId) < room / 4 && origins.size - this.#countOf(here) - this.#countOf("") < room / 2;
  }

  /** Number of known origins in a cluster. O(origins) if an origin was added or dropped since the last call. */
  #countOf(clusterId: string): number {
    const { origins } = this.replica;
    if (this.#countedSize !== origins.size) {
      this.#counts.clear();
      for (const origin of origins.values()) this.#counts.set(origin.clusterId, (this.#counts.get(origin.clusterId) ?? 0) + 1);
      this.#countedSize = origins.size;
    }
    return this.#counts.get(clusterId) ?? 0;
  }

  // ---- links ----

  /** Ids of the linked nodes, as sent to peers: at most `MAX_LINKED`. */
  get linked(): readonly string[] {
    return this.#linked;
  }

  setLinked(nodeIds: readonly string[]): void {
    const linked = nodeIds.toSorted().slice(0, MAX_LINKED);
    if (linked.length === this.#linked.length && linked.every((id, i) => id === this.#linked[i])) return;
    this.#linked = linked;
    this.#linkedIds = new Set(nodeIds);
  }

  isLinked(nodeId: string): boolean {
    return this.#linkedIds.has(nodeId);
  }

  /** Whether a link should request an origin from its peer now (`PullsInFlight`). */
  takeFetch(id: string, puller: PullingLink, time: Time, request?: PullRequest): boolean {
    const origin = this.replica.origins.get(id);
    // All records have arrived. The seq advances after this node has removed the unlisted keys.
    if (origin?.closing !== undefined) return false;
    return this.#fetches.take({ id, through: origin?.through ?? 0 }, puller, time, request);
  }

  /**
   * Called when more records of an origin have arrived. Therefore, the next request for the origin need not wait for the timeout of the last request.
   */
  arrived(origin: Origin, time: Time): void {
    this.#fetches.arrived(origin, time);
  }

  /** Called after a pause of this process, because answers to its requests may have arrived without having been read yet. */
  postpone(byMs: number): void {
    this.#fetches.postpone(byMs);
    for (const puller of this.#pullers) puller.postpone(byMs);
  }

  /** Called when a link to a node of any cluster has come up. */
  linkedTo({ relation }: { readonly relation: OriginRelation }): void {
    this.#hasWitness ||= relation === "cluster";
  }

  addPuller(puller: PullingLink): void {
    this.#pullers.add(puller);
  }

  /** Called when the link has been closed. Other links may then request the origins that it was fetching. */
  dropPuller(puller: PullingLink): void {
    this.#pullers.delete(puller);
    this.#fetches.drop(puller);
  }

  /** Called when the origin that this link was fetching has arrived or is not available. */
  endFetch(id: string, puller: PullingLink): void {
    this.#fetches.end(id, puller);
  }
}

/** Maximum number of linked nodes in a frame. */
export const MAX_LINKED = 256;
