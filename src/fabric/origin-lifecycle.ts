/** How the state of members changes the origins of records: live, orphaned, hidden, forgotten (semantics.md, Orphans). */

import type { OriginStatus } from "../catalog/record/record.ts";
import type { Origin } from "../catalog/record/stored-record.ts";
import type { Replica } from "../catalog/replica/replica.ts";
import { ENTRIES } from "../catalog/replica/touch-sweeps.ts";
import { NEVER, type OptionsOf, type Time } from "../lib/machine.ts";
import { MemberRoster } from "./data-freshness.ts";
import { eventOutput, type FabricEvent, type FabricOutput } from "./io-types.ts";
import { isAlwaysTold, isListed } from "./membership/members.ts";
import type { Membership } from "./membership/membership.ts";
import type { FabricHandlers, FabricPart } from "./part.ts";
import type { Disproved } from "./replication/hearsay.ts";
import type { Replicator } from "./replication/replicator.ts";
import type { SnapshotOrigin } from "./snapshot/codec.ts";
import type { MemberUpdate, NodeRef } from "./wire/messages.ts";

/** What is not a setting. */
export const ORIGIN_LIFECYCLE_FIXED = {
  /** At least this many origins must vanish for that. So the only node of a cluster is believed to be dead. */
  orphanProtectMinCount: 2,
  /** The time that counts as "at once": the longest suspicion. */
  suspicionWindowMs: 30_000,
  /**
   * A node that said that it restarts counts as away for this time, unless it greets before. A generation that its node has not named yet counts
   * as live for this time.
   */
  restartMs: 30_000,
  /** Records visited in one tick, so that a large origin does not block the event loop. */
  maxTouches: 250,
} as const;

export interface OriginLifecycleOptions extends OptionsOf<typeof ORIGIN_LIFECYCLE_FIXED> {
  /** Orphans are served, ranked last, for this time. */
  readonly orphanGraceMs: number;
  /** An origin that is away for this time is forgotten with its records. */
  readonly originForgetMs: number;
  /** When more than this share of a cluster's origins vanishes at once, nothing of the cluster is hidden. */
  readonly orphanProtectRatio: number;
}

export interface OriginLifecycleParts {
  readonly replica: Replica;
  readonly clusterId: string;
  /** The members of the own cluster before this node was restarted. */
  readonly remembered?: readonly string[] | undefined;
  /** At most this many members are remembered. */
  readonly maxMembers: number;
  readonly membership: Pick<Membership, "find" | "hasJoined">;
  /** Forgets an origin in the replica and in the version vector, takes it again, and goes on after each slice of the work on many records. */
  readonly replication: Pick<Replicator, "closed" | "forgetOrigin" | "hiddenElsewhere" | "readmit"> & {
    readonly disproved: Pick<Disproved, "step">;
  };
  /** The held records may have changed: an origin may be forgotten. */
  readonly onChanged?: () => void;
}

/** Most nodes that are remembered as restarting. */
const MAX_AWAY = 1000;

/** Why an origin is not live. `kept`: its node stopped, no other node took over its static entries, and they stay until it is back. */
type OriginAbsence = "dead" | "left" | "restarting" | "kept" | "replaced" | "unknown";
const MAY_RETURN: readonly (OriginAbsence | undefined)[] = ["dead", "unknown", "restarting", "kept"];

interface OriginRow {
  readonly origin: Origin;
  /** The cluster it belongs to. Empty until a member or a record names it. */
  clusterId: string;
  /** Undefined when it is live. */
  absence: OriginAbsence | undefined;
  /** Since when it is live or absent. */
  sinceMonoMs: number;
  /** It counts as live because it was live before this node restarted, and nothing is known of its node yet. */
  isPresumed: boolean;
  /** Its generation is later than the one that its node named. It counts as live until then, and afterwards only if its node names it. Else `NEVER`. */
  newsUntilMonoMs: number;
}

interface OriginCluster {
  /** Ids of nodes that died lately, and when. A node that lost its disk several times has several origins, but counts once. */
  readonly vanished: Map<string, number>;
  /** While the cluster is protected: the number of its nodes with entries before they vanished. */
  protectedTotal: number | undefined;
}

export class OriginLifecycle implements FabricPart {
  readonly #options: OriginLifecycleOptions;
  readonly #parts: OriginLifecycleParts;
  /** The other nodes of this cluster, with those of which nothing is held. */
  readonly roster: MemberRoster;
  readonly #rows = new Map<string, OriginRow>();
  readonly #clusters = new Map<string, OriginCluster>();
  /** By node id, the monotonic ms until which the node counts as away. */
  readonly #away = new Map<string, number>();
  /** By origin id, since when the origin was away before this node restarted. */
  #absentBefore: ReadonlyMap<string, number> = new Map();
  /** Ids of origins that were over before this node restarted. */
  #overBefore: ReadonlySet<string> = new Set();
  /** Ids of the other origins from before this node restarted. They count as live until `#presumedUntilMonoMs`, or until a table of members comes. */
  readonly #presumed = new Set<string>();
  #presumedUntilMonoMs = Number.NEGATIVE_INFINITY;
  /** All origins are to be reviewed. */
  #isDue = true;
  /** Origins whose first records came since the last tick. */
  readonly #fresh = new Set<Origin>();
  #nextMonoMs = NEVER;

  readonly handle: FabricHandlers = {
    up: ({ hello }) => this.back(hello.nodeId),
    down: ({ hello, goodbye }, time) => {
      if (goodbye === "restart") this.away(hello.nodeId, time);
    },
    heard: ({ origin }) => this.heard(origin),
    memberChanged: ({ update }) => this.memberChanged(update),
  };

  constructor(options: OriginLifecycleOptions, parts: OriginLifecycleParts) {
    this.#options = options;
    this.#parts = parts;
    const { replica, clusterId, remembered, maxMembers } = parts;
    this.roster = new MemberRoster({ nodeId: replica.self.nodeId, clusterId, maxMembers, ...options }, remembered);
  }

  /** The state of an origin, for a snapshot. */
  standingOf(origin: Origin, { monoMs, wallMs }: Time): SnapshotOrigin {
    const row = this.#rows.get(origin.id);
    const isAbsent = row?.origin === origin && row.absence !== undefined;
    const absentWallMs = isAbsent ? wallMs - (monoMs - row.sinceMonoMs) : undefined;
    return { life: origin.life, absentWallMs, isOver: this.isOver(origin) };
  }

  /** Whether records are still to be touched, withdrawn or dropped, for example because their origin was hidden. Meanwhile readers have no whole view. */
  get isSettling(): boolean {
    const { sweeps, isForgetting } = this.#parts.replica;
    return sweeps.isOwed || isForgetting;
  }

  /** Whether an origin is over: its node has left, or lives in a later generation, so nobody writes it any more. */
  isOver({ id }: Origin): boolean {
    const row = this.#rows.get(id);
    return row === undefined ? this.#overBefore.has(id) : row.absence === "left" || row.absence === "replaced";
  }

  /** Whether this node holds records of an origin that may still be written elsewhere. */
  get isAnybodyElsewhere(): boolean {
    const { origins, self } = this.#parts.replica;
    return origins.values().some((origin) => origin.nodeId !== self.nodeId && !this.isOver(origin));
  }

  /** Whether a node is away that has not said goodbye. It may come back with its old records, or with its first ones. */
  get isAnybodyAway(): boolean {
    return this.roster.isAnybodyAway || this.#rows.values().some(({ absence }) => MAY_RETURN.includes(absence));
  }

  /** Clusters of which nothing is hidden now, because so many of their origins vanished at once. */
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
   * To be called after a restart, before the first tick, with the origins that were already away and since when (monotonic ms). Their clocks go
   * on. The others were live. If they were shown as orphaned and then live again, readers would hear of a failure that did not happen.
   */
  resume(absentBefore: ReadonlyMap<string, number>, overBefore: ReadonlySet<string>, presumedUntilMonoMs: number): void {
    this.#overBefore = overBefore;
    this.#absentBefore = absentBefore;
    this.#presumedUntilMonoMs = presumedUntilMonoMs;
    const { origins, self } = this.#parts.replica;
    for (const { id, nodeId } of origins.values())
      if (!absentBefore.has(id) && !overBefore.has(id) && nodeId !== self.nodeId) this.#presumed.add(id);
  }

  /** Records of an origin came. They may be its first. */
  // HOT: once a frame.
  heard({ nodeId, generation }: NodeRef): void {
    const id = `${nodeId}/${generation}`;
    const { replica } = this.#parts;
    const origin = this.#rows.has(id) ? undefined : replica.origins.get(id);
    if (origin !== undefined && origin !== replica.self) this.#fresh.add(origin);
  }

  /** The state of a member changed. */
  memberChanged(update: MemberUpdate): void {
    const { nodeId, generation, status } = update;
    const { forgotten, lost } = this.#parts.replica;
    this.roster.memberChanged(update);
    if (isAlwaysTold(update) && forgotten.has(`${nodeId}/${generation}`)) this.#parts.replication.readmit(nodeId, generation);
    lost.memberChanged({ nodeId, generation }, status);
    this.#isDue = true;
  }

  /** The node said that it restarts. */
  away(nodeId: string, time: Time): void {
    if (this.#away.size >= MAX_AWAY) return;
    this.#away.set(nodeId, time.monoMs + this.#options.restartMs);
    this.#isDue = true;
  }

  /** The node has greeted us. */
  back(nodeId: string): void {
    if (this.#away.delete(nodeId)) this.#isDue = true;
  }

  /** This node stood still. Nodes that are away have that much longer to come back. */
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
    // A new origin may end the protection of a cluster. Where no cluster has vanished nodes, a new origin must not cost a review of all others.
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

  // ---- deciding ----

  #review(time: Time, out: FabricOutput[]): boolean {
    for (const [nodeId, untilMonoMs] of this.#away) if (time.monoMs >= untilMonoMs) this.#away.delete(nodeId);
    for (const origin of this.#parts.replica.origins.values()) {
      if (origin === this.#parts.replica.self) continue;
      this.#reviewOrigin(origin, time, out);
    }
    this.#reviewClusters(time, out);
    let isChanged = false;
    this.#nextMonoMs = Math.min(this.roster.tick(time), ...this.#away.values());
    // If nobody asked whether an origin is presumed, they are still in the set.
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
      // A node that was gone before this node heard of it did not vanish now.
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
    // A node that was dead when this node came back did not vanish now.
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
   * Since when an origin is away that was never seen live here. An origin that all others hide is not shown here for another grace. Each node
   * decides by itself when it forgets the origin.
   */
  #awaySince({ id }: Origin, { monoMs }: Time): number {
    const elsewhereMonoMs = this.#parts.replication.hiddenElsewhere.has(id) ? monoMs - this.#options.orphanGraceMs : monoMs;
    return this.#absentBefore.get(id) ?? elsewhereMonoMs;
  }

  /**
   * The news that a node lives in a new generation may come after the records of that generation, by as long as a restart takes. If it has not
   * come by then, the node went back to an earlier generation, or another node invented this one.
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
    // The reason may become clearer later. The time since when it is absent does not change by that.
    if ((row.absence === undefined) !== (absence === undefined)) row.sinceMonoMs = time.monoMs;
    row.absence = absence;
    if (absence === undefined) this.#change(row, "live");
    else if (row.origin.life === "live" || absence === "kept") this.#change(row, "orphaned");
  }

  /** Hides or forgets an absent origin when its time has come. */
  #age(row: OriginRow, time: Time, out: FabricOutput[]): boolean {
    const { replica } = this.#parts;
    if (replica.origins.get(row.origin.id) !== row.origin) {
      this.#drop(row);
      return false;
    }
    if (row.absence === undefined) this.#nextMonoMs = Math.min(this.#nextMonoMs, row.newsUntilMonoMs);
    if (row.absence === undefined || row.absence === "kept" || this.#clusters.get(row.clusterId)?.protectedTotal !== undefined)
      return false;
    const hideMonoMs = row.sinceMonoMs + this.#options.orphanGraceMs;
    const forgetMonoMs = row.sinceMonoMs + this.#options.originForgetMs;
    if (time.monoMs >= forgetMonoMs) {
      this.#change(row, "hidden");
      // All its records are hidden first, and origins are forgotten one after the other.
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

  /** The number of these nodes that are back in another generation without records so far. */
  #backCount(nodeIds: ReadonlyMap<string, number>): number {
    const rows = [...this.#rows.values()];
    const heard = new Set(rows.map(({ origin, absence }) => (absence === undefined ? origin.nodeId : "")));
    const isBack = ({ nodeId }: Origin) => !heard.has(nodeId) && isListed(this.#parts.membership.find(nodeId)?.status ?? "left");
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
        // Nodes that are still missing have as long to come back as if they had vanished now, because a cluster takes time to heal.
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

  /** Number of live origins of a cluster. It counts this node. */
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
