/** One link's replication: what the peer knows, what to tell it next, and what to do with what it tells (semantics.md, Replication). */
import type { Origin } from "../catalog/cell.ts";
import { FrameReceiver, type Link } from "../catalog/frames.ts";
import type { OriginPlace } from "../catalog/origins.ts";
import { type Relation, relationOf } from "../catalog/scope.ts";
import type { Time } from "../lib/machine.ts";
import type { Rng } from "../lib/rng.ts";
import type { FabricEvent } from "./fabric.ts";
import type { NodeRef, ReplicationFrame, VectorEntry } from "./messages.ts";
import { Asked, PeerOrigin } from "./peer-origin.ts";
import type { Fetcher, ReplicationShared } from "./replication-shared.ts";
import { entryHash, Sum64 } from "./vector.ts";

export interface ReplicationPeer extends NodeRef, OriginPlace {
  readonly relation: Relation;
}

export type ReplicationOutput =
  /** The replica changed: readers are to be woken, and every link may have something to send. */
  | { readonly kind: "changed" }
  /** Own live records that another origin's `unregistered` hides: their leases end them. */
  | { readonly kind: "superseded"; readonly keys: readonly string[] }
  /** The peer knows more of our own generation than our journal does. */
  | { readonly kind: "generationLost"; readonly seq: number }
  | { readonly kind: "event"; readonly event: FabricEvent }
  /** The peer broke the protocol: say goodbye to it. */
  | { readonly kind: "badFrame"; readonly reason: string };

/** How far a link is behind, both ways. */
export interface ReplicationLag {
  /** Since when this node has known less than the peer says it knows, in ms; 0 when it does not. */
  readonly behindMs: number;
  /** Changes of which the peer says that it has them and this node has not; gaps in the numbers count too. */
  readonly behindSeqs: number;
  /** Origins of which this node has more than was sent to the peer or is known to be there. */
  readonly aheadOrigins: number;
}

type RecordsFrame = Extract<ReplicationFrame, { kind: "records" }>;
type VectorFrame = Extract<ReplicationFrame, { kind: "vector" }>;

/** Looks at what is behind at most so often, in ms. */
const CHECK_MS = 100;

/**
 * One a link, made when both hellos are done, `close`d with it. It keeps no frames: `next` reads the replica when the stream takes more, so
 * a peer that stops reading costs one small object an origin and nothing that grows.
 *
 * - First both sides send their whole vector and whom they are linked to. Own records go out at once from where the peer's vector says;
 *   those of an origin that the peer has no link to as soon as they are heard of, if the peer was up to date before. Everything else
 *   the peer asks for: it sees in the periodic vectors that it is behind, waits for what is on its way, then asks one of its links.
 * - So nothing is ever sent again on a sender's own account; a frame lost on the way (which a stream does not do) is a gap or a number
 *   behind at the receiver, who asks.
 * - After every `receive` that put out `changed`, and after `changed` and `tick`, whoever composes asks `hasWork` of every link.
 * - The same inputs give the same outputs to the byte.
 */
export class LinkReplication implements Fetcher {
  readonly peer: ReplicationPeer;
  /** When records last came over this link. */
  receivedMonoMs: number;
  readonly #shared: ReplicationShared;
  readonly #receiver: FrameReceiver;
  readonly #link: Link;
  readonly #rng: Rng;
  readonly #origins = new Map<string, PeerOrigin>();
  /** Sum over what the peer's vectors said, to be equal to the digest it sends. */
  readonly #told = new Sum64();
  /** Ids of origins with something to send, in turn. */
  readonly #ready = new Set<string>();
  /** Origins of which the peer knows more, and since when. */
  readonly #ahead = new Map<string, number>();
  /** What the peer's first whole vector named and is not here yet. */
  readonly #missing = new Map<string, number>();
  /** Small frames that go first; bounded by the length of a whole vector. */
  readonly #outbox: ReplicationFrame[] = [];
  readonly #asks = new Map<string, VectorEntry>();
  #isWholeTold = false;
  #isWholeWanted = false;
  #wantMonoMs = 0;
  #wantCount = 0;
  #answerMonoMs = Number.NEGATIVE_INFINITY;
  #linkedSent: readonly string[] | undefined;
  #peerLinked: ReadonlySet<string> | undefined;
  /** The vector's moves up to here are said, and looked at. */
  #saidOrder = 0;
  #seenOrder = 0;
  #seenMonoMs = Number.NEGATIVE_INFINITY;
  #vectorMonoMs: number;
  #checkMonoMs: number;
  #behindMonoMs: number | undefined;
  readonly #eventMonoMs = new Map<string, number>();

  constructor(shared: ReplicationShared, peer: ReplicationPeer, time: Time) {
    this.#shared = shared;
    this.peer = peer;
    this.#link = { relation: peer.relation, clusterId: peer.clusterId };
    this.#receiver = new FrameReceiver(shared.replica, shared.drafter, shared.bounds);
    this.#rng = shared.rng.fork(`link ${peer.nodeId}/${peer.generation} ${time.monoMs}`);
    this.receivedMonoMs = time.monoMs;
    this.#vectorMonoMs = this.#nextVectorMonoMs(time);
    this.#checkMonoMs = time.monoMs;
    this.#queueWhole();
  }

  // ---- what the shell asks ----

  /** Whether the peer's first whole vector has come and all it named is known here, or not to be had. */
  get isCaughtUp(): boolean {
    return this.#isWholeTold && this.#missing.size === 0;
  }

  /** Whether `next` has a frame. */
  hasWork(time: Time): boolean {
    this.#look(time);
    return this.#outbox.length > 0 || this.#asks.size > 0 || this.#isVectorDue(time) || this.#isLinkedDue() || this.#ready.size > 0;
  }

  nextDeadlineMs(): number | undefined {
    let due = this.#vectorMonoMs;
    if (this.#ahead.size > 0 || this.#missing.size > 0) due = Math.min(due, this.#checkMonoMs + CHECK_MS);
    const edge = this.#shared.edgeDueMonoMs;
    if (edge !== undefined) due = Math.min(due, edge);
    if (this.#seenOrder < this.#shared.vector.order) due = Math.min(due, this.#seenMonoMs + this.#shared.options.gatherMs);
    return due;
  }

  lag(time: Time): ReplicationLag {
    let behindSeqs = 0;
    for (const id of this.#ahead.keys()) behindSeqs += Math.max(0, (this.#origins.get(id)?.told ?? 0) - this.#throughOf(id));
    const isBehind = behindSeqs > 0 && this.#behindMonoMs !== undefined;
    return { behindMs: isBehind ? time.monoMs - (this.#behindMonoMs ?? 0) : 0, behindSeqs, aheadOrigins: this.#ready.size };
  }

  // ---- inputs ----

  /** Own records may have been committed. */
  changed(time: Time): void {
    this.#shared.changed(time);
  }

  tick(time: Time, _out: ReplicationOutput[]): void {
    this.#shared.changed(time);
    this.#look(time);
    if (time.monoMs - this.#checkMonoMs >= CHECK_MS) this.#check(time);
  }

  /** The link is gone. */
  close(): void {
    this.#shared.dropFetcher(this);
    this.#ready.clear();
    this.#ahead.clear();
  }

  receive(frame: ReplicationFrame, time: Time, out: ReplicationOutput[]): void {
    switch (frame.kind) {
      case "vector":
        this.#onVector(frame, time, out);
        return;
      case "records":
        this.#onRecords(frame, time, out);
        return;
      case "linked":
        this.#onLinked(frame.nodeIds, out);
        return;
      case "digests":
        return;
    }
  }

  // ---- sending ----

  /** The next frame, while the stream takes more. At most `maxFrameBytes` of records unless one record is larger. */
  next(time: Time): ReplicationFrame | undefined {
    this.#look(time);
    const first = this.#outbox.shift();
    if (first !== undefined) return first;
    if (this.#isLinkedDue()) {
      this.#linkedSent = this.#shared.linked;
      return { kind: "linked", nodeIds: this.#linkedSent };
    }
    if (this.#asks.size > 0) return this.#askFrame();
    if (this.#isVectorDue(time)) return this.#vectorFrame(time);
    return this.#recordsFrame();
  }

  #isLinkedDue(): boolean {
    return this.#linkedSent !== this.#shared.linked;
  }

  #isVectorDue(time: Time): boolean {
    return time.monoMs >= this.#vectorMonoMs;
  }

  #nextVectorMonoMs(time: Time): number {
    return time.monoMs + this.#shared.options.vectorIntervalMs * (0.75 + 0.5 * this.#rng.next());
  }

  #queueWhole(): void {
    const { vector, options, stats } = this.#shared;
    stats.wholeVectors += 1;
    const entries = vector.entriesSince(0, this.peer);
    const digest = vector.digest(this.peer);
    const isWanted = this.#isWholeWanted;
    this.#isWholeWanted = false;
    this.#saidOrder = vector.order;
    for (let from = 0; from === 0 || from < entries.length; from += options.maxVectorEntries) {
      const part = entries.slice(from, from + options.maxVectorEntries);
      const isLast = from + options.maxVectorEntries >= entries.length;
      this.#outbox.push({ kind: "vector", entries: part, digest, isPartial: !isLast, isWanted: isLast && isWanted });
    }
  }

  #vectorFrame(time: Time): ReplicationFrame {
    const { vector } = this.#shared;
    this.#vectorMonoMs = this.#nextVectorMonoMs(time);
    const entries = vector.entriesSince(this.#saidOrder, this.peer).slice(0, this.#shared.options.maxOrigins);
    this.#saidOrder = vector.order;
    return { kind: "vector", entries, digest: vector.digest(this.peer), isPartial: true, isWanted: false };
  }

  #askFrame(): ReplicationFrame {
    const entries: VectorEntry[] = [];
    for (const [id, entry] of this.#asks) {
      if (entries.length >= this.#shared.options.maxVectorEntries) break;
      this.#asks.delete(id);
      entries.push(entry);
    }
    this.#shared.stats.asks += entries.length;
    return { kind: "vector", entries, digest: 0n, isPartial: true, isWanted: true };
  }

  /** One origin's turn. */
  #recordsFrame(): ReplicationFrame | undefined {
    for (const id of this.#ready) {
      this.#ready.delete(id);
      const origin = this.#shared.replica.origins.get(id);
      const known = this.#origins.get(id);
      if (origin === undefined || known === undefined || !this.#mayCarry(origin) || !this.#hasNews(origin, known)) continue;
      return this.#build(origin, known);
    }
    return undefined;
  }

  #build(origin: Origin, known: PeerOrigin): ReplicationFrame {
    const { replica, shelf, stats, options } = this.#shared;
    const from = known.from(origin);
    const isNew = from.isComplete && from.after === 0;
    const upTo = from.isComplete ? origin.through : this.#upTo(origin);
    const frame = shelf.frame(replica, origin, { ...from, upTo }, this.#link, options.maxFrameBytes);
    if (isNew || (frame.isComplete && !from.isComplete)) stats.wholeTransfers += 1;
    known.sent(frame, origin, upTo);
    if (this.#hasNews(origin, known)) this.#ready.add(origin.id);
    stats.sentFrames += 1;
    stats.sentRecords += frame.records.length;
    return { kind: "records", frame, clusterId: origin.clusterId, region: origin.region };
  }

  #upTo(origin: Origin): number {
    return origin === this.#shared.replica.self ? this.#shared.horizon : origin.through;
  }

  #mayCarry(origin: Origin): boolean {
    return this.#shared.vector.mayName(origin, this.peer);
  }

  /** Whether the peer is to get more of an origin now, without being told to or because it asked. */
  #hasNews(origin: Origin, known: PeerOrigin): boolean {
    if (known.isAsked || known.isInTransfer) return true;
    if (known.at >= this.#upTo(origin)) return false;
    if (origin === this.#shared.replica.self) return this.#isWholeTold;
    return known.isFollowing && this.#isRelayed(origin);
  }

  /** Whether the peer has no link of its own to that origin's node. */
  #isRelayed(origin: Origin): boolean {
    return this.#peerLinked !== undefined && origin.nodeId !== this.peer.nodeId && !this.#peerLinked.has(origin.nodeId);
  }

  /** Looks at what moved since it last did; own news is gathered for all links together. */
  #look(time: Time): void {
    this.#shared.changed(time);
    if (!this.#isWholeTold) return;
    const { replica, vector, options } = this.#shared;
    const { self } = replica;
    if (this.#origins.get(self.id)?.at !== this.#shared.horizon) this.#offer(self);
    if (this.#seenOrder === vector.order || time.monoMs < this.#seenMonoMs + options.gatherMs) return;
    this.#seenMonoMs = time.monoMs;
    vector.forEachSince(this.#seenOrder, (mark) => {
      const origin = replica.origins.get(mark.id);
      if (origin !== undefined) this.#offer(origin);
    });
    this.#seenOrder = vector.order;
  }

  #offer(origin: Origin): void {
    if (!this.#mayCarry(origin)) return;
    const known = this.#known(origin.id, true);
    if (known !== undefined && this.#hasNews(origin, known)) this.#ready.add(origin.id);
  }

  // ---- vectors ----

  /** What is kept of an origin; undefined when there are too many. `isFollowing`: of one that is new to both. */
  #known(id: string, isFollowing: boolean): PeerOrigin | undefined {
    let known = this.#origins.get(id);
    if (known === undefined && this.#origins.size < this.#shared.options.maxOrigins) {
      known = new PeerOrigin(isFollowing);
      this.#origins.set(id, known);
    }
    return known;
  }

  #onVector(frame: VectorFrame, time: Time, out: ReplicationOutput[]): void {
    const { options, stats, vector } = this.#shared;
    if (frame.entries.length > options.maxOrigins) {
      this.#bad(`vector of ${frame.entries.length} origins, more than ${options.maxOrigins}`, out);
      return;
    }
    if (frame.isPartial && frame.isWanted && frame.entries.length > 0) {
      for (const entry of frame.entries) this.#onAsk(entry, time);
      return;
    }
    for (const entry of frame.entries) this.#onEntry(entry, time, out);
    if (!frame.isPartial) this.#onWhole();
    if (frame.isWanted) this.#answerWhole(time);
    if (!this.#isWholeTold) return;
    if (this.#told.value === frame.digest) this.#wantCount = 0;
    else if (time.monoMs >= this.#wantMonoMs) {
      this.#wantMonoMs = time.monoMs + Math.min(options.fetchMaxWaitMs * 2, options.vectorIntervalMs * 2 ** this.#wantCount);
      this.#wantCount += 1;
      this.#outbox.push({ kind: "vector", entries: [], digest: 0n, isPartial: true, isWanted: true });
    }
    if (frame.digest === vector.digest(this.peer)) stats.vectorsEqual += 1;
    else stats.vectorsDifferent += 1;
    this.#check(time);
  }

  #onEntry(entry: VectorEntry, time: Time, out: ReplicationOutput[]): void {
    const { replica, stats } = this.#shared;
    const id = `${entry.nodeId}/${entry.generation}`;
    const known = this.#known(id, false);
    if (known === undefined) {
      stats.refusedFrames += 1;
      this.#event("origins_over_bound", { bound: this.#shared.options.maxOrigins }, time, out);
      return;
    }
    this.#told.subtract(entryHash(id, known.told));
    known.told = entry.seq;
    this.#told.add(entryHash(id, entry.seq));
    known.reached(entry.seq);
    if (id === replica.self.id) {
      if (this.#shared.isLost(entry.seq)) out.push({ kind: "generationLost", seq: entry.seq });
      return;
    }
    if (entry.seq > this.#throughOf(id) && this.#isWelcome(id)) {
      if (!this.#ahead.has(id)) this.#ahead.set(id, this.#isWholeTold ? time.monoMs : Number.NEGATIVE_INFINITY);
      if (!this.#isWholeTold) this.#missing.set(id, entry.seq);
      this.#behindMonoMs ??= time.monoMs;
    }
    const origin = replica.origins.get(id);
    if (origin !== undefined && entry.seq >= origin.through) known.isFollowing = true;
  }

  /** The peer's whole vector is told: what it did not name it does not know. */
  #onWhole(): void {
    if (this.#isWholeTold) return;
    this.#isWholeTold = true;
    const { replica, vector } = this.#shared;
    for (const origin of replica.origins.values()) {
      if (!this.#mayCarry(origin)) continue;
      const known = this.#known(origin.id, origin.through === 0);
      if (known !== undefined && this.#hasNews(origin, known)) this.#ready.add(origin.id);
    }
    this.#seenOrder = vector.order;
  }

  /** The peer does not believe its picture of our vector: it gets all of it, not more often than vectors go. */
  #answerWhole(time: Time): void {
    if (time.monoMs < this.#answerMonoMs + this.#shared.options.vectorIntervalMs) return;
    this.#answerMonoMs = time.monoMs;
    this.#queueWhole();
  }

  #onAsk(entry: VectorEntry, time: Time): void {
    const { replica, stats, options } = this.#shared;
    const id = `${entry.nodeId}/${entry.generation}`;
    const origin = replica.origins.get(id);
    stats.asked += 1;
    if (origin === undefined || !this.#mayCarry(origin)) return;
    const known = this.#known(id, false);
    if (known === undefined || entry.seq > origin.through) return;
    if (known.asked(entry, origin, { monoMs: time.monoMs, ...options }) === Asked.TOO_OFTEN) stats.askedTooOften += 1;
    else this.#ready.add(id);
  }

  #onLinked(nodeIds: readonly string[], out: ReplicationOutput[]): void {
    if (nodeIds.length > MAX_LINKED) {
      this.#bad(`${nodeIds.length} linked nodes, more than ${MAX_LINKED}`, out);
      return;
    }
    this.#peerLinked = new Set(nodeIds);
    if (!this.#isWholeTold) return;
    for (const origin of this.#shared.replica.origins.values()) {
      const known = this.#origins.get(origin.id);
      if (known !== undefined && this.#mayCarry(origin) && this.#hasNews(origin, known)) this.#ready.add(origin.id);
    }
  }

  // ---- fetching ----

  /** Asks for what the peer has and this node has not, where nobody else is at it. */
  #check(time: Time): void {
    this.#checkMonoMs = time.monoMs;
    for (const [id, seq] of this.#missing) if (this.#throughOf(id) >= seq || !this.#isWelcome(id)) this.#missing.delete(id);
    const { fetchGraceMs } = this.#shared.options;
    for (const [id, sinceMonoMs] of this.#ahead) {
      const through = this.#throughOf(id);
      if (through >= (this.#origins.get(id)?.told ?? 0) || !this.#isWelcome(id)) {
        this.#ahead.delete(id);
        this.#shared.endFetch(id);
        continue;
      }
      // An origin sends its own news without being asked.
      const graceMs = this.#isPeers(id) ? 2 * fetchGraceMs : fetchGraceMs;
      const isGraced =
        sinceMonoMs === Number.NEGATIVE_INFINITY
          ? this.#isPeers(id) && time.monoMs < this.receivedMonoMs + graceMs
          : time.monoMs < sinceMonoMs + graceMs;
      if (!isGraced && this.#isWholeTold && this.#shared.takeFetch(id, this, time)) this.#ask(id, through);
    }
    if (this.#ahead.size === 0) this.#behindMonoMs = undefined;
  }

  #isPeers(id: string): boolean {
    return id === `${this.peer.nodeId}/${this.peer.generation}`;
  }

  #ask(id: string, seq: number, floor = 0): void {
    const at = id.lastIndexOf("/");
    this.#asks.set(id, { nodeId: id.slice(0, at), generation: Number(id.slice(at + 1)), seq, floor });
  }

  #throughOf(id: string): number {
    return this.#shared.replica.origins.get(id)?.through ?? 0;
  }

  /** Whether frames of that origin are taken here, from this peer. */
  #isWelcome(id: string): boolean {
    const { replica } = this.#shared;
    if (id === replica.self.id || replica.forgotten.has(id) || !this.#shared.hasRoomFor(id)) return false;
    return this.#origins.get(id)?.isRefused !== true;
  }

  // ---- records ----

  #onRecords({ frame, clusterId, region }: RecordsFrame, time: Time, out: ReplicationOutput[]): void {
    const { stats, options } = this.#shared;
    stats.receivedFrames += 1;
    if (frame.records.length > options.maxFrameRecords) {
      this.#bad(`frame of ${frame.records.length} records, more than ${options.maxFrameRecords}`, out);
      return;
    }
    const id = `${frame.nodeId}/${frame.generation}`;
    const refusal = this.#refusalOf(id, { clusterId, region });
    if (refusal !== undefined) {
      this.#refuse(id, refusal, time, out);
      return;
    }
    this.receivedMonoMs = time.monoMs;
    stats.receivedRecords += frame.records.length;
    const applied = this.#receiver.apply(frame, time, { place: { clusterId, region }, maxSkewMs: options.maxClockSkewMs });
    switch (applied.kind) {
      case "refused":
        this.#refuse(id, "not taken here", time, out);
        return;
      case "gap":
        stats.gaps += 1;
        if (this.#shared.takeFetch(id, this, time)) this.#ask(id, applied.knows);
        return;
      case "applied":
        break;
    }
    const origin = this.#shared.replica.origins.get(id);
    if (origin === undefined) return;
    if (!frame.isComplete || frame.isLast) this.#known(id, false)?.reached(frame.through);
    this.#stamps(applied, { id, frame: frame.records.length }, time, out);
    if (applied.superseded.length > 0) out.push({ kind: "superseded", keys: applied.superseded.map((cell) => cell.key) });
    stats.appliedRecords += applied.changedCount;
    const hasMoved = this.#shared.vector.note(origin, origin.through);
    if (hasMoved || applied.changedCount > 0) out.push({ kind: "changed" });
  }

  /** Why a frame of that origin is not taken, whatever it says. */
  #refusalOf(id: string, place: OriginPlace): string | undefined {
    const { replica, place: here } = this.#shared;
    if (this.peer.relation === "remote") return "from another region";
    if (id === replica.self.id) return "our own origin";
    if (place.clusterId === "" || relationOf(here, place) === "remote") return "of another region";
    if (this.peer.relation !== "cluster" && place.clusterId === here.clusterId) return "our own cluster's, by way of another";
    const known = replica.origins.get(id);
    if (known === undefined) return this.#shared.hasRoomFor(id) ? undefined : "too many origins";
    if (known.clusterId !== "" && known.clusterId !== place.clusterId) return `of cluster ${place.clusterId}, known in ${known.clusterId}`;
    return undefined;
  }

  #refuse(id: string, why: string, time: Time, out: ReplicationOutput[]): void {
    this.#shared.stats.refusedFrames += 1;
    const known = this.#origins.get(id);
    if (known !== undefined && !this.#shared.replica.forgotten.has(id)) known.isRefused = true;
    this.#event("frame_refused", { origin: id, why }, time, out);
  }

  #stamps(
    applied: { readonly maxHlc: number; readonly beyondHlc: number; readonly refused: readonly Error[] },
    of: { readonly id: string; readonly frame: number },
    time: Time,
    out: ReplicationOutput[],
  ): void {
    const { hlc, stats, options } = this.#shared;
    if (applied.maxHlc > 0) hlc.merge(applied.maxHlc, time.wallMs, options.maxClockSkewMs);
    if (applied.beyondHlc > 0) {
      stats.beyondSkew += 1;
      const aheadMs = Math.floor(applied.beyondHlc / 2048) - time.wallMs;
      this.#event("clock_beyond_skew", { origin: of.id, ahead_ms: aheadMs, bound_ms: options.maxClockSkewMs }, time, out);
    }
    const [first] = applied.refused;
    if (first === undefined) return;
    stats.refusedRecords += applied.refused.length;
    this.#event("record_refused", { origin: of.id, count: applied.refused.length, why: first.message.slice(0, 200) }, time, out);
  }

  #bad(reason: string, out: ReplicationOutput[]): void {
    this.#shared.stats.badFrames += 1;
    out.push({ kind: "badFrame", reason });
  }

  /** For the log: an event of one name at most once an interval and link. */
  #event(name: string, detail: Readonly<Record<string, string | number>>, time: Time, out: ReplicationOutput[]): void {
    const due = this.#eventMonoMs.get(name) ?? Number.NEGATIVE_INFINITY;
    if (time.monoMs < due) return;
    this.#eventMonoMs.set(name, time.monoMs + this.#shared.options.eventIntervalMs);
    out.push({ kind: "event", event: { name, severity: "warn", isAudited: false, detail: { peer: this.peer.nodeId, ...detail } } });
  }
}

const MAX_LINKED = 256;
