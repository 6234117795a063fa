/** What one link does with the records that arrive: who may send what, what is counted and told of, what the clock learns. */
import type { Cell, Origin } from "../catalog/cell.ts";
import { type Applied, FrameReceiver } from "../catalog/frames.ts";
import type { OriginPlace } from "../catalog/origins.ts";
import { relationOf } from "../catalog/scope.ts";
import { hlcWallMs } from "../lib/hlc.ts";
import type { Time } from "../lib/machine.ts";
import type { RecordsFrame } from "./messages.ts";
import type { PeerView } from "./peer-view.ts";
import type { ReplicationShared } from "./replication-shared.ts";
import type { FabricEvent } from "./seam.ts";

export type Intake =
  | { readonly kind: "taken"; readonly hasChanged: boolean; readonly superseded: readonly Cell[] }
  | { readonly kind: "gap"; readonly id: string; readonly knows: number }
  | { readonly kind: "refused" };

const REFUSED: Intake = { kind: "refused" };

export class RecordIntake {
  readonly #shared: ReplicationShared;
  readonly #view: PeerView;
  readonly #receiver: FrameReceiver;
  readonly #eventMonoMs = new Map<string, number>();

  constructor(shared: ReplicationShared, view: PeerView) {
    this.#shared = shared;
    this.#view = view;
    this.#receiver = new FrameReceiver(shared.replica, shared.drafter, shared.bounds, shared.options.maxOriginRecords);
  }

  /** The next whole transfer of the origin is a repair. */
  repair(origin: Origin): void {
    this.#receiver.repair(origin.id, origin.through);
  }

  take({ frame, clusterId, region }: RecordsFrame, time: Time, events: FabricEvent[]): Intake {
    const { stats, options, replica } = this.#shared;
    const id = `${frame.nodeId}/${frame.generation}`;
    const place = { clusterId, region };
    if (this.#isForeign(frame.nodeId, place, time, events)) return REFUSED;
    const refusal = this.#refusalOf(frame.nodeId, id, place);
    if (refusal !== undefined) return this.#refuse(id, refusal, time, events);
    if (this.#isDoubtful(id, place, time)) {
      this.#leave(id, time);
      return REFUSED;
    }
    stats.receivedRecords += frame.records.length;
    const applied = this.#receiver.apply(frame, time, { place, maxSkewMs: options.maxClockSkewMs });
    if (applied.kind === "refused") return this.#refuse(id, "malformed, or forgotten here", time, events);
    if (applied.kind === "gap") return { kind: "gap", id, knows: applied.knows };
    this.#learn(applied, id, time, events);
    const origin = replica.origins.get(id);
    if (origin === undefined) return REFUSED;
    if (this.#view.isOwn(id)) this.#view.noteHome(origin);
    if (!frame.isComplete || frame.isLast) this.#view.take(id, false)?.reached(frame.through);
    // A whole transfer can change what is held of numbers that others were told of already.
    if (frame.isComplete && frame.isLast) this.#shared.heldChanged(origin);
    this.#notePartial(origin, time, events);
    const hasMoved = this.#shared.noteOrigin(origin);
    this.#shared.arrived(origin, time);
    return { kind: "taken", hasChanged: hasMoved || applied.changedCount > 0, superseded: applied.superseded };
  }

  #notePartial(origin: Origin, time: Time, events: FabricEvent[]): void {
    const news = this.#shared.partial.note(origin, time);
    if (news === undefined) return;
    const { id, lacks } = origin;
    const detail = { peer: this.#view.peer.nodeId, origin: id, ...(lacks !== undefined && { count: lacks.count, why: lacks.why }) };
    if (news === "partial") events.push({ name: "origin_partial", severity: "warn", isAudited: false, detail });
    else events.push({ name: "origin_whole", severity: "info", isAudited: false, detail });
  }

  /** A peer that lets them in, or is older, passes them on. From then on they are not asked for, and it is not told again. */
  #isForeign(nodeId: string, place: OriginPlace, time: Time, events: FabricEvent[]): boolean {
    const { foreigners, stats } = this.#shared;
    const refusal = place.clusterId === "" ? undefined : foreigners?.refusalOf(place);
    if (foreigners === undefined || refusal === undefined) return false;
    stats.refusedOrigins += 1;
    const isKnown = foreigners.has(nodeId);
    foreigners.note(nodeId, place);
    if (!isKnown) this.event("frame_refused", { origin: nodeId, why: refusal.detail }, time, events);
    return true;
  }

  /** Why a frame of that origin is not taken, whatever it says. */
  #refusalOf(nodeId: string, id: string, place: OriginPlace): string | undefined {
    const { replica, place: here } = this.#shared;
    const { relation } = this.#view.peer;
    if (relation === "remote") return "from another region";
    if (id === replica.self.id) return "our own origin";
    if (place.clusterId === "" || relationOf(here, place) === "remote") return "of another region";
    if (relation !== "cluster" && place.clusterId === here.clusterId) return "of our own cluster, by way of another";
    if (place.clusterId !== here.clusterId && this.#shared.hearsay.isOurs(nodeId))
      return `of a node of ours, put in cluster ${place.clusterId}`;
    const isOwn = this.#view.isOwn(id);
    const { peer } = this.#view;
    if (isOwn && (place.clusterId !== peer.clusterId || place.region !== peer.region)) return "not where the peer says it is";
    const known = replica.origins.get(id);
    if (known === undefined) return this.#shared.hasRoomFor(id, isOwn, place.clusterId) ? undefined : "more origins than are allowed";
    const isElsewhere = known.clusterId !== "" && known.clusterId !== place.clusterId;
    if (isElsewhere && !(isOwn && this.#mayMove(known))) return `of cluster ${place.clusterId}, known in ${known.clusterId}`;
    if (isOwn) this.#shared.rehome(known, place);
    return undefined;
  }

  /**
   * Whether an origin may be of the peer's cluster, as the peer says of its own: somebody else may have told a lie before. Where it said itself that it is of
   * another cluster, or our own nodes of ours, or the table of members has it in another, the peer is another node with its name. Whom our own cluster lets
   * in as its node is believed.
   */
  #mayMove({ nodeId, isAtHome, clusterId }: Origin): boolean {
    const { peer } = this.#view;
    if (peer.relation === "cluster") return true;
    return isAtHome !== true && clusterId !== this.#shared.place.clusterId && !this.#shared.hearsay.isElsewhere(nodeId, peer.clusterId);
  }

  /** Whether others are to be heard about it, who know better: no fault of a peer that passes on what it knows. */
  #isDoubtful(id: string, { clusterId }: OriginPlace, time: Time): boolean {
    if (this.#shared.hearsay.isHearsay(this.#view.peer, clusterId, time)) return true;
    return (this.#view.find(id)?.disbelievedUntilMonoMs ?? 0) > time.monoMs;
  }

  #refuse(id: string, why: string, time: Time, events: FabricEvent[]): Intake {
    this.#leave(id, time);
    this.event("frame_refused", { origin: id, why }, time, events);
    return REFUSED;
  }

  /** It is not asked for over this link for a while. */
  #leave(id: string, { monoMs }: Time): void {
    const { stats, replica, options } = this.#shared;
    stats.refusedOrigins += 1;
    const known = this.#view.find(id);
    // One that was forgotten may be readmitted.
    if (known !== undefined && !replica.forgotten.has(id)) known.refusedUntilMonoMs = monoMs + options.refusedMs;
  }

  #learn(applied: Applied & { kind: "applied" }, id: string, time: Time, events: FabricEvent[]): void {
    const { hlc, stats, options } = this.#shared;
    stats.appliedRecords += applied.changedCount;
    if (applied.maxHlc > 0) hlc.merge(applied.maxHlc, time.wallMs, options.maxClockSkewMs);
    if (applied.beyondHlc > 0) {
      stats.beyondSkew += 1;
      const aheadMs = hlcWallMs(applied.beyondHlc) - time.wallMs;
      this.event("clock_beyond_skew", { origin: id, ahead_ms: aheadMs, bound_ms: options.maxClockSkewMs }, time, events);
    }
    const [first] = applied.refused;
    if (first === undefined) return;
    stats.refusedRecords += applied.refused.length;
    this.event("record_refused", { origin: id, count: applied.refused.length, why: first.message.slice(0, 200) }, time, events);
  }

  /** For the log, attributed to the peer; one of a name at most once an interval and link, the rest is counted. */
  event(name: string, detail: Readonly<Record<string, string | number>>, time: Time, events: FabricEvent[]): void {
    const dueMonoMs = this.#eventMonoMs.get(name) ?? Number.NEGATIVE_INFINITY;
    if (time.monoMs < dueMonoMs) return;
    this.#eventMonoMs.set(name, time.monoMs + this.#shared.options.eventIntervalMs);
    events.push({ name, severity: "warn", isAudited: false, detail: { peer: this.#view.peer.nodeId, ...detail } });
  }
}
