/** Updates the state of origins according to the status of members: live, orphaned, hidden, forgotten (semantics.md, Orphans). */

import type { OriginStatus } from "../catalog/record/record.ts";
import type { Origin } from "../catalog/record/stored-record.ts";
import type { Replica } from "../catalog/replica/replica.ts";
import { ENTRIES } from "../catalog/replica/touch-sweeps.ts";
import { NEVER, type OptionsOf, type Time } from "../lib/machine.ts";
import { MemberRoster } from "./data-freshness.ts";
import { eventOutput, type FabricEvent, type FabricOutput } from "./io-types.ts";
import { isInEveryTable, isListed } from "./membership/members.ts";
import type { Membership } from "./membership/membership.ts";
import type { FabricHandlers, FabricPart } from "./part.ts";
import type { Disproved } from "./replication/hearsay.ts";
import type { Replicator } from "./replication/replicator.ts";
import type { SnapshotOrigin } from "./snapshot/codec.ts";
import type { MemberUpdate, NodeRef } from "./wire/messages.ts";

/** Constants that are not settings. */
export const ORIGIN_LIFECYCLE_FIXED = {
  /** Orphan protection needs at least this many vanished origins. This way, the only node of a cluster can be considered dead. */
  orphanProtectMinCount: 2,
  /** Origins that vanish within this time are treated as vanishing together. It is the maximum duration of a suspicion. */
  suspicionWindowMs: 30_000,
  /**
   * A node that announced a restart is treated as restarting for this time, unless it sends a hello before that. A generation that its node has not
   * announced yet is treated as live for this time.
   */
  restartMs: 30_000,
  /** Number of records visited in one tick, so that a large origin does not block the event loop. */
  maxTouches: 250,
} as const;

export interface OriginLifecycleOptions extends OptionsOf<typeof ORIGIN_LIFECYCLE_FIXED> {
  /** For this time, orphans are served but ranked last. */
  readonly orphanGraceMs: number;
  /** An origin whose node has been gone for this time is forgotten, together with its records. */
  readonly originForgetMs: number;
  /** When more than this share of a cluster's origins vanishes together, none of the cluster's entries are hidden. */
  readonly orphanProtectRatio: number;
}

export interface OriginLifecycleParts {
  readonly replica: Replica;
  readonly clusterId: string;
  /** The members of this cluster that were known before this node was restarted. */
  readonly remembered?: readonly string[] | undefined;
  /** Maximum number of remembered members. */
  readonly maxMembers: number;
  readonly membership: Pick<Membership, "find" | "hasJoined">;
  /** Forgets an origin in the replica and in the version vector, restores it, and continues the work on its many records in slices. */
  readonly replication: Pick<Replicator, "closed" | "forgetOrigin" | "hiddenElsewhere" | "readmit"> & {
    readonly disproved: Pick<Disproved, "step">;
  };
  /** Called when the records of this node may have changed because an origin was forgotten. */
  readonly onChanged?: () => void;
}

/** Maximum number of nodes that are remembered as restarting. */
const MAX_AWAY = 1000;

/**
 * The reason why an origin is not live. `kept`: its node stopped, no other node took over its static entries, and they stay until the node returns.
 */
type OriginAbsence = "dead" | "left" | "restarting" | "kept" | "replaced" | "unknown";
const MAY_RETURN: readonly (OriginAbsence | undefined)[] = ["dead", "unknown", "restarting", "kept"];

interface OriginRow {
  readonly origin: Origin;
  /** The cluster of the origin. Empty until a member or a record specifies it. */
  clusterId: string;
  /** Undefined when the origin is live. */
  absence: OriginAbsence | undefined;
  /** The time since which the origin is live or absent. */
  sinceMonoMs: number;
  /** Whether the origin is treated as live because it was live before this node's restart and nothing is known about its node yet. */
  isPresumed: boolean;
  /**
   * Set when the origin's generation is later than the generation that its node announced. The origin is treated as live until this time, and after
   * that only if its node announces the generation. Otherwise `NEVER`.
   */
  newsUntilMonoMs: number;
}

interface OriginCluster {
  /**
   * The ids of nodes that died recently, and the times of their deaths. A node that lost its disk several times has several origins but is counted
   * only once.
   */
  readonly vanished: Map<string, number>;
  /** While the cluster is protected, the number of its nodes that had entries before nodes vanished. */
  protectedTotal: number | undefined;
}

export class OriginLifecycle implements FabricPart {
  readonly #options: OriginLifecycleOptions;
  readonly #parts: OriginLifecycleParts;
  /** The other nodes of this cluster, including nodes that have no records on this node. */
  readonly roster: MemberRoster;
  readonly #rows = new Map<string, OriginRow>();
  readonly #clusters = new Map<string, OriginCluster>();
  /** For each node id, the monotonic time in ms until which the node is treated as restarting. */
  readonly #away = new Map<string, number>();
  /** For each origin id, the time since which the origin had been absent when this node was restarted. */
  #absentBefore: ReadonlyMap<string, number> = new Map();
  /** The ids of origins that had ended before this node restarted. */
  #overBefore: ReadonlySet<string> = new Set();
  /**
   * The ids of the other origins from before this node's restart. They are treated as live until `#presumedUntilMonoMs`, or until a member table
   * arrives.
   */
  readonly #presumed = new Set<string>();
  #presumedUntilMonoMs = Number.NEGATIVE_INFINITY;
  /** The ids of nodes that operators want to be forgotten. They are dropped as if `originForgetMs` had passed. */
  readonly #toForget = new Set<string>();
  /** Whether all origins must be reviewed. */
  #isDue = true;
  /** Origins whose first records arrived since the last tick. */
  readonly #fresh = new Set<Origin>();
  #nextMonoMs = NEVER;

  readonly handle: FabricHandlers = {
    up: ({ hello }) => this.back(hello.nodeId),
    down: ({ hello, goodbye }, time) => {
      if (goodbye === "restart") this.away(hello.nodeId, time);
    },
    heard: ({ origin }) => this.recordsArrived(origin),
    memberChanged: ({ update }) => this.memberChanged(update),
    forget: ({ nodeId }) => this.#forget(nodeId),
  };

  constructor(options: OriginLifecycleOptions, parts: OriginLifecycleParts) {
    this.#options = options;
    this.#parts = parts;
    const { replica, clusterId, remembered, maxMembers } = parts;
    this.roster = new MemberRoster({ nodeId: replica.self.nodeId, clusterId, maxMembers, ...options }, remembered);
  }

  /** Returns the state of an origin, for a snapshot. */
  standingOf(origin: Origin, { monoMs, wallMs }: Time): SnapshotOrigin {
    const row = this.#rows.get(origin.id);
    const isAbsent = row?.origin === origin && row.absence !== undefined;
    const absentWallMs = isAbsent ? wallMs - (monoMs - row.sinceMonoMs) : undefined;
    return { life: origin.life, absentWallMs, isOver: this.isOver(origin) };
  }

  /**
   * Whether records must still be updated, withdrawn or dropped, for example because their origin was hidden. Until then, readers do not have a
   * complete view.
   */
  get isSettling(): boolean {
    const { sweeps, isForgetting } = this.#parts.replica;
    return sweeps.isOwed || isForgetting;
  }

  /** Returns whether an origin has ended: its node has left or is running in a later generation, so no node writes to the origin any more. */
  isOver({ id }: Origin): boolean {
    const row = this.#rows.get(id);
    return row === undefined ? this.#overBefore.has(id) : row.absence === "left" || row.absence === "replaced";
  }

  /** Whether this node has records of an origin to which another node could still write. */
  get isAnybodyElsewhere(): boolean {
    const { origins, self } = this.#parts.replica;
    return origins.values().some((origin) => origin.nodeId !== self.nodeId && !this.isOver(origin));
  }

  /** Whether there is an absent node that has not left for good. Such a node may return with its old records, or with its first ones. */
  get isAnybodyAway(): boolean {
    return this.roster.isAnybodyAway || this.#rows.values().some(({ absence }) => MAY_RETURN.includes(absence));
  }

  /** Returns clusters whose entries are all kept visible now, because too many of their origins vanished together. */
  protectedClusters(): readonly string[] {
    return [...this.#clusters].filter(([, { protectedTotal }]) => protectedTotal !== undefined).map(([clusterId]) => clusterId);
  }

  counts(): Readonly<Record<OriginStatus | "kept", number>> {
    const counts = { live: 0, orphaned: 0, hidden: 0, kept: 0 };
    for (const { origin } of this.#rows.values()) counts[origin.life] += 1;
    for (const { absence } of this.#rows.values()) if (absence === "kept") counts.kept += 1;
    return counts;
  }

  /**
   * Restores the state from before a restart. It must be called before the first tick, with the origins that were already absent and the times since
   * which they were (monotonic ms). Their timeouts continue. The other origins were live. If those were shown as orphaned and then as live again,
   * readers would see a failure that did not happen.
   */
  resume(absentBefore: ReadonlyMap<string, number>, overBefore: ReadonlySet<string>, presumedUntilMonoMs: number): void {
    this.#overBefore = overBefore;
    this.#absentBefore = absentBefore;
    this.#presumedUntilMonoMs = presumedUntilMonoMs;
    const { origins, self } = this.#parts.replica;
    for (const { id, nodeId } of origins.values())
      if (!absentBefore.has(id) && !overBefore.has(id) && nodeId !== self.nodeId) this.#presumed.add(id);
  }

  /** Handles received records of an origin, which may be its first ones. */
  // HOT: runs for each frame of records.
  recordsArrived({ nodeId, generation }: NodeRef): void {
    const id = `${nodeId}/${generation}`;
    const { replica } = this.#parts;
    const origin = this.#rows.has(id) ? undefined : replica.origins.get(id);
    if (origin !== undefined && origin !== replica.self) this.#fresh.add(origin);
  }

  /** Handles a state change of a member. */
  memberChanged(update: MemberUpdate): void {
    const { nodeId, generation, status } = update;
    const { forgotten, lost } = this.#parts.replica;
    this.roster.memberChanged(update);
    if (isListed(status)) this.#toForget.delete(nodeId);
    if (isInEveryTable(update) && forgotten.has(`${nodeId}/${generation}`)) this.#parts.replication.readmit(nodeId, generation);
    lost.memberChanged({ nodeId, generation }, status);
    this.#isDue = true;
  }

  #forget(nodeId: string): void {
    const status = this.#parts.membership.find(nodeId)?.status;
    if (status !== undefined && isListed(status)) return;
    this.#toForget.add(nodeId);
    this.roster.remove(nodeId);
    this.#isDue = true;
  }

  /** Notes that a node announced a restart. */
  away(nodeId: string, time: Time): void {
    if (this.#away.size >= MAX_AWAY) return;
    this.#away.set(nodeId, time.monoMs + this.#options.restartMs);
    this.#isDue = true;
  }

  /** Notes that a node sent a hello to this node. */
  back(nodeId: string): void {
    if (this.#away.delete(nodeId)) this.#isDue = true;
  }

  /** Extends the time that absent nodes have to return by the length of a pause of this process. */
  postpone(byMs: number): void {
    for (const row of this.#rows.values()) {
      if (row.absence !== undefined) row.sinceMonoMs += byMs;
      row.newsUntilMonoMs += byMs;
    }
    for (const [nodeId, untilMonoMs] of this.#away) this.#away.set(nodeId, untilMonoMs + byMs);
    for (const { vanished } of this.#clusters.values()) for (const [id, atMonoMs] of vanished) vanished.set(id, atMonoMs + byMs);
    this.#absentBefore = new Map([...this.#absentBefore].map(([id, sinceMonoMs]) => [id, sinceMonoMs + byMs]));
    this.#presumedUntilMonoMs += byMs;
    this.roster.postpone(byMs);
    this.#isDue = true;
  }

  nextDeadlineMs(): number {
    return this.#isDue || this.#fresh.size > 0 || this.isSettling ? 0 : this.#nextMonoMs;
  }

  look(time: Time, out: FabricOutput[]): void {
    if (time.monoMs < this.nextDeadlineMs()) return;
    const outputCount = out.length;
    let isChanged = false;
    // A new origin may end the protection of a cluster. If no node of the cluster has vanished, a new origin must not cause a review of all others.
    const concernsAll = this.#fresh.size > 0 && this.#clusters.size > 0;
    if (this.#isDue || concernsAll || time.monoMs >= this.#nextMonoMs) {
      this.#isDue = false;
      isChanged = this.#review(time, out);
    } else {
      for (const origin of this.#fresh) {
        const row = this.#reviewOrigin(origin, time, out);
        isChanged = this.#age(row, time, out) || isChanged;
      }
    }
    this.#fresh.clear();
    const { replica, replication } = this.#parts;
    const isSwept = replica.sweep(this.#options.maxTouches, time);
    for (const origin of replica.sweeps.takeClosed()) replication.closed(origin, time, out);
    replication.disproved.step(time);
    if (isSwept || isChanged) out.push({ kind: "changed" });
    if (out.length > outputCount) this.#parts.onChanged?.();
  }

  // ---- reviewing ----

  #review(time: Time, out: FabricOutput[]): boolean {
    for (const [nodeId, untilMonoMs] of this.#away) if (time.monoMs >= untilMonoMs) this.#away.delete(nodeId);
    for (const origin of this.#parts.replica.origins.values()) {
      if (origin === this.#parts.replica.self) continue;
      this.#reviewOrigin(origin, time, out);
    }
    this.#reviewClusters(time, out);
    let isChanged = false;
    this.#nextMonoMs = Math.min(this.roster.tick(time), ...this.#away.values());
    // `#isPresumed` removes expired origins only when it is called, so the set may still contain some.
    if (time.monoMs >= this.#presumedUntilMonoMs) this.#presumed.clear();
    else if (this.#presumed.size > 0) this.#nextMonoMs = Math.min(this.#nextMonoMs, this.#presumedUntilMonoMs);
    for (const cluster of this.#clusters.values()) this.#wakeForWindow(cluster);
    for (const row of this.#rows.values()) isChanged = this.#age(row, time, out) || isChanged;
    return isChanged;
  }

  #reviewOrigin(origin: Origin, time: Time, out: FabricOutput[]): OriginRow {
    const member = this.#parts.membership.find(origin.nodeId);
    const isPresumed = member === undefined && this.#isPresumed(origin, time);
    const noted = this.#rows.get(origin.id);
    let row = noted?.origin === origin ? noted : undefined;
    const newsUntilMonoMs = this.#newsUntil(origin, member, row, time);
    const absence = isPresumed ? undefined : this.#absenceOf(origin, member, time.monoMs >= newsUntilMonoMs);
    if (row === undefined) {
      row = { origin, clusterId: "", absence: undefined, sinceMonoMs: time.monoMs, isPresumed, newsUntilMonoMs };
      this.#rows.set(origin.id, row);
      // A node that was already gone when this node learned about it has not vanished just now.
      if (absence !== undefined) this.#setAbsence(row, absence, time);
      row.sinceMonoMs = Math.min(row.sinceMonoMs, this.#awaySince(origin, time));
    }
    if (row.clusterId === "") row.clusterId = origin.clusterId === "" ? (member?.clusterId ?? "") : origin.clusterId;
    const { absence: was, isPresumed: wasPresumed } = row;
    row.isPresumed = isPresumed;
    row.newsUntilMonoMs = newsUntilMonoMs;
    if (was === absence) return row;
    this.#setAbsence(row, absence, time);
    if (wasPresumed && absence !== undefined) row.sinceMonoMs = this.#awaySince(origin, time);
    const cluster = this.#cluster(row.clusterId);
    // A node that was already dead when this node returned has not vanished just now.
    if (absence === "dead" && was === undefined && !wasPresumed) cluster.vanished.set(origin.nodeId, time.monoMs);
    else if (absence === undefined) cluster.vanished.delete(origin.nodeId);
    if (absence === undefined) out.push(event("origin_back", "info", row));
    else if (was === undefined) out.push(event("origin_orphaned", "info", row));
    return row;
  }

  #isPresumed({ id }: Origin, { monoMs }: Time): boolean {
    if (this.#presumed.size === 0) return false;
    if (monoMs >= this.#presumedUntilMonoMs || this.#parts.membership.hasJoined) this.#presumed.clear();
    return this.#presumed.has(id);
  }

  /**
   * Returns the time since which an origin has been absent if this node never saw it live. An origin that all other nodes hide is not shown on this
   * node for another grace period. Each node decides for itself when it forgets the origin.
   */
  #awaySince({ id }: Origin, { monoMs }: Time): number {
    const elsewhereMonoMs = this.#parts.replication.hiddenElsewhere.has(id) ? monoMs - this.#options.orphanGraceMs : monoMs;
    return this.#absentBefore.get(id) ?? elsewhereMonoMs;
  }

  /**
   * The announcement of a node's new generation may arrive after the generation's records, by up to the duration of a restart. If the announcement
   * has not arrived by then, the node returned to an earlier generation, or another node forged this one.
   */
  #newsUntil({ generation }: Origin, member: MemberUpdate | undefined, row: OriginRow | undefined, { monoMs }: Time): number {
    if (member === undefined || !isListed(member.status) || generation <= member.generation) return NEVER;
    const { newsUntilMonoMs = NEVER } = row ?? {};
    return newsUntilMonoMs === NEVER ? monoMs + this.#options.restartMs : newsUntilMonoMs;
  }

  #absenceOf(origin: Origin, member: MemberUpdate | undefined, isOverdue: boolean): OriginAbsence | undefined {
    if (origin.nodeId === this.#parts.replica.self.nodeId) return "replaced";
    const unknown = this.#rows.get(origin.id)?.absence === "kept" ? "kept" : "unknown";
    if (member === undefined) return this.#overBefore.has(origin.id) ? "left" : unknown;
    if (origin.generation < member.generation) return "replaced";
    if (isOverdue) return unknown;
    if (this.#away.has(origin.nodeId)) return member.keepsEntries === true ? "kept" : "restarting";
    switch (member.status) {
      case "alive":
      case "suspect":
        return undefined;
      case "left":
      case "dead":
        return member.status === "dead" && member.keepsEntries === true ? "kept" : member.status;
    }
  }

  #setAbsence(row: OriginRow, absence: OriginAbsence | undefined, time: Time): void {
    // The reason may become more precise later. This does not restart the time of absence.
    if ((row.absence === undefined) !== (absence === undefined)) row.sinceMonoMs = time.monoMs;
    row.absence = absence;
    if (absence === undefined) this.#change(row, "live");
    else if (row.origin.life === "live" || absence === "kept") this.#change(row, "orphaned");
  }

  /** Hides or forgets an absent origin when it is due. */
  #age(row: OriginRow, time: Time, out: FabricOutput[]): boolean {
    const { replica } = this.#parts;
    if (replica.origins.get(row.origin.id) !== row.origin) {
      this.#drop(row);
      return false;
    }
    if (row.absence === undefined) this.#nextMonoMs = Math.min(this.#nextMonoMs, row.newsUntilMonoMs);
    if (row.absence === undefined) return false;
    const isToForget = this.#toForget.has(row.origin.nodeId);
    const isKept = row.absence === "kept" || this.#clusters.get(row.clusterId)?.protectedTotal !== undefined;
    if (isKept && !isToForget) return false;
    const hideMonoMs = row.sinceMonoMs + this.#options.orphanGraceMs;
    const forgetMonoMs = isToForget ? time.monoMs : row.sinceMonoMs + this.#options.originForgetMs;
    if (time.monoMs >= forgetMonoMs) {
      this.#change(row, "hidden");
      // First, all of the origin's records are hidden. Origins are forgotten one at a time.
      if (replica.isForgetting || replica.sweeps.isOwedTo(row.origin)) {
        this.#isDue = true;
        return false;
      }
      out.push(event("origin_forgotten", "warn", row));
      this.#drop(row);
      this.#parts.replication.forgetOrigin(row.origin, time, !MAY_RETURN.includes(row.absence), 0);
      return true;
    }
    if (row.origin.life !== "hidden" && time.monoMs >= hideMonoMs) {
      this.#change(row, "hidden");
      out.push(event("origin_hidden", "warn", row));
    }
    this.#nextMonoMs = Math.min(this.#nextMonoMs, row.origin.life === "hidden" ? forgetMonoMs : hideMonoMs);
    return false;
  }

  #drop(row: OriginRow): void {
    this.#rows.delete(row.origin.id);
    if (this.#rows.values().some(({ origin }) => origin.nodeId === row.origin.nodeId)) return;
    this.#clusters.get(row.clusterId)?.vanished.delete(row.origin.nodeId);
  }

  // ---- protecting ----

  #cluster(clusterId: string): OriginCluster {
    const cluster: OriginCluster = this.#clusters.get(clusterId) ?? { vanished: new Map(), protectedTotal: undefined };
    this.#clusters.set(clusterId, cluster);
    return cluster;
  }

  /** Returns how many of these nodes returned in another generation and have no records so far. */
  #backCount(nodeIds: ReadonlyMap<string, number>): number {
    const rows = [...this.#rows.values()];
    const seen = new Set(rows.map(({ origin, absence }) => (absence === undefined ? origin.nodeId : "")));
    const isBack = ({ nodeId }: Origin) => !seen.has(nodeId) && isListed(this.#parts.membership.find(nodeId)?.status ?? "left");
    const back = rows.filter(({ origin, absence }) => absence === "replaced" && nodeIds.has(origin.nodeId) && isBack(origin));
    return new Set(back.map(({ origin }) => origin.nodeId)).size;
  }

  #reviewClusters(time: Time, out: FabricOutput[]): void {
    const { suspicionWindowMs, orphanProtectRatio, orphanProtectMinCount } = this.#options;
    for (const [clusterId, cluster] of this.#clusters) {
      const { vanished } = cluster;
      const liveCount = this.#liveCount(clusterId);
      if (cluster.protectedTotal === undefined) {
        for (const [id, atMonoMs] of vanished) if (time.monoMs - atMonoMs > suspicionWindowMs) vanished.delete(id);
        const total = liveCount + vanished.size;
        if (vanished.size >= orphanProtectMinCount && vanished.size > total * orphanProtectRatio) {
          cluster.protectedTotal = total;
          out.push(eventOutput("orphans_protected", "warn", { clusterId, vanishedCount: vanished.size, total }));
        }
      } else if (cluster.protectedTotal - liveCount - this.#backCount(vanished) <= cluster.protectedTotal * orphanProtectRatio) {
        out.push(eventOutput("orphans_unprotected", "info", { clusterId, liveCount, total: cluster.protectedTotal }));
        cluster.protectedTotal = undefined;
        vanished.clear();
        // Nodes that are still missing get as much time to return as if they had vanished just now, because a cluster needs time to recover.
        for (const row of this.#rows.values())
          if (row.clusterId === clusterId && row.absence !== undefined && row.absence !== "replaced") row.sinceMonoMs = time.monoMs;
      }
      if (vanished.size === 0 && cluster.protectedTotal === undefined) this.#clusters.delete(clusterId);
    }
  }

  #wakeForWindow({ vanished, protectedTotal }: OriginCluster): void {
    if (protectedTotal !== undefined) return;
    for (const atMonoMs of vanished.values()) this.#nextMonoMs = Math.min(this.#nextMonoMs, atMonoMs + this.#options.suspicionWindowMs + 1);
  }

  /** Returns the number of live origins of a cluster. Includes this node. */
  #liveCount(clusterId: string): number {
    let count = clusterId === this.#parts.clusterId ? 1 : 0;
    for (const row of this.#rows.values()) if (row.clusterId === clusterId && row.absence === undefined) count += 1;
    return count;
  }

  // ---- changing ----

  #change(row: OriginRow, life: OriginStatus): void {
    if (row.origin.life === life) return;
    row.origin.life = life;
    this.#parts.replica.sweeps.scheduleTouch(row.origin, ENTRIES);
  }
}

function event(name: string, severity: FabricEvent["severity"], { origin, clusterId, absence }: OriginRow): FabricOutput {
  const { nodeId, generation } = origin;
  return eventOutput(name, severity, { nodeId, generation, clusterId, why: absence ?? "back" });
}
