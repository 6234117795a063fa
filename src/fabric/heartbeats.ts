/** Up to when all that each origin wrote is here, as far as somebody has said: by its own vectors, or by what others pass on (semantics.md, Age). */
import { heldThrough, type Origin } from "../catalog/record/stored-record.ts";

interface Row {
  provenMonoMs: number;
  /** Everything up to `seq` is all that it wrote until `monoMs`, and is not here yet. */
  awaited: { readonly seq: number; readonly monoMs: number } | undefined;
}

/** Times are of this node's monotonic clock: what travels is an age, so no two clocks are compared. */
export class Heartbeats {
  readonly #originOf: (id: string) => Origin | undefined;
  /** At most one for each origin known. */
  readonly #rows = new Map<string, Row>();
  /** Whether every linked peer passes heartbeats on: else one that does not come says nothing of its origin. */
  isPassedOn = true;
  /** Counts changes. */
  version = 0;

  constructor(originOf: (id: string) => Origin | undefined) {
    this.#originOf = originOf;
  }

  /** Somebody says that what an origin has written until `monoMs` ends at `seq`. */
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
    // The one that comes true first: under steady news the latest would always be ahead.
    else if (row.awaited === undefined || seq < row.awaited.seq) row.awaited = { seq, monoMs };
  }

  /** More of an origin is here. */
  // HOT: once a frame of records.
  arrived(origin: Origin): void {
    const row = this.#rows.get(origin.id);
    if (row?.awaited === undefined || !isHere(origin, row.awaited.seq)) return;
    const { monoMs } = row.awaited;
    row.awaited = undefined;
    this.#prove(row, monoMs);
  }

  #prove(row: Row, monoMs: number): void {
    if (row.awaited !== undefined && row.awaited.monoMs <= monoMs) row.awaited = undefined;
    if (monoMs <= row.provenMonoMs) return;
    row.provenMonoMs = monoMs;
    this.version += 1;
  }

  /** Until when all of an origin is here; undefined when nobody has said. */
  provenMonoMs(id: string): number | undefined {
    const provenMonoMs = this.#rows.get(id)?.provenMonoMs;
    return provenMonoMs === Number.NEGATIVE_INFINITY ? undefined : provenMonoMs;
  }

  /** Visits the origins of which somebody has said so, with the time until when all of each is here. */
  forEach(visit: (provenMonoMs: number, id: string) => void): void {
    this.#rows.forEach(({ provenMonoMs }, id) => {
      if (provenMonoMs !== Number.NEGATIVE_INFINITY) visit(provenMonoMs, id);
    });
  }

  drop(id: string): void {
    if (this.#rows.delete(id)) this.version += 1;
  }

  /** Links come or go. */
  setPassedOn(isPassedOn: boolean): void {
    this.isPassedOn = isPassedOn;
    this.version += 1;
  }
}

function isHere(origin: Origin, seq: number): boolean {
  return origin.lacks === undefined && heldThrough(origin) >= seq;
}
