/** What one link does with the records that arrive: it checks who may send what, applies them, counts, tells of faults, and moves the clock. */
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

  /** The next whole transfer of the origin is a repair. */
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
    if (applied.kind === "refused") return this.#refuse(id, "malformed, or forgotten here", time, out);
    if (applied.kind === "gap") return this.#puller.gap(id, applied.knows, time);
    this.#learn(applied, id, time, out);
    const origin = replica.origins.get(id);
    if (origin === undefined) return;
    if (this.#view.isOwn(id)) this.#view.noteHome(origin);
    if (!frame.isComplete || frame.isLast) this.#view.take(id)?.reached(frame.through);
    // A whole transfer can change records under numbers that were already announced to others.
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

  /** A peer that lets foreign nodes in, or is older, passes their records on. From then on they are not asked for, and not logged again. */
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

  /** Why a frame of that origin is refused, whatever its records are. */
  #refusalOf(nodeId: string, id: string, place: OriginLocation): string | undefined {
    const { replica, place: here } = this.#replicator;
    const { relation } = this.#view.peer;
    if (relation === "remote") return "from another region";
    if (id === replica.self.id) return "our own origin";
    if (place.clusterId === "" || relationOf(here, place) === "remote") return "of another region";
    if (relation !== "cluster" && place.clusterId === here.clusterId) return "of our own cluster, by way of another";
    if (place.clusterId !== here.clusterId && this.#replicator.hearsay.isOurs(nodeId))
      return `of a node of ours, put in cluster ${place.clusterId}`;
    const isOwn = this.#view.isOwn(id);
    const { peer } = this.#view;
    if (isOwn && (place.clusterId !== peer.clusterId || place.region !== peer.region)) return "not where the peer says it is";
    const known = replica.origins.get(id);
    if (known === undefined) return this.#replicator.hasRoomFor(id, isOwn, place.clusterId) ? undefined : "more origins than are allowed";
    const isElsewhere = known.clusterId !== "" && known.clusterId !== place.clusterId;
    if (isElsewhere && !(isOwn && this.#mayMove(known))) return `of cluster ${place.clusterId}, known in ${known.clusterId}`;
    if (isOwn) this.#replicator.rehome(known, place);
    return undefined;
  }

  /**
   * Whether the peer's own origin may move to the cluster that the peer names, because another node may have named a wrong one before. It may not when the
   * origin itself named another cluster, when nodes of our cluster count it as ours, or when the table of members has it elsewhere: then the peer is another
   * node with the same name. A node that our own cluster let in is believed.
   */
  #mayMove({ nodeId, isAtHome, clusterId }: Origin): boolean {
    const { peer } = this.#view;
    if (peer.relation === "cluster") return true;
    return (
      isAtHome !== true && clusterId !== this.#replicator.place.clusterId && !this.#replicator.hearsay.isElsewhere(nodeId, peer.clusterId)
    );
  }

  /** Whether other nodes know more about the origin and are to be asked. This is no fault of a peer that passes on what it knows. */
  #isDoubtful(id: string, { clusterId }: OriginLocation, time: Time): boolean {
    if (this.#replicator.hearsay.isHearsay(this.#view.peer, clusterId, time)) return true;
    return (this.#view.find(id)?.disbelievedUntilMonoMs ?? 0) > time.monoMs;
  }

  #refuse(id: string, why: string, time: Time, out: FabricOutput[]): void {
    this.#leave(id, time);
    this.event("frame_refused", { origin: id, why }, time, out);
  }

  /** The origin is not asked for over this link for a while. */
  #leave(id: string, { monoMs }: Time): void {
    const { stats, replica, options } = this.#replicator;
    stats.refusedOrigins += 1;
    const known = this.#view.find(id);
    // A forgotten origin may be readmitted.
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

  /** Logs an event and names the peer. Of one name and link at most one an interval is logged. */
  event(name: string, detail: Readonly<Record<string, string | number>>, time: Time, out: FabricOutput[]): void {
    const dueMonoMs = this.#eventMonoMs.get(name) ?? Number.NEGATIVE_INFINITY;
    if (time.monoMs < dueMonoMs) return;
    this.#eventMonoMs.set(name, time.monoMs + this.#replicator.options.eventIntervalMs);
    out.push(eventOutput(name, "warn", { peer: this.#view.peer.nodeId, ...detail }));
  }
}

// One link's comparing of origins: digests now and then, and what to do when they differ (semantics.md, Tombstones).

/** Between two slices of summing, in ms. */
const SLICE_MS = 10;

interface RefusalStrikes {
  readonly through: number;
  readonly count: number;
}

export class AntiEntropy {
  readonly #replicator: Replicator;
  readonly #view: PeerProgress;
  readonly #rng: Rng;
  readonly #tell: (digest: OriginDigest) => void;
  /** Digests to be told, or to be compared with the peer's, as soon as our own is summed. */
  readonly #waiting = new Map<string, OriginDigest | undefined>();
  readonly #strikes = new BoundedMap<string, RefusalStrikes>(MAX_DIGESTS);
  readonly #repairedMonoMs = new BoundedMap<string, number>(MAX_DIGESTS);
  /** Last origin told of: the round goes on after it. */
  #lastId = "";
  #dueMonoMs: number;
  #workMonoMs = Number.NEGATIVE_INFINITY;

  constructor(replicator: Replicator, view: PeerProgress, rng: Rng, tell: (digest: OriginDigest) => void, time: Time) {
    this.#replicator = replicator;
    this.#view = view;
    this.#rng = rng;
    this.#tell = tell;
    this.#dueMonoMs = this.#nextMonoMs(time);
  }

  nextDeadlineMs(): number {
    return this.#waiting.size > 0 ? this.#workMonoMs + SLICE_MS : this.#dueMonoMs;
  }

  /** The peer told of origins. */
  onDigests(digests: readonly OriginDigest[]): void {
    for (const digest of digests.slice(0, MAX_DIGESTS)) {
      const id = `${digest.nodeId}/${digest.generation}`;
      const origin = this.#replicator.replica.origins.get(id);
      if (origin !== undefined && origin.through === digest.through) this.#waiting.set(id, digest);
    }
  }

  /** Bounded work; returns the origins to be repaired by a whole transfer from this peer. */
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
        // Cannot be summed now; another time.
        if (!this.#replicator.digests.isBusy) this.#waiting.delete(id);
        continue;
      }
      this.#waiting.delete(id);
      const told: OriginDigest = { nodeId: origin.nodeId, generation: origin.generation, ...ours };
      if (theirs === undefined) this.#tell(told);
      else if (this.#isDivergent(origin, theirs, told) && this.#mayRepair(origin, time)) repairs.push(origin);
    }
    return repairs;
  }

  /** Twice in a row at the same number; the answer lets the other side see it too. */
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
    // Not into the origin's own cluster, which hears of it from its own.
    if (count <= 2 && this.#view.mayCarry(origin)) this.#tell(ours);
    return count >= 2;
  }

  /** Whether the peer is more to be believed than this node: it is the origin, or nearer to it. Of two equally far the lower id is. */
  #mayRepair(origin: Origin, time: Time): boolean {
    const { replica, linked, options, stats } = this.#replicator;
    if (origin === replica.self) return false;
    const isNearer = this.#view.isLinkedTo(origin.nodeId) || this.#view.peer.nodeId < replica.self.nodeId;
    if (!this.#view.isOfPeer(origin) && (linked.includes(origin.nodeId) || !isNearer)) return false;
    const lastMonoMs = this.#repairedMonoMs.get(origin.id) ?? Number.NEGATIVE_INFINITY;
    // A record that is refused here for good would otherwise be repaired for ever.
    if (time.monoMs < lastMonoMs + options.repairIntervalMs) return false;
    this.#repairedMonoMs.set(origin.id, time.monoMs);
    this.#strikes.delete(origin.id);
    stats.repairs += 1;
    return true;
  }

  /** The next few origins of the round of which both sides know the same number. */
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
