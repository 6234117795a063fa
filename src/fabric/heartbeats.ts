/**
 * Tracks, for each origin, the time up to which this node has all of its records. The time comes from the origin's own version vectors or from
 * other nodes (semantics.md, Age).
 */
import { heldThrough, type Origin } from "../catalog/record/stored-record.ts";

interface HeartbeatRow {
  provenMonoMs: number;
  /** Until `monoMs`, the origin wrote nothing above `seq`. This node does not have all of those records yet. */
  awaited: { readonly seq: number; readonly monoMs: number } | undefined;
}

/** All times are on this node's monotonic clock. Nodes exchange ages instead of times, so the clocks of two nodes are never compared. */
export class Heartbeats {
  readonly #originOf: (id: string) => Origin | undefined;
  /** At most one for each known origin. */
  readonly #rows = new Map<string, HeartbeatRow>();
  /** Incremented at each change. */
  version = 0;

  constructor(originOf: (id: string) => Origin | undefined) {
    this.#originOf = originOf;
  }

  /** Handles a peer's report that `seq` is the number of the last record that the origin wrote until `monoMs`. */
  // HOT: runs for every origin on every link, every few seconds.
  heard(id: string, seq: number, monoMs: number): void {
    const origin = this.#originOf(id);
    if (origin === undefined) return;
    let row = this.#rows.get(id);
    if (row === undefined) {
      row = { provenMonoMs: Number.NEGATIVE_INFINITY, awaited: undefined };
      this.#rows.set(id, row);
    }
    if (isHere(origin, seq)) this.#prove(row, monoMs);
    // Keep the seq that is reached first, because under a steady stream of changes the latest one would never be reached.
    else if (row.awaited === undefined || seq < row.awaited.seq) row.awaited = { seq, monoMs };
  }

  /** Handles newly arrived records of an origin. */
  // HOT: runs for each frame of records.
  arrived(origin: Origin): void {
    const row = this.#rows.get(origin.id);
    if (row?.awaited === undefined || !isHere(origin, row.awaited.seq)) return;
    const { monoMs } = row.awaited;
    row.awaited = undefined;
    this.#prove(row, monoMs);
  }

  #prove(row: HeartbeatRow, monoMs: number): void {
    if (row.awaited !== undefined && row.awaited.monoMs <= monoMs) row.awaited = undefined;
    if (monoMs <= row.provenMonoMs) return;
    row.provenMonoMs = monoMs;
    this.version += 1;
  }

  /** Returns the time up to which this node has all records of an origin. Undefined if no peer has reported a time. */
  provenMonoMs(id: string): number | undefined {
    const provenMonoMs = this.#rows.get(id)?.provenMonoMs;
    return provenMonoMs === Number.NEGATIVE_INFINITY ? undefined : provenMonoMs;
  }

  /** Visits the origins for which such a time is known. */
  forEach(visit: (provenMonoMs: number, id: string) => void): void {
    this.#rows.forEach(({ provenMonoMs }, id) => {
      if (provenMonoMs !== Number.NEGATIVE_INFINITY) visit(provenMonoMs, id);
    });
  }

  drop(id: string): void {
    if (this.#rows.delete(id)) this.version += 1;
  }
}

function isHere(origin: Origin, seq: number): boolean {
  return origin.lacks === undefined && heldThrough(origin) >= seq;
}
