/** The table of the origins that a replica knows, with their locations, and of forgotten origins (semantics.md, Orphans). */
import { BoundedMap } from "../../lib/bounded-map.ts";
import type { Origin, StoredRecord } from "../record/stored-record.ts";
import { ChangeLog } from "./change-log.ts";
import { LostOrigins } from "./lost-origins.ts";

/** Maximum number of ids of forgotten origins that are remembered. */
const MAX_FORGOTTEN = 10_000;

/** The cluster and region of an origin. They determine which links may carry its records. */
export interface OriginLocation {
  readonly clusterId: string;
  readonly region: string;
}

/** Whether an origin is known to belong to a cluster other than `here`. */
export function isOfOtherCluster({ clusterId }: OriginLocation, here: string): boolean {
  return clusterId !== "" && clusterId !== here;
}

export class OriginTable {
  readonly #known = new Map<string, Origin>();
  readonly #forgotten = new BoundedMap<string, true>(MAX_FORGOTTEN);
  readonly lost = new LostOrigins();

  get known(): ReadonlyMap<string, Origin> {
    return this.#known;
  }

  get forgotten(): ReadonlyMap<string, true> {
    return this.#forgotten;
  }

  /** Returns the origin with this id, and adds it if it is unknown. The location of an origin never changes after it is first known. */
  take(nodeId: string, generation: number, place: OriginLocation | undefined): Origin {
    const id = `${nodeId}/${generation}`;
    let origin = this.#known.get(id);
    if (origin === undefined) {
      const log = new ChangeLog<StoredRecord>((stored) => stored.seq);
      const markedSeq = this.lost.markOf(id);
      origin = { id, nodeId, generation, clusterId: "", region: "", life: "live", markedSeq, through: 0, floor: 0, log };
      this.#known.set(id, origin);
    }
    if (place !== undefined && origin.clusterId === "") {
      origin.clusterId = place.clusterId;
      origin.region = place.region;
    }
    return origin;
  }

  /** Moves the origin to another generation. Used only for a node's own origin. */
  rename(origin: Origin, generation: number): void {
    this.#known.delete(origin.id);
    origin.generation = generation;
    origin.id = `${origin.nodeId}/${generation}`;
    this.#known.set(origin.id, origin);
  }

  forget(origin: Origin): void {
    this.#known.delete(origin.id);
    this.remember(origin.id);
  }

  /** Notes that the origin was forgotten, possibly by an earlier process. */
  remember(id: string): void {
    this.#forgotten.set(id, true);
  }

  /** Permits frames from the origin again, starting from 0. */
  restoreOrigin(id: string): void {
    this.#forgotten.delete(id);
  }
}
