/** What all links of a node share in replication: the vector, the cache of frames, and which link fetches which origin. */

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

/** Counted since the start; each is a metric (`node/fabric/metrics.ts`). */
const NO_STATS = {
  sentRecords: 0,
  receivedRecords: 0,
  /** Records that changed something. */
  appliedRecords: 0,
  /** Records that were refused while the rest of their frame was taken. */
  refusedRecords: 0,
  /** Frames, and entries of vectors, of an origin that is not taken here: it is forgotten, our own, out of place, or one too many. */
  refusedOrigins: 0,
  /** Origins that this node asked peers for, gave to peers that asked, and held back because they asked too often. */
  originsAsked: 0,
  originsGiven: 0,
  originsHeldBack: 0,
  /** Origins sent whole. */
  wholeTransfers: 0,
  vectorsEqual: 0,
  vectorsDifferent: 0,
  digestsEqual: 0,
  digestsDifferent: 0,
  /** Origins of which a whole transfer was asked for because digests differed. */
  repairs: 0,
  /** Stamps too far ahead of this node's wall clock. */
  beyondSkew: 0,
};

interface MemberTable {
  find(nodeId: string): (OriginLocation & { readonly generation: number; readonly status?: MemberStatus }) | undefined;
  /** The others that are alive or suspect. */
  listed(): readonly NodeRef[];
}

export interface ReplicatorParts {
  readonly replica: Replica;
  readonly stamper: EntryReader;
  readonly bounds: EntryBounds;
  /** Learns of the stamps of others. Undefined where stamps are no times. */
  readonly hlc: Pick<Hlc, "merge"> | undefined;
  readonly rng: Rng;
  /** Where this node is at home. */
  readonly place: OriginLocation;
  readonly options: ReplicationOptions;
  readonly foreignPeers?: ForeignPeers;
  readonly members: MemberTable;
  /** No journal holds our origin: each start has another one, and a peer that knows more of it knows of nothing that was lost. */
  readonly isNewAtStart?: boolean;
}

/**
 * One for each node. The composition of the room calls `changed` when own records were committed, `setLinked` when links come and go, and
 * `forgetOrigin` and `restoreOrigin` instead of the replica's methods with those names. It notes at once what the replica already holds.
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
  /** Origins that were not known here when a peer said that it hides them. At most `maxOrigins`. */
  readonly hiddenElsewhere = new Set<string>();
  /** Origins whose frames left out keys that changed again meanwhile (`Unsettled`). */
  readonly unsettled = new Set<Origin>();
  /** When own news was last announced. */
  edgeMonoMs = Number.NEGATIVE_INFINITY;
  readonly #fetches: PullsInFlight;
  readonly #pullers = new Set<PullingLink>();
  /** A node of our own cluster was linked, or one of another cluster was believed: no other node may say any more what our journal lost. */
  #hasWitness = false;
  #selfId: string;
  /** The mark of our own origin, once it has one. */
  #selfMark: VectorSlot | undefined;
  #workMonoMs = Number.NEGATIVE_INFINITY;
  #lostId = "";
  #lostMonoMs = Number.NEGATIVE_INFINITY;
  /** Number of origins by cluster, counted when there were `#countedSize` origins. */
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

  // ---- own news ----

  /** The seq up to which own records are announced. Later ones are still being gathered. */
  // HOT: several times an input and link.
  get horizon(): number {
    const { id } = this.replica.self;
    if (this.#selfMark?.id !== id) this.#selfMark = this.vector.find(id);
    return this.#selfMark?.seq ?? 0;
  }

  /** Monotonic ms from which gathered own news may be announced. `NEVER` when there is none. */
  get edgeDueMonoMs(): number {
    const { self } = this.replica;
    if (self.id === this.#selfId && self.through === this.horizon) return NEVER;
    return this.edgeMonoMs + Math.min(this.options.maxGatherMs, this.options.gatherMsALink * this.#linkedIds.size);
  }

  /** The announced vector is complete as of this time. What is written while news is gathered is announced later. */
  toldMonoMs({ monoMs }: Time): number {
    return this.edgeDueMonoMs === NEVER ? monoMs : Math.min(monoMs, this.edgeMonoMs);
  }

  /** Own records may have been committed. They are announced at once if nothing was announced lately, and gathered otherwise. */
  changed(time: Time): void {
    if (time.monoMs < this.edgeDueMonoMs) return;
    const { self } = this.replica;
    if (self.id !== this.#selfId) this.#renewed(this.#selfId);
    this.#selfId = self.id;
    this.edgeMonoMs = time.monoMs;
    this.noteOrigin(self);
  }

  /** The records of our old generation at peers belong to another origin now. */
  #renewed(oldId: string): void {
    this.vector.drop(oldId);
    for (const puller of this.#pullers) puller.reconsider(oldId);
  }

  /**
   * As `isLost`, for a peer of another cluster. It is believed once in each start, and only while no node of our own cluster was linked. A node that
   * is alone in its cluster may have no other witness.
   */
  isLostAbroad(seq: number, time: Time): boolean {
    if (this.#hasWitness || !this.isLost(seq, time)) return false;
    this.#hasWitness = true;
    return true;
  }

  /**
   * A peer's vector names our own origin with a higher number than our journal holds. It is believed once in each generation, and not often. A number
   * that is only staged was never announced, so a peer that names it has another record under it.
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

  /** An origin's number may have moved, and links announce it. Returns whether it did. */
  noteOrigin(origin: Origin): boolean {
    if (origin.unsettled === undefined) this.unsettled.delete(origin);
    else this.unsettled.add(origin);
    // Nobody is to fetch an origin from here that is not whole here.
    if (origin.lacks !== undefined) {
      this.vector.drop(origin.id);
      return false;
    }
    this.heartbeats.arrived(origin);
    return this.vector.note(origin, origin.through);
  }

  /** The held records of an origin may have changed although its number did not. */
  heldChanged(origin: Origin): void {
    this.frameCache.clear();
    this.digests.drop(origin);
  }

  /** All records that a whole transfer of an origin did not list are gone. The number of the origin has moved, and it may be whole now. */
  closed(origin: Origin, time: Time, out: FabricOutput[]): void {
    // It was forgotten since.
    if (this.replica.origins.get(origin.id) !== origin) return;
    this.heldChanged(origin);
    const { id } = origin;
    if (this.partial.note(origin, time) === "whole") out.push(eventOutput("origin_whole", "info", { origin: id }));
    this.noteOrigin(origin);
    this.arrived(origin, time);
  }

  /** Computes a slice of the digests, for all links together. */
  workDigests(time: Time): void {
    if (time.monoMs <= this.#workMonoMs) return;
    this.#workMonoMs = time.monoMs;
    this.digests.work(time);
  }

  /** Forgets an origin, its records and its number together (semantics.md, Orphans). */
  forgetOrigin(origin: Origin, time: Time, isOver = false, maxCount = Number.POSITIVE_INFINITY): void {
    this.replica.forgetOrigin(origin, time, isOver, maxCount);
    this.vector.drop(origin.id);
    this.heartbeats.drop(origin.id);
    this.hearsay.drop(origin.id);
    this.#fetches.forget(origin.id);
    this.partial.drop(origin);
    this.unsettled.delete(origin);
  }

  /** The node of a forgotten origin is a live member again. A disproved origin waits until its last record is gone. */
  readmit(nodeId: string, generation: number): void {
    if (this.disproved.isUnderWay(`${nodeId}/${generation}`)) return;
    this.replica.restoreOrigin(nodeId, generation);
    this.reconsider(nodeId, generation);
  }

  /** A peer that tells of more than `seq` of an origin is not believed for a while. */
  disbelieve({ id }: Origin, seq: number, time: Time): void {
    for (const puller of this.#pullers) puller.disbelieve(id, seq, time);
  }

  /** Origins that are not whole here: this node refused records of them, or a peer did and no other peer has sent them. */
  notWhole(): readonly PartialOrigin[] {
    const found = new Map(this.partial.list().map((row) => [row.id, row]));
    for (const { lacking, peerNodeId } of this.#pullers)
      for (const id of lacking)
        if (!found.has(id)) found.set(id, { id, count: 0, why: `${peerNodeId} refused records of it, and nobody else has given it` });
    return [...found.values()];
  }

  /** Whether there is a member that has not said here which origins it has. O(n). */
  isAnybodyUnheard(): boolean {
    const heard = new Set([...this.#pullers].flatMap(({ isWholeTold, peerNodeId }) => (isWholeTold ? [peerNodeId] : [])));
    return this.#members.listed().some(({ nodeId }) => !heard.has(nodeId));
  }

  /** Whether an origin's own node has left for good, so that it gives nothing any more. */
  hasLeft(id: string): boolean {
    return this.#members.find(refOf(id).nodeId)?.status === "left";
  }

  /** What peers said of an origin while it was not taken counts from now on. */
  reconsider(nodeId: string, generation: number): void {
    for (const puller of this.#pullers) puller.reconsider(`${nodeId}/${generation}`);
  }

  /** Whether an origin belongs to a foreign node. Vectors name no cluster, so before its first record this is known only of noted nodes. */
  isForeign(id: string): boolean {
    const { foreignPeers } = this;
    return foreignPeers !== undefined && foreignPeers.size > 0 && foreignPeers.has(refOf(id).nodeId);
  }

  /** Sets the cluster and region of an origin, as its own node names them. */
  rehome(origin: Origin, { clusterId, region }: OriginLocation): void {
    if (origin.clusterId === clusterId && origin.region === region) return;
    origin.clusterId = clusterId;
    origin.region = region;
    this.#countedSize = -1;
    // The place of their origin decides what its records end.
    this.replica.sweeps.scheduleTouch(origin, { after: 0, until: Number.POSITIVE_INFINITY, withEnds: true });
    this.noteOrigin(origin);
    this.heldChanged(origin);
  }

  /** Notes whether a peer hides an origin. An origin that is not known here yet then begins its life hidden or not. */
  noteLife(id: string, isHidden: boolean): void {
    if (!isHidden) this.hiddenElsewhere.delete(id);
    else if (!this.replica.origins.has(id) && this.hiddenElsewhere.size < this.options.maxOrigins) this.hiddenElsewhere.add(id);
  }

  /**
   * Whether there is room for an origin that is not known yet. Origins that peers name are taken up to the bound. A peer's own origin
   * (`isOwn`) is taken up to twice the bound, so that a node that invents origins keeps no newcomer out. One other cluster has a quarter of the
   * room, and all other clusters have half; the rest is for our own nodes. `clusterId`: the origin's cluster, or that of the peer that names it.
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

  /** Number of known origins of a cluster. O(origins) after an origin was added or dropped. */
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

  /** Ids of the nodes that this one has a link to, as far as peers are told: at most `MAX_LINKED`. */
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

  /** Whether a link is to ask its peer for an origin now (`PullsInFlight`). */
  takeFetch(id: string, puller: PullingLink, time: Time, wish?: PullRequest): boolean {
    const origin = this.replica.origins.get(id);
    // It has come whole. Its number moves when all removed records are gone here too.
    if (origin?.closing !== undefined) return false;
    return this.#fetches.take({ id, through: origin?.through ?? 0 }, puller, time, wish);
  }

  /** More of an origin arrived. The next question for it need not wait for the end of the last one. */
  arrived(origin: Origin, time: Time): void {
    this.#fetches.arrived(origin, time);
  }

  /** This node stood still. The answers to its questions may be here, unread. */
  postpone(byMs: number): void {
    this.#fetches.postpone(byMs);
    for (const puller of this.#pullers) puller.postpone(byMs);
  }

  /** A link is up, to a node of our own cluster or of another. */
  linkedTo({ relation }: { readonly relation: OriginRelation }): void {
    this.#hasWitness ||= relation === "cluster";
  }

  addFetcher(puller: PullingLink): void {
    this.#pullers.add(puller);
  }

  /** The link is gone. Other links may ask for what it was fetching. */
  dropFetcher(puller: PullingLink): void {
    this.#pullers.delete(puller);
    this.#fetches.drop(puller);
  }

  /** The origin that this link was fetching is here, or cannot be had. */
  endFetch(id: string, puller: PullingLink): void {
    this.#fetches.end(id, puller);
  }
}

/** Most linked nodes that a frame names. */
export const MAX_LINKED = 256;
