/** Replication on one link: tracks the peer's progress, chooses the next frame to send, and handles received frames (semantics.md, Replication). */
import type { Origin } from "../../catalog/record/stored-record.ts";
import { NEVER, type Time } from "../../lib/machine.ts";
import type { FabricOutput, LinkId } from "../io-types.ts";
import type { ChannelNews, ChannelSession, LinkChannel, LinkGreeting, SharedNews } from "../links/channel.ts";
import type { ReplicationFrame, VectorEntry } from "../wire/messages.ts";
import type { OriginProgress } from "./peer-progress.ts";
import { type Disproved, PeerProgress, type ReplicationPeer } from "./peer-progress.ts";
import { LinkPullScheduler, type ReplicationLag } from "./pull-scheduler.ts";
import { AntiEntropy, LinkReceiver } from "./receiver.ts";
import { MAX_LINKED, type Replicator } from "./replicator.ts";
import { LinkClock, LinkSender } from "./sender.ts";

type VectorFrame = Extract<ReplicationFrame, { kind: "vector" }>;

/** Initial state of a link. */
interface LinkStart {
  /** Time at which this node sent its hello. The peer does not send anything until it has received the hello. */
  readonly greetedMonoMs: number;
  /** Whether records are withheld until the peer has the policy. All other frames are still sent. */
  readonly isHeld: () => boolean;
}

/**
 * Each link has one instance, which exists from the exchange of hellos until `close`. It does not queue frames: `next` reads the replica when the
 * stream accepts more. Therefore, a peer that stops reading costs one small object per origin, and no queue grows.
 *
 * - First, both sides send their whole vector and the ids of the nodes that they are linked to. A node sends its own records immediately, starting
 *   where the peer's vector ends. For changes of an origin that the peer has no link to, a node offers the seq and sends the records on request. All
 *   other records are fetched: a node detects from the periodic vectors that it is behind, waits for records that are already in transit, and then
 *   requests the rest, over only one link at a time.
 * - A sender repeats records only on request. The receiver detects a lost frame (streams do not lose any) as a gap or as a seq that is behind, and
 *   requests the records. Repeated requests for the same records are answered at growing intervals.
 * - After `receive`, `tick`, `Replicator.changed` and any output `changed` of another link, call `hasWork` on every link, because the other links
 *   forward the records that one of them received.
 * - The same inputs produce the same outputs, byte for byte.
 */
export class LinkReplication implements ChannelSession<ReplicationFrame> {
  readonly peer: ReplicationPeer;
  readonly #replicator: Replicator;
  readonly #view: PeerProgress;
  readonly #sender: LinkSender;
  readonly #puller: LinkPullScheduler;
  readonly #receiver: LinkReceiver;
  readonly #antiEntropy: AntiEntropy;
  /** Id of this node's own origin at the time of this link's last check. */
  #selfId: string;
  /** Time at which to request the peer's whole vector again, and the number of times that it has been requested. */
  #wantMonoMs: number;
  #wantCount = 0;
  readonly linkClock: LinkClock;
  /** Lower bound of the time, according to this node's clock, at which the peer's newest vector was valid. */
  #vectorMonoMs = Number.NEGATIVE_INFINITY;

  constructor(replicator: Replicator, peer: ReplicationPeer, time: Time, { greetedMonoMs, isHeld }: LinkStart) {
    this.#replicator = replicator;
    this.peer = peer;
    this.#selfId = replicator.replica.self.id;
    replicator.linkedTo(peer);
    const rng = replicator.rng.fork(`link ${peer.nodeId}/${peer.generation} ${time.monoMs}`);
    this.#view = new PeerProgress(replicator, peer);
    this.linkClock = new LinkClock(time, greetedMonoMs);
    this.#sender = new LinkSender(replicator, this.#view, { rng, linkClock: this.linkClock, isHeld }, time);
    this.#puller = new LinkPullScheduler(replicator, this.#view, (id, seq) => this.#sender.request(id, seq), time);
    this.#receiver = new LinkReceiver(replicator, this.#view, this.#puller);
    this.#antiEntropy = new AntiEntropy(replicator, this.#view, rng, (digest) => this.#sender.queueDigest(digest), time);
    // A stream does not lose frames, but other transports may lose the first vector.
    this.#wantMonoMs = time.monoMs + FIRST_WAIT_INTERVALS * replicator.options.vectorIntervalMs;
  }

  /** Whether the peer's first whole vector has arrived and every origin in it is either up to date on this node or unavailable. */
  get isCaughtUp(): boolean {
    return this.#puller.isCaughtUp;
  }

  hasWork(time: Time): boolean {
    return this.#sender.hasWork(time);
  }

  /**
   * Returns the next frame. It is called while the stream accepts more. A frame contains at most `maxFrameBytes` of records, unless one record is
   * larger.
   */
  next(time: Time): ReplicationFrame | undefined {
    return this.#sender.next(time);
  }

  nextDeadlineMs(): number {
    const want = this.#view.hasWholeVector ? NEVER : this.#wantMonoMs;
    return Math.min(this.#sender.nextDeadlineMs(), this.#puller.nextDeadlineMs(), this.#antiEntropy.nextDeadlineMs(), want);
  }

  /** The time of the peer's newest vector, if this node has all records that it reports. Undefined while this node is behind. */
  get inStepMonoMs(): number | undefined {
    const hasVector = this.#vectorMonoMs !== Number.NEGATIVE_INFINITY;
    return hasVector && !this.#puller.isBehind ? this.#vectorMonoMs : undefined;
  }

  /** The highest seq that the peer has reported for an origin, even if the peer refused some of its records. Returns 0 when the peer reported none. */
  knownSeqOf(id: string): number {
    return Math.max(this.#view.reportedSeqOf(id), this.#view.lackingThroughOf(id));
  }

  /** Whether the peer is known to be at a seq of an origin. If not, requests its whole vector, because a peer does not repeat reports of this node. */
  confirms(id: string, seq: number): boolean {
    const isKnown = this.knownSeqOf(id) >= seq;
    if (!isKnown) this.#sender.isWholeWanted = true;
    return isKnown;
  }

  lag(time: Time): ReplicationLag {
    return this.#puller.lag(time);
  }

  tick(time: Time, out: FabricOutput[]): void {
    this.#replicator.changed(time);
    this.#noteRenewal(time);
    this.#puller.tick(time);
    if (!this.#view.hasWholeVector) this.#wantWhole(time);
    for (const origin of this.#replicator.partial.take(time, (each) => this.#canGive(each, time))) {
      this.#receiver.repair(origin);
      this.#sender.request(origin.id, 0, origin.through);
    }
    for (const origin of this.#antiEntropy.tick(time)) {
      this.#receiver.repair(origin);
      this.#sender.request(origin.id, 0, origin.through);
      this.#receiver.event("origin_diverged", { origin: origin.id, through: origin.through }, time, out);
    }
  }

  /** Whether the peer has the complete origin and no better peer is linked. The origin's own node has priority over all others. */
  #canGive(origin: Origin, time: Time): boolean {
    if (origin.closing !== undefined || this.#replicator.hearsay.isHearsay(this.peer, origin.clusterId, time)) return false;
    if (this.#view.reportedSeqOf(origin.id) < Math.max(1, origin.through)) return false;
    return this.#view.isOfPeer(origin) || !this.#replicator.linked.includes(origin.nodeId);
  }

  receive(frame: ReplicationFrame, time: Time, out: FabricOutput[]): readonly ChannelNews[] {
    const fault = this.#faultOf(frame);
    if (fault !== "") return [{ kind: "badFrame", detail: fault }];
    const news: ChannelNews[] = [];
    switch (frame.kind) {
      case "vector":
        this.#onVector(frame, time, out);
        break;
      case "records":
        this.#receiver.take(frame, time, out);
        news.push({ kind: "heard", origin: frame.frame });
        break;
      case "linked":
        this.#view.setLinked(frame.nodeIds);
        break;
      case "digests":
        this.#antiEntropy.onDigests(frame.origins);
        break;
    }
    const { inStepMonoMs } = this;
    if (inStepMonoMs !== undefined) news.push({ kind: "inStep", nodeId: this.peer.nodeId, monoMs: inStepMonoMs });
    return news;
  }

  /** Describes how the frame violates the protocol. Empty when the frame is valid. */
  #faultOf(frame: ReplicationFrame): string {
    const { maxOrigins } = this.#replicator.options;
    if (frame.kind === "linked" && frame.nodeIds.length > MAX_LINKED)
      return `the list of ${frame.nodeIds.length} linked nodes exceeds the maximum of ${MAX_LINKED}`;
    if (frame.kind !== "vector") return "";
    const originCount = frame.entries.length + (frame.short?.length ?? 0);
    return originCount > maxOrigins ? `the vector of ${originCount} origins exceeds the maximum of ${maxOrigins}` : "";
  }

  /** Called when the link has been closed. Other links then fetch the origins that were pending on it. */
  close(): void {
    this.#puller.close();
    this.#sender.clear();
  }

  #onVector(frame: VectorFrame, time: Time, out: FabricOutput[]): void {
    const { stats, vector, place } = this.#replicator;
    const { entries, short = [] } = frame;
    if (frame.isPartial && frame.isWanted) {
      for (const entry of entries) this.#sender.onRequest(entry, time);
      for (const { hash, seq } of short) {
        const slot = vector.findShort(hash) ?? vector.findShortOf(hash, place.clusterId, true);
        if (slot !== undefined) this.#sender.onRequest({ nodeId: slot.nodeId, generation: slot.generation, seq, floor: 0 }, time);
      }
      if (entries.length + short.length === 0) this.#sender.answerWhole(time);
      return;
    }
    for (const entry of entries) this.#onEntry(`${entry.nodeId}/${entry.generation}`, entry, { isShort: false, time }, out);
    for (const { hash, seq } of short) {
      const named = this.#view.named(hash);
      // If the short hash is unknown, the digest does not match the next vector, and the whole vector is requested.
      if (named === undefined) continue;
      const { id, nodeId, generation } = named;
      this.#onEntry(id, { nodeId, generation, seq, floor: 0 }, { isShort: true, time }, out);
    }
    if (frame.isOffer === true) {
      this.#puller.check(time);
      return;
    }
    if (!frame.isPartial) this.#view.hasWholeVector = true;
    const lateMs = time.monoMs - this.linkClock.dateReport(frame.times, time);
    if (!this.#view.hasWholeVector) return;
    if (this.#view.digest === frame.digest) {
      this.#wantCount = 0;
      this.#vectorMonoMs = Math.max(this.#vectorMonoMs, time.monoMs - lateMs);
      for (const each of this.#view.applyReport(frame.heartbeats ?? [], lateMs, time)) this.#disprove(each, time, out);
    } else this.#wantWhole(time);
    if (this.#isEqual(frame)) stats.vectorsEqual += 1;
    else stats.vectorsDifferent += 1;
    this.#puller.check(time);
  }

  /** Handles false information about an origin of another cluster that a node sent before that cluster's own report arrived. */
  #disprove({ origin, seq }: Disproved, time: Time, out: FabricOutput[]): void {
    const { through } = origin;
    if (!this.#replicator.disproved.add(origin, seq, time)) return;
    this.#receiver.event("origin_disproved", { origin: origin.id, through, seq }, time, out);
    out.push({ kind: "changed" });
  }

  /** Whether this node now has everything that a vector reports. */
  #isEqual({ entries, short = [] }: VectorFrame): boolean {
    return entries.length + short.length === 0 || !this.#puller.isBehind;
  }

  #onEntry(id: string, entry: VectorEntry, how: { readonly isShort: boolean; readonly time: Time }, out: FabricOutput[]): void {
    const { replica, stats, options } = this.#replicator;
    const { isShort, time } = how;
    // A peer that refused records still reports the highest seq among them.
    const reportedSeq = Math.max(entry.seq, entry.lackingThrough ?? 0);
    if (id === replica.self.id && entry.isLacking === true) this.#receiver.event("origin_partial_at_peer", { origin: id }, time, out);
    if (id === replica.self.id && this.peer.relation !== "cluster") {
      if (this.#replicator.isLostAbroad(reportedSeq, time))
        out.push({ kind: "generationLost", peerNodeId: this.peer.nodeId, seq: reportedSeq });
      // The peer already has this node's records up to this seq.
      else if (entry.seq <= replica.self.through) this.#view.take(id)?.reached(entry.seq);
    } else if (this.#learn(id, entry, isShort) === undefined) {
      stats.refusedOrigins += 1;
      this.#receiver.event("too_many_origins", { bound: options.maxOrigins }, time, out);
    } else if (id === replica.self.id) {
      if (this.#replicator.isLost(reportedSeq, time)) out.push({ kind: "generationLost", peerNodeId: this.peer.nodeId, seq: reportedSeq });
    } else {
      this.#replicator.noteLife(id, entry.isHidden === true);
      if (entry.isLacking === true) this.#receiver.event("origin_partial_at_peer", { origin: id }, time, out);
      this.#puller.onVectorEntry(id, entry.seq, time);
    }
  }

  #learn(id: string, entry: VectorEntry, isShort: boolean): OriginProgress | undefined {
    const before = this.#view.reportedSeqOf(id);
    if (entry.seq < before) {
      this.#sender.repeatSeq(id);
      // A newer frame may have overtaken this one, whose content was then no longer valid at the time of the newer frame.
      this.#vectorMonoMs = Number.NEGATIVE_INFINITY;
    }
    return this.#view.learn(id, entry, isShort);
  }

  /**
   * Handles a new generation of this node. The peer's records of the old generation now belong to another origin, and are fetched like any other
   * origin's records.
   */
  #noteRenewal(time: Time): void {
    const { id } = this.#replicator.replica.self;
    if (id === this.#selfId) return;
    this.#puller.onVectorEntry(this.#selfId, this.#view.reportedSeqOf(this.#selfId), time);
    this.#selfId = id;
  }

  /** Requests the peer's whole vector again, because this node's copy does not match the digest that the peer sent. */
  #wantWhole(time: Time): void {
    if (time.monoMs < this.#wantMonoMs) return;
    const { vectorIntervalMs } = this.#replicator.options;
    this.#wantMonoMs = time.monoMs + vectorIntervalMs * 2 ** Math.min(3, this.#wantCount);
    this.#wantCount += 1;
    this.#sender.isWholeWanted = true;
  }
}

/** A whole vector is requested again if it has not arrived after this many vector intervals. */
const FIRST_WAIT_INTERVALS = 2;

// Replication as a channel of the links. It opens a `LinkReplication` on each link, and detects when there are changes that all links must announce.
/**
 * Minimum interval between two checks of all links for changes from other nodes, because a check of twenty links costs more than processing a record.
 */
const LOOK_MS = 20;

export class ReplicationChannel implements LinkChannel<ReplicationFrame> {
  readonly kinds = ["vector", "records", "linked", "digests"] as const;
  readonly speaks = "in turn";
  readonly shared: SharedNews;
  readonly #replicator: Replicator;
  readonly #isHeld: (link: LinkId) => boolean;
  readonly #unlikeHello: Partial<ReplicationPeer>;
  readonly #all = new Map<LinkId, LinkReplication>();

  /**
   * `isHeld`: whether records are withheld until a peer has the policy. `unlikeHello`: values that replace fields of every peer's hello.
   */
  constructor(replicator: Replicator, isHeld: (link: LinkId) => boolean, unlikeHello: Partial<ReplicationPeer> = {}) {
    this.#unlikeHello = unlikeHello;
    this.#replicator = replicator;
    this.#isHeld = isHeld;
    this.shared = new VectorNews(replicator);
  }

  /** The replication of a link that is up. */
  find(link: LinkId): LinkReplication | undefined {
    return this.#all.get(link);
  }

  /** The highest seq of an origin that any linked peer has, or that the peer knows but refused. Returns 0 when there is none. */
  knownSeqOf(id: string): number {
    let knownSeq = 0;
    for (const replication of this.#all.values()) knownSeq = Math.max(knownSeq, replication.knownSeqOf(id));
    return knownSeq;
  }

  /** Whether all linked peers that receive records have an origin's records up to a seq, apart from refused ones. Asks the peers that possibly lack some. */
  arePeersAt(id: string, seq: number): boolean {
    const unsure = [...this.#all].filter(([link, replication]) => !this.#isHeld(link) && !replication.confirms(id, seq));
    return unsure.length === 0;
  }

  open(link: LinkId, { hello, relation, greetedMonoMs }: LinkGreeting, time: Time): LinkReplication {
    const { nodeId, generation, clusterId, region } = hello;
    this.#replicator.partial.greeted(nodeId, `${generation} ${hello.version}`, time);
    const peer = { nodeId, generation, clusterId, region, relation, ...this.#unlikeHello };
    const how = { greetedMonoMs, isHeld: () => this.#isHeld(link) };
    const replication = new LinkReplication(this.#replicator, peer, time, how);
    this.#all.set(link, replication);
    this.#updateLinked();
    return replication;
  }

  closed(link: LinkId): void {
    this.find(link)?.close();
    this.#all.delete(link);
    this.#updateLinked();
  }

  #updateLinked(): void {
    this.#replicator.setLinked([...this.#all.values()].map(({ peer }) => peer.nodeId));
  }
}

/** Detects that the vector advanced, either through own changes, which are sent immediately, or through changes from other nodes. */
class VectorNews implements SharedNews {
  readonly #replicator: Replicator;
  #seenOrder = -1;
  #seenHorizon = 0;
  #lookMonoMs = 0;

  constructor(replicator: Replicator) {
    this.#replicator = replicator;
  }

  get order(): number {
    return this.#replicator.vector.order;
  }

  tick(time: Time): void {
    if (time.monoMs >= this.#replicator.edgeDueMonoMs) this.#replicator.changed(time);
  }

  isDue({ monoMs }: Time): boolean {
    return this.order !== this.#seenOrder && (monoMs >= this.#lookMonoMs || this.#replicator.horizon !== this.#seenHorizon);
  }

  looked({ monoMs }: Time): void {
    this.#seenOrder = this.order;
    this.#seenHorizon = this.#replicator.horizon;
    this.#lookMonoMs = monoMs + LOOK_MS;
  }

  nextDeadlineMs(linkCount: number): number {
    const look = linkCount === 0 || this.order === this.#seenOrder ? NEVER : this.#lookMonoMs;
    return Math.min(this.#replicator.edgeDueMonoMs, look);
  }
}
