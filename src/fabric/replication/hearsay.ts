/**
 * Decides which nodes' reports about origins of another cluster are accepted. Reports from nodes of that cluster and of this node's cluster have
 * priority. Reports from nodes of a third cluster are accepted only while no node of those two clusters reports on the origins (semantics.md,
 * Membership: Accepted reports).
 */

import type { OriginRelation } from "../../catalog/entry/scope.ts";
import type { Origin } from "../../catalog/record/stored-record.ts";
import type { OriginLocation } from "../../catalog/replica/origins.ts";
import type { Replica } from "../../catalog/replica/replica.ts";
import { ENTRIES } from "../../catalog/replica/touch-sweeps.ts";
import { BoundedMap } from "../../lib/bounded-map.ts";
import type { Time } from "../../lib/machine.ts";

/**
 * A cluster is considered unreachable after this long without a first-hand report about it. This is twice the maximum delay of a forwarded heartbeat.
 */
const SILENT_MS = 30_000;
/** Maximum number of clusters to track. */
const MAX_CLUSTERS = 1000;

/**
 * Local records are compared only with reports that are at least this much newer, according to this node's clock, because the records may have
 * arrived over a faster path than the report.
 */
const DOUBT_MS = 5000;

interface Speaker {
  readonly relation: OriginRelation;
  readonly clusterId: string;
}

/** The member table. */
interface MemberTable {
  find(nodeId: string): (OriginLocation & { readonly generation: number }) | undefined;
}

/** The generation in which a node of another cluster was running at a given time, according to a first-hand report. */
export interface Living {
  readonly generation: number;
  readonly clusterId: string;
  readonly monoMs: number;
}

/** A number that is lower than any record's seq. */
const NOTHING_SEQ = -1;

export class Hearsay {
  readonly #here: string;
  readonly #members: MemberTable;
  /** Cluster id → time of the last first-hand report about the cluster, oldest first. */
  readonly #reportedMonoMs = new BoundedMap<string, number>(MAX_CLUSTERS);

  /** For origins of other clusters, the seq that this node had at an earlier time. */
  readonly #past = new Map<string, { readonly through: number; readonly monoMs: number }>();

  /** `here` is this node's cluster. */
  constructor(here: string, members: MemberTable) {
    this.#here = here;
    this.#members = members;
  }

  /** Whether a node is or was a member of this node's cluster. */
  isOurs(nodeId: string): boolean {
    return this.#members.find(nodeId)?.clusterId === this.#here;
  }

  /** Whether the member table lists this node id in another cluster. */
  isElsewhere(nodeId: string, clusterId: string): boolean {
    const listed = this.#members.find(nodeId);
    return listed !== undefined && listed.clusterId !== clusterId;
  }

  /** Whether a node is a first-hand source for a cluster's origins, that is, it belongs to that cluster or to this node's cluster. */
  isFirstHand({ relation, clusterId }: Speaker, of: string): boolean {
    return relation === "cluster" || clusterId === of;
  }

  /** Notes that a first-hand report about the cluster has just arrived. */
  noteReport(of: string, { monoMs }: Time): void {
    this.#reportedMonoMs.set(of, monoMs);
  }

  /** Whether a node's report about a cluster's origins is ignored because better sources report on them. */
  isHearsay(speaker: Speaker, of: string, { monoMs }: Time): boolean {
    if (of === this.#here || of === "" || this.isFirstHand(speaker, of)) return false;
    return monoMs < (this.#reportedMonoMs.get(of) ?? Number.NEGATIVE_INFINITY) + SILENT_MS;
  }

  /**
   * Handles a first-hand report that an origin of another cluster had not written any records above `seq` before `monoMs`. Returns whether this node
   * had records above `seq` even earlier, which proves that the origin never wrote them.
   */
  isDisproved({ id, through, clusterId }: Origin, { seq, monoMs }: { readonly seq: number; readonly monoMs: number }, now: Time): boolean {
    // A node of this node's cluster starts a new generation if it has fewer of its own records than other nodes have.
    if (clusterId === this.#here || clusterId === "") return false;
    const past = this.#past.get(id);
    if (past !== undefined && monoMs < past.monoMs + DOUBT_MS) return false;
    this.#past.set(id, { through, monoMs: now.monoMs });
    return past !== undefined && past.through > seq;
  }

  /**
   * Whether an origin was invented, because this node had all of its records while the origin's node was still in an earlier generation. The member
   * table is also checked, because it may contain a new generation that was not reported on every link. A heartbeat is not required, because an
   * invented origin may never have had one.
   */
  isInvented(origin: Origin, living: Living, now: Time): boolean {
    const { nodeId, generation, clusterId } = origin;
    if (generation <= living.generation || clusterId !== living.clusterId) return false;
    if ((this.#members.find(nodeId)?.generation ?? 0) >= generation) return false;
    return this.isDisproved(origin, { seq: NOTHING_SEQ, monoMs: living.monoMs }, now);
  }

  /** Called when an origin is forgotten. */
  drop(id: string): void {
    this.#past.delete(id);
  }
}

// Disproved origins, whose nodes never wrote some of the records that this node has (semantics.md, Membership: Accepted reports). All records of
// such an origin are hidden and then dropped, both in slices. Only then is the origin fetched again, because an invented record may supersede a
// genuine one, so the two must never coexist.
/** The methods of `Replicator` that are used here. */
export interface Origins {
  readonly replica: Replica;
  forgetOrigin(origin: Origin, time: Time, isOver: boolean, maxCount: number): void;
  disbelieve(origin: Origin, seq: number, time: Time): void;
  readmit(nodeId: string, generation: number): void;
}

interface Row {
  /** The last seq that the origin has written, according to the origin itself. */
  readonly seq: number;
  stage: "hide" | "drop";
}

export class Disproved {
  readonly #origins: Origins;
  readonly #rows = new Map<Origin, Row>();

  constructor(origins: Origins) {
    this.#origins = origins;
  }

  /** Adds a disproved origin. Returns false if it had been added before. */
  add(origin: Origin, seq: number, time: Time): boolean {
    if (this.#rows.has(origin)) return false;
    this.#rows.set(origin, { seq, stage: "hide" });
    origin.isDisproved = true;
    this.#origins.disbelieve(origin, seq, time);
    this.step(time);
    return true;
  }

  isUnderWay(id: string): boolean {
    return this.#rows.keys().some((origin) => origin.id === id);
  }

  /** Continues with the origins for which a sweep has finished. */
  step(time: Time): void {
    const { replica } = this.#origins;
    for (const [origin, row] of this.#rows) {
      const isHeld = replica.origins.get(origin.id) === origin;
      if (row.stage === "hide" && isHeld && this.#isHidden(origin) && !replica.isForgetting) {
        row.stage = "drop";
        // This call removes only the origin's name, because `Replica.sweep` drops its records. No other node lost records of the origin, so no
        // watermark is kept.
        this.#origins.forgetOrigin(origin, time, true, 0);
      }
      if (row.stage === "hide" ? isHeld : replica.isForgetting) continue;
      this.#rows.delete(origin);
      // The origin was forgotten in the meantime because its node is gone. It stays forgotten.
      if (row.stage === "hide") continue;
      this.#origins.disbelieve(origin, row.seq, time);
      this.#origins.readmit(origin.nodeId, origin.generation);
    }
  }

  /** Whether all of the origin's records are hidden. Hides them again if the origin's node has returned in the meantime. */
  #isHidden(origin: Origin): boolean {
    const { sweeps } = this.#origins.replica;
    if (origin.life !== "hidden") {
      origin.life = "hidden";
      sweeps.scheduleTouch(origin, ENTRIES);
    }
    return !sweeps.isOwedTo(origin);
  }
}
