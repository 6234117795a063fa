/** When records were owed touches at a node: the times in which it cannot know what each of its readers was told (semantics.md, Watch 2). */
import type { Origin } from "../../src/catalog/cell.ts";
import type { Replica } from "../../src/catalog/replica.ts";

interface Row {
  /** What decides on what is seen of its records. */
  readonly said: string;
  readonly isOwed: boolean;
  /** When touches were owed last. */
  readonly owedMs: number;
  /** When it changed last before all was touched for the change before. */
  readonly againMs: number;
}

const UNTOUCHED: Row = { said: "", isOwed: false, owedMs: -1, againMs: -1 };

export class SimOwed {
  readonly #rows = new Map<string, Row>();
  readonly #replica: Replica;

  constructor(replica: Replica) {
    this.#replica = replica;
  }

  /** After every turn. */
  note(nowMs: number): void {
    const { origins, sweeps } = this.#replica;
    for (const origin of origins.values()) {
      const row = this.#rows.get(origin.id) ?? UNTOUCHED;
      const isOwed = sweeps.isOwedTo(origin);
      const said = saidOf(origin);
      const isAgain = isOwed && row.isOwed && said !== row.said;
      if (!isOwed && !row.isOwed && said === row.said) continue;
      this.#rows.set(origin.id, { said, isOwed, owedMs: isOwed ? nowMs : row.owedMs, againMs: isAgain ? nowMs : row.againMs });
    }
  }

  /** Origins to whose records touches are owed now. */
  owing(): readonly string[] {
    const { origins, sweeps } = this.#replica;
    return sweeps.isOwed ? [...origins.values()].filter((origin) => sweeps.isOwedTo(origin)).map(({ id }) => id) : [];
  }

  /** Whether these origins changed, and changed again, before a key of theirs was touched, since then. */
  changedTwice(ids: readonly string[], sinceMs: number): boolean {
    const rows = ids.map((id) => this.#rows.get(id) ?? UNTOUCHED);
    return rows.some(({ againMs }) => againMs >= sinceMs) || rows.filter(({ owedMs }) => owedMs >= sinceMs).length > 1;
  }
}

function saidOf({ life, markedSeq, clusterId, region, generation }: Origin): string {
  return `${life} ${markedSeq} ${clusterId} ${region} ${generation}`;
}
