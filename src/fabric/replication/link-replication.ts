/** One link's replication, composed: what the peer knows, what to tell it next, and what to do with what it tells (semantics.md, Replication). */
import type { Origin } from "../../catalog/record/stored-record.ts";
import { NEVER, type Time } from "../../lib/machine.ts";
import type { FabricOutput } from "../io-types.ts";
import type { ChannelNews, ChannelSession } from "../links/channel.ts";
import type { ReplicationFrame, VectorEntry } from "../wire/messages.ts";
import { AntiEntropy } from "./anti-entropy.ts";
import { LinkFetcher, type ReplicationLag } from "./fetcher.ts";
import type { OriginProgress } from "./origin-progress.ts";
import { type Disproved, PeerProgress, type ReplicationPeer } from "./peer-progress.ts";
import { LinkReceiver } from "./receiver.ts";
import { MAX_LINKED, type Replicator } from "./replicator.ts";
import { SaidTimes } from "./said-times.ts";
import { LinkSender } from "./sender.ts";

type VectorFrame = Extract<ReplicationFrame, { kind: "vector" }>;

/** How a link begins. */
interface Opening {
  /** When this node greeted. The peer says nothing before it has heard that. */
  readonly greetedMonoMs: number;
  /** Whether the peer gets no records for now, because it must get the policy first. Everything else goes on. */
  readonly isHeld: () => boolean;
}

/**
 * One a link, made when both hellos are done and `close`d with it. It keeps no frames: `next` reads the replica when the stream takes more,
 * so a peer that stops reading costs a small object an origin and nothing that grows.
 *
 * - First both sides send their whole vector and whom they are linked to. A node's own records go out at once from where the peer's vector
 *   says. News of an origin that the peer has no link to is offered by its number, and sent when the peer asks. To a peer without the
 *   capability `offers` its records go as soon as they come, if the peer was up to date before. Everything else is fetched: a node sees in
 *   the periodic vectors that it is behind, waits for what is on its way, then asks, one link at a time.
 * - So nothing is sent twice on the sender's own account. A frame that is lost (a stream loses none) is a gap or a number behind at the
 *   receiver, who asks; whoever asks for the same again and again is answered ever more rarely.
 * - After `receive`, `tick`, `Replicator.changed` and any output `changed` of another link, ask `hasWork` of every link: the others pass on
 *   what one of them brought.
 * - The same inputs give the same outputs to the byte.
 */
export class LinkReplication implements ChannelSession<ReplicationFrame> {
  readonly peer: ReplicationPeer;
  readonly #replicator: Replicator;
  readonly #view: PeerProgress;
  readonly #sender: LinkSender;
  readonly #fetcher: LinkFetcher;
  readonly #receiver: LinkReceiver;
  readonly #antiEntropy: AntiEntropy;
  /** Id of this node's own origin as this link knows it. */
  #selfId: string;
  /** When the peer's whole vector is asked for, again, and how often it was. */
  #wantMonoMs: number;
  #wantCount = 0;
  /** When the last vector came, and for how long it may have been on its way. */
  #vectorMonoMs: number;
  #lateByMs = 0;
  readonly #saidTimes: SaidTimes;
  /** Since when, at the earliest, the peer's newest vector has been so; of a peer that does not say it, when it came. */
  #saidMonoMs = Number.NEGATIVE_INFINITY;

  constructor(replicator: Replicator, peer: ReplicationPeer, time: Time, { greetedMonoMs, isHeld }: Opening) {
    this.#replicator = replicator;
    this.peer = peer;
    this.#selfId = replicator.replica.self.id;
    replicator.linkedTo(peer);
    const rng = replicator.rng.fork(`link ${peer.nodeId}/${peer.generation} ${time.monoMs}`);
    this.#view = new PeerProgress(replicator, peer);
    this.#saidTimes = new SaidTimes(time, greetedMonoMs);
    this.#sender = new LinkSender(replicator, this.#view, { rng, saidTimes: this.#saidTimes, isHeld }, time);
    this.#fetcher = new LinkFetcher(replicator, this.#view, (id, seq) => this.#sender.ask(id, seq), time);
    this.#receiver = new LinkReceiver(replicator, this.#view, this.#fetcher);
    this.#antiEntropy = new AntiEntropy(replicator, this.#view, rng, (digest) => this.#sender.tell(digest), time);
    // A stream loses nothing; elsewhere the first vector may be lost.
    this.#vectorMonoMs = time.monoMs;
    this.#wantMonoMs = time.monoMs + FIRST_WAIT_INTERVALS * replicator.options.vectorIntervalMs;
  }

  /** Whether the peer's first whole vector has come and all it named is known here, or not to be had. */
  get isCaughtUp(): boolean {
    return this.#fetcher.isCaughtUp;
  }

  hasWork(time: Time): boolean {
    return this.#sender.hasWork(time);
  }

  /** The next frame, while the stream takes more. At most `maxFrameBytes` of records unless one record is larger. */
  next(time: Time): ReplicationFrame | undefined {
    return this.#sender.next(time);
  }

  nextDeadlineMs(): number {
    const want = this.#view.isWholeTold ? NEVER : this.#wantMonoMs;
    return Math.min(this.#sender.nextDeadlineMs(), this.#fetcher.nextDeadlineMs(), this.#antiEntropy.nextDeadlineMs(), want);
  }

  /** This node lacks nothing of what the peer had at that time: when it said its newest vector. Undefined while this node is behind. */
  get inStepMonoMs(): number | undefined {
    const hasSaid = this.#saidMonoMs !== Number.NEGATIVE_INFINITY;
    return hasSaid && !this.#fetcher.isBehind ? this.#saidMonoMs : undefined;
  }

  /** The peer's number of an origin, as far as it told, also of one of which it refused records; 0 when it never did. */
  heardOf(id: string): number {
    return Math.max(this.#view.toldOf(id), this.#view.lackingThroughOf(id));
  }

  lag(time: Time): ReplicationLag {
    return this.#fetcher.lag(time);
  }

  tick(time: Time, out: FabricOutput[]): void {
    this.#replicator.changed(time);
    this.#noteRenewal(time);
    this.#fetcher.tick(time);
    if (!this.#view.isWholeTold) this.#wantWhole(time);
    for (const origin of this.#replicator.partial.take(time, (each) => this.#canGive(each, time))) {
      this.#receiver.repair(origin);
      this.#sender.ask(origin.id, 0, origin.through);
    }
    for (const origin of this.#antiEntropy.tick(time)) {
      this.#receiver.repair(origin);
      this.#sender.ask(origin.id, 0, origin.through);
      this.#receiver.event("origin_diverged", { origin: origin.id, through: origin.through }, time, out);
    }
  }

  /** Whether the peer has all of an origin: itself before all others, when it is linked. */
  #canGive(origin: Origin, time: Time): boolean {
    if (origin.closing !== undefined || this.#replicator.hearsay.isHearsay(this.peer, origin.clusterId, time)) return false;
    if (this.#view.toldOf(origin.id) < Math.max(1, origin.through)) return false;
    return this.#view.isOfPeer(origin) || !this.#replicator.linked.includes(origin.nodeId);
  }

  receive(frame: ReplicationFrame, time: Time, out: FabricOutput[]): readonly ChannelNews[] {
    const fault = this.#faultOf(frame);
    if (fault !== "") return [{ kind: "badFrame", detail: fault }];
    switch (frame.kind) {
      case "vector":
        this.#onVector(frame, time, out);
        break;
      case "records":
        this.#receiver.take(frame, time, out);
        break;
      case "linked":
        this.#view.setLinked(frame.nodeIds);
        this.#sender.offerAll();
        break;
      case "digests":
        this.#antiEntropy.onDigests(frame.origins);
        break;
    }
    const { inStepMonoMs } = this;
    return inStepMonoMs === undefined ? [] : [{ kind: "inStep", nodeId: this.peer.nodeId, monoMs: inStepMonoMs }];
  }

  /** Empty when the frame keeps its bounds. */
  #faultOf(frame: ReplicationFrame): string {
    const { maxOrigins } = this.#replicator.options;
    if (frame.kind === "linked" && frame.nodeIds.length > MAX_LINKED)
      return `${frame.nodeIds.length} linked nodes, more than ${MAX_LINKED}`;
    if (frame.kind !== "vector") return "";
    const originCount = frame.entries.length + (frame.short?.length ?? 0);
    return originCount > maxOrigins ? `vector of ${originCount} origins, more than ${maxOrigins}` : "";
  }

  /** The link is gone: what it was fetching is for others. */
  close(): void {
    this.#fetcher.close();
    this.#sender.clear();
  }

  #onVector(frame: VectorFrame, time: Time, out: FabricOutput[]): void {
    const { stats, vector, place } = this.#replicator;
    const { entries, short = [] } = frame;
    if (frame.isPartial && frame.isWanted) {
      for (const entry of entries) this.#sender.onAsk(entry, time);
      for (const { hash, seq } of short) {
        const mark = vector.findShort(hash) ?? vector.findShortOf(hash, place.clusterId, true);
        if (mark !== undefined) this.#sender.onAsk({ nodeId: mark.nodeId, generation: mark.generation, seq, floor: 0 }, time);
      }
      if (entries.length + short.length === 0) this.#sender.answerWhole(time);
      return;
    }
    for (const entry of entries) this.#onEntry(`${entry.nodeId}/${entry.generation}`, entry, { isShort: false, time }, out);
    for (const { hash, seq } of short) {
      const named = this.#view.named(hash);
      // Of an unknown name the digest tells, with the next vector.
      if (named === undefined) continue;
      const { id, nodeId, generation } = named;
      this.#onEntry(id, { nodeId, generation, seq, floor: 0 }, { isShort: true, time }, out);
    }
    if (frame.isOffer === true) {
      this.#fetcher.check(time);
      return;
    }
    if (!frame.isPartial && !this.#view.isWholeTold) {
      this.#view.isWholeTold = true;
      this.#sender.offerAll();
    }
    const { said } = frame;
    const lateMs = said === undefined ? this.#lateMs(time) : time.monoMs - this.#saidTimes.heard(said, time);
    if (!this.#view.isWholeTold) return;
    if (this.#view.digest === frame.digest) {
      this.#wantCount = 0;
      this.#saidMonoMs = Math.max(this.#saidMonoMs, said === undefined ? time.monoMs : time.monoMs - lateMs);
      for (const each of this.#view.hear(frame.heartbeats ?? [], lateMs, time)) this.#disprove(each, time, out);
    } else this.#wantWhole(time);
    if (this.#isEqual(frame)) stats.vectorsEqual += 1;
    else stats.vectorsDifferent += 1;
    this.#fetcher.check(time);
  }

  /** Somebody told a lie of an origin of another cluster before its own word came. */
  #disprove({ origin, seq }: Disproved, time: Time, out: FabricOutput[]): void {
    const { through } = origin;
    if (!this.#replicator.disproved.add(origin, seq, time)) return;
    this.#receiver.event("origin_disproved", { origin: origin.id, through, seq }, time, out);
    out.push({ kind: "changed" });
  }

  /** For how long a vector of a peer that does not say it may have been on its way, by how much later than they are sent they came. */
  #lateMs({ monoMs }: Time): number {
    const { vectorIntervalMs } = this.#replicator.options;
    this.#lateByMs = Math.max(0, this.#lateByMs + monoMs - this.#vectorMonoMs - LATEST_INTERVALS * vectorIntervalMs);
    this.#vectorMonoMs = monoMs;
    return this.#lateByMs;
  }

  /** Whether a vector told of nothing that is not known here; and, of a peer that says all it knows, of all that is. */
  #isEqual({ entries, short = [], digest }: VectorFrame): boolean {
    if (this.peer.takesOffers === true) return entries.length + short.length === 0 || !this.#fetcher.isBehind;
    // Over a border the two sides tell of different origins.
    return this.peer.relation === "cluster" ? digest === this.#replicator.vector.digest(this.peer) : entries.length === 0;
  }

  #onEntry(id: string, entry: VectorEntry, how: { readonly isShort: boolean; readonly time: Time }, out: FabricOutput[]): void {
    const { replica, stats, options } = this.#replicator;
    const { isShort, time } = how;
    // Of what it refused, the peer knows how far that went.
    const heard = Math.max(entry.seq, entry.lackingThrough ?? 0);
    if (id === replica.self.id && entry.isLacking === true) this.#receiver.event("origin_partial_at_peer", { origin: id }, time, out);
    if (id === replica.self.id && this.peer.relation !== "cluster") {
      if (this.#replicator.isLostAbroad(heard, time)) out.push({ kind: "generationLost", peerNodeId: this.peer.nodeId, seq: heard });
      // What it has of us it is not sent once more.
      else if (entry.seq <= replica.self.through) this.#view.take(id, false)?.reached(entry.seq);
    } else if (this.#learn(id, entry, isShort) === undefined) {
      stats.refusedOrigins += 1;
      this.#receiver.event("too_many_origins", { bound: options.maxOrigins }, time, out);
    } else if (id === replica.self.id) {
      if (this.#replicator.isLost(heard, time)) out.push({ kind: "generationLost", peerNodeId: this.peer.nodeId, seq: heard });
    } else {
      this.#replicator.noteLife(id, entry.isHidden === true);
      if (entry.isLacking === true) this.#receiver.event("origin_partial_at_peer", { origin: id }, time, out);
      this.#fetcher.told(id, entry.seq, time);
    }
  }

  #learn(id: string, entry: VectorEntry, isShort: boolean): OriginProgress | undefined {
    const before = this.#view.toldOf(id);
    if (entry.seq < before) {
      this.#sender.tellAgain(id);
      // It may be an old frame that was overtaken: then what it says was not so any more when the newest was said.
      this.#saidMonoMs = Number.NEGATIVE_INFINITY;
    }
    return this.#view.learn(id, entry, isShort);
  }

  /** After a new generation, what the peer knows of the old one is another origin's, to be fetched as any other's. */
  #noteRenewal(time: Time): void {
    const { id } = this.#replicator.replica.self;
    if (id === this.#selfId) return;
    this.#fetcher.told(this.#selfId, this.#view.toldOf(this.#selfId), time);
    this.#selfId = id;
  }

  /** Our picture of the peer's vector is not what it says it is. */
  #wantWhole(time: Time): void {
    if (time.monoMs < this.#wantMonoMs) return;
    const { vectorIntervalMs } = this.#replicator.options;
    this.#wantMonoMs = time.monoMs + vectorIntervalMs * 2 ** Math.min(3, this.#wantCount);
    this.#wantCount += 1;
    this.#sender.isWholeWanted = true;
  }
}

/** Vector intervals until a whole vector that has not come is asked for. */
const FIRST_WAIT_INTERVALS = 2;

/** A vector goes at the latest so many intervals after the one before. */
const LATEST_INTERVALS = 1.25;
