/**
 * Decides whose reports about origins of another cluster count: nodes of that cluster and of ours come first, and nodes of a
 * third cluster count only if none of the former reports about it (semantics.md, Membership: Whose word counts).
 */

import type { OriginRelation } from "../../catalog/entry/scope.ts";
import type { Origin } from "../../catalog/record/stored-record.ts";
import type { OriginLocation } from "../../catalog/replica/origins.ts";
import type { Replica } from "../../catalog/replica/replica.ts";
import { ENTRIES } from "../../catalog/replica/touch-sweeps.ts";
import { BoundedMap } from "../../lib/bounded-map.ts";
import type { Time } from "../../lib/machine.ts";

/** A cluster counts as unreachable this long after its last report. Twice the time that a forwarded heartbeat may take. */
const SILENT_MS = 30_000;
/** Maximum number of clusters to track. */
const MAX_CLUSTERS = 1000;

/**
 * Local records are compared only with reports that are at least this much newer, by this node's clock: the records may have come by a faster path
 * than the report.
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

/** The generation of a node of another cluster at a time, from a first-hand report. */
export interface Living {
  readonly generation: number;
  readonly clusterId: string;
  readonly monoMs: number;
}

/** Lower than the seq of any record. */
const NOTHING_SEQ = -1;

export class Hearsay {
  readonly #here: string;
  readonly #members: MemberTable;
  /** When a first-hand report about a cluster last arrived. The oldest comes first. */
  readonly #reportedMonoMs = new BoundedMap<string, number>(MAX_CLUSTERS);

  /** The seq up to which an origin was known here a while ago, for origins with heartbeats that carry a seq. */
  readonly #past = new Map<string, { readonly through: number; readonly monoMs: number }>();

  /** `here` is this node's cluster. */
  constructor(here: string, members: MemberTable) {
    this.#here = here;
    this.#members = members;
  }

  /** Whether a node is or was a member of our own cluster. */
  isOurs(nodeId: string): boolean {
    return this.#members.find(nodeId)?.clusterId === this.#here;
  }

  /** Whether the member table lists this node id in another cluster. */
  isElsewhere(nodeId: string, clusterId: string): boolean {
    const listed = this.#members.find(nodeId);
    return listed !== undefined && listed.clusterId !== clusterId;
  }

  /** Whether a node is a first-hand source for origins of a cluster: it belongs to that cluster or to ours. */
  isFirstHand({ relation, clusterId }: Speaker, of: string): boolean {
    return relation === "cluster" || clusterId === of;
  }

  /** Registers that a first-hand source has just reported the seq of an origin of this cluster. */
  noteReport(of: string, { monoMs }: Time): void {
    this.#reportedMonoMs.set(of, monoMs);
  }

  /** Whether a node's report about origins of a cluster is ignored because better sources report about them. */
  isHearsay(speaker: Speaker, of: string, { monoMs }: Time): boolean {
    if (of === this.#here || of === "" || this.isFirstHand(speaker, of)) return false;
    return monoMs < (this.#reportedMonoMs.get(of) ?? Number.NEGATIVE_INFINITY) + SILENT_MS;
  }

  /**
   * A first-hand source now reports that an origin of another cluster had not passed `seq` before `monoMs`. Returns whether this node already had more
   * of that origin before then, which proves that the excess was never written.
   */
  isDisproved({ id, through, clusterId }: Origin, { seq, monoMs }: { readonly seq: number; readonly monoMs: number }, now: Time): boolean {
    // A node of our own cluster that knows less of itself than others do starts a new generation.
    if (clusterId === this.#here || clusterId === "") return false;
    const past = this.#past.get(id);
    if (past !== undefined && monoMs < past.monoMs + DOUBT_MS) return false;
    this.#past.set(id, { through, monoMs: now.monoMs });
    return past !== undefined && past.through > seq;
  }

  /**
   * Whether an origin was invented: its node was in an earlier generation at a time when all of this origin was already known here. The member table may
   * know of a new generation that was not reported on every link. It is possible that no node ever received a heartbeat of the origin.
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

// Disproved origins: more of them is known here than they ever wrote (semantics.md, Membership: Whose word counts). All records of such an origin are
// hidden and then dropped, both in slices, and only then is the origin fetched again: an invented record may end a true one, so the two never coexist.
/** The parts of `Replicator` that are needed here. */
export interface Origins {
  readonly replica: Replica;
  forgetOrigin(origin: Origin, time: Time, isOver: boolean, maxCount: number): void;
  disbelieve(origin: Origin, seq: number, time: Time): void;
  readmit(nodeId: string, generation: number): void;
}

interface Row {
  /** The last seq that the origin has written, by its own report. */
  readonly seq: number;
  stage: "hide" | "drop";
}

export class Disproved {
  readonly #origins: Origins;
  readonly #rows = new Map<Origin, Row>();

  constructor(origins: Origins) {
    this.#origins = origins;
  }

  /** Returns whether the origin was not yet known as disproved. */
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
        // Only the origin's name goes here; `Replica.sweep` drops the records. No other node lost records of it, so no mark is kept.
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

  /** Whether none of its records is visible any more. Hides them again if its node has come back in the meantime. */
  #isHidden(origin: Origin): boolean {
    const { sweeps } = this.#origins.replica;
    if (origin.life !== "hidden") {
      origin.life = "hidden";
      sweeps.scheduleTouch(origin, ENTRIES);
    }
    return !sweeps.isOwedTo(origin);
  }
}
