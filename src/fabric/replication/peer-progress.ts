/** What one link knows of its peer: who it is, what its vector said, whom it is linked to, and where each origin stands there. */

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

/** In one frame; the rest goes with the next. */
const MAX_HEARTBEATS = 1000;
/** Ages travel in tenths of a second, rounded up: that makes up for the way. */
const TENTH_MS = 100;

/** An origin that never wrote what is held of it beyond that number. */
export interface Disproved {
  readonly origin: Origin;
  readonly seq: number;
}

export interface ReplicationPeer extends NodeRef, OriginLocation {
  /** How the two nodes stand to each other; decides what the link may carry. */
  readonly relation: OriginRelation;
}

/** An origin that the peer named: its id is made once. */
interface NamedOrigin extends NodeRef {
  readonly id: string;
}

/** Made-up origins are looked for so often. */
const LOOK_MS = 1000;

export class PeerProgress {
  readonly peer: ReplicationPeer;
  readonly #replicator: Replicator;
  readonly #origins = new Map<string, OriginProgress>();
  /** Sum over what the peer's vectors said, to be equal to the digest it sends. */
  readonly #told = new Sum64();
  /** Sum over what our vectors said. */
  readonly #said = new Sum64();
  /** Origins that the peer named in full, by their short hash. */
  readonly #named = new Map<number, NamedOrigin>();
  #linked: ReadonlySet<string> | undefined;
  /** The generation that the peer lives in: a link stands while its node takes a new one, and the peer's vector names that. */
  #generation: number;
  /** In which generation nodes of other clusters live, as was heard since `#lookedMonoMs`. */
  readonly #living = new Map<string, Living>();
  #lookedMonoMs = Number.NEGATIVE_INFINITY;
  /** Its whole vector has come: what it never named it does not know. */
  isWholeTold = false;

  constructor(replicator: Replicator, peer: ReplicationPeer) {
    this.#replicator = replicator;
    this.peer = peer;
    this.#generation = peer.generation;
  }

  find(id: string): OriginProgress | undefined {
    return this.#origins.get(id);
  }

  /** The peer's number of an origin, as far as it told; 0 when it never did. */
  toldOf(id: string): number {
    return this.#origins.get(id)?.told ?? 0;
  }

  /** How far the peer has heard of an origin of which it refused records; 0 when it refused none. */
  lackingThroughOf(id: string): number {
    return this.#origins.get(id)?.lackingThrough ?? 0;
  }

  /** What is kept of an origin; undefined when there are too many, of others than the two that are linked. */
  take(id: string): OriginProgress | undefined {
    let known = this.#origins.get(id);
    const { options, replica } = this.#replicator;
    if (known === undefined && (this.#origins.size < options.maxOrigins || this.isOwn(id) || id === replica.self.id)) {
      known = new OriginProgress();
      this.#origins.set(id, known);
    }
    return known;
  }

  /** What a short entry of the peer's vector stands for; undefined when the peer has not named it. */
  named(hash: number): NamedOrigin | undefined {
    return this.#named.get(hash);
  }

  /** Learns an entry of the peer's vector; undefined when there are too many. `isShort`: the peer did not say the name again. */
  learn(id: string, entry: VectorEntry, isShort = false): OriginProgress | undefined {
    const known = this.take(id);
    if (known === undefined) return undefined;
    known.isShort = isShort;
    if (entry.nodeId === this.peer.nodeId) this.#generation = Math.max(this.#generation, entry.generation);
    if (!isShort) this.#named.set(shortHash(id), { id, nodeId: entry.nodeId, generation: entry.generation });
    if (entry.seq < known.told) known.believe();
    this.#told.subtract(entryHash(id, known.told));
    known.told = entry.seq;
    // A short 0 says no more than that it is in the vector no longer: whether for what was refused the whole entries say.
    if (!isShort || entry.seq > 0) known.lackingThrough = entry.isLacking === true ? Math.max(1, entry.lackingThrough ?? 1) : 0;
    if (entry.isLacking === true) known.isOfOtherCluster = entry.isOfOtherCluster === true;
    this.#told.add(entryHash(id, entry.seq));
    known.reached(entry.seq);
    return known;
  }

  /** Digest of what the peer's vectors said on this link. */
  get digest(): bigint {
    return this.#told.value;
  }

  /** Digest of what our vectors said on this link. */
  get saidDigest(): bigint {
    return this.#said.value;
  }

  /** Our vector says so. */
  say(id: string, known: OriginProgress, seq: number): void {
    this.#said.subtract(entryHash(id, known.said));
    known.said = seq;
    this.#said.add(entryHash(id, seq));
  }

  /**
   * Heartbeats of origins that the peer has no link to, where it is not known to have had as fresh a one lately; over a border our own too. HOT:
   * all origins, for every vector.
   */
  heartbeats({ monoMs }: Time): readonly Heartbeat[] {
    const told: Heartbeat[] = [];
    const { heartbeats, vector, options, replica, isNewAtStart } = this.#replicator;
    // The age of such an origin is not asked for.
    if (isNewAtStart) return told;
    const { heartbeatIntervalMs } = options;
    const tell = (provenMonoMs: number, id: string) => {
      const known = this.#origins.get(id);
      // Most are not due: nothing more is looked up for them.
      if (known === undefined || provenMonoMs < known.provenMonoMs + heartbeatIntervalMs || told.length === MAX_HEARTBEATS) return;
      const mark = vector.find(id);
      if (mark === undefined || this.#isHeardElsewhere(mark)) return;
      known.provenMonoMs = provenMonoMs;
      const ageMs = (Math.floor((monoMs - provenMonoMs) / TENTH_MS) + 1) * TENTH_MS;
      told.push({ hash: mark.short, ageMs, ...(mark.clusterId !== this.peer.clusterId && { seq: mark.seq }) });
    };
    if (this.peer.relation !== "cluster") tell(monoMs, replica.self.id);
    heartbeats.forEach(tell);
    return told;
  }

  /** Whether the peer is to hear of an origin from that itself, or cannot hear of it here. */
  #isHeardElsewhere(mark: VectorSlot): boolean {
    const { vector, replica } = this.#replicator;
    const isSelf = mark.id === replica.self.id;
    if (mark.nodeId === this.peer.nodeId || (!isSelf && this.isLinkedTo(mark.nodeId))) return true;
    if (mark.seq === 0 || !vector.mayName(mark, this.peer)) return true;
    const { clusterId } = this.peer;
    return vector.findShortOf(mark.short, clusterId, mark.clusterId === clusterId) !== mark;
  }

  /**
   * The peer has just told its whole vector, or what of it is new, `lateMs` ago at most: what it says of its own origin is all that this
   * wrote until then, and so is what it passes on of others, where it speaks for them. Returns origins of which that disproves what is held here.
   */
  hear(heartbeats: readonly Heartbeat[], lateMs: number, time: Time): readonly Disproved[] {
    const { vector, replica, hearsay, place } = this.#replicator;
    const { nodeId, clusterId, generation } = this.peer;
    const disproved: Disproved[] = [];
    if (clusterId !== place.clusterId) this.#living.set(nodeId, { generation: this.#generation, clusterId, monoMs: time.monoMs - lateMs });
    hearsay.heard(clusterId, time);
    const id = `${nodeId}/${this.#generation}`;
    const own = replica.origins.get(id);
    // A node of another cluster may have the same name.
    if (own === undefined || ["", clusterId].includes(own.clusterId)) this.#hearOf(id, time.monoMs - lateMs);
    if (own !== undefined) this.noteHome(own);
    // A node of ours may name a later generation than its own, which others hold of a life before its disk was put back.
    if (clusterId === place.clusterId && generation !== this.#generation) this.#hearOf(`${nodeId}/${generation}`, time.monoMs - lateMs);
    for (const { hash, ageMs, seq } of heartbeats) {
      // With a number it is of another cluster's origin.
      const mark = vector.findShortOf(hash, place.clusterId, seq === undefined);
      if (mark === undefined || mark.id === replica.self.id || !hearsay.isFirstHand(this.peer, mark.clusterId)) continue;
      const monoMs = time.monoMs - lateMs - ageMs;
      hearsay.heard(mark.clusterId, time);
      this.#hearOf(mark.id, monoMs);
      const origin = replica.origins.get(mark.id);
      if (origin === undefined || seq === undefined) continue;
      if (hearsay.isDisproved(origin, { seq, monoMs }, time)) disproved.push({ origin, seq });
      this.#living.set(mark.nodeId, { generation: mark.generation, clusterId: mark.clusterId, monoMs });
    }
    for (const origin of this.#invented(time)) disproved.push({ origin, seq: 0 });
    return disproved;
  }

  /** The peer says where its own origin is at home: on its own link, and not as another node of its name. */
  noteHome(own: Origin): void {
    const { nodeId, clusterId } = this.peer;
    if (own.clusterId === clusterId && !this.#replicator.hearsay.isElsewhere(nodeId, clusterId)) own.isAtHome = true;
  }

  /** Origins that were made up, as far as was heard since the last look. All origins are looked at: once a second, however often the peer speaks. */
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

  #hearOf(id: string, provenMonoMs: number): void {
    const known = this.#origins.get(id);
    if (known !== undefined) known.provenMonoMs = Math.max(known.provenMonoMs, provenMonoMs);
    this.#replicator.heartbeats.heard(id, known?.told ?? 0, provenMonoMs);
  }

  setLinked(nodeIds: readonly string[]): void {
    this.#linked = new Set(nodeIds);
  }

  isLinkedTo(nodeId: string): boolean {
    return this.#linked?.has(nodeId) === true;
  }

  /** Whether that is the peer's own origin. */
  isOwn(id: string): boolean {
    return id === `${this.peer.nodeId}/${this.peer.generation}`;
  }

  /** Whether it is the peer's in whatever generation: a link stands while its node takes a new one. */
  isOfPeer({ nodeId, clusterId }: Origin): boolean {
    return nodeId === this.peer.nodeId && clusterId === this.peer.clusterId;
  }

  /** Whether the link may carry anything of that origin. */
  mayCarry(origin: Origin): boolean {
    return origin.lacks === undefined && this.#replicator.vector.mayName(origin, this.peer);
  }
}

/** What one link knows of one origin at its peer: where it stands, what was sent, what it asked for. */
type AskBounds = Pick<ReplicationOptions, "fetchTimeoutMs" | "fetchMaxWaitMs"> & Pick<Time, "monoMs">;

/** Questions for the same before the answer is what there is. */
const PATIENCE = 3;

export class OriginProgress {
  /** As the peer's last vector said. */
  told = 0;
  /** The peer refused records of it, passes none on, and has heard of its changes up to here; 0: not so. */
  lackingThrough = 0;
  /** Of one of which the peer refused records: it is of another cluster than the peer, as that says. */
  isOfOtherCluster = false;
  /** As our last vector said, and whether one has called it by its name. */
  said = 0;
  isNamed = false;
  /** The peer told of it by its short hash, so it may be asked so. */
  isShort = false;
  /** Until when the peer was last known to have all that this origin wrote, by this node's clock. */
  provenMonoMs = Number.NEGATIVE_INFINITY;
  /** Known to be there, or sent on this link in order: the next frame starts here. */
  at = 0;
  /** It asked, and has not been given all of it yet. */
  isAsked = false;
  /** A frame of it was not to be taken here: it is not asked for on this link before that. */
  refusedUntilMonoMs = Number.NEGATIVE_INFINITY;
  /** The peer named numbers that it never wrote: nothing of it is taken over this link before that. */
  disbelievedUntilMonoMs = Number.NEGATIVE_INFINITY;
  /** A whole transfer: where it stands, and the origin's number and when it began. */
  #transfer: { after: number; readonly startThrough: number } | undefined;
  #isWholeWanted = false;
  #askSeq = -1;
  #askMonoMs = 0;
  #askCount = 0;

  /** The peer named more than there can be: nothing is taken of it, nor asked for, for a while. */
  disbelieve(untilMonoMs: number): void {
    this.disbelievedUntilMonoMs = untilMonoMs;
    this.refusedUntilMonoMs = untilMonoMs;
  }

  /** It does not any more. */
  believe(): void {
    if (this.isDisbelieved) this.disbelieve(Number.NEGATIVE_INFINITY);
  }

  /** The peer names still what it was not believed. */
  get isDisbelieved(): boolean {
    return this.disbelievedUntilMonoMs !== Number.NEGATIVE_INFINITY;
  }

  /** A whole transfer is under way, or was asked for in vain: it is not to wait for better. */
  get isPressing(): boolean {
    return this.#transfer !== undefined || this.#askCount >= PATIENCE;
  }

  get isInTransfer(): boolean {
    return this.#transfer !== undefined;
  }

  /** The peer has everything up to there. */
  reached(seq: number): void {
    this.at = Math.max(this.at, seq);
  }

  /**
   * The peer asks for what comes after `entry.seq`. A peer that asks for the same again and again is given it at ever longer
   * intervals: it may lie.
   */
  asked(entry: VectorEntry, origin: Origin, { monoMs, fetchTimeoutMs, fetchMaxWaitMs }: AskBounds): "taken" | "too_often" {
    const isProgress = entry.seq > this.#askSeq;
    if (!isProgress && monoMs < this.#askMonoMs) return "too_often";
    this.#askCount = isProgress ? 0 : this.#askCount + 1;
    this.#askMonoMs = monoMs + Math.min(fetchMaxWaitMs, (fetchTimeoutMs / 4) * 2 ** this.#askCount);
    this.#askSeq = entry.seq;
    this.at = entry.seq;
    this.isAsked = true;
    this.#transfer = undefined;
    this.#isWholeWanted = entry.floor > entry.seq;
    if (!this.#isWholeWanted && this.at >= origin.through) this.isAsked = false;
    return "taken";
  }

  /** Where the next frame starts. */
  from(origin: Origin): { readonly after: number; readonly isComplete: boolean } {
    // What was listed since the transfer began may be gone, and its tombstone collected: it starts again.
    if (this.#transfer !== undefined && origin.floor > this.#transfer.startThrough) this.#transfer = undefined;
    else if (this.#transfer !== undefined) return { after: this.#transfer.after, isComplete: true };
    else return this.#isWholeWanted ? { after: 0, isComplete: true } : { after: this.at, isComplete: false };
    return { after: 0, isComplete: true };
  }

  /** The frame that starts there is on its way; `upTo` is what there is to send now. */
  sent(frame: OriginFrame, origin: Origin, upTo: number): void {
    this.#isWholeWanted = false;
    if (frame.isComplete && !frame.isLast) {
      this.#transfer = { after: frame.through, startThrough: this.#transfer?.startThrough ?? origin.through };
      return;
    }
    this.#transfer = undefined;
    this.at = Math.max(this.at, frame.through);
    if (this.at >= upTo) this.isAsked = false;
  }
}
