/** What one link does with the records that arrive: it checks who may send what, applies them, counts, tells of faults, and moves the clock. */
import { relationOf } from "../../catalog/entry/scope.ts";
import type { Origin } from "../../catalog/record/stored-record.ts";
import { type Applied, FrameReceiver } from "../../catalog/replica/frames.ts";
import type { OriginPlace } from "../../catalog/replica/origins.ts";
import { hlcWallMs } from "../../lib/hlc.ts";
import type { Time } from "../../lib/machine.ts";
import { eventOutput, type FabricOutput } from "../io-types.ts";
import type { RecordsFrame } from "../wire/messages.ts";
import type { LinkFetcher } from "./fetcher.ts";
import type { PeerProgress } from "./peer-progress.ts";
import type { Replicator } from "./replicator.ts";

export class LinkReceiver {
  readonly #replicator: Replicator;
  readonly #view: PeerProgress;
  readonly #fetcher: LinkFetcher;
  readonly #receiver: FrameReceiver;
  readonly #eventMonoMs = new Map<string, number>();

  constructor(replicator: Replicator, view: PeerProgress, fetcher: LinkFetcher) {
    this.#replicator = replicator;
    this.#view = view;
    this.#fetcher = fetcher;
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
    if (applied.kind === "gap") return this.#fetcher.gap(id, applied.knows, time);
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
    this.#fetcher.receivedMonoMs = time.monoMs;
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
  #isForeign(nodeId: string, place: OriginPlace, time: Time, out: FabricOutput[]): boolean {
    const { foreigners, stats } = this.#replicator;
    const refusal = place.clusterId === "" ? undefined : foreigners?.refusalOf(place);
    if (foreigners === undefined || refusal === undefined) return false;
    stats.refusedOrigins += 1;
    const isKnown = foreigners.has(nodeId);
    foreigners.note(nodeId, place);
    if (!isKnown) this.event("frame_refused", { origin: nodeId, why: refusal.detail }, time, out);
    return true;
  }

  /** Why a frame of that origin is refused, whatever its records are. */
  #refusalOf(nodeId: string, id: string, place: OriginPlace): string | undefined {
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
  #isDoubtful(id: string, { clusterId }: OriginPlace, time: Time): boolean {
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

  #learn(applied: Applied & { kind: "applied" }, id: string, time: Time, out: FabricOutput[]): void {
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
