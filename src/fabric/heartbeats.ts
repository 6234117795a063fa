/** The time until which everything that an origin wrote is here, as told by its own vectors or passed on by others (semantics.md, Age). */
import { heldThrough, type Origin } from "../catalog/record/stored-record.ts";

interface HeartbeatRow {
  provenMonoMs: number;
  /** Until `monoMs` the origin wrote nothing above `seq`. Not all of that is here yet. */
  awaited: { readonly seq: number; readonly monoMs: number } | undefined;
}

/** Times are of this node's monotonic clock. Nodes send each other ages, so clocks of two nodes are never compared. */
export class Heartbeats {
  readonly #originOf: (id: string) => Origin | undefined;
  /** At most one for each known origin. */
  readonly #rows = new Map<string, HeartbeatRow>();
  /** Counts changes. */
  version = 0;

  constructor(originOf: (id: string) => Origin | undefined) {
    this.#originOf = originOf;
  }

  /** A peer says that the records that an origin wrote until `monoMs` end at `seq`. */
  // HOT: for every origin, every few seconds and link.
  heard(id: string, seq: number, monoMs: number): void {
    const origin = this.#originOf(id);
    if (origin === undefined) return;
    let row = this.#rows.get(id);
    if (row === undefined) {
      row = { provenMonoMs: Number.NEGATIVE_INFINITY, awaited: undefined };
      this.#rows.set(id, row);
    }
    if (isHere(origin, seq)) this.#prove(row, monoMs);
    // The one that is reached first is kept. Under steady news the latest one would never be reached.
    else if (row.awaited === undefined || seq < row.awaited.seq) row.awaited = { seq, monoMs };
  }

  /** More records of an origin arrived. */
  // HOT: once a frame of records.
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

  /** The time until which all of an origin is here. Undefined when no peer has said so. */
  provenMonoMs(id: string): number | undefined {
    const provenMonoMs = this.#rows.get(id)?.provenMonoMs;
    return provenMonoMs === Number.NEGATIVE_INFINITY ? undefined : provenMonoMs;
  }

  /** Visits the origins for which that time is known. */
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
