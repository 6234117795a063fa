/**
 * Handles the records that arrive on one link: checks that the peer may send them, applies and counts them, logs faults, and advances this node's
 * clock.
 */
import { relationOf } from "../../catalog/entry/scope.ts";
import type { Origin } from "../../catalog/record/stored-record.ts";
import { FrameReceiver, type FrameResult } from "../../catalog/replica/frames.ts";
import type { OriginLocation } from "../../catalog/replica/origins.ts";
import { BoundedMap } from "../../lib/bounded-map.ts";
import { hlcWallMs } from "../../lib/hlc.ts";
import type { Time } from "../../lib/machine.ts";
import type { Rng } from "../../lib/rng.ts";
import { eventOutput, type FabricOutput } from "../io-types.ts";
import type { OriginDigest, RecordsFrame } from "../wire/messages.ts";
import type { PeerProgress } from "./peer-progress.ts";
import type { LinkPullScheduler } from "./pull-scheduler.ts";
import type { Replicator } from "./replicator.ts";
import { MAX_DIGESTS } from "./sender.ts";

export class LinkReceiver {
  readonly #replicator: Replicator;
  readonly #view: PeerProgress;
  readonly #puller: LinkPullScheduler;
  readonly #receiver: FrameReceiver;
  readonly #eventMonoMs = new Map<string, number>();

  constructor(replicator: Replicator, view: PeerProgress, puller: LinkPullScheduler) {
    this.#replicator = replicator;
    this.#view = view;
    this.#puller = puller;
    this.#receiver = new FrameReceiver(replicator.replica, replicator.stamper, replicator.bounds, replicator.options.maxOriginRecords);
  }

  /** Marks the next whole transfer of the origin as a repair. */
  repair(origin: Origin): void {
    this.#receiver.repair(origin.id, origin.through);
  }

  take({ frame, clusterId, region }: RecordsFrame, time: Time, out: FabricOutput[]): void {
    const { stats, options, replica } = this.#replicator;
    const id = `${frame.nodeId}/${frame.generation}`;
    const place = { clusterId, region };
    if (this.#isForeign(frame.nodeId, place, time, out)) return;
    const refusal = this.#refusalOf(frame.nodeId, id, place);
    if (refusal !== undefined) return this.#refuse(id, refusal, time, out);
    if (this.#isDoubtful(id, place, time)) return this.#leave(id, time);
    stats.receivedRecords += frame.records.length;
    const applied = this.#receiver.apply(frame, time, { place, maxSkewMs: options.maxClockSkewMs });
    if (applied.kind === "refused") return this.#refuse(id, "the frame is malformed, or this node has forgotten the origin", time, out);
    if (applied.kind === "gap") return this.#puller.gap(id, applied.knows, time);
    this.#learn(applied, id, time, out);
    const origin = replica.origins.get(id);
    if (origin === undefined) return;
    if (this.#view.isOwn(id)) this.#view.noteHome(origin);
    if (!frame.isComplete || frame.isLast) this.#view.take(id)?.reached(frame.through);
    // A whole transfer can change records whose seqs have already been announced to other nodes.
    if (frame.isComplete && frame.isLast) this.#replicator.heldChanged(origin);
    this.#notePartial(origin, time, out);
    const hasMoved = this.#replicator.noteOrigin(origin);
    this.#replicator.arrived(origin, time);
    this.#puller.receivedMonoMs = time.monoMs;
    if (applied.superseded.length > 0) out.push({ kind: "superseded", keys: applied.superseded.map(({ key }) => key) });
    if (hasMoved || applied.changedCount > 0) out.push({ kind: "changed" });
  }

  #notePartial(origin: Origin, time: Time, out: FabricOutput[]): void {
    const news = this.#replicator.partial.note(origin, time);
    if (news === undefined) return;
    const { id, lacks } = origin;
    const detail = { peer: this.#view.peer.nodeId, origin: id, ...(lacks !== undefined && { count: lacks.count, why: lacks.why }) };
    out.push(news === "partial" ? eventOutput("origin_partial", "warn", detail) : eventOutput("origin_whole", "info", detail));
  }

  /**
   * An older or permissive peer may forward records of foreign nodes. Such a node is recorded as foreign, so that its records are not requested or
   * logged again.
   */
  #isForeign(nodeId: string, place: OriginLocation, time: Time, out: FabricOutput[]): boolean {
    const { foreignPeers, stats } = this.#replicator;
    const refusal = place.clusterId === "" ? undefined : foreignPeers?.refusalOf(place);
    if (foreignPeers === undefined || refusal === undefined) return false;
    stats.refusedOrigins += 1;
    const isKnown = foreignPeers.has(nodeId);
    foreignPeers.note(nodeId, place);
    if (!isKnown) this.event("frame_refused", { origin: nodeId, why: refusal.detail }, time, out);
    return true;
  }

  /** Returns why a frame of an origin is refused, regardless of its records. */
  #refusalOf(nodeId: string, id: string, place: OriginLocation): string | undefined {
    const { replica, place: here } = this.#replicator;
    const { relation } = this.#view.peer;
    if (relation === "remote") return "the peer is in another region";
    if (id === replica.self.id) return "the origin is this node itself";
    if (place.clusterId === "" || relationOf(here, place) === "remote") return "the origin is in another region";
    if (relation !== "cluster" && place.clusterId === here.clusterId)
      return "records of an origin in this cluster were sent by a node of another cluster";
    if (place.clusterId !== here.clusterId && this.#replicator.hearsay.isOurs(nodeId))
      return `the origin's node is a member of this cluster, but the frame names cluster ${place.clusterId}`;
    const isOwn = this.#view.isOwn(id);
    const { peer } = this.#view;
    if (isOwn && (place.clusterId !== peer.clusterId || place.region !== peer.region))
      return "the cluster or region in the frame differs from the peer's";
    const known = replica.origins.get(id);
    if (known === undefined)
      return this.#replicator.hasRoomFor(id, isOwn, place.clusterId) ? undefined : "the maximum number of origins has been reached";
    const isElsewhere = known.clusterId !== "" && known.clusterId !== place.clusterId;
    if (isElsewhere && !(isOwn && this.#mayMove(known)))
      return `the frame names cluster ${place.clusterId}, but the origin is known to be in cluster ${known.clusterId}`;
    if (isOwn) this.#replicator.rehome(known, place);
    return undefined;
  }

  /**
   * Whether the peer's own origin may move to the cluster that the peer names. Another node may have reported a wrong cluster earlier. The origin
   * must not be moved if it named another cluster itself, if it is counted as an origin of this node's cluster, or if the member table lists it in
   * another cluster. In these cases, the peer is a different node with the same id. A peer that is a member of this node's cluster is always trusted.
   */
  #mayMove({ nodeId, isAtHome, clusterId }: Origin): boolean {
    const { peer } = this.#view;
    if (peer.relation === "cluster") return true;
    return (
      isAtHome !== true && clusterId !== this.#replicator.place.clusterId && !this.#replicator.hearsay.isElsewhere(nodeId, peer.clusterId)
    );
  }

  /**
   * Whether other nodes are a better source for the origin and must be queried instead. The peer is not at fault, because it only forwards its copy.
   */
  #isDoubtful(id: string, { clusterId }: OriginLocation, time: Time): boolean {
    if (this.#replicator.hearsay.isHearsay(this.#view.peer, clusterId, time)) return true;
    return (this.#view.find(id)?.disbelievedUntilMonoMs ?? 0) > time.monoMs;
  }

  #refuse(id: string, why: string, time: Time, out: FabricOutput[]): void {
    this.#leave(id, time);
    this.event("frame_refused", { origin: id, why }, time, out);
  }

  /** Stops requesting the origin over this link for a while. */
  #leave(id: string, { monoMs }: Time): void {
    const { stats, replica, options } = this.#replicator;
    stats.refusedOrigins += 1;
    const known = this.#view.find(id);
    // A forgotten origin can be restored.
    if (known !== undefined && !replica.forgotten.has(id)) known.refusedUntilMonoMs = monoMs + options.refusedMs;
  }

  #learn(applied: FrameResult & { kind: "applied" }, id: string, time: Time, out: FabricOutput[]): void {
    const { hlc, stats, options } = this.#replicator;
    stats.appliedRecords += applied.changedCount;
    if (applied.maxHlc > 0) hlc?.merge(applied.maxHlc, time.wallMs, options.maxClockSkewMs);
    if (hlc !== undefined && applied.beyondHlc > 0) {
      stats.beyondSkew += 1;
      const aheadMs = hlcWallMs(applied.beyondHlc) - time.wallMs;
      this.event("clock_beyond_skew", { origin: id, ahead_ms: aheadMs, bound_ms: options.maxClockSkewMs }, time, out);
    }
    const [first] = applied.refused;
    if (first === undefined) return;
    stats.refusedRecords += applied.refused.length;
    this.event("record_refused", { origin: id, count: applied.refused.length, why: first.message.slice(0, 200) }, time, out);
  }

  /** Logs an event that names the peer. On each link, an event name is logged at most once per interval. */
  event(name: string, detail: Readonly<Record<string, string | number>>, time: Time, out: FabricOutput[]): void {
    const dueMonoMs = this.#eventMonoMs.get(name) ?? Number.NEGATIVE_INFINITY;
    if (time.monoMs < dueMonoMs) return;
    this.#eventMonoMs.set(name, time.monoMs + this.#replicator.options.eventIntervalMs);
    out.push(eventOutput(name, "warn", { peer: this.#view.peer.nodeId, ...detail }));
  }
}

// Anti-entropy on one link: exchanges digests of origins periodically, and requests a repair when they differ (semantics.md, Tombstones).

/** Time between two slices of digest work, in ms. */
const SLICE_MS = 10;

interface RefusalStrikes {
  readonly through: number;
  readonly count: number;
}

export class AntiEntropy {
  readonly #replicator: Replicator;
  readonly #view: PeerProgress;
  readonly #rng: Rng;
  readonly #queueDigest: (digest: OriginDigest) => void;
  /** Digests that must be sent, or compared with the peer's digest, as soon as this node's digest is computed. */
  readonly #waiting = new Map<string, OriginDigest | undefined>();
  readonly #strikes = new BoundedMap<string, RefusalStrikes>(MAX_DIGESTS);
  readonly #repairedMonoMs = new BoundedMap<string, number>(MAX_DIGESTS);
  /** The last origin whose digest was sent. The next round continues after it. */
  #lastId = "";
  #dueMonoMs: number;
  #workMonoMs = Number.NEGATIVE_INFINITY;

  constructor(replicator: Replicator, view: PeerProgress, rng: Rng, queueDigest: (digest: OriginDigest) => void, time: Time) {
    this.#replicator = replicator;
    this.#view = view;
    this.#rng = rng;
    this.#queueDigest = queueDigest;
    this.#dueMonoMs = this.#nextMonoMs(time);
  }

  nextDeadlineMs(): number {
    return this.#waiting.size > 0 ? this.#workMonoMs + SLICE_MS : this.#dueMonoMs;
  }

  /** Queues the peer's digests for comparison. */
  onDigests(digests: readonly OriginDigest[]): void {
    for (const digest of digests.slice(0, MAX_DIGESTS)) {
      const id = `${digest.nodeId}/${digest.generation}`;
      const origin = this.#replicator.replica.origins.get(id);
      if (origin !== undefined && origin.through === digest.through) this.#waiting.set(id, digest);
    }
  }

  /** Does a bounded amount of work and returns the origins that must be repaired by a whole transfer from this peer. */
  tick(time: Time): readonly Origin[] {
    if (time.monoMs >= this.#dueMonoMs) this.#choose(time);
    if (this.#waiting.size === 0 || time.monoMs < this.#workMonoMs + SLICE_MS) return [];
    this.#workMonoMs = time.monoMs;
    this.#replicator.workDigests(time);
    const repairs: Origin[] = [];
    for (const [id, theirs] of this.#waiting) {
      const origin = this.#replicator.replica.origins.get(id);
      if (origin === undefined || (theirs !== undefined && theirs.through !== origin.through)) {
        this.#waiting.delete(id);
        continue;
      }
      const ours = this.#replicator.digests.find(origin, this.#view.peer.relation, time);
      if (ours === undefined) {
        // This digest cannot be computed at the moment. It is tried again in a later round.
        if (!this.#replicator.digests.isBusy) this.#waiting.delete(id);
        continue;
      }
      this.#waiting.delete(id);
      const digest: OriginDigest = { nodeId: origin.nodeId, generation: origin.generation, ...ours };
      if (theirs === undefined) this.#queueDigest(digest);
      else if (this.#isDivergent(origin, theirs, digest) && this.#mayRepair(origin, time)) repairs.push(origin);
    }
    return repairs;
  }

  /** Whether the digests differed twice in a row at the same seq. Sending this node's digest lets the peer detect the difference too. */
  #isDivergent(origin: Origin, theirs: OriginDigest, ours: OriginDigest): boolean {
    const { stats } = this.#replicator;
    const { id } = origin;
    if (theirs.digest === ours.digest && theirs.liveCount === ours.liveCount) {
      stats.digestsEqual += 1;
      this.#strikes.delete(id);
      return false;
    }
    stats.digestsDifferent += 1;
    const before = this.#strikes.get(id);
    const count = before?.through === ours.through ? before.count + 1 : 1;
    this.#strikes.set(id, { through: ours.through, count });
    // Do not send the digest to nodes of the origin's own cluster, because they compare digests among themselves.
    if (count <= 2 && this.#view.mayCarry(origin)) this.#queueDigest(ours);
    return count >= 2;
  }

  /**
   * Whether the peer is the better source, because it is the origin's own node or nearer to it. At equal distance, the node with the lower id is the
   * better source.
   */
  #mayRepair(origin: Origin, time: Time): boolean {
    const { replica, linked, options, stats } = this.#replicator;
    if (origin === replica.self) return false;
    const isNearer = this.#view.isLinkedTo(origin.nodeId) || this.#view.peer.nodeId < replica.self.nodeId;
    if (!this.#view.isOfPeer(origin) && (linked.includes(origin.nodeId) || !isNearer)) return false;
    const lastMonoMs = this.#repairedMonoMs.get(origin.id) ?? Number.NEGATIVE_INFINITY;
    // Without this limit, a record that this node permanently refuses would be repaired forever.
    if (time.monoMs < lastMonoMs + options.repairIntervalMs) return false;
    this.#repairedMonoMs.set(origin.id, time.monoMs);
    this.#strikes.delete(origin.id);
    stats.repairs += 1;
    return true;
  }

  /** Chooses the next few origins in this round for which both sides have the same seq. */
  #choose(time: Time): void {
    this.#dueMonoMs = this.#nextMonoMs(time);
    const ids = [...this.#replicator.replica.origins.keys()];
    const from = ids.indexOf(this.#lastId) + 1;
    let left = this.#replicator.options.digestOrigins;
    for (let i = 0; i < ids.length && left > 0; i++) {
      const id = ids[(from + i) % ids.length] ?? "";
      const origin = this.#replicator.replica.origins.get(id);
      if (origin === undefined || origin.through === 0 || this.#view.find(id)?.at !== origin.through || !this.#view.mayCarry(origin))
        continue;
      this.#waiting.set(id, undefined);
      this.#lastId = id;
      left -= 1;
    }
  }

  #nextMonoMs(time: Time): number {
    return time.monoMs + this.#replicator.options.digestIntervalMs * (0.75 + 0.5 * this.#rng.next());
  }
}
