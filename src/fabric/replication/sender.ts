/**
 * Chooses the frames to send on one link: whole vector, linked nodes, requests, periodic vectors, digests, and then records, with origins taking
 * turns.
 */
import { isFirm, type Origin } from "../../catalog/record/stored-record.ts";
import type { FrameReceiverSide } from "../../catalog/replica/frames.ts";
import { isOfOtherCluster } from "../../catalog/replica/origins.ts";
import { NEVER, type Time } from "../../lib/machine.ts";
import type { Rng } from "../../lib/rng.ts";
import type { NodeRef, OriginDigest, ReplicationFrame, ShortEntry, VectorEntry, VectorTimes } from "../wire/messages.ts";
import type { OriginProgress, PeerProgress } from "./peer-progress.ts";
import type { Replicator } from "./replicator.ts";
import { refOf, shortHash, type VectorSlot } from "./version-vector.ts";

/** A request for the records after `seq`. A `floor` above `seq` requests a whole transfer. */
interface FrameRequest {
  readonly seq: number;
  readonly floor: number;
  readonly isShort: boolean;
}

/** Objects that the sender shares with the rest of its link. */
interface LinkParts {
  readonly rng: Rng;
  readonly linkClock: LinkClock;
  /** Whether records are withheld until the peer has the policy. */
  readonly isHeld: () => boolean;
}

/** It does not store any frames except the parts of a whole vector. All other frames are built when the stream can accept them. */
export class LinkSender {
  readonly #replicator: Replicator;
  readonly #view: PeerProgress;
  readonly #link: FrameReceiverSide;
  readonly #rng: Rng;
  readonly #linkClock: LinkClock;
  readonly #isHeld: () => boolean;
  /** Remaining parts of a whole vector. */
  #whole: ReplicationFrame[] = [];
  #wholeMonoMs = Number.NEGATIVE_INFINITY;
  /** Whether to request the peer's whole vector. */
  isWholeWanted = false;
  /** Requests by origin. */
  readonly #requests = new Map<string, FrameRequest>();
  readonly #digests: OriginDigest[] = [];
  readonly #lacking: LackingWords;
  #linkedSent: readonly string[] | undefined;
  /** Ids of origins with records to send, in round-robin order. */
  readonly #ready = new Set<string>();
  /** Vector changes up to this order were sent to the peer. Changes up to `#seenOrder` were checked for content that is worth offering. */
  #sentOrder = 0;
  #seenOrder = 0;
  #seenMonoMs = Number.NEGATIVE_INFINITY;
  #offerMonoMs: number | undefined;
  #vectorMonoMs: number;
  /** Whether there was nothing to send after the last vector, so that the next one may be sent later. */
  #isIdle = false;
  /** Ids of origins whose seq the next vector may have to contain, but which need not be offered to the peer. */
  readonly #deferred = new Set<string>();

  constructor(replicator: Replicator, view: PeerProgress, { rng, linkClock, isHeld }: LinkParts, time: Time) {
    this.#replicator = replicator;
    this.#linkClock = linkClock;
    this.#isHeld = isHeld;
    this.#view = view;
    this.#rng = rng;
    this.#link = { relation: view.peer.relation, clusterId: view.peer.clusterId };
    this.#lacking = new LackingWords(replicator, view);
    this.#vectorMonoMs = this.#nextVectorMonoMs(time);
    this.#queueWhole(time);
  }

  hasWork(time: Time): boolean {
    this.#look(time);
    if (this.#whole.length > 0 || this.isWholeWanted || this.#requests.size > 0 || this.#digests.length > 0) return true;
    if (this.#linkedSent !== this.#replicator.linked || (this.#ready.size > 0 && !this.#isHeld())) return true;
    return time.monoMs >= this.#vectorMonoMs || this.#isOfferDue(time);
  }

  nextDeadlineMs(): number {
    return Math.min(this.#vectorMonoMs, this.#replicator.edgeDueMonoMs, this.#offerMonoMs ?? NEVER);
  }

  next(time: Time): ReplicationFrame | undefined {
    this.#look(time);
    const part = this.#whole.shift();
    if (part !== undefined) return part;
    if (this.#linkedSent !== this.#replicator.linked) {
      this.#linkedSent = this.#replicator.linked;
      return { kind: "linked", nodeIds: this.#linkedSent };
    }
    if (this.isWholeWanted) {
      this.isWholeWanted = false;
      return { kind: "vector", entries: [], digest: 0n, isPartial: true, isWanted: true };
    }
    if (this.#requests.size > 0) return this.#requestFrame();
    if (time.monoMs >= this.#vectorMonoMs) return this.#vectorFrame(time);
    if (this.#digests.length > 0) return { kind: "digests", origins: this.#digests.splice(0) };
    return (this.#isHeld() ? undefined : this.#recordsFrame(time)) ?? (this.#isOfferDue(time) ? this.#newsFrame(time, true) : undefined);
  }

  /** Requests an origin's records after the given seq. A `floor` above that seq requests a whole transfer. */
  request(id: string, seq: number, floor = 0): void {
    const known = this.#view.find(id);
    const isShort = floor === 0 && known?.isShort === true;
    this.#requests.set(id, { seq, floor, isShort });
    // A repeated request uses the full id, because the peer may know another origin with the same hash.
    if (known !== undefined) known.isShort = false;
  }

  /** Sends this node's seq of an origin again, because the peer reported a lower seq than before. */
  repeatSeq(id: string): void {
    this.#deferred.add(id);
  }

  /** Queues a digest of an origin's live records for the peer. */
  queueDigest(digest: OriginDigest): void {
    if (this.#digests.length < MAX_DIGESTS) this.#digests.push(digest);
  }

  /** Sends this node's whole vector, because the digest did not match the peer's copy. It is sent at most once per vector interval. */
  answerWhole(time: Time): void {
    if (time.monoMs < this.#wholeMonoMs + this.#replicator.options.vectorIntervalMs) return;
    this.#wholeMonoMs = time.monoMs;
    this.#queueWhole(time);
  }

  /** Handles the peer's request for an origin. */
  onRequest(entry: VectorEntry, time: Time): void {
    const { replica, stats, options } = this.#replicator;
    const id = `${entry.nodeId}/${entry.generation}`;
    const origin = replica.origins.get(id);
    if (origin === undefined || entry.seq > origin.through || !this.#view.mayCarry(origin)) return;
    const outcome = this.#view.take(id)?.onRequest(entry, origin, { monoMs: time.monoMs, ...options });
    if (outcome === "too_often") stats.originsHeldBack += 1;
    else if (outcome === "accepted") {
      stats.originsGiven += 1;
      this.#ready.add(id);
    }
  }

  clear(): void {
    this.#ready.clear();
    this.#requests.clear();
    this.#whole.length = 0;
    this.#digests.length = 0;
    this.#deferred.clear();
  }

  // ---- vectors ----

  #nextVectorMonoMs(time: Time, intervalMs = this.#replicator.options.vectorIntervalMs): number {
    return time.monoMs + intervalMs * (0.75 + 0.5 * this.#rng.next());
  }

  /** If there are changes to report again, schedules the next vector as early as on a link that is in use. */
  #endIdle(time: Time): void {
    if (!this.#isIdle || (this.#sentOrder === this.#replicator.vector.order && this.#deferred.size === 0)) return;
    this.#isIdle = false;
    this.#vectorMonoMs = Math.min(this.#vectorMonoMs, this.#nextVectorMonoMs(time));
  }

  #queueWhole(time: Time): void {
    const { vector, options, replica } = this.#replicator;
    const { peer } = this.#view;
    const isHidden = (ref: NodeRef): boolean => replica.origins.get(`${ref.nodeId}/${ref.generation}`)?.life === "hidden";
    const known = vector.entriesSince(0, peer).map((entry) => (isHidden(entry) ? { ...entry, isHidden: true } : entry));
    this.#noteAllSent(known);
    this.#lacking.reset();
    const entries = [...this.#ownOfPeer(), ...known, ...this.#lacking.take()];
    const digest = this.#view.sentDigest;
    const times = this.#linkClock.stamp(this.#replicator.announcedMonoMs(time), time);
    this.#sentOrder = vector.order;
    this.#whole = [];
    for (let from = 0; from === 0 || from < entries.length; from += options.maxVectorEntries) {
      const part = entries.slice(from, from + options.maxVectorEntries);
      const isPartial = from + options.maxVectorEntries < entries.length;
      this.#whole.push({ kind: "vector", entries: part, digest, isPartial, isWanted: false, times });
    }
  }

  /**
   * Returns this node's seq of the peer's own origin, for a peer of another cluster. Such a peer receives no other entry for its own origin, but
   * needs one if its journal lost records (semantics.md, Durability) while the other nodes of its cluster are down. The entry is not part of the
   * digest.
   */
  #ownOfPeer(): readonly VectorEntry[] {
    const { nodeId, generation, relation } = this.#view.peer;
    const own = relation === "region" ? this.#replicator.replica.origins.get(`${nodeId}/${generation}`) : undefined;
    return own === undefined ? [] : [{ nodeId, generation, seq: own.through, floor: 0 }];
  }

  #vectorFrame(time: Time): ReplicationFrame | undefined {
    const { options } = this.#replicator;
    this.#isIdle = options.idleVectorIntervalMs > options.vectorIntervalMs;
    this.#vectorMonoMs = this.#nextVectorMonoMs(time, options.idleVectorIntervalMs);
    return this.#newsFrame(time, false);
  }

  /** Records all entries of a whole vector as sent. */
  #noteAllSent(entries: readonly VectorEntry[]): void {
    this.#deferred.clear();
    for (const { nodeId, generation, seq } of entries) {
      const id = `${nodeId}/${generation}`;
      const known = this.#view.take(id);
      if (known === undefined) continue;
      this.#view.noteSent(id, known, seq);
      known.isNamed = true;
    }
  }

  /**
   * Builds a vector of the changes since the last vector or offer, without the changes that the peer has reported itself. An offer (`isOffer`)
   * contains only changes that the peer lacks and would not receive from another node without a request.
   */
  #newsFrame(time: Time, isOffer: boolean): ReplicationFrame | undefined {
    const { vector, options } = this.#replicator;
    const news: { readonly entries: VectorEntry[]; readonly short: ShortEntry[] } = { entries: [], short: [] };
    vector.forEachSince(this.#sentOrder, (slot) => {
      if (isOffer && !this.#isWorthOffering(slot)) this.#deferred.add(slot.id);
      else this.#addEntry(slot, news);
    });
    this.#sentOrder = vector.order;
    if (!isOffer) {
      for (const id of this.#deferred) {
        const slot = vector.find(id);
        if (slot !== undefined) this.#addEntry(slot, news);
      }
      this.#deferred.clear();
      news.entries.push(...this.#lacking.take());
    }
    this.#offerMonoMs = undefined;
    this.#seenMonoMs = time.monoMs;
    const { entries, short } = news;
    if (entries.length + short.length > options.maxVectorEntries) {
      this.#queueWhole(time);
      return this.#whole.shift();
    }
    if (isOffer && entries.length + short.length === 0) return undefined;
    const digest = isOffer ? 0n : this.#view.sentDigest;
    const heartbeats = isOffer ? [] : this.#view.heartbeats(time);
    return {
      kind: "vector",
      entries,
      ...(short.length > 0 && { short }),
      digest,
      isPartial: true,
      isWanted: false,
      ...(isOffer ? { isOffer } : { times: this.#linkClock.stamp(this.#replicator.announcedMonoMs(time), time) }),
      ...(heartbeats.length > 0 && { heartbeats }),
    };
  }

  #addEntry(slot: VectorSlot, { entries, short }: { readonly entries: VectorEntry[]; readonly short: ShortEntry[] }): void {
    const { id, nodeId, generation, seq, floor } = slot;
    if (!this.#replicator.vector.mayName(slot, this.#view.peer)) return;
    const known = this.#view.take(id);
    // The peer does not need its own reports back, except for its own origin, because it must learn up to which seq this node has that origin.
    if (known === undefined || known.sentSeq === seq || (seq > 0 && known.reportedSeq >= seq && !this.#view.isOwn(id))) return;
    this.#view.noteSent(id, known, seq);
    if (known.isNamed && this.#replicator.vector.findShort(slot.short) === slot) short.push({ hash: slot.short, seq });
    else entries.push({ nodeId, generation, seq, floor });
    known.isNamed = true;
  }

  /** Whether the peer lacks the changes and would not receive them from another node without a request. */
  #isWorthOffering(slot: VectorSlot): boolean {
    if (slot.id === this.#replicator.replica.self.id || slot.nodeId === this.#view.peer.nodeId || this.#view.isLinkedTo(slot.nodeId))
      return false;
    return slot.seq > this.#view.reportedSeqOf(slot.id) && this.#replicator.vector.mayName(slot, this.#view.peer);
  }

  #isOfferDue(time: Time): boolean {
    return this.#offerMonoMs !== undefined && time.monoMs >= this.#offerMonoMs;
  }

  #requestFrame(): ReplicationFrame {
    const entries: VectorEntry[] = [];
    const short: ShortEntry[] = [];
    for (const [id, { seq, floor, isShort }] of this.#requests) {
      if (entries.length + short.length >= this.#replicator.options.maxVectorEntries) break;
      this.#requests.delete(id);
      if (isShort) short.push({ hash: shortHash(id), seq });
      else entries.push({ ...refOf(id), seq, floor });
    }
    this.#replicator.stats.originsAsked += entries.length + short.length;
    return { kind: "vector", entries, ...(short.length > 0 && { short }), digest: 0n, isPartial: true, isWanted: true };
  }

  // ---- records ----

  /** Builds the next frame for the origin whose turn it is. */
  #recordsFrame(time: Time): ReplicationFrame | undefined {
    for (const id of this.#ready) {
      this.#ready.delete(id);
      const origin = this.#replicator.replica.origins.get(id);
      const known = this.#view.find(id);
      if (origin === undefined || known === undefined || !this.#hasNews(origin, known)) continue;
      const from = known.from(origin);
      const isWhole = from.isComplete || from.after < origin.floor;
      if (!isWhole || known.isPressing || isFirm(origin)) return this.#build(origin, known, { ...from, isWhole }, time);
    }
    return undefined;
  }

  #build(
    origin: Origin,
    known: OriginProgress,
    from: { readonly after: number; readonly isComplete: boolean; readonly isWhole: boolean },
    time: Time,
  ): ReplicationFrame {
    const { replica, frameCache, stats, options } = this.#replicator;
    // A late request gets all records. If newer records were omitted, the peer's copy would have gaps.
    const isPrompt = time.monoMs <= this.#replicator.edgeMonoMs + PROMPT_MS;
    const upTo = isPrompt && !from.isWhole ? this.#upTo(origin) : origin.through;
    const frame = frameCache.frame(replica, origin, { ...from, upTo }, this.#link, options.maxFrameBytes);
    if (frame.isComplete && frame.after === 0) stats.wholeTransfers += 1;
    known.sent(frame, origin, upTo);
    if (this.#hasNews(origin, known)) this.#ready.add(origin.id);
    stats.sentRecords += frame.records.length;
    return { kind: "records", frame, clusterId: origin.clusterId, region: origin.region };
  }

  #upTo(origin: Origin): number {
    return origin === this.#replicator.replica.self ? this.#replicator.horizon : origin.through;
  }

  /**
   * Whether to send the peer more records of an origin now, either because the peer requested the origin or because it is this node's own origin,
   * which is sent without a request.
   */
  #hasNews(origin: Origin, known: OriginProgress): boolean {
    if (!this.#view.mayCarry(origin)) return false;
    if (known.isRequested || known.isInTransfer) return true;
    return origin === this.#replicator.replica.self && this.#view.hasWholeVector && known.at < this.#upTo(origin);
  }

  /** Checks for changes. Own changes are batched for all links, so that links share frames. Changes from other nodes are offered. */
  #look(time: Time): void {
    this.#replicator.changed(time);
    this.#endIdle(time);
    if (!this.#view.hasWholeVector) return;
    const { self } = this.#replicator.replica;
    if ((this.#view.find(self.id)?.at ?? -1) < this.#replicator.horizon) {
      const known = this.#view.take(self.id);
      if (known !== undefined && this.#hasNews(self, known)) this.#ready.add(self.id);
    }
    if (this.#seenOrder !== this.#replicator.vector.order) this.#lookForOffers(time);
  }

  #lookForOffers(time: Time): void {
    const { vector, options } = this.#replicator;
    let isWorth = this.#offerMonoMs !== undefined;
    if (!isWorth)
      vector.forEachSince(this.#seenOrder, (slot) => {
        isWorth ||= this.#isWorthOffering(slot);
      });
    this.#seenOrder = vector.order;
    // If many peers can make the same offer, random delays make most of the offers unnecessary, because the receiver already has the changes by then.
    if (isWorth)
      this.#offerMonoMs ??= Math.max(this.#seenMonoMs + options.offerIntervalMs, time.monoMs + options.passDelayMs * this.#rng.next());
  }
}

/** Changes that are requested this soon after their announcement are sent in frames that links share. */
const PROMPT_MS = 5;

/** Maximum number of digests in the queue and in a frame. */
export const MAX_DIGESTS = 256;

// Dates a peer's reports by this node's own clock (semantics.md, Age).
/**
 * Each side of a link adds a timestamp from its own clock to its vectors. It also returns, as one number, the newest timestamp received from the peer
 * plus the time since it arrived. A report with that number was not valid before that moment on this node's clock, regardless of how long it was
 * delayed in transit. Two clocks are never compared. The bound is from Cristian, "Probabilistic clock synchronization" (1989). It is too early by the
 * transit time of this node's timestamp.
 */
export class LinkClock {
  readonly #startMonoMs: number;
  readonly #greetedMonoMs: number;
  /** The peer's newest timestamp, and the time at which it arrived. */
  #newest: { readonly atMs: number; readonly monoMs: number } | undefined;

  /**
   * Starts the clock of one link. `greetedMonoMs`: the time at which this node sent its hello. The peer does not send anything until it has received
   * the hello.
   */
  constructor({ monoMs }: Time, greetedMonoMs: number) {
    this.#startMonoMs = monoMs;
    this.#greetedMonoMs = greetedMonoMs;
  }

  /**
   * Returns the times for a frame that is built now and whose content was valid at `asOfMonoMs`. They are rounded so that the peer dates the frame
   * earlier, never later.
   */
  stamp(asOfMonoMs: number, { monoMs }: Time): VectorTimes {
    const atMs = Math.floor(monoMs - this.#startMonoMs) + 1;
    const asOfMs = this.#newest === undefined ? 0 : this.#newest.atMs + Math.floor(asOfMonoMs - this.#newest.monoMs);
    return asOfMs > 0 ? { atMs, asOfMs } : { atMs };
  }

  /**
   * Returns the earliest time, according to this node's clock, at which a report with these times was valid. Without times, the report may be as old
   * as this node's hello.
   */
  dateReport(times: VectorTimes | undefined, { monoMs }: Time): number {
    const { atMs, asOfMs }: VectorTimes = times ?? { atMs: 0 };
    if (atMs > (this.#newest?.atMs ?? 0)) this.#newest = { atMs, monoMs };
    const soMonoMs = asOfMs === undefined ? this.#greetedMonoMs : this.#startMonoMs + asOfMs - 1;
    return Math.min(soMonoMs, monoMs);
  }
}

/** Tracks which of this node's partial origins were reported to the peer of one link, and which reports must be withdrawn. */
class LackingWords {
  readonly #replicator: Replicator;
  readonly #view: PeerProgress;
  /** Reported origins, and whether each was reported as an origin of a cluster other than this node's cluster. */
  readonly #reported = new Map<string, boolean>();

  constructor(replicator: Replicator, view: PeerProgress) {
    this.#replicator = replicator;
    this.#view = view;
  }

  /**
   * Returns entries for partial origins that have not been reported to the peer yet. The peer that sent the refused records must learn about the
   * refusal, and a newcomer must learn that it does not get all records from this node. The reports about origins that are no longer partial are
   * withdrawn. The entries are not part of the digest, because these origins are not in the vector.
   */
  take(): readonly VectorEntry[] {
    const { partial, vector, place } = this.#replicator;
    if (partial.size === 0 && this.#reported.size === 0) return [];
    const ids = new Set([...partial.origins].map(({ id }) => id));
    const withdrawn = [...this.#reported.keys()].filter((id) => !ids.has(id));
    for (const id of withdrawn) this.#reported.delete(id);
    const entries: VectorEntry[] = withdrawn.map((id) => ({ ...refOf(id), seq: this.#view.find(id)?.sentSeq ?? 0, floor: 0 }));
    for (const origin of partial.origins) {
      const { id, nodeId, generation, through } = origin;
      const isOther = isOfOtherCluster(origin, place.clusterId);
      const isFor = vector.mayName(origin, this.#view.peer) || this.#view.isOfPeer(origin);
      if (!isFor || this.#reported.get(id) === isOther) continue;
      this.#reported.set(id, isOther);
      const entry = { nodeId, generation, seq: 0, floor: 0, isLacking: true, lackingThrough: through };
      entries.push(isOther ? { ...entry, isOfOtherCluster: true } : entry);
    }
    return entries;
  }

  /** Sends all reports again, because the peer lost its copy. */
  reset(): void {
    for (const { id } of this.#replicator.partial.origins) this.#reported.delete(id);
  }
}
