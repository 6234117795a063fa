/**
 * Who is heard about the origins of another cluster: first that cluster's own nodes and ours, and a third one's only where none of them tells
 * of it (semantics.md, Membership: Whose word counts).
 */

import type { OriginRelation } from "../../catalog/entry/scope.ts";
import type { Origin } from "../../catalog/record/stored-record.ts";
import type { OriginLocation } from "../../catalog/replica/origins.ts";
import type { Replica } from "../../catalog/replica/replica.ts";
import { ENTRIES } from "../../catalog/replica/touch-sweeps.ts";
import { BoundedMap } from "../../lib/bounded-map.ts";
import type { Time } from "../../lib/machine.ts";

/** So long after its last word a cluster is taken for out of reach: twice as long as heartbeats may take by way of others. */
const SILENT_MS = 30_000;
/** Clusters remembered. */
const MAX_CLUSTERS = 1000;

/** What is held is compared with what is said of so much later, by this node's clock: another way may be faster than the one that word came. */
const DOUBT_MS = 5000;

interface Speaker {
  readonly relation: OriginRelation;
  readonly clusterId: string;
}

/** The table of members. */
interface MemberTable {
  find(nodeId: string): (OriginLocation & { readonly generation: number }) | undefined;
}

/** In which generation a node of another cluster lived at a time, as was said first hand. */
export interface Living {
  readonly generation: number;
  readonly clusterId: string;
  readonly monoMs: number;
}

/** Below every number that a record has. */
const NOTHING_SEQ = -1;

export class Hearsay {
  readonly #here: string;
  readonly #members: MemberTable;
  /** When a cluster was last told of by its own nodes or ours; the one that was heard of longest ago first. */
  readonly #heardMonoMs = new BoundedMap<string, number>(MAX_CLUSTERS);

  /** How much of an origin was held a while ago; of those known that heartbeats with a number came of. */
  readonly #past = new Map<string, { readonly through: number; readonly monoMs: number }>();

  /** `here`: this node's cluster. */
  constructor(here: string, members: MemberTable) {
    this.#here = here;
    this.#members = members;
  }

  /** Whether a node is or was a member of our own cluster. */
  isOurs(nodeId: string): boolean {
    return this.#members.find(nodeId)?.clusterId === this.#here;
  }

  /** Whether the table of members has a node of that id in another cluster. */
  isElsewhere(nodeId: string, clusterId: string): boolean {
    const listed = this.#members.find(nodeId);
    return listed !== undefined && listed.clusterId !== clusterId;
  }

  /** Whether a node speaks for the origins of that cluster: it is of it, or of ours. */
  isFirstHand({ relation, clusterId }: Speaker, of: string): boolean {
    return relation === "cluster" || clusterId === of;
  }

  /** A node that speaks for a cluster has just told how far an origin of it is. */
  heard(of: string, { monoMs }: Time): void {
    this.#heardMonoMs.set(of, monoMs);
  }

  /** Whether what a node tells of origins of that cluster is not taken, because others tell of them who know better. */
  isHearsay(speaker: Speaker, of: string, { monoMs }: Time): boolean {
    if (of === this.#here || of === "" || this.isFirstHand(speaker, of)) return false;
    return monoMs < (this.#heardMonoMs.get(of) ?? Number.NEGATIVE_INFINITY) + SILENT_MS;
  }

  /**
   * Who speaks for an origin of another cluster says, now, that until `monoMs` it had not passed `seq`. Returns whether more than that was held here
   * before then, so that the rest was never written.
   */
  isDisproved({ id, through, clusterId }: Origin, { seq, monoMs }: { readonly seq: number; readonly monoMs: number }, now: Time): boolean {
    // A node of our own cluster that knows less of itself than others do takes a new generation.
    if (clusterId === this.#here || clusterId === "") return false;
    const past = this.#past.get(id);
    if (past !== undefined && monoMs < past.monoMs + DOUBT_MS) return false;
    this.#past.set(id, { through, monoMs: now.monoMs });
    return past !== undefined && past.through > seq;
  }

  /**
   * Whether an origin was made up: its node lived in an earlier generation when all of this one was held here already. The table of members may know
   * of a renewal that was not said on every link. Nobody may ever have heard the origin itself.
   */
  isInvented(origin: Origin, living: Living, now: Time): boolean {
    const { nodeId, generation, clusterId } = origin;
    if (generation <= living.generation || clusterId !== living.clusterId) return false;
    if ((this.#members.find(nodeId)?.generation ?? 0) >= generation) return false;
    return this.isDisproved(origin, { seq: NOTHING_SEQ, monoMs: living.monoMs }, now);
  }

  /** An origin is forgotten. */
  drop(id: string): void {
    this.#past.delete(id);
  }
}

// Origins of which more is held here than was ever written (semantics.md, Membership: Whose word counts). All of it is hidden, then forgotten, both in
// slices, and only then is it fetched anew: what was made up may end what is true, so the two do not stand beside each other.
/** The `Replicator`, as far as it is needed here. */
export interface Origins {
  readonly replica: Replica;
  forgetOrigin(origin: Origin, time: Time, isOver: boolean, maxCount: number): void;
  disbelieve(origin: Origin, seq: number, time: Time): void;
  readmit(nodeId: string, generation: number): void;
}

interface Row {
  /** What it has written, by its own word. */
  readonly seq: number;
  stage: "hide" | "drop";
}

export class Disproved {
  readonly #origins: Origins;
  readonly #rows = new Map<Origin, Row>();

  constructor(origins: Origins) {
    this.#origins = origins;
  }

  /** Returns whether that is news. */
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

  /** Goes on with those of which a slice was swept to its end. */
  step(time: Time): void {
    const { replica } = this.#origins;
    for (const [origin, row] of this.#rows) {
      const isHeld = replica.origins.get(origin.id) === origin;
      if (row.stage === "hide" && isHeld && this.#isHidden(origin) && !replica.isForgetting) {
        row.stage = "drop";
        // Only the name, for `Replica.sweep` drops the records. Nothing of it is lost anywhere, so no mark is kept of it.
        this.#origins.forgetOrigin(origin, time, true, 0);
      }
      if (row.stage === "hide" ? isHeld : replica.isForgetting) continue;
      this.#rows.delete(origin);
      // Forgotten meanwhile because its node is gone: then it stays so.
      if (row.stage === "hide") continue;
      this.#origins.disbelieve(origin, row.seq, time);
      this.#origins.readmit(origin.nodeId, origin.generation);
    }
  }

  /** Whether nothing of it is seen any more; its node may have come back meanwhile, and then it begins again. */
  #isHidden(origin: Origin): boolean {
    const { sweeps } = this.#origins.replica;
    if (origin.life !== "hidden") {
      origin.life = "hidden";
      sweeps.scheduleTouch(origin, ENTRIES);
    }
    return !sweeps.isOwedTo(origin);
  }
}
