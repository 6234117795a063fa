/**
 * Origins that were forgotten and have not left: they may come back with what was unregistered while they were away, so tombstones are
 * kept for them; and marks, where no tombstone could be (semantics.md, Orphans). No clock is in any of it: of two words the higher wins.
 */
import type { Cell, Origin } from "./cell.ts";

/** What is told of one. */
export interface LostOrigin {
  readonly nodeId: string;
  readonly generation: number;
  /** Its number when it was forgotten. */
  readonly through: number;
  /** What it wrote up to here stays hidden; 0: nothing. Tombstones are kept for it while this is below `through`. */
  readonly mark: number;
}

/** Origins remembered so; also the most that a message tells of. */
export const MAX_LOST = 1000;

export class LostOrigins {
  readonly #byId = new Map<string, LostOrigin>();
  /** Ids of those that are there again and may not have heard everything yet. */
  readonly #back = new Set<string>();
  /** Tombstones that ended a record of one that was forgotten here. */
  readonly #enders = new WeakSet<Cell>();
  #holdingCount = 0;
  #hasNewMarks = false;
  #isBackNew = false;

  get list(): readonly LostOrigin[] {
    return [...this.#byId.values()];
  }

  get size(): number {
    return this.#byId.size;
  }

  /** Whether a tombstone may be the only one that keeps something gone. */
  get isHolding(): boolean {
    return this.#holdingCount > 0;
  }

  markOf(id: string): number {
    return this.#byId.get(id)?.mark ?? 0;
  }

  /** It is forgotten here. */
  forgotten({ id, nodeId, generation, through, log }: Origin): void {
    this.#back.delete(id);
    this.note({ nodeId, generation, through: Math.max(through, log.lastOrder), mark: 0 });
  }

  /** A word about one, from whomever: the higher numbers win. */
  note({ nodeId, generation, through, mark }: LostOrigin): void {
    const id = `${nodeId}/${generation}`;
    const held = this.#byId.get(id);
    const [higher, highest] = [Math.max(through, mark, held?.through ?? 0), Math.max(mark, held?.mark ?? 0)];
    if (higher === 0 || (held?.through === higher && held.mark === highest)) return;
    if (highest > (held?.mark ?? 0)) this.#hasNewMarks = true;
    this.#drop(id);
    this.#byId.set(id, { nodeId, generation, through: higher, mark: highest });
    this.#holdingCount += Number(higher > highest);
    if (this.#byId.size > MAX_LOST) this.#drop(this.#eldest());
  }

  /** Tombstones cannot be kept any more: all that those wrote before they were forgotten stays hidden instead; but for one. */
  markAll(exceptId?: string): void {
    for (const { nodeId, generation, through } of this.list)
      if (`${nodeId}/${generation}` !== exceptId) this.note({ nodeId, generation, through, mark: through });
  }

  /** It holds something that its node does not know to be gone, and the tombstone goes. */
  markAs({ nodeId, generation, through, log }: Origin): void {
    const mark = Math.max(through, log.lastOrder);
    this.note({ nodeId, generation, through: mark, mark });
  }

  /** Whether somebody came back since the last call. */
  takeBack(): boolean {
    const wasNew = this.#isBackNew;
    this.#isBackNew = false;
    return wasNew;
  }

  /** Whether there were new marks since the last call. */
  takeMarked(): boolean {
    const hadNew = this.#hasNewMarks;
    this.#hasNewMarks = false;
    return hadNew;
  }

  /** That cell ended a record of an origin that is gone from here. */
  ender(cell: Cell): void {
    this.#enders.add(cell);
  }

  isEnder(cell: Cell): boolean {
    return this.#enders.has(cell);
  }

  /** A node that is there in that generation is to hear what it missed; what it was before, and one that has left, is over. */
  memberChanged({ nodeId, generation }: Pick<LostOrigin, "nodeId" | "generation">, status: string): void {
    if (status === "dead") return;
    for (const [id, lost] of this.#byId) {
      if (lost.nodeId !== nodeId || lost.generation > generation) continue;
      if (status === "left" || lost.generation < generation) this.#drop(id);
      else if (lost.through > lost.mark && !this.#back.has(id)) {
        this.#back.add(id);
        this.#isBackNew = true;
      }
    }
  }

  /** Everybody has been in step for long: who was back has heard everything. Marks stay. */
  settle(): void {
    for (const id of this.#back) {
      const { nodeId, generation, mark } = this.#byId.get(id) ?? { nodeId: "", generation: 0, mark: 0 };
      this.#drop(id);
      if (mark > 0) this.#byId.set(id, { nodeId, generation, through: mark, mark });
    }
    this.#back.clear();
  }

  #drop(id: string): void {
    const held = this.#byId.get(id);
    if (held !== undefined && held.through > held.mark) this.#holdingCount -= 1;
    this.#byId.delete(id);
  }

  /** One that is only marked, if there is one. */
  #eldest(): string {
    for (const [id, { through, mark }] of this.#byId) if (through === mark) return id;
    return this.#byId.keys().next().value ?? "";
  }
}
